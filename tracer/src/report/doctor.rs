//! What `tracer doctor` found out about this host.

use serde::{Deserialize, Serialize};

use super::page::{Page, Style, Tone, span};
use super::section::hooks;
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
        page.prose(
            &format!("{word:<7}  {:<width$}  {}", check.name, check.detail),
            tone,
            11 + width,
        );
        if let Some(remedy) = &check.remedy {
            page.prose(
                &format!("         {:<width$}  remedy: {remedy}", ""),
                Tone::Plain,
                11 + width,
            );
        }
    }
    page.blank();
    for hook in &report.hooks {
        match hook.status {
            HookStatus::Attached => {
                let via = hook.via.as_deref().unwrap_or("?");
                page.line(&[
                    span("ok       ", Tone::Plain),
                    span(format!("{} by {via}", hook.name), Tone::Plain),
                ]);
            }
            HookStatus::Skipped | HookStatus::Failed => {
                let tone = if hook.via.is_some() {
                    Tone::Strong
                } else {
                    Tone::Alarm
                };
                let word = if hook.via.is_some() {
                    "warn"
                } else {
                    "missing"
                };
                page.prose(&format!("{word:<7}  {}", hooks::missing(hook)), tone, 9);
            }
        }
    }
    page.finish()
}

/// `tracer can run here: 8 of 9 hooks attach`.
#[must_use]
pub fn answer(report: &DoctorReport) -> String {
    let attached = report
        .hooks
        .iter()
        .filter(|hook| hook.status == HookStatus::Attached)
        .count();
    let all = report.hooks.len();
    if report.can_run {
        return match all - attached {
            0 => format!("tracer can run here: all {all} hooks attach"),
            _ => format!("tracer can run here: {attached} of {all} hooks attach"),
        };
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
