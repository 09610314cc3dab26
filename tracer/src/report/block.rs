//! One interval in a few lines, for a stdout that is no terminal.

use super::page::{Page, Style, Tone};
use super::{number, section};
use crate::model::report::Report;

/// Lines of a block at most.
pub const LINES: usize = 8;

/// At most [`LINES`] lines, the first the answer, the last the losses; no empty line.
#[must_use]
pub fn render_block(report: &Report, style: &Style) -> String {
    let mut page = Page::new(*style);
    section::header::answer_line(&mut page, report);
    page.truncate(3);
    page.plain(
        format!(
            "{}, {}",
            number::utc(report.start_unix_ns),
            number::span(report.duration_ns)
        ),
        Tone::Dim,
    );
    let lists = [
        ("drops:", section::drops::worst(report, false)),
        ("NET_RX:", section::cpus::net_rx_shares(report)),
        ("hard IRQs:", section::irqs::busiest(report)),
        ("ordinary:", section::drops::worst(report, true)),
    ];
    for (label, items) in lists.iter().filter(|(_, items)| !items.is_empty()) {
        page.list(label, items);
    }
    page.truncate(LINES - 1);
    page.plain(section::losses::summary(&report.losses), Tone::Plain);
    page.finish()
}
