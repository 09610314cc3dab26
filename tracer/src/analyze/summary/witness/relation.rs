//! Which drop reasons stand beside which counters of the protocols. From net/ipv4 and net/ipv6 of Linux 5.10 to 6.18.

use crate::model::report::Stage;

/// `EtherType` of IPv4.
const V4: u32 = 0x0800;
/// `EtherType` of IPv6.
const V6: u32 = 0x86dd;

/// Counters, and the drops that raise them once each.
pub(super) struct Relation {
    /// These together, as [`crate::proc::snmp`] names them.
    pub(super) counters: &'static [&'static str],
    /// But for what these count, which have a relation of their own.
    pub(super) without: &'static [&'static str],
    /// Drops for one of these reasons; empty: for any, on kernels without reasons only.
    pub(super) reasons: &'static [&'static str],
    /// At this stage.
    pub(super) stage: Stage,
    /// In these functions, without leading underscores; empty: in any.
    pub(super) functions: &'static [&'static str],
    /// Of this `EtherType`; `None`: of any.
    pub(super) protocol: Option<u32>,
}

const fn one(
    counters: &'static [&'static str],
    reasons: &'static [&'static str],
    stage: Stage,
    protocol: Option<u32>,
) -> Relation {
    Relation {
        counters,
        without: &[],
        reasons,
        stage,
        functions: &[],
        protocol,
    }
}

/// Where UDP over IPv4 drops; inlining differs between kernels.
const UDP4: &[&str] = &[
    "udp4_lib_rcv",
    "udp4_lib_mcast_deliver",
    "udp_rcv",
    "udp_unicast_rcv_skb",
    "udp_queue_rcv_skb",
    "udp_queue_rcv_one_skb",
    "udp_recvmsg",
    "first_packet_length",
];
const UDP6: &[&str] = &[
    "udp6_lib_rcv",
    "udp6_lib_mcast_deliver",
    "udpv6_rcv",
    "udp6_unicast_rcv_skb",
    "udpv6_queue_rcv_skb",
    "udpv6_queue_rcv_one_skb",
    "udpv6_recvmsg",
];

/// In the order in which the rows stand.
pub(super) const RELATIONS: &[Relation] = &[
    one(
        &["Udp.RcvbufErrors", "UdpLite.RcvbufErrors"],
        &["SOCKET_RCVBUFF"],
        Stage::Udp,
        Some(V4),
    ),
    one(
        &["Udp.MemErrors", "UdpLite.MemErrors"],
        &["PROTO_MEM"],
        Stage::Udp,
        Some(V4),
    ),
    one(
        &["Udp.InCsumErrors", "UdpLite.InCsumErrors"],
        &["UDP_CSUM"],
        Stage::Udp,
        Some(V4),
    ),
    one(
        &["Udp.NoPorts", "UdpLite.NoPorts"],
        &["NO_SOCKET"],
        Stage::Udp,
        Some(V4),
    ),
    Relation {
        counters: &["Udp.InErrors", "UdpLite.InErrors"],
        without: &[
            "Udp.RcvbufErrors",
            "UdpLite.RcvbufErrors",
            "Udp.MemErrors",
            "UdpLite.MemErrors",
            "Udp.InCsumErrors",
            "UdpLite.InCsumErrors",
        ],
        reasons: &["XFRM_POLICY", "SOCKET_FILTER", "PKT_TOO_SMALL"],
        stage: Stage::Udp,
        functions: &[],
        protocol: Some(V4),
    },
    Relation {
        counters: &["Udp.InErrors", "Udp.NoPorts", "Udp.IgnoredMulti"],
        without: &[],
        reasons: &[],
        stage: Stage::Udp,
        functions: UDP4,
        protocol: Some(V4),
    },
    one(
        &["Udp6.RcvbufErrors", "UdpLite6.RcvbufErrors"],
        &["SOCKET_RCVBUFF"],
        Stage::Udp,
        Some(V6),
    ),
    one(
        &["Udp6.MemErrors", "UdpLite6.MemErrors"],
        &["PROTO_MEM"],
        Stage::Udp,
        Some(V6),
    ),
    one(
        &["Udp6.InCsumErrors", "UdpLite6.InCsumErrors"],
        &["UDP_CSUM"],
        Stage::Udp,
        Some(V6),
    ),
    one(
        &["Udp6.NoPorts", "UdpLite6.NoPorts"],
        &["NO_SOCKET"],
        Stage::Udp,
        Some(V6),
    ),
    Relation {
        counters: &["Udp6.InErrors", "Udp6.NoPorts", "Udp6.IgnoredMulti"],
        without: &[],
        reasons: &[],
        stage: Stage::Udp,
        functions: UDP6,
        protocol: Some(V6),
    },
    one(
        &["Ip.InHdrErrors"],
        &["IP_INHDR", "IP_CSUM"],
        Stage::Ip,
        Some(V4),
    ),
    one(
        &["Ip.InAddrErrors"],
        &["IP_INADDRERRORS"],
        Stage::Ip,
        Some(V4),
    ),
    one(
        &["Ip.InUnknownProtos"],
        &["IP_NOPROTO"],
        Stage::Ip,
        Some(V4),
    ),
    one(
        &["IpExt.InNoRoutes"],
        &["IP_INNOROUTES"],
        Stage::Ip,
        Some(V4),
    ),
    Relation {
        counters: &["IpExt.InTruncatedPkts"],
        without: &[],
        reasons: &["PKT_TOO_SMALL"],
        stage: Stage::Ip,
        functions: &["ip_rcv_core", "ip_rcv"],
        protocol: Some(V4),
    },
    one(
        &["TcpExt.IPReversePathFilter"],
        &["IP_RPFILTER"],
        Stage::Ip,
        Some(V4),
    ),
    one(&["Ip6.InHdrErrors"], &["IP_INHDR"], Stage::Ip, Some(V6)),
    one(
        &["Ip6.InAddrErrors"],
        &["IP_INADDRERRORS"],
        Stage::Ip,
        Some(V6),
    ),
    one(
        &["Ip6.InUnknownProtos"],
        &["IP_NOPROTO"],
        Stage::Ip,
        Some(V6),
    ),
    one(&["Ip6.InNoRoutes"], &["IP_INNOROUTES"], Stage::Ip, Some(V6)),
    Relation {
        counters: &["Ip6.InTruncatedPkts"],
        without: &[],
        reasons: &["PKT_TOO_SMALL"],
        stage: Stage::Ip,
        functions: &["ip6_rcv_core", "ipv6_rcv"],
        protocol: Some(V6),
    },
    one(
        &["TcpExt.TCPBacklogDrop"],
        &["SOCKET_BACKLOG"],
        Stage::Tcp,
        None,
    ),
    one(
        &["TcpExt.TCPRcvQDrop", "TcpExt.TCPOFODrop"],
        &["PROTO_MEM"],
        Stage::Tcp,
        None,
    ),
    one(
        &["TcpExt.TCPZeroWindowDrop"],
        &["TCP_ZEROWINDOW"],
        Stage::Tcp,
        None,
    ),
    one(&["TcpExt.TCPMinTTLDrop"], &["TCP_MINTTL"], Stage::Tcp, None),
    one(&["Tcp.InCsumErrors"], &["TCP_CSUM"], Stage::Tcp, None),
];

/// Counters of lost packets that no drop reason stands beside, those they hold, and why.
pub(super) const ALONE: &[(&str, &[&str], &str)] = &[
    (
        "TcpExt.ListenOverflows",
        &[],
        "an accept queue was full: the connection's SYN is consumed (consume_skb), which is no drop to the kernel, or \
         its last ACK is dropped without a reason of its own",
    ),
    (
        "TcpExt.ListenDrops",
        &["TcpExt.ListenOverflows"],
        "a listening socket took no connection for another reason than a full accept queue; the packet is consumed, \
         which is no drop to the kernel",
    ),
    (
        "Tcp.InErrs",
        &["Tcp.InCsumErrors"],
        "counts segments that are not all dropped (a SYN within a connection is answered)",
    ),
    (
        "Ip.InDiscards",
        &[],
        "memory was short, or an option was refused: counted at several places, some of which have no packet left to \
         free",
    ),
    (
        "Ip6.InDiscards",
        &[],
        "memory was short, or IPv6 is off on the device: counted at several places, some of which have no packet left \
         to free",
    ),
    (
        "Ip.ReasmFails",
        &[],
        "packets that were never whole: one here, each of its fragments is a drop",
    ),
    (
        "Ip6.ReasmFails",
        &[],
        "packets that were never whole: one here, each of its fragments is a drop",
    ),
];
