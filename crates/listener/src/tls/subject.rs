//! Which client certificates are let in, by the names they carry: exact, or one label left open. No other patterns: each
//! further kind of pattern is one more way to let in the wrong client.

use super::peer::{CertificateNames, San};

/// The names of which a client certificate must carry one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedSubjects(Vec<Allowed>);

/// Why an entry cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    #[error(
        "`{0}` is a pattern: write a name in full, or `*.` and a name of two labels or more, such as `*.example.com`"
    )]
    Pattern(String),
    #[error("`{0}` must be the value alone, without `{1}`")]
    Prefixed(String, &'static str),
    #[error("`{0}` holds a character that no name holds")]
    Character(String),
    #[error("an entry is empty")]
    Empty,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    /// Equal to the common name, or to a DNS name but for the case of ASCII letters.
    Exact(String),
    /// Equal to a URI name.
    Uri(String),
    /// One label and then this, which begins with a dot.
    AnyLabel(String),
}

/// How people write which field they mean; entries do not say it.
const PREFIXES: [&str; 6] = ["CN=", "cn=", "DNS:", "dns:", "URI:", "uri:"];

impl AllowedSubjects {
    /// # Errors
    /// The first entry that cannot be used.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, SubjectError> {
        entries.into_iter().map(Allowed::parse).collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the names of `peer` is an allowed one.
    pub fn admit(&self, peer: &CertificateNames) -> bool {
        let common_name = peer.subject_cn.as_deref();
        self.0.iter().any(|allowed| {
            common_name.is_some_and(|name| allowed.is_common_name(name))
                || peer.sans.iter().any(|san| match san {
                    San::Dns(name) => allowed.is_dns_name(name),
                    San::Uri(uri) => allowed.is_uri(uri),
                })
        })
    }
}

impl Allowed {
    fn parse(entry: &str) -> Result<Self, SubjectError> {
        let written = || entry.to_owned();
        if entry.is_empty() {
            return Err(SubjectError::Empty);
        }
        if let Some(prefix) = PREFIXES.into_iter().find(|prefix| entry.starts_with(prefix)) {
            return Err(SubjectError::Prefixed(written(), prefix));
        }
        if entry.chars().any(char::is_control) || entry.trim() != entry {
            return Err(SubjectError::Character(written()));
        }
        if let Some(suffix) = entry.strip_prefix('*') {
            let labels = suffix.strip_prefix('.').map(|rest| rest.split('.'));
            let is_name = labels.is_some_and(|labels| labels.clone().count() >= 2 && labels.clone().all(is_label));
            return if is_name {
                Ok(Self::AnyLabel(suffix.to_ascii_lowercase()))
            } else {
                Err(SubjectError::Pattern(written()))
            };
        }
        if entry.contains('*') {
            return Err(SubjectError::Pattern(written()));
        }
        Ok(if entry.contains("://") || entry.starts_with("urn:") {
            Self::Uri(written())
        } else {
            Self::Exact(written())
        })
    }

    fn is_common_name(&self, name: &str) -> bool {
        match self {
            Self::Exact(allowed) => allowed == name,
            Self::AnyLabel(_) => self.is_dns_name(name),
            Self::Uri(_) => false,
        }
    }

    fn is_dns_name(&self, name: &str) -> bool {
        match self {
            Self::Exact(allowed) => allowed.eq_ignore_ascii_case(name),
            Self::AnyLabel(suffix) => name
                .split_once('.')
                // A certificate's own `*` is not a label: it stands for names nobody allowed.
                .is_some_and(|(label, _)| is_label(label) && name[label.len()..].eq_ignore_ascii_case(suffix)),
            Self::Uri(_) => false,
        }
    }

    fn is_uri(&self, uri: &str) -> bool {
        match self {
            Self::Uri(allowed) => allowed == uri,
            Self::Exact(_) | Self::AnyLabel(_) => false,
        }
    }
}

/// Letters, digits, hyphens and underscores, and at least one.
fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(subject_cn: Option<&str>, sans: &[San]) -> CertificateNames {
        CertificateNames { subject_cn: subject_cn.map(str::to_owned), sans: sans.to_vec(), fingerprint: [0; 32] }
    }

    fn dns(name: &str) -> CertificateNames {
        peer(None, &[San::Dns(name.to_owned())])
    }

    fn allowed(entries: &[&str]) -> AllowedSubjects {
        AllowedSubjects::parse(entries.iter().copied()).expect("usable entries")
    }

    #[test]
    fn names_are_compared_whole() {
        let allowed =
            allowed(&["dataactions.prod.us-east-1.mypurecloud.com", "spiffe://corp.example/crm", "CRM service"]);
        let good = [
            dns("dataactions.prod.us-east-1.mypurecloud.com"),
            dns("DataActions.prod.us-east-1.mypurecloud.com"),
            peer(Some("dataactions.prod.us-east-1.mypurecloud.com"), &[]),
            peer(Some("CRM service"), &[]),
            peer(None, &[San::Uri("spiffe://corp.example/crm".to_owned())]),
            peer(
                Some("anything"),
                &[San::Dns("a.example".to_owned()), San::Uri("spiffe://corp.example/crm".to_owned())],
            ),
        ];
        for peer in good {
            assert!(allowed.admit(&peer), "{peer:?}");
        }
        let bad = [
            dns("prod.us-east-1.mypurecloud.com"),
            dns("x.dataactions.prod.us-east-1.mypurecloud.com"),
            dns("*.prod.us-east-1.mypurecloud.com"),
            dns("dataactions.prod.us-east-1.mypurecloud.com."),
            dns("dataactions.prod.us-east-1.mypurecloud.com\0.evil.example"),
            dns(" dataactions.prod.us-east-1.mypurecloud.com"),
            dns("dataactions.prod.us-east-1.mypurecl\u{43e}ud.com"),
            dns("spiffe://corp.example/crm"),
            peer(Some("crm service"), &[]),
            peer(Some("spiffe://corp.example/crm"), &[]),
            peer(None, &[San::Uri("spiffe://corp.example/crm/".to_owned())]),
            peer(None, &[San::Uri("SPIFFE://corp.example/crm".to_owned())]),
            peer(None, &[San::Uri("dataactions.prod.us-east-1.mypurecloud.com".to_owned())]),
            peer(None, &[]),
        ];
        for peer in bad {
            assert!(!allowed.admit(&peer), "{peer:?}");
        }
    }

    #[test]
    fn an_open_label_is_one_label() {
        let allowed = allowed(&["*.Clients.example"]);
        for name in ["crm.clients.example", "A-1.CLIENTS.example", "x_y.clients.example"] {
            assert!(allowed.admit(&dns(name)) && allowed.admit(&peer(Some(name), &[])), "{name}");
        }
        let bad = [
            "clients.example",
            ".clients.example",
            "a.b.clients.example",
            "*.clients.example",
            "crm.clients.example.evil.example",
            "evilclients.example",
            "a b.clients.example",
            "crm.clients.example.",
        ];
        for name in bad {
            assert!(!allowed.admit(&dns(name)) && !allowed.admit(&peer(Some(name), &[])), "{name}");
        }
        assert!(!allowed.admit(&peer(None, &[San::Uri("crm.clients.example".to_owned())])));
    }

    #[test]
    fn other_patterns_are_refused_with_what_is_allowed() {
        for entry in
            ["*", "*.", "*.com", "*.*.example.com", "crm*.example.com", "crm.*.com", "*crm.example.com", "spiffe://*/x"]
        {
            assert_eq!(AllowedSubjects::parse([entry]), Err(SubjectError::Pattern(entry.to_owned())));
        }
        let prefixed = AllowedSubjects::parse(["CN=crm.example.com"]).expect_err("refused");
        assert_eq!(prefixed.to_string(), "`CN=crm.example.com` must be the value alone, without `CN=`");
        assert_eq!(AllowedSubjects::parse([""]), Err(SubjectError::Empty));
        assert!(AllowedSubjects::parse(["crm\0.example.com"]).is_err());
        assert!(allowed(&[]).is_empty() && !allowed(&[]).admit(&dns("crm.example.com")));
    }
}
