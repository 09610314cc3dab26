//! The value that the report saw.

use crate::{
    analyze::rules::mask,
    model::{setting::Setting, topology::Topology},
    proc::cpus::format_list,
};

/// Of `setting`; `None` if it is not known.
pub(super) fn current(topology: &Topology, setting: &Setting) -> Option<String> {
    let queue = |device: &str, queue: &u32| topology.devices.get(device)?.rx_queues.get(queue);
    match setting {
        Setting::Sysctl { name } => topology.sysctls.get(name).cloned(),
        Setting::IrqAffinity { irq } | Setting::VectorAffinity { irq, .. } => {
            let affinity = &topology.irqs.get(irq)?.affinity;
            (!affinity.is_empty()).then(|| format_list(affinity))
        }
        Setting::RpsCpus { device, queue: at } => Some(mask(&queue(device, at)?.rps_cpus)),
        Setting::RpsFlowCount { device, queue: at } => {
            Some(queue(device, at)?.rps_flow_cnt?.to_string())
        }
        Setting::Ring { device } => Some(topology.devices.get(device)?.ring?.now.to_string()),
        Setting::Channels { device } => {
            Some(topology.devices.get(device)?.channels?.now.to_string())
        }
        Setting::Process { pid, .. } => {
            let mut processes = topology.processes.iter();
            let process = processes.find(|process| process.pid == *pid)?;
            let alike = process.threads_allowed.is_empty() && !process.allowed.is_empty();
            alike.then(|| format_list(&process.allowed))
        }
        Setting::IrqbalanceBans { .. } => None,
    }
}
