//! Packages of any Debian release through apt, with a source list and state of their own: this machine's apt is
//! neither read (but for the mirror it uses) nor changed. apt checks the signatures.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::command;

/// Keys of Debian's archive; package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where this machine's own sources name no mirror of Debian.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// One release, or several, with their package lists fetched.
#[derive(Debug)]
pub struct Release {
    directory: PathBuf,
    /// The last of the suites.
    preferred: Option<String>,
}

impl Release {
    /// Fetches the package lists of `suites`, divided by blanks, into `directory`. What is in more than one of them is
    /// taken from the last.
    pub fn fetch(suites: &str, directory: &Path) -> Result<Self> {
        for name in ["sources", "lists/partial", "cache/archives/partial"] {
            let path = directory.join(name);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        let mirror = mirror(&own_sources());
        let source = format!(
            "Types: deb\nURIs: {mirror}\nSuites: {suites}\nComponents: main\nArchitectures: amd64\nSigned-By: {KEYRING}\n"
        );
        fs::write(directory.join("sources/debian.sources"), source)?;
        // Nothing is installed, so that whatever a package depends on is downloaded, too.
        fs::write(directory.join("status"), "")?;
        let release = Self {
            directory: directory.to_owned(),
            preferred: suites.split_ascii_whitespace().last().map(str::to_owned),
        };
        command::run(release.apt("apt-get").args(["-qq", "update"]))
            .with_context(|| format!("cannot fetch the package lists of Debian {suites}"))?;
        Ok(release)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, value: &str| {
            command.arg("-o").arg(format!("{name}={value}"));
        };
        let at = |name: &str| self.directory.join(name).display().to_string();
        option("Dir::Etc::sourcelist", "/dev/null");
        option("Dir::Etc::sourceparts", &at("sources"));
        option("Dir::Etc::preferences", "/dev/null");
        option("Dir::Etc::preferencesparts", "/dev/null");
        option("Dir::State", &self.directory.display().to_string());
        option("Dir::State::lists", &at("lists"));
        option("Dir::State::status", &at("status"));
        option("Dir::Cache", &at("cache"));
        option("APT::Architecture", "amd64");
        if let Some(suite) = &self.preferred {
            option("APT::Default-Release", suite);
        }
        option("APT::Install-Recommends", "false");
        option("APT::Update::Error-Mode", "any");
        option("Acquire::Languages", "none");
        option("Acquire::Retries", "3");
        // The directory need not be one that apt's own user may enter.
        option("APT::Sandbox::User", "root");
        option("Dpkg::Use-Pty", "0");
        command
    }

    /// Packages that `package` depends on directly.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = command::output(self.apt("apt-cache").args(["depends", package]))?;
        Ok(depends(&text))
    }

    /// Downloads `packages`, without what they depend on, and unpacks them into `root`.
    pub fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let debs = self.directory.join("debs");
        recreate(&debs)?;
        command::run(
            self.apt("apt-get")
                .args(["-qq", "download"])
                .args(packages)
                .current_dir(&debs),
        )?;
        unpack_all(&debs, root)
    }

    /// Downloads `packages` and everything that they depend on, and unpacks it into `root`.
    pub fn unpack_closure(&self, packages: &[&str], root: &Path) -> Result<()> {
        command::run(
            self.apt("apt-get")
                .args(["-qq", "-y", "--download-only", "install"])
                .args(packages),
        )?;
        let archives = self.directory.join("cache/archives");
        unpack_all(&archives, root)
    }

    /// Removes what was fetched.
    pub fn clear(self) -> Result<()> {
        fs::remove_dir_all(&self.directory)
            .with_context(|| format!("cannot remove {}", self.directory.display()))
    }
}

fn unpack_all(debs: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(debs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            unpack(&path, root)?;
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Unpacks one package into `root`; nothing is installed.
pub fn unpack(deb: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
    command::run(Command::new("dpkg").arg("-x").arg(deb).arg(root))
}

/// Makes `directory` an empty one.
pub fn recreate(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}

/// All of this machine's source lists, one after the other.
fn own_sources() -> String {
    let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let parts = fs::read_dir("/etc/apt/sources.list.d");
    for entry in parts.into_iter().flatten().flatten() {
        text.push('\n');
        text.push_str(&fs::read_to_string(entry.path()).unwrap_or_default());
    }
    text
}

/// The first mirror of Debian's main archive that sources of either format name.
fn mirror(sources: &str) -> String {
    sources
        .lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_ascii_whitespace)
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .unwrap_or(DEFAULT_MIRROR)
        .to_owned()
}

fn depends(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            line.trim_start_matches([' ', '|'])
                .strip_prefix("Depends: ")
        })
        .map(str::to_owned)
        .collect()
}

/// This machine must be able to do all this.
pub fn check_machine() -> Result<()> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the kernels are those of x86_64, this is {}",
        std::env::consts::ARCH
    );
    ensure!(
        Path::new(KEYRING).exists(),
        "no {KEYRING}: install the package debian-archive-keyring"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_machines_own_list_in_either_format() {
        let deb822 = "Types: deb\n# http://snapshot.example/debian\nURIs: http://a.example/debian/\nSuites: x\n";
        assert_eq!(mirror(deb822), "http://a.example/debian/");
        let list = "# deb http://no.example/debian x main\ndeb [arch=amd64] https://b.example/debian bookworm main\n";
        assert_eq!(mirror(list), "https://b.example/debian");
    }

    #[test]
    fn other_archives_are_no_mirror_of_debian() {
        let list = "deb http://archive.example/ubuntu noble main\ndeb http://a.example/debian-security x main\n";
        assert_eq!(mirror(list), DEFAULT_MIRROR);
    }

    #[test]
    fn only_what_a_package_depends_on_is_taken() {
        let text =
            "linux-image-amd64\n  Depends: linux-image-6.1\n |Depends: a\n  Recommends: b\n    c\n";
        assert_eq!(depends(text), ["linux-image-6.1", "a"]);
    }
}
