//! Receive queues and the NAPI instances that serve them. From the netlink family `netdev` (queues and NAPI instances:
//! 6.8). An instance has an interrupt only where the driver says so (`netif_napi_set_irq`).

use std::collections::BTreeMap;

use super::netlink::{Ask, GenericNetlink, NetlinkError, u32_of};

/// A NAPI instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Napi {
    /// Its interrupt.
    pub irq: Option<u32>,
    /// The thread that polls it; `None` unless NAPI is threaded.
    pub pid: Option<u32>,
}

/// What the kernel says about queues and NAPI instances of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Receive queues by (interface index, queue) with the id of their NAPI instance.
    pub rx: BTreeMap<(u32, u32), Option<u32>>,
    /// NAPI instances by id.
    pub napi: BTreeMap<u32, Napi>,
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
fn instance(reply: &[u8]) -> Option<(u32, Napi)> {
    let napi = Napi {
        irq: u32_of(reply, NAPI_IRQ),
        pid: u32_of(reply, NAPI_PID),
    };
    Some((u32_of(reply, NAPI_ID)?, napi))
}
