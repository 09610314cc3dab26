//! Starts a process in a namespace of its own that has a UDP socket and keeps one CPU busy.
//!
//! Asserts that the report names it with its port, the CPU it ran on, the one it may run on, and about the CPU time that
//! the kernel has for it; and that it does not name an idle process with a socket.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tracer::model::topology::Process as Found;

use super::{Need, Scenario, note};
use crate::{netns::Netns, process::Process, tracer::Tracer, wait};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_busy_process_with_a_socket_is_named_with_its_port_and_cpu",
    needs: &[
        Need::Root,
        Need::Cpus(2),
        Need::Program("ip"),
        Need::Program("bash"),
        Need::Program("taskset"),
    ],
    run: busy,
}];

const CPU: u32 = 1;
const RUN: Duration = Duration::from_secs(1);
/// `USER_HZ` on every architecture that has this tool.
const TICK_NS: u64 = 10_000_000;

fn busy() -> Result<()> {
    let netns = Netns::new("victim")?;
    let socket = "exec 3<>/dev/udp/127.0.0.1/9";
    let busy = bash(&netns, &format!("{socket}; while :; do :; done"))?;
    let idle = bash(&netns, &format!("{socket}; read -r _ <&3"))?;
    let port = wait::until("a socket", Duration::from_secs(2), || Ok(port(&busy)))?;

    // In the host's namespace: the process is in another.
    let tracer = Tracer::start(None, &[])?;
    let before = ticks(busy.pid())?;
    thread::sleep(RUN);
    let ticks = ticks(busy.pid())? - before;
    let outcome = tracer.stop()?;

    let topology = outcome.summary.topology.as_ref().context("no topology")?;
    let processes = &topology.processes;
    let of = |pid: u32| processes.iter().find(|process| process.pid == pid);
    let found: &Found =
        of(busy.pid()).with_context(|| format!("process {}: {processes:#?}", busy.pid()))?;
    ensure!(
        found.name == "bash" && found.ports == [format!("udp/{port}")] && !found.realtime,
        "port {port}: {found:?}"
    );
    ensure!(
        found.allowed == [CPU] && found.ran_on.keys().eq([&CPU]),
        "CPU {CPU}: {found:?}"
    );
    // tracer's own window is a little longer.
    ensure!(
        found.cpu_ns + 2 * TICK_NS >= ticks * TICK_NS
            && found.cpu_ns <= (ticks + 200) * TICK_NS
            && found.ran_on[&CPU] == found.cpu_ns,
        "{ticks} ticks: {found:?}"
    );
    ensure!(of(idle.pid()).is_none(), "an idle one: {processes:#?}");
    note(format_args!("{ticks} ticks: {found:?}"));
    Ok(())
}

fn bash(netns: &Netns, script: &str) -> Result<Process> {
    let mut command = Command::new("taskset");
    command.args(["-c", &CPU.to_string(), "bash", "-c", script]);
    Process::spawn(Some(netns), command)
}

/// Port of the only UDP socket of the process's namespace that is connected from it.
fn port(process: &Process) -> Option<u16> {
    let links = fs::read_dir(format!("/proc/{}/fd", process.pid())).ok()?;
    let inode = links.flatten().find_map(|link| {
        let target = fs::read_link(link.path()).ok()?;
        let target = target.to_str()?.strip_prefix("socket:[")?;
        Some(target.strip_suffix(']')?.to_owned())
    })?;
    let table = fs::read_to_string(format!("/proc/{}/net/udp", process.pid())).ok()?;
    let row = table
        .lines()
        .find(|line| line.split_ascii_whitespace().nth(9) == Some(&inode))?;
    let address = row.split_ascii_whitespace().nth(1)?;
    let port = u16::from_str_radix(address.split_once(':')?.1, 16).ok()?;
    // 0: not connected yet.
    (port != 0).then_some(port)
}

/// User and kernel time of a process, ticks.
fn ticks(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("no command")?;
    let field = |number: usize| -> Result<u64> {
        let word = fields.split_ascii_whitespace().nth(number - 3);
        Ok(word.context("too short")?.parse()?)
    };
    Ok(field(14)? + field(15)?)
}
