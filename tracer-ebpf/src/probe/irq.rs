//! Hooks: tracepoints `irq_handler_entry`, `irq_handler_exit` (`tp_btf`, `raw_tp`; 2.6.28).
//! Output: `IRQS` by IRQ number; `CpuCounters::hardirq*`; details [`Kind::Irq`].

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::{
    counter::PerCpu,
    event::{IrqBody, Kind},
};

use crate::{
    emit::{now, send, wanted},
    maps::{self, layout, this_cpu},
    read::{Direct, Helper, Read, arg, count},
};

#[inline(always)]
fn entry() -> Option<()> {
    this_cpu()?.1.counters.irq_began_ns = now();
    Some(())
}

/// `irq`, `action`: as the tracepoint passes them.
#[inline(always)]
fn exit<R: Read>(irq: u32, action: *const u8) -> Option<()> {
    let time_ns = now();
    let (cpu, PerCpu { counters, .. }) = this_cpu()?;
    // A shared line runs its handlers one after the other, always all of them: the interrupt is
    // counted with the last.
    let next = R::field::<u64>(action, layout!(irqaction_next));
    let last = matches!(next, None | Some(0));
    counters.hardirqs += u64::from(last);
    let mut per_irq = maps::irq(cpu, irq);
    match &mut per_irq {
        Some(per_irq) => per_irq.count += u64::from(last),
        None => counters.irq_table_full += u64::from(last),
    }
    let began_ns = core::mem::take(&mut counters.irq_began_ns);
    if began_ns == 0 {
        counters.hardirq_untimed += 1;
        return None;
    }
    let handler_ns = time_ns.saturating_sub(began_ns);
    counters.hardirq_ns += handler_ns;
    counters.hardirq_max_ns = counters.hardirq_max_ns.max(handler_ns);
    count(&mut counters.hardirq_hist, handler_ns);
    if let Some(per_irq) = per_irq {
        per_irq.ns += handler_ns;
        per_irq.max_ns = per_irq.max_ns.max(handler_ns);
    }
    if wanted(counters, Kind::Irq) {
        let body = IrqBody {
            handler_ns,
            irq,
            reserved: 0,
        };
        send(counters, Kind::Irq, cpu, time_ns, body);
    }
    Some(())
}

#[btf_tracepoint(function = "irq_handler_entry")]
fn irq_handler_entry_tp_btf(_: BtfTracePointContext) -> i32 {
    entry();
    0
}

#[raw_tracepoint(tracepoint = "irq_handler_entry")]
fn irq_handler_entry_raw_tp(_: RawTracePointContext) -> i32 {
    entry();
    0
}

#[btf_tracepoint(function = "irq_handler_exit")]
fn irq_handler_exit_tp_btf(ctx: BtfTracePointContext) -> i32 {
    exit::<Direct>(
        arg(ctx.as_ptr(), 0) as u32,
        arg(ctx.as_ptr(), 1) as *const u8,
    );
    0
}

#[raw_tracepoint(tracepoint = "irq_handler_exit")]
fn irq_handler_exit_raw_tp(ctx: RawTracePointContext) -> i32 {
    exit::<Helper>(
        arg(ctx.as_ptr(), 0) as u32,
        arg(ctx.as_ptr(), 1) as *const u8,
    );
    0
}
