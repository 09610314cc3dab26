//! The common drop reasons of the kernel (`enum skb_drop_reason`): what each means, where, and usual causes.

use super::{Kind, Topic};

const fn reason(name: &'static str, text: &'static str) -> Topic {
    Topic {
        kind: Kind::Reason,
        name,
        text,
    }
}

pub(super) const TOPICS: &[Topic] = &[
    // The host is short of something.
    reason(
        "CPU_BACKLOG",
        "The backlog queue of the target CPU was full, or the RPS flow limit refused the packet (enqueue_to_backlog, \
         net/core/dev.c). Usual causes: RPS masks that name one CPU, a virtual device whose packets all stay on one CPU, bursts \
         larger than net.core.netdev_max_backlog. See backlog-overflow.",
    ),
    reason(
        "SOCKET_RCVBUFF",
        "The receive buffer of the socket was full (sock_queue_rcv_skb, UDP's receive path). Usual causes: an application that \
         reads too slowly, or SO_RCVBUF smaller than its bursts. See slow-reader.",
    ),
    reason(
        "SOCKET_BACKLOG",
        "The application held the socket's lock, and the queue for packets that come meanwhile was full (sk_add_backlog). Usual \
         causes: very large reads or writes on a busy connection, small buffers. See socket-backlog.",
    ),
    reason(
        "PROTO_MEM",
        "The protocol as a whole is at its memory limit (net.ipv4.tcp_mem, udp_mem, or the cgroup's): __sk_mem_raise_allocated. \
         Usual causes: many sockets with full buffers, one reader that has stopped.",
    ),
    reason(
        "NOMEM",
        "No memory could be had for the packet. Usual causes: memory pressure when interrupts arrive; look at \
         vm.min_free_kbytes and the cgroup's limit.",
    ),
    reason(
        "FULL_RING",
        "The ring between kernel and reader was full (tun, tap, virtio: ptr_ring). Usual causes: a virtual machine or VPN \
         process that does not fetch its packets fast enough.",
    ),
    reason(
        "QDISC_DROP",
        "A queueing discipline refused the packet on its way out (__dev_xmit_skb): its queue was full, or its policy said so. \
         Usual causes: a shaped rate, a slow link, txqueuelen.",
    ),
    reason(
        "TCP_LISTEN_OVERFLOW",
        "The accept queue of a listening socket was full (tcp_conn_request, tcp_v4_syn_recv_sock). Usual causes: an application \
         that accepts too slowly, a small backlog in listen() or net.core.somaxconn. See listen-overflow.",
    ),
    reason(
        "TCP_OFO_QUEUE_PRUNE",
        "Out-of-order segments were thrown away to make room in the receive buffer (tcp_prune_ofo_queue). Usual causes: loss \
         elsewhere with a receive buffer that is too small for the path.",
    ),
    reason(
        "TCP_ZEROWINDOW",
        "Data came although the receive window was 0 (tcp_data_queue): the reader does not read. Usual causes: a stuck \
         application; a sender that probes the window.",
    ),
    reason(
        "NEIGH_QUEUEFULL",
        "Packets waited for a neighbour's address to be resolved, and that queue was full (__neigh_event_send). Usual causes: a \
         silent neighbour and much traffic for it; unres_qlen_bytes.",
    ),
    // Policy.
    reason(
        "NETFILTER_DROP",
        "A netfilter verdict: a rule, a full connection table, a failed NAT (nf_hook_slow). Usual causes: the firewall does \
         what it was told; nf_conntrack_max. See firewall, conntrack-full.",
    ),
    reason(
        "SOCKET_FILTER",
        "A filter attached to the socket (SO_ATTACH_FILTER, eBPF) refused the packet (sk_filter_trim_cap). Usual causes: packet \
         sockets of DHCP clients and sniffers, which want few of all packets.",
    ),
    reason(
        "XDP",
        "An XDP program said drop, in the generic path (do_xdp_generic). In native mode there is no sk_buff and no drop to see. \
         Usual causes: a load balancer or a DDoS filter at work.",
    ),
    reason(
        "TC_INGRESS",
        "Traffic control dropped it on the way in (sch_handle_ingress): a classifier, a policer or an eBPF program, as \
         container networks attach them.",
    ),
    reason(
        "TC_EGRESS",
        "Traffic control dropped it on the way out (sch_handle_egress): a classifier, a policer or an eBPF program.",
    ),
    reason(
        "BPF_CGROUP_EGRESS",
        "An eBPF program of the sender's cgroup refused it (BPF_CGROUP_INET_EGRESS). Usual causes: systemd's IPAddressDeny, \
         container policy.",
    ),
    reason(
        "IP_RPFILTER",
        "The way back to the source does not lead through the device that the packet came by (fib_validate_source, \
         net.ipv4.conf.*.rp_filter). Usual causes: asymmetric routes, several addresses on one network, spoofing.",
    ),
    reason(
        "XFRM_POLICY",
        "An IPsec policy does not allow the packet as it came (xfrm_policy_check): in the clear where encryption is demanded, \
         or the reverse.",
    ),
    // Not for this host, or not wanted by anybody.
    reason(
        "NO_SOCKET",
        "Nobody listens on the port (__udp4_lib_rcv, tcp_v4_rcv; the sender gets ICMP or a reset), or no raw socket wants it. \
         Ordinary. Usual causes: a service that is down, late answers, scans.",
    ),
    reason(
        "OTHERHOST",
        "The frame was for another link-layer address (ip_rcv_core). Ordinary. Usual causes: promiscuous mode, a switch that \
         floods.",
    ),
    reason(
        "UNHANDLED_PROTO",
        "No handler for this EtherType (__netif_receive_skb_core). Ordinary. Usual causes: LLDP, spanning tree, other \
         protocols that nobody on this host speaks.",
    ),
    reason(
        "IP_NOPROTO",
        "No handler for this protocol over IP (ip_protocol_deliver_rcu). Ordinary. Usual causes: VRRP, OSPF, GRE without their \
         programs or modules.",
    ),
    reason(
        "IPV6DISABLED",
        "IPv6 is off on that device (ip6_rcv_core). Ordinary. Usual causes: disable_ipv6=1 while the network speaks it.",
    ),
    reason(
        "UNICAST_IN_L2_MULTICAST",
        "A link-layer multicast with a unicast IP address (ip_rcv_finish_core, drop_unicast_in_l2_multicast). Ordinary.",
    ),
    reason(
        "IPV6_NDISC_NS_OTHERHOST",
        "A neighbour solicitation for an address of another host (ndisc_recv_ns). Ordinary: multicast groups are shared.",
    ),
    reason(
        "SOCKET_CLOSE",
        "The socket was closed with data unread (inet_sock_destruct and its like). Ordinary.",
    ),
    reason(
        "QUEUE_PURGE",
        "A queue was thrown away with all in it: a socket closed, a device went down (skb_queue_purge_reason). Ordinary.",
    ),
    reason(
        "SKB_CONSUMED",
        "Not dropped: the packet had reached its reader and was freed. Ordinary.",
    ),
    // Damaged or contradictory.
    reason(
        "NOT_SPECIFIED",
        "The place that dropped the packet gives no reason; the function and its offset tell more. At enqueue_to_backlog: the \
         device was down.",
    ),
    reason(
        "PKT_TOO_SMALL",
        "Shorter than its headers say. Usual causes: damage, a driver or tunnel that cuts, scans.",
    ),
    reason(
        "PKT_TOO_BIG",
        "Larger than the MTU on the way out, and not to be fragmented. Usual causes: a tunnel without room for its header, \
         blocked ICMP for path MTU discovery.",
    ),
    reason(
        "HDR_TRUNC",
        "A header is not completely there. Usual causes: damage, a device that splits headers wrongly.",
    ),
    reason(
        "DEV_HDR",
        "The device's own header could not be read (tun, tap and the like). Usual causes: the writer's mistake.",
    ),
    reason(
        "IP_INHDR",
        "Something is wrong with the IP header (ip_rcv_core, ip6_rcv_core): version, length, hop limit. Usual causes: damage, \
         a middlebox.",
    ),
    reason(
        "IP_CSUM",
        "Wrong checksum of the IP header (ip_rcv_core). Usual causes: damage on the way, broken offload.",
    ),
    reason(
        "TCP_CSUM",
        "Wrong TCP checksum (tcp_v4_rcv). Usual causes: damage on the way, broken checksum offload of a NIC or a virtual switch.",
    ),
    reason(
        "UDP_CSUM",
        "Wrong UDP checksum (udp_queue_rcv_one_skb, __udp4_lib_rcv). Usual causes: damage, broken offload, tunnels.",
    ),
    reason(
        "ICMP_CSUM",
        "Wrong ICMP checksum (icmp_rcv). Usual causes: damage, broken offload.",
    ),
    reason(
        "SKB_CSUM",
        "The checksum had to be computed in software, and that failed (skb_checksum_help). Usual causes: offload settings that \
         contradict each other.",
    ),
    reason(
        "SKB_GSO_SEG",
        "A large packet could not be cut into segments on its way out (skb_gso_segment). Usual causes: tunnels and offloads \
         that do not fit together.",
    ),
    reason(
        "SKB_UCOPY_FAULT",
        "The memory of the program could not be copied (tun, packet sockets). Usual causes: an address that the program \
         unmapped.",
    ),
    reason(
        "INVALID_PROTO",
        "The protocol in the headers does not fit the place, or is not allowed there.",
    ),
    // Routing and neighbours.
    reason(
        "IP_INNOROUTES",
        "No route for a packet that came in (ip_route_input_slow). Usual causes: forwarding is off, no route to its \
         destination, an address that was removed.",
    ),
    reason(
        "IP_OUTNOROUTES",
        "No route for a packet on its way out (ip_queue_xmit, ip6 output). Usual causes: a route or address that went away \
         under an open connection.",
    ),
    reason(
        "IP_LOCALNET",
        "A loopback address came from outside (ip_route_input_slow; net.ipv4.conf.*.route_localnet). Usual causes: spoofing, \
         NAT to 127.0.0.1.",
    ),
    reason(
        "IP_INVALID_SOURCE",
        "A source address that cannot be one: multicast, broadcast, 0 (fib_validate_source). Usual causes: spoofing, a broken \
         sender.",
    ),
    reason(
        "IP_INVALID_DEST",
        "A destination address that cannot be one here. Usual causes: a broken sender.",
    ),
    reason(
        "NEIGH_FAILED",
        "The neighbour did not answer ARP or neighbour discovery (neigh_event_send, arp_error_report). Usual causes: the host \
         is down, a wrong route or netmask, a filter on ARP.",
    ),
    reason(
        "NEIGH_CREATEFAIL",
        "No entry for a neighbour could be made (ip_finish_output2). Usual causes: the table is full: \
         net.ipv4.neigh.default.gc_thresh3.",
    ),
    reason(
        "NEIGH_DEAD",
        "The entry of the neighbour was just removed. Usual causes: a device that goes down, a table flushed.",
    ),
    reason(
        "DEV_READY",
        "The device was not running (enqueue_to_backlog, netif_rx). Usual causes: a link or virtual peer that was set down.",
    ),
    reason(
        "IP_INADDRERRORS",
        "The destination is not reachable from here (ip_error, ICMP host unreachable). Usual causes: forwarding without a \
         route, an unreachable or prohibit route.",
    ),
    reason(
        "PACKET_SOCK_ERROR",
        "A packet socket whose filter matched could not take the packet (packet_rcv, tpacket_rcv): its buffer or ring was \
         full. Usual causes: a sniffer that is too slow; only its copy is lost.",
    ),
    // Fragments.
    reason(
        "FRAG_REASM_TIMEOUT",
        "Fragments waited too long for the rest (ip_expire). Usual causes: loss of one fragment, a firewall that passes only \
         the first.",
    ),
    reason(
        "FRAG_TOO_FAR",
        "Too many other fragments came in between (ip_frag_too_far, ipfrag_max_dist). Usual causes: reordering at high rates.",
    ),
    reason("DUP_FRAG", "A fragment that was there already. Ordinary."),
    // TCP's state.
    reason(
        "TCP_OLD_DATA",
        "All of the segment had been received before (tcp_data_queue). Ordinary: a retransmission that was not needed.",
    ),
    reason(
        "TCP_OLD_SEQUENCE",
        "The segment lies before the window (tcp_validate_incoming). Ordinary: a late duplicate.",
    ),
    reason(
        "TCP_OFOMERGE",
        "An out-of-order segment was covered by others (tcp_data_queue_ofo). Ordinary.",
    ),
    reason(
        "TCP_OLD_ACK",
        "An acknowledgement that says nothing new (tcp_ack). Ordinary.",
    ),
    reason(
        "TCP_TOO_OLD_ACK",
        "An acknowledgement from far before the window (tcp_ack). Usual causes: an attack, or a connection reused.",
    ),
    reason(
        "TCP_ACK_UNSENT_DATA",
        "It acknowledges what was never sent (tcp_ack). Usual causes: a middlebox, an attack, an address reused.",
    ),
    reason(
        "TCP_OVERWINDOW",
        "Data beyond the receive window (tcp_data_queue). Usual causes: a sender or middlebox that disregards it.",
    ),
    reason(
        "TCP_OFO_DROP",
        "The data of an out-of-order segment had meanwhile come by another (tcp_ofo_queue). Harmless, as TCP_OFOMERGE is.",
    ),
    reason(
        "TCP_INVALID_SEQUENCE",
        "A sequence number outside of the window (tcp_validate_incoming). Usual causes: an old connection's segment, an attack.",
    ),
    reason(
        "TCP_INVALID_ACK_SEQUENCE",
        "A handshake with a wrong acknowledgement number. Usual causes: an old duplicate, scans.",
    ),
    reason(
        "TCP_RFC7323_PAWS",
        "The time stamp is older than one seen before (tcp_validate_incoming). Usual causes: several hosts behind one NAT \
         address, late duplicates.",
    ),
    reason(
        "TCP_RFC7323_PAWS_ACK",
        "The same for an old acknowledgement that came out of order. Ordinary.",
    ),
    reason(
        "TCP_RESET",
        "A reset: it ends the connection and carries no data. Ordinary.",
    ),
    reason(
        "TCP_CLOSE",
        "A segment for a connection that is closed. Ordinary.",
    ),
    reason(
        "TCP_FLAGS",
        "Flags that make no sense in this state (tcp_rcv_state_process). Usual causes: scans, a middlebox.",
    ),
    reason(
        "TCP_INVALID_SYN",
        "A SYN in the middle of a connection (tcp_validate_incoming). Usual causes: a peer that restarted, an attack.",
    ),
    reason(
        "TCP_ABORT_ON_DATA",
        "Data came for a socket that was closed; the connection is reset (tcp_rcv_state_process). Usual causes: an application \
         that closes before it has read all.",
    ),
    reason(
        "TCP_FASTOPEN",
        "Data of a fast open that could not be used (tcp_fastopen). Usual causes: a cookie that is too old.",
    ),
    reason(
        "TCP_MINTTL",
        "The hop count is lower than the socket demands (IP_MINTTL). Usual causes: BGP protection, a longer path than assumed.",
    ),
    reason(
        "TCP_MD5NOTFOUND",
        "No MD5 signature where one is demanded (tcp_inbound_hash). Usual causes: a BGP peer without the key.",
    ),
    // Virtual devices.
    reason(
        "TAP_FILTER",
        "A filter attached to the tun or tap device refused it (tun_net_xmit, TUNSETFILTEREBPF). Usual causes: the hypervisor's \
         own rules.",
    ),
    reason(
        "TAP_TXFILTER",
        "The address filter of a tap device refused it (tun_net_xmit, TUNSETTXFILTER).",
    ),
];
