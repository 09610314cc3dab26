//! A short run without a report: the numbers that a plan is made of and a change is judged by.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{interval, sleep};

use crate::{
    analyze::{details::Kept, rules::threshold::Thresholds, summary::summarize},
    bpf::{Choice, HOOKS},
    cli::run::Stop,
    host::Capabilities,
    live::{Live, Options},
    model::{report::Report, window::Window},
};

const RING_BYTES: u32 = 64 << 10;
const DROP_SITES: u32 = 4096;
/// CPUs that go and come back are looked for this often.
const LOOK: Duration = Duration::from_millis(100);

/// Measures for `duration`; an error if somebody stops it before. `stop` says how.
pub(super) fn measure(
    duration: Duration,
    thresholds: &Thresholds,
    stop: fn() -> Result<Stop>,
) -> Result<Report> {
    Capabilities::check()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(watch(duration, thresholds, stop))
}

async fn watch(
    duration: Duration,
    thresholds: &Thresholds,
    stop: fn() -> Result<Stop>,
) -> Result<Report> {
    let mut stop = stop()?;
    let options = Options {
        interfaces: Vec::new(),
        kinds: Vec::new(),
        detail_rate: Some(0),
        ring_bytes: RING_BYTES,
        drop_sites: DROP_SITES,
        choices: vec![Choice::Auto; HOOKS.len()],
        thresholds: thresholds.clone(),
        log: false,
    };
    let (mut live, _details) = Live::start(&options)?;
    let mut first = live.snapshot()?;
    live.add_driver_stats(&mut first);
    live.begin_processes();
    live.refresh_topology()?;
    let mut look = interval(LOOK);
    let over = sleep(duration);
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            () = stop.wait() => bail!("stopped before the end of the measurement"),
            () = &mut over => break,
            _ = look.tick() => {
                let _ = live.see_cpus();
            }
        }
    }
    let mut end = live.snapshot()?;
    live.end_processes();
    live.add_driver_stats(&mut end);
    live.refresh_topology()?;
    live.note_absent_cpus(&first, &end);
    let window = Window::between(&first, &end);
    Ok(summarize(&window, &live.facts, Some(&Kept::default())))
}
