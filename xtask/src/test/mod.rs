//! `cargo xtask test`: all checks and tests, one after the other, with one line of totals at the end.

mod step;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use step::Step;

use crate::{
    setup::{Purpose, setup},
    summary::Totals,
};

/// Runs all steps, or those of `only` and what they depend on. A failed step does not keep the others from
/// running, unless they depend on it. Fails after the totals if anything failed.
pub fn test(offline: bool, only: &[Step]) -> Result<()> {
    setup(Purpose::Test, offline)?;
    let mut results: Vec<(Step, Totals, Duration)> = Vec::new();
    for step in Step::ALL {
        if !step.is_wanted(only) {
            continue;
        }
        let broken = step.needs().filter(|needed| {
            results
                .iter()
                .any(|(step, totals, _)| step == needed && totals.failed > 0)
        });
        let begin = Instant::now();
        let totals = if let Some(needed) = broken {
            println!("{step}: skipped: {needed} failed");
            Totals::SKIPPED
        } else {
            println!("{step}: {}", step.purpose());
            step.run(offline).unwrap_or_else(|error| {
                println!("{step}: {error:#}");
                Totals::FAILED
            })
        };
        let took = begin.elapsed();
        println!("{step}: {totals} in {:.1} s", took.as_secs_f64());
        results.push((step, totals, took));
    }
    println!();
    for (step, totals, took) in &results {
        let outcome = if totals.failed == 0 { "ok" } else { "FAILED" };
        println!(
            "{:<12} {outcome:<6} {:>7.1} s  {totals}",
            step.to_string(),
            took.as_secs_f64()
        );
    }
    let totals: Totals = results.iter().map(|(_, totals, _)| *totals).sum();
    // Whatever goes to stderr comes before the totals: they are the last line.
    println!("{totals}");
    if totals.failed > 0 {
        bail!(crate::Reported);
    }
    Ok(())
}
