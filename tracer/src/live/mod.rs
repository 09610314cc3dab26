//! The live source: the running kernel, watched. Gathers the host's facts, starts the programs,
//! takes snapshots.

mod between;
mod running;
mod start;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::time::ClockId;
use tracer_common::layout::Settings;

pub use self::start::{Options, UnknownInterface, budget, start_parameters};
use self::{
    between::Reads,
    start::{facts, interfaces, settings},
};
use crate::{
    analyze::summary::Facts,
    bpf::{Details, HOOKS, Programs},
    host::CannotRun,
    kernel::{facts::KernelFacts, hz::tick_ns},
    model::{
        report::HookStatus,
        snapshot::{Gaps, KernelCounters, Snapshot, Traced},
    },
    proc::{
        Roots, cpus,
        cpus::Attendance,
        driver_stats::DriverStats,
        interrupts::Interrupts,
        netdev::{NetDevice, NetDevices},
        netns, snmp,
        softirqs::Softirqs,
        softnet, stat,
    },
    topology::{self, Asked, Known, irq::IrqFacts, process::Sample, seen::Seen},
};

const NSEC_PER_SEC: u64 = 1_000_000_000;
/// Times that a garbled file is read again.
const RETRIES: u32 = 3;
/// The topology is read again for a change at most this often, but for the end of the run.
const REFRESH: Duration = Duration::from_secs(10);

/// The attached programs and all that is read beside them.
pub struct Live {
    roots: Roots,
    programs: Programs,
    devices: NetDevices,
    driver_stats: Option<DriverStats>,
    settings: Option<Settings>,
    tick_ns: u64,
    irqs: BTreeSet<u32>,
    /// Those of the report by what sysfs says, even if it is that of another network namespace.
    irq_facts: BTreeMap<u32, IrqFacts>,
    attendance: Attendance,
    processes: Sample,
    seen: Seen,
    /// Something came or went since the topology was read.
    changed: bool,
    read_topology: Option<Instant>,
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
            driver_stats: DriverStats::open().ok(),
            settings,
            tick_ns,
            irqs: BTreeSet::new(),
            irq_facts: BTreeMap::new(),
            attendance: Attendance::default(),
            processes: Sample::default(),
            seen: Seen::default(),
            changed: false,
            read_topology: None,
            facts,
        };
        let devices = live.devices_as_in_sysfs()?;
        live.refresh_names(&devices)?;
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
        let counters = &self.programs.counters;
        let early = counters.runs();
        let early_protocols = snmp::read_protocols(proc)?;
        // What can move fastest is read closest to the programs' counters.
        let began = Instant::now();
        let softirqs = Softirqs::read(proc)?;
        let after_softirqs = Instant::now();
        let softnet = softnet::read_rows(proc, &online)?;
        let after_softnet = Instant::now();
        let monotonic_ns = clock_ns(ClockId::Monotonic);
        let mut traced = counters.read()?;
        counters.read_irqs(self.irqs.iter().copied(), &mut traced);
        let after_traced = Instant::now();
        let interrupts = Interrupts::read(proc)?;
        let after_interrupts = Instant::now();
        // Interrupts that nobody knew are read behind the kernel's table, the others were before it.
        let all: BTreeSet<u32> = interrupts.device.keys().copied().collect();
        let appeared = !all.is_subset(&self.irqs);
        counters.read_irqs(all.difference(&self.irqs).copied(), &mut traced);
        self.irqs.extend(all);
        let late = counters.runs();
        let late_softnet = softnet::read_rows(proc, &online)?;
        let devices = self.devices.read()?;
        let after_devices = Instant::now();
        let last_softnet = softnet::read_rows(proc, &online)?;
        let protocols = snmp::read_protocols(proc)?;
        let after_protocols = Instant::now();
        let mut between = Reads {
            early: &early,
            early_protocols: &early_protocols,
            softnet: &softnet,
            traced: &traced,
            late: &late,
            late_softnet: &late_softnet,
            last_softnet: &last_softnet,
            protocols: &protocols,
        }
        .between();
        if appeared {
            between.new_hardirqs = between.hardirqs;
        }
        let time = stat::read_cpus(proc)?;
        let gaps = Gaps {
            softirqs: ns(after_traced - began),
            softnet: ns(after_traced - after_softirqs),
            interrupts: ns(after_interrupts - after_softnet),
            devices: ns(after_devices - after_softnet),
            protocols: ns(after_protocols - after_softnet),
        };
        traced.hooks = self.programs.hooks();
        self.learn_names(&traced, &devices);
        self.changed |= self.seen.see(&online, &devices, &interrupts.device);
        Ok(Snapshot {
            monotonic_ns,
            unix_ns: clock_ns(ClockId::Realtime),
            gaps,
            between,
            traced,
            kernel: KernelCounters {
                softnet,
                interrupts,
                softirqs,
                devices,
                driver_stats: BTreeMap::new(),
                protocols,
                time,
                tick_ns: NSEC_PER_SEC / rustix::param::clock_ticks_per_second().max(1),
                online,
            },
        })
    }

    /// Adds what the drivers counted, for the begin and the end of a run; see [`crate::proc::driver_stats`].
    pub fn add_driver_stats(&self, snapshot: &mut Snapshot) {
        let Some(source) = &self.driver_stats else {
            return;
        };
        let (facts, own) = (&self.facts, self.facts.names.own_netns);
        let on_a_bus = |name: &str| facts.devices.get(name).is_some_and(|d| d.driver.is_some());
        let devices = snapshot.kernel.devices.values();
        snapshot.kernel.driver_stats = devices
            .filter(|d| on_a_bus(&d.name) && facts.shows(own, d.ifindex))
            .filter_map(|d| Some((d.ifindex, source.read(&d.name)?)))
            .collect();
    }

    /// Looks what every process has used so far, tracer itself left out; for the begin of a run.
    pub fn begin_processes(&mut self) {
        self.processes = Sample::take(&self.roots, std::process::id()).with_threads(&self.roots);
    }

    /// Looks again, and adds to the facts those that were busy since and own sockets.
    pub fn end_processes(&mut self) {
        let end = Sample::take(&self.roots, std::process::id());
        self.facts.processes = topology::process::processes(&self.roots, &self.processes, &end);
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
    fn refresh_names(&mut self, devices: &BTreeMap<u32, NetDevice>) -> Result<()> {
        let shown = topology::nic::sysfs_shows(&self.roots.sys, devices);
        self.facts.devices = topology::nic::facts(&self.roots.sys, devices, shown);
        let interrupts = Interrupts::read(&self.roots.proc)?;
        self.irqs.extend(interrupts.device.keys());
        // What is gone keeps the name that it had: it was counted.
        for (irq, facts) in topology::irq::read(&self.roots, &interrupts) {
            if !facts.name.is_empty() || !self.irq_facts.contains_key(&irq) {
                self.irq_facts.insert(irq, facts);
            }
        }
        self.facts.irqs = topology::irq::shown(&self.irq_facts, shown);
        if let Ok(names) = netns::names(&self.roots) {
            self.facts.names.set_netns(names);
        }
        Ok(())
    }

    /// The devices, once more if one came or went before sysfs was read.
    fn devices_as_in_sysfs(&mut self) -> Result<BTreeMap<u32, NetDevice>> {
        for _ in 0..RETRIES {
            let devices = self.devices.read()?;
            if topology::nic::sysfs_shows(&self.roots.sys, &devices) {
                return Ok(devices);
            }
        }
        // Of another namespace.
        Ok(self.devices.read()?)
    }

    /// Reads names and the topology again. Asks drivers and looks at every process: not for every interval.
    pub fn refresh_topology(&mut self) -> Result<()> {
        let began = Instant::now();
        self.read_topology = Some(began);
        let devices = self.devices_as_in_sysfs()?;
        if let Err(error) = self.refresh_names(&devices) {
            log::info!("interrupts as they were read before: {error:#}");
        }
        let indices: Vec<u32> = devices.keys().copied().collect();
        let known = Known {
            devices: &devices,
            facts: &self.facts.devices,
            irqs: &self.irq_facts,
        };
        let mut topology = topology::gather(&self.roots, known, &Asked::read(&indices));
        topology.tick_ns = Some(self.tick_ns);
        self.facts.topology = Some(topology);
        self.changed = false;
        log::debug!("topology read in {} ms", began.elapsed().as_millis());
        Ok(())
    }

    /// The same if a CPU, a device or an interrupt came or went, but not for each of many in a row.
    pub fn refresh_changed_topology(&mut self) -> Result<()> {
        let lately = |read: Instant| read.elapsed() < REFRESH;
        if !self.changed || self.read_topology.is_some_and(lately) {
            return Ok(());
        }
        self.refresh_topology()
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

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}
