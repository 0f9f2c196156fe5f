//! What control planes make of the manifests in `envoy/`, as data for the real Envoy.
//!
//! No control plane runs here. Istio's part follows the source of istiod (`buildWasmPluginConfigCommon` and `buildVMConfig` in
//! `pilot/pkg/model/extensions.go`, `toEnvoyHTTPExtensionFilter` in `pilot/pkg/networking/core/extension/extensionfilter.go`)
//! and of its agent (`pkg/wasm/convert.go`) about istio/istio c996103, which is between 1.29 and 1.30; Envoy Gateway's follows
//! `internal/xds/translator/wasm.go` as of envoyproxy/gateway 06a1fd2. Two things differ: Envoy reads an extension from a file
//! instead of asking the control plane, and the module is the one just built instead of one out of an image.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::{companion, workspace};

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/// What the manifests say where their reader has to put the ingest token.
const PLACEHOLDER: &str = "replace-me";

/// Variables of the VM with this prefix are for Istio's agent, which takes them out.
const FOR_THE_AGENT: &str = "ISTIO_META_";

/// Every document of a YAML text, aliases resolved.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize);
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The resource of this kind in a file of `envoy/`, with the ingest token where there is a place for it.
pub fn resource(file: &str, kind: &str) -> Result<Value> {
    let text = fs::read_to_string(workspace::root().join("envoy").join(file)).context(file.to_owned())?;
    let found = documents(&text.replace(PLACEHOLDER, companion::INGEST_TOKEN))?;
    let own = found.into_iter().find(|document| document["kind"] == kind);
    own.with_context(|| format!("{file} has no {kind}"))
}

/// What Istio's control plane answers when Envoy asks for the configuration of a filter (ECDS).
#[derive(Debug, Clone)]
pub struct Extension {
    name: String,
    filter: Value,
}

impl Extension {
    /// Of a WasmPlugin or a TrafficExtension, under the name that Istio 1.30 gives it.
    pub fn of_plugin(resource: &Value) -> Result<Self> {
        let (suffix, plugin) = match resource["kind"].as_str() {
            // istiod makes a TrafficExtension of it first.
            Some("WasmPlugin") => ("~istio-translated-wasmplugin", &resource["spec"]),
            Some("TrafficExtension") => ("", &resource["spec"]["wasm"]),
            other => bail!("{other:?} is no plugin"),
        };
        let text = |field: &str| plugin[field].as_str().unwrap_or_default();
        let own = format!("{}.{}", owner(resource, "namespace")?, owner(resource, "name")?);
        let policy = match plugin["failStrategy"].as_str() {
            Some("FAIL_OPEN") => "FAIL_OPEN",
            Some("FAIL_RELOAD") => "FAIL_RELOAD",
            Some("FAIL_CLOSE") | None => "FAIL_CLOSED",
            Some(other) => bail!("there is no failStrategy {other}"),
        };
        let config = json!({
            "name": own,
            "root_id": text("pluginName"),
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": plugin["pluginConfig"].to_string(),
            },
            "failure_policy": policy,
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"remote": {
                    "http_uri": {"uri": text("url"), "timeout": "30s", "cluster": "_"},
                    "sha256": text("sha256"),
                }},
                "environment_variables": {"key_values": variables(plugin)},
            },
        });
        let name = format!("extensions.istio.io/trafficextension/{own}{suffix}");
        Ok(Self { name, filter: json!({"@type": WASM, "config": config}) })
    }

    /// The one that an EnvoyFilter adds.
    pub fn of_envoy_filter(resource: &Value) -> Result<Self> {
        let added = patch(resource, "EXTENSION_CONFIG", "ADD")?;
        let name = added["name"].as_str().context("the extension has no name")?.to_owned();
        Ok(Self { name, filter: added["typed_config"].clone() })
    }

    /// As Istio's agent leaves it where it could fetch the image: this file, and nothing of what was for the agent.
    pub fn fetched(mut self, module: &Path) -> Result<Self> {
        let vm = &mut self.filter["config"]["vm_config"];
        let remote = &vm["code"]["remote"];
        ensure!(remote["http_uri"]["uri"].is_string(), "there is no image to fetch");
        // YAML takes digits alone for a number.
        ensure!(remote["sha256"].as_str().is_some_and(|sum| sum.len() == 64), "there is no checksum");
        vm["code"] = json!({"local": {"filename": module}});
        if let Some(variables) = vm["environment_variables"]["key_values"].as_object_mut() {
            variables.retain(|name, _| !name.starts_with(FOR_THE_AGENT));
            ensure!(variables.is_empty(), "the module reads no variables");
        }
        if let Some(vm) = vm.as_object_mut() {
            vm.remove("environment_variables");
        }
        Ok(self)
    }

    /// As Istio's agent leaves it where it could not: a filter that allows all, or one that denies all.
    pub fn unfetched(mut self) -> Self {
        let config = &self.filter["config"];
        let opens = match config["failure_policy"].as_str() {
            Some(policy) => policy == "FAIL_OPEN",
            None => config["fail_open"] == true,
        };
        // Without rules all is allowed; with rules, and none of them, nothing is.
        self.filter = if opens { json!({"@type": RBAC}) } else { json!({"@type": RBAC, "rules": {}}) };
        self
    }

    /// The cluster of the companion that the filter's configuration names.
    pub fn cluster(&self) -> Result<String> {
        cluster(&self.filter)
    }

    /// Writes it where Envoy looks for it.
    pub fn write(&self, file: &Path) -> Result<()> {
        let kind = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
        let own = json!({"@type": kind, "name": self.name, "typed_config": self.filter});
        Ok(fs::write(file, json!({"resources": [own]}).to_string())?)
    }

    /// The filter as istiod puts it into a listener: its name, and where its configuration is.
    pub fn http_filter(&self, file: &Path) -> Value {
        let discovery = json!({"config_source": source(file), "type_urls": [WASM, RBAC]});
        json!({"name": self.name, "config_discovery": discovery})
    }
}

/// The filter that an EnvoyFilter inserts before the router, with its extension read from a file.
pub fn inserted(resource: &Value, file: &Path) -> Result<Value> {
    let mut filter = patch(resource, "HTTP_FILTER", "INSERT_BEFORE")?.clone();
    let actions = filter["typed_config"]["xds_matcher"]["matcher_tree"]["exact_match_map"]["map"]
        .as_object_mut()
        .context("the filter has no map of methods")?;
    for action in actions.values_mut() {
        let discovery =
            &mut action["action"]["typed_config"]["dynamic_config"]["config_discovery"]["config_source"];
        ensure!(discovery["ads"].is_object(), "the extension comes from the control plane");
        *discovery = source(file);
    }
    Ok(filter)
}

/// The filter that istiod makes of a RequestAuthentication (`convertToEnvoyJwtConfig` in
/// `pilot/pkg/security/authn/policy_applier.go`), with these keys in place of those to be fetched. A request without a token
/// passes: to refuse it is another resource's part.
pub fn of_request_authentication(resource: &Value, keys: &Value) -> Result<Value> {
    let rule = &resource["spec"]["jwtRules"][0];
    let headers = rule["outputClaimToHeaders"].as_array().context("no claims go to headers")?;
    let headers = headers.iter().map(|own| json!({"header_name": own["header"], "claim_name": own["claim"]}));
    let provider = json!({
        "issuer": rule["issuer"],
        "audiences": rule["audiences"],
        "forward": rule["forwardOriginalToken"],
        "claim_to_headers": headers.collect::<Vec<_>>(),
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {"space_delimited_claims": ["permission", "scope"]},
        "local_jwks": {"inline_string": keys.to_string()},
    });
    let any = json!({"requirements": [{"provider_name": "origins-0"}, {"allow_missing": {}}]});
    let config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"origins-0": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": any}}],
    });
    Ok(json!({"name": "envoy.filters.http.jwt_authn", "typed_config": config}))
}

/// The filter that Envoy Gateway makes of an EnvoyExtensionPolicy: off, until a route turns it on by its name.
pub fn of_extension_policy(resource: &Value, module: &Path) -> Result<Value> {
    let own = format!("{}/{}", owner(resource, "namespace")?, owner(resource, "name")?);
    let id = format!("envoyextensionpolicy/{own}/wasm/0");
    let wasm = &resource["spec"]["wasm"][0];
    let config = json!({
        "name": wasm["name"],
        "root_id": wasm["rootID"],
        "fail_open": wasm["failOpen"],
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": wasm["config"].to_string(),
        },
        "vm_config": {
            "vm_id": id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        },
    });
    let name = format!("envoy.filters.http.wasm/{id}");
    Ok(json!({"name": name, "disabled": true, "typed_config": {"@type": WASM, "config": config}}))
}

/// The cluster of the companion that a wasm filter's configuration names.
pub fn cluster(filter: &Value) -> Result<String> {
    let text = filter["config"]["configuration"]["value"].as_str().context("no configuration")?;
    let configuration: Value = serde_json::from_str(text)?;
    Ok(configuration["companion"]["cluster"].as_str().context("no cluster is named")?.to_owned())
}

fn source(file: &Path) -> Value {
    json!({"resource_api_version": "V3", "initial_fetch_timeout": "30s", "path_config_source": {"path": file}})
}

fn owner<'a>(resource: &'a Value, field: &str) -> Result<&'a str> {
    resource["metadata"][field].as_str().with_context(|| format!("a resource without {field}"))
}

/// What the patch of this kind puts in.
fn patch<'a>(resource: &'a Value, to: &str, operation: &str) -> Result<&'a Value> {
    let patches = resource["spec"]["configPatches"].as_array().context("no patches")?;
    let own = patches.iter().find(|own| own["applyTo"] == to && own["patch"]["operation"] == operation);
    Ok(&own.with_context(|| format!("no patch of {to}"))?["patch"]["value"])
}

/// The variables by which istiod tells the agent how to fetch an image.
fn variables(plugin: &Value) -> Map<String, Value> {
    let mut all = Map::new();
    if let Some(policy) = plugin.get("imagePullPolicy") {
        all.insert(format!("{FOR_THE_AGENT}WASM_IMAGE_PULL_POLICY"), policy.clone());
    }
    all.insert(format!("{FOR_THE_AGENT}WASM_PLUGIN_RESOURCE_VERSION"), "1".into());
    all
}
