//! The commands as a shell meets them: the real binary, its output and its exit code.

mod check;
mod explain;
mod housekeeping;
mod openapi;
mod serve;
mod verify;

use std::io::Write;
use std::process::{Command, Stdio};

/// What the binary printed, and whether it reported success.
struct Printed {
    out: String,
    err: String,
    success: bool,
    code: Option<i32>,
}

/// Runs `gatehook` with these arguments and this standard input.
fn gatehook(arguments: &[&str], input: &str) -> Printed {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gatehook"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (success, code) = (output.status.success(), output.status.code());
    Printed { out: text(output.stdout), err: text(output.stderr), success, code }
}

/// Writes a file into cargo's folder for tests and gives its path.
fn file(name: &str, text: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for arguments in
        [&["check", "nowhere.json"][..], &["explain", "POST", "/a", "201", "--config", "nowhere.json"]]
    {
        let printed = gatehook(arguments, "");
        assert!(!printed.success && printed.err.starts_with("gatehook: nowhere.json: "), "{}", printed.err);
    }
}
