//! One file a hook family: the body, then its entry points.

mod backlog;
mod drop;
mod irq;
mod napi;
mod net_rx;
mod softirq;
