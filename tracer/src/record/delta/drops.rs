//! Differences of drops, by what tells them apart.

use std::collections::BTreeMap;

use tracer_common::counter::{DropKey, NO_CPU, NO_REASON};

use super::{
    Column, Delta, Misfit,
    listed::{Listed, of_version_1, placed_apply, placed_since},
};

/// By place in the order of the keys.
impl<V: Column> Delta for BTreeMap<DropKey, V> {
    type Wire = Listed<String, V::Columns>;

    fn nothing() -> Self {
        Self::new()
    }

    fn since(&self, before: &Self) -> Option<Self::Wire> {
        let missing = |from: &Self, of: &Self| -> Vec<String> {
            let keys = of.keys().filter(|key| !from.contains_key(key));
            keys.map(write).collect()
        };
        let nothing = V::nothing();
        let entries = self
            .iter()
            .map(|(key, now)| (now, before.get(key).unwrap_or(&nothing)));
        let wire = Listed {
            gone: missing(self, before),
            new: missing(before, self),
            of: placed_since(entries),
            by_key: BTreeMap::new(),
        };
        wire.changed()
    }

    fn apply(&mut self, change: Self::Wire) -> Result<(), Misfit> {
        for (key, change) in change.by_key {
            let key = read(&key)?;
            match of_version_1::<Option<V::Wire>>(change)? {
                None => drop(self.remove(&key)),
                Some(change) => self.entry(key).or_insert_with(V::nothing).apply(change)?,
            }
        }
        for key in change.gone {
            self.remove(&read(&key)?);
        }
        for key in change.new {
            self.insert(read(&key)?, V::nothing());
        }
        placed_apply(self.values_mut(), change.of)
    }
}

/// `location reason ifindex netns target_cpu protocol`, numbers but for the location; `-` for no reason and no CPU.
pub(super) fn write(key: &DropKey) -> String {
    let optional = |n: u32, none| {
        if n == none {
            "-".to_owned()
        } else {
            n.to_string()
        }
    };
    format!(
        "{:#x} {} {} {} {} {:#06x}",
        key.location,
        optional(key.reason, NO_REASON),
        key.ifindex,
        key.netns,
        optional(key.target_cpu, NO_CPU),
        key.protocol
    )
}

/// The inverse of [`write`].
pub(super) fn read(written: &str) -> Result<DropKey, Misfit> {
    let parse = || {
        let mut words = written.split(' ');
        let mut word = || words.next();
        let number = |word: &str| word.parse::<u32>().ok();
        let optional = |word: &str, none| match word {
            "-" => Some(none),
            word => number(word),
        };
        let key = DropKey {
            location: u64::from_str_radix(word()?.strip_prefix("0x")?, 16).ok()?,
            reason: optional(word()?, NO_REASON)?,
            ifindex: number(word()?)?,
            netns: number(word()?)?,
            target_cpu: optional(word()?, NO_CPU)?,
            protocol: u32::from_str_radix(word()?.strip_prefix("0x")?, 16).ok()?,
            reserved: 0,
        };
        words.next().is_none().then_some(key)
    };
    parse().ok_or_else(|| Misfit(format!("no drop key: '{written}'")))
}
