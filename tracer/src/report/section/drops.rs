//! Drop sites: the harmful ones first, the ordinary ones apart.

use super::{dim, text, top_cpus};
use crate::analyze::{benign::is_benign, stage::words};
use crate::model::report::{Drop, PerCpu, Report};
use crate::report::number::{bytes, count, of, percent};
use crate::report::page::{Page, Span, Tone, span};
use crate::report::table::{Column, ESSENTIAL, Table};

/// At most `harmful` and `ordinary` sites of each sort.
pub fn sites(page: &mut Page, report: &Report, harmful: usize, ordinary: usize) {
    let (bad, fine): (Vec<&Drop>, Vec<&Drop>) = report.drops.iter().partition(|drop| !drop.benign);
    if !bad.is_empty() {
        part(page, "Drops", &bad, harmful, Tone::Alarm);
    }
    let totals = &report.drop_totals;
    if let Some(packets) = totals.unattributed.filter(|n| *n > 0) {
        let words = format!(
            "{} more at sites that found no room in the drop table (--drop-sites)",
            count(packets)
        );
        page.prose(&words, Tone::Alarm, 2);
    }
    if let Some(packets) = totals.other_devices.filter(|n| *n > 0) {
        let words = format!(
            "{} dropped outside the selected devices, not listed",
            of(packets, "packet")
        );
        page.prose(&words, Tone::Dim, 2);
    }
    if !fine.is_empty() {
        page.blank();
        part(page, "Ordinary drops", &fine, ordinary, Tone::Dim);
    }
}

fn part(page: &mut Page, title: &'static str, drops: &[&Drop], most: usize, tone: Tone) {
    let shown = if drops.len() > most + 1 {
        most
    } else {
        drops.len()
    };
    let all = drops
        .iter()
        .fold(0, |sum: u64, drop| sum.saturating_add(drop.packets));
    if page.style.is_wide() {
        one_line_each(
            page,
            title,
            drops.get(..shown).unwrap_or_default(),
            all,
            tone,
        );
    } else {
        two_lines_each(
            page,
            title,
            drops.get(..shown).unwrap_or_default(),
            all,
            tone,
        );
    }
    let rest = drops.get(shown..).unwrap_or_default();
    if !rest.is_empty() {
        let packets = rest
            .iter()
            .fold(0, |sum: u64, drop| sum.saturating_add(drop.packets));
        page.prose(
            &format!(
                "and {} more sites with {}",
                rest.len(),
                of(packets, "packet")
            ),
            Tone::Dim,
            2,
        );
    }
}

fn one_line_each(page: &mut Page, title: &'static str, drops: &[&Drop], all: u64, tone: Tone) {
    let mut table = Table::new([
        Column::number("packets", ESSENTIAL),
        Column::number("share", 4),
        Column::name(title, ESSENTIAL, 24),
        Column::name("reason", ESSENTIAL, 12),
        Column::name("stage", 3, 8),
        Column::name("device", ESSENTIAL, 8),
        Column::name("proto", 2, 5),
        Column::number("bytes", 5),
        Column::name("on CPU", ESSENTIAL, 8),
        Column::name("backlog of", 1, 8).if_any(),
    ]);
    for drop in drops {
        table.row([
            span(count(drop.packets), tone),
            text(percent(drop.packets, all)),
            text(site(drop)),
            text(drop.reason.as_deref().unwrap_or("?")),
            text(words(drop.stage)),
            text(device(drop)),
            text(&drop.protocol),
            text(bytes(drop.bytes)),
            text(top_cpus(&drop.per_cpu, 3)),
            text(
                drop.per_target_cpu
                    .as_ref()
                    .map(|targets| top_cpus(targets, 3))
                    .unwrap_or_default(),
            ),
        ]);
    }
    table.write(page, title);
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
        page.prose(
            &format!("{:width$}  {}", "", details(drop, all)),
            Tone::Dim,
            width + 2,
        );
    }
}

/// Everything about a drop but where and why.
fn details(drop: &Drop, all: u64) -> String {
    let mut parts = vec![
        words(drop.stage).to_owned(),
        device(drop),
        drop.protocol.clone(),
    ];
    parts.retain(|part| !part.is_empty());
    parts.push(bytes(drop.bytes));
    if drop.packets < all {
        parts.push(percent(drop.packets, all));
    }
    parts.push(cpus(&drop.per_cpu, drop.per_target_cpu.as_ref()));
    if drop.benign
        && let Some(why) = is_benign(function(drop), drop.reason.as_deref(), drop.stage)
    {
        parts.push(why.to_owned());
    }
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
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
        words += &format!(" → backlog of CPU {target}");
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
    let name = drop.device.as_deref().unwrap_or("no device");
    match &drop.netns {
        Some(netns) => format!("{name}@{netns}"),
        None => name.to_owned(),
    }
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
