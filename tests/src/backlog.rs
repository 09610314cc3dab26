//! A receiver that steers what arrives to the backlog of another CPU, which can be made too small for it.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;
use nix::sys::socket::{setsockopt, sockopt};

use crate::{
    flood::Flood,
    netns::Pair,
    setting::{self, Setting},
};

/// CPU that sends, and steers what it sent when it arrives.
pub const STEERING_CPU: usize = 0;
/// CPU whose backlog takes the packets.
pub const TARGET_CPU: u32 = 1;
/// Packets that a CPU's backlog holds; one setting for the whole host.
pub const MAX_BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";

const PORT: u16 = 7001;

/// A [`Pair`] whose receiver has RPS to [`TARGET_CPU`] and a socket that is read, so that the socket's buffer loses as
/// little as possible.
#[derive(Debug)]
pub struct Steered {
    /// The namespaces.
    pub pair: Pair,
    socket: UdpSocket,
}

impl Steered {
    /// Makes both.
    pub fn new() -> Result<Self> {
        let pair = Pair::new()?;
        let device = Pair::RECEIVER_DEVICE;
        let rps = format!("/sys/class/net/{device}/queues/rx-0/rps_cpus");
        let mask = format!("{:x}", 1 << TARGET_CPU);
        pair.receiver.run(|| setting::write(&rps, &mask))??;
        let socket = pair
            .receiver
            .run(|| UdpSocket::bind((Pair::RECEIVER, PORT)))??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20))?;
        Ok(Self { pair, socket })
    }

    /// Sends from [`STEERING_CPU`], as fast as it can, and returns how many datagrams it accepted.
    pub fn flood(&self, packets: u64) -> Result<u64> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 64];
                while !done.load(Ordering::Relaxed) {
                    let _ = self.socket.recv(&mut buffer);
                }
            });
            let flood = Flood::new(Pair::RECEIVER, PORT, packets);
            let cpu = Some(STEERING_CPU);
            let sent = Flood { cpu, ..flood }.run(&self.pair.sender);
            done.store(true, Ordering::Relaxed);
            sent
        })
    }

    /// The same while a backlog holds four packets only; its ordinary size is back when this returns.
    pub fn overflow(&self, packets: u64) -> Result<u64> {
        let small = Setting::change(MAX_BACKLOG, "4")?;
        let sent = self.flood(packets)?;
        small.restore()?;
        Ok(sent)
    }
}
