//! The rules an expert uses: each a pure function of the report's numbers and the host's set-up that yields findings,
//! nothing, or says which evidence it would have needed.

pub mod threshold;

use crate::model::{
    finding::{Abstained, Finding},
    report::Report,
    topology::Topology,
};
use threshold::Thresholds;

/// What a rule may look at.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The window's numbers.
    pub report: &'a Report,
    /// How the host is set up.
    pub host: &'a Topology,
    /// From where on something is a finding.
    pub thresholds: &'a Thresholds,
}

/// What a rule concludes; `Err` names the evidence that is missing.
pub type Verdict = Result<Vec<Finding>, String>;

/// One rule.
pub struct Rule {
    /// Its id, in findings and for `tracer explain`.
    pub id: &'static str,
    /// Judges.
    pub judge: fn(Case<'_>) -> Verdict,
}

/// Every rule, in the order in which findings of equal severity are told.
pub const RULES: &[Rule] = &[];

/// Asks every rule: findings ranked, those that follow from another folded under it, and the rules that could not judge.
#[must_use]
pub fn diagnose(case: Case<'_>) -> (Vec<Finding>, Vec<Abstained>) {
    let mut findings = Vec::new();
    let mut abstained = Vec::new();
    for rule in RULES {
        match (rule.judge)(case) {
            Ok(found) => findings.extend(found),
            Err(why) => abstained.push(Abstained {
                rule: rule.id.to_owned(),
                why,
            }),
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    (findings, abstained)
}
