//! The storm: one thread on one CPU sends small datagrams over the loopback of its own namespace to a socket whose buffer
//! is full. Each raises `NET_RX` once, is polled once from the backlog, and dropped.
//!
//! They are handed to the device as frames, by a packet socket: fewer calls than by a UDP socket. Deep ones overflow the
//! CPU's stack of return addresses, and what the outermost returns cost then depends on what it happens to remember of
//! them: two speeds, 130 ns apart with a UDP socket where this was written, 55 ns as frames.

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use etherparse::PacketBuilder;
use nix::{
    ifaddrs::getifaddrs,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, setsockopt, socket, sockopt,
    },
    unistd::Pid,
};

use super::speed::{self, Speed};
use crate::{netns::Netns, setting};

/// Packets that one clock reading is for.
const CHUNK: usize = 16;
/// Before anything of a round is measured: for those that follow the end of a process, whose start has been waited for.
const PAUSE: Duration = Duration::from_millis(50);
/// After it, of the storm.
const WARM_UP: Duration = Duration::from_millis(25);
/// Then the parts one of which a round's figure is taken from.
const BLOCK: Duration = Duration::from_millis(10);
const BLOCKS: usize = 60;
const PAYLOAD: [u8; 18] = [0x77; 18];
/// Of its loopback.
const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
/// An address that nobody has, and a port: what comes from an address of this host is taken for forged.
const SENDER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 8), 9);
/// More than a buffer of the least size holds.
const FILL: usize = 64;

/// The sockets, and where they are.
pub struct Storm {
    netns: Netns,
    sender: OwnedFd,
    loopback: LinkAddr,
    frame: Vec<u8>,
    _full: UdpSocket,
}

impl Storm {
    /// Makes the namespace, and fills the socket.
    pub fn new() -> Result<Self> {
        let netns = Netns::new("storm")?;
        netns.ip(&["address", "add", &format!("{RECEIVER}/32"), "dev", "lo"])?;
        netns.run(|| {
            setting::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0")?;
            setting::write("/proc/sys/net/ipv4/conf/lo/rp_filter", "0")
        })??;
        let (full, sender, loopback) = netns.run(|| -> Result<_> {
            let full = UdpSocket::bind((RECEIVER, 0))?;
            setsockopt(&full, sockopt::RcvBuf, &0)?;
            // Protocol 0: it receives nothing.
            let flags = SockFlag::SOCK_CLOEXEC;
            let sender = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
            Ok((full, sender, loopback()?))
        })??;
        let storm = Self {
            netns,
            sender,
            loopback,
            frame: frame(full.local_addr()?.port())?,
            _full: full,
        };
        for _ in 0..FILL {
            storm.packet()?;
        }
        Ok(storm)
    }

    fn packet(&self) -> Result<()> {
        let flags = MsgFlags::empty();
        let sender = self.sender.as_raw_fd();
        let sent = sendto(sender, &self.frame, &self.loopback, flags)?;
        ensure!(sent == self.frame.len(), "{sent} bytes of a frame sent");
        Ok(())
    }

    fn chunk(&self) -> Result<()> {
        (0..CHUNK).try_for_each(|_| self.packet())
    }

    /// How fast it is; `None` if somebody else used the core all the while. `fastest` is the witness of a
    /// core of its own, as far as is known. For a thread that [`pin`] has put on a CPU.
    pub fn round(&self, fastest: Option<f64>) -> Result<Option<Speed>> {
        thread::sleep(PAUSE);
        self.send(None, WARM_UP)?;
        for _ in 0..BLOCKS {
            let found = self.block()?;
            if let Some(speed) = found.filter(|speed| speed.is_alone(fastest)) {
                return Ok(Some(speed));
            }
        }
        Ok(None)
    }

    fn block(&self) -> Result<Option<Speed>> {
        let begin = Instant::now();
        let mut packets = Vec::new();
        let mut witnesses = vec![speed::witness()];
        while begin.elapsed() < BLOCK {
            let chunk = Instant::now();
            self.chunk()?;
            packets.push(chunk.elapsed().as_nanos() as f64 / CHUNK as f64);
            witnesses.push(speed::witness());
        }
        Ok(Speed::of(&packets, &witnesses))
    }

    /// Sends at `rate` packets a second, or as fast as can be, for `time`; how many.
    pub fn send(&self, rate: Option<u32>, time: Duration) -> Result<u64> {
        /// Between two looks at the clock.
        const CHUNKS: usize = 12;
        let begin = Instant::now();
        let mut sent = 0;
        while begin.elapsed() < time {
            (0..CHUNKS).try_for_each(|_| self.chunk())?;
            sent += (CHUNKS * CHUNK) as u64;
            if let Some(rate) = rate {
                let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
                thread::sleep(due.saturating_sub(begin.elapsed()));
            }
        }
        Ok(sent)
    }

    /// Fails unless what is sent is dropped, each for itself.
    pub fn check(&self) -> Result<()> {
        const CHUNKS: usize = 60;
        let before = crate::kernel::snmp(&self.netns, "Udp", "RcvbufErrors")?;
        (0..CHUNKS).try_for_each(|_| self.chunk())?;
        let dropped = crate::kernel::snmp(&self.netns, "Udp", "RcvbufErrors")? - before;
        let sent = (CHUNKS * CHUNK) as u64;
        ensure!(
            dropped == sent,
            "of {sent} datagrams to a full socket {dropped} were dropped"
        );
        Ok(())
    }
}

/// Puts this thread on `cpu`.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot run on CPU {cpu}"))
}

/// CPUs that this thread may run on, the last first: others are busier.
pub fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let all = (0..CpuSet::count()).rev();
    Ok(all
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

/// Address of the loopback of this thread's namespace.
fn loopback() -> Result<LinkAddr> {
    let mut of_lo = getifaddrs()?.filter(|one| one.interface_name == "lo");
    of_lo
        .find_map(|one| one.address?.as_link_addr().copied())
        .context("no address of lo")
}

/// A datagram to `port`.
fn frame(port: u16) -> Result<Vec<u8>> {
    let (sender, from) = SENDER;
    let builder = PacketBuilder::ethernet2([0; 6], [0; 6])
        .ipv4(sender.octets(), RECEIVER.octets(), 64)
        .udp(from, port);
    let mut frame = Vec::with_capacity(builder.size(PAYLOAD.len()));
    builder.write(&mut frame, &PAYLOAD)?;
    Ok(frame)
}
