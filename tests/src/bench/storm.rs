//! The storm: one thread on one CPU sends small datagrams over the loopback of its own namespace to a socket whose buffer
//! is full. Each raises NET_RX once, is polled once from the backlog, and dropped.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{setsockopt, sockopt},
    unistd::Pid,
};

use super::stats::percentile;
use crate::netns::Netns;

/// Packets that one clock reading is for.
const CHUNK: usize = 200;
/// Of the chunks of a round, so many are faster than the round's figure: what disturbs others does not count.
const SHARE: f64 = 0.01;
const PAYLOAD: [u8; 18] = [0x77; 18];
/// More than a buffer of the least size holds.
const FILL: usize = 64;

/// The sockets, and where they are.
pub struct Storm {
    netns: Netns,
    sender: UdpSocket,
    _full: UdpSocket,
    cpu: usize,
}

impl Storm {
    /// Makes the namespace, and fills the socket.
    pub fn new(cpu: usize) -> Result<Self> {
        let netns = Netns::new("storm")?;
        let (sender, full) = netns.run(|| -> Result<_> {
            let full = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            setsockopt(&full, sockopt::RcvBuf, &0)?;
            let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            sender.connect(full.local_addr()?)?;
            for _ in 0..FILL {
                sender.send(&PAYLOAD)?;
            }
            Ok((sender, full))
        })??;
        Ok(Self {
            netns,
            sender,
            _full: full,
            cpu,
        })
    }

    /// Nanoseconds a packet, of `chunks` chunks. For a thread that [`Self::pin`] has put on its CPU.
    pub fn round(&self, chunks: usize) -> Result<f64> {
        let mut times = Vec::with_capacity(chunks);
        for _ in 0..chunks {
            let begin = Instant::now();
            for _ in 0..CHUNK {
                self.sender.send(&PAYLOAD)?;
            }
            times.push(begin.elapsed().as_nanos() as f64 / CHUNK as f64);
        }
        percentile(&times, SHARE).context("no chunks")
    }

    /// Sends at `rate` packets a second, or as fast as can be, for `time`; how many.
    pub fn send(&self, rate: Option<u32>, time: Duration) -> Result<u64> {
        let begin = Instant::now();
        let mut sent = 0;
        while begin.elapsed() < time {
            for _ in 0..CHUNK {
                self.sender.send(&PAYLOAD)?;
            }
            sent += CHUNK as u64;
            if let Some(rate) = rate {
                let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
                std::thread::sleep(due.saturating_sub(begin.elapsed()));
            }
        }
        Ok(sent)
    }

    /// Puts this thread on the storm's CPU.
    pub fn pin(&self) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(self.cpu)?;
        sched_setaffinity(Pid::from_raw(0), &set)
            .with_context(|| format!("cannot run on CPU {}", self.cpu))
    }

    /// Fails unless what is sent is dropped, each for itself.
    pub fn check(&self) -> Result<()> {
        let before = crate::kernel::snmp(&self.netns, "Udp", "RcvbufErrors")?;
        self.round(5)?;
        let dropped = crate::kernel::snmp(&self.netns, "Udp", "RcvbufErrors")? - before;
        ensure!(
            dropped == 5 * CHUNK as u64,
            "of {} datagrams to a full socket {dropped} were dropped",
            5 * CHUNK
        );
        Ok(())
    }
}
