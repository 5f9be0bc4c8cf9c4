//! A checkup: what a start would end with, and what works today and may not tomorrow, found without starting anything.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, access, statvfs};

use super::open_files::ConnectionShares;
use super::{examine, stored};
use crate::auth::Authenticator;
use crate::config::{Settings, StrayVariable};
use crate::http::{WidgetAccess, WidgetSettings};
use crate::worker::{LeadTargets, SinkSettings};
use scoreline_domain::durable::folder_of;
use scoreline_domain::text::with_causes;
use scoreline_domain::time::{Clock as _, SystemClock, Timestamp};
use scoreline_genesys::doctor::{Examination, Verdict};
use scoreline_genesys::settings::Api;
use scoreline_listener::tls::{Reloading, TlsSettings};
use scoreline_store::{StoreError, StorePlace};

/// Room on the disk of the store, bytes: below the first it will not last, below the second it is as good as full.
const ROOM_TO_LAST: u64 = 1 << 30;
const ROOM_TO_WORK: u64 = 64 << 20;
/// A certificate is renewed before it has so many days left; a revocation list may be fetched every day.
const DAYS_OF_CERTIFICATE: i64 = 14;
const HOURS_OF_LIST: i64 = 6;
/// A server on this machine answers its health at once.
const HEALTH_PATIENCE: Duration = Duration::from_secs(1);

/// How a thing that was looked at is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Ok,
    /// It works, and somebody should know.
    Warn,
    /// It will not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Checked {
    pub about: String,
    pub health: Health,
    pub says: String,
    /// What to do; there for everything that fails.
    pub fix: Option<String>,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Checked {
    pub fn ok(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self { about: about.into(), health: Health::Ok, says: says.into(), fix: None }
    }

    pub fn warn(about: impl Into<String>, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { about: about.into(), health: Health::Warn, says: says.into(), fix: Some(fix.into()) }
    }

    pub fn fail(about: impl Into<String>, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { about: about.into(), health: Health::Fail, says: says.into(), fix: Some(fix.into()) }
    }
}

/// Looks at everything but the models and the platform.
pub fn checkup(settings: &Settings, strays: &[StrayVariable]) -> Vec<Checked> {
    let mut checks = vec![Checked::ok("settings", "all of them can be used")];
    checks.extend(strays.iter().map(|StrayVariable { variable, nearest }| {
        let says = format!("environment variable `{variable}` is no setting and is ignored");
        Checked::warn("settings", says, format!("take it out, or name it `{nearest}`"))
    }));
    checks.push(callers(settings));
    for tls in [&settings.tls.public, &settings.tls.admin].into_iter().flatten() {
        certificates(tls, &mut checks);
    }
    exposure(settings, &mut checks);
    for (key, address) in
        [("server.listen", settings.server.listen), ("server.admin_listen", settings.server.admin_listen)]
    {
        checks.push(port(key, address));
    }
    checks.push(open_files(settings));
    checks.push(pepper(settings));
    checks.push(store(settings));
    checks.extend(disk(settings));
    checks.extend(folders(settings));
    checks.extend(settings.widget.as_ref().map(|widget| agents_page(&widget.page)));
    let deadline = settings.scoring.deadline.as_millis();
    checks.push(Checked::ok(
        "deadline",
        format!("answers come within {deadline} ms; a data action waits for two seconds"),
    ));
    checks
}

fn callers(settings: &Settings) -> Checked {
    match Authenticator::open(&settings.auth, Arc::new(SystemClock)) {
        Ok(Some(_)) => Checked::ok("callers", "the credentials can be used"),
        Ok(None) => Checked::ok("callers", "nobody is asked who they are"),
        Err(err) => {
            let fix = "mend the file, or make a new one with `scoreline auth new-key`; only its owner may read it (chmod 600)";
            Checked::fail("callers", with_causes(&err), fix)
        }
    }
}

/// Who may look at the agent's page.
fn agents_page(page: &WidgetSettings) -> Checked {
    match page.access {
        WidgetAccess::Signed => {
            Checked::ok("widget", format!("`{}/widget` is shown to who has a signed link", page.url))
        }
        WidgetAccess::Conversation => Checked::warn(
            "widget",
            "whoever knows the id of a conversation sees its score; ids stand in logs and reports of the platform",
            "use the links that data actions answer and `widget.access = \"signed\"`, or keep it in a closed network",
        ),
    }
}

fn certificates(tls: &TlsSettings, checks: &mut Vec<Checked>) {
    let about = tls.listener.section();
    let reloading = match Reloading::start(tls.clone(), Arc::new(SystemClock)) {
        Ok(reloading) => reloading,
        Err(err) => {
            let fix = format!("give good files in [{about}]: a running server takes them within two seconds");
            return checks.push(Checked::fail(about, with_causes(&err), fix));
        }
    };
    let now = SystemClock.now();
    let hours = |until: Timestamp| (until.as_second() - now.as_second()).div_euclid(3600);
    let (certificate, lists) = reloading.expiries();
    let days = hours(certificate).div_euclid(24);
    checks.push(match days {
        ..0 => Checked::fail(about, "its certificate has expired: clients refuse it", "renew it"),
        0..DAYS_OF_CERTIFICATE => Checked::warn(about, format!("its certificate has {days} days left"), "renew it"),
        _ => Checked::ok(about, format!("its certificate has {days} days left")),
    });
    checks.extend(lists.map(|lists| match hours(lists) {
        ..0 => {
            let says = "a revocation list is past its next update: the clients of its CA are refused";
            Checked::fail(about, says, "fetch the CA's new list")
        }
        hours @ 0..HOURS_OF_LIST => {
            let says = format!("a revocation list has {hours} hours left");
            Checked::warn(about, says, "fetch the CA's new list before then")
        }
        hours => Checked::ok(about, format!("the revocation lists have {hours} hours left")),
    }));
}

/// What the settings allow because something in front is said to do it.
fn exposure(settings: &Settings, checks: &mut Vec<Checked>) {
    let listeners = [
        ("server.listen", settings.server.listen, settings.tls.public.is_some()),
        ("server.admin_listen", settings.server.admin_listen, settings.tls.admin.is_some()),
    ];
    for (key, address, speaks_tls) in listeners.into_iter().filter(|(_, address, _)| !address.ip().is_loopback()) {
        if !speaks_tls {
            let says = format!("`{key}` = `{address}` speaks plain HTTP to other machines");
            checks.push(Checked::warn(
                "exposure",
                says,
                "see to it that something in front speaks TLS and nothing else reaches the port",
            ));
        }
        if settings.auth.credentials_file.is_none() {
            let says = format!("whoever reaches `{key}` = `{address}` may ask everything");
            checks.push(Checked::warn("exposure", says, "name `auth.credentials_file`, or let something in front ask"));
        }
    }
}

fn port(key: &str, address: SocketAddr) -> Checked {
    match TcpListener::bind(address) {
        Ok(_) => Checked::ok(key, format!("`{address}` is free")),
        Err(err) if err.kind() == ErrorKind::AddrInUse && is_scoreline(address) => {
            Checked::ok(key, format!("a scoreline answers on `{address}`"))
        }
        Err(err) if err.kind() == ErrorKind::AddrInUse => {
            let says = format!("`{address}` is in use");
            Checked::warn(key, says, "fine while it is this server; else stop the other program or give another port")
        }
        Err(err) => {
            Checked::fail(key, format!("`{address}` cannot be opened: {err}"), "give an address of this machine")
        }
    }
}

/// Whether a server answers there over plain HTTP.
fn is_scoreline(address: SocketAddr) -> bool {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, HEALTH_PATIENCE)?;
        stream.set_read_timeout(Some(HEALTH_PATIENCE))?;
        stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    asked().is_ok_and(|answer| answer.contains("{\"status\":\"live\"}"))
}

fn open_files(settings: &Settings) -> Checked {
    let most = settings.connections.connections;
    let (limit, connections) = ConnectionShares::possible(most);
    if connections < most {
        let says =
            format!("{connections} connections of `connections.most` = {most}: at most {limit} files may be open");
        return Checked::warn("open files", says, "raise the limit: `LimitNOFILE=` of systemd, `ulimit -Hn`");
    }
    Checked::ok("open files", format!("enough for {most} connections"))
}

fn pepper(settings: &Settings) -> Checked {
    if settings.privacy.pepper.is_some() {
        return Checked::ok("pepper", "the settings give it; keep a copy apart from back-ups of the store");
    }
    match (&settings.store.place, stored::known_privacy(settings)) {
        (_, Err(err)) => Checked::fail("pepper", with_causes(&*err), "mend the file, or put a copy of it back"),
        (_, Ok(Some(_))) => Checked::ok("pepper", "it was drawn; keep a copy apart from back-ups of the store"),
        (StorePlace::Sqlite(path), Ok(None)) if path.exists() => {
            let says = "the pepper of the customers in the store is not there";
            Checked::fail("pepper", says, "put its file back beside the store, or name it in `privacy.pepper_file`")
        }
        (_, Ok(None)) => Checked::ok("pepper", "one is drawn at the first start"),
    }
}

fn store(settings: &Settings) -> Checked {
    let about = "store";
    match &settings.store.place {
        StorePlace::Memory => {
            let says = "what is kept of customers ends with the process";
            return Checked::warn(about, says, "give `store.path` a file where there is a disk");
        }
        StorePlace::Sqlite(path) if !path.exists() => {
            if stored::vanished(settings).is_some() {
                let says = format!("the store `{}` that was here is gone: an empty one will be begun", path.display());
                return Checked::warn(about, says, "if it was moved, put it back");
            }
            return match unwritable(folder_of(path)) {
                None => Checked::ok(about, format!("`{}` is made at the first start", path.display())),
                Some(says) => Checked::fail(about, says, "give `store.path` a file in a folder of this user's"),
            };
        }
        StorePlace::Sqlite(_) | StorePlace::Postgres(_) => {}
    }
    // Without a pepper it cannot be said whose customers are in it; that is told of the pepper.
    let read = stored::run_until_signal(async {
        let opened = stored::open_to_reveal(settings).await?;
        let (counts, schema) = (opened.store.counts().await, opened.store.schema().await);
        opened.store.close().await;
        let (found, known) = schema?;
        Ok((counts?, found, known))
    });
    match read {
        Ok((_, found, known)) if found < known => {
            let says = format!("it opens, and the next start brings its schema from {found} to {known}");
            Checked::warn(about, says, "back it up first: \"Back up and restore\" in docs/operate.md")
        }
        Ok((counts, ..)) => {
            Checked::ok(about, format!("it opens: {} customers, {} scores", counts.customers, counts.scores))
        }
        Err(err) => {
            let fix = match (&settings.store.place, err.downcast_ref::<StoreError>()) {
                (_, Some(StoreError::Newer { .. })) => "run the newer program",
                (_, Some(StoreError::OtherPepper { .. })) => "give the pepper that its customers are under",
                (StorePlace::Postgres(_), _) => "see that the database runs, and that `store.url` is right",
                _ => "put a copy in its place: \"Back up and restore\" in docs/operate.md",
            };
            Checked::fail(about, with_causes(&*err), fix)
        }
    }
}

/// Room where the store's file is or will be.
fn disk(settings: &Settings) -> Option<Checked> {
    let StorePlace::Sqlite(path) = &settings.store.place else { return None };
    let found = statvfs(nearest(folder_of(path))).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let says = format!("{} MiB are free for the store", free >> 20);
    let fix = "make room, or give `store.path` another disk";
    Some(match free {
        ..ROOM_TO_WORK => Checked::fail("disk", says, fix),
        ROOM_TO_WORK..ROOM_TO_LAST => Checked::warn("disk", says, fix),
        _ => Checked::ok("disk", says),
    })
}

/// Folders that are written to, and the one of models, which should not be by everybody.
fn folders(settings: &Settings) -> Vec<Checked> {
    let sink = match &settings.write_back.sink {
        SinkSettings::File(file) => Some(("write_back.path", file.path.as_path())),
        SinkSettings::None | SinkSettings::Profile => None,
    };
    let audit = settings.log.audit_path.as_deref().map(|path| ("log.audit_path", path));
    let mut checks: Vec<_> = audit
        .into_iter()
        .chain(sink)
        .map(|(key, path)| match unwritable(folder_of(path)) {
            None => Checked::ok(key, format!("`{}` can be written", path.display())),
            Some(says) => Checked::fail(key, says, "name a file in a folder of this user's"),
        })
        .collect();
    let dir = &settings.models.dir;
    if fs::metadata(dir).is_ok_and(|found| found.mode() & 0o002 != 0) {
        let says = format!("every user of this machine may put a model into `{}`", dir.display());
        checks.push(Checked::warn("models", says, format!("chmod o-w {}", dir.display())));
    }
    checks
}

/// Why nothing can be written in a folder, which may have to be made first.
fn unwritable(folder: &Path) -> Option<String> {
    let there = nearest(folder);
    if !there.is_dir() {
        return Some(format!("`{}` is not a folder", there.display()));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK)
        .err()
        .map(|err| format!("`{}` cannot be written: {err}", there.display()))
}

/// The folder itself, or the lowest above it that is there.
fn nearest(folder: &Path) -> &Path {
    let is_there = |path: &&Path| !path.as_os_str().is_empty() && path.exists();
    folder.ancestors().find(is_there).unwrap_or(Path::new("."))
}

/// Asks the platform, which takes some ten requests of its limit.
pub fn platform(settings: &Settings) -> Vec<Checked> {
    let about = |part: &str| format!("genesys {part}");
    if settings.genesys.as_ref().is_some_and(|genesys| genesys.api == Api::Documented) {
        let says = "the documented endpoints say nothing of clocks, limits and lists";
        return vec![Checked::warn("genesys", says, "set `genesys.api = \"platform\"` where that is what answers")];
    }
    let found = match examine::examine(settings, &Examination::default()) {
        Ok(found) => found,
        Err(err) => {
            let fix = "check `genesys.region`, `genesys.client_id` and the secret";
            return vec![Checked::fail("genesys", with_causes(&*err), fix)];
        }
    };
    let pushes = settings.push.sink == LeadTargets::ContactLists;
    found
        .into_iter()
        // Only of use to those who call leads.
        .filter(|finding| pushes || !["lists", "campaigns"].contains(&finding.about.as_str()))
        .map(|finding| {
            let health = match finding.verdict {
                Verdict::Fine => Health::Ok,
                Verdict::Warning | Verdict::Unknown => Health::Warn,
                Verdict::Wrong => Health::Fail,
            };
            let more = || "`scoreline genesys doctor --help` says how to look closer".to_owned();
            let fix = finding.fix.filter(|_| finding.about != "campaigns");
            let fix = fix.or_else(|| (health != Health::Ok).then(more));
            Checked { about: about(&finding.about), health, says: finding.says, fix }
        })
        .collect()
}
