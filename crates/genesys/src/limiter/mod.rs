//! The pace of one token's requests: whoever wants to send one waits here for a permit. `window` decides, a ledger keeps
//! what it decides by, so that everybody who uses the token waits for the same.

mod ledger;
mod window;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use tracing::warn;

pub use ledger::{MemoryLedger, PaceChange, PaceLedger};
use scoreline_domain::time::Clock;
pub(crate) use window::PaceLimits;
use window::{RequestAdmission, RequestWindow};

/// A wait is cut here: others may have given back meanwhile what they did not use.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// After how long a ledger that failed is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Admits requests. One for each token; shared by all who use the token in this process.
pub(crate) struct RequestPace {
    /// Where it is kept; in this process until somebody says otherwise.
    ledger: OnceLock<Arc<dyn PaceLedger>>,
    own: MemoryLedger,
    bucket: String,
    limits: PaceLimits,
    clock: Arc<dyn Clock>,
    /// What the ledger is told with its next change. Locked for a moment, never across an await.
    news: Mutex<Vec<PaceNews>>,
    /// Whether an answer is news: the rate is below its most.
    is_slowed: AtomicBool,
    throttled: Throttled,
    allowed: Gauge,
    used: Gauge,
    /// As the gauges: used, allowed.
    seen: [AtomicU32; 2],
}

/// What happened since the ledger was changed last. Times are monotonic.
#[derive(Clone, Copy)]
enum PaceNews {
    Ended { id: u64, at: Duration },
    GivenBack { id: u64, count: u32 },
    Answered { at: Duration },
    Hinted { allowed: Option<u32>, remaining: Option<u32> },
}

/// Time spent waiting, counted in whole seconds.
struct Throttled {
    seconds: Counter,
    /// All of it. Locked for a moment, never across an await.
    total: Mutex<Duration>,
}

/// The right to send one request. It counts until one period after it is dropped.
pub(crate) struct RequestPermit<'a> {
    pace: &'a RequestPace,
    id: u64,
}

impl RequestPace {
    pub(crate) fn new(bucket: String, limits: PaceLimits, clock: Arc<dyn Clock>) -> Self {
        let allowed = gauge!("scoreline_genesys_requests_allowed");
        allowed.set(f64::from(limits.most));
        Self {
            ledger: OnceLock::new(),
            own: MemoryLedger::new(Arc::clone(&clock)),
            bucket,
            limits,
            clock,
            news: Mutex::default(),
            // Not known before the ledger was asked.
            is_slowed: AtomicBool::new(true),
            throttled: Throttled {
                seconds: counter!("scoreline_genesys_throttle_seconds_total"),
                total: Mutex::default(),
            },
            allowed,
            used: gauge!("scoreline_genesys_requests_used"),
            seen: [AtomicU32::new(0), AtomicU32::new(limits.most)],
        }
    }

    /// Keeps the pace in this ledger, which others share. The first call counts.
    pub(crate) fn keep_in(&self, ledger: Arc<dyn PaceLedger>) {
        drop(self.ledger.set(ledger));
    }

    /// Waits until one more request may be sent.
    pub(crate) async fn enter(&self) -> RequestPermit<'_> {
        RequestPermit { pace: self, id: self.reserve(1).await.0 }
    }

    /// A permit for one request if it may be sent at this moment, else how long to wait.
    pub(crate) async fn try_enter(&self) -> Result<RequestPermit<'_>, Duration> {
        match self.ask(1).await {
            RequestAdmission::Now(id) => Ok(RequestPermit { pace: self, id }),
            RequestAdmission::After(wait) => Err(wait),
        }
    }

    /// Waits until so many requests may be sent. Returns the number they are known by, and a monotonic moment before they
    /// began to count.
    pub(crate) async fn reserve(&self, count: u32) -> (u64, Duration) {
        loop {
            let asked = self.clock.monotonic();
            match self.ask(count).await {
                RequestAdmission::Now(id) => return (id, asked),
                RequestAdmission::After(wait) => {
                    let wait = wait.min(LONGEST_SLEEP);
                    self.throttled.add(wait);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// A permit of those that were reserved under this number.
    pub(crate) fn reserved(&self, id: u64) -> RequestPermit<'_> {
        RequestPermit { pace: self, id }
    }

    /// So many of the reserved ones are not sent.
    pub(crate) fn give_back(&self, id: u64, count: u32) {
        if count > 0 {
            self.tell(PaceNews::GivenBack { id, count });
        }
    }

    async fn ask(&self, count: u32) -> RequestAdmission {
        let id = fastrand::u64(..);
        let asked = self.change(|window, now| window.admit(now, count, id)).await;
        asked.unwrap_or(RequestAdmission::After(ASK_AGAIN))
    }

    /// The last request was answered and not refused for its rate.
    pub(crate) fn answered(&self) {
        if self.is_slowed.load(Ordering::Acquire) {
            self.tell(PaceNews::Answered { at: self.clock.monotonic() });
        }
    }

    /// The platform said beside an answer what it allows.
    pub(crate) fn hinted(&self, allowed: Option<u32>, remaining: Option<u32>) {
        if remaining.is_some() || allowed.is_some_and(|allowed| allowed < self.limits.most) {
            self.tell(PaceNews::Hinted { allowed, remaining });
        }
    }

    /// The last request was refused for its rate: nobody is admitted for the pause that is returned, in no process.
    pub(crate) async fn refused(&self, retry_after: Option<Duration>) -> Duration {
        let draw = fastrand::f64();
        let pause = self.change(|window, now| window.refused(now, retry_after, draw)).await;
        pause.unwrap_or(retry_after.unwrap_or(ASK_AGAIN))
    }

    /// Nobody is admitted for a while: the platform asked for a pause.
    pub(crate) async fn hold(&self, pause: Duration) {
        self.change(|window, now| window.hold(now, pause)).await;
    }

    /// Requests that counted when one was last asked for, and how many may.
    pub(crate) fn seen(&self) -> (u32, u32) {
        let [used, allowed] = &self.seen;
        (used.load(Ordering::Relaxed), allowed.load(Ordering::Relaxed))
    }

    /// How long requests have waited here, all together.
    pub(crate) fn throttled(&self) -> Duration {
        self.throttled.total()
    }

    fn tell(&self, news: PaceNews) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).push(news);
    }

    /// Changes the window for everybody; `None` when that is not known to be kept. News that are lost with it are of
    /// requests that count as ended when they must have: too long, never too short.
    async fn change<T: Send>(&self, change: impl FnOnce(&mut RequestWindow, i64) -> T + Send) -> Option<T> {
        let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
        let asked = self.clock.monotonic();
        let mut changed = None;
        let work = |kept: Option<&str>, clock: &str, now: i64| {
            let mut window = RequestWindow::resume(kept, clock, now, self.limits);
            for news in &news {
                news.tell(&mut window, asked, now);
            }
            let answer = change(&mut window, now);
            let seen = (window.is_slowed(), window.allowed(), window.counted());
            changed = Some((answer, seen));
            window.text()
        };
        let ledger: &dyn PaceLedger = self.ledger.get().map_or(&self.own, |ledger| &**ledger);
        if let Err(reason) = ledger.change(&self.bucket, Box::new(work)).await {
            warn!(%reason, "the pace cannot be kept, so nothing is sent");
            return None;
        }
        let (answer, (is_slowed, allowed, counted)) = changed?;
        self.is_slowed.store(is_slowed, Ordering::Release);
        self.allowed.set(f64::from(allowed));
        self.used.set(f64::from(counted));
        let [shown_used, shown_allowed] = &self.seen;
        shown_used.store(counted, Ordering::Relaxed);
        shown_allowed.store(allowed, Ordering::Relaxed);
        Some(answer)
    }
}

impl PaceNews {
    /// `asked` is before `now`, so what happened is told as later than it was, never as earlier.
    fn tell(self, window: &mut RequestWindow, asked: Duration, now: i64) {
        let when = |at: Duration| now - i64::try_from(asked.saturating_sub(at).as_millis()).unwrap_or(0);
        match self {
            Self::Ended { id, at } => window.end(id, when(at)),
            Self::GivenBack { id, count } => window.give_back(id, count),
            Self::Answered { at } => window.answered(when(at)),
            Self::Hinted { allowed, remaining } => window.hinted(allowed, remaining),
        }
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        self.pace.tell(PaceNews::Ended { id: self.id, at: self.pace.clock.monotonic() });
    }
}

impl Throttled {
    fn add(&self, wait: Duration) {
        let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let before = total.as_secs();
        *total += wait;
        self.seconds.increment(total.as_secs() - before);
    }

    fn total(&self) -> Duration {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoreline_domain::time::SystemClock;

    fn pace(ledger: &Arc<MemoryLedger>) -> RequestPace {
        let limits = PaceLimits { most: 30, period: Duration::from_mins(1), longest: Duration::from_secs(25) };
        let ledger: Arc<dyn PaceLedger> = Arc::<MemoryLedger>::clone(ledger);
        let pace = RequestPace::new("token".to_owned(), limits, Arc::new(SystemClock));
        pace.keep_in(ledger);
        pace
    }

    async fn admitted(pace: &RequestPace) -> usize {
        let mut count = 0;
        while let Ok(permit) = pace.try_enter().await {
            count += 1;
            drop(permit);
        }
        count
    }

    #[tokio::test]
    async fn two_replicas_of_a_token_keep_to_one_limit() {
        let ledger = Arc::new(MemoryLedger::new(Arc::new(SystemClock)));
        let (one, other) = (pace(&ledger), pace(&ledger));
        let (id, _) = other.reserve(10).await;
        assert_eq!(admitted(&one).await, 20);
        assert_eq!(admitted(&other).await, 0);
        other.give_back(id, 7);
        assert_eq!(admitted(&other).await, 7);
        assert_eq!(admitted(&one).await, 0);
    }

    #[tokio::test]
    async fn a_pause_holds_everybody_and_outlasts_its_process() {
        let ledger = Arc::new(MemoryLedger::new(Arc::new(SystemClock)));
        let (one, other) = (pace(&ledger), pace(&ledger));
        assert!(one.refused(Some(Duration::from_secs(30))).await >= Duration::from_secs(30));
        drop(one);
        let wait = other.try_enter().await.map(drop).expect_err("a pause");
        assert!(wait > Duration::from_secs(29), "{wait:?}");
        let Err(wait) = pace(&ledger).try_enter().await.map(drop) else { panic!("a pause") };
        assert!(wait > Duration::from_secs(29), "{wait:?}");
    }
}
