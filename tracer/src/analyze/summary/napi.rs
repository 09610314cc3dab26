//! By NAPI instance.

use std::collections::BTreeMap;

use super::Facts;
use crate::model::{report::Napi, window::Window};

pub(super) fn napi(window: &Window, facts: &Facts) -> Vec<Napi> {
    let mut by_instance: BTreeMap<(u32, u32, u32), Napi> = BTreeMap::new();
    for (cpu, instances) in &window.napi {
        for n in instances {
            if !facts.shows(n.netns, n.ifindex) {
                continue;
            }
            let device = facts.names.device(n.netns, n.ifindex);
            let row = by_instance
                .entry((n.netns, n.ifindex, n.napi_id))
                .or_insert_with(|| Napi {
                    // A backlog is its CPU's, whichever namespaces its packets are for.
                    netns: device.as_ref().and_then(|_| facts.names.netns(n.netns)),
                    device: device.unwrap_or_else(|| "backlog".to_owned()),
                    napi_id: (n.napi_id != 0).then_some(n.napi_id),
                    ..Napi::default()
                });
            row.polls += n.polls;
            row.packets += n.packets;
            row.full_budget += n.full_budget;
            if n.packets != 0 {
                *row.per_cpu.entry(*cpu).or_default() += n.packets;
            }
        }
    }
    let mut rows: Vec<_> = by_instance.into_values().collect();
    rows.sort_by_key(|n| std::cmp::Reverse((n.packets, n.polls)));
    rows
}
