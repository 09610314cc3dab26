//! By interrupt: those of devices, traced, and those of the CPUs themselves, the kernel's count.

use super::Facts;
use crate::{
    analyze::details::Kept,
    model::{
        report::{ArchIrq, HandlerTime, Irq, PerCpu},
        window::Window,
    },
};

pub(super) fn irqs(window: &Window, facts: &Facts, kept: Option<&Kept>) -> Vec<Irq> {
    let mut irqs: Vec<_> = window
        .irqs
        .iter()
        .map(|(&number, by_cpu)| {
            let topology = facts.irqs.get(&number);
            let row = window.interrupts.get(&number);
            let name = row.map(|row| row.name.clone()).filter(|n| !n.is_empty());
            let per_cpu: PerCpu = by_cpu.iter().map(|(cpu, c)| (*cpu, c.count)).collect();
            let count = per_cpu.values().sum();
            let ns: u64 = by_cpu.values().map(|c| c.ns).sum();
            let max = by_cpu.values().map(|c| c.max_ns).max().filter(|&ns| ns > 0);
            let most = max.unwrap_or(u64::MAX);
            let details = kept.and_then(|c| c.handler_percentiles(number, count));
            Irq {
                irq: number,
                name: name
                    .or_else(|| topology.map(|t| t.name.clone()))
                    .unwrap_or_default(),
                device: topology.and_then(|t| t.device.clone()),
                queue: topology.and_then(|t| t.queue),
                node: topology.and_then(|t| t.node),
                affinity: topology.and_then(|t| t.affinity.clone()),
                effective_affinity: topology.and_then(|t| t.effective_affinity.clone()),
                count,
                per_cpu,
                handler_ns: ns.checked_div(count).map(|mean| HandlerTime {
                    mean,
                    p50: details.map(|(p50, _)| p50.min(most)),
                    p99: details.map(|(_, p99)| p99.min(most)),
                    max,
                }),
            }
        })
        .filter(|irq| facts.shows_name(irq.device.as_deref()))
        .collect();
    irqs.sort_by_key(|irq| (std::cmp::Reverse(irq.count), irq.irq));
    irqs
}

pub(super) fn arch_irqs(window: &Window) -> Vec<ArchIrq> {
    window
        .arch
        .iter()
        .filter(|(_, counted)| counted.total() != 0)
        .map(|(name, counted)| ArchIrq {
            name: name.clone(),
            description: counted.name.clone(),
            count: counted.total(),
            per_cpu: counted.per_cpu.clone(),
        })
        .collect()
}
