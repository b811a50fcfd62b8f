//! What a store is told besides its address: `key=value` pairs.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Error, Result};

const OPERATION: &str = "read the store's options";

/// An option that a kind of store knows.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Its key.
    pub name: &'static str,
    /// What it says, in a few words.
    pub meaning: &'static str,
}

/// Options of a store, as `key=value` pairs. Values never appear in `Debug` output or errors, because some are
/// secrets; keys do.
///
/// A flag is `true` or `false`. A size is read by [`super::parse_size`]: `4096`, `10M`, `1.5MiB`. A
/// duration is a number with `ms`, `s`, `m` or `h` behind it.
///
/// ```
/// use icecore::store::StoreOptions;
/// let options = StoreOptions::new().with("region", "eu-west-1").with("part-size", "16MiB");
/// assert_eq!(options.size_bytes("part-size", 0..=u64::MAX)?, Some(16 << 20));
/// # Ok::<(), icecore::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    pairs: BTreeMap<String, String>,
}

impl StoreOptions {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// These options and one more; a later value replaces an earlier one.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.pairs.insert(key.into(), value.into());
        self
    }

    /// Adds one `key=value`; a later value replaces an earlier one. The value is everything behind the first `=`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] without a `=`, or with an empty key.
    pub fn add_pair(&mut self, pair: &str) -> Result<()> {
        match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                self.pairs.insert(key.trim().to_owned(), value.to_owned());
                Ok(())
            }
            // The pair may be a secret whose key was forgotten.
            _ => Err(Error::invalid(OPERATION, "an option has no key, or no `=`")
                .with_advice("write KEY=VALUE, such as region=eu-west-1")),
        }
    }

    /// Adds a list `key=value,key=value`, as an environment variable holds it. Values with commas cannot be written so.
    ///
    /// # Errors
    /// As [`Self::add_pair`].
    pub fn add_list(&mut self, list: &str) -> Result<()> {
        list.split(',').filter(|pair| !pair.trim().is_empty()).try_for_each(|pair| self.add_pair(pair))
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Refuses keys that are in none of the `known` lists.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`], with the keys that are known.
    pub fn check_known(&self, store: impl fmt::Display, known: &[&[OptionSpec]]) -> Result<()> {
        let names = || known.iter().flat_map(|specs| specs.iter()).map(|spec| spec.name);
        let Some(unknown) = self.pairs.keys().find(|key| names().all(|name| name != key.as_str())) else {
            return Ok(());
        };
        let names: Vec<&str> = names().collect();
        let advice = match names.as_slice() {
            [] => "it has none".to_owned(),
            names => format!("it has: {}", names.join(", ")),
        };
        Err(Error::invalid(OPERATION, format!("the store has no option `{}`", unknown.escape_debug()))
            .with_object(store)
            .with_advice(advice))
    }

    /// A text that is not empty.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for an empty one.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.pairs.get(key).map(String::as_str) {
            Some("") => Err(invalid(key, "it is empty", "give it a value, or leave it out")),
            value => Ok(value),
        }
    }

    /// One of `choices`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for anything else.
    pub fn choice<'a>(&self, key: &str, choices: &[&'a str]) -> Result<Option<&'a str>> {
        let Some(value) = self.text(key)? else { return Ok(None) };
        match choices.iter().find(|choice| **choice == value) {
            Some(choice) => Ok(Some(choice)),
            None => Err(invalid(key, "it is none of the choices", &format!("give {}", choices.join(" or ")))),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for anything else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        Ok(self.choice(key, &["true", "false"])?.map(|choice| choice == "true"))
    }

    /// A number within `bounds`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for anything else.
    pub fn number(&self, key: &str, bounds: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(value) = self.text(key)? else { return Ok(None) };
        let number = value.parse().ok().filter(|number| bounds.contains(number));
        let advice = || format!("give a whole number from {} to {}", bounds.start(), bounds.end());
        number.map(Some).ok_or_else(|| invalid(key, "it is no such number", &advice()))
    }

    /// A size in bytes within `bounds`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for anything else.
    pub fn size_bytes(&self, key: &str, bounds: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(value) = self.text(key)? else { return Ok(None) };
        let size = super::parse_size(value).ok().filter(|size| bounds.contains(size));
        let advice = || format!("give bytes from {} to {}, such as 16MiB", bounds.start(), bounds.end());
        size.map(Some).ok_or_else(|| invalid(key, "it is no such size", &advice()))
    }

    /// A duration within `bounds`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for anything else, a number without a unit among it.
    pub fn duration(&self, key: &str, bounds: RangeInclusive<Duration>) -> Result<Option<Duration>> {
        let Some(value) = self.text(key)? else { return Ok(None) };
        let duration = parse_duration(value).ok().filter(|duration| bounds.contains(duration));
        let advice =
            || format!("give a duration from {:?} to {:?}, such as 500ms, 30s or 5m", bounds.start(), bounds.end());
        duration.map(Some).ok_or_else(|| invalid(key, "it is no such duration", &advice()))
    }
}

/// Reads a duration: a whole number with `ms`, `s`, `m` or `h` behind it.
///
/// # Errors
/// [`crate::ErrorKind::InvalidInput`] for anything else, a number without a unit among it.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    scaled(text, &units).map(Duration::from_millis).ok_or_else(|| {
        Error::invalid("read a duration", "it is no duration")
            .with_object(text.escape_debug())
            .with_advice("give a whole number with its unit, such as 500ms, 30s, 5m or 1h")
    })
}

/// A whole number followed by one of the units.
fn scaled(value: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, factor)| {
        let number: u64 = value.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*factor)
    })
}

fn invalid(key: &str, message: &str, advice: &str) -> Error {
    Error::invalid(OPERATION, message).with_object(format!("option {key}")).with_advice(advice)
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.pairs.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const KNOWN: &[OptionSpec] =
        &[OptionSpec { name: "region", meaning: "where" }, OptionSpec { name: "part-size", meaning: "how much" }];

    fn of(pairs: &str) -> StoreOptions {
        let mut options = StoreOptions::new();
        options.add_list(pairs).unwrap();
        options
    }

    #[test]
    fn pairs_are_read_and_later_ones_win() {
        let mut options = of(" region=a , part-size=1,,region=b");
        assert_eq!(options.text("region").unwrap(), Some("b"));
        options.add_pair("token=a=b,c").unwrap();
        assert_eq!(options.text("token").unwrap(), Some("a=b,c"));
        assert_eq!(options.text("absent").unwrap(), None);
        for bad in ["", "region", "=x", " =x"] {
            assert_eq!(options.add_pair(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_lists_the_known_ones() {
        of("region=a").check_known("s3://b", &[KNOWN]).unwrap();
        let error = of("region=a,regoin=b").check_known("s3://b", &[KNOWN, &[]]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let said = error.to_string();
        assert!(said.contains("regoin") && said.contains("region, part-size"), "{said}");
        assert!(of("x=1").check_known("a folder", &[]).unwrap_err().to_string().contains("it has none"));
    }

    #[test]
    fn sizes_and_durations_have_units_and_bounds() {
        let size = |text: &str| of(&format!("k={text}")).size_bytes("k", 10..=1 << 40);
        assert_eq!(size("64").unwrap(), Some(64));
        assert_eq!(size("8MiB").unwrap(), Some(8 << 20));
        assert_eq!(size("1.5GiB").unwrap(), Some(3 << 29));
        for bad in ["", "9", "MiB", "8 MiB", "-8MiB", "8Mib", "99999999999999GiB", "2048GiB"] {
            assert_eq!(size(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
        let bounds = Duration::from_millis(1)..=Duration::from_secs(3600);
        let duration = |text: &str| of(&format!("k={text}")).duration("k", bounds.clone());
        assert_eq!(duration("250ms").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(duration("5m").unwrap(), Some(Duration::from_secs(300)));
        for bad in ["30", "0s", "2h", "s", "1d"] {
            assert_eq!(duration(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
        assert_eq!(of("k=3").number("k", 1..=4).unwrap(), Some(3));
        assert!(of("k=5").number("k", 1..=4).is_err());
        assert_eq!(of("k=true").flag("k").unwrap(), Some(true));
        assert!(of("k=yes").flag("k").is_err());
    }

    #[test]
    fn values_are_never_shown() {
        let options = of("secret-access-key=geheim,part-size=geheim,flag=geheim");
        let mut said = format!("{options:?}");
        said += &options.size_bytes("part-size", 0..=1).unwrap_err().to_string();
        said += &options.flag("flag").unwrap_err().to_string();
        said += &options.check_known("x", &[]).unwrap_err().to_string();
        said += &StoreOptions::new().add_pair("geheim").unwrap_err().to_string();
        assert!(!said.contains("geheim"), "{said}");
        assert!(said.contains("secret-access-key"), "{said}");
    }
}
