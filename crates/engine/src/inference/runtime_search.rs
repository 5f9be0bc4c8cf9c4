//! Where the ONNX Runtime library is: configured, in a Python wheel, or in the system. Looks at files, loads nothing.
//!
//! The environment is not read here: the configuration passes the variables in.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Variables that are read by [`RuntimeSearch::new`].
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
pub const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Where ONNX Runtime may be, as the configuration and the environment say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeSearch {
    /// The library file, or a folder that holds it. Given, nothing else is tried.
    pub configured: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`, with the same meaning.
    pub from_env: Option<PathBuf>,
    /// Python environments whose `onnxruntime` wheel is looked for, in order.
    pub python_prefixes: Vec<PathBuf>,
    /// Whether the process environment has `ORT_DISABLE_TELEMETRY=1`.
    pub telemetry_disabled: bool,
}

impl RuntimeSearch {
    /// Collects what matters from the configuration and from environment variables, looked up through `variable`.
    pub fn new(configured: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut python_prefixes: Vec<PathBuf> =
            ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| variable(name)).map(PathBuf::from).collect();
        if let Some(path) = variable("PATH")
            && let Some(python) =
                std::env::split_paths(&path).map(|dir| dir.join("python3")).find(|file| file.is_file())
        {
            // A link in a virtual environment points to the interpreter it was made from: the wheel is in either.
            let resolved = fs::canonicalize(&python).ok();
            let prefixes = [Some(python), resolved].into_iter().flatten();
            python_prefixes.extend(prefixes.filter_map(|file| Some(file.parent()?.parent()?.to_owned())));
        }
        python_prefixes.extend(variable("HOME").map(|home| Path::new(&home).join(".local")));
        let disabled = variable(TELEMETRY_VARIABLE);
        Self {
            configured,
            from_env: variable(LIBRARY_VARIABLE).map(PathBuf::from),
            python_prefixes,
            telemetry_disabled: disabled.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true")),
        }
    }

    /// The libraries to try, in order, and every place that was looked at.
    pub(super) fn candidates(&self) -> Candidates {
        let mut found = Candidates::default();
        if let Some(given) = self.configured.as_ref().or(self.from_env.as_ref()) {
            found.given(given);
            return found;
        }
        for prefix in &self.python_prefixes {
            for library in ["lib", "lib64", "local/lib"] {
                found.wheels(&prefix.join(library));
            }
        }
        let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        for folder in
            ["/usr/local/lib", &multiarch, "/usr/lib64", "/usr/lib", "/opt/onnxruntime/lib", "/opt/homebrew/lib"]
        {
            found.folder(Path::new(folder));
        }
        found
    }
}

#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) libraries: Vec<PathBuf>,
    pub(super) looked: Vec<PathBuf>,
    /// Why a given path is no candidate.
    pub(super) refused: Vec<String>,
}

impl Candidates {
    /// A path somebody wrote down: the library itself or the folder it is in.
    fn given(&mut self, path: &Path) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                self.folder(&path);
                if self.libraries.is_empty() {
                    self.refused.push(format!("the folder `{}` holds no libonnxruntime", path.display()));
                }
                return;
            }
            Ok(metadata) if metadata.is_file() => self.libraries.push(path.clone()),
            // Opening a pipe or a device would wait for ever.
            Ok(_) => self.refused.push(format!("`{}` is not a regular file", path.display())),
            Err(err) => self.refused.push(format!("`{}`: {err}", path.display())),
        }
        self.looked.push(path);
    }

    /// The wheels below a Python `lib` folder: `python3.*/{site,dist}-packages/onnxruntime/capi`.
    fn wheels(&mut self, library: &Path) {
        for python in entries(library, |name| name.starts_with("python3")) {
            for packages in ["site-packages", "dist-packages"] {
                let packages = python.join(packages);
                if packages.is_dir() {
                    self.folder(&packages.join("onnxruntime/capi"));
                }
            }
        }
    }

    fn folder(&mut self, folder: &Path) {
        if self.looked.iter().any(|looked| looked == folder) {
            return;
        }
        self.looked.push(folder.to_owned());
        let mut libraries = entries(folder, is_library);
        libraries.retain(|file| file.is_file());
        // Newest first.
        libraries.sort_by_key(|file| std::cmp::Reverse(version_of(file)));
        self.libraries.extend(libraries);
    }
}

fn entries(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let named = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<_> =
        named.filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(&wanted)).collect();
    paths.sort_unstable();
    paths
}

/// `libonnxruntime.so`, `libonnxruntime.so.1.31.1`, `libonnxruntime.1.31.1.dylib`; not `libonnxruntime_providers_*`.
fn is_library(name: &str) -> bool {
    name.strip_prefix("libonnxruntime.")
        .is_some_and(|rest| rest.split('.').any(|part| part == std::env::consts::DLL_EXTENSION))
}

fn version_of(file: &Path) -> Vec<u32> {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(path, b"not a library").expect("file");
    }

    #[test]
    fn a_given_path_is_the_only_one_tried() {
        let dir = tempfile::tempdir().expect("tempdir");
        let wheel = dir.path().join("lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1");
        touch(&wheel);
        let missing = dir.path().join("nowhere.so");
        let search = RuntimeSearch {
            configured: Some(missing.clone()),
            from_env: Some(wheel.clone()),
            python_prefixes: vec![dir.path().to_owned()],
            telemetry_disabled: true,
        };
        let found = search.candidates();
        assert!(found.libraries.is_empty());
        assert_eq!(found.looked, [missing]);
        assert!(found.refused[0].contains("nowhere.so"), "{:?}", found.refused);

        let search = RuntimeSearch { configured: None, ..search };
        assert_eq!(search.candidates().libraries, [wheel]);
    }

    #[test]
    fn a_folder_gives_its_newest_library() {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in
            ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "libonnxruntime_providers_shared.so", "x.txt"]
        {
            touch(&dir.path().join(name));
        }
        let search = RuntimeSearch { configured: Some(dir.path().to_owned()), ..RuntimeSearch::default() };
        let names: Vec<_> = search.candidates().libraries;
        let names: Vec<_> = names.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["libonnxruntime.so.1.31.1", "libonnxruntime.so.1.9.0"]);
    }

    #[test]
    fn wheels_of_the_environment_and_of_python_on_the_path_are_found() {
        let dir = tempfile::tempdir().expect("tempdir");
        let active = dir.path().join("venv");
        let system = dir.path().join("usr");
        touch(&active.join("lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1"));
        touch(&system.join("lib/python3.12/dist-packages/onnxruntime/capi/libonnxruntime.so.1.30.0"));
        touch(&system.join("bin/python3"));
        let path = std::env::join_paths([dir.path().join("empty"), system.join("bin")]).expect("path");
        let search = RuntimeSearch::new(None, |name| match name {
            "VIRTUAL_ENV" => Some(active.clone().into_os_string()),
            "PATH" => Some(path.clone()),
            TELEMETRY_VARIABLE => Some("1".into()),
            LIBRARY_VARIABLE => Some(OsString::new()),
            _ => None,
        });
        assert!(search.telemetry_disabled);
        assert_eq!(search.from_env, None, "an empty variable counts as unset");
        let found = search.candidates().libraries;
        assert!(found[0].starts_with(&active), "{found:?}");
        assert!(found[1].starts_with(&system), "{found:?}");
    }
}
