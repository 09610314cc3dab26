//! Details: rate limit, reserve, submit, and the count of what the ring had no room for.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
};
use tracer_common::{
    counter::CpuCounters,
    event::{Header, Kind},
};

use crate::{
    maps::{EVENTS, layout},
    read::add_atomically,
};

/// Jiffies. A load, not a call: the verifier inlines it (5.6).
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_jiffies64() }
}

/// `CLOCK_MONOTONIC`, ns.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// Whether details of `kind` were asked for.
#[inline(always)]
pub(crate) fn asked_for(kind: Kind) -> bool {
    layout!(details) & (1 << kind as u32) != 0
}

/// Whether a detail of `kind` was asked for and is within the rate. Needs no clock: the window is
/// counted in jiffies.
#[inline(always)]
pub(crate) fn wanted(counters: &mut CpuCounters, kind: Kind) -> bool {
    if !asked_for(kind) {
        return false;
    }
    let burst = layout!(detail_burst);
    if burst == u32::MAX {
        return true;
    }
    if burst == 0 {
        return false;
    }
    let limit = &mut counters.limits[kind as usize];
    let window = jiffies() >> (layout!(detail_shift) & 63);
    if limit.window != window {
        limit.window = window;
        limit.used = 0;
    }
    if limit.used >= u64::from(burst) {
        return false;
    }
    limit.used += 1;
    true
}

/// A frame: header and body as the reader decodes them.
#[repr(C)]
struct Frame<B> {
    header: Header,
    body: B,
}

/// Sends one detail. The reader is woken when the ring holds more than `ring_wake_bytes`, and then once
/// a jiffy at most: a wake-up costs more than everything else here together.
#[inline(always)]
pub(crate) fn send<B: 'static>(
    counters: &mut CpuCounters,
    kind: Kind,
    cpu: u32,
    time_ns: u64,
    body: B,
) {
    let details = &mut counters.details[kind as usize];
    let Some(mut entry) = EVENTS.reserve::<Frame<B>>(0) else {
        add_atomically(&mut details.ring_full, 1);
        return;
    };
    entry.write(Frame {
        header: Header {
            kind: kind as u32,
            cpu,
            time_ns,
        },
        body,
    });
    add_atomically(&mut details.sent, 1);
    let wake = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(layout!(ring_wake_bytes))
        && counters.woken_jiffies != jiffies();
    if wake {
        counters.woken_jiffies = jiffies();
    }
    entry.submit(u64::from(if wake {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }));
}
