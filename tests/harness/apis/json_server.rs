//! json-server, from npm: plain JSON and numbers for ids, with a file for a store.
//!
//! POST answers 201 with the resource and a `Location`, PUT and PATCH 200 with the resource, DELETE 200 with `{}`.

use std::fs;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map, json};

use super::Api;
use crate::node;
use crate::ports::ReservedPort;
use crate::workspace::RunDirectory;

const PACKAGE: &str = "json-server@0.17.4";

/// Starts it with these collections, all empty.
pub async fn start(run: &Arc<RunDirectory>, collections: &[&str]) -> Result<Api> {
    let environment = node::environment(&[PACKAGE])?;
    let store = run.join("json-server.json");
    let empty: Map<_, _> = collections.iter().map(|name| ((*name).to_owned(), json!([]))).collect();
    fs::write(&store, json!(empty).to_string())?;
    let address = ReservedPort::any()?.release();
    let mut command = environment.node();
    command.arg("node_modules/json-server/lib/cli/bin.js").arg("--quiet");
    command.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
    Api::start(run, "json-server", address, command.arg(&store), "/db").await
}
