//! Rule 9: `NET_RX` waits for its CPU: something else has it.

use std::collections::BTreeSet;

use super::{
    case::{Case, share},
    found::{Found, NOTHING, Verdict, With as _, step},
    shared_cpu,
    threshold::Key,
};
use crate::{
    model::{finding::Severity, report::Cpu, topology::Process},
    report::number::{self, duration, percent},
};

pub(super) const ID: &str = "softirq-wait";

/// CPUs that have an evidence line of their own.
const LISTED: usize = 4;

pub(super) fn judge(case: Case<'_>) -> Verdict {
    let cpus = &case.report.cpus;
    if cpus
        .iter()
        .all(|cpu| cpu.net_rx_wait_ns.is_none() && cpu.ksoftirqd_runs.is_none())
    {
        return Err(
            "how long NET_RX waited: softirq_raise or softirq_entry is not hooked, or nothing ran"
                .to_owned(),
        );
    }
    let is_late = |cpu: &Cpu| case.is_late(cpu);
    let is_deferred = |cpu: &Cpu| {
        let shares = cpu.ksoftirqd_runs.zip(cpu.net_rx_runs);
        shares.is_some_and(|(part, all)| {
            all >= case.limit(Key::WaitRuns) && share(part, all) >= case.limit(Key::KsoftirqdShare)
        })
    };
    let hit: Vec<&Cpu> = cpus
        .iter()
        .filter(|cpu| cpu.online)
        .filter(|cpu| is_late(cpu) || is_deferred(cpu))
        .collect();
    let worst = hit
        .iter()
        .filter(|cpu| is_late(cpu))
        .max_by_key(|cpu| cpu.net_rx_wait_ns.map(|wait| wait.p99));
    let Some(first) = worst.or(hit.first()) else {
        return NOTHING;
    };
    let ids: Vec<u32> = hit.iter().map(|cpu| cpu.cpu).collect();
    let rivals = rivals(case, &ids);
    let stolen = hit.iter().any(|cpu| is_stolen(case, cpu));
    let unseen = is_unseen(case, &hit);
    let severity = if worst.is_some() && !unseen {
        Severity::Warning
    } else {
        Severity::Info
    };
    let mut found =
        Found::new(ID, severity, summary(first, worst.is_some(), &ids)).on(ids.iter().copied());
    for cpu in hit.iter().take(LISTED) {
        let wait = cpu
            .net_rx_wait_ns
            .map_or_else(|| "not known".to_owned(), |wait| duration(wait.p99, true));
        let deferred = cpu.ksoftirqd_runs.zip(cpu.net_rx_runs);
        let deferred = deferred.map_or_else(|| "?".to_owned(), |(part, all)| percent(part, all));
        found = found.evidence(
            format!("CPU {}: NET_RX wait p99, runs in ksoftirqd", cpu.cpu),
            format!("{wait}, {deferred}"),
            "softirq_raise, softirq_entry",
        );
    }
    for process in rivals.iter().take(LISTED) {
        let realtime = if process.realtime { ", real-time" } else { "" };
        found = found.evidence(
            format!(
                "{} (pid {}{realtime}) runs there",
                process.name, process.pid
            ),
            format!("{} of CPU time", duration(process.cpu_ns, true)),
            format!("/proc/{}/task/*/stat", process.pid),
        );
    }
    if stolen {
        found = found.advice([step(
            "Ask for CPUs that are not shared",
            "the hypervisor takes this CPU away (steal): no knob of the guest helps",
        )]);
    }
    for process in rivals.iter().filter(|process| process.realtime).take(1) {
        let pid = process.pid;
        let advice = step(
            format!(
                "Look at the real-time policy of {} (pid {pid})",
                process.name
            ),
            "ksoftirqd runs at normal priority and never gets the CPU before a real-time task",
        );
        found = found.advice([advice.command(format!("chrt -p {pid}"))]);
    }
    // To one place, and only once.
    let moved: BTreeSet<u32> = shared_cpu::victims(case)
        .iter()
        .map(|victim| victim.process.pid)
        .collect();
    let (told, others): (Vec<&Process>, Vec<&Process>) = rivals
        .iter()
        .partition(|process| moved.contains(&process.pid));
    if !told.is_empty() {
        let follow = step(
            format!("Follow the advice on {}", shared_cpu::ID),
            "it moves what competes here",
        );
        found = found.advice([follow]);
    }
    if !others.is_empty() {
        let cpus = shared_cpu::away_from(case, &found.cpus);
        found = found.advice(shared_cpu::move_all(
            &others,
            &cpus,
            "CPUs where NET_RX does not wait for it",
        ));
    } else if told.is_empty() && !stolen {
        found = found.advice([step(
            format!("See what runs on {}", number::cpus(ids.iter().copied())),
            "a task that the scheduler prefers to ksoftirqd, or a long section with softirqs off",
        )
        .command(format!(
            "ps -eLo psr,cls,pri,pcpu,pid,comm --sort=-pcpu | awk '$1=={}' | head",
            first.cpu
        ))]);
    }
    found
        .useless("a larger netdev_budget: the run has not even begun")
        .alone()
}

/// Processes that used one of these CPUs.
fn rivals<'a>(case: Case<'a>, cpus: &[u32]) -> Vec<&'a Process> {
    let processes = case.host.processes.iter();
    let here = processes.filter(|process| {
        cpus.iter()
            .any(|cpu| process.ran_on.get(cpu).is_some_and(|ns| *ns > 0))
    });
    here.filter(|process| {
        share(process.cpu_ns, case.report.duration_ns) >= case.limit(Key::VictimCpu)
    })
    .collect()
}

/// In a virtual machine without a rival the CPU itself is away, and the guest cannot see it.
pub(super) fn is_unseen(case: Case<'_>, cpus: &[&Cpu]) -> bool {
    let ids: Vec<u32> = cpus.iter().map(|cpu| cpu.cpu).collect();
    case.host.hypervisor.is_some()
        && rivals(case, &ids).is_empty()
        && !cpus.iter().any(|cpu| is_stolen(case, cpu))
}

fn summary(first: &Cpu, late: bool, ids: &[u32]) -> String {
    let cpus = number::cpus(ids.iter().copied());
    if late {
        let wait = first.net_rx_wait_ns.map_or(0, |wait| wait.p99);
        format!(
            "one in a hundred NET_RX runs waited {} or longer for {cpus}: something competes with it",
            duration(wait, true)
        )
    } else {
        let runs = first.ksoftirqd_runs.zip(first.net_rx_runs);
        let runs = runs.map_or_else(|| "most".to_owned(), |(part, all)| percent(part, all));
        format!("{runs} of the NET_RX runs on {cpus} are in ksoftirqd, which competes with tasks")
    }
}

fn is_stolen(case: Case<'_>, cpu: &Cpu) -> bool {
    cpu.time
        .is_some_and(|time| share(time.steal_ns, case.report.duration_ns) >= case.limit(Key::Steal))
}
