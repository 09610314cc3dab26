//! Rule 2: `NET_RX` ended with work left. By itself that is fairness, not loss.

use super::{
    case::{Case, doubled},
    command::sysctl,
    found::{Found, NOTHING, Verdict, With as _, step},
    threshold::Key,
};
use crate::{
    model::{
        finding::{Advice, Severity},
        report::Cpu,
        setting::Setting,
    },
    report::number::{count, ranges, times},
};

pub(super) const ID: &str = "time-squeeze";

const BUDGET: &str = "net.core.netdev_budget";
const USECS: &str = "net.core.netdev_budget_usecs";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Budget,
    Time,
    Unknown,
}

pub(super) fn judge(case: Case<'_>) -> Verdict {
    if case.report.cpus.iter().all(|cpu| cpu.softnet.is_none()) {
        return Err("time_squeeze: no row of /proc/net/softnet_stat".to_owned());
    }
    let squeezed = case
        .report
        .cpus
        .iter()
        .filter_map(|cpu| Some((cpu, cpu.softnet?.time_squeeze)));
    let squeezed: Vec<(&Cpu, u64)> = squeezed.filter(|(_, n)| *n > 0).collect();
    if squeezed.is_empty() {
        return NOTHING;
    }
    let all = squeezed
        .iter()
        .fold(0, |sum: u64, (_, n)| sum.saturating_add(*n));
    let sum = |field: fn(&Cpu) -> Option<u64>| {
        let known = squeezed.iter().filter_map(|(cpu, _)| field(cpu));
        known.reduce(u64::saturating_add)
    };
    let (by_budget, by_time) = (
        sum(|cpu| cpu.budget_exhausted),
        sum(|cpu| cpu.time_exhausted),
    );
    let limit = match (by_budget, by_time) {
        (Some(0) | None, Some(0) | None) => Limit::Unknown,
        (budget, time) if time.unwrap_or(0) > budget.unwrap_or(0) => Limit::Time,
        _ => Limit::Budget,
    };
    let beside = beside(case, &squeezed);
    let cpus = ranges(squeezed.iter().map(|(cpu, _)| cpu.cpu));
    let which = match limit {
        Limit::Budget => ", mostly at the packet budget",
        Limit::Time => ", mostly at the time limit",
        Limit::Unknown => "",
    };
    let verdict = match &beside {
        Some(beside) => format!("beside it: {beside}"),
        None => "no packet was lost by it".to_owned(),
    };
    let severity = if beside.is_some() {
        Severity::Warning
    } else {
        Severity::Info
    };
    let summary = format!(
        "NET_RX ended with work left {} on CPU {cpus}{which}; {verdict}",
        times(all)
    );
    let known = |n: Option<u64>| n.map_or_else(|| "not known".to_owned(), count);
    let found = Found::new(ID, severity, summary)
        .on(squeezed.iter().map(|(cpu, _)| cpu.cpu))
        .evidence(
            "time_squeeze",
            times(all),
            "/proc/net/softnet_stat, column 3",
        )
        .evidence(
            "runs that used up netdev_budget",
            known(by_budget),
            "net_rx_action, napi_poll",
        )
        .evidence(
            "runs that used up netdev_budget_usecs",
            known(by_time),
            "net_rx_action",
        );
    if beside.is_none() {
        return found
            .useless("larger budgets: nothing is lost that they could save")
            .alone();
    }
    match limit {
        Limit::Budget => found
            .advice(budget(case))
            .useless("netdev_budget_usecs: time was left"),
        Limit::Time => found
            .advice(usecs(case))
            .useless("a larger netdev_budget: the time runs out before the packets do"),
        Limit::Unknown => {
            found.useless("guessing: whether packets or time ran out is not known here")
        }
    }
    .useless("budgets of tens of milliseconds or more: they starve every task on the CPU")
    .alone()
}

/// What makes a squeeze matter: something lost or late on the same CPUs.
fn beside(case: Case<'_>, squeezed: &[(&Cpu, u64)]) -> Option<String> {
    let refused = case.refused();
    if let Some(packets) = squeezed.iter().find_map(|(cpu, _)| refused.get(&cpu.cpu)) {
        return Some(format!(
            "{} packets refused by a backlog there",
            count(*packets)
        ));
    }
    if let Some(device) = case
        .report
        .devices
        .iter()
        .find(|device| device.rx_missed > 0)
    {
        return Some(format!(
            "{} missed {} packets",
            device.name,
            count(device.rx_missed)
        ));
    }
    let late = |cpu: &Cpu| {
        let wait = cpu.net_rx_wait_ns?.p99 / 1_000;
        let runs = cpu.net_rx_runs? >= case.limit(Key::WaitRuns);
        (wait >= case.limit(Key::WaitP99) && runs).then_some(wait)
    };
    let worst = squeezed.iter().filter_map(|(cpu, _)| late(cpu)).max()?;
    Some(format!("NET_RX waited {} µs there (p99)", count(worst)))
}

fn budget(case: Case<'_>) -> Option<Advice> {
    let now = case.sysctl(BUDGET)?;
    let then = doubled(now)?;
    let advice = step(
        format!("Raise netdev_budget from {} to {}", count(now), count(then)),
        "runs ended because so many packets were polled, with time left",
    );
    Some(
        advice
            .command(sysctl(BUDGET, &then.to_string()))
            .sets([(Setting::sysctl(BUDGET), then.to_string())])
            .undo(sysctl(BUDGET, &now.to_string()))
            .risk("tasks on these CPUs wait longer"),
    )
}

fn usecs(case: Case<'_>) -> Option<Advice> {
    let now = case.sysctl(USECS)?;
    let cap = case.limit(Key::BudgetUsecsCap);
    if now >= cap {
        return Some(step(
            format!("Leave netdev_budget_usecs at {}", count(now)),
            format!(
                "it is at or above {} µs already; the CPU needs less work, not more time",
                count(cap)
            ),
        ));
    }
    let then = now.saturating_mul(2).min(cap);
    let advice = step(
        format!(
            "Raise netdev_budget_usecs from {} to {}",
            count(now),
            count(then)
        ),
        "runs ended because their time was over; the kernel measures it in ticks, so less than two ticks are none",
    );
    Some(
        advice
            .command(sysctl(USECS, &then.to_string()))
            .sets([(Setting::sysctl(USECS), then.to_string())])
            .undo(sysctl(USECS, &now.to_string()))
            .risk("tasks on these CPUs wait longer"),
    )
}
