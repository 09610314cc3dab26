//! Hooks: `net_rx_action` itself (fentry/fexit, 5.5; kprobe/kretprobe), where it is hooked instead
//! of `softirq_entry/exit`, which bracket exactly its call.
//! Output: wait and run histograms, packets per run, how runs ended; details [`Kind::NetRx`].

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_task},
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tracer_common::{
    counter::{CpuCounters, PerCpu},
    event::{BUDGET_EXHAUSTED, IN_KSOFTIRQD, Kind, NetRxBody, TIME_EXHAUSTED, UNKNOWN_NS},
    run::NOT_POLLED,
};

use crate::{
    emit::{asked_for, jiffies, now, send, wanted},
    maps::{layout, setting, this_cpu},
    read::{count, raise_to},
};

#[inline(always)]
pub(super) fn begin(counters: &mut CpuCounters, time_ns: u64) {
    let raised_ns = counters.net_rx_raised_ns;
    // What gets this far was not refused: a later drop of the same packet is no drop of the backlog.
    counters.backlog_skb = 0;
    let task = current_task();
    let jiffies = jiffies();
    let measured = counters.enter_net_rx(task, jiffies, layout!(preempt_rt) != 0);
    let mut known_wait_ns = UNKNOWN_NS;
    // A raise after `time_ns` was read, by an interrupt in between, is one that the next run serves.
    if raised_ns != 0 && raised_ns <= time_ns {
        counters.net_rx_raised_ns = 0;
        if !measured {
            return;
        }
        let wait_ns = time_ns - raised_ns;
        known_wait_ns = wait_ns;
        raise_to(&mut counters.net_rx_wait_max_ns, wait_ns);
        count(&mut counters.net_rx_wait_hist, wait_ns);
    }
    if !measured {
        return;
    }
    if asked_for(Kind::NetRx) {
        counters.run_wait_ns = known_wait_ns;
    }
    counters.run_began_ns = time_ns;
    counters.run_packets = 0;
    counters.run_began_jiffies = jiffies;
    counters.run_polled_jiffies = NOT_POLLED;
    if in_ksoftirqd(counters, task) {
        counters.ksoftirqd_runs += 1;
    }
}

/// The current task, as a number.
#[inline(always)]
pub(super) fn current_task() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_get_current_task() }
}

/// ksoftirqd/N is the current task. No process can be mistaken for it: a user task of that name
/// would have to be interrupted.
///
/// A name costs as much as three hooks, so it is asked for only when another task than the last is interrupted. A CPU's
/// ksoftirqd is made before the CPU's first softirq and never ends: no other task gets its address, nor it another's.
#[inline(always)]
fn in_ksoftirqd(counters: &mut CpuCounters, task: u64) -> bool {
    if task != counters.known_task {
        counters.known_task = task;
        counters.known_is_ksoftirqd = u32::from(is_named_ksoftirqd());
    }
    counters.known_is_ksoftirqd != 0
}

#[inline(always)]
fn is_named_ksoftirqd() -> bool {
    bpf_get_current_comm().is_ok_and(|comm| {
        comm.first_chunk()
            .is_some_and(|name| u64::from_ne_bytes(*name) == u64::from_ne_bytes(*b"ksoftirq"))
    })
}

/// Its duration, ns; `None` if it was not measured from its begin.
#[inline(always)]
pub(super) fn end(cpu: u32, counters: &mut CpuCounters, time_ns: u64) -> Option<u64> {
    let rt = layout!(preempt_rt) != 0;
    if !counters.leave_net_rx(rt.then(current_task)) {
        return None;
    }
    let run_ns = time_ns.saturating_sub(counters.run_began_ns);
    raise_to(&mut counters.net_rx_run_max_ns, run_ns);
    count(&mut counters.net_rx_run_hist, run_ns);
    counters.net_rx_ns += run_ns;
    counters.net_rx_runs += 1;
    counters.packets += counters.run_packets;
    // As net_rx_action decides after each poll: first the packets, then the time. A run without a poll, which only
    // sends the IPIs of RPS, ends by itself whatever the limits are.
    let polled = counters.run_polled_jiffies != NOT_POLLED;
    let polled_jiffies = counters
        .run_polled_jiffies
        .wrapping_sub(counters.run_began_jiffies);
    // The task is the one that the run began in.
    let mut flags = counters.known_is_ksoftirqd * IN_KSOFTIRQD;
    if polled && counters.run_packets >= setting!(netdev_budget) {
        flags |= BUDGET_EXHAUSTED;
        counters.budget_exhausted += 1;
    } else if polled && polled_jiffies >= setting!(netdev_budget_jiffies) {
        flags |= TIME_EXHAUSTED;
        counters.time_exhausted += 1;
    }
    if wanted(counters, Kind::NetRx) {
        let body = NetRxBody {
            wait_ns: counters.run_wait_ns,
            run_ns,
            packets: counters.run_packets as u32,
            flags,
        };
        send(counters, Kind::NetRx, cpu, time_ns, body);
    }
    Some(run_ns)
}

#[inline(always)]
fn action_entry() -> Option<()> {
    let time_ns = now();
    begin(&mut this_cpu()?.1.counters, time_ns);
    Some(())
}

#[inline(always)]
fn action_exit() -> Option<()> {
    let time_ns = now();
    let (cpu, PerCpu { counters, .. }) = this_cpu()?;
    end(cpu, counters, time_ns)?;
    Some(())
}

#[fentry(function = "net_rx_action")]
fn net_rx_action_fentry(_: FEntryContext) -> i32 {
    action_entry();
    0
}

#[fexit(function = "net_rx_action")]
fn net_rx_action_fexit(_: FExitContext) -> i32 {
    action_exit();
    0
}

#[kprobe(function = "net_rx_action")]
fn net_rx_action_kprobe(_: ProbeContext) -> u32 {
    action_entry();
    0
}

#[kretprobe(function = "net_rx_action")]
fn net_rx_action_kretprobe(_: RetProbeContext) -> u32 {
    action_exit();
    0
}
