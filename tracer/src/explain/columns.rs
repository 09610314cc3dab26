//! Every column of the text report.

use super::{Kind, Topic};

const fn column(name: &'static str, text: &'static str) -> Topic {
    Topic {
        kind: Kind::Column,
        name,
        text,
    }
}

pub(super) const TOPICS: &[Topic] = &[
    column(
        "CPU",
        "CPU id. 'off' before it: offline at the end of the window.",
    ),
    column(
        "node",
        "NUMA node of the CPU or of the device. Not shown on hosts with one node.",
    ),
    column(
        "hard IRQs",
        "Device interrupts handled on this CPU (irq_handler_entry). Timer and interrupts between CPUs are in the table of \
         vectors. Few of them beside much NET_RX time mean sustained polling.",
    ),
    column(
        "IRQ time",
        "Time in the handlers of device interrupts. Usually short: the work is done in NET_RX.",
    ),
    column(
        "NET_RX",
        "Time in the softirq that fetches and processes received packets (net_rx_action), and its share as a bar.",
    ),
    column(
        "busy",
        "NET_RX time in percent of the window. Near 100 %: this CPU can take no more.",
    ),
    column(
        "runs",
        "Runs of NET_RX. Each may poll several devices and many packets.",
    ),
    column(
        "packets",
        "Table CPUs and NAPI: packets polled. Table of drops: packets dropped there.",
    ),
    column(
        "pkts/run",
        "Packets for each run of NET_RX: low under interrupts, up to netdev_budget under load.",
    ),
    column(
        "wait p99",
        "99 of 100 runs of NET_RX began sooner after they were raised. Normally microseconds; see softirq-wait.",
    ),
    column(
        "run p99",
        "99 of 100 runs of NET_RX were shorter. Tasks on this CPU wait as long.",
    ),
    column(
        "drops",
        "kfree_skb calls executed on this CPU, ordinary ones included. The packet may have been meant for another: see backlog of.",
    ),
    column(
        "refused",
        "Packets that this CPU's backlog refused, whichever CPU executed the drop (/proc/net/softnet_stat, column 2). \
         See backlog-overflow.",
    ),
    column(
        "squeezed",
        "Runs of NET_RX that ended with work left (/proc/net/softnet_stat, column 3). No loss by itself; see time-squeeze.",
    ),
    column("by budget", "Runs that had polled netdev_budget packets."),
    column("by time", "Runs that had lasted netdev_budget_usecs."),
    column(
        "ksoftirqd",
        "Share of NET_RX runs in the thread ksoftirqd, where they compete with tasks. High: the CPU is overloaded.",
    ),
    column(
        "device",
        "Network device; name@namespace if it is not in tracer's own.",
    ),
    column(
        "driver",
        "Driver of the device; none for most virtual ones.",
    ),
    column(
        "rx packets",
        "Packets received, by the device's own counter.",
    ),
    column("rx bytes", "Bytes received, likewise."),
    column(
        "dropped",
        "rx_dropped: the stack refused them, a full backlog included. rx_missed_errors is not in it, unlike the column of \
         /proc/net/dev.",
    ),
    column(
        "missed",
        "rx_missed_errors: the NIC had no free descriptor. No sk_buff, so no probe sees them; see ring-overrun.",
    ),
    column(
        "errors",
        "rx_errors: damaged or oversized frames. Cable, optics, MTU.",
    ),
    column("queues", "Receive queues."),
    column(
        "RPS",
        "rps_cpus of the first receive queue, as a mask of CPUs; off: packets stay on the CPU that polled them.",
    ),
    column("ring", "Receive descriptors of each ring (ethtool -g)."),
    column(
        "dropped at",
        "Kernel function and offset that freed the packet: the decision, or what it was inlined into.",
    ),
    column("ordinary drop at", "The same, for drops that are no loss."),
    column(
        "reason",
        "The kernel's drop reason (5.17); - where it has none. tracer explain knows the common ones.",
    ),
    column(
        "on CPU",
        "CPUs that executed it, those with most first, with their share.",
    ),
    column(
        "backlog of",
        "Target CPU: whose backlog refused the packet. Under RPS it is not the CPU that executed the drop.",
    ),
    column("share", "Of all drops in this table."),
    column(
        "stage",
        "How far the packet had come: driver, backlog, IP, netfilter, TCP, UDP, socket, device queue, other.",
    ),
    column("proto", "Protocol by EtherType."),
    column("bytes", "Bytes of the packets dropped."),
    column("because", "Why the drop is ordinary."),
    column("IRQ", "Number of the interrupt, as in /proc/interrupts."),
    column("name", "Its handlers, as in /proc/interrupts."),
    column("queue", "Queue of the device that it serves, by its name."),
    column("count", "Interrupts in the window."),
    column("mean", "Mean time of its handlers, exact."),
    column("max", "Longest time of its handlers in the window, exact."),
    column(
        "affinity",
        "CPUs that it may go to (smp_affinity_list); behind the arrow where it is delivered (effective_affinity_list).",
    ),
    column(
        "vector",
        "Architecture interrupt, as in /proc/interrupts: LOC timer, RES reschedule, CAL function call (RPS wakes by it).",
    ),
    column("what", "The kernel's words for the vector."),
    column(
        "NAPI",
        "Device whose queue is polled (behind @ its network namespace), or backlog: the per-CPU queue behind RPS and virtual devices.",
    ),
    column("id", "napi_id of the instance; - for a backlog."),
    column("polls", "Calls of its poll function."),
    column(
        "pkts/poll",
        "Packets for each poll: near 1 the device interrupts for each packet, at 64 it is under load.",
    ),
    column(
        "full budget",
        "Polls that returned as many packets as they were allowed: more was waiting.",
    ),
    column("counter", "A counter of the kernel."),
    column("kernel", "Its change over the window."),
    column("traced", "The same events, as the probes counted them."),
    column(
        "residual",
        "kernel minus traced. The line below says what explains it; what nothing explains is red.",
    ),
];
