//! The incident once more, cured by tracer itself: the report of the run with everything on CPU 0 goes to `tracer tune
//! plan --app redis-server`, the plan to `tracer tune apply`; then the same load; then `tracer tune revert`, and the same
//! load again.
//!
//! Asserts that the plan puts the vectors on several cores of the card's node and Redis on others of it, that drops per
//! million packets fall a hundredfold and `NET_RX` time is spread, that after the revert they are back, and every file as
//! it was. What was typed and printed is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::UdpSocket,
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tracer::{
    model::{report::Record, setting::Setting as Tuned},
    report::json,
    tune::plan::Plan,
};

use super::{
    Scenario,
    incident::{
        Act, MAX_BACKLOG, PORT, SMALL_BACKLOG, SOURCES, WARM_UP, flood, poll_sender_by_threads,
        redis, source,
    },
    need_card,
};
use crate::{
    guest::nic::{RECEIVER_NODE, Wire},
    kept::keep,
    scenario::{Need, note},
    setting::{self, Setting},
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
        Need::Program("redis-benchmark"),
    ],
    run: cure,
}];

const THE_CPU: u32 = 0;
const LIMIT: Duration = Duration::from_mins(1);
const REPORT: &str = "/tmp/before.json";
const PLAN: &str = "/tmp/plan.json";
/// A vector moves with its next interrupt, a busy NAPI when it has drained.
const SETTLE: Duration = Duration::from_secs(4);

fn cure() -> Result<()> {
    need_card("igb")?;
    let _qdisc = Setting::change("/proc/sys/net/core/default_qdisc", "pfifo_fast")?;
    let wire = Wire::new()?;
    poll_sender_by_threads(&wire)?;
    for index in 0..SOURCES {
        let address = format!("{}/24", source(index));
        wire.sender
            .ip(&["address", "add", &address, "dev", Wire::SENDER_DEVICE])?;
    }
    let _redis = redis(&wire)?;
    let socket = wire
        .receiver
        .run(|| UdpSocket::bind((Wire::RECEIVER, PORT)))??;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20))?;
    let _name = Setting::change("/proc/sys/kernel/hostname", "redis-vm")?;
    let warm_up = || flood(&wire, WARM_UP).map(|_| ());
    wire.pin(|_| THE_CPU, warm_up)?;
    wire.steer(1 << THE_CPU)?;
    let small = Setting::change(MAX_BACKLOG, SMALL_BACKLOG)?;
    let files = files(&wire)?;
    let mut story = Story {
        wire: &wire,
        text: String::new(),
    };

    let before = story.observe("tracer run --format json > before.json", &socket)?;
    before.flowed()?;
    let record = Record::Summary(before.outcome.summary.clone());
    fs::write(REPORT, json::line(&record)?)?;
    let plan = ["plan", "--from", REPORT, "--app", "redis-server"];
    story.tune(&plan)?;
    let (_, text) = run(&wire, &[&plan[..], &["--format", "json"]].concat())?;
    fs::write(PLAN, &text)?;
    let _ = writeln!(
        story.text,
        "# tracer tune plan --from before.json --app redis-server --format json > plan.json\n"
    );
    check_plan(&serde_json::from_str(&text)?)?;
    story.tune(&["apply", PLAN, "--yes"])?;
    settle(&wire)?;
    let after = story.observe("tracer run", &socket)?;
    story.tune(&["status"])?;
    story.tune(&["revert"])?;
    let now = self::files(&wire)?;
    settle(&wire)?;
    let again = story.observe("tracer run", &socket)?;
    keep("cure.txt", &story.text)?;
    note(format_args!(
        "before: {before}\n  after: {after}\n  reverted: {again}"
    ));
    small.restore()?;

    ensure!(now == files, "after the revert: {now:?}, was {files:?}");
    after.flowed()?;
    again.flowed()?;
    let (was, is, back) = (
        before.per_million(),
        after.per_million(),
        again.per_million(),
    );
    ensure!(
        was > 1_000.0 && is * 100.0 <= was,
        "drops per million packets: {was:.0} before, {is:.0} after"
    );
    ensure!(
        back * 5.0 >= was,
        "drops per million packets: {was:.0} before, {back:.0} after the revert"
    );
    let shares = after.shares();
    let carry = shares.values().filter(|share| **share >= 0.1).count();
    ensure!(
        carry >= 2 && shares.values().all(|share| *share < 0.9),
        "NET_RX time is not spread: {shares:?}"
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
            Tuned::IrqAffinity { .. } => irqs.extend(cpus),
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

/// What the plan may change.
fn files(wire: &Wire) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir("/proc/irq")? {
        let path = entry?.path().join("smp_affinity_list");
        if let Ok(text) = fs::read_to_string(&path) {
            files.insert(path, text);
        }
    }
    for name in [
        "netdev_max_backlog",
        "netdev_budget",
        "netdev_budget_usecs",
        "rps_sock_flow_entries",
    ] {
        let path = PathBuf::from("/proc/sys/net/core").join(name);
        let text = setting::read(&path)?;
        files.insert(path, text);
    }
    let queues = format!("/sys/class/net/{}/queues", Wire::RECEIVER_DEVICE);
    let masks = wire.receiver.run(|| {
        let mut masks = Vec::new();
        for entry in fs::read_dir(&queues)? {
            for file in ["rps_cpus", "rps_flow_cnt"] {
                let path = entry.as_ref().map(|entry| entry.path().join(file));
                if let Ok(path) = path
                    && let Ok(text) = fs::read_to_string(&path)
                {
                    masks.push((path, text));
                }
            }
        }
        std::io::Result::Ok(masks)
    })??;
    files.extend(masks);
    Ok(files)
}

fn settle(wire: &Wire) -> Result<()> {
    for _ in 0..4 {
        flood(wire, WARM_UP)?;
        thread::sleep(SETTLE / 4);
    }
    Ok(())
}

fn run(wire: &Wire, args: &[&str]) -> Result<(String, String)> {
    let mut all = vec!["tune"];
    all.extend(args);
    let mut command = command(&all)?;
    command
        .env("TRACER_STATE_DIR", "/tmp/tracer-state")
        .env("LC_ALL", "C.UTF-8")
        .env("COLUMNS", "100");
    let (status, out, err) = complete(Some(&wire.receiver), command, LIMIT)?;
    ensure!(
        status.success(),
        "tracer tune {}: {status}: {out} {err}",
        args.join(" ")
    );
    Ok((all.join(" "), out))
}

/// What was typed and printed.
struct Story<'a> {
    wire: &'a Wire,
    text: String,
}

impl Story<'_> {
    fn tune(&mut self, args: &[&str]) -> Result<()> {
        let (words, out) = run(self.wire, args)?;
        let words = words.replace("/tmp/", "");
        let _ = writeln!(self.text, "# tracer {words}\n{}\n", out.trim_end());
        Ok(())
    }

    /// A run under load; of its report the beginning, and the table of CPUs.
    fn observe(&mut self, typed: &str, socket: &UdpSocket) -> Result<Act> {
        let act = Act::observe(self.wire, socket)?;
        let answer = act.text.split("\n\n").next().context("no report")?;
        let cpus = act.text.split("\n\n").find(|part| {
            part.lines()
                .next()
                .is_some_and(|line| line.contains("hard IRQs"))
        });
        let _ = writeln!(
            self.text,
            "# {typed}\n{answer}\n\n{}\n\nrx_packets {}, rx_dropped {}: {:.0} of a million; Redis served {} commands\n",
            cpus.unwrap_or_default(),
            act.rx_packets,
            act.rx_dropped,
            act.per_million(),
            act.commands
        );
        Ok(act)
    }
}
