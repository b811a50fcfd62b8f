//! The names of chunks: `<key group>.<state>.state`, such as `7.bids.state`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::keygroup::KeyGroup;
use crate::state::schema::check_state_name;

const SUFFIX: &str = ".state";

/// Which rows a chunk holds. Its text form is the chunk's file name, a single path component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkName {
    /// The key group.
    pub key_group: KeyGroup,
    /// The state's name.
    pub state: String,
}

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{SUFFIX}", self.key_group, self.state)
    }
}

impl FromStr for ChunkName {
    type Err = Error;

    /// Reads the text form back, and only in the spelling that `Display` gives.
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (group, state) = text.strip_suffix(SUFFIX)?.split_once('.')?;
            check_state_name(state).ok()?;
            let name = Self { key_group: group.parse().ok()?, state: state.to_owned() };
            (name.to_string() == text).then_some(name)
        };
        parse().ok_or_else(|| {
            Error::invalid("read a chunk name", "not of the form `<key group>.<state>.state`")
                .with_object(text.escape_debug().take(256).collect::<String>())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_even_with_dots_in_the_state() {
        for (key_group, state) in [(0, "bids"), (32_767, "a.b.state"), (7, "7")] {
            let name = ChunkName { key_group, state: state.into() };
            assert_eq!(name.to_string().parse::<ChunkName>().unwrap(), name);
        }
        assert_eq!(ChunkName { key_group: 7, state: "bids".into() }.to_string(), "7.bids.state");
    }

    #[test]
    fn the_longest_name_is_still_one_component_of_a_store_path() {
        let name = ChunkName { key_group: 32_767, state: "s".repeat(128) }.to_string();
        assert!(name.parse::<ChunkName>().is_ok());
        assert_eq!(crate::store::StorePath::new(name.as_str()).unwrap().file_name(), name);
    }

    #[test]
    fn other_spellings_are_refused() {
        for hostile in ["", "7", "7.bids", "07.bids.state", "+7.bids.state", "65536.b.state", "7..state", "7.a/b.state"]
        {
            assert!(hostile.parse::<ChunkName>().is_err(), "{hostile:?} was taken");
        }
    }
}
