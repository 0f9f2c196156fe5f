//! Processes that never outlive the harness.
//!
//! Each runs in a process group of its own, writes to a log file, and is stopped by its id: first politely, then not.
//! A signal to the harness stops them all. Nothing is ever looked up by name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::skip::Unavailable;
use crate::workspace::{self, RunDirectory};

const GRACE: Duration = Duration::from_secs(5);

static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static FAREWELL: OnceLock<fn() -> i32> = OnceLock::new();

/// A child process with its log; stopped when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    // Held so that the log outlives the process, whoever else lets go of the directory.
    _run: Arc<RunDirectory>,
}

impl Process {
    /// Starts the command; what it prints goes to `<name>-<n>.log` in the run's directory.
    pub fn start(run: &Arc<RunDirectory>, name: &str, command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        stop_all_on_signals();
        let log = run.numbered(name).with_extension("log");
        let output = File::options().create(true).append(true).open(&log)?;
        // Held over the start, so that a signal cannot fall between the birth of a process and its registration.
        let mut running = RUNNING.lock().expect("no holder panics");
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        running.insert(child.id());
        drop(running);
        Ok(Self { name: name.to_owned(), child, log, _run: Arc::clone(run) })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the probe finds what it looks for; fails at once when the process ends.
    pub async fn ready<T>(
        &mut self,
        deadline: Duration,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T> {
        let name = self.name.clone();
        let child = &mut self.child;
        let found = crate::wait::until(&format!("{name} to be ready"), deadline, async || {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(status));
            }
            probe().await.map(Ok)
        })
        .await;
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(status)) => {
                bail!("{name} ended with {status} before it was ready; {} says why", self.log.display())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a signal to the process and everything it started.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(self.child.id(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Ends it as a power cut would, with `SIGKILL`.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, insists after a deadline, and says how it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // A frozen process hears nothing before it is woken.
        self.signal(Signal::CONT)?;
        self.end_by(Signal::TERM, GRACE)
    }

    /// Asks it to end by a signal, insists after a while, and says how it ended.
    pub fn end_by(&mut self, signal: Signal, grace: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        let end = Instant::now() + grace;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.signal(Signal::KILL)?;
        Ok(self.child.wait()?)
    }

    /// Where what it prints goes.
    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// All that it has printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of what it printed, under a heading that says where the rest is.
    pub fn log_tail(&self, lines: usize) -> String {
        workspace::tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
        RUNNING.lock().expect("no holder panics").remove(&self.child.id());
    }
}

/// Lets this process, and what it starts, have so many files and connections open.
///
/// # Errors
/// [`Unavailable`] where the system allows fewer.
pub fn descriptors(count: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|most| most >= count) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|most| most < count) {
        return Err(Unavailable::new(format!("{count} descriptors, {:?} are allowed", limit.maximum)).into());
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// What to do once a signal has stopped every process: say good-bye, and give the exit code. Only the first call counts.
pub fn on_signal(farewell: fn() -> i32) {
    let _ = FAREWELL.set(farewell);
}

/// Children in groups of their own do not hear Ctrl-C, so the harness hears it for them.
fn stop_all_on_signals() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let (installed, wait) = std::sync::mpsc::channel();
        // A runtime and thread of its own: the caller may be inside another runtime, or leave it before the signal.
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
                let [mut interrupt, mut terminate, mut hangup] =
                    kinds.map(|kind| signal(kind).expect("a signal stream"));
                let _ = installed.send(());
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
            });
            stop_all();
            std::process::exit(FAREWELL.get().map_or(130, |farewell| farewell()));
        });
        wait.recv().expect("the thread installs its handlers");
    });
}

/// Stops every process without its owner's help; the lock stays held, so that no other starts meanwhile.
fn stop_all() {
    let running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for id in running.iter() {
        let _ = send(*id, Signal::CONT);
        let _ = send(*id, Signal::TERM);
    }
    let end = Instant::now() + GRACE;
    while Instant::now() < end && running.iter().any(|id| is_alive(*id)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    for id in running.iter().filter(|id| is_alive(**id)) {
        let _ = send(*id, Signal::KILL);
    }
    // The guard is never released: the process is about to exit.
    std::mem::forget(running);
}

/// Whether the process still runs; one that ended but was not waited for counts as gone.
fn is_alive(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z')
}

fn send(id: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw).context("an impossible process id")?;
    kill_process_group(id, signal)?;
    Ok(())
}
