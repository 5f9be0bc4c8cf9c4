//! A PostgreSQL of one test's own, which may be stopped, frozen, killed and followed by a standby.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The user that PostgreSQL runs as where the test's own is root, which it refuses.
const USER: &str = "postgres";

/// A server in a folder of its own, gone with the test.
pub struct Cluster {
    folder: tempfile::TempDir,
    programs: PathBuf,
    pub port: u16,
}

impl Cluster {
    /// A server that runs. `None`, with a word of it, where its programs are not installed.
    pub fn begin(test: &str) -> Option<Self> {
        let cluster = Self::prepare(test)?;
        let data = cluster.data();
        cluster.run("initdb", &["-D", path(&data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        cluster.configure();
        cluster.start();
        Some(cluster)
    }

    /// A standby that follows this server, which from then on answers a commit once the standby has it on disk.
    pub fn with_standby(&self, test: &str) -> Self {
        let standby = Self::prepare(test).expect("the programs are there");
        let port = self.port.to_string();
        let data = standby.data();
        let copy = ["-D", path(&data), "-h", "127.0.0.1", "-p", &port, "-U", USER, "-R", "-X", "stream", "-c", "fast"];
        standby.run("pg_basebackup", &copy);
        standby.configure();
        standby.start();
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql("SELECT pg_reload_conf()");
        standby
    }

    fn prepare(test: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("SKIPPED {test}: the programs of PostgreSQL are not installed");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let cluster = Self { folder, programs, port };
        Self::own(cluster.folder.path());
        Some(cluster)
    }

    /// Gives a folder to the user that it runs as.
    pub fn own(folder: &Path) {
        if is_root() {
            let given = Command::new("chown").arg(USER).arg(folder).status();
            assert!(given.expect("chown runs").success());
        }
    }

    /// The last setting of a name wins.
    fn configure(&self) {
        let file = self.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&file).expect("made by initdb");
        let port = self.port.to_string();
        for (name, value) in [
            ("listen_addresses", "'127.0.0.1'"),
            ("port", &port),
            ("unix_socket_directories", "''"),
            ("shared_buffers", "'32MB'"),
            ("wal_sender_timeout", "'5s'"),
            ("max_connections", "60"),
        ] {
            text.extend(["\n", name, " = ", value]);
        }
        text.push('\n');
        fs::write(file, text).expect("written");
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    pub fn start(&self) {
        let (data, log) = (self.data(), self.folder.path().join("log"));
        self.run("pg_ctl", &["-D", path(&data), "-l", path(&log), "-w", "start"]);
    }

    /// Stops it: `fast` ends its clients' sessions, `immediate` leaves what is open to the recovery of the next start.
    pub fn stop(&self, mode: &str) {
        let data = self.data();
        self.run("pg_ctl", &["-D", path(&data), "-m", mode, "-w", "stop"]);
    }

    /// Lets a standby take over; returns once it takes writes.
    pub fn promote(&self) {
        let data = self.data();
        self.run("pg_ctl", &["-D", path(&data), "-w", "promote"]);
    }

    /// Makes a server that is stopped a standby of nobody: it may be read and takes no writes.
    pub fn demote(&self) {
        fs::write(self.data().join("standby.signal"), "").expect("written");
    }

    /// Sends a signal to each of its processes.
    pub fn signal(&self, name: &str) {
        let processes: Vec<String> = self.processes().iter().map(ToString::to_string).collect();
        // One that ends by itself meanwhile is no matter.
        let _ = Command::new("kill").arg(format!("-{name}")).args(&processes).stderr(Stdio::null()).status();
    }

    /// As a power cut: nothing ends in order, and nothing is left of it that runs.
    pub fn kill(&self) {
        let first = self.processes();
        self.signal("KILL");
        let is_there = |process: &u32| Path::new(&format!("/proc/{process}/status")).exists();
        while first.iter().any(is_there) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// The postmaster and its children.
    fn processes(&self) -> Vec<u32> {
        let Ok(file) = fs::read_to_string(self.data().join("postmaster.pid")) else { return Vec::new() };
        let Some(postmaster) = file.lines().next().and_then(|line| line.parse().ok()) else { return Vec::new() };
        let all = fs::read_dir("/proc").expect("Linux").flatten();
        let processes = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let children = processes.filter(|process| parent(*process) == Some(postmaster));
        std::iter::once(postmaster).chain(children).collect()
    }

    /// Executes a statement in the database `postgres`.
    pub fn sql(&self, sql: &str) {
        execute(&self.url("postgres"), sql);
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", USER, "--"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        // Its server keeps what it is given open: a pipe would never end.
        let said = self.folder.path().join("said");
        let file = fs::File::create(&said).expect("made");
        let command = command.args(arguments).current_dir("/").stdout(Stdio::null()).stderr(file);
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{}: {}", program.display(), fs::read_to_string(said).unwrap_or_default());
        output
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.signal("CONT");
        self.kill();
    }
}

pub fn url(port: u16, database: &str) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{database}")
}

/// Executes a statement where the URL leads.
pub fn execute(url: &str, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await.expect("reached");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("executed");
        connection.close().await.expect("closed");
    });
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let number = |entry: &fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
    let newest = versions.max_by_key(number)?;
    Some(newest.path().join("bin")).filter(|programs| programs.join("initdb").exists())
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold anything but ends with the last bracket; then the state, then the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    output.stdout.trim_ascii() == b"0"
}
