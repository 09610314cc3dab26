//! One refresh of a full screen.

use super::page::{Page, Style, Tone};
use super::section;
use crate::model::report::Report;

/// The report in at most `height` lines, the answer first and the losses last. The caller clears
/// the screen and prints it.
#[must_use]
pub fn screen(report: &Report, style: &Style, height: usize) -> String {
    let mut page = Page::new(*style);
    section::header::answer_line(&mut page, report);
    section::header::host_line(&mut page, report);
    let mut foot = Page::new(*style);
    section::hooks::only_missing(&mut foot, report);
    foot.prose(&section::losses::summary(&report.losses), Tone::Plain, 6);
    // Drops are why one looks; CPUs say where; interrupts get what is left.
    let body = height.saturating_sub(page.len() + foot.len());
    page.blank();
    section::drops::unknown(&mut page, report);
    section::drops::compact(&mut page, report, (body / 3).saturating_sub(3).max(1));
    page.blank();
    let left = height.saturating_sub(page.len() + foot.len());
    section::cpus::table(&mut page, report, (left * 3 / 5).saturating_sub(4).max(1));
    page.blank();
    let left = height.saturating_sub(page.len() + foot.len());
    section::irqs::table(&mut page, report, left.saturating_sub(3).max(1));
    page.truncate(height.saturating_sub(foot.len()).max(1));
    let mut text = page.finish();
    text.push_str(&foot.finish());
    text.truncate(text.trim_end_matches('\n').len());
    text
}
