//! /proc/softirqs: `show_softirqs` in fs/proc/softirqs.c.

use std::{collections::BTreeMap, path::Path};

use super::{
    cpus::{number, parse_header},
    error::{ParseError, ProcError, read},
};

const FILE: &str = "/proc/softirqs";

/// Raised and run softirqs by vector name (`NET_RX`), then CPU id; possible CPUs. u32 in the kernel: wraps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Softirqs {
    /// Runs by vector name, then CPU id.
    pub runs: BTreeMap<String, BTreeMap<u32, u32>>,
}

impl Softirqs {
    /// Reads `<proc>/softirqs`.
    pub fn read(proc: &Path) -> Result<Self, ProcError> {
        Ok(parse(&read(&proc.join("softirqs"))?)?)
    }
}

/// Parses the whole file. Every row must have a count for each CPU of the first line.
pub fn parse(text: &str) -> Result<Softirqs, ParseError> {
    let mut lines = text.lines();
    let cpus = parse_header(FILE, lines.next())?;
    let mut softirqs = Softirqs::default();
    for (index, line) in lines.enumerate() {
        let fail = |what: String| ParseError::new(FILE, index + 2, what);
        let (name, counts) = line
            .split_once(':')
            .ok_or_else(|| fail("no `:` after the vector's name".into()))?;
        let counts: Vec<u32> = counts
            .split_ascii_whitespace()
            .map(|word| number(word).ok_or_else(|| fail(format!("`{word}` is no 32-bit count"))))
            .collect::<Result<_, _>>()?;
        if counts.len() != cpus.len() {
            return Err(fail(format!(
                "{} counts for {} CPUs",
                counts.len(),
                cpus.len()
            )));
        }
        let counts = cpus.iter().copied().zip(counts).collect();
        let name = name.trim();
        if softirqs.runs.insert(name.to_owned(), counts).is_some() {
            return Err(fail(format!("a second row `{name}`")));
        }
    }
    Ok(softirqs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: &str = include_str!("../../tests/fixtures/softirqs/6.18-2-cpus");
    const OFFLINE: &str = include_str!("../../tests/fixtures/softirqs/cpu1-impossible");

    #[test]
    fn every_vector_is_counted_by_cpu() {
        let softirqs = parse(HOST).unwrap();
        let mut expected: Vec<&str> = tracer_common::counter::SOFTIRQ_NAMES.to_vec();
        expected.sort_unstable();
        assert_eq!(softirqs.runs.keys().collect::<Vec<_>>(), expected);
        assert_eq!(softirqs.runs["NET_RX"], [(0, 4841), (1, 7173)].into());
    }

    #[test]
    fn counts_belong_to_the_cpus_of_the_first_line() {
        let softirqs = parse(OFFLINE).unwrap();
        assert_eq!(softirqs.runs["NET_RX"], [(0, 7), (2, u32::MAX)].into());
    }

    #[test]
    fn malformed_rows_are_errors_with_their_line() {
        for row in [
            "NET_RX 1 2",
            "NET_RX: 1",
            "NET_RX: 1 2 3",
            "NET_RX: 1 -2",
            "HI: 1 4294967296",
        ] {
            let error = parse(&format!("CPU0 CPU1\n{row}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{row}: {error}");
        }
        assert_eq!(parse("CPU0\nHI: 1\nHI: 1\n").unwrap_err().line, 3);
        for text in ["", "\n", "CPU\n", "CPU1 CPU0\n", "CPU0 CPU0\n", "HI: 1\n"] {
            assert_eq!(parse(text).unwrap_err().line, 1, "{text}");
        }
    }

    #[test]
    fn this_hosts_file_is_parsed() {
        let softirqs = Softirqs::read(Path::new("/proc")).unwrap();
        assert!(softirqs.runs.contains_key("NET_RX"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).*", rows in "CPU0 CPU7\n([A-Z_]{0,3}:?[ 0-9]{0,12}\n){0,5}") {
            let _ = parse(&text);
            let _ = parse(&rows);
        }

        #[test]
        fn a_mangled_file_does_not_panic(at in 0..HOST.len(), with in any::<char>()) {
            let mut text: Vec<char> = HOST.chars().collect();
            text[at] = with;
            let _ = parse(&text.into_iter().collect::<String>());
        }
    }
}
