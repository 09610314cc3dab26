//! The kernel's other counters beside what was traced: `softnet_stat` but its drops, what devices and drivers lost,
//! what the protocols counted.
//!
//! One drop is one drop. Counters that hold each other are taken apart, so that it stands in one row only:
//!
//! - a backlog drop is in softnet `dropped`, in the device's `rx_dropped`, and, if the flow limit refused it, in
//!   `flow_limit`: rows of [`super::reconciliation`], the last without a traced count of its own;
//! - UDP `InErrors` holds `RcvbufErrors`, `MemErrors` and `InCsumErrors`: its row has what is left;
//! - TCP `InErrs` holds `InCsumErrors`, IP `InHdrErrors` holds its `InCsumErrors`, `ListenDrops` holds
//!   `ListenOverflows`: likewise;
//! - device counters before any `sk_buff` (`rx_missed`, a driver's ring) are in no other row.

mod device;
mod protocol;
mod relation;
mod softnet;
#[cfg(test)]
mod tests;

use super::{Facts, Hooks};
use crate::{
    analyze::reconcile::{Cause, Skew},
    model::{report::Reconciliation, window::Window},
};

/// All rows in which the kernel or tracer counted anything.
pub(super) fn rows(window: &Window, facts: &Facts, hooks: &Hooks) -> Vec<Reconciliation> {
    let mut rows = protocol::rows(window, facts, hooks);
    rows.extend(softnet::rows(window, facts, hooks));
    rows.extend(device::rows(window, facts));
    rows
}

/// A counter that nothing traced stands beside.
fn untraced(counter: String, delta: u64, why: &str) -> Reconciliation {
    Reconciliation {
        counter,
        delta,
        explanation: Some(why.to_owned()),
        ..Reconciliation::default()
    }
}

/// What fell between the reads, if anything.
fn skew(gap_ns: u64, skew: Skew) -> Option<Cause> {
    (skew != Skew::default()).then(|| Cause::skew(gap_ns, skew))
}

/// Runs of the programs at `names` that the kernel skipped.
fn recursion(window: &Window, names: &[&str]) -> Option<Cause> {
    let missed = Hooks::missed(window, names).filter(|missed| *missed != 0);
    missed.map(Cause::recursion)
}
