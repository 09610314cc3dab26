//! What a report concludes, as a scenario asks for it.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use tracer::model::{
    finding::{Finding, Severity},
    report::Report,
};

/// All findings in the order of reading: those that follow from another behind it.
#[must_use]
pub fn all(report: &Report) -> Vec<&Finding> {
    fn add<'a>(findings: &'a [Finding], all: &mut Vec<&'a Finding>) {
        for finding in findings {
            all.push(finding);
            add(&finding.follows, all);
        }
    }
    let mut all = Vec::new();
    add(&report.findings, &mut all);
    all
}

/// The first finding of `rule`; fails if there is none.
pub fn has<'a>(report: &'a Report, rule: &str) -> Result<&'a Finding> {
    let found = all(report).into_iter().find(|finding| finding.rule == rule);
    found.with_context(|| format!("no finding of {rule}: {}", told(report)))
}

/// Fails if there is a finding of `rule`.
pub fn has_not(report: &Report, rule: &str) -> Result<()> {
    let found = all(report).iter().any(|finding| finding.rule == rule);
    ensure!(!found, "a finding of {rule}: {}", told(report));
    Ok(())
}

/// Fails unless each of `words` is somewhere in the finding.
pub fn says(finding: &Finding, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(
            text(finding).contains(word),
            "{}: nothing about {word:?}: {finding:#?}",
            finding.rule
        );
    }
    Ok(())
}

/// Fails if anything is worse than worth knowing.
pub fn nothing_above_info(report: &Report) -> Result<()> {
    let all = all(report);
    let worse: Vec<_> = all
        .iter()
        .filter(|finding| finding.severity != Severity::Info)
        .collect();
    ensure!(worse.is_empty(), "nothing is wrong, and yet: {worse:#?}");
    Ok(())
}

/// Fails if a kernel counter differs from the traced one and the report does not say why.
pub fn explained(report: &Report) -> Result<()> {
    let rows = report.reconciliation.iter();
    let open: Vec<_> = rows
        .filter(|row| row.unexplained.is_some_and(|packets| packets > 0))
        .collect();
    ensure!(open.is_empty(), "unexplained: {open:#?}");
    Ok(())
}

/// Commands that a finding advises.
pub fn commands(finding: &Finding) -> impl Iterator<Item = &str> {
    let advice = finding.advice.iter();
    advice.filter_map(|advice| advice.command.as_deref())
}

/// One line for all findings.
#[must_use]
pub fn told(report: &Report) -> String {
    let mut words = String::new();
    for finding in all(report) {
        let Finding { rule, summary, .. } = finding;
        let _ = write!(words, "[{rule}, {:?}: {summary}] ", finding.severity);
    }
    for abstained in &report.abstained {
        let _ = write!(words, "[{} abstained: {}] ", abstained.rule, abstained.why);
    }
    words
}

fn text(finding: &Finding) -> String {
    let mut text = format!("{}\n", finding.summary);
    for evidence in &finding.evidence {
        let _ = writeln!(text, "{}: {}", evidence.what, evidence.value);
    }
    for advice in &finding.advice {
        let command = advice.command.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{}: {}\n{command}", advice.step, advice.why);
    }
    text + &finding.will_not_help.join("\n")
}
