//! What of a host can be changed, by which name, and when two of its values are the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::proc::cpus::{number, parse_list, parse_mask};

/// One thing that can be set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Setting {
    /// A file of /proc/sys by its dotted name; one of [`SYSCTLS`].
    Sysctl {
        /// `net.core.netdev_max_backlog`.
        name: String,
    },
    /// `/proc/irq/N/smp_affinity_list`, of whoever has the number.
    IrqAffinity {
        /// IRQ number.
        irq: u32,
    },
    /// The same, as long as it is the interrupt of these handlers: numbers are given again.
    VectorAffinity {
        /// IRQ number.
        irq: u32,
        /// Handler names as in /proc/interrupts.
        action: String,
    },
    /// `/sys/class/net/DEVICE/queues/rx-N/rps_cpus`, a mask.
    RpsCpus {
        /// Device.
        device: String,
        /// Receive queue.
        queue: u32,
    },
    /// `/sys/class/net/DEVICE/queues/rx-N/rps_flow_cnt`.
    RpsFlowCount {
        /// Device.
        device: String,
        /// Receive queue.
        queue: u32,
    },
    /// Entries of the receive ring (ethtool netlink `RINGS_SET`, 5.7).
    Ring {
        /// Device.
        device: String,
    },
    /// Combined channels, or receive channels where it has no combined ones (ethtool netlink `CHANNELS_SET`, 5.7).
    Channels {
        /// Device.
        device: String,
    },
    /// CPUs that the threads of a process may run on: a list for all, or that of the first and then `TID=LIST` for each.
    Process {
        /// Process id.
        pid: u32,
        /// `comm`: it must not have become another process.
        name: String,
        /// When it started, ticks since boot; filled in when the plan is applied.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start: Option<u64>,
    },
    /// IRQs that the running irqbalance leaves alone: numbers with blanks between them.
    IrqbalanceBans {
        /// Its process.
        pid: u32,
    },
}

/// Entries of the flow table of RFS, whatever the device.
pub(crate) const FLOW_ENTRIES: &str = "net.core.rps_sock_flow_entries";

/// The only sysctls that are ever written.
pub const SYSCTLS: [&str; 4] = [
    "net.core.netdev_max_backlog",
    "net.core.netdev_budget",
    "net.core.netdev_budget_usecs",
    FLOW_ENTRIES,
];

/// A setting and the value that it should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What to set.
    pub setting: Setting,
    /// To what.
    pub to: String,
}

/// Whether two lists of handlers, as /proc/interrupts prints them, have one in common: a shared line gains and loses some.
#[must_use]
pub fn share_a_handler(one: &str, other: &str) -> bool {
    one.split(", ")
        .any(|name| other.split(", ").any(|of| of == name))
}

impl Setting {
    /// A sysctl.
    #[must_use]
    pub fn sysctl(name: &str) -> Self {
        Self::Sysctl {
            name: name.to_owned(),
        }
    }

    /// Whether the kernel has taken what was `written`, given what it shows `now`.
    #[must_use]
    pub fn same(&self, written: &str, now: &str) -> bool {
        let (a, b) = (written, now);
        match self {
            Self::RpsCpus { .. } => equal(a, b, |text| parse_mask(text).ok()),
            Self::IrqAffinity { .. } | Self::VectorAffinity { .. } => {
                equal(a, b, |text| parse_list(text).ok())
            }
            Self::IrqbalanceBans { .. } => equal(a, b, irqs),
            Self::RpsFlowCount { .. } => equal(a, b, flows),
            Self::Sysctl { name } if name == FLOW_ENTRIES => equal(a, b, flows),
            Self::Process { .. } => threads_are(&[a], b),
            _ => a.split_whitespace().eq(b.split_whitespace()),
        }
    }

    /// Whether `now` is what the kernel makes of `written` while only some CPUs are `online`: the masks of RPS and processes
    /// lose the others. Without a CPU left that is no value.
    #[must_use]
    pub fn same_online(&self, written: &str, now: &str, online: Option<&BTreeSet<u32>>) -> bool {
        if self.same(written, now) {
            return true;
        }
        let Some(((written, now), online)) = self.lists(written).zip(self.lists(now)).zip(online)
        else {
            return false;
        };
        let is_left = |given: &Vec<u32>, cpus: &Vec<u32>| {
            let left = given.iter().filter(|cpu| online.contains(cpu));
            !cpus.is_empty() && left.eq(cpus)
        };
        now.iter().all(|(tid, cpus)| {
            let given = written.get(tid).or_else(|| written.get(&None));
            given.is_some_and(|given| is_left(given, cpus))
        })
    }

    /// CPUs of a list in `value` of which none is `online`: the kernel refuses it, or takes it for no CPU at all. Of a
    /// process only the threads count that it has `now`: the others have ended, and get no CPUs any more.
    #[must_use]
    pub fn offline(
        &self,
        value: &str,
        now: &str,
        online: Option<&BTreeSet<u32>>,
    ) -> Option<Vec<u32>> {
        let online = online?;
        let given = self.lists(value)?;
        let there = self.lists(now).unwrap_or_else(|| given.clone());
        let lists = there
            .keys()
            .filter_map(|tid| given.get(tid).or_else(|| given.get(&None)));
        let mut lists = lists.filter(|cpus| !cpus.is_empty());
        let offline = lists.find(|cpus| !cpus.iter().any(|cpu| online.contains(cpu)));
        offline.cloned()
    }

    /// The CPU lists of `value`: those of a process by thread, else one under `None`.
    fn lists(&self, value: &str) -> Option<BTreeMap<Option<u32>, Vec<u32>>> {
        match self {
            Self::Process { .. } => threads(value),
            _ => Some([(None, self.cpus(value)?)].into()),
        }
    }

    /// Whether what is there `now` was put there by who wrote the `known` values: of a process each thread on its own,
    /// since it can be interrupted between two of them.
    #[must_use]
    pub fn is_one_of(&self, known: &[&str], now: &str) -> bool {
        match self {
            Self::Process { .. } => threads_are(known, now),
            _ => known.iter().any(|value| self.same(value, now)),
        }
    }

    /// `value` for people: one list for all threads of a process where they agree.
    #[must_use]
    pub fn brief(&self, value: &str) -> String {
        let Self::Process { .. } = self else {
            return value.to_owned();
        };
        let first = value.split_whitespace().next().unwrap_or_default();
        let mut others = value.split_whitespace().skip(1);
        let agrees = |word: &str| word.split_once('=').is_some_and(|(_, list)| list == first);
        if others.all(agrees) {
            first.to_owned()
        } else {
            format!("{first}, other threads differently")
        }
    }

    /// CPUs that `value` names; `None` if it is about none.
    #[must_use]
    pub fn cpus(&self, value: &str) -> Option<Vec<u32>> {
        match self {
            Self::RpsCpus { .. } => parse_mask(value).ok(),
            Self::IrqAffinity { .. } | Self::VectorAffinity { .. } => parse_list(value).ok(),
            Self::Process { .. } => {
                let mut cpus = threads(value)?.into_values().flatten().collect::<Vec<_>>();
                cpus.sort_unstable();
                cpus.dedup();
                Some(cpus)
            }
            _ => None,
        }
    }

    /// The device, a name in a network namespace, that it belongs to; `None`: to the host.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::RpsCpus { device, .. }
            | Self::RpsFlowCount { device, .. }
            | Self::Ring { device }
            | Self::Channels { device } => Some(device),
            _ => None,
        }
    }

    /// The IRQ whose affinity it is.
    #[must_use]
    pub fn irq(&self) -> Option<u32> {
        match self {
            Self::IrqAffinity { irq } | Self::VectorAffinity { irq, .. } => Some(*irq),
            _ => None,
        }
    }

    /// Whether it is what irqbalance leaves alone.
    #[must_use]
    pub fn is_bans(&self) -> bool {
        matches!(self, Self::IrqbalanceBans { .. })
    }

    /// Whether a new ring or other channels of a device undo it, or it is one of these.
    #[must_use]
    pub fn is_reset_with_its_device(&self) -> bool {
        self.resets_others()
            || self.irq().is_some()
            || matches!(self, Self::RpsCpus { .. } | Self::RpsFlowCount { .. })
    }

    /// Whether writing it may undo what was written to the vectors and queues of its device.
    #[must_use]
    pub fn resets_others(&self) -> bool {
        matches!(self, Self::Ring { .. } | Self::Channels { .. })
    }

    /// Whether it is named by a number that means something else after the next boot.
    #[must_use]
    pub fn is_of_one_boot(&self) -> bool {
        self.irq().is_some() || matches!(self, Self::IrqbalanceBans { .. } | Self::Process { .. })
    }

    /// Refuses what is no such setting or value: a plan is a file that somebody may have written by hand.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let fail = |what: &str| Err(format!("{self}: {what}"));
        if let Self::Sysctl { name } = self
            && !SYSCTLS.contains(&name.as_str())
        {
            return fail("not a setting that tracer changes");
        }
        let is_name = |name: &str| {
            !matches!(name, "" | "." | "..") && !name.contains('/') && !name.contains('\0')
        };
        if self.device().is_some_and(|name| !is_name(name)) {
            return fail("not a device's name");
        }
        let is_value = match self {
            Self::RpsCpus { .. } => parse_mask(value).is_ok(),
            Self::IrqAffinity { .. } | Self::VectorAffinity { .. } | Self::Process { .. } => {
                self.cpus(value).is_some_and(|cpus| !cpus.is_empty())
            }
            Self::IrqbalanceBans { .. } => irqs(value).is_some(),
            _ => number(value).is_some(),
        };
        if is_value {
            Ok(())
        } else {
            fail(&format!("`{value}` is no value for it"))
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { name } => write!(f, "/proc/sys/{}", name.replace('.', "/")),
            Self::IrqAffinity { irq } | Self::VectorAffinity { irq, .. } => {
                write!(f, "/proc/irq/{irq}/smp_affinity_list")
            }
            Self::RpsCpus { device, queue } => {
                write!(f, "/sys/class/net/{device}/queues/rx-{queue}/rps_cpus")
            }
            Self::RpsFlowCount { device, queue } => {
                write!(f, "/sys/class/net/{device}/queues/rx-{queue}/rps_flow_cnt")
            }
            Self::Ring { device } => write!(f, "receive ring of {device}"),
            Self::Channels { device } => write!(f, "channels of {device}"),
            Self::Process { pid, name, .. } => write!(f, "CPUs of {name} (pid {pid})"),
            Self::IrqbalanceBans { pid } => write!(f, "IRQs banned from irqbalance (pid {pid})"),
        }
    }
}

fn equal<T: PartialEq>(a: &str, b: &str, parse: impl Fn(&str) -> Option<T>) -> bool {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a.trim() == b.trim(),
    }
}

/// Entries of the table that the kernel makes for this many: a power of two, or none for 0 (`rps_sock_flow_sysctl`,
/// `store_rps_dev_flow_table_cnt`).
fn flows(text: &str) -> Option<u32> {
    match number(text.trim())? {
        0 => Some(0),
        entries => entries.checked_next_power_of_two(),
    }
}

/// Numbers with blanks between them, in order.
pub(crate) fn irqs(text: &str) -> Option<Vec<u32>> {
    let numbers: Option<Vec<u32>> = text.split_whitespace().map(number).collect();
    let mut numbers = numbers?;
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

/// CPUs by thread; under `None` those of every thread that is not named.
pub(crate) fn threads(text: &str) -> Option<BTreeMap<Option<u32>, Vec<u32>>> {
    let words = text.split_whitespace().map(|word| {
        Some(match word.split_once('=') {
            Some((tid, list)) => (Some(number(tid)?), parse_list(list).ok()?),
            None => (None, parse_list(word).ok()?),
        })
    });
    words.collect()
}

/// Whether each thread that is there `now` has the CPUs that one of `known` gives it; threads come and go.
fn threads_are(known: &[&str], now: &str) -> bool {
    let Some(now) = threads(now) else {
        return known.contains(&now);
    };
    let known: Vec<_> = known.iter().filter_map(|value| threads(value)).collect();
    now.iter().all(|(tid, cpus)| {
        let mut given = known
            .iter()
            .filter_map(|map| map.get(tid).or_else(|| map.get(&None)));
        given.any(|given| given == cpus)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_line_that_gains_a_handler_is_still_the_same_interrupt() {
        assert!(share_a_handler("ehci_hcd:usb1", "ehci_hcd:usb1, eth0"));
        assert!(!share_a_handler("eth0-rx-0", "eth0-rx-1"));
        assert!(!share_a_handler("nvme0q1", "eth0, nvme0q10"));
    }

    fn process() -> Setting {
        Setting::Process {
            pid: 812,
            name: "redis-server".into(),
            start: None,
        }
    }

    #[test]
    fn a_mask_is_the_same_however_wide_it_is_printed() {
        let rps = Setting::RpsCpus {
            device: "eth0".into(),
            queue: 0,
        };
        assert!(rps.same("c", "00000000,0000000c"));
        assert!(rps.same("0", "00"));
        assert!(!rps.same("c", "d"));
    }

    #[test]
    fn a_flow_table_is_the_same_once_the_kernel_has_rounded_it() {
        let of_queue = Setting::RpsFlowCount {
            device: "eth0".into(),
            queue: 0,
        };
        for flows in [of_queue, Setting::sysctl(FLOW_ENTRIES)] {
            assert!(flows.same("10922", "16384"));
            assert!(flows.same("16384", "16384\n"));
            assert!(!flows.same("10922", "8192"));
            assert!(flows.same("0", "0"));
            assert!(!flows.same("0", "1"));
        }
        let other = Setting::sysctl("net.core.netdev_budget");
        assert!(!other.same("300", "512"));
    }

    #[test]
    fn threads_are_compared_one_by_one() {
        let process = process();
        let original = "0-3 812=0-3 813=1";
        assert!(process.same("0-3", "0-3"));
        assert!(process.same(original, original));
        assert!(process.same(original, "0-3 812=0-3"), "813 has ended");
        assert!(!process.same(original, "0-3 812=0-3 813=0-3"));
        assert!(process.same("2", "2 812=2 813=2 814=2"));
        assert!(!process.same("2", "2 812=2 813=3"));
        let half = "2 812=2 813=1";
        assert!(!process.same(original, half) && !process.same("2", half));
        assert!(process.is_one_of(&[original, "2"], half));
        assert!(!process.is_one_of(&[original, "2"], "2 812=2 813=0"));
        assert_eq!(process.brief("2 812=2 813=2"), "2");
    }

    #[test]
    fn cpus_that_are_offline_are_missing_from_what_was_written() {
        let online: BTreeSet<u32> = [0, 1].into();
        let some = Some(&online);
        let rps = Setting::RpsCpus {
            device: "eth0".into(),
            queue: 0,
        };
        assert!(rps.same_online("f", "3", some) && !rps.same_online("f", "3", None));
        assert!(!rps.same_online("f", "1", some) && !rps.same_online("c", "0", some));
        assert!(rps.same_online("0", "00", some));
        assert!(Setting::IrqAffinity { irq: 1 }.same_online("0-3", "0-1", some));
        let original = "0-3 812=0-3 813=1-2";
        assert!(process().same_online(original, "0-1 812=0-1 813=1", some));
        assert!(!process().same_online(original, "0-1 812=0-1 813=0", some));
        assert!(!Setting::sysctl("net.core.netdev_budget").same_online("3", "1", some));
        assert_eq!(rps.offline("c", "1", some), Some(vec![2, 3]));
        assert_eq!(rps.offline("0", "1", some), None);
        let offline = |now| process().offline("0-3 813=2", now, some);
        assert_eq!(offline("1 812=1 813=1"), Some(vec![2]));
        assert_eq!(offline("1 812=1 814=1"), None, "813 has ended");
        assert_eq!(process().offline("2", "1 812=1", some), Some(vec![2]));
        assert_eq!(process().offline("2", "1", None), None);
    }

    #[test]
    fn a_plan_cannot_name_other_files() {
        let ring = |device: &str| Setting::Ring {
            device: device.into(),
        };
        assert!(Setting::sysctl("kernel.core_pattern").check("1").is_err());
        assert!(ring("../..").check("512").is_err());
        assert!(ring("eth0").check("-1").is_err());
        assert!(ring("eth0").check("512").is_ok());
        assert!(Setting::IrqAffinity { irq: 1 }.check("").is_err());
        assert!(process().check("1-0").is_err());
    }
}
