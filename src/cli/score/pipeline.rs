//! The threads of a scoring run: one reads, all cores score and encode, one writes in the order of the input.
//!
//! Memory is bounded by tickets: the reader takes one for every chunk and the writer gives it back when the chunk is
//! written, so that no more than `WINDOW` chunks a worker are on their way, however slow one of them is.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow};

use super::answer::{RowAnswer, answer};
use super::chunk::Chunk;
use super::draw::Mapping;
use super::sink::{Encoded, Encoder, Sink};
use super::source::Source;
use crate::scoring::estimate::Wish;
use scoreline_domain::Source as AnswerSource;
use scoreline_domain::time::Timestamp;
use scoreline_engine::inference::ModelSnapshot;

/// Chunks on their way, for each worker.
const WINDOW: usize = 4;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ScoringTally {
    pub(super) rows: u64,
    pub(super) by_model: u64,
    pub(super) cold_start: u64,
    pub(super) errors: u64,
    /// Rows with fields that the output has no column for.
    pub(super) left_out: u64,
    /// The first row that could not be scored (1-based) and why.
    pub(super) first_error: Option<(u64, String)>,
}

/// What the threads share.
pub(super) struct ChunkJob<'a> {
    pub(super) snapshot: &'a ModelSnapshot,
    pub(super) wish: Wish,
    /// What the times of features are seen from.
    pub(super) now: Timestamp,
    pub(super) mapping: &'a Mapping<'a>,
    pub(super) encoder: &'a Encoder,
    pub(super) workers: usize,
    /// Set from outside to end early.
    pub(super) stop: &'a AtomicBool,
}

struct Finished {
    number: u64,
    encoded: Encoded,
    tally: ScoringTally,
}

impl ChunkJob<'_> {
    /// Scores everything in `source` into `sink`; `tick` hears of the rows written.
    ///
    /// # Errors
    /// The first one of any thread. What was written until then is incomplete.
    pub(super) fn run(
        &self,
        source: Box<dyn Source>,
        sink: &mut Sink,
        tick: impl Fn(u64),
    ) -> anyhow::Result<ScoringTally> {
        let window = self.workers * WINDOW;
        let (tickets, ticket) = mpsc::sync_channel(window);
        for _ in 0..window {
            tickets.send(()).context("tickets fit their channel")?;
        }
        let (chunks, next_chunk) = mpsc::channel();
        let (finished, next_finished) = mpsc::channel();
        let next_chunk = Mutex::new(next_chunk);
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || self.read(source, &ticket, &chunks));
            for _ in 0..self.workers {
                let finished = finished.clone();
                let next_chunk = &next_chunk;
                scope.spawn(move || self.work(next_chunk, &finished));
            }
            drop(finished);
            let written = self.write(sink, &next_finished, &tickets, tick);
            // Whoever waits for the writer is let go, so that every thread ends.
            drop(next_finished);
            drop(tickets);
            let read = reader.join().unwrap_or_else(|_| Err(anyhow!("the reading thread panicked")));
            let tally = written?;
            read?;
            if self.stop.load(Ordering::Relaxed) { Err(anyhow!("interrupted")) } else { Ok(tally) }
        })
    }

    fn read(
        &self,
        mut source: Box<dyn Source>,
        ticket: &Receiver<()>,
        chunks: &Sender<(u64, Chunk)>,
    ) -> anyhow::Result<()> {
        let mut number = 0;
        // A closed channel means that another thread failed; its error is the one that counts.
        while ticket.recv().is_ok() && !self.stop.load(Ordering::Relaxed) {
            let Some(chunk) = source.next().context("input cannot be read")? else { break };
            if chunks.send((number, chunk)).is_err() {
                break;
            }
            number += 1;
        }
        Ok(())
    }

    /// An error is sent on to the writer: a chunk that never comes would otherwise be waited for.
    fn work(&self, next: &Mutex<Receiver<(u64, Chunk)>>, finished: &Sender<anyhow::Result<Finished>>) {
        loop {
            let received = next.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((number, chunk)) = received else { return };
            let scored = catch_unwind(AssertUnwindSafe(|| self.score(number, &chunk)));
            let scored = scored.unwrap_or_else(|_| Err(anyhow!("a scoring thread panicked")));
            if finished.send(scored).is_err() {
                return;
            }
        }
    }

    fn score(&self, number: u64, chunk: &Chunk) -> anyhow::Result<Finished> {
        let answers = answer(self.snapshot, self.wish, self.now, self.mapping.draw(chunk)?);
        let encoded = self.encoder.encode(self.snapshot, chunk, &answers)?;
        let tally = ScoringTally { left_out: self.encoder.left_out(chunk), ..ScoringTally::of(&answers) };
        Ok(Finished { number, encoded, tally })
    }

    fn write(
        &self,
        sink: &mut Sink,
        next: &Receiver<anyhow::Result<Finished>>,
        tickets: &SyncSender<()>,
        tick: impl Fn(u64),
    ) -> anyhow::Result<ScoringTally> {
        let mut total = ScoringTally::default();
        let mut early = BTreeMap::new();
        let mut awaited = 0;
        while let Ok(chunk) = next.recv() {
            let chunk = chunk?;
            early.insert(chunk.number, chunk);
            while let Some(Finished { encoded, tally, .. }) = early.remove(&awaited) {
                sink.write(encoded).context("output cannot be written")?;
                tick(tally.rows);
                total.add(tally);
                awaited += 1;
                // The reader may be through already.
                let _ = tickets.try_send(());
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(total)
    }
}

impl ScoringTally {
    fn of(answers: &[RowAnswer]) -> Self {
        let mut tally = Self { rows: answers.len() as u64, ..Self::default() };
        for (answer, number) in answers.iter().zip(1..) {
            match answer {
                RowAnswer::Scored { source: AnswerSource::ColdStart, .. } => tally.cold_start += 1,
                RowAnswer::Scored { .. } => tally.by_model += 1,
                RowAnswer::Refused(reason) => {
                    tally.errors += 1;
                    tally.first_error.get_or_insert_with(|| (number, reason.clone()));
                }
            }
        }
        tally
    }

    /// Adds what came right behind.
    fn add(&mut self, next: Self) {
        let before = self.rows;
        self.first_error = self.first_error.take().or(next.first_error.map(|(row, reason)| (before + row, reason)));
        self.rows += next.rows;
        self.by_model += next.by_model;
        self.cold_start += next.cold_start;
        self.errors += next.errors;
        self.left_out += next.left_out;
    }
}
