//! Whether the host was changed since somebody looked.

use std::collections::BTreeMap;

use crate::proc::netdev::NetDevice;

/// CPUs, devices and interrupts at one time. Compared with every snapshot, so it copies nothing while all stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    online: Vec<u32>,
    devices: Vec<(u32, String)>,
    irqs: Vec<u32>,
}

impl Seen {
    /// Takes what there is now; true if that is not what there was.
    pub fn see<T>(
        &mut self,
        online: &[u32],
        devices: &BTreeMap<u32, NetDevice>,
        irqs: &BTreeMap<u32, T>,
    ) -> bool {
        let names = devices.iter().map(|(&index, d)| (index, d.name.as_str()));
        let known = self
            .devices
            .iter()
            .map(|(index, name)| (*index, name.as_str()));
        if self.online == online && known.eq(names.clone()) && self.irqs.iter().eq(irqs.keys()) {
            return false;
        }
        self.online = online.to_vec();
        self.devices = names
            .map(|(index, name)| (index, name.to_owned()))
            .collect();
        self.irqs = irqs.keys().copied().collect();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ifindex: u32, name: &str, rx_packets: u64) -> BTreeMap<u32, NetDevice> {
        let device = NetDevice {
            name: name.to_owned(),
            ifindex,
            rx_packets,
            ..NetDevice::default()
        };
        [(ifindex, device)].into()
    }

    #[test]
    fn counters_are_no_change_but_cpus_names_and_interrupts_are() {
        let mut seen = Seen::default();
        let irqs = BTreeMap::from([(38, 'a')]);
        assert!(seen.see(&[0, 1], &device(2, "eth0", 0), &irqs));
        assert!(!seen.see(&[0, 1], &device(2, "eth0", 9), &irqs));
        assert!(seen.see(&[0], &device(2, "eth0", 9), &irqs));
        assert!(seen.see(&[0], &device(2, "lan0", 9), &irqs));
        assert!(seen.see(&[0], &device(3, "lan0", 9), &irqs));
        assert!(seen.see(
            &[0],
            &device(3, "lan0", 9),
            &BTreeMap::from([(38, 'a'), (39, 'b')])
        ));
        assert!(seen.see(&[0], &device(3, "lan0", 9), &irqs));
        assert!(!seen.see(&[0], &device(3, "lan0", 9), &irqs));
    }
}
