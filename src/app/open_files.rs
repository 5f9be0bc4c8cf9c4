//! Open files: the limit is raised as far as it goes, and connections leave enough of them for everything else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections of probes, scrapers and a few people.
const ADMIN: usize = 256;
/// Files of the store, models, jobs and calls to others.
const OTHERS: usize = 256;

/// Connections that each listener may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionShares {
    pub public: usize,
    pub admin: usize,
}

impl ConnectionShares {
    /// Raises the limit of open files and shares it out; `most` connections are wanted on the public listener.
    pub(super) fn claim(most: usize) -> Self {
        let limit = raised_limit();
        let shares = Self::of(limit, most);
        if shares.public < most {
            tracing::warn!(
                connections_most = most,
                connections = shares.public,
                open_files = limit,
                "fewer connections than `connections.most`: the limit of open files is too low for so many"
            );
        }
        shares
    }

    /// The limit of open files as a start would raise it, and how many of `most` connections it leaves.
    pub(super) fn possible(most: usize) -> (usize, usize) {
        let limit = getrlimit(Resource::Nofile).maximum;
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        (limit, Self::of(limit, most).public)
    }

    /// The public listener gets what the others leave. At most a quarter of all files is not for connections, and at most
    /// one in sixteen is for the admin listener.
    fn of(limit: usize, most: usize) -> Self {
        let (others, admin) = (OTHERS.min(limit / 4), ADMIN.min(limit / 16).max(1));
        let public = limit.saturating_sub(others + admin).max(1);
        Self { public: public.min(most), admin }
    }
}

/// The limit of open files, as high as this process may set it.
fn raised_limit() -> usize {
    let Rlimit { mut current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => current = maximum,
            Err(err) => tracing::debug!(error = %err, "the limit of open files cannot be raised"),
        }
    }
    // None: no limit.
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        let shares = |limit, most| {
            let ConnectionShares { public, admin } = ConnectionShares::of(limit, most);
            (public, admin)
        };
        assert_eq!(shares(usize::MAX, 4096), (4096, 256));
        assert_eq!(shares(524_288, 1_000_000), (523_776, 256));
        assert_eq!(shares(4608, 4096), (4096, 256));
        assert_eq!(shares(1024, 4096), (704, 64));
        assert_eq!(shares(256, 4096), (176, 16));
        assert_eq!(shares(256, 100), (100, 16));
        assert_eq!(shares(0, 4096), (1, 1), "somebody is always let in");
    }
}
