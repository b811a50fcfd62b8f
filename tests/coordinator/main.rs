//! The coordinator and its subtasks, over a store in memory that fails as it is told.

mod acknowledgements;
mod again;
mod beside;
mod distrust;
mod lifecycle;
mod limits;
mod model;
mod outcome;
mod passing_faults;
mod restart;
mod retention;
mod savepoints;
mod support;
mod uploads;
