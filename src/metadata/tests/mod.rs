//! Tests of the formats: what is written is read back, and nothing else is believed.

mod control;
mod damage;
mod refusal;
mod round_trip;
pub(super) mod samples;
