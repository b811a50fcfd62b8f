//! Text for people: tables, sizes, times, keys.

use std::fmt::Write;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table with a heading. Columns are as wide as their widest cell.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: impl IntoIterator<Item = (&'static str, Align)>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| super::output::one_line(&cell)).collect());
    }

    /// The table as lines, each ended.
    pub(super) fn render(&self) -> String {
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lines = || std::iter::once(&heading).chain(&self.rows);
        let width = |index: usize| lines().filter_map(|row| row.get(index)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|index| width(index).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in lines() {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.columns) {
                let gap = if line.is_empty() { "" } else { "  " };
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                line += gap;
                line += &match align {
                    Align::Left => format!("{cell}{padding}"),
                    Align::Right => format!("{padding}{cell}"),
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// A number of bytes as people read it: `0 B`, `1.5 KiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // What would be printed as 1024.0 is 1.0 of the next.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `1 file`, `2 files`.
pub(super) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A moment in UTC, as `2026-01-31 23:59:59`.
pub(super) fn time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a day counted from 1970-01-01. Years are counted from March, so that the
/// leap day is a year's last, and in spans of 400 years, which all have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468); // days from 0000-03-01 to 1970-01-01
    let (span, of_span) = (days / 146_097, days % 146_097);
    let year_of_span = (of_span - of_span / 1_460 + of_span / 36_524 - of_span / 146_096) / 365;
    let day_of_year = of_span - (365 * year_of_span + year_of_span / 4 - year_of_span / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (span * 400 + year_of_span + u64::from(month <= 2), month, day)
}

/// A duration in microseconds, as `3.2 ms` or `1.50 s`.
pub(super) fn duration(microseconds: u64) -> String {
    if microseconds < 1_000_000 {
        format!("{:.1} ms", microseconds as f64 / 1e3)
    } else {
        format!("{:.2} s", microseconds as f64 / 1e6)
    }
}

/// Bytes as hexadecimal digits, at most `max_bytes` of them and then `…`.
pub(super) fn hex(bytes: &[u8], max_bytes: usize) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(max_bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > max_bytes {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_1024_of_a_unit() {
        let sizes = [0, 1023, 1024, 1536, 1_048_575, 1_048_576, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "16.0 EiB"]);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let known = [
            (0, "1970-01-01 00:00:00"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_700_000_000_000, "2023-11-14 22:13:20"),
            (4_107_542_399_999, "2100-02-28 23:59:59"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ];
        for (unix_ms, text) in known {
            assert_eq!(time(unix_ms), text);
        }
        assert!(!time(u64::MAX).is_empty());
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new([("CP", Align::Right), ("KIND", Align::Left), ("SIZE", Align::Right)]);
        table.row(["1".to_owned(), "full".to_owned(), "5 B".to_owned()]);
        table.row(["12".to_owned(), "incremental".to_owned(), "1.0 KiB".to_owned()]);
        assert_eq!(table.render(), "CP  KIND            SIZE\n 1  full             5 B\n12  incremental  1.0 KiB\n");
    }
}
