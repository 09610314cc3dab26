//! Provokes drops at a closed port and `NET_RX` runs while two tracers watch the same namespace.
//!
//! Asserts that each counts what the kernel counted, and both the same drops, row by row.

use anyhow::{Result, ensure};
use tracer::model::report::{Drop, Report};

use super::{ATTEMPTS, Need, Scenario, bracket::Bracket, note};
use crate::{
    flood::Flood,
    kernel::{self, snmp},
    netns::Pair,
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "two_tracers_at_once_are_both_right",
    needs: &[Need::Root, Need::Program("ip")],
    run: two_tracers,
}];

const PORT: u16 = 7012;
const PACKETS: u64 = 800;

fn two_tracers() -> Result<()> {
    let pair = Pair::new()?;
    let refused = || snmp(&pair.receiver, "Udp", "NoPorts");
    for attempt in 1..=ATTEMPTS {
        let before = refused()?;
        let read = || kernel::softirqs("NET_RX");
        let seen = Bracket::around(read, Some(&pair.receiver), 2, || {
            let sent = Flood::new(Pair::RECEIVER, PORT, PACKETS).run(&pair.sender)?;
            ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
            Ok(())
        })?;
        let dropped = refused()? - before;
        ensure!(dropped == PACKETS, "NoPorts {dropped}, sent {PACKETS}");
        let rows: Vec<_> = seen.reports.iter().map(drops_of_receiver).collect();
        for drops in &rows {
            let traced: u64 = drops.iter().map(|drop| drop.packets).sum();
            ensure!(
                traced == PACKETS,
                "{PACKETS} dropped, traced {traced}: {drops:#?}"
            );
        }
        ensure!(rows[0] == rows[1], "the two disagree: {rows:#?}");
        for report in &seen.reports {
            let runs = report
                .cpus
                .iter()
                .filter_map(|cpu| Some((cpu.cpu, cpu.net_rx_runs?)))
                .collect();
            seen.check(&runs)?;
        }
        if let Some(count) = seen.undisturbed(|_| true) {
            note(format_args!(
                "both: {PACKETS} drops, {count} NET_RX runs (attempt {attempt})"
            ));
            return Ok(());
        }
        note(format_args!(
            "attempt {attempt}: other packets arrived; the runs were inside their bracket"
        ));
    }
    Ok(())
}

/// Drops on the receiver's device.
fn drops_of_receiver(report: &Report) -> Vec<&Drop> {
    let device = Some(Pair::RECEIVER_DEVICE);
    let drops = report.drops.iter();
    drops
        .filter(|drop| drop.device.as_deref() == device && drop.netns.is_none())
        .collect()
}
