//! What is moved: tables, their columns, and how a row of the old store stands in the new one.

use serde_json::Value as Json;

use crate::store::postgres::{escaped, lane, shape_identity};

/// A value of either database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
    Truth(bool),
}

pub(super) type Row = Vec<Value>;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    /// A text that has no zero byte, or is JSON.
    Text,
    /// A text that may have one, which the new store escapes.
    Free,
    Bytes,
    Truth,
}

/// A table that both have.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Columns of the old store; the first ones are its key.
    pub(super) columns: &'static [(&'static str, Kind)],
    /// How many of them are the key. Tables whose key is text are small, and are walked in one step: the databases need not
    /// agree on an order.
    pub(super) key: usize,
    /// Columns that only the new one has, and what they hold for a row.
    pub(super) derived: &'static [(&'static str, Kind)],
    derive: fn(&Table, &Row) -> Row,
    /// Rows that are not moved, in SQL of both.
    pub(super) except: &'static str,
}

use Kind::{Bytes, Free, Number, Text, Truth};

pub(super) const TABLES: [Table; 14] = [
    Table {
        name: "meta",
        columns: &[("name", Text), ("value", Bytes)],
        key: 1,
        derived: &[],
        derive: nothing,
        // `last_event` is a column of `places`.
        except: "name IN ('last_event', 'moved_to', 'moving_from')",
    },
    Table {
        name: "subscriptions",
        columns: &[
            ("id", Text),
            ("revision", Number),
            ("tenant", Free),
            ("target_url", Text),
            ("events", Text),
            ("status", Text),
            ("off_reason", Free),
            ("description", Free),
            ("format", Text),
            ("metadata", Text),
            ("secrets", Bytes),
            ("created_at", Number),
            ("updated_at", Number),
            ("options", Text),
            ("credentials", Bytes),
            ("expires_at", Number),
            ("failing_since", Number),
        ],
        key: 1,
        derived: &[("is_paced", Truth)],
        derive: |table, row| vec![Value::Truth(is_paced(table.text(row, "options")))],
        except: "FALSE",
    },
    Table {
        name: "tokens",
        columns: &[
            ("id", Text),
            ("hash", Bytes),
            ("scope", Text),
            ("description", Free),
            ("expires_at", Number),
            ("created_at", Number),
        ],
        key: 1,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
    Table {
        name: "idempotency",
        columns: &[("key", Free), ("request", Bytes), ("resource", Text), ("created_at", Number)],
        key: 1,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
    Table {
        name: "replays",
        columns: &[
            ("id", Text),
            ("kind", Text),
            ("subscription_id", Text),
            ("range", Text),
            ("status", Text),
            ("first", Number),
            ("position", Number),
            ("last", Number),
            ("made", Number),
            ("created_at", Number),
            ("ended_at", Number),
        ],
        key: 1,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
    Table {
        name: "audit",
        columns: &[
            ("seq", Number),
            ("at", Number),
            ("actor", Free),
            ("action", Text),
            ("resource", Free),
            ("detail", Free),
        ],
        key: 1,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
    Table {
        name: "unmatched",
        columns: &[
            ("seq", Number),
            ("source", Text),
            ("method", Text),
            ("path", Text),
            ("count", Number),
            ("status", Number),
            ("first_at", Number),
            ("last_at", Number),
        ],
        key: 1,
        derived: &[("identity", Bytes)],
        derive: |table, row| {
            let [source, method, path] = ["source", "method", "path"].map(|name| table.text(row, name));
            vec![Value::Bytes(shape_identity(source, method, path))]
        },
        except: "FALSE",
    },
    Table {
        name: "statistics",
        columns: &[
            ("seq", Number),
            ("resolution_s", Number),
            ("at", Number),
            ("subscription_id", Text),
            ("type", Text),
            ("owner", Number),
            ("attempts", Number),
            ("delivered", Number),
            ("failed", Number),
            ("exhausted", Number),
            ("d0", Number),
            ("d1", Number),
            ("d2", Number),
            ("d3", Number),
            ("d4", Number),
            ("d5", Number),
            ("d6", Number),
            ("d7", Number),
            ("d8", Number),
            ("d9", Number),
            ("d10", Number),
            ("d11", Number),
            ("d12", Number),
            ("d13", Number),
            ("d14", Number),
            ("d15", Number),
            ("d16", Number),
            ("d17", Number),
            ("d18", Number),
            ("d19", Number),
        ],
        key: 1,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
    Table {
        name: "event_types",
        columns: &[
            ("seq", Number),
            ("tenant", Text),
            ("type", Text),
            ("count", Number),
            ("first_at", Number),
            ("last_at", Number),
            ("state", Text),
            ("sample", Text),
        ],
        key: 1,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
    Table {
        name: "event_type_notes",
        columns: &[("type", Text), ("description", Free), ("published", Number)],
        key: 1,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
    Table {
        name: "followers",
        columns: &[("name", Text), ("position", Number), ("turn", Number)],
        key: 1,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
    Table {
        name: "events",
        columns: &[
            ("seq", Number),
            ("id", Text),
            ("source", Text),
            ("type", Text),
            ("subject", Text),
            ("time", Number),
            ("datacontenttype", Text),
            ("data", Bytes),
            ("tenant", Text),
            ("extensions", Text),
            ("accepted_at", Number),
        ],
        key: 1,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
    Table {
        name: "deliveries",
        columns: &[
            ("key", Number),
            ("id", Text),
            ("event_seq", Number),
            ("subscription_id", Text),
            ("status", Text),
            ("reason", Free),
            ("attempt_count", Number),
            ("step", Number),
            ("due_at", Number),
            ("claim", Number),
            ("created_at", Number),
            ("ended_at", Number),
            ("resource", Text),
            ("round_at", Number),
        ],
        key: 1,
        derived: &[("lane", Number)],
        derive: |table, row| match table.value(row, "resource") {
            Some(Value::Text(resource)) => {
                vec![Value::Number(lane(table.text(row, "subscription_id"), resource))]
            }
            _ => vec![Value::Null],
        },
        except: "FALSE",
    },
    Table {
        name: "attempts",
        columns: &[
            ("delivery_key", Number),
            ("number", Number),
            ("started_at", Number),
            ("duration_ms", Number),
            ("outcome", Text),
            ("status", Number),
            ("error", Free),
            ("answer", Bytes),
        ],
        key: 2,
        derived: &[],
        derive: nothing,
        except: "FALSE",
    },
];

/// Whether options have a rate or a cap.
fn is_paced(options: &str) -> bool {
    let options: Json = serde_json::from_str(options).unwrap_or_default();
    ["rate_limit", "max_in_flight"].iter().any(|name| !options[name].is_null())
}

fn nothing(_: &Table, _: &Row) -> Row {
    Row::new()
}

impl Table {
    /// Whether it is walked in several steps.
    pub(super) fn is_numbered(&self) -> bool {
        self.columns.iter().take(self.key).all(|(_, kind)| *kind == Number)
    }

    pub(super) fn key_of(&self, row: &Row) -> Row {
        row.iter().take(self.key).cloned().collect()
    }

    /// A row of the old store as the new one holds it.
    pub(super) fn translated(&self, row: Row) -> Row {
        let derived = (self.derive)(self, &row);
        let kept = row.into_iter().zip(self.columns).map(|(value, (_, kind))| match (value, kind) {
            (Value::Text(text), Free) => Value::Text(escaped(&text).into_owned()),
            (value, _) => value,
        });
        kept.chain(derived).collect()
    }

    /// All columns of the new store.
    pub(super) fn all_columns(&self) -> impl Iterator<Item = &(&'static str, Kind)> {
        self.columns.iter().chain(self.derived)
    }

    fn value<'a>(&self, row: &'a Row, name: &str) -> Option<&'a Value> {
        self.columns.iter().zip(row).find(|((column, _), _)| *column == name).map(|(_, value)| value)
    }

    fn text<'a>(&self, row: &'a Row, name: &str) -> &'a str {
        match self.value(row, name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }
}
