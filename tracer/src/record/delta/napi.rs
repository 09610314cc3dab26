//! Differences of NAPI instances, by CPU and place in its list.

use std::collections::BTreeMap;

use tracer_common::counter::NapiCounters;

use super::{
    Column, Delta, Misfit,
    column::{entry, sparse},
    counters::{NapiColumns, NapiDelta},
    listed::{Listed, Range, of_version_1, pairs, placed_apply, placed_since, push},
};

sparse!([u8; 16]);

/// By place in the list; those that are gone were the last.
impl Delta for Vec<NapiCounters> {
    type Wire = BTreeMap<usize, Option<NapiDelta>>;

    fn nothing() -> Self {
        Self::new()
    }

    fn since(&self, before: &Self) -> Option<Self::Wire> {
        let grown = self.iter().enumerate().filter_map(|(slot, now)| {
            let change = match before.get(slot) {
                Some(before) => now.since(before)?,
                None => now.since(&NapiCounters::default()).unwrap_or_default(),
            };
            Some((slot, Some(change)))
        });
        let gone = (self.len()..before.len()).map(|slot| (slot, None));
        let changes: Self::Wire = grown.chain(gone).collect();
        (!changes.is_empty()).then_some(changes)
    }

    fn apply(&mut self, changes: Self::Wire) -> Result<(), Misfit> {
        for (slot, change) in changes {
            match change {
                None => self.truncate(slot),
                Some(change) => {
                    if slot == self.len() {
                        self.push(NapiCounters::default());
                    }
                    self.get_mut(slot)
                        .ok_or_else(|| Misfit(format!("NAPI slot {slot} follows none")))?
                        .apply(change)?;
                }
            }
        }
        Ok(())
    }
}

/// By CPU and place in its list.
impl Column for Vec<NapiCounters> {
    type Columns = Listed<Range, NapiColumns>;

    fn columns_since(all: &[(u32, &Self, &Self)]) -> Option<Self::Columns> {
        let nothing = NapiCounters::nothing();
        let mut wire = Listed::default();
        let mut entries = Vec::new();
        for (cpu, now, before) in all {
            for (slot, _) in (0..).zip(*before).skip(now.len()) {
                push(&mut wire.gone, *cpu, slot);
            }
            for (slot, _) in (0..).zip(*now).skip(before.len()) {
                push(&mut wire.new, *cpu, slot);
            }
            let before = before.iter().chain(std::iter::repeat(&nothing));
            entries.extend(now.iter().zip(before));
        }
        wire.of = placed_since(entries);
        wire.changed()
    }

    fn columns_apply(
        now: &mut BTreeMap<u32, &mut Self>,
        columns: Self::Columns,
    ) -> Result<(), Misfit> {
        for (key, change) in columns.by_key {
            let cpu = key
                .parse()
                .map_err(|_| Misfit(format!("no CPU: '{key}'")))?;
            entry(now, cpu)?.apply(of_version_1(change)?)?;
        }
        for (cpu, slot) in pairs(columns.gone)? {
            entry(now, cpu)?.truncate(slot as usize);
        }
        for (cpu, slot) in pairs(columns.new)? {
            let slots = entry(now, cpu)?;
            if slot as usize != slots.len() {
                return Err(Misfit(format!("NAPI slot {slot} follows none")));
            }
            slots.push(NapiCounters::nothing());
        }
        placed_apply(now.values_mut().flat_map(|of| of.iter_mut()), columns.of)
    }
}

/// A name, NUL-padded: each byte a character, so that one that is no UTF-8 comes back as it was.
impl Delta for [u8; 16] {
    type Wire = String;

    fn nothing() -> Self {
        [0; 16]
    }

    fn since(&self, before: &Self) -> Option<String> {
        let length = self
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        (self != before).then(|| self.iter().take(length).map(|&b| char::from(b)).collect())
    }

    fn apply(&mut self, name: String) -> Result<(), Misfit> {
        let mut bytes = [0; 16];
        let mut characters = name.chars();
        for (byte, character) in bytes.iter_mut().zip(&mut characters) {
            *byte =
                u8::try_from(character).map_err(|_| Misfit(format!("no device name: '{name}'")))?;
        }
        if characters.next().is_some() {
            return Err(Misfit(format!("device name too long: '{name}'")));
        }
        *self = bytes;
        Ok(())
    }
}
