//! Full disks, on small file systems of the tests' own: tmpfs, ext4, and ext2, which can't reserve
//! room. Each test runs itself again in a mount namespace, so that nothing is left behind.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod support;

use std::fs;
use std::path::Path;

use rusty_torrent::error::{Fatal, Status};
use rusty_torrent::system::storage::Storage;
use rusty_torrent::system::storage::layout::{Layout, OutputFile, OutputKind};
use support::mount;

const MIB: u64 = 1 << 20;

/// On a file system whose image, if it has one, has 4 MiB.
fn mounted(name: &str, mount: &str, test: impl FnOnce(&Path)) {
    mount::mounted(name, 4 * MIB, mount, test);
}

fn storage(dir: &Path, lengths: &[u64]) -> Storage {
    let file = |(number, length): (usize, &u64)| OutputFile {
        path: format!("d/f{number}").into(),
        length: *length,
        kind: OutputKind::Data,
    };
    Storage::create(dir, Layout::new(lengths.iter().enumerate().map(file).collect())).unwrap()
}

/// Writes in order until there is no more room; how many bytes went in, and the error.
fn fill(storage: &mut Storage, length: usize) -> (u64, Option<Fatal>) {
    let total = storage.layout().total();
    let bytes = vec![0x5a; length];
    let mut offset = 0;
    while offset < total {
        if let Err(error) = storage.write(offset, &bytes) {
            return (offset, Some(error));
        }
        offset += length as u64;
    }
    (total, None)
}

/// Checks that what was written is still there and that the error says what it must.
fn ended_well(mut storage: Storage, written: u64, error: Option<&Fatal>) {
    let error = error.expect("the disk did not get full");
    assert_eq!(error.status(), Status::DiskFull, "{error}");
    let Fatal::DiskFull { needed, .. } = error else { panic!("{error}") };
    assert!(*needed > 0);
    let mut read = vec![0; usize::try_from(written).unwrap()];
    storage.read(0, &mut read).unwrap();
    assert!(read.iter().all(|byte| *byte == 0x5a));
}

const TMPFS: &str = "mount -t tmpfs -o size=3m none \"$dir\"";
const EXT4: &str = "mkfs.ext4 -q -F \"$image\"; mount -o loop \"$image\" \"$dir\"";
const EXT2: &str = "mkfs.ext2 -q -F \"$image\"; mount -o loop \"$image\" \"$dir\"";

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn a_full_disk_is_seen_before_the_start() {
    mounted("a_full_disk_is_seen_before_the_start", TMPFS, |dir| {
        let mut storage = storage(dir, &[2 * MIB, 0, 2 * MIB]);
        let error = storage.check_room(4 * MIB).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "no room for {}: 4.0 MiB needed, 3.0 MiB free; \
                 make room and run the same command again",
                dir.display()
            )
        );
        // What has its room already is not needed again.
        storage.write(0, &[1; 5000]).unwrap();
        storage.check_room(3 * MIB).unwrap_err();
        storage.check_room(MIB).unwrap();
        let mut fits = self::storage(&dir.join("other"), &[MIB]);
        fits.check_room(MIB).unwrap();
        assert!(fill(&mut fits, 16 << 10).1.is_none());
        fits.finish().unwrap();
    });
}

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn a_reservation_that_fails_leaves_the_rest_alone() {
    mounted("a_reservation_that_fails_leaves_the_rest_alone", TMPFS, |dir| {
        let mut storage = storage(dir, &[2 * MIB, 2 * MIB]);
        let (written, error) = fill(&mut storage, 64 << 10);
        assert_eq!(written, 2 * MIB);
        ended_well(storage, written, error.as_ref());
    });
}

#[test]
#[ignore = "needs root: mounts a small ext4"]
fn a_failed_reservation_gives_back_what_it_took() {
    mounted("a_failed_reservation_gives_back_what_it_took", EXT4, |dir| {
        let mut storage = storage(dir, &[MIB, 20 * MIB]);
        let (written, error) = fill(&mut storage, 64 << 10);
        assert_eq!(written, MIB);
        let Some(Fatal::DiskFull { needed, free, .. }) = &error else { panic!("{error:?}") };
        assert_eq!(*needed, 20 * MIB);
        assert!(*free > MIB, "{free} bytes free");
        assert_eq!(fs::metadata(dir.join("d/f1")).unwrap().len(), 0);
        ended_well(storage, written, error.as_ref());
    });
}

#[test]
#[ignore = "needs root: mounts a small ext2"]
fn holes_that_can_not_be_filled_are_an_error_and_not_death() {
    mounted("holes_that_can_not_be_filled_are_an_error_and_not_death", EXT2, |dir| {
        for length in [1000, 16 << 10, 256 << 10, 3 << 20] {
            let mut storage = storage(dir, &[20 * MIB]);
            let (written, error) = fill(&mut storage, length);
            ended_well(storage, written, error.as_ref());
            fs::remove_dir_all(dir.join("d")).unwrap();
        }
    });
}

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn no_inodes_is_an_error_that_says_so() {
    let mount = "mount -t tmpfs -o nr_inodes=3 none \"$dir\"";
    mounted("no_inodes_is_an_error_that_says_so", mount, |dir| {
        let mut storage = storage(dir, &[100, 100]);
        let (written, error) = fill(&mut storage, 100);
        let error = error.unwrap();
        assert_eq!((written, error.status()), (100, Status::DiskFull), "{error}");
        assert!(error.to_string().contains("No space left on device"), "{error}");
    });
}

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn a_read_only_file_system_is_an_error() {
    let mount = "mount -t tmpfs -o ro none \"$dir\"";
    mounted("a_read_only_file_system_is_an_error", mount, |dir| {
        let error = storage(dir, &[100]).write(0, &[1]).unwrap_err();
        assert_eq!(error.status(), Status::MakeDirectory, "{error}");
        assert!(error.to_string().contains("Read-only file system"), "{error}");
        let error = Storage::create(&dir.join("new"), Layout::new(Vec::new())).unwrap_err();
        assert_eq!(error.status(), Status::MakeDirectory, "{error}");
    });
}
