//! What was attached, and what was not and why.

use std::collections::BTreeMap;

use crate::model::report::{Hook, HookStatus, Report};
use crate::report::number::times;
use crate::report::page::{Page, Tone};

/// One line if everything is attached; else one for each hook that is not.
pub fn lines(page: &mut Page, hooks: &[Hook]) {
    if hooks.is_empty() {
        return;
    }
    page.prose(&summary(hooks), Tone::Plain, 2);
    for hook in hooks
        .iter()
        .filter(|hook| hook.status != HookStatus::Attached)
    {
        let tone = if hook.status == HookStatus::Failed && hook.via.is_none() {
            Tone::Alarm
        } else {
            Tone::Plain
        };
        page.item("  ", &missing(hook), tone, 4);
    }
    for hook in hooks {
        if let Some(missed) = hook.missed.filter(|missed| *missed > 0) {
            page.item(
                "  ",
                &format!("{}: skipped {} by recursion", hook.name, times(missed)),
                Tone::Alarm,
                4,
            );
        }
    }
}

/// `Hooks: 8 of 9 attached (6 tp_btf, 2 fentry)`.
pub fn summary(hooks: &[Hook]) -> String {
    let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
    let attached: Vec<&Hook> = hooks
        .iter()
        .filter(|hook| hook.status == HookStatus::Attached)
        .collect();
    for hook in &attached {
        *ways.entry(hook.via.as_deref().unwrap_or("?")).or_default() += 1;
    }
    let mut ways: Vec<_> = ways.into_iter().collect();
    ways.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let ways: Vec<String> = ways
        .into_iter()
        .map(|(way, n)| format!("{n} {way}"))
        .collect();
    let ways = if ways.is_empty() {
        String::new()
    } else {
        format!(" ({})", ways.join(", "))
    };
    if attached.len() == hooks.len() {
        return format!("Hooks: all {} attached{ways}", hooks.len());
    }
    format!(
        "Hooks: {} of {} attached{ways}",
        attached.len(),
        hooks.len()
    )
}

/// `enqueue_to_backlog: softnet_stat instead (fentry: Operation not permitted)`.
pub fn missing(hook: &Hook) -> String {
    format!("{}: {}", hook.name, state(hook))
}

/// How a hook stands, without its name.
pub fn state(hook: &Hook) -> String {
    let state = match (hook.status, &hook.via) {
        (HookStatus::Attached, Some(via)) => format!("by {via}"),
        (HookStatus::Attached, None) => "attached".to_owned(),
        (_, Some(via)) => format!("{via} instead"),
        (HookStatus::Skipped, None) => "skipped".to_owned(),
        (HookStatus::Failed, None) => "not attached".to_owned(),
    };
    match &hook.reason {
        Some(reason) => format!("{state} ({reason})"),
        None => state,
    }
}

/// As [`lines`], for a report that may have none to complain about.
pub fn only_missing(page: &mut Page, report: &Report) {
    if report
        .hooks
        .iter()
        .any(|hook| hook.status != HookStatus::Attached && hook.via.is_none())
    {
        page.prose(&summary(&report.hooks), Tone::Plain, 2);
    }
}
