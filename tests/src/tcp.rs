//! A TCP connection over `lo` of a namespace into which segments are put that the sender's own TCP never sent.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket,
};

use crate::netns::Netns;

const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const IP_HEADER: usize = 20;
const TCP_HEADER: u16 = 20;

/// An established connection, both ends, and what a segment from its client has to carry.
#[derive(Debug)]
pub struct Connection {
    _client: TcpStream,
    _server: TcpStream,
    raw: OwnedFd,
    ports: [u16; 2],
    next: u32,
    acknowledged: u32,
}

impl Connection {
    /// Connects to `port` and reads the sequence numbers off the handshake.
    pub fn open(netns: &Netns, port: u16) -> Result<Self> {
        netns.run(|| {
            let listener = TcpListener::bind((ADDRESS, port))?;
            // Closed at once: a copy of every segment goes to it.
            let handshake = raw_socket(SockProtocol::Tcp)?;
            let client = TcpStream::connect((ADDRESS, port))?;
            let (server, _) = listener.accept()?;
            let ports = [client.local_addr()?.port(), port];
            let (next, acknowledged) = sequence_numbers(&handshake, ports)?;
            Ok(Self {
                _client: client,
                _server: server,
                raw: raw_socket(SockProtocol::Raw)?,
                ports,
                next,
                acknowledged,
            })
        })?
    }

    /// Sends the server `length` bytes that begin `offset` bytes behind what it has received.
    pub fn send(&self, offset: u32, length: u16) -> Result<()> {
        let packet = self.segment(offset, length);
        let to = SockaddrIn::from(SocketAddrV4::new(ADDRESS, 0));
        let sent = sendto(self.raw.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        ensure!(sent == packet.len(), "short packet");
        Ok(())
    }

    /// IPv4 and TCP headers and the data; the kernel fills in the IP checksum.
    fn segment(&self, offset: u32, length: u16) -> Vec<u8> {
        let tcp_length = TCP_HEADER + length;
        let mut packet = vec![0x45, 0];
        packet.extend((20 + tcp_length).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        packet.extend(ADDRESS.octets());
        packet.extend(ADDRESS.octets());
        packet.extend(self.ports.iter().flat_map(|port| port.to_be_bytes()));
        packet.extend(self.next.wrapping_add(offset).to_be_bytes());
        packet.extend(self.acknowledged.to_be_bytes());
        packet.extend([5 << 4, ACK, 2, 0, 0, 0, 0, 0]);
        packet.resize(IP_HEADER + usize::from(tcp_length), 0x77);
        let checksum = tcp_checksum(&packet[12..IP_HEADER], &packet[IP_HEADER..]);
        packet[IP_HEADER + 16..IP_HEADER + 18].copy_from_slice(&checksum.to_be_bytes());
        packet
    }
}

fn raw_socket(protocol: SockProtocol) -> Result<OwnedFd> {
    socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        protocol,
    )
    .context("cannot open a raw socket")
}

/// The client's next sequence number and what it acknowledges, from the server's answer to its SYN.
fn sequence_numbers(handshake: &OwnedFd, [client, server]: [u16; 2]) -> Result<(u32, u32)> {
    let mut buffer = [0; 256];
    loop {
        // Delivered before `connect` returned.
        let length = recv(handshake.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)
            .context("no SYN-ACK among the segments of the handshake")?;
        let tcp = buffer[..length].get(IP_HEADER..).unwrap_or_default();
        let ends = (word::<2>(tcp, 0), word::<2>(tcp, 2));
        let flags = tcp.get(13).copied().unwrap_or(0);
        let ours = ends == (server.to_be_bytes(), client.to_be_bytes());
        if ours && flags & SYN_ACK == SYN_ACK {
            let its_first = u32::from_be_bytes(word(tcp, 4));
            let next = u32::from_be_bytes(word(tcp, 8));
            return Ok((next, its_first.wrapping_add(1)));
        }
    }
}

/// Bytes of a header; 0 behind its end.
fn word<const N: usize>(header: &[u8], offset: usize) -> [u8; N] {
    let bytes = header.get(offset..).unwrap_or_default();
    bytes.first_chunk().copied().unwrap_or([0; N])
}

/// RFC 9293 over pseudo header, header and data; the header's own field is 0.
fn tcp_checksum(addresses: &[u8], segment: &[u8]) -> u16 {
    let length = segment.len() as u64;
    let word = |bytes: &[u8]| {
        let low = bytes.get(1).copied().unwrap_or(0);
        u64::from(u16::from_be_bytes([bytes[0], low]))
    };
    let words = addresses.chunks(2).chain(segment.chunks(2)).map(word);
    let mut sum = words.sum::<u64>() + 6 + length;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Just folded into 16 bits.
    u16::try_from(sum).map_or(0, |sum| !sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_with_its_checksum_sums_up_to_nothing() {
        let addresses = [127, 0, 0, 1, 127, 0, 0, 1];
        let mut segment = vec![
            0x1e, 0x61, 0x1e, 0x62, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, ACK, 2, 0, 0, 0, 0, 0, 0x77,
        ];
        let checksum = tcp_checksum(&addresses, &segment);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(tcp_checksum(&addresses, &segment), 0);
    }
}
