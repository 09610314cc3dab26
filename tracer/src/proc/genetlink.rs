//! Generic netlink: families by name, and requests to them. The families are [`ethtool`] and [`queues`].
//!
//! [`ethtool`]: super::ethtool
//! [`queues`]: super::queues

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use rustix::net::netlink;

use super::netlink::{NetlinkError, Socket, number_of, push_attribute};

/// A generic netlink socket. The families that tell about devices tell about those of the network namespace that it was
/// opened in.
#[derive(Debug)]
pub struct GenericNetlink(Socket);

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

/// `struct genlmsghdr`: command, version, two bytes that must be 0.
const HEADER_BYTES: usize = 4;
/// `include/uapi/linux/genetlink.h`.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// All families here have version 1; the kernel does not look at it.
const VERSION: u8 = 1;

impl GenericNetlink {
    /// Opens the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Socket::open(Some(netlink::GENERIC)).map(Self)
    }

    /// The family called `name`; `None` if the kernel has none.
    pub fn family(&mut self, name: &str) -> Result<Option<Family>, NetlinkError> {
        let mut id = None;
        let asked = self.ask(
            Family(GENL_ID_CTRL),
            CTRL_CMD_GETFAMILY,
            Ask::One,
            &name_attribute(name),
            |reply| id = family_of(reply),
        );
        match asked {
            Err(error) if error.is_unsupported() => Ok(None),
            asked => asked.map(|()| id),
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
        let flags = match ask {
            Ask::All => NLM_F_DUMP,
            Ask::One => NLM_F_ACK,
        };
        let payload = [&[command, VERSION, 0, 0], attributes].concat();
        self.0.ask(family.0, flags, &payload, |message| {
            if message.kind == family.0 {
                each(message.payload.get(HEADER_BYTES..).unwrap_or_default());
            }
            Ok(())
        })
    }
}

fn name_attribute(name: &str) -> Vec<u8> {
    let mut attributes = Vec::new();
    let text = [name.as_bytes(), &[0]].concat();
    push_attribute(&mut attributes, CTRL_ATTR_FAMILY_NAME, &text);
    attributes
}

fn family_of(reply: &[u8]) -> Option<Family> {
    number_of(reply, CTRL_ATTR_FAMILY_ID).map(|id| Family(u16::from_ne_bytes(id)))
}

/// Answers of a real kernel for the tests of the families.
#[cfg(test)]
pub(super) mod captured {
    use super::{super::netlink::take, HEADER_BYTES, NetlinkError};

    pub(in crate::proc) fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().as_chunks::<2>().0;
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.iter().map(|pair| byte(pair).unwrap()).collect()
    }

    /// Attributes of each message of a whole datagram in hexadecimal, request number `sequence`.
    pub(in crate::proc) fn replies(hex: &str, sequence: u32) -> Vec<Vec<u8>> {
        let mut replies = Vec::new();
        take(&bytes(hex), sequence, &mut |message| {
            let is_reply = message.kind >= super::GENL_ID_CTRL;
            replies.extend(is_reply.then(|| message.payload[HEADER_BYTES..].to_vec()));
            Ok::<_, NetlinkError>(())
        })
        .unwrap();
        replies
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::netlink::{Message, Progress, request, take, u32_of},
        captured::{bytes, replies},
        *,
    };

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

    fn progress(hex: &str, sequence: u32) -> Result<Progress, NetlinkError> {
        take(&bytes(hex), sequence, &mut |_| Ok(()))
    }

    #[test]
    fn a_family_has_the_number_that_the_kernel_gave_it() {
        assert_eq!(family_of(&replies(NETDEV, 3)[0]), Some(Family(0x14)));
        assert_eq!(progress(NETDEV, 3).unwrap(), Progress::More);
        assert_eq!(progress(ACKNOWLEDGED, 3).unwrap(), Progress::Done);
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let error = progress(REFUSED, 4).unwrap_err();
        assert!(error.is_unsupported(), "{error}");
        let not_permitted = REFUSED.replace("feffffff", "ffffffff");
        let error = progress(&not_permitted, 4).unwrap_err();
        assert!(!error.is_unsupported(), "{error}");
        assert!(!NetlinkError::Malformed(String::new()).is_unsupported());
    }

    #[test]
    fn answers_to_another_request_are_left_alone() {
        assert_eq!(progress(REFUSED, 5).unwrap(), Progress::More);
    }

    #[test]
    fn a_request_is_what_the_kernel_reads() {
        let payload = [
            &[CTRL_CMD_GETFAMILY, VERSION, 0, 0][..],
            &name_attribute("ethtool"),
        ];
        // As ethtool 6.1 sends it.
        let sent = "2000000010000500010000000000000003010000\
            0c000200657468746f6f6c00";
        assert_eq!(
            request(GENL_ID_CTRL, NLM_F_ACK, 1, &payload.concat()),
            bytes(sent)
        );
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
            let mut each = |message: Message| {
                let _ = (family_of(message.payload), u32_of(message.payload, 1));
                Ok::<_, NetlinkError>(())
            };
            let _ = take(&noise, 3, &mut each);
            for hex in [NETDEV, ACKNOWLEDGED, REFUSED] {
                let mut mangled = bytes(hex);
                mangled.truncate(cut);
                if let Some(there) = mangled.get_mut(at) {
                    *there = byte;
                }
                let _ = take(&mangled, 3, &mut each);
            }
        }
    }
}
