//! `/proc/PID/stat` and `/proc/PID/task/TID/stat`: `do_task_stat` in fs/proc/array.c.

use std::{fs::File, io::Read as _, path::Path};

use crate::proc::error::ParseError;

const FILE: &str = "/proc/PID/stat";
/// `PF_KTHREAD`.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// `SCHED_FIFO`, `SCHED_RR`, `SCHED_DEADLINE`.
const REALTIME: [u64; 3] = [1, 2, 6];

/// A process (all its threads, those that ended included) or one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Command, at most 15 bytes of a user's, more of a kernel thread's.
    pub comm: String,
    /// Field 9 has `PF_KTHREAD`.
    pub kernel_thread: bool,
    /// CPU time, user and kernel, ticks of `USER_HZ`. Fields 14 and 15.
    pub ticks: u64,
    /// Threads. Field 20.
    pub threads: u64,
    /// Start, ticks since boot: tells a process from a later one of the same id. Field 22.
    pub start: u64,
    /// CPU it runs on or last ran on; of a process, its first thread. Field 39.
    pub cpu: u32,
    /// A real-time policy; of a process, its first thread's. Field 41.
    pub realtime: bool,
}

/// Reads `<dir>/stat`, where `dir` is that of a process or thread; `None` if it is gone or not understood.
#[must_use]
pub fn read(dir: &Path) -> Option<Stat> {
    // The kernel gives it out in one piece of less than this.
    let mut buffer = [0; 2048];
    let length = File::open(dir.join("stat")).ok()?.read(&mut buffer).ok()?;
    let text = String::from_utf8_lossy(buffer.get(..length)?);
    parse(&text).ok()
}

/// Parses the one line. The command may have blanks and brackets in it.
pub fn parse(text: &str) -> Result<Stat, ParseError> {
    let fail = |what: &str| ParseError::new(FILE, 1, what);
    let (head, rest) = text
        .rsplit_once(')')
        .ok_or_else(|| fail("no `)` after the command"))?;
    let (_, comm) = head
        .split_once('(')
        .ok_or_else(|| fail("no `(` before the command"))?;
    // Field 3 comes first.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| {
        fields
            .get(number - 3)
            .and_then(|word| word.parse::<u64>().ok())
            .ok_or_else(|| fail(&format!("no field {number}")))
    };
    Ok(Stat {
        comm: comm.to_owned(),
        kernel_thread: field(9)? & KERNEL_THREAD != 0,
        ticks: field(14)?.saturating_add(field(15)?),
        threads: field(20)?,
        start: field(22)?,
        cpu: u32::try_from(field(39)?).map_err(|_| fail("field 39 is no CPU id"))?,
        realtime: REALTIME.contains(&field(41)?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USER: &str = include_str!("../../../tests/fixtures/pid_stat/6.18-user");
    const KERNEL: &str = include_str!("../../../tests/fixtures/pid_stat/6.18-kernel-thread");

    #[test]
    fn a_process_has_its_times_and_cpu() {
        let stat = parse(USER).unwrap();
        assert!(!stat.kernel_thread && !stat.realtime && stat.threads >= 1);
        assert!(stat.start > 0);
    }

    #[test]
    fn a_kernel_thread_is_known_by_its_flag() {
        assert!(parse(KERNEL).unwrap().kernel_thread);
    }

    #[test]
    fn a_command_may_look_like_the_rest_of_the_line() {
        let rest = "S 1 1 1 0 -1 4194560 0 0 0 0 70 30 0 0 -20 0 4 0 555 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 3 1 2";
        let stat = parse(&format!("7 (a) R 2 (b) {rest} 0\n")).unwrap();
        let expected = Stat {
            comm: "a) R 2 (b".to_owned(),
            kernel_thread: false,
            ticks: 100,
            threads: 4,
            start: 555,
            cpu: 3,
            realtime: false,
        };
        assert!(parse(&format!("7 (x) {rest}")).is_ok());
        assert_eq!(
            stat,
            Stat {
                realtime: true,
                ..expected
            }
        );
    }

    #[test]
    fn malformed_lines_are_errors() {
        for text in [
            "",
            "1",
            "1 (a",
            "1 a)",
            "1 (a) S 1 2 3",
            &USER[..USER.len() / 2],
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn this_process_is_read_and_one_that_is_gone_is_none() {
        assert!(read(Path::new("/proc/self")).is_some());
        assert_eq!(read(Path::new("/proc/self/task/0")), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).*", close in "[0-9]{0,2} ?\\(?[a-z]{0,2}\\)?( -?[0-9]{1,3}){0,45}") {
            let _ = parse(&text);
            let _ = parse(&close);
        }

        #[test]
        fn a_mangled_file_does_not_panic(at in 0..USER.len(), with in any::<char>()) {
            let mut text: Vec<char> = USER.chars().collect();
            text[at] = with;
            let _ = parse(&text.into_iter().collect::<String>());
        }
    }
}
