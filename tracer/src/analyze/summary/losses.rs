//! What was not seen, and what share of the events the details cover.

use std::collections::BTreeMap;

use tracer_common::{counter::CpuCounters, event::Kind};

use super::{Facts, Hooks};
use crate::model::{
    report::{DetailCoverage, Losses},
    window::Window,
};

pub(super) fn details(window: &Window, facts: &Facts) -> Vec<DetailCoverage> {
    let sum = |of: &dyn Fn(&CpuCounters) -> u64| window.cpus.values().map(|c| of(c)).sum::<u64>();
    let drops: u64 = window
        .drops
        .values()
        .flat_map(BTreeMap::values)
        .map(|d| d.packets)
        .sum();
    facts
        .kinds
        .iter()
        .map(|kind| {
            let seen = match kind {
                Kind::Irq => sum(&|c| c.hardirq_hist.iter().sum()),
                Kind::NetRx => sum(&|c| c.net_rx_runs),
                Kind::Drop => drops + sum(&|c| c.drop_table_full),
            };
            let sent = sum(&|c| c.details[*kind as usize].sent);
            let ring_full = sum(&|c| c.details[*kind as usize].ring_full);
            DetailCoverage {
                kind: kind.name().to_owned(),
                seen,
                sent,
                ring_full,
                // The programs count what they send and lose; the rest they were told to leave out.
                limited: seen.saturating_sub(sent + ring_full),
            }
        })
        .collect()
}

pub(super) fn losses(window: &Window, facts: &Facts) -> Losses {
    let sum = |of: &dyn Fn(&CpuCounters) -> u64| window.cpus.values().map(|c| of(c)).sum::<u64>();
    let details = details(window, facts);
    let irq_table_full = sum(&|c| c.irq_table_full);
    let napi_table_full = sum(&|c| c.napi_table_full);
    let drop_table_full = sum(&|c| c.drop_table_full);
    Losses {
        ring_full: details.iter().map(|d| d.ring_full).sum(),
        map_full: irq_table_full + napi_table_full + drop_table_full,
        irq_table_full,
        napi_table_full,
        drop_table_full,
        recursion_missed: Hooks::missed(window, &[]),
        unreadable: sum(&|c| c.unreadable),
        net_rx_nested: sum(&|c| c.net_rx_nested),
        detail_limited: details.iter().map(|d| d.limited).sum(),
        undecodable: window.undecodable,
    }
}
