//! How good the recipe is in three ways: on rows like those it was fitted on, on later rows without any retraining, and
//! on later rows when it is retrained as a nightly job would.

use std::time::Duration;

use scoreline::packing::metrics::{auc, calibration_error};
use scoreline::packing::report::Progress;
use scoreline::packing::split::mix;
use scoreline_domain::time::Stopwatch;

use super::data::Leads;
use super::recipe::{Fitted, fit};

/// Folds of the evaluation on like rows.
const FOLDS: u64 = 5;
/// Share of the rows, oldest first, that the evaluations on later rows are trained on at first.
const FIRST: f64 = 0.7;
/// Later rows scored between two retrainings.
const STEP: usize = 500;

/// Figures on rows that were not fitted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    pub label: String,
    pub rows: usize,
    /// Share that converted, and the mean probability said.
    pub base_rate: f64,
    pub said: f64,
    pub auc: f64,
    /// Area under the cumulative gain curve: p / 2 + (1 - p) AUC (Moro, Cortez & Rita 2014).
    pub alift: f64,
    pub log_loss: f64,
    /// Ten bins of equal mass.
    pub ece: f64,
    /// Converted leads in the better half by score, as a share of all converted ones.
    pub best_half: f64,
}

impl Figures {
    pub(super) fn of(label: &str, happened: &[bool], said: &[f64]) -> Self {
        let n = happened.len() as f64;
        let positives = happened.iter().filter(|happened| **happened).count() as f64;
        let base_rate = positives / n;
        let auc = auc(happened, said);
        let losses = happened.iter().zip(said).map(|(happened, p)| {
            let p = p.clamp(1e-12, 1.0 - 1e-12);
            if *happened { -p.ln() } else { -(1.0 - p).ln() }
        });
        let mut order: Vec<usize> = (0..happened.len()).collect();
        order.sort_by(|a, b| said[*b].total_cmp(&said[*a]));
        let best = order[..order.len() / 2].iter().filter(|row| happened[**row]).count() as f64;
        Self {
            label: label.to_owned(),
            rows: happened.len(),
            base_rate,
            said: said.iter().sum::<f64>() / n,
            auc,
            alift: base_rate / 2.0 + (1.0 - base_rate) * auc,
            log_loss: losses.sum::<f64>() / n,
            ece: calibration_error(happened, said),
            best_half: best / positives,
        }
    }
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

/// The last rows by one model fitted on the first, and by models refitted on the newest `window` rows every `STEP`
/// rows, until `limit` is over. The two rows of figures are on the same leads.
pub(super) fn later(leads: &Leads, window: usize, limit: Duration, progress: &Progress) -> anyhow::Result<Later> {
    let watch = Stopwatch::start();
    let first = (leads.len() as f64 * FIRST) as usize;
    progress.step("evaluating on later rows");
    let once: Fitted = fit(leads, &(0..first).collect::<Vec<_>>())?;
    progress.step("evaluating with retraining");
    let mut said = Vec::new();
    let mut end = first;
    while end < leads.len() && (watch.elapsed() < limit || end == first) {
        let next: Vec<usize> = (end..(end + STEP).min(leads.len())).collect();
        let newest: Vec<usize> = (end.saturating_sub(window)..end).collect();
        said.extend(fit(leads, &newest)?.probabilities(leads, &next)?);
        end += next.len();
    }
    let rows: Vec<usize> = (first..end).collect();
    let happened = leads.outcomes(&rows);
    let trained_once = once.probabilities(leads, &rows)?;
    let note = if end < leads.len() { ", stopped by the time limit" } else { "" };
    Ok(Later {
        first,
        once: Figures::of("later, trained once", &happened, &trained_once),
        retrained: Figures::of(&format!("later, retrained each {STEP} on {window}{note}"), &happened, &said),
        said_once: trained_once,
        said_retrained: said,
    })
}

/// The same later rows by a model that was left alone and by models that were retrained.
pub(super) struct Later {
    /// The first of the rows.
    pub first: usize,
    pub once: Figures,
    pub retrained: Figures,
    pub said_once: Vec<f64>,
    pub said_retrained: Vec<f64>,
}

/// The figures as a table.
pub(super) fn table(figures: &[Figures]) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{:44}{:>7}{:>8}{:>8}{:>8}{:>8}{:>10}{:>8}{:>11}\n",
        "", "rows", "base", "said", "AUC", "ALIFT", "log-loss", "ECE", "best half"
    );
    for f in figures {
        let _ = writeln!(
            text,
            "{:44}{:>7}{:>8.4}{:>8.4}{:>8.4}{:>8.4}{:>10.4}{:>8.4}{:>10.1}%",
            f.label,
            f.rows,
            f.base_rate,
            f.said,
            f.auc,
            f.alift,
            f.log_loss,
            f.ece,
            f.best_half * 100.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_computed_by_hand() {
        let happened = [true, false, true, false];
        let figures = Figures::of("x", &happened, &[0.8, 0.4, 0.2, 0.1]);
        // Pairs in order: 0.8 beats both, 0.2 beats 0.1 only: 3 of 4.
        assert!((figures.auc - 0.75).abs() < 1e-12);
        assert!((figures.alift - (0.25 + 0.5 * 0.75)).abs() < 1e-12);
        let log_loss = -(0.8_f64.ln() + 0.6_f64.ln() + 0.2_f64.ln() + 0.9_f64.ln()) / 4.0;
        assert!((figures.log_loss - log_loss).abs() < 1e-12);
        assert!((figures.best_half - 0.5).abs() < 1e-12);
        assert!(table(&[figures]).lines().count() == 2);
    }
}
