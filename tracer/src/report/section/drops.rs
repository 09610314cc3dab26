//! Drop sites: the harmful ones first, the ordinary ones apart.

use std::fmt::Write as _;

use super::{dim, text, top_cpus};
use crate::analyze::{answer::device_of, benign::is_benign, stage::words};
use crate::model::report::{Drop, PerCpu, Report, Stage};
use crate::report::number::{bytes, count, of, percent};
use crate::report::page::{Page, Span, Tone, span};
use crate::report::table::{Column, ESSENTIAL, Table};

/// At most `harmful` and `ordinary` sites of each sort.
pub fn sites(page: &mut Page, report: &Report, harmful: usize, ordinary: usize) {
    let (bad, fine): (Vec<&Drop>, Vec<&Drop>) = report.drops.iter().partition(|drop| !drop.benign);
    let is_wide = page.style.is_wide();
    if !bad.is_empty() {
        let (shown, rest) = split(&bad, harmful);
        if is_wide {
            one_line_each(page, "dropped at", shown, total(&bad), Tone::Alarm);
        } else {
            two_lines_each(page, "Drops", shown, total(&bad), Tone::Alarm);
        }
        others(page, rest);
    }
    not_listed(page, report);
    if !fine.is_empty() {
        page.blank();
        let (shown, rest) = split(&fine, ordinary);
        if is_wide {
            one_line_each(page, "ordinary drop at", shown, total(&fine), Tone::Dim);
        } else {
            two_lines_each(page, "Ordinary drops", shown, total(&fine), Tone::Dim);
        }
        others(page, rest);
    }
}

/// At most `rows` harmful sites, one line each whatever the width; the ordinary ones in one line.
pub fn compact(page: &mut Page, report: &Report, rows: usize) {
    let bad: Vec<&Drop> = report.drops.iter().filter(|drop| !drop.benign).collect();
    if !bad.is_empty() {
        let (shown, rest) = split(&bad, rows);
        let mut table = Table::new([
            Column::number("packets", ESSENTIAL),
            Column::name("dropped at", ESSENTIAL, 20),
            Column::name("reason", ESSENTIAL, 0),
            Column::name("device", 1, 8),
            Column::name("on CPU", 3, 0),
            Column::name("backlog of", 2, 0).if_given(),
        ]);
        for drop in shown {
            table.row([
                span(count(drop.packets), Tone::Alarm),
                text(&drop.site),
                text(drop.reason.as_deref().unwrap_or("-")),
                text(device(drop)),
                text(top_cpus(&drop.per_cpu, 1)),
                text(
                    drop.per_target_cpu
                        .as_ref()
                        .map(|targets| top_cpus(targets, 1))
                        .unwrap_or_default(),
                ),
            ]);
        }
        table.write(page, "drops");
        others(page, rest);
    }
    not_listed(page, report);
    let ordinary = worst(report, true);
    if !ordinary.is_empty() {
        page.list("ordinary:", &ordinary);
    }
}

fn not_listed(page: &mut Page, report: &Report) {
    let totals = &report.drop_totals;
    if let Some(packets) = totals.unattributed.filter(|n| *n > 0) {
        let words = format!(
            "{} more at unknown sites: the drop table was full (--drop-sites)",
            count(packets)
        );
        page.prose(&words, Tone::Alarm, 2);
    }
    if let Some(packets) = totals.other_devices.filter(|n| *n > 0) {
        let words = format!(
            "{} dropped outside the selected devices, ordinary ones included, not listed",
            of(packets, "packet")
        );
        page.prose(&words, Tone::Dim, 2);
    }
}

/// The first `most`, or all if only one were left.
fn split<'a>(drops: &'a [&'a Drop], most: usize) -> (&'a [&'a Drop], &'a [&'a Drop]) {
    let shown = if drops.len() > most + 1 {
        most
    } else {
        drops.len()
    };
    drops.split_at(shown)
}

fn total(drops: &[&Drop]) -> u64 {
    drops
        .iter()
        .fold(0, |sum: u64, drop| sum.saturating_add(drop.packets))
}

fn others(page: &mut Page, rest: &[&Drop]) {
    if !rest.is_empty() {
        let words = format!(
            "and {} more sites with {}",
            rest.len(),
            of(total(rest), "packet")
        );
        page.prose(&words, Tone::Dim, 2);
    }
}

fn one_line_each(page: &mut Page, title: &'static str, drops: &[&Drop], all: u64, tone: Tone) {
    let mut table = Table::new([
        Column::number("packets", ESSENTIAL),
        Column::number("share", 7),
        Column::name(title, ESSENTIAL, 24),
        Column::name("reason", ESSENTIAL, 0),
        Column::name("stage", 3, 8),
        Column::name("device", 2, 10),
        Column::name("proto", 5, 6),
        Column::number("bytes", 8),
        Column::name("on CPU", 1, 0),
        Column::name("backlog of", 1, 0).if_given(),
        Column::name("because", 4, 0).if_given(),
    ]);
    for drop in drops {
        let targets = drop
            .per_target_cpu
            .as_ref()
            .map(|targets| top_cpus(targets, 2));
        table.row([
            span(count(drop.packets), tone),
            text(percent(drop.packets, all)),
            text(site(drop)),
            text(drop.reason.as_deref().unwrap_or("-")),
            text(words(drop.stage)),
            text(device(drop)),
            text(&drop.protocol),
            text(bytes(drop.bytes)),
            text(top_cpus(&drop.per_cpu, 2)),
            text(targets.unwrap_or_default()),
            text(because(drop).unwrap_or_default()),
        ]);
    }
    table.write(page, "drops");
}

fn two_lines_each(page: &mut Page, title: &'static str, drops: &[&Drop], all: u64, tone: Tone) {
    page.plain(title, Tone::Strong);
    let width = drops
        .iter()
        .map(|drop| count(drop.packets).len())
        .max()
        .unwrap_or(0)
        .max(7);
    for drop in drops {
        let reason = drop.reason.as_deref().unwrap_or("no reason given");
        let room = page
            .style
            .columns()
            .saturating_sub(width + 4 + reason.chars().count());
        let place = page.style.fit(&page.style.clean(&site(drop)), room.max(20));
        page.line(&[
            span(format!("{:>width$}", count(drop.packets)), tone),
            text(format!("  {place}  ")),
            text(reason),
        ]);
        page.item(
            &" ".repeat(width + 2),
            &details(drop, all),
            Tone::Dim,
            width + 2,
        );
    }
}

/// Everything about a drop but where and why.
fn details(drop: &Drop, all: u64) -> String {
    let mut parts = vec![device(drop), drop.protocol.clone()];
    if drop.stage != Stage::Other {
        parts.insert(0, words(drop.stage).to_owned());
    }
    parts.push(bytes(drop.bytes));
    if drop.packets < all {
        parts.push(percent(drop.packets, all));
    }
    parts.push(cpus(&drop.per_cpu, drop.per_target_cpu.as_ref()));
    parts.extend(because(drop).map(str::to_owned));
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// Why an ordinary drop is one.
fn because(drop: &Drop) -> Option<&'static str> {
    if !drop.benign {
        return None;
    }
    is_benign(function(drop), drop.reason.as_deref(), drop.stage)
}

/// `on CPU 1 → backlog of CPU 0`.
fn cpus(executing: &PerCpu, target: Option<&PerCpu>) -> String {
    let on = top_cpus(executing, 2);
    let mut words = if on.is_empty() {
        String::new()
    } else {
        format!("on CPU {on}")
    };
    if let Some(target) = target
        .map(|target| top_cpus(target, 2))
        .filter(|target| !target.is_empty())
    {
        let _ = write!(words, " → backlog of CPU {target}");
    }
    words.trim_start().to_owned()
}

/// Function and offset.
pub fn site(drop: &Drop) -> String {
    let offset = drop
        .offset
        .map(|offset| format!("+{offset:#x}"))
        .unwrap_or_default();
    match drop.site.split_once(" [") {
        Some((function, module)) => format!("{function}{offset} [{module}"),
        None => format!("{}{offset}", drop.site),
    }
}

fn function(drop: &Drop) -> &str {
    drop.site
        .split_once(" [")
        .map_or(&drop.site, |(function, _)| function)
}

/// `eth1@receiver`; the namespace only if it is not tracer's own.
fn device(drop: &Drop) -> String {
    let name = device_of(drop);
    // A namespace alone still says where.
    name.unwrap_or_else(|| match &drop.netns {
        Some(netns) => format!("no device@{netns}"),
        None => "no device".to_owned(),
    })
}

/// The worst sites, for a line of text.
pub fn worst(report: &Report, benign: bool) -> Vec<Span> {
    let tone = if benign { Tone::Dim } else { Tone::Alarm };
    let words = |drop: &Drop| {
        let reason = drop
            .reason
            .as_ref()
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default();
        span(
            format!(
                "{} {}{reason} on {}",
                count(drop.packets),
                drop.site,
                device(drop)
            ),
            tone,
        )
    };
    report
        .drops
        .iter()
        .filter(|drop| drop.benign == benign && drop.packets > 0)
        .map(words)
        .collect()
}

/// What `kfree_skb` would have told, were it there.
pub fn unknown(page: &mut Page, report: &Report) {
    if report.drop_totals.packets.is_none() {
        page.line(&[dim(
            "Drops: not traced, see hooks; only the kernel's own counters speak",
        )]);
    }
}
