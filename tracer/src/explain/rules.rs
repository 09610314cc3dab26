//! Every rule: what it concludes, from what, and who says so.

use super::{Kind, Topic};

const fn rule(name: &'static str, text: &'static str) -> Topic {
    Topic {
        kind: Kind::Rule,
        name,
        text,
    }
}

pub(super) const TOPICS: &[Topic] = &[
    rule(
        "single-cpu",
        "One CPU does nearly all of NET_RX and softirqs leave it no room (thresholds net-rx-share, softirq-busy), or it loses \
         packets and every vector or RPS mask points to it: more than a burst's (refused-rate, refused-floor), and where it \
         was hardly busy (nearly-idle) ten times as many; a tenfold loss is critical. Usual cause: the default affinity, or a mask somebody set to 1. \
         Several queues on one CPU: spread the vectors, one a physical core on the NIC's node. Fewer queues than CPUs: RPS. As \
         many queues as CPUs: RPS only steers again. One flow: neither can split it. \
         Source: Documentation/networking/scaling.rst.",
    ),
    rule(
        "backlog-overflow",
        "The backlog of a CPU, the queue between enqueue_to_backlog and process_backlog, was full \
         (net.core.netdev_max_backlog), or the RPS flow limit refused packets of the flow that fills half of it. Only RPS and \
         netif_rx (lo, veth, tun, vxlan) use that queue. The drop runs on the CPU that steers; the packet was meant for the \
         target CPU, whose softnet_stat row counts it. A larger backlog holds bursts; under sustained load it only delays. \
         Source: net/core/dev.c; scaling.rst.",
    ),
    rule(
        "shared-cpu",
        "A busy process with sockets runs on a CPU that softirqs fill, or that loses or delays packets. Softirqs run before any \
         task, so the process is slow; in ksoftirqd they compete with it, so packets are late. Interrupts belong on some cores, \
         the process on the others of the same node, not on their hyper-thread siblings.",
    ),
    rule(
        "remote-node",
        "Interrupts of a device are handled on another NUMA node than the device's: descriptors and packet data cross the \
         interconnect, and the memory of new packets is allocated on the wrong side. Not judged where the device has no node \
         (−1). Thresholds remote-share, remote-rate.",
    ),
    rule(
        "ring-overrun",
        "The NIC had no free receive descriptor (rx_missed_errors, or the driver's own counter): lost before there was an \
         sk_buff, so kfree_skb never sees it. If the CPU that empties the ring is full, spread first: a larger ring absorbs \
         bursts, not overload. Do not judge by /proc/net/dev: its drop column adds rx_dropped and rx_missed_errors.",
    ),
    rule(
        "cloud-limit",
        "The provider's hypervisor queued or dropped packets because the instance has used up an allowance: bandwidth, packets \
         per second, tracked connections. Counters *_allowance_exceeded of the ENA driver. No knob of the host helps. \
         Source: the driver's guide.",
    ),
    rule(
        "steal",
        "The hypervisor ran something else on this CPU while packets waited (steal in /proc/stat; threshold steal). Only the \
         provider can change it.",
    ),
    rule(
        "slow-reader",
        "Packets reached a socket whose receive buffer was full (SOCKET_RCVBUFF, Udp RcvbufErrors): the application reads too \
         slowly, or its SO_RCVBUF is too small for its bursts. Nothing before the socket can help.",
    ),
    rule(
        "socket-backlog",
        "Packets came while the application held the socket's lock, and the queue for that time was full (SOCKET_BACKLOG, \
         TCPBacklogDrop). Its limit is the sum of both buffers. Not the per-CPU backlog. Source: sk_add_backlog.",
    ),
    rule(
        "listen-overflow",
        "The accept queue of a listening socket was full (ListenOverflows, TCP_LISTEN_OVERFLOW): connections complete faster \
         than the application accepts them. The limit is the lesser of listen()'s backlog and net.core.somaxconn.",
    ),
    rule(
        "syn-queue-overflow",
        "The SYN queue of a listening socket (half-open connections) was full while SYN cookies were off (TCPReqQFullDrop). It \
         is as long as listen()'s backlog, at most net.core.somaxconn; without cookies net.ipv4.tcp_max_syn_backlog limits it, \
         too. With net.ipv4.tcp_syncookies a full queue refuses nobody. Source: tcp_conn_request, tcp_syn_flood_action.",
    ),
    rule(
        "conntrack-full",
        "The table of tracked connections is nearly or quite full (threshold conntrack): packets of new connections are dropped \
         as NETFILTER_DROP, and the kernel logs 'nf_conntrack: table full'.",
    ),
    rule(
        "softirq-wait",
        "NET_RX ran long after it was raised (p99, threshold wait-p99), or mostly in ksoftirqd. A softirq normally starts right \
         behind the interrupt; a wait of a millisecond means that a task, a real-time task, a long section with softirqs off or \
         the hypervisor had the CPU. Source: kernel/softirq.c.",
    ),
    rule(
        "time-squeeze",
        "NET_RX ended with work left: at netdev_budget (packets) or netdev_budget_usecs (time). By itself it is fairness and \
         loses nothing. Act only if packets are lost or late beside it, and raise the limit that was met: a larger budget does \
         nothing for runs that time ended. Budgets of many milliseconds starve tasks. Source: net_rx_action; bpftune issue 178.",
    ),
    rule(
        "residual",
        "A kernel counter and the traced count differ by more than known causes explain (reads at two moments, skipped \
         programs, events under way). Then the kernel's number is right and the traced one a lower bound. Drivers that count \
         drops of their own are the usual reason.",
    ),
    rule(
        "irqbalance",
        "The daemon looks at all interrupts every ten seconds and moves them; affinities written by hand do not last. Ban the \
         vectors (--banirq, by IRQBALANCE_ARGS) rather than stop it.",
    ),
    rule(
        "irq-rate",
        "Many interrupts a second, each for a few packets: the device is not moderated. adaptive-rx or a larger rx-usecs makes \
         one interrupt serve many packets and lets GRO merge them; where latency counts most, the reverse is right. \
         Thresholds irq-rate, packets-per-poll.",
    ),
    rule(
        "effective-affinity",
        "smp_affinity is what was asked for, effective_affinity what the interrupt controller does. A mask of several CPUs does \
         not spread one interrupt on x86: one CPU gets them all. Managed interrupts refuse writes (EPERM); change the number of \
         queues instead. Source: kernel/irq/manage.c.",
    ),
    rule(
        "single-queue",
        "A virtio device with one queue: one CPU receives everything. If the provider allows more queues, ethtool -L; if not, \
         RPS. Receive and transmit interrupt belong on the same core.",
    ),
    rule(
        "sustained-polling",
        "High NET_RX time with few hard interrupts: NAPI keeps interrupts off while packets come. That is load, not idleness. \
         After a change of affinity the queue stays on its old CPU until it drains once: wait before judging. \
         Source: irqbalance issue 154.",
    ),
    rule(
        "threaded-napi",
        "Packets are polled by kernel threads (/sys/class/net/NAME/threaded) or by busy polling sockets, outside of NET_RX: its \
         columns are blind for them. Read the NAPI table; the threads are placed by taskset, not by smp_affinity.",
    ),
    rule(
        "firewall",
        "A netfilter rule dropped packets. Policy: only its author knows whether it is wanted. Also what a full connection table \
         looks like; see conntrack-full.",
    ),
    rule(
        "ordinary-drops",
        "kfree_skb calls that are no loss: nobody listens on that port, a multicast nobody joined, a duplicate. They are kept \
         out of the first line and listed apart, each with its reason.",
    ),
];
