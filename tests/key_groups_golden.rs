//! Key hashes, key groups and ranges equal what Apache Flink's own classes computed. The generator
//! lies in `tests/golden/flink_key_groups`, its output in `tests/golden/flink_key_groups.txt`.

use icecore::keygroup::{KeyGroupRange, KeyHash, MaxParallelism};

const VECTORS: &str = include_str!("golden/flink_key_groups.txt");
const MIN_KEY_VECTORS: usize = 10_000;

fn lines_of<'a>(accept: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = Vec<&'a str>> {
    VECTORS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(move |fields| accept(fields[0]))
}

fn bytes_of(hex: &str) -> Vec<u8> {
    if hex == "-" {
        return Vec::new();
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn text_of(hex: &str) -> String {
    String::from_utf8(bytes_of(hex)).unwrap()
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn hash_of(kind: &str, key: &str) -> i32 {
    let parts: Vec<&str> = key.split(',').collect();
    match kind {
        "bool" => number::<bool>(key).key_hash(),
        "i8" => number::<i8>(key).key_hash(),
        "i16" => number::<i16>(key).key_hash(),
        "i32" => number::<i32>(key).key_hash(),
        "i64" => number::<i64>(key).key_hash(),
        "str" => text_of(key).key_hash(),
        "bytes" => bytes_of(key).key_hash(),
        "list_i64" if key == "-" => Vec::<i64>::new().key_hash(),
        "list_i64" => parts.into_iter().map(number::<i64>).collect::<Vec<_>>().key_hash(),
        "option_i32" if key == "none" => None::<i32>.key_hash(),
        "option_i32" => Some(number::<i32>(key)).key_hash(),
        "tuple_i64_str" => (number::<i64>(parts[0]), text_of(parts[1])).key_hash(),
        "tuple_i32_bool_str" => (number::<i32>(parts[0]), number::<bool>(parts[1]), text_of(parts[2])).key_hash(),
        _ => panic!("the fixture names a type this test does not know: {kind}"),
    }
}

#[test]
fn keys_fall_into_the_groups_and_subtasks_that_flink_computed() {
    let mut checked = 0;
    for fields in lines_of(|kind| !["range", "default"].contains(&kind)) {
        let [kind, key, hash, max, group, parallelism, subtask] = fields[..] else { panic!("{fields:?}") };
        let max = MaxParallelism::new(number(max)).unwrap();
        assert_eq!(hash_of(kind, key), number::<i32>(hash), "hash of {fields:?}");
        assert_eq!(max.key_group_of_hash(number(hash)), number::<u16>(group), "group of {fields:?}");
        let found = max.subtask_of_group(number(group), number(parallelism)).unwrap();
        assert_eq!(found, number::<u32>(subtask), "subtask of {fields:?}");
        checked += 1;
    }
    assert!(checked >= MIN_KEY_VECTORS, "only {checked} vectors");
}

#[test]
fn subtasks_own_the_ranges_that_flink_computed() {
    let mut checked = 0;
    for fields in lines_of(|kind| kind == "range") {
        let [_, max, parallelism, subtask, first, last] = fields[..] else { panic!("{fields:?}") };
        let found = MaxParallelism::new(number(max)).unwrap().range_of_subtask(number(subtask), number(parallelism));
        assert_eq!(found.unwrap(), KeyGroupRange::new(number(first), number(last)).unwrap(), "{fields:?}");
        checked += 1;
    }
    assert!(checked >= 1_000, "only {checked} vectors");
}

#[test]
fn the_default_max_parallelism_is_the_one_flink_computed() {
    let mut checked = 0;
    for fields in lines_of(|kind| kind == "default") {
        let [_, parallelism, max] = fields[..] else { panic!("{fields:?}") };
        assert_eq!(MaxParallelism::default_for(number(parallelism)).unwrap().get(), number::<u32>(max), "{fields:?}");
        checked += 1;
    }
    assert!(checked >= 400, "only {checked} vectors");
}
