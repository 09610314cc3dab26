//! Names of drop reasons: `enum skb_drop_reason` (5.17) and those of subsystems (6.4), whose number is in
//! the upper 16 bits. Reasons moved between kernels, hence only the running kernel's BTF knows them.

use std::collections::BTreeMap;

use super::btf::{Btf, kind};

const PREFIX: &str = "SKB_DROP_REASON_";
const SUBSYS_PREFIX: &str = "SKB_DROP_REASON_SUBSYS_";

/// Names by value. Empty before 5.17.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropReasons {
    names: BTreeMap<u32, Box<str>>,
    subsystems: Vec<Box<str>>,
}

impl DropReasons {
    /// Collects the reasons that vmlinux defines.
    #[must_use]
    pub fn from_btf(btf: &Btf<'_>) -> Self {
        let mut reasons = Self::default();
        reasons.add(btf);
        reasons
    }

    /// Adds the reasons of one BTF file; a value that is known keeps its name.
    pub fn add(&mut self, btf: &Btf<'_>) {
        for (_, found) in btf.types() {
            if !matches!(found.kind, kind::ENUM | kind::ENUM64) {
                continue;
            }
            match btf.name(&found) {
                "skb_drop_reason" => btf.enumerators(&found).for_each(|(name, value)| {
                    let name = name.strip_prefix(PREFIX).unwrap_or(name);
                    if !matches!(name, "MAX" | "SUBSYS_MASK") {
                        self.insert(value, name);
                    }
                }),
                "skb_drop_reason_subsys" => self.subsystems.extend(
                    btf.enumerators(&found)
                        .filter_map(|(name, _)| name.strip_prefix(SUBSYS_PREFIX))
                        .filter(|name| !matches!(*name, "CORE" | "NUM"))
                        .map(Into::into),
                ),
                // mac80211 also has an enumeration of the same values with underscores before each name.
                name if name.ends_with("drop_reason") => {
                    for (name, value) in btf.enumerators(&found) {
                        let name = name.trim_start_matches('_');
                        if value >> 16 != 0 && !name.ends_with("_MAX") {
                            self.insert(value, name);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn insert(&mut self, value: u32, name: &str) {
        if !name.is_empty() {
            self.names.entry(value).or_insert_with(|| name.into());
        }
    }

    /// Number of the reason `name`, spelled as [`Self::name`] gives it.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<u32> {
        let found = self
            .names
            .iter()
            .find(|(_, known)| known.as_ref() == name)?;
        Some(*found.0)
    }

    /// The reason's name without `SKB_DROP_REASON_` (`NO_SOCKET`); a subsystem's as it is (`OVS_DROP_METER`).
    #[must_use]
    pub fn name(&self, value: u32) -> Option<&str> {
        self.names.get(&value).map(AsRef::as_ref)
    }

    /// True if module `module` (as in /sys/kernel/btf) may define reasons: a subsystem bears its name.
    #[must_use]
    pub fn may_be_extended_by(&self, module: &str) -> bool {
        let module = module.to_ascii_uppercase();
        self.subsystems.iter().any(|name| {
            name.strip_prefix(module.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        })
    }

    /// Number of named reasons.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True before 5.17.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::synthetic_btf::{Writer, kernel_like, kernel_like_writer};

    #[test]
    fn core_reasons_lose_their_prefix_and_bounds_are_no_reasons() {
        let bytes = kernel_like();
        let reasons = DropReasons::from_btf(&Btf::parse(&bytes).unwrap());
        assert_eq!(reasons.name(3), Some("NO_SOCKET"));
        assert_eq!(reasons.name(0), Some("SKB_NOT_DROPPED_YET"));
        assert_eq!(reasons.name(4), None);
        assert_eq!(reasons.name(0xffff_0000), None);
        assert_eq!(reasons.name(0x1_0000), None);
        assert_eq!(reasons.len(), 4);
    }

    #[test]
    fn a_subsystems_reasons_keep_their_names() {
        let mut writer = kernel_like_writer();
        let ovs = 3 << 16;
        writer.enumeration(
            "ovs_drop_reason",
            &[
                ("__OVS_DROP_REASON", ovs),
                ("OVS_DROP_LAST_ACTION", ovs + 1),
                ("OVS_DROP_MAX", ovs + 2),
            ],
        );
        let bytes = writer.finish();
        let reasons = DropReasons::from_btf(&Btf::parse(&bytes).unwrap());
        assert_eq!(reasons.name(ovs + 1), Some("OVS_DROP_LAST_ACTION"));
        assert_eq!(reasons.name(ovs + 2), None);
    }

    #[test]
    fn a_module_adds_its_reasons_with_names_that_continue_those_of_vmlinux() {
        let vmlinux_writer = kernel_like_writer();
        let mut module_writer = Writer::continuing(&vmlinux_writer);
        module_writer.enumeration(
            "___mac80211_drop_reason",
            &[("___RX_DROP_U_MIC_FAIL", 0x1_0001), ("___RX_CONTINUE", 1)],
        );
        let (vmlinux, module) = (vmlinux_writer.finish(), module_writer.finish());
        let vmlinux = Btf::parse(&vmlinux).unwrap();
        let mut reasons = DropReasons::from_btf(&vmlinux);
        assert!(reasons.may_be_extended_by("mac80211"));
        assert!(reasons.may_be_extended_by("openvswitch"));
        assert!(!reasons.may_be_extended_by("mac80211_hwsim"));
        assert!(!reasons.may_be_extended_by("core"));
        reasons.add(&Btf::parse_module(&module, &vmlinux).unwrap());
        assert_eq!(reasons.name(0x1_0001), Some("RX_DROP_U_MIC_FAIL"));
        assert_eq!(reasons.name(1), Some("SKB_CONSUMED"));
    }
}
