//! Looks at what this host supports: privileges, BTF, symbols, settings; attaches every hook for a
//! moment to see by which mechanism it can.

use std::fmt::Display;

use crate::{
    analyze::rules::threshold::Thresholds,
    bpf::{Choice, HOOKS, Programs, may_read_kernel_memory},
    host::{Capabilities, PRIVILEGE},
    kernel::{facts::KernelFacts, symbols::Symbols},
    live,
    model::report::HookStatus,
    proc::{
        Roots,
        sysctl::{Lockdown, Sysctls},
    },
    report::doctor::{Check, CheckStatus, DoctorReport},
};

/// Examines the host. Attaches and detaches programs; leaves nothing behind.
#[must_use]
pub fn examine() -> DoctorReport {
    let roots = Roots::default();
    let sysctls = Sysctls::read(&roots);
    let kernel = KernelFacts::load(&roots);
    let mut checks = vec![
        privileges(&roots),
        btf(&kernel),
        kallsyms(&roots),
        lockdown(&sysctls),
        budget(&roots),
        statistics(&sysctls),
    ];
    let tried = if Capabilities::check().is_ok() {
        kernel
            .map_err(anyhow::Error::from)
            .and_then(|kernel| attach(&kernel))
            .map_err(|error| missing("programs", format!("{error:#}"), Some(PRIVILEGE)))
    } else {
        Err(missing(
            "programs",
            "not tried: privileges are missing",
            None,
        ))
    };
    let hooks = tried.unwrap_or_else(|check| {
        checks.push(check);
        Vec::new()
    });
    let can_run = hooks.iter().any(|h| h.status == HookStatus::Attached);
    DoctorReport {
        checks,
        hooks,
        can_run,
    }
}

fn attach(kernel: &KernelFacts) -> anyhow::Result<Vec<crate::model::report::Hook>> {
    let options = live::Options {
        interfaces: Vec::new(),
        kinds: Vec::new(),
        detail_rate: Some(0),
        ring_bytes: 1 << 16,
        drop_sites: 16,
        choices: vec![Choice::Auto; HOOKS.len()],
        thresholds: Thresholds::default(),
        log: false,
    };
    let start = live::start_parameters(&options, kernel)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _inside = runtime.enter();
    let (programs, _) = Programs::start(&start)?;
    Ok(programs.hooks())
}

fn ok(name: &str, detail: impl Display) -> Check {
    check(name, CheckStatus::Ok, detail, None)
}

fn warn(name: &str, detail: impl Display, remedy: Option<&str>) -> Check {
    check(name, CheckStatus::Warn, detail, remedy)
}

fn missing(name: &str, detail: impl Display, remedy: Option<&str>) -> Check {
    check(name, CheckStatus::Missing, detail, remedy)
}

fn check(name: &str, status: CheckStatus, detail: impl Display, remedy: Option<&str>) -> Check {
    Check {
        name: name.to_owned(),
        status,
        detail: detail.to_string(),
        remedy: remedy.map(str::to_owned),
    }
}

fn privileges(roots: &Roots) -> Check {
    let name = "privileges";
    let status = std::fs::read_to_string(roots.proc.join("self/status")).unwrap_or_default();
    let Some(capabilities) = Capabilities::parse(&status) else {
        return warn(name, "/proc/self/status shows no capabilities", None);
    };
    let lacking = capabilities.missing();
    if lacking.is_empty() {
        return ok(name, "may load eBPF programs and read kernel memory");
    }
    missing(
        name,
        format!("{} missing", lacking.join(" and ")),
        Some(PRIVILEGE),
    )
}

fn btf(kernel: &Result<KernelFacts, crate::kernel::facts::FactsError>) -> Check {
    let name = "BTF";
    match kernel {
        Err(error) => missing(
            name,
            error,
            Some("boot a kernel built with CONFIG_DEBUG_INFO_BTF=y"),
        ),
        Ok(facts) => {
            let reasons = facts.reasons.len();
            let args = facts
                .kfree_skb_args
                .map_or_else(|| "?".to_owned(), |n| n.to_string());
            let words = format!("{reasons} drop reasons; kfree_skb has {args} arguments");
            let absent = facts.offsets.absent();
            if absent.is_empty() {
                ok(name, words)
            } else {
                let words = format!("{words}; this kernel lacks {}", absent.join(", "));
                warn(name, words, None)
            }
        }
    }
}

fn kallsyms(roots: &Roots) -> Check {
    let name = "kallsyms";
    match Symbols::load(&roots.proc.join("kallsyms")) {
        Err(error) => warn(name, format!("{error}: drop sites will be addresses"), None),
        Ok(Symbols::Hidden) => warn(
            name,
            "addresses are hidden: drop sites will be addresses, not names",
            Some("sysctl kernel.kptr_restrict=1, and run as root or with CAP_SYSLOG"),
        ),
        Ok(Symbols::Table(table)) => ok(name, format!("{} functions", table.len())),
    }
}

fn lockdown(sysctls: &Sysctls) -> Check {
    let name = "lockdown";
    match &sysctls.lockdown {
        Ok(Some(Lockdown::Confidentiality)) => warn(
            name,
            "confidentiality: kernel memory is off limits, so raw_tp and packet headers are",
            Some("boot with lockdown=integrity"),
        ),
        Ok(Some(Lockdown::Integrity)) => ok(name, "integrity: no obstacle"),
        Ok(Some(Lockdown::None)) => ok(name, "off"),
        Ok(None) if Capabilities::check().is_ok() && !may_read_kernel_memory() => warn(
            name,
            "kernel memory is off limits, so raw_tp and packet headers are",
            Some("boot with lockdown=integrity"),
        ),
        Ok(None) => ok(name, "not in this kernel, or securityfs is not mounted"),
        Err(error) => warn(name, error, None),
    }
}

fn budget(roots: &Roots) -> Check {
    let name = "NET_RX budget";
    match live::budget(roots) {
        Some((packets, usecs)) => ok(
            name,
            format!("netdev_budget {packets} packets, netdev_budget_usecs {usecs}"),
        ),
        None => warn(
            name,
            "net.core.netdev_budget cannot be read here: how NET_RX runs end is unknown",
            Some("run in the host's network namespace, or with CAP_SYS_ADMIN"),
        ),
    }
}

fn statistics(sysctls: &Sysctls) -> Check {
    let name = "bpf_stats";
    match &sysctls.bpf_stats_enabled {
        Ok(0) => ok(name, "off"),
        Ok(_) => warn(
            name,
            "kernel.bpf_stats_enabled is on: every program run costs more",
            Some("sysctl kernel.bpf_stats_enabled=0"),
        ),
        Err(error) => warn(name, error, None),
    }
}
