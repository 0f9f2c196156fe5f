//! `gatehook serve` that does not start.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use companion::store;
use companion::vault::Vault;

use crate::gatehook;
use crate::housekeeping::folder;

/// Less than a person waits before he believes that it runs.
const SOON: Duration = Duration::from_secs(20);

/// A database of a schema that is not made yet.
fn make_newer(path: &str) {
    drop(store::embedded(&format!("sqlite:{path}"), Vault::new(&[0; 32])).unwrap());
    // The writer's thread closes the database in its own time, and the log is gone then.
    while Path::new(&format!("{path}-wal")).exists() {
        std::thread::yield_now();
    }
    let mut bytes = std::fs::read(path).unwrap();
    // SQLite's header has the version of the schema here.
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_stops_the_start_is_one_sentence_and_exit_code_1() {
    let folder = folder("serve");
    let at = |name: &str| format!("sqlite:{folder}/{name}");
    make_newer(&format!("{folder}/newer.db"));
    std::fs::write(format!("{folder}/text.db"), "no database, but long enough to be one ".repeat(9)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    // Nothing listens where nothing can.
    let away = "postgres://me:hush@127.0.0.1:1/x";
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (flags, sentence) in [
        (&["--store", "nonsense"][..], "--store: `nonsense` names no store; use sqlite:PATH or postgres://…"),
        (&["--store", "mysql://me:hush@host/x"], "--store: `mysql://me:***@host/x` names no store; use"),
        (&["--store", "sqlite:"], "--store: `sqlite:` names no store; use"),
        (
            &["--store", "sqlite:/nowhere/a.db", "--secret-key", key],
            "--store: cannot write beside /nowhere/a.db: ",
        ),
        (&["--store", &at("text.db"), "--secret-key", key], "text.db: file is not a database"),
        (
            &["--store", &at("newer.db"), "--secret-key", key],
            "newer.db: its schema has version 99, newer than",
        ),
        (
            &["--store", &at("a.db"), "--role", "worker"],
            "--role worker needs a store that several processes share: ",
        ),
        (
            &["--store", &at("a.db"), "--role", "api"],
            "--role api needs a store that several processes share: ",
        ),
        (
            &["--store", &at("a.db"), "--queue", "amqp://127.0.0.1"],
            "--queue needs a store that several processes",
        ),
        (
            &["--store", &at("a.db"), "--queue", "sqs://127.0.0.1/1/g"],
            "--queue needs a store that several processes",
        ),
        (
            &["--store", &at("a.db"), "--queue", "nonsense"],
            "--queue needs a store that several processes share: ",
        ),
        (&["--store", &at("a.db"), "--secret-key", "hush"], "--secret-key: "),
        (&["--store", away], "--secret-key is needed with --store postgres://…: "),
        (&["--store", away, "--secret-key", key], "--store: cannot use postgres://me:***@127.0.0.1:1/x: "),
        (&["--store", &at("a.db"), "--listen", &taken], "--listen: cannot bind 127.0.0.1:"),
    ] {
        let begun = Instant::now();
        let anywhere: &[&str] = if flags.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let printed = gatehook(&[&["serve"], flags, anywhere].concat(), "");
        let told = format!("{flags:?}: {:?} {}{}", printed.code, printed.out, printed.err);
        assert_eq!(
            (printed.code, printed.out.as_str(), printed.err.lines().count()),
            (Some(1), "", 1),
            "{told}"
        );
        assert!(printed.err.starts_with("gatehook: ") && printed.err.contains(sentence), "{told}");
        assert!(!printed.err.contains("hush") && begun.elapsed() < SOON, "{told}");
    }
    assert!(!Path::new(&format!("{folder}/a.db.key")).exists(), "nothing is made before it is known to fit");
}
