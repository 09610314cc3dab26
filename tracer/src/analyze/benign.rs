//! Drops that are ordinary: the host did what it should, and no knob makes fewer of them.
//!
//! They stay out of the headline and are listed apart. What is not certain is not ordinary: a
//! policy (netfilter, a socket filter) and a shortage (a buffer, a queue) never are.

use super::stage::normalise;
use crate::model::report::Stage;

const NOBODY_LISTENS: &str = "nobody listens on that port";
const CLOSED_UNREAD: &str = "the socket was closed with data unread";
const DUPLICATE: &str = "a duplicate; the data had arrived before";

/// By reason, as the running kernel's BTF spells it without its prefix.
const REASONS: &[(&str, &str)] = &[
    ("SKB_CONSUMED", "consumed, not dropped"),
    ("SKB_NOT_DROPPED_YET", "consumed, not dropped"),
    ("NO_SOCKET", NOBODY_LISTENS),
    ("OTHERHOST", "addressed to another host"),
    (
        "IPV6_NDISC_NS_OTHERHOST",
        "a neighbour solicitation for another host",
    ),
    ("UNHANDLED_PROTO", "no handler for this EtherType"),
    ("IP_NOPROTO", "no handler for this IP protocol"),
    ("IPV6DISABLED", "IPv6 is off on that device"),
    (
        "UNICAST_IN_L2_MULTICAST",
        "a link-layer multicast with a unicast address",
    ),
    (
        "MAC_IEEE_MAC_CONTROL",
        "a MAC control frame, never forwarded",
    ),
    ("SOCKET_CLOSE", CLOSED_UNREAD),
    ("UNIX_DISCONNECT", "the peer had disconnected"),
    ("UNIX_SKIP_OOB", "out-of-band data the reader skipped"),
    (
        "QUEUE_PURGE",
        "its queue was thrown away (socket closed, device down)",
    ),
    ("DUP_FRAG", "a duplicate fragment"),
    ("TCP_OLD_DATA", DUPLICATE),
    ("TCP_OLD_SEQUENCE", DUPLICATE),
    ("TCP_OFOMERGE", DUPLICATE),
    ("TCP_OLD_ACK", "an acknowledgement that says nothing new"),
    (
        "TCP_RFC7323_PAWS_ACK",
        "an old acknowledgement out of order",
    ),
    ("TCP_RESET", "a reset; it carries no data"),
    ("TCP_CLOSE", "a late segment for a closed connection"),
];

/// By function, for kernels without reasons (before 5.17) and drops whose reason is not specified.
/// Only functions all of whose drops are ordinary. Without leading underscores.
const FUNCTIONS: &[(&str, &str)] = &[
    ("inet_sock_destruct", CLOSED_UNREAD),
    ("udp_destruct_common", CLOSED_UNREAD),
    ("udp_destruct_sock", CLOSED_UNREAD),
    ("unix_release_sock", CLOSED_UNREAD),
    ("unix_sock_destructor", CLOSED_UNREAD),
    ("netlink_sock_destruct", CLOSED_UNREAD),
    ("packet_sock_destruct", CLOSED_UNREAD),
    ("sk_stream_kill_queues", CLOSED_UNREAD),
    ("skb_rbtree_purge", CLOSED_UNREAD),
    (
        "skb_queue_purge",
        "its queue was thrown away (socket closed, device down)",
    ),
    (
        "skb_queue_purge_reason",
        "its queue was thrown away (socket closed, device down)",
    ),
    ("ip6_mc_input", "an IPv6 multicast that nobody here joined"),
];

/// Why a drop in `function` for `reason` is ordinary, in words; `None` if it is not, or not for
/// certain. `reason` as [`crate::model::report::Drop::reason`].
#[must_use]
pub fn is_benign(function: &str, reason: Option<&str>, stage: Stage) -> Option<&'static str> {
    let name = normalise(function);
    match reason {
        None | Some("NOT_SPECIFIED") => find(FUNCTIONS, name),
        Some("NO_SOCKET") if stage == Stage::Socket => Some("no socket wants it"),
        // Elsewhere the reason also stands for headers that contradict themselves.
        Some("INVALID_PROTO") if name == "icmp_rcv" => Some("a broadcast ICMP request"),
        Some(reason) => find(REASONS, reason),
    }
}

fn find(table: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    table
        .iter()
        .find(|(name, _)| *name == key)
        .map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_nobody_listens_for_is_ordinary() {
        assert_eq!(
            is_benign("__udp4_lib_rcv", Some("NO_SOCKET"), Stage::Udp),
            Some(NOBODY_LISTENS)
        );
        assert!(is_benign("raw_local_deliver", Some("NO_SOCKET"), Stage::Socket).is_some());
    }

    #[test]
    fn frames_for_others_and_unknown_protocols_are_ordinary() {
        assert!(is_benign("ip_rcv_core", Some("OTHERHOST"), Stage::Ip).is_some());
        assert!(
            is_benign(
                "__netif_receive_skb_core",
                Some("UNHANDLED_PROTO"),
                Stage::Other
            )
            .is_some()
        );
    }

    #[test]
    fn a_shortage_or_a_policy_is_never_ordinary() {
        for reason in [
            "CPU_BACKLOG",
            "SOCKET_RCVBUFF",
            "SOCKET_BACKLOG",
            "PROTO_MEM",
            "NETFILTER_DROP",
            "SOCKET_FILTER",
            "UDP_CSUM",
            "QDISC_DROP",
            "FULL_RING",
            "NOMEM",
            "TCP_LISTEN_OVERFLOW",
            "TCP_ZEROWINDOW",
            "TCP_RFC7323_PAWS",
            "XDP",
            "IP_RPFILTER",
            "74",
            "",
        ] {
            assert_eq!(
                is_benign("anything", Some(reason), Stage::Other),
                None,
                "{reason}"
            );
        }
    }

    #[test]
    fn without_a_reason_only_a_function_that_decides_nothing_else_is_ordinary() {
        assert!(is_benign("ip6_mc_input", None, Stage::Ip).is_some());
        assert!(
            is_benign(
                "skb_queue_purge_reason",
                Some("NOT_SPECIFIED"),
                Stage::Other
            )
            .is_some()
        );
        assert!(is_benign("inet_sock_destruct", None, Stage::Socket).is_some());
        assert_eq!(is_benign("__udp4_lib_rcv", None, Stage::Udp), None);
        assert_eq!(is_benign("tcp_v4_rcv", None, Stage::Tcp), None);
        assert_eq!(is_benign("enqueue_to_backlog", None, Stage::Backlog), None);
    }

    #[test]
    fn a_known_reason_is_not_overruled_by_the_function() {
        assert_eq!(is_benign("ip6_mc_input", Some("NOMEM"), Stage::Ip), None);
    }
}
