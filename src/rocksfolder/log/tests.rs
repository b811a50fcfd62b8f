use super::*;
use proptest::prelude::*;

fn written(records: &[Vec<u8>], number: Option<u64>) -> Vec<u8> {
    let mut writer = match number {
        Some(number) => LogWriter::recyclable(Vec::new(), number),
        None => LogWriter::new(Vec::new()),
    };
    records.iter().for_each(|record| writer.add_record(record).unwrap());
    assert_eq!(writer.written_bytes(), writer.sink.len() as u64);
    writer.into_inner()
}

fn read_all(bytes: &[u8], number: u64) -> Result<(Vec<Vec<u8>>, u64, LogEnd)> {
    let mut reader = LogReader::new(bytes, number);
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok((records, reader.complete_bytes(), reader.end().unwrap()))
}

/// Records of lengths that fall before, on and behind the ends of blocks.
fn some_records() -> Vec<Vec<u8>> {
    let lengths = [0, 1, BLOCK_BYTES - 30, 3, 70_000, BLOCK_BYTES - HEADER_BYTES, 5, 200];
    lengths.iter().enumerate().map(|(index, length)| vec![index as u8 + 1; *length]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn records_of_any_length_read_back(lengths in proptest::collection::vec(0usize..80_000, 0..12), recyclable: bool) {
        let records: Vec<_> = lengths.iter().map(|length| vec![(length % 251) as u8; *length]).collect();
        let bytes = written(&records, recyclable.then_some(9));
        let (read, complete, end) = read_all(&bytes, 9).unwrap();
        prop_assert_eq!(read, records);
        prop_assert_eq!((complete, end), (bytes.len() as u64, LogEnd::Clean));
    }

    #[test]
    fn a_file_cut_anywhere_gives_a_prefix_of_its_records_and_no_error(cut in 0usize..180_000) {
        let records = some_records();
        let bytes = written(&records, None);
        let cut = cut.min(bytes.len());
        let (read, complete, _) = read_all(&bytes[..cut], 0).unwrap();
        prop_assert_eq!(&read[..], &records[..read.len()]);
        prop_assert!(complete <= cut as u64);
        // The prefix that is called complete is complete: it reads the same, without a torn tail.
        let again = read_all(&bytes[..complete as usize], 0).unwrap();
        prop_assert_eq!(again, (read, complete, LogEnd::Clean));
    }

    #[test]
    fn a_flipped_bit_never_passes_for_data(at in 0usize..180_000, bit in 0u8..8) {
        let records = some_records();
        let mut bytes = written(&records, None);
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1 << bit;
        // A bit in padding changes nothing; anywhere else the records before it are all that is read.
        if let Ok((read, _, _)) = read_all(&bytes, 0) {
            prop_assert_eq!(&read[..], &records[..read.len()]);
        }
    }
}

#[test]
fn damage_in_the_middle_is_corruption_and_not_a_torn_tail() {
    let bytes = written(&some_records(), None);
    // The checksum and the length of the second record; the payload of one three blocks on.
    for at in [HEADER_BYTES, HEADER_BYTES + 4, HEADER_BYTES + 5, 100_000] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert_eq!(read_all(&damaged, 0).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
    }
}

#[test]
fn a_damaged_or_missing_tail_is_torn() {
    let records = some_records();
    let bytes = written(&records, None);
    let whole = bytes.len() - 200 - HEADER_BYTES;
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut zeroed = bytes[..whole].to_vec();
    zeroed.extend([0; 3 * BLOCK_BYTES]);
    for tail in [&damaged[..], &zeroed, &bytes[..bytes.len() - 1], &bytes[..whole + 3]] {
        let (read, complete, end) = read_all(tail, 0).unwrap();
        assert_eq!((read.len(), complete, end), (records.len() - 1, whole as u64, LogEnd::Torn));
    }
}

#[test]
fn a_log_that_reuses_an_older_one_ends_where_its_own_records_end() {
    let old = written(&vec![vec![7; 100]; 2000], Some(4));
    let aligned = written(&vec![vec![8; 100]; 500], Some(9));
    let unaligned = written(&vec![vec![8; 77]; 500], Some(9));
    for new in [aligned, unaligned] {
        let mut file = old.clone();
        file[..new.len()].copy_from_slice(&new);
        let (read, complete, _) = read_all(&file, 9).unwrap();
        assert_eq!((read.len(), complete), (500, new.len() as u64));
    }
}

#[test]
fn parts_of_records_out_of_order_are_corruption() {
    for kind in [MIDDLE, LAST] {
        let mut writer = LogWriter::new(Vec::new());
        writer.put_fragment(true, true, b"whole").unwrap();
        writer.put_fragment(false, kind == LAST, b"no start").unwrap();
        assert_eq!(read_all(&writer.into_inner(), 0).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let mut writer = LogWriter::new(Vec::new());
    writer.put_fragment(true, false, b"start").unwrap();
    writer.put_fragment(true, true, b"whole").unwrap();
    assert_eq!(read_all(&writer.into_inner(), 0).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn an_unknown_record_type_is_unsupported_unless_it_may_be_ignored() {
    let with_type = |kind: u8| {
        let mut bytes = written(&[b"one".to_vec()], None);
        let covered = [&[kind][..], b"new"].concat();
        bytes.extend(mask(crc32c::crc32c(&covered)).to_le_bytes());
        bytes.extend([3, 0]);
        bytes.extend(covered);
        bytes
    };
    assert_eq!(read_all(&with_type(60), 0).unwrap_err().kind(), ErrorKind::Unsupported);
    let (records, complete, _) = read_all(&with_type(200), 0).unwrap();
    assert_eq!((records.len(), complete), (1, with_type(200).len() as u64));
}

#[test]
fn scanning_finds_the_same_end_without_keeping_records() {
    let bytes = written(&some_records(), Some(1));
    let mut reader = LogReader::new(&bytes[..], 1);
    assert_eq!(reader.scan().unwrap(), LogEnd::Clean);
    assert_eq!(reader.complete_bytes(), bytes.len() as u64);
}
