//! `[tracing]`: where traces are sent. Off without an address.

use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use super::layers::Reader;
use super::secret_file;
use crate::telemetry::{TraceEndpoint, TraceHeaders, TraceSettings};

/// `None` without `tracing.endpoint`. All keys are read either way, so that none of their problems waits for another one.
pub(super) fn read(read: &mut Reader) -> Option<TraceSettings> {
    let endpoint: Option<String> = read.optional("tracing.endpoint");
    let headers_file: Option<PathBuf> = read.optional("tracing.headers_file");
    let sample =
        read.get_if("tracing.sample", "a share of the requests from 0 to 1", |share: &f64| (0.0..=1.0).contains(share));
    let has_headers = headers_file.is_some();
    let headers = headers_file.map_or_else(TraceHeaders::default, |path| {
        let headers = secret_file::read(&path).and_then(|text| {
            TraceHeaders::parse(text.expose_secret()).map_err(|line| {
                format!("must hold lines such as `authorization: Bearer …`: `{}` line {line} is none", path.display())
            })
        });
        headers.unwrap_or_else(|problem| {
            read.problem("tracing.headers_file", problem);
            TraceHeaders::default()
        })
    });
    let endpoint = TraceEndpoint::parse(&endpoint?);
    let endpoint = endpoint.map_err(|problem| read.problem("tracing.endpoint", problem)).ok()?;
    if has_headers && !endpoint.keeps_secrets() {
        let problem = "must begin with `https://` where `tracing.headers_file` is set, unless it is this machine";
        read.problem("tracing.endpoint", problem);
    }
    Some(TraceSettings { endpoint, headers, sample })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    const ENDPOINT: (&str, &str) = ("SCORELINE__TRACING__ENDPOINT", "http://collector.example:4318");

    fn load(given: &[(&str, &str)]) -> Result<crate::config::Settings, String> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        crate::config::load(None, given).map_err(|problems| problems.to_string())
    }

    #[test]
    fn nothing_is_followed_without_an_address_and_one_in_a_hundred_with_it() {
        assert!(load(&[]).expect("defaults").tracing.is_none());
        assert_eq!(load(&[ENDPOINT]).expect("valid").tracing.expect("on").sample, 0.01);
    }

    #[test]
    fn problems_name_the_key_and_repeat_no_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("headers");
        fs::write(&path, "authorization: Bearer canary\ncanary\n").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("changed");
        let file = ("SCORELINE__TRACING__HEADERS_FILE", path.to_str().expect("text"));
        for (given, said) in [
            (vec![("SCORELINE__TRACING__ENDPOINT", "collector:4318")], "`tracing.endpoint` must begin with `http://`"),
            (vec![ENDPOINT, ("SCORELINE__TRACING__SAMPLE", "5")], "`tracing.sample` must be a share"),
            (vec![file], "line 2 is none"),
            (vec![ENDPOINT, file], "`tracing.endpoint` must begin with `https://`"),
        ] {
            let told = load(&given).expect_err("refused");
            assert!(told.contains(said) && !told.contains("canary"), "{told}");
        }
        fs::write(&path, "authorization: Bearer canary\n").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("changed");
        assert!(load(&[file]).expect_err("refused").contains("chmod 600"));
    }
}
