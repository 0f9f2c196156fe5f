//! What a template can write, and all that it must not be able to do.

use super::*;
use crate::payload::tests::{event, extended};

const HOOK: &str = r#"{"id":"sub_1","metadata":{"room":"7"}}"#;

fn rich() -> Event {
    let data = r#"{"name":"Ada \"the\" Countess\\","n":3,"price":2.5,"on":true,"none":null,
        "tags":["a","b"],"lines":[{"sku":"x","n":2},{"sku":"y","n":1}],"same":{"a":[1]},"also":{"a":[1]}}"#;
    let extensions = [
        ("actor", r#""ada""#),
        ("changed", r#"["/name"]"#),
        ("previous", r#"{"name":"A."}"#),
        ("thin", r#""empty""#),
    ];
    extended(Event { tenant: Some("blue".into()), ..event(Some(data.as_bytes()), None) }, &extensions)
}

fn rendered(source: &str, content_type: &str, event: &Event) -> Result<String, String> {
    let body = Template::parse(source, content_type)?.render(event, HOOK)?;
    Ok(String::from_utf8_lossy(&body.bytes).into_owned())
}

/// The body as JSON.
fn check(source: &str, expected: &str) {
    assert_eq!(rendered(source, "application/json", &rich()).as_deref(), Ok(expected), "{source}");
}

fn check_text(source: &str, expected: &str) {
    assert_eq!(rendered(source, "text/plain", &rich()).as_deref(), Ok(expected), "{source}");
}

#[test]
fn all_that_is_known_of_an_event_is_a_variable() {
    check(
        r#"[{{ type }},{{ timestamp }},{{ id }},{{ subject }},{{ source }},{{ tenant }},{{ actor }},{{ thin }}]"#,
        r#"["contact.create","2026-01-02T03:04:05.000006Z","1","/contacts/1","/test","blue","ada","empty"]"#,
    );
    check(
        "[{{ data.lines }}, {{ previous }}, {{ changed }}, {{ hook.metadata.room }}]",
        r#"[[{"n":2,"sku":"x"},{"n":1,"sku":"y"}], {"name":"A."}, ["/name"], "7"]"#,
    );
    check_text("{{ type }} by {{ actor }}: {{ data.tags }}", "contact.create by ada: [\"a\",\"b\"]");
}

#[test]
fn a_value_is_json_and_within_a_string_it_is_text() {
    check(
        r#"{"text": "New: {{ data.name }} ({{ data.n }}, {{ data.on }}, {{ data.tags }}{{ data.none }})"}"#,
        r#"{"text": "New: Ada \"the\" Countess\\ (3, true, [\"a\",\"b\"])"}"#,
    );
    check(
        r#"{"\"": {{ data.name }}, "{{ actor }}": {{ data.price }}}"#,
        r#"{"\"": "Ada \"the\" Countess\\", "ada": 2.5}"#,
    );
    check(
        r#"{"text": {{ "```" ~ data.tags|tojson ~ "```" }}, "as": {{ data.tags|tojson }}, "in": "{{ data.n|tojson }}"}"#,
        r#"{"text": "```[\"a\",\"b\"]```", "as": ["a","b"], "in": "3"}"#,
    );
}

#[test]
fn no_value_breaks_out_of_the_place_where_it_stands() {
    let sources = [
        r#"{"a": ["{{ data }}"]}"#,
        r#"{"a": [{{ data }}]}"#,
        r#"{"a": ["{{ data|tojson }}"]}"#,
        r#"{"a": ["{{ data|upper }}"]}"#,
        r#"{"a": ["{{ data|join }}"]}"#,
        r#"{"a": ["{{ data|format }}"]}"#,
        r#"{"a": ["{{ data|replace("x", "y") }}"]}"#,
        r#"{"a": ["{% set b = data ~ data %}{{ b }}"]}"#,
        r#"{"a": ["{% for c in data|split("") %}{{ c }}{% endfor %}"]}"#,
    ];
    for hostile in
        ["\"", ",", "\",\"b\":1", "\\", "\\\"", "\u{1}\",\"\u{2}", "\u{2},1,\u{1}", "\n", "]}", "x\u{1}"]
    {
        let data = serde_json::Value::from(hostile).to_string();
        for source in sources {
            let body = rendered(source, "application/json", &event(Some(data.as_bytes()), None)).unwrap();
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            let members = (body.as_object().unwrap().len(), body["a"].as_array().unwrap().len());
            assert_eq!(members, (1, 1), "{source} with {hostile:?}");
        }
    }
}

#[test]
fn what_is_not_there_prints_as_nothing() {
    check(r#"{"a": "x{{ data.no.such.thing }}", "b": {{ nothing.at.all[0] }}}"#, r#"{"a": "x", "b": null}"#);
    check(r#"[{% for item in data.no %}{{ item }}{% endfor %}]"#, "[]");
    check_text("x{{ data.no.such }}{{ data.none }}", "x");
    let bare = event(None, None);
    let body = rendered(r#"{"a": {{ data.name }}, "b": "{{ actor }}"}"#, "application/json", &bare);
    assert_eq!(body.as_deref(), Ok(r#"{"a": null, "b": ""}"#));
}

#[test]
fn a_template_can_count_compare_and_walk() {
    check_text(
        "{{ data.n|plus(1) }} {{ data.price|times(2) }} {{ data.n|plus(0.5) }} {{ data.n - 1 }}",
        "4 5 3.5 2",
    );
    check_text("{{ data.lines|map(attribute='sku')|join(', ') }}", "x, y");
    check_text("{% if '/name' in changed and type in ['contact.create', 'x'] %}yes{% endif %}", "yes");
    check_text(
        "{{ data.same == data.also }} {{ data.same == data.tags }} {{ data.tags == ['a', 'b'] }}",
        "true false true",
    );
    check_text("{% for name, value in previous|items %}{{ name }}={{ value }}{% endfor %}", "name=A.");
    check_text(
        "{% for l in data.lines|sort(attribute='n') %}{{ loop.index }}{{ l.sku }}{% endfor %}",
        "1y2x",
    );
    check_text(
        "{{ data.tags|length }}{{ data.same|length }}{{ data.tags|first }}{{ data.tags|last }}{{ type|truncate(3) }}",
        "21abcon",
    );
    check_text("{{ 'is ' ~ data.same ~ data.tags }}", "is {…}[…]");
}

#[test]
fn data_that_is_not_json_is_text() {
    let text = event(Some(b"say \"hi\""), Some("text/plain"));
    let body = rendered(r#"{"a": {{ data }}}"#, "application/json", &text);
    assert_eq!(body.as_deref(), Ok(r#"{"a": "say \"hi\""}"#));
    let image = event(Some(&[0xff, 0]), Some("image/png"));
    assert_eq!(rendered(r#"[{{ data }}]"#, "application/json", &image).as_deref(), Ok("[null]"));
}

fn refused(source: &str, reason: &str) {
    let refusal = Template::parse(source, "application/json").unwrap_err();
    assert!(refusal.contains(reason), "{source}: {refusal}");
}

#[test]
fn a_fault_is_told_at_creation_with_its_line() {
    refused("", "must have 1 to 16384 bytes");
    refused(&"x".repeat(limits::TEMPLATE_SOURCE + 1), "must have 1 to 16384 bytes");
    refused("{\n\"a\": {{ data. }}}", "line 2: syntax error");
    refused("[\n\n{{ data|shout }}]", "line 3: there is no filter `shout`");
    refused("[{{ data is loud }}]", "line 1: there is no test `loud`");
    refused("[{{ lipsum() }}]", "there is no function `lipsum`");
    refused("[{{ data.name.upper() }}]", "there is no function `upper`");
    refused("[\n{{ data.n + 1 }}]", "line 2: `+` is not offered");
    refused("[{{ data.name[1:] }}]", "line 1: `[a:b]` is not offered");
    refused("[{{ data.n * 2 }}]", "line 1: `*` is not offered");
    refused("{{ data", "line 1: syntax error");
    refused("hello {{ data.name }}", "the body is not JSON");
    refused(r#"{"a": {{ data.name }}"#, "the body is not JSON");
    refused("[\u{1}1\u{2}", "the body is not JSON");
}

#[test]
fn nothing_but_the_variables_can_be_reached() {
    for source in
        ["{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% macro a() %}{% endmacro %}"]
    {
        refused(source, "syntax error: unknown statement");
    }
    for name in ["debug", "range", "dict", "namespace"] {
        refused(&format!("[{{{{ {name}(1) }}}}]"), "there is no function");
    }
    for filter in [
        "safe", "escape", "e", "batch", "slice", "zip", "chain", "reverse", "list", "groupby", "sum",
        "pprint", "indent",
    ] {
        refused(&format!("[{{{{ data|{filter} }}}}]"), "there is no filter");
    }
    refused("[{% autoescape false %}1{% endautoescape %}]", "`autoescape` is not offered");
    refused("[{% set a %}1{% endset %}]", "no blocks");
    refused("[{% filter upper %}1{% endfilter %}]", "no blocks");
}

/// Each of these ran for ever, ate all memory or broke the stack in the engine alone, with its fuel set: fuel does not
/// pay for a list within a list.
#[test]
fn a_template_makes_no_lists_that_grow() {
    for source in [
        "{{ [[[[0]*1000]*1000]*1000]*1000 }}",
        "{{ ([[[[0]*1000]*1000]*1000]*1000)|tojson }}",
        "{% if [[[[0]*1000]*1000]*1000]*1000 == [[[[0]*1000]*1000]*1000]*1000 %}{% endif %}",
        "{% set a = data.tags + data.tags %}",
    ] {
        refused(source, "is not offered");
    }
    for source in [
        "{% set a = [data] %}{% set a = [a, a] %}",
        "{% set a = (data, data) %}",
        "{% set a = data, data %}",
        "{% set a = {'a': data} %}",
        "{% for a in [data, data] %}{% endfor %}",
    ] {
        refused(source, "must be of constants");
    }
    refused("{{ data|map('default', data) }}", "too many arguments");
    refused("{{ data|tojson(indent=1000000000) }}", "too many arguments");
}

#[test]
fn what_takes_too_long_or_too_much_ends_with_an_error() {
    let doubling = "{% set s = s ~ s %}".repeat(60);
    let long = format!("\"{}\"", "x".repeat(1_000));
    let list = format!("[{}]", vec!["1"; 2_000].join(","));
    let loops =
        "{% for a in data %}{% for b in data %}{% for c in data %}{% endfor %}{% endfor %}{% endfor %}";
    for (source, data) in [
        (format!("{{% set s = data %}}{doubling}{{{{ s }}}}"), long.as_str()),
        (loops.into(), list.as_str()),
        (format!("{{{{ '%0{}d'|format(1) }}}}", 999_999_999), "1"),
        ("{{ data|replace('', data)|replace('', data)|replace('', data) }}".into(), long.as_str()),
        ("{{ data|split('')|join(data)|split('')|join(data) }}".into(), long.as_str()),
        (format!("{{% for a in data %}}{}{{% endfor %}}", "{{ data }}".repeat(100)), list.as_str()),
    ] {
        // At creation already, or with the data that makes it grow.
        let failure = rendered(&source, "text/plain", &event(Some(data.as_bytes()), None)).unwrap_err();
        assert!(failure.contains("too many steps or makes too long texts"), "{source:.60}: {failure}");
    }
    let tojson = "{% if data|tojson %}{% endif %}".repeat(500);
    let failure = rendered(&tojson, "text/plain", &event(Some(list.as_bytes()), None)).unwrap_err();
    assert!(failure.contains("too many steps"), "{failure}");
    let recursion = "{% for a in data recursive %}{{ loop(data) }}{% endfor %}";
    let failure = rendered(recursion, "text/plain", &event(Some(b"[1]"), None)).unwrap_err();
    assert!(
        failure.starts_with("the template failed: line 1: invalid operation: recursion limit"),
        "{failure}"
    );
}

#[test]
fn a_large_event_and_a_large_body_are_refused() {
    let large = format!("\"{}\"", "x".repeat(limits::TEMPLATE_EVENT));
    let failure = rendered("{{ data }}", "text/plain", &event(Some(large.as_bytes()), None)).unwrap_err();
    assert!(failure.starts_with("the template failed: the event has 262146 bytes"), "{failure}");
    let half = format!("\"{}\"", "x".repeat(limits::TEMPLATE_OUTPUT / 2));
    let failure =
        rendered("{{ data }}{{ data }}.", "text/plain", &event(Some(half.as_bytes()), None)).unwrap_err();
    assert!(failure.starts_with("the template failed: the body has 262145 bytes"), "{failure}");
}

#[test]
fn deep_nesting_breaks_no_stack() {
    for (begin, open, close, end) in
        [("{{", "(", ")", "}}"), ("{{", "[", "]", "}}"), ("", "{% if 1 %}", "{% endif %}", "")]
    {
        let source = format!("{begin}{}1{}{end}", open.repeat(240), close.repeat(240));
        let fault = Template::parse(&source, "text/plain").unwrap_err();
        assert!(fault.contains("recursion limit"), "{fault}");
    }
    // A chain of operators broke the stack of the engine's compiler, and with it the process.
    for (begin, link, end) in
        [("", "-", "1"), ("a", ".a", ""), ("a", "|d", ""), ("1", "-1", ""), ("1", "~a", "")]
    {
        let chain = |links| format!("{{{{ {begin}{}{end} }}}}", link.repeat(links));
        assert!(rendered(&chain(200), "text/plain", &rich()).is_ok(), "{link}");
        let fault = Template::parse(&chain(5_000), "text/plain").unwrap_err();
        assert_eq!(fault, "line 1: an expression is too long");
    }
    for source in [
        format!("{{% set a = data.tags %}}{}{{{{ a }}}}", "{% set a = a|select %}".repeat(650)),
        format!("{{% set a = data.same %}}{}{{{{ a }}}}", "{% set a = a|default(a) %}".repeat(550)),
        format!("{{% set a = data.lines %}}{}{{{{ a }}}}", "{% set a = a|sort|unique %}".repeat(550)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(100)),
        "{% set a = a ~ a %}".repeat(850),
        format!("{{{{ {}1 }}}}", "1 if 1 else ".repeat(120)),
    ] {
        let body = rendered(&source, "text/plain", &rich());
        assert!(body.is_ok(), "{source:.60}: {body:?}");
    }
    let elifs = format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(1_300));
    assert_eq!(Template::parse(&elifs, "text/plain").unwrap_err(), "line 1: there are too many `elif`");
    let data = format!("{}{}", "[".repeat(120), "]".repeat(120));
    let body = rendered("{{ data }}", "application/json", &event(Some(data.as_bytes()), None));
    assert_eq!(body.as_deref(), Ok(data.as_str()));
}

#[test]
fn a_template_that_fails_on_an_event_is_an_error_that_says_where() {
    let source = "\n{{ data.n|round|times(data.name) }}";
    let failure = rendered(source, "text/plain", &rich()).unwrap_err();
    assert!(failure.starts_with("the template failed: line 2: invalid operation"), "{failure}");
    // Where the data has no such name at all, that is the data's matter: the template was taken.
    assert!(Template::parse(source, "text/plain").is_ok());
}

#[test]
fn the_sample_in_the_documentation_works() {
    let readme = include_str!("../../../README.md");
    let source = readme.split("```jinja\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let data = br#"{"customer":{"id":7},"lines":[{"sku":"x"},{"sku":"y"}]}"#;
    let body = rendered(source, "application/json", &event(Some(data), None)).unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "text": "somebody did contact.create on /contacts/1",
        "customer": {"id": 7},
        "skus": ["x", "y"],
    });
    assert_eq!(body, expected);
}
