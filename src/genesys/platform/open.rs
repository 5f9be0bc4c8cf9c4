//! The oldest conversation that has not ended: the next extraction begins with it, so that one that goes on for days is
//! not missed when it ends.

use serde::Deserialize;
use tracing::warn;

use super::questions::{self, Ended};
use super::record::{Conversation, moment};
use super::{At, Gathered, PlatformHistory, Stage, after, before, days, midnight};
use crate::domain::time::Timestamp;
use crate::genesys::GenesysError;
use crate::genesys::source::Window;
use crate::genesys::transport::{Method, Operation};

/// Conversations that have been open for longer are not waited for: some never end.
const OPEN_DAYS: u32 = 31;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    conversations: Option<Vec<Conversation<'a>>>,
}

pub(super) fn first_open_day(window: Window) -> Timestamp {
    midnight(before(window.to, days(OPEN_DAYS))).max(midnight(window.from))
}

impl PlatformHistory {
    pub(super) async fn look_for_open(
        &self,
        stage: &Stage,
        from: Timestamp,
        window: Window,
        gathered: &mut Gathered,
    ) -> Result<Stage, GenesysError> {
        let usual = before(stage.watermark, self.settings.look_back);
        if from >= usual {
            return Ok(Stage { at: At::End { resume_from: usual }, ..stage.clone() });
        }
        let to = after(from, days(self.settings.query_window_days)).min(window.to);
        let path = ["analytics", "conversations", "details", "query"];
        let body = Some(questions::query(Window { from, to }, Ended::NotExists, 1, 1));
        let found = match self.ask(Operation::Query, Method::POST, &path, &[], body, gathered).await {
            Ok(answer) => answer.json::<Page<'_>>()?.conversations.iter().flatten().find_map(open_since),
            Err(err) if err.asks_for_less() => {
                warn!("the platform does not say which conversations are open: long ones may be missed");
                Some(usual)
            }
            Err(err) => return Err(err),
        };
        let at = match found {
            Some(since) => At::End { resume_from: since.min(usual) },
            None => At::Open { from: to },
        };
        Ok(Stage { at, ..stage.clone() })
    }
}

fn open_since(conversation: &Conversation<'_>) -> Option<Timestamp> {
    if conversation.end.is_some() {
        return None;
    }
    moment(conversation.start.as_ref())
}
