//! A comparison as text: the verdict first, then the numbers it rests on.

use super::{
    number,
    page::{Page, Span, Style, Tone, span},
    table::{Column, ESSENTIAL, Table},
};
use crate::{
    analyze::compare::{Change, Comparison, Run, Told, Verdict, rate},
    model::report::Percentiles,
};

/// Causes, CPUs and settings shown at most, of each.
const ROWS: usize = 24;
/// Percent of `NET_RX` time below which a CPU has no row.
const SHARE: f64 = 0.5;

/// All of it; the first line is the verdict.
#[must_use]
pub fn render(comparison: &Comparison, style: &Style) -> String {
    let mut page = Page::new(*style);
    let tone = match comparison.verdict {
        Verdict::Worse | Verdict::NotComparable => Tone::Alarm,
        _ => Tone::Strong,
    };
    page.prose(&comparison.summary, tone, 2);
    let (before, after) = (&comparison.before, &comparison.after);
    for (label, run) in [("before: ", before), ("after: ", after)] {
        page.item(label, &origin(run), Tone::Plain, 2);
    }
    page.blank();
    numbers(&mut page, comparison, style);
    page.blank();
    // The facts stand for themselves; what is to be read as a change needs comparable runs.
    if comparison.verdict != Verdict::NotComparable {
        causes(&mut page, comparison);
        page.blank();
        shares(&mut page, comparison);
        page.blank();
    }
    changes(&mut page, &comparison.settings);
    page.blank();
    told(&mut page, "Findings gone", &comparison.findings.gone);
    told(&mut page, "Findings new", &comparison.findings.new);
    told(&mut page, "Findings kept", &comparison.findings.kept);
    page.finish()
}

fn origin(run: &Run) -> String {
    format!(
        "{}, Linux {}; {}, {}",
        run.host,
        run.kernel,
        number::utc(run.start_unix_ns),
        number::span(run.duration_ns)
    )
}

fn plain(text: impl Into<String>) -> Span {
    span(text, Tone::Plain)
}

fn numbers(page: &mut Page, comparison: &Comparison, style: &Style) {
    let mut table = Table::new([
        Column::name("what", ESSENTIAL, 20),
        Column::number("before", ESSENTIAL),
        Column::number("after", ESSENTIAL),
    ]);
    let (before, after) = (&comparison.before, &comparison.after);
    let mut row = |what: &str, of: &dyn Fn(&Run) -> String| {
        table.row([plain(what), plain(of(before)), plain(of(after))]);
    };
    let count = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), number::count);
    row("packets", &|run| number::count(run.packets));
    row("packets a second", &|run| rate(Some(run.packets_per_s)));
    row("drops", &|run| count(run.drops));
    row("drops per million packets", &|run| {
        rate(run.drops_per_million)
    });
    row("missed by the NIC per million", &|run| {
        rate(run.missed_per_million)
    });
    row("hard IRQs per thousand packets", &|run| {
        rate(run.hardirqs_per_thousand)
    });
    let time = |percentiles: Option<Percentiles>, of: fn(Percentiles) -> u64| {
        percentiles.map_or_else(
            || "?".to_owned(),
            |p| number::duration(of(p), style.unicode),
        )
    };
    row("NET_RX wait p50", &|run| {
        time(run.net_rx_wait_ns, |p| p.p50)
    });
    row("NET_RX wait p99", &|run| {
        time(run.net_rx_wait_ns, |p| p.p99)
    });
    row("NET_RX wait p99.9", &|run| {
        time(run.net_rx_wait_ns, |p| p.p999)
    });
    row("NET_RX run p50", &|run| time(run.net_rx_run_ns, |p| p.p50));
    row("NET_RX run p99", &|run| time(run.net_rx_run_ns, |p| p.p99));
    row("NET_RX run p99.9", &|run| {
        time(run.net_rx_run_ns, |p| p.p999)
    });
    table.write(page, "numbers");
    let from = format!("packets: {}", comparison.packets_from);
    page.prose(&from, Tone::Dim, 2);
}

fn causes(page: &mut Page, comparison: &Comparison) {
    let mut table = Table::new([
        Column::number("before", ESSENTIAL),
        Column::number("after", ESSENTIAL),
        Column::name("drops per million at", ESSENTIAL, 20),
        Column::name("reason", ESSENTIAL, 10),
    ]);
    for cause in comparison.causes.iter().take(ROWS) {
        table.row([
            plain(rate(cause.before_per_million)),
            plain(rate(cause.after_per_million)),
            plain(&cause.site),
            plain(cause.reason.as_deref().unwrap_or("-")),
        ]);
    }
    if !comparison.causes.is_empty() {
        table.write(page, "causes");
    }
    more(page, comparison.causes.len(), "cause");
}

fn shares(page: &mut Page, comparison: &Comparison) {
    let mut table = Table::new([
        Column::name("NET_RX time of", ESSENTIAL, 8),
        Column::number("before", ESSENTIAL),
        Column::number("after", ESSENTIAL),
    ]);
    let cpus = comparison.cpus.iter();
    let shown: Vec<_> = cpus
        .filter(|cpu| cpu.before.max(cpu.after) >= SHARE)
        .collect();
    for cpu in shown.iter().take(ROWS) {
        let percent = |share: f64| format!("{share:.0} %");
        table.row([
            plain(format!("CPU {}", cpu.cpu)),
            plain(percent(cpu.before)),
            plain(percent(cpu.after)),
        ]);
    }
    if !shown.is_empty() {
        table.write(page, "CPUs");
    }
    more(page, shown.len(), "CPU");
}

fn changes(page: &mut Page, changes: &[Change]) {
    if changes.is_empty() {
        page.plain(
            "Settings: none of those that are recorded differs",
            Tone::Plain,
        );
        return;
    }
    page.plain("Settings that differ", Tone::Strong);
    for change in changes.iter().take(ROWS) {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let (before, after) = (value(&change.before), value(&change.after));
        let label = format!("  {}: ", change.setting);
        page.item(&label, &format!("{before} → {after}"), Tone::Plain, 4);
    }
    more(page, changes.len(), "setting");
}

fn told(page: &mut Page, title: &str, findings: &[Told]) {
    if findings.is_empty() {
        return;
    }
    page.plain(title, Tone::Strong);
    for finding in findings {
        let label = format!("  {}: ", finding.rule);
        page.item(&label, &finding.summary, Tone::Plain, 4);
    }
}

fn more(page: &mut Page, all: usize, noun: &str) {
    if let Some(rest) = all.checked_sub(ROWS + 1) {
        let rest = number::of(rest as u64 + 1, noun);
        page.plain(format!("and {rest} more (--format json)"), Tone::Dim);
    }
}
