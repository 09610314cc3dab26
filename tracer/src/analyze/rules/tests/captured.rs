//! The rules on summaries that scenarios of the kernel matrix left behind: real kernels, real cards as far as QEMU has
//! them, trimmed to what rules look at (`tests/src/kept.rs`). Nothing in them was written by hand.

use std::{fs, path::PathBuf};

use super::*;
use crate::{model::report::Record, report::json};

/// What was captured, the rules that have to fire, and those that are near but must not.
struct Captured {
    file: &'static str,
    fires: &'static [&'static str],
    silent: &'static [&'static str],
}

const fn captured(
    file: &'static str,
    fires: &'static [&'static str],
    silent: &'static [&'static str],
) -> Captured {
    Captured {
        file,
        fires,
        silent,
    }
}

const ALL: &[Captured] = &[
    // No drop reasons: the counters tell.
    captured(
        "5.10-flow-limit.json",
        &["backlog-overflow"],
        &["ring-overrun", "slow-reader"],
    ),
    captured(
        "5.10-late.json",
        &["softirq-wait", "shared-cpu"],
        &["backlog-overflow", "steal"],
    ),
    captured(
        "5.10-rps-backlog.json",
        &["backlog-overflow", "remote-node"],
        &["ring-overrun", "shared-cpu"],
    ),
    captured(
        "5.10-slow-reader.json",
        &["slow-reader"],
        &["ordinary-drops", "firewall", "socket-backlog"],
    ),
    captured(
        "6.1-squeeze-budget.json",
        &["time-squeeze", "backlog-overflow"],
        &["ring-overrun"],
    ),
    captured(
        "6.12-conntrack.json",
        &["conntrack-full"],
        &["firewall", "listen-overflow"],
    ),
    captured(
        "6.12-firewall.json",
        &["firewall"],
        &["conntrack-full", "slow-reader", "ordinary-drops"],
    ),
    captured(
        "6.12-flow-limit.json",
        &["backlog-overflow"],
        &["ring-overrun", "slow-reader"],
    ),
    // The busy form of rule 4: nothing is refused.
    captured(
        "6.12-full-cpu.json",
        &["single-cpu"],
        &["backlog-overflow", "shared-cpu"],
    ),
    captured(
        "6.12-healthy.json",
        &[],
        &["single-cpu", "remote-node", "backlog-overflow", "irq-rate"],
    ),
    captured(
        "6.12-incident-before.json",
        &[
            "single-cpu",
            "backlog-overflow",
            "shared-cpu",
            "remote-node",
        ],
        &["ring-overrun", "slow-reader"],
    ),
    captured(
        "6.12-incident-after.json",
        &[],
        &["backlog-overflow", "shared-cpu", "remote-node"],
    ),
    captured(
        "6.12-late.json",
        &["softirq-wait", "shared-cpu"],
        &["backlog-overflow", "remote-node", "steal"],
    ),
    captured(
        "6.12-listen-overflow.json",
        &["listen-overflow"],
        &["socket-backlog", "backlog-overflow"],
    ),
    captured(
        "6.12-ordinary-drops.json",
        &["ordinary-drops"],
        &["slow-reader", "firewall", "backlog-overflow"],
    ),
    captured(
        "6.12-residual.json",
        &["residual"],
        &["ring-overrun", "backlog-overflow"],
    ),
    captured(
        "6.12-ring-overrun.json",
        &["ring-overrun"],
        &["backlog-overflow", "residual"],
    ),
    captured(
        "6.12-slow-reader.json",
        &["slow-reader"],
        &["socket-backlog", "backlog-overflow", "ordinary-drops"],
    ),
    captured(
        "6.12-squeeze-budget.json",
        &["time-squeeze", "backlog-overflow"],
        &["ring-overrun"],
    ),
    captured(
        "6.12-squeeze-time.json",
        &["time-squeeze"],
        &["backlog-overflow"],
    ),
    captured(
        "6.12-threaded.json",
        &["threaded-napi", "effective-affinity"],
        &["sustained-polling", "single-cpu"],
    ),
    captured(
        "6.12-veth-backlog.json",
        &["backlog-overflow"],
        &["single-cpu", "remote-node"],
    ),
    captured(
        "7.2-incident-before.json",
        &[
            "single-cpu",
            "backlog-overflow",
            "shared-cpu",
            "remote-node",
        ],
        &["ring-overrun", "slow-reader"],
    ),
    captured(
        "7.2-rps-backlog.json",
        &["backlog-overflow", "remote-node"],
        &["ring-overrun", "shared-cpu"],
    ),
];

/// Larger ones nobody reads.
const LARGEST: usize = 40 << 10;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reports")
}

fn read(file: &str) -> Report {
    let text = fs::read_to_string(directory().join(file)).unwrap();
    assert!(text.len() <= LARGEST, "{file}: {} bytes", text.len());
    match json::parse(&text).unwrap() {
        Record::Summary(report) => report,
        other => panic!("{file}: {other:?}"),
    }
}

#[test]
fn each_captured_report_has_its_finding_and_not_that_of_a_near_miss() {
    for Captured {
        file,
        fires,
        silent,
    } in ALL
    {
        let report = read(file);
        let host = report.topology.clone().unwrap();
        let all = findings(&report, &host);
        let told: Vec<_> = flat(&all).iter().map(|f| f.rule.clone()).collect();
        for rule in *fires {
            assert!(
                told.iter().any(|told| told == rule),
                "{file}: no {rule}: {all:#?}"
            );
        }
        for rule in *silent {
            assert!(
                !told.iter().any(|told| told == rule),
                "{file}: {rule}: {all:#?}"
            );
        }
    }
}

#[test]
fn every_captured_file_is_in_the_table() {
    let mut files: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut known: Vec<_> = ALL.iter().map(|captured| captured.file).collect();
    files.sort_unstable();
    known.sort_unstable();
    assert_eq!(files, known);
}

#[test]
fn the_captured_incident_is_told_in_the_order_of_cause_and_effect() {
    let report = read("6.12-incident-before.json");
    let host = report.topology.clone().unwrap();
    let all = findings(&report, &host);
    let told: Vec<_> = flat(&all).iter().map(|f| f.rule.clone()).collect();
    let expected = [
        "single-cpu",
        "backlog-overflow",
        "shared-cpu",
        "remote-node",
    ];
    assert_eq!(told[..4], expected);
}

#[test]
fn the_captured_healthy_host_has_nothing_above_information() {
    let report = read("6.12-healthy.json");
    let host = report.topology.clone().unwrap();
    for finding in flat(&findings(&report, &host)) {
        assert_eq!(finding.severity, Severity::Info, "{finding:#?}");
    }
}
