//! What the documents say: the files, settings, commands and names in them exist, and their `sh` blocks run.
//!
//! An `sh` block is run as it stands, in a scratch folder that holds `models/` and `training/`; the blocks of a page are one
//! script. Lines that begin with `# => ` are what the commands since the last such lines write: white space does not count,
//! `…` stands for anything. A block that cannot run here is a `console` or `text` block.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// A page: its prose, the code in its prose, and its fenced blocks, each with the line it begins at.
struct Document {
    name: String,
    prose: String,
    spans: Vec<(usize, String)>,
    blocks: Vec<Block>,
}

struct Block {
    line: usize,
    kind: String,
    text: String,
}

impl Document {
    fn read(path: &Path) -> Self {
        let name = path.strip_prefix(root()).expect("below the repository").display().to_string();
        let mut prose = String::new();
        let mut blocks: Vec<Block> = Vec::new();
        let mut is_open = false;
        for (number, line) in (1..).zip(fs::read_to_string(path).expect("a readable page").lines()) {
            if let Some(kind) = line.trim_start().strip_prefix("```") {
                is_open = !is_open;
                if is_open {
                    blocks.push(Block { line: number, kind: kind.to_owned(), text: String::new() });
                }
            } else if let (true, Some(block)) = (is_open, blocks.last_mut()) {
                block.text.extend([line, "\n"]);
                prose.push('\n');
                continue;
            } else {
                prose += line;
            }
            prose.push('\n');
        }
        let pieces: Vec<_> = prose.split('`').collect();
        assert!(pieces.len() % 2 == 1 && !is_open, "{name}: a ` is not closed");
        let mut line = 1;
        let mut spans = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            if number % 2 == 1 {
                spans.push((line, piece.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
            line += piece.matches('\n').count();
        }
        Self { name, prose, spans, blocks }
    }

    /// The commands of the page, one a line, from its prose and its blocks.
    fn commands(&self) -> Vec<(usize, String)> {
        let is_shell = |block: &&Block| ["sh", "console"].contains(&block.kind.as_str());
        let blocks = self.blocks.iter().filter(is_shell).flat_map(|block| {
            let text = block.text.replace("\\\n", " ");
            text.lines().map(|line| (block.line, line.to_owned())).collect::<Vec<_>>()
        });
        let lines = self.spans.iter().cloned().chain(blocks).filter(|(_, line)| !line.trim_start().starts_with('#'));
        lines
            .flat_map(|(number, line)| {
                let line = line.replace("cargo run --release -p scoreline-training -- ", "scoreline-training ");
                let line = line.replace("cargo run --release -- ", "scoreline ").replace("$(", ";").replace(')', "");
                let parts = line.split([';', '|', '&', '#']).map(|part| (number, part.trim().to_owned()));
                parts.collect::<Vec<_>>()
            })
            .collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn is_named(file: &str, ending: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == ending)
}

/// Every file below a folder with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if is_named(&path.to_string_lossy(), ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn documents() -> Vec<Document> {
    let named = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "benches/README.md"];
    let mut pages: Vec<_> = named.iter().map(|name| root().join(name)).collect();
    pages.extend(files("docs", "md"));
    pages.iter().map(|page| Document::read(page)).collect()
}

/// The text of every Rust source and of the Python package.
fn sources() -> String {
    let folders = ["src", "crates", "tests", "training/src", "benches", "fuzz/fuzz_targets"];
    let read = |path: PathBuf| fs::read_to_string(path).expect("a readable source");
    let rust = folders.iter().flat_map(|folder| files(folder, "rs"));
    rust.chain(files("python/scoreline", "py")).map(read).collect()
}

/// Fails with one line for each finding.
fn expect_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Looks at every word of the code in the prose; a finding is what `fault` says about it.
fn words(rule: &str, fault: impl Fn(&str) -> Option<String>) {
    let mut found = Vec::new();
    for document in documents() {
        for (line, span) in &document.spans {
            let faults = span.split(' ').filter_map(|word| fault(word.trim_matches(['[', ']', ',', ';', ':'])));
            found.extend(faults.map(|fault| format!("{}:{line}: {fault}", document.name)));
        }
    }
    expect_none(rule, &found);
}

#[test]
fn paths_exist() {
    let folders = ["src/", "crates/", "tests/", "docs/", "benches/", "models/", "training/", "fuzz/", ".ci/"];
    words("a path in a document exists", |word| {
        let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
        let is_path = folders.iter().any(|folder| word.starts_with(folder)) || is_named(word, "md");
        (is_plain && is_path && !root().join(word).exists()).then(|| format!("`{word}` does not exist"))
    });
}

#[test]
fn settings_exist() {
    let mut known = BTreeSet::new();
    let mut section = String::new();
    for line in include_str!("../../src/config/default.toml").lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            known.insert(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ") {
            known.insert(format!("{section}.{key}"));
        }
    }
    let is_section = |word: &str| known.iter().any(|key| key.split('.').next() == Some(word));
    let fault = |key: &str| {
        let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.') && !is_named(key, "toml");
        let claims = is_key && key.split_once('.').is_some_and(|(section, _)| is_section(section));
        (claims && !known.contains(key)).then(|| format!("`{key}` is not in src/config/default.toml"))
    };
    words("a setting in a document exists", fault);
    let variable = |word: &str| {
        let name = word.strip_prefix("SCORELINE__")?.split('=').next()?;
        (name != "SECTION__KEY").then(|| name.to_lowercase().replace("__", "."))
    };
    let blocks = documents().into_iter().flat_map(|document| document.blocks).map(|block| block.text);
    let spans = documents().into_iter().flat_map(|document| document.spans).map(|(_, span)| span);
    let texts: Vec<_> = blocks.chain(spans).collect();
    let unknown = texts.iter().flat_map(|text| text.split_whitespace()).filter_map(variable);
    let unknown: Vec<_> = unknown.filter(|key| !known.contains(key)).collect();
    expect_none("a variable in a document is a setting", &unknown);
}

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    for document in documents() {
        let here = root().join(&document.name);
        for (_, rest) in document.prose.match_indices("](").map(|(at, mark)| document.prose.split_at(at + mark.len())) {
            let target = rest.split(')').next().unwrap_or_default();
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { here.clone() } else { here.with_file_name("").join(path) };
            let is_there =
                path.starts_with("http") || file.exists() && (anchor.is_empty() || has_heading(&file, anchor));
            if !is_there {
                found.push(format!("{}: {target}", document.name));
            }
        }
    }
    expect_none("a link in a document leads somewhere", &found);
}

/// Whether a page has the heading of an anchor, which is written as GitHub does.
pub fn has_heading(page: &Path, anchor: &str) -> bool {
    let slug = |title: &str| -> String {
        let kept =
            title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    let text = fs::read_to_string(page).expect("a readable page");
    text.lines().filter(|line| line.starts_with('#')).any(|line| slug(line.trim_start_matches(['#', ' '])) == anchor)
}

#[test]
fn commands_and_their_flags_exist() {
    let mut helps = BTreeMap::new();
    let training = fs::read_to_string(root().join("training/src/cli.rs")).expect("the training program");
    let mut found = Vec::new();
    for document in documents() {
        for (line, command) in document.commands() {
            let words = command.split(' ').skip_while(|word| word.contains('=') || word.is_empty());
            let words: Vec<_> = words.map(|word| word.split('=').next().unwrap_or(word)).collect();
            let fault = match words.split_first() {
                Some((&"scoreline-training", words)) => training_fault(&training, words),
                Some((program, words)) if *program == "scoreline" || program.ends_with("/scoreline") => {
                    fault(&mut helps, words)
                }
                _ => None,
            };
            found.extend(fault.map(|fault| format!("{}:{line}: `{command}`: {fault}", document.name)));
        }
    }
    expect_none("a command in a document exists", &found);
}

/// What is wrong with the arguments of `scoreline`, by its own help.
fn fault(helps: &mut BTreeMap<Vec<String>, String>, words: &[&str]) -> Option<String> {
    let mut path = Vec::new();
    let mut help = String::new();
    let mut is_done = words.iter().all(|word| word.starts_with('-') || !word.starts_with(char::is_alphabetic));
    for word in [""].iter().chain(words) {
        let is_command = |line: &str| line.starts_with("  ") && line.split_whitespace().next() == Some(word);
        let commands = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
        if word.is_empty() || commands.lines().any(is_command) {
            path.extend((!word.is_empty()).then(|| (*word).to_owned()));
            let read = || {
                let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
                let output = command.args(&path).arg("--help").output().expect("the binary runs");
                String::from_utf8(output.stdout).expect("the help is text")
            };
            help.clone_from(helps.entry(path.clone()).or_insert_with(read));
            // One that does something by itself, too, is asked without a subcommand first.
            let usage = help.lines().find(|line| line.starts_with("Usage:")).unwrap_or_default();
            is_done |= !usage.contains("<COMMAND>");
        } else if word.starts_with("--") && word.len() > 2 && !help.contains(word) {
            return Some(format!("no {word}"));
        }
    }
    (!is_done).then(|| "no such command".to_owned())
}

/// What is wrong with the arguments of the training program, by its source: tests of this package cannot run it.
fn training_fault(source: &str, words: &[&str]) -> Option<String> {
    let name = words.first().filter(|name| !name.starts_with('-'))?;
    let parts = name.split('-').map(|part| part[..1].to_uppercase() + &part[1..]);
    let variant = parts.collect::<String>();
    let flags = words.iter().filter_map(|word| word.strip_prefix("--")).filter(|flag| !flag.is_empty());
    let unknown = flags.filter(|flag| !["help", "allow"].contains(flag));
    let unknown: Vec<_> = unknown.filter(|flag| !source.contains(&format!(" {}: ", flag.replace('-', "_")))).collect();
    if !source.contains(&format!(" {variant}(")) {
        return Some("no such command".to_owned());
    }
    (!unknown.is_empty() && *name != "check").then(|| format!("no {unknown:?}"))
}

#[test]
fn names_exist() {
    let sources = sources();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let names: BTreeSet<&str> = sources.split(|c| !is_part(c)).collect();
    let begins = |part: &str| names.range(part..).next().is_some_and(|name| name.starts_with(part));
    words("an item, test or metric in a document exists", |word| {
        let is_path = word.contains("::") && word.chars().all(|c| is_part(c) || c == ':');
        let is_type = word.starts_with(char::is_uppercase) && word.contains(char::is_lowercase);
        let is_metric = word.starts_with("scoreline_");
        let is_name = is_path || (is_type || is_metric) && word.chars().all(is_part);
        // The end of a test's name may be left out.
        let is_there = word.split("::").all(|part| names.contains(part) || is_path && begins(part));
        (is_name && !is_there).then(|| format!("`{word}` is nowhere in the sources"))
    });
    let mut found = Vec::new();
    for document in documents() {
        for (line, span) in &document.spans {
            let path = ["GET ", "POST ", "DELETE "].iter().find_map(|method| span.strip_prefix(method));
            if let Some(path) = path.filter(|path| !sources.contains(&format!("\"{path}\""))) {
                found.push(format!("{}:{line}: `{path}` is no route", document.name));
            }
        }
        for (line, command) in document.commands() {
            let Some((_, rest)) = command.split_once("cargo test ") else { continue };
            let rest = rest.replace("-p scoreline-", "--").replace("--test it", "").replace("--bench ", "--");
            let filters = rest.split(' ').filter(|word| !word.starts_with('-') && !word.is_empty() && *word != "NAME");
            let unknown = filters.filter(|filter| !filter.split("::").all(begins));
            found.extend(unknown.map(|filter| format!("{}:{line}: no test `{filter}`", document.name)));
        }
    }
    expect_none("a route or test in a document exists", &found);
}

#[test]
fn log_lines_exist() {
    let sources = sources();
    let page = fs::read_to_string(root().join("docs/operate.md")).expect("a readable page");
    let (_, table) = page.split_once("## What a log line means").expect("a chapter on log lines");
    let messages = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let messages: Vec<_> = messages.collect();
    let unknown = messages.iter().filter(|message| !sources.contains(&format!("\"{message}\"")));
    let unknown: Vec<_> = unknown.map(|message| (*message).to_owned()).collect();
    assert!(!messages.is_empty(), "the table has lines");
    expect_none("a log line in a document is written", &unknown);
}

#[test]
fn the_readme_is_for_two_minutes() {
    let lines = include_str!("../../README.md").lines().count();
    assert!(lines <= 120, "README.md has {lines} lines, 120 are allowed");
}

/// Each row of the guides' tables begins with a mark, which stands in a comment above the command that shows it.
#[test]
fn each_sentence_of_the_guides_has_its_command() {
    let page = Document::read(&root().join("docs/guides.md"));
    let is_mark =
        |word: &&str| word.len() > 1 && word.starts_with(['V', 'L']) && word[1..].bytes().all(|b| b.is_ascii_digit());
    let rows: Vec<&str> = page.prose.lines().filter_map(|line| line.split(' ').nth(1).filter(is_mark)).collect();
    let comments = page
        .blocks
        .iter()
        .flat_map(|block| block.text.lines())
        .filter(|line| line.starts_with("# ") && !line.starts_with("# =>"));
    let mut shown = BTreeSet::new();
    for comment in comments {
        let head = comment[2..].split(':').next().unwrap_or_default();
        let marks: Vec<&str> = head.split([',', ' ']).filter(|word| !word.is_empty()).collect();
        // `L1 to L7` are seven.
        for (place, mark) in marks.iter().enumerate() {
            if *mark == "to" {
                let number = |mark: &str| mark[1..].parse::<u32>().expect("a mark");
                shown.extend(
                    (number(marks[place - 1])..number(marks[place + 1]))
                        .map(|n| format!("{}{n}", &marks[place - 1][..1])),
                );
            } else {
                shown.insert((*mark).to_owned());
            }
        }
    }
    assert!(rows.len() > 30, "{} rows", rows.len());
    let missing: Vec<String> = rows.iter().filter(|row| !shown.contains(**row)).map(|row| (*row).to_owned()).collect();
    expect_none("each sentence of the guides has a command that shows it", &missing);
}

#[test]
fn the_commands_of_documents_run() {
    let documents = documents();
    let run = |document: &Document| document.blocks.iter().any(|block| block.kind == "sh").then(|| run_page(document));
    let found: Vec<_> = std::thread::scope(|scope| {
        let pages: Vec<_> = documents.iter().map(|document| scope.spawn(move || run(document))).collect();
        pages.into_iter().filter_map(|page| page.join().expect("no panic")).flatten().collect()
    });
    expect_none("the commands of a document do what it says", &found);
}

/// What is done before a page's own commands. Whatever listens is started behind them and stopped at the end.
const PRELUDE: &str = r#"
set -euo pipefail
PATH="$PROGRAMS:$PATH"
cp -r "$REPOSITORY/models" models
ln -s "$REPOSITORY/training" training
export SCORELINE__SERVER__LISTEN=127.0.0.1:8080 SCORELINE__SERVER__ADMIN_LISTEN=127.0.0.1:8081 SCORELINE__LOG__FORMAT=json
export SCORELINE__SERVER__DRAIN_DELAY=0s no_proxy=127.0.0.1
started=()
trap 'kill "${started[@]}" 2>/dev/null; wait' EXIT
behind() {
    local says=$1 log="log.${#started[@]}"
    shift
    : >"$log"
    command scoreline "$@" >>"$log" 2>&1 &
    started+=($!)
    for _ in {1..150}; do
        if grep -q "$says" "$log"; then return; fi
        if ! kill -0 $! 2>/dev/null; then break; fi
        sleep 0.1
    done
    echo "scoreline $* does not say: $says"
    cat "$log"
    return 1
}
scoreline() {
    case "$*" in
        serve) behind 'the store is open' serve ;;
        'genesys simulate'*) behind 'Ctrl-C ends it' "$@" --listen 127.0.0.1:8090 ;;
        *) command scoreline "$@" ;;
    esac
}
cargo() { scoreline "${@:4}"; }
"#;

/// Runs the `sh` blocks of a page, and says where they do not do what it says.
fn run_page(document: &Document) -> Vec<String> {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut script = PRELUDE.to_owned();
    let mut expected: Vec<(usize, String)> = Vec::new();
    let mut is_answer = true;
    for block in document.blocks.iter().filter(|block| block.kind == "sh") {
        for (number, line) in (block.line + 1..).zip(block.text.lines()) {
            if let Some((answer, (_, text))) = line.strip_prefix("# =>").zip(expected.last_mut()) {
                *text += answer;
                is_answer = true;
            } else {
                if is_answer {
                    script.extend(["exec >out.", &expected.len().to_string(), " 2>&1\n"]);
                    expected.push((number, String::new()));
                    is_answer = false;
                }
                script.extend([line.strip_suffix(" &").unwrap_or(line), "\n"]);
            }
        }
    }
    for port in ["8080", "8081", "8082", "8083", "8090"] {
        script = script.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", free_port()));
    }
    let bin = Path::new(env!("CARGO_BIN_EXE_scoreline")).parent().expect("a folder").display().to_string();
    let mut command = Command::new("timeout");
    command.args(["120", "bash", "-c", &script]).current_dir(scratch.path()).env_remove("SCORELINE_CONFIG");
    command.env("PROGRAMS", bin).env("REPOSITORY", root());
    let status = command.status().expect("bash runs");
    let mut found = Vec::new();
    for (number, (line, expected)) in expected.iter().enumerate() {
        let Ok(got) = fs::read_to_string(scratch.path().join(format!("out.{number}"))) else { break };
        let is_last = !scratch.path().join(format!("out.{}", number + 1)).exists();
        let is_right = expected.is_empty() || is_like(expected, &got);
        if !is_right || is_last && !status.success() {
            found.push(format!("{}:{line}: {status}\n    expected {expected}\n    got {got}", document.name));
        }
    }
    assert!(!expected.is_empty() && (status.success() || !found.is_empty()), "{}: {status}", document.name);
    found
}

/// Whether a text is as expected: white space does not count, `…` stands for anything.
fn is_like(expected: &str, got: &str) -> bool {
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    let expected = dense(expected);
    let got = dense(got);
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| got.strip_prefix(first)) else { return false };
    let mut is_open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        is_open = part.is_empty() || rest.ends_with(part);
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || is_open
}

/// A port that is free, below those that the system gives to connections of other tests.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 20_000 + (std::process::id() % 8_000) as u16 + NEXT.fetch_add(1, Ordering::Relaxed) % 4_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[test]
fn the_rules_can_be_broken() {
    assert!(is_like(r#"{"a":…,"b": 2}"#, r#"{"a":1.5,"b":2}"#) && is_like("a…", "abc") && is_like("…c", "a b c"));
    assert!(!is_like("a…c", "abcd") && !is_like("b…", "abc") && !is_like("a", "ab") && !is_like("a…d…", "abc"));
    assert!(has_heading(&root().join("docs/models.md"), "how-it-comes-to-serve"));
    assert!(!has_heading(&root().join("docs/models.md"), "how"));
    let mut helps = BTreeMap::new();
    let mut faulty = |text: &str| fault(&mut helps, &text.split(' ').collect::<Vec<_>>()).is_some();
    assert!(faulty("serv") && faulty("models") && faulty("models lst") && faulty("score --inputs x"));
    assert!(
        !faulty("serve") && !faulty("--config FILE config show --sources") && !faulty("auth --file x new-key --name a")
    );
}
