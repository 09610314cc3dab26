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
    assert!(text.contains("Exit status:"), "{text}");
}

#[test]
fn every_command_explains_itself() {
    for command in ["run", "doctor"] {
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
    for name in ["single-cpu", "squeezed", "netfilter", "SOCKET_RCVBUFF"] {
        assert!(all.contains(name), "{all}");
    }
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
        stderr(&output).contains("line 1 is no JSON"),
        "{}",
        stderr(&output)
    );
    let output = tracer(&["tune", "plan", "--from", "x", "--duration", "5s"]);
    assert_eq!(output.status.code(), Some(2));
}
