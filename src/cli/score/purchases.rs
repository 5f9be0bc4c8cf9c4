//! `--purchases`: a purchase log, one line per purchase, folded into one row per customer as of a day.
//!
//! The fold is the one that training uses. Purchases may come in any order, so they are all held in memory until the
//! last one is read: 32 bytes each, beside every customer's identifier once.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow_schema::{DataType, Field, Schema};
use jiff::civil::Date;

use super::chunk::{CHUNK_ROWS, Cell, Chunk};
use super::draw::{InputRow, column_names, shown};
use super::source::{Input, Layout, Length, Source, plain};
use scoreline_domain::{Purchase, PurchaseFault, PurchaseText};
use scoreline_engine::features::purchases::{PurchaseFeatures, PurchaseHistory};
use scoreline_engine::features::{FeatureSchema, Value};

pub(in crate::cli) const CUSTOMER: &str = "customer_id";
const DATE: &str = "date";
const AMOUNT: [&str; 3] = ["amount", "dollar_value", "amount_usd"];
const ITEMS: [&str; 2] = ["items", "number_of_cds"];
const ITEMS_FEATURE: &str = "items_count";
const COUNT_FEATURE: &str = "purchase_count";
/// The name of a purchase model's recency in a model that also reads interactions.
const RECENCY_BESIDE_INTERACTIONS: &str = "purchase_recency_days";

/// One customer's purchases, folded.
pub(in crate::cli) struct Customer {
    id: String,
    /// Why there are no features to score.
    fault: Option<String>,
    /// By name; empty for a customer who had not bought anything by the day.
    features: Vec<(&'static str, Option<f64>)>,
}

impl Customer {
    pub(super) fn cells(&self, columns: &[String]) -> Vec<Cell> {
        let cell = |column: &String| {
            if column == CUSTOMER {
                return Cell::Text(self.id.clone());
            }
            match self.features.iter().find(|(name, _)| name == column) {
                Some((_, value)) => value.map_or(Cell::Absent, |value| Cell::Literal(value.to_string())),
                None if column == COUNT_FEATURE && self.fault.is_none() => Cell::Literal("0".to_owned()),
                None => Cell::Absent,
            }
        };
        columns.iter().map(cell).collect()
    }

    pub(super) fn draw(&self, names: &[String], raw: &mut [f64], row: &mut InputRow) {
        row.fault.clone_from(&self.fault);
        row.without_history = self.features.is_empty();
        for (name, slot) in names.iter().zip(raw) {
            if let Some((_, Some(value))) = self.features.iter().find(|(feature, _)| feature == name) {
                *slot = *value;
            }
        }
    }
}

/// Reads the whole log and folds it.
///
/// # Errors
/// When a column of the log is missing or the log cannot be read. What is wrong with a purchase is the fault of its
/// customer's row.
pub(super) fn fold(log: Input, as_of: Date, schema: &FeatureSchema, tick: impl Fn(usize)) -> anyhow::Result<Input> {
    let Input { layout, mut rows, .. } = log;
    let places = Places::find(&layout)?;
    let columns = layout.columns;
    let beside_interactions = schema.position(RECENCY_BESIDE_INTERACTIONS).is_some();
    let names = names(beside_interactions, places.items.is_some());

    let mut ledger = PurchaseLedger::default();
    let mut number = 0_u64;
    while let Some(chunk) = rows.next()? {
        for cells in chunk.cells(&columns)? {
            number += 1;
            ledger.enter(&places, &cells, number);
        }
        tick(chunk.rows());
    }
    if ledger.accounts.is_empty() {
        bail!("the purchase log has no rows");
    }
    let total = ledger.accounts.len() as u64;
    let source =
        Folded { accounts: ledger.accounts.into_iter(), as_of, beside_interactions, items: places.items.is_some() };
    let columns = [CUSTOMER].iter().chain(&names).map(|name| (*name).to_owned()).collect();
    let numbers = names.iter().map(|name| Field::new(*name, DataType::Float64, true));
    let fields: Vec<_> = std::iter::once(Field::new(CUSTOMER, DataType::Utf8, true)).chain(numbers).collect();
    let layout = Layout { columns, schema: Some(Arc::new(Schema::new(fields))) };
    Ok(Input { layout, rows: Box::new(source), length: Length::Rows(total) })
}

/// Names of the folded columns.
fn names(beside_interactions: bool, items: bool) -> Vec<&'static str> {
    let mut history = PurchaseHistory::as_of(Date::MIN);
    let purchase = Purchase { date: Date::MIN, amount_usd: 0.0, items: None };
    let features = history.add(&purchase).ok().and_then(|()| history.features());
    features
        .map(|features| named(&features, beside_interactions, items))
        .unwrap_or_default()
        .iter()
        .map(|f| f.0)
        .collect()
}

fn named(features: &PurchaseFeatures, beside_interactions: bool, items: bool) -> Vec<(&'static str, Option<f64>)> {
    let named = if beside_interactions { features.named_beside_interactions() } else { features.named() };
    // A log without items says nothing about them: not known is not zero.
    named.into_iter().filter(|(name, _)| items || *name != ITEMS_FEATURE).collect()
}

/// Columns of the log.
pub(in crate::cli) struct Places {
    pub(in crate::cli) customer: usize,
    date: usize,
    amount: usize,
    pub(in crate::cli) items: Option<usize>,
    amount_name: String,
}

impl Places {
    /// # Errors
    /// Names the columns there are and the one that is missing, and a column of customers that lost their digits.
    pub(in crate::cli) fn find(layout: &Layout) -> anyhow::Result<Self> {
        let columns = &layout.columns;
        let find = |names: &[&str]| columns.iter().position(|column| names.contains(&column.as_str()));
        let need = |names: &[&str]| {
            find(names).with_context(|| {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                format!("a purchase log needs a column {}; the input has {}", names.join(" or "), column_names(columns))
            })
        };
        let amount = need(&AMOUNT)?;
        let customer = need(&[CUSTOMER])?;
        if let Some(schema) = &layout.schema {
            let kind = schema.field(customer).data_type();
            if plain(kind).is_floating() {
                bail!(
                    "column `{CUSTOMER}` is of type {kind}, in which the digits of an identifier are not kept: write \
                     texts or whole numbers"
                );
            }
        }
        Ok(Self { customer, date: need(&[DATE])?, amount, items: find(&ITEMS), amount_name: columns[amount].clone() })
    }
}

/// The customer that a line is about, as every other way in reads an identifier.
///
/// # Errors
/// When there is none, or it is a value that does not keep the digits of an identifier.
pub(in crate::cli) fn customer<'c>(places: &Places, cells: &'c [Cell]) -> Result<&'c str, String> {
    match &cells[places.customer] {
        Cell::Text(text) if !Value::Text(text).is_empty() => Ok(text.trim()),
        Cell::Text(_) | Cell::Absent => Err(format!("`{CUSTOMER}` is missing")),
        Cell::Literal(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(digits),
        Cell::Literal(_) => Err(format!("`{CUSTOMER}` must be a text or a whole number")),
    }
}

/// Customers in the order they first appear.
#[derive(Default)]
struct PurchaseLedger {
    accounts: Vec<Account>,
    by_id: HashMap<String, usize>,
}

struct Account {
    id: String,
    purchases: Vec<Purchase>,
    fault: Option<String>,
}

impl PurchaseLedger {
    fn enter(&mut self, places: &Places, cells: &[Cell], number: u64) {
        let id = match customer(places, cells) {
            Ok(id) => id,
            Err(problem) => {
                // Nobody's purchase: a row of its own, so that it is seen.
                let fault = Some(format!("row {number}: {problem}"));
                self.accounts.push(Account { id: String::new(), purchases: Vec::new(), fault });
                return;
            }
        };
        let position = self.by_id.get(id).copied().unwrap_or_else(|| {
            let account = Account { id: id.to_owned(), purchases: Vec::new(), fault: None };
            self.accounts.push(account);
            self.by_id.insert(id.to_owned(), self.accounts.len() - 1);
            self.accounts.len() - 1
        });
        let account = &mut self.accounts[position];
        match purchase(places, cells) {
            Ok(purchase) => account.purchases.push(purchase),
            Err(problem) if account.fault.is_none() => account.fault = Some(format!("row {number}: {problem}")),
            Err(_) => {}
        }
    }
}

/// One line of the log.
///
/// # Errors
/// Names the column and what is allowed there.
pub(in crate::cli) fn purchase(places: &Places, cells: &[Cell]) -> Result<Purchase, String> {
    let text = |column: usize| cells[column].as_text().trim();
    let items = places.items.map(text);
    let line = PurchaseText { date: text(places.date), amount: text(places.amount), items };
    Purchase::read(&line).map_err(|PurchaseFault { field, problem }| {
        let (name, got) = match field {
            DATE => (DATE, line.date),
            "amount" => (&*places.amount_name, line.amount),
            other => (other, items.unwrap_or_default()),
        };
        format!("`{name}` {problem}, got `{}`", shown(got))
    })
}

struct Folded {
    accounts: std::vec::IntoIter<Account>,
    as_of: Date,
    beside_interactions: bool,
    items: bool,
}

impl Source for Folded {
    fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let accounts: Vec<_> = self.accounts.by_ref().take(CHUNK_ROWS).collect();
        let customers: Vec<_> = accounts.into_iter().map(|account| self.close(account)).collect();
        Ok((!customers.is_empty()).then_some(Chunk::Customers(customers)))
    }
}

impl Folded {
    fn close(&self, mut account: Account) -> Customer {
        let folded = match account.fault {
            Some(fault) => Err(fault),
            None => PurchaseHistory::from_unsorted(self.as_of, &mut account.purchases).map_err(|err| err.to_string()),
        };
        let (fault, features) = match folded {
            Ok(history) => (None, history.features()),
            Err(fault) => (Some(fault), None),
        };
        let features = features.map(|features| named(&features, self.beside_interactions, self.items));
        Customer { id: account.id, fault, features: features.unwrap_or_default() }
    }
}
