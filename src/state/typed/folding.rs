//! One value or accumulator a key, into which added values are folded.
//!
//! Adding reads, folds and writes; the stored form is that of a value state. The function is the
//! program's and is not stored.

use super::{Codec, KeyContext, Postcard, ValueState};
use crate::error::Result;
use crate::state::KeyedBackend;

/// Folds two values into one; should be associative. Closures `Fn(T, T) -> T` are such functions.
pub trait ReduceFunction<T> {
    /// The value that stands for both, `present` having been there before `added`.
    fn reduce(&self, present: T, added: T) -> T;
}

impl<T, F: Fn(T, T) -> T> ReduceFunction<T> for F {
    fn reduce(&self, present: T, added: T) -> T {
        self(present, added)
    }
}

/// A state of one value a key, into which added values of the same type are folded.
#[derive(Debug)]
pub struct ReducingState<T, F, C = Postcard> {
    value: ValueState<T, C>,
    function: F,
}

impl<T, F: ReduceFunction<T>, C: Codec<T>> ReducingState<T, F, C> {
    pub(super) fn new(value: ValueState<T, C>, function: F) -> Self {
        Self { value, function }
    }

    /// The current key's value; `None` if nothing was added.
    ///
    /// # Errors
    /// As [`ValueState::get`].
    pub fn get<K, B: KeyedBackend, D>(&self, context: &KeyContext<K, B, D>) -> Result<Option<T>> {
        self.value.get(context)
    }

    /// Folds `added` into the current key's value.
    ///
    /// # Errors
    /// As [`ValueState::get`] and [`ValueState::set`].
    pub fn add<K, B: KeyedBackend, D>(&self, context: &mut KeyContext<K, B, D>, added: T) -> Result<()> {
        let folded = match self.value.get(context)? {
            Some(present) => self.function.reduce(present, added),
            None => added,
        };
        self.value.set(context, &folded)
    }

    /// Removes the current key's value.
    ///
    /// # Errors
    /// As [`ValueState::clear`].
    pub fn clear<K, B: KeyedBackend, D>(&self, context: &mut KeyContext<K, B, D>) -> Result<()> {
        self.value.clear(context)
    }
}

/// Folds values into an accumulator of another type (Flink's `AggregateFunction`).
pub trait AggregateFunction {
    /// What is added.
    type Input;
    /// What is stored.
    type Accumulator;
    /// What is read.
    type Output;

    /// An accumulator to which nothing was added yet.
    fn create_accumulator(&self) -> Self::Accumulator;

    /// The accumulator with `input` added.
    fn add(&self, accumulator: Self::Accumulator, input: Self::Input) -> Self::Accumulator;

    /// What the accumulator amounts to.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Output;
}

/// A state of one accumulator a key.
#[derive(Debug)]
pub struct AggregatingState<A: AggregateFunction, C = Postcard> {
    accumulator: ValueState<A::Accumulator, C>,
    function: A,
}

impl<A: AggregateFunction, C: Codec<A::Accumulator>> AggregatingState<A, C> {
    pub(super) fn new(accumulator: ValueState<A::Accumulator, C>, function: A) -> Self {
        Self { accumulator, function }
    }

    /// The result of what was added for the current key; `None` if nothing was.
    ///
    /// # Errors
    /// As [`ValueState::get`].
    pub fn get<K, B: KeyedBackend, D>(&self, context: &KeyContext<K, B, D>) -> Result<Option<A::Output>> {
        Ok(self.accumulator.get(context)?.map(|accumulator| self.function.result(&accumulator)))
    }

    /// Adds `input` to the current key's accumulator.
    ///
    /// # Errors
    /// As [`ValueState::get`] and [`ValueState::set`].
    pub fn add<K, B: KeyedBackend, D>(&self, context: &mut KeyContext<K, B, D>, input: A::Input) -> Result<()> {
        let accumulator = self.accumulator.get(context)?.unwrap_or_else(|| self.function.create_accumulator());
        self.accumulator.set(context, &self.function.add(accumulator, input))
    }

    /// Removes the current key's accumulator.
    ///
    /// # Errors
    /// As [`ValueState::clear`].
    pub fn clear<K, B: KeyedBackend, D>(&self, context: &mut KeyContext<K, B, D>) -> Result<()> {
        self.accumulator.clear(context)
    }
}
