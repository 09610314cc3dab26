//! Provokes what goes wrong at a command line: values that cannot be, missing privileges, a reader that goes away,
//! impatience.
//!
//! Asserts one clear line with the remedy on stderr, nothing on stdout, no panic, and the exit status: 2 for usage, 3
//! for a host that cannot do it.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Need, Scenario, note};
use crate::{
    bpf::Objects,
    netns::Netns,
    tracer::{Guard, PATIENCE, Tracer, binary, command, complete, spawn_in, wait_for},
    wait,
};

const ROOT: &[Need] = &[Need::Root];

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "an_unknown_interface_is_refused_with_the_known_ones",
        needs: &[Need::Root, Need::Program("ip")],
        run: unknown_interface,
    },
    Scenario {
        name: "a_duration_of_nothing_is_a_usage_error",
        needs: &[],
        run: no_duration,
    },
    Scenario {
        name: "a_ring_size_that_cannot_be_is_a_usage_error",
        needs: &[],
        run: impossible_ring,
    },
    Scenario {
        name: "a_user_without_capabilities_is_told_which_are_missing",
        needs: &[Need::Root, Need::Program("setpriv")],
        run: without_capabilities,
    },
    Scenario {
        name: "a_reader_that_goes_away_ends_the_run_quietly",
        needs: ROOT,
        run: closed_stdout,
    },
    Scenario {
        name: "ctrl_c_during_the_start_leaves_nothing",
        needs: ROOT,
        run: early_interrupt,
    },
    Scenario {
        name: "a_second_ctrl_c_ends_a_run_whose_reader_is_stuck",
        needs: ROOT,
        run: second_interrupt,
    },
    Scenario {
        name: "sigterm_ends_the_run_with_the_report",
        needs: ROOT,
        run: sigterm,
    },
];

/// Runs tracer, which has to fail with `status`, say something with all of `words` on stderr, and nothing on stdout.
fn refused(netns: Option<&Netns>, command: Command, status: i32, words: &[&str]) -> Result<()> {
    let (exit, stdout, stderr) = complete(netns, command, PATIENCE)?;
    note(format_args!("{stderr}"));
    ensure!(
        exit.code() == Some(status),
        "{exit}, not status {status}: {stderr}"
    );
    ensure!(stdout.is_empty(), "on stdout: {stdout}");
    no_panic(&stderr)?;
    for word in words {
        ensure!(stderr.contains(word), "no {word:?} in: {stderr}");
    }
    Ok(())
}

fn no_panic(stderr: &str) -> Result<()> {
    ensure!(
        !stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"),
        "a panic: {stderr}"
    );
    Ok(())
}

fn unknown_interface() -> Result<()> {
    let netns = Netns::new("bad")?;
    netns.ip(&[
        "link", "add", "known0", "type", "veth", "peer", "name", "known1",
    ])?;
    let command = command(&["run", "--duration", "1s", "--interface", "nosuch0"])?;
    refused(
        Some(&netns),
        command,
        2,
        &["nosuch0", "lo", "known0", "known1"],
    )
}

fn no_duration() -> Result<()> {
    for value in ["0", "0s", "0ms", "-1s", "soon", ""] {
        let option = format!("--duration={value}");
        refused(None, command(&["run", &option])?, 2, &["--duration"]).with_context(|| option)?;
    }
    for value in ["0", "0s"] {
        let option = format!("--interval={value}");
        refused(None, command(&["run", &option])?, 2, &["--interval"]).with_context(|| option)?;
    }
    Ok(())
}

fn impossible_ring() -> Result<()> {
    // Nothing, less than a page, no power of two, more than a u32.
    for value in ["0", "1024", "12288", "5000", "8GiB", "-1", "many"] {
        let option = format!("--ring-size={value}");
        refused(
            None,
            command(&["run", "--duration=1s", &option])?,
            2,
            &["--ring-size"],
        )
        .with_context(|| option)?;
    }
    Ok(())
}

fn without_capabilities() -> Result<()> {
    // The binary may lie where nobody else may look.
    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("tracer");
    std::fs::copy(binary()?, &copy)?;
    std::fs::set_permissions(
        directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    for subcommand in [&["run", "--duration", "1s"][..], &["doctor"][..]] {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--bounding-set",
            "-all",
        ]);
        command.arg(&copy).args(subcommand);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if subcommand == ["doctor"] {
            let (exit, stdout, stderr) = complete(None, command, PATIENCE)?;
            ensure!(exit.code() == Some(3), "doctor: {exit}: {stdout} {stderr}");
            ensure!(
                stdout.contains("CAP_BPF") || stderr.contains("CAP_BPF"),
                "no remedy: {stdout} {stderr}"
            );
            no_panic(&stderr)?;
        } else {
            refused(None, command, 3, &["root", "CAP_BPF", "CAP_PERFMON"])?;
        }
    }
    Ok(())
}

/// `tracer run … | head -1`.
fn closed_stdout() -> Result<()> {
    for format in ["text", "json"] {
        let command = command(&[
            "run",
            "--interval",
            "100ms",
            "--duration",
            "5s",
            "--format",
            format,
        ])?;
        let begin = Instant::now();
        let mut child = Guard(spawn_in(None, command)?);
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().context("no stdout")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "{format}: no output");
        let status = wait_for(&mut child.0, PATIENCE)?;
        let mut stderr = String::new();
        std::io::Read::read_to_string(
            &mut child.0.stderr.take().context("no stderr")?,
            &mut stderr,
        )?;
        ensure!(quiet_end(status), "{format}: {status}: {stderr}");
        no_panic(&stderr)?;
        ensure!(
            !stderr.to_lowercase().contains("broken pipe"),
            "{format}: {stderr}"
        );
        ensure!(
            begin.elapsed() < Duration::from_secs(4),
            "{format}: ran on without a reader"
        );
    }
    Ok(())
}

fn quiet_end(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::SIGPIPE as i32)
}

fn early_interrupt() -> Result<()> {
    for delay_ms in [2, 5, 10, 20, 40, 80, 160, 320, 640] {
        let mut child = Guard(spawn_in(None, command(&["run", "--duration", "20s"])?)?);
        thread::sleep(Duration::from_millis(delay_ms));
        let pid = child.0.id();
        let objects = Objects::of_process(pid)?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGINT)?;
        let status = wait_for(&mut child.0, PATIENCE)
            .with_context(|| format!("SIGINT after {delay_ms} ms"))?;
        let mut stderr = String::new();
        std::io::Read::read_to_string(
            &mut child.0.stderr.take().context("no stderr")?,
            &mut stderr,
        )?;
        let code = status.code().unwrap_or(128 + status.signal().unwrap_or(0));
        ensure!(
            code == 0 || code == 130,
            "SIGINT after {delay_ms} ms: {status}: {stderr}"
        );
        no_panic(&stderr)?;
        wait::until(
            "programs and maps are freed",
            Duration::from_secs(2),
            || {
                Ok(objects
                    .intersection(&Objects::loaded()?)
                    .is_empty()
                    .then_some(()))
            },
        )?;
    }
    Ok(())
}

fn second_interrupt() -> Result<()> {
    let mut child = Guard(spawn_in(
        None,
        command(&["run", "--format", "json", "--interval", "100ms"])?,
    )?);
    let stdout = child.0.stdout.take().context("no stdout")?;
    // The smallest pipe there is: a few windows fill it, and the run waits for a reader that never comes.
    fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(4096))?;
    let pid = Pid::from_raw(i32::try_from(child.0.id())?);
    thread::sleep(Duration::from_secs(3));
    kill(pid, Signal::SIGINT)?;
    thread::sleep(Duration::from_millis(500));
    if child.0.try_wait()?.is_some() {
        bail!(
            "the run ended although nobody read its report: the scenario does not provoke what it should"
        );
    }
    kill(pid, Signal::SIGINT)?;
    let begin = Instant::now();
    let status = wait_for(&mut child.0, Duration::from_secs(2)).context("after a second SIGINT")?;
    note(format_args!(
        "{status} {} ms after the second SIGINT",
        begin.elapsed().as_millis()
    ));
    let mut stderr = String::new();
    std::io::Read::read_to_string(
        &mut child.0.stderr.take().context("no stderr")?,
        &mut stderr,
    )?;
    no_panic(&stderr)?;
    drop(stdout);
    Ok(())
}

fn sigterm() -> Result<()> {
    let tracer = Tracer::start(None, &[])?;
    tracer.signal(Signal::SIGTERM)?;
    let outcome = tracer.finish()?;
    ensure!(!outcome.summary.answer.is_empty(), "no answer");
    Ok(())
}
