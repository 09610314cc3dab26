//! Differences of snapshots.

use std::collections::BTreeMap;

use tracer_common::{
    counter::{
        CpuCounters, DetailCounters, DropCounters, DropKey, IrqCounters, NapiCounters, SOFTIRQS,
        SoftirqCounters,
    },
    event::KINDS,
};

use super::{fields, histogram::Histogram, whole};
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

whole!(Vec<Hook>);

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
        processed: u64,
        squeezed: u64,
        packets: u64,
        protocols: Protocols,
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
