//! Sizes as people write them: `4096`, `10M`, `1.5MiB`.

use crate::error::{Error, Result};

/// Letters behind a number, and how many bytes each stands for.
const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];
/// Digits behind the point that are read.
const MAX_DECIMALS: usize = 9;

/// Reads a number of bytes: digits, perhaps with a point and decimals, and perhaps a unit. `k`, `M`, `G` and `T` stand
/// for powers of 1000, `Ki`, `Mi`, `Gi` and `Ti` for powers of 1024; a `B` may follow. What is left below a byte is
/// dropped.
///
/// ```
/// use icecore::store::parse_size;
/// assert_eq!(parse_size("10M")?, 10_000_000);
/// assert_eq!(parse_size("1.5MiB")?, 3 << 19);
/// # Ok::<(), icecore::Error>(())
/// ```
///
/// # Errors
/// [`crate::ErrorKind::InvalidInput`] for anything else.
pub fn parse_size(text: &str) -> Result<u64> {
    read(text).ok_or_else(|| {
        Error::invalid("read a size", "it is no size")
            .with_object(text.escape_debug())
            .with_advice("write bytes, such as 4096, 10M (a million each) or 1.5MiB (1024 x 1024 each)")
    })
}

fn read(text: &str) -> Option<u64> {
    let unit_at = text.find(|letter: char| letter != '.' && !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(unit_at)?;
    let unit = unit.strip_suffix('B').unwrap_or(unit);
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, decimals) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, decimals)) => (whole, decimals),
        None => (number, ""),
    };
    if decimals.len() > MAX_DECIMALS || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let scale = 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    let part = if decimals.is_empty() { 0 } else { decimals.parse::<u64>().ok()? };
    let total = u128::from(whole) * u128::from(*bytes) + u128::from(part) * u128::from(*bytes) / scale;
    u64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_meant() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512B", 512),
            ("10k", 10_000),
            ("10K", 10_000),
            ("10M", 10_000_000),
            ("10MB", 10_000_000),
            ("2GiB", 2 << 30),
            ("1.5MiB", 3 << 19),
            ("0.5Ki", 512),
            ("0.000000001G", 1),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "B",
            "M",
            ".5M",
            "1.",
            "1.M",
            "1..5M",
            "1.5.5M",
            "-1",
            "+1",
            " 1",
            "1 M",
            "1Mb",
            "1m",
            "1e3",
            "1MiBB",
            "ü",
            "1.0000000001G",
            "18446744073709551616",
            "99999999999999T",
            "\n1",
        ] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }
}
