//! Conclusions: what is wrong, on what evidence, what to change.

use serde::{Deserialize, Serialize};

use super::setting::Change;

/// How bad it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Packets are lost now, and this is the cause.
    Critical,
    /// Packets are lost or delayed, or will be when traffic rises.
    Warning,
    /// Worth knowing.
    #[default]
    Info,
}

/// One conclusion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Id of the rule: `backlog-overflow`, `single-cpu`, …
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// One sentence with numbers.
    pub summary: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// Ordered steps.
    pub advice: Vec<Advice>,
    /// Changes that suggest themselves and would not help, with the reason.
    pub will_not_help: Vec<String>,
    /// Findings that follow from this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follows: Vec<Finding>,
}

/// One thing a finding rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was looked at.
    pub what: String,
    /// Its value, with unit.
    pub value: String,
    /// File or hook that it was read from.
    pub source: String,
}

/// One step of a finding's advice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// What to do.
    pub step: String,
    /// Why it helps.
    pub why: String,
    /// Exact command; pasted into a root shell on this host, it works.
    pub command: Option<String>,
    /// How to undo it.
    pub revert: Option<String>,
    /// What may go wrong.
    pub risk: Option<String>,
    /// The same as `command` for `tracer tune`; empty if it cannot do this step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// A rule that could not judge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abstained {
    /// Id of the rule.
    pub rule: String,
    /// The evidence that is missing.
    pub why: String,
}
