//! Drops by site, reason, device and protocol, and their totals.

use std::collections::BTreeMap;

use tracer_common::counter::NO_CPU;

use super::{Facts, Hooks};
use crate::{
    analyze::{
        benign::is_benign,
        names::{Site, protocol},
    },
    model::{
        report::{Drop, DropTotals},
        window::Window,
    },
};

/// Drops of a window that are shown, and the number of those that are not.
pub(super) struct Drops {
    pub(super) shown: Vec<Drop>,
    other_devices: u64,
    bytes: u64,
}

pub(super) fn drops(window: &Window, facts: &Facts) -> Drops {
    type Key = (Site, Option<String>, Option<String>, u32);
    let mut shown: BTreeMap<Key, Drop> = BTreeMap::new();
    let mut other_devices = 0;
    let mut bytes = 0;
    for (key, by_cpu) in &window.drops {
        let packets: u64 = by_cpu.values().map(|d| d.packets).sum();
        bytes += by_cpu.values().map(|d| d.bytes).sum::<u64>();
        if !facts.shows(key.netns, key.ifindex) {
            other_devices += packets;
            continue;
        }
        let site = facts.names.site(key);
        let device = facts.names.device(key.netns, key.ifindex);
        let netns = facts.names.netns(key.netns);
        let target = (site.function == "enqueue_to_backlog" && key.target_cpu != NO_CPU)
            .then_some(key.target_cpu);
        let row = shown
            .entry((site.clone(), device.clone(), netns.clone(), key.protocol))
            .or_insert_with(|| Drop {
                benign: is_benign(&site.function, site.reason.as_deref(), site.stage).is_some(),
                site: site.site,
                offset: site.offset,
                reason: site.reason,
                stage: site.stage,
                device,
                netns,
                protocol: protocol(key.protocol),
                ..Drop::default()
            });
        for (cpu, d) in by_cpu {
            row.packets += d.packets;
            row.bytes += d.bytes;
            *row.per_cpu.entry(*cpu).or_default() += d.packets;
        }
        if let Some(target) = target {
            *row.per_target_cpu
                .get_or_insert_default()
                .entry(target)
                .or_default() += packets;
        }
    }
    let mut shown: Vec<_> = shown.into_values().collect();
    shown.sort_by_key(|d| (d.benign, std::cmp::Reverse(d.packets)));
    Drops {
        shown,
        other_devices,
        bytes,
    }
}

pub(super) fn drop_totals(window: &Window, drops: &Drops, hooks: &Hooks) -> DropTotals {
    if !hooks.drop {
        return DropTotals::default();
    }
    let sum = |benign: bool| -> u64 {
        let of = drops.shown.iter().filter(|d| d.benign == benign);
        of.map(|d| d.packets).sum()
    };
    let unattributed = window.cpus.values().map(|c| c.drop_table_full).sum();
    DropTotals {
        packets: Some(sum(true) + sum(false) + drops.other_devices + unattributed),
        // Bytes are kept in the table only.
        bytes: (unattributed == 0).then_some(drops.bytes),
        harmful: Some(sum(false)),
        benign: Some(sum(true)),
        other_devices: Some(drops.other_devices),
        unattributed: Some(unattributed),
    }
}
