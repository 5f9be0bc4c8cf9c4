//! How good the recipe is in three ways: on rows like those it was fitted on, on later rows without any retraining, and
//! on later rows when it is retrained as a nightly job would. Beside each: what is said by who only looks at the conversion
//! rate of the newest leads.

use std::ops::Range;
use std::time::Duration;

use scoreline::packing::luck;
use scoreline::packing::metrics::{auc, calibration_error};
use scoreline::packing::report::Progress;
use scoreline::packing::split::mix;
use scoreline_domain::Probability;
use scoreline_domain::lead::{PriorityBalance, RollingPlaces};
use scoreline_domain::time::Stopwatch;
use scoreline_engine::inference::manifest::{Luck, ScoreReference};

use super::data::Leads;
use super::recalibration::{Line, recalibration};
use super::recipe::{Fitted, fit, fit_nightly, sigmoid};

/// Folds of the evaluation on like rows.
const FOLDS: u64 = 5;
/// Share of the rows, oldest first, that the evaluations on later rows are trained on at first.
const FIRST: f64 = 0.7;
/// Later rows scored between two retrainings, and newest rows whose conversion rate is compared with.
pub(super) const STEP: usize = 500;
/// Newest rows with a probability by a model that had not seen them, and their outcome: what a model is recalibrated on.
pub(super) const MATURED: usize = 2000;
/// The limits of priority that the guides call leads by.
const LIMITS: [u8; 2] = [70, 80];

/// Figures on rows that were not fitted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    pub label: String,
    pub rows: usize,
    /// Share that converted, and the mean probability said.
    pub base_rate: f64,
    pub said: f64,
    pub auc: f64,
    /// Of pairs of one day: what a dialer gains, which calls a day's leads in order.
    pub auc_within: f64,
    /// Area under the cumulative gain curve: p / 2 + (1 - p) AUC (Moro, Cortez & Rita 2014).
    pub alift: f64,
    pub log_loss: f64,
    /// Ten bins of equal mass.
    pub ece: f64,
    /// What a perfect model shows of it on the same rows.
    pub ece_luck: Luck,
    /// Converted leads in the better half by score, as a share of all converted ones.
    pub best_half: f64,
}

impl Figures {
    /// Figures of what was `said` of `rows`.
    pub(super) fn of(label: &str, leads: &Leads, rows: &[usize], said: &[f64]) -> Self {
        let days: Vec<usize> = rows.iter().map(|row| leads.days[*row]).collect();
        Self::measured(label, &days, &leads.outcomes(rows), said)
    }

    fn measured(label: &str, days: &[usize], happened: &[bool], said: &[f64]) -> Self {
        let n = happened.len() as f64;
        let positives = happened.iter().filter(|happened| **happened).count() as f64;
        let base_rate = positives / n;
        let auc = auc(happened, said);
        let losses = happened.iter().zip(said).map(|(happened, p)| {
            let p = p.clamp(1e-12, 1.0 - 1e-12);
            if *happened { -p.ln() } else { -(1.0 - p).ln() }
        });
        Self {
            label: label.to_owned(),
            rows: happened.len(),
            base_rate,
            said: said.iter().sum::<f64>() / n,
            auc,
            auc_within: auc_within(days, happened, said),
            alift: base_rate / 2.0 + (1.0 - base_rate) * auc,
            log_loss: losses.sum::<f64>() / n,
            ece: calibration_error(happened, said),
            ece_luck: luck::calibration_error(said),
            best_half: in_best_half(happened, said) / positives,
        }
    }
}

/// Rows of the better half where it happened; of rows that tie across its edge, as many as fit count alike.
fn in_best_half(happened: &[bool], said: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..happened.len()).collect();
    order.sort_by(|a, b| said[*b].total_cmp(&said[*a]));
    let mut room = (order.len() / 2) as f64;
    let mut best = 0.0;
    for tied in order.chunk_by(|a, b| said[*a].total_cmp(&said[*b]).is_eq()) {
        let share = (room / tied.len() as f64).min(1.0);
        best += share * tied.iter().filter(|row| happened[**row]).count() as f64;
        room -= share * tied.len() as f64;
    }
    best
}

/// Probabilities of these rows, each by a model that was fitted on others of them: folds by a hash of the row.
pub(super) fn out_of_fold(leads: &Leads, rows: &[usize], progress: &Progress) -> anyhow::Result<Vec<f64>> {
    let fold = |place: usize| mix(rows[place] as u64) % FOLDS;
    let mut all = vec![f64::NAN; rows.len()];
    for held_out in 0..FOLDS {
        progress.step("scoring rows a model has not seen");
        let (test, train): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|place| fold(*place) == held_out);
        let of = |places: &[usize]| places.iter().map(|place| rows[*place]).collect::<Vec<_>>();
        let said = fit(leads, &of(&train))?.probabilities(leads, &of(&test))?;
        test.into_iter().zip(said).for_each(|(place, p)| all[place] = p);
    }
    Ok(all)
}

/// Number of steps `out_of_fold` shows.
pub(super) const FOLD_STEPS: u64 = FOLDS;

/// What models said of consecutive rows that they had not seen, block by block.
pub(super) struct OutOfTime {
    /// The first of the rows.
    pub start: usize,
    /// As the models gave them.
    log_odds: Vec<f64>,
    /// Recalibrated by what was known before each block.
    pub said: Vec<f64>,
}

impl OutOfTime {
    fn begin(start: usize) -> Self {
        Self { start, log_odds: Vec::new(), said: Vec::new() }
    }

    /// Rows `start..end`, each block of `STEP` by a model fitted on the newest `window` rows before it.
    pub(super) fn of(leads: &Leads, rows: Range<usize>, window: usize, progress: &Progress) -> anyhow::Result<Self> {
        let mut all = Self::begin(rows.start);
        while all.end() < rows.end {
            let block = all.end()..(all.end() + STEP).min(rows.end);
            progress.say(format!("scoring rows of later days, {} of {}", all.said.len(), rows.len()));
            let fitted = fit_nightly(leads, &newest(block.start, window))?;
            all.add(leads, block, &fitted)?;
        }
        Ok(all)
    }

    fn add(&mut self, leads: &Leads, block: Range<usize>, fitted: &Fitted) -> anyhow::Result<()> {
        let line = self.line(leads);
        let log_odds = fitted.log_odds(leads, &block.collect::<Vec<_>>())?;
        self.said.extend(log_odds.iter().map(|x| sigmoid(line.at(*x))));
        self.log_odds.extend(log_odds);
        Ok(())
    }

    fn end(&self) -> usize {
        self.start + self.said.len()
    }

    /// The recalibration of a model that is fitted on all these rows: by the newest `MATURED` of them.
    pub(super) fn line(&self, leads: &Leads) -> Line {
        let log_odds = &self.log_odds[self.log_odds.len().saturating_sub(MATURED)..];
        recalibration(log_odds, &leads.converted[self.end() - log_odds.len()..self.end()])
    }

    /// What was said of the newest rows.
    pub(super) fn newest(&self, count: usize) -> (Vec<usize>, &[f64]) {
        let said = &self.said[self.said.len().saturating_sub(count)..];
        ((self.end() - said.len()..self.end()).collect(), said)
    }
}

/// The newest rows before `end`.
pub(super) fn newest(end: usize, window: usize) -> Vec<usize> {
    (end.saturating_sub(window)..end).collect()
}

/// What the conversion rate of the newest `STEP` rows before each block of as many says of these consecutive rows.
pub(super) fn newest_rate(leads: &Leads, rows: &[usize]) -> Vec<f64> {
    let rate = |block: &[usize]| {
        let before = &leads.converted[block[0].saturating_sub(STEP)..block[0]];
        let converted = before.iter().filter(|converted| **converted).count() as f64;
        // Among so few, none does not say never.
        vec![(converted + 0.5) / (before.len() as f64 + 1.0); block.len()]
    };
    rows.chunks(STEP).flat_map(rate).collect()
}

/// How it is named in tables.
pub(super) const NEWEST_RATE: &str = "rate of the newest 500";

/// Whether what a nightly model would say is published, by rows that it had not seen: the candidate's figures, those of the
/// newest rate, and, if anything serves, the candidate's and its on the newest night. What serves has seen the rows before
/// that night.
///
/// Log-loss alone decides: it holds order and probabilities. Among a few hundred rows an AUC moves by 0.05 from one night to
/// the next; a gate on it kept 10 of 17 nights, and most of what retraining buys.
///
/// # Errors
/// Says what is worse.
pub(super) fn judge(
    candidate: &Figures,
    rate: &Figures,
    night: Option<[&Figures; 2]>,
    margin: f64,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        candidate.log_loss < rate.log_loss,
        "log-loss {:.4} on the newest rows is not better than the {:.4} of who only knows the {NEWEST_RATE}",
        candidate.log_loss,
        rate.log_loss
    );
    let Some([candidate, serving]) = night else { return Ok(()) };
    anyhow::ensure!(
        candidate.log_loss <= serving.log_loss + margin,
        "log-loss {:.4} on the newest night is worse than the serving version's {:.4} by more than {margin}",
        candidate.log_loss,
        serving.log_loss
    );
    Ok(())
}

/// The same later rows by a model that was left alone and night by night.
pub(super) struct Later {
    /// The first of the rows.
    pub first: usize,
    pub once: Figures,
    pub rate: Figures,
    /// Every night's model, whatever the gate said; not recalibrated, and recalibrated.
    pub unmoved: Figures,
    pub retrained: Figures,
    /// What served: the night's model where it was published, else the one before.
    pub served: Figures,
    pub said_once: Vec<f64>,
    pub said_served: Vec<f64>,
    pub nights: Vec<Night>,
}

/// What became of a night.
pub(super) struct Night {
    /// The first row it was for.
    pub row: usize,
    pub base_rate: f64,
    /// Log-loss on its rows: what served, and the newest rate.
    pub log_loss: [f64; 2],
    /// Shares of its leads at and above `LIMITS`: of a batch, and of leads that come one by one.
    pub above: [[f64; 2]; 2],
    /// Why the night's model was not published.
    pub kept: Option<String>,
}

/// How a night is judged.
#[derive(Clone, Copy)]
pub(super) struct Gate {
    /// Newest rows on which a candidate is held against what serves.
    pub holdout: usize,
    pub margin: f64,
}

/// The last rows by one model fitted on the first, and by nights of `STEP` rows, until `limit` is over.
pub(super) fn later(
    leads: &Leads,
    window: usize,
    gate: Gate,
    limit: Duration,
    progress: &Progress,
) -> anyhow::Result<Later> {
    let watch = Stopwatch::start();
    let first = (leads.len() as f64 * FIRST) as usize;
    progress.step("evaluating on later rows");
    let once = fit(leads, &(0..first).collect::<Vec<_>>())?;
    progress.step("evaluating with retraining");
    let mut unseen = OutOfTime::of(leads, first.saturating_sub(MATURED)..first, window, progress)?;
    let mut said_served = Vec::new();
    let mut serving: Option<Fitted> = None;
    let mut reference = Reference::new(&once.probabilities(leads, &newest(first, MATURED))?)?;
    let mut nights = Vec::new();
    while unseen.end() < leads.len() && (watch.elapsed() < limit || unseen.end() == first) {
        let block = unseen.end()..(unseen.end() + STEP).min(leads.len());
        progress.say(format!("evaluating with retraining, night {}", nights.len() + 1));
        let (rows, said) = unseen.newest(gate.holdout);
        let figures = |label, said: &[f64]| Figures::of(label, leads, &rows, said);
        let (night, said_of_night) = unseen.newest(STEP.min(gate.holdout));
        let now = serving.as_ref().unwrap_or(&once).probabilities(leads, &night)?;
        let of_night = |said: &[f64]| Figures::of("newest night", leads, &night, said);
        let verdict = judge(
            &figures("candidate", said),
            &figures(NEWEST_RATE, &newest_rate(leads, &rows)),
            Some([&of_night(said_of_night), &of_night(&now)]),
            gate.margin,
        );
        let fitted = fit_nightly(leads, &newest(block.start, window))?;
        let line = unseen.line(leads);
        let frozen = unseen.newest(MATURED).1.to_vec();
        unseen.add(leads, block.clone(), &fitted)?;
        if verdict.is_ok() {
            serving = Some(fitted.recalibrated(line));
            reference = Reference::new(&frozen)?;
        }
        let rows: Vec<usize> = block.clone().collect();
        let said = serving.as_ref().unwrap_or(&once).probabilities(leads, &rows)?;
        let night = Figures::of("", leads, &rows, &said);
        nights.push(Night {
            row: block.start,
            base_rate: night.base_rate,
            log_loss: [night.log_loss, Figures::of("", leads, &rows, &newest_rate(leads, &rows)).log_loss],
            above: reference.above(&said),
            kept: verdict.err().map(|why| why.to_string()),
        });
        said_served.extend(said);
    }
    let rows: Vec<usize> = (first..unseen.end()).collect();
    let figures = |label: &str, said: &[f64]| Figures::of(label, leads, &rows, said);
    let said_once = once.probabilities(leads, &rows)?;
    let note = if unseen.end() < leads.len() { ", stopped by the time limit" } else { "" };
    let of_nights = first - unseen.start;
    let unmoved: Vec<f64> = unseen.log_odds[of_nights..].iter().map(|x| sigmoid(*x)).collect();
    Ok(Later {
        first,
        once: figures("later, trained once", &said_once),
        rate: figures(&format!("later, {NEWEST_RATE}"), &newest_rate(leads, &rows)),
        unmoved: figures("later, retrained, not recalibrated", &unmoved),
        retrained: figures(&format!("later, retrained each {STEP} on {window}{note}"), &unseen.said[of_nights..]),
        served: figures("later, retrained behind the gate", &said_served),
        said_once,
        said_served,
        nights,
    })
}

/// Where leads stand, as the server keeps it: by a frozen population that is forgotten.
struct Reference {
    frozen: ScoreReference,
    batches: RollingPlaces,
    singles: RollingPlaces,
    balance: PriorityBalance,
    /// Single leads since the last block, and what they were given.
    waiting: Vec<(Probability, u8)>,
}

/// Single leads that come in at a time, as in the server.
const BLOCK: usize = 20;

impl Reference {
    fn new(said: &[f64]) -> anyhow::Result<Self> {
        let frozen = ScoreReference::of(said).ok_or_else(|| anyhow::anyhow!("no lead to compare with"))?;
        let places = RollingPlaces::default;
        let waiting = Vec::with_capacity(BLOCK);
        Ok(Self { frozen, batches: places(), singles: places(), balance: PriorityBalance::default(), waiting })
    }

    /// Shares at and above `LIMITS`, of these leads at once and one by one.
    fn above(&mut self, said: &[f64]) -> [[f64; 2]; 2] {
        let leads: Vec<Probability> = said.iter().filter_map(|p| Probability::clamped(*p)).collect();
        let Self { frozen, batches, singles, balance, waiting } = self;
        batches.take(&leads);
        let together: Vec<u8> = leads.iter().map(|lead| batches.priority(*lead, frozen.place(*lead))).collect();
        let mut one_by_one = Vec::with_capacity(leads.len());
        for lead in &leads {
            let priority = balance.priority(singles.passed(*lead, frozen.place(*lead)));
            one_by_one.push(priority);
            waiting.push((*lead, priority));
            if waiting.len() == BLOCK {
                balance.gave(waiting.iter().map(|(_, priority)| *priority));
                singles.take(&waiting.drain(..).map(|(lead, _)| lead).collect::<Vec<_>>());
            }
        }
        [together, one_by_one].map(|places| {
            LIMITS.map(|limit| places.iter().filter(|place| **place >= limit).count() as f64 / places.len() as f64)
        })
    }
}

/// AUC within groups, such as days: of all pairs of a row where it happened and one where it did not that are of one group, the
/// share in which the former was given more; ties count half. `NaN` when no group has both.
fn auc_within(groups: &[usize], happened: &[bool], said: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|row| groups[*row]);
    let mut pairs = 0.0;
    let mut right = 0.0;
    for group in order.chunk_by(|a, b| groups[*a] == groups[*b]) {
        let (happened, said): (Vec<bool>, Vec<f64>) = group.iter().map(|row| (happened[*row], said[*row])).unzip();
        let positives = happened.iter().filter(|happened| **happened).count();
        let own = (positives * (group.len() - positives)) as f64;
        if own > 0.0 {
            pairs += own;
            right += own * auc(&happened, &said);
        }
    }
    right / pairs
}

/// The figures as a table.
pub(super) fn table(figures: &[Figures]) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{:44}{:>7}{:>8}{:>8}{:>8}{:>8}{:>8}{:>10}{:>8}{:>16}{:>11}\n",
        "", "rows", "base", "said", "AUC", "in day", "ALIFT", "log-loss", "ECE", "by luck", "best half"
    );
    for f in figures {
        let _ = writeln!(
            text,
            "{:44}{:>7}{:>8.4}{:>8.4}{:>8.4}{:>8.4}{:>8.4}{:>10.4}{:>8.4}{:>16}{:>10.1}%",
            f.label,
            f.rows,
            f.base_rate,
            f.said,
            f.auc,
            f.auc_within,
            f.alift,
            f.log_loss,
            f.ece,
            format!("{:.4}-{:.4}", f.ece_luck.low, f.ece_luck.high),
            f.best_half * 100.0
        );
    }
    text
}

/// The nights as a table.
pub(super) fn nights(nights: &[Night]) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{:>9}{:>8}{:>10}{:>14}{:>22}{:>22}  \n",
        "night at", "base", "log-loss", NEWEST_LOSS, ">= 70, 80 in a batch", "and one by one"
    );
    for night in nights {
        let [[batch_70, batch_80], [single_70, single_80]] = night.above.map(|shares| shares.map(|it| it * 100.0));
        let _ = writeln!(
            text,
            "{:>9}{:>8.3}{:>10.4}{:>14.4}{:>12.1} %{:>5.1} %{:>12.1} %{:>5.1} %  {}",
            night.row,
            night.base_rate,
            night.log_loss[0],
            night.log_loss[1],
            batch_70,
            batch_80,
            single_70,
            single_80,
            night.kept.as_ref().map_or_else(|| "published".to_owned(), |why| format!("kept: {why}"))
        );
    }
    text
}

const NEWEST_LOSS: &str = "newest rate's";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_computed_by_hand() {
        let happened = [true, false, true, false];
        let figures = Figures::measured("x", &[0, 0, 1, 1], &happened, &[0.8, 0.4, 0.2, 0.1]);
        // Pairs in order: 0.8 beats both, 0.2 beats 0.1 only: 3 of 4. Within a day both pairs are in order.
        assert!((figures.auc - 0.75).abs() < 1e-12 && (figures.auc_within - 1.0).abs() < 1e-12);
        assert!((figures.alift - (0.25 + 0.5 * 0.75)).abs() < 1e-12);
        let log_loss = -(0.8_f64.ln() + 0.6_f64.ln() + 0.2_f64.ln() + 0.9_f64.ln()) / 4.0;
        assert!((figures.log_loss - log_loss).abs() < 1e-12);
        assert!((figures.best_half - 0.5).abs() < 1e-12);
        assert!((in_best_half(&[true, true, false, false], &[0.5; 4]) - 1.0).abs() < 1e-12, "half of the two");
        assert!(table(&[figures]).lines().count() == 2);
    }

    #[test]
    fn pairs_of_different_groups_do_not_count() {
        let happened = [true, false, true, false, false];
        // Day 1: right. Day 2: one of its two pairs. Day 3 has nobody who bought.
        let said = [0.2, 0.1, 0.5, 0.4, 0.6];
        assert!((auc_within(&[1, 1, 2, 2, 2], &happened, &said) - 2.0 / 3.0).abs() < 1e-12);
        assert!((auc_within(&[2, 2, 1, 1, 3], &happened, &said) - 1.0).abs() < 1e-12);
        assert!(auc_within(&[1, 2, 3, 4, 5], &happened, &said).is_nan());
    }

    #[test]
    fn a_night_is_not_published_when_the_newest_rate_says_as_much() {
        let figures = |log_loss| Figures { log_loss, ..Figures::measured("", &[0, 0], &[true, false], &[0.6, 0.4]) };
        let [good, poor, rate] = [0.30, 0.96, 0.68].map(figures);
        assert!(judge(&good, &rate, None, 0.02).is_ok());
        assert!(judge(&poor, &rate, None, 0.02).expect_err("refused").to_string().contains("0.9600"));
        assert!(judge(&rate, &rate, None, 0.02).is_err(), "as good is not better");
        let worse = |serving| judge(&good, &rate, Some([&good, &serving]), 0.02).expect_err("refused").to_string();
        assert!(worse(figures(0.27)).contains("log-loss 0.3000"));
        assert!(judge(&good, &rate, Some([&good, &figures(0.29)]), 0.02).is_ok());
    }
}
