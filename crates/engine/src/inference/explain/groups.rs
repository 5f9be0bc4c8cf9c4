//! Shapley values of groups of features, over hypothetical customers.
//!
//! A hypothetical customer has some groups from the customer and the others from the typical customer. What follows from
//! features (a total from average and count) follows anew, and so does every derived column: no row is asked about that
//! nobody could be. A group's share is exact in the unit that is served, so that it cannot contradict what changing all
//! its features does: where every such change raises the answer, the share is above zero.
//!
//! Members of a group share what it did by their Owen value (Owen 1977): Shapley's formula over the groups outside and
//! over the members inside. It sums to the group's share. Where there are too many subsets, the backend's split over
//! columns stands in, settled to that share.

use smallvec::SmallVec;

use super::sampling::{differ, shapley, weights};
use super::{Budget, Method, Question, Shares, Unexplained, settle};
use crate::features::{FeatureSchema, Row};
use crate::inference::backend::FeatureMatrix;
use crate::inference::engine::Engine;

/// Most groups of which every subset is asked: 1,024 answers.
const MOST_GROUPS: usize = 10;
/// Most hypothetical customers that are asked about for members.
const MOST_ROWS: usize = 8192;

/// What is to be explained: what a model says of one customer.
#[derive(Clone, Copy)]
pub struct CustomerQuestion<'a> {
    pub schema: &'a FeatureSchema,
    pub engine: &'a Engine,
    /// Which of the model's outputs, and what becomes of it until it is served.
    pub output: usize,
    pub served: &'a (dyn Fn(f64) -> f64 + Sync),
    /// Raw values in schema order; `NaN` is missing.
    pub raw: &'a [f64],
    /// Whether what each member of a group did is wanted too.
    pub members: bool,
    pub budget: Budget,
}

/// An answer's difference from the typical customer's, split over groups: `value - base` is the sum of their amounts, up
/// to rounding.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupShares {
    pub base: f64,
    pub value: f64,
    pub method: Method,
    /// Groups in which the customer differs, in the order of the schema.
    pub groups: Vec<GroupShare>,
}

/// What one group did.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupShare {
    /// Position among the schema's groups.
    pub group: usize,
    pub amount: f64,
    /// The feature, by position, that by itself goes furthest the way of the group.
    pub leading: usize,
    /// What each feature in which the customer differs did, by position; the sum is `amount`. Empty when not asked for.
    pub members: Vec<(usize, f64)>,
}

/// Explains a customer's answer by groups of features.
///
/// # Errors
/// When the budget ends first, the model cannot be run, or an answer is not a finite number.
pub async fn explain(question: CustomerQuestion<'_>) -> Result<GroupShares, Unexplained> {
    let between = Between::new(question);
    let count = between.players.len();
    let split = match between.split().await? {
        Some(split) => split,
        None => between.by_rows(|column| between.owners(column), count).await?,
    };
    let leading = between.leading(&split).await?;
    let (base, value, amounts, method) = split;
    let mut groups: Vec<GroupShare> = (0..count)
        .map(|player| GroupShare {
            group: between.players[player].group,
            amount: amounts[player],
            leading: leading[player],
            members: Vec::new(),
        })
        .collect();
    if question.members {
        between.split_members(&mut groups, method).await?;
    }
    Ok(GroupShares { base, value, method, groups })
}

/// Base, value, each group's amount, and how it was found.
type Split = (f64, f64, Vec<f64>, Method);

/// The hypothetical customers between the typical one and this one.
struct Between<'a> {
    question: CustomerQuestion<'a>,
    row: Row,
    typical: Row,
    /// Features whose value follows from others: nobody's, made anew for every row.
    following: SmallVec<[usize; 4]>,
    players: Vec<Player>,
    /// Whether a column is made from features of several groups.
    crosses: bool,
}

/// A group with the features in which the customer differs, by position.
struct Player {
    group: usize,
    members: Vec<usize>,
}

impl<'a> Between<'a> {
    fn new(question: CustomerQuestion<'a>) -> Self {
        let CustomerQuestion { schema, raw, .. } = question;
        let mut row: Row = raw.into();
        let mut typical = schema.typical(raw);
        let following = schema.following(raw);
        for &position in &following {
            (row[position], typical[position]) = (f64::NAN, f64::NAN);
        }
        let mut players: Vec<Player> = Vec::new();
        for group in 0..schema.group_names().len() {
            let is_member = |at: &usize| schema.group_of(*at) == group && differ(row[*at], typical[*at]);
            let members: Vec<usize> = (0..schema.len()).filter(is_member).collect();
            if !members.is_empty() {
                players.push(Player { group, members });
            }
        }
        let mut between = Self { question, row, typical, following, players, crosses: false };
        between.crosses = (0..schema.columns()).any(|column| between.owners(column).len() > 1);
        between
    }

    /// The differing features that a column is made from, each once.
    fn behind(&self, column: usize) -> Vec<usize> {
        let schema = self.question.schema;
        let sources = schema.sources(column).into_iter().flat_map(|source| {
            if self.following.contains(&source) { schema.follows_from(source) } else { vec![source] }
        });
        let mut behind: Vec<usize> = sources.filter(|source| self.player_of(*source).is_some()).collect();
        behind.sort_unstable();
        behind.dedup();
        behind
    }

    fn player_of(&self, feature: usize) -> Option<usize> {
        self.players.iter().position(|player| player.members.contains(&feature))
    }

    /// The players that decide a column, each once.
    fn owners(&self, column: usize) -> Vec<usize> {
        let mut owners: Vec<usize> = self.behind(column).into_iter().filter_map(|at| self.player_of(at)).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Appends the row of a hypothetical customer as the model reads it: `is_own` says which features are the customer's.
    fn push(&self, rows: &mut Vec<f64>, is_own: impl Fn(usize) -> bool) {
        let schema = self.question.schema;
        let pairs = self.row.iter().zip(&self.typical).enumerate();
        let mut raw: Row = pairs.map(|(at, (row, typical))| if is_own(at) { *row } else { *typical }).collect();
        schema.follow(&mut raw);
        let start = rows.len();
        rows.resize(start + schema.columns(), 0.0);
        schema.prepare(&raw, &mut rows[start..]);
    }

    /// As `push`, by the players that are the customer's and, of one player, the members.
    fn push_mixture(&self, rows: &mut Vec<f64>, takes: usize, of: usize, members: usize) {
        let mut own: SmallVec<[bool; 32]> = smallvec::smallvec![false; self.row.len()];
        for (number, player) in self.players.iter().enumerate() {
            for (bit, &member) in player.members.iter().enumerate() {
                own[member] = if number == of { members >> bit & 1 == 1 } else { takes >> number & 1 == 1 };
            }
        }
        self.push(rows, |at| own[at]);
    }

    /// What is served for rows.
    async fn answers(&self, rows: &[f64], budget: &Budget) -> Result<Vec<f64>, Unexplained> {
        let CustomerQuestion { schema, engine, output, served, .. } = self.question;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let rows = FeatureMatrix::new(rows, schema.columns());
        let mut answers = engine.outputs_of(rows, output, budget).await?;
        for answer in &mut answers {
            *answer = served(*answer);
        }
        if answers.iter().all(|answer| answer.is_finite()) { Ok(answers) } else { Err(Unexplained::NotANumber) }
    }

    /// The groups' shares by what the model shows of itself, or by all hypothetical customers; `None` when the first sees
    /// nothing and of the others there are too many.
    async fn split(&self) -> Result<Option<Split>, Unexplained> {
        if !self.crosses && !self.players.is_empty() {
            let [typical, row] = self.ends();
            let players = self.players_of_columns(|column| self.owners(column));
            let asked = self.rows_question((&row, &typical), &players.0);
            if let Some(shares) = self.question.engine.split(&asked)? {
                return self.by_owner(shares, &players.1, self.players.len()).map(Some);
            }
        }
        let count = self.players.len();
        if count > MOST_GROUPS {
            return Ok(None);
        }
        let mut rows = Vec::with_capacity(self.question.schema.columns() << count);
        for subset in 0..1_usize << count {
            self.push_mixture(&mut rows, subset, usize::MAX, 0);
        }
        let values = match self.answers(&rows, &self.question.budget.part(0.5)).await {
            Err(Unexplained::OutOfTime) => return Ok(None),
            answered => answered?,
        };
        let (from, to) = (values[0], values[values.len() - 1]);
        let mut amounts = shapley(count, |subset| values[subset]);
        settle(&mut amounts, to - from, from.abs().max(to.abs()));
        Ok(Some((from, to, amounts, Method::Exact)))
    }

    /// The typical customer's row and this one's, as the model reads them.
    fn ends(&self) -> [Vec<f64>; 2] {
        [false, true].map(|own| {
            let mut row = Vec::new();
            self.push(&mut row, |_| own);
            row
        })
    }

    fn rows_question<'q>(&self, (row, reference): (&'q [f64], &'q [f64]), players: &'q [u32]) -> Question<'q> {
        let CustomerQuestion { output, budget, .. } = self.question;
        Question { row, reference, players, output, budget }
    }

    /// A player of a question about rows for each list of owners that a column has, and those lists. A column in which the
    /// rows agree is anybody's.
    fn players_of_columns(&self, owners: impl Fn(usize) -> Vec<usize>) -> (Vec<u32>, Vec<Vec<usize>>) {
        let mut lists: Vec<Vec<usize>> = Vec::new();
        let player = |column| {
            let list = owners(column);
            let known = lists.iter().position(|other| *other == list);
            known.unwrap_or_else(|| {
                lists.push(list);
                lists.len() - 1
            }) as u32
        };
        let players = (0..self.question.schema.columns()).map(player).collect();
        (players, lists)
    }

    /// From shares of such players to shares of `count` owners: those of one list divide its share equally.
    fn by_owner(&self, mut shares: Shares, lists: &[Vec<usize>], count: usize) -> Result<Split, Unexplained> {
        shares.through(self.question.served);
        let shares = shares.finite()?;
        let mut amounts = vec![0.0; count];
        for (list, share) in lists.iter().zip(&shares.players) {
            for &owner in list {
                amounts[owner] += share / list.len() as f64;
            }
        }
        Ok((shares.from, shares.to, amounts, shares.method))
    }

    /// Shares of `count` owners by what the backend says of the two rows.
    async fn by_rows(&self, owners: impl Fn(usize) -> Vec<usize>, count: usize) -> Result<Split, Unexplained> {
        let [typical, row] = self.ends();
        let (players, lists) = self.players_of_columns(owners);
        let shares = self.question.engine.explain(&self.rows_question((&row, &typical), &players)).await?;
        self.by_owner(shares, &lists, count)
    }

    /// The leading member of each group: what it does alone beside the typical customer, and what is missing without it
    /// beside this one, go furthest the group's way. The first member when there is no time to ask.
    async fn leading(&self, (from, to, amounts, _): &Split) -> Result<Vec<usize>, Unexplained> {
        let asked = || self.players.iter().filter(|player| player.members.len() > 1).flat_map(|player| &player.members);
        let mut rows = Vec::new();
        for &member in asked() {
            self.push(&mut rows, |at| at == member);
            self.push(&mut rows, |at| at != member);
        }
        let answers = match self.answers(&rows, &self.question.budget).await {
            Err(Unexplained::OutOfTime) => Vec::new(),
            answered => answered?,
        };
        let gains = answers.chunks_exact(2).map(|pair| (pair[0] - from) + (to - pair[1]));
        let gains: Vec<(usize, f64)> = asked().copied().zip(gains).collect();
        let leading = |(player, amount): (&Player, &f64)| {
            let own = gains.iter().filter(|(member, _)| player.members.contains(member));
            let furthest = own.max_by(|(_, left), (_, right)| (left * amount).total_cmp(&(right * amount)));
            furthest.map_or(player.members[0], |(member, _)| *member)
        };
        Ok(self.players.iter().zip(amounts).map(leading).collect())
    }

    /// Gives each group's members their part of what it did.
    async fn split_members(&self, groups: &mut [GroupShare], method: Method) -> Result<(), Unexplained> {
        let count = self.players.len();
        let several = || self.players.iter().enumerate().filter(|(_, player)| player.members.len() > 1);
        let sizes = several().map(|(_, player)| 1_usize << (count - 1 + player.members.len()).min(32));
        let mut parts = vec![0.0; self.row.len()];
        if method == Method::Exact && sizes.sum::<usize>() <= MOST_ROWS {
            for (number, player) in several() {
                let owen = self.owen(number, player.members.len()).await?;
                for (&member, part) in player.members.iter().zip(owen) {
                    parts[member] = part;
                }
            }
        } else if several().next().is_some() {
            (_, _, parts, _) = self.by_rows(|column| self.behind(column), self.row.len()).await?;
        }
        for (group, player) in groups.iter_mut().zip(&self.players) {
            let mut own: Vec<f64> = player.members.iter().map(|&member| parts[member]).collect();
            settle(&mut own, group.amount, group.amount.abs());
            if own.iter().all(|part| *part == 0.0) {
                let equal = group.amount / own.len() as f64;
                own.fill(equal);
            }
            group.members = player.members.iter().copied().zip(own).collect();
        }
        Ok(())
    }

    /// The Owen values of one group's members: over all subsets of the other groups, Shapley's formula inside.
    async fn owen(&self, number: usize, members: usize) -> Result<Vec<f64>, Unexplained> {
        let others: Vec<usize> = (0..self.players.len()).filter(|other| *other != number).collect();
        let mut rows = Vec::new();
        for subset in 0..1_usize << others.len() {
            let takes = others.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1);
            let takes = takes.map(|(_, other)| 1 << other).sum();
            for inside in 0..1_usize << members {
                self.push_mixture(&mut rows, takes, number, inside);
            }
        }
        let values = self.answers(&rows, &self.question.budget).await?;
        let mut owen = vec![0.0; members];
        let weights = weights(self.players.len());
        for (subset, values) in values.chunks_exact(1 << members).enumerate() {
            let weight = weights[subset.count_ones() as usize];
            for (owen, share) in owen.iter_mut().zip(shapley(members, |inside| values[inside])) {
                *owen += weight * share;
            }
        }
        Ok(owen)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::features::FeatureRule;
    use crate::features::derived::{Bend, DerivedRule, Factor};
    use crate::inference::backend::{Backend, BackendError};

    /// A model that is nothing but its answers.
    struct Opaque<F>(usize, [String; 1], F);

    impl<F: Fn(&[f64]) -> f64 + Send + Sync> Backend for Opaque<F> {
        fn inputs(&self) -> usize {
            self.0
        }
        fn outputs(&self) -> &[String] {
            &self.1
        }
        fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
            rows.iter().zip(out).for_each(|(row, out)| *out = self.2(row));
            Ok(())
        }
    }

    /// Features of a mean of 0, by name and group.
    fn schema(features: &[(&str, Option<&str>)], derived: &[(&str, &str)]) -> FeatureSchema {
        let rule = |(name, group): &(&str, Option<&str>)| FeatureRule {
            max: 9.0,
            group: group.map(str::to_owned),
            ..FeatureRule::plain(name)
        };
        let factor = |of: &str| Factor { of: of.to_owned(), over: None, apply: Bend::Identity };
        let product = |(left, right): &(&str, &str)| DerivedRule {
            name: format!("{left} {right}"),
            factors: vec![factor(left), factor(right)],
            mean: 0.0,
            std: 1.0,
        };
        let rules = features.iter().map(rule).collect();
        FeatureSchema::with_derived(rules, derived.iter().map(product).collect(), false).expect("a schema")
    }

    async fn ask(
        schema: &FeatureSchema,
        raw: &[f64],
        model: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
    ) -> GroupShares {
        let engine = Engine::Inline(Box::new(Opaque(schema.columns(), ["value".to_owned()], model)));
        let budget = Budget::of(Duration::from_mins(1));
        let question = CustomerQuestion {
            schema,
            engine: &engine,
            output: 0,
            served: &|value| 2.0 * value,
            raw,
            members: true,
            budget,
        };
        let shares = explain(question).await.expect("explained");
        let sum: f64 = shares.groups.iter().map(|group| group.amount).sum();
        assert!((shares.base + sum - shares.value).abs() < 1e-9, "{shares:?}");
        for group in &shares.groups {
            let members: f64 = group.members.iter().map(|(_, amount)| amount).sum();
            assert!((members - group.amount).abs() < 1e-9, "{group:?}");
        }
        shares
    }

    fn near(amounts: impl IntoIterator<Item = f64>, expected: &[f64]) {
        let amounts: Vec<f64> = amounts.into_iter().collect();
        let same = |(amount, expected): (&f64, &f64)| (amount - expected).abs() < 1e-9;
        assert!(amounts.len() == expected.len() && amounts.iter().zip(expected).all(same), "{amounts:?}");
    }

    #[tokio::test]
    async fn what_features_do_together_is_their_groups_and_halves_between_groups() {
        let schema = schema(&[("a", Some("g")), ("b", Some("g")), ("c", None), ("d", None)], &[("b", "c")]);
        // a b is the group's; b c, a column that is made of both, is half c's; d is typical.
        let shares = ask(&schema, &[2.0, 3.0, 5.0, 0.0], |x| x[0] * x[1] - x[0] + x[4]).await;
        assert_eq!((shares.base, shares.value, shares.method), (0.0, 38.0, Method::Exact));
        near(shares.groups.iter().map(|group| group.amount), &[2.0 * (4.0 + 7.5), 15.0]);
        // Inside, a b is halved too, and -a is a's alone.
        near(shares.groups[0].members.iter().map(|(_, amount)| *amount), &[2.0 * (3.0 - 2.0), 2.0 * (3.0 + 7.5)]);
        assert_eq!((shares.groups[0].leading, shares.groups[1].leading), (1, 2));
    }

    #[tokio::test]
    async fn a_group_whose_members_pull_apart_is_led_by_one_that_goes_its_way() {
        let schema = schema(&[("a", Some("g")), ("b", Some("g"))], &[]);
        let shares = ask(&schema, &[1.0, 1.0], |x| 7.0 * x[0] - 6.0 * x[1]).await;
        near([shares.groups[0].amount], &[2.0]);
        assert_eq!(shares.groups[0].leading, 0);
        let shares = ask(&schema, &[1.0, 1.0], |x| 5.0 * x[0] - 6.0 * x[1]).await;
        assert_eq!(shares.groups[0].leading, 1, "it lowers");
    }

    #[tokio::test]
    async fn more_groups_than_can_be_enumerated_are_asked_by_rows() {
        let names: Vec<String> = (0..13).map(|number| format!("x{number}")).collect();
        let group = |name: &str| matches!(name, "x0" | "x1").then_some("g");
        let features: Vec<_> = names.iter().map(|name| (name.as_str(), group(name))).collect();
        let schema = schema(&features, &[("x1", "x2")]);
        let raw: Vec<f64> = (1..=13).map(f64::from).collect();
        let shares = ask(&schema, &raw, |x| x[0] * x[1] + x[13] + x[..13].iter().sum::<f64>()).await;
        assert_eq!((shares.groups.len(), shares.method), (12, Method::Permutation));
        // The column of x1 and x2 is halved between their groups; products of two are exact.
        near(shares.groups[..3].iter().map(|group| group.amount), &[2.0 * (3.0 + 2.0 + 3.0), 2.0 * (3.0 + 3.0), 8.0]);
        assert_eq!(shares.groups[0].members.len(), 2);
    }

    #[tokio::test]
    async fn the_typical_customer_has_no_groups_to_explain() {
        let shares = ask(&schema(&[("a", None), ("b", None)], &[]), &[0.0, f64::NAN], |_| 4.0).await;
        assert_eq!((shares.base, shares.groups.len()), (8.0, 0));
    }
}
