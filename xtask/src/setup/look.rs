//! What is missing, by looking only: nothing is started that takes long, nothing is downloaded.

use std::{collections::HashSet, path::Path, process::Command};

use anyhow::Result;
use xtask::build_ebpf::{Facts, find_program};

use super::requirements::{Have, Kind, Purpose, Requirement, needed};
use crate::command;

/// What `purpose` needs and this machine lacks, in the order of the table.
pub fn missing(purpose: Purpose) -> Result<Vec<&'static Requirement>> {
    let needed: Vec<_> = needed(purpose, have()).collect();
    let packages = needed
        .iter()
        .filter(|requirement| requirement.kind == Kind::Apt);
    let installed = installed(packages.map(|requirement| requirement.name));
    let mut missing = Vec::new();
    for requirement in needed {
        let present = match requirement.kind {
            Kind::Apt => installed.contains(requirement.name) || stands_in(requirement.name),
            Kind::Cargo { version, .. } => has_version(requirement.name, version),
            Kind::Component { program } => {
                Path::new(&sysroot()?).join("bin").join(program).exists()
            }
        };
        if !present {
            missing.push(requirement);
        }
    }
    Ok(missing)
}

fn have() -> Have {
    let facts = Facts::gather();
    let compiler = !facts.compilers.is_empty();
    // Too old a linker is as good as none; without a compiler there is nothing to be too old for.
    let linker = facts.linker.is_some() && (!compiler || facts.choose().is_ok());
    Have { compiler, linker }
}

/// Those of `packages` that dpkg says are installed; none where there is no dpkg.
fn installed<'a>(packages: impl Iterator<Item = &'a str>) -> HashSet<String> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"])
        .args(packages);
    // It fails when one of them is unknown, and still prints the others.
    query.output().map_or_else(
        |_| HashSet::new(),
        |output| parse(&String::from_utf8_lossy(&output.stdout)),
    )
}

fn parse(status: &str) -> HashSet<String> {
    status
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .map(str::to_owned)
        .collect()
}

/// Where the package has another name, or another system has another package: the program counts.
fn stands_in(package: &str) -> bool {
    let program = match package {
        "gcc" => "cc",
        "iproute2" => "ip",
        "nftables" => "nft",
        "iptables" | "bpftrace" | "g++" | "pkg-config" => package,
        // Without dpkg there is nothing to ask; if it is missing, the link says so.
        "libc6-dev" => return find_program("dpkg-query").is_none(),
        _ => return false,
    };
    find_program(program).is_some()
}

fn has_version(program: &str, version: &str) -> bool {
    find_program(program)
        .and_then(|path| command::output(Command::new(path).arg("--version")).ok())
        .is_some_and(|words| words.split_whitespace().nth(1) == Some(version))
}

fn sysroot() -> Result<String> {
    command::output(Command::new("rustc").args(["--print", "sysroot"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_was_removed_but_not_purged_is_not_installed() {
        let installed = parse("installed gcc\nconfig-files nftables\nnot-installed iptables\n");
        assert_eq!(installed, HashSet::from(["gcc".to_owned()]));
    }
}
