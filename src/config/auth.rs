//! `[auth]` and `[limits]`: who may call and how often; and the word that an open address needs.

use std::net::SocketAddr;
use std::time::Duration;

use super::layers::Reader;
use super::problem::ValueOrigin;
use crate::auth::{AuthSettings, Rate, Rates};

/// Tokens carry whole seconds.
const SECOND: u64 = 1000;

pub(super) fn section(read: &mut Reader) -> AuthSettings {
    let credentials_file = read.optional("auth.credentials_file");
    let token_key_file = read.optional("auth.token_key_file");
    let token_ttl = super::duration(read, "auth.token_ttl", "from `1m` to `1h`", 60 * SECOND, 3600 * SECOND);
    let mut rate = |per_second: &str, burst: &str| Rate {
        per_second: super::whole(read, per_second, 0, 1_000_000) as u32,
        burst: super::whole(read, burst, 1, 1_000_000) as u32,
    };
    let rates = Rates {
        predict: rate("limits.predict_per_second", "limits.predict_burst"),
        leads: rate("limits.leads_per_second", "limits.leads_burst"),
    };
    AuthSettings { credentials_file, token_key_file, token_ttl: Duration::from_secs(token_ttl.as_secs()), rates }
}

/// Whether callers are asked who they are.
pub(super) fn is_on(read: &Reader) -> bool {
    read.origin_of("auth.credentials_file") != ValueOrigin::Default
}

/// What to do about an address that other machines can reach.
pub(super) fn needed(address: SocketAddr) -> String {
    format!(
        "`{address}` can be reached by other machines and nobody is asked who they are. Run `scoreline auth new-key \
         --name NAME --scope predict --file credentials.toml` and add\n      [auth]\n      credentials_file = \
         \"credentials.toml\"\n    or listen on a loopback address such as `127.0.0.1:{}`, or, when something in front \
         of scoreline decides who may call it, add\n      [server]\n      allow_public_without_auth = true\n   ",
        address.port()
    )
}
