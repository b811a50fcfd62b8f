//! The names of a database folder's files (`file/filename.cc`).

use std::fmt;

/// A file of a database folder, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Wal(u64),
    Options(u64),
}

/// Reads a name; `None` for files this module does not look for by listing.
pub(super) fn parse(name: &str) -> Option<Name> {
    if let Some(number) = name.strip_prefix("OPTIONS-") {
        return decimal(number).map(Name::Options);
    }
    name.strip_suffix(".log").and_then(decimal).map(Name::Wal)
}

/// The MANIFEST that the content of `CURRENT` names, if it is well-formed. The name cannot lead
/// elsewhere: it is a fixed word and digits (I8).
pub(super) fn manifest_of_current(content: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(content).ok()?.strip_suffix('\n')?;
    name.strip_prefix("MANIFEST-").and_then(decimal).map(|_| name)
}

/// The name of MANIFEST `number`.
pub fn manifest_name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

/// The name of table `number`.
pub fn table_name(number: u64) -> String {
    numbered(number, "sst")
}

/// The name of blob file `number`.
pub fn blob_name(number: u64) -> String {
    numbered(number, "blob")
}

/// The name of write-ahead log `number`.
pub fn wal_name(number: u64) -> String {
    numbered(number, "log")
}

fn numbered(number: u64, ending: impl fmt::Display) -> String {
    format!("{number:06}.{ending}")
}

fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_rocksdb() {
        assert_eq!(manifest_name(5), "MANIFEST-000005");
        assert_eq!(table_name(0), "000000.sst");
        assert_eq!(blob_name(1_234_567), "1234567.blob");
        assert_eq!(parse(&wal_name(12)), Some(Name::Wal(12)));
        assert_eq!(parse("OPTIONS-000007"), Some(Name::Options(7)));
        for other in ["OPTIONS-000007.dbtmp", "LOG", ".log", "+1.log", "x1.log", "000001.sst"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn current_names_a_manifest_and_nothing_else() {
        assert_eq!(manifest_of_current(b"MANIFEST-000009\n"), Some("MANIFEST-000009"));
        for hostile in [&b""[..], b"MANIFEST-000009", b"MANIFEST-\n", b"../MANIFEST-1\n", b"MANIFEST-1/../x\n", b"a\n"]
        {
            assert_eq!(manifest_of_current(hostile), None);
        }
    }
}
