//! Ring frames: single events, rate-limited per CPU and kind. Native byte order.
//!
//! A frame is a [`Header`] and, after it, the body of its [`Kind`].

/// Kinds of detail; the value is the index into per-kind counters and the bit in the mask of kinds asked for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One hard IRQ handler: [`IrqBody`].
    Irq = 0,
    /// One `NET_RX` softirq run: [`NetRxBody`].
    NetRx = 1,
    /// One `kfree_skb`: [`DropBody`].
    Drop = 2,
}

/// Number of kinds.
pub const KINDS: usize = 3;

impl Kind {
    /// All kinds, by value.
    pub const ALL: [Self; KINDS] = [Self::Irq, Self::NetRx, Self::Drop];

    /// As `--events` and the report spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Irq => "irq",
            Self::NetRx => "net_rx",
            Self::Drop => "drop",
        }
    }
}

/// Begins every frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`Kind`].
    pub kind: u32,
    /// CPU that executed the probe.
    pub cpu: u32,
    /// `bpf_ktime_get_ns` (`CLOCK_MONOTONIC`) at the end of the event.
    pub time_ns: u64,
}

/// Body of [`Kind::Irq`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqBody {
    /// Time in the handler.
    pub handler_ns: u64,
    /// IRQ number.
    pub irq: u32,
    /// Pads to 8 bytes.
    pub reserved: u32,
}

/// Body of [`Kind::NetRx`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetRxBody {
    /// Oldest raise to entry; [`UNKNOWN_NS`] if the raise was not seen.
    pub wait_ns: u64,
    /// Entry to exit.
    pub run_ns: u64,
    /// Packets polled.
    pub packets: u32,
    /// Bit 0: in ksoftirqd; bit 1: ended by `netdev_budget`; bit 2: ended by `netdev_budget_usecs`.
    pub flags: u32,
}

/// In [`NetRxBody::wait_ns`]: not known.
pub const UNKNOWN_NS: u64 = u64::MAX;
/// [`NetRxBody::flags`]: run in ksoftirqd.
pub const IN_KSOFTIRQD: u32 = 1;
/// [`NetRxBody::flags`]: the packet budget was used up.
pub const BUDGET_EXHAUSTED: u32 = 2;
/// [`NetRxBody::flags`]: the time limit had passed.
pub const TIME_EXHAUSTED: u32 = 4;

/// Body of [`Kind::Drop`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropBody {
    /// What the drop is counted under.
    pub key: crate::counter::DropKey,
    /// `skb->len`.
    pub len: u32,
    /// 4 or 6 when addresses could be read, else 0.
    pub ip_version: u8,
    /// IP protocol (6 TCP, 17 UDP, …), 0 if not read.
    pub l4_protocol: u8,
    /// 1 when the ports could be read.
    pub has_ports: u8,
    /// Pads.
    pub reserved: u8,
    /// Source port, network byte order.
    pub source_port: [u8; 2],
    /// Destination port, network byte order.
    pub destination_port: [u8; 2],
    /// Pads to 8 bytes.
    pub reserved2: u32,
    /// Source address; IPv4 in the first four bytes.
    pub source: [u8; 16],
    /// Destination address; IPv4 in the first four bytes.
    pub destination: [u8; 16],
    /// Device name, NUL-padded; empty if unknown.
    pub device: [u8; 16],
}
