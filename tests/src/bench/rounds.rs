//! Rounds of the storm: one without anything, one with a contender attached, one without. A sweep has a round of every
//! contender, in random order, each started and ended for its round, and only after the storm had its core for itself.
//!
//! What a contender adds is the difference to the mean of the two neighbours, in multiples of the witness ([`Speed`]); in
//! ns it is that at the speed that the witness had most of the time. A round that found no time with the core for itself
//! is left out and counted, as is one whose contender failed. Who fails three times in a row is not tried again.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    contender::{Contender, Paths},
    elsewhere,
    speed::Speed,
    stats::{median, percentile},
    storm::{self, Storm},
};

/// A contender's round and its neighbours.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    sweep: usize,
    cpu: usize,
    before: Option<Speed>,
    with: Option<Speed>,
    after: Option<Speed>,
    /// Of its contender.
    failed: bool,
}

impl Round {
    /// What the contender adds, in multiples of the witness; `None` if the core was not the storm's in one of the three.
    fn added(&self, fastest: Option<f64>) -> Option<f64> {
        let alone = |speed: Option<Speed>| Some(speed.filter(|s| s.is_alone(fastest))?.relative());
        let bare = f64::midpoint(alone(self.before)?, alone(self.after)?);
        Some(alone(self.with)? - bare)
    }
}

/// Of all witnesses, so many are faster than the core is taken to be.
const FASTEST: f64 = 0.05;
/// CPUs whose speed is looked at before the first round.
const LOOKED_AT: usize = 8;
/// Failures in a row after which a contender is given up.
const GIVEN_UP: usize = 3;

/// All rounds.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Of everybody who was asked for.
    of: BTreeMap<&'static str, Vec<Round>>,
    sweeps: usize,
    /// Of every speed that was found.
    witnesses: Vec<f64>,
    /// How often a contender failed, and how the last time.
    failures: BTreeMap<&'static str, (usize, String)>,
}

impl Rounds {
    /// The witness of a core of its own, as far as is known.
    fn fastest(&self) -> Option<f64> {
        percentile(&self.witnesses, FASTEST)
    }

    /// A round of the storm.
    fn find(&mut self, storm: &Storm) -> Result<Option<Speed>> {
        let found = storm.round(self.fastest())?;
        self.witnesses.extend(found.map(|speed| speed.witness_ns));
        Ok(found)
    }

    fn failed(&mut self, name: &'static str, why: &anyhow::Error) {
        eprintln!("storm: a round of {name} is left out: {why:#}");
        let (count, last) = self.failures.entry(name).or_default();
        *count += 1;
        *last = format!("{why:#}");
    }

    /// How often a contender failed, and how the last time.
    #[must_use]
    pub fn failures(&self, name: &str) -> Option<&(usize, String)> {
        self.failures.get(name)
    }

    /// Of the later neighbours: the usual witness, and the usual multiple of it that a packet takes.
    fn usual(&self) -> Option<(f64, f64)> {
        let fastest = self.fastest();
        let after = self.of.values().flatten().filter_map(|round| round.after);
        let bare: Vec<_> = after.filter(|speed| speed.is_alone(fastest)).collect();
        let middle = |of: fn(&Speed) -> f64| median(&bare.iter().map(of).collect::<Vec<_>>());
        Some((middle(|speed| speed.witness_ns)?, middle(Speed::relative)?))
    }

    /// ns a packet without anything; `None` without a single round.
    #[must_use]
    pub fn bare_ns(&self) -> Option<f64> {
        self.usual().map(|(witness, relative)| witness * relative)
    }

    /// What a contender adds, ns a packet, by sweep; `None` where its round is left out or it made none.
    #[must_use]
    pub fn added(&self, name: &str) -> Vec<Option<f64>> {
        let mut added = vec![None; self.sweeps];
        let Some((witness, _)) = self.usual() else {
            return added;
        };
        let fastest = self.fastest();
        for round in self.of.get(name).into_iter().flatten() {
            if let Some(of_sweep) = added.get_mut(round.sweep) {
                *of_sweep = round.added(fastest).map(|relative| relative * witness);
            }
        }
        added
    }

    /// Rounds of a contender that count, and those that do not; `None` for one that was not asked for.
    #[must_use]
    pub fn counts(&self, name: &str) -> Option<(usize, usize)> {
        let all = self.of.get(name)?.len();
        let kept = self.added(name).iter().flatten().count();
        Some((kept, all - kept))
    }

    /// Every round of a contender, as it was measured.
    #[must_use]
    pub fn json(&self, name: &str) -> Value {
        let added = self.added(name);
        let rounds = self.of.get(name).into_iter().flatten();
        let speed = |speed: Option<Speed>| {
            speed.map(|speed| json!({"packet_ns": speed.packet_ns, "witness_ns": speed.witness_ns}))
        };
        rounds
            .map(|round| {
                json!({
                    "sweep": round.sweep,
                    "cpu": round.cpu,
                    "before": speed(round.before),
                    "with": speed(round.with),
                    "after": speed(round.after),
                    "added_ns": added.get(round.sweep),
                })
            })
            .collect()
    }

    /// Made up: what each contender adds to 1,000 ns, by sweep.
    #[cfg(test)]
    #[must_use]
    pub fn made_up(of: &[(&'static str, &[Option<f64>])]) -> Self {
        let speed = |packet_ns| Speed {
            packet_ns,
            witness_ns: 500.0,
        };
        let bare = Some(speed(1_000.0));
        let rounds = |added: &[Option<f64>]| {
            let rounds = added.iter().enumerate().map(|(sweep, added)| Round {
                sweep,
                before: bare,
                with: added.map(|added| speed(1_000.0 + added)),
                after: bare,
                ..Round::default()
            });
            rounds.collect()
        };
        Self {
            of: of.iter().map(|(name, of)| (*name, rounds(of))).collect(),
            sweeps: of.iter().map(|(_, of)| of.len()).max().unwrap_or(0),
            witnesses: vec![500.0],
            failures: BTreeMap::new(),
        }
    }

    /// Made up: a contender that failed.
    #[cfg(test)]
    pub fn made_up_failure(&mut self, name: &'static str, why: &str) {
        self.of.entry(name).or_default();
        self.failures.insert(name, (1, why.to_owned()));
    }
}

/// Makes sweeps until `wanted` rounds of each contender count, but begins no round after `longest`.
pub(super) fn measure(
    contenders: &[Contender],
    paths: &Paths,
    wanted: usize,
    longest: Duration,
) -> Result<Rounds> {
    let storm = Storm::new()?;
    let mut rounds = Rounds {
        of: contenders
            .iter()
            .map(|one| (one.name(), Vec::new()))
            .collect(),
        ..Rounds::default()
    };
    thread::scope(|scope| {
        let work = || {
            storm.check()?;
            let begin = Instant::now();
            let cpus = storm::cpus()?;
            for &cpu in cpus.iter().take(LOOKED_AT) {
                storm::pin(cpu)?;
                rounds.find(&storm)?;
            }
            let mut cpus = cpus.into_iter().cycle();
            let mut contenders = contenders.to_vec();
            while begin.elapsed() < longest {
                fastrand::shuffle(&mut contenders);
                let end = begin + longest;
                sweep(&mut contenders, paths, &storm, &mut cpus, &mut rounds, end)?;
                let kept = |one: &Contender| rounds.counts(one.name()).map_or(0, |(kept, _)| kept);
                let fewest = contenders.iter().map(kept).min();
                if fewest.is_none_or(|fewest| fewest >= wanted) {
                    break;
                }
                let (seconds, of) = (begin.elapsed().as_secs(), longest.as_secs());
                eprintln!(
                    "storm: {} of {wanted} rounds or more, {seconds} s of at most {of}",
                    fewest.unwrap_or(0)
                );
            }
            Ok(())
        };
        scope
            .spawn(work)
            .join()
            .unwrap_or_else(|_| bail!("the storm panicked"))
    })?;
    for one in contenders.iter().filter(|one| one.has_to_run()) {
        let name = one.name();
        let kept = rounds.counts(name).map_or(0, |(kept, _)| kept);
        if let (0, Some((count, why))) = (kept, rounds.failures(name)) {
            bail!("{name} made no round and failed {count} times: {why}");
        }
    }
    Ok(rounds)
}

/// Takes out of `contenders` who is given up; fails if that is one that has to run.
fn sweep(
    contenders: &mut Vec<Contender>,
    paths: &Paths,
    storm: &Storm,
    cpus: &mut impl Iterator<Item = usize>,
    rounds: &mut Rounds,
    end: Instant,
) -> Result<()> {
    let sweep = rounds.sweeps;
    rounds.sweeps += 1;
    let mut before = None;
    let mut cpu = 0;
    for contender in contenders.clone() {
        // Nothing is started while the core is somebody else's; another one may be free.
        while before.is_none() && Instant::now() < end {
            cpu = cpus.next().unwrap_or(cpu);
            storm::pin(cpu)?;
            before = rounds.find(storm)?;
        }
        if Instant::now() >= end {
            break;
        }
        let name = contender.name();
        let mut round = Round {
            sweep,
            cpu,
            before,
            ..Round::default()
        };
        match with(contender, paths, storm, rounds) {
            Ok(found) => round.with = found,
            Err(error) => {
                rounds.failed(name, &error);
                round.failed = true;
            }
        }
        if round.with.is_some() {
            round.after = rounds.find(storm)?;
        }
        before = round.after;
        let of = rounds.of.entry(name).or_default();
        of.push(round);
        let given_up = of.len() >= GIVEN_UP && of.iter().rev().take(GIVEN_UP).all(|r| r.failed);
        if given_up {
            let why = rounds.failures(name).map_or("", |(_, why)| why);
            ensure!(
                !contender.has_to_run(),
                "{name} failed {GIVEN_UP} times: {why}"
            );
            contenders.retain(|one| *one != contender);
        }
    }
    Ok(())
}

/// The round with a contender attached.
fn with(
    contender: Contender,
    paths: &Paths,
    storm: &Storm,
    rounds: &mut Rounds,
) -> Result<Option<Speed>> {
    // Children would inherit the CPU of the storm.
    let running = elsewhere(|| contender.start(paths))??;
    let with = rounds.find(storm)?;
    elsewhere(|| running.stop())??;
    Ok(with)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn speed(packet_ns: f64, witness_ns: f64) -> Speed {
        Speed {
            packet_ns,
            witness_ns,
        }
    }

    fn round(sweep: usize, of: [Option<Speed>; 3]) -> Round {
        let [before, with, after] = of;
        Round {
            sweep,
            before,
            with,
            after,
            ..Round::default()
        }
    }

    #[test]
    fn a_round_is_compared_with_the_mean_of_its_neighbours_at_the_usual_frequency() {
        let of = vec![
            round(
                0,
                [
                    Some(speed(600.0, 800.0)),
                    Some(speed(800.0, 800.0)),
                    Some(speed(640.0, 800.0)),
                ],
            ),
            // All of it at a lower frequency: the same.
            round(
                1,
                [
                    Some(speed(660.0, 880.0)),
                    Some(speed(880.0, 880.0)),
                    Some(speed(704.0, 880.0)),
                ],
            ),
            round(
                3,
                [
                    Some(speed(600.0, 800.0)),
                    Some(speed(700.0, 800.0)),
                    Some(speed(600.0, 800.0)),
                ],
            ),
        ];
        let rounds = Rounds {
            of: BTreeMap::from([("floor", of)]),
            sweeps: 4,
            witnesses: vec![800.0],
            failures: BTreeMap::new(),
        };
        let added = rounds.added("floor");
        let rounded: Vec<_> = added.iter().map(|added| added.map(f64::round)).collect();
        assert_eq!(rounded, [Some(180.0), Some(180.0), None, Some(100.0)]);
        assert_eq!(rounds.counts("floor"), Some((3, 0)));
        assert_eq!(rounds.counts("perf"), None);
    }

    #[test]
    fn a_round_without_the_core_for_itself_or_of_a_failed_contender_is_left_out_and_counted() {
        let bare = Some(speed(600.0, 800.0));
        let of = vec![
            round(0, [bare, Some(speed(700.0, 800.0)), bare]),
            round(1, [bare, None, bare]),
            round(2, [None, Some(speed(700.0, 800.0)), bare]),
            // The witness shared its core.
            round(3, [bare, Some(speed(1_000.0, 1_100.0)), bare]),
        ];
        let rounds = Rounds {
            of: BTreeMap::from([("floor", of)]),
            sweeps: 4,
            witnesses: vec![800.0],
            failures: BTreeMap::new(),
        };
        assert_eq!(rounds.added("floor"), [Some(100.0), None, None, None]);
        assert_eq!(rounds.counts("floor"), Some((1, 3)));
        assert_eq!(rounds.bare_ns(), Some(600.0));
        assert_eq!(Rounds::default().bare_ns(), None);
        let json = rounds.json("floor");
        assert_eq!(json[3]["with"]["witness_ns"], 1_100.0);
        assert_eq!(json[3]["added_ns"], Value::Null);
        assert_eq!(json[1]["with"], Value::Null);
    }
}
