//! Waiting for a condition, with a deadline; the one place of the harness that lets time pass.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// Long enough for a loaded machine with two cores; a test that needs it all is a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// Asks until the answer is `Some`, at most until the deadline; the error says what was awaited.
pub async fn until<T>(what: &str, deadline: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = ask().await {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {} s in vain for {what}", deadline.as_secs_f32());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
