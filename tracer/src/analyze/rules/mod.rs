//! The rules an expert uses: each a pure function of the report's numbers and the host's set-up that yields findings,
//! nothing, or says which evidence it would have needed.

pub mod threshold;

mod backlog;
mod case;
mod command;
mod effective;
mod found;
mod irqbalance;
mod ledger;
mod outside;
mod plan;
mod polling;
mod remote_node;
mod ring;
mod shared_cpu;
mod single_cpu;
mod sockets;
mod squeeze;
#[cfg(test)]
pub(crate) mod tests;
mod wait;

use std::cmp::Reverse;

pub use case::Case;
pub(crate) use command::{mask, quote};
pub use found::{Found, Verdict};
pub(crate) use plan::placed;

use crate::model::finding::{Abstained, Advice, Finding, Severity};

/// One rule.
pub struct Rule {
    /// Its id, in findings and for `tracer explain`.
    pub id: &'static str,
    /// Judges.
    pub judge: fn(Case<'_>) -> Verdict,
    /// Rules that this one's findings follow from, if they are about the same CPU; the likeliest first.
    pub causes: &'static [&'static str],
}

const fn rule(
    id: &'static str,
    judge: fn(Case<'_>) -> Verdict,
    causes: &'static [&'static str],
) -> Rule {
    Rule { id, judge, causes }
}

/// Every rule, in the order in which findings of equal severity are told: causes before effects.
pub const RULES: &[Rule] = &[
    rule(single_cpu::ID, single_cpu::judge, &[]),
    rule(backlog::ID, backlog::judge, &[single_cpu::ID]),
    rule(
        shared_cpu::ID,
        shared_cpu::judge,
        &[single_cpu::ID, backlog::ID],
    ),
    rule(remote_node::ID, remote_node::judge, &[single_cpu::ID]),
    rule(ring::ID, ring::judge, &[single_cpu::ID]),
    rule(outside::CLOUD, outside::cloud, &[]),
    rule(outside::STEAL, outside::steal, &[]),
    rule(sockets::SLOW_READER, sockets::slow_reader, &[]),
    rule(sockets::SOCKET_BACKLOG, sockets::socket_backlog, &[]),
    rule(sockets::LISTEN, sockets::listen, &[]),
    rule(sockets::SYN_QUEUE, sockets::syn_queue, &[]),
    rule(sockets::CONNTRACK, sockets::conntrack, &[]),
    rule(
        wait::ID,
        wait::judge,
        &[single_cpu::ID, backlog::ID, shared_cpu::ID, outside::STEAL],
    ),
    rule(
        squeeze::ID,
        squeeze::judge,
        &[single_cpu::ID, backlog::ID, ring::ID],
    ),
    rule(ledger::RESIDUAL, ledger::residual, &[]),
    rule(
        irqbalance::ID,
        irqbalance::judge,
        &[
            single_cpu::ID,
            backlog::ID,
            shared_cpu::ID,
            remote_node::ID,
            ring::ID,
        ],
    ),
    rule(polling::IRQ_RATE, polling::irq_rate, &[single_cpu::ID]),
    rule(effective::ID, effective::judge, &[single_cpu::ID]),
    rule(
        outside::SINGLE_QUEUE,
        outside::single_queue,
        &[single_cpu::ID],
    ),
    rule(polling::SUSTAINED, polling::sustained, &[single_cpu::ID]),
    rule(polling::THREADED, polling::threaded, &[]),
    rule(sockets::FIREWALL, sockets::firewall, &[sockets::CONNTRACK]),
    rule(ledger::ORDINARY, ledger::ordinary, &[]),
];

/// Asks every rule: findings ranked, those that follow from another folded under it, and the rules that could not judge.
#[must_use]
pub fn diagnose(case: Case<'_>) -> (Vec<Finding>, Vec<Abstained>) {
    let mut found = Vec::new();
    let mut abstained = Vec::new();
    for rule in RULES {
        match (rule.judge)(case) {
            Ok(more) => found.extend(more),
            Err(why) => abstained.push(Abstained {
                rule: rule.id.to_owned(),
                why,
            }),
        }
    }
    for advice in found.iter_mut().flat_map(|found| &mut found.finding.advice) {
        command::enter_netns(case, advice);
    }
    heed_irqbalance(&mut found);
    let mut findings = fold(found);
    ban_first(&mut findings);
    (findings, abstained)
}

/// The steps that move the processes of [`Case::apps`] off the CPUs where interrupts are to be, those of `busy` among
/// them.
pub(crate) fn apart(case: Case<'_>, busy: &std::collections::BTreeSet<u32>) -> Vec<Advice> {
    shared_cpu::apart(case, busy)
}

/// Where another finding advises to pin interrupts, irqbalance would undo that.
fn heed_irqbalance(found: &mut [Found]) {
    let Some(cpus) = found
        .iter()
        .find(|found| pins(&found.finding))
        .map(|found| found.cpus.clone())
    else {
        return;
    };
    for daemon in found
        .iter_mut()
        .filter(|found| found.finding.rule == irqbalance::ID)
    {
        daemon.finding.severity = Severity::Warning;
        daemon.cpus.extend(&cpus);
    }
}

/// Whether it advises to pin interrupts.
fn pins(finding: &Finding) -> bool {
    let commands = finding.advice.iter();
    let mut commands = commands.filter_map(|advice| advice.command.as_ref());
    finding.rule != irqbalance::ID
        && commands.any(|command| command.contains("smp_affinity_list") && command.contains("echo"))
}

/// irqbalance is told to leave vectors alone before the first step that pins any, and only there.
fn ban_first(findings: &mut [Finding]) {
    let Some(daemon) = first(findings, &|finding| finding.rule == irqbalance::ID) else {
        return;
    };
    let ban = daemon.advice.clone();
    let Some(parent) = first(findings, &pins) else {
        return;
    };
    let rule = parent.rule.clone();
    parent.advice.splice(0..0, ban);
    if let Some(daemon) = first(findings, &|finding| finding.rule == irqbalance::ID) {
        daemon.advice = vec![found::step(
            format!("Do the first step of {rule} before the others"),
            "irqbalance would move what they pin",
        )];
    }
}

/// The first that `is`, in the order told.
fn first<'a>(
    findings: &'a mut [Finding],
    is: &dyn Fn(&Finding) -> bool,
) -> Option<&'a mut Finding> {
    for finding in findings {
        if is(finding) {
            return Some(finding);
        }
        if let Some(found) = first(&mut finding.follows, is) {
            return Some(found);
        }
    }
    None
}

/// Ranks, and puts each finding under the one that it follows from. `found` is in the order of the rules.
fn fold(mut found: Vec<Found>) -> Vec<Finding> {
    found.sort_by_key(|found| found.finding.severity);
    let parents: Vec<Option<usize>> = found.iter().map(|child| parent(child, &found)).collect();
    let mut findings: Vec<Option<Finding>> =
        found.into_iter().map(|found| Some(found.finding)).collect();
    // A child's own children first: the deepest are moved before their parents are.
    let mut order: Vec<usize> = (0..findings.len()).collect();
    order.sort_by_key(|at| Reverse(depth(*at, &parents)));
    for at in order {
        if let Some(parent) = parents[at]
            && let Some(mut child) = findings[at].take()
            && let Some(parent) = &mut findings[parent]
        {
            without_repeats(&mut child, parent);
            parent.follows.push(child);
        }
    }
    findings.into_iter().flatten().collect()
}

fn parent(child: &Found, found: &[Found]) -> Option<usize> {
    let rule = RULES.iter().find(|rule| rule.id == child.finding.rule)?;
    let on_same_cpu = |other: &Found| !other.cpus.is_disjoint(&child.cpus);
    // What is graver has to be read first.
    let is_as_grave = |other: &Found| other.finding.severity <= child.finding.severity;
    rule.causes.iter().find_map(|cause| {
        found.iter().position(|other| {
            other.finding.rule == *cause && on_same_cpu(other) && is_as_grave(other)
        })
    })
}

/// Causes come before effects in [`RULES`], so this ends.
fn depth(at: usize, parents: &[Option<usize>]) -> usize {
    std::iter::successors(parents[at], |parent| parents[*parent]).count()
}

/// What the cause advises already need not be said again.
fn without_repeats(child: &mut Finding, parent: &Finding) {
    let said = |command: &Option<String>| {
        command.is_some()
            && parent
                .advice
                .iter()
                .any(|advice| advice.command == *command)
    };
    let before = child.advice.len();
    child.advice.retain(|advice| !said(&advice.command));
    if child.advice.is_empty() && before > 0 {
        child.advice.push(found::step(
            format!("Follow the advice on {}", parent.rule),
            "it ends this, too",
        ));
    }
    let said = |what: &String| parent.will_not_help.contains(what);
    child.will_not_help.retain(|what| !said(what));
}
