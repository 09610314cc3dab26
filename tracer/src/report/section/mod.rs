//! The parts of the report, each of which takes a page and a number of rows.

pub mod cpus;
pub mod details;
pub mod devices;
pub mod drops;
pub mod findings;
pub mod header;
pub mod hooks;
pub mod irqs;
pub mod losses;
pub mod napi;
pub mod witness;

use super::number;
use super::page::{Span, Tone, span};
use crate::model::report::PerCpu;

/// What stands for a number nobody knows.
const UNKNOWN: &str = "?";

fn number(n: Option<u64>) -> Span {
    span(
        n.map_or_else(|| UNKNOWN.to_owned(), number::count),
        Tone::Plain,
    )
}

/// A number that means harm when it is not 0.
fn harm(n: Option<u64>) -> Span {
    Span {
        tone: Tone::alarm_if(n.is_some_and(|n| n > 0)),
        ..number(n)
    }
}

fn duration(ns: Option<u64>) -> Span {
    span(
        ns.map_or_else(|| UNKNOWN.to_owned(), |ns| number::duration(ns, true)),
        Tone::Plain,
    )
}

fn text(text: impl Into<String>) -> Span {
    span(text, Tone::Plain)
}

fn dim(text: impl Into<String>) -> Span {
    span(text, Tone::Dim)
}

fn nothing() -> Span {
    Span::default()
}

/// Sum, unknown as soon as a part is.
fn sum(values: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    values
        .into_iter()
        .try_fold(0, |sum: u64, n| n.map(|n| sum.saturating_add(n)))
}

/// The CPUs with the largest counts and their shares: `0:97%, 1:3%`; only the id if there is one.
fn top_cpus(per_cpu: &PerCpu, most: usize) -> String {
    let mut counts: Vec<(u32, u64)> = per_cpu
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(cpu, n)| (*cpu, *n))
        .collect();
    if let [(cpu, _)] = counts.as_slice() {
        return cpu.to_string();
    }
    let all = counts
        .iter()
        .fold(0, |sum: u64, (_, n)| sum.saturating_add(*n));
    counts.sort_by_key(|(cpu, n)| (std::cmp::Reverse(*n), *cpu));
    let mut shares: Vec<String> = counts
        .iter()
        .take(most)
        .map(|(cpu, n)| format!("{cpu}:{}", number::percent(*n, all).replace(' ', "")))
        .collect();
    if counts.len() > most {
        shares.push(format!("+{}", counts.len() - most));
    }
    shares.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_cpus_come_first_and_the_rest_is_a_number() {
        assert_eq!(top_cpus(&[(3, 5)].into(), 2), "3");
        assert_eq!(top_cpus(&[(0, 3), (1, 97)].into(), 2), "1:97%, 0:3%");
        assert_eq!(
            top_cpus(&[(0, 1), (1, 1), (2, 1), (3, 1)].into(), 2),
            "0:25%, 1:25%, +2"
        );
        assert_eq!(top_cpus(&PerCpu::new(), 2), "");
    }

    #[test]
    fn a_sum_with_an_unknown_part_is_unknown() {
        assert_eq!(sum([Some(1), None]), None);
        assert_eq!(sum([Some(1), Some(2)]), Some(3));
    }
}
