//! The hooks and the mechanisms by which each can be attached, best first.

use std::{fmt, str::FromStr};

/// A way to run a program at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// Tracepoint with typed arguments; kernel 5.5, BTF.
    TpBtf,
    /// Tracepoint with untyped arguments; kernel 4.17.
    RawTp,
    /// Function entry (and exit) through a trampoline; kernel 5.5, BTF.
    Fentry,
    /// Breakpoint or ftrace at a function's entry (and return); kernel 4.1, `CONFIG_KPROBES`.
    Kprobe,
}

impl Mechanism {
    /// As `--hook` and the report spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }
}

/// One hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Tracepoint or function.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub counts: &'static str,
    /// Mechanisms, best first.
    pub mechanisms: &'static [Mechanism],
    /// What takes its place when it cannot be attached.
    pub replaced_by: Option<&'static str>,
}

impl Hook {
    /// A tracepoint, not a function.
    #[must_use]
    pub fn is_tracepoint(&self) -> bool {
        self.mechanisms[0] == Mechanism::TpBtf
    }
}

const TRACEPOINT: &[Mechanism] = &[Mechanism::TpBtf, Mechanism::RawTp];
const FUNCTION: &[Mechanism] = &[Mechanism::Fentry, Mechanism::Kprobe];

/// Index of `enqueue_to_backlog` in [`HOOKS`].
pub(super) const ENQUEUE_TO_BACKLOG: usize = 0;
/// Index of `net_rx_action`.
pub(super) const NET_RX_ACTION: usize = 1;
/// Index of `softirq_entry`.
pub(super) const SOFTIRQ_ENTRY: usize = 5;
/// Index of `softirq_exit`.
pub(super) const SOFTIRQ_EXIT: usize = 6;

/// All hooks, in the order they are attached.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "enqueue_to_backlog",
        counts: "target CPU of backlog drops",
        mechanisms: FUNCTION,
        replaced_by: Some("softnet_stat"),
    },
    Hook {
        name: "net_rx_action",
        counts: "NET_RX runs",
        mechanisms: FUNCTION,
        replaced_by: Some("softirq_entry/exit"),
    },
    Hook {
        name: "irq_handler_entry",
        counts: "begin of hard IRQ handlers",
        mechanisms: TRACEPOINT,
        replaced_by: None,
    },
    Hook {
        name: "irq_handler_exit",
        counts: "hard IRQs and their time",
        mechanisms: TRACEPOINT,
        replaced_by: Some("/proc/interrupts"),
    },
    Hook {
        name: "softirq_raise",
        counts: "how long NET_RX waits",
        mechanisms: TRACEPOINT,
        replaced_by: None,
    },
    Hook {
        name: "softirq_entry",
        counts: "softirq runs",
        mechanisms: TRACEPOINT,
        replaced_by: Some("/proc/softirqs"),
    },
    Hook {
        name: "softirq_exit",
        counts: "softirq time",
        mechanisms: TRACEPOINT,
        replaced_by: None,
    },
    Hook {
        name: "napi_poll",
        counts: "packets per poll and device",
        mechanisms: TRACEPOINT,
        replaced_by: None,
    },
    Hook {
        name: "kfree_skb",
        counts: "dropped packets by site and reason",
        mechanisms: TRACEPOINT,
        replaced_by: Some("softnet_stat and device counters"),
    },
];

/// What the user wants of one hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best mechanism that attaches.
    #[default]
    Auto,
    /// This one or none.
    Only(Mechanism),
    /// Not at all.
    Off,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s {
            "auto" => Self::Auto,
            "off" => Self::Off,
            "tp_btf" => Self::Only(Mechanism::TpBtf),
            "raw_tp" => Self::Only(Mechanism::RawTp),
            "fentry" => Self::Only(Mechanism::Fentry),
            "kprobe" => Self::Only(Mechanism::Kprobe),
            _ => {
                return Err(format!(
                    "unknown mechanism '{s}'; known: auto, tp_btf, raw_tp, fentry, kprobe, off"
                ));
            }
        })
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indices_of_hooks_name_the_hooks_they_say() {
        assert_eq!(HOOKS[ENQUEUE_TO_BACKLOG].name, "enqueue_to_backlog");
        assert_eq!(HOOKS[NET_RX_ACTION].name, "net_rx_action");
        assert_eq!(HOOKS[SOFTIRQ_ENTRY].name, "softirq_entry");
        assert_eq!(HOOKS[SOFTIRQ_EXIT].name, "softirq_exit");
    }
}
