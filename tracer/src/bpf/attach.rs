//! Loads the object and attaches each hook by the first mechanism that the kernel takes.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf,
    maps::{Array, MapData},
    programs::{Program, ProgramError},
};
use tracer_common::layout::{Layout, Settings};

use super::{
    counters::Counters,
    hook::{
        Choice, ENQUEUE_TO_BACKLOG, HOOKS, Hook, Mechanism, NET_RX_ACTION, SOFTIRQ_ENTRY,
        SOFTIRQ_EXIT,
    },
    object::{self, PodLayout, PodSettings},
    ring::Details,
    runtime, types,
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
    /// [`KernelFacts::hook_types`](crate::kernel::KernelFacts::hook_types).
    pub hook_types: BTreeMap<&'static str, u32>,
    /// Ids of the possible CPUs, ascending.
    pub possible: Vec<u32>,
    /// Load the object with log lines.
    pub log: bool,
}

/// The attached programs. Dropping it detaches and unloads everything.
pub struct Programs {
    ebpf: Ebpf,
    hooks: Vec<report::Hook>,
    names: Vec<Vec<String>>,
    settings: Array<MapData, PodSettings>,
    /// Readers of the counter maps.
    pub counters: Counters,
}

impl Programs {
    /// Loads and attaches; a hook that cannot be attached is in [`Self::hooks`] with the reason.
    ///
    /// Fails when the kernel refuses the object or its maps.
    pub fn start(start: &Start) -> Result<(Self, Details)> {
        let mut guess = Guess {
            backlog: start.choices[ENQUEUE_TO_BACKLOG] != Choice::Off,
            by_softirq: !matches!(start.choices[NET_RX_ACTION], Choice::Only(_)),
            pair_refused: false,
        };
        let layouts = Guess::ALL.map(|guess| PodLayout(guess.layout(start.layout)));
        let mut loader = object::loader(&start.layout, start.ring_bytes, start.drop_sites);
        let btf = types::of_hooks(&start.hook_types)?;
        // A wrong guess costs a second load of the object, a few ms.
        let result = loop {
            let layout = &layouts[guess.index()];
            let mut ebpf = object::load(&mut loader, layout, start.log)?;
            let settings = ebpf.map_mut(".bss").context("the object has no .bss")?;
            Array::try_from(settings)?.set(0, PodSettings(start.settings), 0)?;
            let mut attempt = Attempt::new(ebpf, start, layout.0, &btf);
            match attempt.attach_all(guess) {
                Some(better) => guess = better,
                None => break attempt.finish(start),
            }
        };
        drop(btf);
        runtime::release_memory();
        result
    }

    /// Each hook, with how often the kernel skipped its programs so far.
    #[must_use]
    pub fn hooks(&self) -> Vec<report::Hook> {
        let mut hooks = self.hooks.clone();
        for (hook, programs) in hooks.iter_mut().zip(&self.names) {
            for name in programs {
                if let Some(status) = self.ebpf.program(name).and_then(runtime::status) {
                    hook.runs = sum(hook.runs, status.runs);
                    // Some kernels show the field for kprobes but never count there.
                    let missed = status
                        .missed
                        .filter(|_| hook.via.as_deref() != Some("kprobe"));
                    hook.missed = sum(hook.missed, missed);
                }
            }
        }
        hooks
    }

    /// Passes on settings that changed.
    pub fn set(&mut self, settings: Settings) -> Result<()> {
        self.settings
            .set(0, PodSettings(settings), 0)
            .context("cannot write the global SETTINGS")
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

/// What two of the frozen globals say before it is known what attaches.
#[derive(Clone, Copy)]
struct Guess {
    /// `enqueue_to_backlog` is hooked.
    backlog: bool,
    /// `NET_RX` runs are measured at `softirq_entry/exit`, not at `net_rx_action`.
    by_softirq: bool,
    /// `softirq_entry/exit` do not both attach. No part of what the programs are told.
    pair_refused: bool,
}

impl Guess {
    const ALL: [Self; 4] = [
        Self::of(false, false),
        Self::of(false, true),
        Self::of(true, false),
        Self::of(true, true),
    ];

    const fn of(backlog: bool, by_softirq: bool) -> Self {
        Self {
            backlog,
            by_softirq,
            pair_refused: false,
        }
    }

    /// Index in [`Self::ALL`].
    fn index(self) -> usize {
        usize::from(self.backlog) * 2 + usize::from(self.by_softirq)
    }

    /// What to load instead, `net_rx_action` not being attached though the user chose how; `None` if the pair cannot replace it.
    fn without_action(self) -> Option<Self> {
        (!self.by_softirq && !self.pair_refused).then_some(Self {
            by_softirq: true,
            ..self
        })
    }

    /// What to load instead, `softirq_entry/exit` not both being attached: a begin without an end would be a run that never
    /// ends.
    fn without_pair(self) -> Option<Self> {
        self.by_softirq.then_some(Self {
            by_softirq: false,
            pair_refused: true,
            ..self
        })
    }

    fn layout(self, layout: Layout) -> Layout {
        Layout {
            backlog_hooked: u32::from(self.backlog),
            net_rx_by_softirq: u32::from(self.by_softirq),
            ..layout
        }
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
    fn new(ebpf: Ebpf, start: &'a Start, layout: Layout, btf: &'a Btf) -> Self {
        Self {
            ebpf,
            btf,
            layout,
            choices: &start.choices,
            hooks: HOOKS.iter().map(unattached).collect(),
            programs: vec![Vec::new(); HOOKS.len()],
        }
    }

    /// Attaches every hook; or, if `guess` proves wrong, says what to load instead.
    fn attach_all(&mut self, guess: Guess) -> Option<Guess> {
        if !self.attach(ENQUEUE_TO_BACKLOG) && guess.backlog {
            return Some(Guess {
                backlog: false,
                ..guess
            });
        }
        let forced = matches!(self.choices[NET_RX_ACTION], Choice::Only(_));
        if forced || !guess.by_softirq {
            let attached = self.attach(NET_RX_ACTION);
            if forced
                && !attached
                && let Some(better) = guess.without_action()
            {
                return Some(better);
            }
        }
        // The exit first: an end without a begin is no run, but a begin whose end comes before its hook is one too many.
        self.attach(SOFTIRQ_EXIT);
        for index in (NET_RX_ACTION + 1..HOOKS.len()).filter(|index| *index != SOFTIRQ_EXIT) {
            self.attach(index);
        }
        let pair = self.attached(SOFTIRQ_ENTRY) && self.attached(SOFTIRQ_EXIT);
        if !pair && let Some(better) = guess.without_pair() {
            return Some(better);
        }
        if !self.attached(NET_RX_ACTION) {
            self.replace_net_rx_action(pair && guess.by_softirq);
        }
        None
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
        let reason = if pair {
            "not needed: softirq_entry/exit bracket the same call"
        } else {
            "softirq_entry/exit are not both attached"
        };
        match &mut row.reason {
            None => row.reason = Some(reason.to_owned()),
            Some(own) if !pair => *own = format!("{own}; {reason}"),
            Some(_) => {}
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
        let settings = take(&mut self.ebpf, ".bss")?;
        let settings = Array::try_from(settings)?;
        let details = Details::new(take(&mut self.ebpf, "EVENTS")?)?;
        let counters = Counters::new(&mut self.ebpf, &self.layout, start.possible.clone())?;
        Ok((
            Programs {
                ebpf: self.ebpf,
                hooks: self.hooks,
                names: self.programs,
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

/// What aya attaches kprobes through; there without `CONFIG_KPROBES` never.
const KPROBE_PMU: &str = "/sys/bus/event_source/devices/kprobe";

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
            if !Path::new(KPROBE_PMU).exists() {
                return Err(anyhow!(
                    "this kernel has no kprobes ({KPROBE_PMU} is missing)"
                ));
            }
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

/// Why the kernel refused, on one line; of a verifier log only the last line that says why.
fn one_line(error: &anyhow::Error) -> String {
    let text = match error.downcast_ref::<ProgramError>() {
        Some(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) => {
            format!("not loaded: {io_error}\n{verifier_log}")
        }
        _ => format!("{error:#}"),
    };
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default().to_owned();
    let why = lines.rfind(|line| {
        !line.is_empty()
            && !["stack depth", "processed", "verification time", ":", "max_"]
                .iter()
                .any(|statistic| line.starts_with(statistic))
    });
    match why {
        Some(why) => format!("{first}: {why}"),
        None => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_found_at_its_index() {
        for (index, guess) in Guess::ALL.iter().enumerate() {
            assert_eq!(guess.index(), index);
        }
    }

    #[test]
    fn a_begin_without_an_end_is_never_left_attached_as_a_run() {
        for guess in Guess::ALL {
            let Some(better) = guess.without_pair() else {
                assert!(!guess.by_softirq);
                continue;
            };
            assert!(!better.by_softirq && better.backlog == guess.backlog);
            // Nor does the search for something better come back to it.
            assert!(better.without_pair().is_none() && better.without_action().is_none());
        }
    }

    #[test]
    fn a_forced_net_rx_action_that_does_not_attach_is_replaced_by_the_pair() {
        let better = Guess::of(true, false).without_action();
        assert!(better.is_some_and(|better| better.by_softirq && better.backlog));
    }

    #[test]
    fn of_a_verifier_log_the_line_that_says_why_is_kept() {
        let log = "0: R1=ctx()\n5: (71) r1 = *(u8 *)(r2 +0)\nR2 invalid mem access 'scalar'\nprocessed 6 insns\n";
        let error = anyhow!("load failed\n{log}");
        assert_eq!(
            one_line(&error),
            "load failed: R2 invalid mem access 'scalar'"
        );
    }
}
