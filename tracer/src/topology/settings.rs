//! The settings under /proc/sys that rules look at.

use std::collections::{BTreeMap, BTreeSet};

use crate::proc::{Roots, error::read_fact, netns};

/// Kept by each network namespace on its own.
const OWN: [&str; 6] = [
    "net.core.somaxconn",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_count",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_syncookies",
];

/// Of the whole host. Most kernels show them in the host's own network namespace alone.
const WHOLE_HOST: [&str; 10] = [
    "net.core.netdev_max_backlog",
    "net.core.netdev_budget",
    "net.core.netdev_budget_usecs",
    "net.core.dev_weight",
    "net.core.flow_limit_cpu_bitmap",
    "net.core.flow_limit_table_len",
    "net.core.rps_sock_flow_entries",
    "net.core.rmem_max",
    "net.core.rmem_default",
    "net.ipv4.udp_mem",
];

/// For all namespaces alike, and read-only in all but the host's own, where these show them at all: the socket buffers
/// since 6.12 (`sysctl_core_net_init`).
const SHOWN_ONLY: [&str; 3] = [
    "net.netfilter.nf_conntrack_max",
    "net.core.rmem_max",
    "net.core.rmem_default",
];

/// What [`read`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Those that can be read, by dotted name.
    pub values: BTreeMap<String, String>,
    /// Of these, those that only the host's own network namespace can change, where tracer runs in another.
    pub of_host: BTreeSet<String>,
}

/// Reads them.
#[must_use]
pub fn read(roots: &Roots) -> Settings {
    let mut settings = values(roots, OWN);
    let here = values(roots, WHOLE_HOST);
    let is_all = here.len() == WHOLE_HOST.len();
    settings.extend(here);
    let mut of_host = BTreeSet::new();
    if !is_all {
        // Also for those that no namespace has: the kernel may have been built without.
        let there = netns::in_init_netns(roots, |roots| Some(values(roots, WHOLE_HOST)));
        let there = there.unwrap_or_default();
        of_host = only_of_host(&settings, &there);
        for (name, value) in there {
            settings.entry(name).or_insert(value);
        }
    }
    let missing: Vec<_> = OWN
        .into_iter()
        .chain(WHOLE_HOST)
        .filter(|&name| !settings.contains_key(name))
        .collect();
    if !missing.is_empty() {
        log::info!("settings that cannot be read: {}", missing.join(", "));
    }
    Settings {
        values: settings,
        of_host,
    }
}

/// What only the host's own network namespace can change, if that is not the one that has `here`: what `there` alone is
/// shown, or read-only here.
fn only_of_host(
    here: &BTreeMap<String, String>,
    there: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let elsewhere = there.keys().filter(|name| !here.contains_key(*name));
    let mut only: BTreeSet<String> = elsewhere.cloned().collect();
    if !only.is_empty() {
        let shown = SHOWN_ONLY.into_iter().map(str::to_owned);
        only.extend(shown.filter(|name| here.contains_key(name)));
    }
    only
}

fn values<const N: usize>(roots: &Roots, names: [&str; N]) -> BTreeMap<String, String> {
    let value = |name: &str| read_fact(&roots.proc.join("sys").join(name.replace('.', "/")));
    names
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), value(name)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_absent_and_hides_nothing() {
        let root = tempfile::tempdir().unwrap();
        let roots = Roots {
            proc: root.path().into(),
            ..Roots::default()
        };
        for (file, value) in [
            ("sys/net/core/rmem_max", "212992\n"),
            ("sys/net/core/netdev_max_backlog", ""),
            ("sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let settings = read(&roots).values;
        assert_eq!(settings.len(), 2);
        assert_eq!(settings["net.core.rmem_max"], "212992");
        assert_eq!(settings["net.ipv4.tcp_rmem"], "4096\t131072\t6291456");
    }

    #[test]
    fn what_another_namespace_shows_read_only_is_changed_in_the_hosts() {
        let with = |names: &[&str]| -> BTreeMap<String, String> {
            let named = |name: &&str| ((*name).to_owned(), "1".to_owned());
            names.iter().map(named).collect()
        };
        let backlog = "net.core.netdev_max_backlog";
        let here = with(&["net.core.rmem_max", "net.core.somaxconn"]);
        let there = with(&["net.core.rmem_max", backlog]);
        let only = only_of_host(&here, &there);
        assert_eq!(
            only.iter().collect::<Vec<_>>(),
            [backlog, "net.core.rmem_max"]
        );
        // The host's own namespace shows nothing that this one does not: it is this one.
        assert!(only_of_host(&there, &there).is_empty());
    }
}
