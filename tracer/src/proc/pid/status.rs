//! `/proc/PID/status`, the CPUs a thread may run on: `task_cpus_allowed` in fs/proc/array.c.

use std::path::Path;

use crate::proc::{cpus::parse_list, error::ParseError};

const FILE: &str = "/proc/PID/status";

/// CPUs that the thread whose directory `dir` is may run on; `None` if it is gone.
#[must_use]
pub fn allowed(dir: &Path) -> Option<Vec<u32>> {
    // The name may be of any bytes.
    let text = std::fs::read(dir.join("status")).ok()?;
    parse(&String::from_utf8_lossy(&text)).ok()
}

/// The list after `Cpus_allowed_list:`.
pub fn parse(text: &str) -> Result<Vec<u32>, ParseError> {
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .ok_or_else(|| ParseError::new(FILE, 1, "no `Cpus_allowed_list:`"))?;
    parse_list(list.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: &str = include_str!("../../../tests/fixtures/pid_status/6.18");

    #[test]
    fn the_allowed_cpus_are_the_list_and_not_the_mask() {
        assert_eq!(parse(HOST).unwrap(), [0, 1]);
        let text = "Cpus_allowed:\tff\nCpus_allowed_list:\t0,2-3\nMems_allowed_list:\t0\n";
        assert_eq!(parse(text).unwrap(), [0, 2, 3]);
    }

    #[test]
    fn a_file_without_the_list_is_an_error() {
        assert!(parse("Name:\tx\n").is_err());
        assert!(parse("Cpus_allowed_list:\tx\n").is_err());
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed(Path::new("/proc/self")).unwrap().is_empty());
        assert_eq!(allowed(Path::new("/proc/self/task/0")), None);
    }

    proptest! {
        #[test]
        fn a_mangled_file_does_not_panic(at in 0..HOST.len(), with in any::<char>()) {
            let mut text: Vec<char> = HOST.chars().collect();
            text[at] = with;
            let _ = parse(&text.into_iter().collect::<String>());
        }
    }
}
