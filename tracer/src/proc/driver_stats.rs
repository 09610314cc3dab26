//! The drivers' own counters (`ethtool -S`), as far as they tell of lost packets or of limits.
//!
//! A driver may ask its firmware for them and hold the kernel's RTNL lock meanwhile (some ms on a large NIC): they are
//! read at the begin and the end of a run, not for every window, and only of devices on a bus.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::sys::ethtool::driver_stats;

/// Parts of the names of counters of packets that were lost or of a limit that was met; `_` stands for a blank too.
const PARTS: &[&str] = &[
    "drop",
    "discard",
    "miss",
    "no_buf",
    "out_of_buf",
    "oob",
    "no_dma",
    "no_memory",
    "fifo",
    "over",
    "allowance_exceeded",
    "alloc_fail",
    "alloc_err",
];
/// Parts of names that have one of [`PARTS`] in them and mean another thing (`rx_recover`: a queue was mended).
const NOT: &[&str] = &["recover", "overhead", "permission", "dropless"];

/// Whether a driver's counter tells of lost packets or of a limit.
#[must_use]
pub fn tells_of_loss(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace([' ', '-'], "_");
    PARTS.iter().any(|part| name.contains(part)) && !NOT.iter().any(|part| name.contains(part))
}

/// A socket of the network namespace whose devices are asked.
#[derive(Debug)]
pub struct DriverStats(OwnedFd);

impl DriverStats {
    /// Opens the socket.
    pub fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self(socket))
    }

    /// Counters of `device` that [`tells_of_loss`], since the driver was loaded or the device reset; `None` for a
    /// device without. Counters of one name (a queue's each) are added up.
    #[must_use]
    pub fn read(&self, device: &str) -> Option<BTreeMap<String, u64>> {
        let mut tries = 0;
        let stats = loop {
            match driver_stats(self.0.as_fd(), device) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < RETRIES => {
                    tries += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::Unsupported => return None,
                Err(error) => {
                    log::info!("driver statistics of {device}: {error}");
                    return None;
                }
                Ok(stats) => break stats,
            }
        };
        let mut kept = BTreeMap::new();
        for (name, value) in stats.into_iter().filter(|(name, _)| tells_of_loss(name)) {
            let sum: &mut u64 = kept.entry(name.trim().to_owned()).or_default();
            *sum = sum.wrapping_add(value);
        }
        Some(kept)
    }
}

/// Times that statistics are read again whose number changed meanwhile.
const RETRIES: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_lost_packets_and_limits_are_kept() {
        for name in [
            "rx_dropped",
            "rx0_drops",
            "bw_in_allowance_exceeded",
            "rx_no_buffer_count",
            "rx_out_of_buffer",
            "rx_missed_errors",
            "rx_fifo_errors",
            "rx_over_errors",
            "port.rx_discards",
            "rx_queue_0_alloc_failed",
            "rx buf alloc fail",
            "ucast pkts rx OOB",
            "rx_no_dma_resources",
        ] {
            assert!(tells_of_loss(name), "{name}");
        }
    }

    #[test]
    fn other_counters_are_not() {
        for name in [
            "rx_packets",
            "tx_queue_0_bytes",
            "rx_recover",
            "conntrack_allowance_available",
            "rx_csum_offload_good",
        ] {
            assert!(!tells_of_loss(name), "{name}");
        }
    }

    #[test]
    fn a_device_without_statistics_has_none() {
        assert_eq!(DriverStats::open().unwrap().read("lo"), None);
    }
}
