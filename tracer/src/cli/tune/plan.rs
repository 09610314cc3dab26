//! `tracer tune plan`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
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
    proc::{Roots, cpus::number, netdev::NetDevices},
    record::{frame, seems::Seems},
    report::{number::span, tune as render},
    tune::{
        identity::Identity,
        irqbalance, load,
        plan::Plan,
        planner::{self, App, Ask},
        shell::{self, Netns},
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
    if let Some(path) = &args.from {
        doubt(path, &report, &plan);
    }
    match args.format {
        PlanFormat::Text => print(&render::plan(&plan, &style(global)))?,
        PlanFormat::Json => print(&format!("{}\n", serde_json::to_string(&plan)?))?,
        PlanFormat::Sh => {
            let netns = Netns::of(&plan, report.topology.as_ref(), &Roots::default());
            print(&shell::script(&plan, netns.as_ref()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what of the run is not so on this host: the plan is for where it ran.
fn doubt(path: &Path, report: &Report, plan: &Plan) {
    let own = Identity::own(&Roots::default());
    let devices = NetDevices::open().and_then(|mut netlink| netlink.read());
    let here = devices.map(|all| all.into_values().map(|device| device.name).collect());
    let wanted = plan.changes().filter_map(|change| change.setting.device());
    let doubts = Identity::doubts(report, &own, &wanted.collect(), here.ok().as_ref());
    if !doubts.is_empty() {
        say(&format!(
            "tracer: {} is not of this host as it is now ({}): the plan is for where it was recorded; to apply it here, \
             measure again",
            recording::name(path),
            doubts.join("; ")
        ));
    }
}

/// The report on the run in `path`. A recording that is cut off counts up to there, with a warning; a damaged one does
/// not.
fn recorded(path: &Path) -> Result<Report> {
    let mut source = recording::source(path)?;
    let read = || format!("cannot read {}", recording::name(path));
    let head = source.fill_buf().with_context(read)?;
    let is_recording = frame::begins(head);
    let seems = Seems::of(head);
    if !is_recording && !matches!(seems, Seems::Report | Seems::Json) {
        let remedy = match seems {
            Seems::Plan => "'tracer tune apply' takes it",
            _ => "'tracer run --record FILE' makes a recording",
        };
        let name = recording::name(path);
        bail!("{name} is {seems}, neither a recording nor a report of 'tracer run': {remedy}");
    }
    let report = if is_recording {
        let mut recording = recording::read(source, path)?;
        let end = recording.finish();
        Whole::of(&mut recording, end, path)?
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
        self.check_app(&Roots::default())?;
        let ns = u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX);
        say(&format!("measuring for {}", span(ns)));
        measure(self.duration, &self.thresholds(&BTreeMap::new()), Stop::new)
    }

    /// Refuses a process that there is none of; names are looked up in what was measured.
    fn check_app(&self, roots: &Roots) -> Result<(), Refused> {
        match self.app.as_deref().and_then(number) {
            Some(pid) if !roots.proc.join(pid.to_string()).exists() => {
                Err(Refused(format!("--app: there is no process {pid}")))
            }
            _ => Ok(()),
        }
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
    fn a_process_that_is_not_there_is_refused_before_measuring() {
        let of = |app: &str| What {
            app: Some(app.to_owned()),
            duration: Duration::ZERO,
            threshold: Vec::new(),
        };
        let roots = Roots::default();
        let refused = of("4294967295").check_app(&roots).unwrap_err();
        assert!(refused.to_string().contains("no process 4294967295"));
        assert!(
            of(&std::process::id().to_string())
                .check_app(&roots)
                .is_ok()
        );
        assert!(of("redis-server").check_app(&roots).is_ok());
    }

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
