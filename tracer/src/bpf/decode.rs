//! Ring frames to details, without copying the frame; the layout is `tracer_common::event`.

use bytes::{Buf, TryGetError};
use thiserror::Error;
use tracer_common::{
    counter::DropKey,
    event::{DropBody, IrqBody, Kind, NetRxBody},
};

/// One decoded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// CPU that executed the probe.
    pub cpu: u32,
    /// `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// Body.
    pub body: Body,
}

/// Body of a [`Detail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// One hard IRQ handler.
    Irq(IrqBody),
    /// One `NET_RX` run.
    NetRx(NetRxBody),
    /// One drop.
    Drop(DropBody),
}

/// Bytes that are no frame of this version.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Undecodable {
    /// The frame ends early.
    #[error("frame too short: {0}")]
    Short(#[from] TryGetError),
    /// The frame is longer than its kind.
    #[error("{0} bytes behind the end of the frame")]
    Long(usize),
    /// No such kind.
    #[error("unknown kind {0}")]
    Kind(u32),
}

/// Decodes one frame.
pub fn decode(frame: &[u8]) -> Result<Detail, Undecodable> {
    let mut rest = frame;
    let kind = rest.try_get_u32_ne()?;
    let cpu = rest.try_get_u32_ne()?;
    let time_ns = rest.try_get_u64_ne()?;
    let body = match Kind::ALL.into_iter().find(|k| *k as u32 == kind) {
        Some(Kind::Irq) => Body::Irq(irq(&mut rest)?),
        Some(Kind::NetRx) => Body::NetRx(net_rx(&mut rest)?),
        Some(Kind::Drop) => Body::Drop(drop_body(&mut rest)?),
        None => return Err(Undecodable::Kind(kind)),
    };
    if rest.has_remaining() {
        return Err(Undecodable::Long(rest.remaining()));
    }
    Ok(Detail { cpu, time_ns, body })
}

fn irq(rest: &mut &[u8]) -> Result<IrqBody, TryGetError> {
    Ok(IrqBody {
        handler_ns: rest.try_get_u64_ne()?,
        irq: rest.try_get_u32_ne()?,
        reserved: rest.try_get_u32_ne()?,
    })
}

fn net_rx(rest: &mut &[u8]) -> Result<NetRxBody, TryGetError> {
    Ok(NetRxBody {
        wait_ns: rest.try_get_u64_ne()?,
        run_ns: rest.try_get_u64_ne()?,
        packets: rest.try_get_u32_ne()?,
        flags: rest.try_get_u32_ne()?,
    })
}

fn drop_body(rest: &mut &[u8]) -> Result<DropBody, TryGetError> {
    Ok(DropBody {
        key: DropKey {
            location: rest.try_get_u64_ne()?,
            reason: rest.try_get_u32_ne()?,
            ifindex: rest.try_get_u32_ne()?,
            netns: rest.try_get_u32_ne()?,
            target_cpu: rest.try_get_u32_ne()?,
            protocol: rest.try_get_u32_ne()?,
            reserved: rest.try_get_u32_ne()?,
        },
        len: rest.try_get_u32_ne()?,
        ip_version: rest.try_get_u8()?,
        l4_protocol: rest.try_get_u8()?,
        has_ports: rest.try_get_u8()?,
        reserved: rest.try_get_u8()?,
        source_port: array(rest)?,
        destination_port: array(rest)?,
        reserved2: rest.try_get_u32_ne()?,
        source: array(rest)?,
        destination: array(rest)?,
        device: array(rest)?,
    })
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TryGetError> {
    let mut bytes = [0; N];
    rest.try_copy_to_slice(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_has_the_size_that_the_kernel_side_writes() {
        let header = size_of::<tracer_common::event::Header>();
        for (kind, size) in [
            (Kind::Irq, size_of::<IrqBody>()),
            (Kind::NetRx, size_of::<NetRxBody>()),
            (Kind::Drop, size_of::<DropBody>()),
        ] {
            let mut frame = vec![0; header + size];
            frame[..4].copy_from_slice(&(kind as u32).to_ne_bytes());
            assert!(decode(&frame).is_ok(), "{kind:?}");
            frame.push(0);
            assert_eq!(decode(&frame), Err(Undecodable::Long(1)), "{kind:?}");
            frame.truncate(frame.len() - 2);
            assert!(
                matches!(decode(&frame), Err(Undecodable::Short(_))),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_drop_keeps_every_field_apart() {
        let mut frame = Vec::new();
        frame.extend_from_slice(&(Kind::Drop as u32).to_ne_bytes());
        frame.extend_from_slice(&3u32.to_ne_bytes());
        frame.extend_from_slice(&77u64.to_ne_bytes());
        frame.extend((0..size_of::<DropBody>()).map(|i| u8::try_from(i).unwrap()));
        let detail = decode(&frame).unwrap();
        assert_eq!((detail.cpu, detail.time_ns), (3, 77));
        let Body::Drop(drop) = detail.body else {
            panic!("{detail:?}");
        };
        assert_eq!(
            drop.key.location,
            u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7])
        );
        assert_eq!(drop.key.target_cpu, u32::from_ne_bytes([20, 21, 22, 23]));
        assert_eq!(drop.len, u32::from_ne_bytes([32, 33, 34, 35]));
        assert_eq!(drop.destination_port, [42, 43]);
        assert_eq!(drop.source[0], 48);
        assert_eq!(drop.device[15], 95);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }

        #[test]
        fn any_body_of_a_known_kind_decodes(kind in 0u32..3, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = kind.to_ne_bytes().to_vec();
            frame.extend(bytes);
            let _ = decode(&frame);
        }
    }
}
