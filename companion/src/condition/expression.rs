//! `cel`: an expression in the Common Expression Language over `event` (its attributes as strings) and `data` (its JSON).
//!
//! The interpreter is a library's and knows no fuel, so an expression is refused unless its cost is bounded by its length
//! and the data's: no comprehensions, no regular expressions, a list of allowed functions, bounded depth. Values borrow
//! from the event; nothing of it is copied. What fails to evaluate, or is no boolean, does not match.

use std::sync::{Arc, LazyLock};
use std::thread;

use cel::common::ast::{Expr, IdedExpr, operators};
use cel::common::traits::{Container, Indexer, Sizer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelNull, CelString, CelUInt, DYN_TYPE, LIST_TYPE, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, Val};
use cel::parser::Parser;
use cel::{Context, Env, ExecutionError, Value as CelValue};
use serde_json::Value;

use super::view::{View, attribute};
use crate::limits;
use crate::model::Event;

/// Functions that look at each of their arguments' bytes once.
const FUNCTIONS: [&str; 9] =
    ["size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool"];

/// Operators likewise, but for the last two: `+` copies what it joins, and `in` walks a list.
const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::ADD,
    operators::IN,
];

/// What is said of an expression that the parser itself fails on.
const UNREADABLE: &str = "is not CEL that can be read";

static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that costs little.
#[derive(Debug)]
pub(super) struct Expression(IdedExpr);

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        if source.is_empty() || source.len() > limits::EXPRESSION {
            return Err(format!("an expression has 1 to {} bytes", limits::EXPRESSION));
        }
        let source = source.to_owned();
        // The library's parser is generated and takes kilobytes of stack for each level, more than a caller may have
        // left. On its own stack it ends within it, and what it panics on is an error.
        let parsed = thread::Builder::new().stack_size(limits::EXPRESSION_STACK).spawn(move || {
            let depth = u16::try_from(limits::EXPRESSION_DEPTH).unwrap_or(u16::MAX);
            let parser = Parser::new().max_recursion_depth(depth).error_recovery_limit(0);
            let expression = parser.parse(&source).map_err(|errors| match errors.errors.first() {
                Some(error) => {
                    format!("is not CEL: {} (line {}, column {})", error.msg, error.pos.0, error.pos.1)
                }
                None => "is not CEL".to_owned(),
            })?;
            Walk::default().look(&expression.expr, 1)?;
            Ok(Self(expression))
        });
        match parsed.map(thread::JoinHandle::join) {
            Ok(Ok(result)) => result,
            _ => Err(UNREADABLE.to_owned()),
        }
    }

    /// Whether it is true of an event.
    pub(super) fn holds(&self, view: &View<'_>) -> bool {
        let mut context = Context::with_env(STANDARD.clone());
        context.add_variable_as_val("event", Box::new(Attributes(view.event())));
        context.add_variable_as_val("data", value(view.data().unwrap_or(&Value::Null)));
        CelValue::resolve_val(&self.0, &context)
            .is_ok_and(|result| result.downcast_ref::<CelBool>().is_some_and(|truth| *truth.inner()))
    }
}

/// Refuses what costs too much.
#[derive(Default)]
struct Walk {
    costly: usize,
}

impl Walk {
    fn look(&mut self, expression: &Expr, depth: usize) -> Result<(), String> {
        if depth > limits::EXPRESSION_DEPTH {
            return Err(format!("an expression nests at most {} deep", limits::EXPRESSION_DEPTH));
        }
        match expression {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) if name == "event" || name == "data" => Ok(()),
            Expr::Ident(name) => Err(format!("`{name}` is not known; `event` and `data` are")),
            Expr::Select(select) => self.look(&select.operand.expr, depth + 1),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if !(FUNCTIONS.contains(&name) || call.target.is_none() && OPERATORS.contains(&name)) {
                    return Err(format!("`{name}` is not a function here; {} are", FUNCTIONS.join(", ")));
                }
                self.costly += usize::from(name == operators::ADD || name == operators::IN);
                if self.costly > limits::EXPRESSION_COSTLY {
                    return Err(format!(
                        "an expression has at most {} `+` and `in`",
                        limits::EXPRESSION_COSTLY
                    ));
                }
                if let (operators::IN, [sought, list]) = (name, &*call.args) {
                    self.look(&sought.expr, depth + 1)?;
                    return self.look_in(&list.expr, depth + 1);
                }
                let mut parts = call.target.as_deref().into_iter().chain(&call.args);
                parts.try_for_each(|part| self.look(&part.expr, depth + 1))
            }
            Expr::Comprehension(_) => {
                Err("all, exists, exists_one, map and filter are not allowed: an expression must cost little"
                    .into())
            }
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err("lists are allowed behind `in` only, maps and structures nowhere".into())
            }
        }
    }

    /// The right side of `in`: here a list may be written out.
    fn look_in(&mut self, expression: &Expr, depth: usize) -> Result<(), String> {
        match expression {
            Expr::List(list) => list.elements.iter().try_for_each(|part| self.look(&part.expr, depth + 1)),
            other => self.look(other, depth),
        }
    }
}

fn value<'a>(json: &'a Value) -> Box<dyn Val + 'a> {
    match json {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Box::new(CelInt::from(integer)),
            (None, Some(integer)) => Box::new(CelUInt::from(integer)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(_) | Value::Object(_) => Box::new(Members(json)),
    }
}

/// An array or object of the data. It equals nothing: comparing two whole would cost their size at each comparison.
#[derive(Debug)]
struct Members<'a>(&'a Value);

impl Val for Members<'_> {
    fn get_type(&self) -> &Type {
        if self.0.is_array() { &LIST_TYPE } else { &MAP_TYPE }
    }

    fn cel_type() -> &'static Type {
        &DYN_TYPE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Self(self.0))
    }
}

impl Indexer for Members<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let found = match (index.downcast_ref::<CelString>(), index.downcast_ref::<CelInt>()) {
            (Some(name), _) => self.0.as_object().and_then(|members| members.get(name.inner())),
            (_, Some(position)) => {
                let position = usize::try_from(*position.inner()).ok();
                position.and_then(|position| self.0.as_array()?.get(position))
            }
            _ => None,
        };
        found.map(|json| CowVal::Owned(value(json))).ok_or_else(|| ExecutionError::no_such_key("of the data"))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Container for Members<'_> {
    fn contains(&self, sought: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(match self.0 {
            Value::Array(elements) => elements.iter().any(|element| value(element).equals(sought)),
            Value::Object(members) => {
                sought.downcast_ref::<CelString>().is_some_and(|name| members.contains_key(name.inner()))
            }
            _ => false,
        })
    }
}

impl Sizer for Members<'_> {
    fn size(&self) -> CelInt {
        let size = self.0.as_array().map(Vec::len).or_else(|| self.0.as_object().map(serde_json::Map::len));
        CelInt::from(i64::try_from(size.unwrap_or(0)).unwrap_or(i64::MAX))
    }
}

/// The variable `event`.
#[derive(Debug)]
struct Attributes<'a>(&'a Event);

impl Val for Attributes<'_> {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Self(self.0))
    }
}

impl Indexer for Attributes<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let event: &Event = self.0;
        let found = index.downcast_ref::<CelString>().and_then(|name| attribute(event, name.inner()));
        found
            .map(|text| CowVal::owned(CelString::from(text)))
            .ok_or_else(|| ExecutionError::no_such_key("of the event"))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Container for Attributes<'_> {
    fn contains(&self, sought: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.get(sought).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(data: &str) -> Event {
        Event {
            id: "7".into(),
            source: "/shop".into(),
            event_type: "order.update".into(),
            subject: None,
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            datacontenttype: None,
            data: Some(data.to_owned().into()),
            tenant: Some("blue".into()),
            extensions: [("actor".to_owned(), serde_json::from_str(r#""ada""#).unwrap())].into(),
        }
    }

    const DATA: &str = r#"{"total":150,"price":1.5,"status":"paid","tags":["a","b",["c"]],"vip":true,"parent":null,
        "a-b":{"c":[{"d":-1}]},"big":18446744073709551615,"least":-9223372036854775808,"zero":0}"#;

    fn check(source: &str, expected: bool) {
        let expression = Expression::parse(source).unwrap_or_else(|detail| panic!("{source}: {detail}"));
        assert_eq!(expression.holds(&View::new(&event(DATA))), expected, "{source}");
    }

    fn refused(source: &str, word: &str) {
        let detail = Expression::parse(source).expect_err(source);
        assert!(detail.contains(word), "{source}: {detail}");
    }

    #[test]
    fn expressions_see_the_event_and_its_data() {
        for (source, expected) in [
            ("event.type == 'order.update' && data.total > 100", true),
            ("event.type == 'order.update' && data.total > 150.5", false),
            ("event.actor == 'ada' && event['tenant'] == 'blue'", true),
            ("has(event.subject)", false),
            ("'actor' in event && !('subject' in event)", true),
            ("event.time > '2026-01-02'", true),
            ("has(data.parent) && data.parent == null", true),
            ("has(data.mother)", false),
            ("data.status in ['open', 'paid']", true),
            ("'a' in data.tags && !('c' in data.tags)", true),
            ("data.tags[2][0] == 'c'", true),
            ("data['a-b'].c[0].d == -1", true),
            ("size(data.tags) == 3 && data.status.size() == 4 && size(data) == 10", true),
            ("data.vip", true),
            ("data.vip ? data.total < 0 : true", false),
            (
                "data.status.startsWith('pa') && data.status.endsWith('id') && data.status.contains('ai')",
                true,
            ),
            ("double(data.total) * data.price == 225.0", true),
            ("data.big == 18446744073709551615u", true),
            ("string(data.total) == '150' && int('7') == int(event.id)", true),
        ] {
            check(source, expected);
        }
    }

    #[test]
    fn what_fails_does_not_match() {
        for source in [
            "data.mother == null",
            "data.status > 1",
            "data.total + 'x' == ''",
            "data.total + data.price > 0.0",
            "1 / data.zero == 0",
            "1 % data.zero == 0",
            "-data.least > 0",
            "data.least / -1 > 0",
            "9223372036854775807 + data.total > 0",
            "9223372036854775807 * data.total > 0",
            "data.least - 1 < 0",
            "data.big + 1u > 0u",
            "int(data.big) > 0",
            "int(1e300) > 0",
            "int('x') == 0",
            "data.tags[-1] == 'b'",
            "data.tags[3] == 'b'",
            "data.tags['0'] == 'a'",
            "data.tags == data.tags",
            "data[0] == 1",
            "data",
            "data.total",
            "'true'",
            "event",
        ] {
            check(source, false);
        }
        let expression = Expression::parse("data == null").unwrap();
        assert!(expression.holds(&View::new(&event("no JSON"))));
    }

    #[test]
    fn what_costs_too_much_is_refused() {
        for (source, word) in [
            ("", "1 to 1024"),
            ("1 +", "not CEL"),
            ("(", "not CEL"),
            (".", "not CEL"),
            ("'", "not CEL"),
            ("99999999999999999999 > 1", "not CEL"),
            ("data.tags.all(t, t == 'a')", "must cost little"),
            ("data.tags.exists(t, t == 'a')", "must cost little"),
            ("data.tags.exists_one(t, t == 'a')", "must cost little"),
            ("size(data.tags.map(t, t)) > 0", "must cost little"),
            ("size(data.tags.filter(t, true)) > 0", "must cost little"),
            ("data.status.matches('(a+)+')", "`matches` is not"),
            ("matches(data.status, 'a')", "`matches` is not"),
            ("timestamp(event.time) > timestamp('2026-01-01T00:00:00Z')", "`timestamp` is not"),
            ("optional.of(data)", "`of` is not"),
            ("data.?a", "not CEL"),
            ("status == 'paid'", "`status` is not known"),
            ("[1, 2] == [1, 2]", "behind `in`"),
            ("1 in [[1]]", "behind `in`"),
            ("{'a': 1}.a == 1", "nowhere"),
            ("A{b: 1}.b == 1", "nowhere"),
        ] {
            refused(source, word);
        }
        refused(&format!("data{}", ".a".repeat(limits::EXPRESSION_DEPTH)), "16 deep");
        refused(&["data.a"; limits::EXPRESSION_COSTLY + 2].join("+"), "at most 8 `+`");
        refused(&["1 in data.tags"; limits::EXPRESSION_COSTLY + 1].join("||"), "at most 8 `+`");
        refused(&" ".repeat(limits::EXPRESSION + 1), "1 to 1024");
        check(&vec!["data.vip"; 60].join(" && "), true);
        check(&format!("data.status in [{}'paid']", "'x',".repeat(200)), true);
    }

    #[test]
    fn hostile_input_is_read_or_refused() {
        let most = |open: &str, close: &str| {
            let count = limits::EXPRESSION / (open.len() + close.len());
            format!("{}{}", open.repeat(count), close.repeat(count))
        };
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("{", "}"),
            ("!", ""),
            ("-", ""),
            ("1+", ""),
            ("a.", ""),
            ("a", "[0]"),
            ("a?b:", ""),
            ("a?", ""),
            ("a{b:", "}"),
            ("1<", ""),
            ("a(", ")"),
            ("data", ".a()"),
            ("\"", ""),
            ("'''", ""),
            ("`", ""),
            ("a&&", ""),
            ("//", ""),
            ("\u{1F600}", ""),
            ("\\", ""),
            ("0x", ""),
            ("{1:", "}"),
            ("1e", ""),
            ("b'\\x", "'"),
        ] {
            for source in [
                most(open, close),
                most(open, ""),
                format!("{}1", &most(open, "")[..limits::EXPRESSION / 4 * 2]),
            ] {
                match Expression::parse(&source) {
                    Ok(expression) => _ = expression.holds(&View::new(&event(DATA))),
                    Err(detail) => assert_ne!(detail, UNREADABLE, "{source}"),
                }
            }
        }
        let issue_305 = format!(">{}?[{}{}l\0?(-", "{".repeat(63), "(".repeat(11), "{".repeat(26));
        assert!(Expression::parse(&issue_305).is_err());
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(!Expression::parse("size(data) == 1").unwrap().holds(&View::new(&event(&deep))));
    }

    /// Expressions that parse, most of them badly typed.
    fn expression() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "data",
            "event",
            "data.total",
            "data.tags",
            "data.status",
            "data.least",
            "data.big",
            "data.price",
            "event.id",
            "data.parent",
            "data.no",
            "0",
            "-1",
            "9223372036854775807",
            "1u",
            "1e308",
            "'a'",
            "true",
            "null",
            "b'a'",
        ]);
        leaf.prop_map(str::to_owned).prop_recursive(5, 24, 3, |inner| {
            let binary = prop::sample::select(vec![
                "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", " in ",
            ]);
            let function = prop::sample::select(FUNCTIONS.to_vec());
            prop_oneof![
                (inner.clone(), binary, inner.clone()).prop_map(|(a, op, b)| format!("({a}{op}{b})")),
                (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a}?{b}:{c})")),
                (function.clone(), inner.clone()).prop_map(|(name, a)| format!("{name}({a})")),
                (inner.clone(), function, inner.clone())
                    .prop_map(|(a, name, b)| format!("({a}).{name}({b})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
                inner.clone().prop_map(|a| format!("has(({a}).b)")),
                inner.clone().prop_map(|a| format!("-({a})")),
                inner.prop_map(|a| format!("!({a})")),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_expression_panics_when_evaluated(source in expression()) {
            if let Ok(expression) = Expression::parse(&source) {
                expression.holds(&View::new(&event(DATA)));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(source in "([a-z0-9 (){}\\[\\].,?:!<>=&|+*/%'\"`\\\\-]|data\\.|\\PC){0,60}") {
            match Expression::parse(&source) {
                Ok(expression) => _ = expression.holds(&View::new(&event(DATA))),
                Err(detail) => prop_assert_ne!(detail, UNREADABLE),
            }
        }
    }
}
