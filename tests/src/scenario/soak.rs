//! Provokes half a minute of load: a trickle of UDP to a closed port, then as much as one CPU sends.
//!
//! Asserts that tracer's resident memory stays flat and that its CPU time does not grow with the rate: counting
//! happens in the kernel, details are limited.

use std::{thread, time::Duration};

use anyhow::{Result, anyhow, ensure};

use super::{Need, Scenario, note};
use crate::{flood::Flood, kernel, netns::Pair, tracer::Tracer};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "under_a_flood_memory_is_flat_and_cpu_time_does_not_follow_the_rate",
    needs: &[Need::Root, Need::Cpus(2), Need::Program("ip")],
    run: soak,
}];

const PORT: u16 = 7008;
const PHASE: Duration = Duration::from_secs(14);
const SAMPLE: Duration = Duration::from_millis(500);
/// Samples of the first three seconds: what the first packets allocate is no growth.
const SETTLING: usize = 6;
const LOW_RATE: u32 = 1000;
/// High rate over low rate, at least.
const RATE_RATIO: u64 = 20;
/// CPU time at the high rate over that at the low rate, at most.
const CPU_RATIO: u64 = 3;
/// Ticks (10 ms) that both may use without any meaning: interrupts are charged to whom they interrupt.
const CPU_SLACK: u64 = 20;
const GROWTH_KIB: u64 = 1024;

/// What one phase of the flood sent, and the ticks that tracer used meanwhile.
#[derive(Debug)]
struct Phase {
    sent: u64,
    ticks: u64,
}

fn soak() -> Result<()> {
    let pair = Pair::new()?;
    let tracer = Tracer::start(Some(&pair.receiver), &[])?;
    let mut resident = Vec::new();
    let low = phase(&pair, tracer.pid(), Some(LOW_RATE), &mut resident)?;
    let high = phase(&pair, tracer.pid(), None, &mut resident)?;
    let outcome = tracer.stop()?;
    note(format_args!("{low:?}, {high:?}; resident KiB {resident:?}"));

    ensure!(
        high.sent >= low.sent * RATE_RATIO,
        "the flood was no flood: {low:?}, {high:?}"
    );
    let counted = outcome.summary.drop_totals.packets.unwrap_or(0);
    let missed = outcome.missed_at("kfree_skb");
    ensure!(
        counted + missed >= low.sent + high.sent,
        "{low:?}, {high:?}, traced {counted} (missed {missed})"
    );
    let settled = resident.get(SETTLING..).unwrap_or_default();
    let first = settled.first().copied().unwrap_or(0);
    let most = settled.iter().max().copied().unwrap_or(0);
    ensure!(first > 0, "no samples of the memory: {resident:?}");
    ensure!(
        most <= first + GROWTH_KIB,
        "resident memory grew from {first} to {most} KiB: {resident:?}"
    );
    ensure!(
        high.ticks <= low.ticks * CPU_RATIO + CPU_SLACK,
        "CPU time followed the rate: {low:?}, {high:?}"
    );
    Ok(())
}

fn phase(pair: &Pair, pid: u32, rate: Option<u32>, resident: &mut Vec<u64>) -> Result<Phase> {
    let flood = Flood {
        limit: PHASE,
        rate,
        cpu: Some(0),
        ..Flood::new(Pair::RECEIVER, PORT, u64::from(u32::MAX))
    };
    let before = kernel::cpu_ticks(pid)?;
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| flood.run(&pair.sender));
        while !sender.is_finished() {
            thread::sleep(SAMPLE);
            resident.push(kernel::resident_kib(pid)?);
        }
        sender.join().map_err(|_| anyhow!("the sender panicked"))?
    })?;
    Ok(Phase {
        sent,
        ticks: kernel::cpu_ticks(pid)? - before,
    })
}
