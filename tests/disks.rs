//! The program on disks that are full, that others fill, that may not be written, that can't
//! reserve room, that fail. Small file systems of the tests' own, and errors put in by strace.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use support::case::{Case, LIMIT, pieces_asked, shown};
use support::mount::mounted;
use support::peer::{Behaviour, Peer};
use support::program::{self, Outcome};
use support::torrent::{Entry, Torrent, file};
use support::tracker::Tracker;

const MIB: u64 = 1 << 20;
const PIECE: usize = 64 << 10;
/// Nobody's user id, for what root may and others may not.
const NOBODY: u32 = 65534;

const TMPFS: &str = "mount -t tmpfs -o size=12m none \"$dir\"";
const EXT4: &str =
    "mkfs.ext4 -q -F -m 0 -O ^has_journal \"$image\"; mount -o loop \"$image\" \"$dir\"";
/// Has holes but can't reserve room.
const EXT2: &str = "mkfs.ext2 -q -F -m 0 \"$image\"; mount -o loop \"$image\" \"$dir\"";
/// What is reserved there is found by a write, but not by a store to a mapped page.
const BTRFS: &str =
    "mkfs.btrfs -q -f -m single \"$image\" 2>/dev/null; mount -o loop \"$image\" \"$dir\"";
/// Goes through FUSE.
const NTFS: &str = "mkfs.ntfs -F -q \"$image\" >/dev/null; ntfs-3g \"$image\" \"$dir\"";

/// Files that are mapped and files that are not, 8 MiB in all.
fn torrent(name: &str) -> Torrent {
    let mut files: Vec<Entry> = vec![file("large", 3 << 20), file("larger", (4 << 20) + 5)];
    files.extend((0..10).map(|number| file(&format!("small {number}"), 100_000)));
    Torrent::multi(name, &files, PIECE)
}

fn case_in(dir: &Path, name: &str) -> Case {
    let mut case = Case::new(torrent(name));
    case.out = dir.join("out");
    case
}

/// One line is the error; it has all these words.
#[track_caller]
fn assert_error(outcome: &Outcome, status: i32, words: &[&str]) {
    outcome.assert_status(status);
    let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: "));
    let errors: Vec<&str> = errors.collect();
    assert_eq!(errors.len(), 1, "{outcome:#?}");
    assert!(words.iter().all(|word| errors[0].contains(word)), "{words:?} in {outcome:#?}");
    assert_eq!(outcome.stdout, "");
}

/// Takes all the room that is left.
fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    for length in [1 << 20, 1 << 16, 1 << 12, 1 << 9, 1] {
        while ballast.write_all(&vec![7; length]).is_ok() {}
    }
    let _full = ballast.sync_all();
}

// ---- full --------------------------------------------------------------------------------------

fn seen_before_the_start(name: &str, mount: &str) {
    mounted(name, 6 * MIB, mount, |dir| {
        let tracker = Tracker::start();
        let mut case = Case::new(torrent(name).tracked_by(&tracker.http_url()));
        case.out = dir.join("out");
        let peer = Peer::honest(&case.torrent.payload);
        let outcome = case.run(&[&peer], &[]);
        assert_error(&outcome, 9, &["no room for", "8.0 MiB needed", " free", &shown(&case.out)]);
        assert_eq!(outcome.stderr.lines().count(), 1);
        assert_eq!((peer.record().connections, tracker.announces().len()), (0, 0));
        assert_eq!(fs::read_dir(&case.out).unwrap().count(), 0, "nothing is left behind");
    });
}

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn a_small_tmpfs_is_seen_before_anything_is_asked_for() {
    let mount = "mount -t tmpfs -o size=5m none \"$dir\"";
    seen_before_the_start("a_small_tmpfs_is_seen_before_anything_is_asked_for", mount);
}

#[test]
#[ignore = "needs root: mounts a small ext4"]
fn a_small_ext4_is_seen_before_anything_is_asked_for() {
    seen_before_the_start("a_small_ext4_is_seen_before_anything_is_asked_for", EXT4);
}

/// Downloads to the middle, takes all the room there is left, and goes on.
fn filled_in_the_middle(dir: &Path, torrent: Torrent) -> (Case, Outcome) {
    let mut case = Case::new(torrent);
    case.out = dir.join("out");
    let resting = Behaviour { rests_after: Some(24), reqq: Some(8), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, resting);
    let run = case.start(&[&peer], &[]);
    case.wait_for_pieces(6);
    fill(&dir.join("ballast"));
    peer.go_on();
    let outcome = run.wait(LIMIT);
    (case, outcome)
}

/// When there is room again only the rest is fetched.
fn filled_by_others(name: &str, mount: &str, torrent: Torrent) {
    mounted(name, 12 * MIB, mount, |dir| {
        let (case, outcome) = filled_in_the_middle(dir, torrent);
        assert_error(&outcome, 9, &["no room for", " needed", " free", &shown(&case.place())]);
        fs::remove_file(dir.join("ballast")).unwrap();
        let there = case.pieces_there();
        assert!(there.len() >= 6, "{there:?}");
        let again = Peer::honest(&case.torrent.payload);
        case.complete(&[&again], &[]);
        let asked = pieces_asked(&again.record());
        assert_eq!(asked.iter().find(|piece| there.contains(piece)), None, "asked for again");
        assert_eq!(asked.len() + there.len(), case.torrent.payload.pieces());
    });
}

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn a_tmpfs_that_others_fill_costs_nothing_that_came() {
    filled_by_others(
        "a_tmpfs_that_others_fill_costs_nothing_that_came",
        TMPFS,
        torrent("a_tmpfs_that_others_fill_costs_nothing_that_came"),
    );
}

/// Blocks of both files come at once, and there is no room for the second.
#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn what_came_right_before_the_disk_was_full_is_kept() {
    let name = "what_came_right_before_the_disk_was_full_is_kept";
    mounted(name, 12 * MIB, TMPFS, |dir| {
        let files = [file("first", 2 * PIECE), file("second", 64 * PIECE)];
        let mut case = Case::new(Torrent::multi(name, &files, PIECE));
        case.out = dir.join("out");
        let resting = Behaviour { rests_after: Some(5), ..Behaviour::default() };
        let peer = Peer::start(&case.torrent.payload, resting);
        let run = case.start(&[&peer], &["--sequential"]);
        case.wait_for_pieces(1);
        peer.wait_until(|record| record.requests.len() >= 10);
        let ballast = dir.join("ballast");
        fill(&ballast);
        // The record has room.
        let length = fs::metadata(&ballast).unwrap().len();
        File::options().write(true).open(&ballast).unwrap().set_len(length - (1 << 16)).unwrap();
        run.signal("STOP");
        peer.go_on();
        peer.wait_until(|record| record.sent.len() >= 10);
        run.signal("CONT");
        run.wait(LIMIT).assert_status(9);
        fs::remove_file(ballast).unwrap();
        let again = Peer::honest(&case.torrent.payload);
        case.complete(&[&again], &[]);
        assert_eq!(pieces_asked(&again.record()), (2..66).collect::<Vec<_>>());
    });
}

#[test]
#[ignore = "needs root: mounts a small ext4"]
fn an_ext4_that_others_fill_costs_nothing_that_came() {
    filled_by_others(
        "an_ext4_that_others_fill_costs_nothing_that_came",
        EXT4,
        torrent("an_ext4_that_others_fill_costs_nothing_that_came"),
    );
}

#[test]
#[ignore = "needs root: mounts a small ext2"]
fn an_ext2_that_others_fill_costs_nothing_that_came() {
    filled_by_others(
        "an_ext2_that_others_fill_costs_nothing_that_came",
        EXT2,
        torrent("an_ext2_that_others_fill_costs_nothing_that_came"),
    );
}

#[test]
#[ignore = "needs root and ntfs-3g: mounts a small NTFS"]
fn an_ntfs_that_others_fill_costs_nothing_that_came() {
    filled_by_others(
        "an_ntfs_that_others_fill_costs_nothing_that_came",
        NTFS,
        torrent("an_ntfs_that_others_fill_costs_nothing_that_came"),
    );
}

/// Nothing is reserved for it, so every part of it may be what has no room.
fn large(name: &str) -> Torrent {
    Torrent::single(name, 8 << 20, PIECE)
}

#[test]
#[ignore = "needs root: mounts a small ext2"]
fn a_large_file_on_an_ext2_that_others_fill_costs_nothing_that_came() {
    let name = "a_large_file_on_an_ext2_that_others_fill_costs_nothing_that_came";
    filled_by_others(name, EXT2, large(name));
}

/// What has its room can be finished, whatever others do.
fn finished_though_filled(name: &str, image_length: u64, mount: &str) {
    mounted(name, image_length, mount, |dir| {
        let (case, outcome) = filled_in_the_middle(dir, large(name));
        case.assert_complete(&outcome);
    });
}

#[test]
#[ignore = "needs root: mounts a small ext4"]
fn a_file_that_has_its_room_is_finished_on_a_full_ext4() {
    let name = "a_file_that_has_its_room_is_finished_on_a_full_ext4";
    finished_though_filled(name, 12 * MIB, EXT4);
}

#[test]
#[ignore = "needs root and btrfs-progs: mounts a small btrfs"]
fn a_file_that_has_its_room_is_finished_on_a_full_btrfs() {
    let name = "a_file_that_has_its_room_is_finished_on_a_full_btrfs";
    finished_though_filled(name, 160 * MIB, BTRFS);
}

#[test]
#[ignore = "needs root and ntfs-3g: mounts a small NTFS"]
fn a_large_file_on_an_ntfs_that_others_fill_costs_nothing_that_came() {
    let name = "a_large_file_on_an_ntfs_that_others_fill_costs_nothing_that_came";
    filled_by_others(name, NTFS, large(name));
}

// ---- without reservations ----------------------------------------------------------------------

/// A whole download, and one that is stopped and goes on.
fn whole_and_resumed(name: &str, mount: &str) {
    mounted(name, 32 * MIB, mount, |dir| {
        let case = case_in(dir, name);
        let peer = Peer::honest(&case.torrent.payload);
        case.complete(&[&peer], &[]);
        assert_eq!(case.complete(&[], &[]).stderr, "");
        fs::remove_dir_all(&case.out).unwrap();
        let behaviour = Behaviour { rests_after: Some(64), ..Behaviour::default() };
        let peer = Peer::start(&case.torrent.payload, behaviour);
        let run = case.start(&[&peer], &[]);
        case.wait_for_pieces(16);
        run.signal("TERM");
        run.wait(LIMIT).assert_status(7);
        let there = case.pieces_there();
        let again = Peer::honest(&case.torrent.payload);
        let outcome = case.complete(&[&again], &["-v"]);
        assert!(outcome.stderr.contains("16 pieces are known from the last run"), "{outcome:#?}");
        let asked = pieces_asked(&again.record());
        assert_eq!(asked.len() + there.len(), case.torrent.payload.pieces());
    });
}

#[test]
#[ignore = "needs root: mounts a small ext2"]
fn an_ext2_takes_a_download() {
    whole_and_resumed("an_ext2_takes_a_download", EXT2);
}

#[test]
#[ignore = "needs root and ntfs-3g: mounts a small NTFS"]
fn an_ntfs_takes_a_download() {
    whole_and_resumed("an_ntfs_takes_a_download", NTFS);
}

// ---- not to be written -------------------------------------------------------------------------

#[test]
#[ignore = "needs root: mounts read-only"]
fn what_is_mounted_read_only_is_named() {
    let mount = "mount -t tmpfs none \"$dir\"; mkdir \"$dir/ro\" \"$dir/bound\"; \
                 mount -t tmpfs -o ro none \"$dir/ro\"; \
                 mount --bind \"$dir/bound\" \"$dir/bound\"; \
                 mount -o remount,ro,bind \"$dir/bound\"";
    mounted("what_is_mounted_read_only_is_named", 1, mount, |dir| {
        for at in ["ro/out", "ro", "bound/out", "bound"] {
            for (torrent, status) in [
                (Torrent::multi("many", &[file("a", 100), file("b", 100)], PIECE), 18),
                (Torrent::single("one", 100_000, PIECE), 16),
            ] {
                let mut case = Case::new(torrent);
                case.out = dir.join(at);
                let peer = Peer::honest(&case.torrent.payload);
                let outcome = case.run(&[&peer], &[]);
                let (status, named) = match at.ends_with("out") {
                    true => (18, case.out.clone()),
                    false => (status, case.place()),
                };
                assert_error(&outcome, status, &["Read-only file system", &shown(&named)]);
                assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
            }
        }
    });
}

/// The program, where anybody may execute it, for somebody who is not root.
fn as_nobody(case: &Case) -> Command {
    let path = case.join("program");
    fs::copy(program::path(), &path).unwrap();
    let mut command = Command::new(path);
    command.uid(NOBODY).gid(NOBODY);
    command
}

#[test]
#[ignore = "needs root: becomes somebody else"]
fn what_belongs_to_others_is_named_and_left_alone() {
    let case = Case::new(Torrent::single("of another", 3 << 20, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    let run = || case.start_as(as_nobody(&case), &[&peer], &[]).wait(LIMIT);
    // The directory can't be made, and one that is there can't be written.
    let outcome = run();
    assert_error(&outcome, 18, &["Permission denied", &shown(&case.out)]);
    fs::create_dir(&case.out).unwrap();
    let outcome = run();
    assert_error(&outcome, 16, &["Permission denied", &shown(&case.place())]);
    // A file that can be read and not written.
    chown(&case.out, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut bytes = case.torrent.payload.bytes.to_vec();
    bytes[5] ^= 1;
    fs::write(case.place(), &bytes).unwrap();
    let outcome = run();
    assert_error(&outcome, 16, &["Permission denied", &shown(&case.place())]);
    assert!(fs::read(case.place()).unwrap() == bytes);
    // One that can't even be read.
    fs::set_permissions(case.place(), fs::Permissions::from_mode(0o600)).unwrap();
    let outcome = run();
    assert_error(&outcome, 16, &["Permission denied", &shown(&case.place())]);
    // What needs no writing needs no right to write.
    fs::set_permissions(case.place(), fs::Permissions::from_mode(0o444)).unwrap();
    fs::write(case.place(), &case.torrent.payload.bytes[..]).unwrap();
    let outcome = run();
    outcome.assert_status(0);
}

#[test]
#[ignore = "needs root: makes a device"]
fn a_device_in_the_place_of_a_file_is_named_and_left_alone() {
    let case = Case::new(Torrent::single("device", 100_000, PIECE));
    fs::create_dir(&case.out).unwrap();
    let made = Command::new("mknod").arg(case.place()).args(["c", "1", "3"]).status().unwrap();
    assert!(made.success(), "root is needed");
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.run(&[&peer], &[]);
    assert_error(&outcome, 16, &["a device is in the way", &shown(&case.place())]);
    assert_eq!(peer.record().connections, 0);
}

#[test]
#[ignore = "needs root: mounts and unmounts a tmpfs"]
fn a_file_system_that_is_unmounted_is_an_error() {
    let name = "a_file_system_that_is_unmounted_is_an_error";
    mounted(name, 1, TMPFS, |dir| {
        let case = case_in(dir, name);
        let behaviour = Behaviour { rests_after: Some(24), reqq: Some(8), ..Behaviour::default() };
        let peer = Peer::start(&case.torrent.payload, behaviour);
        let run = case.start(&[&peer], &[]);
        case.wait_for_pieces(6);
        assert!(Command::new("umount").arg("-l").arg(dir).status().unwrap().success());
        peer.go_on();
        let outcome = run.wait(LIMIT);
        assert_error(&outcome, 17, &["moved", &shown(&case.place())]);
    });
}

// ---- failing -----------------------------------------------------------------------------------

/// The program under strace, with these errors put in, whatever file they are of or one alone.
fn with_errors(case: &Case, errors: &[&str], of: Option<&Path>, peers: &[&Peer]) -> Outcome {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    if let Some(file) = of {
        command.arg("-P").arg(file);
    }
    let calls: Vec<&str> = errors.iter().map(|error| error.split(':').next().unwrap()).collect();
    command.args(["-e", &format!("trace={}", calls.join(","))]);
    for error in errors {
        command.args(["-e", &format!("inject={error}")]);
    }
    command.arg("--").arg(program::path());
    case.start_as(command, peers, &[]).wait(LIMIT)
}

#[test]
#[ignore = "needs strace"]
#[allow(clippy::type_complexity)] // a table
fn a_disk_that_fails_is_an_error_that_names_the_file() {
    let bad = "Input/output error";
    let no_room = "fallocate:error=EOPNOTSUPP";
    // What fails, whether the file is one that is mapped, and how it ends.
    let faults: [(&[&str], bool, i32, &[&str]); 12] = [
        (&["pwritev:error=EIO:when=3+"], false, 17, &["can't write", bad]),
        // What a window can't take is written.
        (&["madvise:error=EIO"], true, 0, &[]),
        (&["madvise:error=EIO", "pwritev:error=EIO:when=3+"], true, 17, &["can't write", bad]),
        (&["fallocate:error=EIO"], true, 17, &["can't extend", bad]),
        (&["fallocate:error=ENOSPC"], true, 9, &["no room for", "4.0 MiB needed"]),
        (&["fallocate:error=EDQUOT"], true, 9, &["can't extend", "quota", "make room"]),
        (&["pwritev:error=EDQUOT:when=2+"], false, 9, &["can't write", "quota", "make room"]),
        (&["fallocate:error=EFBIG"], true, 17, &["can't extend", "File too large"]),
        (&[no_room, "ftruncate:error=EFBIG"], true, 17, &["can't extend", "File too large"]),
        // Nothing was reserved, so it is the flush at the end that tells.
        (&[no_room, "fdatasync:error=ENOSPC"], true, 9, &["can't flush", "make room"]),
        // A kernel before Linux 5.14.
        (&["madvise:error=EINVAL"], true, 0, &[]),
        (&["pwritev:error=EINTR:when=1+2"], false, 0, &[]),
    ];
    for (number, (errors, mapped, status, words)) in faults.into_iter().enumerate() {
        let length = if mapped { 4 << 20 } else { 200_000 };
        let case = Case::new(Torrent::single(&format!("failing {number}"), length, PIECE / 4));
        let peer = Peer::honest(&case.torrent.payload);
        let outcome = with_errors(&case, errors, None, &[&peer]);
        if status == 0 {
            case.assert_complete(&outcome);
            continue;
        }
        assert_error(&outcome, status, words);
        assert!(outcome.stderr.contains(&shown(&case.place())), "{outcome:#?}");
        let again = Peer::honest(&case.torrent.payload);
        let there = case.pieces_there();
        case.complete(&[&again], &[]);
        let asked = pieces_asked(&again.record());
        assert_eq!(asked.iter().find(|piece| there.contains(piece)), None, "{errors:?}");
    }
}

#[test]
#[ignore = "needs strace"]
fn a_file_that_can_not_be_read_is_an_error_before_anything_is_asked_for() {
    let case = Case::new(Torrent::single("unreadable", 3 << 20, PIECE));
    case.seed();
    let peer = Peer::honest(&case.torrent.payload);
    // Not what the loader reads.
    let outcome = with_errors(&case, &["pread64:error=EIO"], Some(&case.place()), &[&peer]);
    assert_error(&outcome, 17, &["can't read", "Input/output error", &shown(&case.place())]);
    assert_eq!(peer.record().connections, 0);
}

/// A flush that fails once is as good as one that fails: the second says nothing of what is lost.
#[test]
#[ignore = "needs strace, and waits until a record is made"]
fn after_a_flush_that_failed_everything_is_hashed() {
    let case = Case::new(Torrent::single("flush", 3 << 20, PIECE));
    let resting = Behaviour { rests_after: Some(40), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, resting);
    let outcome = with_errors(&case, &["fdatasync:error=EIO:when=1"], None, &[&peer]);
    assert_error(&outcome, 17, &["can't flush", "Input/output error", &shown(&case.place())]);
    let outcome = case.complete(&[&Peer::honest(&case.torrent.payload)], &["-v"]);
    assert!(!outcome.stderr.contains("known from the last run"), "{outcome:#?}");
}

/// A real one: it has less room than it says, and all that fails is the flush, long after the write.
#[test]
#[ignore = "needs root: mounts an ext4 on a tmpfs, and waits until a record is made"]
fn a_device_that_fails_is_told_by_the_flush() {
    let name = "a_device_that_fails_is_told_by_the_flush";
    let mount = "mkdir \"$scratch/back\"; mount -t tmpfs -o size=3m none \"$scratch/back\"; \
                 truncate -s 64M \"$scratch/back/image\"; \
                 mkfs.ext4 -q -F -m 0 -O ^has_journal \"$scratch/back/image\"; \
                 mount -o loop \"$scratch/back/image\" \"$dir\"";
    mounted(name, 1, mount, |dir| {
        let case = case_in(dir, name);
        let resting = Behaviour { rests_after: Some(400), ..Behaviour::default() };
        let peer = Peer::start(&case.torrent.payload, resting);
        let outcome = case.run(&[&peer], &[]);
        // The kernel says the one or the other, by who wrote the page back.
        let (status, why) = match outcome.stderr.contains("No space left") {
            true => (9, "make room"),
            false => (17, "Input/output error"),
        };
        assert_error(&outcome, status, &["can't flush", why, &shown(&case.place())]);
        let left: Vec<_> = fs::read_dir(&case.out).unwrap().map(|left| left.unwrap()).collect();
        assert_eq!(left.len(), 1, "no record: {left:?}");
    });
}
