//! Where a store is: a folder, or a URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// The longest prefix of a store within its bucket or file system, in bytes. S3 keys have at most 1,024
/// bytes, prefix included, so that much is left for icecore's own names.
pub const MAX_PREFIX_BYTES: usize = 512;
/// The longest name of a bucket or of a file system's host, in bytes.
const MAX_AUTHORITY_BYTES: usize = 255;
/// Kinds of stores that people may ask for and that icecore does not have.
const UNKNOWN_KINDS: [&str; 9] = ["gs", "gcs", "az", "azblob", "abfs", "abfss", "wasb", "http", "https"];
const OPERATION: &str = "read the store's address";
const KINDS: &str = "name a folder, file:///folder, s3://bucket/prefix, hdfs://host:port/prefix or memory:";

/// Where a store is. Made of text by [`StoreAddress::parse`]:
///
/// | text | meaning |
/// |---|---|
/// | `/folder`, `folder`, `file:///folder` | a local folder; in a URL, `%20` and the like are decoded |
/// | `s3://bucket/prefix` (or `s3a:`) | the objects of a bucket below a prefix, which is taken as it stands |
/// | `hdfs://host:port/folder`, `hdfs://nameservice/folder` | a folder of an HDFS |
/// | `memory:` | an empty store in this process's memory |
///
/// Credentials and endpoints are no part of it (see `docs/stores.md`), so an address can be shown to anyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreAddress {
    /// A local folder.
    Local(PathBuf),
    /// A store in this process's memory, empty at first and gone with the process.
    Memory,
    /// Objects of an S3 bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What all keys begin with, without slashes at either end; may be empty.
        prefix: String,
    },
    /// A folder of an HDFS.
    Hdfs {
        /// `host:port` of the NameNode, or the name of a nameservice.
        authority: String,
        /// The folder, without slashes at either end; may be empty.
        prefix: String,
    },
}

impl StoreAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a malformed address, or one with credentials or options in it;
    /// [`ErrorKind::Unsupported`] for a kind of store that icecore does not know.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(invalid("it is empty", KINDS));
        }
        if let Some(path) = text.strip_prefix("file://") {
            return match path.starts_with('/') {
                true => Ok(Self::Local(PathBuf::from(percent_decoded(path)?))),
                false => Err(invalid("a file URL names no host here", "write file:///folder, with three slashes")
                    .with_object(shown(text))),
            };
        }
        match text.split_once(':') {
            Some(("memory", "" | "//")) => Ok(Self::Memory),
            Some(("memory", _)) => Err(invalid("a memory store has no name", "write memory:")),
            Some(("s3" | "s3a", rest)) => Self::s3(text, rest),
            Some(("hdfs", rest)) => Self::hdfs(text, rest),
            Some((kind, _)) if UNKNOWN_KINDS.contains(&kind) => {
                let message = format!("icecore has no stores of the kind `{kind}`");
                Err(Error::new(ErrorKind::Unsupported, OPERATION, message).with_object(shown(text)).with_advice(KINDS))
            }
            Some((_, rest)) if rest.starts_with("//") => {
                Err(invalid("the kind of store is not known", KINDS).with_object(shown(text)))
            }
            _ => Ok(Self::Local(PathBuf::from(text))),
        }
    }

    fn s3(text: &str, rest: &str) -> Result<Self> {
        let (bucket, prefix) = authority_and_prefix(text, rest, "write s3://bucket/prefix")?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !bucket.bytes().all(allowed) || !bucket.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Err(invalid("that is no name of a bucket", "write s3://bucket/prefix").with_object(shown(text)));
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix })
    }

    fn hdfs(text: &str, rest: &str) -> Result<Self> {
        const ADVICE: &str = "write hdfs://host:port/folder, or hdfs://nameservice/folder";
        let (authority, prefix) = authority_and_prefix(text, rest, ADVICE)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if authority.is_empty() || !authority.bytes().all(allowed) {
            return Err(invalid("that is no host and port, nor a nameservice", ADVICE).with_object(shown(text)));
        }
        if prefix.contains(':') {
            return Err(invalid("HDFS has no names with a `:`", ADVICE).with_object(shown(text)));
        }
        Ok(Self::Hdfs { authority: authority.to_owned(), prefix })
    }
}

/// Takes `//authority/prefix` apart. Whatever could be a secret is refused and not repeated.
fn authority_and_prefix<'a>(text: &str, rest: &'a str, advice: &str) -> Result<(&'a str, String)> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(invalid("two slashes are missing behind the `:`", advice).with_object(shown(text)));
    };
    let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        let message = "an address holds no user and no password";
        return Err(
            invalid(message, "give credentials by the environment, or as --store-option").with_object(shown(text))
        );
    }
    if rest.contains(['?', '#']) {
        let message = "an address holds no options (`?`, `#`)";
        return Err(invalid(message, "give them as --store-option KEY=VALUE").with_object(shown(text)));
    }
    if authority.len() > MAX_AUTHORITY_BYTES {
        return Err(invalid("its host or bucket is too long", advice).with_object(shown(text)));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if let Some(fault) = prefix_fault(prefix) {
        return Err(invalid(fault, advice).with_object(shown(text)));
    }
    Ok((authority, prefix.to_owned()))
}

fn prefix_fault(prefix: &str) -> Option<&'static str> {
    if prefix.len() > MAX_PREFIX_BYTES {
        return Some("its prefix is longer than 512 bytes");
    }
    if prefix.chars().any(char::is_control) {
        return Some("its prefix has control characters");
    }
    if prefix.is_empty() {
        return None;
    }
    prefix.split('/').find_map(|component| match component {
        "" => Some("its prefix has doubled slashes"),
        "." | ".." => Some("its prefix has a component `.` or `..`"),
        _ => None,
    })
}

fn invalid(message: &str, advice: &str) -> Error {
    Error::invalid(OPERATION, message).with_advice(advice)
}

/// The address as an error may show it: without what may be a password or an option with a secret.
fn shown(text: &str) -> String {
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = shown.split_once("//") else { return shown.escape_debug().to_string() };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}//{rest}").escape_debug().to_string()
}

impl FromStr for StoreAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// A text that [`StoreAddress::parse`] reads back, if the path is UTF-8.
impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |f: &mut fmt::Formatter<'_>, scheme: &str, authority: &str, prefix: &str| match prefix {
            "" => write!(f, "{scheme}://{authority}"),
            prefix => write!(f, "{scheme}://{authority}/{prefix}"),
        };
        match self {
            Self::Local(path) if path.is_absolute() => {
                f.write_str("file://")?;
                percent_encoded(&path.to_string_lossy(), f)
            }
            Self::Local(path) => match path.to_string_lossy() {
                text if text.contains(':') && !text.starts_with('.') => write!(f, "./{text}"),
                text => f.write_str(&text),
            },
            Self::Memory => f.write_str("memory:"),
            Self::S3 { bucket, prefix } => url(f, "s3", bucket, prefix),
            Self::Hdfs { authority, prefix } => url(f, "hdfs", authority, prefix),
        }
    }
}

fn percent_encoded(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.chars().try_for_each(|letter| match letter {
        '%' | '?' | '#' | ' ' => write!(f, "%{:02X}", letter as u32),
        letter if letter.is_ascii_control() => write!(f, "%{:02X}", letter as u32),
        letter => write!(f, "{letter}"),
    })
}

fn percent_decoded(path: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    let fail = || invalid("a `%` in the URL is not followed by two hex digits", "write %25 for the character itself");
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit().ok_or_else(fail)?, digit().ok_or_else(fail)?);
        bytes.push(u8::try_from(high << 4 | low).map_err(|_| fail())?);
    }
    String::from_utf8(bytes).map_err(|_| invalid("the URL's path is not UTF-8", KINDS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s3(bucket: &str, prefix: &str) -> StoreAddress {
        StoreAddress::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    fn hdfs(authority: &str, prefix: &str) -> StoreAddress {
        StoreAddress::Hdfs { authority: authority.to_owned(), prefix: prefix.to_owned() }
    }

    #[test]
    fn addresses_mean_what_the_documentation_says() {
        for (text, address) in [
            ("/a/b", StoreAddress::Local("/a/b".into())),
            ("relative", StoreAddress::Local("relative".into())),
            ("with:colon", StoreAddress::Local("with:colon".into())),
            ("file:///a%20b/100%25", StoreAddress::Local("/a b/100%".into())),
            ("memory:", StoreAddress::Memory),
            ("memory://", StoreAddress::Memory),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            ("s3a://bucket/a/b%20c/", s3("bucket", "a/b%20c")),
            ("hdfs://namenode:8020/a/b", hdfs("namenode:8020", "a/b")),
            ("hdfs://cluster", hdfs("cluster", "")),
        ] {
            assert_eq!(StoreAddress::parse(text).unwrap(), address, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_with_the_right_kind() {
        use ErrorKind::{InvalidInput, Unsupported};
        let long = format!("s3://bucket/{}", "x".repeat(MAX_PREFIX_BYTES + 1));
        for (text, kind) in [
            ("", InvalidInput),
            ("file://host/x", InvalidInput),
            ("file:///a%2", InvalidInput),
            ("file:///a%ff", InvalidInput),
            ("memory:x", InvalidInput),
            ("ftp://host/x", InvalidInput),
            ("s3:bucket", InvalidInput),
            ("s3://", InvalidInput),
            ("s3:///x", InvalidInput),
            ("s3://-bucket/x", InvalidInput),
            ("s3://buck et/x", InvalidInput),
            ("s3://bucket:9000/x", InvalidInput),
            ("s3://bucket/a//b", InvalidInput),
            ("s3://bucket/a/../b", InvalidInput),
            ("s3://bucket/a\nb", InvalidInput),
            (&long, InvalidInput),
            ("hdfs:///a", InvalidInput),
            ("hdfs://host/a:b", InvalidInput),
            ("hdfs://ho st/a", InvalidInput),
            ("gs://bucket/x", Unsupported),
            ("https://host/bucket", Unsupported),
        ] {
            let error = StoreAddress::parse(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.advice().is_some(), "{text}");
        }
    }

    #[test]
    fn secrets_in_an_address_are_refused_and_never_repeated() {
        for text in [
            "s3://AKIA:geheim@bucket/x",
            "s3://bucket/x?secret_access_key=geheim",
            "s3://bucket/x#geheim",
            "hdfs://user:geheim@host/x",
            "https://user:geheim@host/x?token=geheim",
            "ftp://user:geheim@host/x",
        ] {
            let error = StoreAddress::parse(text).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("geheim"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_read_back_as_it_was_shown(text in "(s3://[a-z][a-z0-9.-]{2,9}|hdfs://[a-z:0-9]{0,9}|/|\\.)(/[a-zé %~]{1,9}){0,4}/?") {
            if let Ok(address) = StoreAddress::parse(&text) {
                prop_assert_eq!(StoreAddress::parse(&address.to_string()).unwrap(), address);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            if let Ok(address) = StoreAddress::parse(&text) {
                let _ = address.to_string();
            }
        }
    }
}
