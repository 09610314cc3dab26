//! What the kernel charges for being hooked at all: programs on the hooks of tracer that do nothing. And a control, which
//! only counts dropped packets: what it does not see, this kernel did not run programs for.
//!
//! For `cargo xtask bench`; no part of tracer.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "maps are raw pointers here")]

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, map},
    maps::Array,
    programs::BtfTracePointContext,
};

/// Calls of `kfree_skb` by CPU id, one cache line each.
#[map]
static DROPS: Array<[u64; 8]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

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

#[btf_tracepoint(function = "kfree_skb")]
fn control(_: BtfTracePointContext) -> i32 {
    // SAFETY: the helper has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(count) = DROPS.get_ptr_mut(cpu) {
        // SAFETY: a map value lives as long as the program. A program of this type does not interrupt itself.
        unsafe { (*count)[0] += 1 };
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
