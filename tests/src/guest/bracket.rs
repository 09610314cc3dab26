//! The kernel's counters of interrupts and `NET_RX` runs, read inside and around tracer's window.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use crate::{
    kernel::{self, gained},
    netns::Netns,
    tracer::{Outcome, Tracer},
    wait::quiet,
};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counter {
    /// Hard IRQs of this number; /proc/interrupts.
    Irq(u32),
    /// `NET_RX` runs; /proc/softirqs.
    NetRx,
}

/// By counter and CPU id.
pub(super) type Counts = BTreeMap<(Counter, u32), u64>;

/// Changes of the kernel's counters, and what tracer said.
///
/// No traced count may be below `inner`, which was read while tracer was attached, nor above `outer`, which was read
/// before it started and after it ended. Where the two agree, the traced count has to be that number.
#[derive(Debug)]
pub(super) struct Bracket {
    inner: Counts,
    outer: Counts,
    /// What tracer reported.
    pub(super) outcome: Outcome,
}

impl Bracket {
    /// Runs `traffic` beside a tracer with these arguments.
    pub(super) fn around(
        netns: &Netns,
        args: &[&str],
        traffic: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let before = read()?;
        let tracer = Tracer::start(Some(netns), args)?;
        quiet();
        let inner_before = read()?;
        traffic()?;
        let inner_after = read()?;
        quiet();
        let outcome = tracer.stop()?;
        let after = read()?;
        Ok(Self {
            inner: gained(&inner_before, &inner_after),
            outer: gained(&before, &after),
            outcome,
        })
    }

    /// What happened for certain while tracer was attached.
    pub(super) fn inner(&self, counter: Counter) -> u64 {
        let ours = self.inner.iter().filter(|(key, _)| key.0 == counter);
        ours.map(|(_, count)| count).sum()
    }

    /// Compares what tracer counted, and returns the counters that nothing but the traffic moved: those are exact.
    pub(super) fn check(&self) -> Result<BTreeSet<Counter>> {
        let missed = self.outcome.missed();
        let traced = self.traced();
        for (key, outer) in &self.outer {
            let inner = self.inner.get(key).copied().unwrap_or(0);
            let count = traced.get(key).copied().unwrap_or(0);
            ensure!(
                count + missed >= inner && count <= *outer,
                "{key:?}: the kernel counted {inner} to {outer}, tracer {count} (missed {missed})"
            );
        }
        let unknown = traced.iter().find(|(key, _)| !self.outer.contains_key(key));
        ensure!(
            unknown.is_none(),
            "tracer counted what the kernel has no row for: {unknown:?}"
        );
        let disturbed: BTreeSet<_> = self
            .outer
            .iter()
            .filter(|(key, outer)| self.inner.get(key) != Some(outer))
            .map(|(key, _)| key.0)
            .collect();
        let moved = self.inner.iter().filter(|(_, count)| **count > 0);
        Ok(moved
            .map(|(key, _)| key.0)
            .filter(|counter| !disturbed.contains(counter))
            .collect())
    }

    fn traced(&self) -> Counts {
        let report = &self.outcome.summary;
        let mut counts = Counts::new();
        for irq in &report.irqs {
            for (cpu, count) in &irq.per_cpu {
                counts.insert((Counter::Irq(irq.irq), *cpu), *count);
            }
        }
        for cpu in &report.cpus {
            if let Some(runs) = cpu.net_rx_runs {
                counts.insert((Counter::NetRx, cpu.cpu), runs);
            }
        }
        counts.retain(|_, count| *count > 0);
        counts
    }
}

fn read() -> Result<Counts> {
    let mut counts = Counts::new();
    for ((irq, cpu), count) in kernel::interrupts()? {
        counts.insert((Counter::Irq(irq), cpu), count);
    }
    for (cpu, count) in kernel::softirqs("NET_RX")? {
        counts.insert((Counter::NetRx, cpu), count);
    }
    Ok(counts)
}
