//! The house rules that no compiler checks: sizes, who may name what, and maps that show what is there.
//!
//! Each rule says in its failure what to do. A rule that is argued with twice is changed here, not worked around.

use std::fs;
use std::path::{Path, PathBuf};

use harness::workspace;

/// This file names what others must not.
const OWN: &str = "tests/tidy.rs";

/// A file longer than this hides a seam.
const MAX_FILE_LINES: usize = 500;

/// A function longer than this does two things.
const MAX_FUNCTION_LINES: usize = 70;

#[test]
fn files_and_functions_stay_short() {
    let mut faults = Vec::new();
    for (path, text) in sources("rs") {
        let code = without_unit_tests(&text);
        let lines = code.lines().count();
        if lines > MAX_FILE_LINES {
            faults.push(format!("{path}: {lines} lines, at most {MAX_FILE_LINES}"));
        }
        for (name, line, length) in functions(code) {
            if length > MAX_FUNCTION_LINES {
                faults
                    .push(format!("{path}:{line}: {name} has {length} lines, at most {MAX_FUNCTION_LINES}"));
            }
        }
    }
    report(&faults);
}

#[test]
fn only_the_envoy_adapter_names_the_host() {
    let own = ["filter/src/envoy/", "filter/examples/"];
    let adapter = |path: &str| own.iter().any(|folder| path.starts_with(folder));
    let faults = mentions(&["proxy_wasm"], |path| adapter(path) || path == OWN);
    report(&faults);
}

#[test]
fn only_one_host_call_is_unsafe() {
    let own = ["filter/src/envoy/abi.rs", OWN];
    report(&mentions(&["unsafe "], |path| own.contains(&path)));
}

#[test]
fn only_the_store_holds_sql() {
    let words = ["rusqlite", "SELECT ", "INSERT INTO", "DELETE FROM", "CREATE TABLE"];
    let faults = mentions(&words, |path| path.starts_with("companion/src/store") || path == OWN);
    report(&faults);
}

#[test]
fn the_filter_and_the_companion_do_not_know_each_other() {
    let mut faults = Vec::new();
    for (path, text) in sources("rs") {
        if path.starts_with("filter/") && text.contains("companion::") {
            faults.push(format!("{path}: the filter names the companion's code"));
        }
        // The companion may import the filter's pure modules; what it must not name is the rest of the harness.
        if path.starts_with("companion/src") && text.contains("harness::") {
            faults.push(format!("{path}: the companion names the harness"));
        }
    }
    report(&faults);
}

#[test]
fn paths_named_in_the_documents_exist() {
    let root = workspace::root();
    let entries = ["filter/", "companion/", "envoy/", "tests/", ".ci/", ".cargo/"];
    let mut faults = Vec::new();
    for (document, text) in sources("md") {
        let quoted = text.split('`').skip(1).step_by(2);
        for path in quoted.filter(|text| entries.iter().any(|entry| text.starts_with(entry))) {
            // What follows a colon or a space is a place in the file, a glob or a brace stands for several of them.
            let plain = path.split([':', ' ', '*', '{']).next().unwrap_or_default();
            if !root.join(plain).exists() {
                faults.push(format!("{document}: names {path}, which does not exist"));
            }
        }
    }
    report(&faults);
}

#[test]
fn everything_comes_from_the_public_registries() {
    let root = workspace::root();
    let mut faults = Vec::new();
    let lock = fs::read_to_string(root.join("Cargo.lock")).expect("Cargo.lock is committed");
    for line in lock.lines().filter(|line| line.starts_with("source = ")) {
        if line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"" {
            faults.push(format!("Cargo.lock: {line}"));
        }
    }
    let settings = ["replace-with", "[source.", "[registries", "registry ="];
    for (path, text) in sources("toml") {
        if let Some(setting) = settings.iter().find(|setting| text.contains(**setting)) {
            faults.push(format!("{path}: {setting} belongs to a machine, not to the repository"));
        }
    }
    for (path, _) in
        sources("rs").into_iter().filter(|(path, text)| path != OWN && text.contains("index-url"))
    {
        faults.push(format!("{path}: the index is the machine's choice"));
    }
    report(&faults);
}

#[test]
fn a_function_is_measured_from_its_name_to_its_brace() {
    let text =
        "impl A {\n    fn one(\n        self,\n    ) {\n        two();\n    }\n\n    fn none(&self);\n}\n";
    assert_eq!(functions(text), [("one".to_owned(), 2, 5)]);
}

/// Fails with every fault at once.
fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The places where one of the words occurs outside the files that may use it.
fn mentions(words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in sources("rs").into_iter().filter(|(path, _)| !allowed(path)) {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(word) = words.iter().find(|word| code.contains(**word)) {
                faults.push(format!("{path}:{}: {} does not belong here", number + 1, word.trim()));
            }
        }
    }
    faults
}

/// Every file of the repository with this extension: its path from the root, and its text.
fn sources(extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(workspace::root(), extension, &mut found);
    found.sort();
    assert!(!found.is_empty() || extension != "rs", "a repository without sources");
    found
}

fn collect(directory: &Path, extension: &str, found: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(directory).expect("a readable directory");
    let paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && name != ".git" {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|own| own == extension) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let relative = path.strip_prefix(workspace::root()).unwrap_or(&path);
            found.push((relative.display().to_string(), text));
        }
    }
}

/// The part before the unit tests, which come last in a file.
fn without_unit_tests(text: &str) -> &str {
    match text.find("#[cfg(test)]\nmod ") {
        Some(start) => &text[..start],
        None => text,
    }
}

/// Name, first line and length of each function with a body; a brace at the indentation of `fn` ends it.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indentation = &line[..line.len() - code.len()];
        let Some(name) = function_name(code) else { continue };
        let ends = [format!("{indentation}}}"), format!("{indentation};")];
        let body = lines[start..].iter().position(|line| ends.iter().any(|end| line == end));
        let one_line = code.ends_with('}') || code.ends_with(';');
        if let (Some(length), false) = (body, one_line) {
            found.push((name, start + 1, length + 1));
        }
    }
    found
}

fn function_name(code: &str) -> Option<String> {
    let (before, after) = code.split_once("fn ")?;
    let qualifiers = ["pub", "pub(crate)", "pub(super)", "async", "const", "extern", "\"C\""];
    let is_declaration = before.split_whitespace().all(|word| qualifiers.contains(&word));
    let name: String =
        after.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (is_declaration && !name.is_empty()).then_some(name)
}
