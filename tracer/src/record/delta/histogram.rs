//! Differences of histograms: a CPU's, and those of many by bucket.

use std::{collections::BTreeMap, iter::once};

use serde::{Deserialize, Serialize};
use tracer_common::hist::BUCKETS;

use super::{
    Column, Delta, Misfit,
    column::{apply_number_runs, entry, number_runs},
};

pub(super) type Histogram = [u64; BUCKETS];

/// The number of the first bucket that changed, then the change of it and of those up to the last that did.
impl Delta for Histogram {
    type Wire = Vec<i64>;

    fn nothing() -> Self {
        [0; BUCKETS]
    }

    fn since(&self, before: &Self) -> Option<Vec<i64>> {
        let changed = |bucket: &usize| self[*bucket] != before[*bucket];
        let first = (0..BUCKETS).find(changed)?;
        let last = (0..BUCKETS).rfind(changed)?;
        let change = |bucket: usize| self[bucket].wrapping_sub(before[bucket]).cast_signed();
        let first_number = i64::try_from(first).ok()?;
        Some(
            once(first_number)
                .chain((first..=last).map(change))
                .collect(),
        )
    }

    fn apply(&mut self, changes: Vec<i64>) -> Result<(), Misfit> {
        let misfit = || Misfit("a histogram has other buckets".to_owned());
        let (first, changes) = changes.split_first().ok_or_else(misfit)?;
        let first = usize::try_from(*first).map_err(|_| misfit())?;
        let buckets = self.get_mut(first..).ok_or_else(misfit)?;
        if changes.len() > buckets.len() {
            return Err(misfit());
        }
        for (bucket, change) in buckets.iter_mut().zip(changes) {
            bucket.apply(*change)?;
        }
        Ok(())
    }
}

/// Of a bucket on all CPUs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Buckets {
    /// Runs by CPU.
    OfAll(Vec<Vec<i64>>),
    /// In version 1: of a CPU, as [`Histogram`] alone.
    OfCpu(Vec<i64>),
}

/// By bucket, for a bucket's counts are alike on all CPUs.
impl Column for Histogram {
    type Columns = BTreeMap<u32, Buckets>;

    fn columns_since(all: &[(u32, &Self, &Self)]) -> Option<Self::Columns> {
        let changed = |at: usize| {
            let change =
                |(cpu, now, before): &(u32, &Self, &Self)| (*cpu, now[at].since(&before[at]));
            number_runs(all.iter().map(change)).map(Buckets::OfAll)
        };
        let buckets = (0..).zip(0..BUCKETS);
        let buckets: Self::Columns = buckets
            .filter_map(|(id, at)| Some((id, changed(at)?)))
            .collect();
        (!buckets.is_empty()).then_some(buckets)
    }

    fn columns_apply(
        now: &mut BTreeMap<u32, &mut Self>,
        columns: Self::Columns,
    ) -> Result<(), Misfit> {
        for (id, changes) in columns {
            match changes {
                Buckets::OfCpu(changes) => entry(now, id)?.apply(changes)?,
                Buckets::OfAll(runs) => apply_number_runs(now, runs, |histogram, change| {
                    let bucket = histogram.get_mut(id as usize);
                    let none = || Misfit(format!("there is no bucket {id}"));
                    bucket.ok_or_else(none)?.apply(change)
                })?,
            }
        }
        Ok(())
    }
}
