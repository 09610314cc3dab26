//! Rules 13 and 14: losses above the interrupt path, where no interrupt knob helps.

use std::collections::BTreeMap;

use super::{
    case::{Case, doubled, share},
    command::{in_netns, is_netns_name, sysctl},
    found::{Found, NOTHING, Verdict, With as _, step},
    threshold::Key,
};
use crate::{
    analyze::names::is_index,
    model::{
        event::What,
        finding::{Advice, Severity},
        report::{Drop, Stage},
        topology::Process,
    },
    report::number::{count, of},
};

pub(super) const SLOW_READER: &str = "slow-reader";
pub(super) const SOCKET_BACKLOG: &str = "socket-backlog";
pub(super) const LISTEN: &str = "listen-overflow";
pub(super) const SYN_QUEUE: &str = "syn-queue-overflow";
pub(super) const CONNTRACK: &str = "conntrack-full";
pub(super) const FIREWALL: &str = "firewall";

const SOMAXCONN: &str = "net.core.somaxconn";

const NO_IRQ_KNOB: &str =
    "interrupt affinity, RPS, netdev_max_backlog, ring sizes: the packets had passed all of these";

/// Losses by reason and by the protocols' own counters.
struct Loss {
    packets: u64,
    /// Of `packets`, by `kfree_skb`; `None`: not traced.
    traced: Option<u64>,
    counters: Vec<(String, u64)>,
}

impl Loss {
    fn of(case: Case<'_>, reasons: &[&str], is_counter: impl Fn(&str) -> bool) -> Self {
        let named = |reason: Option<&str>| reason.is_some_and(|reason| reasons.contains(&reason));
        let (packets, _) = case.lost(|drop| named(drop.reason.as_deref()));
        let counters = case.report.protocols.iter();
        let counters = counters.filter(|(name, n)| **n > 0 && is_counter(name));
        let counters: Vec<_> = counters.map(|(name, n)| (name.clone(), *n)).collect();
        // UDP counts IPv6 apart: the same counter of several protocols adds up, different ones may be one loss.
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for (counter, n) in &counters {
            let name = counter
                .rsplit_once('.')
                .map_or(counter.as_str(), |(_, name)| name);
            let sum = by_name.entry(name).or_default();
            *sum = sum.saturating_add(*n);
        }
        let counted = by_name.into_values().max().unwrap_or(0);
        Self {
            packets: packets.max(counted),
            traced: case.report.drop_totals.packets.map(|_| packets),
            counters,
        }
    }

    fn is_unknown(&self, case: Case<'_>) -> bool {
        self.traced.is_none() && case.report.protocols.is_empty()
    }

    fn testify(&self, mut found: Found, reasons: &str) -> Found {
        if let Some(traced) = self.traced.filter(|n| *n > 0) {
            found = found.evidence(
                format!("drops for {reasons}"),
                of(traced, "packet"),
                "kfree_skb",
            );
        }
        for (name, n) in &self.counters {
            found = found.evidence(name.clone(), count(*n), "/proc/net/snmp, snmp6, netstat");
        }
        found
    }
}

const UNKNOWN: &str = "drops by reason: kfree_skb is not hooked, and no protocol counter changed";

pub(super) fn slow_reader(case: Case<'_>) -> Verdict {
    let is_counter = |name: &str| name.starts_with("Udp") && name.ends_with("RcvbufErrors");
    let loss = Loss::of(case, &["SOCKET_RCVBUFF"], is_counter);
    if loss.is_unknown(case) {
        return Err(UNKNOWN.to_owned());
    }
    if loss.packets == 0 {
        return NOTHING;
    }
    let reader = reader(case, "SOCKET_RCVBUFF");
    let who = match &reader {
        Some(Reader {
            port,
            process,
            sure,
        }) => match process {
            Some(Process { name, pid, .. }) if *sure => {
                format!(", for example {name} (pid {pid}) on {port}")
            }
            Some(Process { name, pid, .. }) => format!(
                ", for example on {port} ({name}, pid {pid}, is a process with a socket on that port, perhaps in another \
                 namespace)"
            ),
            None => format!(", for example on {port}"),
        },
        None => String::new(),
    };
    let summary = format!(
        "{} found the receive buffer of a socket full{who}: the application reads too slowly",
        of(loss.packets, "packet")
    );
    let found = Found::new(SLOW_READER, case.loss(loss.packets), summary);
    loss.testify(found, "SOCKET_RCVBUFF")
        .advice([step(
            "Make the application read faster: recvmmsg, more threads with SO_REUSEPORT",
            "if it is too slow on average, no buffer is large enough",
        )])
        .advice(larger_buffer(case))
        .useless(NO_IRQ_KNOB)
        .alone()
}

fn larger_buffer(case: Case<'_>) -> Option<Advice> {
    const MAX: &str = "net.core.rmem_max";
    let now = case.sysctl(MAX)?;
    let then = doubled(now)?;
    let advice = step(
        format!(
            "Raise rmem_max from {} to {}, and SO_RCVBUF in the application",
            count(now),
            count(then)
        ),
        "enough if packets come in bursts; without SO_RCVBUF the socket keeps rmem_default",
    );
    Some(
        advice
            .command(sysctl(case, MAX, &then.to_string()))
            .undo(sysctl(case, MAX, &now.to_string()))
            .risk("memory for each socket that asks for it"),
    )
}

/// Who should have read a dropped packet.
struct Reader<'a> {
    port: String,
    process: Option<&'a Process>,
    /// The process has that port in the packet's network namespace.
    sure: bool,
}

/// The reader of a sample drop for `reason`.
fn reader<'a>(case: Case<'a>, reason: &str) -> Option<Reader<'a>> {
    let mut drops = case.report.samples.drops.iter();
    let (port, netns) = drops.find_map(|event| match &event.what {
        What::Drop {
            reason: Some(why),
            flow: Some(flow),
            device,
            netns,
            ..
        } if why == reason => {
            let protocol = if flow.protocol == 6 { "tcp" } else { "udp" };
            let port = format!("{protocol}/{}", flow.destination_port?);
            // A namespace is not known of a packet without a device, nor of `if3` alone.
            let is_known = device
                .as_deref()
                .is_some_and(|device| netns.is_some() || !is_index(device));
            Some((port, is_known.then_some(netns.as_deref())))
        }
        _ => None,
    })?;
    let has_port = |process: &&Process| process.ports.contains(&port);
    let is_there = |process: &&Process| {
        process.netns_inode.is_some() && netns == Some(process.netns.as_deref())
    };
    let may_be = |process: &&Process| netns.is_none() || process.netns_inode.is_none();
    let mut all = case.host.processes.iter();
    let mut others = case.host.processes.iter();
    let sure = all.find(|process| has_port(process) && is_there(process));
    Some(Reader {
        process: sure.or_else(|| others.find(|process| has_port(process) && may_be(process))),
        sure: sure.is_some(),
        port,
    })
}

/// The network namespace with most drops for `reason`, if it is another one than tracer's and has a name.
fn elsewhere<'a>(case: Case<'a>, reason: &str) -> Option<&'a str> {
    let (_, drops) = case.lost(|drop| drop.reason.as_deref() == Some(reason));
    let netns = drops.first()?.netns.as_deref();
    netns.filter(|name| is_netns_name(name))
}

pub(super) fn socket_backlog(case: Case<'_>) -> Verdict {
    let loss = Loss::of(case, &["SOCKET_BACKLOG"], |name| {
        name.ends_with("TCPBacklogDrop")
    });
    if loss.is_unknown(case) {
        return Err(UNKNOWN.to_owned());
    }
    if loss.packets == 0 {
        return NOTHING;
    }
    let summary = format!(
        "{} came while a socket was locked by its reader, and its backlog was full",
        of(loss.packets, "packet")
    );
    let found = Found::new(SOCKET_BACKLOG, case.loss(loss.packets), summary);
    loss.testify(found, "SOCKET_BACKLOG")
        .advice([step(
            "Let the application do shorter reads and writes on that socket, or give it a larger SO_RCVBUF",
            "the limit is that of both buffers of the socket; large system calls hold its lock",
        )])
        .useless(NO_IRQ_KNOB)
        .alone()
}

pub(super) fn listen(case: Case<'_>) -> Verdict {
    let is_counter = |name: &str| name.ends_with("ListenOverflows");
    let loss = Loss::of(case, &["TCP_LISTEN_OVERFLOW"], is_counter);
    if loss.is_unknown(case) {
        return Err(UNKNOWN.to_owned());
    }
    if loss.packets == 0 {
        return NOTHING;
    }
    let summary = format!(
        "{} to connect found the accept queue of a listening socket full: the application accepts too slowly",
        of(loss.packets, "attempt")
    );
    let found = Found::new(LISTEN, case.loss(loss.packets), summary);
    let found = loss.testify(found, "TCP_LISTEN_OVERFLOW").advice([step(
        "See which socket: Recv-Q at its Send-Q is a full accept queue",
        "the shorter of listen()'s backlog and somaxconn is the limit",
    )
    .command(in_netns(
        elsewhere(case, "TCP_LISTEN_OVERFLOW"),
        "ss -ltn".to_owned(),
    ))]);
    if let Some(netns) = elsewhere(case, "TCP_LISTEN_OVERFLOW") {
        let see = format!("sysctl {SOMAXCONN}");
        let larger = step(
            format!(
                "See somaxconn of network namespace {netns}, and raise it there if listen() asks for more"
            ),
            "each network namespace has its own; it takes bursts of connections, once the application is restarted",
        );
        return found
            .advice([larger.command(in_netns(Some(netns), see))])
            .useless(NO_IRQ_KNOB)
            .alone();
    }
    let larger = case.sysctl(SOMAXCONN).and_then(|now| {
        let then = now.checked_mul(2).filter(|then| *then <= 65_535)?;
        let advice = step(
            format!("Raise somaxconn from {} to {}", count(now), count(then)),
            "takes bursts of connections, if the application asks for as much in listen() and is restarted",
        );
        Some(
            advice
                .command(sysctl(case, SOMAXCONN, &then.to_string()))
                .undo(sysctl(case, SOMAXCONN, &now.to_string())),
        )
    });
    found.advice(larger).useless(NO_IRQ_KNOB).alone()
}

const CONNTRACK_COUNT: &str = "net.netfilter.nf_conntrack_count";
const CONNTRACK_MAX: &str = "net.netfilter.nf_conntrack_max";

/// Connections that are tracked, and how many can be.
fn connections(case: Case<'_>) -> Option<(u64, u64)> {
    case.sysctl(CONNTRACK_COUNT).zip(case.sysctl(CONNTRACK_MAX))
}

/// `TCPReqQFullDrop`: `tcp_syn_flood_action` without SYN cookies. Such a queue is as long as the listen backlog; half-open
/// connections also end at `tcp_max_syn_backlog` then (`tcp_conn_request`).
pub(super) fn syn_queue(case: Case<'_>) -> Verdict {
    const COOKIES: &str = "net.ipv4.tcp_syncookies";
    const LENGTH: &str = "net.ipv4.tcp_max_syn_backlog";
    let loss = Loss::of(case, &[], |name| name.ends_with("TCPReqQFullDrop"));
    if case.report.protocols.is_empty() && loss.traced.is_none() {
        return Err("TCPReqQFullDrop: no protocol counter changed".to_owned());
    }
    if loss.packets == 0 {
        return NOTHING;
    }
    let summary = format!(
        "{} to connect found the SYN queue of a listening socket full, and SYN cookies are off",
        of(loss.packets, "attempt")
    );
    let found = Found::new(SYN_QUEUE, case.loss(loss.packets), summary);
    let cookies = case.sysctl(COOKIES).filter(|now| *now == 0).map(|now| {
        step(
            "Switch SYN cookies on",
            "a full queue then refuses nobody, flood or not",
        )
        .command(sysctl(case, COOKIES, "1"))
        .undo(sysctl(case, COOKIES, &now.to_string()))
        .risk("a connection made by a cookie has fewer TCP options while the queue is full")
    });
    let both = case.sysctl(SOMAXCONN).zip(case.sysctl(LENGTH));
    let larger = both.and_then(|(accept, now)| {
        let longest = accept.checked_mul(2).filter(|longest| *longest <= 65_535)?;
        let then = doubled(now)?;
        let set = |accept: u64, length: u64| {
            [
                sysctl(case, SOMAXCONN, &accept.to_string()),
                sysctl(case, LENGTH, &length.to_string()),
            ]
            .join("; ")
        };
        let advice = step(
            format!(
                "Raise somaxconn from {} to {} and tcp_max_syn_backlog from {} to {}",
                count(accept),
                count(longest),
                count(now),
                count(then)
            ),
            "the queue is as long as listen()'s backlog, at most somaxconn, if the application asks for as much and is \
             restarted; without cookies tcp_max_syn_backlog is a second limit",
        );
        Some(
            advice
                .command(set(longest, then))
                .undo(set(accept, now))
                .risk("memory for each half-open connection, which a SYN flood fills as well"),
        )
    });
    loss.testify(found, "")
        .advice(cookies)
        .advice(larger)
        .useless(NO_IRQ_KNOB)
        .alone()
}

/// Entries of the connection table, and how many it takes; `None` while it has room, or if it is not known.
fn full_table(case: Case<'_>) -> Option<(u64, u64)> {
    let (used, max) = connections(case)?;
    (max > 0 && share(used, max) >= case.limit(Key::Conntrack)).then_some((used, max))
}

/// Dropped by a netfilter hook: by a rule, or for want of room in the connection table. Where the kernel gives no reasons
/// (before 5.17), the function tells.
fn is_netfilter(drop: &Drop) -> bool {
    match drop.reason.as_deref() {
        Some(reason) => reason == "NETFILTER_DROP",
        None => drop.stage == Stage::Netfilter,
    }
}

/// What the evidence calls such `drops`.
fn netfilter_drops(drops: &[&Drop]) -> &'static str {
    if drops.iter().all(|drop| drop.reason.is_some()) {
        "drops for NETFILTER_DROP"
    } else {
        "drops in netfilter, no reason given"
    }
}

fn executed_on(drops: &[&Drop]) -> Vec<u32> {
    let cpus = drops.iter().flat_map(|drop| drop.per_cpu.keys());
    cpus.copied().collect()
}

pub(super) fn conntrack(case: Case<'_>) -> Verdict {
    if connections(case).is_none() {
        return Err(
            "nf_conntrack_count and nf_conntrack_max: not readable, or conntrack is not loaded"
                .to_owned(),
        );
    }
    let Some((used, max)) = full_table(case) else {
        return NOTHING;
    };
    let (lost, drops) = case.lost(is_netfilter);
    let severity = if lost > 0 && used >= max {
        case.loss(lost)
    } else {
        Severity::Warning
    };
    let summary = format!(
        "the connection table is {} % full: {} of {}",
        share(used, max),
        count(used),
        count(max)
    );
    let found = Found::new(CONNTRACK, severity, summary)
        .on(executed_on(&drops))
        .evidence(
            "connections, at most",
            format!("{}, {}", count(used), count(max)),
            "nf_conntrack_count, nf_conntrack_max",
        );
    let found = if lost > 0 {
        found.evidence(
            format!(
                "{}, by the full table or by a rule",
                netfilter_drops(&drops)
            ),
            of(lost, "packet"),
            "kfree_skb",
        )
    } else {
        found
    };
    let larger = doubled(max).map(|then| {
        step(
            format!(
                "Raise nf_conntrack_max from {} to {}",
                count(max),
                count(then)
            ),
            "a full table drops every packet of a new connection",
        )
        .command(sysctl(case, CONNTRACK_MAX, &then.to_string()))
        .undo(sysctl(case, CONNTRACK_MAX, &max.to_string()))
        .risk("about 320 bytes of kernel memory for each connection")
    });
    found
        .advice(larger)
        .advice([step(
            "Leave out of tracking what needs none (NOTRACK), shorten timeouts",
            "short connections stay in the table for minutes after their end",
        )])
        .useless(NO_IRQ_KNOB)
        .alone()
}

pub(super) fn firewall(case: Case<'_>) -> Verdict {
    if case.report.drop_totals.packets.is_none() {
        return Err("drops by reason: kfree_skb is not hooked".to_owned());
    }
    let (packets, drops) = case.lost(is_netfilter);
    let Some(first) = drops.first() else {
        let (_, all) = case.lost(|_| true);
        let no_reasons = all.iter().all(|drop| drop.reason.is_none());
        if no_reasons && all.iter().any(|drop| drop.stage == Stage::Other) {
            return Err(
                "drops by reason: the kernel gives none, and not every function tells".to_owned(),
            );
        }
        return NOTHING;
    };
    // Then these are for want of room, and conntrack tells of them.
    if connections(case).is_some_and(|(used, max)| max > 0 && used >= max) {
        return NOTHING;
    }
    let on = first
        .device
        .as_deref()
        .map(|device| format!(", most on {device}"))
        .unwrap_or_default();
    let packets_on = format!("{}{on}", of(packets, "packet"));
    // Both drop for the same reason.
    let summary = if full_table(case).is_some() {
        format!("a rule or the full connection table dropped {packets_on}: no interrupt problem")
    } else {
        format!("a firewall rule dropped {packets_on}: policy, not an interrupt problem")
    };
    Found::new(FIREWALL, Severity::Info, summary)
        .on(executed_on(&drops))
        .evidence(netfilter_drops(&drops), of(packets, "packet"), "kfree_skb")
        .advice([step(
            "See which rule counts them",
            "only its author knows whether they are wanted",
        )
        .command("nft list ruleset")])
        .useless(NO_IRQ_KNOB)
        .alone()
}
