//! Commands for a root shell (POSIX sh) and their undoing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::case::Case;
use crate::{
    model::{finding::Advice, topology::RxQueue},
    report::number::ranges,
};

/// A word of a command. Names of devices and control groups come from whoever made them.
pub(crate) fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:@%+,/=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// CPUs as a list: `0-3,8`.
pub(super) fn list(cpus: &[u32]) -> String {
    ranges(cpus.iter().copied())
}

/// CPUs as a mask of the kernel's bitmaps: `f`, `1,00000000`.
pub(crate) fn mask(cpus: &[u32]) -> String {
    let mut words: BTreeMap<u32, u32> = BTreeMap::new();
    for cpu in cpus {
        *words.entry(cpu / 32).or_default() |= 1 << (cpu % 32);
    }
    let Some((last, first)) = words.last_key_value() else {
        return "0".to_owned();
    };
    // The kernel knows no more than 8,192 CPUs.
    let mut out = format!("{first:x}");
    for word in (0..(*last).min(256)).rev() {
        let _ = write!(out, ",{:08x}", words.get(&word).unwrap_or(&0));
    }
    out
}

/// Writes each CPU list to the affinity of its IRQ.
pub(super) fn affinity(lists: &[(u32, String)]) -> String {
    if let [(irq, cpus)] = lists {
        return format!("echo {cpus} > /proc/irq/{irq}/smp_affinity_list");
    }
    let pairs: Vec<_> = lists
        .iter()
        .map(|(irq, cpus)| format!("{irq}:{cpus}"))
        .collect();
    format!(
        "for v in {}; do echo ${{v#*:}} > /proc/irq/${{v%%:*}}/smp_affinity_list; done",
        pairs.join(" ")
    )
}

/// A file of every receive queue of `device`: the command that writes `value`, and the one that writes what `now`
/// says is there.
pub(super) fn rx_queues(
    case: Case<'_>,
    device: &str,
    file: &str,
    value: &str,
    now: impl Fn(&RxQueue) -> Option<String>,
) -> (String, Option<String>) {
    let dir = format!("/sys/class/net/{}/queues", quote(device));
    let all = |value: &str| format!("for q in {dir}/rx-*; do echo {value} > $q/{file}; done");
    let one = |queue: u32, value: &str| format!("echo {value} > {dir}/rx-{queue}/{file}");
    let Some(queues) = case.host.devices.get(device).map(|nic| &nic.rx_queues) else {
        return (all(value), None);
    };
    let before: Option<Vec<(u32, String)>> = queues
        .iter()
        .map(|(queue, state)| Some((*queue, now(state)?)))
        .collect();
    let before = before.filter(|before| !before.is_empty());
    let revert = before.map(|before| {
        let (_, first) = &before[0];
        match before.as_slice() {
            [(queue, value)] => one(*queue, value),
            rows if rows.iter().all(|(_, value)| value == first) => all(first),
            rows => {
                let each: Vec<_> = rows
                    .iter()
                    .map(|(queue, value)| one(*queue, value))
                    .collect();
                each.join("; ")
            }
        }
    });
    let command = match queues.keys().copied().collect::<Vec<_>>().as_slice() {
        [queue] => one(*queue, value),
        _ => all(value),
    };
    (command, revert)
}

/// Sets a sysctl, where it can be set.
pub(super) fn sysctl(case: Case<'_>, name: &str, value: &str) -> String {
    let value = if value.contains(char::is_whitespace) {
        format!("\"{value}\"")
    } else {
        value.to_owned()
    };
    let enter = if case.host.host_sysctls.contains(name) {
        "nsenter -t 1 -n "
    } else {
        ""
    };
    format!("{enter}sysctl -w {name}={value}")
}

/// Whether a network namespace is called so: one without a name has its inode number, and cannot be entered by it.
pub(super) fn is_netns_name(name: &str) -> bool {
    !name.chars().all(|c| c.is_ascii_digit())
}

/// In the network namespace `netns`, if it is not tracer's own.
pub(super) fn in_netns(netns: Option<&str>, command: String) -> String {
    let is_plain = |command: &str| command.split(' ').all(|word| quote(word) == word);
    match netns {
        Some(name) if is_plain(&command) => format!("ip netns exec {} {command}", quote(name)),
        Some(name) => format!("ip netns exec {} sh -c {}", quote(name), quote(&command)),
        None => command,
    }
}

/// Programs whose effect or answer depends on the network namespace they run in.
const IN_NETNS: [&str; 4] = ["ethtool", "nft", "ss", "sysctl"];

/// The commands of `advice`, also for a shell outside of tracer's network namespace, if that has a name.
pub(super) fn enter_netns(case: Case<'_>, advice: &mut Advice) {
    let Some(netns) = case.host.netns.as_deref() else {
        return;
    };
    for command in [&mut advice.command, &mut advice.revert]
        .into_iter()
        .flatten()
    {
        if writes_cgroup(command) {
            *command = format!("nsenter -t 1 -m sh -c {}", quote(command));
        } else if depends_on_netns(command) {
            *command = in_netns(Some(netns), std::mem::take(command));
        }
    }
}

/// Whether a file of a control group is written, which `ip netns exec` hides: it mounts a /sys of its own.
fn writes_cgroup(command: &str) -> bool {
    let written = command.split_once(" > ").map(|(_, file)| file);
    written.is_some_and(|file| {
        let file = file.trim_start_matches('\'');
        command.starts_with("echo ") && file.starts_with("/sys/fs/cgroup/")
    })
}

fn depends_on_netns(command: &str) -> bool {
    let entered = command.starts_with("ip netns exec ");
    let mut programs = command.split("; ").filter_map(|one| one.split(' ').next());
    !entered
        && (command.contains("/sys/class/net/")
            || programs.any(|program| IN_NETNS.contains(&program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_words_of_32_cpus() {
        assert_eq!(mask(&[]), "0");
        assert_eq!(mask(&[0, 1, 2, 3]), "f");
        assert_eq!(mask(&[31]), "80000000");
        assert_eq!(mask(&[32]), "1,00000000");
        assert_eq!(mask(&[0, 64, 65]), "3,00000000,00000001");
    }

    #[test]
    fn a_name_cannot_smuggle_a_command() {
        assert_eq!(quote("eth0.100@if3"), "eth0.100@if3");
        assert_eq!(quote("$(reboot)"), "'$(reboot)'");
        assert_eq!(quote("a'b"), r"'a'\''b'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn one_irq_is_written_plainly_and_several_in_a_loop() {
        let lists = [(24, "0".to_owned()), (25, "2-3".to_owned())];
        assert_eq!(
            affinity(&lists[..1]),
            "echo 0 > /proc/irq/24/smp_affinity_list"
        );
        assert_eq!(
            affinity(&lists),
            "for v in 24:0 25:2-3; do echo ${v#*:} > /proc/irq/${v%%:*}/smp_affinity_list; done"
        );
    }
}
