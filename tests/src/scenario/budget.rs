//! Provokes `NET_RX` runs that end with work left: at `netdev_budget`, which is made smaller than what one poll takes,
//! and at `netdev_budget_usecs`, because each packet is copied to many sockets that have no room for it.
//!
//! Asserts that runs which tracer says ended at the packet budget or at the time limit are, per CPU, as many as
//! softnet `time_squeeze` counted, and that tracer tells which of the two it was. They may be fewer by no more than the
//! runs that the report itself shows were not seen, and then it is measured again.
//!
//! tracer reads jiffies when the run begins and at each poll, the kernel a little later in both places: a tick between
//! the two makes one run differ. So for the time limit one run more or less is allowed on a CPU, for the packet budget none.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use tracer::model::report::{Cpu, Report};

use super::{Need, Scenario, bracket::Bracket, fewer, note, repeat};
use crate::{
    backlog::{STEERING_CPU, Steered, TARGET_CPU},
    flood::Flood,
    kernel,
    netns::Pair,
    setting::Setting,
    wait::quiet,
};

const NEEDS: &[Need] = &[Need::Root, Need::Cpus(2), Need::Program("ip")];

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the_budget_that_ends_a_run_is_told",
        needs: NEEDS,
        run: || repeat(packet_budget),
    },
    Scenario {
        name: "the_time_limit_that_ends_a_run_is_told",
        needs: NEEDS,
        run: || repeat(time_limit),
    },
];

/// Packets of one run; one setting for the whole host, as is [`BUDGET_USECS`].
const BUDGET: &str = "/proc/sys/net/core/netdev_budget";
/// Time of one run. Newer kernels refuse less than two jiffies, so it is left alone.
const BUDGET_USECS: &str = "/proc/sys/net/core/netdev_budget_usecs";
/// Packets of one poll of a backlog. The time is looked at after a poll only, and a run polls a device once: a hundred
/// packets of [`SLOW_PACKETS`] take two jiffies or more.
const DEV_WEIGHT: &str = "/proc/sys/net/core/dev_weight";
/// Reached by no run.
const ENDLESS: &str = "100000000";

const PACKETS: u64 = 20_000;
/// These take long: a tenth of a millisecond or two for each.
const SLOW_PACKETS: u64 = 2_000;
/// Members of [`GROUP`]: a copy of each datagram is made for every one, and dropped.
const COPIES: usize = 800;
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 77, 0, 1);
const PORT: u16 = 7011;

fn packet_budget() -> Result<()> {
    let receiver = Steered::new()?;
    let seen = squeezed("2", || {
        let sent = receiver.flood(PACKETS)?;
        ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
        Ok(())
    })?;
    let target = compare(&seen, 0)?;
    let (by_packets, by_time) = ended(&target)?;
    ensure!(
        by_packets > by_time,
        "a budget of 2, and yet {by_packets} runs ended by packets, {by_time} by time"
    );
    Ok(())
}

fn time_limit() -> Result<()> {
    let receiver = Steered::new()?;
    let (sender, group) = (&receiver.pair.sender, GROUP.to_string());
    sender.ip(&["route", "add", &group, "dev", Pair::SENDER_DEVICE])?;
    let sockets = || {
        (0..COPIES)
            .map(|_| full_socket())
            .collect::<Result<Vec<_>>>()
    };
    let _full = receiver.pair.receiver.run(sockets)??;
    let weight = Setting::change(DEV_WEIGHT, "100")?;
    let seen = squeezed(ENDLESS, || {
        let flood = Flood::new(GROUP, PORT, SLOW_PACKETS);
        let cpu = Some(STEERING_CPU);
        let sent = Flood { cpu, ..flood }.run(sender)?;
        ensure!(sent == SLOW_PACKETS, "sent {sent} of {SLOW_PACKETS}");
        Ok(())
    })?;
    weight.restore()?;
    let target = compare(&seen, 1)?;
    let (by_packets, by_time) = ended(&target)?;
    ensure!(
        by_packets == 0 && by_time > 0,
        "no end of packets, and yet {by_packets} runs ended by packets, {by_time} by time"
    );
    Ok(())
}

/// A socket that gets a copy of every datagram to [`GROUP`] and has room for one or two.
fn full_socket() -> Result<UdpSocket> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::RcvBuf, &0)?;
    bind(
        socket.as_raw_fd(),
        &SockaddrIn::from(SocketAddrV4::new(GROUP, PORT)),
    )?;
    let socket = UdpSocket::from(socket);
    socket.join_multicast_v4(&GROUP, &Pair::RECEIVER)?;
    Ok(socket)
}

/// softnet `time_squeeze` around a flood. tracer runs in the host's own network namespace, which has the two settings.
fn squeezed(budget: &str, flood: impl FnOnce() -> Result<()>) -> Result<Bracket<u32>> {
    let budget = Setting::change(BUDGET, budget)?;
    let read = || {
        let rows = kernel::softnet()?.into_iter();
        Ok(rows
            .map(|(cpu, row)| (cpu, u64::from(row.time_squeeze)))
            .collect())
    };
    let seen = Bracket::around(read, None, 1, || {
        flood()?;
        // What was sent is still waiting.
        quiet();
        Ok(())
    })?;
    budget.restore()?;
    Ok(seen)
}

/// Compares every CPU with the kernel's count, give or take `ticks` runs, and returns the row of the target CPU.
fn compare(seen: &Bracket<u32>, ticks: u64) -> Result<Cpu> {
    let report = &seen.reports[0];
    let counts: BTreeMap<u32, u64> = report
        .cpus
        .iter()
        .map(|cpu| Ok((cpu.cpu, ended(cpu).map(|(packets, time)| packets + time)?)))
        .collect::<Result<_>>()?;
    note(format_args!(
        "time_squeeze {:?} to {:?}, tracer {counts:?}",
        seen.inner, seen.outer
    ));
    let squeezed = seen.inner.get(&TARGET_CPU).copied().unwrap_or(0);
    ensure!(
        squeezed > 5,
        "CPU {TARGET_CPU} ended only {squeezed} runs with work left"
    );
    for (cpu, outer) in &seen.outer {
        let inner = seen.inner.get(cpu).copied().unwrap_or(0);
        let traced = counts.get(cpu).copied().unwrap_or(0);
        ensure!(
            traced <= outer + ticks,
            "CPU {cpu}: time_squeeze rose by {outer}, tracer saw {traced} runs end so"
        );
        if traced + ticks < inner {
            let unseen = unseen(report, *cpu);
            ensure!(
                traced + unseen + ticks >= inner,
                "CPU {cpu}: time_squeeze rose by {inner}, tracer saw {traced} runs end so and missed only {unseen}"
            );
            note(format_args!(
                "CPU {cpu}: {unseen} runs or their ends not seen"
            ));
            fewer("runs that ended with work left", traced, inner)?;
        }
    }
    reconciled(seen)?;
    let target = report.cpus.iter().find(|cpu| cpu.cpu == TARGET_CPU);
    Ok(target.cloned().unwrap_or_default())
}

/// tracer's own reconciliation has the kernel's count, and nothing is left unexplained.
fn reconciled(seen: &Bracket<u32>) -> Result<()> {
    let rows = &seen.reports[0].reconciliation;
    let row = rows
        .iter()
        .find(|row| row.counter == "softnet_stat time_squeeze total")
        .with_context(|| format!("no time_squeeze: {rows:#?}"))?;
    let [inner, outer] = [&seen.inner, &seen.outer].map(|by_cpu| by_cpu.values().sum::<u64>());
    ensure!(
        (inner..=outer).contains(&row.delta),
        "time_squeeze rose by {inner} to {outer}: {row:?}"
    );
    note(format_args!("{row:?}"));
    if row.unexplained != Some(0) {
        let what = "runs that ended with work left, in the reconciliation";
        fewer(what, row.traced.unwrap_or(0), row.delta)?;
    }
    ensure!(row.unexplained == Some(0), "unexplained: {row:?}");
    Ok(())
}

/// Runs that the kernel counted and tracer did not, polls outside a run and runs without an end: each of them says that
/// a program did not run.
fn unseen(report: &Report, cpu: u32) -> u64 {
    let counter = format!("softirqs NET_RX cpu{cpu}");
    let rows = report.reconciliation.iter();
    let runs: i64 = rows
        .filter(|row| row.counter == counter)
        .filter_map(|row| row.residual)
        .sum();
    let rows = report.cpus.iter().filter(|row| row.cpu == cpu);
    let polls: u64 = rows.filter_map(|row| row.polls_outside_net_rx).sum();
    u64::try_from(runs).unwrap_or(0) + polls + report.losses.net_rx_nested
}

/// Runs that ended at the packet budget, and at the time limit.
fn ended(cpu: &Cpu) -> Result<(u64, u64)> {
    let (Some(packets), Some(time)) = (cpu.budget_exhausted, cpu.time_exhausted) else {
        bail!("{BUDGET} and {BUDGET_USECS} are there, and yet tracer cannot tell: {cpu:?}");
    };
    Ok((packets, time))
}
