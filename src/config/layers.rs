//! The layers (defaults, file, environment), each with its origin; and the reader that turns values into settings while
//! it collects every problem.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::problem::{ConfigProblems, Problem, ValueOrigin};
use super::value::{Setting, written};
use super::variables::{FILE_VARIABLE, StrayVariable, VariableKind, nearest, variable_of};

pub(super) const DEFAULTS: &str = include_str!("default.toml");

/// Keys without a default.
const OPTIONAL: [&str; 40] = [
    "widget.url",
    "widget.key_file",
    "write_back.callbacks.secret_file",
    "server.tls.certificate",
    "server.tls.key",
    "server.tls.client_ca",
    "server.admin_tls.certificate",
    "server.admin_tls.key",
    "server.admin_tls.client_ca",
    "inference.onnxruntime_path",
    "routing.medium_usd",
    "routing.high_usd",
    "routing.medium_share",
    "routing.high_share",
    "routing.high_value.queue",
    "routing.medium_value.queue",
    "routing.low_value.queue",
    "privacy.pepper",
    "privacy.pepper_file",
    "auth.credentials_file",
    "auth.token_key_file",
    "privacy.previous_until",
    "log.audit_path",
    "tracing.endpoint",
    "tracing.headers_file",
    "events.secrets_file",
    "genesys.region",
    "genesys.api_url",
    "genesys.login_url",
    "genesys.client_id",
    "genesys.client_secret_file",
    "genesys.data_service_id",
    "genesys.outbound.band_column",
    "genesys.outbound.reason_column",
    "genesys.profile.schema_id",
    "genesys.profile.schema_version",
    "write_back.path",
    "store.url",
    "models.pins",
    "models.candidates",
];
/// Tables whose keys are free, with an example.
const FREE_TABLES: [(&str, &str); 2] = [
    ("models.pins", "{ clv = \"v1.2\" }"),
    ("models.candidates", "{ clv = { version = \"v1.3\", mode = \"shadow\" } }"),
];
/// Keys of earlier versions, and where beside the store the file they named is looked for.
const MOVED: [(&str, &str); 3] = [
    ("models.state_path", "models.toml"),
    ("privacy.tombstones_path", "tombstones"),
    ("monitoring.path", "monitoring/outcomes.journal"),
];
/// Anybody but the owner may read, or write. A file of its own may be read by a group, a settings file is copied about.
const OF_ALL_OTHERS: u32 = 0o066;
const FILE_BY_DEFAULT: &str = "scoreline.toml";
/// What ONNX Runtime's own tools read; used when nothing else names the library.
const ONNXRUNTIME_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Reads settings out of the layers. A value that cannot be used is noted and its default taken, so that the
/// next one is looked at too.
pub(super) struct Reader {
    layers: Layers,
    /// Who may do what with the settings file.
    file_mode: u32,
    problems: Vec<Problem>,
    entries: Vec<EffectiveKey>,
}

/// The layers, lowest first. The first one holds the defaults.
struct Layers(Vec<(ValueOrigin, Table)>);

/// One key as it is in effect.
#[derive(Clone, Debug)]
pub struct EffectiveKey {
    pub key: String,
    /// As TOML, secrets masked; `None` when an optional key is not set.
    pub value: Option<String>,
    pub origin: ValueOrigin,
}

impl Reader {
    pub(super) fn new(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Self {
        let defaults = table(DEFAULTS).expect("the defaults are TOML: a test reads them");
        let known = KnownKeys::from_defaults(&defaults);
        let mut layers = vec![(ValueOrigin::Default, defaults)];
        let mut file_mode = 0;
        let mut problems = Vec::new();

        let mut variables: Vec<_> = environment.filter(|(_, text)| !text.is_empty()).collect();
        variables.sort();
        let named = |name: &str| variables.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str());

        if let Some(path) = named(ONNXRUNTIME_VARIABLE) {
            let origin = ValueOrigin::Environment(ONNXRUNTIME_VARIABLE.to_owned());
            layers.push((origin, nested("inference.onnxruntime_path", Value::from(path))));
        }
        if let Some((path, origin)) = file_to_read(file, named(FILE_VARIABLE)) {
            let read = read_with_mode(&path).map_err(|err| err.to_string());
            match read.and_then(|(text, mode)| Ok((table(&text)?, mode))) {
                Ok((mut table, mode)) => {
                    file_mode = mode;
                    known.retain(&mut table, &origin, &mut problems);
                    layers.push((origin, table));
                }
                Err(reason) => problems.push(Problem {
                    key: String::new(),
                    origin,
                    message: format!("settings file `{}` cannot be read: {}", path.display(), reason.trim_end()),
                }),
            }
        }
        for (name, text) in &variables {
            let origin = ValueOrigin::Environment(name.clone());
            let key = match VariableKind::of(name, text) {
                VariableKind::Setting(key) => key,
                VariableKind::Stray(rest) => {
                    problems.extend(known.meant_by(&rest, &origin).ok());
                    continue;
                }
                VariableKind::Other => continue,
            };
            if text.contains(char::REPLACEMENT_CHARACTER) {
                problems.push(Problem { key, origin, message: "must be text in UTF-8".to_owned() });
                continue;
            }
            if !known.covers(&key)
                && let Ok(problem) = known.meant_by(&key, &origin)
            {
                problems.push(problem);
                continue;
            }
            let value = if is_free(&key) { inline_table(text) } else { Value::from(text.as_str()) };
            let mut table = nested(&key, value);
            known.retain(&mut table, &origin, &mut problems);
            layers.push((origin, table));
        }
        Self { layers: Layers(layers), file_mode, problems, entries: Vec::new() }
    }

    /// A key that has a default.
    pub(super) fn get<T: Setting>(&mut self, key: &str) -> T {
        self.get_if(key, T::ALLOWED, |_| true)
    }

    /// A key that has a default, where not every value of the type is `allowed`.
    pub(super) fn get_if<T: Setting>(&mut self, key: &str, allowed: &str, accept: impl Fn(&T) -> bool) -> T {
        let value = self.read(key, allowed, accept).unwrap_or_else(|| {
            let value = self.layers.default(key).expect("a key with a default: a test reads them all");
            T::read(value).expect("defaults are valid: a test reads them all")
        });
        self.note(key, Some(value.render()));
        value
    }

    /// A key without a default.
    pub(super) fn optional<T: Setting>(&mut self, key: &str) -> Option<T> {
        self.optional_if(key, T::ALLOWED, |_| true)
    }

    pub(super) fn optional_if<T: Setting>(
        &mut self,
        key: &str,
        allowed: &str,
        accept: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let value = self.read(key, allowed, accept);
        self.note(key, value.as_ref().map(Setting::render));
        value
    }

    /// The entries of a table whose keys are free.
    pub(super) fn pairs(&mut self, free_table: &str) -> Vec<(String, Value)> {
        let Some(value) = self.layers.merged(free_table) else { return Vec::new() };
        if let Value::Table(table) = value {
            return table.into_iter().collect();
        }
        let example = FREE_TABLES.iter().find(|(key, _)| *key == free_table).map_or("{}", |(_, example)| example);
        self.problem(free_table, format!("must be a table such as `{example}`, got `{}`", written(&value)));
        Vec::new()
    }

    /// Notes a problem with a key that was read.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        let origin = self.origin_of(key);
        let is_unset = matches!(origin, ValueOrigin::Default) && OPTIONAL.contains(&key);
        let origin = if is_unset { ValueOrigin::NotSet } else { origin };
        self.problems.push(Problem { key: key.to_owned(), origin, message: message.into() });
    }

    /// Refuses a secret that is written in a settings file which others may read. `instead` is where else it may be.
    pub(super) fn keep_private(&mut self, key: &str, instead: &str) {
        let ValueOrigin::File(path) = self.origin_of(key) else { return };
        if self.file_mode & OF_ALL_OTHERS != 0 {
            let mode = self.file_mode & 0o777;
            let message = format!(
                "is a secret in a file that others can read: `{path}` has mode {mode:03o}; run `chmod 600 {path}`, or give \
                 {instead}"
            );
            self.problem(key, message);
        }
    }

    /// Records how a key is in effect.
    pub(super) fn note(&mut self, key: &str, value: Option<String>) {
        let origin = self.origin_of(key);
        self.entries.push(EffectiveKey { key: key.to_owned(), value, origin });
    }

    pub(super) fn finish(self) -> Result<Vec<EffectiveKey>, ConfigProblems> {
        if self.problems.is_empty() { Ok(self.entries) } else { Err(ConfigProblems(self.problems)) }
    }

    fn read<T: Setting>(&mut self, key: &str, allowed: &str, accept: impl Fn(&T) -> bool) -> Option<T> {
        let (_, value) = self.layers.find(key)?;
        let read = T::read(value).filter(|read| accept(read));
        if read.is_none() {
            let got = if T::SECRET { String::new() } else { format!(", got `{}`", written(value)) };
            self.problem(key, format!("must be {allowed}{got}"));
        }
        read
    }

    /// Where the value in effect was written.
    pub(super) fn origin_of(&self, key: &str) -> ValueOrigin {
        self.layers.find(key).map_or(ValueOrigin::Default, |(origin, _)| origin.clone())
    }
}

/// Variables that look like ours, carry nothing, and were not clearly meant for a setting: those are problems.
pub(super) fn strays(environment: impl Iterator<Item = (String, String)>) -> Vec<StrayVariable> {
    let known = KnownKeys::from_defaults(&table(DEFAULTS).expect("the defaults are TOML: a test reads them"));
    let stray = |(variable, value): (String, String)| {
        let VariableKind::Stray(rest) = VariableKind::of(&variable, &value) else { return None };
        let nearest = known.meant_by(&rest, &ValueOrigin::Default).err()?;
        (!value.is_empty()).then_some(StrayVariable { variable, nearest })
    };
    let mut found: Vec<_> = environment.filter_map(stray).collect();
    found.sort_by(|one, another| one.variable.cmp(&another.variable));
    found
}

impl Layers {
    /// What the highest layer that has the key says of it.
    fn find(&self, key: &str) -> Option<(&ValueOrigin, &Value)> {
        self.0.iter().rev().find_map(|(origin, table)| Some((origin, find(table, key)?)))
    }

    fn default(&self, key: &str) -> Option<&Value> {
        find(&self.0.first()?.1, key)
    }

    /// What all layers say together: a key of a table replaces the same key of a lower layer, the others stay.
    fn merged(&self, key: &str) -> Option<Value> {
        self.0.iter().filter_map(|(_, table)| find(table, key).cloned()).reduce(merge)
    }
}

/// The value of a dotted key. The last name may hold dots of its own, as a model's does.
fn find<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    table.get(key).or_else(|| {
        let (first, rest) = key.split_once('.')?;
        find(table.get(first)?.as_table()?, rest)
    })
}

fn merge(below: Value, above: Value) -> Value {
    match (below, above) {
        (Value::Table(mut table), Value::Table(above)) => {
            for (name, value) in above {
                let value = match table.remove(&name) {
                    Some(below) => merge(below, value),
                    None => value,
                };
                table.insert(name, value);
            }
            Value::Table(table)
        }
        (_, above) => above,
    }
}

fn is_free(key: &str) -> bool {
    FREE_TABLES.iter().any(|(table, _)| *table == key)
}

/// The keys there are.
struct KnownKeys(Vec<String>);

impl KnownKeys {
    fn from_defaults(defaults: &Table) -> Self {
        let mut keys: Vec<_> = OPTIONAL.iter().map(|key| (*key).to_owned()).collect();
        leaves(defaults, "", &mut keys);
        keys.sort();
        Self(keys)
    }

    /// Whether there is something to be said of this key beside how it is written.
    fn covers(&self, key: &str) -> bool {
        let holds = |above: &str, below: &str| below.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'));
        self.0.iter().any(|known| known == key || holds(key, known) || holds(known, key))
            || MOVED.iter().any(|(moved, _)| *moved == key)
    }

    /// The problem with a variable that was meant for a setting; else the variable of the nearest one.
    fn meant_by(&self, written: &str, origin: &ValueOrigin) -> Result<Problem, String> {
        let Some(nearest) = nearest(written, &self.0) else { return Err(String::new()) };
        let variable = variable_of(nearest.key);
        if !nearest.is_near {
            return Err(variable);
        }
        let message = format!(
            "is not set by this variable: its own is `{variable}`, with two underscores behind SCORELINE and between \
             section and key"
        );
        Ok(Problem { key: nearest.key.to_owned(), origin: origin.clone(), message })
    }

    /// `; did you mean ...`, where a known key differs by little.
    fn hint(&self, key: &str) -> String {
        let near = nearest(key, &self.0).filter(|nearest| nearest.is_near);
        near.map_or_else(String::new, |nearest| format!("; did you mean `{}`?", nearest.key))
    }

    /// Takes out what is not known and notes it. What is left can be merged without hiding a section.
    fn retain(&self, table: &mut Table, origin: &ValueOrigin, problems: &mut Vec<Problem>) {
        self.retain_below("", table, origin, problems);
    }

    fn retain_below(&self, above: &str, table: &mut Table, origin: &ValueOrigin, problems: &mut Vec<Problem>) {
        table.retain(|name, value| {
            let key = join(above, name);
            let is_leaf = self.0.contains(&key);
            let is_section = self.0.iter().any(|known| known.starts_with(&format!("{key}.")));
            if is_leaf {
                return true;
            }
            if is_section && let Value::Table(below) = value {
                self.retain_below(&key, below, origin, problems);
                return true;
            }
            let message = if let Some((_, file)) = MOVED.iter().find(|(moved, _)| *moved == key) {
                format!(
                    "is no setting any more: what it named is kept in the store, see `store.path`. Take the key out, and \
                     put that file at `{file}` beside the store: the next start takes it in"
                )
            } else if is_section {
                format!("is a section and takes no value of its own; it holds {}", self.names_below(&key))
            } else if above.is_empty() {
                format!("is not known; sections are {}{}", self.names_below(""), self.hint(&key))
            } else {
                format!("is not known; `{above}` holds {}{}", self.names_below(above), self.hint(&key))
            };
            problems.push(Problem { key, origin: origin.clone(), message });
            false
        });
    }

    fn names_below(&self, section: &str) -> String {
        let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
        let mut names: Vec<_> = self
            .0
            .iter()
            .filter_map(|key| key.strip_prefix(&prefix))
            .map(|rest| rest.split('.').next().unwrap_or(rest))
            .map(|name| format!("`{name}`"))
            .collect();
        names.dedup();
        names.join(", ")
    }
}

fn file_to_read(argument: Option<&Path>, variable: Option<&str>) -> Option<(PathBuf, ValueOrigin)> {
    let path = argument.map(Path::to_path_buf).or_else(|| variable.map(PathBuf::from)).or_else(|| {
        let path = PathBuf::from(FILE_BY_DEFAULT);
        path.is_file().then_some(path)
    })?;
    let origin = ValueOrigin::File(path.display().to_string());
    Some((path, origin))
}

/// A file's text, and its mode.
fn read_with_mode(path: &Path) -> io::Result<(String, u32)> {
    let mut file = File::open(path)?;
    // Of the open file, so that nobody can put another in its place in between.
    let mode = file.metadata()?.mode();
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok((text, mode))
}

fn table(text: &str) -> Result<Table, String> {
    let text = text.trim_start_matches('\u{feff}');
    toml::from_str(text).map_err(|err: toml::de::Error| {
        // The library shows the line itself, which may hold a secret.
        let place = err.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = place.map_or_else(String::new, |line| format!(" at line {line}"));
        format!("it is not valid TOML{place}")
    })
}

/// A table written in one line, as environment variables carry it; anything else is left for the reader to refuse.
fn inline_table(text: &str) -> Value {
    let inline = table(&format!("table = {text}")).ok().and_then(|mut table| table.remove("table"));
    inline.unwrap_or_else(|| Value::from(text))
}

fn nested(key: &str, value: Value) -> Table {
    let mut names = key.rsplit('.');
    let last = names.next().unwrap_or(key).to_owned();
    names.fold(Table::from_iter([(last, value)]), |table, name| Table::from_iter([(name.to_owned(), table.into())]))
}

fn leaves(table: &Table, above: &str, keys: &mut Vec<String>) {
    for (name, value) in table {
        let key = join(above, name);
        match value.as_table() {
            Some(below) => leaves(below, &key, keys),
            None => keys.push(key),
        }
    }
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guard of the two `expect`s above: every key with a default is read, and every key that is read is known.
    #[test]
    fn the_keys_that_are_read_are_the_keys_that_are_documented() {
        let effective = super::super::explain(None, std::iter::empty()).expect("defaults are valid");
        let mut read: Vec<_> = effective.entries.iter().map(|entry| entry.key.clone()).collect();
        read.sort();
        let KnownKeys(mut known) = KnownKeys::from_defaults(&table(DEFAULTS).expect("TOML"));
        known.retain(|key| !is_free(key));
        assert_eq!(read, known);
        for key in OPTIONAL.iter().filter(|key| !is_free(key)) {
            let name = key.rsplit('.').next().expect("not empty");
            assert!(DEFAULTS.contains(&format!("\n# {name} = ")), "`{key}` is not shown in default.toml");
        }
    }
}
