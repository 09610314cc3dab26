//! What the kernel tells about a loaded program: /proc/self/fdinfo of its descriptor,
//! `bpf_prog_show_fdinfo` in kernel/bpf/syscall.c.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use aya::programs::Program;

/// Runs and misses of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Runs; only while `kernel.bpf_stats_enabled` is 1.
    pub runs: Option<u64>,
    /// Skipped because it was already running on that CPU; kernel 5.12.
    pub missed: Option<u64>,
}

/// `None` if the program is not loaded or /proc does not show it.
pub(super) fn status(program: &Program) -> Option<Status> {
    let fd = program_fd(program)?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    Some(parse(&text))
}

/// Gives the memory that parsing the kernel's BTF took back to the system.
pub(super) fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time; it only returns free pages.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn program_fd(program: &Program) -> Option<BorrowedFd<'_>> {
    let fd = match program {
        Program::BtfTracePoint(p) => p.fd(),
        Program::RawTracePoint(p) => p.fd(),
        Program::FEntry(p) => p.fd(),
        Program::FExit(p) => p.fd(),
        Program::KProbe(p) => p.fd(),
        _ => return None,
    };
    Some(fd.ok()?.as_fd())
}

fn parse(text: &str) -> Status {
    let value = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.trim().parse::<u64>().ok())
    };
    Status {
        // 0 with statistics off: not a count.
        runs: value("run_cnt").filter(|&runs| runs > 0),
        missed: value("recursion_misses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_the_field_is_unknown_not_zero() {
        assert_eq!(parse("prog_type:\t26\nrun_cnt:\t0\n"), Status::default());
        assert_eq!(
            parse("run_time_ns:\t7\nrun_cnt:\t3\nrecursion_misses:\t2\nverified_insns:\t9\n"),
            Status {
                runs: Some(3),
                missed: Some(2)
            }
        );
    }
}
