//! What was written is read, exactly.

use super::place::{Outcome, PIECE_BYTES, Place, content, ensure};
use crate::error::ErrorKind;
use crate::store::StorePath;

pub(super) async fn objects_of_all_sizes_are_read_as_they_were_written(place: &Place) -> Outcome {
    for size_bytes in [0, 1, 2, 511, 4096, 4097, 65_537, (1 << 20) + 3] {
        let put = place.put(&format!("put-{size_bytes}"), size_bytes).await?;
        place.expect_whole(&put, size_bytes).await?;
        let streamed = place.path(&format!("streamed-{size_bytes}"))?;
        stream(place, &streamed, size_bytes, PIECE_BYTES as u64).await?;
        place.expect_whole(&streamed, size_bytes).await?;
    }
    Ok(())
}

pub(super) async fn an_object_streamed_in_uneven_pieces_is_read_as_it_was_written(place: &Place) -> Outcome {
    let path = place.path("uneven")?;
    let mut writer = place.store.create(&path).await?;
    let mut offset = 0;
    for piece in [0, 1, 70_000, 0, 13, 3_000_000, 1, 5_500_000, 0] {
        writer.write(content(&path, offset, piece)).await?;
        offset += piece;
    }
    writer.finish().await?;
    place.expect_whole(&path, offset).await
}

pub(super) async fn a_large_object_is_read_as_it_was_written(place: &Place) -> Outcome {
    let path = place.path("large")?;
    stream(place, &path, place.options.large_object_bytes, PIECE_BYTES as u64).await?;
    place.expect_whole(&path, place.options.large_object_bytes).await
}

async fn stream(place: &Place, path: &StorePath, size_bytes: u64, piece_bytes: u64) -> Outcome {
    let mut writer = place.store.create(path).await?;
    let mut offset = 0;
    while offset < size_bytes {
        let piece = piece_bytes.min(size_bytes - offset);
        writer.write(content(path, offset, piece)).await?;
        offset += piece;
    }
    Ok(writer.finish().await?)
}

pub(super) async fn a_range_is_answered_exactly(place: &Place) -> Outcome {
    let size = 100_000;
    let path = place.put("ranges", size).await?;
    for range in [0..1, 0..size, 1..size, 17..4113, 65_535..65_537, size - 1..size] {
        let bytes = place.store.read(&path, range.clone()).await?;
        let length = range.end - range.start;
        ensure!(bytes.len() as u64 == length, "{range:?} of {size} bytes answers {} bytes", bytes.len());
        ensure!(bytes == content(&path, range.start, length), "{range:?} answers other bytes");
    }
    for empty in [0, 5, size] {
        let bytes = place.store.read(&path, empty..empty).await?;
        ensure!(bytes.is_empty(), "an empty range at {empty} answers {} bytes", bytes.len());
    }
    Ok(())
}

pub(super) async fn a_range_past_the_end_is_corrupt(place: &Place) -> Outcome {
    let size = 1000;
    let path = place.put("short", size).await?;
    let empty = place.put("empty", 0).await?;
    let beyond = [0..size + 1, size - 1..size + 1, size..size + 1, size + 1..size + 2, 5 * size..6 * size, 0..1 << 40];
    let lying = 0..u64::MAX;
    for (path, range) in beyond.into_iter().chain([lying]).map(|range| (&path, range)).chain([(&empty, 0..1)]) {
        match place.store.read(path, range.clone()).await {
            Ok(bytes) => {
                return Err(format!("{range:?} of a shorter object answers {} bytes and no error", bytes.len()).into());
            }
            Err(error) => ensure!(error.kind() == ErrorKind::Corrupt, "{range:?} of a shorter object is {error:?}"),
        }
    }
    Ok(())
}

pub(super) async fn a_missing_object_is_not_found(place: &Place) -> Outcome {
    place.put("folder/there", 10).await?;
    for name in ["nothing", "no/folder/either", "folder", "folder/ther", "folder/there2", "folder/there/below"] {
        place.expect_absent_call(&place.path(name)?).await?;
    }
    Ok(())
}

impl Place {
    /// As `expect_absent`, but a folder of that name may be a child of the one above.
    async fn expect_absent_call(&self, path: &StorePath) -> Outcome {
        for (call, answer) in [
            ("stat", self.store.stat(path).await.map(drop)),
            ("read", self.store.read(path, 0..1).await.map(drop)),
            ("an empty read", self.store.read(path, 0..0).await.map(drop)),
        ] {
            match answer {
                Ok(()) => return Err(format!("{call} of {path}, where no object is, answers Ok").into()),
                Err(error) => ensure!(error.kind() == ErrorKind::NotFound, "{call} of {path} answers {error:?}"),
            }
        }
        Ok(())
    }
}
