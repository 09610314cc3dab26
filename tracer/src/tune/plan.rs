//! What shall be changed: the JSON that `tracer tune plan` prints and `tracer tune apply` takes.

use serde::{Deserialize, Serialize};

use super::{baseline::Baseline, identity::Identity};
use crate::model::setting::{FLOW_ENTRIES, Setting};

/// Version of the meaning of a plan's fields.
pub const SCHEMA: u32 = 1;

/// The plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Always `plan`.
    pub kind: String,
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of this plan: when the report that it rests on began, ns since the Unix epoch.
    pub id: String,
    /// The host that it is for.
    pub host: Identity,
    /// What was lost before.
    pub baseline: Baseline,
    /// In the order in which they are applied.
    pub steps: Vec<Step>,
    /// What has to be done by hand.
    pub by_hand: Vec<ByHand>,
    /// Why nothing, or not more, is changed.
    pub notes: Vec<String>,
    /// Who is where, before and after.
    pub cpus: Vec<Cell>,
    /// Names of the processes that `A` stands for in `cpus`.
    pub applications: Vec<String>,
}

/// Changes with one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its place in the order.
    pub part: Part,
    /// What to do, in a sentence.
    pub title: String,
    /// Why it helps.
    pub why: String,
    /// The finding that asks for it: rule and summary.
    pub finding: String,
    /// What to expect.
    pub effect: String,
    /// What may go wrong.
    pub risk: Option<String>,
    /// File by file.
    pub changes: Vec<Planned>,
}

/// The order of the write-up: queues first, then interrupts, then who is in their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// `netdev_max_backlog`, `netdev_budget`, `netdev_budget_usecs`.
    Backlog,
    /// Vectors that irqbalance has to leave alone; before they are pinned.
    Irqbalance,
    /// Number of queues: makes new vectors.
    Channels,
    /// Ring sizes: may restart the device.
    Ring,
    /// Vectors over cores.
    Vectors,
    /// RPS masks.
    Rps,
    /// RFS tables.
    Rfs,
    /// Processes onto the other cores.
    Application,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What.
    pub setting: Setting,
    /// As the report saw it; `null`: it did not.
    pub from: Option<String>,
    /// New value.
    pub to: String,
}

/// A step that tracer cannot or does not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    /// What to do.
    pub step: String,
    /// Why it helps, and why by hand.
    pub why: String,
    /// A command for it.
    pub command: Option<String>,
}

/// A CPU of the map. Marks: `I` interrupts, `R` target of RPS, `A` application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// CPU id.
    pub cpu: u32,
    /// NUMA node.
    pub node: Option<u32>,
    /// Lowest CPU of its core.
    pub core: u32,
    /// Running.
    pub online: bool,
    /// Marks now.
    pub before: String,
    /// Marks with the plan applied.
    pub after: String,
}

impl Plan {
    /// All changes in order.
    pub fn changes(&self) -> impl Iterator<Item = &Planned> {
        self.steps.iter().flat_map(|step| &step.changes)
    }
}

impl Part {
    /// The part that `setting` belongs to.
    #[must_use]
    pub fn of(setting: &Setting) -> Self {
        match setting {
            Setting::Sysctl { name } if name == FLOW_ENTRIES => Self::Rfs,
            Setting::Sysctl { .. } => Self::Backlog,
            Setting::IrqbalanceBans { .. } => Self::Irqbalance,
            Setting::Channels { .. } => Self::Channels,
            Setting::Ring { .. } => Self::Ring,
            Setting::IrqAffinity { .. } | Setting::VectorAffinity { .. } => Self::Vectors,
            Setting::RpsCpus { .. } => Self::Rps,
            Setting::RpsFlowCount { .. } => Self::Rfs,
            Setting::Process { .. } => Self::Application,
        }
    }

    /// What to expect of it.
    #[must_use]
    pub const fn effect(self) -> &'static str {
        match self {
            Self::Backlog => {
                "a burst waits instead of being refused; alone it does not help against a sustained load"
            }
            Self::Irqbalance => "the new places of the vectors last",
            Self::Channels => "more queues: flows are spread over more CPUs",
            Self::Ring => "a burst waits in the card instead of being missed",
            Self::Vectors => "no CPU alone takes all interrupts and NET_RX of the card",
            Self::Rps => "packets are steered to CPUs that have room, and to no others",
            Self::Rfs => "a packet is processed where it is read",
            Self::Application => {
                "interrupts and the application no longer take CPU time from each other"
            }
        }
    }
}
