//! Whether a database holds together: SQLite's own check, and ours of what rows promise each other.

use std::path::Path;

use anyhow::{Context, ensure};
use rusqlite::{Connection, ErrorCode};

use super::backup;
use super::schema::MIGRATIONS;
use crate::limits;
use crate::store::offline::{CHECKS, Flaw, SAME_LANE};

/// What [`SAME_LANE`] stands for.
const LANE: &str = "o.subscription_id = d.subscription_id AND o.resource = d.resource";

/// See [`crate::store::offline::integrity`].
pub(in crate::store) fn flaws(database: &Path) -> anyhow::Result<Vec<Flaw>> {
    let connection = backup::open(database)?;
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    ensure!(
        version as usize == MIGRATIONS.len(),
        "{} has schema version {version}, this program's is {}; use the program that serves it",
        database.display(),
        MIGRATIONS.len()
    );
    // One read transaction: rows that are written meanwhile are not half seen.
    connection.execute_batch("BEGIN").context("cannot begin to read")?;
    let own = format!("PRAGMA integrity_check({})", limits::FAULTS);
    let mut found = match collect(&connection, "database", &own) {
        // So damaged that it cannot even be listed.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            vec![Flaw { flaw: "database", at: error.to_string() }]
        }
        found => found?,
    };
    found.retain(|flaw| flaw.at != "ok");
    // Where the database itself is damaged, no query can be trusted.
    if found.is_empty() {
        for (flaw, sql) in CHECKS {
            found.extend(collect(
                &connection,
                flaw,
                &format!("{} LIMIT {}", sql.replace(SAME_LANE, LANE), limits::FAULTS),
            )?);
        }
    }
    Ok(found)
}

fn collect(connection: &Connection, flaw: &'static str, sql: &str) -> rusqlite::Result<Vec<Flaw>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.map(|at| at.map(|at| Flaw { flaw, at })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;
    use crate::testing::Folder;
    use crate::vault::Vault;

    /// A database with one event, one delivery of it that waits for its turn behind another, and one attempt.
    const SOUND: &str = "
        INSERT INTO events (seq, id, source, type, time, accepted_at) VALUES (1, 'evt', '/t', 'a.b', 0, 0);
        INSERT INTO deliveries (key, id, event_seq, subscription_id, status, due_at, created_at, resource, attempt_count, claim)
          VALUES (1, 'dlv_1', 1, 'sub', 'pending', 5, 0, '/a', 1, 7),
                 (2, 'dlv_2', 1, 'sub', 'pending', 9223372036854775807, 0, '/a', 0, NULL);
        INSERT INTO attempts (delivery_key, number, started_at, duration_ms, outcome) VALUES (1, 1, 0, 1, 'timed_out');
        INSERT INTO subscriptions (id, revision, target_url, events, status, format, metadata, secrets, created_at, updated_at)
          VALUES ('sub', 1, 'https://example.com', '[]', 'on', 'raw', '{}', X'', 0, 0);
        INSERT INTO replays (id, kind, range, status, first, position, last, created_at)
          VALUES ('rpl', 'replay', '{}', 'running', 1, 0, 1, 0);
        INSERT INTO statistics VALUES (1, 60, 0, 'sub', 'a.b', 0, 3, 2, 1, 1, 0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0);";

    fn check(damage: &str, expected: &[(&str, &str)]) {
        let folder = Folder::new();
        let path = folder.path("test.db");
        let url = format!("sqlite:{}", path.display());
        drop(store::embedded(&url, Vault::new(&[1; 32])).unwrap());
        Connection::open(&path).unwrap().execute_batch(&format!("{SOUND}{damage}")).unwrap();
        let found = flaws(&path).unwrap();
        let found: Vec<_> = found.iter().map(|flaw| (flaw.flaw, flaw.at.as_str())).collect();
        assert_eq!(found, expected, "{damage}");
    }

    #[test]
    fn each_broken_promise_is_found_and_nothing_else() {
        check("", &[]);
        check(
            "DELETE FROM events",
            &[("delivery without event", "dlv_1"), ("delivery without event", "dlv_2")],
        );
        check(
            "DELETE FROM deliveries WHERE id = 'dlv_1'",
            &[
                ("attempt without delivery", "delivery 1"),
                ("pending delivery that waits for nobody", "dlv_2"),
            ],
        );
        check("DELETE FROM attempts", &[("delivery whose attempts are not all there", "dlv_1")]);
        check(
            "UPDATE deliveries SET resource = NULL WHERE id = 'dlv_2'",
            &[("pending delivery that waits for nobody", "dlv_2")],
        );
        check(
            "UPDATE deliveries SET due_at = 9223372036854775807, claim = NULL",
            &[("pending delivery that waits for nobody", "dlv_1")],
        );
        check("UPDATE deliveries SET claim = 7 WHERE id = 'dlv_2'", &[("claim without lease", "dlv_2")]);
        check(
            "UPDATE deliveries SET ended_at = 5 WHERE id = 'dlv_1'",
            &[("delivery that has ended and is pending, or neither", "dlv_1")],
        );
        check("UPDATE events SET extensions = '{'", &[("event with damaged extensions", "evt")]);
        check("UPDATE subscriptions SET options = ''", &[("subscription with damaged fields", "sub")]);
        check("UPDATE replays SET position = 2", &[("replay beyond its range", "rpl")]);
        check("UPDATE statistics SET failed = 2", &[("statistics that do not add up", "statistics 1")]);
    }

    #[test]
    fn a_damaged_index_is_found_by_the_database_itself() {
        let folder = Folder::new();
        let path = folder.path("test.db");
        let url = format!("sqlite:{}", path.display());
        drop(store::embedded(&url, Vault::new(&[1; 32])).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(SOUND).unwrap();
        let page = "SELECT rootpage FROM sqlite_schema WHERE name = 'deliveries_by_event'";
        let page: usize = connection.query_row(page, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(connection);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[(page - 1) * 4096..page * 4096].fill(0);
        std::fs::write(&path, bytes).unwrap();
        let found = flaws(&path).unwrap();
        assert!(!found.is_empty() && found.iter().all(|flaw| flaw.flaw == "database"), "{found:?}");
    }

    #[test]
    fn a_database_of_another_version_is_not_judged() {
        let folder = Folder::new();
        let path = folder.path("old.db");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 1).unwrap();
        assert!(flaws(&path).unwrap_err().to_string().contains("schema version 1"));
    }
}
