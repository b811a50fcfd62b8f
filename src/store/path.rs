//! Names of objects: relative, clean, and unable to leave the root (I8).

use std::fmt;

use super::temporary::TEMPORARY_PREFIX;
use crate::error::{Error, ErrorKind, Result};

/// The longest path a store is asked to keep, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// The longest component of a path, in bytes: what common file systems allow.
pub const MAX_COMPONENT_BYTES: usize = 255;

/// A relative path of one or more components joined by `/`.
///
/// Every component is made of ASCII letters, digits and `- _ . + = @ %`, is not empty, is not `.` or
/// `..`, and does not start with `.tmp-` (which local stores keep for unfinished objects). A value
/// of this type therefore never names anything outside the root it is resolved against.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(String);

impl StorePath {
    /// Checks `text` and makes a path of it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the text breaks one of the rules above.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        match Self::fault(&text) {
            None => Ok(Self(text)),
            Some(fault) => Err(Error::new(ErrorKind::InvalidInput, "check a store path", fault)
                .with_object(text.escape_debug().take(MAX_COMPONENT_BYTES).collect::<String>())),
        }
    }

    /// This path with `more` (one or more components) below it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `more` breaks one of the rules above.
    pub fn join(&self, more: &str) -> Result<Self> {
        Self::new(format!("{}/{more}", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path without its last component, if anything is left.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// What follows `folder` and a slash, if this path lies below `folder`.
    pub fn below(&self, folder: &StorePath) -> Option<&str> {
        self.0.strip_prefix(folder.as_str())?.strip_prefix('/')
    }

    fn fault(text: &str) -> Option<&'static str> {
        if text.is_empty() {
            return Some("it is empty");
        }
        if text.len() > MAX_PATH_BYTES {
            return Some("it is longer than 1024 bytes");
        }
        text.split('/').find_map(Self::component_fault)
    }

    fn component_fault(component: &str) -> Option<&'static str> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+=@%".contains(&byte);
        match component {
            "" => Some("a component is empty (a leading, trailing or doubled slash)"),
            "." | ".." => Some("a component is `.` or `..`, which could leave the root"),
            _ if component.len() > MAX_COMPONENT_BYTES => Some("a component is longer than 255 bytes"),
            _ if component.starts_with(TEMPORARY_PREFIX) => Some("`.tmp-` is kept for unfinished objects"),
            _ if !component.bytes().all(allowed) => {
                Some("only ASCII letters, digits and - _ . + = @ % may stand in a component")
            }
            _ => None,
        }
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_root() {
        for hostile in ["", "/etc", "a//b", "a/", "..", "a/../b", "./a", "a/.", "a\\b", "a\0b", "ü", "a/.tmp-1", "a b"]
        {
            assert!(StorePath::new(hostile).is_err(), "{hostile:?} was taken");
        }
        assert!(StorePath::new("x".repeat(256)).is_err());
        assert!(StorePath::new(vec!["abc"; 300].join("/")).is_err());
    }

    #[test]
    fn parts_of_a_path() {
        let path = StorePath::new("job-a/cp-1/_metadata").unwrap();
        assert_eq!(path.file_name(), "_metadata");
        assert_eq!(path.parent().unwrap().as_str(), "job-a/cp-1");
        let job = StorePath::new("job-a").unwrap();
        assert_eq!(path.below(&job), Some("cp-1/_metadata"));
        assert_eq!(StorePath::new("job-ab/x").unwrap().below(&job), None);
        assert!(job.parent().is_none());
    }
}
