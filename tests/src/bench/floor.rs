//! Empty programs on tracer's hooks, and the control that counts drops: loaded from the object that `cargo xtask bench`
//! builds beside tracer.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use aya::{Btf, Ebpf, EbpfLoader, maps::Array, programs::BtfTracePoint};

/// The hooks that tracer attaches by `tp_btf` where it can; each program is called like its hook.
pub const HOOKS: [&str; 7] = [
    "irq_handler_entry",
    "irq_handler_exit",
    "softirq_raise",
    "softirq_entry",
    "softirq_exit",
    "napi_poll",
    "kfree_skb",
];

/// Attached programs; detached when dropped.
pub struct Floor {
    ebpf: Ebpf,
    cpus: u32,
}

impl Floor {
    /// Empty programs on every hook.
    pub fn empty(object: &Path) -> Result<Self> {
        let mut floor = Self::load(object)?;
        for hook in HOOKS {
            floor.attach(hook, hook)?;
        }
        Ok(floor)
    }

    /// Programs on every hook, empty but for what the times of `NET_RX` take: three clock readings and their sums.
    pub fn times(object: &Path) -> Result<Self> {
        let mut floor = Self::load(object)?;
        for hook in HOOKS {
            let program = match hook {
                "softirq_raise" => "time_of_raise",
                "softirq_entry" => "time_of_entry",
                "softirq_exit" => "time_of_exit",
                other => other,
            };
            floor.attach(program, hook)?;
        }
        Ok(floor)
    }

    /// A program on `kfree_skb` that counts.
    pub fn control(object: &Path) -> Result<Self> {
        let mut floor = Self::load(object)?;
        floor.attach("control", "kfree_skb")?;
        Ok(floor)
    }

    fn load(object: &Path) -> Result<Self> {
        let bytes =
            fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
        let possible =
            aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
        let cpus = u32::try_from(possible)?;
        let ebpf = EbpfLoader::new()
            .map_max_entries("CPUS", cpus)
            .load(&bytes)
            .context("cannot load the empty programs")?;
        Ok(Self { ebpf, cpus })
    }

    fn attach(&mut self, program: &str, hook: &str) -> Result<()> {
        let btf = Btf::from_sys_fs().context("no BTF")?;
        let found = self.ebpf.program_mut(program);
        let found: &mut BtfTracePoint =
            found.with_context(|| format!("no {program}"))?.try_into()?;
        found.load(hook, &btf)?;
        found.attach()?;
        Ok(())
    }

    /// Drops that the control has counted.
    pub fn drops(&self) -> Result<u64> {
        let map = self.ebpf.map("CPUS").context("no map CPUS")?;
        let counts: Array<_, [u64; 8]> = Array::try_from(map)?;
        (0..self.cpus).map(|cpu| Ok(counts.get(&cpu, 0)?[0])).sum()
    }
}
