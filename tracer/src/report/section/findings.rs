//! What is wrong and what to change.

use crate::model::{finding::Severity, report::Report};
use crate::report::page::{Page, Tone};

/// Each finding with its advice, in the order given.
pub fn lines(page: &mut Page, report: &Report) {
    for finding in &report.findings {
        let (word, tone) = match finding.severity {
            Severity::Critical => ("critical", Tone::Alarm),
            Severity::Warning => ("warning", Tone::Strong),
            Severity::Info => ("info", Tone::Plain),
        };
        page.prose(&format!("{word}: {}", finding.summary), tone, 2);
        for (at, advice) in finding.advice.iter().enumerate() {
            let step = format!("{}: {}", advice.step, advice.why);
            page.item(&format!("  {}. ", at + 1), &step, Tone::Plain, 5);
            if let Some(command) = &advice.command {
                page.item("     ", command, Tone::Strong, 7);
            }
        }
    }
}
