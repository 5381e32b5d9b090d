//! Everything that reads what strangers wrote, held against what they wrote and against thousands
//! of damaged copies of it: the checks and the corpus of the fuzz targets, on Rust stable and the
//! same every time.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(clippy::print_stderr)] // what was wrong

#[path = "fuzz/checks.rs"]
mod checks;
#[path = "fuzz/heap.rs"]
mod heap;

use std::fs;
use std::path::Path;

/// What the corpus has for one of the fuzz targets.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    read_all(&format!("tests/fuzz/corpus/{target}"))
}

/// The files in a folder, always in the same order. What a fuzzer found and nobody kept, whose name
/// is a SHA-1, is left out.
fn read_all(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && path.file_name().is_some_and(|name| name.len() < 40));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Checks every seed and so many mutants of them. As many as `useful` must have been of use, or
/// they are too wild to get anywhere.
#[track_caller]
fn check(seeds: &[Vec<u8>], check: fn(&[u8]) -> bool, mutants: usize, useful: usize) {
    let is_useful = |bytes: &Vec<u8>| {
        let _shown = ShownIfWrong(bytes);
        check(bytes)
    };
    assert!(seeds.iter().filter(|seed| is_useful(seed)).count() > 0, "no seed is of use");
    let mut rng = fastrand::Rng::with_seed(1);
    let count = (0..mutants).filter(|_| is_useful(&mutant(&mut rng, seeds))).count();
    assert!(count >= useful, "{count} of {mutants} were of use");
}

/// Bytes that are being checked.
struct ShownIfWrong<'a>(&'a [u8]);

impl Drop for ShownIfWrong<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// One of the seeds, changed in one place, or in a few.
fn mutant(rng: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.choice(seeds).unwrap().clone();
    let places = if rng.bool() { 1 } else { rng.usize(2..=4) };
    for _ in 0..places {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..7) {
            // A bit turns over.
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            1 if at < bytes.len() => bytes[at] = rng.u8(..),
            // What follows is lost, or a part of it.
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..bytes.len().min(at + rng.usize(..20)))),
            // Something comes in between: what means something, or a part of another.
            4 => insert(&mut bytes, at, rng.choice(TOKENS).unwrap()),
            5 => {
                let other = rng.choice(seeds).unwrap();
                let from = rng.usize(..=other.len());
                let to = other.len().min(from + rng.usize(..200));
                insert(&mut bytes, at, &other[from..to]);
            }
            _ => replace_number(rng, &mut bytes, at),
        }
    }
    bytes
}

/// What formats have a meaning for.
const TOKENS: &[&[u8]] = &[
    b"0",
    b"1",
    b"9",
    b"i",
    b"l",
    b"d",
    b"e",
    b":",
    b"-",
    b"i-1e",
    b"0:",
    b"1:.",
    b"2:..",
    b"1:/",
    b"le",
    b"de",
    b"\0",
    b"\x1b",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\0\0\0\x01\x01",
    b"\0\0\x40\x09\x07",
    b"\xe2\x80\xae",
    b"6:lengthi1e",
    b"4:pathl1:ae",
    b"4:attr1:p",
];

fn insert(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    drop(bytes.splice(at..at, what.iter().copied()));
}

/// The number in digits that follows `at`, or if there is none, the four bytes, become one at
/// the edge of what some type can hold.
fn replace_number(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>, at: usize) {
    const EDGES: [i128; 8] = [0, 1 << 8, 1 << 14, 1 << 16, 1 << 31, 1 << 32, 1 << 63, 1 << 64];
    let edge = *rng.choice(&EDGES).unwrap() + rng.i128(-1..=1);
    let digit = bytes[at..].iter().position(u8::is_ascii_digit);
    if let Some(from) = digit.map(|digit| at + digit)
        && rng.bool()
    {
        let digits = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        drop(bytes.splice(from..from + digits, edge.to_string().into_bytes()));
    } else if let Some(four) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        let [.., a, b, c, d] = edge.to_be_bytes();
        *four = [a, b, c, d];
    }
}

// ---- each kind of foreign bytes ----------------------------------------------------------------

#[test]
fn damaged_torrent_files_are_refused_or_safe() {
    let seeds = [corpus("metainfo"), read_all("fixtures")].concat();
    check(&seeds, checks::metainfo, 20_000, 600);
}

#[test]
fn damaged_messages_are_refused_or_safe() {
    check(&corpus("messages"), checks::messages, 1_200, 400);
}

#[test]
fn damaged_extension_handshakes_are_refused_or_safe() {
    check(&corpus("extension"), checks::extension, 20_000, 1_000);
}

#[test]
fn damaged_hearsay_is_refused_or_safe() {
    check(&corpus("hearsay"), checks::hearsay, 20_000, 1_000);
}

#[test]
fn damaged_magnet_links_are_refused_or_safe() {
    check(&corpus("magnet"), checks::magnet, 20_000, 1_000);
}

#[test]
fn damaged_talk_of_what_a_torrent_is_is_refused_or_safe() {
    check(&corpus("inquiry"), checks::inquiry, 3_000, 500);
}

#[test]
fn damaged_answers_over_http_are_refused_or_safe() {
    check(&corpus("http_answer"), checks::http_answer, 20_000, 1_000);
}

#[test]
fn damaged_answers_over_udp_are_refused_or_safe() {
    check(&corpus("udp_answer"), checks::udp_answer, 30_000, 1_000);
}

#[test]
fn damaged_datagrams_of_the_dht_are_refused_or_safe() {
    check(&corpus("krpc"), checks::krpc, 10_000, 600);
}

#[test]
fn damaged_files_of_nodes_are_passed_over_or_safe() {
    check(&corpus("node_file"), checks::node_file, 10_000, 1_000);
}

#[test]
fn damaged_resume_records_are_refused_or_safe() {
    check(&corpus("resume"), checks::resume, 30_000, 300);
}

#[test]
fn a_stream_of_messages_says_the_same_wherever_it_is_cut() {
    for stream in corpus("messages") {
        checks::cut_at(&stream, 0..=stream.len());
    }
}

// ---- what is made to be expensive --------------------------------------------------------------

/// A string of this many bytes.
fn string(length: usize) -> String {
    format!("{length}:{}", "x".repeat(length))
}

/// A torrent with this name and these files, all of whose bytes are in one piece.
fn torrent(name: &str, files: &str) -> Vec<u8> {
    let hash = string(20);
    format!("d4:infod5:filesl{files}e4:name{name}12:piece lengthi16384e6:pieces{hash}ee")
        .into_bytes()
}

#[test]
fn no_torrent_takes_more_memory_than_it_was_measured_to_take() {
    let file = |path: &str| format!("d6:lengthi1e4:pathl{path}ee");
    let numbered = |count: usize, file: &dyn Fn(String) -> String| -> String {
        (0..count).map(|number| file(format!("6:{number:06}"))).collect()
    };
    let name = string(255);
    let many = 1_000;
    let trackers = format!("d13:announce-listl{}e", numbered(many, &|url| url));
    let cases = [
        ("a long name", torrent(&string(3 << 20), &file("1:a"))),
        ("long components", torrent("1:n", &file(&string(1 << 20).repeat(3)))),
        ("a long component that is refused", torrent("1:n", &file(&(string(3 << 20) + "2:..")))),
        ("many files", torrent("1:n", &numbered(many, &|name| file(&name)))),
        ("many files below a long name", torrent(&name, &numbered(many, &|name| file(&name)))),
        (
            "many directories",
            torrent("1:n", &numbered(500, &|name| file(&[&name, "1:a"].concat().repeat(20)))),
        ),
        (
            "many names that became the same",
            torrent(
                "1:n",
                &(0..many)
                    .map(|number| {
                        let bits = (0..10).map(|bit| ['\x01', '\x02'][number >> bit & 1]);
                        file(&format!("10:{}", bits.collect::<String>()))
                    })
                    .collect::<String>(),
            ),
        ),
        (
            "empty components before long ones",
            torrent(
                "1:n",
                &numbered(300, &|name| {
                    let long = string(250).repeat(10);
                    file(&["0:".repeat(101), name, long].concat())
                }),
            ),
        ),
        (
            "many pads",
            torrent("1:n", &["d4:attr1:p6:lengthi1ee".repeat(many), file("1:a")].concat()),
        ),
        ("many trackers", [trackers.as_bytes(), &torrent("1:n", &file("1:a"))[1..]].concat()),
    ];
    for (what, torrent) in cases {
        let read = checks::torrent(&torrent);
        assert_eq!(read, !what.ends_with("refused"), "{what}");
    }
}

#[test]
fn no_answer_takes_more_memory_than_is_reckoned_with() {
    let compact: Vec<u8> = (1_u32 << 24..)
        .take(170_000)
        .flat_map(|n| [&n.to_be_bytes()[..], &[11, 7]].concat())
        .collect();
    let mut answer = format!("d5:peers{}:", compact.len()).into_bytes();
    answer.extend(compact);
    answer.push(b'e');
    assert!(checks::http_answer(&answer));
}
