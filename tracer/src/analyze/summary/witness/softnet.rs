//! `softnet_stat` but its drops. Of CPUs that were online at both ends.

use tracer_common::counter::{NET_RX, SOFTIRQ_NAMES};

use super::{Facts, Hooks, recursion, skew, untraced};
use crate::{
    analyze::reconcile::{self, Cause, Skew},
    model::{report::Reconciliation, snapshot::Between, window::Window},
};

const RECEIVED_RPS: &str =
    "interrupts by which RPS wakes another CPU; no hook counts them, nothing is lost by them";
const FLOW_LIMIT: &str = "packets that the flow limit refused, counted on the CPU that steered; they are in \
                          softnet_stat dropped, where the drop reason is the same (CPU_BACKLOG)";
/// Packets of one poll: `NAPI_POLL_WEIGHT`.
const POLL: u64 = 64;

pub(super) fn rows(window: &Window, facts: &Facts, hooks: &Hooks) -> Vec<Reconciliation> {
    let of = |column: fn(&crate::model::report::Softnet) -> u64| {
        window.softnet.values().map(column).sum::<u64>()
    };
    let mut rows = Vec::new();
    let processed = of(|s| s.processed);
    rows.extend(self::processed(window, processed, hooks));
    rows.extend(time_squeeze(window, of(|s| s.time_squeeze), facts, hooks));
    let alone = [
        (
            "softnet_stat received_rps total",
            of(|s| s.received_rps.unwrap_or(0)),
            RECEIVED_RPS,
        ),
        (
            "softnet_stat flow_limit total",
            of(|s| s.flow_limit.unwrap_or(0)),
            FLOW_LIMIT,
        ),
    ];
    let alone = alone.into_iter().filter(|(_, n, _)| *n != 0);
    rows.extend(alone.map(|(counter, n, why)| untraced(counter.to_owned(), n, why)));
    rows
}

/// `processed` are passes through `__netif_receive_skb_core`, traced are packets that polls returned: the same where
/// only backlogs are polled (lo, veth and others without NAPI), on every kernel; the known differences are named.
fn processed(window: &Window, processed: u64, hooks: &Hooks) -> Option<Reconciliation> {
    let shown = window
        .napi
        .iter()
        .filter(|(cpu, _)| !window.hidden_cpus.contains(cpu));
    let (mut backlog, mut devices) = (0, 0);
    for napi in shown.flat_map(|(_, instances)| instances) {
        *(if napi.ifindex == 0 {
            &mut backlog
        } else {
            &mut devices
        }) += napi.packets;
    }
    let polled = backlog + devices;
    if processed == 0 && polled == 0 {
        return None;
    }
    let counter = "softnet_stat processed total".to_owned();
    // A poll without a slot is not in the table.
    let whole = hooks.napi && window.cpus.values().all(|c| c.napi_table_full == 0);
    let mut causes: Vec<_> = recursion(window, &["napi_poll"]).into_iter().collect();
    if devices != 0 {
        causes.push(Cause {
            words: "frames that GRO merged, that RPS steered to a backlog (polled there again) or that XDP took were \
                    polled by a device and not passed on"
                .to_owned(),
            kernel_more: 0,
            traced_more: devices,
        });
    }
    let busy = u64::try_from(window.softnet.len()).unwrap_or(u64::MAX);
    let between = kernel_first(window, |between| between.processed);
    causes.extend(skew(window.gaps.softnet, between));
    // The kernel counts in a poll, tracer at its end.
    causes.push(Cause::under_way(busy.saturating_mul(POLL)));
    causes.push(Cause {
        words: "a packet that a bridge, bond, VLAN or macvlan hands on passes again without a poll, and one from a \
                tun device without any"
            .to_owned(),
        // Nobody knows how many; but what programs did not see is not put down to it.
        kernel_more: processed
            .saturating_sub(polled)
            .saturating_sub(unseen(window, polled, hooks)),
        traced_more: 0,
    });
    let traced = whole.then_some(polled);
    Some(reconcile::row(counter, processed, traced, &causes))
}

/// `softnet_stat` is read before the programs' counters: what fell between the reads at the begin is in the kernel's
/// difference only, at the end in the traced one only.
fn kernel_first(window: &Window, of: impl Fn(&Between) -> u64) -> Skew {
    let [start, end] = &window.between;
    Skew {
        kernel_more: of(start),
        traced_more: of(end),
    }
}

/// About as many packets as were polled in `NET_RX` runs that the kernel counted and no program saw.
fn unseen(window: &Window, polled: u64, hooks: &Hooks) -> u64 {
    let kernel = window.softirqs.get(SOFTIRQ_NAMES[NET_RX as usize]);
    let kernel: u64 = kernel.into_iter().flat_map(|by_cpu| by_cpu.values()).sum();
    let seen: u64 = window
        .cpus
        .values()
        .map(|c| c.softirqs[NET_RX as usize].runs)
        .sum();
    if !hooks.softirq {
        return 0;
    }
    kernel
        .saturating_sub(seen)
        .saturating_mul(polled.div_ceil(seen.max(1)))
}

/// `time_squeeze`: runs that ended at either limit, whichever it was; tracer tells them apart.
fn time_squeeze(
    window: &Window,
    squeezed: u64,
    facts: &Facts,
    hooks: &Hooks,
) -> Option<Reconciliation> {
    let shown = window
        .cpus
        .iter()
        .filter(|(cpu, _)| !window.hidden_cpus.contains(cpu));
    let (mut ended, mut runs) = (0, 0);
    for (_, c) in shown {
        ended += c.budget_exhausted + c.time_exhausted;
        runs += c.net_rx_runs;
    }
    let traced = (hooks.net_rx && hooks.napi && facts.budget_known).then_some(ended);
    if squeezed == 0 && traced.unwrap_or(0) == 0 {
        return None;
    }
    let cpus = u64::try_from(window.softnet.len()).unwrap_or(u64::MAX);
    let mut causes: Vec<_> = recursion(window, &["napi_poll", "net_rx_action", "softirq_exit"])
        .into_iter()
        .collect();
    // The gap between both looks at the clock is some 100 ns of a tick of 1 to 10 ms; ten times as many are allowed.
    let bound = 1 + runs / 1000;
    causes.push(Cause {
        words: format!(
            "a tick of the clock can fall between the kernel's look at it and tracer's, here in up to {bound} runs"
        ),
        kernel_more: bound,
        traced_more: bound,
    });
    let between = kernel_first(window, |between| between.squeezed);
    causes.extend(skew(window.gaps.softnet, between));
    causes.push(Cause::under_way(cpus));
    let counter = "softnet_stat time_squeeze total".to_owned();
    Some(reconcile::row(counter, squeezed, traced, &causes))
}
