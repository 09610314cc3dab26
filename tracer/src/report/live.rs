//! One refresh of a full screen.

use std::fmt::Write as _;

use super::page::{Page, Style, Tone, UNKNOWN};
use super::{number, section};
use crate::model::report::Report;

/// Below this height the lines about the run as a whole make room for the numbers.
const TALL: usize = 12;

/// The report in at most `height` lines: the answer first, then the numbers, the losses, and what happened
/// `since_start`. The caller clears the screen and prints it.
#[must_use]
pub fn screen(
    report: &Report,
    since_start: Option<&Report>,
    style: &Style,
    height: usize,
) -> String {
    let mut page = Page::new(*style);
    section::header::answer_line(&mut page, report);
    section::header::host_line(&mut page, report);
    let mut foot = Page::new(*style);
    section::hooks::only_missing(&mut foot, report);
    foot.prose(&section::losses::summary(&report.losses), Tone::Plain, 6);
    if report.losses.recursion_missed.is_none() {
        foot.has_unknown();
    }
    if height >= TALL
        && let Some(since_start) = since_start
    {
        foot.plain(so_far(since_start), Tone::Plain);
    }
    let last = usize::from(height >= TALL);
    let foot_lines = foot.len() + last;
    // Drops are why one looks; CPUs say where; interrupts get what is left.
    let body = height.saturating_sub(page.len() + foot_lines);
    page.blank();
    section::drops::unknown(&mut page, report);
    section::drops::compact(&mut page, report, (body / 3).saturating_sub(3).max(1));
    page.blank();
    let left = height.saturating_sub(page.len() + foot_lines);
    section::cpus::table(&mut page, report, (left * 3 / 5).saturating_sub(4).max(1));
    page.blank();
    let left = height.saturating_sub(page.len() + foot_lines);
    section::irqs::table(&mut page, report, left.saturating_sub(3).max(1));
    page.truncate(height.saturating_sub(foot_lines).max(1));
    if last == 1 {
        let mut words = "Ctrl-C ends and reports".to_owned();
        if page.shows_unknown() || foot.shows_unknown() {
            let _ = write!(words, "; {UNKNOWN}");
        }
        foot.plain(words, Tone::Dim);
    }
    let mut text = page.finish();
    text.push_str(&foot.finish());
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// `since start (5 s): 19,991 drops, 100,000 ordinary`.
fn so_far(report: &Report) -> String {
    let totals = &report.drop_totals;
    let mut words = format!("since start ({}): ", number::span(report.duration_ns));
    if totals.packets.is_none() {
        return words + "drops not traced";
    }
    let harmful = totals.harmful.unwrap_or(0);
    let unknown = totals.unattributed.unwrap_or(0);
    words += &number::of(harmful.saturating_add(unknown), "drop");
    let _ = write!(
        words,
        ", {} ordinary",
        number::count(totals.benign.unwrap_or(0))
    );
    if let Some(elsewhere) = totals.other_devices.filter(|n| *n > 0) {
        let _ = write!(words, ", {} elsewhere", number::count(elsewhere));
    }
    words
}
