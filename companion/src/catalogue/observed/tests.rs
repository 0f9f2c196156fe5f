use proptest::prelude::*;
use serde_json::json;

use super::super::{read, sample, schema, write};
use super::*;

/// Teaches so many times; returns what changed by the last.
fn teach(observed: &mut Observed, data: &Value, times: u64) -> Vec<Change> {
    (0..times).map(|_| observed.learn(data)).last().unwrap_or_default()
}

fn of(documents: &[Value]) -> Observed {
    let mut observed = Observed::default();
    documents.iter().for_each(|data| drop(observed.learn(data)));
    observed
}

#[test]
fn a_field_that_vanishes_is_told_of_once() {
    let mut observed = Observed::default();
    let (whole, without) = (json!({"id": 1, "card": {"number": "1"}}), json!({"id": 1, "card": {}}));
    assert_eq!(teach(&mut observed, &whole, 30), []);
    assert_eq!(teach(&mut observed, &without, 19), []);
    let change = Change {
        kind: ChangeKind::Vanished,
        path: "/card/number".into(),
        before: vec!["string"],
        after: vec![],
    };
    assert_eq!(teach(&mut observed, &without, 1), [change]);
    for _ in 0..100 {
        assert_eq!(observed.learn(&without), []);
    }
}

#[test]
fn a_field_that_was_often_missing_or_comes_back_in_time_has_not_vanished() {
    let mut observed = Observed::default();
    for _ in 0..30 {
        teach(&mut observed, &json!({"a": 1, "b": 1}), 9);
        teach(&mut observed, &json!({"a": 1}), 1);
    }
    for number in 0..200 {
        let data = if number % 20 == 19 { json!({"a": 1}) } else { json!({}) };
        assert_eq!(observed.learn(&data), [], "{number}");
    }
}

#[test]
fn a_type_that_was_never_seen_is_told_of_once() {
    let mut observed = Observed::default();
    let line = |price: Value| json!({"lines": [{"price": 1, "sku": "a"}, {"price": price}]});
    assert_eq!(teach(&mut observed, &line(json!(2)), 20), []);
    assert_eq!(observed.learn(&line(json!(2.5))), [], "a number is a number");
    let change = Change {
        kind: ChangeKind::TypeChanged,
        path: "/lines/*/price".into(),
        before: vec!["number"],
        after: vec!["string"],
    };
    assert_eq!(observed.learn(&line(json!("2.50"))), [change]);
    assert_eq!(teach(&mut observed, &line(json!("2.50")), 30), []);
}

#[test]
fn nothing_is_a_change_before_enough_was_seen() {
    let mut observed = Observed::default();
    teach(&mut observed, &json!({"list": vec![1; 50]}), 19);
    assert_eq!(observed.learn(&json!({"list": ["x"]})), []);
    teach(&mut observed, &json!({"list": [1], "new": 1}), 5);
    assert_eq!(observed.learn(&json!({"list": [1], "new": "x"})), [], "the field is new");
}

#[test]
fn names_that_are_data_are_not_kept() {
    for names in [["ada@example.com", "bob@example.com"], ["7", "8"], ["Ada Lovelace", "x"]] {
        let observed = of(&[json!({"plain": {names[1]: 1}}), json!({"plain": {names[0]: 2}})]);
        let kept = write(&observed);
        assert!(!kept.contains(names[0]) && !kept.contains("bob"), "{kept}");
        let schema = schema::schema(&observed);
        assert_eq!(schema["properties"]["plain"]["additionalProperties"], json!({"type": "integer"}));
    }
}

#[test]
fn names_that_hardly_ever_come_again_are_data() {
    let names = |n: usize| format!("{}{}", (b'a' + (n % 26) as u8) as char, (b'a' + (n / 26) as u8) as char);
    let people: Vec<Value> = (0..60).map(|n| json!({"ages": {names(n): n}})).collect();
    let observed = of(&people);
    assert!(observed.members["ages"].is_map && observed.members["ages"].members.is_empty());
    let wide = json!((0..150).map(|n| (names(n), json!(n))).collect::<Map<_, _>>());
    let observed = of(&vec![wide; 20]);
    assert_eq!(observed.members.len(), 150, "a wide row has the same members each time");
}

#[test]
fn a_state_of_another_version_is_learnt_anew() {
    let observed = of(&[json!({"a": [1, "x"], "b": null})]);
    assert_eq!(read(&write(&observed)), observed);
    assert_eq!(read(&write(&observed).replace("\"v\":1", "\"v\":2")), Observed::default());
    assert_eq!(read("?"), Observed::default());
}

/// Any JSON, with strings of all kinds and names that are data now and then.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-c]{1,2}",
        ".{0,12}",
        Just("2026-01-30T12:34:56Z".to_owned()),
        Just("2026-01-30".to_owned()),
        Just("3fa85f64-5717-4562-b3fc-2c963f66afa6".to_owned()),
        Just("ada@example.com".to_owned()),
        Just("https://example.com/a?b=c%20d".to_owned()),
        "[!-~]{1,30}",
        "[a-z]{1,4}@[a-z.]{1,6}",
        "https?://[!-~]{0,20}",
        "20[0-9]{2}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+]0[0-9]:00))?",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let name = prop_oneof![9 => "[a-f]", 1 => ".{0,3}", 1 => "[0-9]{1,3}"];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn assert_valid(schema: &Value, data: &Value) {
    let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    let faults: Vec<_> = validator.iter_errors(data).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}\n{data}\n{schema}");
}

proptest! {
    #[test]
    fn what_was_observed_fits_the_schema_and_so_does_the_sample(documents in prop::collection::vec(any_json(), 1..12)) {
        let observed = of(&documents);
        let schema = schema::schema(&observed);
        jsonschema::meta::validate(&schema).unwrap();
        for data in &documents {
            assert_valid(&schema, data);
            let masked = sample::sample(data, &observed).unwrap();
            assert_valid(&schema, &masked);
        }
    }

    #[test]
    fn the_order_of_events_makes_no_difference(documents in prop::collection::vec(any_json(), 1..12), turn in 0usize..12) {
        let mut turned = documents.clone();
        turned.rotate_left(turn % documents.len());
        turned.reverse();
        let (one, other) = (of(&documents), of(&turned));
        prop_assert_eq!(schema::schema(&one), schema::schema(&other));
    }

    #[test]
    fn merging_makes_no_difference_either(left in prop::collection::vec(any_json(), 1..6), right in prop::collection::vec(any_json(), 1..6)) {
        let (one, other) = (of(&left), of(&right));
        let merged = one.clone().merged(other.clone());
        prop_assert_eq!(&schema::schema(&merged), &schema::schema(&other.merged(one)));
        let all: Vec<Value> = left.into_iter().chain(right).collect();
        prop_assert_eq!(schema::schema(&merged), schema::schema(&of(&all)));
    }

    #[test]
    fn a_state_comes_back_as_it_was(documents in prop::collection::vec(any_json(), 1..6)) {
        let observed = of(&documents);
        prop_assert_eq!(read(&write(&observed)), observed);
    }

    #[test]
    fn hostile_data_do_not_make_it_grow(seed in any::<u64>()) {
        let mut dice = crate::testing::Dice::new(seed);
        let mut observed = Observed::default();
        for _ in 0..60 {
            observed.learn(&hostile(&mut dice, &mut 200));
        }
        prop_assert!(observed.places() <= limits::CATALOGUE_PLACES);
        prop_assert!(write(&observed).len() <= MOST_BYTES, "{}", write(&observed).len());
    }
}

/// Bytes of the largest state: every node with the longest name, and ten words.
const MOST_BYTES: usize = limits::CATALOGUE_PLACES * 700;

/// Data that are wide, deep and never the same; `room` bounds their size.
fn hostile(dice: &mut crate::testing::Dice, room: &mut u64) -> Value {
    let name = |dice: &mut crate::testing::Dice| -> String {
        (0..limits::CATALOGUE_KEY).map(|_| (b'a' + dice.below(26) as u8) as char).collect()
    };
    *room = room.saturating_sub(1);
    let width = dice.below(5).min(*room);
    match dice.below(4) {
        0 => name(dice)[..8].into(),
        1 => (0..width).map(|_| hostile(dice, room)).collect(),
        _ => Value::Object((0..width).map(|_| (name(dice), hostile(dice, room))).collect()),
    }
}
