//! Guillotina, from PyPI: a content management API that is a tree of objects with names for ids, here in memory.
//!
//! POST answers 201 with four fields of the new object and a `Location`, PUT and PATCH 204 with nothing, DELETE 200
//! with `{}`; only a GET shows an object whole. Every call needs credentials.

use std::fs;
use std::sync::Arc;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Api;
use crate::http::Call;
use crate::ports::ReservedPort;
use crate::python;
use crate::workspace::RunDirectory;

const PACKAGE: &str = "guillotina==7.1.5";

const PASSWORD: &str = "only-for-the-tests";

/// The folder in which objects are made.
pub const FOLDER: &str = "/db/crm/contacts";

/// Starts it with an empty folder.
pub async fn start(run: &Arc<RunDirectory>) -> Result<Api> {
    let environment = python::environment(&[PACKAGE])?;
    let settings = run.join("guillotina.json");
    let configuration = json!({
        "databases": {"db": {"storage": "DUMMY", "name": "db"}},
        "root_user": {"password": PASSWORD},
        "jwt": {"secret": PASSWORD, "algorithm": "HS256"},
    });
    fs::write(&settings, configuration.to_string())?;
    let address = ReservedPort::any()?.release();
    let mut command = environment.script("guillotina");
    command.current_dir(run.path()).arg("serve").arg("--configuration").arg(&settings);
    command.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
    let api = Api::start(run, "guillotina", address, &mut command, "/").await?;
    let container = json!({"@type": "Container", "id": "crm"});
    as_root(api.direct().post("/db").json(&container)).send().await?.expect(200)?;
    let folder = json!({"@type": "Folder", "id": "contacts"});
    as_root(api.direct().post("/db/crm").json(&folder)).send().await?.expect(201)?;
    Ok(api)
}

/// Signs a call in.
pub fn as_root(call: Call) -> Call {
    call.header("authorization", format!("Basic {}", STANDARD.encode(format!("root:{PASSWORD}"))))
}
