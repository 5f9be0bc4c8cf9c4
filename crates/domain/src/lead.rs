//! What a lead's score is: its place among the leads scored around it, with the probability behind it.

use std::sync::LazyLock;

use super::Probability;

/// One lead's score, as one model version sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LeadScore {
    /// 1 to 100, by the place of the probability among other leads': 70 and above is their best third, 80 and above their
    /// best 23 %.
    pub priority: u8,
    /// Calibrated probability of conversion.
    pub probability: Probability,
}

/// Leads after which what was scored before them has half its weight.
///
/// Why so few: the probability of all leads moves together, from one day to the next. Among the last 2,000 leads alike, 0 to
/// 98 % of a night's leads stood above 70 (`scoreline-training lead` prints what they are with this).
pub const HALF_WEIGHT: f64 = 35.0;

/// How a place becomes a priority: `100 × (place / 100)^BEND`.
///
/// Bent, so that the usual limits of 70 and 80 select 20 to 40 % of any night's leads. Unbent, 80 selects 21 % where all goes
/// well, and fewer on every second night.
const BEND: f64 = 0.9;

/// Percent of the others that a lead has to stand above for each priority from 2 to 100.
static LIMITS: LazyLock<[f64; 99]> =
    LazyLock::new(|| std::array::from_fn(|i| 100.0 * ((i + 1) as f64 / 100.0).powf(1.0 / BEND)));

/// The priority of a lead that stands above so many percent of the others.
pub fn priority(passed: f64) -> u8 {
    reached(&LIMITS, passed)
}

/// One more than the limits that are passed, of 99 that never fall.
fn reached(limits: &[f64; 99], passed: f64) -> u8 {
    // A whole number may come out a rounding error short of itself.
    limits.partition_point(|limit| *limit <= passed + 1e-9) as u8 + 1
}

/// How far the limits of priorities are moved for each lead too many that was given one or more, percent; how much of that
/// is left after another lead; and the furthest they are moved.
const GAIN: f64 = 2.0;
const KEPT: f64 = 0.99;
const FURTHEST: f64 = 40.0;

/// Moves the limits of priorities, so that of leads that come one by one each priority is given to its share.
///
/// Leads are placed among those before them, and on a night when all probabilities rise too many stand high. Where a
/// priority or more was given too often, the next leads have to stand higher for it: integral control, as in adaptive conformal
/// inference (Gibbs & Candes 2021). `scoreline-training lead` prints the shares of nights.
#[derive(Clone, Debug, PartialEq)]
pub struct PriorityBalance {
    /// For each priority from 2 to 100: leads that got it or more beyond its share.
    excess: [f64; 99],
    limits: [f64; 99],
}

impl Default for PriorityBalance {
    fn default() -> Self {
        Self { excess: [0.0; 99], limits: *LIMITS }
    }
}

impl PriorityBalance {
    /// The priority of a lead that stands above so many percent of the others.
    pub fn priority(&self, passed: f64) -> u8 {
        reached(&self.limits, passed)
    }

    /// Takes in what leads were given.
    pub fn gave(&mut self, priorities: impl Iterator<Item = u8>) {
        for priority in priorities {
            for ((reached, excess), limit) in (2..).zip(&mut self.excess).zip(&*LIMITS) {
                let share = 1.0 - limit / 100.0;
                *excess = KEPT * (*excess + f64::from(u8::from(priority >= reached)) - share);
            }
        }
        let mut before = f64::NEG_INFINITY;
        for ((moved, excess), limit) in self.limits.iter_mut().zip(&self.excess).zip(&*LIMITS) {
            // The limits never fall: more probability is never a lower priority.
            before = (limit + (GAIN * excess).clamp(-FURTHEST, FURTHEST)).max(before);
            *moved = before;
        }
    }
}

/// Bins of log-odds that probabilities are counted in, and the log-odds the first begins at.
const BINS: usize = 960;
const LOWEST: f64 = -12.0;
const BINS_A_UNIT: f64 = 40.0;

/// Where leads stand among those scored before them: a distribution that forgets, beginning with the frozen one of a bundle.
///
/// Leads that are asked about together come in together: `F ← q F + (1 - q) F_together` with `q = 2^(-n / HALF_WEIGHT)` for `n`
/// of them. So the order of a table's rows does not matter, and a night's batch is placed among itself.
#[derive(Clone, Debug, PartialEq)]
pub struct RollingPlaces {
    /// Weight that the frozen population still has; with `mass` it sums to 1.
    frozen: f64,
    mass: Box<[f64]>,
    /// `mass` below each bin's middle.
    below: Box<[f64]>,
}

impl Default for RollingPlaces {
    fn default() -> Self {
        Self { frozen: 1.0, mass: [0.0; BINS].into(), below: [0.0; BINS].into() }
    }
}

impl RollingPlaces {
    /// Takes in leads that were scored together.
    pub fn take(&mut self, together: &[Probability]) {
        if together.is_empty() {
            return;
        }
        let kept = (-(together.len() as f64) / HALF_WEIGHT).exp2();
        let each = (1.0 - kept) / together.len() as f64;
        self.frozen *= kept;
        self.mass.iter_mut().for_each(|mass| *mass *= kept);
        for probability in together {
            self.mass[bin(*probability)] += each;
        }
        self.sum_up();
    }

    fn sum_up(&mut self) {
        let mut sum = 0.0;
        for (below, mass) in self.below.iter_mut().zip(&self.mass) {
            *below = sum + mass / 2.0;
            sum += mass;
        }
    }

    /// The percent of the others that a probability stands above whose place in the frozen population, 1 to 100, is
    /// `frozen`. Until a lead was taken in it is one less than that.
    pub fn passed(&self, probability: Probability, frozen: u8) -> f64 {
        self.frozen * (f64::from(frozen) - 1.0) + 100.0 * self.below[bin(probability)]
    }

    /// The priority of a probability that stands there.
    pub fn priority(&self, probability: Probability, frozen: u8) -> u8 {
        priority(self.passed(probability, frozen))
    }

    /// As bytes, for a store: the frozen weight, then every bin that is not empty as position and mass.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.frozen.to_le_bytes().to_vec();
        for (position, mass) in (0_u16..).zip(&self.mass).filter(|(_, mass)| **mass > 1e-12) {
            bytes.extend_from_slice(&position.to_le_bytes());
            bytes.extend_from_slice(&mass.to_le_bytes());
        }
        bytes
    }

    /// Reads `to_bytes`. `None` for bytes that are no distribution.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (frozen, bins) = bytes.split_first_chunk::<8>()?;
        let mut places = Self { frozen: f64::from_le_bytes(*frozen), ..Self::default() };
        let (bins, rest) = bins.as_chunks::<10>();
        for bin in bins {
            let (position, mass) = bin.split_first_chunk::<2>()?;
            let slot = places.mass.get_mut(usize::from(u16::from_le_bytes(*position)))?;
            *slot = f64::from_le_bytes(mass.try_into().ok()?);
        }
        let total = places.frozen + places.mass.iter().sum::<f64>();
        let sound = rest.is_empty() && (total - 1.0).abs() < 1e-6 && places.mass.iter().all(|mass| *mass >= 0.0);
        places.sum_up();
        (sound && places.frozen >= 0.0).then_some(places)
    }
}

fn bin(probability: Probability) -> usize {
    let p = probability.get();
    // At 0 and 1 the log-odds are infinite; the cast takes what is out of range to the nearest end.
    (((p / (1.0 - p)).ln() - LOWEST) * BINS_A_UNIT).clamp(0.0, (BINS - 1) as f64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn probability(p: f64) -> Probability {
        Probability::clamped(p).expect("a number")
    }

    fn leads(log_odds: impl Iterator<Item = f64>) -> Vec<Probability> {
        log_odds.map(|x| probability(1.0 / (1.0 + (-x).exp()))).collect()
    }

    #[test]
    fn at_first_every_place_is_the_frozen_one() {
        let places = RollingPlaces::default();
        for frozen in 1..=100 {
            assert_eq!(places.passed(probability(0.3), frozen), f64::from(frozen) - 1.0);
        }
        assert_eq!([0.0, 50.0, 99.0, 100.0].map(priority), [1, 54, 100, 100]);
        let share = |limit| (0..1000).filter(|passed| priority(f64::from(*passed) / 10.0) >= limit).count();
        assert_eq!([share(70), share(71), share(80)], [337, 327, 230], "of a thousand");
    }

    #[test]
    fn priorities_that_were_given_too_often_are_given_less() {
        let given = |balance: &mut PriorityBalance, passed: f64| {
            let priority = balance.priority(passed);
            balance.gave([priority].into_iter());
            priority
        };
        // All stand in the best fifth of those before them, whatever they are among themselves.
        let mut balance = PriorityBalance::default();
        let night: Vec<u8> = (0..500).map(|i| given(&mut balance, 80.0 + f64::from(i * 203 % 500) / 25.0)).collect();
        let share = |limit| night.iter().filter(|priority| **priority >= limit).count() as f64 / 500.0;
        assert!((0.2..0.4).contains(&share(80)) && (0.3..0.5).contains(&share(70)), "{} {}", share(80), share(70));
        // Where all is well, nothing is moved far.
        let mut balance = PriorityBalance::default();
        for i in 0..2000 {
            given(&mut balance, f64::from(i * 203 % 500) / 5.0);
        }
        let moved = balance.limits.iter().zip(&*LIMITS).map(|(moved, limit)| (moved - limit).abs());
        assert!(moved.fold(0.0, f64::max) < 10.0);
    }

    #[test]
    fn a_night_that_is_better_than_all_before_is_placed_among_itself() {
        let mut places = RollingPlaces::default();
        places.take(&leads((0..2000).map(|i| -4.0 + f64::from(i) / 2000.0)));
        let night = leads((0..500).map(|i| f64::from(i * 7 % 500) / 500.0));
        places.take(&night);
        let above = |limit| night.iter().filter(|p| places.priority(**p, 100) >= limit).count();
        assert!((160..=175).contains(&above(70)) && (110..=120).contains(&above(80)), "{} {}", above(70), above(80));
    }

    #[test]
    fn leads_one_by_one_come_to_the_same_shares() {
        let mut places = RollingPlaces::default();
        places.take(&leads((0..2000).map(|i| -4.0 + f64::from(i) / 2000.0)));
        let night = leads((0..500).map(|i| f64::from(i * 203 % 500) / 500.0));
        let mut above = 0;
        for lead in &night {
            above += usize::from(places.priority(*lead, 100) > 70);
            places.take(&[*lead]);
        }
        assert!((110..=220).contains(&above), "{above} of 500");
    }

    #[test]
    fn leads_that_are_all_alike_stand_in_the_middle() {
        let mut places = RollingPlaces::default();
        places.take(&vec![probability(0.1); 1000]);
        assert!((53..=54).contains(&places.priority(probability(0.1), 1)));
        assert_eq!((places.priority(probability(0.05), 1), places.priority(probability(0.2), 100)), (1, 100));
    }

    #[test]
    fn bytes_that_are_no_distribution_are_refused() {
        assert_eq!(RollingPlaces::from_bytes(&[1, 2, 3]), None);
        assert_eq!(RollingPlaces::from_bytes(&0.5_f64.to_le_bytes()), None, "sums to a half");
        let mut far = 0.5_f64.to_le_bytes().to_vec();
        far.extend_from_slice(&u16::MAX.to_le_bytes());
        far.extend_from_slice(&0.5_f64.to_le_bytes());
        assert_eq!(RollingPlaces::from_bytes(&far), None);
    }

    proptest! {
        #[test]
        fn more_probability_is_never_a_lower_place(
            seen in prop::collection::vec(0.0..=1.0f64, 0..80), a in 0.0..=1.0f64, b in 0.0..=1.0f64,
            low in 1..=100u8, more in 0..=99u8,
        ) {
            let mut places = RollingPlaces::default();
            places.take(&seen.into_iter().map(probability).collect::<Vec<_>>());
            let high = low.saturating_add(more).min(100);
            let [worse, better] =
                [places.priority(probability(a.min(b)), low), places.priority(probability(a.max(b)), high)];
            prop_assert!((1..=100).contains(&worse) && worse <= better && better <= 100);
        }

        #[test]
        fn what_is_kept_places_as_before(
            nights in prop::collection::vec(prop::collection::vec(0.0..=1.0f64, 0..60), 0..5), p in 0.0..=1.0f64,
        ) {
            let mut places = RollingPlaces::default();
            for night in nights {
                places.take(&night.into_iter().map(probability).collect::<Vec<_>>());
            }
            let again = RollingPlaces::from_bytes(&places.to_bytes()).expect("own bytes");
            let p = probability(p);
            prop_assert!(again.priority(p, 40).abs_diff(places.priority(p, 40)) <= 1);
        }

        #[test]
        fn a_lead_that_stands_higher_never_has_a_lower_priority(
            given in prop::collection::vec(1..=100u8, 0..300), a in 0.0..=100.0f64, b in 0.0..=100.0f64,
        ) {
            let mut balance = PriorityBalance::default();
            balance.gave(given.into_iter());
            let [worse, better] = [balance.priority(a.min(b)), balance.priority(a.max(b))];
            prop_assert!((1..=100).contains(&worse) && worse <= better && better <= 100);
        }
    }
}
