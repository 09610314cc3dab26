//! /proc/interrupts: `show_interrupts` in kernel/irq/proc.c.

use std::collections::BTreeMap;

/// The whole file. Counts are cumulative since boot; the kernel prints u32 values, they wrap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// Numbered rows by IRQ number.
    pub device: BTreeMap<u32, Row>,
    /// Lettered rows (`LOC`, `RES`, …) by name.
    pub arch: BTreeMap<String, Row>,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Handler names of a numbered row (without chip and trigger), the description of a lettered one.
    pub name: String,
    /// Interrupts by CPU id.
    pub counts: BTreeMap<u32, u32>,
}
