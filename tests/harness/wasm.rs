//! Builds the filter as the module that Envoy loads.
//!
//! It has a target directory of its own (`target/wasm`), so that it never waits for the lock of the cargo that
//! runs the tests, and so that both keep their incremental builds.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

use crate::{progress, skip::Unavailable, workspace};

const TARGET: &str = "wasm32-unknown-unknown";

/// The path of the module, brought up to date once in each process.
pub fn module() -> Result<PathBuf> {
    static MODULE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    // The target is asked for outside the cell: a missing one is a reason to skip, which a string would hide.
    ensure_target()?;
    MODULE
        .get_or_init(|| {
            build(&["rustc", "--lib", "--crate-type", "cdylib"], "gatehook_filter.wasm")
                .map_err(|error| format!("{error:#}"))
        })
        .clone()
        .map_err(|reason| anyhow::anyhow!("{reason}"))
}

/// The path of one of the filter package's examples: `empty`, the measure for what ours costs, or `trap`, which fails.
pub fn example(name: &str) -> Result<PathBuf> {
    ensure_target()?;
    build(&["build", "--example", name], &format!("examples/{name}.wasm"))
}

/// Runs a command of cargo that makes `file`.
fn build(command: &[&str], file: &str) -> Result<PathBuf> {
    let directory = workspace::target()?.join("wasm");
    let module = directory.join(TARGET).join("wasm").join(file);
    if !module.exists() {
        progress::report("filter: building for wasm (half a minute the first time)");
    }
    let output = workspace::cargo()
        .args(command)
        .args(["--quiet", "--package", "filter", "--target", TARGET, "--profile", "wasm", "--target-dir"])
        .arg(&directory)
        .stderr(Stdio::piped())
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "the filter does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(module)
}

/// Adds the compilation target if this toolchain has it not.
///
/// One caller at a time, over all threads and processes: two rustups that install the same component break each other's
/// download, and leave half a target behind.
fn ensure_target() -> Result<()> {
    let _one_at_a_time = workspace::lock("rust-target")?;
    if installed()? {
        return Ok(());
    }
    progress::report(&format!("Rust: adding the target {TARGET}"));
    let added =
        Command::new("rustup").args(["target", "add", TARGET]).current_dir(workspace::root()).output();
    let reason = match added {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Unavailable::new(format!("the Rust target {TARGET} is missing, and rustup cannot add it: {reason}"))
        .into())
}

/// The standard library is moved in piece by piece, so its folder alone says nothing; rustup lists what is whole.
fn installed() -> Result<bool> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(workspace::root())
        .output()
        .context("cannot run rustc")?;
    let libraries = PathBuf::from(String::from_utf8(output.stdout)?.trim()).join("lib/rustlib");
    let components = std::fs::read_to_string(libraries.join("components")).unwrap_or_default();
    let listed = components.lines().any(|line| line == format!("rust-std-{TARGET}"));
    // A toolchain that did not come by rustup keeps no list.
    Ok(listed || (components.is_empty() && libraries.join(TARGET).is_dir()))
}
