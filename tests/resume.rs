//! What a run that ended early leaves behind: the resume record saves time and never costs a byte.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(clippy::print_stdout)] // what the kills cost

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::case::{Case, LIMIT, pieces_asked};
use support::peer::{Behaviour, Peer};
use support::torrent::{Torrent, file};

const PIECE: usize = 32 << 10;
const PIECES: usize = 40;
const BLOCK: usize = 16 << 10;

fn slow(pause_ms: u64) -> Behaviour {
    Behaviour { block_pause: Duration::from_millis(pause_ms), ..Behaviour::default() }
}

fn record_of(case: &Case) -> PathBuf {
    case.out.join(format!(".{}.rusty_torrent", case.torrent.name))
}

/// A run that is asked to end in the middle.
fn stopped(case: &Case) {
    let peer = Peer::start(&case.torrent.payload, slow(5));
    let run = case.start(&[&peer], &[]);
    peer.wait_until(|record| record.sent.len() >= 20);
    run.signal("TERM");
    run.wait(LIMIT).assert_status(7);
}

/// How many pieces the run took from the record and did not hash: `-v` says so.
fn known(stderr: &str) -> usize {
    let line = stderr.lines().find(|line| line.contains("pieces are known from the last run"));
    let number = |line: &str| line.split_whitespace().find_map(|word| word.parse().ok());
    line.and_then(number).unwrap_or(0)
}

#[test]
fn what_a_stopped_run_had_is_not_hashed_again() {
    let files = [file("a", 13 * PIECE + 5), file("b", 20 * PIECE), file("c", 6 * PIECE)];
    for torrent in [
        Torrent::single("stopped one", PIECES * PIECE, PIECE),
        Torrent::multi("stopped many", &files, PIECE),
    ] {
        let case = Case::new(torrent);
        stopped(&case);
        assert!(record_of(&case).exists());
        let peer = Peer::honest(&case.torrent.payload);
        let outcome = case.complete(&[&peer], &["-v"]);
        let (known, asked) = (known(&outcome.stderr), pieces_asked(&peer.record()).len());
        assert!(known >= 5, "{outcome:#?}");
        let pieces = case.torrent.payload.pieces();
        assert!(known + asked <= pieces && asked <= pieces - 5, "{known} {asked} of {pieces}");
        assert!(!record_of(&case).exists(), "it goes when all is there");
        let left: Vec<_> = fs::read_dir(&case.out).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

#[test]
fn what_was_changed_since_is_hashed_whatever_the_record_says() {
    let case = Case::new(Torrent::single("changed since", PIECES * PIECE, PIECE));
    stopped(&case);
    let there = fs::read(case.place()).unwrap();
    let right = |piece: &usize| {
        let bytes = piece * PIECE..(piece + 1) * PIECE;
        there[bytes.clone()] == case.torrent.payload.bytes[bytes]
    };
    let rotten = (0..PIECES).find(right).unwrap();
    let place = File::options().write(true).open(case.place()).unwrap();
    place.write_all_at(&[there[rotten * PIECE + 7] ^ 1], (rotten * PIECE + 7) as u64).unwrap();
    drop(place);
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.complete(&[&peer], &["-v"]);
    assert_eq!(known(&outcome.stderr), 0, "{outcome:#?}");
    assert!(pieces_asked(&peer.record()).contains(&rotten));
}

#[test]
fn a_record_that_is_none_is_no_error_and_in_nobodys_way() {
    let other = Case::new(Torrent::single("other torrent", PIECES * PIECE, PIECE));
    stopped(&other);
    let foreign = fs::read(record_of(&other)).unwrap();
    let case = Case::new(Torrent::single("strange record", PIECES * PIECE, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    let kept = case.join("kept");
    let mut whole = Vec::new();
    for what in ["nothing", "empty", "garbage", "foreign", "cut", "long", "directory", "link"] {
        let _none = fs::remove_dir_all(&case.out);
        stopped(&case);
        let record = record_of(&case);
        whole.clone_from(&fs::read(&record).unwrap());
        fs::remove_file(&record).unwrap();
        match what {
            "nothing" => {}
            "empty" => fs::write(&record, b"").unwrap(),
            "garbage" => fs::write(&record, vec![b'l'; 70_000]).unwrap(),
            "foreign" => fs::write(&record, &foreign).unwrap(),
            "cut" => fs::write(&record, &whole[..whole.len() / 2]).unwrap(),
            "long" => fs::write(&record, [&whole[..], &[b'e'; 9]].concat()).unwrap(),
            "directory" => fs::create_dir(&record).unwrap(),
            _ => {
                fs::write(&kept, &whole).unwrap();
                symlink(&kept, &record).unwrap();
            }
        }
        let outcome = case.run(&[&peer], &["-v"]);
        outcome.assert_status(0);
        assert_eq!(known(&outcome.stderr), 0, "{what}: {outcome:#?}");
        // Nothing is written through a link, or to what is no file.
        match what {
            "directory" => fs::remove_dir(&record).unwrap(),
            "link" => fs::remove_file(&record).unwrap(),
            _ => {}
        }
        case.complete(&[], &[]);
    }
    assert_eq!(fs::read(kept).unwrap(), whole);
}

#[test]
fn a_second_run_on_the_same_data_says_so_and_changes_nothing() {
    let case = Case::new(Torrent::single("twice at once", PIECES * PIECE, PIECE));
    let peer = Peer::start(&case.torrent.payload, slow(10));
    let first = case.start(&[&peer], &[]);
    peer.wait_until(|record| record.sent.len() >= 4);
    let second = case.run(&[&peer], &[]);
    second.assert_status(11);
    assert_eq!(second.stderr.lines().count(), 1, "{second:#?}");
    assert!(second.stderr.contains("another run"), "{second:#?}");
    case.assert_complete(&first.wait(LIMIT));
    case.complete(&[], &[]);
}

#[test]
fn a_record_that_can_not_be_written_does_not_stop_the_download() {
    let case = Case::new(Torrent::single("no record", PIECES * PIECE, PIECE));
    fs::create_dir_all(&case.out).unwrap();
    let temporary = format!(".{}.rusty_torrent.tmp", case.torrent.name);
    fs::create_dir(case.out.join(temporary)).unwrap();
    stopped(&case);
    fs::remove_dir(case.out.join(format!(".{}.rusty_torrent.tmp", case.torrent.name))).unwrap();
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
}

/// The files of the torrent that is killed: all kinds of borders between pieces and files.
const FILES: [(&str, usize); 4] =
    [("a", 300 * PIECE + 5), ("b", 99 * PIECE), ("c", 2), ("d", 9 * PIECE)];

/// Kills the program at random moments, so many times. Whenever everything is there it begins anew.
fn killed_again_and_again(name: &str, times: usize) {
    let files = FILES.map(|(path, length)| file(path, length));
    let case = Case::new(Torrent::multi(name, &files, PIECE));
    let peer = Peer::start(&case.torrent.payload, slow(2));
    let mut rng = fastrand::Rng::new();
    let seed = rng.get_seed();
    println!("seed {seed}");
    let (mut downloads, mut kills, mut blocks) = (0, 0, 0);
    while kills < times {
        downloads += 1;
        let _none = fs::remove_dir_all(&case.out);
        let first = peer.record().sent.len();
        let mut right = Vec::new();
        loop {
            let before = peer.record().requests.len();
            let mut run = case.start(&[&peer], &[]);
            // Before the check, in it, in the download, at its end.
            let moment = Instant::now() + Duration::from_millis(rng.u64(0..200));
            while Instant::now() < moment && run.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let ended = !run.is_running();
            if ended || kills == times {
                case.assert_complete(&run.wait(LIMIT));
            } else {
                drop(run);
            }
            let asked: Vec<usize> =
                peer.record().requests[before..].iter().map(|(piece, ..)| *piece).collect();
            let again = right.iter().find(|piece| asked.contains(piece));
            assert_eq!(again, None, "piece fetched again, kill {kills} of seed {seed}");
            if ended || kills == times {
                break;
            }
            kills += 1;
            right = case.pieces_there();
        }
        blocks += peer.record().sent.len() - first;
    }
    let whole = (downloads * case.torrent.payload.bytes.len()) as f64;
    let share = (blocks * BLOCK) as f64 / whole - 1.0;
    println!("{kills} kills in {downloads} downloads: {:.1} % fetched again", share * 100.0);
}

#[test]
fn a_run_that_is_killed_costs_only_what_was_on_its_way() {
    killed_again_and_again("killed", 12);
}

#[test]
fn a_stop_among_many_files_costs_only_what_was_on_its_way() {
    let names: Vec<String> = (0..60).map(|number| format!("file {number}")).collect();
    let files: Vec<_> = names.iter().map(|name| file(name, PIECE - 7)).collect();
    let case = Case::new(Torrent::multi("stopped among many files", &files, PIECE));
    stopped(&case);
    let there = case.pieces_there();
    let pieces = 0..case.torrent.payload.pieces();
    let missing: Vec<usize> = pieces.filter(|piece| !there.contains(piece)).collect();
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
    assert_eq!(pieces_asked(&peer.record()), missing);
}

#[test]
#[ignore = "waits until a record is made"]
fn a_killed_run_leaves_a_record_of_the_files_that_it_had_finished() {
    let names: Vec<String> = (0..8).map(|number| format!("file {number}")).collect();
    let files: Vec<_> = names.iter().map(|name| file(name, 16 * PIECE)).collect();
    let case = Case::new(Torrent::multi("killed with a record", &files, PIECE));
    let peer = Peer::start(&case.torrent.payload, slow(60));
    let run = case.start(&[&peer], &["-vv"]);
    let began = Instant::now();
    let length = || fs::metadata(record_of(&case)).map_or(0, |found| found.len());
    while length() == 0 {
        assert!(began.elapsed() < LIMIT, "no record");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(run);
    let again = Peer::honest(&case.torrent.payload);
    let outcome = case.complete(&[&again], &["-v"]);
    assert!(known(&outcome.stderr) >= 16, "{outcome:#?}");
}

#[test]
#[ignore = "takes minutes"]
fn two_hundred_kills_cost_only_what_was_on_its_way() {
    killed_again_and_again("killed often", 200);
}
