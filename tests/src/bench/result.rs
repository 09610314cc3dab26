//! The results as a table and as JSON.

use std::{collections::BTreeMap, fmt::Write as _, ops::RangeInclusive};

use serde_json::{Value, json};

use super::{
    contender::Contender,
    growth::{self, Point},
    rounds::Rounds,
    stats::{Estimate, median, median_within, ratio_within},
    truth::Truth,
    user_space::UserSpace,
};

/// A ratio, and what it has to be.
struct Target {
    name: &'static str,
    above: Contender,
    below: Contender,
    /// What must be, and what would be better; `None` where the ratio only explains another.
    limits: Option<Limits>,
}

struct Limits {
    /// The better, the smaller; else the larger.
    small: bool,
    must: f64,
    aim: f64,
}

const fn at_most(must: f64, aim: f64) -> Limits {
    Limits {
        small: true,
        must,
        aim,
    }
}

const fn at_least(must: f64, aim: f64) -> Limits {
    Limits {
        small: false,
        must,
        aim,
    }
}

const TARGETS: [Target; 6] = [
    Target {
        name: "counting / floor",
        above: Contender::Counting,
        below: Contender::Floor,
        limits: Some(at_most(1.4, 1.25)),
    },
    Target {
        name: "times / floor",
        above: Contender::Times,
        below: Contender::Floor,
        limits: None,
    },
    Target {
        name: "counting / times",
        above: Contender::Counting,
        below: Contender::Times,
        limits: None,
    },
    Target {
        name: "bpftrace / counting",
        above: Contender::Bpftrace,
        below: Contender::Counting,
        limits: Some(at_least(3.5, 4.0)),
    },
    Target {
        name: "perf record / counting",
        above: Contender::Perf,
        below: Contender::Counting,
        limits: Some(at_least(8.0, 9.0)),
    },
    Target {
        name: "details / counting",
        above: Contender::Details,
        below: Contender::Counting,
        limits: Some(at_most(1.1, 1.05)),
    },
];

const NOT_DECIDED: &str = "not decided";
const NOT_MEASURED: &str = "not measured";
/// What who attaches nothing may add, as a share of what counting does.
const ERROR: f64 = 0.05;

impl Limits {
    const fn sign(&self) -> &'static str {
        if self.small { "≤" } else { "≥" }
    }

    /// Of the whole interval: a limit inside of it is not decided.
    fn verdict(&self, found: &Estimate) -> &'static str {
        let Some(within) = &found.within else {
            return NOT_DECIDED;
        };
        let (low, high) = (*within.start(), *within.end());
        let (best, worst) = if self.small { (low, high) } else { (high, low) };
        let holds = |value: f64, limit: f64| {
            if self.small {
                value <= limit
            } else {
                value >= limit
            }
        };
        if holds(worst, self.aim) {
            "aim met"
        } else if holds(worst, self.must) {
            "must met"
        } else if holds(best, self.must) {
            NOT_DECIDED
        } else {
            "MISSED"
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    quick: bool,
    machine: String,
    /// The storm, and who does not run here.
    pub rounds: Rounds,
    /// Counts under load.
    pub truth: Vec<Truth>,
    /// tracer's process.
    pub user_space: UserSpace,
    /// Made-up hosts.
    pub growth: Vec<Point>,
}

impl Results {
    /// Nothing yet.
    pub fn new(quick: bool) -> Self {
        Self {
            quick,
            machine: machine(),
            ..Self::default()
        }
    }

    /// Whether tracer counted all that the control saw.
    pub fn adds_up(&self) -> bool {
        let tracer = self.truth.iter().filter(|row| row.name == "tracer");
        tracer.map(Truth::unexplained).all(|left| left == Some(0))
    }

    fn ratio(&self, target: &Target) -> Option<Estimate> {
        let of = |contender: Contender| self.rounds.added(contender.name());
        ratio_within(&of(target.above), &of(target.below))
    }

    /// What who attaches nothing adds, how much of that is no matter, ns, and what this says of the benchmark.
    fn control(&self) -> Option<(Estimate, f64, &'static str)> {
        let of = |contender: Contender| median_within(&self.rounds.added(contender.name()));
        let found = of(Contender::Nothing)?;
        let counting = of(Contender::Counting)?;
        let allowed = counting.value.max(0.0) * ERROR;
        let within = found.within.as_ref().filter(|_| counting.within.is_some());
        let verdict = within.map_or(NOT_DECIDED, |within| {
            let (low, high) = (*within.start(), *within.end());
            if low >= -allowed && high <= allowed {
                "fine"
            } else if low > allowed || high < -allowed {
                "WRONG"
            } else {
                NOT_DECIDED
            }
        });
        Some((found, allowed, verdict))
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        if self.quick {
            text.push_str("quick: shows that everything runs; the figures say little\n");
        }
        self.storm_text(&mut text);
        let _ = writeln!(
            text,
            "\n{:<22} {:>6}  {:<13} {:>5} {:>5}",
            "ratio", "", "95 %", "must", "aim"
        );
        for target in &TARGETS {
            let asked = [target.above, target.below];
            if asked
                .iter()
                .any(|one| self.rounds.counts(one.name()).is_none())
            {
                continue;
            }
            let found = self.ratio(target);
            let value = found.as_ref().map(|found| format!("{:.2}", found.value));
            let within = found
                .as_ref()
                .map_or_else(String::new, |found| span(found, 2));
            let _ = write!(
                text,
                "{:<22} {:>6}  {within:<13}",
                target.name,
                value.as_deref().unwrap_or("-")
            );
            if let Some(limits) = &target.limits {
                let sign = limits.sign();
                let verdict = found
                    .as_ref()
                    .map_or(NOT_MEASURED, |found| limits.verdict(found));
                let (must, aim) = (limits.must, limits.aim);
                let _ = write!(text, " {sign}{must:>4} {sign}{aim:>4}  {verdict}");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        self.truth_text(&mut text);
        self.user_space_text(&mut text);
        if !self.growth.is_empty() {
            text.push_str(&growth::text(&self.growth));
        }
        text
    }

    fn storm_text(&self, text: &mut String) {
        let bare = self.rounds.bare_ns();
        let bare = bare.map_or_else(|| "unknown".to_owned(), |bare| format!("{bare:.0}"));
        let _ = writeln!(
            text,
            "\nStorm: {bare} ns a packet without anything\n\n{:<10} {:>9}  {:<15} {:>6} {:>8}  what",
            "", "added ns", "95 %", "rounds", "left out"
        );
        for contender in Contender::ALL {
            let name = contender.name();
            let Some((kept, left_out)) = self.rounds.counts(name) else {
                continue;
            };
            let found = median_within(&self.rounds.added(name));
            let value = found
                .as_ref()
                .map_or_else(|| "-".to_owned(), |f| format!("{:.0}", f.value));
            let within = found
                .as_ref()
                .map_or_else(String::new, |found| span(found, 0));
            let what = match (&found, self.rounds.failures(name)) {
                (None, Some((count, why))) => format!("failures: {count}, the last: {why}"),
                (None, None) => "no round with the core for itself".to_owned(),
                (Some(_), Some((count, why))) => {
                    format!("{}; failures: {count}, the last: {why}", contender.work())
                }
                (Some(_), None) => contender.work().to_owned(),
            };
            let _ = writeln!(
                text,
                "{name:<10} {value:>9}  {within:<15} {kept:>6} {left_out:>8}  {what}"
            );
        }
        if let Some((found, allowed, verdict)) = self.control() {
            let _ = writeln!(
                text,
                "control {verdict}: who attaches nothing adds {:.0} ns ({}), {allowed:.0} are allowed",
                found.value,
                span(&found, 0)
            );
        }
    }

    fn truth_text(&self, text: &mut String) {
        if self.truth.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\nTruth: two CPUs flood each other's backlogs\n{:<10} {:>12} {:>12} {:>12} {:>6} {:>12}",
            "", "dropped", "control saw", "counted", "lost", "unexplained"
        );
        for row in &self.truth {
            let known = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
            let _ = writeln!(
                text,
                "{:<10} {:>12} {:>12} {:>12} {:>6} {:>12}{}",
                row.name,
                row.triggers,
                row.control,
                known(row.counted),
                row.lost,
                known(row.unexplained()),
                row.reason
                    .as_ref()
                    .map(|why| format!("  {why}"))
                    .unwrap_or_default()
            );
        }
    }

    fn user_space_text(&self, text: &mut String) {
        let user = &self.user_space;
        if user.loads.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\nUser space (tracer run)\n{:>10} {:>12} {:>11} {:>16} {:>13}",
            "drops/s", "reached", "CPU", "CPU s / M drops", "resident MiB"
        );
        for load in &user.loads {
            let share = 100.0 * load.cpu_seconds / load.seconds;
            let each = if load.drops == 0 {
                "-".to_owned()
            } else {
                format!("{:.3}", load.cpu_seconds / (load.drops as f64 / 1e6))
            };
            let _ = writeln!(
                text,
                "{:>10} {:>12.0} {:>9.2} % {each:>16} {:>13.1}",
                load.asked,
                load.drops as f64 / load.seconds,
                share,
                load.resident as f64 / f64::from(1 << 20)
            );
        }
        let middle = |of: &[f64]| median(of).unwrap_or(f64::NAN);
        let _ = writeln!(
            text,
            "start to attached {:.0} ms, stop to ended {:.0} ms; binary {} bytes",
            middle(&user.start_ms),
            middle(&user.stop_ms),
            user.binary
        );
        let programs: Vec<_> = user
            .verified
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let _ = writeln!(text, "instructions verified: {}", programs.join(", "));
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let estimate = |found: &Estimate| {
            let within = found.within.as_ref();
            json!({
                "value": found.value,
                "low": within.map(RangeInclusive::start),
                "high": within.map(RangeInclusive::end),
            })
        };
        let contenders: Vec<_> = Contender::ALL
            .into_iter()
            .filter_map(|one| {
                let name = one.name();
                let (kept, left_out) = self.rounds.counts(name)?;
                let failures = self.rounds.failures(name);
                Some(json!({
                    "name": name,
                    "work": one.work(),
                    "added_ns": median_within(&self.rounds.added(name)).as_ref().map(estimate),
                    "rounds": kept,
                    "rounds_left_out": left_out,
                    "measured": self.rounds.json(name),
                    "failures": failures.map_or(0, |(count, _)| *count),
                    "last_failure": failures.map(|(_, why)| why),
                }))
            })
            .collect();
        let ratios: Vec<_> = TARGETS
            .iter()
            .map(|target| {
                let found = self.ratio(target);
                let limits = target.limits.as_ref();
                let verdict = |limits: &Limits| {
                    found
                        .as_ref()
                        .map_or(NOT_MEASURED, |found| limits.verdict(found))
                };
                json!({
                    "name": target.name,
                    "ratio": found.as_ref().map(estimate),
                    "must": limits.map(|limits| limits.must),
                    "aim": limits.map(|limits| limits.aim),
                    "verdict": limits.map(verdict),
                })
            })
            .collect();
        let truth: Vec<_> = self
            .truth
            .iter()
            .map(|row| {
                json!({
                    "name": row.name,
                    "dropped": row.triggers,
                    "control": row.control,
                    "counted": row.counted,
                    "lost": row.lost,
                    "unexplained": row.unexplained(),
                    "reason": row.reason,
                })
            })
            .collect();
        let user = &self.user_space;
        let loads: Vec<_> = user
            .loads
            .iter()
            .map(|load| {
                json!({
                    "drops_per_second_asked": load.asked,
                    "drops": load.drops,
                    "seconds": load.seconds,
                    "cpu_seconds": load.cpu_seconds,
                    "resident_bytes": load.resident,
                })
            })
            .collect();
        json!({
            "machine": self.machine,
            "quick": self.quick,
            "bare_ns": self.rounds.bare_ns(),
            "control": self.control().map(|(found, allowed, verdict)| json!({
                "added_ns": estimate(&found),
                "allowed_ns": allowed,
                "verdict": verdict,
            })),
            "contenders": contenders,
            "ratios": ratios,
            "truth": truth,
            "growth": growth::json(&self.growth),
            "user_space": {
                "loads": loads,
                "start_ms": median(&user.start_ms),
                "stop_ms": median(&user.stop_ms),
                "binary_bytes": user.binary,
                "verified_instructions": user.verified.iter().cloned().collect::<BTreeMap<_, _>>(),
            },
        })
    }
}

/// The interval in words.
fn span(found: &Estimate, digits: usize) -> String {
    found.within.as_ref().map_or_else(
        || "too few rounds".to_owned(),
        |within| format!("{:.digits$} to {:.digits$}", within.start(), within.end()),
    )
}

/// Kernel, CPUs and their model.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let cpuinfo = read("/proc/cpuinfo");
    let models = cpuinfo.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then_some(value.trim())
    });
    let models: Vec<_> = models.collect();
    let virtual_machine = if cpuinfo.contains(" hypervisor") {
        ", a virtual machine"
    } else {
        ""
    };
    format!(
        "Linux {}, {} CPUs ({}){virtual_machine}",
        release.trim(),
        models.len(),
        models.first().unwrap_or(&"model not known")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let [floor, times, counting, perf] =
            [300.0, 360.0, 420.0, 3_000.0].map(|added| [Some(added); 6]);
        let mut results = Results {
            machine: "Linux 6, 2 CPUs".to_owned(),
            rounds: Rounds::made_up(&[
                ("nothing", &[Some(-1.0), Some(0.0), Some(1.0)].repeat(2)),
                ("floor", &floor),
                ("times", &times),
                ("counting", &[&counting[..], &[None, None]].concat()),
                ("details", &[None; 5]),
                ("bpftrace", &[Some(2_000.0); 5]),
                ("perf", &perf),
            ]),
            ..Results::default()
        };
        results.rounds.made_up_failure("softirqs", "EACCES");
        results.truth.push(Truth {
            name: "tracer",
            triggers: 100,
            counted: Some(90),
            lost: 0,
            control: 92,
            reason: None,
        });
        results
    }

    #[test]
    fn a_target_is_met_from_its_side_and_who_is_absent_is_named() {
        let text = results().text();
        assert!(
            text.contains("counting / floor         1.40  1.40 to 1.40  ≤ 1.4 ≤1.25  must met"),
            "{text}"
        );
        assert!(
            text.contains("perf record / counting   7.14  7.14 to 7.14  ≥   8 ≥   9  MISSED"),
            "{text}"
        );
        assert!(
            text.contains(
                "softirqs           -                       0        0  failures: 1, the last: EACCES"
            ),
            "{text}"
        );
        assert!(!text.contains("hardirqs"), "{text}");
        assert!(
            text.contains("bpftrace / counting      4.76  too few rounds ≥ 3.5 ≥   4  not decided"),
            "{text}"
        );
        assert!(
            text.contains("details / counting          -                ≤ 1.1 ≤1.05  not measured"),
            "{text}"
        );
    }

    #[test]
    fn a_ratio_that_only_explains_another_has_no_verdict() {
        let results = results();
        let text = results.text();
        assert!(
            text.contains("times / floor            1.20  1.20 to 1.20\n"),
            "{text}"
        );
        let json = results.json();
        let ratios = json["ratios"].as_array().unwrap();
        let named = |name| ratios.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(named("times / floor")["verdict"], Value::Null);
        assert_eq!(named("counting / floor")["verdict"], "must met");
    }

    #[test]
    fn rounds_left_out_are_counted_also_where_none_is_left() {
        let results = results();
        let text = results.text();
        assert!(
            text.contains("counting         420  420 to 420           6        2  tracer run"),
            "{text}"
        );
        assert!(
            text.contains(
                "details            -                       0        5  no round with the core for itself"
            ),
            "{text}"
        );
        let json = results.json();
        let contenders = json["contenders"].as_array().unwrap();
        let named = |name| contenders.iter().find(|one| one["name"] == name);
        assert_eq!(named("counting").unwrap()["rounds_left_out"], 2);
        assert_eq!(named("details").unwrap()["rounds_left_out"], 5);
        assert_eq!(named("details").unwrap()["added_ns"], Value::Null);
    }

    #[test]
    fn a_limit_inside_the_interval_is_not_decided() {
        let verdict = |limits: Limits, low: f64, high: f64| {
            limits.verdict(&Estimate {
                value: f64::midpoint(low, high),
                within: Some(low..=high),
            })
        };
        assert_eq!(verdict(at_most(1.4, 1.25), 1.1, 1.2), "aim met");
        assert_eq!(verdict(at_most(1.4, 1.25), 1.1, 1.3), "must met");
        assert_eq!(verdict(at_most(1.4, 1.25), 1.1, 1.5), "not decided");
        assert_eq!(verdict(at_most(1.4, 1.25), 1.5, 1.6), "MISSED");
        assert_eq!(verdict(at_least(8.0, 9.0), 9.5, 11.0), "aim met");
        assert_eq!(verdict(at_least(8.0, 9.0), 8.5, 11.0), "must met");
        assert_eq!(verdict(at_least(8.0, 9.0), 7.5, 11.0), "not decided");
        assert_eq!(verdict(at_least(8.0, 9.0), 6.0, 7.0), "MISSED");
    }

    #[test]
    fn an_error_of_the_benchmark_is_said() {
        let verdict = |low: f64, high: f64| {
            let nothing = [
                Some(low),
                Some(low),
                Some(low),
                Some(high),
                Some(high),
                Some(high),
            ];
            let results = Results {
                rounds: Rounds::made_up(&[("nothing", &nothing), ("counting", &[Some(200.0); 6])]),
                ..Results::default()
            };
            let said = results.control().unwrap().2;
            assert!(results.text().contains(&format!("control {said}: ")));
            assert_eq!(results.json()["control"]["verdict"], said);
            said
        };
        assert_eq!(verdict(-9.0, 9.0), "fine");
        assert_eq!(verdict(11.0, 40.0), "WRONG");
        assert_eq!(verdict(-40.0, -11.0), "WRONG");
        assert_eq!(verdict(5.0, 15.0), "not decided");
        assert_eq!(Results::default().json()["control"], Value::Null);
    }

    #[test]
    fn what_the_control_did_not_see_either_is_not_unexplained() {
        let mut results = results();
        assert_eq!(results.truth[0].unexplained(), Some(2));
        assert!(!results.adds_up());
        results.truth[0].lost = 2;
        assert!(results.adds_up());
        assert_eq!(results.json()["truth"][0]["unexplained"], 0);
    }
}
