//! Differences of things that are numbered, such as CPUs: field by field, all CPUs side by side. That is a third of the
//! size of CPU by CPU.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Delta, Maybe, Misfit};

/// What can be told of many at once.
pub trait Column: Delta {
    /// The differences. Their default is none.
    type Columns: Default + Serialize + DeserializeOwned;

    /// Number, now and before of each.
    fn columns_since(pairs: &[(u32, &Self, &Self)]) -> Option<Self::Columns>;

    /// Adds the differences.
    fn columns_apply(
        now: &mut BTreeMap<u32, &mut Self>,
        columns: Self::Columns,
    ) -> Result<(), Misfit>;
}

/// Difference of a map by number.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Numbered<C> {
    /// Not there any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<u32>,
    /// There for the first time, without any count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    new: Vec<u32>,
    /// What changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<C>,
}

impl<V: Column> Delta for BTreeMap<u32, V> {
    type Wire = Numbered<V::Columns>;

    fn nothing() -> Self {
        Self::new()
    }

    fn since(&self, before: &Self) -> Option<Self::Wire> {
        let nothing = V::nothing();
        let missing = |from: &Self, of: &Self| -> Vec<u32> {
            let ids = of.keys().copied();
            ids.filter(|id| !from.contains_key(id)).collect()
        };
        let pairs: Vec<_> = self
            .iter()
            .map(|(id, now)| (*id, now, before.get(id).unwrap_or(&nothing)))
            .collect();
        let wire = Numbered {
            gone: missing(self, before),
            new: missing(before, self),
            of: V::columns_since(&pairs),
        };
        let changed = !wire.gone.is_empty() || !wire.new.is_empty() || wire.of.is_some();
        changed.then_some(wire)
    }

    fn apply(&mut self, change: Self::Wire) -> Result<(), Misfit> {
        for id in change.gone {
            self.remove(&id);
        }
        for id in change.new {
            self.insert(id, V::nothing());
        }
        let Some(columns) = change.of else {
            return Ok(());
        };
        let mut now = self.iter_mut().map(|(id, now)| (*id, now)).collect();
        V::columns_apply(&mut now, columns)
    }
}

/// The entry that a difference is for.
pub(super) fn entry<'a, T>(
    now: &'a mut BTreeMap<u32, &mut T>,
    id: u32,
) -> Result<&'a mut T, Misfit> {
    let missing = || Misfit(format!("there is no number {id}"));
    now.get_mut(&id).map(|of| &mut **of).ok_or_else(missing)
}

/// Told apart from each other: an entry for each that changed.
macro_rules! sparse {
    ($of:ty $(; $parameter:ident: $bound:path)?) => {
        impl$(<$parameter: $bound>)? $crate::record::delta::Column for $of {
            type Columns = std::collections::BTreeMap<u32, <$of as $crate::record::delta::Delta>::Wire>;

            fn columns_since(pairs: &[(u32, &Self, &Self)]) -> Option<Self::Columns> {
                $crate::record::delta::column::sparse_since(pairs)
            }

            fn columns_apply(
                now: &mut std::collections::BTreeMap<u32, &mut Self>,
                columns: Self::Columns,
            ) -> Result<(), $crate::record::delta::Misfit> {
                $crate::record::delta::column::sparse_apply(now, columns)
            }
        }
    };
}
pub(super) use sparse;

pub(super) fn sparse_since<T: Delta>(pairs: &[(u32, &T, &T)]) -> Option<BTreeMap<u32, T::Wire>> {
    let changes = pairs.iter();
    let changes: BTreeMap<_, _> = changes
        .filter_map(|(id, now, before)| Some((*id, now.since(before)?)))
        .collect();
    (!changes.is_empty()).then_some(changes)
}

pub(super) fn sparse_apply<T: Delta>(
    now: &mut BTreeMap<u32, &mut T>,
    changes: BTreeMap<u32, T::Wire>,
) -> Result<(), Misfit> {
    for (id, change) in changes {
        entry(now, id)?.apply(change)?;
    }
    Ok(())
}

/// A gap of up to so many neighbours that did not change takes less room than a new run.
const GAP: usize = 3;

/// Runs of neighbours that changed: the number of the first, then the difference of each.
fn runs<T: Clone>(
    changes: impl Iterator<Item = (u32, Option<T>)>,
    number: fn(u32) -> T,
    unchanged: &T,
) -> Option<Vec<Vec<T>>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    let mut next = None;
    let mut gap = 0;
    for (id, change) in changes {
        let goes_on = next == Some(id);
        next = id.checked_add(1);
        match (change, runs.last_mut()) {
            (None, _) if goes_on && gap < GAP => gap += 1,
            (None, _) => next = None,
            (Some(change), Some(run)) if goes_on => {
                run.extend(std::iter::repeat_n(unchanged.clone(), gap));
                run.push(change);
                gap = 0;
            }
            (Some(change), _) => {
                runs.push(vec![number(id), change]);
                gap = 0;
            }
        }
    }
    (!runs.is_empty()).then_some(runs)
}

/// Runs of plain numbers.
pub(super) fn number_runs(
    changes: impl Iterator<Item = (u32, Option<i64>)>,
) -> Option<Vec<Vec<i64>>> {
    runs(changes, i64::from, &0)
}

fn apply_runs<T, C>(
    now: &mut BTreeMap<u32, &mut T>,
    runs: Vec<Vec<C>>,
    number: fn(C) -> Option<u32>,
    apply: impl Fn(&mut T, C) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    let misfit = || Misfit("a list does not begin with a number".to_owned());
    for run in runs {
        let mut run = run.into_iter();
        let first = run.next().and_then(number).ok_or_else(misfit)?;
        for (id, change) in (first..).zip(run) {
            apply(entry(now, id)?, change)?;
        }
    }
    Ok(())
}

/// The inverse of [`number_runs`].
pub(super) fn apply_number_runs<T>(
    now: &mut BTreeMap<u32, &mut T>,
    runs: Vec<Vec<i64>>,
    apply: impl Fn(&mut T, i64) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    apply_runs(now, runs, |id| u32::try_from(id).ok(), apply)
}

macro_rules! number_column {
    ($($number:ty),+) => { $(
        impl Column for $number {
            type Columns = Vec<Vec<i64>>;

            fn columns_since(pairs: &[(u32, &Self, &Self)]) -> Option<Self::Columns> {
                let change = |(id, now, before): &(u32, &Self, &Self)| (*id, now.since(before).map(i64::from));
                number_runs(pairs.iter().map(change))
            }

            fn columns_apply(now: &mut BTreeMap<u32, &mut Self>, columns: Self::Columns) -> Result<(), Misfit> {
                apply_number_runs(now, columns, |now, change| {
                    let change = change.try_into().map_err(|_| Misfit(format!("{change} is no 32-bit number")))?;
                    now.apply(change)
                })
            }
        }

        /// `null`: there is none any more.
        impl Column for Option<$number> {
            type Columns = Vec<Vec<Option<i64>>>;

            fn columns_since(pairs: &[(u32, &Self, &Self)]) -> Option<Self::Columns> {
                let changes = pairs.iter().filter_map(|(id, now, before)| {
                    let change = match now.since(before)? {
                        Maybe::Gone(_) => None,
                        Maybe::Change(change) => Some(i64::from(change)),
                    };
                    Some((*id, Some(change)))
                });
                // Without gaps: there may be none where nothing changed.
                runs(changes, |id| Some(i64::from(id)), &None)
            }

            fn columns_apply(now: &mut BTreeMap<u32, &mut Self>, columns: Self::Columns) -> Result<(), Misfit> {
                apply_runs(now, columns, |id| u32::try_from(id?).ok(), |now, change| {
                    let Some(change) = change else {
                        *now = None;
                        return Ok(());
                    };
                    let change = change.try_into().map_err(|_| Misfit(format!("{change} is no 32-bit number")))?;
                    now.apply(Maybe::Change(change))
                })
            }
        }
    )+ };
}

number_column!(u32, u64);

impl<T: Column> Column for Box<T> {
    type Columns = T::Columns;

    fn columns_since(pairs: &[(u32, &Self, &Self)]) -> Option<T::Columns> {
        let mut inner: Vec<(u32, &T, &T)> = Vec::with_capacity(pairs.len());
        for (id, now, before) in pairs {
            inner.push((*id, now, before));
        }
        T::columns_since(&inner)
    }

    fn columns_apply(
        now: &mut BTreeMap<u32, &mut Self>,
        columns: T::Columns,
    ) -> Result<(), Misfit> {
        let mut inner = now.iter_mut().map(|(id, of)| (*id, of.as_mut())).collect();
        T::columns_apply(&mut inner, columns)
    }
}

sparse!(BTreeMap<String, V>; V: Delta);
