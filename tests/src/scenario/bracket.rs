//! The kernel's counters, read inside and around the window of one or more tracers.

use std::{collections::BTreeMap, fmt::Debug};

use anyhow::{Result, ensure};
use tracer::model::report::Report;

use crate::{kernel::gained, netns::Netns, tracer::Tracer, wait::quiet};

/// Changes of the same counters inside and around tracer's window, and what each tracer counted.
pub(super) struct Bracket<K> {
    pub(super) inner: BTreeMap<K, u64>,
    pub(super) outer: BTreeMap<K, u64>,
    pub(super) reports: Vec<Report>,
}

impl<K: Ord + Copy + Debug> Bracket<K> {
    /// Runs `traffic` beside so many `tracers`.
    pub(super) fn around(
        read: impl Fn() -> Result<BTreeMap<K, u64>>,
        netns: Option<&Netns>,
        tracers: usize,
        traffic: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let before = read()?;
        let running = (0..tracers)
            .map(|_| Tracer::start(netns, &[]))
            .collect::<Result<Vec<_>>>()?;
        quiet();
        let inner_before = read()?;
        traffic()?;
        let inner_after = read()?;
        quiet();
        let mut reports = Vec::new();
        for tracer in running {
            let outcome = tracer.stop()?;
            let missed = outcome.missed();
            ensure!(
                missed == 0,
                "tracer missed {missed} program runs: hooks {:#?}",
                outcome.summary.hooks
            );
            reports.push(outcome.summary);
        }
        let after = read()?;
        Ok(Self {
            inner: gained(&inner_before, &inner_after),
            outer: gained(&before, &after),
            reports,
        })
    }

    /// Fails if a count is outside its bracket.
    pub(super) fn check(&self, traced: &BTreeMap<K, u64>) -> Result<()> {
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
    pub(super) fn undisturbed(&self, ours: impl Fn(&K) -> bool) -> Option<u64> {
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
