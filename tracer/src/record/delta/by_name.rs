//! Differences of lists whose entries have names: softirq vectors, kinds of detail.

use std::collections::BTreeMap;

use tracer_common::{
    counter::{DetailCounters, SOFTIRQ_NAMES, SOFTIRQS, SoftirqCounters},
    event::{KINDS, Kind},
};

use super::{
    Column, Delta, Misfit,
    counters::{DetailColumns, DetailDelta, SoftirqColumns, SoftirqDelta},
};

const KIND_NAMES: [&str; KINDS] = [Kind::Irq.name(), Kind::NetRx.name(), Kind::Drop.name()];

/// Entries that have a name each.
fn named_since<T: Delta>(
    names: &[&'static str],
    now: &[T],
    before: &[T],
) -> Option<BTreeMap<String, T::Wire>> {
    let entries = names.iter().zip(now.iter().zip(before));
    let changes: BTreeMap<_, _> = entries
        .filter_map(|(name, (now, before))| Some(((*name).to_owned(), now.since(before)?)))
        .collect();
    (!changes.is_empty()).then_some(changes)
}

fn apply_named<T: Delta>(
    names: &[&'static str],
    now: &mut [T],
    changes: BTreeMap<String, T::Wire>,
) -> Result<(), Misfit> {
    for (name, change) in changes {
        let at = names.iter().position(|known| *known == name);
        at.and_then(|at| now.get_mut(at))
            .ok_or_else(|| Misfit(format!("nothing is called '{name}'")))?
            .apply(change)?;
    }
    Ok(())
}

impl Delta for [SoftirqCounters; SOFTIRQS] {
    type Wire = BTreeMap<String, SoftirqDelta>;

    fn nothing() -> Self {
        [SoftirqCounters::nothing(); SOFTIRQS]
    }

    fn since(&self, before: &Self) -> Option<Self::Wire> {
        named_since(&SOFTIRQ_NAMES, self, before)
    }

    fn apply(&mut self, changes: Self::Wire) -> Result<(), Misfit> {
        apply_named(&SOFTIRQ_NAMES, self, changes)
    }
}

impl Delta for [DetailCounters; KINDS] {
    type Wire = BTreeMap<String, DetailDelta>;

    fn nothing() -> Self {
        [DetailCounters::nothing(); KINDS]
    }

    fn since(&self, before: &Self) -> Option<Self::Wire> {
        named_since(&KIND_NAMES, self, before)
    }

    fn apply(&mut self, changes: Self::Wire) -> Result<(), Misfit> {
        apply_named(&KIND_NAMES, self, changes)
    }
}

/// As [`named_since`], of many.
fn named_columns<T: Column, const N: usize>(
    names: &[&'static str],
    pairs: &[(u32, &[T; N], &[T; N])],
) -> Option<BTreeMap<String, T::Columns>> {
    let columns: BTreeMap<_, _> = names
        .iter()
        .take(N)
        .enumerate()
        .filter_map(|(at, name)| {
            let of = pairs.iter();
            let of: Vec<_> = of
                .map(|(id, now, before)| (*id, &now[at], &before[at]))
                .collect();
            Some(((*name).to_owned(), T::columns_since(&of)?))
        })
        .collect();
    (!columns.is_empty()).then_some(columns)
}

fn apply_named_columns<T: Column, const N: usize>(
    names: &[&'static str],
    now: &mut BTreeMap<u32, &mut [T; N]>,
    columns: BTreeMap<String, T::Columns>,
) -> Result<(), Misfit> {
    for (name, columns) in columns {
        let at = names.iter().take(N).position(|known| *known == name);
        let at = at.ok_or_else(|| Misfit(format!("nothing is called '{name}'")))?;
        let mut of = now
            .iter_mut()
            .map(|(id, all)| (*id, &mut all[at]))
            .collect();
        T::columns_apply(&mut of, columns)?;
    }
    Ok(())
}

impl Column for [SoftirqCounters; SOFTIRQS] {
    type Columns = BTreeMap<String, SoftirqColumns>;

    fn columns_since(pairs: &[(u32, &Self, &Self)]) -> Option<Self::Columns> {
        named_columns(&SOFTIRQ_NAMES, pairs)
    }

    fn columns_apply(
        now: &mut BTreeMap<u32, &mut Self>,
        columns: Self::Columns,
    ) -> Result<(), Misfit> {
        apply_named_columns(&SOFTIRQ_NAMES, now, columns)
    }
}

impl Column for [DetailCounters; KINDS] {
    type Columns = BTreeMap<String, DetailColumns>;

    fn columns_since(pairs: &[(u32, &Self, &Self)]) -> Option<Self::Columns> {
        named_columns(&KIND_NAMES, pairs)
    }

    fn columns_apply(
        now: &mut BTreeMap<u32, &mut Self>,
        columns: Self::Columns,
    ) -> Result<(), Misfit> {
        apply_named_columns(&KIND_NAMES, now, columns)
    }
}
