#![no_std]
#![no_main]
#![allow(unsafe_code)]
//! Trial.
use aya_ebpf::{macros::{btf_tracepoint, map}, maps::PerCpuArray, programs::BtfTracePointContext};
#[map]
static N: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// Trial.
#[btf_tracepoint(function = "softirq_entry")]
pub fn softirq_entry(_ctx: BtfTracePointContext) -> i32 {
    if let Some(p) = N.get_ptr_mut(0) { unsafe { *p += 1 } }
    0
}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }
