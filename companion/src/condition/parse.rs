//! From JSON to a filter, or to all that is wrong with it.

use serde_json::{Map, Value};

use super::expression::Expression;
use super::{Atom, Field, Filter, Scalar};
use crate::cloudevents::is_pointer;
use crate::limits;
use crate::members::Fault;

const DIALECTS: &str = "exact, prefix, suffix, all, any, not, cel";

/// The filter of a whole `match`.
pub(super) fn filter(value: &Value) -> Result<Filter, Vec<Fault>> {
    let mut reader = Reader { faults: Vec::new(), filters: 0 };
    let size = value.to_string().len();
    let filter = match value {
        _ if size > limits::CONDITION => {
            reader.fault("", format!("has {size} bytes as JSON; {} are allowed", limits::CONDITION))
        }
        Value::Array(list) => reader.list(list, "", 1).map(Filter::All),
        _ => reader.filter(value, "", 1),
    };
    match filter {
        Some(filter) if reader.faults.is_empty() => Ok(filter),
        _ => Err(reader.faults),
    }
}

struct Reader {
    faults: Vec<Fault>,
    filters: usize,
}

impl Reader {
    fn fault<T>(&mut self, pointer: &str, detail: impl Into<String>) -> Option<T> {
        self.faults.push(Fault { pointer: pointer.to_owned(), detail: detail.into() });
        None
    }

    /// Counts a filter. Those beyond the bound are not looked at, so there are not many more faults than filters.
    fn count(&mut self) -> Option<()> {
        self.filters += 1;
        if self.filters == limits::CONDITION_FILTERS + 1 {
            return self.fault("", format!("has more than {} filters", limits::CONDITION_FILTERS));
        }
        (self.filters <= limits::CONDITION_FILTERS).then_some(())
    }

    fn list(&mut self, list: &[Value], at: &str, depth: usize) -> Option<Vec<Filter>> {
        let filters = list.iter().enumerate();
        Some(
            filters
                .filter_map(|(index, value)| self.filter(value, &format!("{at}/{index}"), depth))
                .collect(),
        )
    }

    fn filter(&mut self, value: &Value, at: &str, depth: usize) -> Option<Filter> {
        self.count()?;
        if depth > limits::CONDITION_DEPTH {
            return self.fault(at, format!("filters nest at most {} deep", limits::CONDITION_DEPTH));
        }
        let Value::Object(map) = value else {
            return self.fault(at, format!("must be an object with one of {DIALECTS}"));
        };
        if map.len() != 1 {
            self.fault::<()>(at, format!("must have one of {DIALECTS}, and one only: `all` takes several"));
        }
        let mut filter = None;
        for (dialect, value) in map {
            filter = self.dialect(dialect, value, &below(at, dialect), depth);
        }
        filter
    }

    fn dialect(&mut self, dialect: &str, value: &Value, at: &str, depth: usize) -> Option<Filter> {
        match dialect {
            "exact" => self.members(value, at, Self::exact),
            "prefix" => self.members(value, at, |reader, field, value, at| {
                reader.affix(value, at).map(|text| Filter::Prefix(field, text))
            }),
            "suffix" => self.members(value, at, |reader, field, value, at| {
                reader.affix(value, at).map(|text| Filter::Suffix(field, text))
            }),
            "all" => self.several(value, at, depth).map(Filter::All),
            "any" => self.several(value, at, depth).map(Filter::Any),
            "not" => self.filter(value, at, depth + 1).map(|filter| Filter::Not(Box::new(filter))),
            "cel" => match value.as_str().map(Expression::parse) {
                Some(Ok(expression)) => Some(Filter::Cel(expression)),
                Some(Err(detail)) => self.fault(at, detail),
                None => self.fault(at, "must be an expression as a string, such as \"data.total > 100\""),
            },
            _ => self.fault(at, format!("is not a filter dialect; {DIALECTS} are")),
        }
    }

    fn several(&mut self, value: &Value, at: &str, depth: usize) -> Option<Vec<Filter>> {
        match value {
            Value::Array(list) if !list.is_empty() => self.list(list, at, depth + 1),
            _ => self.fault(at, "must be a list of one or more filters"),
        }
    }

    fn members(
        &mut self,
        value: &Value,
        at: &str,
        read: impl Fn(&mut Self, Field, &Value, &str) -> Option<Filter>,
    ) -> Option<Filter> {
        let no_members = Map::new();
        let map = value.as_object().unwrap_or(&no_members);
        if map.is_empty() {
            return self
                .fault(at, "must be an object of one or more attributes or JSON pointers and their values");
        }
        let mut filters = Vec::with_capacity(map.len().min(limits::CONDITION_FILTERS));
        for (index, (name, value)) in map.iter().enumerate() {
            // The first one is counted with its filter.
            if index > 0 {
                self.count()?;
            }
            let at = below(at, name);
            let field = self.field(name, &at);
            filters.extend(field.and_then(|field| read(self, field, value, &at)));
        }
        Some(Filter::All(filters))
    }

    fn field(&mut self, name: &str, at: &str) -> Option<Field> {
        if name.is_empty() || name.len() > limits::CONDITION_VALUE {
            return self.fault(at, format!("a name has 1 to {} bytes", limits::CONDITION_VALUE));
        }
        if name.starts_with('/') && is_pointer(name) {
            return Some(Field::Data(name.to_owned()));
        }
        if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) && name != "data" {
            return Some(Field::Attribute(name.to_owned()));
        }
        let allowed = "is neither an attribute (lower-case letters and digits, such as `subject`) nor a JSON pointer \
                       into the data (RFC 6901, such as `/customer/id`)";
        self.fault(at, allowed)
    }

    fn exact(&mut self, field: Field, value: &Value, at: &str) -> Option<Filter> {
        if let Field::Attribute(_) = field {
            let value = Scalar::Text(self.affix(value, at)?.into());
            return Some(Filter::Exact(Atom { field, value }));
        }
        let Some(value) = Scalar::of(value) else {
            return self.fault(at, "must be a string, a number, true, false or null");
        };
        if let Scalar::Text(text) = &value {
            self.bounded(text, at)?;
        }
        if !value.is_exact() {
            return self.fault(at, "whole numbers compare exactly between -2^63 and 2^64 only");
        }
        Some(Filter::Exact(Atom { field, value: value.into_owned() }))
    }

    /// Text that is not empty, as the specification asks of attributes' values.
    fn affix(&mut self, value: &Value, at: &str) -> Option<String> {
        match value.as_str() {
            Some(text) if !text.is_empty() => self.bounded(text, at).map(str::to_owned),
            _ => self.fault(at, "must be a string that is not empty"),
        }
    }

    fn bounded<'a>(&mut self, text: &'a str, at: &str) -> Option<&'a str> {
        if text.len() > limits::CONDITION_VALUE {
            return self
                .fault(at, format!("has {} bytes; {} are allowed", text.len(), limits::CONDITION_VALUE));
        }
        Some(text)
    }
}

fn below(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `faults` are pointers, each with a word of its detail.
    fn check(value: &Value, faults: &[(&str, &str)]) {
        let found = filter(value).err().unwrap_or_default();
        let pointers: Vec<_> = found.iter().map(|fault| &*fault.pointer).collect();
        assert_eq!(pointers, faults.iter().map(|(pointer, _)| *pointer).collect::<Vec<_>>(), "{value}");
        for (fault, (_, word)) in found.iter().zip(faults) {
            assert!(fault.detail.contains(word), "{fault:?}");
        }
    }

    fn nested(depth: usize) -> Value {
        (1..depth).fold(json!({"exact": {"id": "1"}}), |inner, _| json!({ "not": inner }))
    }

    #[test]
    fn each_fault_has_its_pointer() {
        check(&json!("x"), &[("", "one of exact")]);
        check(&json!(null), &[("", "object")]);
        check(&json!({}), &[("", "one of")]);
        check(&json!([{}]), &[("/0", "one of")]);
        check(&json!({"sql": "TRUE"}), &[("/sql", "not a filter dialect")]);
        check(&json!({"exact": {"id": "1"}, "prefix": {"id": "1"}}), &[("", "one only")]);
        for empty in [json!({}), json!(null), json!([]), json!("x")] {
            check(&json!({ "exact": empty }), &[("/exact", "one or more")]);
            check(&json!({ "suffix": empty }), &[("/suffix", "one or more")]);
            check(&json!({ "any": empty }), &[("/any", "list")]);
        }
        check(&json!({"not": []}), &[("/not", "object")]);
        check(&json!({"exact": {"": "a"}}), &[("/exact/", "1 to")]);
        check(&json!({"exact": {"id": ""}}), &[("/exact/id", "not empty")]);
        check(&json!({"exact": {"id": 1}}), &[("/exact/id", "string")]);
        check(&json!({"exact": {"Id": "1"}}), &[("/exact/Id", "neither")]);
        check(&json!({"exact": {"data": "1"}}), &[("/exact/data", "neither")]);
        check(&json!({"exact": {"/a~2": "1"}}), &[("/exact/~1a~02", "neither")]);
        check(&json!({"exact": {"/a": [1]}}), &[("/exact/~1a", "string, a number")]);
        check(&json!({"exact": {"/a": 1e20}}), &[("/exact/~1a", "2^64")]);
        check(&json!({"prefix": {"/a": 1}}), &[("/prefix/~1a", "string")]);
        check(&json!({"not": {"cel": true}}), &[("/not/cel", "expression")]);
        check(&json!({"cel": "data.a +"}), &[("/cel", "not CEL")]);
        check(&json!({"suffix": {"/a": ""}}), &[("/suffix/~1a", "not empty")]);
    }

    #[test]
    fn all_faults_come_at_once() {
        check(
            &json!([{"any": [{"exact": {"id": "1"}}, {"exact": {"/status": {}, "type": 1}}]}, {"cesql": 1}]),
            &[
                ("/0/any/1/exact/~1status", "null"),
                ("/0/any/1/exact/type", "string"),
                ("/1/cesql", "dialect"),
            ],
        );
    }

    #[test]
    fn everything_is_bounded() {
        let long = |count| "x".repeat(count);
        check(&json!({"exact": {"/a": long(limits::CONDITION_VALUE)}}), &[]);
        check(&json!({"exact": {"/a": long(limits::CONDITION_VALUE + 1)}}), &[("/exact/~1a", "1025 bytes")]);
        check(&json!({"prefix": {"id": long(limits::CONDITION_VALUE + 1)}}), &[("/prefix/id", "1024")]);
        check(&json!({"exact": {"/a": long(limits::CONDITION)}}), &[("", "bytes")]);
        check(&nested(limits::CONDITION_DEPTH), &[]);
        check(&nested(limits::CONDITION_DEPTH + 1), &[(&"/not".repeat(8), "8 deep")]);
        check(&json!([nested(limits::CONDITION_DEPTH)]), &[]);
        let many = |count| json!(vec![json!({"exact": {"id": "1"}}); count]);
        check(&many(limits::CONDITION_FILTERS), &[]);
        check(&many(limits::CONDITION_FILTERS + 2), &[("", "more than 50")]);
        let members =
            |count| json!({"exact": Map::from_iter((0..count).map(|i| (format!("/{i}"), json!(i))))});
        check(&members(limits::CONDITION_FILTERS), &[]);
        check(&members(limits::CONDITION_FILTERS + 1), &[("", "more than 50")]);
        assert_eq!(
            filter(&json!(vec![json!({"x": 1}); 500])).unwrap_err().len(),
            limits::CONDITION_FILTERS + 1
        );
        let shapeless = filter(&json!(vec![1; 5_000])).unwrap_err();
        assert!(shapeless.len() <= limits::CONDITION_FILTERS + 1, "{}", shapeless.len());
    }
}
