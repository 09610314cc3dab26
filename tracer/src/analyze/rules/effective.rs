//! Rule 6: an interrupt is delivered elsewhere than its mask makes one believe.

use std::collections::BTreeSet;

use super::{
    case::Case,
    command::{affinity, list, quote},
    found::{Found, NOTHING, Verdict, With as _, step},
};
use crate::{
    model::{
        finding::{Advice, Severity},
        topology::Vector,
    },
    report::number::{self, of, ranges},
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
    let escaped: Vec<u32> = differing
        .iter()
        .filter(|(_, v)| is_outside(v))
        .map(|(irq, _)| *irq)
        .collect();
    let (severity, summary) = if escaped.is_empty() {
        let to: BTreeSet<u32> = differing
            .iter()
            .flat_map(|(_, v)| v.effective.iter().copied())
            .collect();
        let summary = format!(
            "{} with a mask of several CPUs, all delivered to {}: a mask does not spread one interrupt",
            of(differing.len() as u64, "interrupt"),
            number::cpus(to)
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

fn is_outside(vector: &Vector) -> bool {
    let mut effective = vector.effective.iter();
    effective.any(|cpu| !vector.affinity.contains(cpu))
}

fn leave_managed(device: Option<&str>) -> Advice {
    let advice = step(
        "Leave managed interrupts alone",
        "the kernel refuses to write their mask (EPERM) and spreads them itself, over as many queues as there are: \
         this shows how many the device can have, ethtool -L sets it",
    );
    match device {
        Some(device) => advice.command(format!("ethtool -l {}", quote(device))),
        None => advice,
    }
}

fn advise(case: Case<'_>, found: Found, differing: &[(u32, &Vector)], escaped: bool) -> Found {
    let is_managed = |vector: &Vector| vector.managed == Some(true);
    let managed = differing.iter().find(|(_, vector)| is_managed(vector));
    let found = match managed {
        Some((_, vector)) => found.advice([leave_managed(vector.device.as_deref())]),
        None => found,
    };
    let own = differing.iter().filter(|(_, vector)| !is_managed(vector));
    let Some((irq, vector)) = own
        .clone()
        .find(|(_, vector)| escaped && is_outside(vector))
        .or_else(|| own.clone().next())
    else {
        return found;
    };
    let escaped = is_outside(vector);
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
