//! Finding contacts of a list by their columns.

use std::cmp::Ordering;

use serde::Deserialize;
use serde_json::json;

use super::ListContact;
use crate::answer::{Answer, ReceivedCall, Refusal};
use crate::world::World;
use scoreline_domain::time::Timestamp;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    criteria: Option<Criteria>,
    page_number: usize,
    page_size: usize,
    #[serde(default)]
    contact_sorts: Vec<Sort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sort {
    field_name: String,
    #[serde(default)]
    direction: Direction,
    #[serde(default)]
    numeric: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Direction {
    #[default]
    Asc,
    Desc,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Criteria {
    #[serde(default)]
    clauses: Vec<Clause>,
    #[serde(default)]
    filter_type: Join,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Clause {
    #[serde(default)]
    filter_type: Join,
    #[serde(default)]
    predicates: Vec<Predicate>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Join {
    #[default]
    And,
    Or,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    column: String,
    #[serde(default)]
    column_type: ColumnType,
    operator: Operator,
    #[serde(default)]
    value: String,
    #[serde(default)]
    inverted: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ColumnType {
    Numeric,
    #[default]
    Alphabetic,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Operator {
    Equals,
    LessThan,
    LessThanEquals,
    GreaterThan,
    GreaterThanEquals,
    Contains,
    BeginsWith,
    EndsWith,
    Before,
    After,
}

impl Join {
    fn holds(self, mut parts: impl Iterator<Item = bool>) -> bool {
        match self {
            Self::And => parts.all(|holds| holds),
            Self::Or => parts.any(|holds| holds),
        }
    }
}

impl Criteria {
    pub(super) fn holds(&self, contact: &ListContact, now: i64) -> bool {
        let clause = |clause: &Clause| {
            clause.filter_type.holds(clause.predicates.iter().map(|predicate| predicate.holds(contact, now)))
        };
        self.clauses.is_empty() || self.filter_type.holds(self.clauses.iter().map(clause))
    }
}

impl Predicate {
    fn holds(&self, contact: &ListContact, now: i64) -> bool {
        let own = contact.data.get(&self.column).map_or("", String::as_str);
        let order = match self.column_type {
            ColumnType::Numeric => match (own.parse::<f64>(), self.value.parse::<f64>()) {
                (Ok(own), Ok(value)) => own.partial_cmp(&value),
                (Ok(_) | Err(_), Ok(_) | Err(_)) => None,
            },
            ColumnType::Alphabetic => Some(own.cmp(&self.value)),
        };
        let dated = || own.parse::<Timestamp>().ok().zip(moment(&self.value, now)).map(|(own, value)| own.cmp(&value));
        let holds = match self.operator {
            Operator::Equals => order == Some(Ordering::Equal),
            Operator::LessThan => order == Some(Ordering::Less),
            Operator::LessThanEquals => order.is_some_and(Ordering::is_le),
            Operator::GreaterThan => order == Some(Ordering::Greater),
            Operator::GreaterThanEquals => order.is_some_and(Ordering::is_ge),
            Operator::Contains => own.contains(&self.value),
            Operator::BeginsWith => own.starts_with(&self.value),
            Operator::EndsWith => own.ends_with(&self.value),
            Operator::Before => dated() == Some(Ordering::Less),
            Operator::After => dated() == Some(Ordering::Greater),
        };
        holds != self.inverted
    }
}

/// A date, or one relative to now in the platform's form: `P-01DT00H00M` is a day ago.
fn moment(text: &str, now: i64) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    let (days, time) = text.strip_prefix('P')?.split_once("DT")?;
    let (hours, minutes) = time.strip_suffix('M')?.split_once('H')?;
    let number = |text: &str| text.parse::<i64>().ok();
    // A sign stands before each number that is not nothing.
    let sign = if text.contains('-') { -1 } else { 1 };
    let minutes = (number(days)?.abs() * 24 + number(hours)?.abs()) * 60 + number(minutes)?.abs();
    Timestamp::from_millisecond(now + sign * minutes * 60_000).ok()
}

/// `POST …/contacts/search`.
pub(crate) fn search(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let search: Search = call.json()?;
    if search.page_size == 0 || search.page_size > 100 || search.page_number == 0 {
        return Err(Refusal::bad("pageSize must be within 1 and 100, pageNumber at least 1"));
    }
    let mut inner = world.lists(call);
    let list = inner.list(call.parameter(0))?;
    let holds = |contact: &&ListContact| search.criteria.as_ref().is_none_or(|all| all.holds(contact, call.now));
    let mut found: Vec<&ListContact> = list.contacts.values().filter(holds).collect();
    for sort in search.contact_sorts.iter().rev() {
        let text = |contact: &ListContact| contact.data.get(&sort.field_name).cloned().unwrap_or_default();
        found.sort_by(|a, b| {
            let (a, b) = (text(a), text(b));
            let order = if sort.numeric {
                let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NEG_INFINITY);
                number(&a).total_cmp(&number(&b))
            } else {
                a.cmp(&b)
            };
            match sort.direction {
                Direction::Asc => order,
                Direction::Desc => order.reverse(),
            }
        });
    }
    let page: Vec<_> = found.iter().skip((search.page_number - 1) * search.page_size).take(search.page_size).collect();
    Ok(Answer::json(&json!({
        "entities": page,
        "pageSize": search.page_size,
        "pageNumber": search.page_number,
        "pageCount": found.len().div_ceil(search.page_size),
        "total": found.len(),
        "contactsCount": list.contacts.len(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_dates_are_read() {
        let now = 1_795_000_000_000;
        let ago = |text| moment(text, now).map(|at| (now - at.as_millisecond()) / 60_000);
        assert_eq!(ago("P-01DT00H00M"), Some(1440));
        assert_eq!(ago("P-00DT02H30M"), Some(150));
        assert_eq!(ago("P00DT-02H-30M"), Some(150));
        assert_eq!(ago("yesterday"), None);
    }
}
