//! Puts both variants of the eBPF object into `OUT_DIR`, where the binary embeds them from.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use xtask::build_ebpf;

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().context("tracer is not in a workspace")?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    for path in ["tracer-ebpf", "tracer-common", "Cargo.lock", "Cargo.toml"] {
        rerun_if_changed(&workspace.join(path));
    }
    let toolchain = build_ebpf::build(
        workspace,
        &out.join("bpf"),
        &out,
        &variable("CARGO_CFG_TARGET_ARCH")?,
    )?;
    rerun_if_changed(&toolchain.compiler.path);
    rerun_if_changed(&toolchain.linker.path);
    Ok(())
}

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("cargo did not set {name}"))
}
