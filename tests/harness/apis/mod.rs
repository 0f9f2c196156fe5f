//! REST APIs that nobody here wrote, of different make: from the registries, by name, at pinned versions.
//!
//! Each is started as its own documentation says, with an empty store in memory or in the run's directory, and keeps
//! its habits: how it answers a write is what the stories are about. Kinto, the demo's, has a module of its own.

pub mod guillotina;
pub mod json_api;
pub mod json_server;
pub mod scim;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;

use crate::http::Client;
use crate::process::Process;
use crate::wait;
use crate::workspace::RunDirectory;

/// A running API; it ends with this value.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    _process: Process,
}

impl Api {
    /// Starts the command and waits until a GET of the path is answered, whatever the answer.
    async fn start(
        run: &Arc<RunDirectory>,
        name: &str,
        address: SocketAddr,
        command: &mut Command,
        path: &str,
    ) -> Result<Self> {
        let mut process = Process::start(run, name, command)?;
        let client = Client::http1(address);
        let answers = async || client.get(path).send().await.ok();
        process.ready(wait::PATIENCE, answers).await?;
        Ok(Self { address, _process: process })
    }

    /// Where Envoy finds it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A caller that speaks to it without Envoy, so that no event tells of what it does.
    pub fn direct(&self) -> Client {
        Client::http1(self.address)
    }
}
