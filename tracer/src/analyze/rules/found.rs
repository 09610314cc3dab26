//! A finding under construction.

use std::collections::BTreeSet;

use crate::model::{
    finding::{Advice, Evidence, Finding, Severity},
    setting::{Change, Setting},
};

/// A finding and the CPUs it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What is told.
    pub finding: Finding,
    /// Findings on the same CPU can follow from one another.
    pub cpus: BTreeSet<u32>,
}

/// What a rule concludes; `Err` names the evidence that is missing.
pub type Verdict = Result<Vec<Found>, String>;

/// Nothing is wrong.
pub(super) const NOTHING: Verdict = Ok(Vec::new());

impl Found {
    pub(super) fn new(rule: &str, severity: Severity, summary: String) -> Self {
        let finding = Finding {
            rule: rule.to_owned(),
            severity,
            summary,
            ..Finding::default()
        };
        Self {
            finding,
            cpus: BTreeSet::new(),
        }
    }

    pub(super) fn on(mut self, cpus: impl IntoIterator<Item = u32>) -> Self {
        self.cpus.extend(cpus);
        self
    }

    pub(super) fn evidence(
        mut self,
        what: impl Into<String>,
        value: impl Into<String>,
        source: impl Into<String>,
    ) -> Self {
        self.finding.evidence.push(Evidence {
            what: what.into(),
            value: value.into(),
            source: source.into(),
        });
        self
    }

    pub(super) fn advice(mut self, advice: impl IntoIterator<Item = Advice>) -> Self {
        self.finding.advice.extend(advice);
        self
    }

    pub(super) fn useless(mut self, what: impl Into<String>) -> Self {
        self.finding.will_not_help.push(what.into());
        self
    }

    /// The only finding.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the end of a rule, which may abstain before"
    )]
    pub(super) fn alone(self) -> Verdict {
        Ok(vec![self])
    }
}

/// A step without a command.
pub(super) fn step(step: impl Into<String>, why: impl Into<String>) -> Advice {
    Advice {
        step: step.into(),
        why: why.into(),
        ..Advice::default()
    }
}

/// The command of a step and how to undo it.
pub(super) trait With: Sized {
    fn command(self, command: impl Into<String>) -> Self;
    fn undo(self, revert: impl Into<String>) -> Self;
    fn risk(self, risk: impl Into<String>) -> Self;
    /// Each setting with its new value: what the command does.
    fn sets(self, changes: impl IntoIterator<Item = (Setting, String)>) -> Self;
}

impl With for Advice {
    fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    fn undo(mut self, revert: impl Into<String>) -> Self {
        self.revert = Some(revert.into());
        self
    }

    fn risk(mut self, risk: impl Into<String>) -> Self {
        self.risk = Some(risk.into());
        self
    }

    fn sets(mut self, changes: impl IntoIterator<Item = (Setting, String)>) -> Self {
        let changes = changes.into_iter();
        self.changes
            .extend(changes.map(|(setting, to)| Change { setting, to }));
        self
    }
}
