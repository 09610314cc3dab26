//! Hooks: tracepoint `napi_poll` (`tp_btf`, `raw_tp`; 2.6.30, with work and budget since 4.9).
//! Output: `PerCpu::napis` by instance; packets of the current `NET_RX` run; polls outside any.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::counter::{NAPI_SLOTS, NapiCounters, PerCpu};

use crate::{
    emit::jiffies,
    log_line,
    maps::{layout, this_cpu},
    read::{Direct, Helper, Read, address, arg, at},
};

/// Slots looked at before an instance is given up on and counted as lost.
const PROBES: u64 = 8;

#[inline(always)]
fn poll<R: Read>(ctx: &impl EbpfContext) -> Option<()> {
    let napi = arg(ctx.as_ptr(), 0) as *const u8;
    let packets = u64::from(arg(ctx.as_ptr(), 1) as u32);
    let budget = u64::from(arg(ctx.as_ptr(), 2) as u32);
    let (cpu, per_cpu) = this_cpu()?;
    let PerCpu {
        counters, napis, ..
    } = per_cpu;
    // The packet that this poll steered last was not refused: the backlog's poll may follow and drop it.
    counters.backlog_skb = 0;
    if counters.in_net_rx != 0 {
        counters.run_packets += packets;
        counters.run_polled_jiffies = jiffies();
    } else {
        counters.polls_outside += 1;
        counters.packets_outside += packets;
    }

    let id = R::field::<u32>(napi, layout!(napi_id)).unwrap_or(0);
    let address = address(napi, &mut counters.napi_address);
    let first = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut probe = 0;
    while probe < PROBES {
        let slot = at(napis, (first + probe) % NAPI_SLOTS as u64)?;
        if slot.napi == 0 {
            claim::<R>(slot, napi, address, id);
            log_line!(
                ctx,
                "cpu {}: first poll of NAPI {} of ifindex {}",
                cpu,
                id,
                slot.ifindex
            );
        }
        if slot.napi == address && slot.napi_id == id {
            slot.polls += 1;
            slot.packets += packets;
            // netpoll polls with a budget of 0.
            slot.full_budget += u64::from(budget != 0 && packets >= budget);
            return Some(());
        }
        probe += 1;
    }
    counters.napi_table_full += 1;
    None
}

/// Makes `slot` that of `napi`. The address comes last: it is what marks a slot as used.
#[inline(always)]
fn claim<R: Read>(slot: &mut NapiCounters, napi: *const u8, address: u64, id: u32) {
    slot.napi_id = id;
    let dev = R::field::<*const u8>(napi, layout!(napi_dev)).unwrap_or(core::ptr::null());
    slot.ifindex = R::field(dev, layout!(dev_ifindex)).unwrap_or(0);
    let net = R::field::<*const u8>(dev, layout!(dev_net)).unwrap_or(core::ptr::null());
    slot.netns = R::field(net, layout!(net_inum)).unwrap_or(0);
    let name = layout!(dev_name);
    if let (Some(low), Some(high)) = (
        R::field::<u64>(dev, name),
        R::field::<u64>(dev, name.wrapping_add(8)),
    ) {
        let [low, high] = [low.to_ne_bytes(), high.to_ne_bytes()];
        slot.device[..8].copy_from_slice(&low);
        slot.device[8..].copy_from_slice(&high);
    }
    slot.napi = address;
}

#[btf_tracepoint(function = "napi_poll")]
fn napi_poll_tp_btf(ctx: BtfTracePointContext) -> i32 {
    poll::<Direct>(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "napi_poll")]
fn napi_poll_raw_tp(ctx: RawTracePointContext) -> i32 {
    poll::<Helper>(&ctx);
    0
}
