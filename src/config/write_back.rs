//! `[write_back]`: where scores are written to.

use std::path::PathBuf;

use toml::Value;

use super::layers::Reader;
use super::value::{Setting, quoted};
use super::{duration, whole};
use crate::sinks::{FileFormat, FileSettings};
use crate::worker::{SinkSettings, WriteBackSettings};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SinkName {
    None,
    Profile,
    File,
}

impl Setting for SinkName {
    const ALLOWED: &'static str = "`none`, `profile` or `file`";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "none" => Some(Self::None),
            "profile" => Some(Self::Profile),
            "file" => Some(Self::File),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(match self {
            Self::None => "none",
            Self::Profile => "profile",
            Self::File => "file",
        })
    }
}

impl Setting for FileFormat {
    const ALLOWED: &'static str = "`csv` or `ndjson`";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "csv" => Some(Self::Csv),
            "ndjson" => Some(Self::Ndjson),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(self.as_str())
    }
}

pub(super) fn read(read: &mut Reader, has_platform: bool) -> WriteBackSettings {
    let sink: SinkName = read.get("write_back.sink");
    let path: Option<PathBuf> = read.optional("write_back.path");
    let format: FileFormat = read.get("write_back.format");
    let every = duration(read, "write_back.every", "from `1s` to `1h`", 1_000, 3_600_000);
    let batch = whole(read, "write_back.batch", 1, 1000) as u32;
    let give_up_after = duration(read, "write_back.give_up_after", "from `1m` to `168h`", 60_000, 168 * 3_600_000);
    let sink = match (sink, path) {
        (SinkName::File, Some(path)) => SinkSettings::File(FileSettings { path, format }),
        (SinkName::File, None) => {
            read.problem(
                "write_back.path",
                "is needed for `write_back.sink` = `file`: the file that scores are appended to",
            );
            SinkSettings::None
        }
        (SinkName::Profile, _) if !has_platform => {
            read.problem(
                "write_back.sink",
                "can be `profile` only with `[genesys]`: set `genesys.client_id` and its secret, or use `file`",
            );
            SinkSettings::None
        }
        (SinkName::Profile, _) => SinkSettings::Profile,
        (SinkName::None, _) => SinkSettings::None,
    };
    WriteBackSettings { sink, every, batch, give_up_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(given: &[(&str, &str)]) -> Result<crate::config::Settings, Vec<String>> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        crate::config::load(None, given).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_is_written_unless_somebody_says_where() {
        let settings = load(&[]).expect("the defaults are valid");
        assert_eq!(settings.write_back.sink, SinkSettings::None);
    }

    #[test]
    fn a_file_needs_a_path_and_a_profile_a_platform() {
        let problems = load(&[("SCORELINE__WRITE_BACK__SINK", "file")]).expect_err("no path");
        assert!(problems[0].contains("`write_back.path` is needed"), "{problems:?}");
        let problems = load(&[("SCORELINE__WRITE_BACK__SINK", "profile")]).expect_err("no platform");
        assert!(problems[0].contains("only with `[genesys]`"), "{problems:?}");
        let problems = load(&[("SCORELINE__WRITE_BACK__SINK", "crm")]).expect_err("unknown");
        assert!(problems[0].contains("`none`, `profile` or `file`"), "{problems:?}");
        let given = [
            ("SCORELINE__WRITE_BACK__SINK", "file"),
            ("SCORELINE__WRITE_BACK__PATH", "out/scores.ndjson"),
            ("SCORELINE__WRITE_BACK__FORMAT", "ndjson"),
        ];
        let file = FileSettings { path: "out/scores.ndjson".into(), format: FileFormat::Ndjson };
        assert_eq!(load(&given).expect("valid").write_back.sink, SinkSettings::File(file));
    }
}
