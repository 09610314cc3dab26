//! Every map and global. The arrays are memory-mapped by user space, which reads them without a
//! system call; their lengths are set at load time.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, PerCpuHashMap, RingBuf},
};
use tracer_common::{
    counter::{DropCounters, DropKey, IrqCounters, PerCpu},
    layout::{Layout, Settings},
};

/// By CPU id.
#[map]
static CPUS: Array<PerCpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// By CPU id × `Layout::irqs` + IRQ number.
#[map]
static IRQS: Array<IrqCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Drops; the only hash, since a drop's key has no small range.
#[map]
pub(crate) static DROPS: PerCpuHashMap<DropKey, DropCounters> =
    PerCpuHashMap::with_max_entries(4096, 0);
/// Details.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// What may change while the programs run; all that the map `.bss` holds.
#[unsafe(no_mangle)]
static mut SETTINGS: Settings = Settings {
    netdev_budget: 0,
    netdev_budget_jiffies: 0,
};

/// Replaced before the object is loaded, then frozen: the verifier prunes on these values.
#[unsafe(no_mangle)]
static LAYOUT: Layout = Layout::UNKNOWN;

/// One value of [`LAYOUT`]. Volatile, or the compiler would use the value above.
macro_rules! layout {
    ($field:ident) => {
        // SAFETY: a static that exists and is aligned.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::layout_ref().$field) }
    };
}
pub(crate) use layout;

/// For the macro [`layout`] only.
#[inline(always)]
pub(crate) fn layout_ref() -> &'static Layout {
    &LAYOUT
}

/// What the CPU counts that the program runs on, and its id.
#[inline(always)]
pub(crate) fn this_cpu() -> Option<(u32, &'static mut PerCpu)> {
    // SAFETY: the helper has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: a map value lives as long as the program. Programs that interrupt each other on one
    // CPU write different fields, but those of drops: see `drop::add` and `drop::claim`. IRQ handlers do not nest,
    // nor do polls, with bottom halves off, but for those of netpoll in a hard IRQ: see `napi::claim`.
    let per_cpu = unsafe { CPUS.get_ptr_mut(cpu)?.as_mut()? };
    Some((cpu, per_cpu))
}

/// Counters of `irq` on `cpu`; `None` beyond the table.
#[inline(always)]
pub(crate) fn irq(cpu: u32, irq: u32) -> Option<&'static mut IrqCounters> {
    let irqs = layout!(irqs);
    if irq >= irqs {
        return None;
    }
    // SAFETY: as in `this_cpu`; only this CPU's IRQ handlers, which do not nest, write here.
    unsafe { IRQS.get_ptr_mut(cpu * irqs + irq)?.as_mut() }
}

/// One value of [`SETTINGS`]. Volatile: user space may write it at any time; each is read whole.
macro_rules! setting {
    ($field:ident) => {
        // SAFETY: a static that exists and is aligned; only user space writes it.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::settings_ptr()).$field) }
    };
}
pub(crate) use setting;

/// For the macro [`setting`] only.
#[inline(always)]
pub(crate) fn settings_ptr() -> *const Settings {
    &raw const SETTINGS
}
