//! Waiting for a condition: it is checked again and again until it holds or time runs out.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How long a condition is waited for. Far longer than anything here takes, even on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The pause between two checks.
const POLL: Duration = Duration::from_millis(10);

/// Waits until a condition holds. `what` completes the sentence "waited 20 s until …".
///
/// # Errors
/// If it does not hold within [`PATIENCE`].
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !holds().await {
        pause(begun, what).await?;
    }
    Ok(())
}

/// Waits until `look` finds something, and returns that. `what` is as in [`until`].
///
/// # Errors
/// If it finds nothing within [`PATIENCE`].
pub async fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        pause(begun, what).await?;
    }
}

async fn pause(begun: Instant, what: &str) -> Result<()> {
    ensure!(begun.elapsed() < PATIENCE, "waited {} s until {what}", PATIENCE.as_secs());
    tokio::time::sleep(POLL).await;
    Ok(())
}
