//! /proc/stat, the rows of CPUs: `show_stat` in fs/proc/stat.c.

use std::{collections::BTreeMap, path::Path};

use super::{
    cpus::number,
    error::{ParseError, ProcError, read},
};

const FILE: &str = "/proc/stat";

/// How one CPU spent its time since boot, ticks of `USER_HZ`. A tick goes whole to what it interrupted. Idle time may
/// step back by a tick, and all of it when the CPU comes online again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTicks {
    /// User space, nice and guests included: the kernel adds a guest's time to `user` (`nice`) and to a column of
    /// its own, which is left alone here. Columns 1 and 2.
    pub user: u64,
    /// Kernel. Column 3.
    pub system: u64,
    /// Idle, waiting for I/O included. Columns 4 and 5.
    pub idle: u64,
    /// Hard interrupts. Column 6.
    pub irq: u64,
    /// Softirqs. Column 7.
    pub softirq: u64,
    /// Taken by the hypervisor. Column 8.
    pub steal: u64,
}

/// Reads the rows of online CPUs by id.
pub fn read_cpus(proc: &Path) -> Result<BTreeMap<u32, CpuTicks>, ProcError> {
    Ok(parse(&read(&proc.join("stat"))?)?)
}

/// Parses the rows `cpuN …`; those of anything else are left alone.
pub fn parse(text: &str) -> Result<BTreeMap<u32, CpuTicks>, ParseError> {
    let mut cpus = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let fail = |what: String| ParseError::new(FILE, index + 1, what);
        let Some(row) = line.strip_prefix("cpu") else {
            // The rows of CPUs come first; after them is a row a thousand numbers long.
            break;
        };
        let (id, columns) = row
            .split_once(' ')
            .ok_or_else(|| fail("no columns".into()))?;
        if id.is_empty() {
            continue;
        }
        let cpu = number(id).ok_or_else(|| fail(format!("`{id}` is no CPU id")))?;
        let columns: Vec<u64> = columns
            .split_ascii_whitespace()
            .map(|word| ticks(word).ok_or_else(|| fail(format!("`{word}` is no number of ticks"))))
            .collect::<Result<_, _>>()?;
        let &[user, nice, system, idle, iowait, irq, softirq, steal, ..] = columns.as_slice()
        else {
            return Err(fail(format!(
                "{} columns, at least 8 expected",
                columns.len()
            )));
        };
        let row = CpuTicks {
            user: user.saturating_add(nice),
            system,
            idle: idle.saturating_add(iowait),
            irq,
            softirq,
            steal,
        };
        if cpus.insert(cpu, row).is_some() {
            return Err(fail(format!("a second row for CPU {cpu}")));
        }
    }
    if cpus.is_empty() {
        return Err(ParseError::new(FILE, 1, "no rows of CPUs"));
    }
    Ok(cpus)
}

fn ticks(word: &str) -> Option<u64> {
    word.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| word.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: &str = include_str!("../../tests/fixtures/stat/6.18-2-cpus");

    #[test]
    fn every_cpu_has_a_row_and_their_sum_has_none() {
        let cpus = parse(HOST).unwrap();
        assert_eq!(cpus.keys().copied().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn nice_is_user_time_and_waiting_for_io_is_idle_and_guests_count_once() {
        let cpus = parse("cpu  0\ncpu3 10 2 3 40 5 6 7 8 9 1\nintr x\n").unwrap();
        let row = CpuTicks {
            user: 12,
            system: 3,
            idle: 45,
            irq: 6,
            softirq: 7,
            steal: 8,
        };
        assert_eq!(cpus, [(3, row)].into());
    }

    #[test]
    fn malformed_rows_are_errors_with_their_line() {
        for row in [
            "cpu0 1 2 3 4 5 6 7",
            "cpu0",
            "cpux 1 2 3 4 5 6 7 8",
            "cpu0 1 2 3 4 5 6 7 -8",
        ] {
            let error = parse(&format!("cpu  1 2 3\n{row}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{row}: {error}");
        }
        let twice = "cpu0 1 2 3 4 5 6 7 8\n".repeat(2);
        assert_eq!(parse(&twice).unwrap_err().line, 2);
        assert!(parse("").is_err());
        assert!(parse("intr 1\n").is_err());
    }

    #[test]
    fn this_hosts_file_is_parsed() {
        assert!(!read_cpus(Path::new("/proc")).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).*", rows in "(cpu[0-9]{0,2}( [0-9-]{0,4}){0,10}\n){0,5}") {
            let _ = parse(&text);
            let _ = parse(&rows);
        }

        #[test]
        fn a_mangled_file_does_not_panic(at in 0..200usize, with in any::<char>()) {
            let mut text: Vec<char> = HOST.chars().collect();
            text[at] = with;
            let _ = parse(&text.into_iter().collect::<String>());
        }
    }
}
