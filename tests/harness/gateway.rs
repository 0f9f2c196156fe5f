//! A real Envoy with the real filter, running the repository's own sample configuration.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::http::Client;
use crate::ports::ReservedPort;
use crate::process::Process;
use crate::sample::Sample;
use crate::workspace::RunDirectory;
use crate::{companion, envoy, wait, wasm};

/// The file that Envoy watches.
const LISTENERS: &str = "listeners.json";

/// A configuration of the filter that names the companion as the sample does; the rest is the test's.
pub fn filter_configuration(rest: &Value) -> Value {
    let mut configuration = json!({
        "companion": {"cluster": "gatehook", "authority": "gatehook", "token": companion::INGEST_TOKEN},
    });
    if let (Some(own), Some(rest)) = (configuration.as_object_mut(), rest.as_object()) {
        own.extend(rest.clone());
    }
    configuration
}

/// What the sample with self-service needs besides.
#[derive(Debug, Clone)]
pub struct SelfService {
    /// Where the companion serves tenants.
    pub companion: SocketAddr,
    /// Keys of the tokens' issuer, a JWK set.
    pub keys: Value,
    /// What the gateway shows to the companion.
    pub token: String,
}

type Change = Box<dyn Fn(&mut Sample) -> Result<()> + Send + Sync>;

/// What kind of Envoy to start.
pub struct Builder {
    api: SocketAddr,
    companion: SocketAddr,
    filter: Value,
    concurrency: u32,
    http2_upstream: bool,
    listeners_from_file: bool,
    trace_wasm: bool,
    version: Option<&'static str>,
    self_service: Option<SelfService>,
    changes: Vec<Change>,
}

impl Builder {
    /// Configures the filter; companion and token are filled in.
    pub fn filter(mut self, rest: &Value) -> Self {
        self.filter = filter_configuration(rest);
        self
    }

    /// How many workers, each with a VM of its own; 1 unless asked.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Speaks HTTP/2 to the API.
    pub fn http2_upstream(mut self) -> Self {
        self.http2_upstream = true;
        self
    }

    /// Has Envoy watch a file for its listener, so that the configuration can be changed while it runs.
    pub fn listeners_from_file(mut self) -> Self {
        self.listeners_from_file = true;
        self
    }

    /// Runs an Envoy of this version, from PyPI, rather than the one that all stories run on.
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = Some(version);
        self
    }

    /// Has Envoy log every call between it and the filter.
    pub fn trace_wasm(mut self) -> Self {
        self.trace_wasm = true;
        self
    }

    /// Runs the sample with self-service, with the filter's configuration that stands there.
    pub fn self_service(mut self, wanted: SelfService) -> Self {
        self.self_service = Some(wanted);
        self
    }

    /// Changes the sample beyond what the builder knows.
    pub fn change(mut self, change: impl Fn(&mut Sample) -> Result<()> + Send + Sync + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Starts it and waits until it serves.
    pub async fn start(self, run: &Arc<RunDirectory>) -> Result<Gateway> {
        let mut gateway = self.launch(run)?;
        let admin_file = gateway.directory.join("admin");
        let read_admin = async || fs::read_to_string(&admin_file).ok()?.trim().parse::<SocketAddr>().ok();
        let admin = gateway.process.ready(wait::PATIENCE, read_admin).await?;
        gateway.admin = Client::http1(admin);
        let client = gateway.admin.clone();
        let ready = async || client.get("/ready").send().await.ok().filter(|answer| answer.status == 200);
        gateway.process.ready(wait::PATIENCE, ready).await?;
        // Envoy is ready as soon as its clusters are; a listener that it watches for may come later.
        let listening = async || {
            let listeners = client.get("/listeners").send().await.ok()?;
            (!listeners.body.is_empty()).then_some(())
        };
        gateway.process.ready(wait::PATIENCE, listening).await?;
        Ok(gateway)
    }

    /// Expects Envoy to refuse this configuration, and gives what it printed.
    pub async fn refused(self, run: &Arc<RunDirectory>) -> Result<String> {
        let mut gateway = self.launch(run)?;
        let end = async || None::<()>;
        match gateway.process.ready(wait::PATIENCE, end).await {
            Err(_) if gateway.process.stop().is_ok_and(|status| !status.success()) => {
                Ok(gateway.process.log())
            }
            _ => anyhow::bail!("Envoy took the configuration:\n{}", gateway.process.log_tail(30)),
        }
    }

    fn launch(self, run: &Arc<RunDirectory>) -> Result<Gateway> {
        let program = self.version.map_or_else(envoy::program, envoy::of_version)?;
        let module = wasm::module()?;
        let port = ReservedPort::any()?;
        let mut sample =
            Sample::read(if self.self_service.is_some() { "self-service.yaml" } else { "envoy.yaml" })?;
        let mut filter = self.filter;
        if let Some(own) = &self.self_service {
            sample.address(8081, own.companion)?;
            sample.trust(&own.keys, &own.token)?;
            filter = sample.own_filter()?;
            filter["companion"]["token"] = companion::INGEST_TOKEN.into();
        }
        sample.address(9901, SocketAddr::from(([127, 0, 0, 1], 0)))?;
        sample.address(10000, port.address())?;
        sample.address(3000, self.api)?;
        sample.address(8080, self.companion)?;
        sample.module(&module)?;
        if self.http2_upstream {
            sample.http2_to(self.api)?;
        }
        sample.filter(&filter)?;
        for change in &self.changes {
            change(&mut sample)?;
        }
        // A directory of its own: a run may have several gateways, and Envoy watches this one.
        let directory = run.numbered("gateway");
        fs::create_dir_all(&directory)?;

        let mut bootstrap = sample.clone();
        if self.listeners_from_file {
            write_listeners(&directory, &sample)?;
            bootstrap.listeners_from(&directory.join(LISTENERS))?;
        }
        fs::write(directory.join("envoy.json"), bootstrap.to_json())?;
        let mut command = Command::new(program.path);
        command.arg("--config-path").arg(directory.join("envoy.json"));
        command.arg("--admin-address-path").arg(directory.join("admin"));
        command.args(["--concurrency", &self.concurrency.to_string()]);
        // Without hot restart there is no shared memory, so any number of them run side by side.
        command.args(["--disable-hot-restart", "--service-node", "gateway", "--service-cluster", "gateway"]);
        // A listener that was replaced asks its callers to leave with their next answer, and is gone soon after.
        command.args(["--drain-strategy", "immediate", "--drain-time-s", "2"]);
        // `misc` complains of each deprecated field each time, and one of them is in the sample for a reason.
        let wasm = if self.trace_wasm { "wasm:trace,misc:error" } else { "wasm:info,misc:error" };
        command.args(["--log-level", "warning", "--component-log-level", wasm]);
        let process = Process::start(run, "envoy", &mut command)?;
        let address = port.address();
        let admin = Client::http1(address);
        Ok(Gateway { process, address, admin, sample, directory, _port: port })
    }
}

/// A running Envoy.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    address: SocketAddr,
    admin: Client,
    sample: Sample,
    directory: PathBuf,
    _port: ReservedPort,
}

impl Gateway {
    /// An Envoy before this API, with this companion, and the filter's automatic rule.
    pub fn before(api: SocketAddr, companion: SocketAddr) -> Builder {
        Builder {
            api,
            companion,
            filter: filter_configuration(&json!({})),
            concurrency: 1,
            http2_upstream: false,
            listeners_from_file: false,
            trace_wasm: false,
            version: None,
            self_service: None,
            changes: Vec::new(),
        }
    }

    /// Ends it with `SIGKILL`, as a crash would.
    pub fn kill(self) -> Result<()> {
        self.process.kill()
    }

    /// Ends it with `SIGTERM`, without draining it first.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop().map(drop)
    }

    /// Where callers find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A caller that speaks HTTP/1.1.
    pub fn caller(&self) -> Client {
        Client::http1(self.address)
    }

    /// Envoy's admin interface.
    pub fn admin(&self) -> &Client {
        &self.admin
    }

    /// Where Envoy's admin interface listens.
    pub fn admin_address(&self) -> Result<SocketAddr> {
        let written = fs::read_to_string(self.directory.join("admin"))?;
        written.trim().parse().context("Envoy names no address of its admin interface")
    }

    /// The sum of a metric over its labels, as Prometheus would read it; one that does not exist is an error.
    pub async fn metric(&self, name: &str) -> Result<u64> {
        let text = self.admin.get("/stats/prometheus").send().await?.expect(200)?.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        let values = samples.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>());
        let values = values.collect::<Result<Vec<_>, _>>().with_context(|| format!("{name} is no number"))?;
        ensure!(!values.is_empty(), "there is no metric {name}");
        Ok(values.iter().sum())
    }

    /// Waits until a metric has this value.
    pub async fn metric_becomes(&self, name: &str, value: u64) -> Result<()> {
        let mut last = None;
        let reached = async || {
            last = self.metric(name).await.ok();
            (last == Some(value)).then_some(())
        };
        let outcome = wait::until(&format!("{name} = {value}"), wait::PATIENCE, reached).await;
        outcome.with_context(|| format!("it was {last:?} in the end"))
    }

    /// Gives the filter another configuration while it works; returns when Envoy has taken it.
    pub async fn reconfigure(&mut self, rest: &Value) -> Result<()> {
        let before = self.metric("envoy_listener_manager_lds_update_success").await?;
        self.sample.filter(&filter_configuration(rest))?;
        write_listeners(&self.directory, &self.sample)?;
        let taken = async || {
            let updates = self.metric("envoy_listener_manager_lds_update_success").await.ok()?;
            let warming = self.metric("envoy_listener_manager_total_listeners_warming").await.ok()?;
            (updates > before && warming == 0).then_some(())
        };
        wait::until("Envoy to take the configuration", wait::PATIENCE, taken).await
    }

    /// What Envoy has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Writes beside the file and moves it in place, the only change that Envoy watches for.
fn write_listeners(directory: &Path, sample: &Sample) -> Result<()> {
    let draft = directory.join("draft");
    fs::write(&draft, sample.listeners()?.to_string())?;
    fs::rename(draft, directory.join(LISTENERS))?;
    Ok(())
}
