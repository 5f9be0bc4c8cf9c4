//! House rules that no compiler knows: read from the sources, with the line that breaks them.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the root package by floor: a module may only use what is on a lower floor, and itself. Between crates the
/// compiler keeps the arrows.
const FLOORS: [&[&str]; 7] = [
    &["routing", "auth", "conversations", "leads", "lifecycle", "telemetry"],
    &["monitoring"],
    &["scoring", "sinks"],
    &["http", "worker", "packing"],
    &["config"],
    &["app"],
    &["cli", "main", "lib"],
];

/// Crates whose types stay where they are used, in packages that could name them elsewhere too: what leaves is our own. A
/// folder ends in `/`.
const KEPT_IN: [(&str, &[&str]); 15] = [
    ("axum", &["src/http/", "src/app/mod.rs", "crates/listener/", "crates/simulator/"]),
    ("hyper_util", &["src/http/", "crates/listener/"]),
    ("rustls", &["src/auth/secret.rs", "crates/listener/"]),
    ("ort", &["crates/engine/src/inference/onnx.rs"]),
    ("moka", &["src/scoring/cache.rs", "src/scoring/last_tiers.rs"]),
    ("jsonwebtoken", &["src/auth/"]),
    ("governor", &["src/auth/"]),
    ("reqwest", &["src/auth/", "src/sinks/callback/", "src/telemetry/", "crates/genesys/"]),
    ("metrics_exporter_prometheus", &["src/telemetry/"]),
    ("opentelemetry_proto", &["src/telemetry/traces.rs"]),
    ("parquet", &["src/cli/score/", "src/cli/features/"]),
    ("arrow_ipc", &["src/cli/score/"]),
    ("clap", &["src/cli/"]),
    ("utoipa", &["src/http/", "src/sinks/callback/"]),
    ("tonic", &["src/http/"]),
];

/// Names that say nothing about what is inside.
const DRAWERS: [&str; 7] = ["utils", "util", "helpers", "common", "types", "misc", "manager"];

/// Clocks are read in the domain's `time.rs`; everybody else is handed the time.
const CLOCKS: [&str; 4] = ["Timestamp::now(", "Zoned::now(", "SystemTime::now(", "Instant::now("];

/// A source file, by its path below `src/` or the repository.
struct Source {
    name: String,
    text: String,
}

impl Source {
    /// Line number and text of the code: without comments, and without tests, which follow it.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(number, line)| (number + 1, line.trim_start()));
        lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]")).filter(|(_, line)| !line.starts_with("//"))
    }

    fn module(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap_or(&self.name)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the repository, by its path in that folder.
fn sources(folder: &str) -> Vec<Source> {
    let folder = root().join(folder);
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![folder.clone()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|err| panic!("{}: {err}", next.display())) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&folder).expect("below the folder").display().to_string();
                found.push(Source { name, text: fs::read_to_string(&path).expect("a readable source") });
            }
        }
    }
    assert!(!found.is_empty(), "{} has sources", folder.display());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The sources of the root package and of the crates it stands on, by their path in the repository.
fn product() -> Vec<Source> {
    let named = |folder: &'static str| {
        sources(folder).into_iter().map(move |source| Source { name: format!("{folder}/{}", source.name), ..source })
    };
    named("src").chain(named("crates").filter(|source| source.name.contains("/src/"))).collect()
}

/// Fails with one line per finding.
fn expect_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn every_file_says_what_it_owns() {
    let folders = ["src", "crates", "tests", "benches", "training/src"];
    let silent: Vec<_> = folders
        .iter()
        .flat_map(|folder| sources(folder).into_iter().map(move |source| (folder, source)))
        .filter(|(_, source)| !source.text.starts_with("//! "))
        .map(|(folder, source)| format!("{folder}/{}", source.name))
        .collect();
    expect_none("a file opens with `//! ` and says what it owns", &silent);
}

#[test]
fn modules_only_depend_downwards() {
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut found = Vec::new();
    for source in sources("src") {
        let own = source.module();
        let own_floor = floor(own).unwrap_or_else(|| panic!("`{own}` has no floor: add it to FLOORS"));
        for (number, line) in source.code() {
            for used in modules_used(line) {
                let fits = used == own || floor(&used).is_some_and(|floor| floor < own_floor);
                if !fits {
                    found.push(format!("{}:{number}: `{own}` must not use `{used}`", source.name));
                }
            }
        }
    }
    expect_none("arrows only point down", &found);
}

/// The modules named behind `crate::` in a line, `crate::{a::X, b}` included.
fn modules_used(line: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut used = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            used.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (position, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && c.is_alphabetic() => {
                    used.push(word(&list[position..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    used
}

#[test]
fn a_crates_types_stay_in_their_place() {
    let mut found = Vec::new();
    for source in product() {
        for (number, line) in source.code() {
            for (name, places) in KEPT_IN {
                let allowed = places
                    .iter()
                    .any(|place| source.name == *place || place.ends_with('/') && source.name.starts_with(place));
                if !allowed && names_crate(line, name) {
                    found.push(format!("{}:{number}: `{name}` is only named in {}", source.name, places.join(", ")));
                }
            }
        }
    }
    expect_none("a crate's types stay in their place", &found);
}

/// Whether `name::` stands in a line as the beginning of a path.
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(position, _)| {
        let before = line[..position].chars().next_back();
        let after = &line[position + name.len()..];
        after.starts_with("::") && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn no_module_is_a_drawer_for_everything() {
    let found: Vec<_> = product()
        .iter()
        .chain(&sources("training/src"))
        .filter(|source| source.name.split(['/', '.']).any(|part| DRAWERS.contains(&part)))
        .map(|source| source.name.clone())
        .collect();
    expect_none("a module is named after what it does", &found);
}

#[test]
fn clocks_are_read_in_one_place() {
    let mut found = Vec::new();
    for source in product().iter().filter(|source| source.name != "crates/domain/src/time.rs") {
        for (number, line) in source.code() {
            if let Some(clock) = CLOCKS.iter().find(|clock| line.contains(*clock)) {
                found.push(format!("{}:{number}: `{clock})`", source.name));
            }
        }
    }
    expect_none("clocks are read in `crates/domain/src/time.rs` only", &found);
}

/// Packages that `dist` would take over from `release` less than fully optimised.
fn half_optimised(manifest: &str) -> Vec<String> {
    let manifest: toml::Value = toml::from_str(manifest).expect("a manifest");
    let of = |profile: &str| manifest["profile"].get(profile)?.get("package")?.as_table().cloned();
    let (release, dist) = (of("release").unwrap_or_default(), of("dist").unwrap_or_default());
    let is_whole = |package: &toml::Value| package["opt-level"].as_integer() == Some(3);
    let half = release.iter().filter(|(name, package)| !is_whole(dist.get(*name).unwrap_or(package)));
    half.map(|(name, _)| name.clone()).collect()
}

#[test]
fn what_is_packaged_is_optimised_whole() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest is there");
    expect_none("what `release` optimises less, `dist` names with `opt-level = 3`", &half_optimised(&manifest));
}

#[test]
fn the_rules_can_be_broken() {
    let half = "[profile.release.package]\na.opt-level = 1\nb.opt-level = 3\nc.opt-level = 1\n[profile.dist.package]\nc.opt-level = 3";
    assert_eq!(half_optimised(half), ["a"]);
    assert_eq!(modules_used("use crate::http::listener;"), ["http"]);
    assert_eq!(modules_used("use crate::{app, config::{Entry, Origin}, domain};"), ["app", "config", "domain"]);
    assert_eq!(modules_used("fn f() -> crate::domain::Tier { crate::scoring::x() }"), ["domain", "scoring"]);
    assert!(names_crate("use ort::session::Session;", "ort"));
    assert!(names_crate("let x: ort::Error = e;", "ort"));
    assert!(!names_crate("use crate::report::ort::x; support::y()", "ort"));
}
