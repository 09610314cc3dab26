//! Rounds of the storm: one without anything, one with a contender attached, one without. Contenders alternate in random
//! order, each started and ended for every round.
//!
//! Where the other thread of a core belongs to somebody else, the machine has several speeds, each for tenths of seconds to
//! many seconds. So what a contender adds is the share by which its round is slower than the faster of its two neighbours;
//! in ns it is that share of a packet on the undisturbed machine. A round whose neighbours differ by more than a tenth is
//! left out, counted, and made again as long as there is time.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    CPU,
    contender::{Contender, Paths},
    elsewhere,
    result::Results,
    stats::percentile,
    storm::Storm,
};

/// Chunks of a round.
const CHUNKS: usize = 600;
/// Of all rounds without anything, so many are faster than the undisturbed machine is taken to be.
const UNDISTURBED: f64 = 0.1;
/// How much slower one of two neighbours may be.
const STEADY: f64 = 1.1;

/// A contender's round and its neighbours, ns a packet.
#[derive(Clone, Copy, Debug)]
struct Round {
    before: f64,
    with: f64,
    after: f64,
}

impl Round {
    /// What the contender adds, as a share of the faster neighbour; `None` if the machine changed its speed.
    fn added(&self) -> Option<f64> {
        let (faster, slower) = (self.before.min(self.after), self.before.max(self.after));
        (slower <= faster * STEADY).then(|| self.with / faster - 1.0)
    }
}

/// All rounds so far.
#[derive(Debug, Default)]
struct Rounds {
    of: BTreeMap<&'static str, Vec<Round>>,
}

impl Rounds {
    /// ns a packet, of the machine that nobody disturbs.
    fn undisturbed(&self) -> f64 {
        let bare = self.of.values().flatten().map(|round| round.after);
        percentile(&bare.collect::<Vec<_>>(), UNDISTURBED).unwrap_or(f64::NAN)
    }

    /// What a contender adds, ns a packet, by round that is not left out, and how many are.
    fn added(&self, name: &str) -> (Vec<f64>, usize) {
        let undisturbed = self.undisturbed();
        let rounds = self.of.get(name).map_or(&[][..], Vec::as_slice);
        let added = rounds.iter().filter_map(Round::added);
        let added: Vec<_> = added.map(|share| share * undisturbed).collect();
        let left_out = rounds.len() - added.len();
        (added, left_out)
    }
}

/// Makes `wanted` rounds of each contender that are not left out, but begins with none of them again after
/// `longest`.
pub(super) fn measure(
    contenders: &[Contender],
    paths: &Paths,
    wanted: usize,
    longest: Duration,
    results: &mut Results,
) -> Result<()> {
    let storm = Storm::new(CPU)?;
    let mut rounds = Rounds::default();
    thread::scope(|scope| {
        let work = || {
            storm.pin()?;
            storm.check()?;
            let mut missing = contenders.to_vec();
            let begin = Instant::now();
            while !missing.is_empty() && begin.elapsed() < longest {
                fastrand::shuffle(&mut missing);
                one_of_each(&mut missing, paths, &storm, &mut rounds, results)?;
                let kept = |one: &Contender| rounds.added(one.name()).0.len();
                missing.retain(|one| kept(one) < wanted);
                if let Some(fewest) = missing.iter().map(kept).min() {
                    let (seconds, of) = (begin.elapsed().as_secs(), longest.as_secs());
                    eprintln!(
                        "storm: {fewest} of {wanted} rounds or more, {seconds} s of at most {of}"
                    );
                }
            }
            Ok(())
        };
        scope
            .spawn(work)
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the storm panicked"))
    })?;
    results.bare_ns = rounds.undisturbed();
    for &name in rounds.of.keys() {
        let (added, left_out) = rounds.added(name);
        results.added.insert(name, added);
        results.left_out.insert(name, left_out);
    }
    Ok(())
}

/// Takes out of `contenders` who does not run here.
fn one_of_each(
    contenders: &mut Vec<Contender>,
    paths: &Paths,
    storm: &Storm,
    rounds: &mut Rounds,
    results: &mut Results,
) -> Result<()> {
    let mut before = storm.round(CHUNKS)?;
    for contender in std::mem::take(contenders) {
        // Children would inherit the CPU of the storm.
        let running = match elsewhere(|| contender.start(paths))? {
            Ok(running) => running,
            Err(why) => {
                results.absent.insert(contender.name(), format!("{why:#}"));
                // Trying may have taken long.
                before = storm.round(CHUNKS)?;
                continue;
            }
        };
        let with = storm.round(CHUNKS)?;
        elsewhere(|| running.stop())??;
        let after = storm.round(CHUNKS)?;
        let of = rounds.of.entry(contender.name()).or_default();
        of.push(Round {
            before,
            with,
            after,
        });
        before = after;
        contenders.push(contender);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn round(before: f64, with: f64, after: f64) -> Round {
        Round {
            before,
            with,
            after,
        }
    }

    #[test]
    fn a_round_is_compared_with_its_faster_neighbour() {
        assert_eq!(round(800.0, 1_000.0, 820.0).added(), Some(0.25));
        assert_eq!(round(820.0, 1_000.0, 800.0).added(), Some(0.25));
    }

    #[test]
    fn a_round_on_a_machine_that_changes_its_speed_is_left_out_and_counted() {
        let mut rounds = Rounds::default();
        let of = vec![
            round(800.0, 900.0, 800.0),
            // Slow all the time: the same share.
            round(1_200.0, 1_350.0, 1_200.0),
            // One of the neighbours slow.
            round(800.0, 1_500.0, 1_300.0),
            round(1_300.0, 900.0, 800.0),
            round(800.0, 1_000.0, 800.0),
        ];
        rounds.of.insert("floor", of);
        assert_eq!(rounds.added("floor"), (vec![100.0, 100.0, 200.0], 2));
        assert_eq!(rounds.added("perf"), (vec![], 0));
    }
}
