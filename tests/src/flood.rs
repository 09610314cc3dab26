//! Bounded UDP traffic that counts exactly what the kernel accepted.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::netns::Netns;

/// Datagrams to one address.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Where to.
    pub to: SocketAddrV4,
    /// No more than this.
    pub packets: u64,
    /// No longer than this.
    pub limit: Duration,
    /// Packets per second; `None`: as fast as one CPU can.
    pub rate: Option<u32>,
    /// UDP payload, bytes.
    pub payload: usize,
    /// CPU that sends; `None`: any.
    pub cpu: Option<usize>,
}

impl Flood {
    /// `packets` small datagrams, as fast as possible, within 20 s.
    #[must_use]
    pub fn new(address: Ipv4Addr, port: u16, packets: u64) -> Self {
        let to = SocketAddrV4::new(address, port);
        Self {
            to,
            packets,
            limit: Duration::from_secs(20),
            rate: None,
            payload: 18,
            cpu: None,
        }
    }

    /// Sends from inside `netns` and returns how many datagrams `sendto` accepted.
    ///
    /// The socket is not connected: ICMP errors that come back fail no later `sendto`.
    pub fn run(&self, netns: &Netns) -> Result<u64> {
        netns.run(|| self.send())?
    }

    fn send(&self) -> Result<u64> {
        if let Some(cpu) = self.cpu {
            let mut set = CpuSet::new();
            set.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &set)
                .with_context(|| format!("cannot run on CPU {cpu}"))?;
        }
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let payload = vec![0x77; self.payload];
        let to = SocketAddr::V4(self.to);
        let begin = Instant::now();
        let mut accepted = 0;
        for turn in 0..self.packets {
            if let Some(rate) = self.rate {
                // In bursts of 1 % of a second: sleeping for each packet would cost more than sending it.
                let due = begin + Duration::from_secs_f64(turn as f64 / f64::from(rate));
                let early = due.saturating_duration_since(Instant::now());
                if early > Duration::from_millis(10) {
                    thread::sleep(early);
                }
            }
            if turn % 64 == 0 && begin.elapsed() >= self.limit {
                break;
            }
            if socket.send_to(&payload, to).is_ok() {
                accepted += 1;
            }
        }
        Ok(accepted)
    }
}
