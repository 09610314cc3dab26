//! All counters at one moment: what the programs counted and what the kernel itself counted.

use std::collections::BTreeMap;

use super::report::Hook;
use crate::proc::{
    interrupts::Interrupts, netdev::NetDevice, snmp::Protocols, softirqs::Softirqs,
    softnet::SoftnetRow, stat::CpuTicks,
};

/// Counters at one moment. All grow, some wrap; [`super::window::Window`] subtracts two of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// `CLOCK_MONOTONIC`, ns, when the programs' counters were read.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME`, ns since the epoch.
    pub unix_ns: u64,
    /// How far apart from them the kernel's own were read.
    pub gaps: Gaps,
    /// How much happened in between.
    pub between: Between,
    /// What the programs counted.
    pub traced: Traced,
    /// What the kernel counted.
    pub kernel: KernelCounters,
}

/// Time between the read of the programs' counters and that of one of the kernel's tables, ns: they may
/// differ by what happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// `/proc/net/softnet_stat`.
    pub softnet: u64,
    /// /proc/softirqs.
    pub softirqs: u64,
    /// /proc/interrupts.
    pub interrupts: u64,
    /// Devices.
    pub devices: u64,
    /// `/proc/net/snmp`, `netstat` and `snmp6`.
    pub protocols: u64,
}

impl Gaps {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            softnet: self.softnet.max(other.softnet),
            softirqs: self.softirqs.max(other.softirqs),
            interrupts: self.interrupts.max(other.interrupts),
            devices: self.devices.max(other.devices),
            protocols: self.protocols.max(other.protocols),
        }
    }
}

/// What was counted between the read of the programs' counters and that of one of the kernel's tables: so far the two
/// may differ, and no further. Measured, since traffic comes in bursts and a mean rate says little.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Between {
    /// `NET_RX` runs by CPU id, after the kernel's table and before the programs' counters. Never fewer than there were.
    pub net_rx: BTreeMap<u32, u64>,
    /// Packets refused by a CPU's backlog, likewise.
    pub softnet_dropped: BTreeMap<u32, u64>,
    /// Hard IRQs, all CPUs together, after the programs' counters and before the kernel's table.
    pub hardirqs: u64,
    /// Of interrupts that appeared since the snapshot before, after the kernel's table and before the programs' counters.
    pub new_hardirqs: u64,
    /// Packets that the CPUs processed, all together, after `softnet_stat` and before the programs' counters. Never fewer
    /// than there were.
    pub processed: u64,
    /// `NET_RX` runs that ended at a limit, likewise.
    pub squeezed: u64,
    /// Packets processed or refused, all CPUs together, after the programs' counters and before the devices'. Never fewer
    /// than there were.
    pub packets: u64,
    /// Counters of the protocols that moved after the programs' counters and before these were read. Never less.
    pub protocols: Protocols,
}

/// Few counters of one CPU, for [`Between`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Hard IRQs.
    pub hardirqs: u64,
    /// Entries of softirq vector `NET_RX`.
    pub net_rx_entries: u64,
    /// Ended `NET_RX` runs.
    pub net_rx_runs: u64,
}

/// The programs' counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traced {
    /// By CPU id.
    pub cpus: BTreeMap<u32, Box<tracer_common::counter::CpuCounters>>,
    /// By IRQ number, then CPU id. Entries that never counted are left out.
    pub irqs: BTreeMap<u32, BTreeMap<u32, tracer_common::counter::IrqCounters>>,
    /// By CPU id; used slots only.
    pub napi: BTreeMap<u32, Vec<tracer_common::counter::NapiCounters>>,
    /// By key, then CPU id. CPUs that never counted are left out.
    pub drops: BTreeMap<
        tracer_common::counter::DropKey,
        BTreeMap<u32, tracer_common::counter::DropCounters>,
    >,
    /// Each hook with its misses.
    pub hooks: Vec<Hook>,
    /// Ring frames the reader could not decode.
    pub undecodable: u64,
}

/// The kernel's own counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelCounters {
    /// /`proc/net/softnet_stat` by CPU id.
    pub softnet: BTreeMap<u32, SoftnetRow>,
    /// /proc/interrupts.
    pub interrupts: Interrupts,
    /// /proc/softirqs.
    pub softirqs: Softirqs,
    /// Devices of tracer's network namespace by interface index.
    pub devices: BTreeMap<u32, NetDevice>,
    /// The drivers' own counters by interface index. Only at the begin and the end of a run: see
    /// [`crate::proc::driver_stats`].
    pub driver_stats: BTreeMap<u32, BTreeMap<String, u64>>,
    /// `/proc/net/snmp`, `netstat` and `snmp6` of tracer's network namespace.
    pub protocols: Protocols,
    /// /proc/stat by CPU id.
    pub time: BTreeMap<u32, CpuTicks>,
    /// ns of one tick of [`Self::time`] (`USER_HZ`); 0: not known.
    pub tick_ns: u64,
    /// Online CPU ids.
    pub online: Vec<u32>,
}
