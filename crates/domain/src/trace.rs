//! Traces: which requests and jobs are followed, what is noted of them on the way, and the W3C `traceparent` that comes in
//! and goes out. What is noted is handed over whole at the end; nothing is sent from here.
//!
//! A request that is not followed costs a branch without tracing, and a throw of a thread's own dice with it. No clock is
//! read for it. Whoever is on the way notes into the recording of the task, which only followed ones have. Notes are fixed
//! words, numbers and names of models: never an identifier, a feature or a value.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::time::{Clock as _, Stopwatch, SystemClock, Timestamp};

/// The header that carries a trace from one program to the next.
pub const TRACEPARENT: &str = "traceparent";
/// Callers that follow all of their requests are followed so often a second; beyond it, they cost nothing.
const PARENTS_PER_SECOND: u32 = 100;
/// Most spans below one root. A job may ask the platform thousands of things.
const MOST_SPANS: usize = 128;

/// What all spans of one trace share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// One span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    fn draw() -> Self {
        Self(NonZeroU128::new(fastrand::u128(..)).unwrap_or(NonZeroU128::MIN))
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    fn draw() -> Self {
        Self(NonZeroU64::new(fastrand::u64(..)).unwrap_or(NonZeroU64::MIN))
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A span as `traceparent` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace: TraceId,
    pub span: SpanId,
    /// Whether whoever made it follows the trace.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads the header, without an allocation. `None` when it is not as the recommendation has it: as good as absent.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (known, rest) = header.split_at_checked(55)?;
        let [version, trace, span, flags] = [0..2, 3..35, 36..52, 53..55].map(|part| &known[part]);
        let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let version = hex(version)?;
        // A later version may say more behind a dash, version 0 may not, and 255 is none.
        let fits = match version {
            0 => rest.is_empty(),
            255 => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let trace = TraceId(NonZeroU128::new(hex(trace)?)?);
        let span = SpanId(NonZeroU64::new(u64::try_from(hex(span)?).ok()?)?);
        let is_sampled = hex(flags)? & 1 == 1;
        (dashes && fits).then_some(Self { trace, span, is_sampled })
    }
}

/// Lower-case digits only.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-0{}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

/// Whether a span is our own work, an answer to somebody, or a question to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    Internal,
    Server,
    Client,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    Text(Cow<'static, str>),
    Number(i64),
    Flag(bool),
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u16> for AttributeValue {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for AttributeValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

pub type Attributes = Vec<(&'static str, AttributeValue)>;

/// Something that took time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub id: SpanId,
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
    /// Since the trace began here.
    pub from: Duration,
    pub to: Duration,
    pub attributes: Attributes,
    /// It did not do what it is for.
    pub failed: bool,
    /// How often it was noted: the rows of a batch are one span.
    pub times: u32,
}

/// A request or a job that was followed to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedTrace {
    pub id: TraceId,
    /// The caller's span.
    pub parent: Option<SpanId>,
    pub began: Timestamp,
    pub root: Span,
    /// What happened in it, one level deep.
    pub spans: Vec<Span>,
    /// Spans that there was no room for.
    pub left_out: u32,
}

/// Decides what is followed. Cheap to clone; by default nothing is.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<TracerParts>>);

struct TracerParts {
    /// Followed when a throw of 32 bits is below it.
    threshold: u64,
    parents: Mutex<SecondCount>,
    give: Box<dyn Fn(Given) + Send + Sync>,
}

/// What a tracer hands over.
pub enum Given {
    Finished(FinishedTrace),
    /// A caller's trace that was not followed, because its callers are followed often enough.
    ParentPassedOver,
}

#[derive(Default)]
struct SecondCount {
    second: u64,
    count: u32,
}

impl Tracer {
    /// Follows this share of what begins here, and hands over to `give`, which never waits.
    pub fn new(share: f64, give: impl Fn(Given) + Send + Sync + 'static) -> Self {
        let threshold = (share.clamp(0.0, 1.0) * (1_u64 << 32) as f64) as u64;
        Self(Some(Arc::new(TracerParts { threshold, parents: Mutex::default(), give: Box::new(give) })))
    }

    /// The recording of a request that begins with `watch`, if it is to be followed. `parent` gives its header.
    #[inline]
    pub fn follow<'h>(&self, parent: impl FnOnce() -> Option<&'h [u8]>, watch: Stopwatch) -> Option<Arc<Recording>> {
        let parts = self.0.as_ref()?;
        let parent = match parent().and_then(TraceParent::parse) {
            Some(parent) if !parent.is_sampled || !parts.has_room(SystemClock.monotonic()) => return None,
            None if !parts.throw() => return None,
            parent => parent,
        };
        Some(Recording::begin(parts, parent, watch, Followed::Request))
    }

    /// Runs work of our own under a trace of its own, followed or not; its calls carry it either way. Says which, where it
    /// was followed.
    pub async fn run<T>(
        &self,
        name: impl FnOnce() -> Cow<'static, str>,
        work: impl Future<Output = T>,
        end: impl FnOnce(&T) -> WorkEnd,
    ) -> (T, Option<TraceId>) {
        let Some(parts) = &self.0 else { return (work.await, None) };
        let followed = if parts.throw() { Followed::Work } else { Followed::No };
        let recording = Recording::begin(parts, None, Stopwatch::start(), followed);
        let done = CURRENT.scope(Arc::clone(&recording), work).await;
        let ended = end(&done);
        if followed == Followed::No || ended == WorkEnd::Nothing {
            return (done, None);
        }
        recording.finish(name(), SpanKind::Internal, Vec::new(), ended == WorkEnd::Failed);
        (done, Some(recording.trace))
    }
}

/// What became of work of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkEnd {
    Done,
    Failed,
    /// There was nothing to do, which is nobody's news.
    Nothing,
}

impl TracerParts {
    fn throw(&self) -> bool {
        self.threshold > 0 && u64::from(fastrand::u32(..)) < self.threshold
    }

    fn has_room(&self, now: Duration) -> bool {
        let mut parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        if parents.second != now.as_secs() {
            *parents = SecondCount { second: now.as_secs(), count: 0 };
        }
        let has_room = parents.count < PARENTS_PER_SECOND;
        if has_room {
            parents.count += 1;
        } else {
            (self.give)(Given::ParentPassedOver);
        }
        has_room
    }
}

tokio::task_local! {
    /// Of the request or job under way.
    static CURRENT: Arc<Recording>;
}

/// What is noted of one request or job while it is under way.
pub struct Recording {
    parts: Arc<TracerParts>,
    trace: TraceId,
    root: SpanId,
    parent: Option<SpanId>,
    watch: Stopwatch,
    followed: Followed,
    noted: Mutex<Noted>,
}

/// What a recording is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followed {
    /// Work of our own that is not followed: its calls say so.
    No,
    Work,
    /// Only requests have stages: their scores are theirs, those that a job makes are its work.
    Request,
}

#[derive(Default)]
struct Noted {
    spans: Vec<Span>,
    left_out: u32,
    /// Where the last stage ended.
    mark: Duration,
}

impl Recording {
    fn begin(parts: &Arc<TracerParts>, parent: Option<TraceParent>, watch: Stopwatch, followed: Followed) -> Arc<Self> {
        Arc::new(Self {
            parts: Arc::clone(parts),
            trace: parent.map_or_else(TraceId::draw, |parent| parent.trace),
            root: SpanId::draw(),
            parent: parent.map(|parent| parent.span),
            watch,
            followed,
            noted: Mutex::default(),
        })
    }

    pub fn trace(&self) -> TraceId {
        self.trace
    }

    fn is_sampled(&self) -> bool {
        self.followed != Followed::No
    }

    /// Does some of the work that is followed.
    pub fn during<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Arc::clone(self), work)
    }

    /// Notes what took the time since the last stage until now.
    pub fn stage(&self, name: &'static str) {
        if self.followed == Followed::Request {
            let to = self.watch.elapsed();
            let mut noted = self.noted();
            let from = noted.mark;
            noted.stage(name, from, to, Vec::new);
        }
    }

    /// Notes a stage that has just taken so long. The time before it is of the stage `before`.
    fn stage_of(
        &self,
        before: &'static str,
        name: &'static str,
        took: Duration,
        attributes: impl FnOnce() -> Attributes,
    ) {
        if self.followed == Followed::Request {
            let to = self.watch.elapsed();
            let from = to.saturating_sub(took);
            let mut noted = self.noted();
            let mark = noted.mark;
            if from > mark && noted.spans.iter().all(|span| span.name != before) {
                noted.stage(before, mark, from, Vec::new);
            }
            noted.stage(name, from, to, attributes);
        }
    }

    /// Ends the root and hands everything over.
    pub fn finish(&self, name: Cow<'static, str>, kind: SpanKind, attributes: Attributes, failed: bool) {
        let to = self.watch.elapsed();
        let began = SystemClock.exact().checked_sub(to).unwrap_or(Timestamp::UNIX_EPOCH);
        let root = Span { id: self.root, name, kind, from: Duration::ZERO, to, attributes, failed, times: 1 };
        let Noted { spans, left_out, .. } = std::mem::take(&mut *self.noted());
        let finished = FinishedTrace { id: self.trace, parent: self.parent, began, root, spans, left_out };
        (self.parts.give)(Given::Finished(finished));
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    /// A stage that is noted again goes on: those of the rows of a batch are one.
    fn stage(&mut self, name: &'static str, from: Duration, to: Duration, attributes: impl FnOnce() -> Attributes) {
        self.mark = to;
        match self.spans.iter_mut().find(|span| span.name == name) {
            Some(again) => (again.to, again.times) = (to, again.times + 1),
            None => self.add(Span::internal(name, from, to, attributes())),
        }
    }

    fn add(&mut self, span: Span) {
        if self.spans.len() < MOST_SPANS {
            self.spans.push(span);
        } else {
            self.left_out += 1;
        }
    }
}

impl Span {
    fn internal(name: &'static str, from: Duration, to: Duration, attributes: Attributes) -> Self {
        let (id, name, kind) = (SpanId::draw(), Cow::Borrowed(name), SpanKind::Internal);
        Self { id, name, kind, from, to, attributes, failed: false, times: 1 }
    }
}

/// The trace of the request or job under way, where it is followed: for the log.
pub fn current() -> Option<TraceId> {
    CURRENT.try_with(|recording| recording.is_sampled().then_some(recording.trace)).ok().flatten()
}

/// Notes that a stage of the request under way has ended; it began where the last one did.
pub fn stage(name: &'static str) {
    // No task without a recording has one: that is the usual case, and costs a look.
    let _ = CURRENT.try_with(|recording| recording.stage(name));
}

/// Notes a stage of the request under way that has just taken so long. The time before it is of the stage `before`.
pub fn stage_of(before: &'static str, name: &'static str, took: Duration, attributes: impl FnOnce() -> Attributes) {
    let _ = CURRENT.try_with(|recording| recording.stage_of(before, name, took, attributes));
}

/// A question to another program that is under way, in the trace of whoever asks it.
pub struct Call {
    recording: Arc<Recording>,
    id: SpanId,
    name: &'static str,
    from: Duration,
}

impl Call {
    /// `None` without a trace.
    pub fn begin(name: &'static str) -> Option<Self> {
        let recording = CURRENT.try_with(Arc::clone).ok()?;
        let from = recording.watch.elapsed();
        Some(Self { recording, id: SpanId::draw(), name, from })
    }

    /// What the header `traceparent` says of it.
    pub fn parent(&self) -> TraceParent {
        TraceParent { trace: self.recording.trace, span: self.id, is_sampled: self.recording.is_sampled() }
    }

    /// Notes its end: the status of the answer, or why there is none.
    pub fn end(self, answered: Result<u16, &'static str>) {
        let Self { recording, id, name, from } = self;
        if !recording.is_sampled() {
            return;
        }
        let to = recording.watch.elapsed();
        let failed = answered.is_err() || answered.is_ok_and(|status| status >= 400);
        let attributes = match answered {
            Ok(status) => vec![("http.response.status_code", status.into())],
            Err(reason) => vec![("error.type", reason.into())],
        };
        let (name, kind) = (Cow::Borrowed(name), SpanKind::Client);
        recording.noted().add(Span { id, name, kind, from, to, attributes, failed, times: 1 });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// A tracer, and what it has handed over.
    fn tracer(share: f64) -> (Tracer, Arc<Mutex<Vec<Given>>>) {
        let given = Arc::new(Mutex::new(Vec::new()));
        let taking = Arc::clone(&given);
        (Tracer::new(share, move |one| taking.lock().expect("not poisoned").push(one)), given)
    }

    fn finished(given: &Mutex<Vec<Given>>) -> Vec<FinishedTrace> {
        let taken = std::mem::take(&mut *given.lock().expect("not poisoned"));
        let finished = |one| if let Given::Finished(trace) = one { Some(trace) } else { None };
        taken.into_iter().filter_map(finished).collect()
    }

    #[test]
    fn a_parent_is_read_as_the_recommendation_has_it() {
        let parent = TraceParent::parse(PARENT).expect("the recommendation's own");
        assert_eq!(parent.to_string().as_bytes(), PARENT);
        assert!(parent.is_sampled);
        for good in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09",
        ] {
            assert!(TraceParent::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_parent_is_followed_when_it_says_so_and_so_often_a_second() {
        let (tracer, given) = tracer(0.0);
        let follow = |parent: Option<&[u8]>| tracer.follow(|| parent, Stopwatch::start());
        assert!(follow(None).is_none() && follow(Some(b"rubbish")).is_none());
        assert!(follow(Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")).is_none());
        let parts = tracer.0.as_ref().expect("on");
        let second = Duration::from_secs(7);
        let followed = (0..1_000).filter(|_| parts.has_room(second)).count();
        assert_eq!(followed, PARENTS_PER_SECOND as usize);
        assert_eq!(given.lock().expect("not poisoned").len(), 1_000 - followed, "the others are counted");
        assert!(parts.has_room(second + Duration::from_secs(1)), "the next second is a new one");
        let recording = follow(Some(PARENT)).expect("followed");
        recording.finish("x".into(), SpanKind::Server, Vec::new(), false);
        let trace = finished(&given).pop().expect("handed over");
        let parent = TraceParent::parse(PARENT).expect("valid");
        assert_eq!((trace.id, trace.parent), (parent.trace, Some(parent.span)));
        assert!(Tracer::default().follow(|| Some(PARENT), Stopwatch::start()).is_none(), "off");
    }

    #[test]
    fn an_unsampled_parent_is_not_thrown_for() {
        let (tracer, _) = tracer(1.0);
        let unsampled = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert!(tracer.follow(|| Some(unsampled), Stopwatch::start()).is_none());
        assert!(tracer.follow(|| None, Stopwatch::start()).is_some());
    }

    #[test]
    fn stages_stand_one_behind_the_other_and_rows_of_a_batch_are_one() {
        let (tracer, given) = tracer(1.0);
        let recording = tracer.follow(|| None, Stopwatch::start()).expect("followed");
        recording.during(|| {
            assert_eq!(current(), Some(recording.trace()));
            stage("auth");
            std::thread::sleep(Duration::from_millis(3));
            for row in [1_u16, 2, 3] {
                stage_of("parse", "score", Duration::from_micros(1), || vec![("row", row.into())]);
            }
            stage("write");
        });
        stage("nobody's");
        assert_eq!(current(), None);
        recording.finish("POST /x".into(), SpanKind::Server, Vec::new(), false);
        let trace = finished(&given).pop().expect("handed over");
        let names: Vec<_> = trace.spans.iter().map(|span| (&*span.name, span.times)).collect();
        assert_eq!(names, [("auth", 1), ("parse", 1), ("score", 3), ("write", 1)]);
        for pair in trace.spans.windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "{pair:?}");
        }
        assert!(trace.spans[3].to <= trace.root.to);
        assert_eq!(trace.spans[2].attributes, [("row", AttributeValue::Number(1))]);
    }

    #[tokio::test]
    async fn calls_of_a_job_carry_its_trace_whether_or_not_it_is_followed() {
        for (share, flag) in [(0.0, "-00"), (1.0, "-01")] {
            let (tracer, given) = tracer(share);
            let work = async {
                let call = Call::begin("job_status").expect("a trace");
                let header = call.parent().to_string();
                call.end(Ok(503));
                for _ in 0..MOST_SPANS + 5 {
                    Call::begin("query").expect("a trace").end(Err("timeout"));
                }
                header
            };
            let (header, followed) = tracer.run(|| "job extract".into(), work, |_| WorkEnd::Failed).await;
            assert!(header.ends_with(flag), "{header}");
            let traces = finished(&given);
            assert_eq!((traces.len(), followed.is_some()), (usize::from(share > 0.0), share > 0.0));
            for trace in traces {
                let call = &trace.spans[0];
                let parent = TraceParent::parse(header.as_bytes()).expect("valid");
                assert_eq!((trace.id, call.id, call.failed), (parent.trace, parent.span, true));
                assert_eq!(call.attributes, [("http.response.status_code", AttributeValue::Number(503))]);
                assert_eq!((trace.spans.len(), trace.left_out), (MOST_SPANS, 6));
            }
        }
        assert!(Call::begin("query").is_none());
        let off = Tracer::default();
        off.run(|| "job".into(), async { assert!(Call::begin("query").is_none()) }, |()| WorkEnd::Done).await;
        let (always, given) = tracer(1.0);
        always.run(|| "job".into(), async {}, |()| WorkEnd::Nothing).await;
        assert_eq!(finished(&given), [], "nothing was to be done");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Followed is the share that was asked for, within what chance allows (five standard deviations).
        #[test]
        fn the_share_that_is_followed_is_near_the_rate(share in 0.0..=1.0_f64) {
            const THROWS: u32 = 40_000;
            let (tracer, _) = tracer(share);
            let parts = tracer.0.as_ref().expect("on");
            let followed = f64::from((0..THROWS).filter(|_| parts.throw()).count() as u32);
            let deviation = (f64::from(THROWS) * share * (1.0 - share)).sqrt();
            let off = (followed - f64::from(THROWS) * share).abs();
            prop_assert!(off <= 5.0 * deviation + 1.0, "{followed} of {THROWS} at {share}");
        }

        #[test]
        fn whatever_is_written_is_read(trace in 1..u128::MAX, span in 1..u64::MAX, is_sampled: bool) {
            let trace = TraceId(NonZeroU128::new(trace).expect("above 0"));
            let parent = TraceParent { trace, span: SpanId(NonZeroU64::new(span).expect("above 0")), is_sampled };
            prop_assert_eq!(TraceParent::parse(parent.to_string().as_bytes()), Some(parent));
        }

        #[test]
        fn no_header_breaks_it(header in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceParent::parse(&header);
        }
    }
}
