//! The short lane: plain requests (see `plain`) that can be answered at once go from the socket to the service and back
//! without hyper, whose general machinery costs more than a score. Every connection that may speak HTTP/1 begins here.
//! The first thing that is not usual (another route, HTTP/2, a head in many pieces, a goodbye to be said) sends it to
//! hyper with the bytes that were not used, for the rest of its life, so that nothing hyper does is done twice.
//!
//! The timers are those of `timed_connection`, and here, too, a usual request does not touch them.
//!
//! A plain request is a whole `POST` to a hot path over HTTP/1.1, with one `content-length` and nothing else said about
//! its body or the connection. So the lane needs no opinion on what HTTP means beyond *plain or not*, and two readers
//! never take turns on one connection. Tests send the same bytes, cut anywhere, to a server with the lane and to one
//! without it, and expect the same answers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Limits;
use super::caps::End;
use super::drain::Drain;
use super::io::{HttpVersion, Unread};
use super::peer::Connect;
use super::plain::{self, OfferResult};
use super::timed_connection::IDLE_LOOKS;
use scoreline_domain::time::Stopwatch;

/// Clients may send head and body apart; one that takes longer between them goes to hyper, which has timers for that.
const PATIENCE: Duration = Duration::from_millis(250);
/// Requests that came in one go are answered so many at a time, then others get their turn.
const TURN: u32 = 16;
/// Answers are sent before more than this is waiting.
const UNSENT: usize = 4 * 1024;

/// What the timer is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneTimer {
    FirstHead,
    /// The rest of a request.
    Rest,
    Write,
    Idle {
        calls: u32,
        looks: u32,
    },
}

/// How a connection left the lane.
pub(super) enum LaneExit<T, S> {
    Ended(End),
    ForHyper(Handed<T, S>),
}

/// A connection on its way to hyper.
pub(super) struct Handed<T, S> {
    pub(super) version: HttpVersion,
    pub(super) stream: T,
    pub(super) service: S,
    pub(super) unread: Unread,
    /// Still set for the first head when nothing has been answered.
    pub(super) timer: Pin<Box<Sleep>>,
    /// Requests that were answered.
    pub(super) calls: u32,
    pub(super) age: Stopwatch,
}

/// A connection in the lane.
pub(super) struct Lane<'a, C: Connect, T> {
    handed: Handed<T, C::Service>,
    /// Known from the handshake, or to be found out.
    version: Option<HttpVersion>,
    limits: &'a Limits,
    drain: &'a Drain,
    /// When the first head has to be here.
    first_by: Instant,
    armed: LaneTimer,
    /// The timer has not been polled since it was set, so it would not wake us.
    unheard: bool,
    steps: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
    listening: bool,
    out: Vec<u8>,
    sent: usize,
    /// The next request is for hyper, once what is answered has been sent.
    leaving: bool,
    /// Requests since the socket was last empty.
    turn: u32,
}

impl<'a, C: Connect, T: AsyncRead + AsyncWrite + Unpin> Lane<'a, C, T> {
    /// A connection that has just been opened; `timer` is set for its first head.
    pub(super) fn new(
        stream: T,
        service: C::Service,
        version: Option<HttpVersion>,
        timer: Pin<Box<Sleep>>,
        limits: &'a Limits,
        drain: &'a Drain,
    ) -> Self {
        let first_by = timer.deadline();
        let unread = Unread::default();
        let age = Stopwatch::start();
        Self {
            handed: Handed { version: HttpVersion::One, stream, service, unread, timer, calls: 0, age },
            version,
            limits,
            drain,
            first_by,
            armed: LaneTimer::FirstHead,
            unheard: true,
            steps: drain.steps().map(Box::pin),
            listening: false,
            out: Vec::new(),
            sent: 0,
            leaving: false,
            turn: 0,
        }
    }

    /// Answers requests until the connection ends or one is for hyper.
    pub(super) async fn run(mut self) -> LaneExit<T, C::Service> {
        let ended = std::future::poll_fn(|context| self.poll(context)).await;
        if let Some(end) = ended {
            return LaneExit::Ended(end);
        }
        if self.handed.calls == 0 {
            self.handed.timer.as_mut().reset(self.first_by);
        }
        LaneExit::ForHyper(self.handed)
    }

    /// `None`: for hyper.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        if !self.listening {
            // Once is enough: a task keeps its waker, and the flags say the rest.
            self.listening = true;
            for step in &mut self.steps {
                let _ = step.as_mut().poll(context);
            }
        }
        loop {
            if !self.out.is_empty() {
                match self.send(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(end)) => return Poll::Ready(Some(end)),
                    Poll::Pending => return self.wait(LaneTimer::Write, context),
                }
            }
            if self.leaving {
                return Poll::Ready(None);
            }
            if self.turn >= TURN {
                self.turn = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let found = self.answer();
            self.leaving = found == OfferResult::Other;
            if self.leaving || !self.out.is_empty() {
                continue;
            }
            match self.read(context) {
                Poll::Ready(Ok(0)) if self.handed.unread.is_empty() => return Poll::Ready(Some(End::Finished)),
                Poll::Ready(Ok(0)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Some(End::Error)),
                Poll::Pending => {
                    self.turn = 0;
                    let idle = self.handed.unread.is_empty();
                    if idle && self.drain.is_closed() {
                        return Poll::Ready(None);
                    }
                    let calls = self.handed.calls;
                    let armed = match self.version {
                        Some(_) if !idle => LaneTimer::Rest,
                        _ if calls == 0 => LaneTimer::FirstHead,
                        _ => LaneTimer::Idle { calls, looks: 0 },
                    };
                    return self.wait(armed, context);
                }
            }
        }
    }

    /// Answers what is there, as far as it is plain.
    fn answer(&mut self) -> OfferResult {
        let Handed { unread, service, calls, version, .. } = &mut self.handed;
        match self.version.or_else(|| unread.version()) {
            None => return OfferResult::Part,
            Some(found) => {
                self.version = Some(found);
                *version = found;
            }
        }
        if *version == HttpVersion::Two {
            return OfferResult::Other;
        }
        while !unread.is_empty() && self.out.len() < UNSENT {
            // The goodbye is hyper's to say.
            if self.drain.is_leaving() || *calls + 1 >= self.limits.requests {
                return OfferResult::Other;
            }
            let found = plain::offer(unread.bytes(), self.limits, |plain| C::at_once(service, plain, &mut self.out));
            let OfferResult::Taken(bytes) = found else { return found };
            unread.take(bytes);
            *calls += 1;
            self.turn += 1;
        }
        OfferResult::Part
    }

    fn read(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let Handed { unread, stream, .. } = &mut self.handed;
        // A request that is too large for the lane is for hyper, as is a client that has said everything.
        let Some(room) = unread.room() else { return Poll::Ready(Ok(0)) };
        let mut room = ReadBuf::new(room);
        ready!(Pin::new(stream).poll_read(context, &mut room))?;
        let bytes = room.filled().len();
        unread.filled(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut stream = Pin::new(&mut self.handed.stream);
        while self.sent < self.out.len() {
            match ready!(stream.as_mut().poll_write(context, &self.out[self.sent..])) {
                Ok(0) | Err(_) => return Poll::Ready(Err(End::Error)),
                Ok(bytes) => self.sent += bytes,
            }
        }
        // TLS keeps back what the socket did not take.
        if ready!(stream.poll_flush(context)).is_err() {
            return Poll::Ready(Err(End::Error));
        }
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Sleeps for what is waited for, under the timer of that. Ends when the time is over.
    fn wait(&mut self, wanted: LaneTimer, context: &mut Context<'_>) -> Poll<Option<End>> {
        let stays = match (self.armed, wanted) {
            (LaneTimer::Idle { .. }, LaneTimer::Idle { .. }) => true,
            (armed, wanted) => armed == wanted,
        };
        if !stays {
            self.arm(wanted);
        }
        loop {
            if self.unheard {
                self.unheard = false;
                ready!(self.handed.timer.as_mut().poll(context));
            } else if !self.handed.timer.is_elapsed() {
                return Poll::Pending;
            }
            let now = self.handed.calls;
            match self.armed {
                LaneTimer::FirstHead => return Poll::Ready(Some(End::HeaderTimeout)),
                LaneTimer::Write => return Poll::Ready(Some(End::WriteTimeout)),
                LaneTimer::Rest => return Poll::Ready(None),
                LaneTimer::Idle { .. } if self.handed.age.elapsed() >= self.limits.age => return Poll::Ready(None),
                LaneTimer::Idle { calls, looks } if calls == now && looks + 1 >= IDLE_LOOKS => {
                    return Poll::Ready(Some(End::IdleTimeout));
                }
                LaneTimer::Idle { calls, looks } => {
                    let looks = if calls == now { looks + 1 } else { 0 };
                    self.arm(LaneTimer::Idle { calls: now, looks });
                }
            }
        }
    }

    fn arm(&mut self, armed: LaneTimer) {
        let now = match armed {
            LaneTimer::FirstHead => return,
            LaneTimer::Rest => PATIENCE,
            LaneTimer::Write => self.limits.write_timeout,
            LaneTimer::Idle { .. } => self.limits.idle_timeout / IDLE_LOOKS,
        };
        self.armed = armed;
        self.handed.timer.set(sleep(now));
        self.unheard = true;
    }
}
