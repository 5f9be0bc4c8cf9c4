//! Settings: layers, every problem at once with key and source, secrets masked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scoreline::config::{self, Effective, ValueOrigin};
use scoreline_engine::inference::registry::CandidateMode;
use secrecy::ExposeSecret;
use tempfile::TempDir;

/// A settings file in a folder of its own.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("settings.toml");
    fs::write(&path, text).expect("settings are written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
    (folder, path)
}

fn explain(file: Option<&Path>, environment: &[(&str, &str)]) -> Result<Effective, Vec<String>> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let explained = config::explain(file, environment);
    explained.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

fn problems(file_text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let (folder, path) = file(file_text);
    let problems = explain(Some(&path), environment).expect_err("refused");
    let folder = format!("{}/", folder.path().display());
    problems.iter().map(|problem| problem.replace(&folder, "")).collect()
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let settings = explain(None, &[]).expect("defaults").settings;
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.server.admin_listen.to_string(), "127.0.0.1:8081");
    assert_eq!((settings.server.body_limit, settings.server.batch_body_limit), (64 * 1024, 4 * 1024 * 1024));
    assert_eq!(settings.scoring.deadline, Duration::from_millis(500));
    assert_eq!(settings.scoring.cache_ttl, Duration::from_hours(24));
    assert_eq!(settings.models.clv_model.as_str(), "clv");
    let high = &settings.routing.high;
    assert_eq!((high.skill_id.as_str(), high.priority), ("SKILL_PREMIUM_SUPPORT", 10));
    assert!(settings.privacy.pepper.is_none() && settings.tier_limits().is_none());
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let (_folder, path) = file("[scoring]\ndeadline = \"300ms\"\ncache_ttl = \"1h\"\n[models.pins]\nclv = \"v1.2\"\n");
    let environment = [
        ("SCORELINE__SCORING__DEADLINE", "200ms"),
        ("SCORELINE__SERVER__BATCH_ROWS", "50"),
        ("SCORELINE__INFERENCE__ONNX_THREADS", ""),
        ("SCORELINE__MODELS__PINS", "{ other = \"v3\" }"),
        ("SCORELINER", "not ours"),
    ];
    let Effective { settings, entries } = explain(Some(&path), &environment).expect("valid");
    assert_eq!(settings.scoring.deadline, Duration::from_millis(200));
    assert_eq!(settings.scoring.cache_ttl, Duration::from_hours(1));
    assert_eq!(settings.server.batch_rows, 50);
    assert_eq!(settings.inference.onnx_threads, 2, "an empty variable counts as not set");
    let pins: Vec<_> = settings.models.pins.iter().map(|(model, version)| format!("{model}={version}")).collect();
    assert_eq!(pins, ["clv=v1.2", "other=v3"]);

    let origin = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| entry.origin.clone());
    assert_eq!(origin("scoring.deadline"), Some(ValueOrigin::Environment("SCORELINE__SCORING__DEADLINE".into())));
    assert_eq!(origin("scoring.cache_ttl"), Some(ValueOrigin::File(path.display().to_string())));
    assert_eq!(origin("models.pins.clv"), Some(ValueOrigin::File(path.display().to_string())));
    assert_eq!(origin("models.pins.other"), Some(ValueOrigin::Environment("SCORELINE__MODELS__PINS".into())));
    assert_eq!(origin("server.listen"), Some(ValueOrigin::Default));
}

#[test]
fn the_file_may_be_named_by_the_environment_and_the_command_line_wins() {
    let (_one, by_variable) = file("[models]\nclv_model = \"one\"\n");
    let (_two, by_argument) = file("[models]\nclv_model = \"two\"\n");
    let variable = by_variable.display().to_string();
    let environment = [("SCORELINE_CONFIG", variable.as_str())];
    let model = |argument: Option<&Path>| {
        explain(argument, &environment).expect("valid").settings.models.clv_model.as_str().to_owned()
    };
    assert_eq!(model(None), "one");
    assert_eq!(model(Some(&by_argument)), "two");
}

#[test]
fn every_problem_is_reported_at_once_with_key_and_source() {
    let found = problems(
        "[server]\nlisten = 8080\nlisten_adress = \"x\"\nheader_read_timeout = 10\n\
         [scoring]\ndeadline = \"2s\"\ncache_ttl = \"48h\"\n[srever]\nlisten = \"127.0.0.1:1\"\n\
         [models.pins]\nclv = 1.2\n",
        &[
            ("SCORELINE__LOG__FILTER", "inof"),
            ("SCORELINE__LOG__COLOUR", "red"),
            ("SCORELINE__SERVER__BODY_LIMIT", "64KB"),
            ("SCORELINE__SCORING", "fast"),
        ],
    );
    insta::assert_snapshot!(found.join("\n"), @r#"
    `server.listen_adress` is not known; `server` holds `admin_listen`, `admin_tls`, `allow_plain_http`, `allow_public_without_auth`, `batch_body_limit`, `batch_deadline`, `batch_rows`, `body_limit`, `drain_delay`, `drain_timeout`, `header_read_timeout`, `listen`, `most_batches`, `most_live_calls`, `overload`, `ready_wait`, `threads`, `tls` (file `settings.toml`)
    `srever` is not known; sections are `auth`, `connections`, `events`, `extract`, `features`, `genesys`, `inference`, `leads`, `limits`, `log`, `models`, `monitoring`, `privacy`, `push`, `rescore`, `routing`, `scoring`, `server`, `store`, `tracing`, `widget`, `write_back` (file `settings.toml`)
    `log.colour` is not known; `log` holds `audit_path`, `filter`, `format` (environment variable `SCORELINE__LOG__COLOUR`)
    `scoring` is a section and takes no value of its own; it holds `cache_size`, `cache_ttl`, `deadline`, `explain_budget`, `explain_top`, `features_stale_after`, `self_probe` (environment variable `SCORELINE__SCORING`)
    `server.listen` must be an IP address and port such as `127.0.0.1:8080` or `[::1]:8080` (host names are not looked up), got `8080` (file `settings.toml`)
    `server.body_limit` must be a size from `1KiB` to `1GiB`, such as `64KiB`, got `64KB` (environment variable `SCORELINE__SERVER__BODY_LIMIT`)
    `server.header_read_timeout` must be a duration with a unit, from `100ms` to `5m`, got `10` (file `settings.toml`)
    `models.pins.clv` must be a version in quotes, such as "v1.2", got `1.2` (file `settings.toml`)
    `scoring.deadline` must be a duration with a unit, from `1ms` to `1500ms`, because callers give up after `2s`, got `2s` (file `settings.toml`)
    `scoring.cache_ttl` must be a duration with a unit, from `1s` to `24h`, because an older score is stale, got `48h` (file `settings.toml`)
    `log.filter` must be a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or directives such as `info,scoreline::http=debug`, got `inof`: `inof` does not end in a level (environment variable `SCORELINE__LOG__FILTER`)
    "#);
}

#[test]
fn relations_between_keys_are_checked() {
    let found = problems(
        "[server]\nadmin_listen = \"127.0.0.1:8080\"\nbody_limit = \"8MiB\"\n\
         [routing]\nmedium_usd = 200\nhigh_usd = 100\n[privacy]\npepper = \"a long enough secret\"\npepper_file = \"x\"\n",
        &[],
    );
    insta::assert_snapshot!(found.join("\n"), @r#"
    `server.body_limit` must not be larger than `server.batch_body_limit`: 8MiB and 4MiB (file `settings.toml`)
    `server.admin_listen` must differ from `server.listen`, both are `127.0.0.1:8080` (file `settings.toml`)
    `routing.high_usd` must be above `routing.medium_usd`: `100` is not above `200` (file `settings.toml`)
    `privacy.pepper_file` cannot be used together with `privacy.pepper`: keep one of them (file `settings.toml`)
    "#);
    assert_eq!(problems("[routing]\nhigh_usd = 100\n", &[]).len(), 1, "a single limit");
    let shares = |text: &str| problems(&format!("[routing]\n{text}"), &[]).join("\n");
    assert!(shares("high_share = 0.05\n").contains("needs `routing.medium_share` beside it"));
    assert!(shares("high_share = 0.6\nmedium_share = 0.5\n").contains("must not be more than 1 together"));
    let both = shares("high_share = 0.05\nmedium_share = 0.2\nhigh_usd = 100\nmedium_usd = 50\n");
    assert!(both.contains("in dollars or by share"), "{both}");
}

#[test]
fn a_public_address_needs_a_word() {
    let plain = ("SCORELINE__SERVER__ALLOW_PLAIN_HTTP", "true");
    let found = problems("", &[("SCORELINE__SERVER__LISTEN", "0.0.0.0:8080"), plain]);
    let told = found.join("\n");
    assert!(
        told.starts_with("`server.listen` `0.0.0.0:8080` can be reached by other machines and nobody is asked"),
        "{told}"
    );
    for line in [
        "scoreline auth new-key --name NAME --scope predict --file credentials.toml",
        "\n      [auth]\n      credentials_file = \"credentials.toml\"\n",
        "\n      [server]\n      allow_public_without_auth = true\n",
        "(environment variable `SCORELINE__SERVER__LISTEN`)",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    let asked =
        [("SCORELINE__SERVER__LISTEN", "0.0.0.0:8080"), ("SCORELINE__AUTH__CREDENTIALS_FILE", "who.toml"), plain];
    assert!(explain(None, &asked).is_ok());
    let allowed =
        [("SCORELINE__SERVER__LISTEN", "0.0.0.0:8080"), ("SCORELINE__SERVER__ALLOW_PUBLIC_WITHOUT_AUTH", "true")];
    assert!(explain(None, &[allowed.as_slice(), &[plain]].concat()).is_ok());
}

#[test]
fn a_public_address_speaks_tls_unless_something_else_does() {
    let word = ("SCORELINE__SERVER__ALLOW_PUBLIC_WITHOUT_AUTH", "true");
    let found = problems("", &[("SCORELINE__SERVER__ADMIN_LISTEN", "0.0.0.0:9090"), word]);
    insta::assert_snapshot!(found.join("\n"), @"`server.admin_listen` `0.0.0.0:9090` can be reached by other machines, and credentials and scores would cross the network in the clear; give `certificate` and `key` in [server.admin_tls], use a loopback address such as `127.0.0.1:9090`, or, when something in front of scoreline speaks TLS for it, add `allow_plain_http = true` to [server] (environment variable `SCORELINE__SERVER__ADMIN_LISTEN`)");
    let tls = "[server]\nlisten = \"0.0.0.0:8443\"\n[server.tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n";
    let (_folder, path) = file(tls);
    let settings = explain(Some(&path), &[word]).expect("valid").settings;
    assert!(settings.tls.public.is_some_and(|tls| tls.clients.is_none()) && settings.tls.admin.is_none());
}

#[test]
fn client_certificates_need_a_ca_and_names() {
    let found = problems(
        "[server.tls]\ncertificate = \"tls.crt\"\nclient_ca = \"ca.pem\"\nallowed_subjects = [\"*.com\"]\nmin_version = 1.2\n\
         [server.admin_tls]\ncertificate = \"a.crt\"\nkey = \"a.key\"\nclient_auth = \"required\"\ncrl = 7\n",
        &[("SCORELINE__SERVER__TLS__CRL", "a.crl, b.crl")],
    );
    insta::assert_snapshot!(found.join("\n"), @r#"
    `server.tls.min_version` must be "1.2" or "1.3", in quotes, got `1.2` (file `settings.toml`)
    `server.tls.allowed_subjects` cannot be used: `*.com` is a pattern: write a name in full, or `*.` and a name of two labels or more, such as `*.example.com` (file `settings.toml`)
    `server.tls.certificate` needs `server.tls.key` beside it: give both or none (file `settings.toml`)
    `server.admin_tls.crl` must be a list of texts, such as ["one", "two"], or by environment `one,two`, got `7` (file `settings.toml`)
    `server.admin_tls.allowed_subjects` must name the clients that may connect, such as ["dataactions.prod.us-east-1.mypurecloud.com"]: a CA vouches for more than one (default)
    `server.admin_tls.client_auth` needs `server.admin_tls.client_ca`: the CAs that may issue client certificates (file `settings.toml`)
    "#);
    let mtls = "[server.tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\nclient_ca = \"ca.pem\"\nclient_auth = \"required\"\n\
                allowed_subjects = [\"dataactions.prod.us-east-1.mypurecloud.com\"]\nmin_version = \"1.3\"\n";
    let (_folder, path) = file(mtls);
    let settings = explain(Some(&path), &[("SCORELINE__SERVER__TLS__CRL", "a.crl, b.crl")]).expect("valid").settings;
    let clients = settings.tls.public.and_then(|tls| tls.clients).expect("asked for");
    assert_eq!(clients.crl, [PathBuf::from("a.crl"), PathBuf::from("b.crl")]);
}

#[test]
fn a_file_that_can_not_be_read_is_named_with_the_line() {
    let found = problems("[server]\nlisten = \n", &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`settings.toml` cannot be read") && found[0].contains("line 2"), "{found:?}");
    let missing = explain(Some(Path::new("does/not/exist.toml")), &[]).expect_err("refused");
    assert!(missing[0].contains("`does/not/exist.toml` cannot be read: No such file"), "{missing:?}");
}

#[test]
fn the_store_is_a_file_or_a_server() {
    let both = "[privacy]\npepper = \"sixteen characters\"\n[store]\npath = \"a.db\"\nurl = \"postgres://u:pw@h/d\"\n";
    let both = problems(both, &[]);
    assert_eq!(
        both,
        ["`store.url` cannot be used together with `store.path`: keep one of them (file `settings.toml`)"]
    );
    let other = problems("[store]\nurl = \"mysql://u:pw@h/d\"\ncheck = \"never\"\n", &[]);
    assert_eq!(
        other,
        [
            "`store.url` must be a URL of PostgreSQL with one host, such as `postgres://user:password@host/database` \
             (file `settings.toml`)",
            "`store.check` must be `quick` or `full`, got `never` (file `settings.toml`)",
        ]
    );
}

#[test]
fn secrets_are_never_shown() {
    let (_folder, path) =
        file("[privacy]\npepper = \"a pepper nobody sees\"\n[store]\nurl = \"postgres://u:pw@h/d\"\n");
    let effective = explain(Some(&path), &[]).expect("valid");
    let shown = effective.to_toml(true);
    assert!(shown.contains("pepper = \"********\""), "{shown}");
    assert!(!shown.contains("nobody sees") && !shown.contains("u:pw"), "{shown}");
    assert!(!format!("{effective:?}").contains("nobody sees"));
    let short = problems("[privacy]\npepper = \"too short\"\n", &[]);
    assert_eq!(short, ["`privacy.pepper` must be a secret of 16 characters or more (file `settings.toml`)"]);
}

#[test]
fn secrets_stand_in_no_settings_file_that_others_read() {
    let text = "[privacy]\npepper = \"a pepper nobody sees\"\n[store]\nurl = \"postgres://u:geheim@h/d\"\n";
    for mode in [0o644, 0o640, 0o604, 0o660, 0o666] {
        let (folder, path) = file(text);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        let found = explain(Some(&path), &[]).expect_err("refused").join("\n");
        let found = found.replace(&format!("{}/", folder.path().display()), "").replace(&format!("{mode:o}"), "MODE");
        insta::allow_duplicates!(insta::assert_snapshot!(found, @r#"
        `privacy.pepper` is a secret in a file that others can read: `settings.toml` has mode MODE; run `chmod 600 settings.toml`, or give it in a file of its own as `privacy.pepper_file` (file `settings.toml`)
        `store.url` is a secret in a file that others can read: `settings.toml` has mode MODE; run `chmod 600 settings.toml`, or give it as SCORELINE__STORE__URL (file `settings.toml`)
        "#));
        // What the file says does not hold then.
        let environment = [
            ("SCORELINE__PRIVACY__PEPPER", "the pepper of the environment"),
            ("SCORELINE__STORE__URL", "postgres://u:geheim@h/d"),
        ];
        explain(Some(&path), &environment).expect("the environment is private");
    }
    // No secret, no matter.
    let (_folder, path) = file("[store]\nurl = \"postgres://u@h/d\"\n[privacy]\npepper_file = \"/dev/null\"\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
    let found = explain(Some(&path), &[("SCORELINE__PRIVACY__PEPPER_FILE", "")]).expect_err("no pepper").join("\n");
    assert!(!found.contains("store.url` is a secret"), "{found}");
}

#[test]
fn a_cache_that_keeps_nothing_is_one_without_room() {
    for ttl in ["0s", "999ms", "25h"] {
        let found = problems(&format!("[scoring]\ncache_ttl = \"{ttl}\"\n"), &[]);
        assert!(
            found[0].starts_with("`scoring.cache_ttl` must be a duration with a unit, from `1s` to `24h`"),
            "{found:?}"
        );
    }
    let (_folder, path) = file("[scoring]\ncache_ttl = \"1s\"\ncache_size = \"0B\"\n");
    explain(Some(&path), &[]).expect("valid");
}

#[test]
fn threads_and_queue_of_onnx_say_what_they_may_be() {
    let found = problems("[inference]\nonnx_threads = 0\nonnx_queue = \"long\"\nonnx_queue_age = \"1s\"\n", &[]);
    insta::assert_snapshot!(found.join("\n"), @r#"
    `inference.onnx_queue_age` is not known; `inference` holds `onnx_queue`, `onnx_threads`, `onnxruntime_path` (file `settings.toml`)
    `inference.onnx_threads` must be a whole number from 1 to 256, got `0` (file `settings.toml`)
    `inference.onnx_queue` must be a whole number from 1 to 1000000, got `long` (file `settings.toml`)
    "#);
}

#[test]
fn a_pepper_may_lie_in_a_file_of_its_own() {
    let (_folder, pepper) = file("a pepper from a file\n");
    let mode = |mode| {
        std::fs::set_permissions(&pepper, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("changed");
    };
    mode(0o600);
    let named = pepper.display().to_string();
    let settings = explain(None, &[("SCORELINE__PRIVACY__PEPPER_FILE", named.as_str())]).expect("valid").settings;
    let read = settings.privacy.pepper.expect("read");
    assert_eq!(read.expose_secret(), "a pepper from a file");
    mode(0o644);
    let open = explain(None, &[("SCORELINE__PRIVACY__PEPPER_FILE", named.as_str())]).expect_err("refused");
    assert!(open[0].contains("can be read by every user of this machine"), "{open:?}");
    let missing = explain(None, &[("SCORELINE__PRIVACY__PEPPER_FILE", "does/not/exist")]).expect_err("refused");
    assert!(missing[0].starts_with("`privacy.pepper_file` cannot be read: `does/not/exist`"), "{missing:?}");
}

#[test]
fn previous_peppers_need_an_end() {
    let (_folder, old) = file("the pepper before this one");
    std::fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("changed");
    let old = old.display().to_string();
    let files = ("SCORELINE__PRIVACY__PREVIOUS_PEPPER_FILES", old.as_str());
    let refused = explain(None, &[files]).expect_err("refused");
    assert!(refused.len() == 1 && refused[0].contains("`privacy.previous_until`"), "{refused:?}");
    let whole = [
        files,
        ("SCORELINE__PRIVACY__PEPPER", "the pepper of today"),
        ("SCORELINE__PRIVACY__PREVIOUS_UNTIL", "2027-01-01T00:00:00Z"),
    ];
    let effective = explain(None, &whole).expect("valid");
    let privacy = &effective.settings.privacy;
    assert_eq!(privacy.previous[0].expose_secret(), "the pepper before this one");
    assert_eq!(privacy.previous_until.expect("set").to_string(), "2027-01-01T00:00:00Z");
    assert!(effective.to_toml(false).contains(&format!("previous_pepper_files = [\"{old}\"]")));
    let odd = [("SCORELINE__PRIVACY__IDENTIFIERS", "some"), ("SCORELINE__PRIVACY__PREVIOUS_UNTIL", "soon")];
    let refused = explain(None, &odd).expect_err("refused");
    assert!(refused[0].contains("RFC 3339") && refused[1].contains("`any` or `hashed`"), "{refused:?}");
}

#[test]
fn what_is_shown_can_be_read_back() {
    let environment = [("SCORELINE__SCORING__DEADLINE", "200ms"), ("SCORELINE__MODELS__PINS", "{ \"a.b\" = \"v1\" }")];
    let shown = explain(None, &environment).expect("valid").to_toml(true);
    let (_folder, path) = file(&shown);
    let again = explain(Some(&path), &[]).expect("what is shown is valid").to_toml(false);
    assert_eq!(again, explain(None, &environment).expect("valid").to_toml(false));
}

#[test]
fn onnxruntime_is_found_by_its_own_variable_unless_it_is_configured() {
    let path = |environment: &[(&str, &str)]| {
        explain(None, environment).expect("valid").settings.inference.onnxruntime_path.expect("set")
    };
    let own = ("ORT_DYLIB_PATH", "own.so");
    assert_eq!(path(&[own]), Path::new("own.so"));
    assert_eq!(path(&[own, ("SCORELINE__INFERENCE__ONNXRUNTIME_PATH", "ours.so")]), Path::new("ours.so"));
}

#[test]
fn a_candidate_is_read_with_its_mode_and_a_wrong_one_is_named() {
    let text = "[models.candidates]\nclv = { version = \"v1.3\", mode = \"shadow\" }\n\
                lead = { version = \"v2\", mode = \"canary\", share = 0.05 }\n";
    let (_folder, path) = file(text);
    let effective = explain(Some(&path), &[]).expect("valid");
    let modes: Vec<_> = effective.settings.models.candidates.values().map(|candidate| candidate.mode).collect();
    assert_eq!(modes, [CandidateMode::Shadow, CandidateMode::Canary { share: 0.05 }]);
    let part = [("SCORELINE__MODELS__CANDIDATES__LEAD__SHARE", "0.5")];
    let lead = explain(Some(&path), &part).expect("valid").settings.models.candidates.into_values().next_back();
    let lead = lead.expect("a candidate");
    assert_eq!((lead.version.as_str(), lead.mode), ("v2", CandidateMode::Canary { share: 0.5 }), "the rest stays");

    let shown = effective.to_toml(false);
    let table = "[models.candidates]\n\"clv\" = { version = \"v1.3\", mode = \"shadow\" }\n\
                 \"lead\" = { version = \"v2\", mode = \"canary\", share = 0.05 }\n";
    assert!(shown.contains(table), "{shown}");
    let refused = |candidate: &str| {
        problems(&format!("[models.pins]\nx = \"v1\"\n[models.candidates]\nx = {candidate}\n"), &[]).join("\n")
    };
    assert!(refused("\"v1.3\"").contains("`models.candidates.x` must be `{ version = \"v1.3\", mode = \"shadow\" }`"));
    assert!(refused("{ version = \"v2\", mode = \"canary\" }").contains("needs a `share` above 0 and at most 1"));
    assert!(refused("{ version = \"v2\", mode = \"canary\", share = 1.5 }").contains("needs a `share`"));
    assert!(refused("{ version = \"v2\", mode = \"shadow\", share = 0.5 }").contains("has a `share`"));
    assert!(refused("{ version = \"v2\", mode = \"mirror\" }").contains("must be `shadow` or `canary`, got `mirror`"));
    assert!(refused("{ version = \"v2\", mode = \"shadow\", since = 1 }").contains("got a key `since`"));
    assert!(refused("{ version = \"v1\", mode = \"shadow\" }").contains("is what `models.pins.x` serves"));
}

#[test]
fn a_variable_with_the_wrong_underscores_is_not_ignored() {
    for name in [
        "SCORELINE_SERVER__LISTEN",
        "SCORELINE_SERVER_LISTEN",
        "SCORELINE__SERVER_LISTEN",
        "SCORELINE___SERVER__LISTEN",
        "SCORELINE__SERVER___LISTEN",
        "scoreline__server__listen",
        "Scoreline_Server_Listen",
        "SCORELINE.SERVER.LISTEN",
        "SCORELINE__SERVER__LISTN",
        "SCORELINE_SERVR__LISTEN",
    ] {
        let told = explain(None, &[(name, "127.0.0.1:8181")]).expect_err(name).join("\n");
        assert!(told.contains("`SCORELINE__SERVER__LISTEN`") && told.contains(&format!("`{name}`")), "{name}: {told}");
    }
    assert!(explain(None, &[("SCORELINE_SERVER__LISTEN", "")]).is_ok(), "an empty variable counts as not set");
    let others =
        [("SCORELINE_PORT", "tcp://10.0.0.1:8080"), ("SCORELINE_SERVICE_HOST", "10.0.0.1"), ("SCORELINE_HOME", "/srv")];
    assert!(explain(None, &others).is_ok(), "service links and variables of wrappers do not stop a start");
}

#[test]
fn a_key_that_is_nearly_one_is_told_which() {
    let told = problems("[scoring]\ndedline = \"300ms\"\n", &[]).join("\n");
    assert!(told.contains("did you mean `scoring.deadline`?"), "{told}");
    let told = problems("[scoring]\ncolour = \"red\"\n", &[]).join("\n");
    assert!(!told.contains("did you mean"), "{told}");
    let told = problems("", &[("SCORELINE__STORE__PATH", "state/\u{fffd}")]).join("\n");
    assert!(told.contains("`store.path` must be text in UTF-8"), "{told}");
}
