//! Interrupts of network devices as the diagnosis wants them: [`IrqFacts`] parsed, and whether the kernel manages them.

use std::{collections::BTreeMap, path::Path};

use super::irq::IrqFacts;
use crate::{
    model::topology::Vector,
    proc::{cpus::parse_list, error::read_fact},
};

/// The interrupts among `irqs` that belong to a network device.
#[must_use]
pub fn read(sys: &Path, irqs: &BTreeMap<u32, IrqFacts>) -> BTreeMap<u32, Vector> {
    let of_devices = irqs.iter().filter(|(_, facts)| facts.device.is_some());
    of_devices
        .map(|(&irq, facts)| {
            let vector = Vector {
                name: facts.name.clone(),
                device: facts.device.clone(),
                queue: facts.queue,
                node: facts.node,
                affinity: cpus(irq, facts.affinity.as_deref()),
                effective: cpus(irq, facts.effective_affinity.as_deref()),
                managed: managed(sys, irq),
            };
            (irq, vector)
        })
        .collect()
}

fn cpus(irq: u32, list: Option<&str>) -> Vec<u32> {
    let parsed = list.map(parse_list).transpose();
    parsed
        .inspect_err(|error| log::info!("affinity of IRQ {irq}: {error}"))
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// /sys/kernel/debug/irq/irqs/N; `None` without debugfs or `CONFIG_GENERIC_IRQ_DEBUGFS` (4.13).
fn managed(sys: &Path, irq: u32) -> Option<bool> {
    let path = sys.join("kernel/debug/irq/irqs").join(irq.to_string());
    parse_managed(&read_fact(&path)?)
}

/// `irq_debug_show_data` prints the names of the bits that are set below `dstate:`.
fn parse_managed(text: &str) -> Option<bool> {
    let (_, state) = text.split_once("dstate:")?;
    Some(
        state
            .split_whitespace()
            .any(|bit| bit == "IRQD_AFFINITY_MANAGED"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Form of `irq_debug_show` in kernel/irq/debugfs.c.
    const NVME: &str = "handler:  handle_edge_irq\ndevice:   0000:01:00.0\nstatus:   0x00000000\nistate:   0x00004000\n\
        ddepth:   0\nwdepth:   0\ndstate:   0x19600200\n            IRQD_ACTIVATED\n            IRQD_IRQ_STARTED\n\
        \x20           IRQD_AFFINITY_MANAGED\n            IRQD_MANAGED_SHUTDOWN\nnode:     0\naffinity: 4\n";

    #[test]
    fn debugfs_tells_a_managed_interrupt() {
        assert_eq!(parse_managed(NVME), Some(true));
        let other = NVME.replace("IRQD_AFFINITY_MANAGED", "IRQD_AFFINITY_SET");
        assert_eq!(parse_managed(&other), Some(false));
        assert_eq!(parse_managed("handler:  (null)\n"), None);
    }

    #[test]
    fn interrupts_of_other_things_are_left_out() {
        let facts = |device: Option<&str>| IrqFacts {
            name: "x".into(),
            device: device.map(str::to_owned),
            affinity: Some("0-2,8".into()),
            effective_affinity: Some("nonsense".into()),
            ..IrqFacts::default()
        };
        let irqs = [(1, facts(None)), (2, facts(Some("eth0")))].into();
        let vectors = read(Path::new("/nonexistent"), &irqs);
        assert_eq!(vectors.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(vectors[&2].affinity, [0, 1, 2, 8]);
        assert!(vectors[&2].effective.is_empty());
        assert_eq!(vectors[&2].managed, None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).*", close in "(dstate:|IRQD_|[A-Z_ \n])*") {
            let _ = parse_managed(&text);
            let _ = parse_managed(&close);
        }
    }
}
