//! What `tracer doctor` found out about this host.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::page::{Page, Style, Tone};
use super::section::hooks::{self, Standing};
use crate::model::report::{Hook, HookStatus};

/// Everything that decides whether `tracer run` works here, and how well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// Privileges, BTF, kallsyms, …, in the order they were looked at.
    pub checks: Vec<Check>,
    /// Every hook, with what it attached by or why not.
    pub hooks: Vec<Hook>,
    /// Whether `tracer run` would find anything to attach to; `false` is exit status 3.
    pub can_run: bool,
}

/// One thing looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What: `privileges`, `BTF`, `kallsyms`, …
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// What was found, on which file or setting.
    pub detail: String,
    /// What to do about it; `null` if nothing needs doing or nothing can be done.
    pub remedy: Option<String>,
}

/// Outcome of a [`Check`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Works, with less to tell.
    #[default]
    Warn,
    /// Not there; `tracer run` cannot work, or a whole kind of number is missing.
    Missing,
}

/// Columns of the outcome in front of each line.
const WORD: usize = 7;

/// The first line is the answer; then the checks with their remedies, then the hooks.
#[must_use]
pub fn render(report: &DoctorReport, style: &Style) -> String {
    let mut page = Page::new(*style);
    page.prose(
        &answer(report),
        if report.can_run {
            Tone::Strong
        } else {
            Tone::Alarm
        },
        2,
    );
    page.blank();
    let width = report
        .checks
        .iter()
        .map(|check| check.name.chars().count())
        .max()
        .unwrap_or(0)
        .min(20);
    for check in &report.checks {
        let (word, tone) = match check.status {
            CheckStatus::Ok => ("ok", Tone::Plain),
            CheckStatus::Warn => ("warn", Tone::Strong),
            CheckStatus::Missing => ("missing", Tone::Alarm),
        };
        let indent = WORD + 2 + width + 2;
        page.item(
            &format!("{word:<WORD$}  {:<width$}  ", check.name),
            &check.detail,
            tone,
            indent,
        );
        if let Some(remedy) = &check.remedy {
            page.item(
                &" ".repeat(indent),
                &format!("remedy: {remedy}"),
                Tone::Plain,
                indent,
            );
        }
    }
    page.blank();
    let mut rest = report.hooks.as_slice();
    while let [first, ..] = rest {
        // Hooks that are missing for the same reason are told together.
        let missing = first.status != HookStatus::Attached;
        let alike = |hook: &&Hook| {
            missing
                && hook.status == first.status
                && hook.via == first.via
                && hook.reason == first.reason
        };
        let count = rest.iter().take_while(alike).count().max(1);
        let (group, others) = rest.split_at(count);
        let (word, tone) = match hooks::standing(first) {
            Standing::Attached | Standing::NotNeeded => ("ok", Tone::Plain),
            Standing::Substitute => ("warn", Tone::Strong),
            Standing::Missing => ("missing", Tone::Alarm),
        };
        let names: Vec<&str> = group.iter().map(|hook| hook.name.as_str()).collect();
        let mut words = format!("{}: {}", names.join(", "), hooks::state(first));
        // Where nothing can be told at all, nobody asks what in particular.
        if missing && report.can_run {
            let effects: Vec<&str> = group.iter().filter_map(hooks::effect).collect();
            if !effects.is_empty() {
                let _ = write!(words, "; effect: {}", effects.join(", "));
            }
        }
        page.item(&format!("{word:<WORD$}  "), &words, tone, WORD + 2);
        rest = others;
    }
    page.finish()
}

/// `tracer can run here: 9 of 9 hooks covered, 2 by substitutes`.
#[must_use]
pub fn answer(report: &DoctorReport) -> String {
    let all = report.hooks.len();
    if report.can_run {
        let covered = hooks::covered(&report.hooks);
        let mut words = format!("tracer can run here: {covered} of {all} hooks covered");
        if let Some(substitutes) = hooks::substitutes(&report.hooks) {
            let _ = write!(words, ", {substitutes}");
        }
        return words;
    }
    let missing = report
        .checks
        .iter()
        .filter(|check| check.status == CheckStatus::Missing);
    let names: Vec<&str> = missing.map(|check| check.name.as_str()).collect();
    match names.as_slice() {
        [] => format!("tracer cannot run here: none of {all} hooks attach"),
        names => format!("tracer cannot run here: {} missing", names.join(", ")),
    }
}
