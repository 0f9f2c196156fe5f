//! jsonapi-server, from npm: a JSON:API 1.0 server with the example resources that its own package brings.
//!
//! Everything stands in an envelope (`{"jsonapi", "meta", "links", "data"}`, `application/vnd.api+json`). POST answers
//! 201 and PATCH 200 with the resource, DELETE 200 with `{"meta":{}}`. Its `Location` and links name the address it was
//! configured with, never the one that was called. People live at `/rest/people/{id}`.

use std::sync::Arc;

use anyhow::Result;

use super::Api;
use crate::node;
use crate::ports::ReservedPort;
use crate::workspace::RunDirectory;

const PACKAGE: &str = "jsonapi-server@4.2.0";

/// The package's example starts itself, on a fixed port, unless it believes to be part of its own test suite.
const LAUNCH: &str = "global.describe = true
const server = require('jsonapi-server/example/server.js')
const [hostname, port] = process.argv.slice(1)
require('jsonapi-server').setConfig({ protocol: 'http', hostname, port, base: 'rest' })
server.start()";

/// Starts it with its example data.
pub async fn start(run: &Arc<RunDirectory>) -> Result<Api> {
    let environment = node::environment(&[PACKAGE])?;
    let address = ReservedPort::any()?.release();
    let mut command = environment.node();
    command.args(["-e", LAUNCH, &address.ip().to_string(), &address.port().to_string()]);
    Api::start(run, "jsonapi-server", address, &mut command, "/rest/people").await
}
