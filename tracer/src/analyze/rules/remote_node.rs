//! Rule 5: interrupts of a device are handled on another NUMA node than the device is on.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    case::{Case, share},
    found::{Found, NOTHING, Verdict},
    plan::{placed, plan},
    threshold::Key,
};
use crate::{
    model::finding::Severity,
    report::number::{self, count, ranges},
};

pub(super) const ID: &str = "remote-node";

/// Less than this is not worth a word, %.
const NOTICED: u64 = 10;

#[derive(Default)]
struct Tally {
    node: u32,
    vectors: BTreeSet<u32>,
    remote: BTreeSet<u32>,
    all: u64,
    crossed: u64,
    nodes: BTreeSet<u32>,
}

pub(super) fn judge(case: Case<'_>) -> Verdict {
    let nodes: BTreeSet<u32> = case
        .host
        .cpus
        .values()
        .filter_map(|place| place.node)
        .collect();
    if nodes.is_empty() {
        return Err("the node of each CPU".to_owned());
    }
    if nodes.len() < 2 {
        return NOTHING;
    }
    // Nobody knows where a CPU without a node is: not elsewhere.
    let on = |node: u32| {
        let cpus = case.host.cpus.iter();
        cpus.filter(move |(_, place)| place.node.is_none_or(|at| at == node))
            .map(|(cpu, _)| *cpu)
            .collect()
    };
    let local: BTreeMap<u32, Vec<u32>> = nodes.iter().map(|node| (*node, on(*node))).collect();
    let counted: BTreeMap<u32, _> = case.report.irqs.iter().map(|irq| (irq.irq, irq)).collect();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for (irq, vector) in &case.host.irqs {
        let (Some(device), Some(node)) = (vector.device.as_deref(), vector.node) else {
            continue;
        };
        let tally = tallies.entry(device).or_default();
        tally.node = node;
        let Some(counted) = counted.get(irq).filter(|irq| irq.count > 0) else {
            continue;
        };
        for cpu in placed(vector) {
            match case.host.cpus.get(cpu).and_then(|place| place.node) {
                Some(other) if other != node => {
                    tally.vectors.insert(*irq);
                    tally.remote.insert(*cpu);
                    tally.nodes.insert(other);
                }
                _ => {}
            }
        }
        let all = counted.per_cpu.values().copied();
        let all = all.fold(0, u64::saturating_add);
        let near = local.get(&node).into_iter().flatten();
        let near = near.filter_map(|cpu| counted.per_cpu.get(cpu)).copied();
        let near = near.fold(0, u64::saturating_add);
        tally.all = tally.all.saturating_add(all);
        tally.crossed = tally.crossed.saturating_add(all - near);
    }
    if tallies.is_empty() {
        return Err("the node of the devices: none, or −1".to_owned());
    }
    Ok(tallies
        .iter()
        .filter(|(_, tally)| {
            !tally.vectors.is_empty()
                && tally.crossed > 0
                && share(tally.crossed, tally.all) >= NOTICED
        })
        .map(|(device, tally)| tell(case, device, tally))
        .collect())
}

fn tell(case: Case<'_>, device: &str, tally: &Tally) -> Found {
    let remote = share(tally.crossed, tally.all);
    let rate = case.rate(case.received(device).max(tally.all));
    let matters = remote >= case.limit(Key::RemoteShare) && rate >= case.limit(Key::RemoteRate);
    let severity = if matters {
        Severity::Warning
    } else {
        Severity::Info
    };
    let cpus = number::cpus(tally.remote.iter().copied());
    let there = ranges(tally.nodes.iter().copied());
    let summary = format!(
        "{remote} % of the interrupts of {device}, which is on node {}, are handled on node {there} ({cpus}): each \
         packet crosses the nodes",
        tally.node
    );
    let found = Found::new(ID, severity, summary)
        .on(tally.remote.iter().copied())
        .evidence(
            format!("node of {device}"),
            tally.node.to_string(),
            format!("/sys/class/net/{device}/device/numa_node"),
        )
        .evidence(
            format!("vectors of {device} on other nodes"),
            format!("IRQ {} on {cpus}", ranges(tally.vectors.iter().copied())),
            "/proc/irq/*/effective_affinity_list",
        )
        .evidence(
            "interrupts handled there",
            format!("{} of {}", count(tally.crossed), count(tally.all)),
            "irq_handler_exit",
        );
    // For the advice of a device that hardly does anything it is too early.
    if matters {
        found.advice(plan(case, device).and_then(|plan| plan.spread()))
    } else {
        found
    }
}
