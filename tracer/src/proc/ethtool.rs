//! How a device is set: rings, channels, coalescing. From the netlink family `ethtool` (5.7).

use std::collections::BTreeMap;

use super::{
    genetlink::{Ask, Family, GenericNetlink},
    netlink::{NetlinkError, number_of, push_attribute, u32_of, value_of},
};
use crate::model::topology::{ChannelKind, Coalesce, Range};

/// What one device says of itself; `None`: its driver does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Receive ring, entries (`RINGS_GET`).
    pub ring: Option<Range>,
    /// Combined channels, or receive channels where it has no combined ones (`CHANNELS_GET`).
    pub channels: Option<(ChannelKind, Range)>,
    /// Receive coalescing (`COALESCE_GET`).
    pub coalesce: Option<Coalesce>,
}

/// `include/uapi/linux/ethtool_netlink.h`: `ETHTOOL_MSG_*`.
const RINGS_GET: u8 = 15;
const CHANNELS_GET: u8 = 17;
const RINGS_SET: u8 = 16;
const CHANNELS_SET: u8 = 18;
const COALESCE_GET: u8 = 19;
/// `ETHTOOL_A_*_HEADER`, the first attribute of every message, with `NLA_F_NESTED` in a request.
const HEADER: u16 = 1;
const NESTED: u16 = 1 << 15;
const HEADER_DEV_INDEX: u16 = 1;
/// `ETHTOOL_A_RINGS_*`.
const RINGS_RX_MAX: u16 = 2;
const RINGS_RX: u16 = 6;
/// `ETHTOOL_A_CHANNELS_*`.
const CHANNELS_RX_MAX: u16 = 2;
const CHANNELS_COMBINED_MAX: u16 = 5;
const CHANNELS_RX_COUNT: u16 = 6;
const CHANNELS_COMBINED_COUNT: u16 = 9;
/// `ETHTOOL_A_COALESCE_*`.
const COALESCE_RX_USECS: u16 = 2;
const COALESCE_RX_MAX_FRAMES: u16 = 3;
const COALESCE_USE_ADAPTIVE_RX: u16 = 11;

/// The settings of `devices` (interface indices) by index. One device that fails hides no other: a dump ends at the
/// first driver that returns an error (`ethnl_default_dumpit`), so those after it are asked one by one.
pub fn read(
    netlink: &mut GenericNetlink,
    devices: &[u32],
) -> Result<BTreeMap<u32, DeviceSettings>, NetlinkError> {
    let mut settings: BTreeMap<u32, DeviceSettings> = BTreeMap::new();
    let Some(family) = netlink.family("ethtool")? else {
        log::info!(
            "the kernel has no netlink family `ethtool` (5.6): rings and channels are not known"
        );
        return Ok(settings);
    };
    for command in [RINGS_GET, CHANNELS_GET, COALESCE_GET] {
        for (index, reply) in replies(netlink, family, command, devices) {
            let of_device = settings.entry(index).or_default();
            match command {
                RINGS_GET => of_device.ring = ring(&reply),
                CHANNELS_GET => of_device.channels = channels(&reply),
                _ => of_device.coalesce = coalesce(&reply),
            }
        }
    }
    Ok(settings)
}

/// Sets the receive ring of interface `index` (`RINGS_SET`, 5.7).
pub fn set_ring(
    netlink: &mut GenericNetlink,
    index: u32,
    entries: u32,
) -> Result<(), NetlinkError> {
    set(netlink, RINGS_SET, index, RINGS_RX, entries)
}

/// Sets the combined channels of interface `index`, or its receive channels where it has no combined ones
/// (`CHANNELS_SET`, 5.7).
pub fn set_channels(
    netlink: &mut GenericNetlink,
    index: u32,
    count: u32,
) -> Result<(), NetlinkError> {
    let Some(family) = netlink.family("ethtool")? else {
        return Err(NetlinkError::unsupported());
    };
    let mut attribute = CHANNELS_RX_COUNT;
    let one = header(Some(index));
    netlink.ask(family, CHANNELS_GET, Ask::One, &one, |reply| {
        if u32_of(reply, CHANNELS_COMBINED_COUNT).is_some_and(|combined| combined > 0) {
            attribute = CHANNELS_COMBINED_COUNT;
        }
    })?;
    set(netlink, CHANNELS_SET, index, attribute, count)
}

fn set(
    netlink: &mut GenericNetlink,
    command: u8,
    index: u32,
    attribute: u16,
    value: u32,
) -> Result<(), NetlinkError> {
    let Some(family) = netlink.family("ethtool")? else {
        return Err(NetlinkError::unsupported());
    };
    let mut attributes = header(Some(index));
    push_attribute(&mut attributes, attribute, &value.to_ne_bytes());
    netlink.ask(family, command, Ask::One, &attributes, |_| {})
}

fn replies(
    netlink: &mut GenericNetlink,
    family: Family,
    command: u8,
    devices: &[u32],
) -> BTreeMap<u32, Vec<u8>> {
    let mut replies = BTreeMap::new();
    let mut keep = |reply: &[u8]| {
        if let Some(index) = device_of(reply) {
            replies.insert(index, reply.to_vec());
        }
    };
    let Err(error) = netlink.ask(family, command, Ask::All, &header(None), &mut keep) else {
        return replies;
    };
    log::info!("ethtool command {command} for all devices: {error}");
    // Before 5.7 there is no such command; and who keeps silent once is not asked a thousand times.
    if error.is_unsupported() || error.is_silence() {
        return replies;
    }
    for &index in devices {
        if replies.contains_key(&index) {
            continue;
        }
        let mut keep = |reply: &[u8]| drop(replies.insert(index, reply.to_vec()));
        let one = header(Some(index));
        match netlink.ask(family, command, Ask::One, &one, &mut keep) {
            Err(error) if !error.is_unsupported() => {
                log::info!("ethtool command {command} for interface {index}: {error}");
                if error.is_silence() {
                    break;
                }
            }
            _ => {}
        }
    }
    replies
}

/// The header of a request. Older kernels refuse a dump without one.
fn header(index: Option<u32>) -> Vec<u8> {
    let mut inner = Vec::new();
    if let Some(index) = index {
        push_attribute(&mut inner, HEADER_DEV_INDEX, &index.to_ne_bytes());
    }
    let mut attributes = Vec::new();
    push_attribute(&mut attributes, HEADER | NESTED, &inner);
    attributes
}

fn device_of(reply: &[u8]) -> Option<u32> {
    u32_of(value_of(reply, HEADER)?, HEADER_DEV_INDEX)
}

/// `RINGS_GET`. The kernel leaves out what a driver has none of (`rings_fill_reply`).
fn ring(reply: &[u8]) -> Option<Range> {
    range(reply, RINGS_RX, RINGS_RX_MAX)
}

/// `CHANNELS_GET`, likewise.
fn channels(reply: &[u8]) -> Option<(ChannelKind, Range)> {
    let combined = range(reply, CHANNELS_COMBINED_COUNT, CHANNELS_COMBINED_MAX)
        .filter(|combined| combined.now > 0)
        .map(|combined| (ChannelKind::Combined, combined));
    let rx = || range(reply, CHANNELS_RX_COUNT, CHANNELS_RX_MAX).map(|rx| (ChannelKind::Rx, rx));
    combined.or_else(rx)
}

fn range(reply: &[u8], now: u16, max: u16) -> Option<Range> {
    Some(Range {
        now: u32_of(reply, now)?,
        max: u32_of(reply, max).filter(|&max| max > 0),
    })
}

/// `COALESCE_GET`. A value that the driver does not support is left out by the kernel unless it is not 0.
fn coalesce(reply: &[u8]) -> Option<Coalesce> {
    let coalesce = Coalesce {
        adaptive_rx: number_of(reply, COALESCE_USE_ADAPTIVE_RX).map(|[on]: [u8; 1]| on != 0),
        rx_usecs: u32_of(reply, COALESCE_RX_USECS),
        rx_frames: u32_of(reply, COALESCE_RX_MAX_FRAMES),
    };
    (coalesce != Coalesce::default()).then_some(coalesce)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::genetlink::captured::{bytes, replies},
        *,
    };

    /// eth0 (`virtio_net`, interface 4) on 6.18.
    const RINGS: &str = "5c0000001500020005000000bb5f00001001000018000180080001000400000009000200657468300000000008000200\
        0001000008000600000100000800050000010000080009000001000005000d000000000005000e000000000014000000\
        0300020005000000bb5f000000000000";
    const COMBINED: &str = "3c0000001500020006000000bb5f00001201000018000180080001000400000009000200657468300000000008000500\
        0100000008000900010000001400000003000200\
        06000000bb5f000000000000";
    const COALESCE: &str = "540000001500020007000000bb5f00001401000018000180080001000400000009000200657468300000000008000200\
        0000000008000300010000000800060000000000080007000100000005000b0000000000140000000300020007000000bb5f000000000000";
    /// Two ends of a veth pair, interfaces 2 and 3, with two queues each.
    const SEPARATE: &str = "480000001500020006000000bc5f00001201000014000180080001000200000007000200766200000800020002000000\
        080006000200000008000300020000000800070002000000480000001500020006000000bc5f00001201000014000180\
        080001000300000007000200766100000800020002000000080006000200000008000300020000000800070002000000\
        140000000300020006000000bc5f000000000000";

    #[test]
    fn rings_channels_and_coalescing_of_a_nic_are_read() {
        let [rings] = &replies(RINGS, 5)[..] else {
            panic!("one device");
        };
        let range = |now, max| {
            Some(Range {
                now,
                max: Some(max),
            })
        };
        assert_eq!(device_of(rings), Some(4));
        assert_eq!(ring(rings), range(256, 256));
        let combined = range(1, 1).map(|range| (ChannelKind::Combined, range));
        assert_eq!(channels(&replies(COMBINED, 6)[0]), combined);
        let expected = Coalesce {
            adaptive_rx: Some(false),
            rx_usecs: Some(0),
            rx_frames: Some(1),
        };
        assert_eq!(coalesce(&replies(COALESCE, 7)[0]), Some(expected));
    }

    #[test]
    fn a_device_without_combined_channels_has_receive_channels() {
        let replies = replies(SEPARATE, 6);
        let devices: Vec<_> = replies
            .iter()
            .filter_map(|reply| device_of(reply))
            .collect();
        assert_eq!(devices, [2, 3]);
        let two = Range {
            now: 2,
            max: Some(2),
        };
        assert!(
            replies
                .iter()
                .all(|reply| channels(reply) == Some((ChannelKind::Rx, two)))
        );
    }

    #[test]
    fn what_a_driver_does_not_say_is_none() {
        let header = header(Some(4));
        assert_eq!(ring(&header), None);
        assert_eq!(channels(&header), None);
        assert_eq!(coalesce(&header), None);
        assert_eq!(device_of(&header), Some(4));
        assert_eq!(device_of(&super::header(None)), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_readers_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..60),
            at in 20usize..100,
            byte in any::<u8>(),
        ) {
            let mut mangled = bytes(RINGS);
            mangled[at - 20] = byte;
            for reply in [&noise[..], mangled.get(20..).unwrap_or_default()] {
                let _ = (device_of(reply), ring(reply), channels(reply), coalesce(reply));
            }
        }
    }
}
