//! Hooks: function `enqueue_to_backlog` (fentry, 5.5; kprobe).
//! Output: the packet and the CPU it is meant for, kept for the drop that may follow.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{
    maps::this_cpu,
    read::{address, arg},
};

/// `skb`, `target`: the first two arguments of `enqueue_to_backlog`.
#[inline(always)]
fn enqueue(skb: *const u8, target: u32) -> Option<()> {
    let counters = &mut this_cpu()?.1.counters;
    address(skb, &mut counters.backlog_skb);
    counters.backlog_target = u64::from(target);
    Some(())
}

#[fentry(function = "enqueue_to_backlog")]
fn enqueue_to_backlog_fentry(ctx: FEntryContext) -> i32 {
    enqueue(
        arg(ctx.as_ptr(), 0) as *const u8,
        arg(ctx.as_ptr(), 1) as u32,
    );
    0
}

#[kprobe(function = "enqueue_to_backlog")]
fn enqueue_to_backlog_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(skb), Some(target)) = (ctx.arg::<*const u8>(0), ctx.arg::<u32>(1)) {
        enqueue(skb, target);
    }
    0
}
