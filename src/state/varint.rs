//! Lengths before bytes: LEB128, seven bits a byte, the lowest first; only the shortest spelling is
//! read back, so that equal values have equal bytes.

/// The longest spelling of a `u64`, in bytes.
pub(super) const MAX_VARINT_BYTES: usize = 10;

/// Appends `value`.
pub(super) fn write(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front of `bytes`; `None` if none is there in its shortest spelling.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(MAX_VARINT_BYTES).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * index as u32;
        let shifted = bits << shift;
        if shifted >> shift != bits {
            return None;
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            let shortest = index == 0 || *byte != 0;
            *bytes = bytes.get(index + 1..)?;
            return shortest.then_some(value);
        }
    }
    None
}

/// Appends `part` with its length before it.
pub(super) fn write_sized(part: &[u8], out: &mut Vec<u8>) {
    write(part.len() as u64, out);
    out.extend_from_slice(part);
}

/// Takes a part with its length before it off the front of `bytes`. Never believes the length.
pub(super) fn take_sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(bytes)?).ok()?;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_leave_what_follows() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            write(value, &mut bytes);
            assert!(bytes.len() <= MAX_VARINT_BYTES);
            bytes.push(7);
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest), Some(value));
            assert_eq!(rest, [7]);
        }
    }

    #[test]
    fn a_longer_spelling_an_overflow_and_a_cut_are_refused() {
        let overflow = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        let endless = [0x80; 11];
        for hostile in [&[0x80, 0x00][..], &[0x81, 0x80, 0x00], &overflow, &endless, &[0x80], &[]] {
            assert_eq!(take(&mut &*hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused() {
        assert_eq!(take_sized(&mut &[3, 1, 2][..]), None);
        let mut rest = &[2, 1, 2, 9][..];
        assert_eq!(take_sized(&mut rest), Some(&[1, 2][..]));
        assert_eq!(rest, [9]);
    }
}
