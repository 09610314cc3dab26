//! What follows from the numbers. Pure: data in, data out.

pub mod answer;
pub mod benign;
pub mod reconcile;
pub mod stage;
