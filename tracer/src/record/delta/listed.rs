//! Differences of things that have two numbers, or a key and a number: all of them side by side.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Delta, Misfit,
    column::{Column, entry},
};

/// Difference of many things that have keys `K`, all told together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    default,
    bound(
        serialize = "K: Serialize, C: Serialize",
        deserialize = "K: DeserializeOwned, C: DeserializeOwned"
    )
)]
pub struct Listed<K, C> {
    /// Not there any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) gone: Vec<K>,
    /// There for the first time, without any count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) new: Vec<K>,
    /// What changed, by the place among all that there are now, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) of: Option<C>,
    /// As version 1 told it: by key, then what changed there.
    #[serde(flatten)]
    pub(super) by_key: BTreeMap<String, Value>,
}

impl<K, C> Default for Listed<K, C> {
    fn default() -> Self {
        Self {
            gone: Vec::new(),
            new: Vec::new(),
            of: None,
            by_key: BTreeMap::new(),
        }
    }
}

impl<K, C> Listed<K, C> {
    /// `None` if nothing changed.
    pub(super) fn changed(self) -> Option<Self> {
        (!self.gone.is_empty() || !self.new.is_empty() || self.of.is_some()).then_some(self)
    }
}

/// A change as version 1 told it.
pub(super) fn of_version_1<T: DeserializeOwned>(change: Value) -> Result<T, Misfit> {
    serde_json::from_value(change).map_err(|error| Misfit(error.to_string()))
}

/// Differences by place.
pub(super) fn placed_since<'a, V: Column + 'a>(
    entries: impl IntoIterator<Item = (&'a V, &'a V)>,
) -> Option<V::Columns> {
    let entries = entries.into_iter().zip(0..);
    let entries: Vec<_> = entries
        .map(|((now, before), at)| (at, now, before))
        .collect();
    V::columns_since(&entries)
}

/// The inverse of [`placed_since`].
pub(super) fn placed_apply<'a, V: Column + 'a>(
    entries: impl IntoIterator<Item = &'a mut V>,
    columns: Option<V::Columns>,
) -> Result<(), Misfit> {
    let Some(columns) = columns else {
        return Ok(());
    };
    let mut entries = (0..).zip(entries).collect();
    V::columns_apply(&mut entries, columns)
}

/// Pairs of numbers, such as interrupt and CPU: one of the first and a range of the second.
pub type Range = (u32, u32, u32);

/// Of a range.
const LONGEST: u32 = 1 << 16;

/// Adds a pair behind all others.
pub(super) fn push(ranges: &mut Vec<Range>, outer: u32, id: u32) {
    match ranges.last_mut() {
        Some((of, _, last)) if *of == outer && last.checked_add(1) == Some(id) => *last = id,
        _ => ranges.push((outer, id, id)),
    }
}

/// The pairs.
pub(super) fn pairs(ranges: Vec<Range>) -> Result<Vec<(u32, u32)>, Misfit> {
    let mut pairs = Vec::new();
    for (outer, first, last) in ranges {
        if last < first || last - first >= LONGEST {
            return Err(Misfit(format!("no range: {first} to {last}")));
        }
        pairs.extend((first..=last).map(|id| (outer, id)));
    }
    Ok(pairs)
}

impl<V: Column> Column for BTreeMap<u32, V> {
    type Columns = Listed<Range, V::Columns>;

    fn columns_since(all: &[(u32, &Self, &Self)]) -> Option<Self::Columns> {
        let nothing = V::nothing();
        let mut wire = Listed::default();
        let mut entries = Vec::new();
        for (outer, now, before) in all {
            for id in before.keys().filter(|id| !now.contains_key(id)) {
                push(&mut wire.gone, *outer, *id);
            }
            for (id, now) in *now {
                let known = before.get(id);
                if known.is_none() {
                    push(&mut wire.new, *outer, *id);
                }
                entries.push((now, known.unwrap_or(&nothing)));
            }
        }
        wire.of = placed_since(entries);
        wire.changed()
    }

    fn columns_apply(
        now: &mut BTreeMap<u32, &mut Self>,
        columns: Self::Columns,
    ) -> Result<(), Misfit> {
        for (key, change) in columns.by_key {
            let id = key
                .parse()
                .map_err(|_| Misfit(format!("no number: '{key}'")))?;
            entry(now, id)?.apply(of_version_1(change)?)?;
        }
        for (outer, id) in pairs(columns.gone)? {
            entry(now, outer)?.remove(&id);
        }
        for (outer, id) in pairs(columns.new)? {
            entry(now, outer)?.insert(id, V::nothing());
        }
        placed_apply(now.values_mut().flat_map(|of| of.values_mut()), columns.of)
    }
}
