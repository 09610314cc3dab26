//! A few lines on every rule, column, stage, hook, threshold, common drop reason and other word of the report.

mod columns;
mod hooks;
mod reasons;
mod rules;
mod stages;
mod words;

use crate::analyze::rules::threshold;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A rule of the diagnosis.
    Rule,
    /// A drop reason of the kernel.
    Reason,
    /// A column of the text report.
    Column,
    /// A stage of the receive path.
    Stage,
    /// A place in the kernel where tracer counts.
    Hook,
    /// Another word of the text report.
    Word,
}

/// Something that can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// What it is.
    pub kind: Kind,
    /// Its name where the user met it.
    pub name: &'static str,
    /// What it means, where it comes from, usual causes.
    pub text: &'static str,
}

/// Asks for the thresholds.
pub const THRESHOLDS: &str = "thresholds";

/// Prefix of drop reasons in the kernel's source, which users may paste.
const PREFIX: &str = "skb_drop_reason_";
/// Names this far off are still offered.
const NEAR: usize = 3;
/// Names offered at most.
const OFFERED: usize = 5;

/// Every topic, by kind.
pub fn topics() -> impl Iterator<Item = &'static Topic> {
    let tables = [
        rules::TOPICS,
        reasons::TOPICS,
        columns::TOPICS,
        stages::TOPICS,
        hooks::TOPICS,
        words::TOPICS,
    ];
    tables.into_iter().flatten()
}

/// Everything called `name`, in any case, with `-`, `_`, `/` or spaces: a column and a rule may share one.
#[must_use]
pub fn lookup(name: &str) -> Vec<&'static Topic> {
    let wanted = normal(name);
    topics()
        .filter(|topic| normal(topic.name) == wanted)
        .collect()
}

/// Names that are close to `name`, or that contain it; the closest first.
#[must_use]
pub fn near(name: &str) -> Vec<&'static str> {
    let wanted = normal(name);
    let thresholds = std::iter::once(THRESHOLDS);
    let names = topics().map(|topic| topic.name).chain(thresholds);
    let mut near: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let known = normal(name);
            let distance = distance(&wanted, &known);
            let holds = wanted.len() >= 3 && known.contains(&wanted);
            let is_near = distance <= NEAR && distance < wanted.chars().count().max(2);
            (is_near || holds).then_some((distance, name))
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .take(OFFERED)
        .map(|(_, name)| name)
        .collect()
}

/// The thresholds: name, value, unit, reason, source.
pub fn thresholds() -> impl Iterator<Item = String> {
    threshold::TABLE.iter().map(|threshold| {
        format!(
            "{}={} {}: {} ({})",
            threshold.name, threshold.value, threshold.unit, threshold.reason, threshold.source
        )
    })
}

fn normal(name: &str) -> String {
    let mut name = name.trim().to_lowercase().replace(['-', ' ', '/'], "_");
    if let Some(rest) = name.strip_prefix(PREFIX) {
        name = rest.to_owned();
    }
    name
}

/// Levenshtein's distance, of short words: longer ones are far from everything.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(LONGEST).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        analyze::{benign::is_benign, rules::RULES},
        bpf::HOOKS,
        model::report::Stage,
        report,
    };

    fn has(kind: Kind, name: &str) -> bool {
        lookup(name).iter().any(|topic| topic.kind == kind)
    }

    #[test]
    fn every_rule_has_an_entry_and_every_entry_is_a_rule() {
        for rule in RULES {
            assert!(has(Kind::Rule, rule.id), "{}", rule.id);
        }
        let entries: Vec<_> = topics().filter(|topic| topic.kind == Kind::Rule).collect();
        assert_eq!(entries.len(), RULES.len());
    }

    #[test]
    fn every_column_of_the_report_has_an_entry() {
        let titles = report::titles_of_all_tables();
        assert!(titles.len() > 40, "{titles:?}");
        for title in &titles {
            assert!(has(Kind::Column, title), "{title}");
        }
        let entries = topics().filter(|topic| topic.kind == Kind::Column);
        for topic in entries {
            assert!(titles.contains(topic.name), "{} is no column", topic.name);
        }
    }

    #[test]
    fn every_stage_has_an_entry_under_both_of_its_names() {
        use Stage::{Backlog, DeviceQueue, Driver, Ip, Netfilter, Other, Socket, Tcp, Udp};
        for stage in [
            Driver,
            Backlog,
            Ip,
            Netfilter,
            Tcp,
            Udp,
            Socket,
            DeviceQueue,
            Other,
        ] {
            let json = serde_json::to_string(&stage).unwrap();
            assert!(has(Kind::Stage, json.trim_matches('"')), "{json}");
            let words = crate::analyze::stage::words(stage);
            assert!(has(Kind::Stage, words), "{words}");
        }
    }

    #[test]
    fn every_hook_has_an_entry_and_every_entry_is_a_hook() {
        for hook in HOOKS {
            assert!(has(Kind::Hook, hook.name), "{}", hook.name);
        }
        let entries = topics().filter(|topic| topic.kind == Kind::Hook);
        assert_eq!(entries.count(), HOOKS.len());
        assert!(!has(Kind::Hook, "softirq"));
    }

    #[test]
    fn common_reasons_have_an_entry_and_ordinary_ones_are_called_so() {
        let reasons: Vec<_> = topics()
            .filter(|topic| topic.kind == Kind::Reason)
            .collect();
        assert!(reasons.len() >= 60, "{}", reasons.len());
        for topic in reasons {
            let benign = is_benign("f", Some(topic.name), Stage::Other).is_some();
            let says_so = topic.text.contains("Ordinary");
            assert_eq!(benign, says_so, "{}", topic.name);
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_spelling() {
        for name in [
            "CPU_BACKLOG",
            "cpu-backlog",
            "Cpu_Backlog",
            "SKB_DROP_REASON_CPU_BACKLOG",
        ] {
            assert!(has(Kind::Reason, name), "{name}");
        }
        for name in ["pkts/poll", "pkts_poll", "Pkts-Poll", "hard irqs"] {
            assert!(has(Kind::Column, name), "{name}");
        }
        let kinds: Vec<_> = lookup("residual").iter().map(|topic| topic.kind).collect();
        assert_eq!(kinds, [Kind::Rule, Kind::Column]);
    }

    #[test]
    fn names_within_a_kind_are_unique() {
        let mut seen = BTreeSet::new();
        for topic in topics() {
            assert!(
                seen.insert((topic.kind, normal(topic.name))),
                "{}",
                topic.name
            );
        }
    }

    #[test]
    fn an_unknown_name_has_neighbours() {
        assert_eq!(near("CPU_BAKLOG"), ["CPU_BACKLOG"]);
        assert!(near("squeeze").contains(&"time-squeeze"));
        assert!(near("treshold").contains(&"thresholds"));
        assert!(near("zzzzzzzzzz").is_empty());
    }

    proptest! {
        #[test]
        fn any_name_can_be_asked_for(name in ".{0,200}") {
            let _ = (lookup(&name), near(&name));
        }
    }
}
