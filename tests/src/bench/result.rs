//! The results as a table and as JSON.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use super::{
    contender::Contender,
    growth::{self, Point},
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

impl Limits {
    const fn sign(&self) -> &'static str {
        if self.small { "≤" } else { "≥" }
    }

    fn verdict(&self, value: f64) -> &'static str {
        let holds = |limit: f64| {
            if self.small {
                value <= limit
            } else {
                value >= limit
            }
        };
        match (holds(self.must), holds(self.aim)) {
            (_, true) => "aim met",
            (true, false) => "must met",
            (false, false) => "MISSED",
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    quick: bool,
    machine: String,
    /// ns a packet, without anything, on the machine that nobody disturbs.
    pub bare_ns: f64,
    /// ns a packet that a contender adds, by round that is not left out.
    pub added: BTreeMap<&'static str, Vec<f64>>,
    /// Rounds of a contender that are left out.
    pub left_out: BTreeMap<&'static str, usize>,
    /// Who does not run here, and why.
    pub absent: BTreeMap<&'static str, String>,
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
        let of = |contender: Contender| self.added.get(contender.name());
        ratio_within(of(target.above)?, of(target.below)?)
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        if self.quick {
            text.push_str("quick: shows that everything runs; the figures say little\n");
        }
        let bare = self.bare_ns;
        let _ = writeln!(
            text,
            "\nStorm: {bare:.0} ns a packet without anything\n\n{:<10} {:>9}  {:<15} {:>6} {:>8}  what",
            "", "added ns", "95 %", "rounds", "left out"
        );
        for contender in Contender::ALL {
            let name = contender.name();
            if let Some(why) = self.absent.get(name) {
                let _ = writeln!(text, "{name:<10} {:>9}  does not run here: {why}", "-");
            } else if let Some(rounds) = self.added.get(name)
                && let Some(found) = median_within(rounds)
            {
                let within = format!("{:.0} to {:.0}", found.within.start(), found.within.end());
                let _ = writeln!(
                    text,
                    "{name:<10} {:>9.0}  {within:<15} {:>6} {:>8}  {}",
                    found.value,
                    rounds.len(),
                    self.left_out.get(name).copied().unwrap_or(0),
                    contender.work()
                );
            } else if let Some(left_out) = self.left_out.get(name) {
                let _ = writeln!(
                    text,
                    "{name:<10} {:>9}  {:<15} {:>6} {left_out:>8}  no round on a steady machine",
                    "-", "", 0
                );
            }
        }
        let _ = writeln!(
            text,
            "\n{:<22} {:>6}  {:<13} {:>5} {:>5}",
            "ratio", "", "95 %", "must", "aim"
        );
        for target in &TARGETS {
            let Some(found) = self.ratio(target) else {
                continue;
            };
            let within = format!("{:.2} to {:.2}", found.within.start(), found.within.end());
            let _ = write!(
                text,
                "{:<22} {:>6.2}  {within:<13}",
                target.name, found.value
            );
            if let Some(limits) = &target.limits {
                let sign = limits.sign();
                let _ = write!(
                    text,
                    " {sign}{:>4} {sign}{:>4}  {}",
                    limits.must,
                    limits.aim,
                    limits.verdict(found.value)
                );
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
        let estimate = |found: &Estimate| json!({"value": found.value, "low": found.within.start(), "high": found.within.end()});
        let contenders: Vec<_> = Contender::ALL
            .into_iter()
            .filter(|one| {
                let name = one.name();
                self.added.contains_key(name)
                    || self.absent.contains_key(name)
                    || self.left_out.contains_key(name)
            })
            .map(|one| {
                let rounds = self.added.get(one.name());
                json!({
                    "name": one.name(),
                    "work": one.work(),
                    "added_ns": rounds.and_then(|rounds| median_within(rounds)).as_ref().map(estimate),
                    "rounds": rounds,
                    "rounds_left_out": self.left_out.get(one.name()).copied().unwrap_or(0),
                    "absent": self.absent.get(one.name()),
                })
            })
            .collect();
        let ratios: Vec<_> = TARGETS
            .iter()
            .filter_map(|target| {
                let found = self.ratio(target)?;
                Some(json!({
                    "name": target.name,
                    "ratio": estimate(&found),
                    "must": target.limits.as_ref().map(|limits| limits.must),
                    "aim": target.limits.as_ref().map(|limits| limits.aim),
                    "verdict": target.limits.as_ref().map(|limits| limits.verdict(found.value)),
                }))
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
            "bare_ns": self.bare_ns,
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
        let mut results = Results {
            machine: "Linux 6, 2 CPUs".to_owned(),
            bare_ns: 2_000.0,
            ..Results::default()
        };
        let added = [
            ("floor", 300.0),
            ("times", 360.0),
            ("counting", 420.0),
            ("perf", 3_000.0),
        ];
        for (name, ns) in added {
            results.added.insert(name, vec![ns; 5]);
        }
        results.absent.insert("softirqs", "EACCES".to_owned());
        results.left_out.extend([("counting", 2), ("details", 5)]);
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
            text.contains("softirqs           -  does not run here: EACCES"),
            "{text}"
        );
        assert!(!text.contains("bpftrace"), "{text}");
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
            text.contains("counting         420  420 to 420           5        2  tracer run"),
            "{text}"
        );
        assert!(
            text.contains(
                "details            -                       0        5  no round on a steady machine"
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
    fn what_the_control_did_not_see_either_is_not_unexplained() {
        let mut results = results();
        assert_eq!(results.truth[0].unexplained(), Some(2));
        assert!(!results.adds_up());
        results.truth[0].lost = 2;
        assert!(results.adds_up());
        assert_eq!(results.json()["truth"][0]["unexplained"], 0);
    }
}
