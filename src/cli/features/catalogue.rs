//! `scoreline features catalogue`: the features scoreline computes by name.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::super::{Failure, print};
use scoreline_domain::Catalogued;
use scoreline_domain::feature::{CATALOGUE, FeatureOrigin};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  scoreline features catalogue\n  scoreline features catalogue --format json")]
pub(in crate::cli) struct Catalogue {
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

impl Catalogue {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.format {
            Format::Table => print(&table()),
            Format::Json => print(&(serde_json::to_string_pretty(&json())? + "\n")),
        }
    }
}

/// One feature a paragraph: the rules are sentences, and columns of sentences cannot be read.
fn table() -> String {
    let mut text = String::new();
    for feature in CATALOGUE {
        let kind = if feature.whole { ", whole" } else { "" };
        let _ = writeln!(text, "{}  {}{kind}, {}", feature.name, feature.unit, range(feature));
        let _ = writeln!(text, "    meaning  {}", feature.meaning);
        let _ = writeln!(text, "    as of    {}", feature.as_of);
        let _ = writeln!(text, "    group    {}", feature.group.as_str());
    }
    text
}

fn json() -> Value {
    let bound = |value: f64| if value.abs() < f64::MAX { json!(value) } else { Value::Null };
    CATALOGUE
        .iter()
        .map(|feature| {
            json!({
                "name": feature.name,
                "unit": feature.unit,
                "lowest": bound(feature.lowest),
                "highest": bound(feature.highest),
                "whole": feature.whole,
                "group": feature.group.as_str(),
                "origin": origin(feature.origin),
                "as_of": feature.as_of,
                "meaning": feature.meaning,
            })
        })
        .collect()
}

fn range(feature: &Catalogued) -> String {
    match (feature.lowest > -f64::MAX, feature.highest < f64::MAX) {
        (true, true) => format!("{} to {}", feature.lowest, feature.highest),
        (true, false) => format!(">= {}", feature.lowest),
        (false, true) => format!("<= {}", feature.highest),
        (false, false) => "any number".to_owned(),
    }
}

fn origin(origin: FeatureOrigin) -> &'static str {
    match origin {
        FeatureOrigin::Interactions => "interactions",
        FeatureOrigin::Purchases => "purchases",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_its_rule_in_both_forms() {
        let (text, json) = (table(), json());
        assert_eq!(json.as_array().map(Vec::len), Some(CATALOGUE.len()));
        for feature in CATALOGUE {
            assert!(text.contains(feature.name) && text.contains(feature.as_of), "{}", feature.name);
        }
        assert!(text.contains("sentiment_score_avg  score, -1 to 1\n"), "{text}");
        assert!(text.contains("frequency_count  count, whole, 0 to 1000000000\n"), "{text}");
        assert!(text.contains("sentiment_trend_slope  score per 30 days, any number\n"), "{text}");
        assert_eq!(json[0]["highest"], Value::Null);
    }
}
