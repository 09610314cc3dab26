//! Counters of `/proc/net/snmp`, `snmp6` and `netstat` beside the drops that raise them. They are of tracer's network
//! namespace, and so are the drops.

use super::{
    super::reconciliation::programs_first,
    Facts, Hooks, recursion,
    relation::{ALONE, RELATIONS, Relation},
    skew, untraced,
};
use crate::{
    analyze::{
        benign::is_benign,
        names::Site,
        reconcile::{self, Cause, Skew},
        stage::normalise,
    },
    model::{
        report::{Reconciliation, Stage},
        window::Window,
    },
    proc::snmp::Protocols,
    report::number,
};

/// Drops of one site and `EtherType` that were, or may have been, in tracer's namespace.
struct Dropped {
    site: Site,
    protocol: u32,
    /// In tracer's own namespace.
    own: u64,
    /// In one that is not known: the packet had lost its device.
    unknown: u64,
}

pub(super) fn rows(window: &Window, facts: &Facts, hooks: &Hooks) -> Vec<Reconciliation> {
    let drops = dropped(window, facts);
    // Nobody looks through a kernel's reasons if nothing was counted.
    let reasons = std::cell::LazyCell::new(|| facts.names.gives_reasons());
    let full = window.cpus.values().map(|c| c.drop_table_full).sum();
    let traced = RELATIONS.iter().filter_map(|relation| {
        let delta = difference(&window.protocols, relation.counters, relation.without);
        let found = Found::of(relation, &drops);
        if delta == 0 && found.packets == 0 {
            return None;
        }
        // UDP's drops have a row for each reason, or, on kernels without reasons, one row.
        let without_reasons = relation.reasons.is_empty();
        if relation.stage == Stage::Udp && without_reasons == *reasons {
            return None;
        }
        let counter = name(relation, &window.protocols);
        let known = facts.names.has_reason_of(relation.reasons);
        if !without_reasons && !known {
            let why = "this kernel has no drop reason for it; the drop sites have the packets";
            return Some(untraced(counter, delta, why)).filter(|_| delta != 0);
        }
        let between = programs_first(window, |between| {
            difference(&between.protocols, relation.counters, &[])
        });
        let causes = causes(window, &found, full, between);
        let traced = (hooks.drop && !found.hidden).then_some(found.packets);
        Some(reconcile::row(counter, delta, traced, &causes))
    });
    let alone = ALONE.iter().filter_map(|(counter, held, why)| {
        let delta = difference(&window.protocols, &[counter], held);
        let counter = beyond(counter, held);
        (delta != 0).then(|| untraced(counter, delta, why))
    });
    traced.chain(alone).collect()
}

/// `counters` together but for what `without` count.
fn difference(counters: &Protocols, of: &[&str], without: &[&str]) -> u64 {
    let sum = |names: &[&str]| -> u64 { names.iter().filter_map(|name| counters.get(*name)).sum() };
    sum(of).saturating_sub(sum(without))
}

/// `Udp.RcvbufErrors`; of several counters the first and those that moved.
fn name(relation: &Relation, counters: &Protocols) -> String {
    let named = relation.counters.iter().enumerate();
    let named = named.filter(|(index, name)| *index == 0 || counters.contains_key(**name));
    let named: Vec<_> = named.map(|(_, name)| *name).collect();
    beyond(&named.join(" + "), relation.without)
}

fn beyond(counter: &str, held: &[&str]) -> String {
    let held: Vec<_> = held
        .iter()
        .filter(|name| !name.starts_with("UdpLite"))
        .filter_map(|name| name.split_once('.'))
        .map(|(_, name)| name)
        .collect();
    if held.is_empty() {
        return counter.to_owned();
    }
    format!("{counter} beyond {}", held.join(", "))
}

fn dropped(window: &Window, facts: &Facts) -> Vec<Dropped> {
    let own = |netns: u32| netns == facts.names.own_netns;
    let here = window
        .drops
        .iter()
        .filter(|(key, _)| own(key.netns) || key.netns == 0);
    here.map(|(key, by_cpu)| {
        let packets = by_cpu.values().map(|d| d.packets).sum();
        let (own, unknown) = if own(key.netns) {
            (packets, 0)
        } else {
            (0, packets)
        };
        Dropped {
            site: facts.names.site(key),
            protocol: key.protocol,
            own,
            unknown,
        }
    })
    .collect()
}

/// Drops that stand beside a relation's counters.
#[derive(Default)]
struct Found {
    packets: u64,
    /// Of these, in a namespace that is not known.
    unknown: u64,
    /// Drops at the same stage that gave no reason.
    without_reason: u64,
    /// Function names are hidden: the stage is not known.
    hidden: bool,
}

impl Found {
    fn of(relation: &Relation, drops: &[Dropped]) -> Self {
        let mut found = Self::default();
        for drop in drops {
            let site = &drop.site;
            let reason = site.reason.as_deref();
            let is_wanted = reason.is_some_and(|reason| relation.reasons.contains(&reason));
            if relation.protocol.is_some_and(|p| p != drop.protocol) {
                continue;
            }
            found.hidden |= site.function.is_empty() && (is_wanted || relation.reasons.is_empty());
            let in_function = relation.functions.is_empty()
                || relation.functions.contains(&normalise(&site.function));
            if site.stage != relation.stage || !in_function {
                continue;
            }
            if is_wanted || relation.reasons.is_empty() {
                found.packets += drop.own + drop.unknown;
                found.unknown += drop.unknown;
            } else if matches!(reason, None | Some("NOT_SPECIFIED"))
                && is_benign(&site.function, reason, site.stage).is_none()
            {
                found.without_reason += drop.own + drop.unknown;
            }
        }
        found
    }
}

fn causes(window: &Window, found: &Found, table_full: u64, between: Skew) -> Vec<Cause> {
    let mut causes: Vec<_> = recursion(window, &["kfree_skb"]).into_iter().collect();
    let kernel_more = |n: u64, words: String| Cause {
        words,
        kernel_more: n,
        traced_more: 0,
    };
    if table_full != 0 {
        let words = format!(
            "{} found the drop table full",
            number::of(table_full, "drop")
        );
        causes.push(kernel_more(table_full, words));
    }
    if found.unknown != 0 {
        causes.push(Cause {
            words: format!(
                "{} traced in a namespace that is not known, perhaps another",
                number::of(found.unknown, "drop")
            ),
            kernel_more: 0,
            traced_more: found.unknown,
        });
    }
    causes.extend(skew(window.gaps.protocols, between));
    if found.without_reason != 0 {
        let words = format!(
            "{} there gave no reason",
            number::of(found.without_reason, "drop")
        );
        causes.push(kernel_more(found.without_reason, words));
    }
    causes
}
