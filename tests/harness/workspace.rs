//! Where things lie: the repository, cargo's target directory, and a directory for each run.
//!
//! The target directory is asked of cargo at run time, so that `CARGO_TARGET_DIR` and `build.target-dir` are honoured.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// A cargo command in the repository, of the cargo that runs us where there is one.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Cargo's target directory.
pub fn target() -> Result<&'static Path> {
    static TARGET: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    TARGET
        .get_or_init(|| ask_for_target().map_err(|error| format!("{error:#}")))
        .as_deref()
        .map_err(|reason| anyhow::anyhow!("{reason}"))
}

fn ask_for_target() -> Result<PathBuf> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let directory =
        metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(directory))
}

/// Keeps all others waiting, threads and processes alike, until the file is dropped.
pub fn lock(name: &str) -> Result<File> {
    let parent = target()?.join("harness");
    fs::create_dir_all(&parent)?;
    let lock = File::create(parent.join(format!("{name}.lock")))?;
    lock.lock().with_context(|| format!("cannot lock {name}"))?;
    Ok(lock)
}

/// A directory that is filled once for all runs and processes, `target/harness/<name>`.
///
/// A file lock keeps others waiting while one fills it, and a marker written last tells a whole directory from one
/// whose filling was interrupted. The lock goes with its process, so a killed run leaves nothing behind to clean up.
pub fn filled_once(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let directory = target()?.join("harness").join(name);
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(directory);
    }
    let _filled_by_one = lock(name)?;
    if !complete.exists() {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        fill(&directory)?;
        fs::write(&complete, "")?;
    }
    Ok(directory)
}

/// The files of one run: configurations, databases, logs. Removed at its end unless something went wrong.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    kept: AtomicBool,
    names: AtomicU32,
}

impl RunDirectory {
    /// A fresh directory `target/harness/run-<pid>-<n>/`.
    pub fn create() -> Result<Arc<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let parent = target()?.join("harness");
        fs::create_dir_all(&parent)?;
        forget_old_runs(&parent)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("run-{}-{number}", std::process::id()));
        // A process of an earlier boot may have had our id; its leftovers are of no use to anyone.
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Arc::new(Self { path, kept: AtomicBool::new(false), names: AtomicU32::new(1) }))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A path inside that was never given before: `envoy-3`.
    pub fn numbered(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}-{}", self.names.fetch_add(1, Ordering::Relaxed)))
    }

    /// Leaves the files where they are, for someone to look at.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// The end of every log, each under a heading that says where the rest is.
    pub fn log_tails(&self, lines: usize) -> String {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return String::new();
        };
        let mut logs: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        logs.iter().map(|log| tail(log, lines)).collect()
    }
}

/// The end of a log, under a heading that says where the rest is.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    let end = all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n");
    format!("── {} ──\n{end}\n", log.display())
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log_tails(30));
        } else if !self.kept.load(Ordering::Relaxed) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Runs that failed or were interrupted leave their files; after a day nobody looks at them any more.
fn forget_old_runs(parent: &Path) -> Result<()> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for entry in fs::read_dir(parent)?.filter_map(Result::ok) {
        let is_run = entry.file_name().to_string_lossy().starts_with("run-");
        let age =
            entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        if is_run && age.is_some_and(|age| age > DAY) {
            // Another process may be forgetting the same run.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
