//! Exact counters, kept per CPU by the kernel side.
//!
//! One [`PerCpu`] a possible CPU in the memory-mapped array `CPUS`, indexed by CPU id; one
//! [`IrqCounters`] a CPU and IRQ in `IRQS`; drops by [`DropKey`] in the per-CPU hash `DROPS`, and in front of it those
//! that a CPU meets first, one [`DropLine`] each: a key's drops are the sum of both. All only grow while the programs are
//! attached.

use crate::hist::BUCKETS;

/// Number of softirq vectors (`HI_SOFTIRQ` … `RCU_SOFTIRQ`, `NR_SOFTIRQS`), the same since 2.6.
pub const SOFTIRQS: usize = 10;
/// Names of the softirq vectors as /proc/softirqs prints them; `softirq_to_name`.
pub const SOFTIRQ_NAMES: [&str; SOFTIRQS] = [
    "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU",
];
/// Vector number of `NET_RX_SOFTIRQ`.
pub const NET_RX: u32 = 3;
/// NAPI instances that one CPU can tell apart in a run; later ones are counted as a loss.
pub const NAPI_SLOTS: usize = 64;
/// Drop keys that one CPU counts without looking into the hash; a power of two.
pub const DROP_LINES: usize = 16;
/// In [`DropKey::target_cpu`]: the packet was not on its way to a backlog, or nobody could tell.
pub const NO_CPU: u32 = u32::MAX;

/// Runs and time of one softirq vector on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftirqCounters {
    /// Runs that began (`softirq_entry`), the moment at which /proc/softirqs counts.
    pub runs: u64,
    /// Time between `softirq_entry` and `softirq_exit`, ns.
    pub ns: u64,
}

/// How many details of one kind this CPU sent or lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetailCounters {
    /// Frames put into the ring.
    pub sent: u64,
    /// Frames that the ring had no room for.
    pub ring_full: u64,
}

/// Token window of one kind of detail; kernel side only.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetailLimit {
    /// `jiffies >> shift` of the window that `used` belongs to.
    pub window: u64,
    /// Details sent in that window.
    pub used: u64,
}

/// What one CPU counts. Written by that CPU only.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerCpu {
    /// What it has one of.
    pub counters: CpuCounters,
    /// Drops of the keys that it met first.
    pub lines: [DropLine; DROP_LINES],
    /// NAPI instances, each where its address falls, or in one of the slots after it.
    pub napis: [NapiCounters; NAPI_SLOTS],
}

/// What one CPU has one of.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuCounters {
    // What every NET_RX run touches comes first, in as few cache lines as it fits.
    /// Kernel side only: oldest raise of `NET_RX` not served yet, 0 if none.
    pub net_rx_raised_ns: u64,
    /// Kernel side only: entry of the current softirq, 0 outside; of a measured `NET_RX` run `run_began_ns` is.
    pub softirq_began_ns: u64,
    /// Kernel side only: begin of the current `NET_RX` run.
    pub run_began_ns: u64,
    /// Kernel side only: wait of the current `NET_RX` run.
    pub run_wait_ns: u64,
    /// Kernel side only: packets of the current `NET_RX` run.
    pub run_packets: u64,
    /// Kernel side only: jiffies when the current `NET_RX` run began.
    pub run_began_jiffies: u64,
    /// Kernel side only: jiffies at the last poll of the current run.
    pub run_polled_jiffies: u64,
    /// Kernel side only: the task that the last measured `NET_RX` run interrupted, as a number.
    pub known_task: u64,
    /// Kernel side only: turns the pointer that `napi_poll` was given into a number.
    pub napi_address: u64,
    /// Kernel side only: turns the pointer to a dropped packet's device into a number.
    pub device_address: u64,
    /// Kernel side only: the packet that `enqueue_to_backlog` last took on this CPU.
    pub backlog_skb: u64,
    /// Kernel side only: 1 inside a measured `NET_RX` run.
    pub in_net_rx: u32,
    /// Kernel side only: 1 if `known_task` is ksoftirqd.
    pub known_is_ksoftirqd: u32,
    /// Kernel side only: `NET_RX` runs under way that began inside the one that is measured.
    pub nested_runs: u32,
    /// Kernel side only: 1 while a [`DropLine`] of this CPU is being claimed.
    pub claiming: u32,
    /// `NET_RX` runs that ended.
    pub net_rx_runs: u64,
    /// Time in them, ns.
    pub net_rx_ns: u64,
    /// Packets that `napi_poll` reported inside `NET_RX` runs.
    pub packets: u64,
    /// Longest wait from the oldest raise of `NET_RX` to its entry, ns.
    pub net_rx_wait_max_ns: u64,
    /// Longest `NET_RX` run, ns.
    pub net_rx_run_max_ns: u64,
    /// By vector number.
    pub softirqs: [SoftirqCounters; SOFTIRQS],
    /// Hard interrupts handled: a shared line counts once, not once a handler.
    pub hardirqs: u64,
    /// Time in hard IRQ handlers, ns.
    pub hardirq_ns: u64,
    /// Longest handler, ns.
    pub hardirq_max_ns: u64,
    /// Handlers that ended without a begin seen (attached in between): counted, not timed.
    pub hardirq_untimed: u64,
    /// `NET_RX` runs that began before the end of another was seen on this CPU: one of the two is not measured. Under
    /// `PREEMPT_RT` it is the inner one; elsewhere softirqs do not nest, and it is the one whose end was missed.
    pub net_rx_nested: u64,
    /// `NET_RX` runs while ksoftirqd was the current task.
    pub ksoftirqd_runs: u64,
    /// Runs whose packets reached `netdev_budget`.
    pub budget_exhausted: u64,
    /// Runs that ended because `netdev_budget_usecs` had passed, the packet budget not reached.
    pub time_exhausted: u64,
    /// `napi_poll` outside any `NET_RX` run: threaded NAPI, busy polling.
    pub polls_outside: u64,
    /// Packets of these.
    pub packets_outside: u64,
    /// By [`crate::event::Kind`].
    pub details: [DetailCounters; crate::event::KINDS],
    /// Interrupts whose number is beyond the IRQ table; in `hardirqs`, not in the table.
    pub irq_table_full: u64,
    /// Polls of NAPI instances that found no slot; in `packets`, not in the table.
    pub napi_table_full: u64,
    /// Drops that found no entry in the drop table. All drops are those in the table and these.
    pub drop_table_full: u64,
    /// Drops among the details whose packet headers could not be read.
    pub unreadable: u64,
    /// Kernel side only: `bpf_ktime_get_ns` when the current handler began, 0 outside.
    pub irq_began_ns: u64,
    /// Kernel side only: jiffies when the reader of the ring was last woken from here.
    pub woken_jiffies: u64,
    /// Kernel side only: its target CPU.
    pub backlog_target: u64,
    /// Kernel side only: 1 while a slot of `PerCpu::napis` is being claimed.
    pub claiming_napi: u64,
    /// Kernel side only, by [`crate::event::Kind`].
    pub limits: [DetailLimit; crate::event::KINDS],
    /// Handler time, ns; bucket bounds in [`crate::hist`].
    pub hardirq_hist: [u64; BUCKETS],
    /// `NET_RX` wait, ns.
    pub net_rx_wait_hist: [u64; BUCKETS],
    /// `NET_RX` run time, ns.
    pub net_rx_run_hist: [u64; BUCKETS],
}

/// One IRQ on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IrqCounters {
    /// Interrupts: a shared line counts once, when its last handler returned.
    pub count: u64,
    /// Time in all its handlers, ns.
    pub ns: u64,
    /// Longest handler, ns.
    pub max_ns: u64,
    /// Pads the entry to half a cache line.
    pub reserved: u64,
}

/// One NAPI instance of one device on one CPU. A slot is claimed by the first poll and never given back: an instance
/// whose device moves to another namespace, or whose memory becomes another device's, gets another slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NapiCounters {
    /// Address of the `napi_struct`, 0 in a free slot. Identity only; never shown.
    pub napi: u64,
    /// `napi_id`, 0 for a per-CPU backlog or a kernel without it.
    pub napi_id: u32,
    /// Interface index, 0 if the instance has no device (the backlog).
    pub ifindex: u32,
    /// Inode of the device's network namespace, 0 if not known.
    pub netns: u32,
    /// Kernel side only: low half of the jiffies when the instance was last seen to be of this device.
    pub confirmed_jiffies: u32,
    /// Calls.
    pub polls: u64,
    /// Packets they returned.
    pub packets: u64,
    /// Calls that used their whole budget.
    pub full_budget: u64,
    /// Device name, NUL-padded; empty for the backlog.
    pub device: [u8; 16],
}

/// What drops are told apart by. No padding: the kernel hashes all its bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropKey {
    /// Return address inside the function that dropped.
    pub location: u64,
    /// `enum skb_drop_reason` of the running kernel; [`NO_REASON`] where it has none.
    pub reason: u32,
    /// Interface index, 0 if unknown.
    pub ifindex: u32,
    /// Inode of that device's network namespace, 0 if unknown.
    pub netns: u32,
    /// Target CPU of a packet on its way to a backlog, else [`NO_CPU`].
    pub target_cpu: u32,
    /// `skb->protocol`, host byte order (0x0800 is IPv4).
    pub protocol: u32,
    /// Pads to 8 bytes; always 0.
    pub reserved: u32,
}

/// In [`DropKey::reason`]: this kernel's `kfree_skb` has no reason argument (before 5.17).
pub const NO_REASON: u32 = u32::MAX;

/// Drops of one [`DropKey`] on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounters {
    /// Packets.
    pub packets: u64,
    /// Bytes (`skb->len`).
    pub bytes: u64,
}

impl DropCounters {
    /// Nothing counted.
    pub const ZERO: Self = Self {
        packets: 0,
        bytes: 0,
    };
}

/// Drops of one key on one CPU, in front of the hash. A line is claimed by the first drop of a key, after the hash took
/// the key, and never given back.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropLine {
    /// Its key; the location is written last, 0 in a free line.
    pub key: DropKey,
    /// Drops that are not in the hash.
    pub counters: DropCounters,
    /// Kernel side only: address of the key's device, 0 if it has none or it was not looked at.
    pub device: u64,
    /// Kernel side only: jiffies when the device at this address was last seen to be the key's.
    pub confirmed_jiffies: u64,
}

impl CpuCounters {
    /// Nothing counted.
    pub const ZERO: Self = Self {
        hardirqs: 0,
        hardirq_ns: 0,
        hardirq_max_ns: 0,
        hardirq_untimed: 0,
        softirqs: [SoftirqCounters { runs: 0, ns: 0 }; SOFTIRQS],
        net_rx_runs: 0,
        net_rx_ns: 0,
        net_rx_nested: 0,
        net_rx_wait_max_ns: 0,
        net_rx_run_max_ns: 0,
        ksoftirqd_runs: 0,
        packets: 0,
        budget_exhausted: 0,
        time_exhausted: 0,
        polls_outside: 0,
        packets_outside: 0,
        details: [DetailCounters {
            sent: 0,
            ring_full: 0,
        }; crate::event::KINDS],
        irq_table_full: 0,
        napi_table_full: 0,
        drop_table_full: 0,
        unreadable: 0,
        irq_began_ns: 0,
        softirq_began_ns: 0,
        net_rx_raised_ns: 0,
        run_began_ns: 0,
        run_wait_ns: 0,
        run_packets: 0,
        run_began_jiffies: 0,
        run_polled_jiffies: 0,
        napi_address: 0,
        device_address: 0,
        woken_jiffies: 0,
        in_net_rx: 0,
        known_task: 0,
        known_is_ksoftirqd: 0,
        claiming: 0,
        nested_runs: 0,
        backlog_skb: 0,
        backlog_target: 0,
        claiming_napi: 0,
        limits: [DetailLimit { window: 0, used: 0 }; crate::event::KINDS],
        hardirq_hist: [0; BUCKETS],
        net_rx_wait_hist: [0; BUCKETS],
        net_rx_run_hist: [0; BUCKETS],
    };
}
