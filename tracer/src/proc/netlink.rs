//! Generic netlink: a socket, requests, and the attributes of the answers. What they mean is for [`ethtool`] and
//! [`queues`].
//!
//! [`ethtool`]: super::ethtool
//! [`queues`]: super::queues

use std::{io, os::fd::OwnedFd, time::Duration};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlaBuffer, NlasIterator,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

/// Why the kernel's answer is missing.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused.
    #[error("generic netlink ({step}): {source}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The answer is of another form.
    #[error("generic netlink answer: {0}")]
    Malformed(String),
}

impl NetlinkError {
    /// True if the kernel or the driver has nothing like it, as opposed to a failure.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        let Self::Kernel { source, .. } = self else {
            return false;
        };
        matches!(
            source.raw_os_error(),
            Some(libc::EOPNOTSUPP | libc::ENOENT | libc::ENODEV)
        )
    }
}

/// A generic netlink socket. It belongs to the network namespace that it was opened in: the families that tell about
/// devices tell about those of that namespace.
#[derive(Debug)]
pub struct GenericNetlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A family of the running kernel, found by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family(u16);

/// Whom a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Every object.
    All,
    /// The one that the attributes name.
    One,
}

/// The kernel sends a dump in parts of at most 32 KiB.
const BUFFER_BYTES: usize = 64 * 1024;
/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// `struct genlmsghdr`: command, version, two bytes that must be 0.
const GENERIC_HEADER_BYTES: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// include/uapi/linux/genetlink.h.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// All families here have version 1; the kernel does not look at it.
const VERSION: u8 = 1;

impl GenericNetlink {
    /// Opens the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::GENERIC),
        )
        .map_err(kernel("socket"))?;
        // A driver may ask its firmware; it is not waited for without end.
        let patience = Some(Duration::from_secs(1));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, patience)
            .map_err(kernel("timeout"))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// The family called `name`; `None` if the kernel has none.
    pub fn family(&mut self, name: &str) -> Result<Option<Family>, NetlinkError> {
        let mut attributes = Vec::new();
        let text = [name.as_bytes(), &[0]].concat();
        push_attribute(&mut attributes, CTRL_ATTR_FAMILY_NAME, &text);
        let mut id = None;
        let controller = Family(GENL_ID_CTRL);
        let asked = self.ask(
            controller,
            CTRL_CMD_GETFAMILY,
            Ask::One,
            &attributes,
            |reply| id = number_of(reply, CTRL_ATTR_FAMILY_ID).map(u16::from_ne_bytes),
        );
        match asked {
            Err(error) if error.is_unsupported() => Ok(None),
            asked => asked.map(|()| id.map(Family)),
        }
    }

    /// Sends `command` with `attributes` and hands the attributes of each message of the answer to `each`. What came
    /// before an error has been handed over.
    pub fn ask(
        &mut self,
        family: Family,
        command: u8,
        ask: Ask,
        attributes: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(family, command, ask, self.sequence, attributes);
        let to_kernel = netlink::SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &request, SendFlags::empty(), &to_kernel)
            .map_err(kernel("request"))?;
        loop {
            let (received, whole) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC)
            })
            .map_err(kernel("answer"))?;
            let Some(datagram) = self.buffer.get(..received).filter(|_| whole == received) else {
                return Err(NetlinkError::Malformed(format!(
                    "{whole} bytes in one part, at most {BUFFER_BYTES} expected"
                )));
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

fn request(family: Family, command: u8, ask: Ask, sequence: u32, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend([command, VERSION, 0, 0]);
    bytes.extend(attributes);
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(length);
    header.set_message_type(family.0);
    header.set_flags(match ask {
        Ask::All => NLM_F_REQUEST | NLM_F_DUMP,
        // With an acknowledgement each answer has an end.
        Ask::One => NLM_F_REQUEST | NLM_F_ACK,
    });
    header.set_sequence_number(sequence);
    bytes
}

/// Whether an answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

/// Hands over the messages of one datagram. Those of another request (one that was given up) are left alone.
fn take(
    mut datagram: &[u8],
    sequence: u32,
    each: &mut impl FnMut(&[u8]),
) -> Result<Progress, NetlinkError> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram)
            .map_err(|error| NetlinkError::Malformed(error.to_string()))?;
        if message.sequence_number() == sequence {
            let payload = message.payload();
            match message.message_type() {
                NLMSG_DONE | NLMSG_ERROR => return end(payload).map(|()| Progress::Done),
                _ => each(payload.get(GENERIC_HEADER_BYTES..).unwrap_or_default()),
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

/// Answers of a real kernel for the tests of the families.
#[cfg(test)]
pub(super) mod captured {
    use super::take;

    pub(in crate::proc) fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().as_chunks::<2>().0;
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.iter().map(|pair| byte(pair).unwrap()).collect()
    }

    /// Attributes of each message of a whole datagram in hexadecimal, request number `sequence`.
    pub(in crate::proc) fn replies(hex: &str, sequence: u32) -> Vec<Vec<u8>> {
        let mut replies = Vec::new();
        take(&bytes(hex), sequence, &mut |reply| {
            replies.push(reply.to_vec());
        })
        .unwrap();
        replies
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{captured::bytes, *};

    /// `CTRL_CMD_GETFAMILY` of `netdev` on 6.18, and the acknowledgement.
    const NETDEV: &str = "1c0100001000000003000000bb5f0000010200000b0002006e657464657600000600010014000000080003000100000008000400\
        000000000800050000000000a4000600140001000800010001000000080002000e00000014000200080001000500000008000200\
        0e00000014000300080001000a000000080002000e00000014000400080001000b000000080002000e0000001400050008000100\
        0c000000080002000c00000014000600080001000d000000080002000b00000014000700080001000e000000080002000b000000\
        14000800080001000f000000080002000a00000038000700180001000800020004000000090001006d676d74000000001c000200\
        08000200050000000e000100706167652d706f6f6c000000";
    const ACKNOWLEDGED: &str =
        "240000000200000103000000bb5f00000000000020000000100005000300000000000000";
    /// Of a family that does not exist.
    const REFUSED: &str = "380000000200000004000000bb5f0000feffffff24000000100005000400000000000000030100000d0002006e6f6e65\
        7375636800000000";

    #[test]
    fn a_family_has_the_number_that_the_kernel_gave_it() {
        let mut id = None;
        let mut each = |reply: &[u8]| id = number_of(reply, CTRL_ATTR_FAMILY_ID);
        let progress = take(&bytes(NETDEV), 3, &mut each).unwrap();
        assert_eq!(
            (progress, id.map(u16::from_ne_bytes)),
            (Progress::More, Some(0x14))
        );
        let progress = take(&bytes(ACKNOWLEDGED), 3, &mut |_| panic!("no reply")).unwrap();
        assert_eq!(progress, Progress::Done);
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let error = take(&bytes(REFUSED), 4, &mut |_| {}).unwrap_err();
        assert!(error.is_unsupported(), "{error}");
        assert!(
            !end(&(-libc::EPERM).to_ne_bytes())
                .unwrap_err()
                .is_unsupported()
        );
        assert!(!NetlinkError::Malformed(String::new()).is_unsupported());
    }

    #[test]
    fn answers_to_another_request_are_left_alone() {
        let progress = take(&bytes(REFUSED), 5, &mut |_| panic!("not asked")).unwrap();
        assert_eq!(progress, Progress::More);
    }

    #[test]
    fn a_request_is_what_the_kernel_reads() {
        let mut attributes = Vec::new();
        push_attribute(&mut attributes, CTRL_ATTR_FAMILY_NAME, b"ethtool\0");
        let request = request(
            Family(GENL_ID_CTRL),
            CTRL_CMD_GETFAMILY,
            Ask::One,
            1,
            &attributes,
        );
        // As ethtool 6.1 sends it.
        let sent =
            "200000001000050001000000000000000301".to_owned() + "00000c000200657468746f6f6c00";
        assert_eq!(request, bytes(&sent));
    }

    #[test]
    fn this_kernel_has_a_controller_and_no_such_family() {
        let mut netlink = GenericNetlink::open().unwrap();
        let controller = netlink.family("nlctrl").unwrap();
        assert_eq!(controller, Some(Family(GENL_ID_CTRL)));
        assert_eq!(netlink.family("nonesuch").unwrap(), None);
    }

    #[test]
    fn a_number_of_another_length_is_none() {
        let mut attributes = Vec::new();
        push_attribute(&mut attributes, 1, &[1, 2]);
        push_attribute(&mut attributes, 2, &[1, 0, 0, 0]);
        assert_eq!(u32_of(&attributes, 1), None);
        assert_eq!(u32_of(&attributes, 2), Some(1));
        assert_eq!(u32_of(&attributes, 3), None);
    }

    proptest! {
        #[test]
        fn no_datagram_makes_the_reader_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..80),
            cut in 0usize..300,
            at in 0usize..300,
            byte in any::<u8>(),
        ) {
            let _ = take(&noise, 3, &mut |reply| { let _ = u32_of(reply, 1); });
            for hex in [NETDEV, ACKNOWLEDGED, REFUSED] {
                let mut mangled = bytes(hex);
                mangled.truncate(cut);
                if let Some(there) = mangled.get_mut(at) {
                    *there = byte;
                }
                let _ = take(&mangled, 3, &mut |reply| { let _ = u32_of(reply, 1); });
            }
            let _ = u32_of(&noise, 1);
        }
    }
}
