//! Which interrupt belongs to which queue of which network device, on which node and CPUs.

pub mod irq;
