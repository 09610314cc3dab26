//! A plan, what became of it, and what is applied, for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    Style,
    number::{count, of, span as length},
    page::{Page, Tone},
};
use crate::{
    model::setting::Setting,
    tune::{
        apply::Applied,
        baseline::Baseline,
        plan::{Cell, Plan},
        revert::Reverted,
        status::{Standing, Status},
    },
};

/// Columns of a CPU in the map.
const CELL: usize = 5;
/// Columns before the first CPU.
const MARGIN: usize = 10;

/// `12,345 of a million packets lost (…)`.
#[must_use]
pub fn losses(baseline: &Baseline) -> String {
    let Some(per_million) = baseline.per_million() else {
        return "no packets came".to_owned();
    };
    format!(
        "{} of {} lost in {}: {} of a million",
        count(baseline.lost),
        of(baseline.packets, "packet"),
        length(baseline.duration_ns),
        count(per_million)
    )
}

/// The plan.
#[must_use]
pub fn plan(plan: &Plan, style: &Style) -> String {
    let mut page = Page::new(*style);
    let changes = plan.changes().count();
    let first = if changes == 0 && plan.baseline.per_million().is_none() {
        "Cannot tell: no packets came".to_owned()
    } else if changes == 0 {
        "Nothing to do".to_owned()
    } else {
        format!(
            "{} for {}, in this order",
            of(changes as u64, "change"),
            plan.host.hostname
        )
    };
    page.plain(first, Tone::Strong);
    for note in &plan.notes {
        page.prose(note, Tone::Plain, 2);
    }
    page.prose(
        &format!("measured: {}", losses(&plan.baseline)),
        Tone::Dim,
        2,
    );
    for (at, step) in plan.steps.iter().enumerate() {
        page.blank();
        page.item(&format!("{}. ", at + 1), &step.title, Tone::Strong, 3);
        for change in &step.changes {
            let from = change.from.as_deref().unwrap_or("?");
            let words = format!(
                "{}: {from} → {}",
                change.setting,
                change.setting.brief(&change.to)
            );
            page.item("   ", &words, Tone::Plain, 5);
        }
        page.item("   why: ", &step.why, Tone::Plain, 5);
        page.item("   finding: ", &step.finding, Tone::Dim, 5);
        page.item("   effect: ", &step.effect, Tone::Plain, 5);
        if let Some(risk) = &step.risk {
            page.item("   risk: ", risk, Tone::Plain, 5);
        }
    }
    if !plan.by_hand.is_empty() {
        page.blank();
        page.plain("By hand", Tone::Strong);
    }
    for step in &plan.by_hand {
        let words = format!("{}: {}", step.step, step.why);
        page.item("- ", &words, Tone::Plain, 2);
        if let Some(command) = &step.command {
            page.command("  ", command, Tone::Strong);
        }
    }
    if changes > 0 {
        map(&mut page, plan);
    }
    page.finish()
}

fn map(page: &mut Page, plan: &Plan) {
    let has = |mark: char| {
        let mut cells = plan.cpus.iter();
        cells.any(|cell| cell.before.contains(mark) || cell.after.contains(mark))
    };
    let mut legend = Vec::new();
    if has('I') {
        legend.push("I interrupts".to_owned());
    }
    if has('R') {
        legend.push("R target of RPS".to_owned());
    }
    if has('A') {
        legend.push(format!("A {}", plan.applications.join(", ")));
    }
    if plan.cpus.iter().any(|cell| !cell.online) {
        legend.push("x offline".to_owned());
    }
    if legend.is_empty() {
        return;
    }
    page.blank();
    let words = format!("{}; siblings below each other", legend.join(", "));
    page.item("CPUs: ", &words, Tone::Plain, 2);
    page.plain("before", Tone::Strong);
    rows(page, &plan.cpus, |cell| &cell.before);
    page.plain("after", Tone::Strong);
    rows(page, &plan.cpus, |cell| &cell.after);
}

/// A line of CPU numbers and one of marks for each thread of the cores, node by node.
fn rows(page: &mut Page, cells: &[Cell], marks: impl Fn(&Cell) -> &String) {
    let nodes: BTreeSet<Option<u32>> = cells.iter().map(|cell| cell.node).collect();
    let columns = page.columns().saturating_sub(MARGIN) / CELL;
    for node in nodes {
        let mut cores: BTreeMap<u32, Vec<&Cell>> = BTreeMap::new();
        for cell in cells.iter().filter(|cell| cell.node == node) {
            cores.entry(cell.core).or_default().push(cell);
        }
        let cores: Vec<Vec<&Cell>> = cores.into_values().collect();
        let mut label = node.map_or_else(|| "CPU".to_owned(), |node| format!("node {node}"));
        for some in cores.chunks(columns.max(1)) {
            let threads = some.iter().map(Vec::len).max().unwrap_or(0);
            for thread in 0..threads {
                let mut ids = format!("  {label:<width$}", width = MARGIN - 2);
                let mut letters = " ".repeat(MARGIN);
                label.clear();
                for core in some {
                    let cell = core.get(thread);
                    let id = cell.map(|cell| cell.cpu.to_string()).unwrap_or_default();
                    let mark = match cell {
                        Some(cell) if !cell.online => "x",
                        Some(cell) if marks(cell).is_empty() => ".",
                        Some(cell) => marks(cell).as_str(),
                        None => "",
                    };
                    let _ = write!(ids, "{id:<CELL$}");
                    let _ = write!(letters, "{mark:<CELL$}");
                }
                page.plain(ids.trim_end(), Tone::Dim);
                page.plain(letters.trim_end(), Tone::Plain);
            }
        }
    }
}

/// What was applied.
#[must_use]
pub fn applied(applied: &Applied, style: &Style) -> String {
    let mut page = Page::new(*style);
    if applied.forgot {
        page.prose(
            "the journal was of the time before the last boot, which undid those changes: forgotten",
            Tone::Plain,
            2,
        );
    }
    let n = applied.changed.len();
    page.plain(format!("applied {}", of(n as u64, "change")), Tone::Strong);
    moves(&mut page, &applied.changed);
    settings(&mut page, "already so: ", &applied.already);
    page.finish()
}

/// What was taken back.
#[must_use]
pub fn reverted(reverted: &Reverted, style: &Style) -> String {
    let mut page = Page::new(*style);
    if reverted.rebooted {
        page.prose(
            "the host was rebooted since: the changes are gone with that boot, and their journal is removed",
            Tone::Plain,
            2,
        );
        return page.finish();
    }
    let n = reverted.restored.len();
    page.plain(format!("restored {}", of(n as u64, "value")), Tone::Strong);
    moves(&mut page, &reverted.restored);
    settings(&mut page, "original already: ", &reverted.already);
    settings(&mut page, "gone, nothing to restore: ", &reverted.gone);
    for (setting, cpus) in &reverted.given_up {
        let words = format!("{setting}: CPU {cpus}, where it was, is offline");
        page.item("left as it is: ", &words, Tone::Alarm, 2);
    }
    for (setting, now, left) in &reverted.foreign {
        let words = format!(
            "{setting} is {}: tracer had left {}, somebody else changed it since; --force restores it anyway",
            setting.brief(now),
            setting.brief(left)
        );
        page.item("left: ", &words, Tone::Alarm, 2);
    }
    for why in &reverted.failed {
        page.item("failed: ", why, Tone::Alarm, 2);
    }
    page.finish()
}

fn moves(page: &mut Page, moves: &[(Setting, String, String)]) {
    for (setting, from, to) in moves {
        let words = format!("{setting}: {} → {}", setting.brief(from), setting.brief(to));
        page.item("  ", &words, Tone::Plain, 4);
    }
}

fn settings(page: &mut Page, label: &str, settings: &[Setting]) {
    for setting in settings {
        page.item(label, &setting.to_string(), Tone::Plain, 2);
    }
}

/// What is applied.
#[must_use]
pub fn status(status: &Status, style: &Style) -> String {
    let mut page = Page::new(*style);
    if status.rebooted {
        page.prose(
            "nothing is applied: the host was rebooted since, and the changes are gone; tracer tune revert forgets them",
            Tone::Plain,
            2,
        );
        return page.finish();
    }
    for plan in &status.plans {
        let when = super::number::utc(plan.time_unix_ns);
        let words = if plan.done {
            format!("plan {} applied {when}", plan.id)
        } else {
            format!("plan {} begun {when} and interrupted", plan.id)
        };
        let words = format!("{words}; before it {}", losses(&plan.baseline));
        page.item("", &words, Tone::Strong, 2);
    }
    if let Some(netns) = status.netns {
        let words = format!(
            "applied in network namespace {netns}, which is not this one: its devices are not visible from here; enter it \
             with ip netns exec"
        );
        page.prose(&words, Tone::Alarm, 2);
    }
    for entry in &status.settings {
        let now = entry.now.as_deref().unwrap_or("gone");
        let (words, tone) = match entry.state {
            Standing::Applied => (format!("{now} (was {})", entry.original), Tone::Plain),
            Standing::Original => (
                format!("{now}, as before (applied: {})", entry.applied),
                Tone::Strong,
            ),
            Standing::Drifted => (
                format!(
                    "drifted: {now}, applied {}, before {}",
                    entry.applied, entry.original
                ),
                Tone::Alarm,
            ),
            Standing::Hidden => (
                format!("not visible from here (applied {})", entry.applied),
                Tone::Strong,
            ),
            Standing::Gone => (format!("gone (applied {})", entry.applied), Tone::Strong),
        };
        page.item(&format!("{}: ", entry.setting), &words, tone, 2);
    }
    page.finish()
}
