//! Differences between two states of the same thing, as a recording holds them: what did not change is left out.
//!
//! | what | its difference |
//! | --- | --- |
//! | number | later − earlier, modulo its width |
//! | struct, map | what changed, by name; in a map, `null` for what is gone and, for what is new, the difference to nothing |
//! | optional number | as the number; `false` if there is none any more |
//! | text, list, flag, fact | the later one, whole |

mod by_name;
mod column;
pub mod counted_twice;
mod counters;
mod drops;
mod histogram;
mod host;
mod listed;
mod napi;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use column::Column;
pub use counters::SnapshotDelta;
pub use host::StateDelta;

/// A difference that does not fit to what it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(pub String);

/// What can be told as a difference.
pub trait Delta: Sized {
    /// The difference. Its default is none.
    type Wire: Default + Serialize + DeserializeOwned;

    /// Before anything was counted or known.
    fn nothing() -> Self;

    /// `self - before`; `None` if they are equal.
    fn since(&self, before: &Self) -> Option<Self::Wire>;

    /// Adds a difference.
    fn apply(&mut self, change: Self::Wire) -> Result<(), Misfit>;
}

macro_rules! number {
    ($($number:ty as $signed:ty),+) => { $(
        impl Delta for $number {
            type Wire = $signed;

            fn nothing() -> Self {
                0
            }

            fn since(&self, before: &Self) -> Option<$signed> {
                (self != before).then(|| self.wrapping_sub(*before).cast_signed())
            }

            fn apply(&mut self, change: $signed) -> Result<(), Misfit> {
                *self = self.wrapping_add_signed(change);
                Ok(())
            }
        }
    )+ };
}

number!(u32 as i32, u64 as i64);

/// What is told whole: its difference is the later one.
macro_rules! whole {
    ($($whole:ty),+ $(,)?) => { $(
        $crate::record::delta::column::sparse!($whole);

        impl $crate::record::delta::Delta for $whole {
            type Wire = Self;

            fn nothing() -> Self {
                Self::default()
            }

            fn since(&self, before: &Self) -> Option<Self> {
                (self != before).then(|| self.clone())
            }

            fn apply(&mut self, change: Self) -> Result<(), $crate::record::delta::Misfit> {
                *self = change;
                Ok(())
            }
        }
    )+ };
}
use whole;

whole!(bool, String, Vec<u32>, Vec<String>);

/// A struct, field by field; the fields not named are not recorded.
macro_rules! fields {
    ($(#[$doc:meta])* $of:ty => $wire:ident, $columns:ident, $nothing:expr, { $($field:ident: $type:ty),+ $(,)? }) => {
        $crate::record::delta::fields!($(#[$doc])* $of => $wire, $nothing, { $($field: $type),+ });
        $crate::record::delta::fields!(@columns $of => $columns, { $($field: $type),+ });
    };
    ($(#[$doc:meta])* $of:ty => $wire:ident, $nothing:expr, { $($field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $wire {
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                $field: Option<<$type as $crate::record::delta::Delta>::Wire>,
            )+
        }

        impl $crate::record::delta::Delta for $of {
            type Wire = $wire;

            fn nothing() -> Self {
                $nothing
            }

            fn since(&self, before: &Self) -> Option<$wire> {
                let wire = $wire {
                    $($field: <$type as $crate::record::delta::Delta>::since(&self.$field, &before.$field),)+
                };
                let changed = $(wire.$field.is_some())||+;
                changed.then_some(wire)
            }

            fn apply(&mut self, change: $wire) -> Result<(), $crate::record::delta::Misfit> {
                $(
                    if let Some(change) = change.$field {
                        <$type as $crate::record::delta::Delta>::apply(&mut self.$field, change)?;
                    }
                )+
                Ok(())
            }
        }

    };
    (@columns $of:ty => $columns:ident, { $($field:ident: $type:ty),+ }) => {
        /// The same of many, by number: what changed of each field.
        #[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $columns {
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                $field: Option<<$type as $crate::record::delta::Column>::Columns>,
            )+
        }

        impl $crate::record::delta::Column for $of {
            type Columns = $columns;

            fn columns_since(pairs: &[(u32, &Self, &Self)]) -> Option<$columns> {
                let columns = $columns {
                    $($field: {
                        let fields: Vec<_> = pairs.iter().map(|&(id, now, before)| (id, &now.$field, &before.$field)).collect();
                        <$type as $crate::record::delta::Column>::columns_since(&fields)
                    },)+
                };
                let changed = $(columns.$field.is_some())||+;
                changed.then_some(columns)
            }

            fn columns_apply(
                now: &mut std::collections::BTreeMap<u32, &mut Self>,
                columns: $columns,
            ) -> Result<(), $crate::record::delta::Misfit> {
                $(
                    if let Some(columns) = columns.$field {
                        let mut fields = now.iter_mut().map(|(id, of)| (*id, &mut of.$field)).collect();
                        <$type as $crate::record::delta::Column>::columns_apply(&mut fields, columns)?;
                    }
                )+
                Ok(())
            }
        }
    };
}
use fields;

impl<T: Delta> Delta for Box<T> {
    type Wire = T::Wire;

    fn nothing() -> Self {
        Self::new(T::nothing())
    }

    fn since(&self, before: &Self) -> Option<T::Wire> {
        T::since(self, before)
    }

    fn apply(&mut self, change: T::Wire) -> Result<(), Misfit> {
        T::apply(self, change)
    }
}

/// Difference of something that may not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Maybe<W> {
    /// `false`: not there any more.
    Gone(bool),
    /// There, and what changed.
    Change(W),
}

impl<W: Default> Default for Maybe<W> {
    fn default() -> Self {
        Self::Change(W::default())
    }
}

impl<T: Delta> Delta for Option<T> {
    type Wire = Maybe<T::Wire>;

    fn nothing() -> Self {
        None
    }

    fn since(&self, before: &Self) -> Option<Self::Wire> {
        match (before, self) {
            (None, None) => None,
            (Some(_), None) => Some(Maybe::Gone(false)),
            (Some(before), Some(now)) => now.since(before).map(Maybe::Change),
            (None, Some(now)) => {
                let change = now.since(&T::nothing()).unwrap_or_default();
                Some(Maybe::Change(change))
            }
        }
    }

    fn apply(&mut self, change: Self::Wire) -> Result<(), Misfit> {
        match change {
            Maybe::Gone(_) => *self = None,
            Maybe::Change(change) => self.get_or_insert_with(T::nothing).apply(change)?,
        }
        Ok(())
    }
}

/// How a map's key is written: JSON has text only.
pub trait Key: Ord + Clone {
    /// The written form.
    type Wire: Ord + Serialize + DeserializeOwned;

    /// To the written form.
    fn write(&self) -> Self::Wire;

    /// From the written form.
    fn read(written: Self::Wire) -> Result<Self, Misfit>;
}

impl Key for String {
    type Wire = Self;

    fn write(&self) -> Self {
        self.clone()
    }

    fn read(written: Self) -> Result<Self, Misfit> {
        Ok(written)
    }
}

/// An address in the kernel: `0xffffffff81c0ffee`.
impl Key for u64 {
    type Wire = String;

    fn write(&self) -> String {
        format!("{self:#x}")
    }

    fn read(written: String) -> Result<Self, Misfit> {
        let digits = written.strip_prefix("0x");
        digits
            .and_then(|digits| Self::from_str_radix(digits, 16).ok())
            .ok_or_else(|| Misfit(format!("no address: '{written}'")))
    }
}

/// Maps whose keys are spread: an entry for each that changed.
macro_rules! sparse_map {
    ($($key:ty),+) => { $(
        impl<V: Delta> Delta for BTreeMap<$key, V> {
            type Wire = BTreeMap<<$key as Key>::Wire, Option<V::Wire>>;

            fn nothing() -> Self {
                Self::new()
            }

            fn since(&self, before: &Self) -> Option<Self::Wire> {
                let gone = before
                    .keys()
                    .filter(|key| !self.contains_key(*key))
                    .map(|key| (key.write(), None));
                let changed = self.iter().filter_map(|(key, now)| {
                    let change = match before.get(key) {
                        Some(before) => now.since(before)?,
                        None => now.since(&V::nothing()).unwrap_or_default(),
                    };
                    Some((key.write(), Some(change)))
                });
                let changes: Self::Wire = gone.chain(changed).collect();
                (!changes.is_empty()).then_some(changes)
            }

            fn apply(&mut self, changes: Self::Wire) -> Result<(), Misfit> {
                for (key, change) in changes {
                    let key = <$key>::read(key)?;
                    match change {
                        None => {
                            self.remove(&key);
                        }
                        Some(change) => self.entry(key).or_insert_with(V::nothing).apply(change)?,
                    }
                }
                Ok(())
            }
        }
    )+ };
}

sparse_map!(String, u64);
