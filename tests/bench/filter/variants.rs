//! The variants, each a listener of the same Envoy: the sample's own, changed where they differ.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use harness::companion::INGEST_TOKEN;
use harness::gateway::filter_configuration;
use harness::ports::ReservedPort;
use harness::sample::Sample;
use serde_json::{Value, json};

/// What stands in the place of the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// Nothing.
    None,
    /// A wasm filter that does nothing, put in as the sample puts in ours.
    EmptyAsSample,
    /// A wasm filter that does nothing, for every request.
    EmptyInChain,
    /// A wasm filter that makes the calls of a write and hands the bytes over, and does nothing with them.
    Floor,
    /// The sample configuration.
    Sample,
    /// With `representation: fetch`.
    Fetch,
    /// With `previous: fetch`.
    Previous,
    /// With `mode: hold`.
    Hold,
    /// A script that posts each write's answer.
    Lua,
    /// A server of one's own that is shown each write's answer.
    ExtProc,
}

impl Variant {
    pub(crate) const ALL: [Self; 10] = [
        Self::None,
        Self::EmptyAsSample,
        Self::EmptyInChain,
        Self::Floor,
        Self::Sample,
        Self::Fetch,
        Self::Previous,
        Self::Hold,
        Self::Lua,
        Self::ExtProc,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no filter",
            Self::EmptyAsSample => "empty wasm filter, as the sample",
            Self::EmptyInChain => "empty wasm filter, in the chain",
            Self::Floor => "the calls of a write, and no work",
            Self::Sample => "Gatehook, the sample",
            Self::Fetch => "Gatehook, representation: fetch",
            Self::Previous => "Gatehook, previous: fetch",
            Self::Hold => "Gatehook, mode: hold",
            Self::Lua => "Lua that posts each event",
            Self::ExtProc => "ext_proc that observes",
        }
    }

    /// Whether it is our filter.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Sample | Self::Fetch | Self::Previous | Self::Hold)
    }

    /// Whether it does anything.
    pub(crate) fn is_something(self) -> bool {
        self.is_ours() || matches!(self, Self::Floor | Self::Lua | Self::ExtProc)
    }
}

/// A port for each variant but the sample, which has its own.
pub(crate) struct Listeners(Vec<(Variant, ReservedPort)>);

impl Listeners {
    pub(crate) fn reserve() -> Result<Self> {
        let others = Variant::ALL.into_iter().filter(|variant| *variant != Variant::Sample);
        others.map(|variant| Ok((variant, ReservedPort::any()?))).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn address(&self, variant: Variant) -> Option<SocketAddr> {
        self.0.iter().find(|(own, _)| *own == variant).map(|(_, port)| port.address())
    }

    /// What it takes to add them to the sample.
    pub(crate) fn places(&self, modules: Modules, companion: SocketAddr, ext_proc: SocketAddr) -> Places {
        let listeners = self.0.iter().map(|(variant, port)| (*variant, port.address())).collect();
        Places { listeners, modules, companion, ext_proc }
    }
}

/// The filters that ours is measured by.
pub(crate) struct Modules {
    pub(crate) empty: PathBuf,
    pub(crate) floor: PathBuf,
}

/// Where everything is.
pub(crate) struct Places {
    listeners: Vec<(Variant, SocketAddr)>,
    modules: Modules,
    companion: SocketAddr,
    ext_proc: SocketAddr,
}

impl Places {
    pub(crate) fn add_to(&self, sample: &mut Sample) -> Result<()> {
        // Not the sample's own cluster, whose bounds are for one batch at a time.
        sample.copy_cluster("posts", self.companion)?;
        sample.copy_cluster("ext_proc", self.ext_proc)?;
        sample.http2_to(self.ext_proc)?;
        for (variant, address) in &self.listeners {
            sample.copy_listener(&format!("{variant:?}"), *address, |listener| {
                self.change(*variant, listener)
            })?;
        }
        Ok(())
    }

    fn change(&self, variant: Variant, listener: &mut Value) -> Result<()> {
        match variant {
            Variant::Sample => {}
            Variant::None => drop(http_filters(listener)?.remove(0)),
            Variant::EmptyAsSample => {
                change_wasm(listener, &|config| *config = wasm("empty", &self.modules.empty))
            }
            Variant::Floor => change_wasm(listener, &|config| *config = wasm("floor", &self.modules.floor)),
            Variant::EmptyInChain => {
                let typed = json!({
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                    "config": wasm("empty", &self.modules.empty),
                });
                http_filters(listener)?[0] = json!({"name": "empty", "typed_config": typed});
            }
            Variant::Fetch => configure(listener, &json!({"representation": "fetch"})),
            Variant::Previous => configure(listener, &json!({"previous": "fetch"})),
            Variant::Hold => {
                let hold = json!({"allow_on_headers_stop_iteration": true});
                configure(listener, &json!({"mode": "hold", "hold": hold}));
                change_wasm(listener, &|config| config["allow_on_headers_stop_iteration"] = true.into());
            }
            Variant::Lua => http_filters(listener)?[0] = lua(),
            Variant::ExtProc => http_filters(listener)?[0] = ext_proc(),
        }
        Ok(())
    }
}

fn wasm(name: &str, module: &Path) -> Value {
    json!({
        "name": name, "root_id": name, "fail_open": true,
        "vm_config": {"vm_id": name, "runtime": "envoy.wasm.runtime.v8",
                      "code": {"local": {"filename": module}}},
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": ""},
    })
}

/// Posts the answer of each write and waits for nothing; as short as it can be and still name the resource.
const LUA: &str = r#"
local writes = { POST = "create", PUT = "update", PATCH = "update", DELETE = "delete" }
function envoy_on_request(handle)
  local headers = handle:headers()
  local verb = writes[headers:get(":method")]
  if verb then
    local metadata = handle:streamInfo():dynamicMetadata()
    metadata:set("event", "verb", verb)
    metadata:set("event", "path", headers:get(":path"))
    metadata:set("event", "id", headers:get("x-request-id"))
  end
end
function envoy_on_response(handle)
  local event = handle:streamInfo():dynamicMetadata():get("event")
  if event == nil or string.sub(handle:headers():get(":status"), 1, 1) ~= "2" then return end
  local body = handle:body()
  local data = body and body:getBytes(0, body:length()) or "null"
  handle:httpCall("posts", {
    [":method"] = "POST", [":path"] = "/v1/events", [":authority"] = "gatehook",
    ["content-type"] = "application/cloudevents+json", ["authorization"] = "Bearer TOKEN",
  }, '{"specversion":"1.0","id":"' .. event.id .. '","source":"/lua","type":"contact.' .. event.verb ..
     '","subject":"' .. event.path .. '","datacontenttype":"application/json","data":' .. data .. '}', 5000, true)
end
"#;

fn lua() -> Value {
    json!({"name": "lua", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": LUA.replace("TOKEN", INGEST_TOKEN)},
    }})
}

/// Shows a server of one's own what passes, and waits for nothing.
fn ext_proc() -> Value {
    json!({"name": "ext_proc", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": "ext_proc"}},
        "observability_mode": true,
        "deferred_close_timeout": "0.01s",
        "failure_mode_allow": true,
        "processing_mode": {
            "request_header_mode": "SEND", "request_body_mode": "NONE", "request_trailer_mode": "SKIP",
            "response_header_mode": "SEND", "response_body_mode": "STREAMED", "response_trailer_mode": "SKIP",
        },
    }})
}

/// Our filter with more settings than the sample's.
fn configure(listener: &mut Value, rest: &Value) {
    let configuration = filter_configuration(rest).to_string();
    change_wasm(listener, &|config| config["configuration"]["value"] = configuration.clone().into());
}

fn http_filters(listener: &mut Value) -> Result<&mut Vec<Value>> {
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["http_filters"].as_array_mut().context("the sample has no http_filters")
}

fn change_wasm(value: &mut Value, change: &impl Fn(&mut Value)) {
    match value {
        Value::Object(object) => {
            let kind = object.get("@type").and_then(Value::as_str).unwrap_or_default();
            if kind.ends_with("filters.http.wasm.v3.Wasm")
                && let Some(config) = object.get_mut("config")
            {
                change(config);
            }
            object.values_mut().for_each(|inner| change_wasm(inner, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| change_wasm(inner, change)),
        _ => {}
    }
}
