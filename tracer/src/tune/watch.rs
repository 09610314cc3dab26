//! Whether changes that were just made stay, by what was measured since.

use super::baseline::{Baseline, ENOUGH_PACKETS};
use crate::report::number::count;

/// What becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// They stay: no larger share is lost.
    Stay,
    /// They stay, since nobody can tell, and why.
    Unknown(String),
    /// They are taken back, and why.
    Back(String),
}

/// Judges by the losses `before` and `after`; `Err`: why the latter are not known. Where there was traffic to judge by
/// and none is left, the changes are to blame.
#[must_use]
pub fn judge(before: &Baseline, after: Result<&Baseline, String>) -> Judgement {
    let after = match after {
        Ok(after) => after,
        Err(why) => return Judgement::Back(format!("cannot judge ({why})")),
    };
    if before.has_dried_up(after) {
        return Judgement::Back(
            "less than a tenth of the packets come that came before".to_owned(),
        );
    }
    let why = match (before.incomparable(after), before.is_worse(after)) {
        (Some(why), _) => why.to_owned(),
        (None, Some(false)) => return Judgement::Stay,
        (None, Some(true)) => return Judgement::Back("more is lost than before".to_owned()),
        (None, None) => format!(
            "too few packets to judge: {} before, {} after, {} are needed",
            count(before.packets),
            count(after.packets),
            count(ENOUGH_PACKETS)
        ),
    };
    if before.packets < ENOUGH_PACKETS {
        Judgement::Unknown(why)
    } else {
        Judgement::Back(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::baseline::Scope;

    const SECOND: u64 = 1_000_000_000;

    fn measured(seconds: u64, packets: u64, lost: u64) -> Baseline {
        Baseline {
            duration_ns: seconds * SECOND,
            packets,
            lost,
            ..Baseline::default()
        }
    }

    fn is_back(before: &Baseline, after: &Baseline) -> bool {
        matches!(judge(before, Ok(after)), Judgement::Back(_))
    }

    #[test]
    fn changes_that_end_the_traffic_are_taken_back() {
        let before = measured(10, 100_000, 0);
        assert!(is_back(&before, &measured(30, 0, 0)));
        let slow = measured(10, 2_000, 0);
        assert!(is_back(&slow, &measured(2, 300, 0)), "too few to judge");
        assert!(
            is_back(&before, &measured(30, 29_000, 0)),
            "less than a tenth"
        );
        assert_eq!(
            judge(&before, Ok(&measured(30, 31_000, 0))),
            Judgement::Stay
        );
        assert!(is_back(&before, &measured(10, 100_000, 900)), "more lost");
        assert!(is_back(&measured(10, 900, 0), &measured(10, 3, 0)));
    }

    #[test]
    fn where_there_was_no_traffic_before_the_changes_stay() {
        let is_unknown =
            |before, after| matches!(judge(&before, Ok(&after)), Judgement::Unknown(_));
        assert!(is_unknown(measured(10, 900, 0), measured(10, 800, 0)));
        assert!(is_unknown(measured(10, 0, 0), measured(10, 0, 0)));
        assert!(is_unknown(measured(10, 5, 0), measured(10, 0, 0)), "chance");
        assert!(is_unknown(measured(0, 900, 0), measured(10, 0, 0)));
    }

    #[test]
    fn losses_of_another_scope_are_not_compared() {
        let of = |traced, lost| Baseline {
            scope: Some(Scope {
                restricted: false,
                traced,
            }),
            ..measured(10, 100_000, lost)
        };
        assert_eq!(judge(&of(true, 900), Ok(&of(true, 0))), Judgement::Stay);
        let judged = judge(&of(true, 900), Ok(&of(false, 0)));
        let why = "drops (kfree_skb) were traced in one measurement only";
        assert_eq!(judged, Judgement::Back(why.to_owned()));
    }

    #[test]
    fn what_cannot_be_measured_is_taken_back() {
        let before = measured(10, 100_000, 0);
        let judged = judge(&before, Err("stopped".to_owned()));
        assert_eq!(judged, Judgement::Back("cannot judge (stopped)".to_owned()));
    }
}
