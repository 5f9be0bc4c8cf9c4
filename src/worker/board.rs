//! The jobs of this process as others see them: how each stands, and a way to ask for a run.

use std::sync::Arc;

use super::progress::Progress;
use super::schedule::Wake;
use crate::domain::{JobName, JobStatus};

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<[Entry]>);

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) progress: Progress,
    pub(super) wake: Wake,
}

impl Board {
    /// These jobs, none of which has run.
    pub fn new(jobs: impl IntoIterator<Item = JobName>) -> Self {
        let entry = |job| Entry { progress: Progress::new(job), wake: Wake::default() };
        Self(jobs.into_iter().map(entry).collect())
    }

    pub fn statuses(&self) -> Vec<(JobName, JobStatus)> {
        self.0.iter().map(|entry| (entry.progress.job(), entry.progress.status())).collect()
    }

    /// Asks for a run as soon as possible; false when there is no such job here.
    pub fn nudge(&self, job: JobName) -> bool {
        let entry = self.entry(job);
        if let Some(entry) = entry {
            entry.wake.nudge();
        }
        entry.is_some()
    }

    pub(super) fn entry(&self, job: JobName) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.progress.job() == job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_jobs_that_are_there_can_be_asked_for() {
        let board = Board::new([JobName::Features, JobName::Rescore]);
        assert!(board.nudge(JobName::Rescore));
        assert!(!board.nudge(JobName::Extract));
        let names: Vec<_> = board.statuses().into_iter().map(|(job, _)| job).collect();
        assert_eq!(names, [JobName::Features, JobName::Rescore]);
    }
}
