//! What `tracer` reports about one window or the whole run: the JSON object, and all that the text
//! renderer knows. Counts are integers over the window; times are ns with `_ns` in the name;
//! unknown is `null` (`None`), never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    finding::{Abstained, Finding},
    topology::Topology,
};

/// Version of the meaning of the fields. A field may be added without a new version.
pub const SCHEMA: u32 = 1;

/// Counts by CPU id. CPUs that counted nothing are left out.
pub type PerCpu = BTreeMap<u32, u64>;

/// One line of `--format json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// One interval.
    Window(Report),
    /// One detail, when `--events` was given.
    Event(super::event::Event),
    /// The whole run, the last line.
    Summary(Report),
}

/// One window, or the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The answer in one sentence: the first line of the text report.
    pub answer: String,
    /// Where it was measured.
    pub host: Host,
    /// Begin, ns since the Unix epoch (`CLOCK_REALTIME`).
    pub start_unix_ns: u64,
    /// Length, ns (`CLOCK_MONOTONIC`).
    pub duration_ns: u64,
    /// Devices that `--interface` restricted the report to; empty: all.
    pub interfaces: Vec<String>,
    /// How each hook was attached, or why not.
    pub hooks: Vec<Hook>,
    /// By CPU id; online CPUs, and offline ones that counted something.
    pub cpus: Vec<Cpu>,
    /// Device interrupts that occurred in the window, the busiest first.
    pub irqs: Vec<Irq>,
    /// Architecture interrupts (timer, reschedule, function call, …) of /proc/interrupts that occurred.
    pub arch_irqs: Vec<ArchIrq>,
    /// NAPI instances that were polled, the busiest first.
    pub napi: Vec<Napi>,
    /// Drop sites, not benign first, then by packets.
    pub drops: Vec<Drop>,
    /// Totals over all drops, benign ones and those without an entry in `drops` included.
    pub drop_totals: DropTotals,
    /// Devices of the network namespace that tracer runs in.
    pub devices: Vec<Device>,
    /// Traced counts beside the kernel's own.
    pub reconciliation: Vec<Reconciliation>,
    /// What was not seen, by cause. Always printed.
    pub losses: Losses,
    /// What share of each kind of event the details cover.
    pub details: Vec<DetailCoverage>,
    /// Slowest runs and sample drops, from the details. Summary only.
    pub samples: Samples,
    /// What is wrong and what to change, most severe first.
    pub findings: Vec<Finding>,
    /// Thresholds that `--threshold` changed, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub thresholds: BTreeMap<String, u64>,
    /// Rules that could not judge, and why.
    #[serde(default)]
    pub abstained: Vec<Abstained>,
    /// What the host is made of and how it is set up. Summary only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// Changes over the window of the counters of `/proc/net/snmp`, `snmp6` and `netstat` that changed, of tracer's
    /// network namespace: `Udp.RcvbufErrors`.
    #[serde(default)]
    pub protocols: BTreeMap<String, u64>,
    /// Things the reader has to know to read the numbers right (hotplug seen, `kptr_restrict`, …).
    pub notes: Vec<String>,
}

/// Host facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Node name (`uname -n`).
    pub name: String,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Online CPUs.
    pub cpus: u32,
    /// NUMA nodes; 1 where the kernel does not say.
    pub nodes: u32,
    /// `/proc/sys/kernel/random/boot_id`; not there: an earlier tracer did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Inode number of the network namespace that tracer ran in; not there: an earlier tracer did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
}

/// One hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// `irq_handler_entry`, `irq_handler_exit`, `softirq_raise`, `softirq_entry`, `softirq_exit`, `net_rx_action`,
    /// `napi_poll`, `kfree_skb`, `enqueue_to_backlog`.
    pub name: String,
    /// `tp_btf`, `raw_tp`, `fentry`, `kprobe`, or what replaces it (`softirq_entry/exit`, `softnet_stat`); `null` if nothing does.
    pub via: Option<String>,
    /// Outcome.
    pub status: HookStatus,
    /// Why it is not attached, or by what it was replaced; every mechanism tried with its error.
    pub reason: Option<String>,
    /// Times the programs ran, if the kernel tells; needs `kernel.bpf_stats_enabled`.
    pub runs: Option<u64>,
    /// Times the kernel skipped a program because it was already running on that CPU (fdinfo `recursion_misses`, 5.12); `null` if it does not tell.
    pub missed: Option<u64>,
}

/// Outcome of attaching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookStatus {
    /// Attached and counting.
    Attached,
    /// Switched off, or not needed because another hook serves.
    #[default]
    Skipped,
    /// Every mechanism was refused.
    Failed,
}

/// Percentiles of a histogram, ns. Within 6.25 % of the true value, `max` exact in a summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the values are below.
    pub p50: u64,
    /// Nine tenths.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

/// One CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// CPU id.
    pub cpu: u32,
    /// NUMA node; `null` where the kernel does not say.
    pub node: Option<u32>,
    /// Online at the end of the window.
    pub online: bool,
    /// Hard interrupts handled (device interrupts; not architecture vectors); `null` without the hook.
    pub hardirqs: Option<u64>,
    /// Time in their handlers.
    pub hardirq_ns: Option<u64>,
    /// Handler time; `null` if none ran.
    pub hardirq_handler_ns: Option<Percentiles>,
    /// Every softirq vector that ran, by its name in /proc/softirqs.
    pub softirqs: BTreeMap<String, Softirq>,
    /// `NET_RX` softirq runs; `null` without a hook for it.
    pub net_rx_runs: Option<u64>,
    /// Time in them.
    pub net_rx_ns: Option<u64>,
    /// From the oldest raise to the entry.
    pub net_rx_wait_ns: Option<Percentiles>,
    /// Runs whose wait is not known: the raise was not seen. They are missing in `net_rx_wait_ns`.
    pub net_rx_wait_unknown: Option<u64>,
    /// From entry to exit.
    pub net_rx_run_ns: Option<Percentiles>,
    /// `NET_RX` runs in ksoftirqd.
    pub ksoftirqd_runs: Option<u64>,
    /// Packets polled in `NET_RX` runs; `null` without `napi_poll`.
    pub packets: Option<u64>,
    /// Runs that ended at the packet budget (`netdev_budget`).
    pub budget_exhausted: Option<u64>,
    /// Runs that ended at the time limit (`netdev_budget_usecs`).
    pub time_exhausted: Option<u64>,
    /// Polls outside `NET_RX`: threaded NAPI or busy polling.
    pub polls_outside_net_rx: Option<u64>,
    /// Packets of these polls.
    pub packets_outside_net_rx: Option<u64>,
    /// `kfree_skb` calls executed on this CPU, benign ones included; `null` without the hook.
    pub drops: Option<u64>,
    /// The kernel's row for this CPU; `null` if there is none.
    pub softnet: Option<Softnet>,
    /// How it spent its time (/proc/stat); `null` if there is no row.
    #[serde(default)]
    pub time: Option<CpuTime>,
}

/// How a CPU spent the window, ns, in ticks' resolution: a tick is charged whole to what it interrupts, so
/// short interrupts are under-counted (/proc/stat).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTime {
    /// User space, nice included.
    pub user_ns: u64,
    /// Kernel.
    pub system_ns: u64,
    /// Idle, waiting for I/O included.
    pub idle_ns: u64,
    /// Hard interrupts.
    pub irq_ns: u64,
    /// Softirqs.
    pub softirq_ns: u64,
    /// Taken by the hypervisor.
    pub steal_ns: u64,
}

/// One softirq vector on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Softirq {
    /// Runs.
    pub runs: u64,
    /// Time, ns; `null` without `softirq_exit`.
    pub ns: Option<u64>,
}

/// Differences over the window of one row of /`proc/net/softnet_stat`; `null`: the kernel has no such column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Softnet {
    /// Packets that entered the stack on this CPU.
    pub processed: u64,
    /// Packets this CPU's backlog refused, whichever CPU executed the drop.
    pub dropped: u64,
    /// `NET_RX` runs that ended with work left.
    pub time_squeeze: u64,
    /// IPIs received to process packets that RPS steered here.
    pub received_rps: Option<u64>,
    /// Packets refused by the RPS flow limit, on the steering CPU's row.
    pub flow_limit: Option<u64>,
    /// Packets waiting in the backlog at the end of the window (a level, not a difference).
    pub backlog_len: Option<u64>,
}

/// One device interrupt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Irq {
    /// IRQ number.
    pub irq: u32,
    /// Handler names as in /proc/interrupts.
    pub name: String,
    /// Network device, where the name or sysfs tells.
    pub device: Option<String>,
    /// Queue, likewise.
    pub queue: Option<u32>,
    /// NUMA node of the device.
    pub node: Option<u32>,
    /// /`proc/irq/N/smp_affinity_list`.
    pub affinity: Option<String>,
    /// /`proc/irq/N/effective_affinity_list`.
    pub effective_affinity: Option<String>,
    /// Interrupts traced.
    pub count: u64,
    /// The same, by CPU.
    pub per_cpu: PerCpu,
    /// Handler time.
    pub handler_ns: Option<HandlerTime>,
}

/// Time of one interrupt's handlers, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerTime {
    /// Arithmetic mean, exact.
    pub mean: u64,
    /// From the details, only when they cover every interrupt of this number.
    pub p50: Option<u64>,
    /// Likewise.
    pub p99: Option<u64>,
    /// Longest in the window, exact; `null` if a longer one came before the window.
    pub max: Option<u64>,
}

/// One architecture interrupt (a lettered row of /proc/interrupts), the kernel's count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchIrq {
    /// `LOC`, `RES`, `CAL`, …
    pub name: String,
    /// The kernel's words for it.
    pub description: String,
    /// Interrupts.
    pub count: u64,
    /// The same, by CPU.
    pub per_cpu: PerCpu,
}

/// One NAPI instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Napi {
    /// Device name, or `backlog`.
    pub device: String,
    /// `napi_id`; `null` for a backlog or where the kernel has none.
    pub napi_id: Option<u32>,
    /// Namespace of the device, as [`Drop::netns`].
    #[serde(default)]
    pub netns: Option<String>,
    /// Calls of its poll function.
    pub polls: u64,
    /// Packets they returned.
    pub packets: u64,
    /// Calls that used their whole budget.
    pub full_budget: u64,
    /// Packets by CPU.
    pub per_cpu: PerCpu,
}

/// Where in its way through the host a packet was dropped.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// In a driver or its receive ring.
    Driver,
    /// Before a CPU's backlog.
    Backlog,
    /// IPv4 or IPv6.
    Ip,
    /// A netfilter verdict.
    Netfilter,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// A socket's buffer or filter, raw and packet sockets.
    Socket,
    /// A queueing discipline or the transmit path.
    DeviceQueue,
    /// Anything else.
    #[default]
    Other,
}

/// Drops at one place, for one reason, on one device, of one protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// Function, suffixes such as `.cold` folded, module in brackets (`e1000_clean [e1000]`); an address where names are hidden.
    pub site: String,
    /// Offset in that function; `null` where names are hidden.
    pub offset: Option<u64>,
    /// Drop reason by name (`NO_SOCKET`, `CPU_BACKLOG`); its number where the name is unknown; `null` before 5.17.
    pub reason: Option<String>,
    /// Device; `ifN` if only its index is known; `null` if the packet had none.
    pub device: Option<String>,
    /// `ipv4`, `ipv6`, `arp`, or 0x-hexadecimal `EtherType`.
    pub protocol: String,
    /// Namespace of the device: its name under /run/netns, or its inode number; `null`: tracer's own, or unknown.
    pub netns: Option<String>,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets by CPU that executed the drop.
    pub per_cpu: PerCpu,
    /// Packets by CPU whose backlog refused them; `null` if not on the way to a backlog or not known.
    pub per_target_cpu: Option<PerCpu>,
    /// Stage.
    pub stage: Stage,
    /// An ordinary event (nobody listens on a port, an unwanted multicast), kept out of the headline.
    pub benign: bool,
}

/// Sums over all drops of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropTotals {
    /// All `kfree_skb`; `null` without the hook.
    pub packets: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// Not benign, in `drops`.
    pub harmful: Option<u64>,
    /// Benign, in `drops`.
    pub benign: Option<u64>,
    /// Outside `--interface` (another device, or none known), not in `drops`.
    pub other_devices: Option<u64>,
    /// The drop table was full: site and reason not known, not in `drops`.
    pub unattributed: Option<u64>,
}

/// One network device; differences over the window. `null`: the device does not count it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// Driver; `null` for a device without a bus.
    pub driver: Option<String>,
    /// NUMA node; `null` if none.
    pub node: Option<u32>,
    /// Received packets.
    pub rx_packets: u64,
    /// Received bytes.
    pub rx_bytes: u64,
    /// The stack refused them (`rx_dropped`), `rx_missed` not included.
    pub rx_dropped: u64,
    /// The NIC had no room (`rx_missed_errors`).
    pub rx_missed: u64,
    /// Errors (`rx_errors`).
    pub rx_errors: u64,
    /// Arrived on a device that only serves another, such as an inactive slave of a bond (`rx_nohandler`).
    pub rx_nohandler: u64,
    /// Receive queues.
    pub queues: Option<u32>,
    /// `rps_cpus` of the first receive queue, as a mask.
    pub rps: Option<String>,
    /// Receive ring entries.
    pub ring: Option<u32>,
    /// The driver's own counters that changed (`ethtool -S`), where they tell of lost packets or limits.
    #[serde(default)]
    pub driver_stats: BTreeMap<String, u64>,
}

/// A kernel counter beside what was traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// `softnet_stat dropped cpu1`, `eth0 rx_dropped`, `softirqs NET_RX cpu0`, `interrupts 36`, …
    pub counter: String,
    /// Change of the kernel's counter.
    pub delta: u64,
    /// Traced count of the same thing; `null` if it cannot be traced here.
    pub traced: Option<u64>,
    /// `delta - traced`; `null` if `traced` is.
    pub residual: Option<i64>,
    /// The part of the residual that no known cause covers; `null` if `residual` is. Not 0: one side
    /// counted what the other did not see.
    #[serde(default)]
    pub unexplained: Option<u64>,
    /// Why they differ, if they do, or why it could not be traced.
    pub explanation: Option<String>,
}

/// What was not seen. `null`: the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Details that the ring had no room for. Counts are not affected.
    pub ring_full: u64,
    /// Sum of the three `*_table_full`: counted in the totals, missing in a table.
    pub map_full: u64,
    /// Interrupts beyond the IRQ table.
    pub irq_table_full: u64,
    /// NAPI polls without a slot.
    pub napi_table_full: u64,
    /// Drops without an entry in the drop table.
    pub drop_table_full: u64,
    /// Program runs that the kernel skipped because the program was already running on that CPU.
    pub recursion_missed: Option<u64>,
    /// Drops among the details whose packet headers could not be read.
    pub unreadable: u64,
    /// Details left out by `--detail-rate`. Counts are not affected.
    pub detail_limited: u64,
    /// `NET_RX` runs that began before the end of another on the same CPU was seen: one of the two is not measured.
    pub net_rx_nested: u64,
    /// Ring frames of unknown shape; 0 unless tracer itself is wrong.
    pub undecodable: u64,
}

/// Coverage of one kind of detail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailCoverage {
    /// `irq`, `net_rx`, `drop`.
    pub kind: String,
    /// Events of this kind.
    pub seen: u64,
    /// Of these, sent as details.
    pub sent: u64,
    /// Lost because the ring was full.
    pub ring_full: u64,
    /// Left out by `--detail-rate` or because the kind was not asked for.
    pub limited: u64,
}

/// Details worth showing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// Longest hard IRQ handlers, longest first.
    pub slowest_irqs: Vec<super::event::Event>,
    /// Longest `NET_RX` runs, longest first.
    pub slowest_net_rx: Vec<super::event::Event>,
    /// A few drops, at most one a site and reason.
    pub drops: Vec<super::event::Event>,
}
