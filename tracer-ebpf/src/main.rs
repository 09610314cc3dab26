//! tracer's programs. Each hook has one body, generic over how kernel memory is read, and thin
//! entry points over it: `tp_btf` and `raw_tp` for tracepoints, fentry and kprobe for functions.
//! User space tries them in that order and loads only the one that attaches.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(unsafe_code, reason = "maps and kernel memory are raw pointers here")]
#![expect(
    clippy::inline_always,
    reason = "a call between BPF functions forgets what the verifier knew about the pointers"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the entry points have the form that aya's macros ask for"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "arguments come in registers of 64 bits, whatever their type"
)]

mod emit;
mod maps;
mod probe;
mod read;

/// The programs take no code from the kernel and may be used with either licence; the kernel asks
/// for a GPL-compatible one before it lends its helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A line for `tracer -vv`; nothing at all without the feature `log`.
macro_rules! log_line {
    ($ctx:expr, $($arg:expr),* $(,)?) => {
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!($ctx, $($arg),*);
        #[cfg(not(feature = "log"))]
        let _ = ($ctx, $($arg),*);
    };
}
pub(crate) use log_line;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that nothing gets here; a loop is what it can prove that about.
    loop {}
}
