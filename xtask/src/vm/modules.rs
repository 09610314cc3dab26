//! Which modules of a kernel go into the guest: what scenarios use, and what that depends on.

use std::collections::{BTreeMap, BTreeSet};

/// Taken with everything below or beginning so: the guest's kernel loads parts of these when they are used.
const WANTED: &[&str] = &[
    // libcrc32c, which nf_tables needs, asks for these by an alias.
    "kernel/arch/x86/crypto/crc32c",
    "kernel/crypto/crc32c",
    "kernel/drivers/net/dummy",
    "kernel/drivers/net/ethernet/intel/igb/",
    "kernel/drivers/net/ethernet/realtek/8139cp",
    "kernel/drivers/net/ifb",
    "kernel/drivers/net/macvlan",
    "kernel/drivers/net/net_failover",
    "kernel/drivers/net/tun",
    "kernel/drivers/net/veth",
    "kernel/drivers/net/virtio_net",
    "kernel/drivers/net/vxlan",
    "kernel/drivers/virtio/virtio.ko",
    "kernel/drivers/virtio/virtio_pci",
    "kernel/drivers/virtio/virtio_ring",
    "kernel/net/8021q/",
    "kernel/net/bridge/bridge.",
    "kernel/net/ipv4/",
    "kernel/net/ipv6/",
    "kernel/net/netfilter/nf",
    "kernel/net/netfilter/x_tables",
    "kernel/net/netfilter/xt_",
    "kernel/net/packet/",
    "kernel/net/sched/",
    "kernel/net/unix/",
];

/// Loaded before the first scenario, where there are such; the rest comes when it is used.
pub const LOADED: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "igb",
    "8139cp",
    "veth",
    "nf_tables",
];

/// Paths below the kernel's directory of the modules for the guest, from the text of `modules.dep`.
pub fn select(modules_dep: &str) -> BTreeSet<String> {
    let dependencies: BTreeMap<&str, Vec<&str>> = modules_dep
        .lines()
        .filter_map(|line| {
            let (module, needs) = line.split_once(':')?;
            Some((module, needs.split_ascii_whitespace().collect()))
        })
        .collect();
    let mut selected = BTreeSet::new();
    for (module, needs) in &dependencies {
        if WANTED.iter().any(|prefix| module.starts_with(prefix)) {
            selected.insert((*module).to_owned());
            // depmod lists indirect ones, too.
            selected.extend(needs.iter().map(|need| (*need).to_owned()));
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_module_brings_what_it_needs_and_nothing_else_comes() {
        let text = "kernel/drivers/net/ethernet/intel/igb/igb.ko: kernel/drivers/dca/dca.ko kernel/drivers/i2c/algos/i2c-algo-bit.ko\nkernel/drivers/dca/dca.ko:\nkernel/fs/xfs/xfs.ko: kernel/lib/crc.ko\nkernel/drivers/net/veth.ko.xz:\n";
        let selected: Vec<_> = select(text).into_iter().collect();
        assert_eq!(
            selected,
            [
                "kernel/drivers/dca/dca.ko",
                "kernel/drivers/i2c/algos/i2c-algo-bit.ko",
                "kernel/drivers/net/ethernet/intel/igb/igb.ko",
                "kernel/drivers/net/veth.ko.xz",
            ]
        );
    }
}
