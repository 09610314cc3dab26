//! What each CPU did: hard IRQs, `NET_RX`, drops, and the kernel's own row for it.

use super::{duration, harm, nothing, number, sum, text};
use crate::model::report::{Cpu, Napi, PerCpu, Report};
use crate::report::bar::bar;
use crate::report::number::{count, cpus, of, percent, ratio, times};
use crate::report::page::{Page, Span, Tone, span};
use crate::report::table::{Column, ESSENTIAL, Table};

/// At most `rows` CPUs, the busiest, in the order of their ids; the others as one row.
pub fn table(page: &mut Page, report: &Report, rows: usize) -> Omitted {
    let busy = busiest(report, rows);
    let rest: Vec<&Cpu> = report
        .cpus
        .iter()
        .filter(|cpu| !busy.iter().any(|one| one.cpu == cpu.cpu))
        .collect();
    let whole = Whole {
        hardirqs: sum(report.cpus.iter().map(|cpu| cpu.hardirqs)).unwrap_or(0),
        net_rx_ns: sum(report.cpus.iter().map(|cpu| cpu.net_rx_ns)).unwrap_or(0),
        window_ns: report.duration_ns,
        bar: if page.style.is_wide() { 10 } else { 4 },
        nodes: report.host.nodes > 1,
    };
    let mut table = Table::new(COLUMNS);
    for cpu in &busy {
        table.row(row(text(label(cpu)), &[cpu], &whole, Some(cpu)));
    }
    if !rest.is_empty() {
        table.row(row(
            span(format!("+{}", rest.len()), Tone::Dim),
            &rest,
            &whole,
            None,
        ));
    }
    if report.cpus.len() > 1 {
        let all: Vec<&Cpu> = report.cpus.iter().collect();
        table.row(row(span("all", Tone::Dim), &all, &whole, None));
    }
    Omitted(table.write(page, "CPUs"))
}

/// Columns of the table that found no room.
pub struct Omitted(Vec<&'static str>);

/// What the table has no column or no room for: runs cut short, runs in ksoftirqd, refusals by the
/// flow limit, polls outside `NET_RX`.
pub fn remarks(page: &mut Page, report: &Report, omitted: &Omitted) {
    let squeezed = counted(report, |cpu| cpu.softnet.map(|row| row.time_squeeze));
    if !squeezed.is_empty() {
        let known = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), count);
        let words = format!(
            "NET_RX ended with work left {} on {} (time_squeeze): {} at netdev_budget, {} at netdev_budget_usecs",
            times(squeezed.values().fold(0, |sum, n| sum.saturating_add(*n))),
            cpus(squeezed.keys().copied()),
            known(sum(report.cpus.iter().map(|cpu| cpu.budget_exhausted))),
            known(sum(report.cpus.iter().map(|cpu| cpu.time_exhausted)))
        );
        if words.contains('?') {
            page.has_unknown();
        }
        page.prose(&words, Tone::Plain, 2);
    }
    if squeezed.is_empty() {
        used_up(page, report, omitted);
    }
    if omitted.0.contains(&"ksoftirqd") {
        let runs = |cpu: &&Cpu| {
            cpu.ksoftirqd_runs
                .filter(|n| *n > 0)
                .map(|n| (cpu.cpu, n, cpu.net_rx_runs))
        };
        let cpus = report.cpus.iter().filter_map(|cpu| runs(&cpu));
        let shares: Vec<Span> = cpus
            .map(|(cpu, n, all)| {
                let share = all
                    .map(|all| format!(" ({})", percent(n, all)))
                    .unwrap_or_default();
                text(format!("{} on CPU {cpu}{share}", count(n)))
            })
            .collect();
        if !shares.is_empty() {
            page.list("NET_RX runs in ksoftirqd:", &shares);
        }
    }
    let limited: Vec<&Cpu> = report
        .cpus
        .iter()
        .filter(|cpu| {
            cpu.softnet
                .and_then(|row| row.flow_limit)
                .is_some_and(|n| n > 0)
        })
        .collect();
    if !limited.is_empty() {
        let packets = sum(limited
            .iter()
            .map(|cpu| cpu.softnet.and_then(|row| row.flow_limit)))
        .unwrap_or(0);
        let words = format!(
            "RPS flow limit refused {}, steered by {}: not the size of the backlog",
            of(packets, "packet"),
            cpus(limited.iter().map(|cpu| cpu.cpu))
        );
        page.prose(&words, Tone::Alarm, 2);
    }
    let outside: Vec<&Cpu> = report
        .cpus
        .iter()
        .filter(|cpu| cpu.polls_outside_net_rx.is_some_and(|polls| polls > 0))
        .collect();
    polled_twice(page, report);
    if !outside.is_empty() {
        let words = format!(
            "Outside NET_RX (threaded NAPI or busy polling) on {}: {}, {}; not in the NET_RX columns",
            cpus(outside.iter().map(|cpu| cpu.cpu)),
            of(
                sum(outside.iter().map(|cpu| cpu.polls_outside_net_rx)).unwrap_or(0),
                "poll"
            ),
            of(
                sum(outside.iter().map(|cpu| cpu.packets_outside_net_rx)).unwrap_or(0),
                "packet"
            )
        );
        page.prose(&words, Tone::Plain, 2);
    }
}

/// What RPS steers is polled at the card, and once more at the backlog.
fn polled_twice(page: &mut Page, report: &Report) {
    let (backlogs, devices): (Vec<_>, Vec<_>) = report
        .napi
        .iter()
        .partition(|napi| napi.device == "backlog");
    let polled = |rows: &[&Napi]| sum(rows.iter().map(|napi| Some(napi.packets))).unwrap_or(0);
    let (again, first) = (polled(&backlogs), polled(&devices));
    if again > 0 && first > 0 {
        let words = format!(
            "packets: {} were polled by devices, {} by backlogs; one that RPS steers is polled by both and counted twice",
            count(first),
            count(again)
        );
        page.prose(&words, Tone::Dim, 2);
    }
}

/// Runs that used up their budget or their time, where they have no column.
fn used_up(page: &mut Page, report: &Report, omitted: &Omitted) {
    let parts = [
        (
            "by budget",
            "budget",
            counted(report, |cpu| cpu.budget_exhausted),
        ),
        ("by time", "time", counted(report, |cpu| cpu.time_exhausted)),
    ];
    let told: Vec<String> = parts
        .iter()
        .filter(|(column, _, runs)| omitted.0.contains(column) && !runs.is_empty())
        .map(|(_, what, runs)| {
            let all = runs.values().fold(0, |sum: u64, n| sum.saturating_add(*n));
            let on = cpus(runs.keys().copied());
            format!("{what} {} on {on}", times(all))
        })
        .collect();
    if !told.is_empty() {
        let words = format!("NET_RX runs used up their {}", told.join(", their "));
        page.prose(&words, Tone::Plain, 2);
    }
}

const COLUMNS: [Column; 19] = [
    Column::number("CPU", ESSENTIAL),
    Column::number("node", 5).if_given(),
    Column::number("hard IRQs", ESSENTIAL),
    Column::bar(ESSENTIAL),
    Column::number("IRQ time", 9),
    Column::number("NET_RX", ESSENTIAL),
    Column::bar(ESSENTIAL),
    Column::number("busy", 7),
    Column::number("runs", 6),
    Column::number("packets", ESSENTIAL),
    Column::number("pkts/run", 8),
    Column::number("wait p99", 1),
    Column::number("run p99", 2),
    Column::number("drops", ESSENTIAL),
    Column::number("refused", ESSENTIAL).if_any(),
    Column::number("squeezed", 4).if_any(),
    Column::number("by budget", 10).if_any(),
    Column::number("by time", 10).if_any(),
    Column::number("ksoftirqd", 3).if_any(),
];

/// CPUs whose `field` is more than 0.
fn counted(report: &Report, field: fn(&Cpu) -> Option<u64>) -> PerCpu {
    let counts = report
        .cpus
        .iter()
        .filter_map(|cpu| field(cpu).map(|n| (cpu.cpu, n)));
    counts.filter(|(_, n)| *n > 0).collect()
}

/// What shares are taken of.
struct Whole {
    hardirqs: u64,
    net_rx_ns: u64,
    window_ns: u64,
    bar: usize,
    nodes: bool,
}

/// One CPU, or the sum of several; `one` has what cannot be summed.
fn row(label: Span, cpus: &[&Cpu], whole: &Whole, one: Option<&Cpu>) -> [Span; 19] {
    let add = |field: fn(&Cpu) -> Option<u64>| sum(cpus.iter().map(|cpu| field(cpu)));
    let hardirqs = add(|cpu| cpu.hardirqs);
    let net_rx_ns = add(|cpu| cpu.net_rx_ns);
    let runs = add(|cpu| cpu.net_rx_runs);
    let packets = add(|cpu| cpu.packets);
    let is_sum = one.is_none();
    let percentile = |p: Option<u64>| match p {
        _ if is_sum => nothing(),
        // Nothing ran: nothing to measure.
        None if runs == Some(0) => text("-"),
        p => duration(p),
    };
    let share = |part: Option<u64>, all: u64| match part {
        Some(part) if !is_sum => text(bar(part, all, whole.bar)),
        _ => nothing(),
    };
    let per_run = match (packets, runs) {
        (Some(_), Some(0)) => "-".to_owned(),
        (Some(packets), Some(runs)) => ratio(packets, runs),
        _ => "?".to_owned(),
    };
    let busy = match net_rx_ns {
        _ if is_sum => nothing(),
        Some(ns) => text(percent(ns, whole.window_ns)),
        None => text("?"),
    };
    let ksoftirqd = match (add(|cpu| cpu.ksoftirqd_runs), runs) {
        (Some(0), _) => "0 %".to_owned(),
        (Some(part), Some(runs)) => percent(part, runs),
        _ => "?".to_owned(),
    };
    let node = match one {
        Some(cpu) if whole.nodes => text(
            cpu.node
                .map_or_else(|| "?".to_owned(), |node| node.to_string()),
        ),
        _ => nothing(),
    };
    let net_rx_time = if net_rx_ns == Some(0) {
        text("0")
    } else {
        duration(net_rx_ns)
    };
    let irq_ns = add(|cpu| cpu.hardirq_ns);
    [
        label,
        node,
        number(hardirqs),
        share(hardirqs, whole.hardirqs),
        if irq_ns == Some(0) {
            text("0")
        } else {
            duration(irq_ns)
        },
        net_rx_time,
        share(net_rx_ns, whole.net_rx_ns),
        busy,
        number(runs),
        number(packets),
        text(per_run),
        percentile(one.and_then(|cpu| cpu.net_rx_wait_ns).map(|p| p.p99)),
        percentile(one.and_then(|cpu| cpu.net_rx_run_ns).map(|p| p.p99)),
        number(add(|cpu| cpu.drops)),
        harm(add(|cpu| cpu.softnet.map(|row| row.dropped))),
        number(add(|cpu| cpu.softnet.map(|row| row.time_squeeze))),
        number(add(|cpu| cpu.budget_exhausted)),
        number(add(|cpu| cpu.time_exhausted)),
        text(ksoftirqd),
    ]
}

fn label(cpu: &Cpu) -> String {
    if cpu.online {
        cpu.cpu.to_string()
    } else {
        format!("off {}", cpu.cpu)
    }
}

fn busiest(report: &Report, rows: usize) -> Vec<&Cpu> {
    let mut cpus: Vec<&Cpu> = report.cpus.iter().collect();
    // Harm first, then work.
    cpus.sort_by_key(|cpu| {
        let refused = cpu.softnet.map_or(0, |row| row.dropped);
        std::cmp::Reverse((refused, cpu.net_rx_ns, cpu.hardirqs, cpu.drops))
    });
    // One row more says no less than "+1".
    if cpus.len() > rows + 1 {
        cpus.truncate(rows);
    }
    cpus.sort_by_key(|cpu| cpu.cpu);
    cpus
}

/// CPUs that had a part in `NET_RX`, the busiest first, for a line of text.
pub fn net_rx_shares(report: &Report) -> Vec<Span> {
    let whole = sum(report.cpus.iter().map(|cpu| cpu.net_rx_ns)).unwrap_or(0);
    let mut cpus: Vec<(&Cpu, u64)> = report
        .cpus
        .iter()
        .filter_map(|cpu| Some((cpu, cpu.net_rx_ns?)))
        .collect();
    cpus.retain(|(_, ns)| *ns > 0);
    cpus.sort_by_key(|(cpu, ns)| (std::cmp::Reverse(*ns), cpu.cpu));
    let words = |(at, (cpu, ns)): (usize, &(&Cpu, u64))| {
        let busy = percent(*ns, report.duration_ns);
        let share = percent(*ns, whole);
        let of_it = if at == 0 { " of it" } else { "" };
        text(format!("{share}{of_it} on CPU {} ({busy} busy)", cpu.cpu))
    };
    cpus.iter().enumerate().map(words).collect()
}
