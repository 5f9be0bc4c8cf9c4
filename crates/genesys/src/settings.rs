//! How to reach the platform and how much may be asked of it. Checked here, read in `config`.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

/// The platform's regions and their domains: the API answers at `api.` and logins at `login.` before the domain.
const REGIONS: [(&str, &str); 18] = [
    ("us-east-1", "mypurecloud.com"),
    ("eu-west-1", "mypurecloud.ie"),
    ("ap-southeast-2", "mypurecloud.com.au"),
    ("ap-northeast-1", "mypurecloud.jp"),
    ("eu-central-1", "mypurecloud.de"),
    ("us-west-2", "usw2.pure.cloud"),
    ("ca-central-1", "cac1.pure.cloud"),
    ("ap-northeast-2", "apne2.pure.cloud"),
    ("eu-west-2", "euw2.pure.cloud"),
    ("ap-south-1", "aps1.pure.cloud"),
    // The FedRAMP region.
    ("us-east-2", "use2.us-gov-pure.cloud"),
    ("sa-east-1", "sae1.pure.cloud"),
    ("me-central-1", "mec1.pure.cloud"),
    ("ap-northeast-3", "apne3.pure.cloud"),
    ("eu-central-2", "euc2.pure.cloud"),
    ("mx-central-1", "mxc1.pure.cloud"),
    ("ap-southeast-1", "apse1.pure.cloud"),
    ("eusc-de-east-1", "edee1.eusc-pure.cloud"),
];

/// Which shapes are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// What the platform really serves.
    Platform,
    /// What the guides describe.
    Documented,
}

impl Api {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Documented => "documented",
        }
    }
}

/// Whether anything may go over the network unencrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    Never,
    /// To this machine: the simulator.
    Loopback,
}

/// An address that requests are sent to: where it ends, the path of a request begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// # Errors
    /// What it must be, to follow the name of a key.
    pub fn parse(text: &str, plain: PlainHttp) -> Result<Self, String> {
        let url = Url::parse(text.trim_end_matches('/')).map_err(|err| format!("must be a URL: {err}"))?;
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        match (url.scheme(), plain) {
            ("https", _) => {}
            ("http", PlainHttp::Loopback) if local => {}
            ("http", PlainHttp::Never) if local => {
                return Err("must begin with `https://`, or set `genesys.allow_plain_http` for a simulator".to_owned());
            }
            _ => return Err("must begin with `https://`; plain HTTP is for this machine only".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must have no user and no password".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must end with its host or a path: no `?` and no `#`".to_owned());
        }
        // Forms such as 2130706433 or 0x7f.1 are rewritten by the parser, so they are not in the text as they are used.
        if host.is_empty() || !text.to_ascii_lowercase().contains(host) || address.is_some() && !local {
            return Err("must name its host by a domain name".to_owned());
        }
        Ok(Self(url))
    }

    /// The address of a path's parts below this one; parts are escaped, so that none of them can leave its place.
    pub(super) fn join<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.0.clone();
        // Only addresses without a host have no parts: `parse` refuses them.
        if let Ok(mut segments) = url.path_segments_mut() {
            // `.` and `..` are taken out by the URL itself, so they are made into something that is not found.
            segments.pop_if_empty().extend(parts.into_iter().map(|part| match part {
                "." | ".." => "_",
                other => other,
            }));
        }
        url
    }

    pub(super) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Where the API and the token endpoint are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformEndpoints {
    pub api: BaseUrl,
    pub login: BaseUrl,
}

impl PlatformEndpoints {
    /// # Errors
    /// The regions there are.
    pub fn of_region(name: &str) -> Result<Self, String> {
        let Some((_, domain)) = REGIONS.iter().find(|(region, domain)| *region == name || *domain == name) else {
            let names: Vec<_> = REGIONS.iter().map(|(region, _)| format!("`{region}`")).collect();
            return Err(format!("must be one of {} or the domain of one", names.join(", ")));
        };
        let base = |host: &str| BaseUrl::parse(&format!("https://{host}.{domain}"), PlainHttp::Never);
        Ok(Self { api: base("api")?, login: base("login")? })
    }
}

/// How the fields of an external contact are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileWrite {
    /// `PATCH` with the changed fields only.
    Patch,
    /// `PUT` of the contact as it was read, with the changed fields.
    Put,
}

/// Which custom fields of an external contact hold the scores; the name of the core type is part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileFields {
    pub predicted_clv_value: String,
    pub clv_tier: String,
    pub confidence_score: String,
    pub risk_score: String,
    pub last_calculated_at: String,
}

impl Default for ProfileFields {
    fn default() -> Self {
        Self {
            predicted_clv_value: "predicted_clv_value_number".to_owned(),
            clv_tier: "clv_tier_text".to_owned(),
            confidence_score: "confidence_score_number".to_owned(),
            risk_score: "risk_score_number".to_owned(),
            last_calculated_at: "last_calculated_at_datetime".to_owned(),
        }
    }
}

/// The schema that custom fields belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactSchema {
    pub id: String,
    pub version: u32,
}

/// How a contact of a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactWriteMode {
    /// All columns as they were just read, with ours changed: right whatever the platform does with columns that are not sent.
    Merge,
    /// Our columns only: right where the platform keeps columns that are not sent.
    Partial,
}

impl ContactWriteMode {
    pub const ALL: [Self; 2] = [Self::Merge, Self::Partial];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Partial => "partial",
        }
    }
}

/// Which contact lists hold scores of leads, and in which of their columns. A contact's id is the lead's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundSettings {
    pub contact_lists: Vec<String>,
    pub lead_column: String,
    pub score_column: String,
    pub time_column: String,
    /// Where it is named: the priority band A to D.
    pub band_column: Option<String>,
    /// Where it is named: the first reason for the score.
    pub reason_column: Option<String>,
    pub write: ContactWriteMode,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            contact_lists: Vec::new(),
            lead_column: "leadId".to_owned(),
            score_column: "ml_score".to_owned(),
            time_column: "ml_last_calculated_at".to_owned(),
            band_column: None,
            reason_column: None,
            write: ContactWriteMode::Merge,
        }
    }
}

/// Everything the client needs to know.
#[derive(Clone, Debug)]
pub struct GenesysSettings {
    pub api: Api,
    pub endpoints: PlatformEndpoints,
    pub client_id: String,
    pub client_secret: SecretString,
    pub requests_per_minute: u32,
    /// The period of that limit: a minute, except in tests.
    pub period: Duration,
    pub query_window_days: u32,
    pub query_page_size: u32,
    pub job_page_size: u32,
    pub job_window_days: u32,
    /// How far before the last watermark the next extraction begins.
    pub look_back: Duration,
    pub connect_timeout: Duration,
    pub timeout: Duration,
    /// Largest answer, in bytes.
    pub max_response: usize,
    pub fields: ProfileFields,
    pub profile_write: ProfileWrite,
    pub contact_schema: Option<ContactSchema>,
    /// The data service that holds the guides' `customer_profile_enrichment` and `LeadScore`.
    pub data_service_id: Option<String>,
    pub outbound: OutboundSettings,
}

impl GenesysSettings {
    /// Where the platform's own pages come from, as sources of a Content-Security-Policy; `None` behind a gateway.
    pub fn desktop_hosts(&self) -> Option<[String; 2]> {
        let api = self.endpoints.api.as_str().strip_prefix("https://api.")?.trim_end_matches('/');
        let (_, domain) = REGIONS.iter().find(|(_, domain)| *domain == api)?;
        Some([format!("https://apps.{domain}"), format!("https://*.{domain}")])
    }

    /// The defaults for an address and a client.
    pub fn new(api: Api, endpoints: PlatformEndpoints, client_id: String, client_secret: SecretString) -> Self {
        Self {
            api,
            endpoints,
            client_id,
            client_secret,
            requests_per_minute: 300,
            period: Duration::from_mins(1),
            query_window_days: 7,
            query_page_size: 100,
            job_page_size: 1000,
            job_window_days: 31,
            look_back: Duration::from_hours(24),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            max_response: 32 << 20,
            fields: ProfileFields::default(),
            profile_write: ProfileWrite::Patch,
            contact_schema: None,
            data_service_id: None,
            outbound: OutboundSettings::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_has_an_api_and_a_login() {
        let frankfurt = PlatformEndpoints::of_region("eu-central-1").expect("a region");
        assert_eq!(frankfurt.api.as_str(), "https://api.mypurecloud.de/");
        assert_eq!(frankfurt.login.as_str(), "https://login.mypurecloud.de/");
        for (region, domain) in REGIONS {
            assert_eq!(PlatformEndpoints::of_region(region), PlatformEndpoints::of_region(domain));
            assert!(PlatformEndpoints::of_region(region).is_ok(), "{region}");
        }
        assert!(PlatformEndpoints::of_region("moon-1").expect_err("no region").contains("`us-east-1`"));
    }

    #[test]
    fn a_region_has_pages_and_a_gateway_has_none() {
        let settings = |endpoints| {
            GenesysSettings::new(Api::Platform, endpoints, String::new(), SecretString::from(String::new()))
        };
        let frankfurt = settings(PlatformEndpoints::of_region("eu-central-1").expect("a region")).desktop_hosts();
        assert_eq!(frankfurt, Some(["https://apps.mypurecloud.de".to_owned(), "https://*.mypurecloud.de".to_owned()]));
        let gateway = || BaseUrl::parse("https://api.example.com", PlainHttp::Never).expect("an address");
        assert_eq!(settings(PlatformEndpoints { api: gateway(), login: gateway() }).desktop_hosts(), None);
    }

    #[test]
    fn addresses_are_https_and_lead_where_they_say() {
        let gateway = BaseUrl::parse("https://gateway.example.com:8443/genesys/api/", PlainHttp::Never);
        let joined = gateway.expect("a gateway").join(["api", "v2", "a b", "..", "x/y?z"]);
        assert_eq!(joined.as_str(), "https://gateway.example.com:8443/genesys/api/api/v2/a%20b/_/x%2Fy%3Fz");
        for bad in [
            "http://api.example.com",
            "https://user@api.example.com",
            "https://user:secret@api.example.com",
            "https://api.example.com?x=1",
            "https://api.example.com#x",
            "https://10.0.0.1/",
            "https://[2001:db8::1]/",
            "https://0x7f.1/",
            "http://2130706433/",
            "file:///etc/passwd",
            "ftp://api.example.com",
            "api.example.com",
        ] {
            assert!(BaseUrl::parse(bad, PlainHttp::Loopback).is_err(), "{bad}");
        }
        for local in ["http://127.0.0.1:8000", "http://[::1]:8000/login", "http://localhost:8000"] {
            assert!(BaseUrl::parse(local, PlainHttp::Loopback).is_ok(), "{local}");
            assert!(BaseUrl::parse(local, PlainHttp::Never).is_err(), "{local}");
        }
    }
}
