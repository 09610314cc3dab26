//! All counters at one moment: what the programs counted and what the kernel itself counted.

use std::collections::BTreeMap;

use super::report::Hook;
use crate::proc::{
    interrupts::Interrupts, netdev::NetDevice, softirqs::Softirqs, softnet::SoftnetRow,
};

/// Counters at one moment. All grow, some wrap; [`super::window::Window`] subtracts two of them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// `CLOCK_MONOTONIC`, ns, when the programs' counters were read.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME`, ns since the epoch.
    pub unix_ns: u64,
    /// Time between the first and the last read that make up the snapshot, ns.
    pub read_ns: u64,
    /// What the programs counted.
    pub traced: Traced,
    /// What the kernel counted.
    pub kernel: KernelCounters,
}

/// The programs' counters.
#[derive(Clone, Debug, Default)]
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
#[derive(Clone, Debug, Default)]
pub struct KernelCounters {
    /// /`proc/net/softnet_stat` by CPU id.
    pub softnet: BTreeMap<u32, SoftnetRow>,
    /// /proc/interrupts.
    pub interrupts: Interrupts,
    /// /proc/softirqs.
    pub softirqs: Softirqs,
    /// Devices of tracer's network namespace by interface index.
    pub devices: BTreeMap<u32, NetDevice>,
    /// Online CPU ids.
    pub online: Vec<u32>,
}
