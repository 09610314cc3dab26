//! The kernel's types as far as aya wants them: to attach a `tp_btf` or fentry program it looks up one id by name. Parsing
//! all of /sys/kernel/btf/vmlinux for that took 30 ms and 20 MB here.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::{Btf, Endianness};

use super::hook::HOOKS;
use crate::kernel::btf::kind;

/// `struct btf_type` of a pointer to nothing.
const FILLER: [u32; 3] = [0, (kind::PTR as u32) << 24, 0];

/// BTF in which the types of the hooks have the ids given, and every other type up to the last of them is a pointer
/// to nothing.
pub(super) fn of_hooks(ids: &BTreeMap<&'static str, u32>) -> Result<Btf> {
    let last = ids.values().max().copied().unwrap_or(0);
    let mut types = vec![FILLER; last as usize];
    let mut strings = vec![0];
    for hook in HOOKS {
        let index = ids.get(hook.name).and_then(|id| id.checked_sub(1));
        let Some(named) = index.and_then(|index| types.get_mut(index as usize)) else {
            continue;
        };
        let (kind, prefix) = if hook.is_tracepoint() {
            (kind::TYPEDEF, "btf_trace_")
        } else {
            (kind::FUNC, "")
        };
        *named = [u32::try_from(strings.len())?, u32::from(kind) << 24, 0];
        strings.extend([prefix.as_bytes(), hook.name.as_bytes(), &[0]].concat());
    }
    let types = types.as_flattened();
    let type_bytes = u32::try_from(size_of_val(types))?;
    let string_bytes = u32::try_from(strings.len())?;
    // `struct btf_header`: magic, version 1 and its length, then where types and strings are behind it.
    let mut bytes = [0xeb9f_u16.to_ne_bytes(), [1, 0]].concat();
    let header = [24, 0, type_bytes, type_bytes, string_bytes];
    bytes.extend(
        header
            .iter()
            .chain(types)
            .flat_map(|word| word.to_ne_bytes()),
    );
    bytes.extend(strings);
    Btf::parse(&bytes, Endianness::default()).context("cannot describe the hooks to aya")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{btf, facts::KernelFacts};

    #[test]
    fn hooks_have_the_ids_of_the_kernel() {
        let ids = BTreeMap::from([("kfree_skb", 7), ("net_rx_action", 3), ("napi_poll", 900)]);
        let bytes = of_hooks(&ids).unwrap().to_bytes();
        let found = KernelFacts::from_btf(&btf::Btf::parse(&bytes).unwrap());
        assert_eq!(found.hook_types, ids);
    }

    #[test]
    fn a_kernel_without_any_hook_is_described_too() {
        let bytes = of_hooks(&BTreeMap::new()).unwrap().to_bytes();
        assert_eq!(btf::Btf::parse(&bytes).unwrap().types().count(), 0);
    }
}
