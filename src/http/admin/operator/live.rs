//! The page as it goes on: parts are made once a second while somebody watches, and those that have changed are sent as
//! events.
//!
//! Whoever reads slowly gets the newest parts and misses those between; a connection that takes nothing holds one event. A
//! stream ends when the process is asked to stop, so that nobody waits for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use tokio::sync::watch;

use super::access::PageAccess;
use super::look::{STORE_LOOK, look};
use super::{described, page_parts};
use crate::http::edge::error::error_response;
use crate::http::openapi::Operation;
use crate::http::operator_desk::{OperatorDesk, PagePart};
use crate::http::state::SharedState;
use scoreline_domain::time::Rounds;

/// How often parts are made while somebody watches, and how often what is wrong is looked for while nobody does.
const MAKE_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: u32 = 60;
/// A line without meaning after so long a silence: whoever is between sees that both ends are there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// When a browser whose stream has ended asks for another, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";

/// One who watches.
struct Watcher {
    parts: watch::Receiver<Arc<Vec<PagePart>>>,
    desk: OperatorDesk,
    sent: Arc<Vec<PagePart>>,
    is_begun: bool,
}

/// Makes the parts for those who watch, and remembers since when something is wrong. A supervised task.
pub async fn keep_live(app: SharedState) {
    let stop = app.operator.stop.clone();
    let mut rounds = Rounds::every(MAKE_EVERY);
    let mut round = 0_u32;
    while rounds.next(stop.requested()).await {
        let is_watched = app.operator.watchers() > 0;
        if is_watched || round.is_multiple_of(LOOK_EVERY) {
            let findings = look(&app, if is_watched { STORE_LOOK } else { Duration::ZERO }).await;
            if is_watched {
                app.operator.show(page_parts(&findings));
            }
        }
        round = round.wrapping_add(1);
    }
}

pub(crate) fn describe_live() -> Operation {
    described("operator_live", "Parts of the operator's page as they change, as events").gives_text(
        StatusCode::OK,
        "text/event-stream",
        "Events, until the server stops.",
    )
}

/// `GET /operator/live`
pub(crate) async fn live(State(app): State<SharedState>, access: PageAccess) -> Response {
    if let Err(err) = access.admit() {
        return error_response(err);
    }
    let parts = app.operator.watch();
    let sent = Arc::new(page_parts(&look(&app, STORE_LOOK).await));
    let watcher = Watcher { parts, desk: app.operator.clone(), sent, is_begun: false };
    let events = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), watcher))
    });
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

impl Watcher {
    /// The next events; `None` when there are no more.
    async fn next(&mut self) -> Option<String> {
        if !self.is_begun {
            self.is_begun = true;
            return Some(format!("{RETRY}{}", events(&self.sent, &[])));
        }
        loop {
            tokio::select! {
                biased;
                () = self.desk.stop.requested() => return None,
                made = self.parts.changed() => {
                    made.ok()?;
                    let newest = Arc::clone(&self.parts.borrow_and_update());
                    let events = events(&newest, &self.sent);
                    self.sent = newest;
                    if !events.is_empty() {
                        return Some(events);
                    }
                }
                () = tokio::time::sleep(HEARTBEAT) => return Some(":\n\n".to_owned()),
            }
        }
    }
}

/// An event for each part that is not as it was.
fn events(parts: &[PagePart], sent: &[PagePart]) -> String {
    let mut text = String::new();
    for part in parts.iter().filter(|part| !sent.contains(part)) {
        text.push_str("event: part\n");
        // A line of an event ends with any of these.
        for line in part.html.split(['\n', '\r']) {
            text.push_str("data: ");
            text.push_str(line);
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: &'static str, html: &str) -> PagePart {
        PagePart { id, html: html.to_owned() }
    }

    #[test]
    fn only_what_has_changed_is_sent_and_no_text_ends_its_event() {
        let sent = [part("a", "<p>1</p>"), part("b", "<p>2</p>")];
        assert_eq!(events(&sent, &sent), "");
        let next = [part("a", "<p>1</p>"), part("b", "<p>x\n\ndata: y\r\rz</p>")];
        assert_eq!(events(&next, &sent), "event: part\ndata: <p>x\ndata: \ndata: data: y\ndata: \ndata: z</p>\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_the_newest_a_silence_a_heartbeat_and_the_stop_ends_it() {
        let desk = OperatorDesk::default();
        let mut watcher =
            Watcher { parts: desk.watch(), desk: desk.clone(), sent: Arc::new(vec![part("a", "0")]), is_begun: false };
        assert_eq!(watcher.next().await.as_deref(), Some("retry: 2000\n\nevent: part\ndata: 0\n\n"));
        for number in 1..=1000 {
            desk.show(vec![part("a", &number.to_string())]);
        }
        assert_eq!(watcher.next().await.as_deref(), Some("event: part\ndata: 1000\n\n"));
        let before = tokio::time::Instant::now();
        assert_eq!(watcher.next().await.as_deref(), Some(":\n\n"));
        assert_eq!(before.elapsed(), HEARTBEAT);
        assert_eq!(desk.watchers(), 1);
        desk.stop.request();
        assert_eq!(watcher.next().await, None);
        drop(watcher);
        assert_eq!(desk.watchers(), 0);
    }
}
