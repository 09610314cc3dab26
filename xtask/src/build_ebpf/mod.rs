//! Builds crate `tracer-ebpf` for `bpfel-unknown-none` with the toolchain that is there.
//!
//! The object comes in two variants: without log lines, and with them for `tracer -vv`.

mod environment;
mod toolchain;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

pub use environment::{clean, find_program};
pub use toolchain::{Compiler, Facts, Linker, MIN_RUSTC, Toolchain, Way};

/// Compilation target: eBPF, little endian.
pub const TARGET: &str = "bpfel-unknown-none";
/// Cargo profile of the object, in the root Cargo.toml.
const PROFILE: &str = "bpf";
/// The crate, and the name that cargo gives its main object.
const CRATE: &str = "tracer-ebpf";

/// What the object contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The probes.
    Plain,
    /// The probes with log lines (aya-log).
    Log,
    /// Programs that do nothing, for `cargo xtask bench`.
    Floor,
}

impl Variant {
    /// Both that are part of tracer.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Log];

    /// Name of the object file.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Plain => "tracer-ebpf",
            Self::Log => "tracer-ebpf-log",
            Self::Floor => "floor",
        }
    }

    /// The name that cargo gives the object.
    const fn binary(self) -> &'static str {
        match self {
            Self::Plain | Self::Log => CRATE,
            Self::Floor => "floor",
        }
    }

    const fn cargo_args(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["--bin", CRATE],
            Self::Log => &["--bin", CRATE, "--features", "log"],
            Self::Floor => &["--bin", "floor", "--features", "floor"],
        }
    }
}

/// Builds `variants` of the workspace at `workspace` into `out_dir`, for kernels of `arch`
/// (as Rust names it, for example `x86_64`), with cargo's intermediate files in `target_dir`.
///
/// An object that did not change is not written again. Fails when the crate does not compile;
/// the compiler's words are on stderr then.
pub fn build(
    toolchain: &Toolchain,
    variants: &[Variant],
    workspace: &Path,
    target_dir: &Path,
    out_dir: &Path,
    arch: &str,
) -> Result<()> {
    eprintln!("building the eBPF object with {toolchain}");
    fs::create_dir_all(out_dir).with_context(|| format!("cannot create {}", out_dir.display()))?;
    for &variant in variants {
        let status = command(toolchain, workspace, target_dir, arch, variant)?
            .status()
            .context("cannot start cargo for the eBPF object")?;
        if !status.success() {
            bail!("{CRATE} does not compile for {TARGET} with {toolchain}; the compiler says why");
        }
        let built = target_dir.join(TARGET).join(PROFILE).join(variant.binary());
        copy_if_changed(&built, &out_dir.join(variant.file_name()))?;
    }
    Ok(())
}

/// The nested cargo. It must not see the settings of the cargo, clippy or rust-analyzer around it.
fn command(
    toolchain: &Toolchain,
    workspace: &Path,
    target_dir: &Path,
    arch: &str,
    variant: Variant,
) -> Result<Command> {
    let mut command = match toolchain.compiler.way {
        Way::Debian => {
            let mut command = Command::new(cargo()?);
            clean(&mut command);
            // aya-ebpf and tracer-ebpf use unstable features, and this is a release compiler.
            command
                .env("RUSTC", &toolchain.compiler.path)
                .env("RUSTC_BOOTSTRAP", "1")
                .arg("build");
            command
        }
        Way::Nightly => {
            let mut command = Command::new(&toolchain.compiler.path);
            clean(&mut command);
            command.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
            command
        }
    };
    let linker = toolchain
        .linker
        .path
        .to_str()
        .context("the path of bpf-linker is not UTF-8")?;
    let rustflags = [
        "--cfg",
        &format!("bpf_target_arch=\"{arch}\""),
        "-C",
        &format!("linker={linker}"),
        "-C",
        "link-arg=--btf",
        // Arithmetic and jumps of 32 bits (5.1): without them every u32 costs two shifts.
        "-C",
        "target-cpu=v3",
    ]
    .join("\x1f");
    command
        .current_dir(workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags)
        .args([
            "--locked",
            "--package",
            CRATE,
            "--profile",
            PROFILE,
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(target_dir)
        .args(variant.cargo_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Ok(command)
}

/// The cargo that runs us, or the one on PATH.
fn cargo() -> Result<PathBuf> {
    std::env::var_os("CARGO")
        .map(PathBuf::from)
        .filter(|path| path.file_stem().is_some_and(|stem| stem == "cargo"))
        .or_else(|| find_program("cargo"))
        .context("no cargo: neither in $CARGO nor on PATH nor in ~/.cargo/bin")
}

/// Keeps the modification time of an object that is the same, so that cargo does not rebuild what embeds it.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}
