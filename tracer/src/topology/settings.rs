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

/// For all namespaces alike, and read-only in all but the host's own.
const SHOWN_ONLY: &str = "net.netfilter.nf_conntrack_max";

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
    let mut of_host = BTreeSet::new();
    if here.len() < WHOLE_HOST.len() {
        // Also for those that no namespace has: the kernel may have been built without.
        let there = netns::in_init_netns(roots, |roots| Some(values(roots, WHOLE_HOST)));
        let there = there.unwrap_or_default();
        let elsewhere = there.keys().filter(|name| !here.contains_key(*name));
        of_host.extend(elsewhere.cloned());
        if !of_host.is_empty() && settings.contains_key(SHOWN_ONLY) {
            of_host.insert(SHOWN_ONLY.to_owned());
        }
        settings.extend(there);
    }
    settings.extend(here);
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
}
