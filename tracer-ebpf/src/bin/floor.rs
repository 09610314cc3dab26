//! What the kernel charges for being hooked at all: programs on the hooks of tracer that do nothing. What it charges for
//! the times besides: the same with the three clock readings that the wait and the length of a `NET_RX` run take. And a
//! control, which only counts dropped packets: what it does not see, this kernel did not run programs for.
//!
//! For `cargo xtask bench`; no part of tracer.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "maps are raw pointers here")]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the attribute macros pass contexts by value"
)]

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::{btf_tracepoint, map},
    maps::Array,
    programs::BtfTracePointContext,
};

const NET_RX: u64 = 3;

/// What a CPU has seen, by CPU id.
#[map]
static CPUS: Array<Seen> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One cache line.
#[repr(C, align(64))]
struct Seen {
    /// Calls of `kfree_skb`; user space reads this one.
    drops: u64,
    raised_ns: u64,
    began_ns: u64,
    wait_ns: u64,
    run_ns: u64,
}

macro_rules! empty {
    ($($name:literal $program:ident),*) => {
        $(
            #[btf_tracepoint(function = $name)]
            fn $program(_: BtfTracePointContext) -> i32 {
                0
            }
        )*
    };
}

empty!(
    "irq_handler_entry" irq_handler_entry,
    "irq_handler_exit" irq_handler_exit,
    "softirq_raise" softirq_raise,
    "softirq_entry" softirq_entry,
    "softirq_exit" softirq_exit,
    "napi_poll" napi_poll,
    "kfree_skb" kfree_skb
);

fn seen() -> Option<&'static mut Seen> {
    // SAFETY: the helper has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: a map value lives as long as the program; only programs of its CPU write it.
    unsafe { CPUS.get_ptr_mut(cpu)?.as_mut() }
}

/// Whether the program's first argument, a vector, is `NET_RX`.
fn is_net_rx(ctx: &BtfTracePointContext) -> bool {
    // SAFETY: the hook has this argument.
    let vector = unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u64>()) };
    vector & 0xffff_ffff == NET_RX
}

fn now() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

#[btf_tracepoint(function = "softirq_raise")]
fn time_of_raise(ctx: BtfTracePointContext) -> i32 {
    if is_net_rx(&ctx)
        && let Some(seen) = seen()
        && seen.raised_ns == 0
    {
        seen.raised_ns = now();
    }
    0
}

#[btf_tracepoint(function = "softirq_entry")]
fn time_of_entry(ctx: BtfTracePointContext) -> i32 {
    if is_net_rx(&ctx)
        && let Some(seen) = seen()
    {
        seen.began_ns = now();
        seen.wait_ns += seen.began_ns - core::mem::take(&mut seen.raised_ns);
    }
    0
}

#[btf_tracepoint(function = "softirq_exit")]
fn time_of_exit(ctx: BtfTracePointContext) -> i32 {
    if is_net_rx(&ctx)
        && let Some(seen) = seen()
    {
        seen.run_ns += now() - seen.began_ns;
    }
    0
}

#[btf_tracepoint(function = "kfree_skb")]
fn control(_: BtfTracePointContext) -> i32 {
    if let Some(seen) = seen() {
        // A program of this type does not interrupt itself.
        seen.drops += 1;
    }
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that nothing gets here; a loop is what it can prove that about.
    loop {}
}
