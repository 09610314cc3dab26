//! What turns the programs' numbers into names: symbols, drop reasons, devices, namespaces.

use std::{cell::RefCell, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use tracer_common::counter::{DropKey, NO_REASON};

use super::stage::{stage, stage_of_reason};
use crate::model::report::Stage;

/// The running kernel's names, or a recording's.
pub trait Kernel {
    /// Function, module and offset of a return address; `None` where names are hidden or nothing is there.
    fn function(&self, return_address: u64) -> Option<Function>;
    /// Name of a drop reason without its prefix.
    fn reason(&self, number: u32) -> Option<String>;
}

/// A function that dropped a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Name, suffixes folded.
    pub name: String,
    /// Module; `None` if built in.
    pub module: Option<String>,
    /// Offset of the return address in it.
    pub offset: u64,
}

/// A drop's place and reason in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// As [`crate::model::report::Drop::site`].
    pub site: String,
    /// Name of the function alone; empty where names are hidden.
    pub function: String,
    /// As [`crate::model::report::Drop::offset`].
    pub offset: Option<u64>,
    /// As [`crate::model::report::Drop::reason`].
    pub reason: Option<String>,
    /// Stage.
    pub stage: Stage,
}

/// The core's drop reasons are below this number; 6.18 has some 130.
const CORE_REASONS: u32 = 1024;
/// Devices remembered: a host that makes and removes containers all day has no end of them.
const DEVICES: usize = 1 << 14;

/// All names that a report needs. Device names are learned from the events of other namespaces.
pub struct Names {
    kernel: Box<dyn Kernel>,
    sites: RefCell<BTreeMap<(u64, u32), Site>>,
    functions: RefCell<BTreeMap<u64, Option<Function>>>,
    /// Device names by (namespace inode, interface index).
    pub devices: BTreeMap<(u32, u32), String>,
    /// Inode of tracer's own network namespace; 0 if it could not be read.
    pub own_netns: u32,
    /// Names of /run/netns by inode, those that went away included.
    pub netns: BTreeMap<u32, String>,
    /// Those that went away.
    pub gone_netns: BTreeMap<u32, String>,
}

impl Names {
    /// Without any device or namespace.
    #[must_use]
    pub fn new(kernel: Box<dyn Kernel>) -> Self {
        Self {
            kernel,
            sites: RefCell::default(),
            functions: RefCell::default(),
            devices: BTreeMap::new(),
            own_netns: 0,
            netns: BTreeMap::new(),
            gone_netns: BTreeMap::new(),
        }
    }

    /// Takes over the names that there are now. Those that are no longer there are kept, what was counted in them is
    /// in the report; an inode number that was given out again has its new name.
    pub fn set_netns(&mut self, now: BTreeMap<u32, String>) {
        let mut gone = std::mem::take(&mut self.netns);
        gone.retain(|inode, name| now.get(inode) != Some(name));
        self.netns.clone_from(&gone);
        self.netns.extend(now);
        self.gone_netns = gone;
    }

    /// Place and reason of a drop.
    #[must_use]
    pub fn site(&self, key: &DropKey) -> Site {
        self.sites
            .borrow_mut()
            .entry((key.location, key.reason))
            .or_insert_with(|| self.look_up(key))
            .clone()
    }

    fn look_up(&self, key: &DropKey) -> Site {
        let reason = (key.reason != NO_REASON).then(|| {
            self.kernel
                .reason(key.reason)
                .unwrap_or_else(|| key.reason.to_string())
        });
        let by_reason = || {
            reason
                .as_deref()
                .and_then(stage_of_reason)
                .unwrap_or_default()
        };
        match self.function(key.location) {
            Some(Function {
                name,
                module,
                offset,
            }) => {
                let by_site = stage(&name, module.as_deref());
                Site {
                    site: match &module {
                        Some(module) => format!("{name} [{module}]"),
                        None => name.clone(),
                    },
                    function: name,
                    offset: Some(offset),
                    stage: if by_site == Stage::Other {
                        by_reason()
                    } else {
                        by_site
                    },
                    reason,
                }
            }
            None => Site {
                site: format!("{:#x}", key.location),
                // The one function that gives this reason.
                function: match reason.as_deref() {
                    Some("CPU_BACKLOG") => "enqueue_to_backlog".to_owned(),
                    _ => String::new(),
                },
                offset: None,
                stage: by_reason(),
                reason,
            },
        }
    }

    /// Looked up once: a module that is loaded again later must not change what was said.
    fn function(&self, return_address: u64) -> Option<Function> {
        let mut functions = self.functions.borrow_mut();
        let look_up = || self.kernel.function(return_address);
        let function = functions.entry(return_address).or_insert_with(look_up);
        function.clone()
    }

    /// Functions that were found so far, by return address.
    #[must_use]
    pub fn known_functions(&self) -> BTreeMap<u64, Function> {
        let functions = self.functions.borrow();
        let found = functions.iter();
        found
            .filter_map(|(address, function)| Some((*address, function.clone()?)))
            .collect()
    }

    /// Names of the core's drop reasons by number, and of all that were met so far.
    #[must_use]
    pub fn known_reasons(&self) -> BTreeMap<u32, String> {
        let sites = self.sites.borrow();
        let met = sites.keys().map(|(_, reason)| *reason);
        (0..CORE_REASONS)
            .chain(met)
            .filter_map(|number| Some((number, self.kernel.reason(number)?)))
            .collect()
    }

    /// Whether the running kernel names drop reasons at all (5.17).
    #[must_use]
    pub fn gives_reasons(&self) -> bool {
        self.has_reason_of(&["NO_SOCKET"])
    }

    /// Whether the running kernel has one of these drop reasons.
    #[must_use]
    pub fn has_reason_of(&self, names: &[&str]) -> bool {
        let known = |number| self.kernel.reason(number);
        let mut known = (0..CORE_REASONS).filter_map(known);
        known.any(|name| names.contains(&name.as_str()))
    }

    /// Device of a drop or NAPI instance; `None` for index 0.
    #[must_use]
    pub fn device(&self, netns: u32, ifindex: u32) -> Option<String> {
        if ifindex == 0 {
            return None;
        }
        let name = self.devices.get(&(netns, ifindex)).cloned();
        Some(name.unwrap_or_else(|| format!("if{ifindex}")))
    }

    /// Namespace as the report names it: `None` for tracer's own and where it is unknown.
    #[must_use]
    pub fn netns(&self, inode: u32) -> Option<String> {
        if inode == 0 || inode == self.own_netns {
            return None;
        }
        let name = self.netns.get(&inode).cloned();
        Some(name.unwrap_or_else(|| inode.to_string()))
    }

    /// Remembers what the device is called; an empty name is none. For tracer's own namespace it only
    /// fills gaps: there the kernel tells the current names.
    pub fn learn(&mut self, netns: u32, ifindex: u32, name: &[u8; 16]) {
        let length = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        if let Ok(name) = std::str::from_utf8(&name[..length])
            && !name.is_empty()
            && ifindex != 0
            && self.devices.len() < DEVICES
            && !(netns == self.own_netns && self.devices.contains_key(&(netns, ifindex)))
        {
            self.devices.insert((netns, ifindex), name.to_owned());
        }
    }
}

/// Whether `device` is what [`Names::device`] says for one whose name is not known. A device may be called so, too.
#[must_use]
pub fn is_index(device: &str) -> bool {
    let index = device.strip_prefix("if").unwrap_or_default();
    !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())
}

/// `EtherType` as the report spells it.
#[must_use]
pub fn protocol(ether_type: u32) -> String {
    match ether_type {
        0x0800 => "ipv4".to_owned(),
        0x86dd => "ipv6".to_owned(),
        0x0806 => "arp".to_owned(),
        other => format!("{other:#06x}"),
    }
}
