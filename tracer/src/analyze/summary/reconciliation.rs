//! Which traced counts belong beside which of the kernel's.

use std::collections::BTreeMap;

use tracer_common::counter::{NET_RX, NO_CPU, SOFTIRQ_NAMES};

use super::{Facts, Hooks, devices::devices};
use crate::{
    analyze::reconcile::{self, Evidence, skew_bound},
    model::{
        report::{PerCpu, Reconciliation},
        window::Window,
    },
};

pub(super) fn reconciliation(window: &Window, facts: &Facts, hooks: &Hooks) -> Vec<Reconciliation> {
    let evidence = |delta: u64, gap_ns: u64, hooks: &[&str], under_way| Evidence {
        gap_ns,
        skew: skew_bound(delta, gap_ns, window.duration_ns),
        missed: Hooks::missed(window, hooks),
        under_way,
    };
    let total = |counts: &PerCpu| counts.values().sum::<u64>();
    let mut rows = Vec::new();

    let dropped: PerCpu = nonzero(window.softnet.iter().map(|(cpu, s)| (*cpu, s.dropped)));
    let traced = Backlog::of(window, facts);
    rows.extend(reconcile::softnet_dropped(
        &dropped,
        (hooks.drop && hooks.backlog && traced.known).then_some(&traced.by_target),
        (hooks.drop && traced.known).then_some(traced.total),
        &evidence(
            total(&dropped),
            window.gaps.softnet,
            &["kfree_skb", "enqueue_to_backlog"],
            0,
        ),
    ));

    let refused: BTreeMap<String, u64> = devices(window, facts)
        .into_iter()
        .map(|d| (d.name, d.rx_dropped + d.rx_nohandler))
        .filter(|(_, refused)| *refused != 0)
        .collect();
    rows.extend(reconcile::rx_dropped(
        &refused,
        (hooks.drop && traced.known).then_some(&traced.by_device),
        &evidence(
            refused.values().sum(),
            window.gaps.devices,
            &["kfree_skb"],
            0,
        ),
    ));

    let kernel = window.softirqs.get(SOFTIRQ_NAMES[NET_RX as usize]);
    let kernel = kernel.cloned().unwrap_or_default();
    let runs = nonzero(window.cpus.iter().map(|(cpu, c)| {
        let runs = if hooks.net_rx_action {
            c.net_rx_runs
        } else {
            c.softirqs[NET_RX as usize].runs
        };
        (*cpu, runs)
    }));
    let under_way = u64::from(hooks.net_rx_action);
    let at: &[&str] = if hooks.net_rx_action {
        &["net_rx_action"]
    } else {
        &["softirq_entry"]
    };
    rows.extend(reconcile::net_rx_runs(
        &kernel,
        (hooks.softirq || hooks.net_rx_action).then_some(&runs),
        &evidence(total(&kernel), window.gaps.softirqs, at, under_way),
    ));

    let kernel: BTreeMap<u32, u64> = window
        .interrupts
        .iter()
        .map(|(irq, counted)| (*irq, counted.total()))
        .filter(|(_, n)| *n != 0)
        .collect();
    let traced: BTreeMap<u32, u64> = window
        .irqs
        .iter()
        .map(|(irq, by_cpu)| (*irq, by_cpu.values().map(|c| c.count).sum()))
        .collect();
    rows.extend(reconcile::hard_irqs(
        &kernel,
        hooks.hard_irq.then_some(&traced),
        &evidence(
            kernel.values().sum(),
            window.gaps.interrupts,
            &["irq_handler_exit"],
            1,
        ),
    ));
    rows
}

fn nonzero(counts: impl Iterator<Item = (u32, u64)>) -> PerCpu {
    counts.filter(|(_, n)| *n != 0).collect()
}

/// Traced drops that the kernel counts in softnet `dropped` or a device's `rx_dropped`.
struct Backlog {
    /// False where the kernel hides the names of functions and gives no reasons: then nobody can tell.
    known: bool,
    by_target: PerCpu,
    total: u64,
    by_device: BTreeMap<String, u64>,
}

impl Backlog {
    fn of(window: &Window, facts: &Facts) -> Self {
        let mut backlog = Self {
            known: true,
            by_target: PerCpu::new(),
            total: 0,
            by_device: BTreeMap::new(),
        };
        for (key, by_cpu) in &window.drops {
            let packets: u64 = by_cpu.values().map(|d| d.packets).sum();
            let site = facts.names.site(key);
            let reason = site.reason.as_deref();
            backlog.known &= !site.function.is_empty() || reason.is_some();
            if reconcile::counts_in_softnet(&site.function, reason) {
                backlog.total += packets;
                if key.target_cpu != NO_CPU {
                    *backlog.by_target.entry(key.target_cpu).or_default() += packets;
                }
            }
            if reconcile::counts_in_rx_dropped(&site.function, reason)
                && key.netns == facts.names.own_netns
                && facts.shows(key.netns, key.ifindex)
                && let Some(device) = facts.names.device(key.netns, key.ifindex)
            {
                *backlog.by_device.entry(device).or_default() += packets;
            }
        }
        backlog
    }
}
