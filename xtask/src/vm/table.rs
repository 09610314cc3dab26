//! The matrix kernel × scenario, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use xtask::guest::Outcome;

use super::watch::{MachineResult, ScenarioResult};
use crate::summary::Totals;

/// In so many results one may be flaky.
const RESULTS_PER_FLAKY: usize = 50;

/// Why the scenarios that passed at the second try only are too many; `None` if they are not.
pub fn too_flaky(machines: &[(String, MachineResult)]) -> Option<String> {
    let results = || machines.iter().flat_map(|(_, machine)| &machine.scenarios);
    let (flaky, all) = (results().filter(|one| one.flaky).count(), results().count());
    let most = all / RESULTS_PER_FLAKY;
    (flaky > most.max(1))
        .then(|| format!("{flaky} of {all} results are flaky, at most {most} may be"))
}

/// Counts the scenarios, and every machine that failed as such without one of them failing. Too many that are flaky
/// count as a failure.
pub fn totals(machines: &[(String, MachineResult)]) -> Totals {
    let machines_totals: Totals = machines
        .iter()
        .map(|(_, machine)| {
            let sum: Totals = machine.scenarios.iter().map(|one| of(one.outcome)).sum();
            if machine.failure.is_some() && sum.failed == 0 {
                sum + Totals::FAILED
            } else {
                sum
            }
        })
        .sum();
    match too_flaky(machines) {
        Some(_) => machines_totals + Totals::FAILED,
        None => machines_totals,
    }
}

const fn of(outcome: Outcome) -> Totals {
    match outcome {
        Outcome::Pass => Totals::PASSED,
        Outcome::Fail => Totals::FAILED,
        Outcome::Skip => Totals::SKIPPED,
    }
}

/// A row for each scenario, a column for each kernel; below, why not.
pub fn text(machines: &[(String, MachineResult)]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (_, machine) in machines {
        for one in &machine.scenarios {
            if !names.contains(&one.scenario.as_str()) {
                names.push(&one.scenario);
            }
        }
    }
    let lengths = names.iter().map(|name| name.len());
    let width = lengths.chain(["scenario".len()]).max().unwrap_or_default();
    let columns: Vec<usize> = machines
        .iter()
        .map(|(name, _)| name.len().max(11))
        .collect();
    let mut text = String::new();
    let _ = write!(text, "{:<width$}", "scenario");
    for ((name, _), column) in machines.iter().zip(&columns) {
        let _ = write!(text, "  {name:<column$}");
    }
    text.push('\n');
    for name in &names {
        let _ = write!(text, "{name:<width$}");
        for ((_, machine), column) in machines.iter().zip(&columns) {
            let cell = find(machine, name).map_or_else(
                || "-".to_owned(),
                |one| format!("{} {:.1} s", one.word(), one.seconds),
            );
            let _ = write!(text, "  {cell:<column$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let _ = write!(text, "{:<width$}", "boot");
    for ((_, machine), column) in machines.iter().zip(&columns) {
        let _ = write!(
            text,
            "  {:<column$}",
            format!("{:.1} s", machine.boot_seconds)
        );
    }
    let _ = write!(text, "\n{:<width$}", "all");
    for ((_, machine), column) in machines.iter().zip(&columns) {
        let _ = write!(text, "  {:<column$}", format!("{:.1} s", machine.seconds));
    }
    text.push('\n');
    for (kernel, machine) in machines {
        if let Some(failure) = &machine.failure {
            let _ = writeln!(text, "{kernel}: {failure}");
        }
        for warning in &machine.warnings {
            let _ = writeln!(text, "{kernel}: {warning}");
        }
        if machine.aborts > 0 {
            let _ = writeln!(
                text,
                "{kernel}: ended by itself or fell silent and was booted again {} times",
                machine.aborts
            );
        }
        for one in &machine.scenarios {
            if let Some(reason) = &one.reason {
                let (outcome, name) = (one.word(), &one.scenario);
                let _ = writeln!(text, "{kernel}: {outcome} {name}: {reason}");
            }
        }
    }
    if let Some(why) = too_flaky(machines) {
        let _ = writeln!(text, "FAIL: {why}");
    }
    text
}

fn find<'a>(machine: &'a MachineResult, name: &str) -> Option<&'a ScenarioResult> {
    machine.scenarios.iter().find(|one| one.scenario == name)
}

/// One object for the whole matrix.
pub fn json(machines: &[(String, MachineResult)]) -> Value {
    let kernels: Vec<Value> = machines
        .iter()
        .map(|(name, machine)| {
            let scenarios: Vec<Value> = machine
                .scenarios
                .iter()
                .map(|one| {
                    json!({
                        "scenario": one.scenario,
                        "outcome": one.outcome,
                        "reason": one.reason,
                        "flaky": one.flaky,
                        "seconds": one.seconds,
                        "log": one.log,
                    })
                })
                .collect();
            json!({
                "kernel": name,
                "release": machine.kernel,
                "boot_seconds": machine.boot_seconds,
                "seconds": machine.seconds,
                "failure": machine.failure,
                "warnings": machine.warnings,
                "qemu_aborts": machine.aborts,
                "scenarios": scenarios,
            })
        })
        .collect();
    let totals = totals(machines);
    json!({
        "kernels": kernels,
        "passed": totals.passed,
        "failed": totals.failed,
        "skipped": totals.skipped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(scenario: &str, outcome: Outcome, reason: Option<&str>) -> ScenarioResult {
        ScenarioResult {
            scenario: scenario.to_owned(),
            outcome,
            reason: reason.map(str::to_owned),
            flaky: false,
            seconds: 1.25,
            log: String::new(),
        }
    }

    fn matrix() -> Vec<(String, MachineResult)> {
        let passing = MachineResult {
            scenarios: vec![
                one("a", Outcome::Pass, None),
                one("b", Outcome::Skip, Some("no igb")),
            ],
            boot_seconds: 4.0,
            seconds: 9.5,
            ..MachineResult::default()
        };
        let broken = MachineResult {
            scenarios: vec![one("a", Outcome::Pass, None)],
            failure: Some("did not boot".to_owned()),
            ..MachineResult::default()
        };
        vec![("5.10".to_owned(), passing), ("7.2".to_owned(), broken)]
    }

    #[test]
    fn the_table_has_a_row_for_each_scenario_and_says_why_not() {
        let expected = "\
scenario  5.10         7.2
a         pass 1.2 s   pass 1.2 s
b         skip 1.2 s   -
boot      4.0 s        0.0 s
all       9.5 s        0.0 s
5.10: skip b: no igb
7.2: did not boot
";
        let text = text(&matrix());
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines, expected.lines().collect::<Vec<_>>());
    }

    #[test]
    fn one_flaky_result_is_told_and_several_are_a_failure() {
        let flaky = |name: &str| ScenarioResult {
            flaky: true,
            ..one(name, Outcome::Pass, Some("1 of 2"))
        };
        let matrix = |scenarios| {
            let machine = MachineResult {
                scenarios,
                ..MachineResult::default()
            };
            vec![("5.10".to_owned(), machine)]
        };
        let single = matrix(vec![flaky("a"), one("b", Outcome::Pass, None)]);
        assert_eq!(totals(&single).failed, 0);
        assert!(text(&single).contains("FLAKY a: 1 of 2"));
        let several = matrix(vec![flaky("a"), flaky("b")]);
        assert_eq!(totals(&several).failed, 1);
        assert!(text(&several).contains("2 of 2 results are flaky"));
    }

    #[test]
    fn a_machine_that_broke_counts_as_failed_even_if_no_scenario_did() {
        let totals = totals(&matrix());
        assert_eq!((totals.passed, totals.failed, totals.skipped), (2, 1, 1));
        assert_eq!(json(&matrix())["failed"], 1);
    }
}
