//! Where a schema's features stand in a stored row, which has every feature of the catalogue.

use super::FeatureRule;
use scoreline_domain::feature::CATALOGUE;

/// For each feature of a schema its position in the catalogue; `None` for one that the catalogue does not know or that
/// is a category here.
pub(super) fn stored(rules: &[FeatureRule]) -> Vec<Option<usize>> {
    let has = |name: &str| rules.iter().any(|rule| rule.name == name);
    // In a stored row `recency_days` is that of the last interaction; a purchase model means the last purchase by it.
    let is_purchase_model = has("purchase_count") && !has("frequency_count") && !has("purchase_recency_days");
    let position = |rule: &FeatureRule| {
        let name = match rule.name.as_str() {
            "recency_days" if is_purchase_model => "purchase_recency_days",
            name => name,
        };
        CATALOGUE.iter().position(|feature| feature.name == name).filter(|_| rule.categories.is_empty())
    };
    rules.iter().map(position).collect()
}
