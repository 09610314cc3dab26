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
    counter::{CpuCounters, IrqCounters, NAPI_SLOTS, NapiCounters},
    layout::Layout,
};

use super::{
    attach::take,
    object::{PodDropCounters, PodDropKey},
};
use crate::model::snapshot::Traced;

/// Readers of all counter maps.
pub struct Counters {
    cpus: Mapped<CpuCounters>,
    irqs: Mapped<IrqCounters>,
    napis: Mapped<NapiCounters>,
    drops: PerCpuHashMap<MapData, PodDropKey, PodDropCounters>,
    irqs_per_cpu: usize,
}

impl Counters {
    pub(super) fn new(ebpf: &mut Ebpf, layout: &Layout) -> Result<Self> {
        let cpus = layout.cpus as usize;
        Ok(Self {
            cpus: Mapped::new(take(ebpf, "CPUS")?, cpus)?,
            irqs: Mapped::new(take(ebpf, "IRQS")?, cpus * layout.irqs as usize)?,
            napis: Mapped::new(take(ebpf, "NAPIS")?, cpus * NAPI_SLOTS as usize)?,
            drops: PerCpuHashMap::try_from(take(ebpf, "DROPS")?)?,
            irqs_per_cpu: layout.irqs as usize,
        })
    }

    /// Reads everything; [`Traced::hooks`] and [`Traced::undecodable`] are left to the caller.
    pub fn read(&self) -> Result<Traced> {
        let mut traced = Traced::default();
        for (cpu, id) in (0u32..).take(self.cpus.len).enumerate() {
            traced.cpus.insert(id, Box::new(self.cpus.get(cpu)));
            for irq in 0..self.irqs_per_cpu {
                let counters = self.irqs.get(cpu * self.irqs_per_cpu + irq);
                if counters.count != 0 || counters.ns != 0 {
                    let irq = u32::try_from(irq)?;
                    traced.irqs.entry(irq).or_default().insert(id, counters);
                }
            }
            let slots = NAPI_SLOTS as usize;
            let used: Vec<_> = (0..slots)
                .map(|slot| self.napis.get(cpu * slots + slot))
                .filter(|napi| napi.napi != 0)
                .collect();
            if !used.is_empty() {
                traced.napi.insert(id, used);
            }
        }
        for key in self.drops.keys() {
            let key = key.context("cannot read map DROPS")?;
            let values = self.drops.get(&key, 0).context("cannot read map DROPS")?;
            let per_cpu: BTreeMap<_, _> = (0u32..)
                .zip(values.iter().map(|value| value.0))
                .filter(|(_, drops)| drops.packets != 0)
                .collect();
            traced.drops.insert(key.0, per_cpu);
        }
        Ok(traced)
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

    /// A copy of entry `index`. Each counter in it is whole, though they may be of slightly
    /// different moments.
    fn get(&self, index: usize) -> T {
        assert!(index < self.len, "entry {index} of {}", self.len);
        // SAFETY: in bounds, aligned to a page and 8 bytes, and any bytes are a valid `T`: the
        // types used here are `repr(C)` integers.
        unsafe { ptr::read_volatile(self.memory.as_ptr().cast::<T>().add(index)) }
    }
}
