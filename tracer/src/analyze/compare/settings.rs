//! Settings of the host that differ between two runs.

use std::collections::{BTreeMap, BTreeSet};

use super::Change;
use crate::{
    analyze::rules::mask,
    model::{
        report::Report,
        topology::{Nic, Process, Range, Topology, Vector},
    },
    proc::cpus::parse_mask,
    report::number::ranges,
};

type Settings = BTreeMap<String, String>;

/// What differs, by name. Nothing is said about a thing that only one run saw, such as an idle process, but for devices'
/// settings, which appear and vanish.
pub(super) fn changes(before: &Report, after: &Report) -> Vec<Change> {
    let (Some(before), Some(after)) = (&before.topology, &after.topology) else {
        return Vec::new();
    };
    let (b, a) = (settings(before), settings(after));
    let mut changes = differences(&b, &a, true);
    changes.extend(differences(&processes(before), &processes(after), false));
    changes
}

fn differences(before: &Settings, after: &Settings, alone: bool) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .map(|name| Change {
            setting: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        })
        .filter(|change| change.before != change.after)
        .filter(|change| alone || change.before.is_some() && change.after.is_some())
        .collect()
}

fn cpus(list: &[u32]) -> String {
    if list.is_empty() {
        "none".to_owned()
    } else {
        ranges(list.iter().copied())
    }
}

/// A mask as its file has it, and what it means: `mask f, CPUs 0-3`.
fn as_mask(mask: &str) -> String {
    match parse_mask(mask).as_deref() {
        Ok([]) => format!("mask {mask}, no CPU"),
        Ok([cpu]) => format!("mask {mask}, CPU {cpu}"),
        Ok(cpus) => format!("mask {mask}, CPUs {}", ranges(cpus.iter().copied())),
        Err(_) => mask.to_owned(),
    }
}

fn settings(topology: &Topology) -> Settings {
    let mut settings = topology.sysctls.clone();
    let online = topology.cpus.iter().filter(|(_, place)| place.online);
    let online: Vec<u32> = online.map(|(cpu, _)| *cpu).collect();
    if !online.is_empty() {
        settings.insert("CPUs online".to_owned(), cpus(&online));
    }
    for (name, nic) in &topology.devices {
        device(name, nic, &mut settings);
    }
    for (irq, vector) in &topology.irqs {
        interrupt(*irq, vector, &mut settings);
    }
    if let Some(irqbalance) = &topology.irqbalance {
        let banned = irqbalance.banned_irqs.iter().copied();
        settings.insert("irqbalance".to_owned(), "running".to_owned());
        settings.insert("irqbalance banned IRQs".to_owned(), ranges(banned));
        let banned = cpus(&irqbalance.banned_cpus);
        settings.insert("irqbalance banned CPUs".to_owned(), banned);
    }
    settings
}

fn device(name: &str, nic: &Nic, settings: &mut Settings) {
    let mut set = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            settings.insert(format!("{name} {what}"), value);
        }
    };
    let now = |range: &Option<Range>| range.map(|range| range.now.to_string());
    set("ring", now(&nic.ring));
    set("channels", now(&nic.channels));
    set(
        "threaded NAPI",
        nic.threaded
            .map(|on| if on { "on" } else { "off" }.to_owned()),
    );
    if let Some(coalesce) = nic.coalesce {
        let on = |on| if on { "on" } else { "off" }.to_owned();
        set("adaptive-rx", coalesce.adaptive_rx.map(on));
        // The driver moves them with the load.
        if coalesce.adaptive_rx != Some(true) {
            set("rx-usecs", coalesce.rx_usecs.map(|n| n.to_string()));
            set("rx-frames", coalesce.rx_frames.map(|n| n.to_string()));
        }
    }
    for (queue, rx) in &nic.rx_queues {
        let masked = as_mask(&mask(&rx.rps_cpus));
        set(&format!("rx-{queue} rps_cpus"), Some(masked));
        set(
            &format!("rx-{queue} rps_flow_cnt"),
            rx.rps_flow_cnt.map(|n| n.to_string()),
        );
    }
    for (queue, mask) in &nic.xps_cpus {
        set(&format!("tx-{queue} xps_cpus"), Some(as_mask(mask)));
    }
}

fn interrupt(irq: u32, vector: &Vector, settings: &mut Settings) {
    let name = format!("IRQ {irq} {}", vector.name);
    settings.insert(format!("{name} affinity"), cpus(&vector.affinity));
    settings.insert(
        format!("{name} effective affinity"),
        cpus(&vector.effective),
    );
}

/// By name and ports: a process that was started again is the same.
fn processes(topology: &Topology) -> Settings {
    let named = |process: &Process| {
        let ports = process.ports.join(", ");
        format!("{} ({ports}) may run on CPUs", process.name)
    };
    let mut settings = Settings::new();
    for process in &topology.processes {
        let mut allowed = cpus(&process.allowed);
        if !process.threads_allowed.is_empty() {
            allowed = format!(
                "{allowed}; its threads on {}",
                cpus(&process.threads_allowed)
            );
        }
        settings.entry(named(process)).or_insert(allowed);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_told_as_its_file_has_it_and_in_cpus() {
        assert_eq!(as_mask("f"), "mask f, CPUs 0-3");
        assert_eq!(as_mask("2"), "mask 2, CPU 1");
        assert_eq!(as_mask("0"), "mask 0, no CPU");
        assert_eq!(as_mask(&mask(&[32])), "mask 1,00000000, CPU 32");
    }
}
