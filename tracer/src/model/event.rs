//! Single events as the report and `--format json` show them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One detail from the ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// End of the event, ns of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// CPU that executed it.
    pub cpu: u32,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// Body of an [`Event`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// One hard IRQ handler.
    Irq {
        /// IRQ number.
        irq: u32,
        /// Time in the handler.
        handler_ns: u64,
    },
    /// One `NET_RX` run.
    NetRx {
        /// From the oldest raise to the entry; `null` if the raise was not seen.
        wait_ns: Option<u64>,
        /// From entry to exit.
        run_ns: u64,
        /// Packets polled.
        packets: u32,
        /// Run in ksoftirqd.
        ksoftirqd: bool,
        /// Ended at the packet budget.
        budget_exhausted: bool,
        /// Ended at the time limit.
        time_exhausted: bool,
    },
    /// One dropped packet.
    Drop {
        /// As [`super::report::Drop::site`].
        site: String,
        /// Offset in the function.
        offset: Option<u64>,
        /// As [`super::report::Drop::reason`].
        reason: Option<String>,
        /// Device.
        device: Option<String>,
        /// Namespace, as [`super::report::Drop::netns`].
        netns: Option<String>,
        /// As [`super::report::Drop::protocol`].
        protocol: String,
        /// `skb->len`.
        len: u32,
        /// CPU whose backlog refused it.
        target_cpu: Option<u32>,
        /// Addresses and ports, if the headers could be read.
        flow: Option<Flow>,
    },
}

/// Addresses of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// IP protocol number (6 TCP, 17 UDP).
    pub protocol: u8,
    /// Source.
    pub source: IpAddr,
    /// Source port; `null` if the protocol has none or a fragment hides it.
    pub source_port: Option<u16>,
    /// Destination.
    pub destination: IpAddr,
    /// Destination port, likewise.
    pub destination_port: Option<u16>,
}
