//! Headers that a subscription adds to its deliveries.
//!
//! They are the owner's text inside our request, so what could end a line, frame a body or speak in our name is refused
//! here, and the types of the HTTP library that come out cannot hold it.

use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::limits;
use crate::members::Fault;

/// Names that belong to the message (RFC 9110, RFC 9112) or to its trace (W3C Trace Context).
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Beginnings of names that belong to proxies, to Standard Webhooks, to CloudEvents and to us.
const RESERVED_PREFIXES: &[&str] = &["proxy-", "webhook-", "ce-", "gatehook-", "x-gatehook-"];

/// Headers of one subscription: `{"x-api-key": "…"}`. Names are in lower case, values count as secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct CustomHeaders(Vec<(HeaderName, HeaderValue)>);

impl CustomHeaders {
    /// Reads names and values.
    ///
    /// # Errors
    /// Every fault, each with a pointer such as `/x-api-key`: too many or twice the same, a name that is no token
    /// (RFC 9110 §5.1) or not the owner's to set, a value that is not visible ASCII with blanks inside.
    pub fn parse(map: &Map<String, Value>) -> Result<Self, Vec<Fault>> {
        let (mut headers, mut faults) =
            (Vec::<(HeaderName, HeaderValue)>::with_capacity(map.len()), Vec::new());
        if map.len() > limits::CUSTOM_HEADERS {
            faults.push(Fault::new("", format!("must have at most {} entries", limits::CUSTOM_HEADERS)));
        }
        for (name, value) in map {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let read = header_name(name).and_then(|name| Ok((name, header_value(value)?)));
            match read {
                Ok((name, _)) if headers.iter().any(|(other, _)| *other == name) => {
                    faults.push(Fault::new(pointer, "is there twice, in upper and lower case"));
                }
                Ok(header) => headers.push(header),
                Err(detail) => faults.push(Fault::new(pointer, detail)),
            }
        }
        if faults.is_empty() { Ok(Self(headers)) } else { Err(faults) }
    }

    /// Names and values; the values are marked as sensitive, so that nothing prints them.
    pub fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let parsed =
        (text.len() <= limits::CUSTOM_HEADER_NAME).then(|| HeaderName::from_bytes(text.as_bytes()).ok());
    let Some(name) = parsed.flatten() else {
        return Err(format!(
            "must be a header's name: 1 to {} letters, digits, or any of !#$%&'*+-.^_`|~",
            limits::CUSTOM_HEADER_NAME
        ));
    };
    let lower = name.as_str();
    if RESERVED.contains(&lower) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err("belongs to the request itself and cannot be set".into());
    }
    Ok(name)
}

fn header_value(value: &Value) -> Result<HeaderValue, String> {
    let fits = |text: &&str| {
        (1..=limits::CUSTOM_HEADER_VALUE).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
            && text.trim_matches([' ', '\t']).len() == text.len()
    };
    let parsed = value.as_str().filter(fits).and_then(|text| HeaderValue::from_str(text).ok());
    let mut value = parsed.ok_or_else(|| {
        format!("must be 1 to {} visible ASCII characters, blanks inside only", limits::CUSTOM_HEADER_VALUE)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl TryFrom<Map<String, Value>> for CustomHeaders {
    type Error = Fault;

    fn try_from(map: Map<String, Value>) -> Result<Self, Fault> {
        Self::parse(&map).map_err(|mut faults| faults.swap_remove(0))
    }
}

impl Serialize for CustomHeaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        serializer.collect_map(self.0.iter().map(|(name, value)| (name.as_str(), text(value))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(headers: &Value, expected: &[&str]) {
        let parsed = CustomHeaders::parse(headers.as_object().unwrap());
        let faults = parsed.err().unwrap_or_default();
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, expected, "{headers}");
    }

    #[test]
    fn what_a_receiver_may_ask_for_is_taken() {
        check(&json!({}), &[]);
        check(&json!({"X-Api-Key": "a b\tc~!\"", "user-agent": "Acme/1", "authorization": "Key k"}), &[]);
        check(&json!({"!#$%&'*+-.^_`|~09az": "x", "cookie": "a=b", "x-webhook-id": "1", "ce": "1"}), &[]);
        check(&json!({"a".repeat(100): "x".repeat(2048)}), &[]);
        let parsed = CustomHeaders::parse(json!({"X-Api-Key": "k"}).as_object().unwrap()).unwrap();
        assert_eq!(parsed.0[0].0, "x-api-key");
        assert_eq!(format!("{parsed:?}"), r#"CustomHeaders([("x-api-key", Sensitive)])"#);
    }

    #[test]
    fn what_belongs_to_the_request_is_not_the_owners() {
        for name in
            RESERVED.iter().chain(&["proxy-authorization", "webhook-id", "ce-id", "Host", "TE", "CE-x"])
        {
            check(&json!({ *name: "x" }), &[&format!("/{name}")]);
        }
    }

    #[test]
    fn no_name_or_value_can_end_a_line_or_be_read_two_ways() {
        for name in
            ["", "a b", " a", "a ", "a:", "a\r\nb", "a\n", "a\0", "\u{e9}", "a(b)", "a\"", "a,b", "a\u{2028}"]
        {
            check(&json!({ name: "x" }), &[&format!("/{name}")]);
        }
        check(&json!({ "a/~": "x" }), &["/a~1~0"]);
        check(&json!({ "a".repeat(101): "x" }), &[&format!("/{}", "a".repeat(101))]);
        for value in
            ["", " ", " x", "x ", "\tx", "x\t", "a\r\nhost: b", "a\nb", "a\rb", "a\0b", "\u{e9}", "\u{7f}"]
        {
            check(&json!({ "a": value }), &["/a"]);
        }
        for value in [json!(1), json!(null), json!(["x"]), json!("x".repeat(2049))] {
            check(&json!({ "a": value }), &["/a"]);
        }
    }

    #[test]
    fn every_fault_is_named() {
        check(&json!({"X-A": "1", "host": "x", "x-a": "2", "x-b": ""}), &["/host", "/x-a", "/x-b"]);
        let many: Map<_, _> = (0..21).map(|number| (format!("x-{number}"), json!("x"))).collect();
        check(&Value::Object(many), &[""]);
    }

    #[test]
    fn what_was_written_is_read_again_and_nothing_else() {
        let text = r#"{"x-a":"1","x-b":"two 2"}"#;
        let headers: CustomHeaders = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&headers).unwrap(), text);
        assert!(serde_json::from_str::<CustomHeaders>(r#"{"host":"x"}"#).is_err());
    }
}
