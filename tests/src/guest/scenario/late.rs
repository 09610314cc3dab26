//! A real-time task that never rests, on the CPU that the vectors are bound to, and runs of `NET_RX` so short that they
//! end up in ksoftirqd.
//!
//! Asserts that the report says that `NET_RX` waits for that CPU, names the task with its policy, and advises to move
//! it; and that the command for that works.

use std::{
    net::UdpSocket,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use super::{Scenario, need_nic, paste};
use crate::{
    findings,
    flood::Flood,
    guest::nic::Wire,
    kept,
    kernel::device_statistic,
    process::Process,
    scenario::{Need, Skip, note},
    setting::Setting,
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_real_time_task_that_net_rx_waits_for_is_named",
    needs: &[
        Need::Root,
        Need::Cpus(4),
        Need::Program("chrt"),
        Need::Program("taskset"),
        Need::Program("sh"),
    ],
    run: late,
}];

const PORT: u16 = 7123;
const OTHER_PORT: u16 = 7124;
const PACKETS: u64 = 6_000;
const RATE: u32 = 4_000;
const WARM_UP: u64 = 200;
const THE_CPU: u32 = 2;
const SENDING_CPU: usize = 1;

fn late() -> Result<()> {
    need_nic()?;
    if Path::new("/sys/kernel/realtime").exists() {
        let why =
            "under PREEMPT_RT the task keeps the interrupts themselves from that CPU, or hangs it";
        return Err(Skip(why.to_owned()).into());
    }
    let wire = Wire::new()?;
    wire.pin(
        |_| THE_CPU,
        || {
            let flood = Flood::new(Wire::RECEIVER, PORT, WARM_UP);
            flood.run(&wire.sender).map(|_| ())
        },
    )?;
    let _budget = Setting::change("/proc/sys/net/core/netdev_budget", "1")?;
    let tracer = Tracer::start(Some(&wire.receiver), &[])?;
    quiet();
    let rival = rival(&wire)?;
    let received = || device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_packets");
    let before = received()?;
    let sent = Flood {
        rate: Some(RATE),
        cpu: Some(SENDING_CPU),
        ..Flood::new(Wire::RECEIVER, PORT, PACKETS)
    }
    .run(&wire.sender)?;
    ensure!(sent >= PACKETS / 2, "sent only {sent} of {PACKETS}");
    let came = received()? - before;
    // A CPU that another task has takes few.
    ensure!(came >= WARM_UP, "sent {sent}, only {came} came");
    let report = tracer.stop()?.summary;
    let pid = rival.pid();
    let found = findings::has(&report, "softirq-wait")?;
    findings::says(
        found,
        &[
            &format!("CPU {THE_CPU}"),
            &format!("sh (pid {pid}, real-time) runs there"),
            &format!("chrt -p {pid}"),
            "a larger netdev_budget: the run has not even begun",
        ],
    )?;
    let victim = findings::has(&report, "shared-cpu")?;
    findings::says(victim, &[&format!("sh (pid {pid}, udp/{OTHER_PORT})")])?;
    paste::all(&wire.receiver, &report.findings)?;
    let now = paste::run(&wire.receiver, &format!("taskset -cp {pid}"))?;
    ensure!(
        !now.trim_end().ends_with(&format!(": {THE_CPU}")),
        "not moved: {now}"
    );
    paste::revert_all(&wire.receiver, &report.findings)?;
    let back = paste::run(&wire.receiver, &format!("taskset -cp {pid}"))?;
    ensure!(
        back.trim_end().ends_with(&format!(": {THE_CPU}")),
        "not moved back: {back}"
    );
    kept::keep_report("late", &report)?;
    note(&found.summary);
    Ok(())
}

/// Owns a socket, its stdin: what has none is no process of the network.
fn rival(wire: &Wire) -> Result<Process> {
    let socket = wire
        .receiver
        .run(|| UdpSocket::bind((Wire::RECEIVER, OTHER_PORT)))??;
    let mut command = Command::new("chrt");
    let cpu = THE_CPU.to_string();
    command
        .args(["-f", "50", "taskset", "-c", &cpu])
        .args(["sh", "-c", "while :; do :; done"])
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process::spawn(Some(&wire.receiver), command)
}
