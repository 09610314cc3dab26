//! The command line as a user meets it, without privileges and without a kernel to trace.
#![expect(
    clippy::expect_used,
    reason = "a test that cannot start tracer has failed"
)]

use std::process::{Command, Output};

fn tracer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tracer"))
        .args(args)
        .output()
        .expect("tracer starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn help_has_examples_and_the_exit_statuses() {
    let output = tracer(&["--help"]);
    assert!(output.status.success());
    let text = stdout(&output);
    assert!(text.contains("Examples:"), "{text}");
    assert!(text.contains("sudo tracer run --duration 10s"), "{text}");
    let (_, statuses) = text.split_once("Exit status:").expect("it has them");
    for status in [
        "0 done",
        "1 failed",
        "2 wrong usage",
        "3 this host",
        "10 more",
    ] {
        assert!(statuses.contains(status), "{status}: {statuses}");
    }
    assert!(statuses.contains("--fail-on-worse"), "{statuses}");
    assert!(statuses.contains("COLUMNS"), "{statuses}");
}

#[test]
fn every_command_explains_itself() {
    for command in ["run", "doctor", "report", "compare"] {
        let output = tracer(&[command, "--help"]);
        assert!(output.status.success(), "{command}");
        assert!(stdout(&output).contains("--format"), "{command}");
    }
}

#[test]
fn wrong_values_are_usage_errors_that_say_what_is_possible() {
    for (args, words) in [
        (["--duration", "0"], "must be longer than 0"),
        (["--duration", "soon"], "a number and a unit"),
        (["--duration", "18446744073709551615s"], "at most a year"),
        (["--interval", "1ms"], "at least 10ms"),
        (["--ring-size", "5000"], "power of two"),
        (["--ring-size", "2GiB"], "1GiB"),
        (["--detail-rate", "some"], "'unlimited'"),
        (["--drop-sites", "0"], "0 is not in 1..=1048576"),
        (["--events", "icmp"], "possible values: irq, net_rx, drop"),
        (
            ["--threshold", "speed=1"],
            "known: net-rx-share, softirq-busy",
        ),
        (["--threshold", "steal=much"], "whole number of %"),
        (["--hook", "kfree_skb"], "NAME=HOW"),
        (["--hook", "kfree=off"], "known: enqueue_to_backlog"),
        (
            ["--hook", "kfree_skb=fentry"],
            "possible: auto, tp_btf, raw_tp, off",
        ),
    ] {
        let output = tracer(&["run", args[0], args[1]]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    assert_eq!(tracer(&["watch"]).status.code(), Some(2));
}

#[test]
fn explain_needs_no_privileges_and_takes_any_spelling() {
    for name in ["CPU_BACKLOG", "cpu-backlog", "SKB_DROP_REASON_CPU_BACKLOG"] {
        let output = tracer(&["explain", name]);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        assert!(stdout(&output).starts_with("CPU_BACKLOG (drop reason)"));
    }
    let all = stdout(&tracer(&["explain"]));
    for name in [
        "single-cpu",
        "squeezed",
        "netfilter",
        "SOCKET_RCVBUFF",
        "napi_poll",
    ] {
        assert!(all.contains(name), "{all}");
    }
    let hook = stdout(&tracer(&["explain", "softirq_entry"]));
    assert!(hook.starts_with("softirq_entry (hook)"), "{hook}");
    let thresholds = stdout(&tracer(&["explain", "thresholds"]));
    assert!(thresholds.contains("softirq-busy=85 %"), "{thresholds}");
}

#[test]
fn explain_offers_near_names_for_an_unknown_one() {
    let output = tracer(&["explain", "cpu-baklog"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).is_empty());
    assert!(
        stderr(&output).contains("did you mean CPU_BACKLOG"),
        "{}",
        stderr(&output)
    );
}

/// A run of 2 s with 100 drops at a closed port, written by the first tracer that records.
const VERSION_1: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/recordings/version-1.trec"
);

/// Such a run again, by the first tracer that writes version 2.
const VERSION_2: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/recordings/version-2.trec"
);

#[test]
fn a_recording_of_every_version_stays_readable() {
    stays_readable(VERSION_1);
    stays_readable(VERSION_2);
}

fn stays_readable(file: &str) {
    let output = tracer(&["report", file]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let text = stdout(&output);
    assert!(text.contains("__udp4_lib_rcv"), "{text}");
    let json = stdout(&tracer(&["report", file, "--format", "json"]));
    let kinds: Vec<_> = json.lines().map(|line| &line[..16]).collect();
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    assert!(kinds[3].contains("summary"), "{kinds:?}");
    let drops = "\"reason\":\"NO_SOCKET\",\"device\":\"lo\",\"protocol\":\"ipv4\",\"netns\":null,\"packets\":";
    assert!(
        json.lines()
            .next_back()
            .is_some_and(|last| last.contains(drops)),
        "{json}"
    );
    let blocks = stdout(&tracer(&["report", file, "--intervals"]));
    assert!(
        blocks.ends_with(&text) && blocks.len() > text.len(),
        "{blocks}"
    );
}

#[test]
fn a_recording_comes_from_standard_input_too() {
    let file = std::fs::File::open(VERSION_1).expect("the fixture is there");
    let output = Command::new(env!("CARGO_BIN_EXE_tracer"))
        .args(["report", "-"])
        .stdin(file)
        .output()
        .expect("tracer starts");
    assert_eq!(stdout(&output), stdout(&tracer(&["report", VERSION_1])));
}

#[test]
fn a_recording_that_is_cut_off_is_reported_and_a_damaged_one_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let whole = std::fs::read(VERSION_1).expect("the fixture is there");
    let report = |bytes: &[u8]| {
        let file = directory.path().join("file");
        std::fs::write(&file, bytes).expect("a file");
        tracer(&["report", file.to_str().expect("text")])
    };
    let cut = report(&whole[..whole.len() - 9]);
    assert!(cut.status.success());
    assert!(stderr(&cut).contains("cut off"), "{}", stderr(&cut));
    assert!(stdout(&cut).contains("1.5 s"), "{}", stdout(&cut));
    let mut damaged = whole.clone();
    let end = damaged.len() - 99;
    damaged[end] ^= 0xff;
    let damaged = report(&damaged);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(
        stderr(&damaged).contains("is damaged after 1.5 s"),
        "{}",
        stderr(&damaged)
    );
    assert_eq!(stdout(&damaged), stdout(&cut));
    for (bytes, words) in [
        (
            &b"PNG"[..],
            "is no recording of tracer but text; 'tracer run --record FILE' makes one",
        ),
        (b"", "is empty"),
        (&whole[..99], "holds no whole frame"),
    ] {
        let output = report(bytes);
        assert_eq!(output.status.code(), Some(1));
        assert!(stdout(&output).is_empty());
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let missing = tracer(&["report", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("cannot open /no/such/file: No such file"));
}

#[test]
fn a_plan_is_made_of_a_recording_as_of_the_report_on_it() {
    let plan = |file: &str| tracer(&["tune", "plan", "--from", file, "--format", "json"]);
    let recorded = plan(VERSION_1);
    assert!(recorded.status.success(), "{}", stderr(&recorded));
    let said = stderr(&recorded);
    assert!(
        said.lines().count() == 1 && said.contains("is not of this host"),
        "{said}"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    let path = file.to_str().expect("text");
    let report = tracer(&["report", VERSION_1, "--format", "json"]);
    std::fs::write(path, &report.stdout).expect("a file");
    assert_eq!(stdout(&plan(path)), stdout(&recorded));

    let whole = std::fs::read(VERSION_1).expect("the fixture is there");
    std::fs::write(path, &whole[..whole.len() - 9]).expect("a file");
    let cut = plan(path);
    assert!(cut.status.success() && stderr(&cut).contains("cut off"));
    let mut damaged = whole.clone();
    damaged[whole.len() - 99] ^= 0xff;
    std::fs::write(path, &damaged).expect("a file");
    let damaged = plan(path);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(stdout(&damaged).is_empty());
    let said = stderr(&damaged);
    assert!(
        said.contains("cannot plan from") && said.contains("is damaged"),
        "{said}"
    );
}

#[test]
fn compare_takes_two_recordings() {
    let output = tracer(&["compare", VERSION_1, VERSION_1, "--fail-on-worse"]);
    let (text, said) = (stdout(&output), stderr(&output));
    assert!(output.status.success(), "{said}{text}");
    assert!(text.starts_with("no difference in losses"), "{text}");
    let json = stdout(&tracer(&[
        "compare", VERSION_1, VERSION_1, "--format", "json",
    ]));
    assert!(
        json.starts_with("{\"kind\":\"comparison\",\"schema\":1,\"verdict\":\"same\""),
        "{json}"
    );
    assert_eq!(tracer(&["compare", VERSION_1]).status.code(), Some(2));
    assert_eq!(tracer(&["compare", "-", "-"]).status.code(), Some(2));
}

#[test]
fn a_comparison_that_nobody_reads_keeps_its_status() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    let mut damaged = std::fs::read(VERSION_1).expect("the fixture is there");
    let end = damaged.len() - 99;
    damaged[end] ^= 0xff;
    std::fs::write(&file, &damaged).expect("a file");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_tracer"))
        .args(["compare", VERSION_1, file.to_str().expect("text")])
        .stdout(writer)
        .output()
        .expect("tracer starts");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is damaged"), "{said}");
}

#[test]
fn an_existing_file_is_not_recorded_over() {
    let output = tracer(&["run", "--record", VERSION_1]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("exists already: --force replaces it"));
    let output = tracer(&["run", "--force"]);
    assert_eq!(output.status.code(), Some(2));
    let output = tracer(&["run", "--record", "/no/such/directory/file"]);
    assert_eq!(output.status.code(), Some(1));
    let words = stderr(&output);
    assert!(
        words.contains("cannot make the recording /no/such/directory/file"),
        "{words}"
    );
}

#[test]
fn every_part_of_tune_explains_itself() {
    let text = stdout(&tracer(&["tune", "--help"]));
    assert!(
        text.contains("Examples:") && text.contains("apply plan.json"),
        "{text}"
    );
    for (part, option) in [
        ("plan", "--from"),
        ("apply", "--watch"),
        ("status", "--format"),
        ("revert", "--force"),
    ] {
        let output = tracer(&["tune", part, "--help"]);
        assert!(output.status.success(), "{part}");
        assert!(stdout(&output).contains(option), "{part}");
    }
}

#[test]
fn a_plan_wants_a_report_that_ended() {
    let output = tracer(&["tune", "plan", "--from", env!("CARGO_MANIFEST_PATH")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("Cargo.toml is text, neither a recording nor a report"),
        "{}",
        stderr(&output)
    );
    let output = tracer(&["tune", "plan", "--from", "x", "--duration", "5s"]);
    assert_eq!(output.status.code(), Some(2));
}
