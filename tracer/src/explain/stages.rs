//! Every stage at which a packet can be dropped.

use super::{Kind, Topic};

const fn stage(name: &'static str, text: &'static str) -> Topic {
    Topic {
        kind: Kind::Stage,
        name,
        text,
    }
}

pub(super) const TOPICS: &[Topic] = &[
    stage(
        "driver",
        "In the device's driver, its ring, GRO or generic XDP, or a virtual device's transmit function. What the hardware could \
         not even store has no sk_buff and no drop here: see missed.",
    ),
    stage(
        "backlog",
        "On the way into a CPU's backlog queue: RPS and virtual devices. See backlog-overflow.",
    ),
    stage(
        "ip",
        "In IPv4 or IPv6, ARP and neighbour discovery, routing, fragments, tunnels, IPsec: wrong headers, no route, not for us.",
    ),
    stage(
        "netfilter",
        "By the verdict of a rule (nftables, iptables, IPVS), or a full connection table.",
    ),
    stage(
        "tcp",
        "In TCP: wrong sequence or state, a full accept queue, memory. Most of its drops are duplicates and late segments.",
    ),
    stage(
        "udp",
        "In UDP: nobody listens, a wrong checksum, or the receive buffer of the socket is full.",
    ),
    stage(
        "socket",
        "At a socket: its buffer or filter, packet and raw sockets, or unread data when it was closed.",
    ),
    stage(
        "device_queue",
        "In a queueing discipline or elsewhere on the way out: shaping, a full queue, traffic control.",
    ),
    stage(
        "other",
        "Anywhere else, or in a helper that frees for others and hides who decided.",
    ),
];
