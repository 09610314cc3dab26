//! Who is on which CPU, before and after.

use std::collections::{BTreeMap, BTreeSet};

use super::{device, named};
use crate::{
    analyze::rules::{Case, placed},
    model::setting::Setting,
    tune::plan::{Cell, Plan},
};

/// Fills in [`Plan::cpus`] and [`Plan::applications`].
pub(super) fn draw(plan: &mut Plan, case: Case<'_>) {
    let host = case.host;
    let to: BTreeMap<&Setting, &str> = plan
        .changes()
        .map(|change| (&change.setting, change.to.as_str()))
        .collect();
    let mut devices: BTreeSet<&str> = to
        .keys()
        .filter_map(|setting| device(host, setting))
        .collect();
    if devices.is_empty() {
        let active = case.devices().into_iter();
        devices = active.filter(|name| case.received(name) > 0).collect();
    }
    let mut marks = Marks::default();
    for (irq, vector) in &host.irqs {
        if vector.queue.is_none()
            || !vector
                .device
                .as_deref()
                .is_some_and(|d| devices.contains(d))
        {
            continue;
        }
        let then = after(&to, &named(host, &Setting::IrqAffinity { irq: *irq }));
        marks.add('I', placed(vector), then);
    }
    for name in &devices {
        let queues = host.devices.get(*name).map(|nic| &nic.rx_queues);
        for (queue, state) in queues.into_iter().flatten() {
            let setting = Setting::RpsCpus {
                device: (*name).to_owned(),
                queue: *queue,
            };
            marks.add('R', &state.rps_cpus, after(&to, &setting));
        }
    }
    let mut applications = Vec::new();
    for process in &host.processes {
        let setting = Setting::Process {
            pid: process.pid,
            name: process.name.clone(),
            start: None,
        };
        let then = after(&to, &setting);
        if then.is_none() && !case.apps.contains(&process.pid) {
            continue;
        }
        applications.push(format!("{} (pid {})", process.name, process.pid));
        marks.add('A', &process.allowed, then);
    }
    let cells = host.cpus.iter().map(|(cpu, place)| Cell {
        cpu: *cpu,
        node: place.node,
        core: place
            .siblings
            .iter()
            .copied()
            .min()
            .unwrap_or(*cpu)
            .min(*cpu),
        online: place.online,
        before: text(marks.before.get(cpu)),
        after: text(marks.after.get(cpu)),
    });
    plan.cpus = cells.collect();
    plan.applications = applications;
}

fn after(to: &BTreeMap<&Setting, &str>, setting: &Setting) -> Option<Vec<u32>> {
    to.get(setting).and_then(|value| setting.cpus(value))
}

/// Letters by CPU.
#[derive(Default)]
struct Marks {
    before: BTreeMap<u32, BTreeSet<char>>,
    after: BTreeMap<u32, BTreeSet<char>>,
}

impl Marks {
    fn add(&mut self, mark: char, now: &[u32], then: Option<Vec<u32>>) {
        for cpu in now {
            self.before.entry(*cpu).or_default().insert(mark);
        }
        for cpu in then.unwrap_or_else(|| now.to_vec()) {
            self.after.entry(cpu).or_default().insert(mark);
        }
    }
}

/// `I` first: it is what the others have to make room for.
fn text(marks: Option<&BTreeSet<char>>) -> String {
    let has = |mark: &char| marks.is_some_and(|marks| marks.contains(mark));
    ['I', 'R', 'A'].into_iter().filter(has).collect()
}
