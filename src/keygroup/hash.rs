//! The hash of a key: stable over processes, versions and machines.
//!
//! A key's group follows from this hash, and stored state lies in that group, so the hash may never
//! change. The standard library's hashers promise no such thing and are not used. Where Java has a
//! type of the same meaning the value equals its `hashCode()`, so that keys fall into the same groups as
//! in a Flink job:
//!
//! | Rust | as in Java |
//! |---|---|
//! | `bool`, `i8`, `i16`, `i32`, `i64` | `Boolean`, `Byte`, `Short`, `Integer`, `Long` |
//! | `u8`, `u16`, `u32`, `u64` | the signed type of the same width with the same bits |
//! | `str`, `String` | `String`, over UTF-16 units |
//! | `[T]`, `Vec<T>`, `[T; N]` | `Arrays.hashCode`, `List`: from 1, `31 * h + element`; for `u8` that is `Arrays.hashCode(byte[])` |
//! | tuples of 2 to 6 | Flink's `Tuple2` to `Tuple6`: from the first field, `31 * h + next` |
//! | `Option<T>` | `Optional`: 0 for `None`, else the value's own |
//! | `()` | 0 (our choice) |
//!
//! Floating-point numbers have no implementation: keys need an equality that agrees with the hash.
//! Enums and structs implement the trait by hand, best by hashing a tuple of their fields.

/// A key's stable hash. Equal keys have equal hashes, in every process and version of the program.
pub trait KeyHash {
    /// The hash, equal to Java's `hashCode()` where the table of this module says so.
    fn key_hash(&self) -> i32;
}

macro_rules! hash_by_cast {
    ($($rust:ty as $signed:ty),*) => {$(
        impl KeyHash for $rust {
            fn key_hash(&self) -> i32 {
                i32::from(*self as $signed)
            }
        }
    )*};
}

hash_by_cast!(i8 as i8, u8 as i8, i16 as i16, u16 as i16);

impl KeyHash for i32 {
    fn key_hash(&self) -> i32 {
        *self
    }
}

impl KeyHash for u32 {
    fn key_hash(&self) -> i32 {
        *self as i32
    }
}

impl KeyHash for i64 {
    fn key_hash(&self) -> i32 {
        (*self as u64).key_hash()
    }
}

impl KeyHash for u64 {
    fn key_hash(&self) -> i32 {
        (self ^ (self >> 32)) as i32
    }
}

impl KeyHash for bool {
    fn key_hash(&self) -> i32 {
        if *self { 1231 } else { 1237 }
    }
}

impl KeyHash for () {
    fn key_hash(&self) -> i32 {
        0
    }
}

impl KeyHash for str {
    fn key_hash(&self) -> i32 {
        self.encode_utf16().fold(0, |hash, unit| then(hash, i32::from(unit)))
    }
}

impl KeyHash for String {
    fn key_hash(&self) -> i32 {
        self.as_str().key_hash()
    }
}

impl<T: KeyHash> KeyHash for [T] {
    fn key_hash(&self) -> i32 {
        self.iter().fold(1, |hash, element| then(hash, element.key_hash()))
    }
}

impl<T: KeyHash> KeyHash for Vec<T> {
    fn key_hash(&self) -> i32 {
        self.as_slice().key_hash()
    }
}

impl<T: KeyHash, const N: usize> KeyHash for [T; N] {
    fn key_hash(&self) -> i32 {
        self.as_slice().key_hash()
    }
}

impl<T: KeyHash> KeyHash for Option<T> {
    fn key_hash(&self) -> i32 {
        self.as_ref().map_or(0, KeyHash::key_hash)
    }
}

impl<T: KeyHash + ?Sized> KeyHash for &T {
    fn key_hash(&self) -> i32 {
        (**self).key_hash()
    }
}

impl<T: KeyHash + ?Sized> KeyHash for Box<T> {
    fn key_hash(&self) -> i32 {
        (**self).key_hash()
    }
}

macro_rules! hash_of_tuple {
    ($first:ident $($next:ident)+) => {
        impl<$first: KeyHash, $($next: KeyHash),+> KeyHash for ($first, $($next),+) {
            #[allow(non_snake_case)]
            fn key_hash(&self) -> i32 {
                let ($first, $($next),+) = self;
                let hash = $first.key_hash();
                $(let hash = then(hash, $next.key_hash());)+
                hash
            }
        }
    };
}

hash_of_tuple!(A B);
hash_of_tuple!(A B C);
hash_of_tuple!(A B C D);
hash_of_tuple!(A B C D E);
hash_of_tuple!(A B C D E F);

/// Java's way of joining hashes.
fn then(hash: i32, next: i32) -> i32 {
    hash.wrapping_mul(31).wrapping_add(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_boxes_hash_as_what_they_hold() {
        let text = String::from("payments");
        let reference: &String = &text;
        assert_eq!(KeyHash::key_hash(&reference), "payments".key_hash());
        assert_eq!(Box::<str>::from("payments").key_hash(), "payments".key_hash());
        assert_eq!([1_u8, 0xff].key_hash(), vec![1_i8, -1].key_hash());
    }

    #[test]
    fn unsigned_numbers_hash_as_the_signed_ones_with_the_same_bits() {
        assert_eq!(u64::MAX.key_hash(), (-1_i64).key_hash());
        assert_eq!(0x8000_0001_u32.key_hash(), (0x8000_0001_u32 as i32).key_hash());
        assert_eq!(0xfffe_u16.key_hash(), (-2_i16).key_hash());
    }
}
