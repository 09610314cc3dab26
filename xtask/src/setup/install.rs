//! Installs what is missing: apt-get, then `rustup component add`, then `cargo install`.

use std::{env, process::Command, thread, time::Duration};

use anyhow::{Context, Result, bail};
use xtask::build_ebpf::{clean, find_program};

use super::requirements::{Kind, LLVM_PREFIX, LLVM_PREFIX_VARIABLE, Requirement};
use crate::command;

/// How often the package lists are fetched before the old ones have to do: another apt may hold their lock.
const UPDATE_ATTEMPTS: u32 = 3;
const UPDATE_PAUSE: Duration = Duration::from_secs(10);

/// Installs all of `missing`. Output of the installers goes to stderr.
pub fn install(missing: &[&Requirement]) -> Result<()> {
    apt(missing)?;
    components(missing)?;
    for requirement in missing {
        if let Kind::Cargo { version, args } = requirement.kind {
            cargo(requirement.name, version, args)?;
        }
    }
    Ok(())
}

fn names(missing: &[&Requirement], wanted: impl Fn(Kind) -> bool) -> Vec<&'static str> {
    missing
        .iter()
        .filter(|requirement| wanted(requirement.kind))
        .map(|requirement| requirement.name)
        .collect()
}

fn apt(missing: &[&Requirement]) -> Result<()> {
    let packages = names(missing, |kind| kind == Kind::Apt);
    if packages.is_empty() {
        return Ok(());
    }
    if find_program("apt-get").is_none() {
        bail!(
            "no apt-get on this system; install by hand what corresponds to {}. \
             For the eBPF programs rustup's nightly does as well: \
             `rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker`",
            packages.join(", ")
        );
    }
    eprintln!("updating the package lists");
    for attempt in 1..=UPDATE_ATTEMPTS {
        match command::run(&mut apt_get(&["update", "-q"])?) {
            Ok(()) => break,
            // One bad source does not matter if the others have the packages.
            Err(error) if attempt == UPDATE_ATTEMPTS => {
                eprintln!("{error:#}; going on with the lists that are there");
            }
            Err(_) => thread::sleep(UPDATE_PAUSE),
        }
    }
    eprintln!("installing {} packages", packages.len());
    command::run(apt_get(&["install", "-y", "-q", "--no-install-recommends"])?.args(&packages))
        .context(
            "cannot install the packages; they are in Debian 12 and 13 with the security suite \
         (`deb http://security.debian.org/debian-security bookworm-security main`)",
        )
}

fn apt_get(args: &[&str]) -> Result<Command> {
    let mut command = command::as_root("env")?;
    command
        .args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
            // No progress bars in a log.
            "-o",
            "Dpkg::Use-Pty=0",
        ])
        .args(args);
    Ok(command)
}

fn components(missing: &[&Requirement]) -> Result<()> {
    let components = names(missing, |kind| matches!(kind, Kind::Component { .. }));
    if components.is_empty() {
        return Ok(());
    }
    let remedy = || {
        format!(
            "install {} for the Rust toolchain in use",
            components.join(" and ")
        )
    };
    let rustup = find_program("rustup").with_context(remedy)?;
    command::run(
        Command::new(rustup)
            .args(["component", "add"])
            .args(&components),
    )
    .with_context(remedy)
}

fn cargo(name: &str, version: &str, args: &[&str]) -> Result<()> {
    eprintln!("building {name} {version}; takes a minute or two");
    let mut command = Command::new(command::cargo());
    clean(&mut command);
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        command.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    if name == "bpf-linker" {
        let path = env::var_os("PATH").unwrap_or_default();
        let llvm = std::path::PathBuf::from(LLVM_PREFIX).join("bin");
        let path = env::join_paths(std::iter::once(llvm).chain(env::split_paths(&path)))?;
        command
            .env("PATH", path)
            .env(LLVM_PREFIX_VARIABLE, LLVM_PREFIX);
    }
    // Another version may be there.
    command::run(
        command
            .args(["install", "--locked", "--force", name, "--version", version])
            .args(args),
    )
    .with_context(|| format!("cannot install {name} {version}"))
}
