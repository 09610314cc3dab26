//! Whether this is a virtual machine, and of whom.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

use crate::proc::{Roots, error::read_fact};

/// By the beginning of `sys_vendor` and of `product_name` in /sys/class/dmi/id.
const MACHINES: [(&str, &str, &str); 14] = [
    ("Amazon EC2", "", "amazon"),
    ("Google", "Google Compute Engine", "google"),
    ("Microsoft Corporation", "Virtual Machine", "microsoft"),
    ("Alibaba Cloud", "Alibaba Cloud ECS", "alibaba"),
    ("DigitalOcean", "", "digitalocean"),
    ("OpenStack", "", "openstack"),
    ("VMware", "", "vmware"),
    ("innotek GmbH", "VirtualBox", "virtualbox"),
    ("Xen", "", "xen"),
    ("Nutanix", "AHV", "nutanix"),
    ("Parallels", "", "parallels"),
    ("", "KVM", "kvm"),
    ("QEMU", "", "kvm"),
    ("", "BHYVE", "bhyve"),
];

/// A virtual machine of somebody whose name is not known.
const NAMELESS: &str = "unknown";

/// Name of the hypervisor: `<sys>/hypervisor/type`, else that of the machine's maker, else [`NAMELESS`] where the CPU
/// has the flag `hypervisor` (x86). `None`: no sign of one.
#[must_use]
pub fn read(roots: &Roots) -> Option<String> {
    let dmi = |name| read_fact(&roots.sys.join("class/dmi/id").join(name)).unwrap_or_default();
    read_fact(&roots.sys.join("hypervisor/type"))
        .or_else(|| of_machine(&dmi("sys_vendor"), &dmi("product_name")).map(str::to_owned))
        .or_else(|| has_flag(&roots.proc.join("cpuinfo")).then(|| NAMELESS.to_owned()))
}

fn of_machine(vendor: &str, product: &str) -> Option<&'static str> {
    // A whole machine of EC2: `m5.metal`, `c7i.metal-24xl`.
    if product.contains(".metal") {
        return None;
    }
    MACHINES
        .iter()
        .find(|(a, b, _)| vendor.starts_with(a) && product.starts_with(b))
        .map(|&(_, _, name)| name)
}

/// Of the first CPU: some kernels measure each CPU's frequency for this file, which takes its time.
fn has_flag(cpuinfo: &Path) -> bool {
    let Ok(file) = std::fs::File::open(cpuinfo) else {
        return false;
    };
    BufReader::with_capacity(4096, file.take(16 * 1024))
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| Some(line.strip_prefix("flags")?.to_owned()))
        .any(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn machines_are_known_by_maker_and_product() {
        for (vendor, product, name) in [
            ("Amazon EC2", "m5.large", Some("amazon")),
            ("Amazon EC2", "c7i.metal-24xl", None),
            (
                "Microsoft Corporation",
                "Virtual Machine",
                Some("microsoft"),
            ),
            ("Microsoft Corporation", "Surface Pro", None),
            ("QEMU", "Standard PC (Q35 + ICH9, 2009)", Some("kvm")),
            ("Red Hat", "KVM", Some("kvm")),
            ("VMware, Inc.", "VMware7,1", Some("vmware")),
            ("Dell Inc.", "PowerEdge R740", None),
            ("", "", None),
        ] {
            assert_eq!(of_machine(vendor, product), name, "{vendor} {product}");
        }
    }

    #[test]
    fn the_flag_of_the_cpu_is_the_last_resort() {
        let root = tempfile::tempdir().unwrap();
        let roots = Roots {
            proc: root.path().join("proc"),
            sys: root.path().join("sys"),
            ..Roots::default()
        };
        fs::create_dir_all(roots.sys.join("class/dmi/id")).unwrap();
        fs::create_dir_all(&roots.proc).unwrap();
        let cpuinfo = roots.proc.join("cpuinfo");
        assert_eq!(read(&roots), None);
        fs::write(&cpuinfo, "processor\t: 0\nflags\t\t: fpu sse2\n\n").unwrap();
        assert_eq!(read(&roots), None);
        fs::write(
            &cpuinfo,
            "processor\t: 0\nflags\t\t: fpu hypervisor sse2\n\n",
        )
        .unwrap();
        assert_eq!(read(&roots).as_deref(), Some("unknown"));
        fs::write(roots.sys.join("class/dmi/id/sys_vendor"), "QEMU\n").unwrap();
        assert_eq!(read(&roots).as_deref(), Some("kvm"));
        fs::create_dir(roots.sys.join("hypervisor")).unwrap();
        fs::write(roots.sys.join("hypervisor/type"), "xen\n").unwrap();
        assert_eq!(read(&roots).as_deref(), Some("xen"));
    }
}
