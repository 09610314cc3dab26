//! Reads of kernel memory: offsets come from the running kernel's BTF through `LAYOUT`.

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_buf};
use tracer_common::{hist, layout::ABSENT};

/// How a program may follow a kernel pointer.
pub(crate) trait Read {
    /// The value `offset` bytes behind `base`; `None` if `base` is null, the member does not exist
    /// on this kernel or the read fails.
    fn field<T: Copy>(base: *const u8, offset: u32) -> Option<T>;
}

/// Plain loads from a pointer whose type the verifier knows (`tp_btf`, fentry; 5.5). A load that
/// faults gives 0, but for one through a pointer that the verifier trusts: that must not be null.
pub(crate) struct Direct;

/// `bpf_probe_read_kernel` (5.5), refused under lockdown=confidentiality.
pub(crate) struct Helper;

impl Read for Direct {
    #[inline(always)]
    fn field<T: Copy>(base: *const u8, offset: u32) -> Option<T> {
        if base.is_null() || offset == ABSENT {
            return None;
        }
        // SAFETY: the verifier checks the load against the type of `base`; the kernel handles its fault.
        Some(unsafe { core::ptr::read_volatile(base.add(offset as usize).cast()) })
    }
}

impl Read for Helper {
    #[inline(always)]
    fn field<T: Copy>(base: *const u8, offset: u32) -> Option<T> {
        if base.is_null() || offset == ABSENT {
            return None;
        }
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(base.add(offset as usize).cast()) }.ok()
    }
}

/// Fills `to` from kernel address `from`; false if it cannot be read.
#[inline(always)]
pub(crate) fn bytes(from: u64, to: &mut [u8]) -> bool {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel_buf(from as *const u8, to) }.is_ok()
}

/// `pointer` as a number. The verifier forbids arithmetic on a pointer it knows the type of; what
/// comes back out of a map value is a number to it.
#[inline(always)]
pub(crate) fn address(pointer: *const u8, scratch: &mut u64) -> u64 {
    // SAFETY: `scratch` is a valid reference; volatile keeps the round trip through memory.
    unsafe {
        core::ptr::write_volatile(scratch, pointer as u64);
        core::ptr::read_volatile(scratch)
    }
}

/// Argument `n` of a tracepoint or fentry program, an array of u64 in every kernel. Volatile: a
/// load that a kernel lacks must stay inside the branch that it guards.
#[inline(always)]
pub(crate) fn arg(ctx: *mut core::ffi::c_void, n: usize) -> u64 {
    // SAFETY: the verifier checks the index against the hook's argument count.
    unsafe { core::ptr::read_volatile(ctx.cast::<u64>().add(n)) }
}

/// `*counter += n` where the program may interrupt itself: before 6.1 no tracepoint program has a
/// guard against that, and a packet can be freed in process context and in the softirq that interrupts it.
#[inline(always)]
pub(crate) fn add_atomically(counter: &mut u64, n: u64) {
    // SAFETY: `counter` is a valid, aligned u64. The instruction exists since 3.18, unlike those
    // that return the old value (5.12).
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("lock *(u64 *)({p} + 0) += {n}", p = in(reg) counter, n = in(reg) n);
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        *counter = counter.wrapping_add(n);
    }
}

/// Makes `max` at least `value`: no store in the common case.
#[inline(always)]
pub(crate) fn raise_to(max: &mut u64, value: u64) {
    if value > *max {
        *max = value;
    }
}

/// Adds one to `histogram`'s bucket of `value`.
#[inline(always)]
pub(crate) fn count(histogram: &mut [u64; hist::BUCKETS], value: u64) {
    if let Some(n) = at(histogram, hist::bucket(value) as u64) {
        *n += 1;
    }
}

/// Element `index`, below 2^16. The bound is checked where the verifier sees it: the compiler can prove what the verifier
/// cannot, and would leave the check out, or check a copy.
#[inline(always)]
pub(crate) fn at<T, const N: usize>(array: &mut [T; N], index: u64) -> Option<&mut T> {
    #[cfg_attr(
        not(target_arch = "bpf"),
        expect(unused_mut, reason = "the BPF barrier writes it")
    )]
    let mut index = index;
    // SAFETY: a mask that changes no index; it makes the value unknown to the compiler. It has
    // to be an instruction: the kernel refuses line information that points at none.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{i} &= 0xffff", i = inout(reg) index);
    }
    array.get_mut(index as usize)
}
