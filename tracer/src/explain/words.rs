//! Words of the text report that are no column: what its last lines count, the architecture's interrupts, how findings
//! are told.

use super::{Kind, Topic};

const fn word(name: &'static str, text: &'static str) -> Topic {
    Topic {
        kind: Kind::Word,
        name,
        text,
    }
}

pub(super) const TOPICS: &[Topic] = &[
    word(
        "lost",
        "What tracer itself did not see; 'nothing' if it saw all. Tables and recursion make counts too small, ring and \
         unreadable cost single events or their addresses only.",
    ),
    word(
        "ring (lost)",
        "Single events that found the ring buffer full. Counts do not depend on it; see --ring-size.",
    ),
    word(
        "tables",
        "Events that found the table of interrupts, of NAPI instances or of drop sites full: they are in the totals, but \
         in no row. For drop sites see --drop-sites.",
    ),
    word(
        "recursion",
        "Times the kernel skipped a program because it was running on that CPU already (recursion_misses): these are \
         missing in the counts. '?': this kernel does not tell (before 5.12).",
    ),
    word(
        "unreadable",
        "Single drops whose packet headers could not be read. They are counted, but shown without addresses.",
    ),
    word(
        "nested",
        "Runs of NET_RX that began before the end of another on the same CPU was seen; one of the two is not measured: on \
         real-time kernels, where tasks preempt each other's runs, the inner one, elsewhere the one whose end was missed.",
    ),
    word(
        "undecodable",
        "Records of the ring that tracer did not understand: an error of tracer's own. Please report it.",
    ),
    word(
        "by request",
        "Single events beyond --detail-rate, left out before anything was read for them. Counts are exact.",
    ),
    word(
        "Hooks",
        "Where tracer counts in the kernel: attached by the best mechanism that works here, or what stands for it and what \
         that cannot tell. See tracer doctor.",
    ),
    word(
        "Single events",
        "Interrupts, NET_RX runs and drops that were streamed one by one, of how many there were. Counts and percentiles \
         in the tables do not come from these.",
    ),
    word(
        "critical",
        "Severity of a finding: packets are lost, and this is why.",
    ),
    word(
        "warning",
        "Severity of a finding: it costs time, or will lose packets when more come.",
    ),
    word(
        "info",
        "Severity of a finding: worth knowing; nothing has to be done.",
    ),
    word(
        "hence",
        "This finding follows from the one above it: change that one first, and look again.",
    ),
    word(
        "will not help",
        "What suggests itself, and why it changes nothing here.",
    ),
    word(
        "unexplained",
        "The part of a residual that no known cause accounts for: something was not seen, or a counter counts something \
         else. See residual.",
    ),
    word(
        "LOC",
        "Local timer of each CPU: scheduler ticks and timers. Busy CPUs have more; no packets.",
    ),
    word(
        "RES",
        "Rescheduling: another CPU woke a task here. Many of them: tasks move or wake each other across CPUs.",
    ),
    word(
        "CAL",
        "Function call on another CPU. RPS wakes its target CPUs by one: see received_rps.",
    ),
    word(
        "received_rps",
        "Times a CPU was woken by another that steered packets to it (/proc/net/softnet_stat, column 10). Not packets.",
    ),
    word("TLB", "TLB shootdown: page tables changed on another CPU."),
    word(
        "NMI",
        "Non-maskable: the watchdog and profilers; much of it while perf runs.",
    ),
    word("PMI", "Performance counters overflowed: a profiler runs."),
    word(
        "IWI",
        "Work that an interrupt or a tracer left for later (irq_work).",
    ),
    word(
        "RTR",
        "APIC timer read anew after its interrupt came early.",
    ),
    word("SPU", "Spurious interrupt: nobody claimed it."),
    word("TRM", "Thermal event: the CPU is slowed down by heat."),
    word("THR", "Threshold of corrected memory errors reached."),
    word("DFR", "Deferred machine-check error (AMD)."),
    word(
        "MCE",
        "Machine-check exception: a hardware error. See the kernel's log.",
    ),
    word(
        "MCP",
        "Poll for corrected hardware errors, every few minutes.",
    ),
    word("HYP", "Call from the hypervisor (Xen, Hyper-V, ACRN)."),
    word("PIN", "Posted interrupt for a guest (KVM)."),
    word("NPI", "Nested posted interrupt for a guest (KVM)."),
    word("PIW", "Posted interrupt that wakes a guest (KVM)."),
    word(
        "ERR",
        "Errors of the interrupt controller. Not 0: hardware or its set-up.",
    ),
    word(
        "MIS",
        "Interrupts the IO-APIC delivered in the wrong mode, and that were corrected.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_last_line_has_an_entry() {
        let losses = crate::model::report::Losses {
            net_rx_nested: 1,
            undecodable: 1,
            ..Default::default()
        };
        let line = crate::report::lost(&losses);
        let names = line.split([':', ',']).map(|part| {
            part.trim()
                .trim_end_matches(|c: char| c.is_ascii_digit() || c == '?')
                .trim()
                .to_owned()
        });
        let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
        assert!(names.len() >= 6, "{line}");
        for name in names {
            let known =
                |topic: &Topic| topic.name == name || topic.name == format!("{name} (lost)");
            assert!(TOPICS.iter().any(known), "{name} in {line}");
        }
    }

    #[test]
    fn every_vector_of_the_kernels_seen_has_an_entry() {
        let text = include_str!("../../tests/fixtures/interrupts/6.18-x86-2-cpus");
        let names = text.lines().filter_map(|line| line.split_once(':'));
        let names = names.map(|(name, _)| name.trim());
        let lettered: Vec<_> = names
            .filter(|name| name.chars().all(|c| c.is_ascii_uppercase()))
            .collect();
        assert!(lettered.len() > 10, "{lettered:?}");
        for name in lettered {
            assert!(TOPICS.iter().any(|topic| topic.name == name), "{name}");
        }
    }
}
