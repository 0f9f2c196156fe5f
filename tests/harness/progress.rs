//! One line for each thing that takes long enough to make a person wonder.
//!
//! Tests write to the process's own standard error, which libtest does not capture, so that a first run that
//! fetches Envoy never looks like a hang. The demo installs its own presentation.

use std::io::Write as _;
use std::sync::OnceLock;

type Show = Box<dyn Fn(&str) + Send + Sync>;

static SHOW: OnceLock<Show> = OnceLock::new();

/// Replaces the presentation; only the first call counts.
pub fn present_with(show: impl Fn(&str) + Send + Sync + 'static) {
    let _ = SHOW.set(Box::new(show));
}

/// Tells a person what is going on, for example `Envoy 1.40.0: fetching from PyPI`.
pub fn report(line: &str) {
    match SHOW.get() {
        Some(show) => show(line),
        None => {
            // A closed standard error is no reason to fail a test.
            let _ = writeln!(std::io::stderr().lock(), "harness: {line}");
        }
    }
}
