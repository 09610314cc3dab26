//! Rule 2: `NET_RX` ended with work left. By itself that is fairness, not loss.

use super::{
    case::{Case, doubled},
    command::sysctl,
    found::{Found, NOTHING, Verdict, With as _, step},
    threshold::Key,
    wait,
};
use crate::{
    kernel::hz::usecs_to_jiffies,
    model::{
        finding::{Advice, Severity},
        report::Cpu,
        setting::Setting,
    },
    report::number::{self, count, times},
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
    let cpus = number::cpus(squeezed.iter().map(|(cpu, _)| cpu.cpu));
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
        "NET_RX ended with work left {} on {cpus}{which}; {verdict}",
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
        Limit::Time => match usecs(case) {
            Some(Usecs::Raise(advice)) => found.advice([advice]),
            Some(Usecs::Useless(why)) => found.useless(why),
            None => found,
        }
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
    let is_here = |cpu: &u32| squeezed.iter().any(|(squeezed, _)| squeezed.cpu == *cpu);
    if let Some(device) = case
        .report
        .devices
        .iter()
        .filter(|device| device.rx_missed > 0)
        .find(|device| received_on(case, &device.name).iter().any(is_here))
    {
        return Some(format!(
            "{} missed {} packets",
            device.name,
            count(device.rx_missed)
        ));
    }
    let late = |cpu: &Cpu| {
        let wait = cpu.net_rx_wait_ns?.p99 / 1_000;
        case.is_late(cpu).then_some(wait)
    };
    let worst = squeezed.iter().filter_map(|(cpu, _)| late(cpu)).max()?;
    let cpus: Vec<&Cpu> = squeezed.iter().map(|(cpu, _)| *cpu).collect();
    if wait::is_unseen(case, &cpus) {
        return None;
    }
    Some(format!("NET_RX waited {} µs there (p99)", count(worst)))
}

/// CPUs that polled `device`; those that its interrupts came to, where polls are not traced.
fn received_on(case: Case<'_>, device: &str) -> Vec<u32> {
    let polled = case.polled_by_cpu(device);
    if !polled.is_empty() {
        return polled.into_keys().collect();
    }
    let irqs = case.report.irqs.iter();
    let irqs = irqs.filter(|irq| irq.device.as_deref() == Some(device));
    irqs.flat_map(|irq| irq.per_cpu.keys().copied()).collect()
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
            .command(sysctl(case, BUDGET, &then.to_string()))
            .sets([(Setting::sysctl(BUDGET), then.to_string())])
            .undo(sysctl(case, BUDGET, &now.to_string()))
            .risk("tasks on these CPUs wait longer"),
    )
}

/// What is to be said of `netdev_budget_usecs`.
enum Usecs {
    Raise(Advice),
    Useless(String),
}

fn usecs(case: Case<'_>) -> Option<Usecs> {
    let now = case.sysctl(USECS)?;
    let cap = case.limit(Key::BudgetUsecsCap);
    if now >= cap {
        return Some(Usecs::Useless(format!(
            "a larger netdev_budget_usecs: it is at {} µs already; the CPU needs less work, not more time",
            count(now)
        )));
    }
    let tick_ns = case.host.tick_ns.unwrap_or(0);
    let then = now.saturating_mul(2).max(2 * tick_ns / 1_000).min(cap);
    if then <= now || tick_ns > 0 && ticks(then, tick_ns) <= ticks(now, tick_ns) {
        return Some(Usecs::Useless(format!(
            "a larger netdev_budget_usecs: the kernel measures it in ticks, here of {} µs, and up to {} µs no value \
             gives more of them than the {} µs of now",
            count(tick_ns / 1_000),
            count(cap),
            count(now)
        )));
    }
    let advice = step(
        format!(
            "Raise netdev_budget_usecs from {} to {}",
            count(now),
            count(then)
        ),
        "runs ended because their time was over; the kernel measures it in ticks, so less than two ticks are none",
    );
    Some(Usecs::Raise(
        advice
            .command(sysctl(case, USECS, &then.to_string()))
            .sets([(Setting::sysctl(USECS), then.to_string())])
            .undo(sysctl(case, USECS, &now.to_string()))
            .risk("tasks on these CPUs wait longer"),
    ))
}

fn ticks(usecs: u64, tick_ns: u64) -> u64 {
    usecs_to_jiffies(u32::try_from(usecs).unwrap_or(u32::MAX), tick_ns)
}
