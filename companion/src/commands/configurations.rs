//! Where a file holds configurations of the filter: it is one, or it is an Envoy or Istio file with some inside.
//!
//! Envoy nests a wasm filter in many ways (matchers, composites, typed structs, xDS resources), so what is looked for is
//! the shape alone: an object with `vm_config`, or a resource of a mesh that bears plugins. It is ours if its name, root, VM
//! or module says `gatehook`. Nothing is judged here; the filter's own parser does that.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::input::{self, token};

/// One configuration of the filter.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    /// Where it stands in its file, as a JSON pointer; empty if the file is nothing else.
    pub(crate) at: String,
    /// What kind of thing bears it, with its name.
    pub(crate) bearer: String,
    /// Its text as the filter would get it.
    pub(crate) json: Vec<u8>,
    /// How many more places of the file say the very same, by a YAML alias or by repetition.
    pub(crate) repeats: usize,
}

/// All that a file holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Search {
    /// Our configurations, in the file's order.
    pub(crate) found: Vec<Found>,
    /// Wasm filters that are not ours, each by its place and name.
    pub(crate) foreign: Vec<String>,
    /// What is wrong with the file itself: JSON pointer and message.
    pub(crate) faults: Vec<(String, String)>,
}

impl Search {
    /// Looks through a file.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let alone = || Self { found: vec![Found::alone(bytes)], ..Self::default() };
        let mut documents = match input::documents(bytes) {
            // The filter's own parser names the place of the fault.
            Err(_) if bytes.trim_ascii_start().starts_with(b"{") => return alone(),
            Err(message) => return Self::fault(message),
            Ok(documents) => documents,
        };
        let mut search = Self::default();
        let several = documents.len() > 1;
        for (index, document) in documents.iter().enumerate() {
            search.look(document, &if several { format!("/{index}") } else { String::new() });
        }
        if !search.found.is_empty() || !search.faults.is_empty() {
            return search;
        }
        match documents.pop() {
            // An empty configuration is a valid one: the automatic rule.
            None => alone(),
            Some(Value::Object(fields)) if !several && !is_of_a_proxy(&fields) => alone(),
            Some(other) if !several && !other.is_object() => alone(),
            _ => {
                let message = "holds no configuration of ours: a wasm filter counts if gatehook stands in its \
                               name, root_id, vm_id or module";
                search.faults.push((String::new(), message.to_owned()));
                search
            }
        }
    }

    fn fault(message: String) -> Self {
        Self { faults: vec![(String::new(), message)], ..Self::default() }
    }

    fn look(&mut self, value: &Value, at: &str) {
        match value {
            Value::Object(fields) => {
                if either(value, "vm_config", "vmConfig").is_some_and(Value::is_object) {
                    self.wasm_filter(value, at);
                    return;
                }
                let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default();
                if let Some((plugins, field)) = plugins(value, kind) {
                    self.resource(value, kind, &plugins, field, at);
                    return;
                }
                for (key, field) in fields {
                    self.look(field, &format!("{at}/{}", token(key)));
                }
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.look(element, &format!("{at}/{index}"));
                }
            }
            _ => {}
        }
    }

    /// A `PluginConfig` of Envoy.
    fn wasm_filter(&mut self, plugin: &Value, at: &str) {
        let name = plugin.get("name").and_then(Value::as_str).unwrap_or("without a name");
        let bearer = format!("wasm filter {name}");
        let marks = [Some(name), either(plugin, "root_id", "rootId").and_then(Value::as_str)];
        let vm = either(plugin, "vm_config", "vmConfig");
        let ours = marks.into_iter().flatten().any(is_ours) || vm.is_some_and(mentions_us);
        if !ours {
            self.foreign.push(format!("{at}: {bearer}"));
            return;
        }
        let configuration = plugin.get("configuration");
        match configuration.map_or(Ok((String::new(), Vec::new())), unpack) {
            Ok((below, json)) => self.add(format!("{at}/configuration{below}"), bearer, json),
            Err(message) => self.faults.push((format!("{at}/configuration"), message)),
        }
    }

    /// A resource that bears configurations as objects, in a field of each plugin.
    fn resource(&mut self, resource: &Value, kind: &str, plugins: &[String], field: &str, at: &str) {
        let name = resource.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name");
        let bearer = format!("{kind} {name}");
        for below in plugins {
            let plugin = resource.pointer(below).unwrap_or(&Value::Null);
            let texts = ["url", "pluginName", "name", "rootID"].map(|mark| plugin.get(mark));
            let marks = texts.into_iter().flatten().filter_map(Value::as_str).chain([name]);
            if !marks.into_iter().any(is_ours) && !plugin.get("code").is_some_and(mentions_us) {
                self.foreign.push(format!("{at}: {bearer}"));
                continue;
            }
            let json = plugin.get(field).map_or_else(Vec::new, |value| value.to_string().into_bytes());
            self.add(format!("{at}{below}/{field}"), bearer.clone(), json);
        }
    }

    fn add(&mut self, at: String, bearer: String, json: Vec<u8>) {
        match self.found.iter_mut().find(|found| found.bearer == bearer && found.json == json) {
            Some(same) => same.repeats += 1,
            None => self.found.push(Found { at, bearer, json, repeats: 0 }),
        }
    }
}

impl Found {
    fn alone(bytes: &[u8]) -> Self {
        let bearer = "filter configuration".to_owned();
        Self { at: String::new(), bearer, json: bytes.to_vec(), repeats: 0 }
    }
}

/// Where a resource of Istio or Envoy Gateway has its wasm plugins, as JSON pointers, and which of their fields is the
/// configuration; nothing for other kinds.
fn plugins(resource: &Value, kind: &str) -> Option<(Vec<String>, &'static str)> {
    let wasm = resource.pointer("/spec/wasm");
    match kind {
        "WasmPlugin" => Some((vec!["/spec".to_owned()], "pluginConfig")),
        "TrafficExtension" => Some((wasm.iter().map(|_| "/spec/wasm".to_owned()).collect(), "pluginConfig")),
        "EnvoyExtensionPolicy" => {
            let count = wasm.and_then(Value::as_array).map_or(0, Vec::len);
            Some(((0..count).map(|index| format!("/spec/wasm/{index}")).collect(), "config"))
        }
        _ => None,
    }
}

/// Envoy takes both spellings of a field's name.
fn either<'a>(value: &'a Value, snake: &str, camel: &str) -> Option<&'a Value> {
    value.get(snake).or_else(|| value.get(camel))
}

fn is_ours(text: &str) -> bool {
    text.to_ascii_lowercase().contains("gatehook")
}

/// Whether a text anywhere in the VM's configuration (its id, the module's file or URL) names us.
fn mentions_us(value: &Value) -> bool {
    match value {
        Value::String(text) => is_ours(text),
        Value::Array(elements) => elements.iter().any(mentions_us),
        Value::Object(fields) => fields.values().any(mentions_us),
        _ => false,
    }
}

/// The text that Envoy hands to the filter of a `google.protobuf.Any`, and where it stands below it.
fn unpack(any: &Value) -> Result<(String, Vec<u8>), String> {
    let kind = any.get("@type").and_then(Value::as_str).unwrap_or_default();
    let kind = kind.rsplit('.').next().unwrap_or_default();
    let text = any.get("value").and_then(Value::as_str);
    let json = match (kind, text, any.get("value")) {
        ("StringValue", Some(text), _) => text.as_bytes().to_vec(),
        ("BytesValue", Some(text), _) => STANDARD.decode(text).map_err(|error| format!("value: {error}"))?,
        ("Struct", _, Some(value)) => value.to_string().into_bytes(),
        _ => {
            return Err("a google.protobuf.StringValue or Struct with its value is needed".to_owned());
        }
    };
    Ok(("/value".to_owned(), json))
}

/// Whether these are the top fields of a file for Envoy, Istio or Kubernetes.
fn is_of_a_proxy(fields: &serde_json::Map<String, Value>) -> bool {
    let marks =
        ["static_resources", "dynamic_resources", "staticResources", "dynamicResources", "admin", "node"];
    let more = ["apiVersion", "kind", "@type", "listeners", "http_filters", "filter_chains", "version_info"];
    marks.iter().chain(&more).any(|mark| fields.contains_key(*mark))
        || fields
            .get("resources")
            .and_then(Value::as_array)
            .is_some_and(|resources| resources.iter().any(|resource| resource.get("@type").is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = include_bytes!("../../../envoy/envoy.yaml");

    fn places(text: &str) -> Vec<(String, String)> {
        let search = Search::of(text.as_bytes());
        search.found.into_iter().map(|found| (found.at, String::from_utf8(found.json).unwrap())).collect()
    }

    #[test]
    fn a_configuration_alone_is_taken_as_it_is() {
        for text in ["{\"tense\": \"past\"}", "", "{", "[]", "{\"resources\": [{\"path\": \"/a/{id}\"}]}"] {
            assert_eq!(places(text), [(String::new(), text.to_owned())]);
        }
    }

    #[test]
    fn the_sample_for_envoy_holds_one_four_times() {
        let search = Search::of(SAMPLE);
        assert_eq!((search.found.len(), search.faults.len()), (1, 0));
        let found = &search.found[0];
        assert_eq!((found.repeats, found.bearer.as_str()), (3, "wasm filter gatehook"));
        assert!(
            found.at.starts_with("/static_resources/listeners/0/")
                && found.at.ends_with("/configuration/value")
        );
        assert!(found.json.starts_with(b"{"));
    }

    #[test]
    fn each_way_to_write_a_configuration_is_read() {
        let plugin = |configuration: &str| {
            format!(
                r#"{{"static_resources": {{"config": {{"rootId": "gatehook", "vmConfig": {{}}{configuration}}}}}}}"#
            )
        };
        let any = |kind: &str, value: &str| {
            plugin(&format!(
                r#", "configuration": {{"@type": "x/google.protobuf.{kind}", "value": {value}}}"#
            ))
        };
        let at = "/static_resources/config/configuration".to_owned();
        let value = format!("{at}/value");
        assert_eq!(places(&plugin("")), [(at.clone(), String::new())]);
        assert_eq!(places(&any("StringValue", r#""{}""#)), [(value.clone(), "{}".to_owned())]);
        assert_eq!(places(&any("BytesValue", r#""e30=""#)), [(value.clone(), "{}".to_owned())]);
        assert_eq!(
            places(&any("Struct", r#"{"automatic": true}"#)),
            [(value, r#"{"automatic":true}"#.to_owned())]
        );
        let faults = Search::of(any("Empty", "{}").as_bytes()).faults;
        assert_eq!(faults[0].0, at);
    }

    #[test]
    fn an_istio_plugin_is_found_among_other_documents() {
        let text = "kind: Service\n---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: hooks}\n\
                    spec: {url: 'oci://registry.example/gatehook:1', pluginConfig: {tense: past}}\n---\nkind: WasmPlugin\n\
                    metadata: {name: other}\n";
        let search = Search::of(text.as_bytes());
        assert_eq!(search.found[0].at, "/1/spec/pluginConfig");
        assert_eq!(search.found[0].json, br#"{"tense":"past"}"#);
        assert_eq!(search.foreign, ["/2: WasmPlugin other"]);
    }

    #[test]
    fn its_successor_and_envoy_gateways_policy_are_read_like_a_plugin() {
        for (text, at) in [
            (include_str!("../../../envoy/istio/wasmplugin.yaml"), "/spec/pluginConfig"),
            (include_str!("../../../envoy/istio/trafficextension.yaml"), "/spec/wasm/pluginConfig"),
            (include_str!("../../../envoy/gateway/extension.yaml"), "/spec/wasm/0/config"),
        ] {
            let found = places(text);
            assert!(
                found.len() == 1 && found[0].0 == at && found[0].1.contains("\"companion\""),
                "{found:?}"
            );
        }
        let lua = "kind: TrafficExtension\nmetadata: {name: gatehook}\nspec: {lua: {inlineCode: x}}\n";
        assert_eq!(Search::of(lua.as_bytes()).faults.len(), 1);
    }

    #[test]
    fn a_proxy_without_us_is_a_fault() {
        let text = r#"{"static_resources": {"config": {"name": "auth", "vm_config": {}}}}"#;
        let search = Search::of(text.as_bytes());
        assert_eq!((search.found.len(), search.foreign.len(), search.faults.len()), (0, 1, 1));
        assert_eq!(Search::of(b"a: [").faults.len(), 1);
    }
}
