//! The incident once more, cured by tracer itself, with recordings as its memory: `tracer run --record before.trec` while
//! everything is on CPU 0, `tracer tune plan --from before.trec --app redis-server`, `tracer tune apply`, the same load
//! recorded again, `tracer compare`; then `tracer tune revert`, and the same load a third time.
//!
//! Asserts that the plan puts the vectors on several cores of the card's node and Redis on others of it; that `compare`
//! says `better`, with drops per million packets down a hundredfold and `NET_RX` time spread; that after the revert every
//! file is as it was, and `compare` says `worse`, by at least a fifth of what was lost at first. What was typed and
//! printed is kept.
//!
//! The recordings can be compared because the load is the same three times: [`PACE`] is one that a slow machine keeps,
//! too, and is made again where one did not; clients of Redis think between question and answer, so that they add a
//! half at most.

use std::{
    collections::BTreeSet, fmt::Write as _, fs, path::Path, process::ExitStatus, thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tracer::{
    analyze::compare::{Comparison, Verdict},
    model::setting::Setting as Tuned,
    tune::plan::Plan,
};

use super::{
    Scenario,
    incident::{Clients, Incident, Load, Pace, State, TextReport},
};
use crate::{
    guest::nic::RECEIVER_NODE,
    kept::keep,
    scenario::{Need, note},
    tracer::{command, complete},
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "the_cure_that_tune_plans_and_applies_ends_the_drops_and_revert_brings_them_back",
    needs: &[
        Need::Root,
        Need::Cpus(8),
        Need::Program("ip"),
        Need::Program("redis-server"),
        Need::Program("taskset"),
    ],
    run: cure,
}];

const LIMIT: Duration = Duration::from_mins(1);
/// A vector moves with its next interrupt, a busy NAPI when it has drained.
const SETTLE: Duration = Duration::from_secs(4);
/// Bursts of four times what the backlog holds.
const PACE: Pace = Pace {
    datagrams: 8_000,
    burst: 32,
    every: Duration::from_millis(40),
    clients: Clients::Thinking(Duration::from_millis(100)),
};
/// A busy machine gets so many chances to keep it.
const TRIES: u32 = 3;
/// `compare --fail-on-worse`.
const WORSE: i32 = 10;

const BEFORE: &str = "before.trec";
const AFTER: &str = "after.trec";
const REVERTED: &str = "reverted.trec";
const PLAN: &str = "plan.json";
/// The one directory that can be written.
const DIRECTORY: &str = "/tmp";

fn cure() -> Result<()> {
    let incident = Incident::provoke()?;
    let at_first = State::read(&incident)?;
    let mut story = Story {
        incident: &incident,
        text: String::new(),
    };

    let before = story.record(BEFORE)?;
    let plan = ["tune", "plan", "--from", BEFORE, "--app", "redis-server"];
    story.tracer(&plan)?;
    let json = story.write_plan(&[&plan[..], &["--format", "json"]].concat())?;
    check_plan(&serde_json::from_str(&json)?)?;
    story.tracer(&["tune", "apply", PLAN, "--yes"])?;
    settle(&incident)?;
    let after = story.record(AFTER)?;
    story.tracer(&["compare", BEFORE, AFTER])?;
    story.tracer(&["tune", "status"])?;
    story.tracer(&["tune", "revert"])?;
    let at_last = State::read(&incident)?;
    settle(&incident)?;
    let reverted = story.record(REVERTED)?;
    let compare = ["compare", AFTER, REVERTED, "--fail-on-worse"];
    let (status, _) = story.tell(&compare)?;
    let cured = story.comparison(BEFORE, AFTER)?;
    let ill = story.comparison(AFTER, REVERTED)?;
    keep("cure.txt", &story.text)?;
    note(format_args!(
        "before: {before}\n  after: {after}\n  reverted: {reverted}\n  {}\n  {}",
        cured.summary, ill.summary
    ));
    incident.end()?;

    ensure!(
        at_last == at_first,
        "after the revert: {at_last:?}, was {at_first:?}"
    );
    for load in [&before, &after, &reverted] {
        load.flowed()?;
    }
    ensure!(
        status.code() == Some(WORSE),
        "{}: {status}",
        compare.join(" ")
    );
    check_cured(&cured)?;
    let was = per_million(cured.before.drops_per_million)?;
    let back = per_million(ill.after.drops_per_million)?;
    ensure!(
        ill.verdict == Verdict::Worse && back * 5.0 >= was,
        "{was:.0} before, {back:.0} after the revert: {}",
        ill.summary
    );
    Ok(())
}

/// The vectors on some cores of the card's node, Redis on others of it.
fn check_plan(plan: &Plan) -> Result<()> {
    let node: BTreeSet<u32> = plan
        .cpus
        .iter()
        .filter(|cell| cell.node == Some(RECEIVER_NODE))
        .map(|cell| cell.cpu)
        .collect();
    let (mut irqs, mut application) = (BTreeSet::new(), BTreeSet::new());
    for change in plan.changes() {
        let cpus = change.setting.cpus(&change.to).unwrap_or_default();
        match change.setting {
            Tuned::IrqAffinity { .. } | Tuned::VectorAffinity { .. } => irqs.extend(cpus),
            Tuned::Process { .. } => application.extend(cpus),
            _ => {}
        }
    }
    ensure!(
        irqs.len() >= 2 && irqs.is_subset(&node),
        "vectors on {irqs:?}, the card's node has {node:?}"
    );
    ensure!(
        !application.is_empty() && application.is_subset(&node) && application.is_disjoint(&irqs),
        "Redis on {application:?}, vectors on {irqs:?}, node {node:?}"
    );
    Ok(())
}

/// A hundredth of the drops at most, and no CPU alone with the work.
fn check_cured(cured: &Comparison) -> Result<()> {
    let was = per_million(cured.before.drops_per_million)?;
    let is = per_million(cured.after.drops_per_million)?;
    ensure!(
        cured.verdict == Verdict::Better && was > 1_000.0 && is * 100.0 <= was,
        "{was:.0} before, {is:.0} after: {}",
        cured.summary
    );
    let shares = || cured.cpus.iter().map(|cpu| cpu.after);
    ensure!(
        shares().filter(|share| *share >= 10.0).count() >= 2 && shares().all(|share| share < 90.0),
        "NET_RX time is not spread: {:?}",
        cured.cpus
    );
    Ok(())
}

fn per_million(rate: Option<f64>) -> Result<f64> {
    rate.context("drops were not traced")
}

fn settle(incident: &Incident) -> Result<()> {
    for _ in 0..4 {
        incident.warm_up()?;
        thread::sleep(SETTLE / 4);
    }
    Ok(())
}

/// What was typed and printed.
struct Story<'a> {
    incident: &'a Incident,
    text: String,
}

impl Story<'_> {
    fn run(&self, args: &[&str]) -> Result<(ExitStatus, String)> {
        let mut command = command(args)?;
        command
            .current_dir(DIRECTORY)
            .env("TRACER_STATE_DIR", "/tmp/tracer-state")
            .env("LC_ALL", "C.UTF-8")
            .env("COLUMNS", "100");
        let (status, out, err) = complete(Some(&self.incident.wire.receiver), command, LIMIT)?;
        ensure!(
            status.success() || err.is_empty(),
            "tracer {}: {status}: {out} {err}",
            args.join(" ")
        );
        Ok((status, out))
    }

    /// Runs and tells it.
    fn tell(&mut self, args: &[&str]) -> Result<(ExitStatus, String)> {
        let (status, out) = self.run(args)?;
        self.typed(args, out.trim_end());
        Ok((status, out))
    }

    /// The same, which has to succeed.
    fn tracer(&mut self, args: &[&str]) -> Result<()> {
        let (status, out) = self.tell(args)?;
        ensure!(
            status.success(),
            "tracer {}: {status}: {out}",
            args.join(" ")
        );
        Ok(())
    }

    fn typed(&mut self, args: &[&str], printed: &str) {
        let _ = writeln!(self.text, "# tracer {}", args.join(" "));
        if !printed.is_empty() {
            let _ = writeln!(self.text, "{printed}");
        }
        self.text.push('\n');
    }

    /// Writes to [`PLAN`] what the command prints.
    fn write_plan(&mut self, args: &[&str]) -> Result<String> {
        let (_, json) = self.run(args)?;
        fs::write(Path::new(DIRECTORY).join(PLAN), &json)?;
        self.typed(&[args, &[">", PLAN]].concat(), "");
        Ok(json)
    }

    /// The load, recorded to `file`. Of the report the beginning is told, and the table of CPUs.
    fn record(&mut self, file: &str) -> Result<Load> {
        let path = format!("{DIRECTORY}/{file}");
        let mut tries = 1;
        let (load, report) = loop {
            let tracer = TextReport::start(&self.incident.wire, &["--record", &path, "--force"])?;
            let load = Load::make(self.incident, PACE)?;
            let report = tracer.stop()?;
            if load.is_whole() {
                break (load, report);
            }
            note(format_args!("not at its pace: {load}"));
            ensure!(tries < TRIES, "this machine is too slow for {PACE:?}");
            tries += 1;
        };
        let mut parts = report.split("\n\n");
        let answer = parts.next().context("no report")?;
        let is_cpus = |part: &&str| {
            let mut lines = part.lines();
            lines.next().is_some_and(|line| line.contains("hard IRQs"))
        };
        let cpus = parts.find(is_cpus).unwrap_or_default();
        self.typed(
            &["run", "--record", file],
            &format!("{answer}\n…\n\n{cpus}\n…"),
        );
        Ok(load)
    }

    fn comparison(&self, before: &str, after: &str) -> Result<Comparison> {
        let (_, json) = self.run(&["compare", before, after, "--format", "json"])?;
        Ok(serde_json::from_str(&json)?)
    }
}
