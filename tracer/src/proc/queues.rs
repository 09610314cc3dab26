//! Receive queues and the NAPI instances that serve them. From the netlink family `netdev` (queues and NAPI instances:
//! 6.8). An instance has an interrupt only where the driver says so (`netif_napi_set_irq`).

use std::collections::BTreeMap;

use super::{
    genetlink::{Ask, GenericNetlink},
    netlink::{NetlinkError, u32_of},
};
use crate::model::topology::NapiInstance;

/// What the kernel says about queues and NAPI instances of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Receive queues by (interface index, queue) with the id of their NAPI instance.
    pub rx: BTreeMap<(u32, u32), Option<u32>>,
    /// NAPI instances by (interface index, id). Some drivers tie none to a queue (veth).
    pub napi: BTreeMap<(u32, u32), NapiInstance>,
}

/// include/uapi/linux/netdev.h: `NETDEV_CMD_*`.
const QUEUE_GET: u8 = 10;
const NAPI_GET: u8 = 11;
/// `NETDEV_A_QUEUE_*`.
const QUEUE_ID: u16 = 1;
const QUEUE_IFINDEX: u16 = 2;
const QUEUE_TYPE: u16 = 3;
const QUEUE_NAPI_ID: u16 = 4;
const QUEUE_TYPE_RX: u32 = 0;
/// `NETDEV_A_NAPI_*`.
const NAPI_IFINDEX: u16 = 1;
const NAPI_ID: u16 = 2;
const NAPI_IRQ: u16 = 3;
const NAPI_PID: u16 = 4;

/// Reads both. Only devices that are up have any.
pub fn read(netlink: &mut GenericNetlink) -> Result<Queues, NetlinkError> {
    let mut queues = Queues::default();
    let Some(family) = netlink.family("netdev")? else {
        log::info!("the kernel has no netlink family `netdev` (6.3): NAPI instances are not known");
        return Ok(queues);
    };
    let rx = &mut queues.rx;
    let all = netlink.ask(family, QUEUE_GET, Ask::All, &[], |reply| {
        rx.extend(rx_queue(reply));
    });
    note("queues", all);
    let napi = &mut queues.napi;
    let all = netlink.ask(family, NAPI_GET, Ask::All, &[], |reply| {
        napi.extend(instance(reply));
    });
    note("NAPI instances", all);
    Ok(queues)
}

fn note(what: &str, asked: Result<(), NetlinkError>) {
    if let Err(error) = asked {
        log::info!("{what} (netdev netlink, 6.8) are not all known: {error}");
    }
}

/// `QUEUE_GET`; `None` for a transmit queue.
fn rx_queue(reply: &[u8]) -> Option<((u32, u32), Option<u32>)> {
    u32_of(reply, QUEUE_TYPE).filter(|&kind| kind == QUEUE_TYPE_RX)?;
    let queue = (u32_of(reply, QUEUE_IFINDEX)?, u32_of(reply, QUEUE_ID)?);
    Some((queue, u32_of(reply, QUEUE_NAPI_ID)))
}

/// `NAPI_GET`.
fn instance(reply: &[u8]) -> Option<((u32, u32), NapiInstance)> {
    let id = (u32_of(reply, NAPI_IFINDEX)?, u32_of(reply, NAPI_ID)?);
    let instance = NapiInstance {
        irq: u32_of(reply, NAPI_IRQ),
        pid: u32_of(reply, NAPI_PID),
        allowed: Vec::new(),
    };
    Some((id, instance))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::genetlink::captured::replies, *};

    /// Queues of lo (1) and eth0 (4, `virtio_net`) on 6.18.
    const QUEUES: &str = "2c0000001400000008000000bb5f00000a010000080001000000000008000300000000000800020001000000\
        2c0000001400000008000000bb5f00000a010000080001000000000008000300010000000800020001000000\
        340000001400000008000000bb5f00000a0100000800010000000000080003000000000008000200040000000800040001010000\
        2c0000001400000008000000bb5f00000a010000080001000000000008000300010000000800020004000000\
        140000000300020008000000bb5f000000000000";
    /// NAPI instances of a veth (interface 3) with threaded NAPI.
    const THREADED: &str = "4c0000001400000009000000bc5f00000b010000080002002a0100000800010003000000080008000100000008000400\
        975f00000800050000000000080007000000000008000600000000004c0000001400000009000000bc5f00000b010000\
        080002002901000008000100030000000800080001000000080004\
        00985f0000080005000000000008000700000000000800060000000000140000000300020009000000bc5f000000000000";

    #[test]
    fn receive_queues_have_their_napi_instances() {
        let rx: Vec<_> = replies(QUEUES, 8)
            .iter()
            .filter_map(|r| rx_queue(r))
            .collect();
        assert_eq!(rx, [((1, 0), None), ((4, 0), Some(257))]);
    }

    #[test]
    fn threaded_instances_have_a_thread_and_no_interrupt() {
        let instances: Vec<_> = replies(THREADED, 9)
            .iter()
            .filter_map(|r| instance(r))
            .collect();
        let polled_by = |pid| NapiInstance {
            irq: None,
            pid: Some(pid),
            allowed: Vec::new(),
        };
        let expected = [((3, 298), polled_by(24471)), ((3, 297), polled_by(24472))];
        assert_eq!(instances, expected);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_readers_panic(noise in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = (rx_queue(&noise), instance(&noise));
        }
    }
}
