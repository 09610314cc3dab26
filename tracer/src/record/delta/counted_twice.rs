//! What kernel and programs both count, and what is a sum of other counters: told as the difference to these, which is
//! near 0 and takes next to no room.

use tracer_common::counter::SOFTIRQ_NAMES;

use crate::model::snapshot::Snapshot;

/// To or from.
#[derive(Clone, Copy)]
enum Way {
    Apart,
    Together,
}

impl Way {
    fn small(self, counter: &mut u32, same: u64) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the kernel's counter wraps there"
        )]
        let same = same as u32;
        *counter = match self {
            Self::Apart => counter.wrapping_sub(same),
            Self::Together => counter.wrapping_add(same),
        };
    }

    fn large(self, counter: &mut u64, same: u64) {
        *counter = match self {
            Self::Apart => counter.wrapping_sub(same),
            Self::Together => counter.wrapping_add(same),
        };
    }
}

/// Takes off what is counted elsewhere in `snapshot`.
pub fn apart(snapshot: &mut Snapshot) {
    shift(snapshot, Way::Apart);
}

/// The inverse of [`apart`].
pub fn together(snapshot: &mut Snapshot) {
    shift(snapshot, Way::Together);
}

fn shift(snapshot: &mut Snapshot, way: Way) {
    let Snapshot { traced, kernel, .. } = snapshot;
    for (irq, per_cpu) in &traced.irqs {
        let row = kernel.interrupts.device.get_mut(irq);
        let mut row = row.map(|row| &mut row.counts);
        for (cpu, counters) in per_cpu {
            let count = row.as_mut().and_then(|counts| counts.get_mut(cpu));
            if let Some(count) = count {
                way.small(count, counters.count);
            }
            if let Some(all) = traced.cpus.get_mut(cpu) {
                way.large(&mut all.hardirqs, counters.count);
                way.large(&mut all.hardirq_ns, counters.ns);
            }
        }
    }
    for (cpu, counters) in &traced.cpus {
        if let Some(row) = kernel.softnet.get_mut(cpu) {
            way.small(&mut row.processed, counters.packets);
        }
        for (name, softirq) in SOFTIRQ_NAMES.iter().zip(&counters.softirqs) {
            let runs = kernel.softirqs.runs.get_mut(*name);
            if let Some(runs) = runs.and_then(|runs| runs.get_mut(cpu)) {
                way.small(runs, softirq.runs);
            }
        }
    }
}
