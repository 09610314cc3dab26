//! What the running kernel is: struct layouts and drop reasons from its BTF, symbols, tick length.

pub mod btf;
pub mod drop_reason;
pub mod facts;
pub mod hz;
pub mod symbols;

#[cfg(test)]
mod synthetic_btf;

pub use drop_reason::DropReasons;
pub use facts::KernelFacts;
pub use symbols::{Symbol, Symbols};
