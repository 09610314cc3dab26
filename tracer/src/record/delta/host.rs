//! Differences of what is known about the host.

use std::collections::{BTreeMap, BTreeSet};

use super::{fields, whole};
use crate::{
    analyze::{
        details::{HandlerTimes, Kept},
        names::Function,
    },
    model::{
        report::Samples,
        topology::{Irqbalance, Nic, Place, Process, Topology, Vector},
    },
    proc::netdev::DeviceFacts,
    record::state::State,
    topology::irq::IrqFacts,
};

whole!(
    BTreeSet<String>,
    DeviceFacts,
    Function,
    IrqFacts,
    Irqbalance,
    Nic,
    Place,
    Samples,
    Vec<Process>,
    Vector,
);

fields!(
    /// What may change about the host while it is watched.
    State => StateDelta, Self::default(), {
        functions: BTreeMap<u64, Function>,
        reasons: BTreeMap<u32, String>,
        device_names: BTreeMap<u32, BTreeMap<u32, String>>,
        netns: BTreeMap<u32, String>,
        gone_netns: BTreeMap<u32, String>,
        irqs: BTreeMap<u32, IrqFacts>,
        devices: BTreeMap<String, DeviceFacts>,
        topology_known: bool,
        topology: Topology,
        processes: Vec<Process>,
        notes: Vec<String>,
        kept: Kept,
    }
);

fields!(
    /// The topology, a CPU, device, interrupt or setting at a time.
    Topology => TopologyDelta, Self::default(), {
        cpus: BTreeMap<u32, Place>,
        devices: BTreeMap<String, Nic>,
        irqs: BTreeMap<u32, Vector>,
        sysctls: BTreeMap<String, String>,
        host_sysctls: BTreeSet<String>,
        irqbalance: Option<Irqbalance>,
        tick_ns: Option<u64>,
        hypervisor: Option<String>,
        processes: Vec<Process>,
    }
);

fields!(
    /// What is kept of the single events.
    Kept => KeptDelta, Self::default(), {
        samples: Samples,
        handlers: BTreeMap<u32, HandlerTimes>,
    }
);

fields!(
    /// Handler times of one interrupt.
    HandlerTimes => HandlerTimesDelta, HandlerTimesColumns, Self::default(), { count: u64, p50: u64, p99: u64 }
);
