//! Sets up a device with RPS in a namespace, and makes another one in the middle of a run.
//!
//! Asserts that the summary's topology says what was set, knows the settings of the whole host inside the namespace
//! too, and has the device that came.

use anyhow::{Context as _, Result, ensure};

use super::{Need, Scenario, note};
use crate::{
    backlog::{MAX_BACKLOG, Steered, TARGET_CPU},
    netns::Pair,
    setting,
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "the_topology_of_a_namespace_is_what_was_set_there",
    needs: &[Need::Root, Need::Cpus(2), Need::Program("ip")],
    run: in_a_namespace,
}];

const DEVICE: &str = Pair::RECEIVER_DEVICE;
const NEW: &str = "late0";

fn in_a_namespace() -> Result<()> {
    let steered = Steered::new()?;
    let netns = &steered.pair.receiver;
    let tracer = Tracer::start(Some(netns), &[])?;
    quiet();
    netns.ip(&["link", "add", NEW, "type", "veth", "peer", "name", "late1"])?;
    quiet();
    let outcome = tracer.stop()?;
    let topology = outcome.summary.topology.context("no topology")?;
    note(format_args!("{:?}", topology.devices));

    let names: Vec<_> = topology.devices.keys().map(String::as_str).collect();
    ensure!(names == ["late0", "late1", "lo", DEVICE], "{names:?}");
    let device = &topology.devices[DEVICE];
    let queue = device.rx_queues.get(&0).context("no queue 0")?;
    ensure!(
        queue.rps_cpus == [TARGET_CPU],
        "RPS to {:?}",
        queue.rps_cpus
    );
    ensure!(
        device.bus.is_none() && device.driver.is_none(),
        "{device:?}"
    );
    let backlog = topology.sysctls.get("net.core.netdev_max_backlog");
    let there = setting::read(MAX_BACKLOG)?;
    ensure!(
        backlog.is_some_and(|value| *value == there.trim()),
        "netdev_max_backlog {there}, in the report {backlog:?}"
    );
    let online = topology.cpus.values().filter(|cpu| cpu.online).count();
    let host = usize::try_from(outcome.summary.host.cpus)?;
    ensure!(online == host, "{online} CPUs online, {host} in the header");
    Ok(())
}
