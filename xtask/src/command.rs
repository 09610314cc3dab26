//! Starting other programs.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use xtask::build_ebpf::find_program;

/// Root of the workspace.
pub fn workspace() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// Where cargo puts what it builds here.
pub fn target_dir() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(target)
}

/// The cargo that runs us.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// Cargo in the root of the workspace.
pub fn cargo_command() -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(workspace()).stdin(Stdio::null());
    command
}

/// Runs with stdout sent to our stderr; fails if it does.
pub fn run(command: &mut Command) -> Result<()> {
    let stderr = std::io::stderr();
    let fd = std::os::fd::AsFd::as_fd(&stderr)
        .try_clone_to_owned()
        .context("cannot duplicate stderr")?;
    let status = command
        .stdin(Stdio::null())
        .stdout(fd)
        .status()
        .with_context(|| format!("cannot start {}", words(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", words(command));
    }
    Ok(())
}

/// Standard output without the last line end; fails if the program does.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", words(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            words(command),
            output.status,
            errors.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// The command as one would type it, without its environment.
pub fn words(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether we run as root; no, if that cannot be told.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| effective_uid(&status) == Some(0))
}

/// Second number of the line `Uid:`.
fn effective_uid(status: &str) -> Option<u32> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// `program` as root: itself, or through sudo.
pub fn as_root(program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let sudo = find_program("sudo").with_context(|| {
        format!(
            "{} needs root: run as root, or install sudo",
            program.as_ref().to_string_lossy()
        )
    })?;
    let mut command = Command::new(sudo);
    command.arg("--").arg(program);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(
            effective_uid("Name:\tx\nUid:\t1000\t0\t1000\t1000\n"),
            Some(0)
        );
        assert_eq!(effective_uid("Name:\tx\n"), None);
    }
}
