//! A plan as a script for who would rather paste it: POSIX sh, each change with the value of now beside it.

use std::fmt::Write as _;

use super::plan::{Plan, Planned};
use crate::{analyze::rules::quote, model::setting::Setting};

/// The script. Undoing it is the second half, commented out.
#[must_use]
pub fn script(plan: &Plan) -> String {
    let mut out = String::from("#!/bin/sh\n");
    let _ = writeln!(
        out,
        "# For {}, kernel {}. Unlike tracer tune apply, this keeps no journal.",
        comment(&plan.host.hostname),
        comment(&plan.host.kernel)
    );
    if plan.steps.is_empty() {
        for note in &plan.notes {
            let _ = writeln!(out, "# {}", comment(note));
        }
    }
    out.push_str("set -e\n");
    for step in &plan.steps {
        let _ = writeln!(
            out,
            "\n# {}\n# {}",
            comment(&step.title),
            comment(&step.why)
        );
        for change in &step.changes {
            let _ = writeln!(out, "{}", command(change, &change.to));
        }
    }
    for step in &plan.by_hand {
        let _ = writeln!(
            out,
            "\n# by hand: {}: {}",
            comment(&step.step),
            comment(&step.why)
        );
        if let Some(command) = &step.command {
            let _ = writeln!(out, "#   {}", comment(command));
        }
    }
    let back: Vec<&Planned> = plan.changes().filter(|c| c.from.is_some()).collect();
    if !back.is_empty() {
        out.push_str("\n# To undo:\n");
    }
    for change in back.into_iter().rev() {
        let from = change.from.as_deref().unwrap_or_default();
        let _ = writeln!(out, "# {}", command(change, from));
    }
    out
}

/// One line, whatever is in it.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn command(change: &Planned, value: &str) -> String {
    let value = quote(value);
    match &change.setting {
        Setting::Ring { device } => format!("ethtool -G {} rx {value}", quote(device)),
        Setting::Channels { device } => format!("ethtool -L {} combined {value}", quote(device)),
        Setting::Process { pid, .. } => format!("taskset -acp {value} {pid}"),
        Setting::IrqbalanceBans { pid } => {
            format!("# irqbalance (pid {pid}): ban IRQs {value}, by irqbalance-ui or --banirq")
        }
        file => format!("echo {value} > {}", quote(&file.to_string())),
    }
}
