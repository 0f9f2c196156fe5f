//! Templates of strangers over events of strangers: bounded, and JSON where they say so.

use anyhow::{Result, ensure};
use bytes::Bytes;
use companion::limits;
use companion::model::Format;
use companion::payload::{self, Shape, Wanted};

use super::{NOW, Reading, Target, parts};

pub(super) const TARGET: Target = Target {
    name: "templates",
    percent: 4,
    words: &[
        "{{ data }}",
        "{{ data.name }}",
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{% for a in data %}",
        "{% endfor %}",
        "{% if data %}",
        "{% elif x %}",
        "{% else %}",
        "{% endif %}",
        "{% set a = data %}",
        "{% raw %}",
        "{% endraw %}",
        "{% macro m() %}",
        "{% call m() %}",
        "{% block b %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% filter upper %}",
        "{% autoescape false %}",
        "{% with a = 1 %}",
        " recursive",
        "loop(data)",
        "loop.index",
        "|tojson",
        "|truncate(3)",
        "|plus(1)",
        "|times(2)",
        "|map(attribute='a')",
        "|join(',')",
        "|replace('a','aa')",
        "|split('')",
        "|sort",
        "|unique",
        "|dictsort",
        "|items",
        "|format(data)",
        "|round",
        "|int",
        "|abs",
        "|lines",
        "|default(1)",
        "|selectattr('a')",
        "|reject('eq', 1)",
        "|first",
        "|last",
        "|length",
        "|title",
        "|trim",
        "data ~ data",
        "data - 1",
        "data // 0",
        "data % 0",
        "data ** 9",
        "data.a[0]",
        "data[-1]",
        "data is defined",
        "data in data",
        "not ",
        " and ",
        " or ",
        " if data else ",
        "previous",
        "changed",
        "hook.id",
        "'",
        "\"",
        "range(9)",
    ],
    play,
    // A page of template, an event of bounded size, and what fuel allows in texts.
    bytes: 24 << 20,
    per_byte: 2_048,
};

fn play(input: &[u8]) -> Result<Reading> {
    let [source, data] = parts(input);
    let Ok(source) = std::str::from_utf8(source) else { return Ok(Reading::refused("no text")) };
    let mut read = String::new();
    for content_type in ["application/json", "text/plain"] {
        let wanted = Wanted {
            format: Format::Template,
            template: Some(source),
            content_type: Some(content_type),
            ..Wanted::default()
        };
        let shape = match Shape::new(&wanted) {
            Ok(shape) => shape,
            Err(fault) => {
                super::place(&fault.pointer, &fault.detail)?;
                ensure!(fault.pointer == "/template", "a fault of the template: {fault}");
                read.push_str(&fault.detail);
                continue;
            }
        };
        for data in [data, b"{}".as_slice(), br#"{"a":[{"b":"\""},{"c":[]}],"n":-1.5,"s":"\u0001\u0002"}"#] {
            read.push_str(&rendered(&shape, data, content_type)?);
        }
    }
    let refused = read.starts_with("line") || read.starts_with("must");
    Ok(if refused { Reading::refused(&read) } else { Reading::taken(&read) })
}

fn rendered(shape: &Shape, data: &[u8], content_type: &str) -> Result<String> {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
    let event = companion::model::Event {
        id: "1".into(),
        source: "/attack".into(),
        event_type: "contact.create".into(),
        subject: Some("/contacts/1".into()),
        time: NOW,
        datacontenttype: (!is_json).then(|| "text/plain".into()),
        data: (!data.is_empty()).then(|| Bytes::copy_from_slice(data)),
        tenant: None,
        extensions: Default::default(),
    };
    match payload::body(shape, &event, r#"{"id":"sub_1","events":["*"]}"#) {
        Ok(payload) => {
            let bytes = payload.body.bytes;
            ensure!(bytes.len() <= limits::TEMPLATE_OUTPUT, "a body is bounded: {} bytes", bytes.len());
            let valid = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok();
            ensure!(valid || content_type != "application/json", "a JSON body is JSON: {bytes:?}");
            Ok(format!("{valid} {} ", bytes.len().min(64).checked_ilog2().unwrap_or_default()))
        }
        Err(reason) => {
            ensure!(reason.starts_with("the template failed: "), "a reason: {reason}");
            Ok(reason.chars().skip("the template failed: ".len()).take(60).collect())
        }
    }
}
