//! What is wrong and what to change.

use crate::model::{
    finding::{Advice, Finding, Severity},
    report::Report,
};
use crate::report::page::{Page, Tone};

/// Columns by which a finding that follows from another is moved in.
const FOLDED: usize = 2;

/// Each finding with its evidence and advice, in the order given; those that follow from it under it.
pub fn lines(page: &mut Page, report: &Report) {
    if !report.thresholds.is_empty() {
        let changed = report.thresholds.iter();
        let changed: Vec<_> = changed
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let words = format!("judged by --threshold {}", changed.join(" --threshold "));
        page.prose(&words, Tone::Plain, 2);
    }
    for finding in &report.findings {
        page.blank();
        told(page, finding, 0);
    }
}

/// The rules that could not judge, and why.
pub fn abstained(page: &mut Page, report: &Report) {
    if !report.abstained.is_empty() {
        page.blank();
        page.plain("Could not be judged, for want of:", Tone::Dim);
    }
    for abstained in &report.abstained {
        let label = format!("  {}: ", abstained.rule);
        page.item(&label, &abstained.why, Tone::Dim, 4);
    }
}

fn told(page: &mut Page, finding: &Finding, depth: usize) {
    let (word, tone) = match finding.severity {
        Severity::Critical => ("critical", Tone::Alarm),
        Severity::Warning => ("warning", Tone::Strong),
        Severity::Info => ("info", Tone::Plain),
    };
    // Deeper than this nothing would be left of a narrow page.
    let left = FOLDED * depth.min(4);
    let hence = if depth > 0 { "hence " } else { "" };
    let label = format!("{}{hence}{word}, {}: ", " ".repeat(left), finding.rule);
    page.item(&label, &finding.summary, tone, left + 2);
    let (bullet, indent) = (" ".repeat(left + 2), left + 4);
    for evidence in &finding.evidence {
        let words = format!(
            "{}: {} ({})",
            evidence.what, evidence.value, evidence.source
        );
        page.item(&bullet, &words, Tone::Dim, indent);
    }
    for (at, advice) in finding.advice.iter().enumerate() {
        step(page, at + 1, advice, left);
    }
    for what in &finding.will_not_help {
        page.item(
            &format!("{bullet}will not help: "),
            what,
            Tone::Plain,
            indent,
        );
    }
    for finding in &finding.follows {
        told(page, finding, depth + 1);
    }
}

fn step(page: &mut Page, number: usize, advice: &Advice, left: usize) {
    let label = format!("{}{number}. ", " ".repeat(left + 2));
    let indent = left + 5;
    let words = format!("{}: {}", advice.step, advice.why);
    page.item(&label, &words, Tone::Plain, indent);
    let margin = " ".repeat(indent);
    if let Some(command) = &advice.command {
        page.command(&margin, command, Tone::Strong);
    }
    if let Some(revert) = &advice.revert {
        page.command(&format!("{margin}undo: "), revert, Tone::Plain);
    }
    if let Some(risk) = &advice.risk {
        page.item(&format!("{margin}risk: "), risk, Tone::Dim, indent + 2);
    }
}
