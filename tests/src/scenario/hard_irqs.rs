//! Provokes disk interrupts (uncached reads of a file) and `NET_RX` runs (a UDP burst over `lo` of a namespace).
//!
//! Asserts that tracer's counts per IRQ and CPU, and of `NET_RX` runs per CPU, equal the change of /proc/interrupts
//! and /proc/softirqs. Two pairs of readings bracket them: one inside tracer's window, which no exact count may be
//! below, one outside tracer's life, which none may be above. Where both pairs show the same change, nothing else
//! happened and the traced count has to be that number; the traffic is repeated until this is so for it.

use std::{collections::BTreeMap, net::UdpSocket};

use anyhow::{Result, ensure};
use nix::unistd::sync;
use tracer::model::report::Report;

use super::{Need, Scenario, Skip, note};
use crate::{
    disk::Blocks,
    flood::Flood,
    kernel::{self, gained},
    netns::Netns,
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hard_irqs_per_irq_and_cpu_equal_proc_interrupts",
        needs: &[Need::Root],
        run: disk_interrupts,
    },
    Scenario {
        name: "net_rx_runs_per_cpu_equal_proc_softirqs",
        needs: &[Need::Root, Need::Program("ip")],
        run: net_rx_runs,
    },
];

const ATTEMPTS: usize = 5;
const PACKETS: u64 = 800;
const PORT: u16 = 7003;

/// Changes of the same counters inside and around tracer's window, and what tracer counted.
struct Bracket<K> {
    inner: BTreeMap<K, u64>,
    outer: BTreeMap<K, u64>,
    report: Report,
}

fn bracket<K: Ord + Copy>(
    read: impl Fn() -> Result<BTreeMap<K, u64>>,
    netns: Option<&Netns>,
    traffic: impl FnOnce() -> Result<()>,
) -> Result<Bracket<K>> {
    let before = read()?;
    let tracer = Tracer::start(netns, &[])?;
    quiet();
    let inner_before = read()?;
    traffic()?;
    let inner_after = read()?;
    quiet();
    let outcome = tracer.stop()?;
    let after = read()?;
    let missed = outcome.missed();
    ensure!(
        missed == 0,
        "tracer missed {missed} program runs: hooks {:#?}",
        outcome.summary.hooks
    );
    Ok(Bracket {
        inner: gained(&inner_before, &inner_after),
        outer: gained(&before, &after),
        report: outcome.summary,
    })
}

impl<K: Ord + Copy + std::fmt::Debug> Bracket<K> {
    /// Fails if a count is outside its bracket.
    fn check(&self, traced: &BTreeMap<K, u64>) -> Result<()> {
        for (key, outer) in &self.outer {
            let inner = self.inner.get(key).copied().unwrap_or(0);
            let count = traced.get(key).copied().unwrap_or(0);
            ensure!(
                (inner..=*outer).contains(&count),
                "{key:?}: the kernel counted {inner} to {outer}, tracer {count}"
            );
        }
        ensure!(
            traced.keys().all(|key| self.outer.contains_key(key)),
            "tracer counted what the kernel has no row for: {traced:?}"
        );
        Ok(())
    }

    /// The kernel's count, if nothing but our traffic moved the counters that satisfy `ours`.
    fn undisturbed(&self, ours: impl Fn(&K) -> bool) -> Option<u64> {
        let sum = |counts: &BTreeMap<K, u64>| {
            counts
                .iter()
                .filter(|(key, _)| ours(key))
                .map(|(_, count)| *count)
                .collect::<Vec<_>>()
        };
        let (inner, outer) = (sum(&self.inner), sum(&self.outer));
        (inner == outer).then(|| inner.iter().sum())
    }
}

/// tracer's own reconciliation has such rows, none with a residual. Only for a run that nothing else disturbed: an
/// event between its two readings is no error of tracer's.
fn reconciled(report: &Report, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let rows = &report.reconciliation;
    let mut rows_of = rows.iter().filter(|row| wanted(&row.counter));
    ensure!(
        rows_of.clone().next().is_some(),
        "no such row in the reconciliation: {rows:#?}"
    );
    let off = rows_of.find(|row| row.residual != Some(0));
    ensure!(off.is_none(), "residual: {off:?}");
    Ok(())
}

fn disk_interrupts() -> Result<()> {
    let blocks = Blocks::new()?;
    let Some(irq) = blocks.irq()? else {
        let directory = std::env::temp_dir();
        let reason = format!("{} is on no disk with interrupts", directory.display());
        return Err(Skip(reason).into());
    };
    for attempt in 1..=ATTEMPTS {
        sync();
        let seen = bracket(kernel::interrupts, None, || blocks.read())?;
        let mut traced = BTreeMap::new();
        for row in &seen.report.irqs {
            ensure!(
                row.per_cpu.values().sum::<u64>() == row.count,
                "per_cpu does not add up: {row:?}"
            );
            traced.extend(
                row.per_cpu
                    .iter()
                    .map(|(cpu, count)| ((row.irq, *cpu), *count)),
            );
        }
        seen.check(&traced)?;
        let ours = |key: &(u32, u32)| key.0 == irq;
        let flowed: u64 = seen
            .inner
            .iter()
            .filter(|(key, _)| ours(key))
            .map(|(_, count)| count)
            .sum();
        ensure!(
            flowed >= Blocks::INTERRUPTS,
            "{} reads made only {flowed} interrupts {irq}",
            Blocks::COUNT
        );
        if let Some(count) = seen.undisturbed(ours) {
            let row = format!("interrupts {irq}");
            reconciled(&seen.report, |counter| counter == row)?;
            note(format_args!(
                "IRQ {irq}: {count} interrupts for {} reads, all traced, per CPU (attempt {attempt})",
                Blocks::COUNT
            ));
            return Ok(());
        }
        note(format_args!(
            "attempt {attempt}: something else used IRQ {irq}; the count was inside its bracket"
        ));
    }
    note(format_args!(
        "never undisturbed: IRQ {irq} was inside its bracket in {ATTEMPTS} attempts"
    ));
    Ok(())
}

fn net_rx_runs() -> Result<()> {
    let netns = Netns::new("lo")?;
    let address = std::net::Ipv4Addr::LOCALHOST;
    let socket = netns.run(|| UdpSocket::bind((address, PORT)))??;
    socket.set_nonblocking(true)?;
    for attempt in 1..=ATTEMPTS {
        let seen = bracket(
            || kernel::softirqs("NET_RX"),
            Some(&netns),
            || {
                let sent = Flood::new(address, PORT, PACKETS).run(&netns)?;
                ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
                Ok(())
            },
        )?;
        while socket.recv(&mut [0; 64]).is_ok() {}
        let cpus = &seen.report.cpus;
        let traced = cpus
            .iter()
            .filter_map(|cpu| Some((cpu.cpu, cpu.net_rx_runs?)))
            .collect();
        seen.check(&traced)?;
        let softirqs = cpus
            .iter()
            .filter_map(|cpu| Some((cpu.cpu, cpu.softirqs.get("NET_RX")?.runs)))
            .collect();
        seen.check(&softirqs)?;
        let packets: u64 = cpus.iter().filter_map(|cpu| cpu.packets).sum();
        ensure!(
            packets >= PACKETS,
            "{PACKETS} datagrams over lo, {packets} packets polled"
        );
        if let Some(count) = seen.undisturbed(|_| true) {
            reconciled(&seen.report, |counter| {
                counter.starts_with("softirqs NET_RX cpu")
            })?;
            note(format_args!(
                "NET_RX: {count} runs, {packets} packets, all traced, per CPU (attempt {attempt})"
            ));
            return Ok(());
        }
        note(format_args!(
            "attempt {attempt}: other packets arrived; the counts were inside their bracket"
        ));
    }
    note(format_args!(
        "never undisturbed: NET_RX was inside its bracket in {ATTEMPTS} attempts"
    ));
    Ok(())
}
