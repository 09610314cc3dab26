//! /proc/net/softnet_stat: `softnet_seq_show` in net/core/net-procfs.c.

/// One row, cumulative since boot. u32 in the kernel: wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftnetRow {
    /// Packets that entered the stack on this CPU. Column 1.
    pub processed: u32,
    /// Packets this CPU's backlog refused. Column 2.
    pub dropped: u32,
    /// `NET_RX` runs that ended with work left. Column 3.
    pub time_squeeze: u32,
    /// IPIs received for packets that RPS steered here. Column 10.
    pub received_rps: Option<u32>,
    /// Packets refused by the flow limit. Column 11.
    pub flow_limit: Option<u32>,
    /// Packets waiting in the backlog; a level. Column 12.
    pub backlog_len: Option<u32>,
}
