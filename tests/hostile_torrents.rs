//! The built program and torrents that mean no good: each is refused at once with one line, before
//! anything is written or anybody is spoken to; what is only odd or large is taken for what it is.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(clippy::print_stdout)] // what was measured

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use sha1::{Digest, Sha1};

use support::case::{Case, LIMIT, shown};
use support::peer::{Behaviour, Peer};
use support::program::{self, Outcome, Used};
use support::scratch::Scratch;
use support::torrent::{Torrent, file};
use support::tracker::Tracker;

const MIB: u64 = 1 << 20;

/// A string as bencode writes it.
fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

/// A torrent with this info dictionary, `pieces` in it standing for one hash.
fn info(entries: &str) -> Vec<u8> {
    let pieces = format!("6:pieces20:{}", "h".repeat(20));
    format!("d4:infod{}ee", entries.replace("pieces", &pieces)).into_bytes()
}

/// A torrent of these files with 100 bytes in all.
fn files(files: &str) -> Vec<u8> {
    info(&format!("5:filesl{files}e4:name1:n12:piece lengthi16384epieces"))
}

/// One file of a list.
fn entry(length: &str, path: &[&str]) -> String {
    let path: String = path.iter().map(|part| format!("{}:{part}", part.len())).collect();
    format!("d6:lengthi{length}e4:pathl{path}ee")
}

/// A torrent of one file, its fields as they are written.
fn one_file(length: &str, name: &[u8], piece_length: &str) -> Vec<u8> {
    let (before, after) = ("d4:infod6:length", "6:pieces20:hhhhhhhhhhhhhhhhhhhhee");
    let name = [b"4:name", &string(name)[..]].concat();
    let middle = format!("12:piece length{piece_length}");
    [before.as_bytes(), length.as_bytes(), &name, middle.as_bytes(), after.as_bytes()].concat()
}

fn repeat(before: &str, repeated: &str, count: usize, after: &str) -> Vec<u8> {
    [before, &repeated.repeat(count), after].concat().into_bytes()
}

/// What is no bencode.
fn not_bencode() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = Torrent::single("good", 100, 64).encode();
    let million = 1_000_000;
    vec![
        ("empty", Vec::new(), "unexpected end"),
        ("a web page", b"<!DOCTYPE html>".to_vec(), "unexpected byte"),
        ("zeros", vec![0; 1 << 20], "unexpected byte"),
        ("cut", good[..good.len() - 1].to_vec(), "unexpected end"),
        ("nested lists", repeat("d4:info", "l", million, ""), "nested too deep"),
        (
            "nested lists that end",
            repeat("", "l", million, &"e".repeat(million)),
            "nested too deep",
        ),
        ("nested dictionaries", repeat("", "d0:", million, ""), "nested too deep"),
        ("2^64 bytes", b"d4:infod6:pieces18446744073709551616:".to_vec(), "longer than"),
        ("2^63 bytes", b"d4:infod6:pieces9223372036854775808:".to_vec(), "longer than"),
        ("4 GiB", b"d4:infod6:pieces4294967296:".to_vec(), "longer than"),
        ("a length of a million digits", repeat("d", "9", million, ":"), "longer than"),
        ("a number without end", repeat("d1:ai", "1", million, ""), "unexpected end"),
        ("two signs", b"d1:ai--1ee".to_vec(), "integer with"),
        ("a number as a key", b"di1ei2ee".to_vec(), "dictionary key"),
        ("a key alone", b"d4:infoe".to_vec(), "key without a value"),
    ]
}

/// What is bencode, but no torrent to be downloaded.
fn bad_torrents() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let million = 1_000_000;
    let far = "9223372036854775807";
    let lists = format!("l{}e", "le".repeat(million));
    let digits = format!("i{}e", "9".repeat(million));
    let deep = vec!["d"; 101];
    let long = "x".repeat(200);
    let two = |one: (&str, &[&str]), other: (&str, &[&str])| {
        files(&(entry(one.0, one.1) + &entry(other.0, other.1)))
    };
    let one = |path: &[&str]| files(&entry("100", path));
    vec![
        ("no dictionary", b"le".to_vec(), "no dictionary"),
        ("a million empty lists", lists.clone().into_bytes(), "no dictionary"),
        ("no info", b"d8:announce3:xyze".to_vec(), "no `info`"),
        ("info is a list", format!("d4:info{lists}e").into_bytes(), "no `info`"),
        ("an empty info", b"d4:infodee".to_vec(), "`pieces` is missing"),
        (
            "a million pieces are no string",
            format!("d4:infod6:pieces{lists}ee").into_bytes(),
            "no string",
        ),
        (
            "version 2 torrent",
            b"d4:infod9:file treede12:meta versioni2eee".to_vec(),
            "version 2 torrent",
        ),
        ("negative length", one_file("i-1e", b"n", "i16384e"), "`length` is negative"),
        ("a length of a million digits", one_file(&digits, b"n", "i16384e"), "64 bits"),
        ("2^63 bytes", one_file("i9223372036854775808e", b"n", "i16384e"), "64 bits"),
        ("2^63 - 1 bytes", one_file(&format!("i{far}e"), b"n", "i16384e"), "too many"),
        ("2^32 + 100 bytes", one_file("i4294967396e", b"n", "i16384e"), "holds 1 hashes"),
        ("no bytes", one_file("i0e", b"n", "i16384e"), "nothing to download"),
        ("a string as length", one_file("3:100", b"n", "i16384e"), "not an integer"),
        ("piece length 0", one_file("i100e", b"n", "i0e"), "`piece length` is 0"),
        ("piece length -1", one_file("i100e", b"n", "i-1e"), "`piece length` is negative"),
        ("piece length 2^32 + 16384", one_file("i100e", b"n", "i4294983680e"), "more than the"),
        ("piece length 2^50", one_file("i100e", b"n", "i1125899906842624e"), "more than the"),
        ("piece length 2^64", one_file("i100e", b"n", "i18446744073709551616e"), "64 bits"),
        ("pieces too short", one_file("i100e", b"n", "i10e"), "holds 1 hashes"),
        ("a name of two dots", one_file("i100e", b"..", "i16384e"), "`..`"),
        ("a name of a dot", one_file("i100e", b".", "i16384e"), "names no file"),
        ("an empty name", one_file("i100e", b"", "i16384e"), "names no file"),
        (
            "a name of a million bytes",
            one_file("i-1e", &vec![b'x'; million], "i16384e"),
            "negative",
        ),
        ("up", one(&["..", "b"]), "`..`"),
        ("down and up", one(&["a", "..", "..", "b"]), "`..`"),
        ("up and an escape", one(&["\x1b[2J\u{202e}", ".."]), r"\u{1b}[2J\u{202e}/.."),
        ("101 directories", one(&deep), "more than 100 parts"),
        ("a path of 4000 bytes", one(&[long.as_str(); 20]), "more than 3072 bytes"),
        ("an empty path", one(&[]), "names no file"),
        (
            "a million empty parts",
            files(&format!("d6:lengthi100e4:pathl{}ee", "0:".repeat(million))),
            "names no file",
        ),
        (
            "a million parts that are lists",
            files(&format!("d6:lengthi100e4:path{lists}e")),
            "wrong type",
        ),
        ("the same twice", two(("50", &["a"]), ("50", &["a"])), "two files would be n/a"),
        (
            "the same but for a dot",
            two(("50", &["d", "a"]), ("50", &["d", ".", "a"])),
            "two files would be n/d/a",
        ),
        (
            "a file and a directory",
            two(("50", &["a", "b"]), ("50", &["a"])),
            "a file and a directory",
        ),
        (
            "negative among many",
            two(("200", &["a"]), ("-100", &["b"])),
            "file 2: `length` is negative",
        ),
        ("too much in all", two((far, &["a"]), ("1", &["b"])), "add up to more"),
        ("wraps around", two((far, &["a"]), (far, &["b"])), "add up to more"),
        (
            "files and length",
            info("5:filesl1:ae6:lengthi1e4:name1:n12:piece lengthi1epieces"),
            "both",
        ),
        ("neither files nor length", info("4:name1:n12:piece lengthi16384epieces"), "neither"),
        (
            "a million files that are lists",
            info(&format!("5:files{lists}4:name1:n12:piece lengthi1epieces")),
            "file 1: `length` is missing",
        ),
        ("no file but links", files("d4:attr1:l6:lengthi100e4:pathl1:aee"), "nothing to download"),
    ]
}

/// One line says what is wrong, and nothing else was done.
fn assert_refused(
    name: &str,
    outcome: &Outcome,
    (status, why): (i32, &str),
    torrent: &Path,
    out: &Path,
) {
    assert_eq!(outcome.status, Some(status), "{name}: {outcome:#?}");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.lines().count()), ("", 1), "{name}");
    let said = outcome.stderr.trim_end_matches('\n');
    assert!(said.starts_with("error: ") && said.contains(why), "{name}: {said}");
    assert!(said.contains(&shown(torrent)), "{name}: {said}");
    assert!(said.chars().all(|char| !char.is_control() && char != '\u{202e}'), "{name}: {said}");
    assert!(said.chars().count() < 500, "{name}: {said}");
    assert!(!out.exists(), "{name}");
}

#[test]
fn what_is_no_torrent_is_refused_at_once_with_a_line() {
    let (scratch, tracker) = (Scratch::new("hostile torrents"), Tracker::start());
    let (path, out) = (scratch.join("x.torrent"), scratch.join("out"));
    let peer = Peer::honest(&Torrent::single("nobody wants this", 100, 64).payload);
    let address = peer.address().to_string();
    let not_bencode = not_bencode().into_iter().map(|case| (25, case));
    let bad_torrents = bad_torrents().into_iter().map(|case| (26, case));
    for (status, (name, mut bytes, why)) in not_bencode.chain(bad_torrents) {
        // Where it is a dictionary it names a tracker too.
        if bytes.first() == Some(&b'd') {
            let url = [b"8:announce", &string(tracker.http_url().as_bytes())[..]].concat();
            bytes.splice(1..1, url);
        }
        fs::write(&path, &bytes).unwrap();
        let run = program::start(["--peer", &address, &shown(&path), &shown(&out)]);
        let (outcome, most) = run.watch(LIMIT);
        println!("{:6.1} ms  {name}", outcome.elapsed.as_secs_f64() * 1e3);
        assert_refused(name, &outcome, (status, why), &path, &out);
        assert_is_little(name, most, bytes.len());
    }
    assert_eq!((tracker.announces().len(), peer.record().connections), (0, 0));
}

/// Reading a torrent takes no more than this, however it is built.
fn assert_is_little(name: &str, most: Used, length: usize) {
    assert!(most.anonymous <= 6 * length as u64 + 2 * MIB, "{name}, {length} bytes: {most:?}");
    // In a debug build.
    assert!(most.worked < Duration::from_secs(5), "{name}: {most:?}");
}

#[test]
fn a_source_that_never_ends_is_refused_as_too_large() {
    let scratch = Scratch::new("endless torrent");
    let out = scratch.join("out");
    for (file, status, why) in
        [("/dev/zero", 26, "more than 8.0 MiB came"), ("/dev/null", 25, "unexpected end")]
    {
        let run = program::start(["--peer", "127.0.0.1:1", file, &shown(&out)]);
        let (outcome, most) = run.watch(LIMIT);
        assert_refused(file, &outcome, (status, why), Path::new(file), &out);
        assert!(most.anonymous <= 32 * MIB, "{most:?}");
    }
}

#[test]
fn a_torrent_can_come_out_of_a_pipe() {
    let case = Case::new(Torrent::single("out of a pipe", 100_000, 16 << 10));
    let peer = Peer::honest(&case.torrent.payload);
    let pipe = case.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let address = peer.address().to_string();
    let run = program::start(["--peer", &address, &shown(&pipe), &shown(&case.out)]);
    fs::write(&pipe, case.torrent.encode()).unwrap();
    case.assert_complete(&run.wait(LIMIT));
}

// ---- odd, but torrents -------------------------------------------------------------------------

#[test]
fn the_info_dictionary_is_the_real_one_and_taken_as_it_stands() {
    let torrent = Torrent::single("decoys", 100_000, 16 << 10).encode();
    let decoy = string(b"d4:infod4:name5:decoyee");
    let cases = [
        ("in a comment", [b"d7:comment", &decoy[..], &torrent[1..]].concat()),
        ("in a dictionary", [b"d1:ad4:infod4:name5:decoyee", &torrent[1..]].concat()),
        ("behind", [&torrent[..torrent.len() - 1], b"4:infod4:name5:decoyee"].concat()),
        ("behind the end", [&torrent[..], b"d4:infod4:name5:decoyee"].concat()),
    ];
    for (name, bytes) in cases {
        let case = Case::new(Torrent::single("decoys", 100_000, 16 << 10));
        fs::write(&case.file, bytes).unwrap();
        let peer = Peer::honest(&case.torrent.payload);
        let outcome = case.run(&[&peer], &[]);
        assert_eq!(outcome.status, Some(0), "{name}: {outcome:#?}");
        case.assert_complete(&outcome);
    }
}

#[test]
fn keys_in_disorder_and_unknown_ones_are_hashed_as_they_stand() {
    let payload = Torrent::single("disorder", 20_000, 16 << 10).payload;
    let hashes: Vec<u8> = payload.bytes.chunks(16 << 10).flat_map(Sha1::digest).collect();
    let mut info = b"d4:name8:disorder6:lengthi020000e3:zzzd1:b1:a1:a1:be6:pieces".to_vec();
    info.extend(string(&hashes));
    info.extend(b"12:piece lengthi16384e0:i-0ee");
    let payload = support::torrent::Payload { info_hash: Sha1::digest(&info).into(), ..payload };
    let case = Case::new(Torrent::single("disorder", 20_000, 16 << 10));
    fs::write(&case.file, [b"d4:info", &info[..], b"e"].concat()).unwrap();
    let peer = Peer::honest(&payload);
    case.complete(&[&peer], &[]);
}

#[test]
fn a_piece_of_a_gibibyte_takes_no_memory_where_the_file_is_small() {
    let case = Case::new(Torrent::single("long piece", 100_000, 1 << 30));
    let peer = Peer::honest(&case.torrent.payload);
    let run = case.start(&[&peer], &["--max-memory", "10M"]);
    let (outcome, most) = run.watch(LIMIT);
    case.assert_complete(&outcome);
    assert!(most.anonymous <= 10 * MIB, "{most:?}");
}

#[test]
fn odd_names_become_files_below_the_directory() {
    let files = [
        file("--help", 10),
        file("-rf", 10),
        file("$(id);`id`|&\n", 10),
        file("CON", 10),
        file("%2e%2e", 10),
        file("~", 10),
        file("...", 10),
        file(&"long".repeat(100), 10),
        file("Case", 10),
        file("case", 10),
    ];
    let scratch = Scratch::new("odd names");
    let torrent = Torrent::multi("-x", &files, 1 << 14);
    let (path, out) = (scratch.join("x.torrent"), scratch.join("out"));
    fs::write(&path, torrent.encode()).unwrap();
    let peer = Peer::start(&torrent.payload, Behaviour::default());
    let address = peer.address().to_string();
    let outcome = program::run(["--peer", &address, &shown(&path), &shown(&out)], LIMIT);
    outcome.assert_status(0);
    let there = support::torrent::files_below(&out);
    assert_eq!(there.len(), files.len(), "{there:#?}");
    assert!(there.iter().all(|path| path.parent() == Some(&out.join("-x"))), "{there:#?}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "nothing beside it");
}

#[test]
fn large_torrents_are_loaded_and_take_little() {
    let hashes = |count: usize| string(&vec![7; 20 * count]);
    let pieces = [
        b"d4:infod6:lengthi53760000e4:name1:n12:piece lengthi64e6:pieces",
        &hashes(840_000)[..],
        b"ee",
    ];
    let many: String = (0..70_000)
        .map(|n| {
            let name = format!("{n:0200}");
            format!("d6:lengthi1e4:pathl2:d{}{}:{name}ee", n % 10, name.len())
        })
        .collect();
    let many = format!("d4:infod5:filesl{many}e4:name1:n12:piece lengthi70000e6:pieces");
    let files = [many.as_bytes(), &hashes(1), b"ee"];
    for (name, bytes) in [("many pieces", pieces.concat()), ("many files", files.concat())] {
        assert!(bytes.len() >= 15 << 20);
        let scratch = Scratch::new(name);
        let (path, out) = (scratch.join("x.torrent"), scratch.join("out"));
        fs::write(&path, &bytes).unwrap();
        let run = program::start([
            "--no-lsd",
            "--no-dht",
            "--max-memory",
            "1G",
            &shown(&path),
            &shown(&out),
        ]);
        let (outcome, most) = run.watch(LIMIT);
        println!("{:?}, {most:?}  {name}", outcome.elapsed);
        // There is nobody to ask, which is said when all else is ready.
        outcome.assert_status(6);
        // A busy machine may take so long that it says how far it is.
        let said = outcome.stderr.lines().filter(|line| !line.starts_with("checking"));
        assert_eq!(said.count(), 1, "{outcome:#?}");
        assert_is_little(name, most, bytes.len());
    }
}
