//! What happens to a test whose server cannot be had: it fails in CI and says so loudly elsewhere.
//!
//! Only [`Unavailable`] leads to a skip. Everything else that goes wrong is a failure everywhere. What no clone of the
//! repository can bring is skipped in CI as well, by [`announce`].

use std::fmt;
use std::io::Write as _;

use anyhow::Result;

/// Something outside this repository is missing: no network for Envoy's first fetch, no Node.js.
#[derive(Debug)]
pub struct Unavailable(String);

impl Unavailable {
    /// What is missing, and why it could not be brought.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// The value, or `None` when its server is unavailable and this is no CI run.
///
/// # Panics
/// On any other error, and on an unavailable server when `CI=true`.
pub fn or_skip<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.downcast_ref::<Unavailable>().is_some() && !in_ci() => {
            announce(error);
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Says that a test did not look at something, and why.
pub fn announce(reason: impl fmt::Display) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Written past libtest's capture, because a skip nobody sees is a hole in the suite.
    let _ = writeln!(std::io::stderr().lock(), "SKIPPED: {test}: {reason:#}");
}
