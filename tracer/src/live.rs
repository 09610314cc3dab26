//! The live source: the running kernel, watched. Gathers the host's facts, starts the programs,
//! takes snapshots.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io,
    time::Instant,
};

use anyhow::{Context as _, Result};
use rustix::time::ClockId;
use tracer_common::{
    event::Kind,
    layout::{Layout, Settings},
};

use crate::{
    analyze::{
        names::{Function, Kernel, Names},
        rules::threshold::Thresholds,
        summary::Facts,
    },
    bpf::{self, Choice, Details, HOOKS, Programs, Start},
    host::CannotRun,
    kernel::{
        facts::KernelFacts,
        hz::{tick_ns, usecs_to_jiffies},
        symbols::{self, Symbols},
    },
    model::{
        report::{HookStatus, Host},
        snapshot::{Gaps, KernelCounters, Snapshot, Traced},
    },
    proc::{
        Roots, cpus,
        cpus::{Attendance, Cpus},
        interrupts::Interrupts,
        netdev::{DeviceFacts, NetDevice, NetDevices},
        netns,
        softirqs::Softirqs,
        softnet, sysctl,
    },
    topology,
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
    /// By index in [`HOOKS`].
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

/// Times that a garbled file is read again.
const RETRIES: u32 = 3;

/// The attached programs and all that is read beside them.
pub struct Live {
    roots: Roots,
    programs: Programs,
    devices: NetDevices,
    settings: Option<Settings>,
    tick_ns: u64,
    irqs: BTreeSet<u32>,
    attendance: Attendance,
    /// Names and facts for the report.
    pub facts: Facts,
}

impl Live {
    /// Looks at the host, then attaches. Fails with [`CannotRun`] where nothing can be attached
    /// and with [`UnknownInterface`] for a device that does not exist.
    pub fn start(options: &Options) -> Result<(Self, Details)> {
        let roots = Roots::default();
        let mut devices = NetDevices::open()?;
        let interfaces = interfaces(&options.interfaces, &mut devices)?;
        let kernel = KernelFacts::load(&roots).map_err(CannotRun::btf)?;
        let start = start_parameters(options, &kernel)?;
        let (programs, details) = Programs::start(&start).map_err(CannotRun::load)?;
        let hooks = programs.hooks();
        if !hooks.iter().any(|h| h.status == HookStatus::Attached) {
            return Err(CannotRun::nothing_attached(&hooks).into());
        }

        // After attaching: an incident does not wait for names.
        let tick_ns = tick_ns();
        let settings = settings(&roots, tick_ns);
        let mut facts = facts(&roots, kernel, interfaces)?;
        facts.kinds.clone_from(&options.kinds);
        facts.thresholds = options.thresholds.clone();
        facts.budget_known = settings.is_some();
        let mut live = Self {
            roots,
            programs,
            devices,
            settings,
            tick_ns,
            irqs: BTreeSet::new(),
            attendance: Attendance::default(),
            facts,
        };
        live.refresh_topology()?;
        Ok((live, details))
    }

    /// Number of hooks that count, and of all hooks.
    #[must_use]
    pub fn attached(&self) -> (usize, usize) {
        let hooks = self.programs.hooks();
        let counting = hooks.iter().filter(|h| h.status == HookStatus::Attached);
        (counting.count(), HOOKS.len())
    }

    /// All counters now; [`Traced::undecodable`] is left to the caller. Tried again when a CPU came or
    /// went while a file was printed, which garbles it.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        self.refresh_settings()?;
        let mut tries = 0;
        loop {
            match self.try_snapshot() {
                Err(error) if tries < RETRIES => {
                    log::info!("{error:#}: read again");
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    fn try_snapshot(&mut self) -> Result<Snapshot> {
        let online = self.see_cpus()?;
        let proc = &self.roots.proc;
        // What can move fastest is read closest to the programs' counters.
        let began = Instant::now();
        let softirqs = Softirqs::read(proc)?;
        let after_softirqs = Instant::now();
        let softnet = softnet::read_rows(proc, &online)?;
        let after_softnet = Instant::now();
        let monotonic_ns = clock_ns(ClockId::Monotonic);
        let counters = &self.programs.counters;
        let mut traced = counters.read()?;
        counters.read_irqs(self.irqs.iter().copied(), &mut traced);
        let after_traced = Instant::now();
        let interrupts = Interrupts::read(proc)?;
        let after_interrupts = Instant::now();
        let devices = self.devices.read()?;
        let gaps = Gaps {
            softirqs: ns(after_traced - began),
            softnet: ns(after_traced - after_softirqs),
            interrupts: ns(after_interrupts - after_softnet),
            devices: ns(after_interrupts.elapsed() + (after_interrupts - after_softnet)),
        };
        let new = interrupts
            .device
            .keys()
            .filter(|irq| !self.irqs.contains(irq));
        counters.read_irqs(new.copied(), &mut traced);
        self.irqs.extend(interrupts.device.keys());
        traced.hooks = self.programs.hooks();
        self.learn_names(&traced, &devices);
        Ok(Snapshot {
            monotonic_ns,
            unix_ns: clock_ns(ClockId::Realtime),
            gaps,
            traced,
            kernel: KernelCounters {
                softnet,
                interrupts,
                softirqs,
                devices,
                online,
            },
        })
    }

    /// Looks which CPUs are online: one may go and come back between two snapshots.
    pub fn see_cpus(&mut self) -> Result<Vec<u32>> {
        let online = cpus::read_list(&self.roots.sys.join("devices/system/cpu/online"))?;
        self.attendance.see(&online);
        Ok(online)
    }

    /// Adds to the notes which CPUs were away for a while, but for those that `start` and `end` show to have gone or
    /// come.
    pub fn note_absent_cpus(&mut self, start: &Snapshot, end: &Snapshot) {
        let both = |cpu: &u32| start.kernel.online.contains(cpu) == end.kernel.online.contains(cpu);
        for cpu in self.attendance.changed().iter().filter(|cpu| both(cpu)) {
            self.facts.notes.push(format!(
                "CPU {cpu} was offline for a part of this run; its counts go on where they were"
            ));
        }
    }

    fn learn_names(&mut self, traced: &Traced, devices: &BTreeMap<u32, NetDevice>) {
        let names = &mut self.facts.names;
        for napi in traced.napi.values().flatten() {
            names.learn(napi.netns, napi.ifindex, &napi.device);
        }
        // Last: a slot keeps the name that the device had at its first poll.
        for device in devices.values() {
            let id = (names.own_netns, device.ifindex);
            names.devices.insert(id, device.name.clone());
        }
    }

    /// Reads interrupts' affinity, devices' facts and namespaces' names again.
    pub fn refresh_topology(&mut self) -> Result<()> {
        let devices = self.devices.read()?;
        self.facts.devices = devices
            .values()
            .map(|d| (d.name.clone(), DeviceFacts::read(&self.roots.sys, &d.name)))
            .collect();
        let interrupts = Interrupts::read(&self.roots.proc)?;
        // What is gone keeps the name that it had: it was counted.
        for (irq, facts) in topology::irq::read(&self.roots, &interrupts) {
            if !facts.name.is_empty() || !self.facts.irqs.contains_key(&irq) {
                self.facts.irqs.insert(irq, facts);
            }
        }
        if let Ok(names) = netns::names(&self.roots) {
            self.facts.names.set_netns(names);
        }
        Ok(())
    }

    /// The future that prints the programs' log lines.
    pub fn log(&mut self) -> Result<impl Future<Output = ()> + use<>> {
        self.programs.log()
    }

    /// Passes on `netdev_budget` if somebody changed it.
    fn refresh_settings(&mut self) -> Result<()> {
        if self.settings.is_none() {
            return Ok(());
        }
        let now = settings(&self.roots, self.tick_ns);
        if let Some(settings) = now.filter(|_| now != self.settings) {
            self.programs.set(settings)?;
            self.settings = now;
        }
        Ok(())
    }
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

fn settings(roots: &Roots, tick_ns: u64) -> Option<Settings> {
    let (packets, usecs) = budget(roots)?;
    Some(Settings {
        netdev_budget: u64::from(packets),
        netdev_budget_jiffies: usecs_to_jiffies(usecs, tick_ns),
    })
}

fn interfaces(wanted: &[String], devices: &mut NetDevices) -> Result<BTreeMap<u32, String>> {
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

fn facts(roots: &Roots, kernel: KernelFacts, interfaces: BTreeMap<u32, String>) -> Result<Facts> {
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
    let mut names = Names::new(Box::new(Running {
        roots: roots.clone(),
        symbols: RefCell::new(None),
        kernel,
    }));
    names.own_netns = netns::own_inode(roots).unwrap_or(0);
    Ok(Facts {
        host: Host {
            name: text(uname.nodename()),
            kernel: text(uname.release()),
            cpus: u32::try_from(cpus.online.len()).context("number of CPUs")?,
            nodes: cpus.nodes,
        },
        node_of: cpus.node_of,
        names,
        irqs: BTreeMap::new(),
        devices: BTreeMap::new(),
        interfaces,
        kinds: Vec::new(),
        budget_known: false,
        names_full_backlog,
        thresholds: Thresholds::default(),
        notes,
    })
}

/// Names of the running kernel. Symbols are read when the first drop wants one: that costs some MiB
/// and tens of ms, which a host without drops need not pay; and again for a new site after a module was
/// loaded, whose functions the older table does not have.
struct Running {
    roots: Roots,
    symbols: RefCell<Option<(Vec<String>, Symbols)>>,
    kernel: KernelFacts,
}

impl Kernel for Running {
    fn function(&self, return_address: u64) -> Option<Function> {
        let modules = loaded_modules(&self.roots);
        let mut symbols = self.symbols.borrow_mut();
        if symbols.as_ref().is_none_or(|(then, _)| *then != modules) {
            // The old table goes before the new one comes: each has some MiB.
            *symbols = None;
            let path = self.roots.proc.join("kallsyms");
            let read = Symbols::load(&path).unwrap_or_else(|error| {
                log::warn!("{error}: drop sites are shown as addresses");
                Symbols::Hidden
            });
            *symbols = Some((modules, read));
        }
        let (_, symbols) = symbols.as_ref()?;
        let symbol = symbols.resolve_return_address(return_address)?;
        Some(Function {
            name: symbol.name.to_owned(),
            module: symbol.module.map(str::to_owned),
            offset: symbol.offset,
        })
    }

    fn reason(&self, number: u32) -> Option<String> {
        self.kernel.reason_name(number).map(str::to_owned)
    }
}

/// Name and address of each module, which change when one is loaded; not its users, which come and go.
fn loaded_modules(roots: &Roots) -> Vec<String> {
    let text = std::fs::read_to_string(roots.proc.join("modules")).unwrap_or_default();
    let name_and_address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        Some(format!("{} {}", words.next()?, words.nth(4)?))
    };
    text.lines().filter_map(name_and_address).collect()
}

fn ns(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// Whether writing failed because the reader of stdout went away.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
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
