//! Puts both variants of the eBPF object into `OUT_DIR`, where the binary embeds them from.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use xtask::build_ebpf::{self, Facts, Toolchain, Variant};

fn main() -> ExitCode {
    let toolchain = match Facts::gather().choose() {
        Ok(toolchain) => toolchain,
        Err(error) => {
            println!("cargo::error={error:#}");
            // Cargo fails the build all the same, without dumping this program's output around the message.
            return ExitCode::SUCCESS;
        }
    };
    match build(&toolchain) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build(toolchain: &Toolchain) -> Result<()> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().context("tracer is not in a workspace")?;
    for path in ["tracer-ebpf", "tracer-common", "Cargo.lock", "Cargo.toml"] {
        rerun_if_changed(&workspace.join(path));
    }
    rerun_if_changed(&toolchain.compiler.path);
    rerun_if_changed(&toolchain.linker.path);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    build_ebpf::build(
        toolchain,
        &Variant::ALL,
        workspace,
        &out.join("bpf"),
        &out,
        &arch,
    )
}

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("cargo did not set {name}"))
}
