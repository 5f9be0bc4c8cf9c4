//! `[widget]`: the agent's page. Off without its address.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use toml::Value;

use super::layers::Reader;
use super::tls::TextListSetting;
use super::value::{Setting, quoted};
use super::{auth, secret_file};
use crate::http::{WidgetAccess, WidgetSettings};
use scoreline_genesys::GenesysSettings;
use scoreline_genesys::settings::{BaseUrl, PlainHttp};

/// A key in a file, and the one before it.
const MOST_KEYS: usize = 2;
/// What HMAC-SHA-256 is worth.
const LEAST_CHARACTERS: usize = 32;
const MINUTE: u64 = 60_000;

/// The agent's page as it is set up.
#[derive(Clone, Debug)]
pub struct WidgetSection {
    pub page: WidgetSettings,
    /// The newest first; without any, links are signed with a key that follows from the pepper.
    pub keys: Vec<SecretString>,
    pub link_ttl: Duration,
}

impl Setting for WidgetAccess {
    const ALLOWED: &'static str = "`signed` or `conversation`";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "signed" => Some(Self::Signed),
            "conversation" => Some(Self::Conversation),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(match self {
            Self::Signed => "signed",
            Self::Conversation => "conversation",
        })
    }
}

/// `None` without `widget.url`. All keys are read either way, so that none of their problems waits for another one.
pub(super) fn read(read: &mut Reader, genesys: Option<&GenesysSettings>) -> Option<WidgetSection> {
    let url: Option<String> = read.optional("widget.url");
    let access: WidgetAccess = read.get("widget.access");
    let key_file: Option<PathBuf> = read.optional("widget.key_file");
    let link_ttl = super::duration(read, "widget.link_ttl", "from `5m` to `8h`", 5 * MINUTE, 480 * MINUTE);
    let TextListSetting(hosts) = read.get("widget.frame_ancestors");
    let open_in_tab: bool = read.get("widget.open_in_tab");
    let keys = key_file.map_or_else(Vec::new, |path| {
        keys(&path).unwrap_or_else(|problem| {
            read.problem("widget.key_file", problem);
            Vec::new()
        })
    });
    for host in hosts.iter().filter(|host| !is_source(host)) {
        let allowed = "hosts such as `https://desk.example.com` or `https://*.example.com:8443`";
        read.problem("widget.frame_ancestors", format!("must be a list of {allowed}, got `{host}`"));
    }
    if access == WidgetAccess::Conversation && !auth::is_on(read) {
        let problem =
            "can be `conversation` only with `auth.credentials_file`: else whoever reaches this server could name one";
        read.problem("widget.access", problem);
    }
    let url = url?;
    let url = BaseUrl::parse(&url, PlainHttp::Loopback).map_err(|problem| read.problem("widget.url", problem)).ok()?;
    let of_region = genesys.and_then(GenesysSettings::desktop_hosts).into_iter().flatten();
    let framed_by = of_region.chain(hosts).collect::<Vec<_>>().join(" ");
    if framed_by.is_empty() && !open_in_tab {
        let problem =
            "is needed without `genesys.region`: the hosts whose pages show the agent's page, each ancestor of it";
        read.problem("widget.frame_ancestors", problem);
    }
    let framed_by = if framed_by.is_empty() { "'none'".to_owned() } else { framed_by };
    let url = url.as_str().trim_end_matches('/').to_owned();
    Some(WidgetSection { page: WidgetSettings { url, access, framed_by, open_in_tab }, keys, link_ttl })
}

/// The keys in a file, one a line, the newest first.
fn keys(path: &std::path::Path) -> Result<Vec<SecretString>, String> {
    let text = secret_file::read(path)?;
    let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<_> = lines.map(SecretString::from).collect();
    let is_long = |key: &SecretString| key.expose_secret().chars().count() >= LEAST_CHARACTERS;
    if (1..=MOST_KEYS).contains(&keys.len()) && keys.iter().all(is_long) {
        return Ok(keys);
    }
    Err(format!(
        "must hold 1 or {MOST_KEYS} keys, one a line, each of {LEAST_CHARACTERS} characters or more: `{}`; make one with \
         `openssl rand -base64 32`",
        path.display()
    ))
}

/// Whether a text is one host source of a Content-Security-Policy: a scheme, a host and perhaps a port, and nothing that would
/// begin another directive. Plain HTTP is for this machine.
fn is_source(text: &str) -> bool {
    let (host, is_plain) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(host), _) => (host, false),
        (None, Some(host)) => (host, true),
        (None, None) => return false,
    };
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_named = labels.split('.').all(is_label) && port.parse::<u16>().is_ok();
    is_named && (!is_plain || ["127.0.0.1", "localhost"].contains(&name))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const URL: (&str, &str) = ("SCORELINE__WIDGET__URL", "https://score.example.com/");
    const HOSTS: (&str, &str) =
        ("SCORELINE__WIDGET__FRAME_ANCESTORS", "https://desk.example.com, https://*.example.org:8443");

    fn load(given: &[(&str, &str)]) -> Result<crate::config::Settings, String> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        crate::config::load(None, given).map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_page_is_off_without_its_address_and_stands_where_the_settings_say() {
        assert!(load(&[]).expect("defaults").widget.is_none());
        let widget = load(&[URL, HOSTS]).expect("valid").widget.expect("on");
        assert_eq!(widget.page.url, "https://score.example.com");
        assert_eq!(widget.page.framed_by, "https://desk.example.com https://*.example.org:8443");
        assert_eq!((widget.page.access, widget.link_ttl.as_secs()), (WidgetAccess::Signed, 4 * 3600));
        let tab = load(&[URL, ("SCORELINE__WIDGET__OPEN_IN_TAB", "true")]).expect("valid").widget.expect("on");
        assert_eq!(tab.page.framed_by, "'none'");
    }

    #[test]
    fn what_would_open_the_page_to_others_is_refused_at_its_key() {
        for (given, said) in [
            (vec![URL], "`widget.frame_ancestors` is needed without `genesys.region`"),
            (
                vec![("SCORELINE__WIDGET__URL", "http://score.example.com"), HOSTS],
                "`widget.url` must begin with `https://`",
            ),
            (
                vec![URL, HOSTS, ("SCORELINE__WIDGET__ACCESS", "conversation")],
                "`widget.access` can be `conversation` only",
            ),
            (
                vec![URL, HOSTS, ("SCORELINE__WIDGET__ACCESS", "agent")],
                "`widget.access` must be `signed` or `conversation`",
            ),
            (vec![URL, HOSTS, ("SCORELINE__WIDGET__LINK_TTL", "9h")], "`widget.link_ttl` must be"),
            (vec![URL, HOSTS, ("SCORELINE__WIDGET__KEY_FILE", "/does/not/exist")], "`widget.key_file`"),
        ] {
            let told = load(&given).expect_err("refused");
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn an_ancestor_is_a_host_and_nothing_else() {
        for good in
            ["https://desk.example.com", "https://*.my.salesforce.com", "https://a.b:8443", "http://127.0.0.1:9000"]
        {
            assert!(is_source(good), "{good}");
        }
        for bad in [
            "*",
            "https://*",
            "https:",
            "'self'",
            "desk.example.com",
            "http://desk.example.com",
            "https://desk.example.com/path",
            "https://desk.example.com; script-src *",
            "https://a b",
            "https://a.*.b",
            "https://",
            "https://a:port",
        ] {
            assert!(!is_source(bad), "{bad}");
        }
    }

    #[test]
    fn keys_are_read_from_a_private_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("widget-key");
        let file = ("SCORELINE__WIDGET__KEY_FILE", path.to_str().expect("text"));
        let key = "0123456789abcdef0123456789abcdef";
        for (text, mode, keys) in [
            (String::new(), 0o600, None),
            ("short".to_owned(), 0o600, None),
            (key.to_owned(), 0o644, None),
            (key.to_owned(), 0o600, Some(1)),
            (format!("{key}\n\n{key}1\n"), 0o600, Some(2)),
            (format!("{key}\n{key}1\n{key}2\n"), 0o600, None),
        ] {
            fs::write(&path, &text).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
            let loaded = load(&[URL, HOSTS, file]);
            let found = loaded.as_ref().ok().map(|settings| settings.widget.as_ref().expect("on").keys.len());
            assert_eq!(found, keys, "{text}");
            if let Err(told) = loaded {
                assert!(told.contains("`widget.key_file`") && !told.contains("abcdef"), "{told}");
            }
        }
    }
}
