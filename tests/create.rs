//! The built program makes torrents: what it writes is what others would write, can be seeded and
//! downloaded, and is there whole or not at all.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rusty_torrent::engine::create::Payload;
use rusty_torrent::error::{Fatal, Status};
use rusty_torrent::protocol::metainfo::Metainfo;
use rusty_torrent::units::Geometry;

use support::case::{Case, LIMIT, shown};
use support::peer::Peer;
use support::program::{self, Outcome};
use support::scratch::Scratch;
use support::seeder::{Seeder, free_port};
use support::torrent::{Torrent, file, files_below};

const PIECE: usize = 32 << 10;

/// Makes `torrent` of `path`.
fn create(path: &Path, torrent: &Path, options: &[&str]) -> Outcome {
    let mut arguments = vec!["--create", path.to_str().unwrap(), torrent.to_str().unwrap()];
    arguments.extend(options);
    program::run(arguments, LIMIT)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A case whose torrent file the program made, of files that are gone again.
#[track_caller]
fn made(torrent: Torrent, options: &[&str]) -> Case {
    let case = Case::new(torrent);
    fs::remove_file(&case.file).unwrap();
    case.seed();
    let piece_length = case.torrent.payload.piece_length.to_string();
    let outcome =
        create(&case.place(), &case.file, &[options, &["--piece-length", &piece_length]].concat());
    outcome.assert_status(0);
    assert_eq!(outcome.stderr, "");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], hex(&case.torrent.payload.info_hash), "{outcome:#?}");
    assert!(lines[1].starts_with(&format!("magnet:?xt=urn:btih:{}&dn=", lines[0])), "{outcome:#?}");
    assert_eq!(lines.len(), 2);
    fs::remove_dir_all(&case.out).unwrap();
    case
}

// ---- what is made ------------------------------------------------------------------------------

#[test]
fn what_is_made_is_downloaded() {
    let nested = [
        file("a/b/c", PIECE),
        file("a/empty", 0),
        file("a/z", 3 * PIECE + 7),
        file("a.txt", 1),
        file("last", PIECE / 2),
    ];
    let tiny: Vec<_> = (0..300).map(|number| file(&format!("f{number:03}"), number)).collect();
    let torrents = [
        Torrent::single("a byte", 1, PIECE),
        Torrent::single("one piece exactly", PIECE, PIECE),
        Torrent::single("a piece and a byte", PIECE + 1, PIECE),
        Torrent::single("many pieces", 100 * PIECE - 1, PIECE),
        Torrent::single("Gr\u{fc}\u{df}e & 100 %", 5 * PIECE, PIECE),
        Torrent::multi("pieces over many files", &tiny, PIECE),
        Torrent::multi("files in directories", &nested, PIECE),
        Torrent::multi("one file in a directory", &[file("x", 2 * PIECE)], PIECE),
    ];
    for torrent in torrents {
        let case = made(torrent, &[]);
        let peer = Peer::honest(&case.torrent.payload);
        case.complete(&[&peer], &[]);
    }
}

#[test]
fn what_is_made_is_seeded_to_others_of_ours() {
    let files = [file("a", 0), file("b/c", 10 * PIECE + 5), file("d", 20 * PIECE)];
    let seeds = made(Torrent::multi("seeded", &files, PIECE), &[]);
    let torrent = fs::read(&seeds.file).unwrap();
    seeds.seed();
    let seeder = Seeder::go_on_at(free_port(), seeds, &[], &["--seed"]);
    let scratch = Scratch::new("fetched");
    let (file, out) = (scratch.join("seeded.torrent"), scratch.join("out"));
    fs::write(&file, torrent).unwrap();
    let peer = seeder.address().to_string();
    let options = ["--no-dht", "--no-lsd", "--peer", &peer, &shown(&file), &shown(&out)];
    program::run(options, LIMIT).assert_status(0);
    seeder.case.torrent.assert_is_in(&out);
    seeder.stop();
}

#[test]
fn trackers_web_seeds_and_privacy_are_written() {
    let torrent = Torrent::single("with everything", 3 * PIECE, PIECE).private();
    let case = made(
        torrent,
        &[
            "--tracker=http://a.example/x",
            "--tracker=udp://b.example:1",
            "--web-seed=http://c.example/with%20everything",
            "--private",
        ],
    );
    let metainfo = Metainfo::parse(&fs::read(&case.file).unwrap()).unwrap();
    assert_eq!(metainfo.tiers, [["http://a.example/x"], ["udp://b.example:1"]]);
    assert_eq!(metainfo.mirrors, ["http://c.example/with%20everything"]);
    assert!(metainfo.private);
}

#[test]
fn the_same_files_make_the_same_torrent() {
    let scratch = Scratch::new("the same");
    let names = ["b/2", "b/1", "a", "c", "b.x"];
    let backwards: Vec<&str> = names.into_iter().rev().collect();
    let mut torrents = Vec::new();
    for (place, names) in [("one", names.to_vec()), ("other", backwards)] {
        for name in names {
            let path = scratch.join(place).join("same").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("this is {name}")).unwrap();
        }
        let torrent = scratch.join(&format!("{place}.torrent"));
        create(&scratch.join(place).join("same"), &torrent, &[]).assert_status(0);
        torrents.push(fs::read(torrent).unwrap());
    }
    assert_eq!(torrents[0], torrents[1]);
    let files = Metainfo::parse(&torrents[0]).unwrap().files;
    let paths: Vec<_> = files.iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["same/a", "same/b/1", "same/b/2", "same/b.x", "same/c"]);
}

// ---- where it goes and what is said ------------------------------------------------------------

#[test]
fn scripts_get_the_hash_or_the_torrent() {
    let scratch = Scratch::new("for scripts");
    let path = scratch.join("x.bin");
    fs::write(&path, vec![7; 100_000]).unwrap();
    let hash = create(&path, &scratch.join("quiet.torrent"), &["-q"]);
    hash.assert_status(0);
    let torrent = fs::read(scratch.join("quiet.torrent")).unwrap();
    let expected = hex(&Metainfo::parse(&torrent).unwrap().info_hash.0);
    assert_eq!((hash.stdout, hash.stderr), (format!("{expected}\n"), String::new()));
    for (options, said) in [(&["-q"][..], false), (&[], true)] {
        let mut command = Command::new(program::path());
        let output = command.args(options).arg("--create").arg(&path).arg("-").output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(0), torrent.clone()));
        assert_eq!(String::from_utf8(output.stderr).unwrap().starts_with(&expected), said);
    }
    // Without a name it is the path's, in the current directory.
    for (from, path, torrent) in [
        (scratch.path().to_owned(), "x.bin", scratch.join("x.bin.torrent")),
        (scratch.path().to_owned(), ".", scratch.join(&format!("{}.torrent", name_of(&scratch)))),
    ] {
        let mut command = Command::new(program::path());
        let output = command.current_dir(from).args(["--create", path]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(torrent.is_file(), "{}", torrent.display());
    }
    let none_half: Vec<PathBuf> = files_below(scratch.path());
    assert_eq!(none_half.len(), 4, "{none_half:?}");
}

fn name_of(scratch: &Scratch) -> String {
    scratch.path().file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn what_is_left_out_and_odd_names_are_told() {
    let scratch = Scratch::new("left out");
    let dir = scratch.join("dir");
    fs::create_dir_all(dir.join("below")).unwrap();
    fs::write(dir.join("below/file"), "bytes").unwrap();
    fs::write(dir.join("bell\u{7}"), "").unwrap();
    symlink("file", dir.join("below/link")).unwrap();
    symlink(".", dir.join("circle")).unwrap();
    let made_fifo = Command::new("mkfifo").arg(dir.join("pipe")).status().unwrap();
    assert!(made_fifo.success());
    let torrent = scratch.join("x.torrent");
    let outcome = create(&dir, &torrent, &[]);
    outcome.assert_status(0);
    for line in ["below/link is left out", "circle is left out", "pipe is left out", r"bell\u{7}: "]
    {
        assert!(outcome.stderr.contains(line), "{line}: {outcome:#?}");
    }
    assert_eq!(outcome.stderr.lines().count(), 4, "{outcome:#?}");
    assert_eq!(Metainfo::parse(&fs::read(&torrent).unwrap()).unwrap().files.len(), 2);
    // A link that is named itself is meant.
    symlink("dir/below/file", scratch.join("named")).unwrap();
    let outcome = create(&scratch.join("named"), &scratch.join("named.torrent"), &[]);
    outcome.assert_status(0);
    assert!(outcome.stdout.contains("&dn=named\n"), "{outcome:#?}");
}

#[test]
fn what_no_torrent_can_be_made_of_is_refused() {
    let scratch = Scratch::new("refused");
    let path = |name: &str| scratch.join(name);
    for directory in ["empty", "no bytes", "foreign", "good"] {
        fs::create_dir(path(directory)).unwrap();
    }
    fs::write(path("no bytes").join("file"), "").unwrap();
    fs::write(path("empty file"), "").unwrap();
    fs::write(path("foreign").join(OsStr::from_bytes(b"caf\xe9")), "bytes").unwrap();
    fs::write(path("good").join("file"), "bytes").unwrap();
    fs::write(path("there"), "an older one").unwrap();
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let new = shown(&path("new.torrent"));
    let cases: [(&str, &str, &[&str], i32, &str); 13] = [
        ("missing", &new, &[], 17, "missing: No such file"),
        ("empty", &new, &[], 26, "no bytes"),
        ("no bytes", &new, &[], 26, "no bytes"),
        ("empty file", &new, &[], 26, "no bytes"),
        ("foreign", &new, &[], 26, r"caf\xe9: the name is not UTF-8"),
        ("pipe", &new, &[], 26, "neither a file nor a directory"),
        ("good", &shown(&path("there")), &[], 16, "there already"),
        ("good", &shown(&path("good")), &[], 16, "there already"),
        ("good", &shown(&path("nowhere/new.torrent")), &[], 16, "No such file"),
        ("good", &new, &["--piece-length", "20K"], 28, "power of two"),
        ("good", &new, &["--piece-length", "8K"], 28, "16K"),
        ("good", &new, &["--tracker", "tracker.example"], 28, "http://"),
        ("good", &new, &["--seed"], 28, "--seed can't be used with --create"),
    ];
    for (from, to, options, status, why) in cases {
        let outcome = create(&path(from), Path::new(to), options);
        outcome.assert_status(status);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.lines().count()), ("", 1));
        assert!(outcome.stderr.contains(why), "{why}: {outcome:#?}");
    }
    assert_eq!(fs::read(path("there")).unwrap(), b"an older one");
    assert!(!path("new.torrent").exists());
    let hidden = files_below(scratch.path())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".")));
    assert_eq!(hidden.count(), 0);
}

// ---- meanwhile ---------------------------------------------------------------------------------

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    const PIECE: u64 = 64 << 20;
    let scratch = Scratch::new("stopped");
    let path = scratch.join("large");
    // A byte in each piece, and no time is too short to be caught in the middle.
    let large = File::create(&path).unwrap();
    large.set_len(4096 * PIECE).unwrap();
    (0..4096).for_each(|piece| large.write_all_at(b"x", piece * PIECE).unwrap());
    let arguments = ["-q", "--piece-length", "64M", "--create", &shown(&path)];
    let mut run = program::start(
        arguments.into_iter().map(str::to_owned).chain([shown(&scratch.join("large.torrent"))]),
    );
    let files = PathBuf::from(format!("/proc/{}/fd", run.id()));
    let began = Instant::now();
    loop {
        let open = fs::read_dir(&files).into_iter().flatten().flatten();
        if open.flat_map(|file| fs::read_link(file.path())).any(|open| open == path) {
            break;
        }
        assert!(run.is_running() && began.elapsed() < LIMIT, "it does not read the file");
        thread::sleep(Duration::from_millis(1));
    }
    run.signal("TERM");
    let outcome = run.wait(LIMIT);
    outcome.assert_status(7);
    assert_eq!(outcome.stdout, "");
    assert_eq!(outcome.stderr, "error: stopped before everything was hashed\n");
    assert_eq!(files_below(scratch.path()), [path]);
}

#[test]
fn a_file_that_changes_meanwhile_is_named() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("cut", |path| to_write(path).set_len(70_000).unwrap()),
        ("longer", |path| to_write(path).set_len(1 << 20).unwrap()),
        ("emptied", |path| drop(File::create(path).unwrap())),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("written", |path| {
            let file = to_write(path);
            file.write_all_at(b"y", 3).unwrap();
            // Times are told by a clock that may stand still for some milliseconds.
            let before = file.metadata().unwrap().modified().unwrap();
            file.set_modified(before + Duration::from_secs(1)).unwrap();
        }),
    ];
    for (what, change) in changes {
        let scratch = Scratch::new(&format!("meanwhile {what}"));
        for (name, length) in [("a", 10), ("b", 100_000), ("c", 10)] {
            fs::write(scratch.join(name), vec![b'x'; length]).unwrap();
        }
        let payload = Payload::find(scratch.path()).unwrap();
        change(&scratch.join("b"));
        let fatal = hash(&payload).unwrap_err();
        assert_eq!(fatal.status(), Status::FileIo, "{what}");
        let expected = format!("can't hash {}: it changed meanwhile", shown(&scratch.join("b")));
        assert_eq!(fatal.to_string(), expected, "{what}");
    }
}

#[test]
fn what_stands_in_the_place_of_a_file_is_not_read() {
    let scratch = Scratch::new("in its place");
    for name in ["a", "b"] {
        fs::write(scratch.join(name), vec![b'x'; 50_000]).unwrap();
    }
    let payload = Payload::find(scratch.path()).unwrap();
    fs::rename(scratch.join("b"), scratch.join("elsewhere")).unwrap();
    symlink("elsewhere", scratch.join("b")).unwrap();
    let fatal = hash(&payload).unwrap_err();
    assert_eq!(fatal.status(), Status::CreateFile);
    assert!(fatal.to_string().ends_with("a symbolic link is in the way"), "{fatal}");
}

fn to_write(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

fn hash(payload: &Payload) -> Result<Vec<[u8; 20]>, Fatal> {
    let geometry = Geometry::new(payload.layout.total(), 16 << 10).unwrap();
    let (_never, signals) = crossbeam_channel::bounded(1);
    payload.hash(geometry, 2, &signals, &mut |_| ())
}
