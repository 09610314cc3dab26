//! Waiting with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Time that separates the traffic of a scenario from what came before and comes after it: longer than a
/// timer tick and a softirq that was deferred to ksoftirqd.
pub const QUIET: Duration = Duration::from_millis(300);

/// Sleeps for [`QUIET`].
pub fn quiet() {
    thread::sleep(QUIET);
}

/// Asks `ready` every 10 ms until it returns a value.
///
/// Fails with `what` when `limit` has passed.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {} ms", limit.as_millis());
        }
        thread::sleep(Duration::from_millis(10));
    }
}
