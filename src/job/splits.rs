//! No split of a source is given by two workers, or by two sources of one name.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::metadata::SourcePosition;

/// Whether `new` says of no split where it stands that `known` has said of, too.
///
/// # Errors
/// [`crate::ErrorKind::InvalidInput`], with the object that `name` makes of such a split.
pub(super) fn check_new<'a>(
    known: impl Iterator<Item = &'a SourcePosition>,
    new: &[SourcePosition],
    name: impl FnOnce(&SourcePosition) -> String,
) -> Result<()> {
    let known: BTreeSet<_> = known.map(split).collect();
    let Some(twice) = new.iter().find(|position| known.contains(&split(position))) else { return Ok(()) };
    let message = "two workers, or two sources of one name, gave records of the same split";
    Err(Error::invalid("note where sources stand", message).with_object(name(twice)))
}

fn split(position: &SourcePosition) -> (&str, &str) {
    (&position.source, &position.split)
}
