//! QEMU and the programs of the guest, from a Debian release of their own choice, unpacked and run in place with
//! their own C library: what this machine has installed does not matter.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::apt::{self, Release};
use crate::command;

/// The first Debian release whose QEMU has the `igb` network card, and what was built for it later.
const SUITES: &str = "trixie trixie-backports";
/// What is unpacked, with all that it depends on.
const PACKAGES: &[&str] = &[
    // With the release's own, 10.0, 3 of 32 boots hung or stalled: an emulated CPU slept through its timer.
    "qemu-system-x86",
    "bash",
    "coreutils",
    "dash",
    "iproute2",
    "irqbalance",
    "kmod",
    // kmod loads it when it meets a module that is compressed.
    "liblzma5",
    "mawk",
    "netbase",
    "nftables",
    // For ps and sysctl.
    "procps",
    "redis-server",
    "util-linux",
];

const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The unpacked packages.
#[derive(Clone, Debug)]
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// Downloads and unpacks them into `directory`, unless that has been done before.
    pub fn prepare(directory: &Path, offline: bool) -> Result<Self> {
        let root = directory.join("tools");
        let complete = directory.join("tools.complete");
        let wanted = format!("{SUITES} {}", PACKAGES.join(" "));
        if fs::read_to_string(&complete).is_ok_and(|text| text == wanted) {
            return Ok(Self { root });
        }
        super::needs_network(offline, "QEMU")?;
        eprintln!("fetching QEMU and the programs of the guest from Debian {SUITES}");
        apt::recreate(&root)?;
        let release = Release::fetch(SUITES, &directory.join("apt-tools"))?;
        release.unpack_closure(PACKAGES, &root)?;
        release.clear()?;
        fs::write(&complete, wanted)?;
        Ok(Self { root })
    }

    /// A file of the packages.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A command that runs one of the programs with its own libraries.
    pub fn program(&self, path: &str) -> Command {
        let mut command = self.loader();
        let name = path.rsplit('/').next().unwrap_or(path);
        command.args(["--argv0", name]).arg(self.path(path));
        command
    }

    fn loader(&self) -> Command {
        let mut command = Command::new(self.path(LOADER));
        command.arg("--library-path").arg(self.path(LIBRARIES));
        command
    }

    /// Paths, relative to the root, of the libraries that a program needs, the loader included.
    pub fn libraries(&self, path: &str) -> Result<BTreeSet<String>> {
        let text = command::output(self.loader().arg("--list").arg(self.path(path)))?;
        let root = self.root.to_str().context("the path is no UTF-8")?;
        let mut libraries: BTreeSet<_> = listed(&text, root).collect();
        libraries.insert(LOADER.to_owned());
        Ok(libraries)
    }
}

/// Libraries under `root` in what the loader lists, relative to it.
fn listed(text: &str, root: &str) -> impl Iterator<Item = String> {
    let prefix = format!("{root}/");
    text.split_ascii_whitespace()
        .filter_map(move |word| Some(word.strip_prefix(&prefix)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_the_loader_finds_in_the_packages() {
        let text = "\tlinux-vdso.so.1 (0x7ff)\n\tlibmnl.so.0 => /t/tools/usr/lib/libmnl.so.0 (0x7f)\n\t/t/tools/usr/lib64/ld.so (0x7)\n";
        let listed: Vec<_> = listed(text, "/t/tools").collect();
        assert_eq!(listed, ["usr/lib/libmnl.so.0", "usr/lib64/ld.so"]);
    }
}
