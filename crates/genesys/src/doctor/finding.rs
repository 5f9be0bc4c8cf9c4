//! One thing that was looked at.

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// It works, and may not do what somebody expects.
    Warning,
    /// It will not work.
    Wrong,
    /// It could not be looked at.
    Unknown,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
            Self::Unknown => "unknown",
        }
    }
}

/// What was found, in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `access`, `clock`, `limits`, `lists`, `list <id>`, `probe <list id>`, `campaigns` or `campaign <id>`.
    pub about: String,
    pub verdict: Verdict,
    pub says: String,
    /// What to do about it, where something is to be done.
    pub fix: Option<String>,
}

impl Finding {
    pub(super) fn new(about: impl Into<String>, verdict: Verdict, says: impl Into<String>) -> Self {
        Self { about: about.into(), verdict, says: says.into(), fix: None }
    }

    pub(super) fn fine(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(about, Verdict::Fine, says)
    }

    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}
