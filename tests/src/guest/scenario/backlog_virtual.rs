//! Fills the backlog of the CPU that sends over a veth pair without RPS: a queueing discipline lets packets wait and
//! then hands many to `netif_rx` at once, before `NET_RX` can run.
//!
//! Asserts that the finding charges that CPU, says that no RPS is involved, and advises a larger backlog alone only if
//! it says that the load came in bursts; and that its command for that works where the setting is not to be seen.

use std::{net::UdpSocket, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Scenario, paste, target_cpu::while_read};
use crate::{
    findings,
    flood::Flood,
    kept,
    kernel::{device_statistic, softnet},
    netns::Pair,
    scenario::{Need, note},
    setting::{self, Setting},
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_backlog_that_a_virtual_device_fills_without_rps_is_told_as_such",
    needs: &[
        Need::Root,
        Need::Cpus(4),
        Need::Program("tc"),
        Need::Program("sh"),
    ],
    run: without_rps,
}];

const PORT: u16 = 7122;
const PACKETS: u64 = 6_000;
const RATE: u32 = 4_000;
const SENDING_CPU: usize = 2;
const MAX_BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";

fn without_rps() -> Result<()> {
    let pair = Pair::new()?;
    let socket = pair
        .receiver
        .run(|| UdpSocket::bind((Pair::RECEIVER, PORT)))??;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
    let delay = format!(
        "tc qdisc add dev {} root netem delay 10ms",
        Pair::SENDER_DEVICE
    );
    paste::run(&pair.sender, &delay)?;
    let refused = || device_statistic(&pair.receiver, Pair::RECEIVER_DEVICE, "rx_dropped");
    let small = Setting::change(MAX_BACKLOG, "4")?;
    let tracer = Tracer::start(Some(&pair.receiver), &[])?;
    quiet();
    let before = (refused()?, softnet()?);
    let sent = while_read(&socket, || {
        Flood {
            rate: Some(RATE),
            cpu: Some(SENDING_CPU),
            ..Flood::new(Pair::RECEIVER, PORT, PACKETS)
        }
        .run(&pair.sender)
    })?;
    quiet();
    let (refused, rows) = (refused()? - before.0, softnet()?);
    let report = tracer.stop()?.summary;
    let by_cpu: Vec<u32> = rows
        .iter()
        .filter(|(cpu, row)| row.dropped != before.1[cpu].dropped)
        .map(|(cpu, _)| *cpu)
        .collect();
    ensure!(
        refused > 0 && refused < sent,
        "of {sent} datagrams the backlogs of {by_cpu:?} refused {refused}"
    );
    let found = findings::has(&report, "backlog-overflow")?;
    findings::says(
        found,
        &[
            &format!("put there by {} without RPS", Pair::RECEIVER_DEVICE),
            "netdev_budget: it limits how long NET_RX runs",
        ],
    )?;
    let steers = findings::commands(found).any(|command| command.contains("rps_cpus"));
    let alone = findings::says(found, &["holds the burst"]).is_ok();
    ensure!(
        steers != alone,
        "a larger backlog alone is for bursts: {found:#?}"
    );
    paste::all(&pair.receiver, std::slice::from_ref(found))?;
    let raised = setting::read(MAX_BACKLOG)?;
    ensure!(raised == "1000", "{MAX_BACKLOG} is {raised}: {found:#?}");
    paste::revert_all(&pair.receiver, std::slice::from_ref(found))?;
    let back = setting::read(MAX_BACKLOG)?;
    ensure!(back == "4", "{MAX_BACKLOG} is {back}: {found:#?}");
    small.restore()?;
    findings::explained(&report)?;
    kept::keep_report("veth-backlog", &report)?;
    note(format_args!("CPUs {by_cpu:?}: {}", found.summary));
    Ok(())
}
