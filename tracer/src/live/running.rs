//! Names that the running kernel gives: functions, drop reasons.

use std::cell::RefCell;

use crate::{
    analyze::names::{Function, Kernel},
    kernel::{facts::KernelFacts, symbols::Symbols},
    proc::Roots,
};

/// Names of the running kernel. Symbols are read when the first drop wants one: that costs some MiB
/// and tens of ms, which a host without drops need not pay; and again for a new site after a module was
/// loaded, whose functions the older table does not have.
pub(super) struct Running {
    roots: Roots,
    symbols: RefCell<Option<(Vec<String>, Symbols)>>,
    kernel: KernelFacts,
}

impl Running {
    pub(super) fn new(roots: Roots, kernel: KernelFacts) -> Self {
        Self {
            roots,
            symbols: RefCell::new(None),
            kernel,
        }
    }
}

impl Kernel for Running {
    fn function(&self, return_address: u64) -> Option<Function> {
        let modules = loaded_modules(&self.roots);
        let mut symbols = self.symbols.borrow_mut();
        if symbols.as_ref().is_none_or(|(then, _)| *then != modules) {
            // The old table goes before the new one comes: each has some MiB.
            *symbols = None;
            let path = self.roots.proc.join("kallsyms");
            let read = Symbols::load(&path).unwrap_or_else(|error| {
                log::warn!("{error}: drop sites are shown as addresses");
                Symbols::Hidden
            });
            *symbols = Some((modules, read));
        }
        let (_, symbols) = symbols.as_ref()?;
        let symbol = symbols.resolve_return_address(return_address)?;
        Some(Function {
            name: symbol.name.to_owned(),
            module: symbol.module.map(str::to_owned),
            offset: symbol.offset,
        })
    }

    fn reason(&self, number: u32) -> Option<String> {
        self.kernel.reason_name(number).map(str::to_owned)
    }
}

/// Name and address of each module, which change when one is loaded; not its users, which come and go.
fn loaded_modules(roots: &Roots) -> Vec<String> {
    let text = std::fs::read_to_string(roots.proc.join("modules")).unwrap_or_default();
    let name_and_address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        Some(format!("{} {}", words.next()?, words.nth(4)?))
    };
    text.lines().filter_map(name_and_address).collect()
}
