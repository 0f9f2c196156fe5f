//! A subscription's own body: a template in Jinja syntax, rendered with the event alone.
//!
//! Pure. The engine is minijinja; what its fuel does not pay for, this file does not offer: fuel counts steps and the bytes
//! of strings, but a list repeated or nested in itself costs nothing and prints for ever. So a template makes no lists
//! and no objects, [`values`](super::values) are cheap to compare and to print into text, and an event's size is bounded.
//! In a JSON body no value can break out of the place where it stands.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::HeaderValue;
use minijinja::machinery::{Instruction, Token, get_compiled_template, tokenize};
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use serde::de::IgnoredAny;

use super::Body;
use super::values::{self, Json};
use crate::limits;
use crate::model::{Event, is_json_media_type};

/// The filters that a template may use: minijinja's, but for those that build lists of a caller's choice or mark text
/// as safe; `map` takes `attribute=…` alone, and `plus`, `times`, `tojson` and `truncate` are ours.
const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "lower",
    "map",
    "max",
    "min",
    "plus",
    "reject",
    "rejectattr",
    "replace",
    "round",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "times",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
];

/// The tests that a template may use: minijinja's, but for those that read a whole text for nothing.
const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "in",
    "int",
    "integer",
    "iterable",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];

/// The name under which an environment holds its one template.
const NAME: &str = "template";

/// Bracket a value in the output until it is known whether it stands within a string. JSON escapes both, so no value
/// holds them, and a body with one of the template's own is not JSON.
const BEGIN: char = '\u{1}';
const END: char = '\u{2}';

/// What all templates share; cloning it is cheap.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_fuel(Some(limits::TEMPLATE_FUEL));
    environment.set_recursion_limit(limits::TEMPLATE_DEPTH);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_formatter(write);
    environment.add_filter("tojson", tojson);
    environment.add_filter("truncate", |text: &str, most: usize| text.chars().take(most).collect::<String>());
    environment.add_filter("plus", |one: f64, other: f64| number(one + other));
    environment.add_filter("times", |one: f64, other: f64| number(one * other));
    environment.add_filter("map", |list: Value, options: Kwargs| {
        let attribute: String = options.get("attribute")?;
        options.assert_all_used()?;
        list.try_iter()?.map(|item| item.get_attr(&attribute)).collect::<Result<Vec<_>, Error>>()
    });
    environment
});

/// A template that was compiled and tried.
#[derive(Clone)]
pub struct Template {
    environment: Environment<'static>,
    media_type: HeaderValue,
    is_json: bool,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("media_type", &self.media_type).finish_non_exhaustive()
    }
}

impl Template {
    /// Compiles a template for bodies of a media type, and tries it on a sample event. What a template does with data
    /// that the sample does not have is left to the events that come.
    ///
    /// # Errors
    /// The line and the reason.
    pub fn parse(source: &str, content_type: &str) -> Result<Self, String> {
        if source.is_empty() || source.len() > limits::TEMPLATE_SOURCE {
            return Err(format!("must have 1 to {} bytes", limits::TEMPLATE_SOURCE));
        }
        let media_type = HeaderValue::from_str(content_type)
            .map_err(|_| "the content type is no value for a header".to_owned())?;
        refuse_tokens(source)?;
        let is_json = is_json_media_type(content_type);
        let mut environment = ENVIRONMENT.clone();
        environment
            .set_auto_escape_callback(move |_| if is_json { AutoEscape::Json } else { AutoEscape::None });
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| sentence(&error))?;
        refuse_instructions(&environment)?;
        let template = Self { environment, media_type, is_json };
        match template.text(&sample(), r#"{"id":"sub_1","events":["*"],"target_url":"https://example.com/"}"#)
        {
            Err(Failure::Template(error)) if !depends_on_data(&error) => Err(sentence(&error)),
            Err(Failure::Body(reason)) => Err(reason),
            Ok(_) | Err(Failure::Template(_)) => Ok(template),
        }
    }

    /// The body for one event.
    ///
    /// # Errors
    /// `the template failed: …`, with the line and the reason.
    pub(super) fn render(&self, event: &Event, hook: &str) -> Result<Body, String> {
        let bytes = self.text(event, hook).map_err(|failure| match failure {
            Failure::Template(error) => format!("the template failed: {}", sentence(&error)),
            Failure::Body(reason) => format!("the template failed: {reason}"),
        })?;
        Ok(Body { media_type: Some(self.media_type.clone()), bytes: Bytes::from(bytes) })
    }

    fn text(&self, event: &Event, hook: &str) -> Result<String, Failure> {
        let size = event.size();
        if size > limits::TEMPLATE_EVENT {
            let most = limits::TEMPLATE_EVENT;
            return Err(Failure::Body(format!("the event has {size} bytes; a template takes {most}")));
        }
        let template = self.environment.get_template(NAME).map_err(Failure::Template)?;
        let text = template.render(values::of(event, hook)).map_err(Failure::Template)?;
        let text = if self.is_json { joined(&text) } else { text };
        if text.len() > limits::TEMPLATE_OUTPUT {
            let (size, most) = (text.len(), limits::TEMPLATE_OUTPUT);
            return Err(Failure::Body(format!("the body has {size} bytes; {most} are allowed")));
        }
        match serde_json::from_str::<IgnoredAny>(&text) {
            Err(error) if self.is_json => Err(Failure::Body(format!("the body is not JSON: {error}"))),
            _ => Ok(text),
        }
    }
}

/// Why there is no body.
enum Failure {
    Template(Error),
    Body(String),
}

/// Refuses what must not even be compiled: constants are worked out without fuel, and a long chain of operators takes the
/// compiler's stack.
fn refuse_tokens(source: &str) -> Result<(), String> {
    let (mut length, mut branches) = (0, 0);
    for token in tokenize(source, false, Default::default()) {
        let (token, span) = token.map_err(|error| sentence(&error))?;
        length += 1;
        branches += usize::from(matches!(token, Token::Ident("elif")));
        let reason = match token {
            Token::Plus => "`+` is not offered; join texts with `~`, add with the filter `plus(…)`",
            Token::Mul => "`*` is not offered; multiply with the filter `times(…)`",
            Token::VariableStart | Token::BlockStart => {
                length = 0;
                continue;
            }
            _ if length > limits::TEMPLATE_TAG => "an expression is too long",
            _ if branches > limits::TEMPLATE_BRANCHES => "there are too many `elif`",
            _ => continue,
        };
        return Err(format!("line {}: {reason}", span.start_line));
    }
    Ok(())
}

/// Refuses what fuel does not pay for, and what would write past the escaping.
fn refuse_instructions(environment: &Environment<'_>) -> Result<(), String> {
    let template = environment.get_template(NAME).map_err(|error| sentence(&error))?;
    let instructions = &get_compiled_template(&template).instructions;
    for (index, instruction) in (0..).map_while(|index| Some((index, instructions.get(index)?))) {
        let reason = match instruction {
            Instruction::BuildList(_) | Instruction::BuildTuple(_) | Instruction::BuildMap(_) => {
                "a list or an object must be of constants".to_owned()
            }
            Instruction::BeginCapture(_) => "only `set name = value` is offered, no blocks".to_owned(),
            Instruction::PushAutoEscape => "`autoescape` is not offered; see `content_type`".to_owned(),
            Instruction::CallFunction(name, _) | Instruction::CallMethod(name, _) => {
                format!("there is no function `{name}`")
            }
            Instruction::CallObject(_) => "there are no functions".to_owned(),
            Instruction::ApplyFilter(name, ..) if !FILTERS.contains(name) => {
                format!("there is no filter `{name}`; there are {}", FILTERS.join(", "))
            }
            Instruction::PerformTest(name, ..) if !TESTS.contains(name) => {
                format!("there is no test `{name}`; there are {}", TESTS.join(", "))
            }
            Instruction::Slice => {
                "`[a:b]` is not offered; cut a text with the filter `truncate(…)`".to_owned()
            }
            _ => continue,
        };
        return Err(format!("line {}: {reason}", instructions.get_line(index).unwrap_or(1)));
    }
    Ok(())
}

/// Whether a template that fails so on one event may work on another.
fn depends_on_data(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidOperation
            | ErrorKind::UndefinedError
            | ErrorKind::NonPrimitive
            | ErrorKind::CannotUnpack
            | ErrorKind::BadSerialization
    )
}

fn sentence(error: &Error) -> String {
    let kind = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too many steps or makes too long texts".to_owned(),
        kind => kind.to_string(),
    };
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("line {}: {kind}{detail}", error.line().unwrap_or(1))
}

/// Writes a value: as text, and in a JSON body between [`BEGIN`] and [`END`] as JSON.
fn write(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let in_json = matches!(state.auto_escape(), AutoEscape::Json);
    let written = match value.as_str() {
        Some(text) if !in_json => out.write_str(text),
        None if !in_json && (value.is_undefined() || value.is_none()) => Ok(()),
        _ => {
            let Json(json) = Json::of(value)?;
            if in_json { write!(out, "{BEGIN}{json}{END}") } else { out.write_str(&json) }
        }
    };
    Ok(written?)
}

/// Puts the bracketed values where they stand: JSON as it is, and within a string what can stand there, without quotes;
/// nothing for `null`.
fn joined(text: &str) -> String {
    let mut body = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some((literal, (value, after))) =
        rest.split_once(BEGIN).and_then(|(literal, value)| Some((literal, value.split_once(END)?)))
    {
        body.push_str(literal);
        in_string = ends_in_string(literal, in_string);
        match value {
            _ if !in_string => body.push_str(value),
            "null" => {}
            _ if value.starts_with('"') => body.push_str(&value[1..value.len() - 1]),
            _ => {
                let quoted = serde_json::Value::from(value).to_string();
                body.push_str(&quoted[1..quoted.len() - 1]);
            }
        }
        rest = after;
    }
    body.push_str(rest);
    body
}

fn ends_in_string(literal: &str, mut in_string: bool) -> bool {
    let mut characters = literal.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => in_string = !in_string,
            '\\' if in_string => drop(characters.next()),
            _ => {}
        }
    }
    in_string
}

/// A value as JSON text. It pays for reading all of the value, sixteen bytes for a step.
fn tojson(state: &State, value: &Value) -> Result<Value, Error> {
    let json = Json::of(value)?;
    state.consume_fuel(json.0.len() as u64 / 16)?;
    Ok(Value::from_object(json))
}

/// A whole number where it is one: `2`, not `2.0`.
fn number(value: f64) -> Value {
    // Up to here every whole number is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.fract() == 0.0 && value.abs() < EXACT {
        true => Value::from(value as i64),
        false => Value::from(value),
    }
}

/// The event on which a template is tried.
fn sample() -> Event {
    let json = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).ok();
    let extensions = [
        ("actor", r#""ada""#),
        ("changed", r#"["/name"]"#),
        ("previous", r#"{"id":42,"name":"A. Lovelace"}"#),
    ];
    Event {
        id: "019c0f3e-5a80-7000-9d2c-3f1b8a6e7c45".into(),
        source: "gatehook".into(),
        event_type: "contact.update".into(),
        subject: Some("/v1/contacts/42".into()),
        time: jiff::Timestamp::UNIX_EPOCH,
        datacontenttype: None,
        data: Some(Bytes::from_static(br#"{"id":42,"name":"Ada Lovelace"}"#)),
        tenant: Some("acme".into()),
        extensions: extensions
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), json(text)?)))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
