//! What tracer itself did not see. Always told, also when it is nothing.

use std::fmt::Write as _;

use crate::model::report::{Losses, Report};
use crate::report::number::{count, of};
use crate::report::page::{Page, Tone};

/// `lost: …`, every cause by name, and what `--detail-rate` left out.
pub fn lines(page: &mut Page, report: &Report) {
    let losses = &report.losses;
    let tone = if any(losses) {
        Tone::Alarm
    } else {
        Tone::Plain
    };
    if losses.recursion_missed.is_none() {
        page.has_unknown();
    }
    page.prose(&summary(losses), tone, 6);
    if losses.ring_full > 0 {
        page.item(
            "      ",
            "a full ring loses single events only, counts are exact; see --ring-size",
            Tone::Plain,
            6,
        );
    }
    if losses.detail_limited > 0 {
        let words = format!(
            "by request: {} left out (--detail-rate); counts are exact",
            of(losses.detail_limited, "single event")
        );
        page.prose(&words, Tone::Dim, 2);
    }
}

/// The line that every report ends with.
pub fn summary(losses: &Losses) -> String {
    let recursion = losses
        .recursion_missed
        .map_or_else(|| "?".to_owned(), count);
    let tables = if losses.map_full > 0 {
        let (irq, napi, drop) = (
            losses.irq_table_full,
            losses.napi_table_full,
            losses.drop_table_full,
        );
        format!(
            "{} (irq {}, napi {}, drop {})",
            count(losses.map_full),
            count(irq),
            count(napi),
            count(drop)
        )
    } else {
        "0".to_owned()
    };
    let mut causes = format!(
        "ring {}, tables {tables}, recursion {recursion}, unreadable {}",
        count(losses.ring_full),
        count(losses.unreadable)
    );
    if losses.net_rx_nested > 0 {
        let _ = write!(causes, ", nested {}", count(losses.net_rx_nested));
    }
    if losses.undecodable > 0 {
        let _ = write!(causes, ", undecodable {}", count(losses.undecodable));
    }
    if any(losses) {
        return format!("lost: {causes}");
    }
    let nothing = if losses.recursion_missed.is_some() {
        "nothing"
    } else {
        "nothing known"
    };
    format!("lost: {nothing} ({causes})")
}

fn any(losses: &Losses) -> bool {
    losses.ring_full > 0
        || losses.map_full > 0
        || losses.net_rx_nested > 0
        || losses.recursion_missed.is_some_and(|n| n > 0)
        || losses.unreadable > 0
        || losses.undecodable > 0
}
