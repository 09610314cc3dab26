//! Watches one machine from its start to its end and tells how each scenario went.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use xtask::guest::{Outcome, Record};

use super::qemu::Machine;

/// A machine that says nothing for so long is ended.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);
/// How often there is something to see.
const PAUSE: Duration = Duration::from_millis(50);

/// On the console: the kernel is broken, and the machine with it.
const BROKEN: &[&str] = &[
    "Kernel panic",
    "BUG: ",
    "Oops: ",
    "general protection fault",
    "soft lockup",
    "hard LOCKUP",
    "kernel BUG at",
];

/// On the console: a CPU of the machine did not get to run for long, as those of a busy host do. A boot that stalls is
/// done again; later it is a warning beside the results.
const STALLED: &[&str] = &["detected stalls on CPUs", "self-detected stall on CPU"];

/// How one scenario went.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioResult {
    /// Its name.
    pub scenario: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed or was skipped; of one that is flaky, why it failed at first.
    pub reason: Option<String>,
    /// It failed, and passed when it was run once more.
    pub flaky: bool,
    /// How long it ran.
    pub seconds: f64,
    /// The end of what it printed.
    pub log: String,
}

impl ScenarioResult {
    /// How it ended, in one word.
    pub const fn word(&self) -> &'static str {
        if self.flaky {
            "FLAKY"
        } else {
            word(self.outcome)
        }
    }
}

/// How one machine went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineResult {
    /// As `uname -r` said; empty if it never did.
    pub kernel: String,
    /// From QEMU's start to the first process, wall clock.
    pub boot_seconds: f64,
    /// From QEMU's start to its end.
    pub seconds: f64,
    /// What the guest could not set up.
    pub warnings: Vec<String>,
    /// The scenarios, in the order they ran.
    pub scenarios: Vec<ScenarioResult>,
    /// What scenarios left for a person to read: name and text.
    pub files: Vec<(String, String)>,
    /// Why the machine as such failed.
    pub failure: Option<String>,
    /// How often it aborted, stalled or fell silent and was started again.
    pub aborts: u32,
}

impl MachineResult {
    /// This machine's and that of the same kernel booted once more, as one.
    pub fn and(self, other: Self) -> Self {
        let failures: Vec<_> = [self.failure, other.failure]
            .into_iter()
            .flatten()
            .collect();
        let mut warnings = self.warnings;
        for warning in other.warnings {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        Self {
            kernel: if self.kernel.is_empty() {
                other.kernel
            } else {
                self.kernel
            },
            boot_seconds: self.boot_seconds.max(other.boot_seconds),
            seconds: self.seconds + other.seconds,
            warnings,
            scenarios: [self.scenarios, other.scenarios].concat(),
            files: [self.files, other.files].concat(),
            failure: (!failures.is_empty()).then(|| failures.join("; ")),
            aborts: self.aborts + other.aborts,
        }
    }

    /// Scenarios worth another try: a machine that broke has told enough.
    pub fn failed_scenarios(&self) -> Vec<String> {
        let failed = self.scenarios.iter();
        let failed = failed.filter(|one| self.failure.is_none() && one.outcome == Outcome::Fail);
        failed.map(|one| one.scenario.clone()).collect()
    }

    /// With `second`, the new try of what failed. What passes there keeps why it failed at first.
    pub fn retried(mut self, second: Self) -> Self {
        for one in &mut self.scenarios {
            let passed = |again: &&ScenarioResult| {
                again.scenario == one.scenario && again.outcome == Outcome::Pass
            };
            if one.outcome == Outcome::Fail
                && let Some(again) = second.scenarios.iter().find(passed)
            {
                one.flaky = true;
                one.outcome = Outcome::Pass;
                one.seconds += again.seconds;
            }
        }
        self.seconds += second.seconds;
        self.failure = self.failure.or(second.failure);
        self.warnings.extend(second.warnings);
        self.aborts += second.aborts;
        self.files.extend(second.files);
        self
    }
}

/// QEMU aborted, the boot stalled, or the machine fell silent: that says nothing about the scenarios that were still to
/// come.
#[derive(Debug)]
pub struct Aborted {
    /// How.
    pub why: String,
    /// Scenarios without a result; `None` if the machine never said which it would run.
    pub left: Option<Vec<String>>,
}

/// Runs the machine to its end, or until it aborts.
pub fn run(
    machine: &Machine<'_>,
    progress: &dyn Fn(&str),
) -> Result<(MachineResult, Option<Aborted>)> {
    let mut running = machine.start()?;
    let began = Instant::now();
    let mut watch = Watch::default();
    let (mut results, mut console) = (Tail::new(machine.results), Tail::new(machine.console));
    let mut heard = Instant::now();
    let mut ended = None;
    loop {
        let status = running.ended()?;
        for line in results.lines()? {
            heard = Instant::now();
            watch.record(&line, began.elapsed(), progress);
        }
        for line in console.lines()? {
            if watch.broken.is_none() && BROKEN.iter().any(|mark| line.contains(mark)) {
                watch.broken = Some(line.trim().to_owned());
            }
            if STALLED.iter().any(|mark| line.contains(mark)) {
                watch.stalled.push(line.trim().to_owned());
            }
        }
        if let Some(status) = status {
            ended = Some(status);
            break;
        }
        if watch.stalled_boot().is_some() {
            break;
        }
        // The kernel has said why; a moment for the rest of its words.
        if watch.broken.is_some() {
            thread::sleep(Duration::from_secs(1));
            break;
        }
        if heard.elapsed() > SILENCE_LIMIT {
            watch.hung = true;
            break;
        }
        thread::sleep(PAUSE);
    }
    let stderr = running.stderr();
    drop(running);
    // What happens while the power goes off does not matter.
    let died = ended.filter(|status| !status.success() && !watch.done);
    let died = died.map(|status| {
        // The first lines are warnings.
        let line = stderr.lines().last().unwrap_or_default();
        format!("{}: {line}", describe(status))
    });
    let died = died
        .or_else(|| watch.stalled_boot())
        .or_else(|| watch.silence(began.elapsed()));
    let Some(why) = died else {
        return Ok((watch.finish(began.elapsed(), machine.console), None));
    };
    let left = watch.booted.then(|| watch.left());
    watch.warn_of_stalls();
    let mut result = watch.result;
    result.seconds = began.elapsed().as_secs_f64();
    result.aborts = 1;
    Ok((result, Some(Aborted { why, left })))
}

fn describe(status: ExitStatus) -> String {
    status
        .signal()
        .map_or_else(|| status.to_string(), |signal| format!("signal {signal}"))
}

/// What the guest has said so far.
#[derive(Debug, Default)]
struct Watch {
    result: MachineResult,
    running: Option<(String, Duration)>,
    done: bool,
    broken: Option<String>,
    hung: bool,
    booted: bool,
    /// Scenarios that the guest said it would run.
    announced: Vec<String>,
    stalled: Vec<String>,
}

impl Watch {
    /// What a boot said that stalls.
    fn stalled_boot(&self) -> Option<String> {
        let line = self.stalled.first().filter(|_| !self.booted)?;
        Some(format!("the boot stalled: {line}"))
    }

    fn warn_of_stalls(&mut self) {
        if let Some(line) = self.stalled.first() {
            self.result.warnings.push(format!("stalled: {line}"));
        }
    }

    /// The machine fell silent. A scenario that ran has failed; those after it can do nothing for it, and a boot that
    /// hangs says nothing about any. What happens while the power goes off does not matter.
    fn silence(&mut self, at: Duration) -> Option<String> {
        if !self.hung || self.done {
            return None;
        }
        let why = format!("silent for {} s", SILENCE_LIMIT.as_secs());
        (self.fail_running(&why, at) || !self.booted).then_some(why)
    }

    /// Fails the scenario that runs; false if there is none.
    fn fail_running(&mut self, why: &str, at: Duration) -> bool {
        let Some((scenario, since)) = self.running.take() else {
            return false;
        };
        self.result.scenarios.push(ScenarioResult {
            scenario,
            outcome: Outcome::Fail,
            reason: Some(why.to_owned()),
            flaky: false,
            seconds: at.saturating_sub(since).as_secs_f64(),
            log: String::new(),
        });
        true
    }

    fn record(&mut self, line: &str, at: Duration, progress: &dyn Fn(&str)) {
        match serde_json::from_str(line) {
            Ok(Record::Boot {
                kernel,
                warnings,
                scenarios,
                ..
            }) => {
                self.booted = true;
                self.announced = scenarios;
                self.result.boot_seconds = at.as_secs_f64();
                progress(&format!("{kernel} is up after {:.1} s", at.as_secs_f64()));
                self.result.kernel = kernel;
                self.result.warnings = warnings;
            }
            Ok(Record::Start { scenario }) => self.running = Some((scenario, at)),
            Ok(Record::Result {
                scenario,
                outcome,
                reason,
                seconds,
                log,
            }) => {
                self.running = None;
                let why = reason.as_deref().unwrap_or_default();
                progress(format!("{} {scenario} ({seconds:.1} s) {why}", word(outcome)).trim_end());
                self.result.scenarios.push(ScenarioResult {
                    scenario,
                    outcome,
                    reason,
                    flaky: false,
                    seconds,
                    log,
                });
            }
            Ok(Record::File { name, text }) => self.result.files.push((name, text)),
            Ok(Record::End) => self.done = true,
            // The guest lives, or what it says was cut off.
            Ok(Record::Alive) | Err(_) => {}
        }
    }

    /// What was announced and has no result.
    fn left(&self) -> Vec<String> {
        let heard = |name: &String| {
            self.result
                .scenarios
                .iter()
                .any(|one| one.scenario == *name)
        };
        let announced = self.announced.iter();
        announced.filter(|name| !heard(name)).cloned().collect()
    }

    /// What was announced and never heard of again: its result was lost on the way.
    fn fail_unheard(&mut self) {
        for scenario in self.left() {
            self.result.scenarios.push(ScenarioResult {
                scenario,
                outcome: Outcome::Fail,
                reason: Some("no result arrived".to_owned()),
                flaky: false,
                seconds: 0.0,
                log: String::new(),
            });
        }
    }

    fn finish(mut self, at: Duration, console: &Path) -> MachineResult {
        self.result.seconds = at.as_secs_f64();
        self.warn_of_stalls();
        let failure = if let Some(line) = self.broken.take() {
            Some(format!("the kernel broke: {line}"))
        } else if self.hung && !self.done {
            // With no scenario to blame: one that has ended left something behind.
            Some(format!("silent for {} s", SILENCE_LIMIT.as_secs()))
        } else if !self.booted {
            Some("did not boot".to_owned())
        } else if !self.done {
            Some("ended early".to_owned())
        } else {
            None
        };
        if let Some(failure) = &failure {
            self.fail_running(failure, at);
        }
        if failure.is_none() {
            self.fail_unheard();
        }
        self.result.failure =
            failure.map(|failure| format!("{failure}; console: {}", console.display()));
        self.result
    }
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::Skip => "skip",
    }
}

/// The lines that were added to a file.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    at: u64,
    rest: Vec<u8>,
}

impl Tail {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            at: 0,
            rest: Vec::new(),
        }
    }

    /// Complete lines since the last call.
    fn lines(&mut self) -> Result<Vec<String>> {
        let mut file = File::open(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.at))?;
        self.at += file.read_to_end(&mut self.rest)? as u64;
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Watch {
        let mut watch = Watch::default();
        for line in lines {
            watch.record(line, Duration::from_secs(5), &|_| {});
        }
        watch
    }

    const BOOT: &str =
        r#"{"kind":"boot","kernel":"6.1","seconds":4.0,"warnings":[],"scenarios":["a","b"]}"#;
    const PASS_B: &str =
        r#"{"kind":"result","scenario":"b","outcome":"pass","reason":null,"seconds":1.0,"log":""}"#;
    const START_A: &str = r#"{"kind":"start","scenario":"a"}"#;
    const PASS_A: &str =
        r#"{"kind":"result","scenario":"a","outcome":"pass","reason":null,"seconds":1.0,"log":""}"#;

    #[test]
    fn a_machine_that_ended_in_order_has_no_failure() {
        let watch = told(&[BOOT, START_A, PASS_A, PASS_B, r#"{"kind":"end"}"#]);
        let result = watch.finish(Duration::from_secs(9), Path::new("c"));
        assert_eq!(result.failure, None);
        assert_eq!(result.scenarios.len(), 2);
        assert_eq!(result.failed_scenarios(), [""; 0]);
    }

    #[test]
    fn a_scenario_whose_result_was_lost_on_the_way_has_failed() {
        let garbled = &PASS_B[..40];
        let watch = told(&[BOOT, START_A, PASS_A, garbled, r#"{"kind":"end"}"#]);
        let result = watch.finish(Duration::from_secs(9), Path::new("c"));
        assert_eq!(result.failed_scenarios(), ["b"]);
    }

    #[test]
    fn of_a_machine_that_aborts_what_has_no_result_is_left() {
        let watch = told(&[
            r#"{"kind":"boot","kernel":"6.1","seconds":2.5,"warnings":[],"scenarios":["a","b","c"]}"#,
            r#"{"kind":"start","scenario":"a"}"#,
            r#"{"kind":"result","scenario":"a","outcome":"pass","reason":null,"seconds":1.0,"log":""}"#,
            r#"{"kind":"start","scenario":"b"}"#,
        ]);
        assert_eq!(watch.left(), ["b", "c"]);
    }

    #[test]
    fn a_machine_that_falls_silent_fails_its_scenario_and_leaves_the_others() {
        let mut watch = told(&[BOOT, START_A]);
        assert_eq!(watch.silence(Duration::from_secs(70)), None);
        watch.hung = true;
        let why = watch.silence(Duration::from_secs(70));
        assert_eq!(why.as_deref(), Some("silent for 60 s"));
        assert_eq!(watch.left(), ["b"]);
        assert_eq!(watch.result.failed_scenarios(), ["a"]);
    }

    #[test]
    fn a_machine_that_falls_silent_between_scenarios_has_failed() {
        let mut watch = told(&[BOOT, START_A, PASS_A]);
        watch.hung = true;
        assert_eq!(watch.silence(Duration::from_mins(1)), None);
        let result = watch.finish(Duration::ZERO, Path::new("c"));
        assert!(result.failure.is_some_and(|why| why.contains("silent")));
    }

    #[test]
    fn a_boot_that_falls_silent_is_done_again_and_a_power_off_that_hangs_is_an_end() {
        let mut booting = told(&[]);
        booting.hung = true;
        assert!(booting.silence(Duration::from_mins(1)).is_some());
        assert_eq!(booting.result.failed_scenarios(), [""; 0]);
        let mut ended = told(&[BOOT, START_A, PASS_A, PASS_B, r#"{"kind":"end"}"#]);
        ended.hung = true;
        assert_eq!(ended.silence(Duration::from_mins(1)), None);
        assert_eq!(ended.finish(Duration::ZERO, Path::new("c")).failure, None);
    }

    #[test]
    fn a_stall_spoils_a_boot_and_is_a_warning_later() {
        let mut watch = told(&[]);
        watch.stalled.push("rcu: INFO".to_owned());
        assert!(watch.stalled_boot().is_some());
        let mut watch = told(&[BOOT, START_A, PASS_A, r#"{"kind":"end"}"#]);
        watch.stalled.push("rcu: INFO".to_owned());
        assert_eq!(watch.stalled_boot(), None);
        let result = watch.finish(Duration::ZERO, Path::new("c"));
        assert_eq!((result.failure, result.warnings.len()), (None, 1));
    }

    #[test]
    fn a_scenario_that_passes_at_the_second_try_is_called_flaky_and_one_that_fails_again_failed() {
        let one = |scenario: &str, outcome, reason: Option<&str>| ScenarioResult {
            scenario: scenario.to_owned(),
            outcome,
            reason: reason.map(str::to_owned),
            flaky: false,
            seconds: 1.0,
            log: String::new(),
        };
        let machine = |scenarios| MachineResult {
            scenarios,
            ..MachineResult::default()
        };
        let first = machine(vec![
            one("a", Outcome::Fail, Some("17 of 18")),
            one("b", Outcome::Fail, Some("none")),
            one("c", Outcome::Pass, None),
        ]);
        assert_eq!(first.failed_scenarios(), ["a", "b"]);
        let second = machine(vec![
            one("a", Outcome::Pass, None),
            one("b", Outcome::Fail, Some("none")),
        ]);
        let result = first.retried(second);
        let outcomes: Vec<_> = result.scenarios.iter().map(|one| one.outcome).collect();
        assert_eq!(outcomes, [Outcome::Pass, Outcome::Fail, Outcome::Pass]);
        let words: Vec<_> = result.scenarios.iter().map(ScenarioResult::word).collect();
        assert_eq!(words, ["FLAKY", "FAIL", "pass"]);
        assert_eq!(result.scenarios[0].reason.as_deref(), Some("17 of 18"));
    }

    #[test]
    fn the_scenario_that_ran_when_the_kernel_broke_has_failed() {
        let mut watch = told(&[BOOT, START_A]);
        watch.broken = Some("Kernel panic - not syncing".to_owned());
        let result = watch.finish(Duration::from_secs(9), Path::new("c"));
        assert_eq!(result.scenarios[0].outcome, Outcome::Fail);
        assert!(result.failure.is_some_and(|why| why.contains("panic")));
    }

    #[test]
    fn a_machine_that_powers_off_between_scenarios_has_ended_early() {
        let result = told(&[BOOT, START_A, PASS_A]).finish(Duration::ZERO, Path::new("c"));
        assert!(
            result
                .failure
                .is_some_and(|why| why.contains("ended early"))
        );
    }

    #[test]
    fn half_a_line_is_read_when_the_rest_has_come() {
        let path = std::env::temp_dir().join(format!("xtask-tail-{}", std::process::id()));
        std::fs::write(&path, "one\ntw").unwrap();
        let mut tail = Tail::new(&path);
        assert_eq!(tail.lines().unwrap(), ["one"]);
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["two"]);
        std::fs::remove_file(path).unwrap();
    }
}
