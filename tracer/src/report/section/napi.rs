//! NAPI instances that were polled.

use super::{number, text, top_cpus};
use crate::analyze::answer::named;
use crate::model::report::Report;
use crate::report::number::{of, ratio};
use crate::report::page::{Page, Tone};
use crate::report::table::{Column, ESSENTIAL, Table};

/// At most `rows` instances, and what the others add up to.
pub fn table(page: &mut Page, report: &Report, rows: usize) {
    if report.napi.is_empty() {
        return;
    }
    let shown = if report.napi.len() > rows + 1 {
        rows
    } else {
        report.napi.len()
    };
    let mut table = Table::new([
        Column::name("NAPI", ESSENTIAL, 10),
        Column::number("id", 4),
        Column::number("polls", ESSENTIAL),
        Column::number("packets", ESSENTIAL),
        Column::number("pkts/poll", 2),
        Column::number("full budget", 1),
        Column::name("on CPU", ESSENTIAL, 0),
    ]);
    for napi in report.napi.iter().take(shown) {
        table.row([
            text(named(&napi.device, napi.netns.as_deref())),
            text(
                napi.napi_id
                    .map_or_else(|| "-".to_owned(), |id| id.to_string()),
            ),
            number(Some(napi.polls)),
            number(Some(napi.packets)),
            text(if napi.polls == 0 {
                "-".to_owned()
            } else {
                ratio(napi.packets, napi.polls)
            }),
            number(Some(napi.full_budget)),
            text(top_cpus(
                &napi.per_cpu,
                if page.style.is_wide() { 6 } else { 2 },
            )),
        ]);
    }
    table.write(page, "NAPI");
    let rest = &report.napi[shown..];
    if !rest.is_empty() {
        let packets = rest
            .iter()
            .fold(0, |sum: u64, napi| sum.saturating_add(napi.packets));
        page.prose(
            &format!(
                "and {} more with {} together",
                rest.len(),
                of(packets, "packet")
            ),
            Tone::Dim,
            2,
        );
    }
}
