//! Provokes what goes wrong at a command line: values that cannot be, missing privileges, a reader that goes away,
//! impatience.
//!
//! Asserts one clear line with the remedy on stderr, nothing on stdout, no panic, and the exit status: 2 for usage, 3
//! for a host that cannot do it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::Signal,
};

use super::{Need, Scenario, note};
use crate::{
    bpf::Objects,
    netns::Netns,
    process::Process,
    tracer::{PATIENCE, Tracer, binary, command, complete},
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
    fs::copy(binary()?, &copy)?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
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
        let args = ["--interval", "100ms", "--duration", "5s"];
        let command = command(&[&["run", "--format", format], &args[..]].concat())?;
        let begin = Instant::now();
        let mut process = Process::spawn(None, command)?;
        let mut line = String::new();
        BufReader::new(process.stdout()?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "{format}: no output");
        let (status, stderr) = end(&mut process)?;
        ensure!(
            status.success() || status.signal() == Some(Signal::SIGPIPE as i32),
            "{format}: {status}: {stderr}"
        );
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

/// Waits for the end and returns the status and what was said on stderr, which must not be a panic.
pub(super) fn end(process: &mut Process) -> Result<(ExitStatus, String)> {
    let mut pipe = process.stderr()?;
    let status = process.wait(PATIENCE)?;
    let mut stderr = String::new();
    pipe.read_to_string(&mut stderr)?;
    no_panic(&stderr)?;
    Ok((status, stderr))
}

fn early_interrupt() -> Result<()> {
    for delay_ms in [2, 5, 10, 20, 40, 80, 160, 320, 640] {
        let mut process = Process::spawn(None, command(&["run", "--duration", "20s"])?)?;
        thread::sleep(Duration::from_millis(delay_ms));
        let objects = Objects::of_process(process.pid())?;
        process.signal(Signal::SIGINT)?;
        let (status, stderr) =
            end(&mut process).with_context(|| format!("SIGINT after {delay_ms} ms"))?;
        let code = status
            .code()
            .unwrap_or(128 + status.signal().unwrap_or_default());
        note(format_args!(
            "SIGINT after {delay_ms} ms with {} programs: {code}",
            objects.programs.len()
        ));
        ensure!(
            code == 0 || code == 130,
            "SIGINT after {delay_ms} ms: {status}: {stderr}"
        );
        objects.wait_until_freed()?;
    }
    Ok(())
}

fn second_interrupt() -> Result<()> {
    let args = ["run", "--format", "json", "--interval", "100ms"];
    let mut process = Process::spawn(None, command(&args)?)?;
    let stdout = process.stdout()?;
    // The smallest pipe there is: a few windows fill it, and the run waits for a reader that never comes.
    fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(4096))?;
    thread::sleep(Duration::from_secs(3));
    process.signal(Signal::SIGINT)?;
    thread::sleep(Duration::from_millis(500));
    ensure!(
        process.ended()?.is_none(),
        "the run ended although nobody read its report: nothing was provoked"
    );
    process.signal(Signal::SIGINT)?;
    let begin = Instant::now();
    let (status, _) = end(&mut process).context("after a second SIGINT")?;
    let waited = begin.elapsed();
    note(format_args!("{status} after {} ms", waited.as_millis()));
    ensure!(
        waited < Duration::from_secs(2),
        "the second SIGINT took {} ms",
        waited.as_millis()
    );
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
