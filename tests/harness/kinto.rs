//! The API that nobody here wrote: Kinto, a REST store from PyPI, with its data in memory.
//!
//! Any user name and password make an account. Records live at
//! `/v1/buckets/{bucket}/collections/{collection}/records/{id}`, in an envelope `{"data": …}`.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::http::{Call, Client};
use crate::ports::ReservedPort;
use crate::process::Process;
use crate::workspace::RunDirectory;
use crate::{python, wait};

/// The release that the demo was written against.
pub const VERSION: &str = "26.5.0";

/// A running Kinto.
#[derive(Debug)]
pub struct Kinto {
    address: SocketAddr,
    _process: Process,
}

impl Kinto {
    /// Installs it if it was never installed here; most of the time this does nothing.
    pub fn bring() -> Result<python::Environment> {
        python::environment(&[&format!("kinto=={VERSION}")])
    }

    /// Starts it with an empty store.
    pub async fn start(run: &Arc<RunDirectory>) -> Result<Self> {
        let environment = Self::bring()?;
        let port = ReservedPort::any()?;
        let settings = run.join("kinto.ini");
        fs::write(&settings, configuration(port.address()))?;
        let address = port.release();
        let mut command = environment.script("kinto");
        let mut process = Process::start(run, "kinto", command.arg("start").arg("--ini").arg(&settings))?;
        let client = Client::http1(address);
        let alive =
            async || client.get("/v1/__heartbeat__").send().await.ok().filter(|answer| answer.status == 200);
        process.ready(wait::PATIENCE, alive).await?;
        Ok(Self { address, _process: process })
    }

    /// Where Envoy finds it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a bucket with an empty collection in which everyone may write; straight at the API, so that no event
    /// tells of it.
    pub async fn create_collection(&self, bucket: &str, collection: &str) -> Result<()> {
        let client = Client::http1(self.address);
        let open = json!({"data": {}, "permissions": {"write": ["system.Authenticated"]}});
        for path in
            [format!("/v1/buckets/{bucket}"), format!("/v1/buckets/{bucket}/collections/{collection}")]
        {
            as_user(client.call(hyper::Method::PUT, &path).json(&open), "owner").send().await?.expect(201)?;
        }
        Ok(())
    }
}

/// Signs a call in; every name is welcome.
pub fn as_user(call: Call, name: &str) -> Call {
    call.header("authorization", format!("Basic {}", STANDARD.encode(format!("{name}:secret"))))
}

fn configuration(address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    format!(
        "[server:main]
use = egg:waitress#main
host = {host}
port = {port}

[app:main]
use = egg:kinto
kinto.userid_hmac_secret = only-for-the-demo
multiauth.policies = basicauth
kinto.bucket_create_principals = system.Authenticated
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = INFO
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain

[formatter_plain]
format = %(asctime)s %(levelname)s %(name)s %(message)s
"
    )
}
