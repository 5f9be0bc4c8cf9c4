//! A caller with a token of the server's own.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scoreline::auth::{self, AuthSettings, Authenticator, GrantRequest, Rate, RateRecord, Rates, Scopes};
use scoreline_domain::time::{Clock as _, SystemClock};

/// What asks for a token, and the header line of a caller who has one and whose rate is never reached.
pub fn with_token() -> (Arc<Authenticator>, String) {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let file = folder.join("credentials.toml");
    let never =
        RateRecord { predict_per_second: Some(10_000_000), predict_burst: Some(10_000_000), ..Default::default() };
    let scopes = Scopes::parse(["predict"]).expect("a scope");
    let client = auth::add_client(&file, "bench", scopes, never, SystemClock.now()).expect("a client");
    let rate = Rate { per_second: 2000, burst: 4000 };
    let settings = AuthSettings {
        credentials_file: Some(file),
        token_key_file: None,
        token_ttl: Duration::from_hours(1),
        rates: Rates { predict: rate, leads: rate },
    };
    let authenticator = Authenticator::open(&settings, Arc::new(SystemClock)).expect("readable").expect("asked for");
    let basic = STANDARD.encode(format!("{}:{}", client.id, client.secret.as_str()));
    let granted = authenticator.grant(&GrantRequest {
        authorization: Some(format!("Basic {basic}").as_bytes()),
        content_type: Some(b"application/x-www-form-urlencoded"),
        body: b"grant_type=client_credentials",
        from: None,
    });
    let token = granted.map_err(|fault| fault.to_string()).expect("a token").access_token;
    (authenticator, format!("authorization: Bearer {token}\r\n"))
}
