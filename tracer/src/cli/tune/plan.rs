//! `tracer tune plan`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::{measure::measure, print, say, style};
use crate::{
    analyze::rules::threshold::{Override, Thresholds},
    cli::{
        Global,
        recording::{self, Whole},
        run::{Stop, duration},
    },
    model::{report::Report, topology::Topology},
    proc::{Roots, cpus::number},
    record::frame,
    report::{number::span, tune as render},
    tune::{
        identity::Identity,
        irqbalance, load,
        plan::Plan,
        planner::{self, App, Ask},
        shell,
    },
};

/// Arguments of `tracer tune plan`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    what: What,

    /// A run to plan from: what 'tracer run --record' wrote, or the JSON that 'tracer run --format json' printed; - is
    /// stdin. Without it, measure now.
    #[arg(long, value_name = "FILE", conflicts_with = "duration")]
    from: Option<PathBuf>,

    /// text: for people; json: what 'tracer tune apply' takes; sh: commands to paste.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: PlanFormat,
}

/// What a plan depends on, of `plan` and `apply`.
#[derive(Debug, clap::Args)]
pub(super) struct What {
    /// The application that shall have CPUs of its own, beside the interrupts: its name or process id.
    #[arg(long, value_name = "NAME|PID")]
    app: Option<String>,

    /// How long to measure.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    duration: Duration,

    /// Judge by VALUE instead of the default, as in 'tracer run'; repeat for several.
    #[arg(long, value_name = "NAME=VALUE")]
    threshold: Vec<Override>,
}

/// Formats of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    /// For people.
    Text,
    /// For `tracer tune apply`.
    Json,
    /// For a shell.
    Sh,
}

/// Wrong usage that only the host or a file can tell.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::cli) struct Refused(pub(super) String);

/// Runs the command.
pub(super) fn plan(args: &Args, global: Global) -> Result<ExitCode> {
    let report = match &args.from {
        Some(path) => recorded(path)?,
        None => args.what.measured()?,
    };
    let plan = args.what.plan(&report)?;
    match args.format {
        PlanFormat::Text => print(&render::plan(&plan, &style(global)))?,
        PlanFormat::Json => print(&format!("{}\n", serde_json::to_string(&plan)?))?,
        PlanFormat::Sh => print(&shell::script(&plan))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The report on the run in `path`. A recording that is cut off counts up to there, with a warning; a damaged one does
/// not.
fn recorded(path: &Path) -> Result<Report> {
    let mut source = recording::source(path)?;
    let read = || format!("cannot read {}", recording::name(path));
    let report = if frame::begins(source.fill_buf().with_context(read)?) {
        let mut recording = recording::read(source, path)?;
        let end = recording.finish();
        Whole::of(&recording, end, path)?
            .undamaged()
            .and_then(load::usable)
    } else {
        load::report(source)
    };
    report.with_context(|| format!("cannot plan from {}", recording::name(path)))
}

impl What {
    /// Those of `run`, but for what is told here.
    fn thresholds(&self, run: &BTreeMap<String, u64>) -> Thresholds {
        let mut thresholds = Thresholds::changed_to(run);
        for change in &self.threshold {
            thresholds.set(*change);
        }
        thresholds
    }

    /// A report on the next seconds.
    pub(super) fn measured(&self) -> Result<Report> {
        let ns = u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX);
        say(&format!("measuring for {}", span(ns)));
        measure(self.duration, &self.thresholds(&BTreeMap::new()), Stop::new)
    }

    /// The plan for it.
    pub(super) fn plan(&self, report: &Report) -> Result<Plan> {
        let roots = Roots::default();
        let own = Identity::own(&roots);
        let host = Identity::of_report(report, &own);
        let unknown = Topology::default();
        let topology = report.topology.as_ref().unwrap_or(&unknown);
        let listens = |pid| irqbalance::socket(&roots.run, pid).exists();
        let is_here = host.machine_id == own.machine_id && host.netns.is_some();
        let daemon = topology.irqbalance.as_ref().filter(|_| is_here);
        let ask = Ask {
            app: self.app.as_deref().map(|app| match number(app) {
                Some(pid) => App::Pid(pid),
                None => App::Name(app.to_owned()),
            }),
            irqbalance_listens: daemon.is_some_and(|daemon| listens(daemon.pid)),
            host,
            thresholds: self.thresholds(&report.thresholds),
        };
        let plan = planner::plan(report, topology, &ask);
        Ok(plan.map_err(|error| Refused(format!("--app: {error}")))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_judges_as_its_run_did_unless_told_otherwise() {
        let values = Thresholds::default().by_name();
        let mut names = values.keys();
        let (one, other) = (names.next().unwrap(), names.next().unwrap());
        let what = What {
            app: None,
            duration: Duration::ZERO,
            threshold: vec![format!("{other}=3").parse().unwrap()],
        };
        let run = [(one.clone(), 7), (other.clone(), 7)].into();
        let judged = what.thresholds(&run).by_name();
        assert_eq!((judged[one], judged[other]), (7, 3));
    }
}
