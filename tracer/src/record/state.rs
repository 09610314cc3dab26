//! What is known about the host beside its counters: [`Facts`] as a recording holds them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracer_common::{
    event::Kind,
    hist::{BUCKETS, bounds},
};

use super::{FORMAT, VERSION};
use crate::{
    analyze::{
        details::Kept,
        names::{Function, Kernel, Names},
        rules::threshold::Thresholds,
        summary::Facts,
    },
    model::{
        report::Host,
        topology::{Process, Topology},
    },
    proc::netdev::DeviceFacts,
    topology::irq::IrqFacts,
};

/// First line of a recording: what does not change during a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`] of the format.
    pub version: u32,
    /// Version of the tracer that wrote it.
    pub tracer: String,
    /// Where.
    pub host: Host,
    /// Time between two frames, ns.
    pub interval_ns: u64,
    /// Every single event that streamed is in it (`--events`), not only those that the report shows.
    pub events: bool,
    /// `--interface`: name by interface index; empty: all.
    pub interfaces: BTreeMap<u32, String>,
    /// Kinds of detail asked for.
    pub kinds: Vec<String>,
    /// `--threshold`; all by name.
    pub thresholds: BTreeMap<String, u64>,
    /// NUMA node by CPU id.
    pub node_of: BTreeMap<u32, u32>,
    /// As [`Names::own_netns`].
    pub own_netns: u32,
    /// As [`Facts::budget_known`].
    pub budget_known: bool,
    /// As [`Facts::names_full_backlog`].
    pub names_full_backlog: bool,
    /// Smallest value, ns, of each bucket of the histograms.
    pub bucket_low_ns: Vec<u64>,
}

impl Header {
    /// Of a run that begins.
    #[must_use]
    pub fn new(facts: &Facts, interval_ns: u64, events: bool) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            tracer: env!("CARGO_PKG_VERSION").to_owned(),
            host: facts.host.clone(),
            interval_ns,
            events,
            interfaces: facts.interfaces.clone(),
            kinds: facts.kinds.iter().map(|k| k.name().to_owned()).collect(),
            thresholds: facts.thresholds.by_name(),
            node_of: facts.node_of.clone(),
            own_netns: facts.names.own_netns,
            budget_known: facts.budget_known,
            names_full_backlog: facts.names_full_backlog,
            bucket_low_ns: (0..BUCKETS).map(|bucket| bounds(bucket).0).collect(),
        }
    }

    /// The facts as they were with `state`.
    #[must_use]
    pub fn facts(&self, state: &State) -> Facts {
        let named = |kind: &Kind| self.kinds.iter().any(|name| name == kind.name());
        Facts {
            host: self.host.clone(),
            node_of: self.node_of.clone(),
            names: self.names(state),
            irqs: state.irqs.clone(),
            devices: state.devices.clone(),
            topology: state.topology_known.then(|| state.topology.clone()),
            interfaces: self.interfaces.clone(),
            kinds: Kind::ALL.into_iter().filter(named).collect(),
            budget_known: self.budget_known,
            names_full_backlog: self.names_full_backlog,
            processes: state.processes.clone(),
            thresholds: Thresholds::changed_to(&self.thresholds),
            notes: state.notes.clone(),
        }
    }

    fn names(&self, state: &State) -> Names {
        let mut names = Names::new(Box::new(Recorded {
            functions: state.functions.clone(),
            reasons: state.reasons.clone(),
        }));
        let of = |(netns, names): (&u32, &BTreeMap<u32, String>)| {
            let netns = *netns;
            let names = names.clone().into_iter();
            names.map(move |(ifindex, name)| ((netns, ifindex), name))
        };
        names.devices = state.device_names.iter().flat_map(of).collect();
        names.own_netns = self.own_netns;
        names.netns.clone_from(&state.netns);
        names.gone_netns.clone_from(&state.gone_netns);
        names
    }
}

/// What may change while a host is watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Functions that dropped packets, by return address.
    pub functions: BTreeMap<u64, Function>,
    /// Drop reasons by number.
    pub reasons: BTreeMap<u32, String>,
    /// Device names by namespace inode, then interface index.
    pub device_names: BTreeMap<u32, BTreeMap<u32, String>>,
    /// As [`Names::netns`].
    pub netns: BTreeMap<u32, String>,
    /// As [`Names::gone_netns`].
    pub gone_netns: BTreeMap<u32, String>,
    /// As [`Facts::irqs`].
    pub irqs: BTreeMap<u32, IrqFacts>,
    /// As [`Facts::devices`].
    pub devices: BTreeMap<String, DeviceFacts>,
    /// Whether the topology was read.
    pub topology_known: bool,
    /// As [`Facts::topology`].
    pub topology: Topology,
    /// As [`Facts::processes`].
    pub processes: Vec<Process>,
    /// As [`Facts::notes`].
    pub notes: Vec<String>,
    /// What is left of the single events.
    pub kept: Kept,
}

impl State {
    /// Of a host that is being watched.
    #[must_use]
    pub fn of(facts: &Facts, kept: Kept) -> Self {
        let mut device_names: BTreeMap<u32, BTreeMap<u32, String>> = BTreeMap::new();
        for (&(netns, ifindex), name) in &facts.names.devices {
            let names = device_names.entry(netns).or_default();
            names.insert(ifindex, name.clone());
        }
        Self {
            functions: facts.names.known_functions(),
            reasons: facts.names.known_reasons(),
            device_names,
            netns: facts.names.netns.clone(),
            gone_netns: facts.names.gone_netns.clone(),
            irqs: facts.irqs.clone(),
            devices: facts.devices.clone(),
            topology_known: facts.topology.is_some(),
            topology: facts.topology.clone().unwrap_or_default(),
            processes: facts.processes.clone(),
            notes: facts.notes.clone(),
            kept,
        }
    }
}

/// Names as the recorded kernel gave them.
struct Recorded {
    functions: BTreeMap<u64, Function>,
    reasons: BTreeMap<u32, String>,
}

impl Kernel for Recorded {
    fn function(&self, return_address: u64) -> Option<Function> {
        self.functions.get(&return_address).cloned()
    }

    fn reason(&self, number: u32) -> Option<String> {
        self.reasons.get(&number).cloned()
    }
}
