//! Loads the object and attaches each hook by the first mechanism that the kernel takes.

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf,
    maps::{Array, MapData},
    programs::Program,
};
use tracer_common::layout::{Layout, Settings};

use super::{
    counters::Counters,
    hook::{
        Choice, ENQUEUE_TO_BACKLOG, HOOKS, Hook, Mechanism, NET_RX_ACTION, SOFTIRQ_ENTRY,
        SOFTIRQ_EXIT,
    },
    object::{self, PodSettings},
    ring::Details,
    runtime,
};
use crate::model::report::{self, HookStatus};

/// What to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Offsets and sizes; what depends on the hooks is filled in here.
    pub layout: Layout,
    /// First values of what may change while the programs run.
    pub settings: Settings,
    /// Size of the ring, a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Size of the drop table.
    pub drop_sites: u32,
    /// By index in [`HOOKS`].
    pub choices: Vec<Choice>,
    /// Load the object with log lines.
    pub log: bool,
}

/// The attached programs. Dropping it detaches and unloads everything.
pub struct Programs {
    ebpf: Ebpf,
    hooks: Vec<report::Hook>,
    programs: Vec<Vec<String>>,
    settings: Array<MapData, PodSettings>,
    /// Readers of the counter maps.
    pub counters: Counters,
}

impl Programs {
    /// Loads and attaches; a hook that cannot be attached is in [`Self::hooks`] with the reason.
    ///
    /// Fails when the kernel refuses the object or its maps.
    pub fn start(start: &Start) -> Result<(Self, Details)> {
        let btf = Btf::from_sys_fs().context("cannot read /sys/kernel/btf/vmlinux")?;
        let mut layout = start.layout;
        layout.backlog_hooked = u32::from(start.choices[ENQUEUE_TO_BACKLOG] != Choice::Off);
        layout.net_rx_by_softirq =
            u32::from(!matches!(start.choices[NET_RX_ACTION], Choice::Only(_)));
        // What can be attached decides two of the frozen globals; a wrong guess costs a second load.
        loop {
            let mut attempt = Attempt::new(start, layout, &btf)?;
            let hooked = attempt.attach(ENQUEUE_TO_BACKLOG);
            if !hooked && layout.backlog_hooked == 1 {
                layout.backlog_hooked = 0;
                continue;
            }
            if layout.net_rx_by_softirq == 0 && !attempt.attach(NET_RX_ACTION) {
                layout.net_rx_by_softirq = 2;
                continue;
            }
            for index in NET_RX_ACTION + 1..HOOKS.len() {
                attempt.attach(index);
            }
            let pair = attempt.attached(SOFTIRQ_ENTRY) && attempt.attached(SOFTIRQ_EXIT);
            match layout.net_rx_by_softirq {
                1 if !pair && start.choices[NET_RX_ACTION] == Choice::Auto => {
                    layout.net_rx_by_softirq = 0;
                    continue;
                }
                0 => {}
                _ => attempt.replace_net_rx_action(pair),
            }
            return attempt.finish(start);
        }
    }

    /// Each hook, with how often the kernel skipped its programs so far.
    #[must_use]
    pub fn hooks(&self) -> Vec<report::Hook> {
        let mut hooks = self.hooks.clone();
        for (hook, programs) in hooks.iter_mut().zip(&self.programs) {
            for name in programs {
                if let Some(status) = self.ebpf.program(name).and_then(runtime::status) {
                    hook.runs = sum(hook.runs, status.runs);
                    hook.missed = sum(hook.missed, status.missed);
                }
            }
        }
        hooks
    }

    /// Passes on settings that changed.
    pub fn set(&mut self, settings: Settings) -> Result<()> {
        self.settings
            .set(0, PodSettings(settings), 0)
            .context("cannot write map SETTINGS")
    }

    /// Starts to print the programs' log lines through crate `log`; the future never ends.
    pub fn log(&mut self) -> Result<impl Future<Output = ()> + use<>> {
        let logger = aya_log::EbpfLogger::init(&mut self.ebpf)?;
        // SAFETY: the map's descriptor stays the same and open as long as `logger`.
        let mut logger = unsafe { tokio::io::unix::AsyncFd::register(logger) }?;
        Ok(async move {
            while let Ok(mut ready) = logger.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        })
    }
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// One loaded object on the way to being attached.
struct Attempt<'a> {
    ebpf: Ebpf,
    btf: &'a Btf,
    layout: Layout,
    choices: &'a [Choice],
    hooks: Vec<report::Hook>,
    programs: Vec<Vec<String>>,
}

impl<'a> Attempt<'a> {
    fn new(start: &'a Start, layout: Layout, btf: &'a Btf) -> Result<Self> {
        Ok(Self {
            ebpf: object::load(layout, start.ring_bytes, start.drop_sites, start.log)?,
            btf,
            layout,
            choices: &start.choices,
            hooks: HOOKS.iter().map(unattached).collect(),
            programs: vec![Vec::new(); HOOKS.len()],
        })
    }

    fn attached(&self, index: usize) -> bool {
        self.hooks[index].status == HookStatus::Attached
    }

    /// Tries the mechanisms that the user allows; true if one worked.
    fn attach(&mut self, index: usize) -> bool {
        let hook = &HOOKS[index];
        let mechanisms = match self.choices[index] {
            Choice::Off => {
                self.hooks[index].reason = Some("switched off".to_owned());
                return false;
            }
            Choice::Only(mechanism) => vec![mechanism],
            Choice::Auto => hook.mechanisms.to_vec(),
        };
        let mut refusals = Vec::new();
        for mechanism in mechanisms {
            match self.attach_by(hook, mechanism) {
                Ok(programs) => {
                    let row = &mut self.hooks[index];
                    row.status = HookStatus::Attached;
                    row.via = Some(mechanism.name().to_owned());
                    row.reason = (!refusals.is_empty()).then(|| refusals.join("; "));
                    self.programs[index] = programs;
                    return true;
                }
                Err(error) => refusals.push(format!("{mechanism}: {}", one_line(&error))),
            }
        }
        let row = &mut self.hooks[index];
        row.status = HookStatus::Failed;
        row.reason = Some(refusals.join("; "));
        false
    }

    fn attach_by(&mut self, hook: &Hook, mechanism: Mechanism) -> Result<Vec<String>> {
        if !hook.mechanisms.contains(&mechanism) {
            let known: Vec<_> = hook.mechanisms.iter().map(|m| m.name()).collect();
            return Err(anyhow!("not possible here; possible: {}", known.join(", ")));
        }
        let mut suffixes = vec![mechanism.name()];
        // A function's end is a program of its own.
        if hook.name == "net_rx_action" {
            suffixes.push(match mechanism {
                Mechanism::Fentry => "fexit",
                _ => "kretprobe",
            });
        }
        let mut done = Vec::new();
        for suffix in suffixes {
            let name = format!("{}_{suffix}", hook.name);
            if let Err(error) = attach_program(&mut self.ebpf, &name, hook.name, self.btf) {
                for name in done.iter().chain([&name]) {
                    unload(&mut self.ebpf, name);
                }
                return Err(error);
            }
            done.push(name);
        }
        Ok(done)
    }

    /// Records that the softirq pair, if attached, stands for `net_rx_action`.
    fn replace_net_rx_action(&mut self, pair: bool) {
        let row = &mut self.hooks[NET_RX_ACTION];
        row.via = pair.then(|| "softirq_entry/exit".to_owned());
        if row.reason.is_none() {
            row.reason = Some(if pair {
                "not needed: softirq_entry/exit bracket the same call".to_owned()
            } else {
                "softirq_entry/exit are not attached".to_owned()
            });
        }
    }

    fn finish(mut self, start: &Start) -> Result<(Programs, Details)> {
        for (row, hook) in self.hooks.iter_mut().zip(HOOKS) {
            if row.status != HookStatus::Attached
                && row.via.is_none()
                && hook.name != "net_rx_action"
            {
                row.via = hook.replaced_by.map(str::to_owned);
            }
        }
        let settings = take(&mut self.ebpf, "SETTINGS")?;
        let mut settings = Array::try_from(settings)?;
        settings.set(0, PodSettings(start.settings), 0)?;
        let details = Details::new(take(&mut self.ebpf, "EVENTS")?)?;
        let counters = Counters::new(&mut self.ebpf, &self.layout)?;
        Ok((
            Programs {
                ebpf: self.ebpf,
                hooks: self.hooks,
                programs: self.programs,
                settings,
                counters,
            },
            details,
        ))
    }
}

fn unattached(hook: &Hook) -> report::Hook {
    report::Hook {
        name: hook.name.to_owned(),
        ..report::Hook::default()
    }
}

/// A map of the object by name.
pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    ebpf.take_map(name)
        .ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
}

fn attach_program(ebpf: &mut Ebpf, program: &str, hook: &str, btf: &Btf) -> Result<()> {
    let program = ebpf
        .program_mut(program)
        .ok_or_else(|| anyhow!("the eBPF object has no program {program}"))?;
    match program {
        Program::BtfTracePoint(p) => {
            p.load(hook, btf)?;
            p.attach()?;
        }
        Program::RawTracePoint(p) => {
            p.load()?;
            p.attach(hook)?;
        }
        Program::FEntry(p) => {
            p.load(hook, btf)?;
            p.attach()?;
        }
        Program::FExit(p) => {
            p.load(hook, btf)?;
            p.attach()?;
        }
        Program::KProbe(p) => {
            p.load()?;
            p.attach(hook, 0)?;
        }
        _ => return Err(anyhow!("unexpected program type")),
    }
    Ok(())
}

fn unload(ebpf: &mut Ebpf, program: &str) {
    let _ = match ebpf.program_mut(program) {
        Some(Program::FEntry(p)) => p.unload(),
        Some(Program::FExit(p)) => p.unload(),
        Some(Program::KProbe(p)) => p.unload(),
        Some(Program::BtfTracePoint(p)) => p.unload(),
        Some(Program::RawTracePoint(p)) => p.unload(),
        _ => Ok(()),
    };
}

/// The error and its causes on one line; of a verifier log only the last line that says why.
fn one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let mut lines = text.lines().map(str::trim);
    let first = lines
        .next()
        .unwrap_or_default()
        .trim_end_matches("Verifier output: 0")
        .to_owned();
    let why = lines.rfind(|line| {
        !line.is_empty()
            && !["stack depth", "processed", "verification time", ":", "max_"]
                .iter()
                .any(|statistic| line.starts_with(statistic))
    });
    match why {
        Some(why) => format!("{first} {why}"),
        None => first,
    }
}
