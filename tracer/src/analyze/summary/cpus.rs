//! By CPU: interrupts, softirqs, `NET_RX` runs, and the kernel's own row.

use std::collections::{BTreeMap, BTreeSet};

use tracer_common::counter::{CpuCounters, SOFTIRQ_NAMES};

use super::{Facts, Hooks};
use crate::{
    analyze::percentiles::percentiles,
    model::{
        report::{Cpu, PerCpu, Softirq},
        window::{NewMax, Window},
    },
};

pub(super) fn cpus(window: &Window, facts: &Facts, hooks: &Hooks) -> Vec<Cpu> {
    let executed = drops_by_executing_cpu(window);
    let ids: BTreeSet<u32> = window
        .online
        .iter()
        .chain(window.cpus.keys())
        .copied()
        .collect();
    ids.into_iter()
        .filter_map(|id| {
            let online = window.online.contains(&id);
            let counters = window.cpus.get(&id)?;
            let softnet = window.softnet.get(&id).copied();
            let new_max = window.new_max.get(&id).copied().unwrap_or_default();
            let mut cpu = one_cpu(id, counters, new_max, facts, hooks);
            cpu.online = online;
            cpu.softnet = softnet;
            cpu.time = window.time.get(&id).copied();
            cpu.drops = hooks
                .drop
                .then(|| executed.get(&id).copied().unwrap_or(0) + counters.drop_table_full);
            (online || counted(counters)).then_some(cpu)
        })
        .collect()
}

fn counted(c: &CpuCounters) -> bool {
    c.hardirqs != 0 || c.softirqs.iter().any(|s| s.runs != 0) || c.net_rx_runs != 0
}

fn one_cpu(id: u32, c: &CpuCounters, new_max: NewMax, facts: &Facts, hooks: &Hooks) -> Cpu {
    let softirqs = if hooks.softirq {
        SOFTIRQ_NAMES
            .iter()
            .zip(&c.softirqs)
            .filter(|(_, s)| s.runs != 0)
            .map(|(name, s)| {
                let ns = hooks.softirq_exit.then_some(s.ns);
                ((*name).to_owned(), Softirq { runs: s.runs, ns })
            })
            .collect()
    } else {
        BTreeMap::new()
    };
    let net_rx = |value: u64| hooks.net_rx.then_some(value);
    let polled = |value: u64| (hooks.net_rx && hooks.napi).then_some(value);
    let outside = |value: u64| (hooks.net_rx && hooks.napi).then_some(value);
    let ended = |value: u64| (hooks.net_rx && hooks.napi && facts.budget_known).then_some(value);
    Cpu {
        cpu: id,
        node: facts.node_of.get(&id).copied(),
        hardirqs: hooks.hard_irq.then_some(c.hardirqs),
        hardirq_ns: hooks.hard_irq.then_some(c.hardirq_ns),
        hardirq_handler_ns: percentiles(&c.hardirq_hist, c.hardirq_max_ns, new_max.hardirq),
        softirqs,
        net_rx_runs: net_rx(c.net_rx_runs),
        net_rx_ns: net_rx(c.net_rx_ns),
        net_rx_wait_ns: percentiles(
            &c.net_rx_wait_hist,
            c.net_rx_wait_max_ns,
            new_max.net_rx_wait,
        )
        .filter(|_| hooks.raise),
        net_rx_wait_unknown: net_rx(
            c.net_rx_runs
                .saturating_sub(c.net_rx_wait_hist.iter().sum()),
        ),
        net_rx_run_ns: percentiles(&c.net_rx_run_hist, c.net_rx_run_max_ns, new_max.net_rx_run),
        ksoftirqd_runs: net_rx(c.ksoftirqd_runs),
        packets: polled(c.packets),
        budget_exhausted: ended(c.budget_exhausted),
        time_exhausted: ended(c.time_exhausted),
        polls_outside_net_rx: outside(c.polls_outside),
        packets_outside_net_rx: outside(c.packets_outside),
        ..Cpu::default()
    }
}

fn drops_by_executing_cpu(window: &Window) -> PerCpu {
    let mut executed = PerCpu::new();
    for (cpu, drops) in window.drops.values().flatten() {
        *executed.entry(*cpu).or_default() += drops.packets;
    }
    executed
}
