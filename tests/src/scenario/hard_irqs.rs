//! Provokes disk interrupts (uncached reads of a file) and `NET_RX` runs (a UDP burst over `lo` of a namespace).
//!
//! Asserts that tracer's counts per IRQ and CPU, and of `NET_RX` runs per CPU, equal the change of /proc/interrupts
//! and /proc/softirqs. Two pairs of readings bracket them: one inside tracer's window, which no exact count may be
//! below, one outside tracer's life, which none may be above. Where both pairs show the same change, nothing else
//! happened and the traced count has to be that number; the traffic is repeated until this is so for it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    net::UdpSocket,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use nix::{fcntl::OFlag, unistd::sync};
use tracer::model::report::Report;

use super::{Need, Scenario, Skip, note};
use crate::{
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
const READS: usize = 400;
const BLOCK: usize = 4096;
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
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("blocks");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0x77; READS * BLOCK])?;
    file.sync_all()?;
    drop(file);
    let irq = disk_irq(&path)?;
    for attempt in 1..=ATTEMPTS {
        sync();
        let seen = bracket(kernel::interrupts, None, || read_uncached(&path))?;
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
            flowed >= READS as u64 / 4,
            "{READS} reads made only {flowed} interrupts {irq}"
        );
        if let Some(count) = seen.undisturbed(ours) {
            let row = format!("interrupts {irq}");
            reconciled(&seen.report, |counter| counter == row)?;
            note(format_args!(
                "IRQ {irq}: {count} interrupts for {READS} reads, all traced, per CPU (attempt {attempt})"
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

/// The IRQ that reading the file raises: the one with the most interrupts meanwhile.
fn disk_irq(path: &Path) -> Result<u32> {
    let before = kernel::interrupts()?;
    read_uncached(path)?;
    let mut by_irq = BTreeMap::new();
    for ((irq, _), count) in gained(&before, &kernel::interrupts()?) {
        *by_irq.entry(irq).or_insert(0) += count;
    }
    match by_irq.into_iter().max_by_key(|(_, count)| *count) {
        Some((irq, count)) if count >= READS as u64 / 4 => Ok(irq),
        _ => Err(Skip(format!(
            "reading {} raises no device interrupts",
            path.display()
        ))
        .into()),
    }
}

/// One block at a time past the page cache, so that each is a request of its own.
fn read_uncached(path: &Path) -> Result<()> {
    let mut file = match OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(path)
    {
        Ok(file) => file,
        Err(error) => {
            return Err(Skip(format!(
                "{} cannot be read uncached: {error}",
                path.display()
            ))
            .into());
        }
    };
    let mut buffer = vec![0; 2 * BLOCK];
    let start = buffer.as_ptr().align_offset(BLOCK);
    let block = buffer
        .get_mut(start..start + BLOCK)
        .context("the buffer cannot be aligned")?;
    let mut blocks = 0;
    while file.read(block).context("uncached read")? > 0 {
        blocks += 1;
    }
    ensure!(blocks == READS, "read {blocks} of {READS} blocks");
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
