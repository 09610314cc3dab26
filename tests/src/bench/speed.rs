//! How fast the storm is while it has its core for itself.
//!
//! The other thread of a core may belong to somebody else, and the core's frequency to how many others are busy. So
//! between any two chunks of the storm a witness does a fixed piece of arithmetic, which takes always the same time on a
//! core of its own. Chunks count only between two witnesses of that time, and how long they took is a multiple of it. What
//! is rarer than every fourth chunk does not show in the figure: a wake-up, an interrupt, a single event within its rate.
//!
//! On a machine whose core is never free the fastest witness is a shared one, and nothing tells.

use std::{hint::black_box, time::Instant};

use super::stats::{median, percentile};

/// Turns of the witness's loop: so many that nothing else on the core can hide in the clock's resolution.
const TURNS: u32 = 300;
/// Before it is timed, so that its branches are known to the CPU again.
const WARM_UP: u32 = 20;
/// Witnesses of the same speed differ by so much at most.
const SAME: f64 = 1.015;
/// So much of a block has to be between witnesses of the same speed.
const ALONE: f64 = 0.1;
/// And so many chunks.
const FEWEST: usize = 20;
/// So much slower than that of a core of its own can a witness be for the frequency alone.
const FREQUENCY: f64 = 1.12;
/// Of the chunks that count, so many are faster than the block's figure: a packet now and then is interrupted.
const SHARE: f64 = 0.25;

/// What one block of the storm showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// ns a packet.
    pub packet_ns: f64,
    /// ns that the witness took meanwhile.
    pub witness_ns: f64,
}

impl Speed {
    /// Of chunks, ns a packet, and the witnesses before, between and after them. `None` if too few are
    /// between two witnesses of the most frequent time.
    #[must_use]
    pub fn of(packets: &[f64], witnesses: &[f64]) -> Option<Self> {
        let same = most_frequent(witnesses)?;
        let alone: Vec<_> = witnesses
            .windows(2)
            .zip(packets)
            .filter(|(around, _)| around.iter().all(|witness| same.contains(witness)))
            .map(|(_, packet)| *packet)
            .collect();
        if alone.len() < FEWEST || (alone.len() as f64) < ALONE * packets.len() as f64 {
            return None;
        }
        let witnesses = witnesses.iter().copied();
        let witnesses: Vec<_> = witnesses.filter(|witness| same.contains(witness)).collect();
        Some(Self {
            packet_ns: percentile(&alone, SHARE)?,
            witness_ns: median(&witnesses)?,
        })
    }

    /// Whether the witness was as fast as a core of its own allows, if that is `fastest`.
    #[must_use]
    pub fn is_alone(&self, fastest: Option<f64>) -> bool {
        fastest.is_none_or(|fastest| self.witness_ns <= fastest * FREQUENCY)
    }

    /// A packet's time as a multiple of the witness's: does not depend on the core's frequency.
    #[must_use]
    pub const fn relative(&self) -> f64 {
        self.packet_ns / self.witness_ns
    }
}

/// The narrow range that holds the most of `values`.
fn most_frequent(values: &[f64]) -> Option<std::ops::RangeInclusive<f64>> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut end = 0;
    let mut best = (0, 0);
    for (begin, low) in sorted.iter().enumerate() {
        while sorted.get(end).is_some_and(|high| *high <= low * SAME) {
            end += 1;
        }
        if end - begin > best.1 - best.0 {
            best = (begin, end);
        }
    }
    Some(*sorted.get(best.0)?..=*sorted.get(best.1.checked_sub(1)?)?)
}

/// Does the piece of arithmetic; ns.
#[must_use]
pub fn witness() -> f64 {
    black_box(arithmetic(WARM_UP, black_box(1)));
    let begin = Instant::now();
    black_box(arithmetic(TURNS, black_box(2)));
    begin.elapsed().as_nanos() as f64
}

/// In registers only, and as much at a time as a core can do: what another thread takes away shows.
#[inline(never)]
fn arithmetic(turns: u32, seed: u64) -> u64 {
    let mut lanes = [1, 2, 3, 4, 5, 6].map(|lane| seed ^ lane);
    for _ in 0..turns {
        for lane in &mut lanes {
            *lane = lane.rotate_left(7) ^ (*lane >> 3);
        }
    }
    lanes.into_iter().fold(0, |all, lane| all ^ lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunks_between_two_witnesses_of_the_usual_time_count() {
        let mut witnesses = vec![700.0, 702.0, 990.0, 1_030.0];
        let mut packets = vec![600.0, 700.0, 710.0, 800.0];
        witnesses.extend([701.0; 20]);
        packets.extend([620.0; 19]);
        let found = Speed::of(&packets, &witnesses).unwrap();
        assert_eq!((found.packet_ns, found.witness_ns), (620.0, 701.0));
        // One fewer of them says nothing.
        assert_eq!(Speed::of(&packets[1..], &witnesses[1..]), None);
        assert_eq!(Speed::of(&[], &[]), None);
    }

    #[test]
    fn a_block_whose_witnesses_all_differ_says_nothing() {
        let witnesses: Vec<_> = (0..101).map(|n| 900.0 + 5.0 * f64::from(n)).collect();
        assert_eq!(Speed::of(&[900.0; 100], &witnesses), None);
    }

    #[test]
    fn a_slower_frequency_is_no_company_and_does_not_change_what_is_relative() {
        let fast = Speed {
            packet_ns: 600.0,
            witness_ns: 750.0,
        };
        let slow = Speed {
            packet_ns: 640.0,
            witness_ns: 800.0,
        };
        assert!(slow.is_alone(Some(750.0)) && fast.is_alone(None));
        assert!((slow.relative() - fast.relative()).abs() < 1e-9);
        let shared = Speed {
            packet_ns: 900.0,
            witness_ns: 1_000.0,
        };
        assert!(!shared.is_alone(Some(750.0)));
    }

    #[test]
    fn the_witness_takes_time() {
        assert!(witness() > 0.0);
    }
}
