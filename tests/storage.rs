//! The output files on a real file system: what is written, where it must not be written, and what
//! is found again.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::expect_used)]

#[path = "support/scratch.rs"]
mod scratch;

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusty_torrent::bitfield::Bitfield;
use rusty_torrent::engine::recheck::{Found, Search, recheck};
use rusty_torrent::error::{Fatal, Status};
use rusty_torrent::limits::OPEN_FILES_MAX;
use rusty_torrent::protocol::resume::Record;
use rusty_torrent::system::storage::Storage;
use rusty_torrent::system::storage::layout::{Layout, OutputFile, OutputKind};
use rusty_torrent::units::{Geometry, InfoHash, PieceIndex};
use scratch::Scratch;
use sha1::{Digest, Sha1};

fn layout(files: &[(&str, u64, bool)]) -> Layout {
    let file = |&(path, length, pad): &(&str, u64, bool)| OutputFile {
        path: path.into(),
        length,
        kind: if pad { OutputKind::Pad } else { OutputKind::Data },
    };
    Layout::new(files.iter().map(file).collect())
}

fn one_file(path: &str, length: u64) -> Layout {
    layout(&[(path, length, false)])
}

/// What the torrent holds: random bytes, and zeros where there is padding.
fn content(layout: &Layout, rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = vec![0; layout.total() as usize];
    rng.fill(&mut bytes);
    for segment in layout.segments(0, bytes.len()).filter(|segment| segment.file.is_pad()) {
        bytes[segment.from..segment.from + segment.length].fill(0);
    }
    bytes
}

/// Every file below `dir`, by its path.
fn tree(dir: &Path) -> HashMap<String, Vec<u8>> {
    let mut found = HashMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn random_writes_end_as_the_torrent_says() {
    const MIB: u64 = 1 << 20;
    let layouts = [
        one_file("single", 1),
        one_file("single", 5 * MIB + 12_345),
        layout(&[("a/b/c", 2 * MIB, false), ("a/empty", 0, false), ("a/d", 3 * MIB + 1, false)]),
        layout(&[
            ("t/empty first", 0, false),
            ("t/1", 100, false),
            (".pad/1", 65_436, true),
            ("t/2", 4 * MIB - 1, false),
            (".pad/2", 1, true),
            ("t/deep/er/3", 4097, false),
            ("t/empty/last", 0, false),
        ]),
        layout(&[("t/all", 10, false), ("pad", 70_000, true)]),
    ];
    for (number, layout) in layouts.into_iter().enumerate() {
        let mut rng = fastrand::Rng::with_seed(number as u64);
        let scratch = Scratch::new(&format!("random-{number}"));
        let dir = scratch.join("made/on/the/way");
        let bytes = content(&layout, &mut rng);
        let mut storage = Storage::create(&dir, layout.clone()).unwrap();
        assert_eq!(tree(&dir).len(), 0);
        storage.check_room(layout.total()).unwrap();

        // Stretches of odd lengths in random order, so that windows come and go half full.
        let mut cuts: Vec<usize> = (0..200).map(|_| rng.usize(0..=bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut stretches: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        rng.shuffle(&mut stretches);
        for stretch in stretches {
            storage.write(stretch.start as u64, &bytes[stretch.clone()]).unwrap();
            let mut read = vec![1; stretch.len()];
            storage.read(stretch.start as u64, &mut read).unwrap();
            assert!(read == bytes[stretch]);
        }
        storage.finish().unwrap();

        let mut expected: HashMap<String, Vec<u8>> = layout
            .on_disk()
            .map(|(_, file)| (file.path.to_str().unwrap().to_owned(), Vec::new()))
            .collect();
        for segment in layout.segments(0, bytes.len()).filter(|segment| !segment.file.is_pad()) {
            let part = &bytes[segment.from..segment.from + segment.length];
            expected.insert(segment.file.path.to_str().unwrap().to_owned(), part.to_vec());
        }
        assert!(tree(&dir) == expected, "layout {number}");
    }
}

#[test]
fn files_and_directories_get_the_modes_of_the_umask() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    let umask = u32::from_str_radix(umask.trim(), 8).unwrap();
    let scratch = Scratch::new("umask");
    let mut storage = Storage::create(scratch.path(), one_file("d/f", 10)).unwrap();
    storage.write(0, &[1; 10]).unwrap();
    let mode = |name| fs::metadata(scratch.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("d/f"), 0o666 & !umask);
    assert_eq!(mode("d"), 0o777 & !umask);
}

/// Something planted in the output directory, the error it must lead to, and what is in its text.
type Planted = (&'static str, fn(&Path, &Path), Status, &'static str);

#[test]
fn what_stands_in_the_way_is_named_and_not_followed() {
    let cases: [Planted; 8] = [
        (
            "link-as-directory",
            |dir, outside| symlink(outside, dir.join("d")).unwrap(),
            Status::MakeDirectory,
            "d: a symbolic link is in the way",
        ),
        (
            "link-as-file",
            |dir, outside| {
                fs::create_dir(dir.join("d")).unwrap();
                symlink(outside.join("f"), dir.join("d/f")).unwrap();
            },
            Status::CreateFile,
            "d/f: a symbolic link is in the way",
        ),
        (
            "dangling-link",
            |dir, outside| {
                fs::create_dir(dir.join("d")).unwrap();
                symlink(outside.join("new"), dir.join("d/f")).unwrap();
            },
            Status::CreateFile,
            "d/f: a symbolic link is in the way",
        ),
        (
            "file-as-directory",
            |dir, _| fs::write(dir.join("d"), "x").unwrap(),
            Status::MakeDirectory,
            "d: a file is in the way",
        ),
        (
            "directory-as-file",
            |dir, _| fs::create_dir_all(dir.join("d/f")).unwrap(),
            Status::CreateFile,
            "d/f: a directory is in the way",
        ),
        (
            "fifo-as-file",
            |dir, _| {
                fs::create_dir(dir.join("d")).unwrap();
                let made = Command::new("mkfifo").arg(dir.join("d/f")).status().unwrap();
                assert!(made.success());
            },
            Status::CreateFile,
            "d/f: a FIFO is in the way",
        ),
        (
            "fifo-as-directory",
            |dir, _| {
                let made = Command::new("mkfifo").arg(dir.join("d")).status().unwrap();
                assert!(made.success());
            },
            Status::MakeDirectory,
            "d: a FIFO is in the way",
        ),
        (
            "socket-as-file",
            |dir, _| {
                fs::create_dir(dir.join("d")).unwrap();
                drop(std::os::unix::net::UnixListener::bind(dir.join("d/f")).unwrap());
            },
            Status::CreateFile,
            "d/f: a socket is in the way",
        ),
    ];
    for (name, plant, status, text) in cases {
        let scratch = Scratch::new(name);
        let (dir, outside) = (scratch.join("dir"), scratch.join("outside"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("f"), "precious").unwrap();
        plant(&dir, &outside);

        let layout = one_file("d/f", 10);
        let checked = |error: Fatal| {
            assert_eq!(error.status(), status, "{name}: {error}");
            assert!(error.to_string().contains(text), "{name}: {error}");
        };
        let mut storage = Storage::create(&dir, layout.clone()).unwrap();
        checked(storage.write(0, &[1; 10]).unwrap_err());
        checked(storage.read(0, &mut [0; 10]).unwrap_err());
        checked(storage.check_room(10).unwrap_err());
        checked(storage.finish().unwrap_err());
        checked(look(&dir, &layout, &[0; 10], 10, 1).unwrap_err());
        assert_eq!(fs::read(outside.join("f")).unwrap(), b"precious", "{name}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{name}");
    }
}

#[test]
fn paths_that_lead_out_are_refused_here_too() {
    let scratch = Scratch::new("paths");
    let dir = scratch.join("dir");
    for path in ["../out", "/out", "a/../../out", "..", "", "a/.."] {
        let mut storage = Storage::create(&dir, one_file(path, 3)).unwrap();
        assert!(storage.write(0, b"bad").is_err(), "{path}");
    }
    assert!(!scratch.join("out").exists() && !Path::new("/out").exists());
}

#[test]
fn the_directory_itself_may_be_a_link_but_not_a_file() {
    let scratch = Scratch::new("dir-link");
    fs::create_dir(scratch.join("real")).unwrap();
    symlink(scratch.join("real"), scratch.join("link")).unwrap();
    let mut storage = Storage::create(&scratch.join("link"), one_file("f", 3)).unwrap();
    storage.write(0, b"abc").unwrap();
    assert_eq!(fs::read(scratch.join("real/f")).unwrap(), b"abc");

    let error = Storage::create(&scratch.join("real/f"), one_file("g", 3)).unwrap_err();
    assert_eq!(error.status(), Status::MakeDirectory, "{error}");
}

/// Keeps the warnings, to see that they are given.
struct Warnings(Mutex<Vec<String>>);

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

#[test]
fn a_longer_file_is_cut_and_that_is_said() {
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let scratch = Scratch::new("longer");
    let files = layout(&[("written", 10, false), ("untouched", 5, false), ("empty", 0, false)]);
    for name in ["written", "untouched", "empty"] {
        fs::write(scratch.join(name), "twenty bytes in here").unwrap();
    }
    let mut storage = Storage::create(scratch.path(), files).unwrap();
    storage.check_room(0).unwrap();
    assert_eq!(fs::metadata(scratch.join("written")).unwrap().len(), 20);
    storage.write(2, b"BYTES").unwrap();
    storage.finish().unwrap();
    let expected = [("written", "twBYTESbyt"), ("untouched", "twent"), ("empty", "")];
    for (name, text) in expected {
        assert_eq!(fs::read_to_string(scratch.join(name)).unwrap(), text);
        let said = WARNINGS.0.lock().unwrap();
        let lines = said.iter().filter(|line| line.contains(&format!("/{name}: cut from 20 to")));
        assert_eq!(lines.count(), 1, "{said:?}");
    }
}

#[test]
fn what_is_there_already_is_kept() {
    let scratch = Scratch::new("kept");
    fs::write(scratch.join("short"), "begun").unwrap();
    let mut storage = Storage::create(scratch.path(), one_file("short", 4000)).unwrap();
    storage.write(3990, &[1; 10]).unwrap();
    storage.finish().unwrap();
    let read = fs::read(scratch.join("short")).unwrap();
    assert_eq!(read.len(), 4000);
    assert_eq!((&read[..6], &read[3989..]), (&b"begun\0"[..], &[&[0][..], &[1; 10]].concat()[..]));
}

#[test]
fn a_file_gets_its_room_when_it_is_first_written() {
    let scratch = Scratch::new("reserved");
    let files = layout(&[("one", 300_000, false), ("two", 300_000, false)]);
    let mut storage = Storage::create(scratch.path(), files).unwrap();
    storage.write(150_000, &[1]).unwrap();
    let one = fs::metadata(scratch.join("one")).unwrap();
    assert_eq!(one.len(), 300_000);
    // Temporary directories are on file systems that can reserve; elsewhere this says nothing.
    if one.blocks() * 512 < 300_000 {
        println!("this file system reserves nothing");
    }
    assert!(!scratch.join("two").exists());
}

/// Descriptors of this process that are open below `dir`.
fn descriptors(dir: &Path) -> usize {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(dir)).count()
}

/// Mappings of this process of files below `dir`.
fn mappings(dir: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(dir.to_str().unwrap())).count()
}

#[test]
fn thousands_of_files_hold_few_descriptors_and_mappings() {
    let scratch = Scratch::new("many");
    let dir = scratch.path().canonicalize().unwrap();
    let length = 1000;
    let file = |number: u64| OutputFile {
        path: format!("d{}/f{number}", number % 30).into(),
        length,
        kind: OutputKind::Data,
    };
    let layout = Layout::new((0..3000).map(file).collect());
    let mut storage = Storage::create(&dir, layout).unwrap();
    let mut most = (0, 0);
    for piece in 0..300u64 {
        let bytes: Vec<u8> =
            (0..10 * length).map(|at| ((piece * 10 + at / length) % 251) as u8).collect();
        storage.write(piece * 10 * length, &bytes).unwrap();
        most = (most.0.max(descriptors(&dir)), most.1.max(mappings(&dir)));
    }
    storage.finish().unwrap();
    // And the directory and the one in it where the last file was.
    assert!(most.0 <= OPEN_FILES_MAX + 2, "{most:?}");
    assert!(most.1 <= rusty_torrent::limits::WINDOWS_MAX, "{most:?}");
    for number in [0u64, 1, 1499, 2999] {
        let read = fs::read(dir.join(format!("d{}/f{number}", number % 30))).unwrap();
        assert_eq!(read, vec![(number % 251) as u8; length as usize]);
    }
}

#[test]
fn a_file_changed_by_others_is_an_error_and_not_death() {
    let mib = 1 << 20;
    let scratch = Scratch::new("changed");
    let path = scratch.join("f");
    let begin = || {
        let mut storage = Storage::create(scratch.path(), one_file("f", 3 * mib)).unwrap();
        storage.write(0, &[1; 70_000]).unwrap();
        storage.write(2 * mib + 5, &[1; 70_000]).unwrap();
        storage
    };
    let cut = |length| File::options().write(true).open(&path).unwrap().set_len(length).unwrap();

    let mut storage = begin();
    cut(0);
    for (offset, length) in [(70_000, 10), (0, 10), (mib, 100_000), (2 * mib + 70_005, 100_000)] {
        let error = storage.write(offset, &vec![2; length]).unwrap_err();
        assert_eq!(error.status(), Status::FileIo, "{error}");
        assert!(error.to_string().contains("cut while"), "{error}");
    }
    assert_eq!(storage.read(0, &mut [0]).unwrap_err().status(), Status::FileIo);
    assert_eq!(storage.finish().unwrap_err().status(), Status::FileIo);

    let mut storage = begin();
    cut(3 * mib - 1);
    assert_eq!(storage.finish().unwrap_err().status(), Status::FileIo);

    let mut storage = begin();
    fs::remove_file(&path).unwrap();
    let error = storage.finish().unwrap_err();
    assert!(error.to_string().contains("cut while"), "{error}");
    assert!(!path.exists());
}

#[test]
fn more_than_the_disk_holds_is_said_before_the_start() {
    let scratch = Scratch::new("room");
    let huge = i64::MAX as u64;
    let storage = Storage::create(scratch.path(), one_file("f", huge)).unwrap();
    let Fatal::DiskFull { needed, free, .. } = storage.check_room(huge).unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(needed, huge);
    assert!(free < huge);
    // What need not be written needs no room.
    storage.check_room(0).unwrap();
    assert_eq!(tree(scratch.path()).len(), 0);
}

#[test]
fn a_length_the_file_system_can_not_have_is_an_error() {
    let scratch = Scratch::new("too-long");
    let mut storage = Storage::create(scratch.path(), one_file("f", i64::MAX as u64)).unwrap();
    let error = storage.write(0, b"x").unwrap_err();
    assert!(matches!(error.status(), Status::FileIo | Status::DiskFull), "{error}");
}

#[test]
fn a_directory_that_can_not_be_written_is_an_error() {
    let scratch = Scratch::new("read-only");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut storage = Storage::create(scratch.path(), one_file("f", 3)).unwrap();
    match storage.write(0, b"abc") {
        Err(error) => assert_eq!(error.status(), Status::CreateFile, "{error}"),
        // Modes mean nothing to root.
        Ok(()) => assert_eq!(fs::metadata(scratch.path()).unwrap().uid(), 0),
    }
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Rechecks against the hashes of `expected`; the numbers of the pieces that are there.
fn look(
    dir: &Path,
    layout: &Layout,
    expected: &[u8],
    piece_length: u32,
    threads: usize,
) -> Result<Vec<u32>, Fatal> {
    let geometry = Geometry::new(expected.len() as u64, piece_length).unwrap();
    let found = look_with(None, dir, layout, (expected, geometry), threads)?;
    Ok(numbers(&found.pieces, geometry))
}

fn look_with(
    record: Option<&Record>,
    dir: &Path,
    layout: &Layout,
    (expected, geometry): (&[u8], Geometry),
    threads: usize,
) -> Result<Found, Fatal> {
    let hash = |piece: PieceIndex| {
        let begin = geometry.offset_of(piece) as usize;
        Sha1::digest(&expected[begin..begin + geometry.length_of(piece) as usize]).into()
    };
    let (stop, progress) = (AtomicBool::new(false), AtomicU64::new(0));
    let (stop, progress) = (&stop, &progress);
    let wanted = None;
    let search = Search { dir, layout, geometry, wanted, record, threads, stop, progress };
    let found = recheck(&search, hash)?;
    assert_eq!(progress.load(Ordering::Relaxed), geometry.total());
    Ok(found)
}

fn numbers(there: &Bitfield, geometry: Geometry) -> Vec<u32> {
    geometry.all_pieces().filter(|piece| there.has(*piece)).map(PieceIndex::get).collect()
}

#[test]
fn what_a_record_says_of_unchanged_files_is_all_that_is_there() {
    let scratch = Scratch::new("recorded");
    let files = layout(&[("a", 40_000, false), ("b", 40_000, false)]);
    let bytes = content(&files, &mut fastrand::Rng::with_seed(3));
    let geometry = Geometry::new(bytes.len() as u64, 10_000).unwrap();
    fs::write(scratch.join("a"), &bytes[..40_000]).unwrap();
    fs::write(scratch.join("b"), &bytes[40_000..]).unwrap();
    let look = |record| look_with(record, scratch.path(), &files, (&bytes, geometry), 2).unwrap();
    let mut pieces = Bitfield::none(geometry);
    for piece in [1, 6] {
        pieces.insert(geometry.piece(piece).unwrap());
    }
    let files = look(None).files;
    let record = Record { info_hash: InfoHash([1; 20]), pieces, files, aside: Vec::new() };
    // All of it is right, but nothing is hashed.
    assert_eq!(numbers(&look(Some(&record)).pieces, geometry), [1, 6]);
    // Now one file is.
    File::options().write(true).open(scratch.join("b")).unwrap().set_len(50_000).unwrap();
    assert_eq!(numbers(&look(Some(&record)).pieces, geometry), [1, 4, 5, 6, 7]);
}

/// What is done to files that were complete, and the pieces that are still there.
type Damaged<'a> = (&'a str, &'a dyn Fn(&Path), &'a [u32]);

#[test]
fn what_is_there_is_found_again() {
    let mut rng = fastrand::Rng::with_seed(1);
    let files = layout(&[
        ("t/a", 100_000, false),
        ("t/empty", 0, false),
        (".pad/0", 31_072, true),
        ("t/b", 65_536, false),
        (".pad/1", 131_072, true),
        ("t/c", 70_000, false),
    ]);
    // Pieces 0 and 1: a and padding; 2: b; 3 and 4: padding; 5: c; 6: the rest of c.
    let bytes = content(&files, &mut rng);
    let everything = [0, 1, 2, 3, 4, 5, 6];
    let change = |name: &Path, offset| {
        let file = File::options().read(true).write(true).open(name).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    };
    let cases: [Damaged<'_>; 9] = [
        ("all", &|_| {}, &everything),
        ("first", &|dir| change(&dir.join("t/a"), 0), &[1, 2, 3, 4, 5, 6]),
        ("last", &|dir| change(&dir.join("t/c"), 69_999), &[0, 1, 2, 3, 4, 5]),
        ("no-empty", &|dir| fs::remove_file(dir.join("t/empty")).unwrap(), &everything),
        ("no-b", &|dir| fs::remove_file(dir.join("t/b")).unwrap(), &[0, 1, 3, 4, 5, 6]),
        (
            "short",
            &|dir| {
                File::options().write(true).open(dir.join("t/a")).unwrap().set_len(65_536).unwrap();
            },
            &[0, 2, 3, 4, 5, 6],
        ),
        (
            "longer",
            &|dir| {
                let file = File::options().append(true).open(dir.join("t/b")).unwrap();
                file.set_len(100_000).unwrap();
            },
            &everything,
        ),
        ("nothing", &|dir| fs::remove_dir_all(dir.join("t")).unwrap(), &[3, 4]),
        ("no-dir", &|dir| fs::remove_dir_all(dir).unwrap(), &[3, 4]),
    ];
    for (name, damage, expected) in cases {
        let scratch = Scratch::new(&format!("found-{name}"));
        let dir = scratch.join("dir");
        let mut storage = Storage::create(&dir, files.clone()).unwrap();
        storage.write(0, &bytes).unwrap();
        storage.finish().unwrap();
        damage(&dir);
        let before = dir.exists().then(|| tree(&dir));
        for threads in [1, 3, 1000] {
            assert_eq!(look(&dir, &files, &bytes, 65_536, threads).unwrap(), expected, "{name}");
        }
        assert!(dir.exists().then(|| tree(&dir)) == before, "{name}: it made something");
    }
}

#[test]
fn holes_are_zeros_and_nothing_else() {
    let piece = 1 << 20;
    let scratch = Scratch::new("holes");
    let files = one_file("f", 20 * piece + 5);
    let mut bytes = vec![0; files.total() as usize];
    // Piece 3 has bytes; 7 has some at its end that are not on disk; the rest is zeros.
    bytes[3 * piece as usize..4 * piece as usize].fill(7);
    bytes[8 * piece as usize - 1] = 1;
    let file = File::create(scratch.join("f")).unwrap();
    file.set_len(20 * piece + 5).unwrap();
    file.write_all_at(&vec![7; piece as usize], 3 * piece).unwrap();
    let expected: Vec<u32> = (0..21).filter(|number| *number != 7).collect();
    for threads in [1, 2] {
        assert_eq!(look(scratch.path(), &files, &bytes, piece as u32, threads).unwrap(), expected);
    }
    // The same with the room reserved and nothing written in it.
    let mut storage = Storage::create(scratch.path(), files.clone()).unwrap();
    storage.write(20 * piece, &[0; 5]).unwrap();
    assert_eq!(look(scratch.path(), &files, &bytes, piece as u32, 2).unwrap(), expected);
}

#[test]
fn bytes_in_a_window_are_found_before_it_is_unmapped() {
    let scratch = Scratch::new("mapped");
    let files = one_file("f", 8 << 20);
    let bytes = content(&files, &mut fastrand::Rng::with_seed(3));
    let mut storage = Storage::create(scratch.path(), files.clone()).unwrap();
    storage.write(3 << 20, &bytes[3 << 20..4 << 20]).unwrap();
    assert_eq!(mappings(scratch.path()), 1);
    assert_eq!(look(scratch.path(), &files, &bytes, 1 << 20, 2).unwrap(), [3]);
}

#[test]
fn a_recheck_stops_when_it_is_told_to() {
    let scratch = Scratch::new("stop");
    let files = one_file("f", 1000);
    fs::write(scratch.join("f"), [0; 1000]).unwrap();
    let geometry = Geometry::new(1000, 10).unwrap();
    let (stop, progress) = (AtomicBool::new(true), AtomicU64::new(0));
    let zeros = |_| Sha1::digest([0; 10]).into();
    let (dir, layout) = (scratch.path(), &files);
    let (record, threads, stop, progress) = (None, 2, &stop, &progress);
    let wanted = None;
    let search = Search { dir, layout, geometry, wanted, record, threads, stop, progress };
    let there = recheck(&search, zeros).unwrap().pieces;
    assert!(there.is_empty());
    assert_eq!(progress.load(Ordering::Relaxed), 0);
    stop.store(false, Ordering::Relaxed);
    assert!(recheck(&search, zeros).unwrap().pieces.is_full());
}
