//! Provokes ends of all sorts: SIGKILL in the middle of a flood, many short runs, a longer one.
//!
//! Asserts that no program, map, pin or changed setting of tracer's remains, and that a running tracer opens no
//! descriptors as time goes on.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Need, Scenario, note};
use crate::{
    bpf::Objects,
    flood::Flood,
    kernel,
    netns::Pair,
    setting,
    tracer::{Outcome, Tracer},
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "nothing_remains_after_kill_9_in_the_middle_of_a_flood",
        needs: &[Need::Root, Need::Program("ip")],
        run: killed_in_a_flood,
    },
    Scenario {
        name: "nothing_remains_after_many_runs",
        needs: &[Need::Root],
        run: many_runs,
    },
    Scenario {
        name: "a_run_opens_no_descriptors_as_it_goes_on",
        needs: &[Need::Root],
        run: descriptors,
    },
];

const RUNS: usize = 50;
/// Another number of runs: under emulation each takes a second.
pub(crate) const RUNS_VARIABLE: &str = "TRACER_TEST_RUNS";
const PORT: u16 = 7007;

/// Settings of the network and of BPF, and what is pinned.
fn settings() -> Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    for directory in ["/proc/sys/net/core", "/proc/sys/kernel"] {
        for entry in fs::read_dir(directory).with_context(|| format!("cannot list {directory}"))? {
            let path = entry?.path();
            let name = path.display().to_string();
            let relevant =
                directory.ends_with("core") || name.contains("bpf") || name.contains("perf_event");
            // Some of them can only be written.
            if let (true, Ok(value)) = (relevant, setting::read(&path)) {
                settings.insert(name, value);
            }
        }
    }
    for entry in fs::read_dir("/sys/fs/bpf").into_iter().flatten() {
        settings.insert(entry?.path().display().to_string(), "pinned".to_owned());
    }
    Ok(settings)
}

fn own_objects(tracer: &Tracer) -> Result<Objects> {
    let objects = Objects::of_process(tracer.pid())?;
    ensure!(
        !objects.programs.is_empty() && !objects.maps.is_empty(),
        "tracer holds no BPF objects: {objects:?}"
    );
    let loaded = Objects::loaded()?;
    ensure!(
        objects.intersection(&loaded) == objects,
        "not loaded: {objects:?}"
    );
    Ok(objects)
}

fn killed_in_a_flood() -> Result<()> {
    let before = settings()?;
    let pair = Pair::new()?;
    let tracer = Tracer::start(Some(&pair.receiver), &["--detail-rate", "unlimited"])?;
    let objects = own_objects(&tracer)?;
    let flood = Flood {
        limit: Duration::from_secs(4),
        ..Flood::new(Pair::RECEIVER, PORT, 10_000_000)
    };
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| flood.run(&pair.sender));
        std::thread::sleep(Duration::from_secs(1));
        let reached = kernel::snmp(&pair.receiver, "Udp", "NoPorts")?;
        tracer.kill()?;
        ensure!(
            !sender.is_finished(),
            "the flood had ended before tracer was killed"
        );
        objects.wait_until_freed()?;
        let sent = sender
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        ensure!(
            reached > 0 && sent > reached,
            "{reached} of {sent} before the kill"
        );
        note(format_args!(
            "killed after {reached} of {sent} packets: {objects:?} are gone"
        ));
        Ok(())
    })?;
    let after = settings()?;
    ensure!(
        after == before,
        "settings changed: {:?}",
        difference(&before, &after)
    );
    Ok(())
}

fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let keys = before.keys().chain(after.keys());
    keys.filter(|key| before.get(*key) != after.get(*key))
        .map(|key| format!("{key} {:?}", after.get(key)))
        .collect()
}

fn many_runs() -> Result<()> {
    let runs = match std::env::var(RUNS_VARIABLE) {
        Ok(runs) => runs.parse().context(RUNS_VARIABLE)?,
        Err(_) => RUNS,
    };
    let before = settings()?;
    let mut all = Objects::default();
    for turn in 0..runs {
        let tracer = Tracer::start(None, &[])?;
        all.extend(own_objects(&tracer)?);
        let outcome = tracer.stop().with_context(|| format!("run {turn}"))?;
        ensure!(
            outcome.summary.schema == tracer::model::report::SCHEMA,
            "schema of run {turn}"
        );
    }
    all.wait_until_freed()?;
    let after = settings()?;
    ensure!(
        after == before,
        "settings changed: {:?}",
        difference(&before, &after)
    );
    note(format_args!(
        "{runs} runs: {} programs and {} maps came and went",
        all.programs.len(),
        all.maps.len()
    ));
    Ok(())
}

fn descriptors() -> Result<()> {
    let tracer = Tracer::start(None, &["--interval", "100ms"])?;
    std::thread::sleep(Duration::from_millis(500));
    let early = listing(tracer.pid())?;
    std::thread::sleep(Duration::from_secs(3));
    let late = listing(tracer.pid())?;
    let Outcome { windows, .. } = tracer.stop()?;
    ensure!(windows.len() >= 10, "only {} windows", windows.len());
    ensure!(
        early.len() == late.len(),
        "descriptors early {early:?}, late {late:?}"
    );
    note(format_args!(
        "{} descriptors throughout {} windows",
        late.len(),
        windows.len()
    ));
    Ok(())
}

/// What each descriptor of a process leads to. A file that is read at this very moment is left out.
fn listing(pid: u32) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        let momentary = ["/proc", "/sys"]
            .iter()
            .any(|root| target.starts_with(Path::new(root)));
        if !momentary || targets.len() > 1000 {
            targets.push(target.display().to_string());
        }
    }
    targets.sort();
    Ok(targets)
}
