//! The image: built and run by buildah, as nobody, in a file system of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use scoreline_domain::time::Stopwatch;

use super::{is_there, megabytes, packaged, repository, said};
use crate::process::{Server, post};

/// The user of the image.
const USER: &str = "65532";
/// What an image may hold beside the program: libraries, authorities, models.
const BESIDE: f64 = 12.0;

/// buildah with storage of its own.
struct Buildah(PathBuf);

impl Buildah {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs", "--root"]).arg(self.0.join("storage"));
        command.arg("--runroot").arg(self.0.join("run")).args(arguments);
        command
    }

    fn tell(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("buildah runs");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

/// A process that is ended with the test.
struct Inner(u32);

impl Drop for Inner {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).output();
    }
}

/// The server among the descendants of a process, and whose it is.
fn server_below(process: u32) -> Option<(Inner, String)> {
    // Any of its threads may have begun another.
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
    let children: Vec<_> =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
    children.iter().flat_map(|children| children.split_whitespace()).filter_map(|child| child.parse().ok()).find_map(
        |child: u32| {
            let command = fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
            if !command.starts_with("/usr/bin/scoreline\0") {
                return server_below(child);
            }
            let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
            let user = status.lines().find_map(|line| line.strip_prefix("Uid:\t"))?;
            Some((Inner(child), user.split('\t').next()?.to_owned()))
        },
    )
}

fn staged(program: &Path, folder: &Path) -> PathBuf {
    let context = folder.join("image");
    let mut command = Command::new("bash");
    let output = command.arg(repository("integrations/deploy/stage")).arg(program).arg(&context).output();
    let output = output.expect("bash runs");
    assert!(output.status.success(), "{}", said(&output));
    context
}

/// The command serves, and answers; how long it took to begin, in seconds.
fn serves(command: Command) -> (Server, f64) {
    let watch = Stopwatch::start();
    let server = Server::run(command, &[]);
    let seconds = watch.elapsed().as_secs_f64();
    let question = r#"{"customerId":"C-1","features":{"recency_days":12,"frequency_count":48}}"#;
    let answer = post(&server.listen, "/v1/predict/clv", question);
    assert!(answer.contains("\"source\":\"model\""), "{answer}");
    (server, seconds)
}

#[test]
#[ignore = "builds an image: needs buildah and root"]
fn the_image_holds_little_starts_at_once_and_is_nobody() {
    assert!(is_there(Command::new("buildah").arg("--version")), "buildah is not there (Debian package)");
    let folder = tempfile::tempdir().expect("a folder");
    let program = packaged(folder.path());
    let context = staged(&program, folder.path());
    let buildah = Buildah(folder.path().to_owned());
    let file = repository("integrations/deploy/Containerfile");
    let [file, context] = [&file, &context].map(|path| path.to_str().expect("a name"));
    buildah.tell(&["build", "--isolation", "chroot", "--file", file, "--tag", "scoreline", context]);
    let images: serde_json::Value = serde_json::from_str(&buildah.tell(&["images", "--json"])).expect("JSON");
    let size: f64 = fs_size(Path::new(context));
    eprintln!("image {} ({size:.1} MB of files), program {:.1} MB", images[0]["size"], megabytes(&program));
    assert!(size < megabytes(&program) + BESIDE, "{size}");

    let container = buildah.tell(&["from", "scoreline"]);
    let config: serde_json::Value = serde_json::from_str(&buildah.tell(&["inspect", &container])).expect("JSON");
    assert_eq!(config["OCIv1"]["config"]["User"], format!("{USER}:{USER}"));
    let mut arguments = vec!["run", "--isolation", "chroot"];
    for setting in ["SCORELINE__SERVER__LISTEN=127.0.0.1:0", "SCORELINE__SERVER__ADMIN_LISTEN=127.0.0.1:0"] {
        arguments.extend(["--env", setting]);
    }
    arguments.extend([container.as_str(), "/usr/bin/scoreline", "serve"]);
    let (server, seconds) = serves(buildah.command(&arguments));
    let (inner, user) = server_below(server.child.id()).expect("it runs");
    assert_eq!(user, USER);
    eprintln!("serves {:.0} ms after `buildah run`", seconds * 1e3);
    let status = Command::new("kill").args(["-TERM", &inner.0.to_string()]).status().expect("kill runs");
    assert!(status.success());
    assert_eq!(server.wait(), 0, "a stop is clean");
    buildah.tell(&["rm", &container]);

    // The same file system without what a container costs.
    let root = Path::new(context).join("root");
    let mut command = Command::new("/usr/sbin/chroot");
    command.arg(format!("--userspec={USER}:{USER}")).arg(&root).args(["/usr/bin/scoreline", "serve"]);
    command.env_clear().env("ORT_DISABLE_TELEMETRY", "1").env("SCORELINE__STORE__PATH", ":memory:");
    let (server, seconds) = serves(command);
    eprintln!("serves {:.0} ms after a plain start in its root", seconds * 1e3);
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

/// Bytes of all files below a folder, in millions.
fn fs_size(folder: &Path) -> f64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { fs_size(&path) } else { megabytes(&path) }).sum()
}
