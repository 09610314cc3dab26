//! Whether this host can be traced at all, and what is missing if not: exit status 3.

use crate::model::report::Hook;

/// The host cannot do it. The message names what is missing and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotRun(pub String);

impl CannotRun {
    /// BTF is absent or unreadable.
    #[must_use]
    pub fn btf(error: impl std::fmt::Display) -> Self {
        Self(format!(
            "{error}; tracer needs the kernel's type information: a kernel built with CONFIG_DEBUG_INFO_BTF=y (5.4 or later)"
        ))
    }

    /// The object or its maps were refused.
    #[must_use]
    pub fn load(error: anyhow::Error) -> anyhow::Error {
        let refused = error.chain().any(|cause| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
        });
        if refused {
            return Self(format!("{error:#}; {PRIVILEGE}")).into();
        }
        error
    }

    /// No hook could be attached.
    #[must_use]
    pub fn nothing_attached(hooks: &[Hook]) -> Self {
        let mut tried: Vec<_> = hooks
            .iter()
            .filter_map(|h| Some(format!("{}: {}", h.name, h.reason.as_ref()?)))
            .collect();
        let more = tried.len().saturating_sub(2);
        tried.truncate(2);
        let more = if more > 0 {
            format!(" (and {more} more; tracer doctor lists them)")
        } else {
            String::new()
        };
        Self(format!(
            "no hook could be attached: {}{more}",
            tried.join("; ")
        ))
    }
}

/// The remedy for missing privilege.
pub const PRIVILEGE: &str = "run as root, or grant CAP_BPF, CAP_PERFMON and CAP_SYSLOG (before 5.11 also CAP_SYS_RESOURCE, before 5.8 CAP_SYS_ADMIN)";

/// Capabilities of this process that matter here; from `CapEff` in /proc/self/status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The mask.
    pub effective: u64,
}

impl Capabilities {
    const SYS_ADMIN: u32 = 21;
    const SYSLOG: u32 = 34;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;

    /// From the text of /proc/self/status; `None` if it has no `CapEff`.
    #[must_use]
    pub fn parse(status: &str) -> Option<Self> {
        let mask = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
        let effective = u64::from_str_radix(mask.trim(), 16).ok()?;
        Some(Self { effective })
    }

    fn has(self, capability: u32) -> bool {
        self.effective >> capability & 1 == 1
    }

    /// Names of those that tracing needs and this process lacks.
    #[must_use]
    pub fn missing(self) -> Vec<&'static str> {
        if self.has(Self::SYS_ADMIN) {
            return Vec::new();
        }
        let needed = [(Self::BPF, "CAP_BPF"), (Self::PERFMON, "CAP_PERFMON")];
        let lacking = needed.iter().filter(|(bit, _)| !self.has(*bit));
        lacking.map(|(_, name)| *name).collect()
    }

    /// Whether kallsyms shows addresses with `kptr_restrict=1`.
    #[must_use]
    pub fn sees_symbols(self) -> bool {
        self.has(Self::SYSLOG)
    }

    /// Fails unless programs may be loaded. A container's root may pass here and be refused later.
    pub fn check() -> Result<(), CannotRun> {
        let missing = std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|text| Self::parse(&text))
            .map(Self::missing)
            .unwrap_or_default();
        if missing.is_empty() {
            return Ok(());
        }
        Err(CannotRun(format!(
            "not allowed to load eBPF programs ({} missing); {PRIVILEGE}",
            missing.join(" and ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_that_are_missing_are_named() {
        let of = |mask: &str| Capabilities::parse(&format!("Name:\tx\nCapEff:\t{mask}\n"));
        assert_eq!(
            of("000001ffffffffff").unwrap().missing(),
            Vec::<&str>::new()
        );
        assert_eq!(
            of("0000000000000000").unwrap().missing(),
            ["CAP_BPF", "CAP_PERFMON"]
        );
        assert_eq!(of("0000008000000000").unwrap().missing(), ["CAP_PERFMON"]);
        assert_eq!(of("no mask"), None);
    }
}
