//! `[genesys]`: off unless a platform is named, and every problem told at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use scoreline::config;
use scoreline_genesys::settings::{Api, ProfileWrite};

fn explain(text: &str, secret_mode: u32) -> Result<config::Effective, Vec<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, secret) = (folder.path().join("settings.toml"), folder.path().join("secret"));
    fs::write(&secret, "CANARY-SECRET\n").expect("written");
    fs::set_permissions(&secret, Permissions::from_mode(secret_mode)).expect("changed");
    fs::write(&path, text.replace("SECRET", &secret.display().to_string())).expect("written");
    let pepper = ("SCORELINE__PRIVACY__PEPPER".to_owned(), "a pepper that lasts".to_owned());
    let explained = config::explain(Some(&path), std::iter::once(pepper));
    explained.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

#[test]
fn without_a_platform_there_is_none() {
    assert!(explain("", 0o600).expect("valid").settings.genesys.is_none());
}

#[test]
fn a_region_a_client_and_its_secret_are_enough() {
    let text = "[genesys]\nregion = \"eu-central-1\"\nclient_id = \"client\"\nclient_secret_file = \"SECRET\"\n";
    let effective = explain(text, 0o600).expect("valid");
    let settings = effective.settings.genesys.as_ref().expect("on");
    assert_eq!(settings.api, Api::Platform);
    assert_eq!(settings.endpoints.api.as_str(), "https://api.mypurecloud.de/");
    assert_eq!((settings.requests_per_minute, settings.query_page_size, settings.job_page_size), (300, 100, 1000));
    assert_eq!((settings.query_window_days, settings.job_window_days), (7, 31));
    assert_eq!((settings.connect_timeout.as_secs(), settings.timeout.as_secs()), (1, 10));
    assert_eq!(settings.profile_write, ProfileWrite::Patch);
    assert_eq!(secrecy::ExposeSecret::expose_secret(&settings.client_secret), "CANARY-SECRET");
    assert!(!format!("{effective:?}{}", effective.to_toml(true)).contains("CANARY"));
}

#[test]
fn a_gateway_has_two_addresses_and_both_are_safe() {
    let client = "client_id = \"client\"\nclient_secret_file = \"SECRET\"\n";
    let urls = |api: &str, login: &str| format!("[genesys]\n{client}api_url = \"{api}\"\nlogin_url = \"{login}\"\n");
    let good = urls("https://gateway.example.com/api", "https://gateway.example.com/login");
    assert!(explain(&good, 0o600).expect("valid").settings.genesys.is_some());
    let simulator = format!("{}allow_plain_http = true\n", urls("http://127.0.0.1:7000", "http://127.0.0.1:7000"));
    assert!(explain(&simulator, 0o600).expect("valid").settings.genesys.is_some());
    for (api, login, said) in [
        ("http://api.example.com", "https://login.example.com", "`genesys.api_url` must begin with `https://`"),
        ("http://127.0.0.1:7000", "https://login.example.com", "set `genesys.allow_plain_http`"),
        ("https://u:p@api.example.com", "https://login.example.com", "no user and no password"),
        ("https://api.example.com", "https://10.0.0.1", "`genesys.login_url` must name its host"),
    ] {
        let refused = explain(&urls(api, login), 0o600).expect_err("refused");
        assert!(refused.len() == 1 && refused[0].contains(said), "{refused:?}");
        assert!(!refused[0].contains("u:p"), "{refused:?}");
    }
    let one = format!("[genesys]\n{client}api_url = \"https://api.example.com\"\n");
    assert!(explain(&one, 0o600).expect_err("refused")[0].contains("needs `genesys.login_url` beside it"));
}

#[test]
fn all_that_is_missing_or_odd_is_named() {
    let refused = explain("[genesys]\nregion = \"moon-1\"\nrequests_per_minute = 0\n", 0o600).expect_err("refused");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("`genesys.region` must be one of `us-east-1`"), "{refused:?}");
    assert!(refused[1].contains("whole number from 1 to"), "{refused:?}");
    let refused = explain("[genesys]\nregion = \"us-east-1\"\n", 0o600).expect_err("refused");
    assert_eq!(refused.len(), 2, "client and secret: {refused:?}");
    let open = "[genesys]\nregion = \"us-east-1\"\nclient_id = \"c\"\nclient_secret_file = \"SECRET\"\n";
    let refused = explain(open, 0o644).expect_err("refused");
    assert!(refused[0].contains("can be read by every user") && !refused[0].contains("CANARY"), "{refused:?}");
    let both = "[genesys]\nregion = \"us-east-1\"\napi_url = \"https://api.example.com\"\n";
    assert!(explain(both, 0o600).expect_err("refused")[0].contains("cannot be used together"));
}
