//! What an answer means for the next attempt: a table, without state and without I/O.

use crate::error::AttemptFault;

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Answered(u16),
    /// The token endpoint's 400 that says `rate limit exceeded`.
    LoginLimited,
    Failed(AttemptFault),
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The answer is what was asked for.
    Take,
    /// Again, after the pause the platform or the limiter names.
    Wait,
    /// Again, after a random pause that grows.
    Retry(AttemptFault),
    /// Again, with another token.
    Reauthorise,
    /// Nothing gets better by asking again.
    GiveUp,
}

/// Whether the token was already renewed for this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenRenewal {
    AsItWas,
    Renewed,
}

pub(crate) fn decide(attempt: Attempt, token: TokenRenewal) -> Decision {
    match attempt {
        Attempt::Failed(reason) => Decision::Retry(reason),
        Attempt::LoginLimited | Attempt::Answered(429) => Decision::Wait,
        Attempt::Answered(200..=299) => Decision::Take,
        Attempt::Answered(401) if token == TokenRenewal::AsItWas => Decision::Reauthorise,
        Attempt::Answered(status @ (408 | 500 | 502 | 503 | 504)) => Decision::Retry(AttemptFault::Status(status)),
        // Redirects too: nothing may lead a request and its token elsewhere.
        Attempt::Answered(_) => Decision::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        let decided = |status| decide(Attempt::Answered(status), TokenRenewal::AsItWas);
        for status in [200, 201, 202, 204] {
            assert_eq!(decided(status), Decision::Take, "{status}");
        }
        for status in [408, 500, 502, 503, 504] {
            assert_eq!(decided(status), Decision::Retry(AttemptFault::Status(status)), "{status}");
        }
        for status in [301, 302, 307, 400, 403, 404, 409, 413, 422, 501] {
            assert_eq!(decided(status), Decision::GiveUp, "{status}");
        }
        assert_eq!(decided(429), Decision::Wait);
        assert_eq!(decided(401), Decision::Reauthorise);
        assert_eq!(decide(Attempt::Answered(401), TokenRenewal::Renewed), Decision::GiveUp, "once");
        assert_eq!(decide(Attempt::LoginLimited, TokenRenewal::Renewed), Decision::Wait);
        for reason in [AttemptFault::Connect, AttemptFault::Timeout, AttemptFault::Cut] {
            assert_eq!(decide(Attempt::Failed(reason), TokenRenewal::AsItWas), Decision::Retry(reason));
        }
    }
}
