//! `[genesys]`: where the platform is, who asks, how much of it, and where scores are written. Off without a region or an
//! address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use toml::Value;

use super::layers::Reader;
use super::secret_file;
use super::tls::TextListSetting;
use super::value::{Bytes, Setting, quoted};
use scoreline_genesys::GenesysSettings;
use scoreline_genesys::settings::{
    Api, BaseUrl, ContactSchema, ContactWriteMode, OutboundSettings, PlainHttp, PlatformEndpoints, ProfileFields,
    ProfileWrite,
};

impl Setting for Api {
    const ALLOWED: &'static str = "`platform` or `documented`";

    fn read(value: &Value) -> Option<Self> {
        [Self::Platform, Self::Documented].into_iter().find(|api| value.as_str() == Some(api.as_str()))
    }

    fn render(&self) -> String {
        quoted(self.as_str())
    }
}

impl Setting for ProfileWrite {
    const ALLOWED: &'static str = "`patch` or `put`";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "patch" => Some(Self::Patch),
            "put" => Some(Self::Put),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(match self {
            Self::Patch => "patch",
            Self::Put => "put",
        })
    }
}

impl Setting for ContactWriteMode {
    const ALLOWED: &'static str = "`merge` or `partial`";

    fn read(value: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| value.as_str() == Some(mode.as_str()))
    }

    fn render(&self) -> String {
        quoted(self.as_str())
    }
}

/// `[genesys.outbound]`: contact lists and their columns. Read with or without a platform: campaigns are exported without one.
pub(super) fn outbound(read: &mut Reader) -> OutboundSettings {
    let contact_lists = read.get::<TextListSetting>("genesys.outbound.contact_lists").0;
    let allowed = "the name of a column, at most 128 characters, none of them a control character";
    let is_name =
        |name: &String| !name.trim().is_empty() && name.chars().count() <= 128 && !name.chars().any(char::is_control);
    let mut column = |name: &str| read.get_if(&format!("genesys.outbound.{name}_column"), allowed, is_name);
    let (lead_column, score_column, time_column) = (column("lead"), column("score"), column("time"));
    let mut optional = |name: &str| read.optional_if(&format!("genesys.outbound.{name}_column"), allowed, is_name);
    let (band_column, reason_column) = (optional("band"), optional("reason"));
    let write = read.get("genesys.outbound.write");
    let named =
        [Some(&lead_column), Some(&score_column), Some(&time_column), band_column.as_ref(), reason_column.as_ref()];
    let named: Vec<&String> = named.into_iter().flatten().collect();
    let twice =
        named.iter().enumerate().find(|(place, name)| named[..*place].contains(name)).map(|(_, name)| (*name).clone());
    if let Some(name) = twice {
        read.problem(
            "genesys.outbound",
            format!("names the column `{name}` twice: each value needs a column of its own"),
        );
    }
    let is_id = |id: &String| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if let Some(odd) = contact_lists.iter().find(|id| !is_id(id)) {
        read.problem("genesys.outbound.contact_lists", format!("must be ids of contact lists, got `{odd}`"));
    }
    OutboundSettings { contact_lists, lead_column, score_column, time_column, band_column, reason_column, write }
}

/// `None` when neither a region nor an address is named. All keys are read either way, so that none of their problems
/// waits for another one.
pub(super) fn read(read: &mut Reader, outbound: OutboundSettings) -> Option<GenesysSettings> {
    let api: Api = read.get("genesys.api");
    let endpoints = endpoints(read);
    let client_id: Option<String> = read.optional("genesys.client_id");
    let secret_file: Option<PathBuf> = read.optional("genesys.client_secret_file");
    let client_secret = secret_file.as_deref().and_then(|path| client_secret(read, path));
    let mut count = |key: &str, most: u32| super::whole(read, &format!("genesys.{key}"), 1, most) as u32;
    let requests_per_minute = count("requests_per_minute", 100_000);
    let query_window_days = count("query_window_days", 366);
    let query_page_size = count("query_page_size", 1000);
    let job_window_days = count("job_window_days", 366);
    let job_page_size = count("job_page_size", 10_000);
    let look_back = super::duration(read, "genesys.look_back", "from `1h` to `744h`", 3_600_000, 744 * 3_600_000);
    let connect_timeout = super::duration(read, "genesys.connect_timeout", "from `100ms` to `1m`", 100, 60_000);
    let timeout = super::duration(read, "genesys.timeout", "from `1s` to `5m`", 1000, 300_000);
    let allowed = "a size from `1MiB` to `1GiB`, such as `32MiB`";
    let size = |size: &Bytes| (1 << 20..=1 << 30).contains(&size.0);
    let max_response = read.get_if("genesys.max_response", allowed, size).0 as usize;
    let data_service_id = read.optional("genesys.data_service_id");
    let fields = fields(read);
    let profile_write = read.get("genesys.profile.write");
    let contact_schema = contact_schema(read);
    if connect_timeout > timeout {
        let problem = format!("must not be above `genesys.timeout`: {connect_timeout:?} and {timeout:?}");
        read.problem("genesys.connect_timeout", problem);
    }
    let endpoints = endpoints?;
    for (key, is_there) in [("client_id", client_id.is_some()), ("client_secret_file", secret_file.is_some())] {
        if !is_there {
            read.problem(
                &format!("genesys.{key}"),
                "is needed: make an OAuth client with the grant `Client Credentials` on the platform and name it here",
            );
        }
    }
    Some(GenesysSettings {
        api,
        endpoints,
        client_id: client_id?,
        client_secret: client_secret?,
        requests_per_minute,
        period: Duration::from_mins(1),
        query_window_days,
        query_page_size,
        job_page_size,
        job_window_days,
        look_back,
        connect_timeout,
        timeout,
        max_response,
        fields,
        profile_write,
        contact_schema,
        data_service_id,
        outbound,
    })
}

fn endpoints(read: &mut Reader) -> Option<PlatformEndpoints> {
    let region: Option<String> = read.optional("genesys.region");
    let api_url: Option<String> = read.optional("genesys.api_url");
    let login_url: Option<String> = read.optional("genesys.login_url");
    let plain = if read.get("genesys.allow_plain_http") { PlainHttp::Loopback } else { PlainHttp::Never };
    if region.is_some() && (api_url.is_some() || login_url.is_some()) {
        read.problem("genesys.region", "cannot be used together with `genesys.api_url` and `genesys.login_url`");
        return None;
    }
    if let Some(region) = region {
        let found = PlatformEndpoints::of_region(&region);
        return found.map_err(|problem| read.problem("genesys.region", format!("{problem}, got `{region}`"))).ok();
    }
    let mut base = |key: &str, text: Option<&String>| match BaseUrl::parse(text?, plain) {
        Ok(url) => Some(url),
        Err(problem) => {
            read.problem(key, problem);
            None
        }
    };
    let api = base("genesys.api_url", api_url.as_ref());
    let login = base("genesys.login_url", login_url.as_ref());
    match (api_url, login_url) {
        (Some(_), None) => read.problem("genesys.api_url", "needs `genesys.login_url` beside it: give both or none"),
        (None, Some(_)) => read.problem("genesys.login_url", "needs `genesys.api_url` beside it: give both or none"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    Some(PlatformEndpoints { api: api?, login: login? })
}

fn client_secret(read: &mut Reader, path: &Path) -> Option<SecretString> {
    match secret_file::read(path) {
        Ok(secret) if !secret.expose_secret().is_empty() => Some(secret),
        Ok(_) => {
            read.problem("genesys.client_secret_file", format!("must hold a secret, `{}` is empty", path.display()));
            None
        }
        Err(problem) => {
            read.problem("genesys.client_secret_file", problem);
            None
        }
    }
}

fn fields(read: &mut Reader) -> ProfileFields {
    let allowed = "the key of a custom field: letters, digits and `_`, such as `clv_number`";
    let is_key = |key: &String| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let mut field = |name: &str| read.get_if(&format!("genesys.profile.{name}"), allowed, is_key);
    ProfileFields {
        predicted_clv_value: field("predicted_clv_value"),
        clv_tier: field("clv_tier"),
        confidence_score: field("confidence_score"),
        risk_score: field("risk_score"),
        last_calculated_at: field("last_calculated_at"),
    }
}

fn contact_schema(read: &mut Reader) -> Option<ContactSchema> {
    let id: Option<String> = read.optional("genesys.profile.schema_id");
    let version: Option<u32> = read.optional("genesys.profile.schema_version");
    match (id, version) {
        (Some(id), Some(version)) => Some(ContactSchema { id, version }),
        (Some(_), None) => {
            read.problem("genesys.profile.schema_id", "needs `genesys.profile.schema_version` beside it");
            None
        }
        (None, Some(_)) => {
            read.problem("genesys.profile.schema_version", "needs `genesys.profile.schema_id` beside it");
            None
        }
        (None, None) => None,
    }
}
