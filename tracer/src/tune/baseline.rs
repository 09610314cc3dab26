//! How much was lost, in a number that two measurements of different traffic can be compared by.

use serde::{Deserialize, Serialize};

use crate::model::report::Report;

/// Fewer packets than this say nothing about a share of a million.
pub const ENOUGH_PACKETS: u64 = 1_000;
/// Worse is more than this many percent of what was to be expected …
const MARGIN_PERCENT: u128 = 110;
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
    /// Of these lost: harmful drops, and those that a card missed.
    pub lost: u64,
}

impl Baseline {
    /// Of a report. Packets are those of `/proc/net/softnet_stat`, where each counts once, RPS or not.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let rows = report.cpus.iter().filter_map(|cpu| cpu.softnet);
        let entered = rows.map(|row| row.processed.saturating_add(row.dropped));
        let entered = entered.fold(0, u64::saturating_add);
        let missed = report.devices.iter().map(|device| device.rx_missed);
        let missed = missed.fold(0, u64::saturating_add);
        let dropped = report.drops.iter().filter(|drop| !drop.benign);
        let dropped = dropped.map(|drop| drop.packets);
        let dropped = dropped.fold(0, u64::saturating_add);
        // Where kfree_skb is not hooked, the backlogs are all that is known.
        let rows = report.cpus.iter().filter_map(|cpu| cpu.softnet);
        let refused = rows.map(|row| row.dropped).fold(0, u64::saturating_add);
        let dropped = dropped
            .max(report.drop_totals.harmful.unwrap_or(0))
            .max(refused);
        Self {
            duration_ns: report.duration_ns,
            packets: entered.saturating_add(missed),
            lost: dropped.saturating_add(missed),
        }
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
        Some(u128::from(after.lost) > expected * MARGIN_PERCENT / 100 + MARGIN_PACKETS)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(packets: u64, lost: u64) -> Baseline {
        Baseline {
            duration_ns: 1,
            packets,
            lost,
        }
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
