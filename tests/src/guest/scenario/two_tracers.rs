//! Runs a second tracer within the run of a first, with traffic before, in and after the second's window.
//!
//! Asserts that each counts exactly what happened in its own window, hard IRQs and `NET_RX` runs of every CPU
//! included, and that neither's end disturbs the other.

use anyhow::Result;

use super::{Scenario, closed_port};
use crate::{
    findings,
    flood::Flood,
    guest::bracket::Bracket,
    netns::Pair,
    scenario::{Need, note},
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_tracer_within_the_run_of_another_counts_its_own_window",
    needs: &[Need::Root, Need::Program("ip")],
    run: two,
}];

const PORT: u16 = 7114;
const PACKETS: u64 = 300;

fn two() -> Result<()> {
    let pair = Pair::new()?;
    let device = Pair::RECEIVER_DEVICE;
    let send = || {
        let flood = Flood::new(Pair::RECEIVER, PORT, PACKETS);
        closed_port::send(flood, &pair.sender, &pair.receiver)
    };
    let outer = Tracer::start(Some(&pair.receiver), &[])?;
    quiet();
    send()?;
    let inner = Bracket::around(&pair.receiver, &[], send)?;
    send()?;
    let outer = outer.stop()?;
    closed_port::check(&inner.outcome, device, PACKETS)?;
    closed_port::check(&outer, device, 3 * PACKETS)?;
    inner.check()?;
    for report in [&inner.outcome.summary, &outer.summary] {
        findings::explained(report)?;
    }
    note(format_args!("{PACKETS} and {} drops", 3 * PACKETS));
    Ok(())
}
