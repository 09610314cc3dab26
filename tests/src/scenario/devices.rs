//! Renames a device, and takes a device and its namespaces away, in the middle of a run with traffic before and after.
//!
//! Asserts that the renamed device has one row everywhere, under its new name, with the counts of both halves; and that
//! a run goes on when its devices or namespaces are gone, with what was counted before and what comes after.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tracer::model::report::Report;

use super::{Need, Scenario, fewer, note, repeat};
use crate::{
    backlog::Steered,
    flood::Flood,
    kernel::{device_statistic, snmp},
    netns::{Netns, Pair},
    tracer::{Outcome, Tracer},
    wait::{self, quiet},
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_renamed_device_keeps_its_counts",
        needs: &[Need::Root, Need::Cpus(2), Need::Program("ip")],
        run: || repeat(renamed),
    },
    Scenario {
        name: "a_namespace_that_disappears_in_a_run_ends_nothing",
        needs: &[Need::Root, Need::Program("ip")],
        run: || repeat(disappearing),
    },
];

const OLD: &str = Pair::RECEIVER_DEVICE;
const NEW: &str = "wan0";
const FLOOD: u64 = 30_000;
const PORT: u16 = 7013;
const PACKETS: u64 = 800;

fn renamed() -> Result<()> {
    let steered = Steered::new()?;
    let netns = &steered.pair.receiver;
    let polled = own_napi(&steered.pair)?;
    let tracer = Tracer::start(Some(netns), &["--interval", "200ms"])?;
    quiet();
    let packets = |device| device_statistic(netns, device, "rx_packets");
    let refused = |device| device_statistic(netns, device, "rx_dropped");
    let begin = (packets(OLD)?, refused(OLD)?);
    steered.overflow(FLOOD)?;
    quiet();
    let halfway = refused(OLD)? - begin.1;
    rename(netns)?;
    steered.overflow(FLOOD)?;
    quiet();
    let outcome = tracer.stop()?;
    let (received, dropped) = (packets(NEW)? - begin.0, refused(NEW)? - begin.1);
    ensure!(
        0 < halfway && halfway < dropped,
        "refused {halfway} before the rename, {dropped} in all"
    );
    let report = &outcome.summary;
    note(format_args!(
        "{NEW} received {received}, rx_dropped {halfway} and {dropped}; notes {:?}",
        report.notes
    ));
    one_name(report, polled)?;

    let missed = outcome.missed_at("kfree_skb");
    let drops = report.drops.iter().filter(|drop| {
        drop.site == "enqueue_to_backlog"
            && drop.device.as_deref() == Some(NEW)
            && drop.netns.is_none()
    });
    ensure!(drops.clone().count() == 1, "drops: {:#?}", report.drops);
    let seen: u64 = drops.map(|drop| drop.packets).sum();
    ensure!(seen <= dropped, "{NEW} rx_dropped {dropped}, traced {seen}");
    fewer("rx_dropped", seen + missed, dropped)?;
    let row = report
        .reconciliation
        .iter()
        .find(|row| row.counter == format!("{NEW} rx_dropped"))
        .with_context(|| format!("reconciliation: {:#?}", report.reconciliation))?;
    ensure!(
        row.delta == dropped && row.residual.is_some_and(|off| off.unsigned_abs() <= missed),
        "rx_dropped {dropped}: {row:?}"
    );
    let device = report.devices.iter().find(|device| device.name == NEW);
    ensure!(
        device.is_some_and(|row| row.rx_packets == received && row.rx_dropped == dropped),
        "received {received}, refused {dropped}: {device:?}"
    );
    Ok(())
}

/// No row of `report` has the old name, and no table has two rows for the new one.
fn one_name(report: &Report, polled: bool) -> Result<()> {
    let counters = report.reconciliation.iter().map(|row| row.counter.as_str());
    let old = format!("{OLD} rx_dropped");
    ensure!(
        !counters.clone().any(|counter| counter == old),
        "reconciliation: {:#?}",
        report.reconciliation
    );
    let new = format!("{NEW} rx_dropped");
    ensure!(
        counters.filter(|counter| *counter == new).count() == 1,
        "reconciliation: {:#?}",
        report.reconciliation
    );
    let devices = report.devices.iter().map(|row| row.name.as_str());
    ensure!(
        devices.filter(|name| [OLD, NEW].contains(name)).eq([NEW]),
        "devices: {:#?}",
        report.devices
    );
    let drops = report.drops.iter().filter(|drop| drop.netns.is_none());
    ensure!(
        !drops
            .filter_map(|drop| drop.device.as_deref())
            .any(|name| name == OLD),
        "drops: {:#?}",
        report.drops
    );
    let instances = report.napi.iter().map(|row| row.device.as_str());
    ensure!(
        !instances.clone().any(|name| name == OLD)
            && (!polled || instances.clone().any(|name| name == NEW)),
        "NAPI: {:#?}",
        report.napi
    );
    let said = report
        .notes
        .iter()
        .filter(|note| note.contains(OLD) && note.contains(NEW));
    ensure!(said.count() == 1, "notes: {:#?}", report.notes);
    Ok(())
}

/// Lets the receiver's device have a NAPI instance of its own instead of the CPU's backlog: veth with GRO (5.13), whose
/// peer does not segment. False if that is not to be had here.
fn own_napi(pair: &Pair) -> Result<bool> {
    let ends = [
        (&pair.receiver, OLD, "gro", "on"),
        (&pair.sender, Pair::SENDER_DEVICE, "tso", "off"),
    ];
    for (netns, device, feature, value) in ends {
        let ethtool = || {
            Command::new("ethtool")
                .args(["-K", device, feature, value])
                .output()
        };
        if !netns
            .run(ethtool)?
            .is_ok_and(|output| output.status.success())
        {
            note("no ethtool, or no GRO on veth: NAPI rows are looked at for the old name only");
            return Ok(false);
        }
    }
    Ok(true)
}

fn rename(netns: &Netns) -> Result<()> {
    netns.ip(&["link", "set", OLD, "down"])?;
    netns.ip(&["link", "set", OLD, "name", NEW])?;
    netns.ip(&["link", "set", NEW, "up"])?;
    // The peer's carrier comes back with a delay.
    wait::until("carrier", Duration::from_secs(2), || {
        let carrier =
            netns.run(|| std::fs::read_to_string(format!("/sys/class/net/{NEW}/carrier")))?;
        Ok(carrier
            .is_ok_and(|carrier| carrier.trim() == "1")
            .then_some(()))
    })
}

fn disappearing() -> Result<()> {
    let Pair { sender, receiver } = Pair::new()?;
    let elsewhere = Netns::new("other")?;
    let names = [receiver.name().to_owned(), receiver.inode()?.to_string()];
    let args = ["--interval", "200ms"];
    let inside = Tracer::start(Some(&receiver), &args)?;
    let outside = Tracer::start(Some(&elsewhere), &args)?;
    let sent = Flood::new(Pair::RECEIVER, PORT, PACKETS).run(&sender)?;
    quiet();
    let refused = snmp(&receiver, "Udp", "NoPorts")?;
    ensure!(
        sent == PACKETS && refused == PACKETS,
        "sent {sent}, NoPorts {refused}"
    );

    // Takes the pair with it.
    sender.delete()?;
    wait::until("the device is gone", Duration::from_secs(5), || {
        let path = format!("/sys/class/net/{OLD}");
        let there = receiver.run(|| std::path::Path::new(&path).exists())?;
        Ok((!there).then_some(()))
    })?;
    quiet();
    drops_on_lo(&receiver)?;
    // The tracer inside keeps it alive.
    receiver.delete()?;
    quiet();
    drops_on_lo(&elsewhere)?;
    // What comes after the last window is in the summary only.
    inside.later_windows()?;
    outside.later_windows()?;
    let (inside, outside) = (inside.stop()?, outside.stop()?);

    check(&inside, OLD, &[])?;
    check(&inside, "lo", &[])?;
    // By name while it had one.
    check(&outside, OLD, &names)?;
    check(&outside, "lo", &[])?;
    let gone = |note: &&String| note.contains(OLD) && note.contains("away");
    ensure!(
        inside.summary.notes.iter().any(|note| gone(&note)),
        "notes: {:#?}",
        inside.summary.notes
    );
    Ok(())
}

/// As many datagrams to a closed port as the pair carried.
fn drops_on_lo(netns: &Netns) -> Result<()> {
    let lo = std::net::Ipv4Addr::LOCALHOST;
    let sent = Flood::new(lo, PORT, PACKETS).run(netns)?;
    ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
    Ok(())
}

/// Every window is one, and the drops on `device` are complete; `names` are those of its namespace, none for tracer's own.
fn check(outcome: &Outcome, device: &str, names: &[String]) -> Result<()> {
    for report in &outcome.windows {
        ensure!(
            report.duration_ns > 0 && !report.cpus.is_empty(),
            "an empty window: {report:?}"
        );
    }
    let ours = |netns: &Option<String>| match netns {
        Some(netns) => names.contains(netns),
        None => names.is_empty(),
    };
    let sum = |report: &Report| -> u64 {
        let drops = report
            .drops
            .iter()
            .filter(|drop| drop.device.as_deref() == Some(device) && ours(&drop.netns));
        drops.map(|drop| drop.packets).sum()
    };
    let in_windows: u64 = outcome.windows.iter().map(sum).sum();
    let traced = sum(&outcome.summary);
    note(format_args!(
        "{device}: {in_windows} in {} windows, {traced} in all",
        outcome.windows.len()
    ));
    let missed = outcome.missed_at("kfree_skb");
    ensure!(
        traced <= PACKETS,
        "{PACKETS} dropped on {device}, traced {traced}: {:#?}",
        outcome.summary.drops
    );
    fewer("drops", traced + missed, PACKETS)?;
    ensure!(
        in_windows == traced,
        "{device}: {in_windows} in the windows, {traced} in the summary"
    );
    Ok(())
}
