//! What the host is made of and how it is set up: CPUs, devices with their queues, settings, processes. Read once, and
//! again when it changes; no counters. `None` and absent: the kernel does not say.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The host beside its counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// By CPU id; every present CPU.
    pub cpus: BTreeMap<u32, Place>,
    /// Devices of tracer's network namespace by name.
    pub devices: BTreeMap<String, Nic>,
    /// Numbered interrupts by number: those of network devices.
    pub irqs: BTreeMap<u32, Vector>,
    /// `net.core.*` and what else rules look at, by dotted name (`net.core.netdev_max_backlog`), as the kernel prints
    /// it. What cannot be read is absent.
    pub sysctls: BTreeMap<String, String>,
    /// Of these, those that only the host's own network namespace can change, where tracer runs in another.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub host_sysctls: BTreeSet<String>,
    /// Name under /run/netns of the network namespace that tracer ran in, which has the devices and the other settings;
    /// absent where it has none, as the host's own. Summary only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// irqbalance, if it runs.
    pub irqbalance: Option<Irqbalance>,
    /// Length of a jiffy, ns, in which the kernel measures `netdev_budget_usecs`.
    #[serde(default)]
    pub tick_ns: Option<u64>,
    /// The hypervisor's name, if this is a virtual machine (`kvm`, `amazon`, …; `unknown`: a nameless one).
    pub hypervisor: Option<String>,
    /// Processes that used CPU time in the window and own sockets, the busiest first. Bounded.
    pub processes: Vec<Process>,
}

/// Where a CPU is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Running now.
    pub online: bool,
    /// NUMA node.
    pub node: Option<u32>,
    /// Package (`topology/physical_package_id`).
    pub package: Option<u32>,
    /// Core in that package (`topology/core_id`).
    pub core: Option<u32>,
    /// CPUs of the same core, itself included (`topology/thread_siblings_list`).
    pub siblings: Vec<u32>,
    /// Taken out of the scheduler's hands (`isolated`).
    pub isolated: bool,
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Interface index.
    pub ifindex: u32,
    /// Driver; `None` for a device without a bus.
    pub driver: Option<String>,
    /// Bus device, `0000:01:00.0`, for virtio the PCI function; `None` for a virtual device.
    pub bus: Option<String>,
    /// NUMA node; `None` for −1 too.
    pub node: Option<u32>,
    /// Receive queues by number; empty where sysfs is of another network namespace (`nsenter`).
    pub rx_queues: BTreeMap<u32, RxQueue>,
    /// Transmit queues: `xps_cpus` mask by number, where the device has any.
    pub xps_cpus: BTreeMap<u32, String>,
    /// NAPI instances by id, those that no queue names too (netdev netlink, 6.8).
    #[serde(default)]
    pub napi: BTreeMap<u32, NapiInstance>,
    /// `/sys/class/net/NAME/threaded` is set (5.12).
    pub threaded: Option<bool>,
    /// Speed, Mb/s.
    pub speed: Option<u32>,
    /// Ring sizes (ethtool netlink `RINGS_GET`).
    pub ring: Option<Range>,
    /// Combined or receive channels (`CHANNELS_GET`).
    pub channels: Option<Range>,
    /// Which of the two these are; `None`: not known.
    #[serde(default)]
    pub channel_kind: Option<ChannelKind>,
    /// Interrupt coalescing (`COALESCE_GET`).
    pub coalesce: Option<Coalesce>,
}

impl Nic {
    /// The word of `ethtool -L` for its channels; that of most devices where it is not known.
    #[must_use]
    pub fn channel_word(&self) -> &'static str {
        self.channel_kind.unwrap_or(ChannelKind::Combined).word()
    }
}

/// What a channel serves, as `ethtool -L` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// Receiving and transmitting.
    Combined,
    /// Receiving alone.
    Rx,
}

impl ChannelKind {
    /// The word of `ethtool -L`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Combined => "combined",
            Self::Rx => "rx",
        }
    }
}

/// A receive queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RxQueue {
    /// `rps_cpus` as a CPU list; empty: RPS is off.
    pub rps_cpus: Vec<u32>,
    /// `rps_flow_cnt`.
    pub rps_flow_cnt: Option<u64>,
    /// NAPI instance that serves it (netdev netlink, 6.8).
    pub napi_id: Option<u32>,
    /// Its interrupt (netdev netlink, or the name of the handler).
    pub irq: Option<u32>,
    /// Thread that polls it (netdev netlink; threaded NAPI).
    pub napi_pid: Option<u32>,
}

/// A NAPI instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NapiInstance {
    /// Its interrupt, if the driver tells (`netif_napi_set_irq`).
    pub irq: Option<u32>,
    /// Thread that polls it; `None` unless NAPI is threaded.
    pub pid: Option<u32>,
    /// CPUs that this thread may run on; empty: not known.
    #[serde(default)]
    pub allowed: Vec<u32>,
}

/// A value that the device has now and the largest it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Now.
    pub now: u32,
    /// Largest; `None` if the driver does not say.
    pub max: Option<u32>,
}

/// Receive coalescing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coalesce {
    /// The driver adapts it to the load.
    pub adaptive_rx: Option<bool>,
    /// Wait at most so long, µs.
    pub rx_usecs: Option<u32>,
    /// Or for so many frames.
    pub rx_frames: Option<u32>,
}

/// An interrupt of a network device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vector {
    /// Handler names as in /proc/interrupts.
    pub name: String,
    /// Network device; `None` where sysfs is of another network namespace.
    pub device: Option<String>,
    /// Queue.
    pub queue: Option<u32>,
    /// NUMA node of the device.
    pub node: Option<u32>,
    /// CPUs it may run on.
    pub affinity: Vec<u32>,
    /// CPUs it was given to.
    pub effective: Vec<u32>,
    /// The kernel manages its affinity and refuses writes; `None`: not known.
    pub managed: Option<bool>,
}

/// The irqbalance daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Irqbalance {
    /// Its process.
    pub pid: u32,
    /// Its arguments.
    pub args: Vec<String>,
    /// IRQs that it leaves alone (`--banirq`).
    pub banned_irqs: Vec<u32>,
    /// CPUs to which it gives none (`IRQBALANCE_BANNED_CPULIST`, `IRQBALANCE_BANNED_CPUS`).
    #[serde(default)]
    pub banned_cpus: Vec<u32>,
}

/// A control group that sets CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpuset {
    /// Its directory, `/sys/fs/cgroup/…`.
    pub dir: String,
    /// Version of its tree: 1 or 2.
    pub version: u8,
    /// It is the process's own group, not an ancestor with other processes below it.
    pub own: bool,
    /// What `cpuset.cpus` says, which may name CPUs that are offline.
    pub cpus: String,
}

/// A process that competes with interrupts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// `comm`.
    pub name: String,
    /// CPU time it used in the window, ns, all threads.
    pub cpu_ns: u64,
    /// CPU that each of its threads last ran on, by the CPU time of those threads, ns.
    pub ran_on: BTreeMap<u32, u64>,
    /// CPUs it may run on; its first thread, which is what `taskset -cp PID` changes.
    pub allowed: Vec<u32>,
    /// CPUs that any of its threads may run on, if they are others.
    #[serde(default)]
    pub threads_allowed: Vec<u32>,
    /// Not all its threads may run on the same CPUs.
    #[serde(default)]
    pub threads_differ: bool,
    /// A cpuset confines it: the path of the control group that does, itself or an ancestor of its own.
    pub cpuset: Option<String>,
    /// That group in full.
    #[serde(default)]
    pub confined_by: Option<Cpuset>,
    /// Inode number of the network namespace of its first thread.
    #[serde(default)]
    pub netns_inode: Option<u64>,
    /// That namespace as drops name it: `None` for tracer's own, and where it is not known.
    #[serde(default)]
    pub netns: Option<String>,
    /// Ports on which it listens or has UDP sockets: `tcp/6379`.
    pub ports: Vec<String>,
    /// A real-time policy (`SCHED_FIFO`, `SCHED_RR`, `SCHED_DEADLINE`).
    pub realtime: bool,
}
