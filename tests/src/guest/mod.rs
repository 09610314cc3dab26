//! The inside of a VM of `cargo xtask vm-test`: its first process, and the scenarios that only a VM can make.

mod bracket;
pub mod init;
pub mod nic;
mod results;
pub mod scenario;
