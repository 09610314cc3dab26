//! What a drop reason means for the packets, in plain words.

/// By reason, as the running kernel's BTF spells it without its prefix; what happened to the
/// packets, as the end of a sentence. Only where the word is not enough and the meaning certain.
const FATES: &[(&str, &str)] = &[
    (
        "SOCKET_RCVBUFF",
        "found the receive buffer of a socket full",
    ),
    ("SOCKET_BACKLOG", "found the backlog of a busy socket full"),
    ("SOCKET_FILTER", "were refused by a socket's filter"),
    ("PROTO_MEM", "met the memory limit of the protocol"),
    ("CPU_BACKLOG", "found the backlog of a CPU full"),
    ("NETFILTER_DROP", "were dropped by a firewall rule"),
    ("QDISC_DROP", "were dropped by a queueing discipline"),
    (
        "TC_INGRESS",
        "were dropped by traffic control on the way in",
    ),
    (
        "TC_EGRESS",
        "were dropped by traffic control on the way out",
    ),
    ("XDP", "were dropped by an XDP program"),
    (
        "BPF_CGROUP_EGRESS",
        "were dropped by a cgroup's eBPF program",
    ),
    ("FULL_RING", "found the ring of a device full"),
    ("NOMEM", "found no memory"),
    ("UDP_CSUM", "had a wrong checksum"),
    ("TCP_CSUM", "had a wrong checksum"),
    ("IP_CSUM", "had a wrong checksum"),
    ("ICMP_CSUM", "had a wrong checksum"),
    ("SKB_CSUM", "had a wrong checksum"),
    ("IP_RPFILTER", "failed the reverse path check (rp_filter)"),
    ("IP_INNOROUTES", "had no route"),
    ("IP_OUTNOROUTES", "had no route"),
    ("PKT_TOO_BIG", "were larger than the MTU"),
    ("NEIGH_FAILED", "were for a neighbour that does not answer"),
    (
        "NEIGH_QUEUEFULL",
        "found the queue for a silent neighbour full",
    ),
    ("TCP_ZEROWINDOW", "met a receive window of 0"),
];

/// What happened to `packets` packets dropped for `reason`: `found the receive buffer of a socket
/// full`. `None` where the kernel's word has to do.
#[must_use]
pub fn fate(reason: &str, packets: u64) -> Option<String> {
    let (_, words) = FATES.iter().find(|(name, _)| *name == reason)?;
    Some(match words.strip_prefix("were ") {
        Some(rest) if packets == 1 => format!("was {rest}"),
        _ => (*words).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_was_and_two_packets_were() {
        let told = |packets| fate("NETFILTER_DROP", packets);
        assert_eq!(told(1).as_deref(), Some("was dropped by a firewall rule"));
        assert_eq!(told(2).as_deref(), Some("were dropped by a firewall rule"));
        assert_eq!(fate("A_REASON_OF_TOMORROW", 1), None);
    }

    #[test]
    fn no_reason_that_is_ordinary_has_a_harmful_fate() {
        use crate::{analyze::benign::is_benign, model::report::Stage};
        for (reason, _) in FATES {
            assert_eq!(is_benign("f", Some(reason), Stage::Other), None, "{reason}");
        }
    }
}
