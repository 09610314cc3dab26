//! The commands that findings advise, run as somebody would who pastes them: in a root shell, in the namespace that
//! was looked at.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tracer::model::finding::{Advice, Finding};

use crate::{
    netns::Netns,
    scenario::note,
    tracer::{PATIENCE, complete},
};

/// Runs the commands of all findings in the order of reading, and returns how many there were.
pub(super) fn all(netns: &Netns, findings: &[Finding]) -> Result<usize> {
    let advice = advice(findings);
    let commands = advice.iter().filter_map(|step| step.command.as_deref());
    run_each(netns, commands)
}

/// Runs what undoes them, the last first.
pub(super) fn revert_all(netns: &Netns, findings: &[Finding]) -> Result<usize> {
    let advice = advice(findings);
    let commands = advice.iter().rev().filter_map(|step| {
        let changes = step.command.is_some();
        step.revert.as_deref().filter(|_| changes)
    });
    run_each(netns, commands)
}

/// Runs one; it has to succeed.
pub(super) fn run(netns: &Netns, line: &str) -> Result<String> {
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (status, stdout, stderr) = complete(Some(netns), command, PATIENCE)?;
    // The status of a loop is that of its last turn.
    ensure!(
        status.success() && stderr.is_empty(),
        "`{line}`: {status}: {stderr} {stdout}"
    );
    Ok(stdout)
}

fn run_each<'a>(netns: &Netns, lines: impl Iterator<Item = &'a str>) -> Result<usize> {
    let mut count = 0;
    for line in lines {
        let said = run(netns, line).context("pasted")?;
        note(format_args!("# {line}\n{said}"));
        count += 1;
    }
    Ok(count)
}

fn advice(findings: &[Finding]) -> Vec<&Advice> {
    let mut steps = Vec::new();
    for finding in findings {
        steps.extend(&finding.advice);
        steps.extend(advice(&finding.follows));
    }
    steps
}
