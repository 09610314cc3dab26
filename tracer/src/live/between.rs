//! How much was counted between the reads of both sides.

use std::collections::BTreeMap;

use tracer_common::counter::NET_RX;

use crate::{
    model::snapshot::{Between, Runs, Traced},
    proc::softnet::SoftnetRow,
};

/// `early` and `late` were read around the kernel's tables, `traced` between them.
pub(super) fn between(
    early: &BTreeMap<u32, Runs>,
    traced: &Traced,
    late: &BTreeMap<u32, Runs>,
    softnet: &BTreeMap<u32, SoftnetRow>,
    softnet_after: &BTreeMap<u32, SoftnetRow>,
) -> Between {
    let net_rx = traced.cpus.iter().filter_map(|(cpu, now)| {
        let early = early.get(cpu)?;
        let entries = now.softirqs[NET_RX as usize]
            .runs
            .wrapping_sub(early.net_rx_entries);
        let runs = now.net_rx_runs.wrapping_sub(early.net_rx_runs);
        Some((*cpu, entries.max(runs)))
    });
    let refused = softnet_after.iter().filter_map(|(cpu, after)| {
        let refused = after.dropped.wrapping_sub(softnet.get(cpu)?.dropped);
        Some((*cpu, u64::from(refused)))
    });
    let hardirqs = late
        .iter()
        .filter_map(|(cpu, late)| Some(late.hardirqs.wrapping_sub(traced.cpus.get(cpu)?.hardirqs)));
    Between {
        net_rx: net_rx.filter(|(_, n)| *n != 0).collect(),
        softnet_dropped: refused.filter(|(_, n)| *n != 0).collect(),
        hardirqs: hardirqs.sum(),
        new_hardirqs: 0,
    }
}
