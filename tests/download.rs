//! The built program downloads from honest peers: what lies on disk afterwards, what was asked of
//! whom, and what is kept of what was there before.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rusty_torrent::protocol::metainfo::{FileKind, Metainfo};

use support::case::{Case, LIMIT, pieces_asked, shown};
use support::peer::{Behaviour, Choking, Peer};
use support::program;
use support::scratch::Scratch;
use support::torrent::{Payload, Torrent, file, files_below, pad};
use support::tracker::Tracker;

const PIECE: usize = 32 << 10;
const BLOCK: usize = 16 << 10;

/// Slow enough that another peer has something to do too.
fn slow(ms: u64) -> Behaviour {
    Behaviour { block_pause: Duration::from_millis(ms), ..Behaviour::default() }
}

// ---- what lies on disk -------------------------------------------------------------------------

#[test]
fn a_single_file_arrives() {
    let case = Case::new(Torrent::single("single.bin", 3_000_001, 1 << 18));
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.complete(&[&peer], &[]);
    assert_eq!(peer.record().connections, 1);
    assert_eq!(peer.record().requests.len(), 3_000_001_usize.div_ceil(BLOCK), "each block once");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_file_shorter_than_a_block_arrives() {
    let case = Case::new(Torrent::single("one byte", 1, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
    assert_eq!(peer.record().requests, [(0, 0, 1)]);
}

#[test]
fn many_files_arrive_with_the_empty_ones() {
    let files = [
        file("empty", 0),
        file("first.bin", PIECE + 1),
        file("deep/er/empty too", 0),
        file("deep/er/second.bin", 5),
        file("Gr\u{fc}\u{df}e", 3 * PIECE - 7),
        file("last and empty", 0),
    ];
    let case = Case::new(Torrent::multi("many files", &files, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
}

#[test]
fn pad_files_never_reach_the_disk_and_pieces_of_padding_are_not_asked_for() {
    let files = [
        file("a", 10_000),
        pad(PIECE - 10_000),
        // Two pieces of nothing but padding.
        pad(2 * PIECE),
        file("b", PIECE + 20_000),
        pad(PIECE - 20_000),
    ];
    let case = Case::new(Torrent::multi("padded", &files, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
    assert_eq!(pieces_asked(&peer.record()), [0, 3, 4]);
    let again = Peer::honest(&case.torrent.payload);
    case.complete(&[&again], &[]);
    assert_eq!(again.record().connections, 0, "padding that is not there is not missing");
}

#[test]
fn hybrids_and_what_libtorrent_made_arrive() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for name in ["hybrid", "many_files"] {
        let torrent = fixtures.join(format!("{name}.torrent"));
        let metainfo = Metainfo::parse(&fs::read(&torrent).unwrap()).unwrap();
        let mut bytes = Vec::new();
        for file in &metainfo.files {
            match file.kind {
                FileKind::Data => {
                    bytes.extend(fs::read(fixtures.join("payload").join(&file.path)).unwrap());
                }
                FileKind::Pad => {
                    bytes.resize(bytes.len() + usize::try_from(file.length).unwrap(), 0);
                }
            }
        }
        let peer = Peer::honest(&Payload {
            info_hash: metainfo.info_hash.0,
            piece_length: usize::try_from(metainfo.geometry.piece_length()).unwrap(),
            bytes: Arc::new(bytes),
            info: Arc::new(metainfo.info().to_vec()),
        });
        let out = Scratch::new(name);
        let address = peer.address().to_string();
        let arguments = ["--peer", &address, torrent.to_str().unwrap(), &shown(out.path())];
        program::run(arguments, LIMIT).assert_status(0);
        let relative = |root: &Path| -> Vec<_> {
            let files = files_below(&root.join("many_files"));
            files.into_iter().map(|path| path.strip_prefix(root).unwrap().to_owned()).collect()
        };
        let files = relative(out.path());
        assert_eq!(files, relative(&fixtures.join("payload")));
        for path in files {
            let same = fs::read(out.join(path.to_str().unwrap())).unwrap()
                == fs::read(fixtures.join("payload").join(&path)).unwrap();
            assert!(same, "{name}: {}", path.display());
        }
    }
}

#[test]
fn without_a_directory_the_current_one_is_used() {
    let case = Case::new(Torrent::single("here.bin", 50_000, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    fs::create_dir(&case.out).unwrap();
    let ran = Command::new(program::path())
        .args(["--peer", &peer.address().to_string()])
        .arg(&case.file)
        .current_dir(&case.out)
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    case.torrent.assert_is_in(&case.out);
}

#[test]
fn the_directory_is_made_with_those_above_it() {
    let mut case = Case::new(Torrent::single("deep.bin", 50_000, PIECE));
    case.out = case.join("a/b/c d");
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
}

#[test]
fn the_directory_itself_may_be_a_link() {
    let mut case = Case::new(Torrent::single("linked.bin", 50_000, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    let real = case.join("real");
    fs::create_dir(&real).unwrap();
    case.out = case.join("link");
    symlink(&real, &case.out).unwrap();
    case.complete(&[&peer], &[]);
    case.torrent.assert_is_in(&real);
}

// ---- what is there already ---------------------------------------------------------------------

#[test]
fn a_second_run_says_that_all_is_there_and_speaks_to_nobody() {
    let tracker = Tracker::start();
    let files = [file("a", 3 * PIECE), file("empty", 0), file("b", 100)];
    let torrent = Torrent::multi("again", &files, PIECE);
    let torrent = torrent.tracked_by(&tracker.http_url()).tracked_by(&tracker.udp_url());
    let case = Case::new(torrent);
    let peer = Peer::closed(&case.torrent.payload, Behaviour::default());
    tracker.add_peer(peer.address());
    let run = case.start(&[&peer], &[]);
    assert_eq!(tracker.wait_for_announces(2, LIMIT).len(), 2, "over HTTP and over UDP");
    peer.open();
    case.assert_complete(&run.wait(LIMIT));
    let (announces, datagrams) = (tracker.announces().len(), tracker.datagrams());
    let connections = peer.record().connections;

    let outcome = case.complete(&[&peer], &[]);
    assert!(outcome.stdout.contains("all there already"), "{outcome:#?}");
    assert_eq!(outcome.stderr, "");
    assert_eq!((tracker.announces().len(), tracker.datagrams()), (announces, datagrams));
    assert_eq!(peer.record().connections, connections);
}

#[test]
fn of_a_file_that_is_half_there_the_other_half_is_asked_for() {
    let case = Case::new(Torrent::single("half.bin", 16 * PIECE, PIECE));
    case.seed();
    let there = fs::File::options().write(true).open(case.place()).unwrap();
    // Not at the end of a piece: the piece that is there in part is missing.
    there.set_len((8 * PIECE + 5) as u64).unwrap();
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.complete(&[&peer], &[]);
    assert_eq!(pieces_asked(&peer.record()), (8..16).collect::<Vec<_>>());
    assert_eq!(peer.record().requests.len(), 8 * PIECE / BLOCK);
    // The peer hears at once what is there.
    assert_eq!(peer.record().first, Some((5, vec![0xff, 0x00])));
    assert!(outcome.stdout.contains("256.0 KiB of it fetched"), "{outcome:#?}");
}

#[test]
fn a_file_that_is_missing_among_others_is_fetched_alone() {
    let files = [file("a", 2 * PIECE), file("b", 3 * PIECE), file("c", PIECE)];
    let case = Case::new(Torrent::multi("one missing", &files, PIECE));
    case.seed();
    fs::remove_file(case.place().join("b")).unwrap();
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
    assert_eq!(pieces_asked(&peer.record()), [2, 3, 4]);
}

#[test]
fn pieces_with_a_wrong_byte_are_fetched_again() {
    let case = Case::new(Torrent::single("rotten.bin", 16 * PIECE - 9, PIECE));
    case.seed();
    let there = fs::File::options().write(true).open(case.place()).unwrap();
    for (piece, within) in [(5, 0), (9, PIECE - 1), (15, 77)] {
        let offset = piece * PIECE + within;
        let wrong = case.torrent.payload.bytes[offset] ^ 1;
        there.write_all_at(&[wrong], offset as u64).unwrap();
    }
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
    assert_eq!(pieces_asked(&peer.record()), [5, 9, 15]);
}

#[test]
fn a_file_of_nothing_right_is_fetched_whole() {
    let case = Case::new(Torrent::single("nothing right.bin", 8 * PIECE, PIECE));
    fs::create_dir(&case.out).unwrap();
    fs::write(case.place(), vec![b'x'; 8 * PIECE]).unwrap();
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
    assert_eq!(pieces_asked(&peer.record()).len(), 8);
}

#[test]
fn a_file_that_is_too_long_is_cut_and_that_is_said() {
    for (name, whole) in [("long and right", true), ("long and wrong", false)] {
        let case = Case::new(Torrent::single(name, 4 * PIECE - 1, PIECE));
        let mut bytes = case.torrent.payload.bytes.to_vec();
        bytes[0] ^= u8::from(!whole);
        bytes.extend([7; 1000]);
        fs::create_dir(&case.out).unwrap();
        fs::write(case.place(), bytes).unwrap();
        let peer = Peer::honest(&case.torrent.payload);
        let outcome = case.complete(&[&peer], &[]);
        let said =
            format!("{}: cut from {} to {}", shown(&case.place()), 4 * PIECE + 999, 4 * PIECE - 1);
        assert!(outcome.stderr.contains(&said), "{outcome:#?}");
        assert_eq!(pieces_asked(&peer.record()).len(), usize::from(!whole));
    }
}

/// Puts something in the way.
type Put = fn(&Path);

#[test]
fn what_stands_in_the_way_is_named_and_left_alone() {
    let obstacles: [(&str, &str, Put); 6] = [
        ("a/b", "a directory is in the way", |at| fs::create_dir_all(at.join("within")).unwrap()),
        ("a/b", "a FIFO is in the way", |at| {
            assert!(Command::new("mkfifo").arg(at).status().unwrap().success());
        }),
        ("a/b", "a symbolic link is in the way", |at| symlink("/dev/null", at).unwrap()),
        ("a/b", "a symbolic link is in the way", |at| symlink("to nowhere", at).unwrap()),
        ("a", "a file is in the way", |at| fs::write(at, "precious").unwrap()),
        ("a", "a symbolic link is in the way", |at| symlink("..", at).unwrap()),
    ];
    for (number, (path, what, put)) in obstacles.iter().enumerate() {
        let tracker = Tracker::start();
        let name = format!("in the way {number}");
        let torrent = Torrent::multi(&name, &[file("a/b", 100), file("c", 100)], PIECE);
        let case = Case::new(torrent.tracked_by(&tracker.http_url()));
        let peer = Peer::honest(&case.torrent.payload);
        let at = case.place().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        put(&at);
        let before = fs::symlink_metadata(&at).unwrap();
        let outcome = case.run(&[&peer], &[]);
        outcome.assert_status(if *path == "a" { 18 } else { 16 });
        assert!(outcome.stderr.contains(&shown(&at)), "{outcome:#?}");
        assert!(outcome.stderr.contains(what), "{outcome:#?}");
        assert_eq!(outcome.stdout, "");
        let after = fs::symlink_metadata(&at).unwrap();
        assert_eq!((after.file_type(), after.len()), (before.file_type(), before.len()));
        assert_eq!(tracker.announces().len(), 0);
        assert_eq!(peer.record().connections, 0);
    }
}

#[test]
fn a_file_in_the_place_of_the_directory_is_named() {
    let mut case = Case::new(Torrent::single("no place", 100, PIECE));
    case.out = case.join("file");
    fs::write(&case.out, "precious").unwrap();
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.run(&[&peer], &[]);
    outcome.assert_status(18);
    assert!(outcome.stderr.contains(&shown(&case.out)), "{outcome:#?}");
    assert_eq!(fs::read(&case.out).unwrap(), b"precious");
}

// ---- what is asked of whom ---------------------------------------------------------------------

#[test]
fn peers_that_have_a_part_each_make_the_whole_together() {
    let files = [file("a", 7 * PIECE + 11), file("b", 9 * PIECE)];
    let case = Case::new(Torrent::multi("in parts", &files, PIECE));
    let pieces = case.torrent.payload.pieces();
    let peers: Vec<Peer> = (0..4)
        .map(|turn| {
            let has = (0..pieces).filter(|piece| piece % 4 == turn).collect();
            Peer::start(&case.torrent.payload, Behaviour { has: Some(has), ..slow(5) })
        })
        .collect();
    case.complete(&peers.iter().collect::<Vec<_>>(), &[]);
    for (turn, peer) in peers.iter().enumerate() {
        // Nobody else has them; that nothing else is asked of it the peer sees to.
        let has: Vec<usize> = (0..pieces).filter(|piece| piece % 4 == turn).collect();
        assert_eq!(pieces_asked(&peer.record()), has);
    }
}

#[test]
fn a_peer_without_any_extension_is_spoken_to_as_in_the_old_days() {
    let case = Case::new(Torrent::single("plain wire", 20 * PIECE, PIECE));
    let plain = Behaviour { fast: false, reqq: None, ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, plain);
    case.complete(&[&peer], &[]);
    let record = peer.record();
    assert_eq!((record.first, record.hello.len()), (None, 0));
    assert_eq!(record.requests_while_choked, 0);
}

#[test]
fn the_handshake_tells_which_extensions_there_are() {
    let case = Case::new(Torrent::single("handshake", 2 * PIECE, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
    let record = peer.record();
    assert_eq!(record.reserved, [0, 0, 0, 0, 0, 0x10, 0, 0x04]);
    assert!(record.peer_id.starts_with(b"-RU0100-"), "{record:?}");
    assert_eq!(record.first, Some((15, Vec::new())), "it has none");
    assert!(record.hello.starts_with(b"\0d"), "{record:?}");
    assert_eq!((record.interested, record.unchokes, record.uploads), (1, 0, 0));
}

#[test]
fn no_more_requests_are_out_than_the_peer_takes() {
    for reqq in [1, 3] {
        let name = format!("reqq {reqq}");
        let case = Case::new(Torrent::single(&name, 20 * PIECE, PIECE));
        let behaviour = Behaviour { reqq: Some(reqq), ..slow(10) };
        let peer = Peer::start(&case.torrent.payload, behaviour);
        case.complete(&[&peer], &[]);
        assert_eq!(peer.record().waiting_most, reqq);
    }
}

#[test]
fn pieces_that_are_allowed_fast_come_from_a_peer_that_chokes() {
    let case = Case::new(Torrent::single("allowed fast", 12 * PIECE, PIECE));
    let choking = Peer::start(
        &case.torrent.payload,
        Behaviour {
            choking: Choking::Never,
            allowed_fast: vec![2, 7],
            // Allowed, but it has them not.
            has: Some((0..11).collect()),
            ..Behaviour::default()
        },
    );
    let has = (0..12).filter(|piece| ![2, 7].contains(piece)).collect();
    // It is late with the last ones, which the other has, but does not allow.
    let other = Behaviour { has: Some(has), ..slow(100) };
    let other = Peer::start(&case.torrent.payload, other);
    case.complete(&[&choking, &other], &[]);
    let record = choking.record();
    assert_eq!(pieces_asked(&record), [2, 7]);
    assert_eq!(record.requests_while_choked, 0);
}

#[test]
fn in_the_end_the_fast_peer_is_asked_for_what_the_slow_one_is_late_with() {
    let case = Case::new(Torrent::single("end game", 8 * PIECE, PIECE));
    // It would take minutes alone.
    let late = Peer::start(&case.torrent.payload, slow(20_000));
    let quick = Peer::closed(&case.torrent.payload, slow(10));
    let run = case.start(&[&late, &quick], &[]);
    late.wait_until(|record| record.requests.len() >= 16);
    quick.open();
    case.assert_complete(&run.wait(LIMIT));
    let record = late.record();
    assert!(record.cancels_in_time > 0, "{record:?}");
    assert!(record.cancels < record.requests.len(), "the last one is not worth it");
}

#[test]
fn peers_are_told_of_pieces_that_they_have_not() {
    let case = Case::new(Torrent::single("told", 12 * PIECE, PIECE));
    // Each of its blocks is an occasion to tell it what came from the other one meanwhile.
    let half = Behaviour { has: Some((0..6).collect()), ..slow(200) };
    let slow_one = Peer::start(&case.torrent.payload, half);
    let half = Behaviour { has: Some((6..12).collect()), ..Behaviour::default() };
    let quick_one = Peer::start(&case.torrent.payload, half);
    case.complete(&[&slow_one, &quick_one], &[]);
    // What was said last it hears when the program is gone already.
    let mut told = slow_one.wait_until(|record| record.haves.len() == 6).haves;
    told.sort_unstable();
    assert_eq!(told, [6, 7, 8, 9, 10, 11]);
    assert!(quick_one.record().haves.iter().all(|piece| *piece < 6));
}

#[test]
fn a_peer_at_an_ipv6_address_is_as_good() {
    let case = Case::new(Torrent::single("v6", 5 * PIECE, PIECE));
    let payload = &case.torrent.payload;
    let Ok(peer) = Peer::start_at(Ipv6Addr::LOCALHOST.into(), payload, Behaviour::default()) else {
        return; // this machine has no IPv6
    };
    case.complete(&[&peer], &[]);
    assert_eq!(peer.record().connections, 1);
}
