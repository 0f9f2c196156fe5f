//! `gatehook backup` and `gatehook integrity`.

use std::path::Path;

use companion::store;
use companion::vault::Vault;
use serde_json::{Value, json};

use crate::gatehook;

/// A folder of this test's own, empty.
pub(crate) fn folder(name: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Of an earlier run; there may be none.
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_store_of_a_running_companion_is_copied_and_the_copy_holds_together() {
    let folder = folder("backup");
    let (live, copy) = (format!("sqlite:{folder}/live.db"), format!("{folder}/copy.db"));
    // Holds the lock that a running companion holds.
    let _running = store::embedded(&live, Vault::new(&[1; 32])).unwrap();
    let printed = gatehook(&["backup", &copy, "--store", &live], "");
    assert!(printed.success, "{}", printed.err);
    assert!(printed.out.starts_with(&format!("{copy}: ")), "{}", printed.out);
    for text in ["KiB", "0 subscriptions, 0 events, 0 deliveries", "without the secret key"] {
        assert!(printed.out.contains(text), "{}", printed.out);
    }
    let again = gatehook(&["backup", &copy, "--store", &live], "");
    assert!(!again.success && again.err.contains("overwrites nothing"), "{}", again.err);
    for store in [&live, &format!("sqlite:{copy}")] {
        let printed = gatehook(&["integrity", "--store", store], "");
        assert!(printed.success && printed.out == format!("{store} holds together\n"), "{}", printed.out);
    }
    store::embedded(&format!("sqlite:{copy}"), Vault::new(&[1; 32])).unwrap();
}

#[test]
fn a_damaged_store_is_told_with_its_flaws_and_exit_code_1() {
    let folder = folder("integrity");
    let (url, path) = (format!("sqlite:{folder}/damaged.db"), format!("{folder}/damaged.db"));
    drop(store::embedded(&url, Vault::new(&[1; 32])).unwrap());
    // The writer's thread closes the database in its own time, and the log is gone then.
    while Path::new(&format!("{path}-wal")).exists() {
        std::thread::yield_now();
    }
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 4096;
    bytes[last..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let printed = gatehook(&["integrity", "--store", &url], "");
    assert!(!printed.success && printed.out.starts_with("database: "), "{}{}", printed.out, printed.err);
    let printed = gatehook(&["integrity", "--store", &url, "--json"], "");
    let json: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!((&json["valid"], &json["flaws"][0]["flaw"]), (&json!(false), &json!("database")));
}

#[test]
fn a_store_that_is_not_there_is_named() {
    for command in [&["backup", "copy.db"][..], &["integrity"]] {
        let printed = gatehook(&[command, &["--store", "sqlite:/no/such/store.db"]].concat(), "");
        assert!(!printed.success && printed.err.contains("/no/such/store.db"), "{}", printed.err);
        let printed = gatehook(&[command, &["--store", "postgres://user:hush@db/x"]].concat(), "");
        assert!(!printed.success && !printed.err.contains("hush"), "{}", printed.err);
    }
}
