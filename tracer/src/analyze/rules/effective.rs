//! Rule 6: an interrupt is delivered elsewhere than its mask makes one believe.

use std::collections::BTreeSet;

use super::{
    case::Case,
    command::{affinity, list, quote},
    found::{Found, NOTHING, Verdict, With as _, step},
};
use crate::{
    model::{finding::Severity, topology::Vector},
    report::number::{of, ranges},
};

pub(super) const ID: &str = "effective-affinity";

/// Vectors that have an evidence line of their own.
const LISTED: usize = 4;

pub(super) fn judge(case: Case<'_>) -> Verdict {
    let active: BTreeSet<u32> = case
        .report
        .irqs
        .iter()
        .filter(|i| i.count > 0)
        .map(|i| i.irq)
        .collect();
    let ours = case
        .host
        .irqs
        .iter()
        .filter(|(irq, _)| active.contains(irq));
    let ours: Vec<(u32, &Vector)> = ours.map(|(irq, vector)| (*irq, vector)).collect();
    if ours.is_empty() {
        return Err(
            "interrupts of network devices: none occurred, or their affinity cannot be read"
                .to_owned(),
        );
    }
    let known = |vector: &Vector| !vector.affinity.is_empty() && !vector.effective.is_empty();
    if !ours.iter().any(|(_, vector)| known(vector)) {
        return Err("effective_affinity_list: this kernel or architecture has none".to_owned());
    }
    let differs = |vector: &Vector| known(vector) && vector.affinity != vector.effective;
    let differing: Vec<_> = ours
        .into_iter()
        .filter(|(_, vector)| differs(vector))
        .collect();
    if differing.is_empty() {
        return NOTHING;
    }
    // The hardware delivers to one CPU of a mask of several: normal, but often taken for spreading.
    let outside = |vector: &Vector| {
        vector
            .effective
            .iter()
            .any(|cpu| !vector.affinity.contains(cpu))
    };
    let escaped: Vec<u32> = differing
        .iter()
        .filter(|(_, v)| outside(v))
        .map(|(irq, _)| *irq)
        .collect();
    let (severity, summary) = if escaped.is_empty() {
        let to: BTreeSet<u32> = differing
            .iter()
            .flat_map(|(_, v)| v.effective.iter().copied())
            .collect();
        let summary = format!(
            "{} with a mask of several CPUs, all delivered to CPU {}: a mask does not spread one interrupt",
            of(differing.len() as u64, "interrupt"),
            ranges(to)
        );
        (Severity::Info, summary)
    } else {
        let summary = format!(
            "IRQ {} is delivered outside of its mask: the mask is not what the hardware does",
            ranges(escaped.iter().copied())
        );
        (Severity::Warning, summary)
    };
    let mut found = Found::new(ID, severity, summary).on(differing
        .iter()
        .flat_map(|(_, v)| v.effective.iter().copied()));
    for (irq, vector) in differing.iter().take(LISTED) {
        found = found.evidence(
            format!("IRQ {irq} ({})", vector.name),
            format!(
                "mask {}, delivered to {}",
                list(&vector.affinity),
                list(&vector.effective)
            ),
            format!("/proc/irq/{irq}/effective_affinity_list"),
        );
    }
    advise(case, found, &differing, !escaped.is_empty()).alone()
}

fn advise(case: Case<'_>, found: Found, differing: &[(u32, &Vector)], escaped: bool) -> Found {
    let Some((irq, vector)) = differing.first() else {
        return found;
    };
    let managed = differing
        .iter()
        .find(|(_, vector)| vector.managed == Some(true));
    if let Some((_, vector)) = managed {
        let device = vector.device.as_deref().unwrap_or_default();
        let advice = step(
            "Leave managed interrupts alone",
            "the kernel refuses to write their mask (EPERM) and places them itself; change the number of queues instead",
        );
        let advice = if device.is_empty() {
            advice
        } else {
            advice.command(format!("ethtool -l {}", quote(device)))
        };
        return found.advice([advice]);
    }
    let read = step(
        "Judge by where interrupts are delivered, not by the mask",
        "smp_affinity is the wish, effective_affinity what the interrupt controller was given",
    );
    let found =
        found.advice([read.command(format!("cat /proc/irq/{irq}/effective_affinity_list"))]);
    let online = case.online();
    let target = vector.affinity.iter().find(|cpu| online.contains(cpu));
    match target.filter(|_| escaped) {
        Some(cpu) => {
            let write = step(
                "Write the mask again, with one CPU",
                "a new mask takes effect with the next interrupt",
            );
            let write = write
                .command(affinity(&[(*irq, cpu.to_string())]))
                .undo(affinity(&[(*irq, list(&vector.affinity))]));
            found.advice([write])
        }
        None => found,
    }
}
