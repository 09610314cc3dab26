//! How much was lost, in a number that two measurements of different traffic can be compared by.

use serde::{Deserialize, Serialize};

use crate::{
    analyze::missed,
    model::report::{DropTotals, HookStatus, Report},
};

/// Fewer packets than this say nothing about a share of a million.
pub const ENOUGH_PACKETS: u64 = 1_000;
/// Worse is more by this many percent than what was to be expected …
pub const MARGIN_PERCENT: u32 = 10;
/// … and this many packets beyond: a handful is chance.
const MARGIN_PACKETS: u128 = 10;
/// Traffic that shrank to less than one part of this many is not let through any more.
const SHRUNK: u128 = 10;

/// Traffic and losses of the whole host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Length of the measurement, ns.
    pub duration_ns: u64,
    /// Packets that came to the stack or were lost before it.
    pub packets: u64,
    /// Of these lost: harmful drops, those that the drop table had no room for, and those that a card missed.
    pub lost: u64,
    /// What `lost` covers; `null`: an earlier tracer did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// Which losses were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Those of the devices of `--interface` only.
    pub restricted: bool,
    /// Every drop: `kfree_skb` was hooked. Else only what the backlogs refused and the cards missed.
    pub traced: bool,
}

impl Baseline {
    /// Of a report. Packets are those of `/proc/net/softnet_stat`, where each counts once, RPS or not.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let rows = report.cpus.iter().filter_map(|cpu| cpu.softnet);
        let entered = rows.map(|row| row.processed.saturating_add(row.dropped));
        let entered = entered.fold(0, u64::saturating_add);
        let missed = missed::packets(report);
        let dropped = report.drops.iter().filter(|drop| !drop.benign);
        let dropped = dropped.map(|drop| drop.packets);
        let dropped = dropped.fold(0, u64::saturating_add);
        let unattributed = report.drop_totals.unattributed.unwrap_or(0);
        // Where kfree_skb is not hooked, the backlogs are all that is known.
        let rows = report.cpus.iter().filter_map(|cpu| cpu.softnet);
        let refused = rows.map(|row| row.dropped).fold(0, u64::saturating_add);
        let dropped = dropped
            .max(report.drop_totals.harmful.unwrap_or(0))
            .saturating_add(unattributed)
            .max(refused);
        let traced = is_traced(report);
        Self {
            duration_ns: report.duration_ns,
            packets: entered.saturating_add(missed),
            lost: dropped.saturating_add(missed),
            scope: Some(Scope {
                restricted: !report.interfaces.is_empty(),
                traced,
            }),
        }
    }

    /// Of a report that is compared with `before`: where that counted only what the backlogs refused and the cards missed,
    /// no more is counted here.
    #[must_use]
    pub fn like(before: &Self, report: &Report) -> Self {
        let counts_all = before.scope.is_none_or(|scope| scope.traced);
        if counts_all || !is_traced(report) {
            return Self::of(report);
        }
        let mut counted = report.clone();
        counted.drops.clear();
        counted.drop_totals = DropTotals::default();
        counted.hooks.clear();
        Self::of(&counted)
    }

    /// Lost packets of a million; `None` without packets.
    #[must_use]
    pub fn per_million(&self) -> Option<u64> {
        let per_million = (u128::from(self.lost) * 1_000_000).checked_div(self.packets.into())?;
        u64::try_from(per_million).ok()
    }

    /// Whether `after` lost a larger share than this; `None` if one of them had too little traffic to tell.
    #[must_use]
    pub fn is_worse(&self, after: &Self) -> Option<bool> {
        if self.packets < ENOUGH_PACKETS || after.packets < ENOUGH_PACKETS {
            return None;
        }
        let expected =
            u128::from(self.lost) * u128::from(after.packets) / u128::from(self.packets.max(1));
        Some(
            u128::from(after.lost)
                > expected * u128::from(100 + MARGIN_PERCENT) / 100 + MARGIN_PACKETS,
        )
    }

    /// Why the losses of `after` cannot be compared with these, if they are known to cover something else.
    #[must_use]
    pub fn incomparable(&self, after: &Self) -> Option<&'static str> {
        let (then, now) = self.scope.zip(after.scope)?;
        if then.restricted != now.restricted {
            Some("one measurement is of all devices, the other of --interface only")
        } else if then.traced != now.traced {
            Some("drops (kfree_skb) were traced in one measurement only")
        } else {
            None
        }
    }

    /// Whether in `after` fewer than a tenth of the packets came that came here in the same time. A handful may be late.
    #[must_use]
    pub fn has_dried_up(&self, after: &Self) -> bool {
        let duration = u128::from(after.duration_ns);
        let expected = (u128::from(self.packets) * duration)
            .checked_div(u128::from(self.duration_ns))
            .unwrap_or(0);
        expected >= MARGIN_PACKETS && u128::from(after.packets) * SHRUNK < expected
    }
}

fn is_traced(report: &Report) -> bool {
    let mut hooks = report.hooks.iter();
    hooks.any(|hook| hook.name == "kfree_skb" && hook.status == HookStatus::Attached)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::{Drop, Hook};

    fn measured(packets: u64, lost: u64) -> Baseline {
        Baseline {
            duration_ns: 1,
            packets,
            lost,
            ..Baseline::default()
        }
    }

    #[test]
    fn drops_without_an_entry_are_lost_and_the_scope_is_told() {
        let mut report = Report {
            duration_ns: 1,
            drops: vec![Drop {
                packets: 7,
                ..Drop::default()
            }],
            drop_totals: DropTotals {
                harmful: Some(7),
                unattributed: Some(5),
                ..DropTotals::default()
            },
            ..Report::default()
        };
        let blind = Baseline::of(&report);
        assert_eq!(blind.lost, 12);
        report.hooks = vec![Hook {
            name: "kfree_skb".to_owned(),
            status: HookStatus::Attached,
            ..Hook::default()
        }];
        let whole = Baseline::of(&report);
        assert_eq!(Baseline::like(&whole, &report), whole);
        let like_blind = Baseline::like(&blind, &report);
        assert_eq!(like_blind.lost, 0, "no backlog refused any");
        assert!(blind.incomparable(&like_blind).is_none());
        report.interfaces = vec!["eth0".to_owned()];
        let part = Baseline::of(&report);
        let unknown = measured(1, 0);
        assert!(whole.incomparable(&whole).is_none() && unknown.incomparable(&part).is_none());
        assert!(blind.incomparable(&whole).unwrap().contains("kfree_skb"));
        assert!(part.incomparable(&whole).unwrap().contains("--interface"));
    }

    #[test]
    fn worse_is_a_larger_share_and_no_chance() {
        let before = measured(100_000, 1_000);
        assert_eq!(before.per_million(), Some(10_000));
        assert_eq!(before.is_worse(&measured(1_000_000, 10_500)), Some(false));
        assert_eq!(before.is_worse(&measured(1_000_000, 12_000)), Some(true));
        assert_eq!(before.is_worse(&measured(10, 10)), None);
        let clean = measured(100_000, 0);
        assert_eq!(clean.is_worse(&measured(100_000, 9)), Some(false));
        assert_eq!(clean.is_worse(&measured(100_000, 90)), Some(true));
    }
}
