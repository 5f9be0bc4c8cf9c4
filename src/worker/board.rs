//! The jobs of this process as others see them: how each stands, and a way to ask for a run.

use std::sync::Arc;

use super::progress::JobProgress;
use super::schedule::Wake;
use scoreline_domain::{JobName, JobStatus};

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<[BoardEntry]>);

#[derive(Clone, Debug)]
struct BoardEntry {
    progress: JobProgress,
    wake: Wake,
}

impl Board {
    /// These jobs, none of which has run.
    pub fn new(jobs: impl IntoIterator<Item = JobName>) -> Self {
        let entry = |job| BoardEntry { progress: JobProgress::new(job), wake: Wake::default() };
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

    /// Where a job's run writes down how it gets on, and what wakes it.
    pub fn handles(&self, job: JobName) -> Option<(JobProgress, Wake)> {
        self.entry(job).map(|entry| (entry.progress.clone(), entry.wake.clone()))
    }

    /// What wakes those of these jobs that are here.
    pub fn wakes(&self, jobs: &[JobName]) -> Vec<Wake> {
        jobs.iter().filter_map(|job| Some(self.entry(*job)?.wake.clone())).collect()
    }

    fn entry(&self, job: JobName) -> Option<&BoardEntry> {
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
