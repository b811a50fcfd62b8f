//! From a [`StorePath`] to an absolute path in HDFS.
//!
//! A `StorePath` has none of what HDFS refuses in names (`:`, `.`, `..`, doubled slashes), and its components are no
//! longer than HDFS allows by default (255 bytes). Two names that it may have mean something else to HDFS, so they are
//! refused here, or an object could be written, read or deleted that no listing shows: `.snapshot` leads into a
//! folder's snapshots, and `.reserved` directly below `/` to files by their numbers.

use crate::error::{Error, Result};
use crate::store::StorePath;

/// The deepest that HDFS lets a path be, in components.
const MAX_DEPTH: usize = 1000;
/// The longest path that HDFS takes, in characters.
const MAX_LENGTH: usize = 8000;
/// What a store's own paths take of both at most.
const OWN_LENGTH: usize = crate::store::MAX_PATH_BYTES + 1;

const OPERATION: &str = "open an HDFS store";

/// The folder that a store lies in.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// Without a slash at its end, so empty for `/`.
    path: String,
}

impl Root {
    /// The folder `prefix`, with or without slashes at its ends.
    pub(super) fn new(prefix: &str) -> Result<Self> {
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() {
            return Ok(Self { path: String::new() });
        }
        let fault = prefix.split('/').find_map(component_fault).or_else(|| {
            let deep = prefix.split('/').count() > MAX_DEPTH - OWN_LENGTH / 2;
            let long = prefix.len() > MAX_LENGTH - OWN_LENGTH;
            (deep || long).then_some("it is too long or too deep for HDFS")
        });
        match fault {
            Some(fault) => Err(Error::invalid(OPERATION, fault).with_object(prefix.escape_debug())),
            None if prefix.split('/').next() == Some(".reserved") => {
                Err(Error::invalid(OPERATION, "HDFS keeps /.reserved for itself").with_object(prefix))
            }
            None => Ok(Self { path: format!("/{prefix}") }),
        }
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// The place of `path`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a name that HDFS keeps for itself.
    pub(super) fn place(&self, path: &StorePath, operation: &'static str) -> Result<String> {
        let reserved = path.as_str().split('/').any(|component| component == ".snapshot")
            || (self.path.is_empty() && path.as_str().split('/').next() == Some(".reserved"));
        if reserved {
            let message = "HDFS keeps the names .snapshot and /.reserved for itself";
            return Err(Error::invalid(operation, message).with_object(path).with_advice("choose another name"));
        }
        Ok(format!("{}/{path}", self.path))
    }

    /// The place of the folder `path`, or of the store with `None`.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub(super) fn place_of_folder(&self, path: Option<&StorePath>, operation: &'static str) -> Result<String> {
        path.map_or_else(|| Ok(self.folder().to_owned()), |path| self.place(path, operation))
    }

    /// Whether `place` is one in the store, and not the store's own folder.
    pub(super) fn contains(&self, place: &str) -> bool {
        place.strip_prefix(&self.path).is_some_and(|below| below.len() > 1)
    }

    /// The folder that a place lies in, unless that is the store's own.
    pub(super) fn parent<'a>(&self, place: &'a str) -> Option<&'a str> {
        let (parent, _) = place.rsplit_once('/')?;
        self.contains(parent).then_some(parent)
    }
}

fn component_fault(component: &str) -> Option<&'static str> {
    match component {
        "" => Some("it has doubled slashes"),
        "." | ".." => Some("it has a component `.` or `..`"),
        ".snapshot" => Some("it leads into a snapshot, which cannot be written"),
        _ if component.contains(':') => Some("HDFS has no names with a `:`"),
        _ if component.chars().any(char::is_control) => Some("it has control characters"),
        _ if component.len() > crate::store::MAX_COMPONENT_BYTES => Some("a component is longer than 255 bytes"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn path(text: &str) -> StorePath {
        StorePath::new(text).unwrap()
    }

    #[test]
    fn places_lie_below_the_root_and_parents_end_there() {
        for (prefix, folder, place) in [("", "/", "/a/b"), ("/", "/", "/a/b"), ("/r/s/", "/r/s", "/r/s/a/b")] {
            let root = Root::new(prefix).unwrap();
            assert_eq!(root.folder(), folder);
            let object = root.place(&path("a/b"), "test").unwrap();
            assert_eq!(object, place);
            let above = root.parent(&object).unwrap();
            assert_eq!(above, root.place(&path("a"), "test").unwrap());
            assert_eq!(root.parent(above), None, "the root itself must never be removed");
            assert!(root.contains(above) && !root.contains(root.folder()));
        }
    }

    #[test]
    fn names_that_mean_something_else_to_hdfs_are_refused() {
        let root = Root::new("").unwrap();
        for name in [".snapshot", "a/.snapshot/b", ".reserved/raw/x"] {
            assert_eq!(root.place(&path(name), "test").unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
        root.place(&path("a/.reserved"), "test").unwrap();
        Root::new("deeper").unwrap().place(&path(".reserved/x"), "test").unwrap();
    }

    #[test]
    fn a_root_that_hdfs_would_refuse_is_refused_at_once() {
        let deep = vec!["d"; 600].join("/");
        let long = vec!["l".repeat(250); 30].join("/");
        for prefix in ["a//b", "a/../b", "a:b", ".reserved/x", "a/.snapshot/b", "a\nb", &"c".repeat(256), &deep, &long]
        {
            assert_eq!(Root::new(prefix).unwrap_err().kind(), ErrorKind::InvalidInput, "{prefix}");
        }
    }
}
