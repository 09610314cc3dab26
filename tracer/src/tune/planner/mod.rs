//! From a report to a plan: the smallest set of changes that its findings ask for. Pure.

mod current;
mod map;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use self::current::current;
use super::{
    baseline::Baseline,
    identity::Identity,
    plan::{ByHand, Part, Plan, Planned, SCHEMA, Step},
};
use crate::{
    analyze::rules::{Case, apart, diagnose, threshold::Thresholds},
    model::{
        finding::{Advice, Finding, Severity},
        report::Report,
        setting::{Setting, irqs},
        topology::Topology,
    },
};

/// How advice begins that is nothing to do, or has a step of its own here ([`Draft::ban`]).
const NO_STEPS: [&str; 3] = ["Make irqbalance", "Follow the advice", "Leave "];

/// An application, as `--app` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// By process id.
    Pid(u32),
    /// By `comm`: all processes of that name.
    Name(String),
}

/// `--app` names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no process '{wanted}' among those that were busy and had sockets: {}",
    if seen.is_empty() { "there were none".to_owned() } else { seen.join(", ") }
)]
pub struct UnknownApp {
    wanted: String,
    seen: Vec<String>,
}

/// What else the plan depends on.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The application that shall have CPUs of its own.
    pub app: Option<App>,
    /// irqbalance can be told so: its socket is there.
    pub irqbalance_listens: bool,
    /// The host that the report is about.
    pub host: Identity,
    /// From where on something is a finding.
    pub thresholds: Thresholds,
}

/// The plan for what `report` found. `topology` is how the host was set up then.
pub fn plan(report: &Report, topology: &Topology, ask: &Ask) -> Result<Plan, UnknownApp> {
    let apps = match &ask.app {
        Some(app) => chosen(app, topology)?,
        None => Vec::new(),
    };
    let case = Case {
        report,
        host: topology,
        thresholds: &ask.thresholds,
        apps: &apps,
    };
    let (findings, _) = diagnose(case);
    let mut draft = Draft {
        topology,
        plan: Plan {
            kind: "plan".to_owned(),
            schema: SCHEMA,
            id: report.start_unix_ns.to_string(),
            host: ask.host.clone(),
            baseline: Baseline::of(report),
            ..Plan::default()
        },
        taken: BTreeSet::new(),
        online: case.online(),
    };
    let mut flat = Vec::new();
    flatten(&findings, &mut flat);
    flat.retain(|finding| finding.severity < Severity::Info);
    for finding in &flat {
        for advice in &finding.advice {
            draft.advise(advice, finding);
        }
    }
    draft.without_what_channels_undo();
    // Nobody asks for anything: then the application is in nobody's way either.
    if !apps.is_empty() && !draft.plan.steps.is_empty() {
        draft.place(case);
    }
    draft.ban(ask);
    Ok(draft.finish(case, &flat))
}

fn chosen(app: &App, topology: &Topology) -> Result<Vec<u32>, UnknownApp> {
    let processes = topology.processes.iter();
    let is_it = |pid: u32, name: &str| match app {
        App::Pid(wanted) => pid == *wanted,
        App::Name(wanted) => name == wanted,
    };
    let found: Vec<u32> = processes
        .clone()
        .filter(|process| is_it(process.pid, &process.name))
        .map(|process| process.pid)
        .collect();
    if found.is_empty() {
        let wanted = match app {
            App::Pid(pid) => pid.to_string(),
            App::Name(name) => name.clone(),
        };
        let seen = processes.map(|process| format!("{} ({})", process.name, process.pid));
        let seen = seen.collect();
        return Err(UnknownApp { wanted, seen });
    }
    Ok(found)
}

/// Each finding before those that follow from it.
fn flatten<'a>(findings: &'a [Finding], into: &mut Vec<&'a Finding>) {
    for finding in findings {
        into.push(finding);
        flatten(&finding.follows, into);
    }
}

struct Draft<'a> {
    topology: &'a Topology,
    plan: Plan,
    /// Settings that have a new value already: the gravest finding decides.
    taken: BTreeSet<Setting>,
    online: BTreeSet<u32>,
}

impl Draft<'_> {
    fn advise(&mut self, advice: &Advice, finding: &Finding) {
        let asks = format!("{}: {}", finding.rule, finding.summary);
        if advice.changes.is_empty() {
            self.by_hand(advice);
            return;
        }
        self.step(advice, &asks);
    }

    fn by_hand(&mut self, advice: &Advice) {
        let step = ByHand {
            step: advice.step.clone(),
            why: advice.why.clone(),
            command: advice.command.clone(),
        };
        let is_none = NO_STEPS.iter().any(|begin| advice.step.starts_with(begin));
        if !is_none && !self.plan.by_hand.contains(&step) {
            self.plan.by_hand.push(step);
        }
    }

    fn step(&mut self, advice: &Advice, asks: &str) {
        let mut changes = Vec::new();
        for change in &advice.changes {
            let setting = named(self.topology, &change.setting);
            if self.taken.contains(&setting) {
                continue;
            }
            let cpus = setting.cpus(&change.to).unwrap_or_default();
            if let Some(cpu) = cpus.iter().find(|cpu| !self.online.contains(cpu)) {
                let note = format!("{setting} is left: CPU {cpu} is offline");
                self.plan.notes.push(note);
                continue;
            }
            self.taken.insert(setting.clone());
            let from = current(self.topology, &setting);
            let is_so = from
                .as_ref()
                .is_some_and(|from| setting.same(from, &change.to));
            if !is_so {
                changes.push(Planned {
                    setting,
                    from,
                    to: change.to.clone(),
                });
            }
        }
        if let Some(first) = changes.first() {
            let part = Part::of(&first.setting);
            self.plan.steps.push(Step {
                part,
                title: advice.step.clone(),
                why: advice.why.clone(),
                finding: asks.to_owned(),
                effect: part.effect().to_owned(),
                risk: advice.risk.clone(),
                changes,
            });
        }
    }

    /// New channels have new vectors and queues: what the plan would do to the old ones is for the next plan.
    fn without_what_channels_undo(&mut self) {
        let changed: BTreeSet<String> = self
            .plan
            .changes()
            .filter_map(|change| match &change.setting {
                Setting::Channels { device } => Some(device.clone()),
                _ => None,
            })
            .collect();
        let topology = self.topology;
        let is_old = |setting: &Setting| {
            !matches!(setting, Setting::Channels { .. })
                && device(topology, setting).is_some_and(|device| changed.contains(device))
        };
        for step in &mut self.plan.steps {
            step.changes.retain(|change| !is_old(&change.setting));
        }
        self.plan.steps.retain(|step| !step.changes.is_empty());
        for device in changed {
            self.plan.notes.push(format!(
                "{device} gets new queues and vectors: measure and plan again once this is applied"
            ));
        }
    }

    /// CPUs that interrupts and RPS get.
    fn busy(&self) -> BTreeSet<u32> {
        let of_packets = self.plan.changes().filter(|change| {
            change.setting.irq().is_some() || matches!(change.setting, Setting::RpsCpus { .. })
        });
        of_packets
            .filter_map(|change| change.setting.cpus(&change.to))
            .flatten()
            .collect()
    }

    /// The chosen application, wherever the findings wanted it.
    fn place(&mut self, case: Case<'_>) {
        let steps = apart(case, &self.busy());
        for advice in &steps {
            if advice.changes.is_empty() {
                self.by_hand(advice);
                continue;
            }
            let is_set = |setting: &Setting| self.taken.contains(setting);
            if advice.changes.iter().all(|change| is_set(&change.setting)) {
                continue;
            }
            self.step(advice, "--app: it shall have CPUs of its own");
        }
    }

    /// irqbalance would move what is pinned.
    fn ban(&mut self, ask: &Ask) {
        let Some(daemon) = &self.topology.irqbalance else {
            return;
        };
        let pinned = self
            .plan
            .changes()
            .filter_map(|change| change.setting.irq());
        let pinned: BTreeSet<u32> = pinned
            .filter(|irq| !daemon.banned_irqs.contains(irq))
            .collect();
        if pinned.is_empty() {
            return;
        }
        let text = |irqs: &mut dyn Iterator<Item = u32>| {
            let irqs: Vec<String> = irqs.map(|irq| irq.to_string()).collect();
            irqs.join(" ")
        };
        if !ask.irqbalance_listens {
            let bans = pinned.iter().map(|irq| format!("--banirq={irq}"));
            let bans: Vec<String> = bans.collect();
            self.plan.by_hand.push(ByHand {
                step: format!(
                    "Before this plan, restart irqbalance (pid {}) with {}",
                    daemon.pid,
                    bans.join(" ")
                ),
                why: "it would move the vectors back within ten seconds, and has no socket to tell it so".to_owned(),
                command: None,
            });
            return;
        }
        let banned = irqs(&text(&mut daemon.banned_irqs.iter().copied())).unwrap_or_default();
        let then: BTreeSet<u32> = banned.iter().copied().chain(pinned).collect();
        let part = Part::Irqbalance;
        self.plan.steps.push(Step {
            part,
            title: "Make irqbalance leave these vectors alone".to_owned(),
            why: format!(
                "irqbalance (pid {}) looks again every ten seconds and would move them back",
                daemon.pid
            ),
            finding: "irqbalance: affinities set by hand will not last".to_owned(),
            effect: part.effect().to_owned(),
            risk: Some("it forgets this when it is restarted".to_owned()),
            changes: vec![Planned {
                setting: Setting::IrqbalanceBans { pid: daemon.pid },
                // What it was told since it started is not in its arguments.
                from: None,
                to: text(&mut then.into_iter()),
            }],
        });
    }

    fn finish(mut self, case: Case<'_>, findings: &[&Finding]) -> Plan {
        self.plan.steps.sort_by_key(|step| step.part);
        if self.plan.steps.is_empty() {
            let why = if findings.is_empty() {
                "no finding asks for a change".to_owned()
            } else {
                let rules: Vec<&str> = findings
                    .iter()
                    .map(|finding| finding.rule.as_str())
                    .collect();
                format!(
                    "what was found ({}) is not cured by a setting that tracer changes",
                    rules.join(", ")
                )
            };
            self.plan.notes.insert(0, why);
        }
        map::draw(&mut self.plan, case);
        self.plan
    }
}

/// The device that a setting is about.
fn device<'a>(topology: &'a Topology, setting: &'a Setting) -> Option<&'a str> {
    match setting.irq() {
        Some(irq) => topology.irqs.get(&irq)?.device.as_deref(),
        None => setting.device(),
    }
}

/// `setting`, of an interrupt with its handlers as far as they are known.
fn named(topology: &Topology, setting: &Setting) -> Setting {
    let handlers = |irq| Some(&topology.irqs.get(irq)?.name).filter(|name| !name.is_empty());
    match setting {
        Setting::IrqAffinity { irq } => handlers(irq).map_or_else(
            || setting.clone(),
            |name| Setting::VectorAffinity {
                irq: *irq,
                action: name.clone(),
            },
        ),
        _ => setting.clone(),
    }
}
