//! A service without room, by a small file system of its own where the machine lets us mount one.

use std::path::PathBuf;
use std::process::Command;

use crate::fault_scenarios::refused;
use crate::support::Place;

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, loudly, where mounting is not allowed.
    fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                let test = std::thread::current().name().unwrap_or("a full store").to_owned();
                eprintln!("SKIPPED: {test}: no file system can be mounted here: {other:?}");
                None
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Takes all the room that is left, but for so many bytes.
    fn fill(&self, left_bytes: u64) {
        let mut bytes: u64 = 1 << 30;
        let file = std::fs::File::create(self.ballast()).unwrap();
        // As much as there is: what does not fit is halved until it does.
        let mut length: u64 = 0;
        while bytes >= 4096 {
            let fits = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), length, bytes).is_ok();
            match fits {
                true => length += bytes,
                false => bytes /= 2,
            }
        }
        file.set_len(length.saturating_sub(left_bytes)).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: its server may be about to end.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_service_fails_checkpoints_with_its_reason_and_they_go_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let Some(place) = Place::own_in(disk.0.path(), "full") else { return };
    refused::for_want_of_room(&place, || disk.fill(0), || disk.free()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_fills_up_in_the_middle_of_an_upload_keeps_nothing_of_it() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let Some(place) = Place::own_in(disk.0.path(), "fills-up") else { return };
    // Room for the first checkpoint, and for the first parts of the second.
    disk.fill(10 << 20);
    refused::in_the_middle_of_an_upload(&place, 20 << 20, || disk.free()).await;
}
