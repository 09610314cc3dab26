//! Records runs with drops and reports them again; kills one, fills the disk of another, compares two.
//!
//! Asserts that `tracer report` prints what the run printed, byte for byte; that a killed run is reported but for its
//! last interval; that a full disk ends the recording only, and a reader of stdout that goes away only that; that an existing file is not replaced; and that `tracer
//! compare` sees that a smaller backlog dropped more.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount, umount};
use tempfile::{NamedTempFile, TempDir};
use tracer::model::report::{Record, Report};

use super::{Need, Scenario, Skip, bad_input, flood_of, note};
use crate::{
    backlog::Steered,
    flood::Flood,
    netns::Pair,
    process::Process,
    tracer::{PATIENCE, Tracer, binary, command, complete},
    wait,
};

const NEEDS: &[Need] = &[Need::Root, Need::Program("ip")];

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_recording_is_reported_as_the_run_was_byte_for_byte",
        needs: NEEDS,
        run: the_same_bytes,
    },
    Scenario {
        name: "a_killed_run_is_reported_but_for_its_last_interval",
        needs: NEEDS,
        run: killed,
    },
    Scenario {
        name: "a_full_disk_ends_the_recording_and_not_the_run",
        needs: NEEDS,
        run: full_disk,
    },
    Scenario {
        name: "a_reader_that_goes_away_does_not_end_a_recording",
        needs: &[Need::Root],
        run: unread,
    },
    Scenario {
        name: "compare_sees_that_a_small_backlog_drops_more",
        needs: &[Need::Root, Need::Program("ip"), Need::Cpus(2)],
        run: compared,
    },
];

const PORT: u16 = 7019;
const PACKETS: u64 = 3000;

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// Runs tracer to its end in the receiver's namespace while packets are dropped there, once it is attached; status,
/// stdout, stderr.
fn dropping(pair: &Pair, args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let (stdout, stderr) = (NamedTempFile::new()?, NamedTempFile::new()?);
    let mut command = Command::new(binary()?);
    command
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(stdout.reopen()?)
        .stderr(stderr.reopen()?);
    let mut run = Process::spawn(Some(&pair.receiver), command)?;
    wait::until("tracer is attached", PATIENCE, || {
        let said = std::fs::read_to_string(stderr.path())?;
        Ok(said.contains("attached").then_some(()))
    })?;
    // In its second interval, not the first.
    std::thread::sleep(Duration::from_millis(1200));
    let sent = Flood::new(Pair::RECEIVER, PORT, PACKETS).run(&pair.sender)?;
    let status = run.wait(PATIENCE)?;
    ensure!(sent == PACKETS, "not all was sent");
    let text = |file: &NamedTempFile| std::fs::read_to_string(file.path());
    // As `complete` gives it: lines, without the last newline.
    let stdout = text(&stdout)?.trim_end_matches('\n').to_owned();
    Ok((status.code(), stdout, text(&stderr)?))
}

/// `tracer ARGS`, which must end with `status`.
fn tracer(args: &[&str], status: i32) -> Result<(String, String)> {
    let (ended, stdout, stderr) = complete(None, command(args)?, PATIENCE)?;
    ensure!(ended.code() == Some(status), "{args:?}: {ended}: {stderr}");
    Ok((stdout, stderr))
}

fn the_same_bytes() -> Result<()> {
    let directory = TempDir::new()?;
    let pair = Pair::new()?;
    for (name, args, again) in [
        ("text", &["--format", "text"][..], &["--intervals"][..]),
        ("json", &["--format", "json"], &["--format", "json"]),
        (
            "events",
            &["--format", "json", "--events", "irq,net_rx,drop"],
            &["--format", "json"],
        ),
    ] {
        let file = directory.path().join(name);
        let file = text(&file)?;
        let mut all = vec!["run", "--duration", "3s", "--record", file];
        all.extend(args);
        let (status, live, said) = dropping(&pair, &all)?;
        ensure!(status == Some(0), "{status:?}: {said}");
        let mut all = vec!["report", file];
        all.extend(again);
        let (replayed, warnings) = tracer(&all, 0)?;
        ensure!(warnings.is_empty(), "{warnings}");
        // Kernels before 5.17 have no reasons.
        let seen = ["NO_SOCKET", "__udp4_lib_rcv"];
        ensure!(
            seen.iter().any(|word| live.contains(word)),
            "no drops in: {live}"
        );
        ensure!(
            live == replayed,
            "{name}: live:\n{live}\nreplayed:\n{replayed}"
        );
        note(format_args!(
            "{name}: {} bytes alike, recorded in {}",
            live.len(),
            std::fs::metadata(file)?.len()
        ));
        // Never replaced, unless that is asked for.
        let (_, said) = tracer(&["run", "--duration", "100ms", "--record", file], 2)?;
        ensure!(said.contains("--force"), "{said}");
    }
    let file = directory.path().join("text");
    let whole = std::fs::read(&file)?;
    tracer(
        &[
            "run",
            "--duration",
            "100ms",
            "--record",
            text(&file)?,
            "--force",
        ],
        0,
    )?;
    ensure!(std::fs::read(&file)? != whole, "--force did not replace it");
    Ok(())
}

fn summary(file: &Path) -> Result<(Report, usize, String)> {
    let (stdout, stderr) = tracer(&["report", text(file)?, "--format", "json"], 0)?;
    let last = stdout.lines().next_back().context("nothing reported")?;
    match tracer::report::json::parse(last)? {
        Record::Summary(report) => Ok((report, stdout.lines().count() - 1, stderr)),
        other => anyhow::bail!("no summary: {other:?}"),
    }
}

fn killed() -> Result<()> {
    let directory = TempDir::new()?;
    let file = directory.path().join("killed");
    let pair = Pair::new()?;
    let args = ["--interval", "500ms", "--record", text(&file)?];
    let tracer = Tracer::start(Some(&pair.receiver), &args)?;
    std::thread::sleep(Duration::from_millis(200));
    let sent = Flood::new(Pair::RECEIVER, PORT, PACKETS).run(&pair.sender)?;
    // The intervals that follow have all of it. A busy machine may need longer than they are.
    let enough = summary(&file).map_or(0, |(_, windows, _)| windows) + 4;
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(500));
        if summary(&file).is_ok_and(|(_, windows, _)| windows >= enough) {
            break;
        }
    }
    tracer.kill()?;
    let (report, windows, said) = summary(&file)?;
    ensure!(
        said.contains("does not have the end") || said.contains("cut off"),
        "{said}"
    );
    ensure!(
        windows >= enough,
        "{windows} intervals, not {enough}, in 20 s"
    );
    let dropped = report
        .drops
        .iter()
        .filter(|d| d.device.as_deref() == Some(Pair::RECEIVER_DEVICE) && d.site.contains("udp"));
    let dropped: u64 = dropped.map(|d| d.packets).sum();
    ensure!(dropped >= sent, "sent {sent}, {dropped} in the report");
    // And cut in the middle of a frame, by hand.
    let bytes = std::fs::read(&file)?;
    std::fs::write(&file, &bytes[..bytes.len() - 7])?;
    let (_, fewer, said) = summary(&file)?;
    ensure!(
        fewer + 1 >= windows && said.contains("cut off"),
        "{fewer} of {windows}: {said}"
    );
    Ok(())
}

fn unread() -> Result<()> {
    let directory = TempDir::new()?;
    for format in ["text", "json"] {
        let file = directory.path().join(format);
        let mut args = vec!["run", "--interval", "200ms", "--duration", "2s"];
        args.extend(["--format", format, "--record", text(&file)?]);
        let mut process = Process::spawn(None, command(&args)?)?;
        let mut line = String::new();
        BufReader::new(process.stdout()?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "{format}: no output");
        let (status, stderr) = bad_input::end(&mut process)?;
        ensure!(
            status.success() && stderr.contains("nobody reads stdout any more"),
            "{format}: {status}: {stderr}"
        );
        let (report, windows, said) = summary(&file)?;
        ensure!(
            said.is_empty() && windows >= 5 && report.duration_ns >= 1_900_000_000,
            "{format}: {windows} intervals in {} ns: {said}",
            report.duration_ns
        );
    }
    Ok(())
}

/// A file system of a few pages.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, bytes: u32) -> Result<Self> {
        let size = format!("size={bytes}");
        mount(
            Some("tracer-test"),
            at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount(&self.0);
    }
}

fn full_disk() -> Result<()> {
    let directory = TempDir::new()?;
    let small = Small::mount(directory.path(), 16 << 10)?;
    let file = small.0.join("run");
    let pair = Pair::new()?;
    let args = [
        "run",
        "--duration",
        "4s",
        "--interval",
        "20ms",
        "--format",
        "json",
        "--record",
        text(&file)?,
    ];
    let (status, stdout, said) = dropping(&pair, &args)?;
    ensure!(status == Some(1), "{status:?}: {said}");
    ensure!(said.matches("No space left").count() == 1, "{said}");
    let last = stdout.lines().next_back().context("nothing reported")?;
    let Record::Summary(report) = tracer::report::json::parse(last)? else {
        anyhow::bail!("the run lost its summary: {last}");
    };
    ensure!(report.duration_ns > 3_900_000_000, "the run ended early");
    let (recorded, windows, warned) = summary(&file)?;
    ensure!(
        windows > 0 && recorded.duration_ns < report.duration_ns,
        "{windows} windows"
    );
    ensure!(warned.contains("does not have the end"), "{warned}");
    note(format_args!("{windows} intervals in 16 KiB"));
    Ok(())
}

fn compared() -> Result<()> {
    let directory = TempDir::new()?;
    let steered = Steered::new()?;
    let record = |name: &str, overflow: bool| -> Result<PathBuf> {
        let file = directory.path().join(name);
        let args = ["--record", text(&file)?];
        let tracer = Tracer::start(Some(&steered.pair.receiver), &args)?;
        std::thread::sleep(Duration::from_millis(1200));
        if overflow {
            steered.overflow(flood_of(100_000))?;
        } else {
            steered.flood(flood_of(100_000))?;
        }
        wait::quiet();
        tracer.stop()?;
        Ok(file)
    };
    // How fast a flood is depends on the host; two of which one is twice as fast as the other are not compared.
    for attempt in 1..=3 {
        let good = record(&format!("good{attempt}"), false)?;
        let bad = record(&format!("bad{attempt}"), true)?;
        if is_worse(text(&good)?, text(&bad)?)? {
            return Ok(());
        }
    }
    Err(Skip("this host never made two floods that are alike".to_owned()).into())
}

/// Whether the two could be compared; then `bad` has to be worse.
fn is_worse(good: &str, bad: &str) -> Result<bool> {
    let (stdout, _) = tracer(&["compare", good, good, "--fail-on-worse"], 0)?;
    ensure!(stdout.starts_with("no difference"), "{stdout}");
    let compare = command(&["compare", good, bad, "--fail-on-worse"])?;
    let (status, out, said) = complete(None, compare, PATIENCE)?;
    note(format_args!("{status} {said}\n{out}"));
    if out.starts_with("not comparable: other traffic") {
        return Ok(false);
    }
    ensure!(
        out.starts_with("worse:") && status.code() == Some(10),
        "{status} {said}: {out}"
    );
    ensure!(out.contains("enqueue_to_backlog"), "{out}");
    let (out, _) = tracer(&["compare", bad, good], 0)?;
    ensure!(out.starts_with("better:"), "{out}");
    Ok(true)
}
