//! Where callbacks may go: any public host by https, or only the hosts that the operator lists.
//!
//! A listed host is known to whoever lists it, so it may have a private address, and this machine may be listed for plain
//! HTTP. An entry holds for one port: the scheme's own, or the one behind the colon. So listing this machine does not open
//! its other ports to whoever may ask for predictions.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// The name that plain HTTP may go to beside loopback addresses.
pub(super) const LOCALHOST: &str = "localhost";
const LONGEST: usize = 2048;

/// The hosts that callbacks may go to; all public ones when none is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallbackHosts(Vec<HostEntry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct HostEntry {
    /// Lower case; behind `*.` for every name below.
    host: String,
    /// The scheme's own when absent.
    port: Option<u16>,
}

/// Why an address is not one for callbacks, to follow its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFault {
    #[error("must be a URL of at most {LONGEST} bytes")]
    NoUrl,
    #[error(
        "must begin with `https://`; `http://` is for addresses of this machine that `write_back.callbacks.hosts` lists"
    )]
    Scheme,
    #[error("must have no user, password or fragment")]
    Decorated,
    #[error("must name its host by a domain name, or by an address that `write_back.callbacks.hosts` lists")]
    Address,
    #[error("must be on a host that `write_back.callbacks.hosts` lists, at the port that it lists")]
    NotListed,
}

impl CallbackHosts {
    /// # Errors
    /// The first entry that is none.
    pub fn parse<'t>(entries: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        entries
            .into_iter()
            .map(|text| HostEntry::parse(text).ok_or_else(|| text.to_owned()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The entries, as they are written.
    pub fn entries(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(ToString::to_string)
    }

    pub(super) fn are_listed(&self) -> bool {
        !self.0.is_empty()
    }

    /// The URL of a callback.
    ///
    /// # Errors
    /// When it may not be told.
    pub fn check(&self, text: &str) -> Result<Url, HostFault> {
        let url = Url::parse(text).ok().filter(|_| text.len() <= LONGEST).ok_or(HostFault::NoUrl)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(HostFault::NoUrl)?;
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let is_listed = self.0.iter().any(|entry| entry.covers(host, &url));
        let is_local = host == LOCALHOST || address.is_some_and(|address| address.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if is_local && is_listed => {}
            _ => return Err(HostFault::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(HostFault::Decorated);
        }
        if !self.0.is_empty() && !is_listed {
            return Err(HostFault::NotListed);
        }
        if !is_listed && (address.is_some() || is_local) {
            return Err(HostFault::Address);
        }
        Ok(url)
    }
}

impl HostEntry {
    fn parse(text: &str) -> Option<Self> {
        // By the same reader as the URLs that it is compared with.
        let name = text.strip_prefix("*.").unwrap_or(text);
        let url = Url::parse(&format!("https://{name}")).ok()?;
        let is_bare = url.path() == "/" && !name.ends_with('/') && url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().filter(|_| is_bare && url.username().is_empty() && url.password().is_none())?;
        let is_pattern = name.len() != text.len();
        if is_pattern && host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return None;
        }
        let host = if is_pattern { format!("*.{host}") } else { host.to_owned() };
        // The reader leaves out the scheme's own port, which is what an entry without one means.
        Some(Self { host, port: url.port() })
    }

    fn covers(&self, host: &str, url: &Url) -> bool {
        let names_it = match self.host.strip_prefix("*.") {
            Some(above) => host.strip_suffix(above).is_some_and(|below| below.len() > 1 && below.ends_with('.')),
            None => self.host == host,
        };
        names_it && self.port == url.port()
    }
}

impl fmt::Display for HostEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listed: &[&str], url: &str) -> Result<(), HostFault> {
        CallbackHosts::parse(listed.iter().copied()).expect("entries").check(url).map(drop)
    }

    #[test]
    fn without_a_list_public_hosts_are_told_by_https_alone() {
        for good in ["https://hooks.example.com/clv?token=1", "https://hooks.example.com:8443/", "HTTPS://Example.COM"]
        {
            assert_eq!(check(&[], good), Ok(()), "{good}");
        }
        let long = format!("https://example.com/{}", "x".repeat(2048));
        for (bad, fault) in [
            ("http://hooks.example.com/", HostFault::Scheme),
            ("http://127.0.0.1:8081/admin/models/clv/rollback", HostFault::Scheme),
            ("http://localhost/", HostFault::Scheme),
            ("ftp://example.com/", HostFault::Scheme),
            ("file:///etc/passwd", HostFault::NoUrl),
            ("hooks.example.com", HostFault::NoUrl),
            ("", HostFault::NoUrl),
            (long.as_str(), HostFault::NoUrl),
            ("https://user@example.com/", HostFault::Decorated),
            ("https://user:secret@example.com/", HostFault::Decorated),
            ("https://example.com/#part", HostFault::Decorated),
            ("https://127.0.0.1/", HostFault::Address),
            ("https://2130706433/", HostFault::Address),
            ("https://0x7f.1/", HostFault::Address),
            ("https://[::1]/", HostFault::Address),
            ("https://169.254.169.254/latest/meta-data", HostFault::Address),
            ("https://93.184.216.34/", HostFault::Address),
            ("https://localhost/", HostFault::Address),
        ] {
            assert_eq!(check(&[], bad), Err(fault), "{bad}");
        }
    }

    #[test]
    fn a_list_names_hosts_and_ports_and_nothing_beside_them() {
        let listed =
            ["hooks.example.com", "*.corp.example", "10.0.0.7:8443", "127.0.0.1:9000", "[::1]:9000", "localhost:9001"];
        for good in [
            "https://hooks.example.com/",
            "https://hooks.example.com:443/",
            "https://a.corp.example/x",
            "https://a.b.corp.example/x",
            "https://10.0.0.7:8443/",
            "http://127.0.0.1:9000/told",
            "http://[::1]:9000/",
            "http://localhost:9001/",
        ] {
            assert_eq!(check(&listed, good), Ok(()), "{good}");
        }
        for (bad, fault) in [
            ("https://other.example.com/", HostFault::NotListed),
            ("https://hooks.example.com:8443/", HostFault::NotListed),
            ("https://hooks.example.com.evil.example/", HostFault::NotListed),
            ("https://corp.example/", HostFault::NotListed),
            ("https://evilcorp.example/", HostFault::NotListed),
            ("https://10.0.0.7/", HostFault::NotListed),
            ("http://127.0.0.1:8081/admin/models/clv/rollback", HostFault::Scheme),
            ("http://10.0.0.7:8443/", HostFault::Scheme),
            ("http://hooks.example.com/", HostFault::Scheme),
        ] {
            assert_eq!(check(&listed, bad), Err(fault), "{bad}");
        }
        for bad in
            ["", "https://example.com", "example.com/path", "a b", "*.10.0.0.1", "example.com:0x", "user@example.com"]
        {
            assert_eq!(CallbackHosts::parse([bad]), Err(bad.to_owned()), "{bad}");
        }
    }
}
