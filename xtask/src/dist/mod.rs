//! `cargo xtask dist`: one static, stripped binary that needs nothing on the host it runs on.

mod elf;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use xtask::build_ebpf::find_program;

use crate::{
    command,
    setup::{Purpose, setup},
};

/// Largest size of the binary, bytes.
const SIZE_LIMIT: u64 = 15 << 20;

/// Builds `target/dist/tracer`, checks it and prints its size and sha256.
pub fn dist(offline: bool) -> Result<()> {
    setup(Purpose::Dist, offline)?;
    let built = build_static(&["--package", "tracer"], offline)?.join("tracer");
    let directory = command::target_dir().join("dist");
    let binary = directory.join("tracer");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    fs::copy(&built, &binary)
        .with_context(|| format!("cannot copy {} to {}", built.display(), binary.display()))?;

    let bytes = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    match elf::interpreter(&bytes) {
        Ok(None) => {}
        Ok(Some(interpreter)) => {
            bail!("{} is not static: it wants {interpreter}", binary.display())
        }
        Err(error) => bail!("{}: {error}", binary.display()),
    }
    let size = bytes.len() as u64;
    if size > SIZE_LIMIT {
        bail!(
            "{} has {size} bytes, more than {SIZE_LIMIT}",
            binary.display()
        );
    }
    let version = starts_with_nothing(&binary)?;
    let sha256 = command::output(Command::new("sha256sum").arg(&binary))?;
    let sha256 = sha256.split_whitespace().next().unwrap_or_default();
    println!(
        "{}\n{version}, static\n{size} bytes\nsha256 {sha256}",
        binary.display()
    );
    Ok(())
}

/// Builds what `packages`, arguments of cargo, name, as static binaries; returns the directory that they are in.
pub fn build_static(packages: &[&str], offline: bool) -> Result<PathBuf> {
    let (mut cargo, directory) = static_cargo("build", offline)?;
    command::run(cargo.args(packages))?;
    Ok(directory)
}

/// `cargo SUBCOMMAND` for optimised static binaries, and the directory that it leaves them in.
///
/// With a target named, the flags below reach neither build scripts nor the eBPF object.
pub fn static_cargo(subcommand: &str, offline: bool) -> Result<(Command, PathBuf)> {
    let rustc = command::output(Command::new("rustc").args(["--version", "--verbose"]))?;
    let target = rustc
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not tell its host")?;
    let mut rustflags = vec!["-C".to_owned(), "target-feature=+crt-static".to_owned()];
    // What the binary knows of source files is not where they lay on this machine.
    let workspace = command::workspace();
    rustflags.push(format!("--remap-path-prefix={}=.", workspace.display()));
    if let Some(cargo_home) = find_program("cargo")
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent)
    {
        rustflags.push(format!(
            "--remap-path-prefix={}=cargo",
            cargo_home.display()
        ));
    }
    let mut cargo = command::cargo_command();
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
        .args([subcommand, "--release", "--locked", "--target", target])
        .args(offline.then_some("--offline"));
    Ok((cargo, command::target_dir().join(target).join("release")))
}

/// Runs `tracer --version` with an empty environment and, as root, in a directory where there is nothing else.
fn starts_with_nothing(binary: &Path) -> Result<String> {
    if !command::is_root() {
        return command::output(Command::new(binary).arg("--version").env_clear());
    }
    let root = binary.with_file_name("empty-root");
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    fs::copy(binary, root.join("tracer"))
        .with_context(|| format!("cannot copy to {}", root.display()))?;
    let chroot = find_program("chroot").context("no chroot on PATH")?;
    let version = command::output(
        Command::new(chroot)
            .arg(&root)
            .args(["/tracer", "--version"])
            .env_clear(),
    );
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    version
}
