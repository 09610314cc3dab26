//! How far a packet had come when it was dropped, from the function that dropped it.
//!
//! `kfree_skb` reports a return address: the function that decided, or one it was inlined into
//! (`__dev_xmit_skb` into `__dev_queue_xmit`, `__udp_queue_rcv_skb` into `udp_queue_rcv_one_skb`).
//! Helpers that free on behalf of others (`kfree_skb_list`, `skb_release_data`, `skb_queue_purge`)
//! hide who decided; they are [`Stage::Other`], as is everything the tables do not know.

use crate::model::report::Stage;

/// Names that a prefix would put elsewhere. Leading underscores are not part of the name here.
const EXACT: &[(&str, Stage)] = &[
    // Unhandled protocols, tc ingress, rx handlers: above the driver, below every protocol.
    ("netif_receive_skb_core", Stage::Other),
    ("netif_receive_skb_list_core", Stage::Other),
    ("netif_receive_skb_one_core", Stage::Other),
    // The location that `dev_kfree_skb_irq` leaves: a driver gave the packet up in hard IRQ context.
    ("net_tx_action", Stage::Driver),
    ("do_xdp_generic", Stage::Driver),
    ("netif_receive_generic_xdp", Stage::Driver),
    ("generic_xdp_tx", Stage::Driver),
    ("loopback_xmit", Stage::Driver),
    ("dummy_xmit", Stage::Driver),
    ("blackhole_netdev_xmit", Stage::Driver),
    ("dev_gro_receive", Stage::Driver),
    ("receive_buf", Stage::Driver),
    ("noop_enqueue", Stage::DeviceQueue),
    ("noop_dequeue", Stage::DeviceQueue),
    ("sk_skb_reason_drop", Stage::Other),
    ("skb_free_datagram", Stage::Socket),
    ("skb_kill_datagram", Stage::Socket),
];

/// The longest that fits wins. Leading underscores are not part of the name here.
const PREFIXES: &[(Stage, &[&str])] = &[
    (
        Stage::Backlog,
        &[
            "enqueue_to_backlog",
            "netif_rx",
            "process_backlog",
            "flush_backlog",
        ],
    ),
    (
        Stage::Ip,
        &[
            "addrconf",
            "ah4_",
            "ah6_",
            "ah_",
            "arp_",
            "dst_",
            "erspan",
            "esp4_",
            "esp6_",
            "esp_",
            "fib",
            "gre_",
            "icmp",
            "igmp",
            "inet6_",
            "inet_frag",
            "ioam6",
            "ip4_",
            "ip6_",
            "ip6erspan",
            "ip6gre",
            "ip6mr",
            "ip_",
            "ipcomp",
            "ipgre",
            "ipip",
            "ipmr",
            "ipv4_",
            "ipv6_",
            "lwtunnel",
            "mld",
            "ndisc",
            "neigh_",
            "pim",
            "rpl_",
            "rt6",
            "rt_",
            "seg6",
            "sit_",
            "tunnel4_",
            "tunnel6_",
            "tunnel64_",
            "vti",
            "xfrm",
            "xfrm4_",
            "xfrm6_",
        ],
    ),
    (
        Stage::Netfilter,
        &[
            "arpt_",
            "br_nf_",
            "ebt_",
            "ip6t_",
            "ip_set",
            "ip_vs_",
            "ipt_",
            "nf_",
            "nfnetlink",
            "nfnl",
            "nfqnl",
            "nft_",
            "nfulnl",
            "synproxy",
            "xt_",
        ],
    ),
    (Stage::Tcp, &["inet_csk_", "mptcp_", "reqsk_", "tcp"]),
    (Stage::Udp, &["udp"]),
    (
        Stage::Socket,
        &[
            "bpf_sk_",
            "genl_",
            "inet_",
            "netlink_",
            "nlmsg_",
            "packet_",
            "ping_",
            "prb_",
            "raw6_",
            "raw_",
            "rawv6_",
            "rtnetlink",
            "rtnl_",
            "sk_",
            "sock_",
            "tls_",
            "tpacket_",
            "unix_",
            "virtio_transport_",
            "vsock_",
        ],
    ),
    (
        Stage::DeviceQueue,
        &[
            "bfifo",
            "cake_",
            "cbs_",
            "choke_",
            "codel_",
            "dev_direct_xmit",
            "dev_hard_start_xmit",
            "dev_loopback_xmit",
            "dev_queue_xmit",
            "dev_xmit_skb",
            "drr_",
            "dualpi2",
            "etf_",
            "ets_",
            "fifo_",
            "fq_",
            "gred_",
            "hfsc_",
            "hhf_",
            "htb_",
            "mqprio",
            "multiq_",
            "netem_",
            "pfifo",
            "pie_",
            "plug_",
            "prio_",
            "qdisc",
            "qfq_",
            "red_",
            "sch_",
            "sfb_",
            "sfq_",
            "skbprio_",
            "taprio",
            "tbf_",
            "tcf_",
            "validate_xmit",
        ],
    ),
    (
        Stage::Driver,
        &[
            "aq_",
            "atl1",
            "be_xmit",
            "bnx2",
            "bnxt",
            "bond_",
            "cxgb",
            "dev_kfree_skb",
            "e100",
            "e1000",
            "efx_",
            "ena_",
            "fec_enet",
            "geneve",
            "gro_cell",
            "gve_",
            "hns3",
            "i40e",
            "iavf",
            "ice_",
            "ifb_",
            "igb",
            "igc_",
            "ipoib",
            "ipvlan",
            "ixgb",
            "macb_",
            "macsec",
            "macvlan",
            "macvtap",
            "mlx4",
            "mlx5",
            "mvneta",
            "mvpp2",
            "napi_",
            "netvsc",
            "nfp_",
            "ppp_",
            "qede_",
            "receive_mergeable",
            "rtl8",
            "skb_recv_done",
            "stmmac",
            "tap_",
            "team_",
            "tg3_",
            "tun_",
            "veth",
            "virtnet",
            "vlan_dev",
            "vmxnet3",
            "vrf_",
            "vxlan",
            "wg_",
            "xdp_",
            "xennet",
            "xenvif",
        ],
    ),
];

/// Modules that are no device drivers, by the longest prefix. Asked before the function name: a
/// match module's `tcp_mt` has nothing to do with TCP's receive path. `None`: the name decides.
const MODULES: &[(&str, Option<Stage>)] = &[
    ("act_", Some(Stage::DeviceQueue)),
    ("af_packet", Some(Stage::Socket)),
    ("ah4", Some(Stage::Ip)),
    ("ah6", Some(Stage::Ip)),
    ("arp_tables", Some(Stage::Netfilter)),
    ("arptable_", Some(Stage::Netfilter)),
    ("batman_adv", Some(Stage::Other)),
    ("bluetooth", Some(Stage::Other)),
    ("br_netfilter", Some(Stage::Netfilter)),
    ("bridge", Some(Stage::Other)),
    ("can", Some(Stage::Other)),
    ("cfg80211", Some(Stage::Other)),
    ("cls_", Some(Stage::DeviceQueue)),
    ("ebt_", Some(Stage::Netfilter)),
    ("ebtable", Some(Stage::Netfilter)),
    ("esp4", Some(Stage::Ip)),
    ("esp6", Some(Stage::Ip)),
    ("gre", Some(Stage::Ip)),
    ("ip6_gre", Some(Stage::Ip)),
    ("ip6_tables", Some(Stage::Netfilter)),
    ("ip6_tunnel", Some(Stage::Ip)),
    ("ip6_vti", Some(Stage::Ip)),
    ("ip6t", Some(Stage::Netfilter)),
    ("ip_gre", Some(Stage::Ip)),
    ("ip_set", Some(Stage::Netfilter)),
    ("ip_tables", Some(Stage::Netfilter)),
    ("ip_tunnel", Some(Stage::Ip)),
    ("ip_vs", Some(Stage::Netfilter)),
    ("ip_vti", Some(Stage::Ip)),
    ("ipcomp", Some(Stage::Ip)),
    ("ipip", Some(Stage::Ip)),
    ("ipt", Some(Stage::Netfilter)),
    ("ipv6", None),
    ("l2tp_", Some(Stage::Other)),
    ("llc", Some(Stage::Other)),
    ("mac80211", Some(Stage::Other)),
    ("nf_", Some(Stage::Netfilter)),
    ("nfnetlink", Some(Stage::Netfilter)),
    ("nft_", Some(Stage::Netfilter)),
    ("openvswitch", Some(Stage::Other)),
    ("psample", Some(Stage::Other)),
    ("rds", Some(Stage::Other)),
    ("sch_", Some(Stage::DeviceQueue)),
    ("sctp", Some(Stage::Other)),
    ("sit", Some(Stage::Ip)),
    ("smc", Some(Stage::Other)),
    ("stp", Some(Stage::Other)),
    ("sunrpc", Some(Stage::Other)),
    ("tipc", Some(Stage::Other)),
    ("tls", Some(Stage::Socket)),
    ("tunnel4", Some(Stage::Ip)),
    ("tunnel6", Some(Stage::Ip)),
    ("udp_tunnel", Some(Stage::Udp)),
    ("unix", Some(Stage::Socket)),
    ("vmw_vsock", Some(Stage::Socket)),
    ("vsock", Some(Stage::Socket)),
    ("xfrm", Some(Stage::Ip)),
    ("xt_", Some(Stage::Netfilter)),
];

/// Stage of a drop in `function` (kallsyms name; a suffix such as `.cold` does no harm) of `module`
/// (`None`: built in). A module that is in no table and frees packets is taken for a driver.
#[must_use]
pub fn stage(function: &str, module: Option<&str>) -> Stage {
    let name = normalise(function);
    if let Some(module) = module {
        let known = MODULES
            .iter()
            .filter(|(prefix, _)| module.starts_with(prefix))
            .max_by_key(|(p, _)| p.len());
        return match known {
            Some((_, Some(stage))) => *stage,
            Some((_, None)) => by_name(name).unwrap_or_default(),
            None => by_name(name).unwrap_or(Stage::Driver),
        };
    }
    by_name(name).unwrap_or_default()
}

/// Prefixes of reasons that only one stage gives.
const REASONS: &[(&str, Stage)] = &[
    ("CAKE_", Stage::DeviceQueue),
    ("CPU_BACKLOG", Stage::Backlog),
    ("FQ_", Stage::DeviceQueue),
    ("ICMP_", Stage::Ip),
    ("IP_", Stage::Ip),
    ("IPV6", Stage::Ip),
    ("NEIGH_", Stage::Ip),
    ("NETFILTER_DROP", Stage::Netfilter),
    ("OTHERHOST", Stage::Ip),
    ("QDISC_", Stage::DeviceQueue),
    ("SOCKET_", Stage::Socket),
    ("TAP_", Stage::Driver),
    ("TC_EGRESS", Stage::DeviceQueue),
    ("TCP_", Stage::Tcp),
    ("UDP_", Stage::Udp),
    ("UNIX_", Stage::Socket),
    ("XDP", Stage::Driver),
];

/// Stage that `reason` alone tells, for kernels that hide the names of functions; `None` if several
/// stages give it.
#[must_use]
pub fn stage_of_reason(reason: &str) -> Option<Stage> {
    REASONS
        .iter()
        .find(|(prefix, _)| reason.starts_with(prefix))
        .map(|(_, stage)| *stage)
}

/// The words the report uses for `stage`.
#[must_use]
pub const fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Driver => "driver",
        Stage::Backlog => "backlog",
        Stage::Ip => "IP",
        Stage::Netfilter => "netfilter",
        Stage::Tcp => "TCP",
        Stage::Udp => "UDP",
        Stage::Socket => "socket",
        Stage::DeviceQueue => "device queue",
        Stage::Other => "other",
    }
}

/// Function name without what the compiler or a naming habit put around it.
pub(super) fn normalise(function: &str) -> &str {
    let name = function.trim_start_matches('_');
    name.split_once('.').map_or(name, |(stem, _)| stem)
}

fn by_name(name: &str) -> Option<Stage> {
    if let Some((_, stage)) = EXACT.iter().find(|(exact, _)| *exact == name) {
        return Some(*stage);
    }
    PREFIXES
        .iter()
        .flat_map(|(stage, prefixes)| prefixes.iter().map(move |prefix| (*stage, *prefix)))
        .filter(|(_, prefix)| name.starts_with(prefix))
        .max_by_key(|(_, prefix)| prefix.len())
        .map(|(stage, _)| stage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(expected: Stage, names: &[&str]) {
        for name in names {
            assert_eq!(stage(name, None), expected, "{name}");
        }
    }

    #[test]
    fn the_backlog_is_told_by_its_enqueue_whatever_suffix_the_compiler_left() {
        all(
            Stage::Backlog,
            &[
                "enqueue_to_backlog",
                "enqueue_to_backlog.cold",
                "netif_rx_internal",
                "netif_rx",
            ],
        );
    }

    #[test]
    fn a_drop_of_each_protocol_is_charged_to_that_protocol() {
        all(
            Stage::Ip,
            &[
                "ip_rcv_core",
                "ip_rcv_finish_core",
                "ip_forward",
                "ip6_mc_input",
                "ip6_rcv_core",
                "icmp_rcv",
                "icmpv6_rcv",
                "ip_protocol_deliver_rcu",
                "ndisc_rcv",
                "arp_process",
                "__neigh_event_send",
                "ip_mc_output",
                "xfrm_input",
            ],
        );
        all(
            Stage::Tcp,
            &[
                "tcp_v4_rcv",
                "tcp_v6_rcv",
                "tcp_data_queue",
                "tcp_drop_reason",
                "tcp_rcv_state_process",
            ],
        );
        all(
            Stage::Udp,
            &[
                "udp_queue_rcv_one_skb",
                "__udp4_lib_rcv",
                "udpv6_queue_rcv_one_skb",
                "udp_rcv",
                "__udp6_lib_rcv",
            ],
        );
        all(
            Stage::Socket,
            &[
                "sock_queue_rcv_skb_reason",
                "__sock_queue_rcv_skb",
                "sk_filter_trim_cap",
                "packet_rcv",
                "tpacket_rcv",
                "raw_rcv",
                "unix_dgram_sendmsg",
                "netlink_broadcast_filtered",
                "inet_sock_destruct",
            ],
        );
    }

    #[test]
    fn a_netfilter_name_wins_over_the_ip_prefix_it_shares() {
        all(
            Stage::Netfilter,
            &[
                "nf_hook_slow",
                "ip_vs_in",
                "ipt_do_table",
                "ip_set_test",
                "nft_do_chain",
                "br_nf_pre_routing",
            ],
        );
    }

    #[test]
    fn the_transmit_path_and_its_queues_are_one_stage() {
        all(
            Stage::DeviceQueue,
            &[
                "__dev_queue_xmit",
                "__dev_xmit_skb",
                "pfifo_fast_enqueue",
                "fq_codel_dequeue",
                "validate_xmit_skb",
                "qdisc_reset",
                "__qdisc_drop_all",
                "noop_enqueue",
            ],
        );
    }

    #[test]
    fn drivers_are_told_by_name_when_built_in_and_by_module_otherwise() {
        all(
            Stage::Driver,
            &[
                "veth_xmit",
                "virtnet_poll",
                "tun_net_xmit",
                "net_tx_action",
                "napi_gro_frags",
                "loopback_xmit",
            ],
        );
        assert_eq!(stage("frobnicate_rx", Some("newnic")), Stage::Driver);
        assert_eq!(stage("frobnicate_rx", None), Stage::Other);
        assert_eq!(stage("e1000_xmit_frame", Some("e1000e")), Stage::Driver);
    }

    #[test]
    fn a_module_that_is_no_driver_is_not_taken_for_one() {
        assert_eq!(stage("tcp_mt", Some("xt_tcpudp")), Stage::Netfilter);
        assert_eq!(
            stage("br_handle_frame_finish", Some("bridge")),
            Stage::Other
        );
        assert_eq!(stage("tcp_v6_rcv", Some("ipv6")), Stage::Tcp);
        assert_eq!(stage("somewhere_new", Some("ipv6")), Stage::Other);
        assert_eq!(stage("tbf_dequeue", Some("sch_tbf")), Stage::DeviceQueue);
    }

    #[test]
    fn a_helper_that_frees_for_others_names_no_stage() {
        all(
            Stage::Other,
            &[
                "kfree_skb_list_reason",
                "sk_skb_reason_drop",
                "skb_release_data",
                "skb_queue_purge_reason",
                "__netif_receive_skb_core",
                "skb_segment",
                "0xffffffff81234567",
                "",
            ],
        );
    }

    #[test]
    fn a_reason_tells_the_stage_where_names_are_hidden() {
        assert_eq!(stage_of_reason("CPU_BACKLOG"), Some(Stage::Backlog));
        assert_eq!(stage_of_reason("TCP_CSUM"), Some(Stage::Tcp));
        assert_eq!(stage_of_reason("NO_SOCKET"), None);
    }

    proptest! {
        #[test]
        fn any_name_has_a_stage(function in ".{0,40}", module in proptest::option::of(".{0,20}")) {
            let _ = stage(&function, module.as_deref());
        }
    }
}
