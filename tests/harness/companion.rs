//! The companion as a process: built, started, frozen, killed, started again, and spoken to through its own API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::Client;
use crate::process::Process;
use crate::receiver::Receiver;
use crate::workspace::{self, RunDirectory};
use crate::{progress, wait};

/// The token with which subscriptions and deliveries are managed.
pub const ADMIN_TOKEN: &str = "demo-admin-token";

/// The token with which the filter hands events over.
pub const INGEST_TOKEN: &str = "demo-ingest-token";

/// The file with the key that encrypts the secrets.
const SECRET_KEY: &str = "secret.key";

/// How the program is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// As `cargo test` does, so that everything it stands on is compiled already.
    Tests,
    /// Unoptimised, and nothing compiled but what it needs.
    Dev,
    /// As users run it; for benchmarks.
    Release,
}

/// Builds the program and gives its path; asks cargo once in each process. `GATEHOOK_BIN` names one to use as it is: an
/// installed one, or that of another commit beside which a benchmark is to run.
pub fn program(profile: Profile) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("GATEHOOK_BIN").map(PathBuf::from) {
        ensure!(path.is_file(), "GATEHOOK_BIN names {}, which is no file", path.display());
        return Ok(path);
    }
    static BUILT: Mutex<BTreeMap<Profile, PathBuf>> = Mutex::new(BTreeMap::new());
    // Held while cargo runs: the others would only wait for cargo's own lock.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = built.get(&profile) {
        return Ok(program.clone());
    }
    let program = build(profile)?;
    built.insert(profile, program.clone());
    Ok(program)
}

fn build(profile: Profile) -> Result<PathBuf> {
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    if !workspace::target()?.join(folder).join("gatehook").exists() {
        progress::report("companion: building (a minute or two the first time)");
    }
    let mut command = workspace::cargo();
    command.args(["build", "--quiet", "--bin", "gatehook", "--message-format", "json-render-diagnostics"]);
    match profile {
        // Cargo unites the features of all that it builds at once. The same packages, and a test among them for the
        // sake of the development dependencies, mean the same features as in `cargo test`, hence nothing to compile
        // twice: a second instead of twenty.
        Profile::Tests => command.args(["--workspace", "--test", "tidy"]),
        Profile::Dev => command.args(["--package", "companion"]),
        Profile::Release => command.args(["--package", "companion", "--release"]),
    };
    let output = command.stderr(Stdio::piped()).output().context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "the companion does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let messages = String::from_utf8(output.stdout)?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut own = artifacts.filter(|artifact| artifact["target"]["name"] == "gatehook");
    let program = own.find_map(|artifact| Some(PathBuf::from(artifact["executable"].as_str()?)));
    program.context("cargo names no program")
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the program is compiled.
    pub profile: Profile,
    /// The delays before each attempt, as `--retry-schedule` takes them; short, so that a story is.
    pub retry_schedule: String,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The store, as `--store` takes it; an SQLite database in `folder` unless asked.
    pub store: Option<String>,
    /// A folder of its own for the database; the run's directory unless asked.
    pub folder: Option<PathBuf>,
    /// A command that does something first and then runs the one that is appended to it.
    pub wrapper: Vec<String>,
    /// Further variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            profile: Profile::Tests,
            retry_schedule: "0s,100ms,200ms,400ms,1s,2s,4s".into(),
            arguments: Vec::new(),
            store: None,
            folder: None,
            wrapper: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// A running companion, with its database in the run's directory.
#[derive(Debug)]
pub struct Companion {
    run: Arc<RunDirectory>,
    settings: Settings,
    address: SocketAddr,
    public_address: Option<SocketAddr>,
    process: Option<Process>,
}

impl Companion {
    /// Starts one on a port of the kernel's choice.
    pub async fn start(run: &Arc<RunDirectory>, settings: Settings) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        // 32 bytes are all that a key is; a stable one, because a restart has to read what was encrypted before.
        std::fs::write(run.join(SECRET_KEY), STANDARD.encode([7; 32]))?;
        let mut companion =
            Self { run: Arc::clone(run), settings, address, public_address: None, process: None };
        companion.restart().await?;
        Ok(companion)
    }

    /// Starts it again where it was: same address, same database.
    pub async fn restart(&mut self) -> Result<()> {
        self.launch()?;
        self.ready().await
    }

    /// Starts it as [`Self::restart`] does, and waits for nothing.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the companion still runs");
        let program = program(self.settings.profile)?;
        self.process = Some(Process::start(&self.run, "companion", &mut self.command(&program))?);
        Ok(())
    }

    /// Waits until it serves.
    pub async fn ready(&mut self) -> Result<()> {
        let process = self.process.as_mut().context("the companion does not run")?;
        let log = process.log_file();
        let bound = async || bound_address(&std::fs::read_to_string(&log).ok()?, "address");
        self.address = process.ready(wait::PATIENCE, bound).await?;
        self.public_address = bound_address(&std::fs::read_to_string(&log)?, "public_address");
        let client = Client::http1(self.address);
        let ready = async || client.get("/readyz").send().await.ok().filter(|answer| answer.status == 200);
        process.ready(wait::PATIENCE, ready).await?;
        Ok(())
    }

    /// The URL of its store.
    fn store(&self) -> String {
        let own = || format!("sqlite:{}", self.database().display());
        self.settings.store.clone().unwrap_or_else(own)
    }

    /// Its database, as it sees it.
    fn database(&self) -> PathBuf {
        self.settings.folder.clone().unwrap_or_else(|| self.run.path().to_owned()).join("gatehook.db")
    }

    fn command(&self, program: &std::path::Path) -> Command {
        let mut command = match self.settings.wrapper.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut wrapper = Command::new(first);
                wrapper.args(rest).arg(program);
                wrapper
            }
        };
        command.envs(self.settings.environment.iter().map(|(name, value)| (name, value)));
        command.arg("serve");
        command.args(["--listen", &self.address.to_string()]);
        command.args(["--store", &self.store()]);
        command.args(["--allow-targets", "127.0.0.0/8", "--tenant-allow-targets", "127.0.0.0/8"]);
        command.args(["--retry-schedule", &self.settings.retry_schedule]);
        command.args(&self.settings.arguments);
        // Secrets go by environment: arguments can be read by every user of the machine.
        command.env("GATEHOOK_ADMIN_TOKEN", ADMIN_TOKEN).env("GATEHOOK_INGEST_TOKEN", INGEST_TOKEN);
        command.env("GATEHOOK_SECRET_KEY", format!("file:{}", self.run.join(SECRET_KEY).display()));
        command
    }

    /// Where it serves tenants, if it was started with `--public-listen`.
    pub fn public_address(&self) -> Result<SocketAddr> {
        self.public_address.context("the companion was not started with --public-listen")
    }

    /// Where Envoy and callers find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn id(&self) -> u32 {
        self.running().id()
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("the companion runs")
    }

    /// All that it has printed since it was last started.
    ///
    /// # Panics
    /// If it does not run.
    pub fn log(&self) -> String {
        self.running().log()
    }

    /// Ends it with `SIGKILL`, in the middle of whatever it does.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the companion does not run")?.kill()
    }

    /// Ends it politely.
    pub fn stop(&mut self) -> Result<std::process::ExitStatus> {
        self.process.take().context("the companion does not run")?.stop()
    }

    /// Stops its clock: connections are taken by the kernel, and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.running().signal(Signal::STOP)
    }

    /// Wakes it again.
    pub fn thaw(&self) -> Result<()> {
        self.running().signal(Signal::CONT)
    }

    /// A file beside its database, as the running process sees it: that may have mounts of its own.
    ///
    /// # Panics
    /// If it does not run.
    pub fn file(&self, name: &str) -> PathBuf {
        let seen = self.database().with_file_name(name);
        PathBuf::from(format!("/proc/{}/root{}", self.id(), seen.display()))
    }

    /// Asks `gatehook integrity` about the database of the running process; the flaws it prints are the error.
    pub fn integrity(&self) -> Result<()> {
        let mut command = self.beside(&program(self.settings.profile)?);
        command.args(["integrity", "--store", &self.store()]);
        let output = command.output().context("cannot run gatehook integrity")?;
        let printed = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&printed).trim());
        Ok(())
    }

    /// A command that sees the files that the running process sees.
    fn beside(&self, program: &std::path::Path) -> Command {
        if self.settings.wrapper.is_empty() {
            return Command::new(program);
        }
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.id().to_string(), "--mount"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(program);
        command
    }

    /// The sum of a metric over its labels that bear this text; nought where it was never counted.
    pub async fn metric(&self, name: &str, label: &str) -> Result<u64> {
        let text = self.admin().get("/metrics").send().await?.expect(200)?.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let samples = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        Ok(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// A client with the admin token.
    pub fn admin(&self) -> Client {
        Client::http1(self.address).bearer(ADMIN_TOKEN)
    }

    /// A client with the ingest token.
    pub fn ingest(&self) -> Client {
        Client::http1(self.address).bearer(INGEST_TOKEN)
    }

    /// Makes a subscription and has the receiver trust its secret.
    pub async fn subscribe(&self, receiver: &Receiver, events: &[&str]) -> Result<Value> {
        let wanted = json!({"target_url": receiver.url(), "events": events});
        let answer = self.admin().post("/v1/subscriptions").json(&wanted).send().await?.expect(201)?;
        let subscription = answer.json()?;
        receiver.trust(subscription["secret"].as_str().context("a new subscription shows its secret")?);
        Ok(subscription)
    }

    /// What a path of the admin API answers.
    pub async fn read(&self, path: &str) -> Result<Value> {
        self.admin().get(path).send().await?.expect(200)?.json()
    }

    /// Every item of a list, page by page.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let mut page = self.read(&format!("{path}{separator}limit=100{cursor}")).await?;
            items.append(page["data"].as_array_mut().context("a list has data")?);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }

    /// Waits until a path of the admin API answers something that fits.
    pub async fn read_until(&self, path: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let read = async || {
            last = self.read(path).await.unwrap_or_default();
            fits(&last).then(|| last.clone())
        };
        let found = wait::until(path, Duration::from_secs(20), read).await;
        found.with_context(|| format!("{path} last answered {last}"))
    }
}

/// The companion says where it listens as soon as it knows.
fn bound_address(log: &str, name: &str) -> Option<SocketAddr> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut listening = lines.filter(|line| message(line) == Some("listening"));
    let line = listening.next()?;
    let address = line[name].as_str().or_else(|| line["fields"][name].as_str())?;
    address.parse().ok()
}

fn message(line: &Value) -> Option<&str> {
    line["message"].as_str().or_else(|| line["fields"]["message"].as_str())
}
