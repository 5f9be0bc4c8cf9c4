//! Reason codes as they stand on the wire, beside the prediction.
//!
//! Each contribution is a group's: it names the group, the feature that leads it with its value, and what the group did.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use utoipa::ToSchema;

use crate::http::openapi::shape;
use crate::scoring::explanation::{
    Contribution, Detail, Explanation, GroupContribution, NotExplained, RoundedExplanation,
};
use crate::scoring::task::{Score, ScoreUnit};
use crate::scoring::{Scored, Scorer};
use scoreline_engine::features::FeatureSchema;

/// The field `explain` of a request: `true` asks for groups of features, `"members"` for their features too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Explain(pub Option<Detail>);

impl<'de> Deserialize<'de> for Explain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExplainVisitor;

        impl Visitor<'_> for ExplainVisitor {
            type Value = Explain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or `members`")
            }

            fn visit_bool<E>(self, groups: bool) -> Result<Explain, E> {
                Ok(Explain(groups.then_some(Detail::Groups)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Explain, E> {
                match text {
                    "members" => Ok(Explain(Some(Detail::Members))),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(ExplainVisitor)
    }
}

/// What came of `explain`.
#[derive(Debug)]
pub(crate) struct Explained {
    outcome: Result<Explanation, NotExplained>,
    /// Groups that are named.
    top: usize,
}

/// Amounts are named by their unit: `base_value_usd` and `contribution_usd`, or `base_points` and
/// `contribution_points`.
pub(super) struct ExplanationBody<'a> {
    written: RoundedExplanation,
    unit: ScoreUnit,
    schema: &'a FeatureSchema,
    method: &'static str,
}

/// As the document has an `ExplanationBody` in dollars.
#[derive(ToSchema)]
#[schema(as = ClvExplanation)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct UsdExplanation {
    /// The answer for the typical customer. It and all amounts add up to the answer.
    base_value_usd: f64,
    contributions: Vec<UsdContribution>,
    others_usd: f64,
    method: String,
}

#[derive(ToSchema)]
#[schema(as = ClvContribution)]
#[expect(dead_code, reason = "only its shape is used")]
struct UsdContribution {
    group: String,
    /// The one that leads the group.
    feature: String,
    #[schema(schema_with = shape::given)]
    value: (),
    contribution_usd: f64,
    /// What each feature did, for `explain: "members"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<UsdMember>,
}

#[derive(ToSchema)]
#[schema(as = ClvMember)]
#[expect(dead_code, reason = "only its shape is used")]
struct UsdMember {
    feature: String,
    #[schema(schema_with = shape::given)]
    value: (),
    contribution_usd: f64,
}

/// As the document has an `ExplanationBody` in points of a probability.
#[derive(ToSchema)]
#[schema(as = LeadExplanation)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct PointsExplanation {
    /// The answer for the typical lead. It and all amounts add up to the answer.
    base_points: f64,
    contributions: Vec<PointsContribution>,
    others_points: f64,
    method: String,
}

#[derive(ToSchema)]
#[schema(as = LeadContribution)]
#[expect(dead_code, reason = "only its shape is used")]
struct PointsContribution {
    group: String,
    /// The one that leads the group.
    feature: String,
    #[schema(schema_with = shape::given)]
    value: (),
    contribution_points: f64,
    /// What each feature did, for `explain: "members"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<PointsMember>,
}

#[derive(ToSchema)]
#[schema(as = LeadMember)]
#[expect(dead_code, reason = "only its shape is used")]
struct PointsMember {
    feature: String,
    #[schema(schema_with = shape::given)]
    value: (),
    contribution_points: f64,
}

/// A group's, or that of one of its members.
struct ContributionBody<'a> {
    group: Option<&'a GroupContribution>,
    contribution: Contribution,
    unit: ScoreUnit,
    schema: &'a FeatureSchema,
}

impl Serialize for ExplanationBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (base, others) = match self.unit {
            ScoreUnit::Usd => ("base_value_usd", "others_usd"),
            ScoreUnit::Points => ("base_points", "others_points"),
        };
        let contributions: Vec<_> = self
            .written
            .top
            .iter()
            .map(|group| ContributionBody {
                group: Some(group),
                contribution: group.leading,
                unit: self.unit,
                schema: self.schema,
            })
            .collect();
        let mut body = serializer.serialize_struct("Explanation", 4)?;
        body.serialize_field(base, &self.written.base)?;
        body.serialize_field("contributions", &contributions)?;
        body.serialize_field(others, &self.written.others)?;
        body.serialize_field("method", self.method)?;
        body.end()
    }
}

impl Serialize for ContributionBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let amount = match self.unit {
            ScoreUnit::Usd => "contribution_usd",
            ScoreUnit::Points => "contribution_points",
        };
        let Contribution { position, given, amount: contributed } = self.contribution;
        let rule = &self.schema.rules()[position];
        let mut body = serializer.serialize_struct("Contribution", 5)?;
        if let Some(group) = self.group {
            body.serialize_field("group", &self.schema.group_names()[group.group])?;
        }
        body.serialize_field("feature", &rule.name)?;
        match rule.categories.get(given as usize) {
            Some(category) => body.serialize_field("value", category)?,
            None => body.serialize_field("value", &given)?,
        }
        body.serialize_field(amount, &contributed)?;
        if let Some(group) = self.group.filter(|group| !group.members.is_empty()) {
            let member = |member: &Contribution| ContributionBody { group: None, contribution: *member, ..*self };
            body.serialize_field("members", &group.members.iter().map(member).collect::<Vec<_>>())?;
        }
        body.end()
    }
}

impl Explained {
    pub(crate) fn new(outcome: Result<Explanation, NotExplained>, scorer: &Scorer) -> Self {
        Self { outcome, top: scorer.explain_top() }
    }

    pub(super) fn body<'a, E: Score>(&self, scored: &'a Scored<E>) -> Option<ExplanationBody<'a>> {
        let explanation = self.outcome.as_ref().ok()?;
        // Dollars to the cent; points are percent of a probability.
        let scale = match E::UNIT {
            ScoreUnit::Usd => 1e2,
            ScoreUnit::Points => 1e4,
        };
        Some(ExplanationBody {
            written: explanation.written(self.top, scale),
            unit: E::UNIT,
            schema: scored.snapshot.schema(),
            method: explanation.method.as_str(),
        })
    }

    /// The explanation as JSON, if there is one.
    pub(super) fn json<E: Score>(&self, scored: &Scored<E>) -> Option<String> {
        self.body(scored).and_then(|body| serde_json::to_string(&body).ok())
    }

    /// Why there is no explanation, if there is none.
    pub(super) fn missing(&self) -> Option<NotExplained> {
        self.outcome.as_ref().err().copied()
    }
}
