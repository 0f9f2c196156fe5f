//! Calls to the host, as far as they are safe.
//!
//! The SDK panics on a status it does not expect and on text that is not UTF-8, and a panic fails every request of the
//! worker. So only the getters that give bytes are used, and each only in the phase that its comment names, where the host
//! cannot answer with such a status.

use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType, Status};

use super::abi;
use crate::exchange::VIA;
use crate::fetch::Target;
use crate::headers::Headers;

/// The time since the Unix epoch, with the resolution of Envoy's clock (ns). Any phase.
pub(super) fn now() -> Duration {
    let now = hostcalls::get_current_time().ok();
    now.and_then(|now| now.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

/// The request's method. Request headers phase only.
pub(super) fn request_method() -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, ":method").ok().flatten()
}

/// All request headers. Request headers phase only.
pub(super) fn request_headers() -> Headers {
    headers(MapType::HttpRequestHeaders)
}

/// Asks the upstream not to encode its answer. Request headers phase only.
pub(super) fn ask_for_identity() {
    // The host refuses only a name or value that no header may have, and this is a fixed one.
    let _ = hostcalls::set_map_value(MapType::HttpRequestHeaders, "accept-encoding", Some("identity"));
}

/// Tells a second Gatehook behind this one that the request is watched. Request headers phase only.
pub(super) fn mark_request(value: &[u8]) {
    // The host refuses only a name or value that no header may have, and ours are hexadecimal.
    let _ = hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, VIA, Some(value));
}

/// Lets a request go on that was stopped at its headers. Any phase of that stream.
pub(super) fn resume_request() {
    // The stream is there, for this is its own callback.
    let _ = hostcalls::resume_http_request();
}

/// A piece of the request's body, from this place in what Envoy has of it. Request body phase only.
pub(super) fn request_body(from: usize, size: usize) -> Option<Vec<u8>> {
    hostcalls::get_buffer(BufferType::HttpRequestBody, from, size).ok().flatten()
}

/// Lets the answer of another stream go on that was held. Root callbacks only; false if that stream is gone.
pub(super) fn resume_response_of(stream: u32, own: u32) -> bool {
    if hostcalls::set_effective_context(stream).is_err() {
        return false;
    }
    let resumed = hostcalls::resume_http_response().is_ok();
    hostcalls::set_effective_context(own).is_ok() && resumed
}

/// All response headers. Response headers phase only.
pub(super) fn response_headers() -> Headers {
    headers(MapType::HttpResponseHeaders)
}

/// A piece of the response's body, from this place in what Envoy has of it. Response body phase only.
pub(super) fn response_body(from: usize, size: usize) -> Option<Vec<u8>> {
    hostcalls::get_buffer(BufferType::HttpResponseBody, from, size).ok().flatten()
}

/// The headers of the companion's answer. Only in the callback for that answer, and only if it has headers.
pub(super) fn call_headers() -> Headers {
    headers(MapType::HttpCallResponseHeaders)
}

fn headers(map: MapType) -> Headers {
    abi::header_map(map).map(Headers::from_wire).unwrap_or_default()
}

/// The body of an answer to a call. Only in the callback for that answer.
pub(super) fn call_body(size: usize) -> Option<Vec<u8>> {
    hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size).ok().flatten()
}

/// The plugin's configuration. Only in the configure callback.
pub(super) fn plugin_configuration() -> Option<Vec<u8>> {
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX).ok().flatten()
}

/// A property of the stream or of the node. Any phase.
pub(super) fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// Starts the tick of the current context's root, from the stream too; zero stops it. Any phase.
pub(super) fn set_tick(period: Duration) {
    // The host takes any period.
    let _ = hostcalls::set_tick_period(period);
}

/// Starts the tick of another root of this VM. Root callbacks only; false if that root is gone.
pub(super) fn set_tick_of(root: u32, own: u32, period: Duration) -> bool {
    if hostcalls::set_effective_context(root).is_err() {
        return false;
    }
    set_tick(period);
    hostcalls::set_effective_context(own).is_ok()
}

/// Sends a POST to a cluster and gives its token. Root callbacks only.
pub(super) fn post(
    cluster: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    timeout: Duration,
) -> Result<u32, Status> {
    hostcalls::dispatch_http_call(cluster, headers.to_vec(), Some(body), Vec::new(), timeout)
}

/// Sends a GET to a cluster and gives its token. From root callbacks if the answer is to come in any case; from a stream's
/// own if it may be lost with the stream.
pub(super) fn get(target: &Target, timeout: Duration) -> Result<u32, Status> {
    let brought = target.headers.iter().filter_map(|(name, value)| {
        // The SDK sends text alone, and credentials are text.
        Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
    });
    let mut headers: Vec<(&str, &str)> =
        vec![(":method", "GET"), (":path", &target.path), (":authority", &target.authority)];
    headers.extend(brought);
    for (name, value) in [("accept", "application/json"), ("accept-encoding", "identity")] {
        if !headers.iter().any(|(own, _)| *own == name) {
            headers.push((name, value));
        }
    }
    hostcalls::dispatch_http_call(&target.cluster, headers, None, Vec::new(), timeout)
}

/// Tells the host that a root which asked for time is done.
pub(super) fn done() {
    // The only other answer is that nobody waits any more.
    let _ = hostcalls::done();
}

/// Logs through Envoy's `wasm` logger. Any phase.
pub(super) fn log(level: LogLevel, message: &str) {
    // A log line that cannot be written has nowhere else to go.
    let _ = hostcalls::log(level, message);
}

/// Adds to a counter or gauge, defining it first; false if the host would not. Any phase.
pub(super) fn add(id: &mut Option<u32>, kind: MetricType, name: &str, delta: i64) -> bool {
    if id.is_none() {
        *id = hostcalls::define_metric(kind, name).ok();
    }
    id.is_some_and(|id| hostcalls::increment_metric(id, delta).is_ok())
}

/// Takes the next number of this process, and the nonce of the process before it. Any phase.
///
/// Shared data lives as long as the process, so numbers begin anew with it; the nonce, made of the time of the first call,
/// tells the processes apart. Two VMs that write the first value at once have different nonces or different numbers.
pub(super) fn worker_number(now: Duration) -> (String, u64) {
    const KEY: &str = "gatehook.worker";
    if let Ok((None, _)) = hostcalls::get_shared_data(KEY) {
        let first = format!("{}:0", now.as_nanos());
        let _ = hostcalls::set_shared_data(KEY, Some(first.as_bytes()), None);
    }
    // Every failed round means that another VM took a number, and a process has a few dozen of them at most.
    for _ in 0..64 {
        let Ok((Some(value), Some(version))) = hostcalls::get_shared_data(KEY) else { break };
        let text = String::from_utf8(value).unwrap_or_default();
        let (nonce, number) = text.split_once(':').unwrap_or_default();
        let number = number.parse::<u64>().unwrap_or_default() + 1;
        let next = format!("{nonce}:{number}");
        if hostcalls::set_shared_data(KEY, Some(next.as_bytes()), Some(version)).is_ok() {
            return (nonce.to_owned(), number);
        }
    }
    (now.as_nanos().to_string(), 0)
}
