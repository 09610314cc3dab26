//! Which traced counts belong beside which of the kernel's.

use std::collections::BTreeMap;

use tracer_common::counter::{NET_RX, NO_CPU, SOFTIRQ_NAMES};

use super::{Facts, Hooks, devices::devices};
use crate::{
    analyze::reconcile::{self, Evidence, Skew, Spread},
    model::{
        report::{PerCpu, Reconciliation},
        snapshot::Between,
        window::Window,
    },
};

pub(super) fn reconciliation(window: &Window, facts: &Facts, hooks: &Hooks) -> Vec<Reconciliation> {
    let missed = |hooks: &[&str]| Hooks::missed(window, hooks);
    let mut rows = Vec::new();

    let dropped: PerCpu = nonzero(window.softnet.iter().map(|(cpu, s)| (*cpu, s.dropped)));
    let traced = Backlog::of(window, facts);
    rows.extend(reconcile::softnet_dropped(
        &dropped,
        (hooks.drop && hooks.backlog && traced.known).then_some(&traced.by_target),
        (hooks.drop && traced.known).then_some(traced.total),
        &Evidence {
            gap_ns: window.gaps.softnet,
            between: kernel_first(window, |between| &between.softnet_dropped),
            missed: missed(&["kfree_skb", "enqueue_to_backlog"]),
            under_way: 0,
        },
    ));

    let refused: BTreeMap<String, u64> = devices(window, facts)
        .into_iter()
        .map(|d| (d.name, d.rx_dropped + d.rx_nohandler))
        .filter(|(_, refused)| *refused != 0)
        .collect();
    rows.extend(reconcile::rx_dropped(
        &refused,
        (hooks.drop && traced.known).then_some(&traced.by_device),
        &Evidence {
            gap_ns: window.gaps.devices,
            // A packet that a device loses in the stack is one that came to it.
            between: Spread::Anywhere(programs_first(window, |between| between.packets)),
            missed: missed(&["kfree_skb"]),
            under_way: 0,
        },
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
        &Evidence {
            gap_ns: window.gaps.softirqs,
            between: kernel_first(window, |between| &between.net_rx),
            missed: missed(at),
            under_way,
        },
    ));

    // Only what the kernel still shows can be compared.
    let shown = |irq: &u32| !window.freed_irqs.contains_key(irq);
    let kernel: BTreeMap<u32, u64> = window
        .interrupts
        .iter()
        .map(|(irq, counted)| (*irq, counted.total()))
        .filter(|(irq, n)| *n != 0 && shown(irq))
        .collect();
    let traced: BTreeMap<u32, u64> = window
        .irqs
        .iter()
        .filter(|(irq, _)| shown(irq))
        .map(|(irq, by_cpu)| {
            let on_shown = by_cpu
                .iter()
                .filter(|(cpu, _)| !window.hidden_cpus.contains(cpu));
            (*irq, on_shown.map(|(_, c)| c.count).sum())
        })
        .collect();
    let [start, end] = &window.between;
    rows.extend(reconcile::hard_irqs(
        &kernel,
        hooks.hard_irq.then_some(&traced),
        &Evidence {
            gap_ns: window.gaps.interrupts,
            between: Spread::Anywhere(Skew {
                kernel_more: end.hardirqs + start.new_hardirqs,
                traced_more: start.hardirqs + end.new_hardirqs,
            }),
            missed: missed(&["irq_handler_exit"]),
            under_way: 1,
        },
    ));
    rows
}

/// Of a table that is read before the programs' counters: what fell between the reads at the begin is in the kernel's
/// difference only, at the end in the traced one only.
fn kernel_first(window: &Window, of: impl Fn(&Between) -> &PerCpu) -> Spread<u32> {
    let [start, end] = &window.between;
    let mut skews = BTreeMap::<u32, Skew>::new();
    for (cpu, n) in of(start) {
        skews.entry(*cpu).or_default().kernel_more = *n;
    }
    for (cpu, n) in of(end) {
        skews.entry(*cpu).or_default().traced_more = *n;
    }
    Spread::Counted(skews)
}

/// Of what is read behind the programs' counters: the other way round.
pub(super) fn programs_first(window: &Window, of: impl Fn(&Between) -> u64) -> Skew {
    let [start, end] = &window.between;
    Skew {
        kernel_more: of(end),
        traced_more: of(start),
    }
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
            // Of a CPU that was offline at one end the kernel does not tell what it refused.
            if reconcile::counts_in_softnet(&site.function, reason)
                && !window.hidden_cpus.contains(&key.target_cpu)
            {
                backlog.total += packets;
                if key.target_cpu != NO_CPU {
                    *backlog.by_target.entry(key.target_cpu).or_default() += packets;
                }
            }
            if reconcile::counts_in_rx_dropped(&site.function, reason)
                && key.netns == facts.names.own_netns
                && facts.shows(key.netns, key.ifindex)
                // A device that is gone has taken its counter with it.
                && window.devices.iter().any(|d| d.ifindex == key.ifindex)
                && let Some(device) = facts.names.device(key.netns, key.ifindex)
            {
                *backlog.by_device.entry(device).or_default() += packets;
            }
        }
        backlog
    }
}
