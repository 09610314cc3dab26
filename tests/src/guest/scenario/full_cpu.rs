//! More packets than one CPU can look through, with all vectors of the card on it: a firewall with many rules makes each
//! packet dear. The backlog is not in their way, so nothing is refused there.
//!
//! Asserts that the finding names the CPU, its share of the `NET_RX` time and how busy it was, that no backlog overflow
//! is told, and that the advice spreads the vectors: its commands work, and so does what undoes them.

use std::time::Duration;

use anyhow::{Result, ensure};
use tracer::model::finding::Severity;

use super::{Scenario, need_nic, net_rx::slow_down, paste};
use crate::{
    findings,
    flood::Flood,
    guest::nic::Wire,
    kept,
    kernel::device_statistic,
    scenario::{Need, note},
    setting,
    tracer::Tracer,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_cpu_that_net_rx_fills_is_named_though_nothing_is_refused",
    needs: &[
        Need::Root,
        Need::Cpus(4),
        Need::Program("ip"),
        Need::Program("nft"),
    ],
    run: full,
}];

const PORT: u16 = 7125;
const WARM_UP: u64 = 200;
const RULES: usize = 500;
const LOAD: Duration = Duration::from_secs(3);
/// Fewer would not have filled a CPU.
const ENOUGH: u64 = 1_000;
const THE_CPU: u32 = 2;
const SENDING_CPU: usize = 3;

fn full() -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    let vectors = wire.pin(
        |_| THE_CPU,
        || {
            let flood = Flood::new(Wire::RECEIVER, PORT, WARM_UP);
            flood.run(&wire.sender).map(|_| ())
        },
    )?;
    slow_down(&wire.receiver, RULES)?;
    let arrived = || device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_packets");
    let before = arrived()?;
    let tracer = Tracer::start(Some(&wire.receiver), &[])?;
    Flood {
        limit: LOAD,
        cpu: Some(SENDING_CPU),
        ..Flood::new(Wire::RECEIVER, PORT, 10_000_000)
    }
    .run(&wire.sender)?;
    let report = tracer.stop()?.summary;
    let arrived = arrived()? - before;
    ensure!(arrived >= ENOUGH, "only {arrived} packets arrived");

    let found = findings::has(&report, "single-cpu")?;
    ensure!(found.severity == Severity::Warning, "{found:#?}");
    findings::says(
        found,
        &[
            &format!("CPU {THE_CPU} took "),
            "% busy with softirqs",
            "a larger netdev_max_backlog or ring",
        ],
    )?;
    findings::has_not(&report, "backlog-overflow")?;
    let affinity = || -> Result<Vec<String>> {
        let paths = vectors.iter().map(|vector| vector.irq);
        let paths = paths.map(|irq| format!("/proc/irq/{irq}/smp_affinity_list"));
        paths.map(setting::read).collect()
    };
    let pinned = affinity()?;
    ensure!(
        paste::all(&wire.receiver, &report.findings)? > 0,
        "no command: {found:#?}"
    );
    let mut spread = affinity()?;
    spread.sort();
    spread.dedup();
    ensure!(spread.len() > 1, "all vectors still on {spread:?}");
    paste::revert_all(&wire.receiver, &report.findings)?;
    ensure!(affinity()? == pinned, "not put back: {:?}", affinity()?);
    kept::keep_report("full-cpu", &report)?;
    note(format_args!("{arrived} packets: {}", found.summary));
    Ok(())
}
