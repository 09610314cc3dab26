//! Each rule where it has to fire and where it must not: on reports made by hand (synthetic), and in `captured` on such
//! of real kernels.

mod above;
mod any;
mod backlog;
mod captured;
mod funnel;
mod polling;
pub(crate) mod synthetic;
mod traps;

use std::collections::BTreeMap;

use synthetic::*;

use super::{Case, RULES, diagnose, threshold::Thresholds};
use crate::{
    model::{
        finding::{Advice, Finding, Severity},
        report::{Drop, Reconciliation, Report, Stage},
        topology::{
            ChannelKind, Coalesce, Cpuset, Irqbalance, NapiInstance, Nic, Place, Process, Range,
            RxQueue, Topology, Vector,
        },
    },
    report::{Style, fixture, text},
};

fn findings(report: &Report, host: &Topology) -> Vec<Finding> {
    let thresholds = Thresholds::default();
    diagnose(Case {
        report,
        host,
        thresholds: &thresholds,
        apps: &[],
    })
    .0
}

fn abstentions(report: &Report, host: &Topology) -> BTreeMap<String, String> {
    let thresholds = Thresholds::default();
    let (_, abstained) = diagnose(Case {
        report,
        host,
        thresholds: &thresholds,
        apps: &[],
    });
    abstained.into_iter().map(|a| (a.rule, a.why)).collect()
}

/// In the order told, folded ones behind what they follow from.
fn flat(findings: &[Finding]) -> Vec<&Finding> {
    let mut all = Vec::new();
    for finding in findings {
        all.push(finding);
        all.extend(flat(&finding.follows));
    }
    all
}

fn find<'a>(findings: &'a [Finding], rule: &str) -> Option<&'a Finding> {
    flat(findings)
        .into_iter()
        .find(|finding| finding.rule == rule)
}

fn commands(finding: &Finding) -> Vec<&str> {
    finding
        .advice
        .iter()
        .filter_map(|advice| advice.command.as_deref())
        .collect()
}

#[test]
fn a_healthy_busy_well_spread_host_has_nothing_above_information() {
    let (mut report, mut host) = well_spread();
    report.cpus[4].softnet.as_mut().unwrap().time_squeeze = 12;
    host.irqbalance = Some(Irqbalance {
        pid: 600,
        ..Irqbalance::default()
    });
    report.drops = vec![
        drop("nf_hook_slow", "NETFILTER_DROP", Stage::Netfilter, 40),
        Drop {
            benign: true,
            ..drop("__udp4_lib_rcv", "NO_SOCKET", Stage::Udp, 12)
        },
    ];
    let findings = findings(&report, &host);
    for finding in flat(&findings) {
        assert_eq!(finding.severity, Severity::Info, "{finding:#?}");
    }
    let rules: Vec<_> = flat(&findings).iter().map(|f| f.rule.clone()).collect();
    assert_eq!(
        rules,
        ["time-squeeze", "irqbalance", "firewall", "ordinary-drops"]
    );
    let (report, host) = (fixture::healthy(), Topology::default());
    assert_eq!(self::findings(&report, &host), []);
}

#[test]
fn the_incident_is_told_in_the_order_of_cause_and_effect() {
    let (report, host) = incident();
    let findings = findings(&report, &host);
    let told: Vec<_> = flat(&findings)
        .iter()
        .map(|f| (f.rule.clone(), f.severity))
        .collect();
    assert_eq!(
        told,
        [
            ("single-cpu".to_owned(), Severity::Critical),
            ("backlog-overflow".to_owned(), Severity::Critical),
            ("shared-cpu".to_owned(), Severity::Warning),
            ("remote-node".to_owned(), Severity::Warning),
        ]
    );
    assert_eq!(findings.len(), 1);
    let style = Style {
        width: 100,
        ..Style::default()
    };
    let shown = Report {
        findings,
        ..Report::default()
    };
    let text = text::render(&shown, &style);
    let findings = text
        .split_once("critical")
        .and_then(|(_, rest)| rest.split_once("\n\n"));
    insta::assert_snapshot!(findings.unwrap().0);
}

/// Fires with this rule, at this severity.
fn fires(report: &Report, host: &Topology, rule: &str, severity: Severity) -> Finding {
    let all = findings(report, host);
    let found = find(&all, rule).unwrap_or_else(|| panic!("{rule} did not fire: {all:#?}"));
    assert_eq!(found.severity, severity, "{found:#?}");
    assert!(!found.evidence.is_empty() && !found.summary.is_empty());
    found.clone()
}

fn is_silent(report: &Report, host: &Topology, rule: &str) {
    let all = findings(report, host);
    let found = find(&all, rule);
    assert!(found.is_none(), "{found:#?}");
    let why = abstentions(report, host);
    assert!(!why.contains_key(rule), "{rule} abstained: {why:?}");
}

fn abstains(report: &Report, host: &Topology, rule: &str, word: &str) {
    let why = abstentions(report, host);
    let why = why
        .get(rule)
        .unwrap_or_else(|| panic!("{rule} did not abstain"));
    assert!(why.contains(word), "{why}");
}

#[test]
fn every_rule_has_an_id_of_its_own_and_follows_only_from_rules_before_it() {
    for (at, rule) in RULES.iter().enumerate() {
        assert!(rule.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        for cause in rule.causes {
            let before = RULES[..at].iter().any(|other| other.id == *cause);
            assert!(before, "{} before {}", cause, rule.id);
        }
        assert!(RULES[..at].iter().all(|other| other.id != rule.id));
    }
}

/// By the text of the tests: a rule that is added without its two cases is noticed.
#[test]
fn every_rule_has_a_case_where_it_fires_and_a_near_miss_where_it_is_silent() {
    let sources = [
        include_str!("mod.rs"),
        include_str!("above.rs"),
        include_str!("any.rs"),
        include_str!("backlog.rs"),
        include_str!("captured.rs"),
        include_str!("funnel.rs"),
        include_str!("polling.rs"),
        include_str!("traps.rs"),
    ];
    let is_called = |call: &str, rule: &str| {
        let calls = sources.iter().flat_map(|source| source.split(call).skip(1));
        let mut arguments = calls.filter_map(|rest| Some(rest.split_once(");")?.0));
        arguments.any(|arguments| arguments.contains(&format!("\"{rule}\"")))
    };
    for rule in RULES {
        assert!(is_called("fires(", rule.id), "{} never fires", rule.id);
        assert!(
            is_called("is_silent(", rule.id),
            "{} is never silent",
            rule.id
        );
    }
}

#[test]
fn a_threshold_decides() {
    let (report, host) = incident();
    let mut thresholds = Thresholds::default();
    thresholds.set("remote-rate=1000000".parse().unwrap());
    let (all, _) = diagnose(Case {
        report: &report,
        host: &host,
        thresholds: &thresholds,
        apps: &[],
    });
    assert_eq!(
        find(&all, "remote-node").map(|found| found.severity),
        Some(Severity::Info)
    );
}
