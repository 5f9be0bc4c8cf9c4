//! How much is known of a customer: which tables of the bundle judge them, and what is given and says nothing.

use super::super::manifest::{Calibration, Information, Manifest, TierLimits, TierOutcome, TierThresholds, Tiers};
use super::error::BundleError;
use crate::features::{FeatureSchema, Given};
use scoreline_domain::Tier;

/// The sets of a bundle, and the feature groups its model answers from.
#[derive(Debug)]
pub(super) struct InformationSets {
    /// The tables at the top of the bundle, for customers of no other set.
    whole: JudgedBy,
    less: Vec<LessKnown>,
    variants: Vec<Variant>,
}

/// One `[[information]]` table.
#[derive(Debug)]
struct LessKnown {
    lacks: usize,
    unread: Box<[usize]>,
    judged_by: JudgedBy,
}

/// Tier limits in effect, what tiers between them are worth, and where a set's interval group is read.
#[derive(Debug)]
struct JudgedBy {
    limits: TierThresholds,
    outcomes: Option<[TierOutcome; 3]>,
    doubts: Vec<Doubt>,
    group_by: Option<usize>,
    /// What must be given too for the group to be known.
    group_with: Vec<usize>,
}

/// A feature without which less is certain, and the range that training saw.
#[derive(Debug)]
struct Doubt {
    position: usize,
    lost: f64,
    seen: std::ops::RangeInclusive<f64>,
}

impl Doubt {
    /// The share of the certainty that is left: all of it for a value that training saw, none of the feature's part where
    /// it is imputed. A value beyond what was seen is half known: the model holds it within its bounds.
    fn left(&self, value: f64) -> f64 {
        if self.seen.contains(&value) {
            1.0
        } else if value.is_nan() {
            1.0 - self.lost
        } else {
            1.0 - self.lost / 2.0
        }
    }
}

/// One part of a model that answers from features of its own.
#[derive(Debug)]
struct Variant {
    /// Features it cannot do without, by position.
    needs: Box<[u16]>,
    /// Features that another part reads and this one does not.
    unused: Box<[u16]>,
}

/// The tables that judge one customer.
#[derive(Clone, Copy, Debug)]
pub struct Standard<'s> {
    /// Where the tiers begin: the bundle's limits unless the settings override them.
    pub limits: TierThresholds,
    pub tiers: Option<&'s Tiers>,
    pub interval: Option<&'s Calibration>,
    /// The raw value that picks the calibration group, `NaN` when unknown.
    pub group_value: f64,
    /// What the tiers between the limits are worth, from Low to High.
    pub outcomes: Option<&'s [TierOutcome; 3]>,
    /// The share of the certainty that is left of this customer: 1 where everything is given and within what training saw.
    pub certainty: f64,
}

/// What the tiers are worth of customers of whom so much is known.
#[derive(Clone, Debug, PartialEq)]
pub struct TierWorth {
    /// `all`, or the name of an information set.
    pub information: String,
    pub limits: TierThresholds,
    /// From Low to High.
    pub outcomes: [TierOutcome; 3],
}

impl Standard<'_> {
    /// The tier of a customer with this value, who was in `previous` before.
    pub fn tier_from(&self, value: f64, previous: Option<Tier>) -> Tier {
        match previous.zip(self.tiers.and_then(|tiers| tiers.hysteresis.as_ref())) {
            Some((previous, hysteresis)) => self.limits.tier_from(value, previous, hysteresis),
            None => self.limits.tier(value),
        }
    }
}

impl InformationSets {
    /// # Errors
    /// Names the key that names no feature.
    pub(super) fn resolve(
        manifest: &Manifest,
        schema: &FeatureSchema,
        variants: &[Vec<usize>],
        overriding: Option<TierLimits>,
    ) -> Result<Self, BundleError> {
        let position = |key: &'static str, name: &String| {
            schema.position(name).ok_or_else(|| BundleError::Field {
                key,
                problem: format!("names `{name}`, which is not one of the features"),
            })
        };
        let judged_by = |tiers: Option<&Tiers>, interval: Option<&Calibration>| {
            // A lead model has no tiers, and nobody asks it for one.
            let none = TierThresholds { medium: f64::INFINITY, high: f64::INFINITY };
            let limits = match tiers.map(|tiers| tiers.limits(overriding)) {
                None => none,
                Some(limits) => limits.ok_or_else(|| BundleError::Field {
                    key: "tiers.bands",
                    problem: "is needed for `routing.high_share`: calibrate the bundle anew".to_owned(),
                })?,
            };
            let doubts = tiers.iter().flat_map(|tiers| &tiers.lost_without).map(|(name, lost)| {
                let position = position("tiers.lost_without", name)?;
                let rule = &schema.rules()[position];
                Ok::<_, BundleError>(Doubt { position, lost: *lost, seen: rule.min..=rule.max })
            });
            let with = interval.iter().flat_map(|calibration| &calibration.group_with);
            Ok::<_, BundleError>(JudgedBy {
                limits,
                outcomes: tiers.and_then(|tiers| tiers.bands.as_ref()).map(|bands| bands.outcomes(limits)),
                doubts: doubts.collect::<Result<_, _>>()?,
                group_by: interval
                    .map(|calibration| position("interval.group_by", &calibration.group_by))
                    .transpose()?,
                group_with: with.map(|name| position("interval.group_with", name)).collect::<Result<_, _>>()?,
            })
        };
        let less = manifest.information.iter().map(|set| {
            let unread = set.unread.iter().map(|name| position("information.unread", name));
            Ok::<_, BundleError>(LessKnown {
                lacks: position("information.lacks", &set.lacks)?,
                unread: unread.collect::<Result<_, _>>()?,
                judged_by: judged_by(Some(&set.tiers), set.interval.as_ref())?,
            })
        });
        Ok(Self {
            whole: judged_by(manifest.tiers.as_ref(), manifest.interval.as_ref())?,
            less: less.collect::<Result<_, _>>()?,
            variants: Variant::of(schema, variants),
        })
    }

    /// Which set a raw row belongs to, by its position in the bundle; `None` where everything is known.
    pub(super) fn of(&self, raw: &[f64]) -> Option<usize> {
        self.less.iter().position(|set| Information::is_lacking(raw[set.lacks]))
    }

    /// The tables that judge a raw row of the bundle they were made from.
    pub(super) fn standard<'s>(&'s self, manifest: &'s Manifest, raw: &[f64]) -> Standard<'s> {
        let (judged_by, tiers, interval) = match self.of(raw) {
            None => (&self.whole, manifest.tiers.as_ref(), manifest.interval.as_ref()),
            Some(set) => {
                let Information { tiers, interval, .. } = &manifest.information[set];
                (&self.less[set].judged_by, Some(tiers), interval.as_ref())
            }
        };
        let group_value = match judged_by.group_by {
            Some(position) if !judged_by.group_with.iter().any(|other| raw[*other].is_nan()) => raw[position],
            _ => f64::NAN,
        };
        let certainty = judged_by.doubts.iter().map(|doubt| doubt.left(raw[doubt.position])).product();
        let outcomes = judged_by.outcomes.as_ref();
        Standard { limits: judged_by.limits, tiers, interval, group_value, outcomes, certainty }
    }

    /// Tier limits of customers of whom everything is known, and of those a baseline stands in for.
    pub(super) fn limits(&self) -> TierThresholds {
        self.whole.limits
    }

    /// What the tiers of the whole and of each set are worth.
    pub(super) fn worth(&self, manifest: &Manifest) -> Vec<TierWorth> {
        let names = ["all"].into_iter().chain(manifest.information.iter().map(|set| set.name.as_str()));
        let judged_by = [&self.whole].into_iter().chain(self.less.iter().map(|set| &set.judged_by));
        let worth = names.zip(judged_by).filter_map(|(name, by)| {
            Some(TierWorth { information: name.to_owned(), limits: by.limits, outcomes: by.outcomes? })
        });
        worth.collect()
    }

    /// Whether the feature at `position` is read of a row of this set.
    pub(super) fn reads(&self, set: Option<usize>, position: usize) -> bool {
        set.is_none_or(|set| {
            let LessKnown { lacks, unread, .. } = &self.less[set];
            *lacks != position && !unread.contains(&position)
        })
    }

    /// Leaves out what says nothing without what is lacking, and lists what is given and not used.
    pub(super) fn settle(&self, given: &mut Given) {
        if let Some(set) = self.of(&given.raw) {
            let LessKnown { lacks, unread, .. } = &self.less[set];
            given.leave_out(*lacks, None);
            for position in unread {
                given.leave_out(*position, Some(*lacks));
            }
        }
        self.list_the_unused(given);
    }

    /// Features that are given and that the part of the model which answers does not read, each with one that it lacks for
    /// the part that would.
    fn list_the_unused(&self, given: &mut Given) {
        let is_given = |position: &u16| !given.raw[usize::from(*position)].is_nan();
        let Some(answers) = self.variants.iter().find(|variant| variant.needs.iter().all(is_given)) else { return };
        for feature in answers.unused.iter().filter(|position| is_given(position)) {
            let would = self.variants.iter().filter(|variant| !variant.unused.contains(feature));
            let lacking = would.map(|variant| variant.needs.iter().filter(|position| !is_given(position)));
            let fewest = lacking.min_by_key(|lacking| lacking.clone().count());
            if let Some(needs) = fewest.and_then(|mut lacking| lacking.next()) {
                given.unused.push((*feature, *needs));
            }
        }
    }
}

impl Variant {
    /// What each part of a model needs and leaves unused, from the columns it reads.
    fn of(schema: &FeatureSchema, variants: &[Vec<usize>]) -> Vec<Self> {
        let features = |columns: &Vec<usize>| {
            let mut features: Vec<usize> = columns.iter().flat_map(|column| schema.sources(*column)).collect();
            features.sort_unstable();
            features.dedup();
            features
        };
        let read: Vec<Vec<usize>> = variants.iter().map(features).collect();
        let narrow = |positions: Vec<usize>| positions.into_iter().map(|position| position as u16).collect();
        let variant = |mine: &Vec<usize>| Self {
            needs: narrow(mine.iter().copied().filter(|feature| schema.may_miss(*feature)).collect()),
            unused: narrow(
                (0..schema.len())
                    .filter(|feature| !mine.contains(feature) && read.iter().any(|other| other.contains(feature)))
                    .collect(),
            ),
        };
        read.iter().map(variant).collect()
    }
}
