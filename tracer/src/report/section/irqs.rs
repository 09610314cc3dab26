//! Device interrupts by CPU, and the architecture's own.

use super::{duration, nothing, number, sum, text, top_cpus};
use crate::model::report::{ArchIrq, Irq, Report};
use crate::report::number::{count, of, percent, times};
use crate::report::page::{Page, Span, Tone};
use crate::report::table::{Column, ESSENTIAL, Table};

/// Vectors that tell about packets: timer, reschedule, function call.
const TELLING: [&str; 3] = ["LOC", "RES", "CAL"];

/// At most `rows` device interrupts, and what the others add up to.
pub fn table(page: &mut Page, report: &Report, rows: usize) {
    if report.irqs.is_empty() {
        return;
    }
    let shown = if report.irqs.len() > rows + 1 {
        rows
    } else {
        report.irqs.len()
    };
    let wide = page.style.is_wide();
    let mut table = Table::new([
        Column::number("IRQ", ESSENTIAL),
        Column::name("name", ESSENTIAL, 18),
        Column::name("device", 4, 8).if_given(),
        Column::number("queue", 5).if_given(),
        Column::number("node", 6).if_given(),
        Column::number("count", ESSENTIAL),
        Column::name("on CPU", ESSENTIAL, 0),
        Column::number("mean", 2),
        Column::number("max", 1),
        Column::name("affinity", ESSENTIAL, 8),
    ]);
    for irq in report.irqs.iter().take(shown) {
        table.row(row(irq, if wide { 5 } else { 1 }, report.host.nodes > 1));
    }
    table.write(page, "IRQs");
    if let Some((_, rest)) = report
        .irqs
        .split_at_checked(shown)
        .filter(|(_, rest)| !rest.is_empty())
    {
        let interrupts = sum(rest.iter().map(|irq| Some(irq.count))).unwrap_or(0);
        let words = format!(
            "and {} more {} with {} together",
            rest.len(),
            if rest.len() == 1 { "IRQ" } else { "IRQs" },
            of(interrupts, "interrupt")
        );
        page.prose(&words, Tone::Dim, 2);
    }
}

fn row(irq: &Irq, most: usize, nodes: bool) -> [Span; 10] {
    let node = match irq.node {
        Some(node) if nodes => text(node.to_string()),
        _ => nothing(),
    };
    [
        text(irq.irq.to_string()),
        text(&irq.name),
        text(irq.device.clone().unwrap_or_default()),
        text(irq.queue.map(|queue| queue.to_string()).unwrap_or_default()),
        node,
        number(Some(irq.count)),
        text(top_cpus(&irq.per_cpu, most)),
        duration(irq.handler_ns.map(|time| time.mean)),
        duration(irq.handler_ns.and_then(|time| time.max)),
        text(affinity(irq)),
    ]
}

/// The mask, and behind an arrow what the hardware does with it where that is something else.
fn affinity(irq: &Irq) -> String {
    match (&irq.affinity, &irq.effective_affinity) {
        (Some(asked), Some(effective)) if asked == effective => asked.clone(),
        (Some(asked), Some(effective)) => format!("{asked} → {effective}"),
        (Some(asked), None) => asked.clone(),
        (None, Some(effective)) => format!("? → {effective}"),
        (None, None) => "?".to_owned(),
    }
}

/// Timer, reschedule and function calls by CPU; the others in one line.
pub fn vectors(page: &mut Page, report: &Report) {
    if report.arch_irqs.is_empty() {
        return;
    }
    let most = if page.style.is_wide() { 6 } else { 3 };
    let mut table = Table::new([
        Column::name("vector", ESSENTIAL, 6),
        Column::name("what", ESSENTIAL, 12),
        Column::number("count", ESSENTIAL),
        Column::name("on CPU", ESSENTIAL, 0),
    ]);
    let telling: Vec<&ArchIrq> = TELLING
        .iter()
        .filter_map(|name| report.arch_irqs.iter().find(|irq| irq.name == *name))
        .collect();
    for irq in &telling {
        table.row([
            text(&irq.name),
            text(&irq.description),
            number(Some(irq.count)),
            text(top_cpus(&irq.per_cpu, most)),
        ]);
    }
    if !telling.is_empty() {
        table.write(page, "vectors");
    }
    let others: Vec<Span> = report
        .arch_irqs
        .iter()
        .filter(|irq| irq.count > 0 && !TELLING.contains(&irq.name.as_str()))
        .map(|irq| text(format!("{} {}", irq.name, count(irq.count))))
        .collect();
    if !others.is_empty() {
        page.list("other vectors:", &others);
    }
    let woken = sum(report
        .cpus
        .iter()
        .map(|cpu| Some(cpu.softnet.and_then(|row| row.received_rps).unwrap_or(0))));
    if let Some(woken) = woken.filter(|woken| *woken > 0) {
        let words = format!(
            "RPS woke its target CPUs {} (received_rps), each time by a CAL",
            times(woken)
        );
        page.prose(&words, Tone::Plain, 2);
    }
}

/// The busiest interrupts, for a line of text.
pub fn busiest(report: &Report) -> Vec<Span> {
    let all = sum(report.irqs.iter().map(|irq| Some(irq.count))).unwrap_or(0);
    let words = |irq: &Irq| {
        text(format!(
            "{} {} {} on CPU {}",
            irq.irq,
            irq.name,
            percent(irq.count, all),
            top_cpus(&irq.per_cpu, 1)
        ))
    };
    report.irqs.iter().map(words).collect()
}
