//! Rule 8: a busy process runs on a CPU that interrupts keep from running it.

use std::collections::BTreeSet;

use super::{
    case::{Case, share},
    command::{list, quote},
    found::{Found, NOTHING, Verdict, With as _, step},
    plan::{Plan, placed, plan},
    threshold::Key,
};
use crate::{
    model::{
        finding::{Advice, Severity},
        report::Cpu,
        setting::Setting,
        topology::{Cpuset, Process},
    },
    report::number::{self, duration, of},
};

pub(super) const ID: &str = "shared-cpu";

/// Processes that are told.
const TOLD: usize = 3;

/// A process and the CPUs it should leave.
pub(super) struct Victim<'a> {
    pub process: &'a Process,
    pub cpus: BTreeSet<u32>,
}

pub(super) fn judge(case: Case<'_>) -> Verdict {
    let troubled = troubled(case);
    if troubled.is_empty() {
        return NOTHING;
    }
    if case.host.processes.is_empty() {
        return Err("processes: none seen that owns sockets and uses CPU time".to_owned());
    }
    let victims = victims(case);
    let Some(first) = victims.first() else {
        return NOTHING;
    };
    let cpus: BTreeSet<u32> = victims
        .iter()
        .flat_map(|victim| victim.cpus.clone())
        .collect();
    let device = device(case, &cpus);
    let mut found = Found::new(
        ID,
        Severity::Warning,
        summary(case, first, victims.len(), device),
    )
    .on(cpus.iter().copied());
    for Victim { process, cpus } in victims.iter().take(TOLD) {
        let on = cpus.iter().filter_map(|cpu| process.ran_on.get(cpu));
        let on = on.copied().fold(0, u64::saturating_add);
        let cpus = number::cpus(cpus.iter().copied());
        let on_cpu = if is_bound(process) {
            format!("{} on {cpus}", name(process))
        } else {
            format!("threads of {} that last ran on {cpus}", name(process))
        };
        found = found
            .evidence(
                on_cpu,
                format!(
                    "{} of its {}",
                    duration(on, true),
                    duration(process.cpu_ns, true)
                ),
                format!("/proc/{}/task/*/stat", process.pid),
            )
            .evidence(
                format!("CPUs that {} may run on", process.name),
                list(&process.allowed),
                process.cpuset.as_deref().map_or_else(
                    || format!("/proc/{}/status", process.pid),
                    |cpuset| format!("/proc/{}/status; cpuset {cpuset}", process.pid),
                ),
            );
    }
    for cpu in cpus.iter().filter_map(|cpu| case.cpu(*cpu)).take(TOLD) {
        if let Some(busy) = case.softirq_busy(cpu) {
            found = found.evidence(
                format!("CPU {} in softirqs", cpu.cpu),
                format!("{busy} % of the time"),
                "softirq_entry/exit, /proc/stat",
            );
        }
    }
    let Some(plan) = device.and_then(|device| plan(case, device)) else {
        let rest = away_from(case, &cpus);
        return found
            .advice(pins(&victims, &rest, "CPUs without interrupts"))
            .alone();
    };
    let where_to = where_to(&plan);
    found
        .advice(plan.spread())
        .advice(plan.steer(case))
        .advice(pins(&victims, &plan.rest, &where_to))
        .useless("a higher priority (nice) of the process: softirqs run before any of them")
        .alone()
}

fn where_to(plan: &Plan) -> String {
    match (plan.rest_is_remote, plan.node) {
        (true, Some(node)) => {
            format!(
                "the interrupts need all of node {node}; these are on another node, which costs latency"
            )
        }
        (false, Some(node)) => {
            format!(
                "the other cores of node {node}: near the device, not on interrupt cores or their siblings"
            )
        }
        (_, None) => "not on interrupt cores or their siblings".to_owned(),
    }
}

fn summary(case: Case<'_>, first: &Victim<'_>, all: usize, device: Option<&str>) -> String {
    let cpus = number::cpus(first.cpus.iter().copied());
    let others = match all {
        1 => String::new(),
        n => format!(
            " (and {})",
            of(n as u64 - 1, "more process").replace("processs", "processes")
        ),
    };
    let with = device.map(|device| {
        let here = case.vectors(device);
        let here = here
            .iter()
            .filter(|(_, v)| placed(v).iter().any(|cpu| first.cpus.contains(cpu)));
        (here.count() as u64, device)
    });
    let with = match with {
        Some((n, device)) if n > 0 => format!("{} of {device}", of(n, "vector")),
        Some((_, device)) => format!("the NET_RX of {device}"),
        None => "NET_RX".to_owned(),
    };
    let measured = if is_bound(first.process) {
        ""
    } else {
        " (it last ran there)"
    };
    format!(
        "{}{others} shares {cpus} with {with}{measured}",
        name(first.process)
    )
}

/// Whether it can run nowhere else. The kernel tells of a thread only how long it ran, and where last.
fn is_bound(process: &Process) -> bool {
    process.allowed.len() == 1 && process.threads_allowed.len() <= 1 && !process.threads_differ
}

/// `redis-server (pid 812, tcp/6379)`.
fn name(process: &Process) -> String {
    let mut ports = process.ports.clone();
    if ports.len() > 3 {
        ports.truncate(3);
        ports.push("…".to_owned());
    }
    let ports = ports.join(" ");
    let ports = if ports.is_empty() {
        ports
    } else {
        format!(", {ports}")
    };
    format!("{} (pid {}{ports})", process.name, process.pid)
}

/// Processes that spend a good part of their time on a CPU where interrupts leave no room, the busiest first.
pub(super) fn victims(case: Case<'_>) -> Vec<Victim<'_>> {
    let troubled = troubled(case);
    let mut victims = Vec::new();
    for process in &case.host.processes {
        if share(process.cpu_ns, case.report.duration_ns) < case.limit(Key::VictimCpu) {
            continue;
        }
        let here = process
            .ran_on
            .iter()
            .filter(|(cpu, _)| troubled.contains(cpu));
        let here: Vec<(u32, u64)> = here.map(|(cpu, ns)| (*cpu, *ns)).collect();
        let ns = here
            .iter()
            .fold(0, |sum: u64, (_, ns)| sum.saturating_add(*ns));
        if ns > 0 && share(ns, process.cpu_ns) >= case.limit(Key::VictimShare) {
            let cpus = here
                .into_iter()
                .filter(|(_, ns)| *ns > 0)
                .map(|(cpu, _)| cpu);
            victims.push(Victim {
                process,
                cpus: cpus.collect(),
            });
        }
    }
    victims
}

/// CPUs where softirqs and tasks are in each other's way: full of softirqs, or losing or delaying packets.
fn troubled(case: Case<'_>) -> BTreeSet<u32> {
    let refused = case.refused();
    let is_troubled = |cpu: &&Cpu| {
        let takes_part = case
            .softirq_busy(cpu)
            .is_some_and(|busy| busy >= case.limit(Key::PollingBusy));
        let full = case
            .idle(cpu)
            .is_some_and(|idle| idle < case.limit(Key::CpuIdle));
        refused.contains_key(&cpu.cpu)
            || case.is_saturated(cpu)
            || case.is_late(cpu)
            || takes_part && full
    };
    let cpus = case.report.cpus.iter().filter(|cpu| cpu.online);
    cpus.filter(is_troubled).map(|cpu| cpu.cpu).collect()
}

/// The device that brings most packets to `cpus`.
fn device<'a>(case: Case<'a>, cpus: &BTreeSet<u32>) -> Option<&'a str> {
    let here = |device: &&str| {
        let polled = case.polled_by_cpu(device);
        let polled = polled.iter().filter(|(cpu, _)| cpus.contains(cpu));
        let polled = polled.fold(0, |sum: u64, (_, n)| sum.saturating_add(*n));
        let vectors = case.vectors(device);
        let vectors = vectors
            .iter()
            .filter(|(_, v)| placed(v).iter().any(|cpu| cpus.contains(cpu)));
        (
            polled,
            if case.received(device) > 0 {
                vectors.count()
            } else {
                0
            },
        )
    };
    let weighed = case
        .devices()
        .into_iter()
        .map(|device| (here(&device), device));
    let most = weighed.max_by_key(|(weight, _)| *weight)?;
    (most.0 != (0, 0)).then_some(most.1)
}

/// Online CPUs of other cores on the same node, or anywhere.
pub(super) fn away_from(case: Case<'_>, cpus: &BTreeSet<u32>) -> Vec<u32> {
    let node = cpus.first().and_then(|cpu| case.node_of(*cpu));
    let free = |node| {
        let cores = super::plan::cores(case, node);
        let free = cores
            .into_iter()
            .filter(|core| !core.iter().any(|cpu| cpus.contains(cpu)));
        let mut free: Vec<u32> = free.flatten().collect();
        free.sort_unstable();
        free
    };
    let here = free(node);
    if here.is_empty() { free(None) } else { here }
}

fn pins(victims: &[Victim<'_>], rest: &[u32], where_to: &str) -> Vec<Advice> {
    let processes: Vec<&Process> = victims.iter().map(|victim| victim.process).collect();
    move_all(&processes, rest, where_to)
}

/// Moves processes to the CPUs `rest`.
pub(super) fn move_all(processes: &[&Process], rest: &[u32], where_to: &str) -> Vec<Advice> {
    if rest.is_empty() {
        return vec![step(
            "Give this host more CPUs, or the process another host",
            "no CPU is left that interrupts do not need",
        )];
    }
    let told = processes.iter().take(TOLD);
    let strays = |process: &Process| {
        let mut others = process.threads_allowed.iter();
        others.any(|cpu| !rest.contains(cpu))
    };
    let elsewhere = told.filter(|process| process.allowed != rest || strays(process));
    elsewhere
        .map(|process| pin(process, rest, where_to))
        .collect()
}

/// Moves the processes that the user named off the CPUs where interrupts are to be, those of `busy` among them.
pub(super) fn apart(case: Case<'_>, busy: &BTreeSet<u32>) -> Vec<Advice> {
    let troubled = troubled(case);
    let plan = device(case, &troubled.union(busy).copied().collect())
        .and_then(|device| plan(case, device));
    let (mut rest, where_to) = match &plan {
        Some(plan) => (plan.rest.clone(), where_to(plan)),
        None => (
            away_from(case, &troubled.union(busy).copied().collect()),
            "CPUs without interrupts".to_owned(),
        ),
    };
    if rest.iter().any(|cpu| !busy.contains(cpu)) {
        rest.retain(|cpu| !busy.contains(cpu));
    }
    let named = case.host.processes.iter();
    let named: Vec<&Process> = named
        .filter(|process| case.apps.contains(&process.pid))
        .collect();
    named
        .chunks(TOLD)
        .flat_map(|some| move_all(some, &rest, &where_to))
        .collect()
}

/// Moves a process; where its cpuset forbids that, moves the cpuset.
fn pin(process: &Process, rest: &[u32], where_to: &str) -> Advice {
    let to = list(rest);
    let cpus = number::cpus(rest.iter().copied());
    let outside = rest.iter().any(|cpu| !process.allowed.contains(cpu));
    if let Some(path) = process.cpuset.as_deref().filter(|_| outside) {
        return match &process.confined_by {
            Some(group) if group.own => confine(process, path, group, rest, where_to),
            _ => step(
                format!(
                    "Let {} run on {cpus}: the control group {path} keeps it off them",
                    name(process)
                ),
                where_to,
            )
            .risk(
                "no command here: that group holds other processes, too, which would all move; give this one a group of \
                 its own, or change its unit or container",
            ),
        };
    }
    let risk = if process.realtime {
        "it has a real-time priority: on its new CPUs it starves what runs there"
    } else {
        "threads that it starts later inherit this; a restart forgets it"
    };
    let own = Setting::Process {
        pid: process.pid,
        name: process.name.clone(),
        start: None,
    };
    let advice = step(format!("Move {} to {cpus}", name(process)), where_to)
        .command(format!("taskset -acp {to} {}", process.pid))
        .sets([(own, to)]);
    if process.threads_differ || !process.threads_allowed.is_empty() {
        return advice.risk(format!(
            "cannot be undone by one command: its threads have different masks now, which taskset -acp {} lists; {risk}",
            process.pid
        ));
    }
    let advice = advice.risk(risk);
    if process.allowed.is_empty() {
        advice
    } else {
        let now = list(&process.allowed);
        advice.undo(format!("taskset -acp {now} {}", process.pid))
    }
}

/// Moves the control group of a process, which is its own.
fn confine(process: &Process, path: &str, group: &Cpuset, rest: &[u32], where_to: &str) -> Advice {
    let to = list(rest);
    let advice = step(
        format!(
            "Move {} to {}, with all processes of its control group {path}",
            name(process),
            number::cpus(rest.iter().copied())
        ),
        where_to,
    )
    .risk("every process of the group moves; a restart of the unit or container forgets it");
    let unit = path.rsplit('/').next().unwrap_or_default();
    let is_unit = [".service", ".scope"]
        .iter()
        .any(|kind| unit.ends_with(kind));
    let is_list = |c: char| c.is_ascii_digit() || ",-".contains(c);
    let now = Some(&group.cpus).filter(|now| !now.is_empty() && now.chars().all(is_list));
    let (command, revert) = if group.version == 2 && is_unit {
        // systemd writes the file again when it reloads.
        let unit = quote(unit);
        let set =
            |cpus: &str| format!("systemctl set-property --runtime {unit} AllowedCPUs={cpus}");
        (set(&to), now.map(|now| set(now)))
    } else {
        let file = quote(&format!("{}/cpuset.cpus", group.dir.trim_end_matches('/')));
        let set = |cpus: &str| format!("echo {cpus} > {file}");
        (set(&to), now.map(|now| set(now)))
    };
    Advice {
        revert,
        ..advice.command(command)
    }
}
