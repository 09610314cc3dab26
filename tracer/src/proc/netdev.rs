//! Network devices of the namespace tracer runs in and their `rtnl_link_stats64`.

/// One device; counters cumulative since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetDevice {
    /// Name; may change while the index stays.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// `IFLA_STATS64` `rx_packets`.
    pub rx_packets: u64,
    /// `rx_bytes`.
    pub rx_bytes: u64,
    /// `rx_dropped`: refused by the stack. Does not contain `rx_missed_errors`.
    pub rx_dropped: u64,
    /// `rx_missed_errors`: the NIC had no room.
    pub rx_missed_errors: u64,
    /// `rx_errors`.
    pub rx_errors: u64,
}
