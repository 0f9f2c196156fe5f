//! scim2-server, from PyPI: users and groups by SCIM 2.0 (RFC 7644), in memory.
//!
//! `application/scim+json` over HTTP/1.0. POST answers 201 and PUT 200 with the resource, PATCH and DELETE 204 with
//! nothing. Users live at `/v2/Users/{id}`.

use std::sync::Arc;

use anyhow::Result;

use super::Api;
use crate::ports::ReservedPort;
use crate::python;
use crate::workspace::RunDirectory;

const PACKAGE: &str = "scim2-server==0.8.3";

/// Starts it without users.
pub async fn start(run: &Arc<RunDirectory>) -> Result<Api> {
    let environment = python::environment(&[PACKAGE])?;
    let address = ReservedPort::any()?.release();
    let mut command = environment.script("scim2-server");
    command.args(["--hostname", &address.ip().to_string(), "--port", &address.port().to_string()]);
    Api::start(run, "scim2-server", address, &mut command, "/v2/ServiceProviderConfig").await
}
