//! Provokes a full backlog: RPS steers a UDP flood from CPU 0 to CPU 1, whose backlog holds four packets.
//!
//! Asserts that the drops traced at `enqueue_to_backlog` equal the change of softnet `dropped` exactly, in total
//! and, where the target CPU is known, per CPU; that those of the receiving device equal its change of
//! `rx_dropped`; and that the report begins with them.
//!
//! `netdev_max_backlog` is one setting for the whole host: while it is small, a packet on any other device may be
//! refused, too. It counts in softnet `dropped`, but not in the receiver's `rx_dropped`. (With a closed port the
//! receiver's ICMP answers are such packets: the target CPU sends them while its backlog is full, and they count on
//! the sender's device.) So the two sums are compared separately, and nothing has to be quiet.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tracer::model::report::Stage;

use super::{Need, Scenario, flood_of, note};
use crate::{
    backlog::{MAX_BACKLOG, STEERING_CPU, Steered, TARGET_CPU},
    findings, kernel,
    netns::Pair,
    setting,
    tracer::{Outcome, Tracer},
    wait::quiet,
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "drops_at_a_full_backlog_equal_softnet_dropped_and_rx_dropped",
    needs: &[Need::Root, Need::Cpus(2), Need::Program("ip")],
    run: a_full_backlog,
}];

const PACKETS: u64 = 200_000;

fn a_full_backlog() -> Result<()> {
    let receiver = Steered::new()?;
    let ordinary = setting::read(MAX_BACKLOG)?;
    let tracer = Tracer::start(Some(&receiver.pair.receiver), &[])?;
    quiet();
    // Both readings are taken while the backlog has its ordinary size and refuses nothing.
    let before = Witness::read(&receiver.pair)?;
    let packets = flood_of(PACKETS);
    let sent = receiver.overflow(packets)?;
    quiet();
    let kernel = Witness::read(&receiver.pair)?.since(&before)?;
    let outcome = tracer.stop()?;
    let now = setting::read(MAX_BACKLOG)?;
    ensure!(now == ordinary, "{MAX_BACKLOG} is {now}, was {ordinary}");

    let refused = kernel.rx_dropped;
    ensure!(
        sent > packets / 2,
        "only {sent} datagrams of {packets} left the sender"
    );
    ensure!(
        refused > 0 && refused <= sent,
        "of {sent} datagrams the backlog refused {refused}"
    );
    note(format_args!(
        "sent {sent}, {kernel:?}; {}",
        outcome.summary.answer
    ));
    traced(&outcome, &kernel)?;
    reconciled(&outcome)?;
    let found = findings::has(&outcome.summary, "backlog-overflow")?;
    findings::says(
        found,
        &[&format!(
            "steered there by RPS of {}",
            Pair::RECEIVER_DEVICE
        )],
    )?;
    ensure!(
        outcome.summary.answer.contains("enqueue_to_backlog"),
        "the answer is {:?}",
        outcome.summary.answer
    );
    Ok(())
}

/// The kernel's counters of refused packets.
#[derive(Debug)]
struct Witness {
    /// softnet `dropped` by CPU id; CPUs with 0 are left out.
    dropped: BTreeMap<u32, u64>,
    /// softnet `flow_limit_count` of all CPUs.
    flow_limit: u64,
    /// The receiver's `rx_dropped`.
    rx_dropped: u64,
}

impl Witness {
    fn read(pair: &Pair) -> Result<Self> {
        let softnet = kernel::softnet()?;
        let dropped = softnet
            .iter()
            .map(|(cpu, row)| (*cpu, u64::from(row.dropped)));
        Ok(Self {
            dropped: dropped.collect(),
            flow_limit: softnet.values().map(|row| u64::from(row.flow_limit)).sum(),
            rx_dropped: kernel::device_statistic(
                &pair.receiver,
                Pair::RECEIVER_DEVICE,
                "rx_dropped",
            )?,
        })
    }

    fn since(self, before: &Self) -> Result<Self> {
        ensure!(
            self.flow_limit == before.flow_limit,
            "the flow limit refused packets, too: see net.core.flow_limit_cpu_bitmap"
        );
        let mut dropped = kernel::gained(&before.dropped, &self.dropped);
        dropped.retain(|_, count| *count > 0);
        let rx_dropped = self.rx_dropped - before.rx_dropped;
        let of_target = dropped.get(&TARGET_CPU).copied().unwrap_or(0);
        ensure!(
            of_target >= rx_dropped,
            "CPU {TARGET_CPU} refused {of_target} packets, the device lost {rx_dropped}"
        );
        Ok(Self {
            dropped,
            flow_limit: 0,
            rx_dropped,
        })
    }
}

/// Compares the traced drops at `enqueue_to_backlog` with the kernel's counters.
fn traced(outcome: &Outcome, kernel: &Witness) -> Result<()> {
    let drops = outcome.summary.drops.iter();
    let sites: Vec<_> = drops
        .filter(|drop| drop.site == "enqueue_to_backlog")
        .collect();
    let missed = outcome.missed_at("kfree_skb");
    // Never more than the kernel counted, and less only by what the kernel says was missed.
    let agrees = |traced, counted| traced <= counted && traced + missed >= counted;

    let all: u64 = sites.iter().map(|drop| drop.packets).sum();
    ensure!(
        agrees(all, kernel.dropped.values().sum()),
        "softnet dropped {:?}, traced {all} (missed {missed}): {sites:#?}",
        kernel.dropped
    );

    let device = Pair::RECEIVER_DEVICE;
    let ours: Vec<_> = sites
        .iter()
        .filter(|drop| drop.device.as_deref() == Some(device) && drop.netns.is_none())
        .collect();
    let on_device: u64 = ours.iter().map(|drop| drop.packets).sum();
    ensure!(
        agrees(on_device, kernel.rx_dropped),
        "{device} rx_dropped {}, traced {on_device} (missed {missed}): {sites:#?}",
        kernel.rx_dropped
    );
    let reason = kernel::drop_reason("CPU_BACKLOG")?;
    for drop in ours {
        ensure!(drop.reason.as_deref() == reason, "reason: {drop:?}");
        ensure!(drop.stage == Stage::Backlog, "stage: {drop:?}");
        ensure!(!drop.benign, "a full backlog is not benign: {drop:?}");
        ensure!(drop.protocol == "ipv4", "protocol: {drop:?}");
        ensure!(
            drop.per_cpu == BTreeMap::from([(u32::try_from(STEERING_CPU)?, drop.packets)]),
            "not all executed on the steering CPU: {drop:?}"
        );
    }

    if sites.iter().any(|drop| drop.per_target_cpu.is_none()) {
        note("the target CPU is not known here: compared in total only");
        return Ok(());
    }
    let mut by_target = BTreeMap::new();
    for (cpu, packets) in sites
        .iter()
        .filter_map(|drop| drop.per_target_cpu.as_ref())
        .flatten()
    {
        *by_target.entry(*cpu).or_insert(0) += packets;
    }
    ensure!(
        by_target == kernel.dropped || missed > 0,
        "by target CPU {by_target:?}, softnet {:?}",
        kernel.dropped
    );
    Ok(())
}

/// tracer's own reconciliation has to come to the same result.
fn reconciled(outcome: &Outcome) -> Result<()> {
    let missed = outcome.missed_at("kfree_skb");
    let rows = &outcome.summary.reconciliation;
    let device = format!("{} rx_dropped", Pair::RECEIVER_DEVICE);
    for counter in ["softnet_stat dropped", &device] {
        let mut rows_of = rows.iter().filter(|row| row.counter.starts_with(counter));
        ensure!(
            rows_of.clone().any(|row| row.traced.is_some()),
            "no {counter}: {rows:#?}"
        );
        let off = rows_of.find(|row| row.residual.is_some_and(|off| off.unsigned_abs() > missed));
        ensure!(off.is_none(), "residual: {off:?}");
    }
    Ok(())
}
