//! Who may speak: a number that one generation's workers know and no other's.

use std::fmt;
use std::str::FromStr;

use crate::env::Randomness;
use crate::error::{Error, Result};
use crate::layout::Uid;

/// 128 random bits that the manager draws anew for each generation of workers. They keep a stale process out, one that
/// was paused or cut off and goes on; they are no defence against somebody who reads the network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cookie {
    /// The first half.
    pub first: u64,
    /// The second half.
    pub second: u64,
}

impl Cookie {
    /// A fresh one.
    pub fn random(randomness: &dyn Randomness) -> Self {
        Self { first: randomness.next_u64(), second: randomness.next_u64() }
    }
}

impl fmt::Debug for Cookie {
    /// Not the number itself: logs are read by many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Uid(self.first), Uid(self.second))
    }
}

impl FromStr for Cookie {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = || Error::invalid("read a generation's cookie", "it is not 32 hexadecimal digits");
        let (first, second) = text.split_at_checked(16).ok_or_else(fail)?;
        let half = |text: &str| text.parse::<Uid>().map(|uid| uid.0).map_err(|_| fail());
        Ok(Self { first: half(first)?, second: half(second)? })
    }
}

/// What a worker shows with everything that it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The generation that it was started for.
    pub generation: u64,
    /// Which of the generation's workers it is, from 0.
    pub worker: u32,
    /// The generation's cookie.
    pub cookie: Cookie,
}
