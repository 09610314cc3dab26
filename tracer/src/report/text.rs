//! The whole report as text.

use super::page::{Page, Style, Tone};
use super::section;
use crate::model::report::Report;

/// CPUs that have a row of their own.
const CPUS: usize = 16;
/// Device interrupts, likewise.
const IRQS: usize = 10;
/// NAPI instances, likewise.
const NAPI: usize = 8;
/// Harmful drop sites, likewise.
const DROPS: usize = 12;
/// Ordinary drop sites, likewise.
const ORDINARY: usize = 5;
/// Devices, likewise.
const DEVICES: usize = 8;
/// Counters that differ, likewise.
const RESIDUALS: usize = 10;

/// The report of one window or the whole run; the first line is the answer.
#[must_use]
pub fn render(report: &Report, style: &Style) -> String {
    page(report, style, false)
}

/// The same, and the rules that could not judge.
#[must_use]
pub fn render_verbose(report: &Report, style: &Style) -> String {
    page(report, style, true)
}

fn page(report: &Report, style: &Style, says_more: bool) -> String {
    let mut page = Page::new(*style);
    section::header::answer_line(&mut page, report);
    section::header::host_line(&mut page, report);
    page.blank();
    section::findings::lines(&mut page, report);
    if says_more {
        section::findings::abstained(&mut page, report);
    }
    page.blank();
    section::drops::unknown(&mut page, report);
    section::drops::sites(&mut page, report, DROPS, ORDINARY);
    page.blank();
    let omitted = section::cpus::table(&mut page, report, CPUS);
    section::cpus::remarks(&mut page, report, &omitted);
    page.blank();
    section::irqs::table(&mut page, report, IRQS);
    page.blank();
    section::irqs::vectors(&mut page, report);
    page.blank();
    section::napi::table(&mut page, report, NAPI);
    page.blank();
    section::devices::table(&mut page, report, DEVICES);
    page.blank();
    section::witness::table(&mut page, report, RESIDUALS);
    section::hooks::lines(&mut page, &report.hooks);
    section::details::lines(&mut page, report);
    section::losses::lines(&mut page, report);
    for note in &report.notes {
        page.item("note: ", note, Tone::Plain, 6);
    }
    page.legend();
    page.finish()
}
