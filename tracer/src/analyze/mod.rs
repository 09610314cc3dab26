//! What follows from the numbers. Pure: data in, data out.

pub mod answer;
pub mod benign;
pub mod compare;
pub mod details;
pub mod fate;
pub mod missed;
pub mod names;
pub mod notes;
pub mod percentiles;
pub mod reconcile;
pub mod rules;
pub mod stage;
pub mod summary;
