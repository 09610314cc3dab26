//! Whose `rx_missed` counts: a bond counts what its slaves missed once more.

use crate::model::report::{Device, Report};

/// The devices whose `rx_missed` is a loss of their own: those on a bus if any of these missed packets, else all.
pub fn devices(report: &Report) -> impl Iterator<Item = &Device> {
    let is_card = |device: &Device| device.driver.is_some();
    let mut devices = report.devices.iter();
    let cards_tell = devices.any(|device| is_card(device) && device.rx_missed > 0);
    let devices = report.devices.iter();
    devices.filter(move |device| !cards_tell || is_card(device))
}

/// Packets that the cards had no room for.
#[must_use]
pub fn packets(report: &Report) -> u64 {
    let missed = devices(report).map(|device| device.rx_missed);
    missed.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, driver: Option<&str>, rx_missed: u64) -> Device {
        Device {
            name: name.into(),
            driver: driver.map(str::to_owned),
            rx_missed,
            ..Device::default()
        }
    }

    #[test]
    fn what_a_slave_missed_is_not_counted_again_by_its_bond() {
        let mut report = Report {
            devices: vec![
                device("bond0", None, 12),
                device("eth0", Some("ixgbe"), 5),
                device("eth1", Some("ixgbe"), 7),
            ],
            ..Report::default()
        };
        let names: Vec<_> = devices(&report).map(|device| &device.name).collect();
        assert_eq!(names, ["eth0", "eth1"]);
        assert_eq!(packets(&report), 12);
        // Its slaves are not in the report, or of unknown drivers.
        report.devices.truncate(1);
        report.devices.push(device("eth2", Some("ixgbe"), 0));
        assert_eq!(packets(&report), 12);
    }
}
