//! What a report shows of a model that predicts an event: a lead that buys.

use crate::packing::html::data::{Histogram, OverTime, ReportData};
use crate::packing::html::measured;
use crate::packing::html::svg::Unit;
use crate::packing::metrics;

/// Ranks run from 1 to 100; a bar for each so many.
const RANKS_A_BAR: usize = 5;

/// Rows that were not fitted on, in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scored {
    /// What the event is called, e.g. `sale`.
    pub event: String,
    pub happened: Vec<bool>,
    pub probability: Vec<f64>,
    /// The rank 1 to 100 of each row in the reference population; empty without one.
    pub rank: Vec<f64>,
    /// Names of the blocks of time, the oldest first, and the block of each row; empty without an order.
    pub blocks: Vec<String>,
    pub block: Vec<usize>,
    /// Other scores of the same rows to compare over time: a name, and a score for each row, `NaN` for none.
    pub others: Vec<(String, Vec<f64>)>,
}

/// Gain curve, reliability, ranks and AUC over time.
pub fn report(scored: &Scored) -> ReportData {
    let Scored { event, happened, probability, rank, blocks, block, others } = scored;
    let outcome: Vec<f64> = happened.iter().map(|is| f64::from(u8::from(*is))).collect();
    let mut lines = vec![("this model".to_owned(), auc_by_block(happened, probability, block, blocks.len()))];
    lines.extend(others.iter().map(|(name, score)| (name.clone(), auc_by_block(happened, score, block, blocks.len()))));
    let over_time = OverTime {
        title: "AUC over time".to_owned(),
        axis: "AUC".to_owned(),
        unit: Unit::Number,
        blocks: blocks.clone(),
        lines,
        note: "A block in which the event always or never happened has no AUC.".to_owned(),
    };
    ReportData {
        gain: Some(measured::gain(event, &outcome, probability)),
        reliability: vec![measured::reliability(&format!("Probability of {event}"), event, happened, probability)],
        histograms: if rank.is_empty() { Vec::new() } else { vec![ranks(rank)] },
        over_time: if blocks.is_empty() { Vec::new() } else { vec![over_time] },
        ..ReportData::default()
    }
}

/// `NaN` for a block without both outcomes.
fn auc_by_block(happened: &[bool], score: &[f64], block: &[usize], blocks: usize) -> Vec<f64> {
    let auc = |number: usize| {
        let members = (0..happened.len()).filter(|row| block[*row] == number && score[*row].is_finite());
        let (happened, score): (Vec<bool>, Vec<f64>) = members.map(|row| (happened[row], score[row])).unzip();
        // Without positives or negatives this divides by zero.
        metrics::auc(&happened, &score)
    };
    (0..blocks).map(auc).collect()
}

/// Flat when the leads are like the reference population.
fn ranks(rank: &[f64]) -> Histogram {
    let mut shares = vec![0.0; 100 / RANKS_A_BAR];
    for one in rank {
        shares[(one.clamp(1.0, 100.0) as usize - 1) / RANKS_A_BAR] += 1.0 / rank.len() as f64;
    }
    Histogram {
        title: "Rank in the reference population".to_owned(),
        axis: "rank, 100 is the best".to_owned(),
        unit: Unit::Number,
        edges: (0..=shares.len()).map(|bar| (bar * RANKS_A_BAR) as f64).collect(),
        shares,
        above: 0.0,
        note: "Flat when the leads are like the reference population.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_report_has_its_four_pictures() {
        let n = 400;
        let probability: Vec<f64> = (0..n).map(|row| (row % 100) as f64 / 100.0).collect();
        let happened: Vec<bool> = (0..n).map(|row| row % 100 > 40 + 30 * (row / 200) && row % 3 != 0).collect();
        let late = (0..n).map(|row| if row < 200 { f64::NAN } else { probability[row] }).collect();
        let scored = Scored {
            event: "sale".into(),
            rank: probability.iter().map(|p| (p * 100.0).ceil().max(1.0)).collect(),
            happened,
            probability,
            blocks: vec!["first".into(), "second".into()],
            block: (0..n).map(|row| row / 200).collect(),
            others: vec![("fitted once".into(), late)],
        };
        let data = report(&scored);
        assert!((data.histograms[0].shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let lines = &data.over_time[0].lines;
        assert!(lines[0].1.iter().all(|auc| (0.7..1.0).contains(auc)), "{lines:?}");
        assert!(lines[1].1[0].is_nan() && lines[1].1[1] == lines[0].1[1], "{lines:?}");
        let page = crate::packing::html::page(&data);
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(!page.contains("NaN"));
    }
}
