//! Reads the counter maps. The arrays are mapped into memory once: reading them costs no system call
//! and does not depend on how many events there were.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr,
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Map, MapData, PerCpuHashMap},
};
use memmap2::{MmapOptions, MmapRaw};
use tracer_common::{
    counter::{DropCounters, DropKey, IrqCounters, NET_RX, PerCpu},
    layout::Layout,
};

use super::{
    attach::take,
    object::{PodDropCounters, PodDropKey},
};
use crate::model::snapshot::{Runs, Traced};

/// Readers of all counter maps.
pub struct Counters {
    arrays: Arrays,
    drops: PerCpuHashMap<MapData, PodDropKey, PodDropCounters>,
}

impl Counters {
    pub(super) fn new(ebpf: &mut Ebpf, layout: &Layout, possible: Vec<u32>) -> Result<Self> {
        let cpus = layout.cpus as usize;
        Ok(Self {
            arrays: Arrays {
                cpus: Mapped::new(take(ebpf, "CPUS")?, cpus)?,
                irqs: Mapped::new(take(ebpf, "IRQS")?, cpus * layout.irqs as usize)?,
                irqs_per_cpu: layout.irqs as usize,
                possible,
            },
            drops: PerCpuHashMap::try_from(take(ebpf, "DROPS")?)?,
        })
    }

    /// Reads everything but [`Self::read_irqs`]; [`Traced::hooks`] and [`Traced::undecodable`] are
    /// left to the caller too.
    pub fn read(&self) -> Result<Traced> {
        let mut traced = self.arrays.read();
        for key in self.drops.keys() {
            let key = key.context("cannot read map DROPS")?;
            let values = self.drops.get(&key, 0).context("cannot read map DROPS")?;
            // One value a possible CPU, in the order of their ids.
            let possible = self.arrays.possible.iter().copied();
            let per_cpu = possible
                .zip(values.iter().map(|value| value.0))
                .filter(|(_, drops)| drops.packets != 0);
            for (cpu, drops) in per_cpu {
                add(&mut traced, key.0, cpu, drops);
            }
        }
        Ok(traced)
    }

    /// See [`Arrays::runs`].
    #[must_use]
    pub fn runs(&self) -> BTreeMap<u32, Runs> {
        self.arrays.runs()
    }

    /// See [`Arrays::read_irqs`].
    pub fn read_irqs(&self, irqs: impl IntoIterator<Item = u32>, traced: &mut Traced) {
        self.arrays.read_irqs(irqs, traced);
    }
}

/// Adds to the drops of `key` on `cpu`: it may have an entry in the hash and, in rare cases, two lines.
fn add(traced: &mut Traced, key: DropKey, cpu: u32, drops: DropCounters) {
    let of_key = traced.drops.entry(key).or_default();
    let sum = of_key.entry(cpu).or_insert(DropCounters::ZERO);
    sum.packets += drops.packets;
    sum.bytes += drops.bytes;
}

/// Bytes of all counter maps on a host of so many CPUs, interrupt numbers and rows of drops, what the kernel keeps about
/// each entry of the hash left out.
#[cfg(feature = "synthetic")]
#[must_use]
pub fn counter_map_bytes(cpus: u32, irqs: u32, drop_sites: u32) -> u64 {
    let of_cpu = size_of::<PerCpu>()
        + irqs as usize * size_of::<IrqCounters>()
        + drop_sites as usize * size_of::<DropCounters>();
    (cpus as usize * of_cpu + drop_sites as usize * size_of::<PodDropKey>()) as u64
}

/// The maps that are arrays.
pub struct Arrays {
    cpus: Mapped<PerCpu>,
    irqs: Mapped<IrqCounters>,
    irqs_per_cpu: usize,
    possible: Vec<u32>,
}

impl Arrays {
    /// Arrays of a made-up host, where nothing has been counted.
    #[cfg(feature = "synthetic")]
    pub fn anonymous(cpus: u32, irqs: u32) -> Result<Self> {
        let (len, irqs_per_cpu) = (cpus as usize, irqs as usize);
        Ok(Self {
            cpus: Mapped::anonymous(len)?,
            irqs: Mapped::anonymous(len * irqs_per_cpu)?,
            irqs_per_cpu,
            possible: (0..cpus).collect(),
        })
    }

    /// Counters of the CPUs, their NAPI instances, and the drops in their lines.
    #[must_use]
    pub fn read(&self) -> Traced {
        let mut traced = Traced::default();
        for &id in &self.possible {
            let cpu = id as usize;
            let counters = self.cpus.part(cpu, |of| &raw const of.counters);
            traced.cpus.insert(id, Box::new(counters));
            let napis = self.cpus.part(cpu, |of| &raw const of.napis);
            let used: Vec<_> = napis.into_iter().filter(|napi| napi.napi != 0).collect();
            if !used.is_empty() {
                traced.napi.insert(id, used);
            }
            let lines = self.cpus.part(cpu, |of| &raw const of.lines);
            let lines = lines.into_iter();
            for line in lines.filter(|line| line.key.location != 0 && line.counters.packets != 0) {
                add(&mut traced, line.key, id, line.counters);
            }
        }
        traced
    }

    /// Reads only what tells how much happens between two reads: no copies of histograms.
    #[must_use]
    pub fn runs(&self) -> BTreeMap<u32, Runs> {
        let of = |id: u32| Runs {
            hardirqs: self
                .cpus
                .part(id as usize, |of| &raw const of.counters.hardirqs),
            net_rx_entries: self.cpus.part(id as usize, |of| {
                &raw const of.counters.softirqs[NET_RX as usize].runs
            }),
            net_rx_runs: self
                .cpus
                .part(id as usize, |of| &raw const of.counters.net_rx_runs),
        };
        self.possible.iter().map(|&id| (id, of(id))).collect()
    }

    /// Reads the entries of `irqs` into `traced`. The table has room for many more numbers than a host
    /// uses.
    pub fn read_irqs(&self, irqs: impl IntoIterator<Item = u32>, traced: &mut Traced) {
        for irq in irqs
            .into_iter()
            .filter(|&irq| (irq as usize) < self.irqs_per_cpu)
        {
            for &id in &self.possible {
                let index = id as usize * self.irqs_per_cpu + irq as usize;
                let counters = self.irqs.get(index);
                if counters.count != 0 || counters.ns != 0 {
                    traced.irqs.entry(irq).or_default().insert(id, counters);
                }
            }
        }
    }
}

/// An array map, mapped read-only. Entries are written by the kernel at any time.
struct Mapped<T> {
    memory: MmapRaw,
    len: usize,
    entry: std::marker::PhantomData<T>,
}

impl<T: Copy> Mapped<T> {
    fn new(map: Map, len: usize) -> Result<Self> {
        let Map::Array(data) = map else {
            bail!("the eBPF object and tracer disagree about a map's type");
        };
        let memory = MmapOptions::new()
            .len(len * size_of::<T>())
            .map_raw_read_only(data.fd().as_fd().as_raw_fd())
            .context("cannot map a counter map into memory")?;
        Ok(Self {
            memory,
            len,
            entry: std::marker::PhantomData,
        })
    }

    #[cfg(feature = "synthetic")]
    fn anonymous(len: usize) -> Result<Self> {
        let memory = memmap2::MmapMut::map_anon(len * size_of::<T>())?;
        Ok(Self {
            memory: memory.into(),
            len,
            entry: std::marker::PhantomData,
        })
    }

    /// A copy of entry `index`. Each counter in it is whole, though they may be of slightly
    /// different moments.
    fn get(&self, index: usize) -> T {
        self.part(index, ptr::from_ref)
    }

    /// Of entry `index` only a part.
    fn part<P: Copy>(&self, index: usize, of: impl Fn(&T) -> *const P) -> P {
        assert!(index < self.len, "entry {index} of {}", self.len);
        // SAFETY: in bounds, aligned to a page and 8 bytes, and any bytes are a valid `P`: the types used here are `repr(C)`
        // integers. The reference only serves to find the address.
        unsafe { ptr::read_volatile(of(&*self.memory.as_ptr().cast::<T>().add(index))) }
    }
}
