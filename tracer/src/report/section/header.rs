//! The answer, and where and when it was found.

use std::fmt::Write as _;

use crate::analyze::answer::answer;
use crate::model::report::Report;
use crate::report::number;
use crate::report::page::{Page, Tone};

/// First line: the answer, broken at words where it is longer than the line.
pub fn answer_line(page: &mut Page, report: &Report) {
    let answer = if report.answer.is_empty() {
        answer(report)
    } else {
        report.answer.clone()
    };
    let harm = report.drop_totals.harmful.is_some_and(|n| n > 0)
        || report.drop_totals.unattributed.is_some_and(|n| n > 0)
        || (report.drop_totals.packets.is_none()
            && report
                .cpus
                .iter()
                .any(|cpu| cpu.softnet.is_some_and(|row| row.dropped > 0)))
        || report.devices.iter().any(|device| device.rx_missed > 0);
    page.prose(&answer, if harm { Tone::Alarm } else { Tone::Strong }, 2);
}

/// Host, kernel, size, begin and length.
pub fn host_line(page: &mut Page, report: &Report) {
    let host = &report.host;
    let mut words = format!(
        "{}, Linux {}, {}",
        host.name,
        host.kernel,
        number::of(u64::from(host.cpus), "CPU")
    );
    if host.nodes > 1 {
        let _ = write!(words, ", {} nodes", host.nodes);
    }
    let _ = write!(
        words,
        "; {}, {}",
        number::utc(report.start_unix_ns),
        number::span(report.duration_ns)
    );
    if !report.interfaces.is_empty() {
        let _ = write!(words, "; only {}", report.interfaces.join(", "));
    }
    page.prose(&words, Tone::Dim, 2);
}
