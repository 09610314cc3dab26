//! Differences of snapshots.

use std::{collections::BTreeMap, iter::once};

use serde::{Deserialize, Serialize};
use tracer_common::{
    counter::{
        CpuCounters, DetailCounters, DropCounters, DropKey, IrqCounters, NO_CPU, NO_REASON,
        NapiCounters, SOFTIRQ_NAMES, SOFTIRQS, SoftirqCounters,
    },
    event::{KINDS, Kind},
    hist::BUCKETS,
};

use super::{
    Column, Delta, Misfit,
    column::{
        Listed, Range, apply_number_runs, entry, number_runs, of_version_1, pairs, placed_apply,
        placed_since, push, sparse,
    },
    fields, whole,
};
use crate::{
    model::{
        report::Hook,
        snapshot::{Between, Gaps, KernelCounters, Snapshot, Traced},
    },
    proc::{
        interrupts::{Interrupts, Row},
        netdev::NetDevice,
        snmp::Protocols,
        softirqs::Softirqs,
        softnet::SoftnetRow,
        stat::CpuTicks,
    },
};

type PerCpu<T> = BTreeMap<u32, T>;
type Histogram = [u64; BUCKETS];

const KIND_NAMES: [&str; KINDS] = [Kind::Irq.name(), Kind::NetRx.name(), Kind::Drop.name()];

whole!(Vec<Hook>);
sparse!([u8; 16]);

fields!(
    /// All counters.
    Snapshot => SnapshotDelta, Self::default(), {
        monotonic_ns: u64,
        unix_ns: u64,
        gaps: Gaps,
        between: Between,
        traced: Traced,
        kernel: KernelCounters,
    }
);

fields!(
    /// Times between reads.
    Gaps => GapsDelta, Self::default(), {
        softnet: u64,
        softirqs: u64,
        interrupts: u64,
        devices: u64,
        protocols: u64,
    }
);

fields!(
    /// Counts between reads.
    Between => BetweenDelta, Self::default(), {
        net_rx: PerCpu<u64>,
        softnet_dropped: PerCpu<u64>,
        hardirqs: u64,
        new_hardirqs: u64,
    }
);

fields!(
    /// The programs' counters.
    Traced => TracedDelta, Self::default(), {
        cpus: PerCpu<Box<CpuCounters>>,
        irqs: BTreeMap<u32, PerCpu<IrqCounters>>,
        napi: PerCpu<Vec<NapiCounters>>,
        drops: BTreeMap<DropKey, PerCpu<DropCounters>>,
        hooks: Vec<Hook>,
        undecodable: u64,
    }
);

fields!(
    /// One CPU. What only the kernel side uses is left out.
    CpuCounters => CpuDelta, CpuColumns, Self::ZERO, {
        hardirqs: u64,
        hardirq_ns: u64,
        hardirq_max_ns: u64,
        hardirq_untimed: u64,
        softirqs: [SoftirqCounters; SOFTIRQS],
        net_rx_runs: u64,
        net_rx_ns: u64,
        net_rx_nested: u64,
        net_rx_wait_max_ns: u64,
        net_rx_run_max_ns: u64,
        ksoftirqd_runs: u64,
        packets: u64,
        budget_exhausted: u64,
        time_exhausted: u64,
        polls_outside: u64,
        packets_outside: u64,
        details: [DetailCounters; KINDS],
        irq_table_full: u64,
        napi_table_full: u64,
        drop_table_full: u64,
        unreadable: u64,
        hardirq_hist: Histogram,
        net_rx_wait_hist: Histogram,
        net_rx_run_hist: Histogram,
    }
);

fields!(
    /// One softirq vector.
    SoftirqCounters => SoftirqDelta, SoftirqColumns, Self { runs: 0, ns: 0 }, { runs: u64, ns: u64 }
);

fields!(
    /// Details sent and lost.
    DetailCounters => DetailDelta, DetailColumns, Self { sent: 0, ring_full: 0 }, { sent: u64, ring_full: u64 }
);

fields!(
    /// One interrupt on one CPU.
    IrqCounters => IrqDelta, IrqColumns, Self::default(), { count: u64, ns: u64, max_ns: u64 }
);

fields!(
    /// One NAPI instance on one CPU.
    NapiCounters => NapiDelta, NapiColumns, Self::default(), {
        napi: u64,
        napi_id: u32,
        ifindex: u32,
        netns: u32,
        polls: u64,
        packets: u64,
        full_budget: u64,
        device: [u8; 16],
    }
);

fields!(
    /// Drops of one key on one CPU.
    DropCounters => DropDelta, DropColumns, Self::default(), { packets: u64, bytes: u64 }
);

fields!(
    /// The kernel's own counters.
    KernelCounters => KernelDelta, Self::default(), {
        softnet: PerCpu<SoftnetRow>,
        interrupts: Interrupts,
        softirqs: Softirqs,
        devices: BTreeMap<u32, NetDevice>,
        driver_stats: BTreeMap<u32, BTreeMap<String, u64>>,
        protocols: Protocols,
        time: PerCpu<CpuTicks>,
        tick_ns: u64,
        online: Vec<u32>,
    }
);

fields!(
    /// A row of `softnet_stat`.
    SoftnetRow => SoftnetDelta, SoftnetColumns, Self::default(), {
        processed: u32,
        dropped: u32,
        time_squeeze: u32,
        received_rps: Option<u32>,
        flow_limit: Option<u32>,
        backlog_len: Option<u32>,
    }
);

fields!(
    /// /proc/interrupts.
    Interrupts => InterruptsDelta, Self::default(), {
        device: BTreeMap<u32, Row>,
        arch: BTreeMap<String, Row>,
    }
);

fields!(
    /// A row of it.
    Row => RowDelta, RowColumns, Self::default(), { name: String, counts: PerCpu<u32> }
);

fields!(
    /// /proc/softirqs.
    Softirqs => SoftirqsDelta, Self::default(), { runs: BTreeMap<String, PerCpu<u32>> }
);

fields!(
    /// One device.
    NetDevice => DeviceDelta, DeviceColumns, Self::default(), {
        name: String,
        ifindex: u32,
        rx_packets: u64,
        rx_bytes: u64,
        rx_dropped: u64,
        rx_missed_errors: u64,
        rx_errors: u64,
        rx_nohandler: u64,
    }
);

fields!(
    /// A row of /proc/stat.
    CpuTicks => TicksDelta, TicksColumns, Self::default(), {
        user: u64,
        system: u64,
        idle: u64,
        irq: u64,
        softirq: u64,
        steal: u64,
    }
);

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
