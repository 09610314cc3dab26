//! `cargo xtask setup`: looks for what is missing, names it, installs it.

mod install;
mod look;
mod requirements;

use anyhow::{Result, bail};

pub use requirements::Purpose;
use requirements::{Kind, Requirement};

/// Makes sure that everything for `purpose` is there. With `offline` it only looks: it names what is
/// missing and fails if anything is. Returns how many things it installed.
pub fn setup(purpose: Purpose, offline: bool) -> Result<usize> {
    let missing = look::missing(purpose)?;
    if missing.is_empty() {
        return Ok(0);
    }
    eprint!("{}", list(&missing));
    if offline {
        bail!(
            "{} missing (--offline: nothing installed); run `cargo xtask setup --for {}` with a network",
            things(missing.len()),
            name(purpose)
        );
    }
    install::install(&missing)?;
    let left = look::missing(purpose)?;
    if left.is_empty() {
        eprintln!("installed {}", things(missing.len()));
        return Ok(missing.len());
    }
    eprint!("{}", list(&left));
    bail!(
        "{} still missing after installing; see above",
        things(left.len())
    );
}

fn things(count: usize) -> String {
    if count == 1 {
        "1 thing".to_owned()
    } else {
        format!("{count} things")
    }
}

const fn name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Run => "run",
        Purpose::Test => "test",
        Purpose::Dist => "dist",
        Purpose::Bench => "bench",
    }
}

/// One line each: where it comes from, its name, what it is for.
fn list(missing: &[&Requirement]) -> String {
    use std::fmt::Write;
    let width = missing
        .iter()
        .map(|requirement| requirement.name.len())
        .max()
        .unwrap_or_default();
    missing
        .iter()
        .fold("missing:\n".to_owned(), |mut text, requirement| {
            let from = match requirement.kind {
                Kind::Apt => "apt",
                Kind::Cargo { .. } => "cargo",
                Kind::Component { .. } => "rustup",
            };
            let _ = writeln!(
                text,
                "  {from:<6} {:<width$}  {}",
                requirement.name, requirement.why
            );
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_listed_with_its_source_and_reason() {
        let requirement = Requirement {
            name: "nftables",
            kind: Kind::Apt,
            when: requirements::When::Test,
            why: "a drop",
        };
        assert_eq!(
            list(&[&requirement]),
            "missing:\n  apt    nftables  a drop\n"
        );
    }
}
