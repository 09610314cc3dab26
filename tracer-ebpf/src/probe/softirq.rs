//! Hooks: tracepoints `softirq_raise`, `softirq_entry`, `softirq_exit` (`tp_btf`, `raw_tp`; 2.6.31).
//! Output: `CpuCounters::softirqs` by vector; the bounds of a `NET_RX` run for [`super::net_rx`].

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::counter::{NET_RX, PerCpu};

use super::net_rx;
use crate::{
    emit::now,
    maps::{layout, this_cpu},
    read::{arg, at},
};

/// Only the oldest raise that has not been served yet matters.
#[inline(always)]
fn raise(vector: u32) -> Option<()> {
    if vector != NET_RX {
        return None;
    }
    let counters = &mut this_cpu()?.1.counters;
    if counters.net_rx_raised_ns == 0 {
        counters.net_rx_raised_ns = now();
    }
    Some(())
}

#[inline(always)]
fn entry(vector: u32) -> Option<()> {
    let time_ns = now();
    let counters = &mut this_cpu()?.1.counters;
    at(&mut counters.softirqs, vector.into())?.runs += 1;
    if vector == NET_RX && layout!(net_rx_by_softirq) != 0 {
        net_rx::begin(counters, time_ns);
    } else {
        counters.softirq_began_ns = time_ns;
    }
    Some(())
}

#[inline(always)]
fn exit(vector: u32) -> Option<()> {
    let time_ns = now();
    let (cpu, PerCpu { counters, .. }) = this_cpu()?;
    if vector == NET_RX && layout!(net_rx_by_softirq) != 0 {
        counters.softirqs[NET_RX as usize].ns += net_rx::end(cpu, counters, time_ns)?;
        return Some(());
    }
    let began_ns = core::mem::take(&mut counters.softirq_began_ns);
    if began_ns != 0 {
        at(&mut counters.softirqs, vector.into())?.ns += time_ns.saturating_sub(began_ns);
    }
    Some(())
}

/// `tp_btf` and `raw_tp` entry points of one tracepoint whose first argument is the vector.
macro_rules! entry_points {
    ($name:literal, $tp_btf:ident, $raw_tp:ident, $body:ident) => {
        #[btf_tracepoint(function = $name)]
        fn $tp_btf(ctx: BtfTracePointContext) -> i32 {
            $body(arg(ctx.as_ptr(), 0) as u32);
            0
        }

        #[raw_tracepoint(tracepoint = $name)]
        fn $raw_tp(ctx: RawTracePointContext) -> i32 {
            $body(arg(ctx.as_ptr(), 0) as u32);
            0
        }
    };
}

entry_points!(
    "softirq_raise",
    softirq_raise_tp_btf,
    softirq_raise_raw_tp,
    raise
);
entry_points!(
    "softirq_entry",
    softirq_entry_tp_btf,
    softirq_entry_raw_tp,
    entry
);
entry_points!(
    "softirq_exit",
    softirq_exit_tp_btf,
    softirq_exit_raw_tp,
    exit
);
