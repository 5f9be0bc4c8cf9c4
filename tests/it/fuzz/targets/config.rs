//! Settings files and environment variables.

use std::fs;

use scoreline::config;

use super::{Feed, root};

/// Between the file and the variables of one input.
const ENVIRONMENT: &str = "---environment";
const SECRET: &str = "a pepper that nobody may read";

/// Feeds a settings file and, below a line of its own, variables as `NAME=value` lines.
pub fn layers() -> Feed {
    let folder = tempfile::tempdir().expect("temporary folder");
    Box::new(move |input| {
        let path = folder.path().join("settings.toml");
        let text = String::from_utf8_lossy(input);
        let (file, environment) = text.split_once(ENVIRONMENT).unwrap_or((&text, ""));
        fs::write(&path, file).expect("written");
        let variables = environment.lines().filter_map(|line| line.split_once('='));
        let variables: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        match config::explain(Some(&path), variables.into_iter()) {
            Ok(effective) => {
                let shown = effective.to_toml(true);
                assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
            }
            Err(problems) => assert!(!problems.0.is_empty(), "settings are refused for no reason"),
        }
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    let reference = fs::read_to_string(root().join("src/config/default.toml")).expect("the reference");
    let variables = format!(
        "{ENVIRONMENT}\nSCORELINE__SERVER__LISTEN=127.0.0.1:8181\nSCORELINE__PRIVACY__PEPPER={SECRET}\n\
         SCORELINE__MODELS__PINS={{ clv = \"v1.2\" }}\nSCORELINE__SCORING__DEADLINE=300ms\n\
         SCORELINE__ROUTING__HIGH_VALUE__QUEUE=premium\nSCORELINE__LOG__FILTER=info,scoreline::http=debug\n"
    );
    let small = "[scoring]\ndeadline = \"300ms\"\ncache_size = \"64MiB\"\n[models.pins]\nclv = \"v1.2\"\n\
                 [routing]\nmedium_usd = 10.5\nhigh_usd = 40\n[privacy]\npepper_file = \"nowhere\"\n";
    [reference.clone(), small.to_owned(), format!("{small}{variables}"), format!("{reference}\n{variables}")]
        .map(String::into_bytes)
        .to_vec()
}
