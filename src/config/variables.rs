//! Environment variables by their names: which carry a setting, which were probably meant to, and which are others'.
//!
//! A name that is a setting's but for its underscores, its case or a letter is an error: whoever wrote it meant that
//! setting. Any other name of ours is said at start and ignored, because wrappers and clients have variables of their own.

/// Names of settings begin with it.
pub(super) const PREFIX: &str = "SCORELINE__";
/// Names the settings file.
pub(super) const FILE_VARIABLE: &str = "SCORELINE_CONFIG";
const OURS: &str = "SCORELINE";
/// A key may differ from a written one by a letter for each so many of its own.
const LETTERS_FOR_A_TYPO: usize = 6;

/// What a variable is to the settings.
pub(super) enum VariableKind {
    /// Carries the setting of this key.
    Setting(String),
    /// Looks like ours and carries nothing; the rest of its name.
    Stray(String),
    /// The settings file, or not ours.
    Other,
}

/// A variable that looks like ours and is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrayVariable {
    pub variable: String,
    /// The variable of the setting with the most similar name.
    pub nearest: String,
}

/// A key, and whether it was probably meant.
pub(super) struct NearestKey<'k> {
    pub(super) key: &'k str,
    pub(super) is_near: bool,
}

impl VariableKind {
    pub(super) fn of(name: &str, value: &str) -> Self {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            return Self::Setting(rest.to_lowercase().replace("__", "."));
        }
        let rest = name.get(..OURS.len()).filter(|start| start.eq_ignore_ascii_case(OURS)).map(|_| &name[OURS.len()..]);
        match rest {
            Some(rest)
                if name != FILE_VARIABLE
                    && rest.starts_with(|first: char| !first.is_alphanumeric())
                    && !is_service_link(rest, value) =>
            {
                Self::Stray(rest.to_owned())
            }
            Some(_) | None => Self::Other,
        }
    }
}

/// The variable that carries a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// The key whose name is most like what was written. `None` when there are no keys.
pub(super) fn nearest<'k>(written: &str, keys: &'k [String]) -> Option<NearestKey<'k>> {
    let written = plain(written);
    let distance = |key: &str| {
        let key = plain(key);
        // A key's last name alone, such as `LISTEN`.
        let is_end = !written.is_empty() && key.strip_suffix(&written).is_some_and(|above| above.ends_with('_'));
        if is_end { (1, key.len()) } else { (2 * strsim::damerau_levenshtein(&written, &key), 0) }
    };
    let key = keys.iter().min_by_key(|key| distance(key))?;
    let letters = plain(key).chars().count();
    let changes = strsim::damerau_levenshtein(&written, &plain(key));
    Some(NearestKey { key, is_near: changes <= (letters / LETTERS_FOR_A_TYPO).max(1) })
}

/// A name without what is usually got wrong: case, and which and how many characters stand between words.
fn plain(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_lowercase()
}

/// Whether Kubernetes made it: each container gets such variables for the services of its namespace, and one of them may
/// be called scoreline.
fn is_service_link(rest: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_service = rest.ends_with("_SERVICE_HOST") || rest.contains("_SERVICE_PORT");
    let is_port =
        rest.split_once("_PORT_").is_some_and(|(_, port)| port.starts_with(|first: char| first.is_ascii_digit()));
    is_service || is_port || (rest.ends_with("_PORT") && is_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_stray(name: &str, value: &str) -> bool {
        matches!(VariableKind::of(name, value), VariableKind::Stray(_))
    }

    #[test]
    fn what_others_put_into_the_environment_is_not_ours() {
        for (name, value) in [
            ("SCORELINE_CONFIG", "/etc/scoreline.toml"),
            ("SCORELINER", "x"),
            ("SCORELINE", "x"),
            ("SCORELINE2_HOME", "x"),
            ("PATH", "/bin"),
            ("SCORE", "1"),
            ("SCORELINE_SERVICE_HOST", "10.0.0.1"),
            ("SCORELINE_SERVICE_PORT", "8080"),
            ("SCORELINE_SERVICE_PORT_HTTP", "8080"),
            ("SCORELINE_PORT", "tcp://10.0.0.1:8080"),
            ("SCORELINE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("SCORELINE_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("SCORELINE_ADMIN_SERVICE_HOST", "10.0.0.1"),
            ("SCORELINE_ADMIN_PORT_8081_TCP_PROTO", "tcp"),
        ] {
            assert!(matches!(VariableKind::of(name, value), VariableKind::Other), "{name}");
        }
        for name in
            ["SCORELINE_PORT", "SCORELINE_SERVER__LISTEN", "scoreline__server__listen", "SCORELINE.LOG", "SCORELINE_"]
        {
            assert!(is_stray(name, "8080"), "{name}");
        }
    }

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        let keys = ["server.listen", "server.admin_listen", "log.filter", "store.path", "scoring.deadline"];
        let keys = keys.map(str::to_owned);
        let found = |written: &str| nearest(written, &keys).map(|found| (found.key.to_owned(), found.is_near));
        for (written, key, is_near) in [
            ("_SERVER__LISTEN", "server.listen", true),
            ("_SERVER_LISTEN", "server.listen", true),
            ("___server___listen_", "server.listen", true),
            ("_SERVR_LISTN", "server.listen", true),
            ("-LOG-FILTER", "log.filter", true),
            ("scoring.dedline", "scoring.deadline", true),
            ("_LISTEN", "server.listen", false),
            ("_PATH", "store.path", false),
            ("_FILTR", "log.filter", false),
        ] {
            assert_eq!(found(written), Some((key.to_owned(), is_near)), "{written}");
        }
        assert_eq!(variable_of("server.admin_listen"), "SCORELINE__SERVER__ADMIN_LISTEN");
    }
}
