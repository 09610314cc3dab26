//! A window and the names for it to the [`Report`].

mod cpus;
mod devices;
mod drops;
mod interrupts;
mod losses;
mod napi;
mod reconciliation;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::BTreeMap;

use tracer_common::event::Kind;

use super::{
    answer::answer,
    details::Kept,
    names::Names,
    notes,
    rules::{Case, diagnose, threshold::Thresholds},
};
use crate::{
    model::{
        report::{HookStatus, Host, Report, SCHEMA},
        topology::{Process, Topology},
        window::Window,
    },
    proc::netdev::DeviceFacts,
    report::number,
    topology::irq::IrqFacts,
};

/// What is known about the host beside its counters.
pub struct Facts {
    /// For [`Report::host`].
    pub host: Host,
    /// NUMA node by CPU id.
    pub node_of: BTreeMap<u32, u32>,
    /// Names of sites, reasons, devices, namespaces.
    pub names: Names,
    /// Interrupts by number.
    pub irqs: BTreeMap<u32, IrqFacts>,
    /// Devices by name.
    pub devices: BTreeMap<String, DeviceFacts>,
    /// What the host is made of and how it is set; `None` before it was read.
    pub topology: Option<Topology>,
    /// Interface indices that the report is restricted to, in tracer's namespace; empty: all.
    pub interfaces: BTreeMap<u32, String>,
    /// Kinds of detail asked for.
    pub kinds: Vec<Kind>,
    /// Whether `netdev_budget` and `netdev_budget_usecs` could be read.
    pub budget_known: bool,
    /// Whether a full backlog has a drop reason of its own (`CPU_BACKLOG`, 5.18).
    pub names_full_backlog: bool,
    /// Busy processes with sockets, the busiest first; at the end of a run only.
    pub processes: Vec<Process>,
    /// From where on something is a finding.
    pub thresholds: Thresholds,
    /// Notes on the whole run.
    pub notes: Vec<String>,
}

impl Facts {
    /// Whether `--interface` wants this device. Namespace 0 is an unknown one: the packet may well have
    /// been on that device.
    #[must_use]
    pub fn shows(&self, netns: u32, ifindex: u32) -> bool {
        self.interfaces.is_empty()
            || (self.interfaces.contains_key(&ifindex)
                && (netns == self.names.own_netns || netns == 0))
    }

    /// A device that was renamed is shown by either name.
    fn shows_name(&self, device: Option<&str>) -> bool {
        let is = |ifindex: &u32, shown: &str, device: &str| {
            let now = self.names.devices.get(&(self.names.own_netns, *ifindex));
            shown == device || now.is_some_and(|now| now == device)
        };
        self.interfaces.is_empty()
            || device.is_some_and(|device| {
                let mut interfaces = self.interfaces.iter();
                interfaces.any(|(ifindex, shown)| is(ifindex, shown, device))
            })
    }

    /// Namespaces that are gone, if anything was counted there.
    fn gone_netns<'a>(&'a self, window: &'a Window) -> impl Iterator<Item = String> + 'a {
        let counted = |inode: u32| {
            let mut napi = window.napi.values().flatten();
            napi.any(|napi| napi.netns == inode)
                || window.drops.keys().any(|key| key.netns == inode)
        };
        let gone = self.names.gone_netns.iter();
        gone.filter(move |(inode, _)| counted(**inode))
            .map(|(_, name)| {
                format!("network namespace {name} went away; its counts are those of before")
            })
    }
}

/// The report on `window`. `kept` is what is left of the details of the whole run, for the summary.
#[must_use]
pub fn summarize(window: &Window, facts: &Facts, kept: Option<&Kept>) -> Report {
    let hooks = Hooks::of(window);
    let drops = drops::drops(window, facts);
    let mut report = Report {
        schema: SCHEMA,
        answer: String::new(),
        host: facts.host.clone(),
        start_unix_ns: window.start_unix_ns,
        duration_ns: window.duration_ns,
        interfaces: facts.interfaces.values().cloned().collect(),
        hooks: window.hooks.clone(),
        cpus: cpus::cpus(window, facts, &hooks),
        irqs: interrupts::irqs(window, facts, kept),
        arch_irqs: interrupts::arch_irqs(window),
        napi: napi::napi(window, facts),
        drop_totals: drops::drop_totals(window, &drops, &hooks),
        devices: devices::devices(window, facts),
        reconciliation: [
            reconciliation::reconciliation(window, facts, &hooks),
            witness::rows(window, facts, &hooks),
        ]
        .concat(),
        losses: losses::losses(window, facts),
        details: losses::details(window, facts),
        samples: kept.map(|kept| kept.samples.clone()).unwrap_or_default(),
        drops: drops.shown,
        findings: Vec::new(),
        thresholds: facts.thresholds.changed(),
        abstained: Vec::new(),
        topology: kept.and_then(|_| facts.topology.clone()),
        protocols: window.protocols.clone(),
        notes: facts
            .notes
            .iter()
            .chain(&window.notes)
            .cloned()
            .chain(facts.gone_netns(window))
            .collect(),
    };
    if let Some(topology) = &mut report.topology {
        let name = facts.names.netns.get(&facts.names.own_netns);
        topology.netns = name.cloned();
    }
    if kept.is_some() && !facts.processes.is_empty() {
        let topology = report.topology.get_or_insert_default();
        topology.processes.clone_from(&facts.processes);
        for process in &mut topology.processes {
            let inode = process
                .netns_inode
                .and_then(|inode| u32::try_from(inode).ok());
            process.netns = inode.and_then(|inode| facts.names.netns(inode));
        }
    }
    report.notes.extend(lower_bounds(&report));
    let more = notes::notes(&report, facts.names_full_backlog);
    report.notes.extend(more);
    report.answer = answer(&report);
    if kept.is_some() {
        conclude(&mut report, &facts.thresholds);
    }
    report
}

/// What the numbers mean: of the whole run only, an interval is too short to judge.
fn conclude(report: &mut Report, thresholds: &Thresholds) {
    let unknown = Topology::default();
    let (findings, abstained) = diagnose(Case {
        report,
        host: report.topology.as_ref().unwrap_or(&unknown),
        thresholds,
        apps: &[],
    });
    report.findings = findings;
    report.abstained = abstained;
}

/// Says so when the kernel itself counted runs that no program saw: then they can have hidden drops too.
fn lower_bounds(report: &Report) -> Option<String> {
    let unseen = |counter: &str| {
        let row = report
            .reconciliation
            .iter()
            .find(|r| r.counter == counter)?;
        row.residual.filter(|&residual| residual > 0)?;
        row.unexplained.filter(|&unexplained| unexplained > 0)
    };
    let runs = unseen("softirqs NET_RX total")?;
    Some(format!(
        "{} NET_RX runs that the kernel counted were seen by no program, for no known reason: the traced counts are \
         lower bounds here, the kernel's own are right",
        number::count(runs)
    ))
}

/// Which hooks count.
#[expect(clippy::struct_excessive_bools, reason = "one for each hook")]
struct Hooks {
    hard_irq: bool,
    softirq: bool,
    softirq_exit: bool,
    net_rx: bool,
    /// `NET_RX` runs are measured at `net_rx_action` itself.
    net_rx_action: bool,
    raise: bool,
    napi: bool,
    drop: bool,
    backlog: bool,
}

impl Hooks {
    fn of(window: &Window) -> Self {
        let attached = |name: &str| {
            window
                .hooks
                .iter()
                .any(|h| h.name == name && h.status == HookStatus::Attached)
        };
        let softirq = attached("softirq_entry");
        let softirq_exit = attached("softirq_exit");
        let net_rx_action = attached("net_rx_action");
        Self {
            hard_irq: attached("irq_handler_exit"),
            softirq,
            softirq_exit,
            net_rx: net_rx_action || softirq && softirq_exit,
            net_rx_action,
            raise: attached("softirq_raise"),
            napi: attached("napi_poll"),
            drop: attached("kfree_skb"),
            backlog: attached("enqueue_to_backlog"),
        }
    }

    /// Program runs that the kernel skipped at one of `names`; `None` if it tells for none.
    fn missed(window: &Window, names: &[&str]) -> Option<u64> {
        window
            .hooks
            .iter()
            .filter(|h| names.is_empty() || names.contains(&h.name.as_str()))
            .filter_map(|h| h.missed)
            .reduce(|a, b| a + b)
    }
}
