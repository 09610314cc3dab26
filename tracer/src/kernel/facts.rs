//! What the probes and the report need to know about the running kernel, from its BTF.

use std::{collections::BTreeMap, path::Path};

use tracer_common::layout::{ABSENT, Layout};

use super::{
    btf::{Btf, BtfError, kind},
    drop_reason::DropReasons,
};
use crate::{
    bpf::HOOKS,
    proc::{ProcError, Roots},
};

/// Why the kernel's BTF could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// There is none (`CONFIG_DEBUG_INFO_BTF` is off) or it may not be read.
    #[error(transparent)]
    Read(#[from] ProcError),
    /// It is of another form.
    #[error("{path}: {source}")]
    Malformed {
        /// The file.
        path: String,
        /// What was wrong.
        source: BtfError,
    },
}

/// Facts about one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelFacts {
    /// Offsets of struct members.
    pub offsets: Offsets,
    /// Arguments of tracepoint `kfree_skb`: 2 (5.10), 3 with the reason (5.17), 4 with the receiving socket
    /// (6.11). `None` if BTF does not tell.
    pub kfree_skb_args: Option<u32>,
    /// Ids of the types that `tp_btf` and fentry programs name their hook by: typedef `btf_trace_NAME` or the function.
    /// A hook whose type is not in BTF cannot be attached so.
    pub hook_types: BTreeMap<&'static str, u32>,
    /// Tracepoint programs that would interrupt themselves are not run (6.1). Its sign is the function that counts the runs
    /// left out, made for it.
    pub guards_tracepoints: bool,
    /// Softirqs run in tasks, which may preempt each other (`PREEMPT_RT`). Its sign is `task_struct.softirq_disable_cnt`,
    /// which no other kernel has.
    pub preempt_rt: bool,
    /// Names of drop reasons.
    pub reasons: DropReasons,
}

/// Declares [`Offsets`], how it is read and how it is handed to the probes: one line a member.
macro_rules! offsets {
    ($($field:ident: $structure:literal, $path:literal;)*) => {
        /// Offsets in bytes of the members that the probes read; `None` where the kernel lacks the member.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Offsets {
            $(#[doc = concat!("`", $structure, ".", $path, "`.")] pub $field: Option<u32>,)*
        }

        impl Offsets {
            fn read(&mut self, btf: &Btf<'_>, structure: &super::btf::Type<'_>) {
                $(if self.$field.is_none() && btf.is_named(structure, $structure) {
                    self.$field = btf.member_offset(structure, $path);
                })*
            }

            fn fill(&self, layout: &mut Layout) {
                $(layout.$field = self.$field.unwrap_or(ABSENT);)*
            }

            /// Members that this kernel lacks, as `struct.member`.
            #[must_use]
            pub fn absent(&self) -> Vec<&'static str> {
                let mut absent = Vec::new();
                $(if self.$field.is_none() {
                    absent.push(concat!($structure, ".", $path));
                })*
                absent
            }
        }
    };
}

offsets! {
    skb_len: "sk_buff", "len";
    skb_dev: "sk_buff", "dev";
    skb_iif: "sk_buff", "skb_iif";
    skb_protocol: "sk_buff", "protocol";
    skb_head: "sk_buff", "head";
    skb_data: "sk_buff", "data";
    skb_network_header: "sk_buff", "network_header";
    dev_ifindex: "net_device", "ifindex";
    dev_name: "net_device", "name";
    dev_tx: "net_device", "_tx";
    txq_dev: "netdev_queue", "dev";
    dev_net: "net_device", "nd_net";
    net_inum: "net", "ns.inum";
    sock_net: "sock", "__sk_common.skc_net";
    skb_sk: "sk_buff", "sk";
    napi_dev: "napi_struct", "dev";
    napi_id: "napi_struct", "napi_id";
    irqaction_next: "irqaction", "next";
}

impl KernelFacts {
    /// Reads the running kernel's facts from `<sys>/kernel/btf`, modules that may define drop reasons
    /// included. A module that cannot be read only leaves its reasons without names.
    pub fn load(roots: &Roots) -> Result<Self, FactsError> {
        let directory = roots.sys.join("kernel/btf");
        let path = directory.join("vmlinux");
        let data = read_bytes(&path)?;
        let btf = Btf::parse(&data).map_err(|source| FactsError::Malformed {
            path: path.display().to_string(),
            source,
        })?;
        let mut facts = Self::from_btf(&btf);
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let wanted = |name: &str| name != "vmlinux" && facts.reasons.may_be_extended_by(name);
            if !name.to_str().is_some_and(wanted) {
                continue;
            }
            let Ok(data) = read_bytes(&entry.path()) else {
                continue;
            };
            if let Ok(module) = Btf::parse_module(&data, &btf) {
                facts.reasons.add(&module);
            }
        }
        Ok(facts)
    }

    /// Collects the facts from vmlinux BTF.
    #[must_use]
    pub fn from_btf(btf: &Btf<'_>) -> Self {
        let mut facts = Self {
            reasons: DropReasons::from_btf(btf),
            ..Self::default()
        };
        for (id, found) in btf.types() {
            match found.kind {
                kind::STRUCT => {
                    facts.offsets.read(btf, &found);
                    facts.preempt_rt |= btf.is_named(&found, "task_struct")
                        && btf.member_offset(&found, "softirq_disable_cnt").is_some();
                }
                kind::TYPEDEF => {
                    let name = btf.name(&found).strip_prefix("btf_trace_");
                    let hook = HOOKS
                        .iter()
                        .find(|hook| hook.is_tracepoint() && name == Some(hook.name));
                    if let Some(hook) = hook {
                        facts.hook_types.entry(hook.name).or_insert(id);
                    }
                    if name == Some("kfree_skb") {
                        facts.kfree_skb_args = tracepoint_args(btf, found.refers_to);
                    }
                }
                kind::FUNC => {
                    let hook = HOOKS
                        .iter()
                        .find(|hook| !hook.is_tracepoint() && btf.is_named(&found, hook.name));
                    if let Some(hook) = hook {
                        facts.hook_types.entry(hook.name).or_insert(id);
                    }
                    facts.guards_tracepoints |= btf.is_named(&found, "bpf_prog_inc_misses_counter");
                }
                _ => {}
            }
        }
        facts
    }

    /// Name of a drop reason of this kernel, subsystem reasons included.
    #[must_use]
    pub fn reason_name(&self, value: u32) -> Option<&str> {
        self.reasons.name(value)
    }

    /// Sets the offsets, `kfree_skb_args`, `guarded`, `preempt_rt` and `backlog_reason` of `layout`. Where BTF does not tell the number of arguments,
    /// it is 2, which every kernel has.
    pub fn fill(&self, layout: &mut Layout) {
        self.offsets.fill(layout);
        layout.kfree_skb_args = self.kfree_skb_args.unwrap_or(2);
        layout.guarded = u32::from(self.guards_tracepoints);
        layout.preempt_rt = u32::from(self.preempt_rt);
        layout.backlog_reason = self.reasons.value("CPU_BACKLOG").unwrap_or(ABSENT);
    }
}

/// Arguments of a tracepoint: typedef -> pointer -> prototype, whose first parameter is the `void *__data`
/// of whoever registered.
fn tracepoint_args(btf: &Btf<'_>, id: u32) -> Option<u32> {
    let pointer = btf.get(id).filter(|found| found.kind == kind::PTR)?;
    let prototype = btf
        .get(pointer.refers_to)
        .filter(|found| found.kind == kind::FUNC_PROTO)?;
    u32::try_from(prototype.vlen).ok()?.checked_sub(1)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ProcError> {
    std::fs::read(path).map_err(|source| ProcError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::synthetic_btf::{Writer, kernel_like};

    #[test]
    fn every_member_is_found_where_the_kernel_has_it() {
        let bytes = kernel_like();
        let facts = KernelFacts::from_btf(&Btf::parse(&bytes).unwrap());
        assert_eq!(
            facts.offsets,
            Offsets {
                skb_len: Some(40),
                skb_dev: Some(16),
                skb_iif: Some(28),
                skb_protocol: Some(24),
                skb_head: Some(48),
                skb_data: Some(64),
                skb_network_header: Some(26),
                dev_ifindex: Some(8),
                dev_name: Some(1),
                dev_tx: Some(24),
                txq_dev: Some(0),
                dev_net: Some(16),
                net_inum: Some(12),
                sock_net: Some(56),
                skb_sk: Some(56),
                napi_dev: Some(32),
                napi_id: None,
                irqaction_next: Some(24),
            }
        );
        assert_eq!(facts.offsets.absent(), ["napi_struct.napi_id"]);
    }

    #[test]
    fn the_tracepoints_arguments_are_counted_without_its_data() {
        let bytes = kernel_like();
        let facts = KernelFacts::from_btf(&Btf::parse(&bytes).unwrap());
        assert_eq!(facts.kfree_skb_args, Some(4));
    }

    #[test]
    fn hooks_and_functions_are_found_as_they_are_in_btf() {
        let bytes = kernel_like();
        let facts = KernelFacts::from_btf(&Btf::parse(&bytes).unwrap());
        let named = |name| {
            let btf = Btf::parse(&bytes).unwrap();
            let id = *facts.hook_types.get(name)?;
            Some(btf.name(&btf.get(id)?))
        };
        assert_eq!(named("net_rx_action"), Some("net_rx_action"));
        assert_eq!(named("kfree_skb"), Some("btf_trace_kfree_skb"));
        assert_eq!(named("enqueue_to_backlog"), None);
        assert!(!facts.guards_tracepoints);
        let mut guarding = Writer::default();
        guarding.refer(kind::FUNC, "bpf_prog_inc_misses_counter", 0);
        let bytes = guarding.finish();
        let facts = KernelFacts::from_btf(&Btf::parse(&bytes).unwrap());
        assert!(facts.guards_tracepoints);
    }

    #[test]
    fn a_kernel_is_real_time_if_its_tasks_count_their_disabled_softirqs() {
        let real_time = |member: &str| {
            let mut writer = Writer::default();
            let int = writer.int();
            for structure in ["task_struct", "other"] {
                let member = if structure == "other" {
                    "softirq_disable_cnt"
                } else {
                    member
                };
                writer.structure(kind::STRUCT, structure, &[(member, int, 64)], false);
            }
            let bytes = writer.finish();
            let facts = KernelFacts::from_btf(&Btf::parse(&bytes).unwrap());
            let mut layout = Layout::UNKNOWN;
            facts.fill(&mut layout);
            (facts.preempt_rt, layout.preempt_rt)
        };
        assert_eq!(real_time("softirq_disable_cnt"), (true, 1));
        assert_eq!(real_time("migration_disabled"), (false, 0));
    }

    #[test]
    fn a_kernel_without_any_of_it_has_no_facts() {
        let bytes = Writer::default().finish();
        let facts = KernelFacts::from_btf(&Btf::parse(&bytes).unwrap());
        assert_eq!(facts, KernelFacts::default());
        assert_eq!(facts.offsets.absent().len(), 18);
    }

    #[test]
    fn facts_are_loaded_from_sysfs_with_the_reasons_of_modules() {
        let sys = tempfile::tempdir().unwrap();
        let directory = sys.path().join("kernel/btf");
        std::fs::create_dir_all(&directory).unwrap();
        let roots = Roots {
            sys: sys.path().into(),
            ..Roots::default()
        };
        let missing = KernelFacts::load(&roots).unwrap_err().to_string();
        assert!(missing.contains("kernel/btf/vmlinux"), "{missing}");
        let vmlinux = crate::kernel::synthetic_btf::kernel_like_writer();
        let mut module = Writer::continuing(&vmlinux);
        module.enumeration("ovs_drop_reason", &[("OVS_DROP_METER", 3 << 16 | 5)]);
        std::fs::write(directory.join("vmlinux"), vmlinux.finish()).unwrap();
        std::fs::write(directory.join("openvswitch"), module.finish()).unwrap();
        std::fs::write(directory.join("mac80211"), "mangled").unwrap();
        let facts = KernelFacts::load(&roots).unwrap();
        assert_eq!(facts.reason_name(3 << 16 | 5), Some("OVS_DROP_METER"));
        std::fs::write(directory.join("vmlinux"), "mangled").unwrap();
        let malformed = KernelFacts::load(&roots).unwrap_err().to_string();
        assert!(
            malformed.contains("kernel/btf/vmlinux: no BTF"),
            "{malformed}"
        );
    }

    #[test]
    fn this_hosts_kernel_has_the_members_of_every_supported_kernel() {
        let roots = Roots::default();
        if !roots.sys.join("kernel/btf/vmlinux").exists() {
            eprintln!("skipped: this kernel has no BTF");
            return;
        }
        let facts = KernelFacts::load(&roots).unwrap();
        let absent = facts.offsets.absent();
        assert!(
            absent.iter().all(|member| *member == "napi_struct.napi_id"),
            "{absent:?}"
        );
        assert!(
            facts
                .kfree_skb_args
                .is_some_and(|args| (2..=8).contains(&args))
        );
    }
}
