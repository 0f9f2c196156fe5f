//! A PostgreSQL server of the harness's own, to be stopped, killed and started again, or a schema of one that runs.
//!
//! The server's programs are those of the machine; where there are none, or none may be started, the test is skipped as
//! [`crate::skip`] has it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::process::Process;
use crate::skip::Unavailable;
use crate::workspace::RunDirectory;
use crate::{ports, wait};

/// The account that the server runs as where we are root, which it refuses.
const ACCOUNT: &str = "postgres";

/// A server with a database of its own.
#[derive(Debug)]
pub struct Postgres {
    run: Arc<RunDirectory>,
    programs: PathBuf,
    data: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Postgres {
    /// Makes a new database and starts a server for it, with the durability that it has by default.
    pub async fn start(run: &Arc<RunDirectory>) -> Result<Self> {
        let programs = programs()?;
        // Within a folder of its own: the server wants to own it and lets nobody else in.
        let name = run.numbered("postgres").strip_prefix(crate::workspace::target()?)?.to_owned();
        let name = name.to_string_lossy().replace('/', "-");
        let data = std::env::temp_dir().join(format!("gatehook-{name}"));
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        std::fs::create_dir_all(&data)?;
        let port = ports::ReservedPort::any()?.release().port();
        let mut postgres = Self { run: Arc::clone(run), programs, data, port, process: None };
        postgres.make().await?;
        postgres.restart().await?;
        Ok(postgres)
    }

    async fn make(&self) -> Result<()> {
        if let Some((user, group)) = account()? {
            std::os::unix::fs::chown(&self.data, Some(user), Some(group))?;
        }
        let mut command = self.command("initdb")?;
        command.args([
            "--username",
            "gatehook",
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
        ]);
        let output = command.arg("--pgdata").arg(&self.data).output().context("cannot run initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Starts it again where it was: same address, same database.
    pub async fn restart(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the server still runs");
        // What a killed server started ends by itself, a moment later; until then it keeps the memory that they share.
        let mut tries = 0;
        loop {
            match self.launch().await {
                Err(_) if tries < 20 => tokio::time::sleep(Duration::from_millis(200)).await,
                done => return done,
            }
            tries += 1;
        }
    }

    async fn launch(&mut self) -> Result<()> {
        let mut command = self.command("postgres")?;
        command.arg("-D").arg(&self.data);
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".into(),
            format!("unix_socket_directories={}", self.data.display()),
            "max_connections=200".into(),
        ] {
            command.args(["-c", &setting]);
        }
        let mut process = Process::start(&self.run, "postgres", &mut command)?;
        let (programs, port) = (self.programs.clone(), self.port.to_string());
        let answers = async || {
            let mut ask = Command::new(programs.join("pg_isready"));
            ask.args(["--host", "127.0.0.1", "--port", &port]).stdout(Stdio::null());
            ask.status().ok().filter(std::process::ExitStatus::success)
        };
        process.ready(wait::PATIENCE, answers).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it as `pg_ctl stop -m fast` does: transactions under way are rolled back.
    pub fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the server does not run")?;
        process.end_by(Signal::INT, Duration::from_secs(20)).map(drop)
    }

    /// Ends all of it with `SIGKILL`; it recovers from its log when it starts again.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the server does not run")?.kill()
    }

    /// The process id of the one that started the others.
    ///
    /// # Panics
    /// If it does not run.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("postgres://gatehook@127.0.0.1:{}/postgres", self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// What a query answers, as text, columns apart by `|`.
    pub fn query(&self, sql: &str) -> Result<String> {
        query(&self.url(), sql)
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(self.programs.join(program));
        if let Some((user, group)) = account()? {
            command.uid(user).gid(group);
        }
        command.current_dir(std::env::temp_dir());
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.is_some() {
            // Whatever it was doing, nobody needs it any more.
            let _ = self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// What a query answers, as text, columns apart by `|`; asked by the machine's `psql`.
pub fn query(url: &str, sql: &str) -> Result<String> {
    let program = programs()?.join("psql");
    let mut command = Command::new(program);
    command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--command", sql]).arg(url);
    let output = command.output().context("cannot run psql")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The folder of the newest version's programs.
fn programs() -> Result<PathBuf> {
    let given = std::env::var_os("POSTGRES_BIN").map(PathBuf::from);
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    found.sort_by_key(|path| std::cmp::Reverse(version(path)));
    let has = |path: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| path.join(name).is_file());
    given.into_iter().chain(found).find(has).ok_or_else(|| {
        Unavailable::new("PostgreSQL's programs are not on this machine; POSTGRES_BIN names their folder")
            .into()
    })
}

fn version(folder: &Path) -> u32 {
    let name = folder.parent().and_then(Path::file_name).and_then(std::ffi::OsStr::to_str);
    name.and_then(|name| name.parse().ok()).unwrap_or_default()
}

/// User and group of the account to run it as; `None` where we are not root.
fn account() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd")?;
    let mut fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields
        .find(|fields| fields.first() == Some(&ACCOUNT))
        .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
    let missing = || Unavailable::new("PostgreSQL does not run as root, and there is no account `postgres`");
    Ok(Some(found.ok_or_else(missing)?))
}
