//! The files of `envoy/` that users start from, with their ports, paths and filter configuration exchanged.
//!
//! What the tests run is thereby what users run. Every exchange insists on finding what it replaces: a sample that
//! has moved on fails here, with the name of what is missing, rather than being tested as something else.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::workspace;

/// The sample as a document.
#[derive(Debug, Clone)]
pub struct Sample(Value);

impl Sample {
    /// Reads a file of this repository's `envoy/`.
    pub fn read(name: &str) -> Result<Self> {
        let path = workspace::root().join("envoy").join(name);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self(serde_yaml_ng::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))?))
    }

    /// Exchanges the address that has this port for another.
    pub fn address(&mut self, port: u16, new: SocketAddr) -> Result<()> {
        let mut found = 0;
        visit(&mut self.0, &mut |object| {
            if object.get("port_value") == Some(&port.into()) {
                object.insert("address".into(), new.ip().to_string().into());
                object.insert("port_value".into(), new.port().into());
                found += 1;
            }
        });
        ensure!(found > 0, "envoy.yaml names no port {port}");
        Ok(())
    }

    /// Exchanges the path of the wasm module.
    pub fn module(&mut self, path: &Path) -> Result<()> {
        let path: Value = path.to_str().context("the path of the module is no text")?.into();
        self.each_filter(|filter| {
            filter["vm_config"]["code"]["local"]["filename"] = path.clone();
        })
    }

    /// Exchanges the filter's configuration.
    pub fn filter(&mut self, configuration: &Value) -> Result<()> {
        let text = configuration.to_string();
        self.each_filter(|filter| filter["configuration"]["value"] = text.clone().into())
    }

    /// The filter's configuration as the file has it.
    pub fn own_filter(&self) -> Result<Value> {
        let mut found = None;
        self.clone()
            .each_filter(|filter| found = filter["configuration"]["value"].as_str().map(str::to_owned))?;
        Ok(serde_json::from_str(&found.context("the sample's filter has no configuration")?)?)
    }

    /// Lets the filter hold answers by their headers, as its mode `hold` needs it.
    pub fn allow_stop_iteration(&mut self) -> Result<()> {
        self.each_filter(|filter| filter["allow_on_headers_stop_iteration"] = true.into())
    }

    /// Exchanges the keys of the token's issuer (a JWK set), and what the gateway shows to the companion.
    pub fn trust(&mut self, keys: &Value, gateway_token: &str) -> Result<()> {
        self.change("local_jwks", |source| *source = json!({"inline_string": keys.to_string()}))?;
        self.change("request_headers_to_add", |headers| headers[0]["header"]["value"] = gateway_token.into())
    }

    /// Bounds the pieces in which Envoy reads from the API, in bytes.
    pub fn read_in_pieces(&mut self, cluster: &str, bytes: u32) -> Result<()> {
        let clusters = self.0["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
        let own = clusters.iter_mut().find(|own| own["name"] == cluster).context("no such cluster")?;
        own["per_connection_buffer_limit_bytes"] = bytes.into();
        Ok(())
    }

    /// Changes the configuration of the wasm plugin beyond what this file knows.
    pub fn plugin(&mut self, change: impl FnMut(&mut Value)) -> Result<()> {
        self.each_filter(change)
    }

    fn each_filter(&mut self, mut change: impl FnMut(&mut Value)) -> Result<()> {
        let mut found = 0;
        visit(&mut self.0, &mut |object| {
            let kind = object.get("@type").and_then(Value::as_str).unwrap_or_default();
            if kind.ends_with("filters.http.wasm.v3.Wasm")
                && let Some(config) = object.get_mut("config")
            {
                change(config);
                found += 1;
            }
        });
        ensure!(found > 0, "envoy.yaml has no wasm filter");
        Ok(())
    }

    /// Speaks HTTP/2 to the cluster that has this endpoint.
    pub fn http2_to(&mut self, endpoint: SocketAddr) -> Result<()> {
        let clusters = self.0["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
        let port = format!("\"port_value\":{}", endpoint.port());
        let cluster = clusters.iter_mut().find(|cluster| cluster.to_string().contains(&port));
        let cluster = cluster.context("no cluster has this endpoint")?;
        cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = json!({
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        });
        Ok(())
    }

    /// Puts a route before all others.
    pub fn first_route(&mut self, route: &Value) -> Result<()> {
        self.change("virtual_hosts", |hosts| {
            if let Some(routes) = hosts.get_mut(0).and_then(|host| host["routes"].as_array_mut()) {
                routes.insert(0, route.clone());
            }
        })
    }

    /// Puts an HTTP filter before all others.
    pub fn first_http_filter(&mut self, filter: &Value) -> Result<()> {
        self.change("http_filters", |filters| {
            if let Some(filters) = filters.as_array_mut() {
                filters.insert(0, filter.clone());
            }
        })
    }

    /// Puts another HTTP filter in the place of the one with this name.
    pub fn replace_http_filter(&mut self, name: &str, filter: &Value) -> Result<()> {
        let mut found = 0;
        self.change("http_filters", |filters| {
            for own in filters.as_array_mut().into_iter().flatten().filter(|own| own["name"] == name) {
                *own = filter.clone();
                found += 1;
            }
        })?;
        ensure!(found > 0, "envoy.yaml has no filter {name}");
        Ok(())
    }

    /// Gives a cluster that no route leads to another name.
    pub fn rename_cluster(&mut self, name: &str, new: &str) -> Result<()> {
        let clusters = self.0["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
        let own = clusters.iter_mut().find(|own| own["name"] == name).context("no such cluster")?;
        own["name"] = new.into();
        own["load_assignment"]["cluster_name"] = new.into();
        Ok(())
    }

    /// Lets connections be upgraded to WebSocket.
    pub fn allow_websockets(&mut self) -> Result<()> {
        let mut found = 0;
        visit(&mut self.0, &mut |object| {
            if object.contains_key("http_filters") {
                object.insert("upgrade_configs".into(), json!([{"upgrade_type": "websocket"}]));
                found += 1;
            }
        });
        ensure!(found > 0, "envoy.yaml has no connection manager");
        Ok(())
    }

    fn change(&mut self, key: &str, mut change: impl FnMut(&mut Value)) -> Result<()> {
        let mut found = 0;
        visit(&mut self.0, &mut |object| {
            if let Some(value) = object.get_mut(key) {
                change(value);
                found += 1;
            }
        });
        ensure!(found > 0, "envoy.yaml has no {key}");
        Ok(())
    }

    /// Adds a copy of the first listener under another name and address, changed.
    pub fn copy_listener(
        &mut self,
        name: &str,
        address: SocketAddr,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<()> {
        let listeners = self.0["static_resources"]["listeners"].as_array_mut().context("no listeners")?;
        let mut copy = listeners.first().context("no listener")?.clone();
        copy["name"] = name.into();
        copy["address"]["socket_address"] =
            json!({"address": address.ip().to_string(), "port_value": address.port()});
        change(&mut copy)?;
        listeners.push(copy);
        Ok(())
    }

    /// Adds a copy of the first cluster under another name and address.
    pub fn copy_cluster(&mut self, name: &str, address: SocketAddr) -> Result<()> {
        let clusters = self.0["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
        let mut copy = clusters.first().context("no cluster")?.clone();
        copy["name"] = name.into();
        copy["load_assignment"]["cluster_name"] = name.into();
        copy["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] =
            json!({"address": address.ip().to_string(), "port_value": address.port()});
        clusters.push(copy);
        Ok(())
    }

    /// Takes the listeners out and leaves a reference to the file that will hold them.
    pub fn listeners_from(&mut self, file: &Path) -> Result<()> {
        self.0["static_resources"]
            .as_object_mut()
            .and_then(|own| own.remove("listeners"))
            .context("no listeners")?;
        let directory = file.parent().context("a file lies somewhere")?;
        self.0["dynamic_resources"]["lds_config"] = json!({
            "resource_api_version": "V3",
            "path_config_source": {"path": file, "watched_directory": {"path": directory}},
        });
        Ok(())
    }

    /// The listeners as a file that Envoy watches has them.
    pub fn listeners(&self) -> Result<Value> {
        let mut listeners = self.0["static_resources"]["listeners"].clone();
        for listener in listeners.as_array_mut().context("no listeners")? {
            listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
        }
        Ok(json!({"resources": listeners}))
    }

    /// The document as JSON, which Envoy reads as well as YAML.
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }
}

/// Visits every object of the document.
fn visit(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object.values_mut().for_each(|inner| visit(inner, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| visit(inner, change)),
        _ => {}
    }
}
