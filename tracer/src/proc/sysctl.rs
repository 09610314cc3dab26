//! Settings under /proc/sys that the measurement or the diagnosis depends on, and lockdown.

use std::path::Path;

use super::{
    error::{ParseError, ProcError, read},
    roots::Roots,
};

/// Each setting on its own: what cannot be read names its path and does not hide the others.
///
/// `net/core/netdev_*` exist in the host's own network namespace only.
#[derive(Debug)]
pub struct Sysctls {
    /// `net.core.netdev_budget`: packets of one `NET_RX` run.
    pub netdev_budget: Result<u32, ProcError>,
    /// `net.core.netdev_budget_usecs`: time of one `NET_RX` run, µs (4.12).
    pub netdev_budget_usecs: Result<u32, ProcError>,
    /// `net.core.netdev_max_backlog`: packets that a CPU's backlog holds.
    pub netdev_max_backlog: Result<u32, ProcError>,
    /// `kernel.kptr_restrict`: 1 hides kernel addresses without `CAP_SYSLOG`, 2 from everybody.
    pub kptr_restrict: Result<u32, ProcError>,
    /// `kernel.bpf_stats_enabled`: the kernel counts and times program runs (5.1).
    pub bpf_stats_enabled: Result<u32, ProcError>,
    /// `kernel.perf_event_paranoid`: −1 allows everybody everything.
    pub perf_event_paranoid: Result<i32, ProcError>,
    /// /sys/kernel/security/lockdown; `None` where the kernel has no lockdown or securityfs is not mounted.
    pub lockdown: Result<Option<Lockdown>, ProcError>,
}

/// `net.core.netdev_budget` (packets) and `netdev_budget_usecs`; `None` outside the host's own
/// network namespace.
#[must_use]
pub fn netdev_budget(roots: &Roots) -> Option<(u32, u32)> {
    let core = roots.proc.join("sys/net/core");
    let number = |name: &str| read_value(&core.join(name), parse_number).ok();
    Some((number("netdev_budget")?, number("netdev_budget_usecs")?))
}

/// Lockdown level: `lockdown_read` in security/lockdown/lockdown.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lockdown {
    /// Off.
    None,
    /// User space may not change the running kernel.
    Integrity,
    /// Nor read its memory: `bpf_probe_read_kernel` is refused.
    Confidentiality,
}

impl Sysctls {
    /// Reads all of them.
    #[must_use]
    pub fn read(roots: &Roots) -> Self {
        let sys = roots.proc.join("sys");
        let number = |name: &str| read_value(&sys.join(name), parse_number);
        Self {
            netdev_budget: number("net/core/netdev_budget"),
            netdev_budget_usecs: number("net/core/netdev_budget_usecs"),
            netdev_max_backlog: number("net/core/netdev_max_backlog"),
            kptr_restrict: number("kernel/kptr_restrict"),
            bpf_stats_enabled: number("kernel/bpf_stats_enabled"),
            perf_event_paranoid: read_value(&sys.join("kernel/perf_event_paranoid"), parse_number),
            lockdown: absent_is_none(read_value(
                &roots.sys.join("kernel/security/lockdown"),
                parse_lockdown,
            )),
        }
    }
}

/// Reads `path` and names it in the error of `parse`.
fn read_value<T>(
    path: &Path,
    parse: impl Fn(&str) -> Result<T, ParseError>,
) -> Result<T, ProcError> {
    parse(&read(path)?).map_err(|mut error| {
        error.file = path.display().to_string().into();
        error.into()
    })
}

fn absent_is_none<T>(value: Result<T, ProcError>) -> Result<Option<T>, ProcError> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Parses a file that holds one decimal number.
pub fn parse_number<T: std::str::FromStr>(text: &str) -> Result<T, ParseError> {
    let text = text.trim();
    text.parse()
        .map_err(|_| ParseError::new("sysctl", 1, format!("`{text}` is no number in range")))
}

/// Parses `none [integrity] confidentiality`: the level in brackets is in force.
pub fn parse_lockdown(text: &str) -> Result<Lockdown, ParseError> {
    let active = text.split_whitespace().find_map(|word| {
        word.strip_prefix('[')
            .and_then(|word| word.strip_suffix(']'))
    });
    match active {
        Some("none") => Ok(Lockdown::None),
        Some("integrity") => Ok(Lockdown::Integrity),
        Some("confidentiality") => Ok(Lockdown::Confidentiality),
        _ => Err(ParseError::new(
            "lockdown",
            1,
            format!("no known level in brackets in `{}`", text.trim()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lockdown_level_is_the_one_in_brackets() {
        let level = |text| parse_lockdown(text).unwrap();
        assert_eq!(level("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(
            level("none [integrity] confidentiality\n"),
            Lockdown::Integrity
        );
        assert_eq!(
            level("none integrity [confidentiality]"),
            Lockdown::Confidentiality
        );
        assert!(parse_lockdown("none integrity").is_err());
        assert!(parse_lockdown("[later]").is_err());
    }

    #[test]
    fn an_unreadable_setting_names_its_path_and_leaves_the_others() {
        let root = tempfile::tempdir().unwrap();
        let core = root.path().join("sys/net/core");
        fs::create_dir_all(&core).unwrap();
        fs::write(core.join("netdev_budget"), "300\n").unwrap();
        fs::write(core.join("netdev_max_backlog"), "many\n").unwrap();
        let roots = Roots {
            proc: root.path().into(),
            sys: root.path().into(),
            ..Roots::default()
        };
        let sysctls = Sysctls::read(&roots);
        assert_eq!(sysctls.netdev_budget.unwrap(), 300);
        let missing = sysctls.netdev_budget_usecs.unwrap_err();
        assert!(missing.is_not_found());
        assert!(missing.to_string().contains("net/core/netdev_budget_usecs"));
        let malformed = sysctls.netdev_max_backlog.unwrap_err().to_string();
        assert!(
            malformed.contains("net/core/netdev_max_backlog"),
            "{malformed}"
        );
        assert_eq!(sysctls.lockdown.unwrap(), None);
    }

    #[test]
    fn perf_event_paranoid_may_be_negative() {
        assert_eq!(parse_number::<i32>("-1\n").unwrap(), -1);
    }

    #[test]
    fn this_hosts_budget_is_read() {
        assert!(Sysctls::read(&Roots::default()).kptr_restrict.is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(?s).*", close in "[\\[\\]a-z ]{0,40}") {
            let _ = parse_lockdown(&text);
            let _ = parse_lockdown(&close);
            let _ = parse_number::<u32>(&text);
        }
    }
}
