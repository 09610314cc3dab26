//! The stream of details: one ring for all CPUs, read when it fills or at the caller's pace.

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use super::decode::{Detail, decode};

/// Frames read in one go, some 10 ms of work.
const FRAMES: usize = 1 << 14;

/// Reader of the ring.
pub struct Details {
    ring: AsyncFd<RingBuf<MapData>>,
    undecodable: u64,
}

impl Details {
    pub(super) fn new(map: Map) -> Result<Self> {
        let ring = RingBuf::try_from(map)?;
        Ok(Self {
            // SAFETY: the map's descriptor stays the same and open as long as `ring`.
            ring: unsafe { AsyncFd::register(ring) }.context("cannot wait for the ring buffer")?,
            undecodable: 0,
        })
    }

    /// Waits until the kernel side says that the ring fills up. It does not wake for every
    /// detail: call [`Self::drain`] at intervals too.
    pub async fn filling(&mut self) -> Result<()> {
        let mut ready = self.ring.readable_mut().await?;
        // Cleared before the caller drains, so a wake-up in between is not lost.
        ready.clear_ready();
        Ok(())
    }

    /// Hands what is in the ring to `take`, [`FRAMES`] at most: many CPUs fill it as fast as one empties
    /// it. True if that was not all.
    pub fn drain(&mut self, mut take: impl FnMut(Detail)) -> bool {
        let ring = self.ring.get_mut();
        for _ in 0..FRAMES {
            let Some(frame) = ring.next() else {
                return false;
            };
            match decode(&frame) {
                Ok(detail) => take(detail),
                Err(_) => self.undecodable += 1,
            }
        }
        true
    }

    /// Frames that [`decode`] refused so far.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }
}
