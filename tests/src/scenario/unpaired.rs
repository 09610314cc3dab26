//! Leaves out the hook at the end of softirqs where nothing else tells the end of a `NET_RX` run, with traffic.
//!
//! Asserts that what needs the end is unknown and says why, that no run counts as lost or under way for ever, and that
//! what does not need it is counted all the same.

use anyhow::{Context as _, Result, ensure};

use tracer::model::report::HookStatus;

use super::{Need, Scenario, Skip, fewer, note, repeat};
use crate::{flood::Flood, kernel::snmp, netns::Pair, tracer::Tracer, wait::quiet};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "without_the_end_of_softirqs_net_rx_is_unknown_and_not_nested",
        needs: &[Need::Root, Need::Program("ip")],
        run: || repeat(|| without_end("off")),
    },
    Scenario {
        name: "a_forced_net_rx_action_that_fails_leaves_no_begin_without_an_end",
        needs: &[Need::Root, Need::Program("ip")],
        run: || repeat(|| without_end("fentry")),
    },
];

const PORT: u16 = 7015;
const PACKETS: u64 = 500;

fn without_end(net_rx_action: &str) -> Result<()> {
    let pair = Pair::new()?;
    let action = format!("net_rx_action={net_rx_action}");
    let args = ["--hook", "softirq_exit=off", "--hook", &action];
    let tracer = Tracer::start(Some(&pair.receiver), &args)?;
    quiet();
    let sent = Flood::new(Pair::RECEIVER, PORT, PACKETS).run(&pair.sender)?;
    ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
    quiet();
    let outcome = tracer.stop()?;
    let report = &outcome.summary;

    let mut hooks = report.hooks.iter();
    let hook = hooks.find(|hook| hook.name == "net_rx_action");
    if hook.is_some_and(|hook| hook.status == HookStatus::Attached) {
        return Err(Skip(format!("this kernel takes {action}")).into());
    }
    let reason = hook.and_then(|hook| hook.reason.as_deref());
    let reason = reason.with_context(|| format!("no reason: {hook:?}"))?;
    ensure!(report.losses.net_rx_nested == 0, "{:?}", report.losses);
    ensure!(
        reason.contains("softirq_entry/exit are not both attached"),
        "{reason}"
    );
    for cpu in &report.cpus {
        ensure!(
            cpu.net_rx_runs.is_none()
                && cpu.net_rx_ns.is_none()
                && cpu.net_rx_wait_ns.is_none()
                && cpu.net_rx_run_ns.is_none()
                && cpu.ksoftirqd_runs.is_none()
                && cpu.packets.is_none()
                && cpu.polls_outside_net_rx.is_none()
                && cpu.softirqs.values().all(|softirq| softirq.ns.is_none()),
            "known without an end: {cpu:?}"
        );
    }
    let entered = report
        .cpus
        .iter()
        .filter_map(|cpu| cpu.softirqs.get("NET_RX"));
    ensure!(
        entered.map(|softirq| softirq.runs).sum::<u64>() > 0,
        "no softirq began"
    );
    let polled: u64 = report.napi.iter().map(|row| row.packets).sum();
    let refused = snmp(&pair.receiver, "Udp", "NoPorts")?;
    note(format_args!("polled {polled}, NoPorts {refused}; {reason}"));
    fewer(
        "packets polled",
        polled + outcome.missed_at("napi_poll"),
        refused,
    )
}
