//! Runs `tracer doctor` and asserts that every hook is attached by the mechanism that this kernel is expected to
//! allow, `enqueue_to_backlog` through fentry included, which most build machines cannot do.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Scenario;
use crate::{
    scenario::Need,
    tracer::{command, complete},
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "doctor_finds_every_hook_attachable_by_its_best_mechanism",
    needs: &[Need::Root],
    run: doctor,
}];

const LIMIT: Duration = Duration::from_secs(30);

/// Hooks and how they should be attached; `net_rx_action` is left to `softirq_entry/exit`.
const EXPECTED: &[(&str, &str)] = &[
    ("enqueue_to_backlog", "fentry"),
    ("irq_handler_entry", "tp_btf"),
    ("irq_handler_exit", "tp_btf"),
    ("softirq_raise", "tp_btf"),
    ("softirq_entry", "tp_btf"),
    ("softirq_exit", "tp_btf"),
    ("napi_poll", "tp_btf"),
    ("kfree_skb", "tp_btf"),
];

fn doctor() -> Result<()> {
    let (_, text, _) = complete(None, command(&["doctor"])?, LIMIT)?;
    eprintln!("{text}");
    let (status, stdout, stderr) =
        complete(None, command(&["doctor", "--format", "json"])?, LIMIT)?;
    ensure!(status.success(), "tracer doctor: {status}: {stderr}");
    let report: Value = serde_json::from_str(&stdout).with_context(|| stdout.clone())?;
    let hooks = report["hooks"].as_array().context("no hooks")?;
    let wrong: Vec<String> = EXPECTED
        .iter()
        .filter_map(|(name, via)| {
            let hook = hooks.iter().find(|hook| hook["name"] == *name);
            let row = hook.map_or(Value::Null, Clone::clone);
            let right = row["status"] == "attached" && row["via"] == *via;
            (!right).then(|| format!("{name}: expected {via}, is {row}"))
        })
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}
