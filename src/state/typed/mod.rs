//! Typed keyed state: value, list, map, reducing and aggregating state, and timers.
//!
//! As in Flink, state is always that of the *current key*: [`KeyContext::set_current_key`] hashes the
//! key to its group and refuses a key that this subtask does not own; the handles ([`ValueState`] and
//! the others) then read and write the row of that key. Handles are light values that hold no borrow:
//! every call is given the context.
//!
//! Everything here is written once over [`KeyedBackend`](crate::state::KeyedBackend), so heap and RocksDB
//! behave the same. How values become bytes is a [`Codec`]'s business; its name goes into the state's
//! schema, and a restored state that was written by another codec is refused.
//!
//! ```
//! use icecore::keygroup::MaxParallelism;
//! use icecore::state::{heap::HeapBackend, typed::KeyContext};
//!
//! # fn main() -> icecore::Result<()> {
//! let max = MaxParallelism::default_for(1)?;
//! let backend = HeapBackend::new(max, max.range_of_subtask(0, 1)?)?;
//! let mut context = KeyContext::<String, _>::new(backend);
//! let count = context.value_state::<u64>("count")?;
//!
//! for word in ["tea", "milk", "tea"] {
//!     context.set_current_key(&word.to_owned())?;
//!     let seen = count.get(&context)?.unwrap_or(0);
//!     count.set(&mut context, &(seen + 1))?;
//! }
//! context.set_current_key(&"tea".to_owned())?;
//! assert_eq!(count.get(&context)?, Some(2));
//! # Ok(())
//! # }
//! ```

mod codec;
mod context;
mod folding;
mod list;
mod map;
mod timer;
mod value;

pub use codec::{Codec, Postcard, RawBytes};
pub use context::KeyContext;
pub use folding::{AggregateFunction, AggregatingState, ReduceFunction, ReducingState};
pub use list::ListState;
pub use map::MapState;
pub use timer::{Timer, TimerService};
pub use value::ValueState;

#[cfg(test)]
mod tests;
