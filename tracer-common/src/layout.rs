//! What the user side finds out about the running kernel and hands to the programs before they are
//! loaded, as the frozen global `LAYOUT`: the verifier knows its values and prunes what is off.

/// In an offset of [`Layout`]: this kernel has no such member.
pub const ABSENT: u32 = u32::MAX;

/// Offsets in bytes from the kernel's BTF, argument counts, and what to count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `sk_buff.len`.
    pub skb_len: u32,
    /// `sk_buff.dev`.
    pub skb_dev: u32,
    /// `sk_buff.skb_iif`.
    pub skb_iif: u32,
    /// `sk_buff.protocol`.
    pub skb_protocol: u32,
    /// `sk_buff.head`.
    pub skb_head: u32,
    /// `sk_buff.data`.
    pub skb_data: u32,
    /// `sk_buff.network_header`.
    pub skb_network_header: u32,
    /// `net_device.ifindex`.
    pub dev_ifindex: u32,
    /// `net_device.name`.
    pub dev_name: u32,
    /// `net_device._tx`, the array of transmit queues that every device has.
    pub dev_tx: u32,
    /// `netdev_queue.dev`.
    pub txq_dev: u32,
    /// `net_device.nd_net` (a `possible_net_t` that begins with the pointer).
    pub dev_net: u32,
    /// `net.ns.inum`.
    pub net_inum: u32,
    /// `sock.__sk_common.skc_net`.
    pub sock_net: u32,
    /// `sk_buff.sk`.
    pub skb_sk: u32,
    /// `napi_struct.dev`.
    pub napi_dev: u32,
    /// `napi_struct.napi_id`.
    pub napi_id: u32,
    /// `irqaction.next`.
    pub irqaction_next: u32,
    /// Arguments of tracepoint `kfree_skb`: 2 (5.10), 3 (5.17), 4 (6.11).
    pub kfree_skb_args: u32,
    /// 1: the kernel runs no program of a tracepoint where it interrupts itself (6.1).
    pub guarded: u32,
    /// 1: `PREEMPT_RT`, where a `NET_RX` run may be preempted by another task's.
    pub preempt_rt: u32,
    /// Possible CPUs, the length of the array `CPUS`.
    pub cpus: u32,
    /// IRQ numbers a CPU has room for in `IRQS`.
    pub irqs: u32,
    /// Kinds of detail asked for, bit = [`crate::event::Kind`].
    pub details: u32,
    /// Details allowed per window, kind and CPU; `u32::MAX` is unlimited.
    pub detail_burst: u32,
    /// A window is `1 << detail_shift` jiffies long.
    pub detail_shift: u32,
    /// Bytes in the ring above which the reader is woken.
    pub ring_wake_bytes: u32,
    /// 1: `NET_RX` runs are measured at `softirq_entry/exit`; 0: at `net_rx_action` itself.
    pub net_rx_by_softirq: u32,
    /// 1: `enqueue_to_backlog` is hooked.
    pub backlog_hooked: u32,
    /// `SKB_DROP_REASON_CPU_BACKLOG` of this kernel; [`ABSENT`] before 5.17.
    pub backlog_reason: u32,
    /// 1: packet headers may be read (not under lockdown=confidentiality).
    pub headers: u32,
}

impl Layout {
    /// Nothing known, nothing asked for.
    pub const UNKNOWN: Self = Self {
        skb_len: ABSENT,
        skb_dev: ABSENT,
        skb_iif: ABSENT,
        skb_protocol: ABSENT,
        skb_head: ABSENT,
        skb_data: ABSENT,
        skb_network_header: ABSENT,
        dev_ifindex: ABSENT,
        dev_name: ABSENT,
        dev_tx: ABSENT,
        txq_dev: ABSENT,
        dev_net: ABSENT,
        net_inum: ABSENT,
        sock_net: ABSENT,
        skb_sk: ABSENT,
        napi_dev: ABSENT,
        napi_id: ABSENT,
        irqaction_next: ABSENT,
        kfree_skb_args: 0,
        guarded: 0,
        preempt_rt: 0,
        cpus: 0,
        irqs: 0,
        details: 0,
        detail_burst: 0,
        detail_shift: 0,
        ring_wake_bytes: 0,
        net_rx_by_softirq: 0,
        backlog_hooked: 0,
        backlog_reason: ABSENT,
        headers: 0,
    };
}

/// Settings that may change while the programs run; the global `SETTINGS`, alone in the map `.bss`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `net.core.netdev_budget`, packets.
    pub netdev_budget: u64,
    /// `net.core.netdev_budget_usecs` in jiffies, rounded up as `usecs_to_jiffies` does.
    pub netdev_budget_jiffies: u64,
}
