//! The steps of `cargo xtask test`.

use std::{
    fmt,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use xtask::build_ebpf::find_program;

use crate::{command, dist::static_cargo, summary::Totals};

/// Seconds that fetching the advisory database may take.
const FETCH_LIMIT: &str = "60";

/// One step, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// rustfmt.
    Fmt,
    /// clippy on what runs in user space.
    Clippy,
    /// clippy on the programs in the kernel.
    ClippyEbpf,
    /// Licences, sources, duplicates and advisories.
    Deny,
    /// Unit, property and command-line tests.
    Unit,
    /// tracer itself, optimised.
    Build,
    /// Tests on the live kernel.
    Live,
    /// The same, and more, on other kernels.
    Vm,
    /// The benchmark's harness.
    Bench,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::ClippyEbpf => "clippy-ebpf",
            Self::Deny => "deny",
            Self::Unit => "unit",
            Self::Build => "build",
            Self::Live => "live",
            Self::Vm => "vm",
            Self::Bench => "bench",
        })
    }
}

impl Step {
    /// All, in order.
    pub const ALL: [Self; 9] = [
        Self::Fmt,
        Self::Clippy,
        Self::ClippyEbpf,
        Self::Deny,
        Self::Unit,
        Self::Build,
        Self::Live,
        Self::Vm,
        Self::Bench,
    ];

    /// What it checks.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Fmt => "the format is rustfmt's",
            Self::Clippy => "clippy has nothing to say about the user side",
            Self::ClippyEbpf => "nor about the kernel side",
            Self::Deny => "licences, sources and advisories of the dependencies",
            Self::Unit => "unit, property and command-line tests",
            Self::Build => "tracer as users get it",
            Self::Live => "tests on this kernel",
            Self::Vm => "tests on the kernels of four Debian releases",
            Self::Bench => "the benchmark runs, at whatever speed",
        }
    }

    /// The step without whose success this one makes no sense.
    pub const fn needs(self) -> Option<Self> {
        match self {
            Self::Live | Self::Vm | Self::Bench => Some(Self::Build),
            _ => None,
        }
    }

    /// Whether `--only` asked for it, or for one that depends on it. Nothing asked for is all.
    pub fn is_wanted(self, only: &[Self]) -> bool {
        only.is_empty()
            || only
                .iter()
                .any(|step| *step == self || step.needs() == Some(self))
    }

    /// Runs it. An error is a failure of the step as such.
    pub fn run(self, offline: bool) -> Result<Totals> {
        match self {
            Self::Fmt => check(cargo(offline).args(["fmt", "--all", "--check"])),
            Self::Clippy => check(cargo(offline).args([
                "clippy",
                "--workspace",
                "--exclude",
                "tracer-ebpf",
                "--all-targets",
                // The benchmarks, which nothing else here compiles.
                "--features",
                "tracer/synthetic",
                "--",
                "-D",
                "warnings",
            ])),
            Self::ClippyEbpf => clippy_ebpf(offline),
            Self::Deny => deny(offline),
            Self::Unit => count(cargo(offline).args([
                "test",
                "--no-fail-fast",
                "--workspace",
                "--exclude",
                "tracer-ebpf",
                "--exclude",
                "tracer-tests",
            ])),
            // With the guest of the machines: what is built together is optimised once.
            Self::Build => crate::vm::build(offline).map(|_| Totals::PASSED),
            Self::Live => live(offline),
            Self::Vm => crate::vm::matrix(offline),
            Self::Bench => crate::bench::smoke(offline),
        }
    }
}

fn cargo(offline: bool) -> Command {
    let mut command = command::cargo_command();
    if offline {
        command.env("CARGO_NET_OFFLINE", "true");
    }
    command
}

fn check(command: &mut Command) -> Result<Totals> {
    command::run(command)?;
    Ok(Totals::PASSED)
}

/// For the host, since clippy has no `core` for the bpf target; nothing is linked. In a directory of its own:
/// `RUSTC_BOOTSTRAP`, without which the unstable features are errors, would rebuild everything else.
fn clippy_ebpf(offline: bool) -> Result<Totals> {
    check(
        cargo(offline)
            .env("RUSTC_BOOTSTRAP", "1")
            .args([
                "clippy",
                "--package",
                "tracer-ebpf",
                "--all-features",
                // Without std there is no unwinding.
                "--profile",
                "bpf",
                "--target-dir",
            ])
            .arg(command::target_dir().join("clippy-ebpf"))
            .args(["--", "-D", "warnings"]),
    )
}

fn deny(offline: bool) -> Result<Totals> {
    let checks = check(cargo(offline).args([
        "deny",
        "--all-features",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
    .unwrap_or_else(|error| {
        println!("{}: {error:#}", Step::Deny);
        Totals::FAILED
    });
    let advisories = match fetch_advisories(offline) {
        Ok(()) => check(cargo(offline).args([
            "deny",
            "--all-features",
            "check",
            "--disable-fetch",
            "advisories",
        ]))?,
        Err(reason) => {
            println!(
                "{}: advisories skipped: cannot fetch their database: {reason}",
                Step::Deny
            );
            Totals::SKIPPED
        }
    };
    Ok(checks + advisories)
}

/// The advisories are a git repository, which not every build machine can reach.
fn fetch_advisories(offline: bool) -> Result<(), String> {
    if offline {
        return Err("--offline".to_owned());
    }
    let mut fetch = Command::new("timeout");
    fetch
        .arg(FETCH_LIMIT)
        .arg(command::cargo())
        .args(["deny", "fetch", "db"])
        .current_dir(command::workspace())
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null());
    let output = fetch
        .output()
        .map_err(|error| format!("cannot start timeout: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(reason(&String::from_utf8_lossy(&output.stderr))
        .unwrap_or_else(|| format!("cargo deny {}", output.status)))
}

/// What git, or else cargo-deny, gives as the reason.
fn reason(stderr: &str) -> Option<String> {
    let after = |mark: &str| {
        stderr
            .lines()
            .find_map(|line| Some(line.split_once(mark)?.1.trim().to_owned()))
    };
    after("fatal: ").or_else(|| after("[ERROR] "))
}

/// The scenarios run as root, through sudo where we are not; without either they say themselves that they skip.
fn live(offline: bool) -> Result<Totals> {
    let (mut command, directory) = static_cargo("test", offline)?;
    command
        .env("TRACER_BIN", directory.join("tracer"))
        .env("TRACER_TESTS_RETRY", "1")
        .args(["--no-fail-fast", "--package", "tracer-tests"]);
    if !command::is_root()
        && let Some(sudo) = find_program("sudo")
    {
        let sudo = sudo.display();
        command.args([
            "--config",
            &format!("target.'cfg(unix)'.runner=['{sudo}', '--preserve-env=TRACER_BIN,TRACER_TESTS_RETRY,CI']"),
        ]);
    }
    count(&mut command)
}

/// Runs tests, passing their output on, and adds up their summary lines. Counts one more failure if the command
/// fails without any of them (a compile error, a crash), and fails if there was no test at all.
fn count(command: &mut Command) -> Result<Totals> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command::words(command)))?;
    let stdout = child.stdout.take().context("no pipe to the tests")?;
    let mut totals = Totals::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read what the tests say")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        totals = totals + Totals::parse(&line).unwrap_or_default();
    }
    let status = child.wait().context("cannot wait for the tests")?;
    if !status.success() && totals.failed == 0 {
        println!("{} failed ({status})", command::words(command));
        totals = totals + Totals::FAILED;
    }
    if totals == Totals::default() {
        bail!("{} ran no test", command::words(command));
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_nothing_is_asking_for_everything() {
        assert!(Step::ALL.into_iter().all(|step| step.is_wanted(&[])));
    }

    #[test]
    fn a_step_brings_the_one_it_needs() {
        let wanted: Vec<_> = Step::ALL
            .into_iter()
            .filter(|step| step.is_wanted(&[Step::Live]))
            .collect();
        assert_eq!(wanted, [Step::Build, Step::Live]);
    }

    #[test]
    fn a_step_comes_after_the_one_it_needs() {
        for (index, step) in Step::ALL.iter().enumerate() {
            if let Some(needed) = step.needs() {
                assert!(Step::ALL[..index].contains(&needed), "{step}");
            }
        }
    }

    #[test]
    fn the_name_of_a_step_is_what_only_takes() {
        for step in Step::ALL {
            assert_eq!(Step::from_str(&step.to_string(), false), Ok(step));
        }
    }

    #[test]
    fn the_reason_of_a_failed_fetch_is_what_git_says() {
        let stderr = "2026 [ERROR] failed to fetch\nCloning…\nfatal: Could not resolve host: x\n";
        assert_eq!(reason(stderr).as_deref(), Some("Could not resolve host: x"));
        assert_eq!(reason("1 [ERROR] no git\n").as_deref(), Some("no git"));
        assert_eq!(reason(""), None);
    }
}
