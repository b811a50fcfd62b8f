//! Random operations on every kind of keyed state, a backend under test, and a model that is too
//! simple to be wrong: standard maps of typed values.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use icecore::Result;
use icecore::keygroup::{KeyGroupRange, MaxParallelism};
use icecore::metadata::StateSchema;
use icecore::state::KeyedBackend;
use icecore::state::typed::{
    AggregateFunction, AggregatingState, KeyContext, ListState, MapState, ReducingState, TimerService, ValueState,
};
use proptest::prelude::*;

/// Whose state an operation works on: a key and a namespace.
pub type Place = (String, Vec<u8>);

const KEYS: u8 = 20;

#[derive(Clone, Debug)]
pub enum Operation {
    SetValue(Place, u32),
    ClearValue(Place),
    AddToList(Place, u16),
    SetList(Place, Vec<u16>),
    ClearList(Place),
    PutInMap(Place, i16, String),
    RemoveFromMap(Place, i16),
    ClearMap(Place),
    Reduce(Place, u32),
    ClearReduced(Place),
    Aggregate(Place, u32),
    ClearAggregated(Place),
    Register(Place, i64),
    DeleteTimer(Place, i64),
    Advance(i64),
}

use Operation::*;

fn place() -> impl Strategy<Value = Place> {
    (0..KEYS, prop::bool::weighted(0.2)).prop_map(|(key, in_window)| {
        // Keys of different lengths, some a prefix of others.
        let key = "k".repeat(usize::from(key % 3)) + &key.to_string();
        (key, if in_window { b"window".to_vec() } else { Vec::new() })
    })
}

pub fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (place(), any::<u32>()).prop_map(|(place, value)| SetValue(place, value)),
        2 => place().prop_map(ClearValue),
        6 => (place(), any::<u16>()).prop_map(|(place, element)| AddToList(place, element)),
        1 => (place(), prop::collection::vec(any::<u16>(), 0..4)).prop_map(|(place, list)| SetList(place, list)),
        1 => place().prop_map(ClearList),
        6 => (place(), -4_i16..4, "[a-c]{0,3}").prop_map(|(place, key, value)| PutInMap(place, key, value)),
        3 => (place(), -4_i16..4).prop_map(|(place, key)| RemoveFromMap(place, key)),
        1 => place().prop_map(ClearMap),
        3 => (place(), any::<u32>()).prop_map(|(place, value)| Reduce(place, value)),
        1 => place().prop_map(ClearReduced),
        3 => (place(), any::<u32>()).prop_map(|(place, value)| Aggregate(place, value)),
        1 => place().prop_map(ClearAggregated),
        6 => (place(), -20_i64..20).prop_map(|(place, time)| Register(place, time)),
        2 => (place(), -20_i64..20).prop_map(|(place, time)| DeleteTimer(place, time)),
        1 => (-20_i64..20).prop_map(Advance),
    ]
}

/// Everything a backend holds, or should hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    values: BTreeMap<Place, u32>,
    lists: BTreeMap<Place, Vec<u16>>,
    maps: BTreeMap<(Place, i16), String>,
    reduced: BTreeMap<Place, u32>,
    aggregated: BTreeMap<Place, (u64, u64)>,
    timers: BTreeSet<(i64, Place)>,
}

impl Model {
    /// Applies `operation`; gives the timers it fires.
    pub fn apply(&mut self, operation: &Operation) -> BTreeSet<(i64, Place)> {
        match operation.clone() {
            SetValue(place, value) => drop(self.values.insert(place, value)),
            ClearValue(place) => drop(self.values.remove(&place)),
            AddToList(place, element) => self.lists.entry(place).or_default().push(element),
            SetList(place, list) if list.is_empty() => drop(self.lists.remove(&place)),
            SetList(place, list) => drop(self.lists.insert(place, list)),
            ClearList(place) => drop(self.lists.remove(&place)),
            PutInMap(place, key, value) => drop(self.maps.insert((place, key), value)),
            RemoveFromMap(place, key) => drop(self.maps.remove(&(place, key))),
            ClearMap(place) => self.maps.retain(|(other, _), _| *other != place),
            Reduce(place, value) => {
                self.reduced.entry(place).and_modify(|present| *present = (*present).max(value)).or_insert(value);
            }
            ClearReduced(place) => drop(self.reduced.remove(&place)),
            Aggregate(place, value) => {
                let (sum, count) = self.aggregated.entry(place).or_default();
                *sum += u64::from(value);
                *count += 1;
            }
            ClearAggregated(place) => drop(self.aggregated.remove(&place)),
            Register(place, time) => drop(self.timers.insert((time, place))),
            DeleteTimer(place, time) => drop(self.timers.remove(&(time, place))),
            Advance(now) => {
                let (fired, later) = std::mem::take(&mut self.timers).into_iter().partition(|(time, _)| *time <= now);
                self.timers = later;
                return fired;
            }
        }
        BTreeSet::new()
    }

    /// Adds what another subtask holds; nothing may be held twice.
    pub fn merge(&mut self, other: Self) {
        fn all<K: Ord, V>(into: &mut BTreeMap<K, V>, from: BTreeMap<K, V>) {
            for (key, value) in from {
                assert!(into.insert(key, value).is_none(), "two subtasks hold the same row");
            }
        }
        all(&mut self.values, other.values);
        all(&mut self.lists, other.lists);
        all(&mut self.maps, other.maps);
        all(&mut self.reduced, other.reduced);
        all(&mut self.aggregated, other.aggregated);
        for timer in other.timers {
            assert!(self.timers.insert(timer), "two subtasks hold the same timer");
        }
    }
}

#[derive(Debug)]
pub struct SumAndCount;

impl AggregateFunction for SumAndCount {
    type Input = u32;
    type Accumulator = (u64, u64);
    type Output = (u64, u64);

    fn create_accumulator(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, (sum, count): (u64, u64), input: u32) -> (u64, u64) {
        (sum + u64::from(input), count + 1)
    }

    fn result(&self, accumulator: &(u64, u64)) -> (u64, u64) {
        *accumulator
    }
}

/// A backend with one state of each kind.
pub struct Subject<B: KeyedBackend> {
    pub context: KeyContext<String, B>,
    value: ValueState<u32>,
    list: ListState<u16>,
    map: MapState<i16, String>,
    reduced: ReducingState<u32, fn(u32, u32) -> u32>,
    aggregated: AggregatingState<SumAndCount>,
    timers: TimerService,
}

impl<B: KeyedBackend> Subject<B> {
    pub fn over(backend: B) -> Result<Self> {
        let mut context = KeyContext::new(backend);
        Ok(Self {
            value: context.value_state("value")?,
            list: context.list_state("list")?,
            map: context.map_state("map")?,
            reduced: context.reducing_state("reduced", u32::max as fn(u32, u32) -> u32)?,
            aggregated: context.aggregating_state("aggregated", SumAndCount)?,
            timers: context.timer_service("timers")?,
            context,
        })
    }

    fn go_to(&mut self, (key, namespace): &Place) {
        self.context.set_current_key(key).unwrap();
        self.context.set_namespace(namespace).unwrap();
    }

    /// Applies `operation`; gives the timers it fires, having checked their order.
    pub fn apply(&mut self, operation: &Operation) -> BTreeSet<(i64, Place)> {
        self.try_apply(operation).unwrap()
    }

    fn try_apply(&mut self, operation: &Operation) -> Result<BTreeSet<(i64, Place)>> {
        match operation {
            Advance(_) => {}
            SetValue(place, _) | ClearValue(place) | AddToList(place, _) | SetList(place, _) | ClearList(place) => {
                self.go_to(place);
            }
            PutInMap(place, ..) | RemoveFromMap(place, _) | ClearMap(place) => self.go_to(place),
            Reduce(place, _) | ClearReduced(place) | Aggregate(place, _) | ClearAggregated(place) => self.go_to(place),
            Register(place, _) | DeleteTimer(place, _) => self.go_to(place),
        }
        let context = &mut self.context;
        match operation {
            SetValue(_, value) => self.value.set(context, value)?,
            ClearValue(_) => self.value.clear(context)?,
            AddToList(_, element) => self.list.add(context, element)?,
            SetList(_, list) => self.list.set(context, list)?,
            ClearList(_) => self.list.clear(context)?,
            PutInMap(_, key, value) => self.map.put(context, key, value)?,
            RemoveFromMap(_, key) => self.map.remove(context, key)?,
            ClearMap(_) => self.map.clear(context)?,
            Reduce(_, value) => self.reduced.add(context, *value)?,
            ClearReduced(_) => self.reduced.clear(context)?,
            Aggregate(_, value) => self.aggregated.add(context, *value)?,
            ClearAggregated(_) => self.aggregated.clear(context)?,
            Register(_, time) => self.timers.register(context, *time)?,
            DeleteTimer(_, time) => self.timers.delete(context, *time)?,
            Advance(now) => {
                let mut fired = Vec::new();
                self.timers.advance(context, *now, |_, _, timer| {
                    fired.push((timer.timestamp_ms, (timer.key, timer.namespace)));
                    Ok(())
                })?;
                assert!(fired.is_sorted_by_key(|(time, _)| *time), "timers fired out of order: {fired:?}");
                return Ok(fired.into_iter().collect());
            }
        }
        Ok(BTreeSet::new())
    }

    /// Reads everything back, key by key, through the typed states.
    pub fn read(&mut self) -> Result<Model> {
        let mut model = Model::default();
        for place in self.places()? {
            self.go_to(&place);
            let context = &self.context;
            if let Some(value) = self.value.get(context)? {
                model.values.insert(place.clone(), value);
            }
            let list = self.list.get(context)?;
            if !list.is_empty() {
                model.lists.insert(place.clone(), list);
            }
            for (key, value) in self.map.entries(context)? {
                model.maps.insert((place.clone(), key), value);
            }
            if let Some(value) = self.reduced.get(context)? {
                model.reduced.insert(place.clone(), value);
            }
            if let Some(value) = self.aggregated.get(context)? {
                model.aggregated.insert(place, value);
            }
        }
        let layout = self.context.backend().layout();
        for (row, _) in rows(self.context.backend_mut(), "timers") {
            let timer = layout.parse_timer(&row)?;
            let place = (postcard::from_bytes(timer.key).unwrap(), timer.namespace.to_vec());
            model.timers.insert((timer.timestamp_ms, place));
        }
        Ok(model)
    }

    /// Every key and namespace that any state has a row of.
    fn places(&mut self) -> Result<BTreeSet<Place>> {
        let mut places = BTreeSet::new();
        let layout = self.context.backend().layout();
        for state in ["value", "list", "map", "reduced", "aggregated"] {
            for (row, _) in rows(self.context.backend_mut(), state) {
                let row = layout.parse_row(&row)?;
                places.insert((postcard::from_bytes(row.key).unwrap(), row.namespace.to_vec()));
            }
        }
        Ok(places)
    }
}

/// A state's rows, in the order in which the backend visits them.
pub fn rows<B: KeyedBackend>(backend: &mut B, state: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let schema: StateSchema = backend.states().into_iter().find(|schema| schema.name == state).unwrap();
    let id = backend.open_state(&schema).unwrap();
    let mut rows = Vec::new();
    backend
        .scan_key_groups(id, backend.key_groups(), &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    rows
}

/// Max parallelisms with key-group prefixes of one and two bytes.
pub fn max_parallelism() -> impl Strategy<Value = MaxParallelism> {
    prop::sample::select(vec![4_u32, 128, 129, 1000]).prop_map(|groups| MaxParallelism::new(groups).unwrap())
}

/// The ranges of `parallelism` subtasks.
pub fn ranges(max: MaxParallelism, parallelism: u32) -> Vec<KeyGroupRange> {
    (0..parallelism).map(|index| max.range_of_subtask(index, parallelism).unwrap()).collect()
}
