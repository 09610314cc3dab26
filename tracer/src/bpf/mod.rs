//! The only users of aya and, with it, most of the `unsafe` of the tool (the rest: [`crate::sys`]): load the object, attach each
//! hook by the first mechanism that works, read counters and details.
#![expect(
    unsafe_code,
    reason = "plain-data markers for aya and reads of memory-mapped maps"
)]

pub mod attach;
mod counters;
mod decode;
mod hook;
mod object;
mod ring;
mod runtime;
mod types;

pub use attach::{Programs, Start};
#[cfg(feature = "synthetic")]
pub use counters::{Arrays, counter_map_bytes};
pub use decode::{Body, Detail, Undecodable, decode};
pub use hook::{Choice, HOOKS, Hook, Mechanism};
pub use object::may_read_kernel_memory;
pub use ring::Details;
