//! From the first run to the revert.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tracer::{model::setting::Setting as Tuned, tune::plan::Plan};

use super::place::{LIMIT, Place, ended};
use crate::{
    backlog::{MAX_BACKLOG, Steered},
    process::Process,
    scenario::{flood_of, note},
    setting::{self, Setting},
    tracer::{Tracer, command, complete},
    wait::{self, quiet},
};

const SMALL: &str = "4";

/// Records a flood to `file`.
fn record(steered: &Steered, file: &Path) -> Result<()> {
    let file = file.to_str().context("a path that is no text")?;
    let tracer = Tracer::start(Some(&steered.pair.receiver), &["--record", file])?;
    quiet();
    steered.flood(flood_of(200_000))?;
    quiet();
    tracer.stop().map(|_| ())
}

pub(super) fn there_and_back() -> Result<()> {
    let steered = Steered::new()?;
    let small = Setting::change(MAX_BACKLOG, SMALL)?;
    let place = Place::new(&steered.pair.receiver)?;
    let recording = place.path("before.trec");
    record(&steered, &recording)?;
    let recording = recording.display().to_string();
    let from = ["plan", "--from", &recording];
    note(place.tuned(&from)?);
    let script = place.tuned(&[&from[..], &["--format", "sh"]].concat())?;
    ensure!(
        script.contains("> /proc/sys/net/core/netdev_max_backlog"),
        "{script}"
    );
    let text = place.tuned(&[&from[..], &["--format", "json"]].concat())?;
    let plan: Plan = serde_json::from_str(&text)?;
    let backlog = Tuned::sysctl("net.core.netdev_max_backlog");
    let change = plan.changes().find(|change| change.setting == backlog);
    let change = change.with_context(|| format!("no backlog in {text}"))?;
    ensure!(
        change.from.as_deref() == Some(SMALL) && change.to == "1000",
        "{change:?}"
    );
    let file = place.file("plan.json", &text)?;

    let (status, _, err) = place.tune(&["apply", &file], "")?;
    ensure!(
        status.code() == Some(2) && err.contains("--yes"),
        "without --yes and a terminal: {status}: {err}"
    );
    place.is_untouched("nobody agreed")?;
    note(place.tuned(&["apply", &file, "--yes"])?);
    ensure!(setting::read(MAX_BACKLOG)? == "1000", "not applied");
    note(place.tuned(&["status"])?);
    let told: serde_json::Value =
        serde_json::from_str(&place.tuned(&["status", "--format", "json"])?)?;
    let settings = told["settings"].as_array().context("no settings")?;
    ensure!(
        settings.len() == plan.changes().count()
            && settings.iter().all(|entry| entry["state"] == "applied"),
        "{told}"
    );
    // Again: it is so already.
    let again = place.tuned(&["apply", &file, "--yes"])?;
    ensure!(again.contains("applied 0 changes"), "{again}");
    is_better(&steered, &place, &recording)?;

    // Somebody else is at it, too.
    setting::write(MAX_BACKLOG, "77")?;
    let (status, out, _) = place.tune(&["revert"], "")?;
    ensure!(
        status.code() == Some(1) && out.contains("netdev_max_backlog is 77"),
        "{status}: {out}"
    );
    note(place.tuned(&["revert", "--force"])?);
    place.is_untouched("after revert --force")?;
    ensure!(place.tuned(&["revert"])?.contains("nothing is applied"));
    drop(place);
    small.restore()
}

/// The same flood again, compared with `before`.
fn is_better(steered: &Steered, place: &Place<'_>, before: &str) -> Result<()> {
    let after = place.path("after.trec");
    record(steered, &after)?;
    let after = after.display().to_string();
    let (_, out, err) = complete(None, command(&["compare", before, &after])?, LIMIT)?;
    note(&out);
    // How fast the flood is depends on the host.
    let told = ["better:", "not comparable: other traffic"];
    ensure!(
        told.iter().any(|words| out.starts_with(words)),
        "{out} {err}"
    );
    Ok(())
}

/// As somebody does it who reads no plan: each command measures for itself.
pub(super) fn in_one_go() -> Result<()> {
    let steered = Steered::new()?;
    let small = Setting::change(MAX_BACKLOG, SMALL)?;
    let place = Place::new(&steered.pair.receiver)?;
    let run = Tracer::start(Some(place.netns), &["--duration", "3s"])?;
    steered.flood(flood_of(100_000))?;
    run.finish()?;
    let measured = ["--duration", "2s"];
    flooded(&steered, &place, &[&["plan"], &measured[..]].concat())?;
    place.is_untouched("after plan")?;
    flooded(
        &steered,
        &place,
        &[&["apply", "--yes"], &measured[..]].concat(),
    )?;
    ensure!(setting::read(MAX_BACKLOG)? == "1000", "not applied");
    note(place.tuned(&["revert", "--force"])?);
    place.is_untouched("after revert --force")?;
    drop(place);
    small.restore()
}

/// `tracer tune ARGS` while packets come.
fn flooded(steered: &Steered, place: &Place<'_>, args: &[&str]) -> Result<()> {
    let mut tracer = Process::spawn(Some(place.netns), place.command(args, "")?)?;
    while tracer.ended()?.is_none() {
        steered.flood(flood_of(20_000))?;
    }
    let (status, said) = ended(tracer)?;
    ensure!(
        status.success(),
        "tracer tune {}: {status}: {said}",
        args.join(" ")
    );
    Ok(())
}

/// A plan that makes the backlog far too small, watched.
pub(super) fn watched() -> Result<()> {
    let steered = Steered::new()?;
    let place = Place::new(&steered.pair.receiver)?;
    let (mut plan, _) = place.plan()?;
    plan.steps[0].changes.truncate(1);
    SMALL.clone_into(&mut plan.steps[0].changes[0].to);
    plan.baseline.packets = 100_000;
    let file = place.file("plan.json", &serde_json::to_string(&plan)?)?;
    let watch = ["apply", &file, "--yes", "--watch", "4s"];
    for enough in [true, false] {
        let mut tracer = Process::spawn(Some(place.netns), place.command(&watch, "")?)?;
        wait::until("the backlog is small", LIMIT, || {
            Ok((setting::read(MAX_BACKLOG)? == SMALL).then_some(()))
        })?;
        while tracer.ended()?.is_none() {
            if enough {
                steered.flood(flood_of(20_000))?;
            } else {
                quiet();
            }
        }
        let (status, said) = ended(tracer)?;
        note(&said);
        // Without traffic nobody can tell, but before there was some.
        ensure!(
            status.code() == Some(1) && said.contains("taking 1 change back"),
            "{status}: {said}"
        );
        place.is_untouched("watched")?;
    }
    Ok(())
}
