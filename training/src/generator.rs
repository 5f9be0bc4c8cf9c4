//! Simulates what no public data set joins with purchases: contact-centre conversations and acquisition channels of
//! the real customers of a purchase file.
//!
//! The purchases stay real. A conversation follows one purchase in five; others come at a rate of the customer's
//! own. How satisfied a customer sounds is tied to what they really did next by `rho`: 0 means not at all (the null
//! set, on which a model must not gain anything from conversations), 1 would mean entirely.
//!
//! The shapes of handle time, abandonment, hour of the day and contact rate are those of a real call centre: the
//! February 1999 log of the "Anonymous Bank" data (Technion Service Engineering laboratory; 33,344 calls, 4,081
//! identified customers). `training/data/README.md` says how each constant was computed. Channel mix, topics and
//! everything about sentiment are assumptions.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution as _, Gamma, LogNormal, Poisson, StandardNormal};
use scoreline::packing::split::Split;
use scoreline_domain::{Channel, InteractionRow, LabelId, Purchase, Sentiment, normal};
use scoreline_engine::features::interactions::{InteractionFeatures, InteractionHistory, QueueSentiment};

use crate::cdnow::Customer;
use crate::cohort::{AS_OF, Member, randomness};

/// Acquisition channels: name, share, and how strongly a large first order speaks for it.
const ACQUISITION: [(&str, f64, f64); 6] = [
    ("organic", 0.34, 0.0),
    ("paid_search", 0.22, -0.15),
    ("referral", 0.12, 0.35),
    ("email", 0.12, 0.1),
    ("social", 0.12, -0.35),
    ("partner", 0.08, 0.2),
];

/// Topics: name, queue, share, and what they do to sentiment.
const TOPICS: [(&str, &str, f64, f64); 10] = [
    ("order_status", "orders", 0.2, 0.0),
    ("delivery", "orders", 0.14, -0.05),
    ("returns", "orders", 0.12, -0.15),
    ("product_question", "sales", 0.14, 0.1),
    ("promotion", "sales", 0.1, 0.15),
    ("billing", "support", 0.1, -0.1),
    ("account", "support", 0.08, 0.0),
    ("technical", "support", 0.06, -0.1),
    ("complaint", "support", 0.04, -0.45),
    ("cancellation", "support", 0.02, -0.3),
];

/// Topics a conversation about a purchase can have: the first so many of `TOPICS`.
const PURCHASE_TOPICS: usize = 3;

/// Share of purchases that lead to a conversation.
const CONTACT_AFTER_PURCHASE: f64 = 0.2;

/// Bank log: mean and standard deviation of ln(service seconds) of the 27,077 answered calls, and the share of its
/// variance that lies between customers.
const HANDLE_LOG_MEAN: f64 = 4.563;
const HANDLE_LOG_SD: f64 = 1.260;
const HANDLE_BETWEEN_CUSTOMERS: f64 = 0.053;
const HANDLE_LONGEST_SECONDS: f64 = 10_800.0;

/// Bank log: share of callers who hang up before an agent answers.
const ABANDONED: f64 = 0.179;

/// Bank log: calls per identified customer in the 28 days follow a zero-truncated Poisson-lognormal law with this
/// standard deviation of ln(rate) and a median rate of 0.465. A shop is called less than a bank: a quarter as often.
const RATE_LOG_SD: f64 = 1.410;
const RATE_MEDIAN_PER_DAY: f64 = 0.465 / 28.0 / 4.0;

/// Bank log: calls by hour of the day, in thousandths.
const HOURS: [u32; 24] = [4, 1, 1, 0, 0, 1, 3, 27, 67, 75, 84, 78, 66, 78, 72, 69, 71, 57, 51, 48, 41, 42, 36, 29];

/// Shares of voice, e-mail, chat and messaging, and how alike customers are (Dirichlet concentration).
const CHANNELS: [(Channel, f64); 4] =
    [(Channel::Voice, 0.62), (Channel::Email, 0.18), (Channel::Chat, 0.12), (Channel::Message, 0.08)];
const CHANNEL_CONCENTRATION: f64 = 3.0;

/// Share of handled conversations with a sentiment score.
const SCORED: f64 = 0.7;

/// What the generator is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simulation {
    pub seed: u64,
    /// Correlation of satisfaction with how the customer's real future spend departed from expectation.
    pub rho: f64,
}

/// What a purchase model expected of a customer: P(no spend), mean and standard deviation of ln(spend) given any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation {
    pub risk: f64,
    pub log_mean: f64,
    pub log_sigma: f64,
}

/// One simulated conversation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conversation {
    pub start: Timestamp,
    pub end: Timestamp,
    pub channel: Channel,
    pub handle_ms: Option<u32>,
    pub sentiment: Option<Sentiment>,
    /// By position in `TOPICS`.
    pub topics: Vec<LabelId>,
    /// As the first topic of that queue.
    pub queue: LabelId,
}

/// Gives every member an acquisition channel, tilted mildly by the real first order, so that channels differ for a
/// real reason.
pub(crate) fn assign_channels(members: &mut [Member], seed: u64) {
    let logs: Vec<f64> = members.iter().map(|member| member.purchases.first_order_usd.ln_1p()).collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let sd = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / n).sqrt().max(1e-9);
    for (member, log) in members.iter_mut().zip(&logs) {
        let z = (log - mean) / sd;
        let weights = ACQUISITION.map(|(_, share, tilt)| share * (tilt * z).exp());
        let mut random = randomness(seed, 1, member.id);
        member.acquisition_channel = ACQUISITION[pick(&weights, &mut random)].0;
    }
}

/// Interaction features of every member as of the end of the as-of day; `None` for who never got in touch.
///
/// `expectations` come from a model fitted on purchases alone, one a member.
pub(crate) fn interaction_features(
    members: &[Member],
    customers: &[Customer],
    expectations: &[Expectation],
    simulation: Simulation,
) -> anyhow::Result<Vec<Option<InteractionFeatures>>> {
    let as_of = as_of_time()?;
    let mut queues = QueueSentiment::default();
    let mut histories = Vec::with_capacity(members.len());
    for (member, expectation) in members.iter().zip(expectations) {
        let purchases = purchases_of(member, customers)?;
        let mut history = InteractionHistory::as_of(as_of);
        for conversation in conversations(member, purchases, *expectation, simulation)? {
            let interaction = conversation.as_interaction();
            history.add(&interaction)?;
            // Imputation is fitted on fit rows only, like everything else.
            if let (Split::Fit, true, Some(sentiment)) =
                (member.split, conversation.end <= as_of, conversation.sentiment)
            {
                queues.observe(conversation.queue, sentiment);
            }
        }
        histories.push(history);
    }
    Ok(histories.iter().map(|history| history.features(&queues)).collect())
}

/// The end of the as-of day.
pub(crate) fn as_of_time() -> anyhow::Result<Timestamp> {
    start_of_day(AS_OF.tomorrow()?)
}

/// A member's purchases, among customers in order of their ids.
pub(crate) fn purchases_of<'c>(member: &Member, customers: &'c [Customer]) -> anyhow::Result<&'c [Purchase]> {
    customers
        .binary_search_by_key(&member.id, |customer| customer.id)
        .map(|found| customers[found].purchases.as_slice())
        .map_err(|_| anyhow::anyhow!("customer {} is not in the purchase file", member.id))
}

/// A customer's conversations from the first purchase to the end of the as-of day, in no particular order.
pub(crate) fn conversations(
    member: &Member,
    purchases: &[Purchase],
    expectation: Expectation,
    simulation: Simulation,
) -> anyhow::Result<Vec<Conversation>> {
    let mut random = randomness(simulation.seed, 2, member.id);
    let residual = outcome_score(member.spend_usd, expectation, &mut random);
    let person = Person::draw(residual, simulation.rho, &mut random)?;
    let first = f64::from(i32::try_from(member.purchases.tenure_days as i64)?);
    let mut starts = Vec::new();
    for purchase in purchases.iter().filter(|purchase| purchase.date <= AS_OF) {
        if random.random_bool(CONTACT_AFTER_PURCHASE) {
            let days_ago = days_before_as_of(purchase.date) - f64::from(random.random_range(1..=14_i32));
            if days_ago >= 0.0 {
                starts.push((days_ago, PURCHASE_TOPICS));
            }
        }
    }
    let expected = person.rate_per_day * (first + 1.0);
    let calls = Poisson::new(expected)?.sample(&mut random) as u32;
    for _ in 0..calls {
        starts.push(((random.random::<f64>() * (first + 1.0)).floor(), TOPICS.len()));
    }
    starts.into_iter().map(|(days_ago, topics)| person.talk(days_ago, first, topics, &mut random)).collect()
}

impl Conversation {
    pub(crate) fn as_interaction(&self) -> InteractionRow<'_> {
        InteractionRow {
            id: None,
            start_ms: self.start.as_millisecond(),
            end_ms: Some(self.end.as_millisecond()),
            channel: self.channel,
            handle_ms: self.handle_ms,
            sentiment: self.sentiment,
            topics: &self.topics,
            queue: Some(self.queue),
        }
    }
}

/// What is the same in all conversations of one customer.
struct Person {
    /// Standard normal.
    satisfaction: f64,
    /// Standard normal: how long this customer's matters take.
    lengthiness: f64,
    rate_per_day: f64,
    channels: [f64; 4],
}

impl Person {
    fn draw(residual: f64, rho: f64, random: &mut Xoshiro256PlusPlus) -> anyhow::Result<Self> {
        let noise: f64 = StandardNormal.sample(random);
        let satisfaction = rho * residual + (1.0 - rho * rho).sqrt() * noise;
        let rate = LogNormal::new(RATE_MEDIAN_PER_DAY.ln() - 0.15 * satisfaction, RATE_LOG_SD)?;
        let mut channels = [0.0; 4];
        for (weight, (_, share)) in channels.iter_mut().zip(CHANNELS) {
            *weight = Gamma::new(CHANNEL_CONCENTRATION * share, 1.0)?.sample(random);
        }
        let lengthiness = StandardNormal.sample(random);
        Ok(Self { satisfaction, lengthiness, rate_per_day: rate.sample(random), channels })
    }

    fn talk(
        &self,
        days_ago: f64,
        tenure: f64,
        topics: usize,
        random: &mut Xoshiro256PlusPlus,
    ) -> anyhow::Result<Conversation> {
        let hour = i64::try_from(pick(&HOURS.map(f64::from), random))?;
        let day = AS_OF.checked_sub(jiff::Span::new().days(days_ago as i64))?;
        let seconds = hour * 3600 + random.random_range(0..3600_i64);
        let start = Timestamp::from_second(start_of_day(day)?.as_second() + seconds)?;
        let (channel, _) = CHANNELS[pick(&self.channels, random)];
        let can_abandon = matches!(channel, Channel::Voice | Channel::Chat);
        let abandoned = can_abandon && random.random_bool(ABANDONED);
        let handle: f64 = {
            let noise: f64 = StandardNormal.sample(random);
            let shared = HANDLE_BETWEEN_CUSTOMERS.sqrt() * self.lengthiness;
            let own = (1.0 - HANDLE_BETWEEN_CUSTOMERS).sqrt() * noise;
            (HANDLE_LOG_MEAN + HANDLE_LOG_SD * (shared + own)).exp().min(HANDLE_LONGEST_SECONDS).round()
        };
        let shares: Vec<f64> = TOPICS[..topics].iter().map(|topic| topic.2).collect();
        let main = pick(&shares, random);
        let mut told = vec![label(main)];
        if random.random_bool(0.15) {
            let other = pick(&shares, random);
            if other != main {
                told.push(label(other));
            }
        }
        let noise: f64 = StandardNormal.sample(random);
        // Satisfaction shows more the later the conversation: it drifts towards what the customer does next.
        let lateness = 1.0 - days_ago / (tenure + 1.0);
        let mood = self.satisfaction * (0.2 + 0.2 * lateness);
        let score = (0.15 + mood + TOPICS[main].3 + 0.35 * noise).clamp(-1.0, 1.0);
        let scored = random.random_bool(SCORED) && !abandoned;
        let wait = random.random_range(5..120_i64);
        let length = if abandoned { wait } else { wait + handle as i64 };
        Ok(Conversation {
            start,
            end: Timestamp::from_second(start.as_second() + length)?,
            channel,
            handle_ms: (!abandoned).then_some((handle * 1e3) as u32),
            sentiment: Sentiment::new((score * 100.0).round() / 100.0).filter(|_| scored),
            topics: told,
            queue: queue(main),
        })
    }
}

/// The outcome as a standard normal score under what was expected (randomised probability integral transform): it
/// says nothing about the customer that the expectation already knew.
fn outcome_score(spend_usd: f64, expected: Expectation, random: &mut Xoshiro256PlusPlus) -> f64 {
    let below = if spend_usd > 0.0 {
        let z = (spend_usd.ln() - expected.log_mean) / expected.log_sigma;
        expected.risk + (1.0 - expected.risk) * normal::cdf(z)
    } else {
        expected.risk * random.random::<f64>()
    };
    normal::quantile(below).clamp(-3.0, 3.0)
}

fn label(topic: usize) -> LabelId {
    LabelId(topic as u32)
}

/// The queue of a topic, as the first topic of that queue.
fn queue(topic: usize) -> LabelId {
    label(TOPICS.iter().position(|other| other.1 == TOPICS[topic].1).unwrap_or(topic))
}

fn pick(weights: &[f64], random: &mut Xoshiro256PlusPlus) -> usize {
    let mut left = random.random::<f64>() * weights.iter().sum::<f64>();
    for (i, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return i;
        }
    }
    weights.len() - 1
}

fn days_before_as_of(day: Date) -> f64 {
    (day.duration_until(AS_OF).as_hours() / 24) as f64
}

fn start_of_day(day: Date) -> anyhow::Result<Timestamp> {
    Ok(day.to_zoned(TimeZone::UTC)?.timestamp())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cdnow;
    use crate::cohort::members;
    use scoreline::packing::metrics::spearman;

    /// One customer in eight, and what everybody is taken to expect of them.
    fn sample() -> (Vec<Customer>, Vec<Member>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cdnow/transactions_dev.csv");
        let customers = cdnow::read(&path).expect("the data file");
        let customers: Vec<_> = customers.into_iter().step_by(8).collect();
        let members = members(&customers, 42).expect("members");
        (customers, members)
    }

    const EXPECTATION: Expectation = Expectation { risk: 0.7, log_mean: 3.8, log_sigma: 1.0 };

    fn all_conversations(rho: f64) -> Vec<(f64, Conversation)> {
        let (customers, members) = sample();
        let mut all = Vec::new();
        for member in &members {
            let found = customers.iter().find(|customer| customer.id == member.id).expect("a customer");
            let simulation = Simulation { seed: 42, rho };
            let told = conversations(member, &found.purchases, EXPECTATION, simulation).expect("simulates");
            all.extend(told.into_iter().map(|conversation| (member.spend_usd, conversation)));
        }
        all
    }

    #[test]
    fn shapes_are_those_of_the_call_centre_they_were_measured_on() {
        let all = all_conversations(0.0);
        assert!(all.len() > 3000, "{} conversations", all.len());
        let calls: Vec<_> = all.iter().map(|(_, one)| one).filter(|one| one.channel == Channel::Voice).collect();
        let abandoned = calls.iter().filter(|call| call.handle_ms.is_none()).count() as f64;
        assert!((abandoned / calls.len() as f64 - ABANDONED).abs() < 0.03);
        let logs: Vec<f64> =
            calls.iter().filter_map(|call| call.handle_ms).map(|ms| (f64::from(ms) / 1e3).max(1.0).ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        assert!((mean - HANDLE_LOG_MEAN).abs() < 0.1, "{mean}");
    }

    #[test]
    fn nothing_is_told_after_the_as_of_day() {
        let end = start_of_day(AS_OF.tomorrow().expect("a day")).expect("a time");
        assert!(all_conversations(0.5).iter().all(|(_, one)| one.start < end && one.start <= one.end));
    }

    #[test]
    fn sentiment_knows_of_the_outcome_exactly_as_much_as_rho_says() {
        let correlation = |rho| {
            let (spend, score): (Vec<f64>, Vec<f64>) = all_conversations(rho)
                .into_iter()
                .filter_map(|(spend, one)| one.sentiment.map(|sentiment| (spend, sentiment.score())))
                .unzip();
            spearman(&spend, &score)
        };
        let null = correlation(0.0);
        let tied = correlation(0.9);
        assert!(null.abs() < 0.08, "rho = 0 must be the null set, got {null}");
        assert!(tied > 0.25, "rho = 0.9 must show, got {tied}");
    }

    #[test]
    fn a_customer_is_the_same_whoever_else_is_there() {
        let (customers, members) = sample();
        let simulation = Simulation { seed: 7, rho: 0.3 };
        let alone = interaction_features(&members[5..6], &customers, &[EXPECTATION], simulation).expect("simulates");
        let expectations = vec![EXPECTATION; members.len()];
        let among = interaction_features(&members, &customers, &expectations, simulation).expect("simulates");
        // Only the sentiment that stands in for a missing one may come from others.
        let without_sentiment = |found: Option<InteractionFeatures>| {
            found.map(|found| InteractionFeatures { sentiment_score_avg: None, ..found })
        };
        assert_eq!(without_sentiment(alone[0]), without_sentiment(among[5]));
        let other = Simulation { seed: 8, ..simulation };
        assert_ne!(interaction_features(&members, &customers, &expectations, other).expect("simulates"), among);
    }
}
