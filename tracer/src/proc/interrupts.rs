//! /proc/interrupts: `show_interrupts` in kernel/irq/proc.c and `arch_show_interrupts`.

use std::{collections::BTreeMap, path::Path};

use super::{
    cpus::{number, parse_header},
    error::{ParseError, ProcError, read},
};

const FILE: &str = "/proc/interrupts";

/// The whole file. Counts are cumulative since boot; the kernel prints u32 values, they wrap.
///
/// Rows that count for no CPU (`ERR`, `MIS` on x86, `Err` on arm64) are not here.
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

impl Interrupts {
    /// Reads `<proc>/interrupts`.
    pub fn read(proc: &Path) -> Result<Self, ProcError> {
        Ok(parse(&read(&proc.join("interrupts"))?)?)
    }
}

/// Parses the whole file. The first line names the online CPUs; every row must have a count for each,
/// but a lettered row with a single number and no description, which belongs to no CPU and is left out.
pub fn parse(text: &str) -> Result<Interrupts, ParseError> {
    let mut lines = text.lines();
    let cpus = parse_header(FILE, lines.next())?;
    let mut interrupts = Interrupts::default();
    for (index, line) in lines.enumerate() {
        let fail = |what: String| ParseError::new(FILE, index + 2, what);
        let (label, rest) = line
            .split_once(':')
            .ok_or_else(|| fail("no `:` after the interrupt's name".into()))?;
        let label = label.trim();
        let irq = number(label);
        if irq.is_none() && number(rest.trim()).is_some() {
            continue;
        }
        let (counts, rest) = split_counts(rest, &cpus).map_err(fail)?;
        let known = if let Some(irq) = irq {
            let name = handler_names(rest).to_owned();
            interrupts.device.insert(irq, Row { name, counts })
        } else {
            let name = rest.trim().to_owned();
            interrupts
                .arch
                .insert(label.to_owned(), Row { name, counts })
        };
        if known.is_some() {
            return Err(fail(format!("a second row `{label}`")));
        }
    }
    Ok(interrupts)
}

/// The counts at the begin of `text`, one for each of `cpus`, and what follows them.
fn split_counts<'a>(
    mut text: &'a str,
    cpus: &[u32],
) -> Result<(BTreeMap<u32, u32>, &'a str), String> {
    let mut counts = Vec::with_capacity(cpus.len());
    for &cpu in cpus {
        text = text.trim_start();
        let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        let count =
            number(word).ok_or_else(|| format!("`{word}` is no 32-bit count for CPU {cpu}"))?;
        counts.push((cpu, count));
        text = rest;
    }
    Ok((counts.into_iter().collect(), text))
}

/// What follows chip, hardware number and trigger: `PCI-MSIX-0000:00:02.0 1-edge virtio1-req.0`,
/// `GICv3 27 Level arch_timer`, `RISC-V INTC 5 Edge riscv-timer`, `XT-PIC 2 cascade`. A chip's name
/// may have spaces, a handler's too; the hardware number is what separates them.
fn handler_names(text: &str) -> &str {
    let Some(mut rest) = after_word(text) else {
        return "";
    };
    let mut search = rest;
    while let Some(after) = after_word(search) {
        if is_hardware_number(first_word(search)) {
            rest = after;
            let next = first_word(rest);
            if ["Level", "Edge"]
                .iter()
                .any(|trigger| next == *trigger || next.starts_with(&format!("{trigger}-")))
            {
                rest = after_word(rest).unwrap_or_default();
            }
            break;
        }
        search = after;
    }
    rest.trim()
}

/// `5`, `5-edge`, or `-edge` where the interrupt has no hardware number.
fn is_hardware_number(word: &str) -> bool {
    let digits = word.split_once('-').map_or(word, |(digits, _)| digits);
    !word.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// What follows the first word; `None` if there is no word.
fn after_word(text: &str) -> Option<&str> {
    let text = text.trim_start();
    (!text.is_empty()).then(|| {
        text.find(char::is_whitespace)
            .and_then(|end| text.get(end..))
            .unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: &str = include_str!("../../tests/fixtures/interrupts/6.18-x86-2-cpus");
    const OFFLINE: &str = include_str!("../../tests/fixtures/interrupts/x86-cpu1-offline");
    const ARM: &str = include_str!("../../tests/fixtures/interrupts/arm64-gicv3");

    #[test]
    fn a_device_row_has_its_handler_name_and_counts_by_cpu() {
        let interrupts = parse(HOST).unwrap();
        assert_eq!(interrupts.device.len(), 19);
        assert_eq!(interrupts.device[&24].name, "ACPI:Ged");
        assert_eq!(interrupts.device[&36].name, "virtio1-req.0");
        assert_eq!(interrupts.device[&36].counts, [(0, 0), (1, 43256)].into());
        assert_eq!(interrupts.device[&38].name, "virtio2-input.0");
    }

    #[test]
    fn an_arch_row_has_its_description() {
        let interrupts = parse(HOST).unwrap();
        let row = &interrupts.arch["CAL"];
        assert_eq!(row.name, "Function call interrupts");
        assert_eq!(row.counts, [(0, 37547), (1, 29669)].into());
    }

    #[test]
    fn rows_that_count_for_no_cpu_are_left_out() {
        let interrupts = parse(HOST).unwrap();
        assert!(!interrupts.arch.contains_key("ERR"));
        assert!(!interrupts.arch.contains_key("MIS"));
        let one_cpu = parse("CPU0\nLOC: 5 Local timer interrupts\nERR: 0\n").unwrap();
        assert_eq!(one_cpu.arch.len(), 1);
    }

    #[test]
    fn counts_belong_to_the_cpus_of_the_first_line() {
        let interrupts = parse(OFFLINE).unwrap();
        assert_eq!(
            interrupts.device[&8].counts,
            [(0, 1), (2, 4_294_967_295)].into()
        );
    }

    #[test]
    fn shared_and_handlerless_and_spaced_names_are_kept_apart_from_chip_and_trigger() {
        let interrupts = parse(OFFLINE).unwrap();
        assert_eq!(interrupts.device[&8].name, "rtc0");
        assert_eq!(interrupts.device[&9].name, "acpi");
        assert_eq!(interrupts.device[&16].name, "ehci_hcd:usb1, eth0");
        assert_eq!(interrupts.device[&17].name, "");
        assert_eq!(interrupts.device[&120].name, "PCIe PME, aerdrv");
        assert_eq!(interrupts.device[&2].name, "cascade");
        assert_eq!(interrupts.device[&5].name, "parport0");
        assert_eq!(interrupts.device[&6].name, "");
    }

    #[test]
    fn arm_and_riscv_rows_lose_their_trigger_word() {
        let interrupts = parse(ARM).unwrap();
        assert_eq!(interrupts.device[&11].name, "arch_timer");
        assert_eq!(interrupts.device[&12].name, "");
        assert_eq!(interrupts.device[&13].name, "eth0-TxRx-0");
        assert_eq!(interrupts.device[&14].name, "gpio keys");
        assert_eq!(interrupts.device[&15].name, "riscv-timer");
        assert_eq!(interrupts.device[&16].name, "arm-pmu");
        assert_eq!(interrupts.arch["IPI0"].name, "Rescheduling interrupts");
        assert!(!interrupts.arch.contains_key("Err"));
    }

    #[test]
    fn hundreds_of_cpus_are_told_apart() {
        let columns =
            |column: fn(u32) -> String| (0..512).map(column).collect::<Vec<_>>().join(" ");
        let header = columns(|cpu| format!("CPU{cpu:<4}"));
        let counts = columns(|cpu| format!("{cpu:>10}"));
        let text = format!("{header}\n 100: {counts} PCI-MSI 524288-edge      eth0-TxRx-0\n");
        let row = &parse(&text).unwrap().device[&100];
        assert_eq!(row.name, "eth0-TxRx-0");
        assert_eq!(row.counts.len(), 512);
        assert_eq!(row.counts[&511], 511);
    }

    #[test]
    fn malformed_rows_are_errors_with_their_line() {
        for row in [
            "24 1 2",
            "24: 1",
            "24: 1 x IO-APIC",
            "24: 1 4294967296 IO-APIC",
            "LOC: 1 Local",
        ] {
            let error = parse(&format!("CPU0 CPU1\n{row}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{row}: {error}");
        }
        assert_eq!(parse("CPU0\n1: 1 a\n1: 1 a\n").unwrap_err().line, 3);
        assert_eq!(parse("").unwrap_err().line, 1);
    }

    #[test]
    fn this_hosts_file_is_parsed() {
        let interrupts = Interrupts::read(Path::new("/proc")).unwrap();
        assert!(!interrupts.arch.is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(
            text in "(?s).*",
            rows in "CPU0 CPU7\n([A-Z0-9]{0,3}:?[ 0-9]{0,12}[-, a-zE0-9:]{0,12}\n){0,5}",
        ) {
            let _ = parse(&text);
            let _ = parse(&rows);
        }

        #[test]
        fn a_mangled_file_does_not_panic(at in 0..ARM.len(), with in any::<char>()) {
            let mut text: Vec<char> = ARM.chars().collect();
            text[at] = with;
            let _ = parse(&text.into_iter().collect::<String>());
        }
    }
}
