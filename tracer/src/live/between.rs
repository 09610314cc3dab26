//! How much was counted between the reads of both sides.

use std::collections::BTreeMap;

use tracer_common::counter::NET_RX;

use crate::{
    model::snapshot::{Between, Runs, Traced},
    proc::{snmp::Protocols, softnet::SoftnetRow},
};

type Softnet = BTreeMap<u32, SoftnetRow>;

/// Reads around the programs' counters, in the order they were made.
pub(super) struct Reads<'a> {
    pub early: &'a BTreeMap<u32, Runs>,
    pub early_protocols: &'a Protocols,
    /// The table of the snapshot.
    pub softnet: &'a Softnet,
    pub traced: &'a Traced,
    /// Behind the table of interrupts.
    pub late: &'a BTreeMap<u32, Runs>,
    pub late_softnet: &'a Softnet,
    /// Behind the table of devices.
    pub last_softnet: &'a Softnet,
    /// The tables of the snapshot.
    pub protocols: &'a Protocols,
}

impl Reads<'_> {
    pub(super) fn between(&self) -> Between {
        let net_rx = self.traced.cpus.iter().filter_map(|(cpu, now)| {
            let early = self.early.get(cpu)?;
            let entries = now.softirqs[NET_RX as usize]
                .runs
                .wrapping_sub(early.net_rx_entries);
            let runs = now.net_rx_runs.wrapping_sub(early.net_rx_runs);
            Some((*cpu, entries.max(runs)))
        });
        let refused = |after| gained(self.softnet, after, |row| row.dropped);
        let processed = |after| gained(self.softnet, after, |row| row.processed);
        let total = |by_cpu: BTreeMap<u32, u64>| by_cpu.values().sum::<u64>();
        let hardirqs = self.late.iter().filter_map(|(cpu, late)| {
            Some(
                late.hardirqs
                    .wrapping_sub(self.traced.cpus.get(cpu)?.hardirqs),
            )
        });
        let moved = self.protocols.iter().filter_map(|(name, now)| {
            let early = self.early_protocols.get(name).copied().unwrap_or(0);
            Some((name.clone(), now.wrapping_sub(early))).filter(|(_, n)| *n != 0)
        });
        Between {
            net_rx: net_rx.filter(|(_, n)| *n != 0).collect(),
            softnet_dropped: refused(self.late_softnet),
            hardirqs: hardirqs.sum(),
            new_hardirqs: 0,
            processed: total(processed(self.late_softnet)),
            squeezed: total(gained(self.softnet, self.late_softnet, |row| {
                row.time_squeeze
            })),
            packets: total(processed(self.last_softnet)) + total(refused(self.last_softnet)),
            protocols: moved.collect(),
        }
    }
}

/// What a column gained on each CPU that is in both tables. The kernel's counters are u32 and wrap.
fn gained(before: &Softnet, after: &Softnet, column: fn(&SoftnetRow) -> u32) -> BTreeMap<u32, u64> {
    let rows = after.iter().filter_map(|(cpu, after)| {
        let gained = column(after).wrapping_sub(column(before.get(cpu)?));
        Some((*cpu, u64::from(gained)))
    });
    rows.filter(|(_, n)| *n != 0).collect()
}
