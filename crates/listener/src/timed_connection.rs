//! A connection under its timers.
//!
//! There is one timer for each connection, and a request that comes whole does not move it: socket and service note in
//! `ConnectionStats` what happens, and the notes are looked at when a turn of the connection ends in the middle of something (then
//! the timer is set for that) or when the timer fires (then they tell whether anything happened since).
//!
//! * inside a head: `header_timeout` from its first byte; of the first head, from the connection's start
//! * the socket takes no more: `write_timeout`, and less than `WRITE_LEAST` taken in it counts as nothing
//! * idle: `idle_timeout`, looked at every quarter of it
//! * told to end, for whatever reason: `FAREWELL`
//! * has been answered and shut, and still sends: `LINGER`
//! * bytes that no request comes of: `IDLE_TALK`, `FIRST_TALK`, whatever the time
//!
//! While a request is being answered no timer of the connection runs: its body and its scoring have deadlines of their
//! own.
//!
//! A client that is answered before it has sent its whole body (too large, no such route) is read on for `LINGER` and
//! some MiB at most. Closed with bytes unread, the connection would be reset and the answer lost.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Limits;
use super::caps::End;
use super::connection_stats::ConnectionStats;
use super::drain::Drain;
use super::io::HttpVersion;
use scoreline_domain::time::Stopwatch;

/// A listener that has closed gives each kept-alive connection so long for one more request, whose answer then says that
/// it is the last. Cut at once, a connection could lose the request that is on its way.
pub(super) const IDLE_WHEN_CLOSED: Duration = Duration::from_secs(1);
/// From being told to end to being cut.
const FAREWELL: Duration = Duration::from_secs(5);
/// From the last word to a client that is still sending to the end of it.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes a client must take in `write_timeout`.
const WRITE_LEAST: u64 = 8 * 1024;
/// Bytes that may come without a request coming of them: pings, window updates, what was under way when a body was
/// refused. More is a flood.
const IDLE_TALK: u64 = 2 * 1024 * 1024;
/// The same before the first request, where nothing of a body can be under way.
const FIRST_TALK: u64 = 128 * 1024;
/// Looks at an idle connection before it is closed.
pub(super) const IDLE_LOOKS: u32 = 4;

/// What the timer is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    FirstHead,
    Head { calls: u32 },
    Write { written: u64 },
    Idle { calls: u32, looks: u32 },
    LastChance { calls: u32 },
    Farewell,
    Linger,
}

pin_project! {
    /// Ends with the connection, or with the reason to cut it.
    pub(super) struct TimedConnection<C> {
        #[pin]
        connection: C,
        version: HttpVersion,
        stats: Arc<ConnectionStats>,
        limits: Limits,
        timer: Pin<Box<Sleep>>,
        armed: Armed,
        // The timer has not been polled since it was set, so it would not wake us.
        unheard: bool,
        age: Stopwatch,
        drain: Drain,
        steps: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
        listening: bool,
        told: bool,
    }
}

impl<C: GracefulConnection> TimedConnection<C> {
    /// A connection that was opened `age` ago. Before its first request, `timer` is set for its first head.
    pub(super) fn new(
        connection: C,
        version: HttpVersion,
        stats: Arc<ConnectionStats>,
        limits: &Limits,
        mut timer: Pin<Box<Sleep>>,
        age: Stopwatch,
        drain: Drain,
    ) -> Self {
        let steps = drain.steps().map(Box::pin);
        let armed = match stats.calls() {
            0 => Armed::FirstHead,
            calls => {
                timer.set(sleep(limits.idle_timeout / IDLE_LOOKS));
                Armed::Idle { calls, looks: 0 }
            }
        };
        if age.elapsed() >= limits.age {
            stats.retire();
        }
        Self {
            connection,
            version,
            stats,
            limits: *limits,
            timer,
            armed,
            unheard: true,
            age,
            drain,
            steps,
            listening: false,
            told: false,
        }
    }

    fn arm(self: Pin<&mut Self>, armed: Armed) {
        let this = self.project();
        let limits = this.limits;
        let after = match armed {
            Armed::FirstHead | Armed::Head { .. } => limits.header_timeout,
            Armed::Write { .. } => limits.write_timeout,
            Armed::Idle { .. } => limits.idle_timeout / IDLE_LOOKS,
            Armed::LastChance { .. } => IDLE_WHEN_CLOSED.min(limits.idle_timeout),
            Armed::Farewell => FAREWELL,
            Armed::Linger => LINGER,
        };
        *this.armed = armed;
        this.timer.set(sleep(after));
        *this.unheard = true;
    }

    /// Asks the connection to end after what it has begun.
    fn tell(mut self: Pin<&mut Self>) {
        let this = self.as_mut().project();
        *this.told = true;
        this.connection.graceful_shutdown();
        self.arm(Armed::Farewell);
    }

    /// Sets the timer for what the connection is in the middle of, if it is not set for that.
    fn watch(mut self: Pin<&mut Self>) {
        let (stats, armed) = (&self.stats, self.armed);
        let calls = stats.calls();
        let next = match armed {
            Armed::Linger => None,
            _ if stats.is_lingering() => Some(Armed::Linger),
            Armed::Farewell => None,
            Armed::Write { .. } if stats.is_blocked() => None,
            _ if stats.is_blocked() => Some(Armed::Write { written: stats.written() }),
            Armed::FirstHead if calls == 0 => None,
            Armed::Head { calls: before } if calls == before && stats.is_reading() => None,
            // HTTP/2 frames come at any time; there, only the first request is waited for.
            Armed::Idle { .. } | Armed::LastChance { .. } | Armed::Write { .. } | Armed::Head { .. }
                if self.version == HttpVersion::One && stats.is_reading() =>
            {
                Some(Armed::Head { calls })
            }
            Armed::Idle { .. } | Armed::LastChance { .. } => None,
            Armed::FirstHead | Armed::Head { .. } | Armed::Write { .. } => Some(Armed::Idle { calls, looks: 0 }),
        };
        if let Some(next) = next {
            self.as_mut().arm(next);
        }
    }

    /// What the process's end or the connection's own asks for.
    fn leave(mut self: Pin<&mut Self>) {
        let two = self.version == HttpVersion::Two;
        let calls = self.stats.calls();
        let spent = two && calls >= self.limits.requests;
        // An HTTP/2 client reads the goodbye beside any answer, so it need not wait for one; but a connection that was
        // opened a moment ago shall have its first request.
        let leaving = two && calls > 0 && self.drain.is_leaving();
        if spent || leaving {
            self.tell();
        } else if self.drain.is_closed()
            && matches!(self.armed, Armed::Idle { .. } | Armed::FirstHead)
            && !self.stats.is_reading()
        {
            self.as_mut().arm(Armed::LastChance { calls });
        }
    }

    /// The timer fired: the reason to cut the connection, if there is one.
    fn overdue(mut self: Pin<&mut Self>) -> Option<End> {
        let calls = self.stats.calls();
        match self.armed {
            Armed::FirstHead | Armed::Head { .. } => return Some(End::HeaderTimeout),
            Armed::Write { written } => {
                let now = self.stats.written();
                if now - written < WRITE_LEAST {
                    return Some(End::WriteTimeout);
                }
                self.as_mut().arm(Armed::Write { written: now });
            }
            Armed::Idle { calls: before, looks } => {
                if self.age.elapsed() >= self.limits.age {
                    // HTTP/1 says so in its next answer; one that stays idle is closed for that.
                    self.stats.retire();
                    if self.version == HttpVersion::Two {
                        self.as_mut().tell();
                        return None;
                    }
                }
                if calls != before || self.stats.is_answering() {
                    self.as_mut().arm(Armed::Idle { calls, looks: 0 });
                } else if looks + 1 < IDLE_LOOKS {
                    self.as_mut().arm(Armed::Idle { calls, looks: looks + 1 });
                } else if self.version == HttpVersion::Two {
                    self.as_mut().tell();
                } else {
                    return Some(End::IdleTimeout);
                }
            }
            Armed::LastChance { calls: before } => {
                if calls != before || self.stats.is_answering() {
                    self.as_mut().arm(Armed::LastChance { calls });
                } else {
                    self.as_mut().tell();
                }
            }
            // It has been told everything.
            Armed::Linger => return Some(End::Finished),
            Armed::Farewell => {
                // What is being answered has deadlines of its own, and the drain time above it.
                if self.stats.is_answering() {
                    self.as_mut().arm(Armed::Farewell);
                } else {
                    return Some(End::Overstayed);
                }
            }
        }
        None
    }
}

impl<C: GracefulConnection> Future for TimedConnection<C> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let this = self.as_mut().project();
        // Once is enough: a task keeps its waker, and the flags say the rest.
        if !*this.listening {
            *this.listening = true;
            for step in this.steps {
                let _ = step.as_mut().poll(context);
            }
        }
        loop {
            let this = self.as_mut().project();
            this.stats.turn_begins();
            if let Poll::Ready(ended) = this.connection.poll(context) {
                return Poll::Ready(if ended.is_ok() { End::Finished } else { End::Error });
            }
            if this.stats.idle_talk() > if this.stats.calls() == 0 { FIRST_TALK } else { IDLE_TALK } {
                return Poll::Ready(End::Flood);
            }
            self.as_mut().watch();
            let told = self.told;
            if !told {
                self.as_mut().leave();
            }
            // Polled again only so that what it was told is carried out.
            if self.told == told {
                break;
            }
        }
        loop {
            let this = self.as_mut().project();
            if *this.unheard {
                *this.unheard = false;
                if this.timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            } else if !this.timer.is_elapsed() {
                return Poll::Pending;
            }
            let told = *this.told;
            if let Some(end) = self.as_mut().overdue() {
                return Poll::Ready(end);
            }
            if self.told != told {
                context.waker().wake_by_ref();
            }
        }
    }
}
