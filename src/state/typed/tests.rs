use super::*;
use crate::error::ErrorKind;
use crate::keygroup::{KeyGroupRange, KeyHash, MaxParallelism};
use crate::state::KeyedBackend;
use crate::state::heap::HeapBackend;

type Context = KeyContext<String, Box<dyn KeyedBackend>>;

fn context() -> Context {
    let max = MaxParallelism::new(128).unwrap();
    KeyContext::new(Box::new(HeapBackend::new(max, max.all_groups()).unwrap()))
}

fn at(context: &mut Context, key: &str) {
    context.set_current_key(&key.to_owned()).unwrap();
}

#[test]
fn a_key_of_a_group_that_is_not_owned_is_refused_and_the_key_before_stays() {
    let max = MaxParallelism::new(128).unwrap();
    let mine = max.key_group_of("mine");
    let owned = KeyGroupRange::new(mine, mine).unwrap();
    let mut context = KeyContext::<String, _>::new(HeapBackend::new(max, owned).unwrap());
    context.set_current_key(&"mine".to_owned()).unwrap();
    let error = context.set_current_key(&"other".to_owned()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains(&format!("key group {}", max.key_group_of_hash("other".key_hash()))));
    assert_eq!(context.current_key_group().unwrap(), mine);
}

#[test]
fn using_state_without_a_current_key_is_refused() {
    let mut context = context();
    let value = context.value_state::<u32>("value").unwrap();
    assert_eq!(value.get(&context).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(value.set(&mut context, &1).unwrap_err().object(), Some("value"));
}

#[test]
fn keys_and_namespaces_have_values_of_their_own() {
    let mut context = context();
    let value = context.value_state::<u32>("value").unwrap();
    at(&mut context, "a");
    value.set(&mut context, &1).unwrap();
    context.set_namespace(b"window").unwrap();
    value.set(&mut context, &2).unwrap();
    at(&mut context, "b");
    assert_eq!(value.get(&context).unwrap(), None);
    at(&mut context, "a");
    assert_eq!(value.get(&context).unwrap(), Some(1));
    context.set_namespace(b"window").unwrap();
    assert_eq!(value.get(&context).unwrap(), Some(2));
    value.clear(&mut context).unwrap();
    assert_eq!(value.get(&context).unwrap(), None);
}

#[test]
fn lists_keep_the_order_of_adding() {
    let mut context = context();
    let list = context.list_state_with::<Vec<u8>, _>("list", RawBytes).unwrap();
    at(&mut context, "a");
    list.add(&mut context, &b"one".to_vec()).unwrap();
    list.add_all(&mut context, [&Vec::new(), &vec![7; 300]]).unwrap();
    assert_eq!(list.get(&context).unwrap(), [b"one".to_vec(), Vec::new(), vec![7; 300]]);
    list.set(&mut context, [&b"new".to_vec()]).unwrap();
    assert_eq!(list.get(&context).unwrap(), [b"new".to_vec()]);
    list.set(&mut context, []).unwrap();
    assert_eq!(list.get(&context).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn maps_of_neighbouring_keys_do_not_mix() {
    let mut context = context();
    let map = context.map_state::<u8, String>("map").unwrap();
    for key in ["a", "aa"] {
        at(&mut context, key);
        map.put(&mut context, &1, &format!("{key} 1")).unwrap();
        map.put(&mut context, &2, &format!("{key} 2")).unwrap();
    }
    at(&mut context, "a");
    map.remove(&mut context, &1).unwrap();
    assert_eq!(map.entries(&context).unwrap(), [(2, "a 2".to_owned())]);
    assert!(!map.contains(&context, &1).unwrap());
    map.clear(&mut context).unwrap();
    assert!(map.is_empty(&context).unwrap());
    at(&mut context, "aa");
    assert_eq!(map.get(&context, &1).unwrap(), Some("aa 1".to_owned()));
    assert_eq!(map.entries(&context).unwrap().len(), 2);
}

struct Average;

impl AggregateFunction for Average {
    type Input = u32;
    type Accumulator = (u64, u64);
    type Output = f64;

    fn create_accumulator(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, (sum, count): (u64, u64), input: u32) -> (u64, u64) {
        (sum + u64::from(input), count + 1)
    }

    fn result(&self, (sum, count): &(u64, u64)) -> f64 {
        *sum as f64 / *count as f64
    }
}

#[test]
fn reducing_and_aggregating_states_fold_what_is_added() {
    let mut context = context();
    let greatest = context.reducing_state("greatest", u32::max).unwrap();
    let average = context.aggregating_state("average", Average).unwrap();
    at(&mut context, "a");
    assert_eq!(greatest.get(&context).unwrap(), None);
    assert_eq!(average.get(&context).unwrap(), None);
    for number in [3, 9, 6] {
        greatest.add(&mut context, number).unwrap();
        average.add(&mut context, number).unwrap();
    }
    assert_eq!(greatest.get(&context).unwrap(), Some(9));
    assert_eq!(average.get(&context).unwrap(), Some(6.0));
    greatest.clear(&mut context).unwrap();
    average.clear(&mut context).unwrap();
    assert_eq!((greatest.get(&context).unwrap(), average.get(&context).unwrap()), (None, None));
}

#[test]
fn a_state_reopened_as_another_kind_or_type_is_a_schema_mismatch() {
    let mut context = context();
    context.value_state::<u32>("state").unwrap();
    assert!(context.value_state::<u32>("state").is_ok());
    for error in [
        context.value_state::<u64>("state").unwrap_err(),
        context.list_state::<u32>("state").unwrap_err(),
        context.value_state_with::<u32, _>("state", Postcard::named("count v2")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
        assert_eq!(error.object(), Some("state"));
    }
}

#[test]
fn bytes_left_over_after_a_value_are_corrupt() {
    let codec = Postcard::default();
    assert_eq!(Codec::<u8>::decode(&codec, &[1, 2]).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(Codec::<u16>::decode(&codec, &[]).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn fire(timers: &mut TimerService, context: &mut Context, now_ms: i64) -> Vec<(i64, String)> {
    let mut fired = Vec::new();
    timers
        .advance(context, now_ms, |_, _, timer| {
            fired.push((timer.timestamp_ms, timer.key));
            Ok(())
        })
        .unwrap();
    fired
}

fn due(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(timestamp_ms, key)| (*timestamp_ms, (*key).to_owned())).collect()
}

#[test]
fn due_timers_fire_once_in_timestamp_order_over_all_key_groups() {
    let mut context = context();
    let mut timers = context.timer_service("timers").unwrap();
    for (timestamp_ms, key) in [(30, "a"), (-5, "b"), (10, "c"), (10, "c"), (31, "d"), (20, "a"), (i64::MAX, "e")] {
        at(&mut context, key);
        timers.register(&mut context, timestamp_ms).unwrap();
    }
    at(&mut context, "a");
    timers.delete(&mut context, 20).unwrap();
    assert_eq!(timers.next_due_ms(&context).unwrap(), Some(-5));
    assert_eq!(fire(&mut timers, &mut context, 30), due(&[(-5, "b"), (10, "c"), (30, "a")]));
    assert_eq!(fire(&mut timers, &mut context, 30), []);
    at(&mut context, "b");
    timers.register(&mut context, -100).unwrap();
    assert_eq!(fire(&mut timers, &mut context, i64::MAX), due(&[(-100, "b"), (31, "d"), (i64::MAX, "e")]));
    assert_eq!(timers.next_due_ms(&context).unwrap(), None);
}

#[test]
fn a_timer_registered_while_firing_fires_in_the_same_advance_if_it_is_due() {
    let mut context = context();
    let mut timers = context.timer_service("timers").unwrap();
    at(&mut context, "a");
    timers.register(&mut context, 10).unwrap();
    at(&mut context, "b");
    timers.register(&mut context, 12).unwrap();
    let mut fired = Vec::new();
    timers
        .advance(&mut context, 20, |timers, context, timer| {
            fired.push(timer.timestamp_ms);
            if timer.timestamp_ms == 10 {
                // For the timer's own key, as the current one: earlier, later and not yet due.
                timers.register(context, 5)?;
                timers.register(context, 15)?;
                timers.register(context, 25)?;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(fired, [10, 5, 12, 15]);
    assert_eq!(fire(&mut timers, &mut context, 25), due(&[(25, "a")]));
}

#[test]
fn a_timer_fires_in_the_namespace_it_was_registered_in() {
    let mut context = context();
    let value = context.value_state::<u32>("value").unwrap();
    let mut timers = context.timer_service("timers").unwrap();
    at(&mut context, "a");
    context.set_namespace(b"window").unwrap();
    value.set(&mut context, &7).unwrap();
    timers.register(&mut context, 1).unwrap();
    at(&mut context, "b");
    let timer = timers.pop_due(&mut context, 1).unwrap().unwrap();
    assert_eq!(timer, Timer { key: "a".into(), namespace: b"window".to_vec(), timestamp_ms: 1 });
    assert_eq!(value.get(&context).unwrap(), Some(7));
}

#[test]
fn a_second_service_for_the_same_timers_is_refused() {
    let mut context = context();
    context.timer_service("timers").unwrap();
    assert_eq!(context.timer_service("timers").unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn timers_registered_before_the_service_was_opened_fire() {
    let mut first = context();
    let mut timers = first.timer_service("timers").unwrap();
    at(&mut first, "a");
    timers.register(&mut first, 10).unwrap();
    let mut second = Context::new(first.into_backend());
    let mut timers = second.timer_service("timers").unwrap();
    assert_eq!(fire(&mut timers, &mut second, 10), due(&[(10, "a")]));
}
