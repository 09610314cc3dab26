//! What was attached, and what was not and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::model::report::{Hook, HookStatus, Report};
use crate::report::number::times;
use crate::report::page::{Page, Tone};

/// How a hook's work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// By its own program.
    Attached,
    /// By another program, with nothing missing.
    NotNeeded,
    /// By another source that tells less.
    Substitute,
    /// Not at all.
    Missing,
}

/// How the work of `hook` is done.
pub fn standing(hook: &Hook) -> Standing {
    match (hook.status, &hook.via) {
        (HookStatus::Attached, _) => Standing::Attached,
        (_, None) => Standing::Missing,
        // Device counters know neither sites nor reasons.
        _ if hook.name == "kfree_skb" => Standing::Missing,
        _ if effect(hook).is_none() => Standing::NotNeeded,
        _ => Standing::Substitute,
    }
}

/// What the report lacks where `hook` is not attached.
pub fn effect(hook: &Hook) -> Option<&'static str> {
    Some(match hook.name.as_str() {
        "irq_handler_entry" => "times of hard IRQs unknown",
        "irq_handler_exit" => "hard IRQs only in /proc/interrupts",
        "softirq_raise" => "how long NET_RX waited unknown",
        "softirq_entry" => "softirq runs only in /proc/softirqs",
        "softirq_exit" => "softirq times unknown",
        "net_rx_action" if hook.via.is_none() => "NET_RX runs unknown",
        "napi_poll" => "polls and packets unknown",
        "kfree_skb" => "drop sites and reasons unknown",
        "enqueue_to_backlog" => "target CPU of backlog drops only from softnet_stat",
        _ => return None,
    })
}

/// One line if everything is attached; else one for each hook that is not.
pub fn lines(page: &mut Page, hooks: &[Hook]) {
    if hooks.is_empty() {
        return;
    }
    page.prose(&format!("Hooks: {}", summary(hooks)), Tone::Plain, 2);
    for hook in hooks {
        match standing(hook) {
            Standing::Attached => {}
            Standing::Missing if hook.status == HookStatus::Failed => {
                page.item("  ", &missing(hook), Tone::Alarm, 4);
            }
            _ => page.item("  ", &missing(hook), Tone::Plain, 4),
        }
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

/// `9 of 9 covered (7 tp_btf, 2 by substitutes)`.
pub fn summary(hooks: &[Hook]) -> String {
    let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
    for hook in hooks
        .iter()
        .filter(|hook| standing(hook) == Standing::Attached)
    {
        *ways.entry(hook.via.as_deref().unwrap_or("?")).or_default() += 1;
    }
    let mut ways: Vec<_> = ways.into_iter().collect();
    ways.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let mut parts: Vec<String> = ways
        .into_iter()
        .map(|(way, n)| format!("{n} {way}"))
        .collect();
    parts.extend(substitutes(hooks));
    let parts = if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    };
    format!("{} of {} covered{parts}", covered(hooks), hooks.len())
}

/// Hooks whose work is done.
pub fn covered(hooks: &[Hook]) -> usize {
    hooks
        .iter()
        .filter(|hook| standing(hook) != Standing::Missing)
        .count()
}

/// `2 by substitutes`; `None` if there are none.
pub fn substitutes(hooks: &[Hook]) -> Option<String> {
    let by_others =
        |hook: &&Hook| matches!(standing(hook), Standing::NotNeeded | Standing::Substitute);
    match hooks.iter().filter(by_others).count() {
        0 => None,
        1 => Some("1 by a substitute".to_owned()),
        n => Some(format!("{n} by substitutes")),
    }
}

/// `enqueue_to_backlog: softnet_stat instead (fentry: Operation not permitted); effect: …`.
fn missing(hook: &Hook) -> String {
    let mut words = format!("{}: {}", hook.name, state(hook));
    if let Some(effect) = effect(hook) {
        let _ = write!(words, "; effect: {effect}");
    }
    words
}

/// How a hook stands, without its name.
pub fn state(hook: &Hook) -> String {
    let reason = hook.reason.as_deref();
    if let (Standing::NotNeeded, Some(words)) = (standing(hook), reason)
        && words.starts_with("not needed")
    {
        return words.to_owned();
    }
    let state = match (hook.status, &hook.via) {
        (HookStatus::Attached, Some(via)) => format!("by {via}"),
        (HookStatus::Attached, None) => "attached".to_owned(),
        (_, Some(via)) => format!("{via} instead"),
        (HookStatus::Skipped, None) => "skipped".to_owned(),
        (HookStatus::Failed, None) => "not attached".to_owned(),
    };
    match reason {
        Some(reason) => format!("{state} ({reason})"),
        None => state,
    }
}

/// As [`lines`], for a report that may have none to complain about.
pub fn only_missing(page: &mut Page, report: &Report) {
    if report
        .hooks
        .iter()
        .any(|hook| standing(hook) == Standing::Missing)
    {
        page.prose(
            &format!("Hooks: {}", summary(&report.hooks)),
            Tone::Plain,
            2,
        );
    }
}
