//! Hides the kernel's symbols (`kernel.kptr_restrict` is 2) and provokes a full backlog.
//!
//! Asserts that the drops stand at one address, have the stage that their reason tells, and equal softnet `dropped` and
//! the device's `rx_dropped` exactly, also in tracer's own reconciliation; and that a report says once why there are no
//! names.

use anyhow::{Context as _, Result, ensure};
use tracer::model::report::{Report, Stage};

use super::{Need, Scenario, Skip, fewer, flood_of, note, repeat};
use crate::{
    backlog::Steered,
    kernel::{self, device_statistic, drop_reason},
    netns::Pair,
    setting::Setting,
    tracer::{PATIENCE, Tracer, command, complete},
    wait::quiet,
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "hidden_names_are_said_once_and_counts_stay_exact",
    needs: &[Need::Root, Need::Cpus(2), Need::Program("ip")],
    run: || repeat(hidden),
}];

const PACKETS: u64 = 50_000;
const KPTR_RESTRICT: &str = "/proc/sys/kernel/kptr_restrict";
const REASON: &str = "CPU_BACKLOG";

fn hidden() -> Result<()> {
    if drop_reason(REASON)?.is_none() {
        let why = "without names and reasons nobody can tell which drops softnet counts";
        return Err(Skip(why.to_owned()).into());
    }
    let receiver = Steered::new()?;
    let netns = &receiver.pair.receiver;
    let restricted = Setting::change(KPTR_RESTRICT, "2")?;
    let tracer = Tracer::start(Some(netns), &["--interval", "200ms"])?;
    quiet();
    let before = refused(&receiver)?;
    receiver.overflow(flood_of(PACKETS))?;
    quiet();
    let after = refused(&receiver)?;
    let outcome = tracer.stop()?;
    let args = ["run", "--duration", "500ms", "--interval", "100ms"];
    let (_, text, stderr) = complete(Some(netns), command(&args)?, PATIENCE)?;
    restricted.restore()?;

    let report = &outcome.summary;
    let (dropped, rx_dropped) = (after.0 - before.0, after.1 - before.1);
    ensure!(rx_dropped > 0, "the backlog refused nothing");
    let drops: Vec<_> = outcome.drops_for(REASON).collect();
    let all: u64 = drops.iter().map(|drop| drop.packets).sum();
    let ours = drops
        .iter()
        .filter(|drop| drop.device.as_deref() == Some(Pair::RECEIVER_DEVICE));
    let on_device: u64 = ours.clone().map(|drop| drop.packets).sum();
    note(format_args!(
        "softnet dropped {dropped}, rx_dropped {rx_dropped}, traced {all} and {on_device}; {:?}; {}",
        drops.iter().map(|drop| &drop.site).collect::<Vec<_>>(),
        report.answer
    ));
    ensure!(
        all <= dropped && on_device <= rx_dropped,
        "softnet dropped {dropped}, rx_dropped {rx_dropped}, traced {all} and {on_device}: {drops:#?}"
    );
    let missed = outcome.missed_at("kfree_skb");
    fewer("softnet dropped", all + missed, dropped)?;
    fewer("rx_dropped", on_device + missed, rx_dropped)?;
    for drop in ours {
        let address = drop.site.strip_prefix("0x");
        ensure!(
            address.is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok())
                && drop.offset.is_none(),
            "no address: {drop:?}"
        );
        ensure!(drop.stage == Stage::Backlog, "stage: {drop:?}");
        ensure!(!drop.benign, "a full backlog is not benign: {drop:?}");
    }
    reconciled(report, missed)?;
    said_once(report)?;
    for window in &outcome.windows {
        said_once(window)?;
    }
    let words = report
        .notes
        .iter()
        .find(|note| note.contains("kptr_restrict"))
        .and_then(|note| note.split_once(" ("))
        .map(|(words, _)| words)
        .context("a note")?;
    let times = (text + &stderr).matches(words).count();
    ensure!(times == 1, "{words:?} stands {times} times in the text");
    Ok(())
}

/// softnet `dropped` of all CPUs, and the receiver's `rx_dropped`.
fn refused(receiver: &Steered) -> Result<(u64, u64)> {
    let netns = &receiver.pair.receiver;
    let dropped = kernel::softnet()?
        .values()
        .map(|row| u64::from(row.dropped))
        .sum();
    let device = device_statistic(netns, Pair::RECEIVER_DEVICE, "rx_dropped")?;
    Ok((dropped, device))
}

fn reconciled(report: &Report, missed: u64) -> Result<()> {
    let device = format!("{} rx_dropped", Pair::RECEIVER_DEVICE);
    for counter in ["softnet_stat dropped total", &device] {
        let rows = &report.reconciliation;
        let row = rows.iter().find(|row| row.counter == counter);
        let off = row.and_then(|row| row.residual);
        ensure!(
            off.is_some_and(|off| off.unsigned_abs() <= missed),
            "{counter}: {rows:#?}"
        );
    }
    Ok(())
}

fn said_once(report: &Report) -> Result<()> {
    let said = report
        .notes
        .iter()
        .filter(|note| note.contains("kptr_restrict"));
    ensure!(said.count() == 1, "notes: {:#?}", report.notes);
    Ok(())
}
