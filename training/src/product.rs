//! The two models the repository ships: which features they read, which subsets of them get coefficients of their own
//! and what they are trained on.

use std::collections::BTreeMap;

use scoreline::packing::assemble::InformationPlan;
use scoreline::packing::calibrate::Grouping;
use scoreline::packing::statistics::{DerivedPlan, FeaturePlan};
use scoreline::packing::table::{Row, Table};
use scoreline_engine::features::interactions::InteractionFeatures;
use scoreline_engine::features::schema::{NamedImpute, Transform};
use scoreline_engine::features::{Bend, Factor, Impute};
use scoreline_engine::inference::bundle::GoldenRequest;

use crate::cohort::{HORIZON_DAYS, Member};
use crate::fit::Sign;

/// A model's recipe.
pub(crate) struct Product {
    pub name: &'static str,
    pub description: &'static str,
    /// The first that is given decides.
    pub cold_start_features: &'static [&'static str],
    pub features: Vec<FeaturePlan>,
    pub derived: Vec<DerivedPlan>,
    /// Columns of each variant, in order of preference.
    pub variants: Vec<Vec<String>>,
    /// The columns without interactions: what the null set is compared with.
    pub without_interactions: Option<Vec<String>>,
    pub grouping: Grouping,
    /// What callers with less to say leave out: a label, and the features.
    pub partial: Vec<(String, Vec<String>)>,
    /// Customers of whom less is known and who are judged by tables of their own.
    pub information: Vec<InformationPlan>,
    pub synthetic: String,
    pub golden: Vec<GoldenRequest>,
}

/// Where both models' data come from.
pub(crate) const DATA: &str = "CDNOW: purchases 1997-01-01 to 1998-06-30 of customers who first bought in 1997 Q1; features as \
                        of 1997-09-30, outcome = spend in the next 273 days";

/// What is known of its licence; see `training/data/README.md`.
pub(crate) const LICENCE: &str = "published for research by Bruce Hardie and redistributed in the MIT-licensed package \
                           lifetimes; the data carry no licence statement of their own";

const CORE_PURCHASES: [&str; 4] = ["recency_days", "purchase_count", "tenure_days", "monetary_avg"];
/// What follows from the core.
const IMPLIED_PURCHASES: [&str; 2] = ["total_spend_usd", "purchase_gap_mean_days"];
const MORE_PURCHASES: [&str; 6] = [
    "last_order_usd",
    "max_order_usd",
    "spend_last_90d_usd",
    "purchases_last_90d",
    "items_count",
    "purchases_decayed_30d",
];

const INTERACTIONS: [&str; 9] = [
    "recency_days",
    "frequency_count",
    "avg_handling_time_sec",
    "sentiment_score_avg",
    "sentiment_trend_slope",
    "topic_diversity",
    "channel_preference_email",
    "channel_preference_voice",
    "channel_preference_chat",
];
/// What is known of purchases beside interactions.
const PURCHASES: [&str; 6] = [
    "purchase_recency_days",
    "purchase_count",
    "tenure_days",
    "monetary_avg",
    "total_spend_usd",
    "purchase_gap_mean_days",
];

/// `clv-purchases`: real purchases only.
pub(crate) fn clv_purchases() -> Product {
    let required = |name: &&str| plan(name, true, Impute::default(), Transform::Log1p);
    let optional = |name: &&str| plan(name, false, Impute::Named(NamedImpute::None), Transform::Log1p);
    let rest = IMPLIED_PURCHASES.iter().chain(&MORE_PURCHASES).map(optional);
    let features: Vec<_> = CORE_PURCHASES.iter().map(required).chain(rest).collect();
    let derived = bent("recency_days");
    let [last, most, spent, bought, items, decayed] = MORE_PURCHASES;
    // Callers bring what they have: each list is answered from coefficients of its own.
    let more: [&[&str]; 11] = [
        &MORE_PURCHASES,
        &[last, most, spent, bought, items],
        &[last, most, spent, bought],
        &[spent, bought, decayed],
        &[last, most, items],
        &[spent, bought],
        &[last, most],
        &[decayed],
        &[last],
        &[items],
        &[],
    ];
    let variant = |more: &&[&str]| -> Vec<String> {
        let given = [&CORE_PURCHASES[..], &IMPLIED_PURCHASES, more].concat();
        owned(&given).into_iter().chain(derived.iter().map(|plan| plan.name.clone())).collect()
    };
    let variants = more.iter().map(variant).collect();
    Product {
        name: "clv-purchases",
        description: "Expected spend in the next 273 days from purchase history",
        cold_start_features: &["purchase_count"],
        variants,
        without_interactions: None,
        features,
        derived,
        grouping: grouping(),
        partial: vec![("core_features".to_owned(), owned(&MORE_PURCHASES))],
        information: Vec::new(),
        synthetic: "acquisition channels are simulated (tilted mildly by the real first order amount); customers, \
                    purchases and outcomes are real"
            .to_owned(),
        golden: vec![
            request(&[("recency_days", 14.0), ("purchase_count", 6.0), ("tenure_days", 250.0), ("monetary_avg", 42.5)]),
            request(&[("recency_days", 9e4), ("purchase_count", 9e5), ("tenure_days", 9e4), ("monetary_avg", 9e7)]),
            newcomer("purchase_count", &CORE_PURCHASES, Some("referral"), None),
            newcomer("purchase_count", &CORE_PURCHASES, None, Some("first_order_under_15")),
            newcomer("purchase_count", &CORE_PURCHASES, None, None),
        ],
    }
}

/// `clv`: the documented interaction features, with purchase features where the caller has them.
pub(crate) fn clv(rho: f64) -> Product {
    let features = vec![
        plan("recency_days", true, Impute::default(), Transform::Log1p),
        plan("frequency_count", true, Impute::default(), Transform::Log1p),
        plan("avg_handling_time_sec", false, Impute::default(), Transform::Log1p),
        plan("sentiment_score_avg", false, Impute::default(), Transform::Identity),
        plan("sentiment_trend_slope", false, Impute::Value(0.0), Transform::Identity),
        plan("topic_diversity", false, Impute::default(), Transform::Log1p),
        plan("channel_preference_email", false, Impute::default(), Transform::Identity),
        plan("channel_preference_voice", false, Impute::default(), Transform::Identity),
        plan("channel_preference_chat", false, Impute::default(), Transform::Identity),
        plan("purchase_recency_days", false, Impute::Named(NamedImpute::None), Transform::Log1p),
        plan("purchase_count", false, Impute::Named(NamedImpute::None), Transform::Log1p),
        plan("tenure_days", false, Impute::Named(NamedImpute::None), Transform::Log1p),
        plan("monetary_avg", false, Impute::Named(NamedImpute::None), Transform::Log1p),
        plan("total_spend_usd", false, Impute::Named(NamedImpute::None), Transform::Log1p),
        plan("purchase_gap_mean_days", false, Impute::Named(NamedImpute::None), Transform::Log1p),
    ];
    let bent = bent("purchase_recency_days");
    let purchases = [owned(&PURCHASES), bent.iter().map(|plan| plan.name.clone()).collect()].concat();
    let mut variants = purchase_variants(&bent);
    variants.extend(interaction_variants());
    let derived = [bent, vec![days_by_contact()]].concat();
    let documented = [
        ("recency_days", 12.0),
        ("frequency_count", 48.0),
        ("avg_handling_time_sec", 245.0),
        ("sentiment_score_avg", 0.65),
        ("topic_diversity", 7.0),
    ];
    let least = [("recency_days", 30.0), ("frequency_count", 2.0)];
    let known_spender =
        [("purchase_recency_days", 20.0), ("purchase_count", 8.0), ("tenure_days", 260.0), ("monetary_avg", 55.0)];
    Product {
        name: "clv",
        description: "Expected spend in the next 273 days from contact-centre interactions and, where given, purchases",
        cold_start_features: &["purchase_count", "frequency_count"],
        variants,
        without_interactions: Some(purchases),
        features,
        derived,
        grouping: grouping(),
        partial: vec![
            ("without_purchases".to_owned(), owned(&PURCHASES)),
            ("without_interactions".to_owned(), owned(&INTERACTIONS)),
        ],
        information: vec![
            InformationPlan {
                name: "interactions".to_owned(),
                lacks: "purchase_count".to_owned(),
                unread: without("purchase_count", &PURCHASES),
                grouping: by_contacts(),
            },
            InformationPlan {
                name: "purchases".to_owned(),
                lacks: "frequency_count".to_owned(),
                unread: without("frequency_count", &INTERACTIONS),
                grouping: grouping(),
            },
        ],
        synthetic: format!(
            "interactions are simulated around real purchase customers: recency_days, frequency_count, handling \
             time, sentiment, topics and channel preferences are not measured data, and how satisfied a customer \
             sounds is tied to the real outcome by rho = {rho}; acquisition channels are simulated too. Purchases \
             and outcomes are real. The metrics say nothing about accuracy on contact-centre data"
        ),
        golden: vec![
            request(&documented),
            request(&least),
            request(&[&documented[..], &known_spender].concat()),
            request(&[&least[..], &known_spender[..3]].concat()),
            request(&[("recency_days", 9e4), ("frequency_count", 9e5), ("avg_handling_time_sec", 9e7)]),
            newcomer("frequency_count", &INTERACTIONS[..2], Some("social"), None),
            newcomer("frequency_count", &INTERACTIONS[..2], None, Some("first_order_over_40")),
            newcomer("frequency_count", &INTERACTIONS[..2], None, None),
        ],
    }
}

/// One row a customer, with purchase features only.
pub(crate) fn purchases_table(members: &[Member]) -> Table {
    let names = CORE_PURCHASES.iter().chain(&IMPLIED_PURCHASES).chain(&MORE_PURCHASES);
    let features: Vec<String> = names.map(|name| (*name).to_owned()).collect();
    let rows = members.iter().map(|member| {
        let known: BTreeMap<&str, Option<f64>> = member.purchases.named().into_iter().collect();
        row(
            member,
            features.iter().map(|name| known.get(name.as_str()).copied().flatten().unwrap_or(f64::NAN)).collect(),
        )
    });
    Table { rows: rows.collect(), features, horizon_days: Some(HORIZON_DAYS), ..Table::default() }
}

/// One row a customer who was ever in touch, with interaction and purchase features.
pub(crate) fn interactions_table(members: &[Member], interactions: &[Option<InteractionFeatures>]) -> Table {
    let names = INTERACTIONS.iter().chain(&PURCHASES);
    let features: Vec<String> = names.map(|name| (*name).to_owned()).collect();
    let rows = members.iter().zip(interactions).filter_map(|(member, interactions)| {
        let mut known: BTreeMap<&str, Option<f64>> = (*interactions)?.named().into_iter().collect();
        known.extend(member.purchases.named_beside_interactions());
        let value = |name: &String| known.get(name.as_str()).copied().flatten().unwrap_or(f64::NAN);
        Some(row(member, features.iter().map(value).collect()))
    });
    Table { rows: rows.collect(), features, horizon_days: Some(HORIZON_DAYS), ..Table::default() }
}

fn row(member: &Member, values: Vec<f64>) -> Row {
    Row {
        customer: member.id.to_string(),
        as_of: String::new(),
        split: member.split,
        values,
        spend_usd: member.spend_usd,
        acquisition_channel: member.acquisition_channel.to_owned(),
        segment: member.segment.to_owned(),
    }
}

/// Which way a column may move a prediction: the way a reader would call a bug if it were reversed.
pub(crate) fn sign(column: &str) -> Sign {
    match column {
        "frequency_count"
        | "sentiment_score_avg"
        | "sentiment_trend_slope"
        | "topic_diversity"
        | "monetary_avg"
        | "total_spend_usd"
        | "last_order_usd"
        | "max_order_usd"
        | "spend_last_90d_usd"
        | "purchases_last_90d"
        | "purchases_decayed_30d"
        // It is what a recency is set against, and a later purchase shortens it.
        | "purchase_gap_mean_days" => Sign::Up,
        "recency_days"
        | "purchase_recency_days"
        | "recency_share_of_tenure"
        | "recency_share_by_count"
        | "log_recency_by_log_count"
        | "recency_against_gap"
        | "recency_by_contacts"
        | "log_recency_squared" => Sign::Down,
        _ => Sign::Free,
    }
}

/// What `clv` answers from, in order of preference, where purchases are known: whatever is known of them beside their
/// count. Interactions that are not known are imputed, purchases are not.
fn purchase_variants(derived: &[DerivedPlan]) -> Vec<Vec<String>> {
    let has = |given: &[&str], name: &str| given.contains(&name);
    let beside_the_count: [&[&str]; 8] = [
        &["purchase_recency_days", "tenure_days", "monetary_avg"],
        &["tenure_days", "monetary_avg"],
        &["purchase_recency_days", "monetary_avg"],
        &["purchase_recency_days", "tenure_days"],
        &["monetary_avg"],
        &["purchase_recency_days"],
        &["tenure_days"],
        &[],
    ];
    let variant = |beside: &&[&str]| -> Vec<String> {
        let mut given = ["purchase_count"].into_iter().chain(beside.iter().copied()).collect::<Vec<_>>();
        if has(beside, "monetary_avg") {
            given.push("total_spend_usd");
        }
        if has(beside, "purchase_recency_days") && has(beside, "tenure_days") {
            given.push("purchase_gap_mean_days");
        }
        let from = |factor: &Factor| has(&given, &factor.of) && factor.over.iter().all(|over| has(&given, over));
        let bent = derived.iter().filter(|plan| plan.factors.iter().all(from)).map(|plan| plan.name.clone());
        owned(&given).into_iter().chain(owned(&INTERACTIONS)).chain(bent).collect()
    };
    beside_the_count.iter().map(variant).collect()
}

/// What it answers from where they are not.
fn interaction_variants() -> [Vec<String>; 2] {
    let all = owned(&INTERACTIONS);
    let with = all.iter().cloned().chain([days_by_contact().name]).collect();
    [with, all]
}

/// Days since the last contact, by how many there were: falls with each and with a newer one. It gives back some of the
/// order that the sign of topics takes away: of customers alike in both, more topics mean fewer purchases in the shipped data.
fn days_by_contact() -> DerivedPlan {
    let days = Factor { of: "recency_days".to_owned(), over: Some("frequency_count".to_owned()), apply: Bend::Ratio };
    DerivedPlan { name: "recency_by_contacts".to_owned(), factors: vec![days] }
}

/// By how many purchase days, and among those with one by the prediction: its misses crowd where dollars are few. Shares are
/// chosen by cross-validation, so that no tenth of the predictions and no quarter of the spend is covered much less than
/// the others, and large misses are rare.
fn grouping() -> Grouping {
    let groups = [(1.0, 0.0, 0.9), (1.0, 7.5, 0.9), (2.0, 0.0, 0.9), (4.0, 0.0, 0.75)];
    Grouping::of("purchase_count", &groups)
}

/// By the prediction alone, in quarters.
fn by_contacts() -> Grouping {
    let quarters = [(1.0, 0.0, 0.9), (1.0, 30.0, 0.9), (1.0, 37.0, 0.9), (1.0, 45.0, 0.9)];
    Grouping::of("frequency_count", &quarters)
}

fn without(one: &str, names: &[&str]) -> Vec<String> {
    names.iter().filter(|name| **name != one).map(|name| (*name).to_owned()).collect()
}

/// Recency means something else for one purchase than for many, and for a young customer than for an old one.
fn bent(recency: &str) -> Vec<DerivedPlan> {
    let of = |of: &str, apply| Factor { of: of.to_owned(), over: None, apply };
    let over = |of: &str, over: &str, apply| Factor { of: of.to_owned(), over: Some(over.to_owned()), apply };
    let plan = |name: &str, factors| DerivedPlan { name: name.to_owned(), factors };
    let share = || over(recency, "tenure_days", Bend::Ratio);
    vec![
        plan("recency_share_of_tenure", vec![share()]),
        plan("recency_share_by_count", vec![share(), of("purchase_count", Bend::Ln)]),
        plan("log_recency_by_log_count", vec![of(recency, Bend::Log1p), of("purchase_count", Bend::Log1p)]),
        plan("log_count_squared", vec![of("purchase_count", Bend::Ln), of("purchase_count", Bend::Ln)]),
        plan("single_purchase", vec![of("purchase_count", Bend::IsOne)]),
        plan(
            "recency_against_gap",
            vec![of("purchase_count", Bend::AboveOne), over(recency, "purchase_gap_mean_days", Bend::LogRatio)],
        ),
        plan("log_recency_squared", vec![of(recency, Bend::Log1p), of(recency, Bend::Log1p)]),
    ]
}

fn plan(name: &str, required: bool, impute: Impute, transform: Transform) -> FeaturePlan {
    FeaturePlan { name: name.to_owned(), required, impute, transform }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn request(features: &[(&str, f64)]) -> GoldenRequest {
    GoldenRequest {
        features: features.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).into()))).collect(),
        ..GoldenRequest::default()
    }
}

/// A customer without history: zero of what decides, zero of whatever else is required.
fn newcomer(
    cold_start_feature: &str,
    required: &[&str],
    acquisition_channel: Option<&str>,
    segment: Option<&str>,
) -> GoldenRequest {
    debug_assert!(required.contains(&cold_start_feature));
    let features: Vec<_> = required.iter().map(|name| (*name, 0.0)).collect();
    GoldenRequest {
        acquisition_channel: acquisition_channel.map(str::to_owned),
        segment: segment.map(str::to_owned),
        ..request(&features)
    }
}
