//! The sections `[server.tls]` and `[server.admin_tls]`, and the rule that nobody far away speaks plain HTTP.

use std::path::PathBuf;

use toml::Value;

use super::layers::Reader;
use super::settings::ServerSettings;
use super::value::{Setting, quoted};
use scoreline_listener::tls::{AllowedSubjects, ClientSettings, MinVersion, Presence, TlsListener, TlsSettings};

/// TLS of both listeners; `None`: plain HTTP.
#[derive(Clone, Debug)]
pub struct TlsSections {
    pub public: Option<TlsSettings>,
    pub admin: Option<TlsSettings>,
}

/// Reads both sections. `server` is what was read before them.
pub(super) fn read(read: &mut Reader, server: &ServerSettings) -> TlsSections {
    let allow_plain_http: bool = read.get("server.allow_plain_http");
    let public = section(read, TlsListener::Public);
    let admin = section(read, TlsListener::Admin);
    let listeners = [
        ("server.listen", server.listen, TlsListener::Public, public.is_some()),
        ("server.admin_listen", server.admin_listen, TlsListener::Admin, admin.is_some()),
    ];
    for (key, address, listener, speaks_tls) in listeners {
        if !speaks_tls && !allow_plain_http && !address.ip().is_loopback() {
            let section = listener.section();
            read.problem(
                key,
                format!(
                    "`{address}` can be reached by other machines, and credentials and scores would cross the network \
                     in the clear; give `certificate` and `key` in [{section}], use a loopback address such as \
                     `127.0.0.1:{}`, or, when something in front of scoreline speaks TLS for it, add \
                     `allow_plain_http = true` to [server]",
                    address.port()
                ),
            );
        }
    }
    TlsSections { public, admin }
}

fn section(read: &mut Reader, listener: TlsListener) -> Option<TlsSettings> {
    let key = |name| listener.key(name);
    let certificate: Option<PathBuf> = read.optional(&key("certificate"));
    let private_key: Option<PathBuf> = read.optional(&key("key"));
    let MinVersionSetting(min_version) = read.get(&key("min_version"));
    let clients = clients(read, listener);
    match (certificate, private_key) {
        (Some(certificate), Some(key)) => Some(TlsSettings { listener, certificate, key, min_version, clients }),
        (Some(_), None) => {
            read.problem(&key("certificate"), format!("needs `{}` beside it: give both or none", key("key")));
            None
        }
        (None, Some(_)) => {
            read.problem(&key("key"), format!("needs `{}` beside it: give both or none", key("certificate")));
            None
        }
        (None, None) => {
            if clients.is_some() {
                let message = format!("needs TLS: give `{}` and `{}`", key("certificate"), key("key"));
                read.problem(&key("client_auth"), message);
            }
            None
        }
    }
}

fn clients(read: &mut Reader, listener: TlsListener) -> Option<ClientSettings> {
    let auth_key = listener.key("client_auth");
    let ca_key = listener.key("client_ca");
    let subjects_key = listener.key("allowed_subjects");
    let crl_key = listener.key("crl");
    let PresenceSetting(presence) = read.get(&auth_key);
    let ca: Option<PathBuf> = read.optional(&ca_key);
    let TextListSetting(subjects) = read.get(&subjects_key);
    let TextListSetting(crl) = read.get(&crl_key);
    let allowed_subjects = match AllowedSubjects::parse(subjects.iter().map(String::as_str)) {
        Ok(allowed) => allowed,
        Err(err) => {
            read.problem(&subjects_key, format!("cannot be used: {err}"));
            return None;
        }
    };
    let Some(presence) = presence else {
        // Somebody who names a CA believes that clients are checked.
        for (key, given) in [(ca_key, ca.is_some()), (subjects_key, !subjects.is_empty()), (crl_key, !crl.is_empty())] {
            if given {
                let message =
                    format!("has no effect while `{auth_key}` is \"off\": set it to \"optional\" or \"required\"");
                read.problem(&key, message);
            }
        }
        return None;
    };
    if allowed_subjects.is_empty() {
        let message = "must name the clients that may connect, such as \
                       [\"dataactions.prod.us-east-1.mypurecloud.com\"]: a CA vouches for more than one";
        read.problem(&subjects_key, message);
    }
    let Some(ca) = ca else {
        read.problem(&auth_key, format!("needs `{ca_key}`: the CAs that may issue client certificates"));
        return None;
    };
    let crl = crl.into_iter().map(PathBuf::from).collect();
    Some(ClientSettings { presence, ca, allowed_subjects, crl })
}

/// A list of texts; by environment separated by commas.
pub(super) struct TextListSetting(pub(super) Vec<String>);

impl Setting for TextListSetting {
    const ALLOWED: &'static str = "a list of texts, such as [\"one\", \"two\"], or by environment `one,two`";

    fn read(value: &Value) -> Option<Self> {
        if let Some(list) = value.as_array() {
            return list.iter().map(String::read).collect::<Option<_>>().map(Self);
        }
        Some(Self(
            value.as_str()?.split(',').map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect(),
        ))
    }

    fn render(&self) -> String {
        let texts: Vec<_> = self.0.iter().map(|text| quoted(text)).collect();
        format!("[{}]", texts.join(", "))
    }
}

struct PresenceSetting(Option<Presence>);

impl Setting for PresenceSetting {
    const ALLOWED: &'static str = "\"off\", \"optional\" or \"required\"";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "off" => Some(Self(None)),
            "optional" => Some(Self(Some(Presence::Optional))),
            "required" => Some(Self(Some(Presence::Required))),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(match self.0 {
            None => "off",
            Some(Presence::Optional) => "optional",
            Some(Presence::Required) => "required",
        })
    }
}

struct MinVersionSetting(MinVersion);

impl Setting for MinVersionSetting {
    const ALLOWED: &'static str = "\"1.2\" or \"1.3\", in quotes";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "1.2" => Some(Self(MinVersion::Tls12)),
            "1.3" => Some(Self(MinVersion::Tls13)),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(match self.0 {
            MinVersion::Tls12 => "1.2",
            MinVersion::Tls13 => "1.3",
        })
    }
}
