//! How fast a caller may go: one bucket for predictions and one for what changes a campaign, so that scoring traffic
//! cannot hide a re-ranking and a re-ranking cannot starve scoring.
//!
//! A caller holds its buckets, so a check is one atomic operation and no look-up.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as Ticking;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use super::caller::Scope;
use scoreline_domain::time::Clock;

/// A sustained rate and the burst above it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Requests a second; 0 for no limit.
    pub per_second: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

/// The rates of a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Routes of the scope `predict`.
    pub predict: Rate,
    /// Routes of the scopes `leads` and `events`, which share one bucket.
    pub leads: Rate,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>;
type AddressBuckets = RateLimiter<IpAddr, DashMapStateStore<IpAddr>, Ticks, NoOpMiddleware<Duration>>;

/// A caller's buckets.
#[derive(Debug)]
pub(super) struct Pace {
    rates: Rates,
    clock: Ticks,
    predict: Option<Bucket>,
    leads: Option<Bucket>,
}

/// Buckets by network address, for callers who have not proved who they are.
pub(super) struct AddressPaces {
    buckets: AddressBuckets,
    clock: Ticks,
}

/// Addresses that are told apart; beyond, they share one bucket until old ones are forgotten.
const MOST_ADDRESSES: usize = 10_000;

impl Pace {
    pub(super) fn new(rates: Rates, clock: &Arc<dyn Clock>) -> Self {
        let clock = Ticks(Arc::clone(clock));
        let bucket = |rate: Rate| quota(rate).map(|quota| Bucket::direct_with_clock(quota, clock.clone()));
        Self { rates, predict: bucket(rates.predict), leads: bucket(rates.leads), clock: clock.clone() }
    }

    pub(super) fn rates(&self) -> Rates {
        self.rates
    }

    /// Takes one request of a route; an `Err` is the whole seconds to wait.
    pub(super) fn take(&self, scope: Scope) -> Result<(), u64> {
        let bucket = match scope {
            Scope::Predict => &self.predict,
            Scope::Leads | Scope::Events => &self.leads,
            // An operator in trouble is not to be slowed down.
            Scope::Admin => return Ok(()),
        };
        match bucket {
            Some(bucket) => bucket.check().map_err(|until| wait(&until, &self.clock)),
            None => Ok(()),
        }
    }
}

impl AddressPaces {
    /// # Panics
    /// When `rate` is without a limit.
    pub(super) fn new(rate: Rate, clock: &Arc<dyn Clock>) -> Self {
        let clock = Ticks(Arc::clone(clock));
        let quota = quota(rate).expect("a limited rate");
        Self { buckets: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()), clock }
    }

    /// Takes one request of an address; an `Err` is the whole seconds to wait.
    pub(super) fn take(&self, from: Option<IpAddr>) -> Result<(), u64> {
        let mut address = from.map_or(UNKNOWN, one_host);
        if self.buckets.len() >= MOST_ADDRESSES {
            address = UNKNOWN;
        }
        self.buckets.check_key(&address).map_err(|until| wait(&until, &self.clock))
    }

    /// Forgets addresses whose buckets are full again.
    pub(super) fn forget_idle(&self) {
        self.buckets.retain_recent();
    }
}

/// Stands for every address that is not told apart.
const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// One subscriber of IPv6 holds at least 2^64 addresses: they count as one.
fn one_host(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

fn quota(rate: Rate) -> Option<Quota> {
    let per_second = NonZeroU32::new(rate.per_second)?;
    Some(Quota::per_second(per_second).allow_burst(NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN)))
}

fn wait(until: &NotUntil<Duration>, clock: &Ticks) -> u64 {
    let wait = until.wait_time_from(clock.now());
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// governor's clock over ours.
#[derive(Clone)]
struct Ticks(Arc<dyn Clock>);

impl std::fmt::Debug for Ticks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticks")
    }
}

impl Ticking for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoreline_domain::time::ManualClock;

    fn clock() -> (Arc<ManualClock>, Arc<dyn Clock>) {
        let clock = Arc::new(ManualClock::at("2026-11-21T10:00:00Z".parse().expect("a time")));
        (Arc::clone(&clock), clock)
    }

    fn rates(predict: (u32, u32), leads: (u32, u32)) -> Rates {
        let rate = |(per_second, burst)| Rate { per_second, burst };
        Rates { predict: rate(predict), leads: rate(leads) }
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_the_lanes_are_apart() {
        let (hand, clock) = clock();
        let pace = Pace::new(rates((2, 5), (1, 1)), &clock);
        for _ in 0..5 {
            assert_eq!(pace.take(Scope::Predict), Ok(()));
        }
        assert_eq!(pace.take(Scope::Predict), Err(1));
        assert_eq!(pace.take(Scope::Events), Ok(()), "another bucket");
        assert_eq!(pace.take(Scope::Leads), Err(1), "leads and events share one");
        assert_eq!(pace.take(Scope::Admin), Ok(()));
        hand.advance(Duration::from_millis(500));
        assert_eq!(pace.take(Scope::Predict), Ok(()));
        assert_eq!(pace.take(Scope::Predict), Err(1));
        let mut passed = 0;
        for _ in 0..1000 {
            hand.advance(Duration::from_millis(10));
            passed += u32::from(pace.take(Scope::Predict).is_ok());
        }
        assert!((19..=21).contains(&passed), "{passed} in ten seconds at 2 a second");
    }

    #[test]
    fn no_limit_is_no_limit() {
        let (_, clock) = clock();
        let pace = Pace::new(rates((0, 1), (0, 1)), &clock);
        assert!((0..10_000).all(|_| pace.take(Scope::Predict).is_ok() && pace.take(Scope::Leads).is_ok()));
    }

    #[test]
    fn addresses_are_told_apart_up_to_a_bound() {
        let (hand, clock) = clock();
        let paces = AddressPaces::new(Rate { per_second: 1, burst: 2 }, &clock);
        let home = Some("192.0.2.1".parse().expect("an address"));
        assert!(paces.take(home).is_ok() && paces.take(home).is_ok() && paces.take(home).is_err());
        let one = |last: u128| Some(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + last)));
        assert!(paces.take(one(1)).is_ok() && paces.take(one(2)).is_ok() && paces.take(one(3)).is_err(), "one /64");
        for address in 0..MOST_ADDRESSES as u32 * 2 {
            let _ = paces.take(Some(IpAddr::V4(address.into())));
        }
        assert!(paces.buckets.len() <= MOST_ADDRESSES + 1, "{}", paces.buckets.len());
        hand.advance(Duration::from_mins(1));
        paces.forget_idle();
        assert_eq!(paces.buckets.len(), 0);
        assert_eq!(paces.take(home), Ok(()));
    }
}
