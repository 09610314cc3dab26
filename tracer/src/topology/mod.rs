//! Which interrupt belongs to which queue of which network device, on which node and CPUs; which processes compete
//! with them.

pub mod irq;
pub mod process;
