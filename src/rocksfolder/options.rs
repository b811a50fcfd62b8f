//! The one thing wanted of an OPTIONS file: whether the write-ahead log lies in another folder.

use std::path::Path;

/// The `wal_dir` of the section `[DBOptions]`, if it is set to another folder than `folder`.
///
/// RocksDB leaves it empty when the log lies beside the tables (since 6.26; before, it wrote the
/// database's own path). The text is taken as it is; only the first megabytes of a file that is no
/// OPTIONS file are looked at, by the limit of whoever read it.
pub(super) fn foreign_wal_dir(options: &[u8], folder: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(options);
    let section = text.lines().map(str::trim).skip_while(|line| *line != "[DBOptions]").skip(1);
    let mut entries = section.take_while(|line| !line.starts_with('['));
    let wal_dir = entries.find_map(|line| line.strip_prefix("wal_dir=")).map(str::trim)?;
    let same = || {
        let resolved = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        resolved(Path::new(wal_dir)) == resolved(folder)
    };
    (!wal_dir.is_empty() && !same()).then(|| wal_dir.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wal_dir_that_is_set_to_another_folder_counts() {
        let folder = tempfile::tempdir().unwrap();
        let options = |wal_dir: &str| {
            format!(
                "# wal_dir=/x\n[Version]\n  wal_dir=/no\n[DBOptions]\n  a=b\n  {wal_dir}\n[CFOptions \"default\"]\n  wal_dir=/no\n"
            )
        };
        let foreign = |line: &str| foreign_wal_dir(options(line).as_bytes(), folder.path());
        assert_eq!(foreign("wal_dir="), None);
        assert_eq!(foreign("other=1"), None);
        assert_eq!(foreign(&format!("wal_dir={}/", folder.path().display())), None);
        assert_eq!(foreign("wal_dir=/somewhere/else"), Some("/somewhere/else".into()));
    }
}
