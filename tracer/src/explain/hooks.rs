//! Every hook: when the kernel comes by, what tracer counts there, what stands for it.

use super::{Kind, Topic};

const fn hook(name: &'static str, text: &'static str) -> Topic {
    Topic {
        kind: Kind::Hook,
        name,
        text,
    }
}

pub(super) const TOPICS: &[Topic] = &[
    hook(
        "enqueue_to_backlog",
        "Function that puts a packet into a CPU's backlog (RPS, netif_rx of lo, veth, tun), or refuses it where that is full. \
         It tells whose backlog: the target CPU, which kfree_skb does not know. Without it, softnet_stat tells the CPU but not \
         the device. Attached by fentry or a kprobe. Source: net/core/dev.c.",
    ),
    hook(
        "net_rx_action",
        "Function that is the softirq NET_RX: it polls NAPI instances until none has packets or a budget is used up. Runs, their \
         time, and by which limit they ended. Not needed where softirq_entry and softirq_exit bracket the same call. \
         Source: net/core/dev.c.",
    ),
    hook(
        "irq_handler_entry",
        "Tracepoint before a handler of a device interrupt (hard IRQ) runs: the begin of its time. Not for vectors of the CPUs \
         themselves (LOC, RES, CAL). Source: kernel/irq/handle.c.",
    ),
    hook(
        "irq_handler_exit",
        "Tracepoint behind a handler of a device interrupt: hard IRQs by number and CPU, and the time in their handlers. Without \
         it, /proc/interrupts counts them, without times. Source: kernel/irq/handle.c.",
    ),
    hook(
        "softirq_raise",
        "Tracepoint where something asks for a softirq, mostly the handler of an interrupt: the begin of NET_RX's wait. Without \
         it, wait has no numbers. Source: kernel/softirq.c.",
    ),
    hook(
        "softirq_entry",
        "Tracepoint before a softirq runs, with its vector (NET_RX, NET_TX, TIMER, …): runs by vector, the end of NET_RX's \
         wait, and whether it runs in ksoftirqd. Without it, /proc/softirqs counts the runs. Source: kernel/softirq.c.",
    ),
    hook(
        "softirq_exit",
        "Tracepoint behind a softirq: its time, and with softirq_entry the length of NET_RX's runs. Source: kernel/softirq.c.",
    ),
    hook(
        "napi_poll",
        "Tracepoint behind each poll of a NAPI instance: its device, the packets it returned, the budget it had. Also of polls \
         outside NET_RX: threaded NAPI, busy polling. Nothing stands for it. Source: net/core/dev.c.",
    ),
    hook(
        "kfree_skb",
        "Tracepoint where the kernel gives a packet up instead of delivering it: drops by function, reason (5.17), device and \
         protocol. Not what a driver or the NIC lost before there was an sk_buff. Without it, softnet_stat and the devices' \
         counters tell how many, not where and why. Source: net/core/skbuff.c.",
    ),
];
