//! Changing the host, and taking it back: a plan made of what the findings ask for ([`planner`]), applied with a
//! journal of the original values ([`apply`](mod@apply)), and reverted from that journal ([`revert`](mod@revert)).

pub mod apply;
pub mod baseline;
pub mod fault;
pub mod host;
pub mod identity;
pub mod irqbalance;
pub mod journal;
pub mod load;
pub mod lock;
pub mod plan;
pub mod planner;
pub mod process;
pub mod real;
pub mod revert;
pub mod shell;
pub mod state;
pub mod status;
#[cfg(test)]
mod tests;
pub mod watch;
mod write;
