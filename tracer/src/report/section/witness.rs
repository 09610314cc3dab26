//! Traced counts beside the kernel's own: one line for those that agree, each one that does not.

use std::fmt::Write as _;

use super::{number, text};
use crate::model::report::{Reconciliation, Report};
use crate::report::number::signed;
use crate::report::page::{Page, Span, Tone, span};
use crate::report::table::{Column, ESSENTIAL, Table};

/// At most `rows` counters that differ, or that the kernel alone has.
pub fn table(page: &mut Page, report: &Report, rows: usize) {
    if report.reconciliation.is_empty() {
        return;
    }
    page.prose(&summary(report), Tone::Plain, 2);
    let worth: Vec<&Reconciliation> = report
        .reconciliation
        .iter()
        .filter(|row| differs(row) || alone(row) || stands_in(row, report))
        .collect();
    let shown = if worth.len() > rows + 1 {
        rows
    } else {
        worth.len()
    };
    if shown == 0 {
        return;
    }
    let mut table = Table::new([
        Column::name("counter", ESSENTIAL, 12),
        Column::number("kernel", ESSENTIAL),
        Column::number("traced", ESSENTIAL),
        Column::number("residual", ESSENTIAL),
    ]);
    let mut rows = worth.iter().take(shown).peekable();
    while let Some(row) = rows.next() {
        table.row([
            text(&row.counter),
            number(Some(row.delta)),
            traced(row),
            residual(row),
        ]);
        // Neighbours with one explanation share it.
        let again = rows
            .peek()
            .is_some_and(|next| next.explanation == row.explanation);
        if let Some(explanation) = row.explanation.as_ref().filter(|_| !again) {
            table.note(explanation);
        }
    }
    table.write(page, "counters");
    if worth.len() > shown {
        page.prose(
            &format!("and {} more that differ", worth.len() - shown),
            Tone::Dim,
            2,
        );
    }
}

/// Where it is explained why nothing was traced, that is no unknown number.
fn traced(row: &Reconciliation) -> Span {
    match (row.traced, &row.explanation) {
        (None, Some(_)) => text("-"),
        (traced, _) => number(traced),
    }
}

/// A difference is alarming as far as nothing explains it.
fn residual(row: &Reconciliation) -> Span {
    match row.residual {
        Some(residual) => {
            let unexplained = row.unexplained.unwrap_or(residual.unsigned_abs());
            span(signed(residual), Tone::alarm_if(unexplained > 0))
        }
        None => traced(row),
    }
}

fn differs(row: &Reconciliation) -> bool {
    row.residual.is_some_and(|residual| residual != 0)
}

/// Counted by the kernel, and not to be traced here.
fn alone(row: &Reconciliation) -> bool {
    row.traced.is_none() && row.delta > 0
}

/// A total that was traced although its parts could not be.
fn stands_in(total: &Reconciliation, report: &Report) -> bool {
    let Some(family) = total.counter.strip_suffix("total") else {
        return false;
    };
    let part = |row: &Reconciliation| alone(row) && row.counter.starts_with(family);
    total.traced.is_some() && report.reconciliation.iter().any(part)
}

/// `Kernel counters: 11 of 13 equal what was traced, 2 could not be traced`.
pub fn summary(report: &Report) -> String {
    let all = report.reconciliation.len();
    let differ = report
        .reconciliation
        .iter()
        .filter(|row| differs(row))
        .count();
    let untraced = report
        .reconciliation
        .iter()
        .filter(|row| row.traced.is_none())
        .count();
    let equal = all.saturating_sub(differ + untraced);
    let mut words = if equal == all {
        format!("Kernel counters: all {all} equal what was traced")
    } else {
        format!("Kernel counters: {equal} of {all} equal what was traced")
    };
    if untraced > 0 {
        let _ = write!(words, ", {untraced} could not be traced");
    }
    if differ > 0 {
        let _ = write!(
            words,
            ", {differ} differ{}",
            if differ == 1 { "s" } else { "" }
        );
    }
    words
}
