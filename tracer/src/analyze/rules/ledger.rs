//! Rules 17 and 18: what is ordinary, and what nobody saw.

use std::collections::BTreeMap;

use super::{
    case::Case,
    found::{Found, NOTHING, Verdict, step},
    threshold::Key,
};
use crate::{
    analyze::benign::is_benign,
    model::{finding::Severity, report::Reconciliation},
    report::number::{count, of, percent, times},
};

pub(super) const ORDINARY: &str = "ordinary-drops";
pub(super) const RESIDUAL: &str = "residual";

/// Lines of evidence.
const LISTED: usize = 6;

/// Drops that are no harm, apart from those that are.
pub(super) fn ordinary(case: Case<'_>) -> Verdict {
    if case.report.drop_totals.packets.is_none() {
        return Err("drops by reason: kfree_skb is not hooked".to_owned());
    }
    let mut sorts: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for drop in case
        .report
        .drops
        .iter()
        .filter(|drop| drop.benign && drop.packets > 0)
    {
        let reason = drop.reason.as_deref().unwrap_or(&drop.site);
        let why = is_benign(&drop.site, drop.reason.as_deref(), drop.stage).unwrap_or("ordinary");
        let (sum, _) = sorts.entry(reason).or_insert((0, why));
        *sum = sum.saturating_add(drop.packets);
    }
    let all = sorts.values().map(|(n, _)| *n).fold(0, u64::saturating_add);
    if all == 0 {
        return NOTHING;
    }
    let mut sorts: Vec<_> = sorts.into_iter().collect();
    sorts.sort_by_key(|(_, (n, _))| std::cmp::Reverse(*n));
    let words: Vec<String> = sorts
        .iter()
        .take(3)
        .map(|(_, (_, why))| (*why).to_owned())
        .collect();
    let summary = format!(
        "{} ordinary and no loss: {}",
        if all == 1 {
            "1 drop of a packet is".to_owned()
        } else {
            format!("{} of packets are", of(all, "drop"))
        },
        words.join("; ")
    );
    let found = Found::new(ORDINARY, Severity::Info, summary);
    let found = sorts
        .iter()
        .take(LISTED)
        .fold(found, |found, (reason, (n, why))| {
            found.evidence(*reason, format!("{}, {why}", count(*n)), "kfree_skb")
        });
    found
        .useless("any knob: the host does what it should")
        .alone()
}

/// A counter of the kernel that differs from what was traced, beyond what known causes explain.
pub(super) fn residual(case: Case<'_>) -> Verdict {
    let rows = &case.report.reconciliation;
    if rows.iter().all(|row| row.unexplained.is_none()) {
        return Err("traced counts beside the kernel's: nothing could be compared".to_owned());
    }
    let open: Vec<(&Reconciliation, u64)> = rows
        .iter()
        .filter_map(|row| Some((row, row.unexplained?)))
        .filter(|(row, open)| {
            let of = row.delta.max(row.traced.unwrap_or(0)).max(*open);
            *open >= case.limit(Key::ResidualFloor)
                && u128::from(*open) * 100 > u128::from(case.limit(Key::Residual)) * u128::from(of)
        })
        .collect();
    // Of equal ones the first: a sum stands behind its parts.
    let Some((worst, unexplained)) = open.iter().rev().max_by_key(|(_, open)| *open) else {
        return NOTHING;
    };
    let side = if worst.residual.is_some_and(|residual| residual < 0) {
        "traced that the kernel did not count"
    } else {
        "counted by the kernel that were not traced"
    };
    let more = match open.len() {
        1 => String::new(),
        n => format!("; {} too", of(n as u64 - 1, "other counter")),
    };
    let summary = format!(
        "not everything was seen: {} of {} are {} ({}), for no known cause{more}",
        percent(*unexplained, worst.delta.max(worst.traced.unwrap_or(0))),
        worst.counter,
        side,
        count(*unexplained)
    );
    let found = Found::new(RESIDUAL, Severity::Warning, summary);
    let found = open.iter().take(LISTED).fold(found, |found, (row, open)| {
        let traced = row.traced.map_or_else(|| "?".to_owned(), count);
        let value = format!(
            "kernel {}, traced {traced}, unexplained {}",
            count(row.delta),
            count(*open)
        );
        found.evidence(
            row.counter.as_str(),
            value,
            "the kernel's counter beside the probes",
        )
    });
    let missed = case.report.losses.recursion_missed;
    let found = found.evidence(
        "program runs that the kernel skipped",
        missed.map_or_else(|| "not known on this kernel".to_owned(), times),
        "fdinfo recursion_misses",
    );
    found
        .advice([step(
            "Trust the kernel's counter, and take the traced numbers as lower bounds",
            "what can hide the rest: another path to the same counter (a driver that counts its own drops), programs \
             skipped by recursion, CPUs or devices that came and went, names that are hidden",
        )])
        .alone()
}
