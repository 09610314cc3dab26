//! A netlink socket: requests, the messages of the answers, and their attributes. What they mean is for
//! [`netdev`](super::netdev) and [`genetlink`](super::genetlink).

use std::{io, os::fd::OwnedFd, time::Duration};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkBuffer, NlaBuffer, NlasIterator};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

/// Why the kernel's answer is missing.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused.
    #[error("netlink ({step}): {source}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The answer is of another form.
    #[error("netlink answer: {0}")]
    Malformed(String),
}

impl NetlinkError {
    /// True if the kernel or the driver has nothing like it, as opposed to a failure.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::EOPNOTSUPP | libc::ENOENT | libc::ENODEV)
        )
    }

    /// True if no answer came in time.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        self.errno() == Some(libc::EAGAIN)
    }

    /// What the kernel says where a family or command is missing.
    pub(super) fn unsupported() -> Self {
        Self::Kernel {
            step: "request",
            source: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        }
    }

    fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error(),
            Self::Malformed(_) => None,
        }
    }
}

/// A netlink socket. It belongs to the network namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// `nlmsg_type`.
    pub(super) kind: u16,
    /// `nlmsg_flags`.
    pub(super) flags: u16,
    /// What follows `struct nlmsghdr`.
    pub(super) payload: &'a [u8],
}

/// The kernel sends a dump in parts of at most 32 KiB, unless one object alone needs more.
const BUFFER_BYTES: usize = 64 * 1024;
/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

impl Socket {
    /// Opens a socket of `protocol`; no protocol is `NETLINK_ROUTE`, which is 0.
    pub(super) fn open(protocol: Option<rustix::net::Protocol>) -> Result<Self, NetlinkError> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(kernel("socket"))?;
        // The kernel answers at once, but a driver may ask its firmware; this is for the case that nobody answers.
        let patience = Some(Duration::from_secs(1));
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, patience)
            .map_err(kernel("timeout"))?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Sends a request and hands each message of the answer to `each`, the one that ends it too. `flags` must make the
    /// answer end: `NLM_F_DUMP` or `NLM_F_ACK`. What came before an error has been handed over.
    pub(super) fn ask<E: From<NetlinkError>>(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        mut each: impl FnMut(Message) -> Result<(), E>,
    ) -> Result<(), E> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(kind, flags, self.sequence, payload);
        let to_kernel = netlink::SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.fd, &request, SendFlags::empty(), &to_kernel)
            .map_err(kernel("request"))?;
        loop {
            let (received, whole) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC)
            })
            .map_err(kernel("answer"))?;
            let Some(datagram) = self.buffer.get(..received).filter(|_| whole == received) else {
                let what = format!("{whole} bytes in one part, at most {BUFFER_BYTES} expected");
                return Err(NetlinkError::Malformed(what).into());
            };
            if take(datagram, self.sequence, &mut each)? == Progress::Done {
                return Ok(());
            }
        }
    }
}

fn kernel<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> NetlinkError {
    move |source| NetlinkError::Kernel {
        step,
        source: source.into(),
    }
}

pub(super) fn request(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend(payload);
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(length);
    header.set_message_type(kind);
    header.set_flags(NLM_F_REQUEST | flags);
    header.set_sequence_number(sequence);
    bytes
}

/// Whether an answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
}

/// Hands over the messages of one datagram. Those of another request (one that was given up) are left alone.
pub(super) fn take<E: From<NetlinkError>>(
    mut datagram: &[u8],
    sequence: u32,
    each: &mut impl FnMut(Message) -> Result<(), E>,
) -> Result<Progress, E> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram)
            .map_err(|error| NetlinkError::Malformed(error.to_string()))?;
        if message.sequence_number() == sequence {
            let message = Message {
                kind: message.message_type(),
                flags: message.flags(),
                payload: message.payload(),
            };
            each(message)?;
            if matches!(message.kind, NLMSG_DONE | NLMSG_ERROR) {
                end(message.payload)?;
                return Ok(Progress::Done);
            }
        }
        let length = message.length() as usize;
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(Progress::More)
}

/// The end of an answer carries 0 or a negative errno.
fn end(payload: &[u8]) -> Result<(), NetlinkError> {
    let code = payload.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
    if code == 0 {
        return Ok(());
    }
    Err(NetlinkError::Kernel {
        step: "answer",
        source: io::Error::from_raw_os_error(code.saturating_neg()),
    })
}

/// Appends attribute `kind`; `value` must be shorter than 64 KiB.
pub(super) fn push_attribute(attributes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let Ok(length) = u16::try_from(value.len() + 4) else {
        return;
    };
    attributes.extend(length.to_ne_bytes());
    attributes.extend(kind.to_ne_bytes());
    attributes.extend(value);
    attributes.resize(attributes.len().next_multiple_of(4), 0);
}

/// The value of attribute `kind`, wherever it is: what a later kernel adds cannot matter.
pub(super) fn value_of(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut found = NlasIterator::new(attributes).filter_map(Result::ok);
    found
        .find(|attribute: &NlaBuffer<&[u8]>| attribute.kind() == kind)
        .and_then(|attribute| {
            attribute
                .into_inner()
                .get(4..usize::from(attribute.length()))
        })
}

/// The value of attribute `kind` if it has exactly the bytes of a number of `N`.
pub(super) fn number_of<const N: usize>(attributes: &[u8], kind: u16) -> Option<[u8; N]> {
    value_of(attributes, kind)?.try_into().ok()
}

/// A `u32` attribute.
pub(super) fn u32_of(attributes: &[u8], kind: u16) -> Option<u32> {
    number_of(attributes, kind).map(u32::from_ne_bytes)
}
