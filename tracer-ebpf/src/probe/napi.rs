//! Hooks: tracepoint `napi_poll` (`tp_btf`, `raw_tp`; 2.6.30, with work and budget since 4.9).
//! Output: `PerCpu::napis` by instance; packets of the current `NET_RX` run; polls outside any.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::counter::{NAPI_SLOTS, NapiCounters, PerCpu};

use super::net_rx::current_task;
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
    let rt = layout!(preempt_rt) != 0;
    let jiffies = jiffies();
    counters.polled(packets, jiffies, rt.then(current_task));

    let id = R::field::<u32>(napi, layout!(napi_id)).unwrap_or(0);
    let mut number = address(napi, &mut counters.napi_address);
    // Before 6.1 netpoll's poll, in a hard IRQ, may have left its own there.
    if layout!(guarded) == 0 && number != napi as u64 {
        number = address(napi, &mut counters.napi_address);
    }
    // Before the loop, for the verifier goes through each turn of it. Since about 6.3, for each load of a pointer from an
    // argument it searches all types of the kernel several times (`btf_nested_type_is_trusted`), 2 ms on 6.18.
    let dev = R::field::<*const u8>(napi, layout!(napi_dev)).unwrap_or(core::ptr::null());
    let first = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut probe = 0;
    while probe < PROBES {
        let slot = at(napis, (first + probe) % NAPI_SLOTS as u64)?;
        if slot.napi == 0 {
            break;
        }
        if slot.napi == number && slot.napi_id == id && is_of_device::<R>(slot, dev, jiffies) {
            count(slot, packets, budget);
            return Some(());
        }
        probe += 1;
    }
    // Behind the loop, for the verifier goes through each turn of it.
    let slot = at(napis, (first + probe) % NAPI_SLOTS as u64)?;
    if probe < PROBES && claim::<R>(&mut counters.claiming_napi, slot, dev, number, id) {
        log_line!(
            ctx,
            "cpu {}: first poll of NAPI {} of ifindex {}",
            cpu,
            id,
            slot.ifindex
        );
        count(slot, packets, budget);
    } else {
        counters.napi_table_full += 1;
    }
    Some(())
}

#[inline(always)]
fn count(slot: &mut NapiCounters, packets: u64, budget: u64) {
    slot.polls += 1;
    slot.packets += packets;
    // netpoll polls with a budget of 0.
    slot.full_budget += u64::from(budget != 0 && packets >= budget);
}

/// Whether the device of `slot` is `dev`, which the instance has. It is looked at once a jiffy (and at each poll for a
/// slot that an earlier device of the same instance left behind): of a device that moves to another namespace, or whose
/// memory becomes another's, within one jiffy, what is left of that jiffy's polls counts for where it was.
#[inline(always)]
fn is_of_device<R: Read>(slot: &mut NapiCounters, dev: *const u8, jiffies: u64) -> bool {
    if slot.confirmed_jiffies == jiffies as u32 {
        return true;
    }
    if (slot.ifindex, slot.netns) != identity::<R>(dev) {
        return false;
    }
    slot.confirmed_jiffies = jiffies as u32;
    true
}

/// Interface index and namespace of `dev`, each 0 if unknown.
#[inline(always)]
fn identity<R: Read>(dev: *const u8) -> (u32, u32) {
    let ifindex = R::field(dev, layout!(dev_ifindex)).unwrap_or(0);
    let net = R::field::<*const u8>(dev, layout!(dev_net)).unwrap_or(core::ptr::null());
    (ifindex, R::field(net, layout!(net_inum)).unwrap_or(0))
}

/// Makes a free `slot` that of the instance at `address`, whose device is `dev`; false if it is no longer free. The
/// address comes last: it is what marks a slot as used. Before 6.1 netpoll's poll, in a hard IRQ, may interrupt this one:
/// it sees that a slot is being claimed, or has claimed it before this one looked. Either way one of the two polls is
/// counted as one without a slot.
#[inline(always)]
fn claim<R: Read>(
    claiming: &mut u64,
    slot: &mut NapiCounters,
    dev: *const u8,
    address: u64,
    id: u32,
) -> bool {
    let (ifindex, netns) = identity::<R>(dev);
    let name = layout!(dev_name);
    let mut device = [0; 16];
    if let (Some(low), Some(high)) = (
        R::field::<u64>(dev, name),
        R::field::<u64>(dev, name.wrapping_add(8)),
    ) {
        device[..8].copy_from_slice(&low.to_ne_bytes());
        device[8..].copy_from_slice(&high.to_ne_bytes());
    }
    let claiming = &raw mut *claiming;
    // SAFETY: valid references; volatile keeps the order, which an interrupting program and the reader rely on.
    unsafe {
        if core::ptr::read_volatile(claiming) != 0 {
            return false;
        }
        core::ptr::write_volatile(claiming, 1);
        let free = core::ptr::read_volatile(&raw const slot.napi) == 0;
        if free {
            core::ptr::write_volatile(&raw mut slot.napi_id, id);
            core::ptr::write_volatile(&raw mut slot.ifindex, ifindex);
            core::ptr::write_volatile(&raw mut slot.netns, netns);
            core::ptr::write_volatile(&raw mut slot.device, device);
            core::ptr::write_volatile(&raw mut slot.napi, address);
        }
        core::ptr::write_volatile(claiming, 0);
        free
    }
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
