//! The pace of one token's requests: whoever wants to send one waits here for a permit. `window` decides.

mod window;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use serde::{Deserialize, Serialize};

use scoreline_domain::time::{Clock, Timestamp};
use window::{RequestAdmission, RequestWindow};

/// Requests that the process before may have sent after it last said what it had sent (those of one step): counted as sent
/// just now.
const IN_DOUBT: usize = 12;

/// Requests of the last period by the second in which they ended, for the next process. No bytes of any request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Unix second, rounded up, and how many ended in it.
    requests: Vec<(i64, u32)>,
    /// Nothing may be sent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused_until: Option<Timestamp>,
}

/// Admits requests. One for each token; shared by all who use the token.
pub(crate) struct RequestPace {
    window: Mutex<RequestWindow>,
    period: Duration,
    clock: Arc<dyn Clock>,
    throttled: Throttled,
    allowed: Gauge,
}

/// Time spent waiting, counted in whole seconds.
struct Throttled {
    seconds: Counter,
    /// All of it. Locked for a moment, never across an await.
    total: Mutex<Duration>,
}

/// The right to send one request. It counts until one period after it is dropped.
pub(crate) struct RequestPermit<'a>(&'a RequestPace);

impl RequestPace {
    pub(crate) fn new(most: u32, period: Duration, clock: Arc<dyn Clock>) -> Self {
        let allowed = gauge!("scoreline_genesys_requests_allowed");
        allowed.set(f64::from(most));
        Self {
            window: Mutex::new(RequestWindow::new(most, period)),
            period,
            clock,
            throttled: Throttled {
                seconds: counter!("scoreline_genesys_throttle_seconds_total"),
                total: Mutex::default(),
            },
            allowed,
        }
    }

    /// Waits until one more request may be sent.
    pub(crate) async fn enter(&self) -> RequestPermit<'_> {
        loop {
            let admission = self.window().admit(self.now());
            match admission {
                RequestAdmission::Now => return RequestPermit(self),
                RequestAdmission::After(wait) => {
                    self.throttled.add(wait);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// The last request was answered and not refused for its rate.
    pub(crate) fn answered(&self) {
        let mut window = self.window();
        window.answered(self.now());
        self.allowed.set(f64::from(window.allowed()));
    }

    /// The last request was refused for its rate: nobody is admitted for the pause that is returned.
    pub(crate) fn refused(&self, retry_after: Option<Duration>) -> Duration {
        let mut window = self.window();
        let pause = window.refused(self.now(), retry_after, fastrand::f64());
        self.allowed.set(f64::from(window.allowed()));
        pause
    }

    /// Nobody is admitted for a while: the platform asked for a pause.
    pub(crate) fn hold(&self, pause: Duration) {
        self.window().hold(self.now(), pause);
    }

    /// How long requests have waited here, all together.
    pub(crate) fn throttled(&self) -> Duration {
        self.throttled.total()
    }

    /// What has to be known to go on in another process.
    pub(crate) fn spent(&self) -> Spent {
        let (ages, pause) = {
            let (window, now) = (self.window(), self.now());
            (window.ages(now), window.pause_left(now))
        };
        let wall = self.clock.now();
        let mut requests: Vec<(i64, u32)> = Vec::new();
        for age in ages {
            // Rounded up: rather too young than too old.
            let second = wall.checked_sub(age).map_or(wall, |ended| ended).as_second() + 1;
            match requests.last_mut() {
                Some((last, count)) if *last == second => *count += 1,
                Some(_) | None => requests.push((second, 1)),
            }
        }
        let paused_until = (!pause.is_zero()).then(|| wall.checked_add(pause).unwrap_or(wall));
        Spent { requests, paused_until }
    }

    /// Goes on where another process has stopped.
    pub(crate) fn restore(&self, spent: &Spent) {
        if *spent == Spent::default() {
            return;
        }
        let wall = self.clock.now();
        // A clock that was set back makes them younger than now: they count as sent now.
        let since = |time: Timestamp| Duration::try_from(wall.duration_since(time)).unwrap_or(Duration::ZERO);
        let ages = spent.requests.iter().flat_map(|(second, count)| {
            let age = Timestamp::from_second(*second).map_or(Duration::ZERO, since);
            std::iter::repeat_n(age, *count as usize)
        });
        let ages: Vec<_> = ages.filter(|age| *age <= self.period).collect();
        let doubt = std::iter::repeat_n(Duration::ZERO, IN_DOUBT);
        let pause = spent
            .paused_until
            .map_or(Duration::ZERO, |until| Duration::try_from(until.duration_since(wall)).unwrap_or(Duration::ZERO));
        self.window().restore(self.now(), ages.into_iter().chain(doubt), pause);
    }

    /// One period after the clock's own, so that ages of a period can be told from its first moment on.
    fn now(&self) -> Duration {
        self.clock.monotonic() + self.period
    }

    fn window(&self) -> MutexGuard<'_, RequestWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        let now = self.0.now();
        self.0.window().end(now);
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
