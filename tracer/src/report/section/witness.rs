//! Traced counts beside the kernel's own: one line for those that agree, each one that does not.

use super::{number, span, text};
use crate::model::report::{Reconciliation, Report};
use crate::report::number::signed;
use crate::report::page::{Page, Span, Tone};
use crate::report::table::{Column, ESSENTIAL, Table};

/// At most `rows` counters that differ.
pub fn table(page: &mut Page, report: &Report, rows: usize) {
    if report.reconciliation.is_empty() {
        return;
    }
    page.prose(&summary(report), Tone::Plain, 2);
    let differing = differing(report);
    let shown = if differing.len() > rows + 1 {
        rows
    } else {
        differing.len()
    };
    let Some(listed) = differing.get(..shown).filter(|listed| !listed.is_empty()) else {
        return;
    };
    if page.style.is_wide() {
        let mut table = Table::new([
            Column::name("counter", ESSENTIAL, 20),
            Column::number("kernel", ESSENTIAL),
            Column::number("traced", ESSENTIAL),
            Column::number("residual", ESSENTIAL),
        ]);
        write(page, &mut table, listed);
        table.write(page, "counters");
    } else {
        let mut table = Table::new([
            Column::name("counter", ESSENTIAL, 12),
            Column::number("kernel", ESSENTIAL),
            Column::number("traced", ESSENTIAL),
            Column::number("residual", ESSENTIAL),
        ]);
        write(page, &mut table, listed);
        table.write(page, "counters");
    }
    let rest = differing.len() - shown;
    if rest > 0 {
        page.prose(&format!("and {rest} more that differ"), Tone::Dim, 2);
    }
}

fn write(_page: &mut Page, table: &mut Table, rows: &[&Reconciliation]) {
    for row in rows {
        table.row([
            text(&row.counter),
            number(Some(row.delta)),
            number(row.traced),
            residual(row),
        ]);
    }
}

fn residual(row: &Reconciliation) -> Span {
    match row.residual {
        Some(residual) => span(signed(residual), Tone::alarm_if(residual != 0)),
        None => text("?"),
    }
}

fn differing(report: &Report) -> Vec<&Reconciliation> {
    report
        .reconciliation
        .iter()
        .filter(|row| row.residual.is_some_and(|residual| residual != 0))
        .collect()
}

/// `Kernel counters: 11 of 13 agree with what was traced, 2 could not be traced`.
pub fn summary(report: &Report) -> String {
    let all = report.reconciliation.len();
    let differ = differing(report).len();
    let untraced = report
        .reconciliation
        .iter()
        .filter(|row| row.traced.is_none())
        .count();
    let agree = all - differ - untraced;
    let mut words = if differ == 0 && untraced == 0 {
        format!("Kernel counters: all {all} agree exactly with what was traced")
    } else {
        format!("Kernel counters: {agree} of {all} agree exactly with what was traced")
    };
    if untraced > 0 {
        words += &format!(", {untraced} could not be traced");
    }
    if differ > 0 {
        words += &format!(", {differ} differ{}", if differ == 1 { "s" } else { "" });
    }
    words
}
