//! What is decided before the programs start: options, the host's facts, the layout handed to them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tracer_common::{
    event::Kind,
    layout::{Layout, Settings},
};

use super::running::Running;
use crate::{
    analyze::{names::Names, rules::threshold::Thresholds, summary::Facts},
    bpf::{self, Choice, Start},
    kernel::{
        facts::KernelFacts,
        hz::{tick_ns, usecs_to_jiffies},
        symbols,
    },
    model::report::Host,
    proc::{
        Roots, cpus::Cpus, error::read_fact, interrupts::Interrupts, netdev::NetDevices, netns,
        sysctl,
    },
};

/// What to watch and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Devices to restrict the report to; empty: all.
    pub interfaces: Vec<String>,
    /// Kinds of detail.
    pub kinds: Vec<Kind>,
    /// Details per second, kind and CPU; `None`: no limit.
    pub detail_rate: Option<u32>,
    /// Size of the ring, bytes.
    pub ring_bytes: u32,
    /// Size of the drop table.
    pub drop_sites: u32,
    /// By index in [`HOOKS`](bpf::HOOKS).
    pub choices: Vec<Choice>,
    /// From where on something is a finding.
    pub thresholds: Thresholds,
    /// Log lines from inside the programs.
    pub log: bool,
}

/// A device that `--interface` named does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no network device '{name}' here; there are: {}; a device of another namespace: \
     ip netns exec NS tracer run …",
    known.join(", ")
)]
pub struct UnknownInterface {
    /// As given.
    pub name: String,
    /// Those that exist in tracer's network namespace.
    pub known: Vec<String>,
}

/// Budgets that no run reaches, for when the true ones are not known.
const NEVER: Settings = Settings {
    netdev_budget: u64::MAX,
    netdev_budget_jiffies: u64::MAX,
};

/// What to hand to [`Programs::start`] on this host.
pub fn start_parameters(options: &Options, kernel: &KernelFacts) -> Result<Start> {
    let roots = Roots::default();
    let cpus = Cpus::read(&roots.sys)?;
    let tick_ns = tick_ns();
    let interrupts = Interrupts::read(&roots.proc)?;
    Ok(Start {
        layout: layout(options, kernel, &cpus, &interrupts, tick_ns),
        settings: settings(&roots, tick_ns).unwrap_or(NEVER),
        ring_bytes: options.ring_bytes,
        drop_sites: options.drop_sites,
        choices: options.choices.clone(),
        hook_types: kernel.hook_types.clone(),
        possible: cpus.possible,
        log: options.log,
    })
}

/// `netdev_budget` (packets) and `netdev_budget_usecs`; `None` if they cannot be read. Only the
/// host's own network namespace has them.
#[must_use]
pub fn budget(roots: &Roots) -> Option<(u32, u32)> {
    sysctl::netdev_budget(roots).or_else(|| netns::in_init_netns(roots, sysctl::netdev_budget))
}

pub(super) fn settings(roots: &Roots, tick_ns: u64) -> Option<Settings> {
    let (packets, usecs) = budget(roots)?;
    Some(Settings {
        netdev_budget: u64::from(packets),
        netdev_budget_jiffies: usecs_to_jiffies(usecs, tick_ns),
    })
}

pub(super) fn interfaces(
    wanted: &[String],
    devices: &mut NetDevices,
) -> Result<BTreeMap<u32, String>> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let known = devices.read()?;
    let mut found = BTreeMap::new();
    for name in wanted {
        match known.values().find(|d| d.name == *name) {
            Some(device) => found.insert(device.ifindex, name.clone()),
            None => {
                return Err(UnknownInterface {
                    name: name.clone(),
                    known: known.into_values().map(|d| d.name).collect(),
                }
                .into());
            }
        };
    }
    Ok(found)
}

/// A window of the rate limit lasts at most this long.
const DETAIL_WINDOW_NS: u64 = 125_000_000;

fn layout(
    options: &Options,
    kernel: &KernelFacts,
    cpus: &Cpus,
    interrupts: &Interrupts,
    tick_ns: u64,
) -> Layout {
    let mut layout = Layout::UNKNOWN;
    kernel.fill(&mut layout);
    layout.headers = u32::from(bpf::may_read_kernel_memory());
    layout.cpus = cpus.possible.last().map_or(1, |last| last + 1);
    let irqs = interrupts
        .device
        .keys()
        .next_back()
        .map_or(0, |last| last + 1);
    // Room for devices that are plugged in during the run.
    layout.irqs = (irqs + 128).next_power_of_two();
    layout.details = options
        .kinds
        .iter()
        .fold(0, |mask, kind| mask | 1 << *kind as u32);
    (layout.detail_burst, layout.detail_shift) = detail_window(options.detail_rate, tick_ns);
    layout.ring_wake_bytes = options.ring_bytes / 2;
    layout
}

/// Details a window and log2 of the window in jiffies, for `rate` a second.
fn detail_window(rate: Option<u32>, tick_ns: u64) -> (u32, u32) {
    let Some(rate) = rate else {
        return (u32::MAX, 0);
    };
    let shift = (DETAIL_WINDOW_NS / tick_ns.max(1)).max(1).ilog2();
    let window_ns = tick_ns << shift;
    let burst = u64::from(rate) * window_ns / 1_000_000_000;
    let burst = u32::try_from(burst).unwrap_or(u32::MAX - 1);
    (if rate == 0 { 0 } else { burst.max(1) }, shift)
}

pub(super) fn facts(
    roots: &Roots,
    kernel: KernelFacts,
    interfaces: BTreeMap<u32, String>,
) -> Result<Facts> {
    let cpus = Cpus::read(&roots.sys)?;
    let mut notes = Vec::new();
    if symbols::are_hidden(&roots.proc.join("kallsyms")) {
        notes.push(
            "kallsyms shows no addresses (kernel.kptr_restrict, or CAP_SYSLOG is missing): \
             drop sites are addresses; sysctl kernel.kptr_restrict=1 shows names to root"
                .to_owned(),
        );
    }
    if !bpf::may_read_kernel_memory() {
        notes.push(
            "kernel memory is off limits (lockdown=confidentiality): raw_tp cannot be used, and details have no \
             addresses and ports; boot with lockdown=integrity"
                .to_owned(),
        );
    }
    let names_full_backlog = kernel.reasons.value("CPU_BACKLOG").is_some();
    let uname = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    let mut names = Names::new(Box::new(Running::new(roots.clone(), kernel)));
    names.own_netns = netns::own_inode(roots).unwrap_or(0);
    Ok(Facts {
        host: Host {
            name: text(uname.nodename()),
            kernel: text(uname.release()),
            cpus: u32::try_from(cpus.online.len()).context("number of CPUs")?,
            nodes: cpus.nodes,
            boot_id: read_fact(&roots.proc.join("sys/kernel/random/boot_id")),
            netns: netns::own_inode(roots).ok().map(u64::from),
        },
        node_of: cpus.node_of,
        names,
        irqs: BTreeMap::new(),
        devices: BTreeMap::new(),
        topology: None,
        interfaces,
        kinds: Vec::new(),
        budget_known: false,
        names_full_backlog,
        thresholds: Thresholds::default(),
        processes: Vec::new(),
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_limit_allows_about_the_rate_at_any_tick() {
        for hz in [100u64, 250, 300, 1000] {
            let tick_ns = 1_000_000_000 / hz;
            for rate in [100, 1000, 1_000_000] {
                let (burst, shift) = detail_window(Some(rate), tick_ns);
                let windows_a_second = 1e9 / (tick_ns << shift) as f64;
                let allowed = f64::from(burst) * windows_a_second;
                let ratio = allowed / f64::from(rate);
                assert!(
                    (0.5..=1.3).contains(&ratio),
                    "HZ={hz} rate={rate}: {allowed}"
                );
            }
        }
    }

    #[test]
    fn a_rate_of_zero_sends_nothing_and_no_limit_sends_all() {
        assert_eq!(detail_window(Some(0), 4_000_000).0, 0);
        assert_eq!(detail_window(None, 4_000_000).0, u32::MAX);
    }
}
