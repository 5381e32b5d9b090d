//! What the built program tells its trackers, from the start to the end of a run.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use support::case::{Case, LIMIT, pieces_asked, shown};
use support::peer::{Behaviour, Peer, Silent};
use support::torrent::Torrent;
use support::tracker::{Announced, Fault, Tracker};

const PIECE: usize = 32 << 10;
const LENGTH: usize = 10 * PIECE + 1;
const TOTAL: u64 = LENGTH as u64;

fn torrent(name: &str) -> Torrent {
    Torrent::single(name, LENGTH, PIECE)
}

/// The events in their order.
fn events(announces: &[Announced]) -> Vec<&str> {
    announces.iter().map(|announce| announce.event.as_str()).collect()
}

/// What was said of the numbers: downloaded and left.
fn numbers(announces: &[Announced]) -> Vec<(u64, u64)> {
    announces.iter().map(|announce| (announce.downloaded, announce.left)).collect()
}

/// An address of this machine where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    format!("http://{}/announce", listener.local_addr().unwrap())
}

/// Waits until the log has so many lines with this in them.
fn wait_for_lines(log: &Path, part: &str, count: usize) {
    let until = Instant::now() + LIMIT;
    let mut said = String::new();
    while said.lines().filter(|line| line.contains(part)).count() < count {
        assert!(Instant::now() < until, "waited in vain: {said}");
        thread::sleep(Duration::from_millis(5));
        said = fs::read_to_string(log).unwrap_or_default();
    }
}

#[test]
fn a_run_is_started_completed_and_stopped_and_its_numbers_are_true() {
    for name in ["http", "udp"] {
        let tracker = Tracker::start();
        let url = if name == "http" { tracker.http_url() } else { tracker.udp_url() };
        let case = Case::new(torrent(&format!("{name} events")).tracked_by(&url));
        let peer = Peer::honest(&case.torrent.payload);
        tracker.add_peer(peer.address());
        case.complete(&[], &["--port", "7001"]);

        let announces = tracker.announces();
        assert_eq!(events(&announces), ["started", "completed", "stopped"]);
        assert_eq!(numbers(&announces), [(0, TOTAL), (TOTAL, 0), (TOTAL, 0)]);
        for announce in &announces {
            assert_eq!(announce.udp, name == "udp");
            assert_eq!(announce.info_hash, case.torrent.payload.info_hash);
            assert_eq!(announce.peer_id, peer.record().peer_id, "peers hear the same id");
            assert!(announce.peer_id.starts_with(b"-RU0100-"), "{announce:?}");
            assert_eq!((announce.port, announce.uploaded), (7001, 0));
            assert_eq!(announce.key, announces[0].key);
        }
        let wanted: Vec<u32> = announces.iter().map(|announce| announce.numwant).collect();
        assert!(wanted[0] > 0 && wanted[2] == 0, "{wanted:?}");
    }
}

#[test]
fn each_run_has_a_peer_id_and_a_key_of_its_own() {
    let tracker = Tracker::start();
    let case = Case::new(torrent("two runs").tracked_by(&tracker.http_url()));
    let peer = Peer::honest(&case.torrent.payload);
    tracker.add_peer(peer.address());
    for _ in 0..2 {
        case.complete(&[], &[]);
        fs::remove_dir_all(&case.out).unwrap();
    }
    let announces = tracker.announces();
    let [first, second] = [&announces[0], &announces[announces.len() - 1]];
    assert_ne!(first.peer_id, second.peer_id);
    assert_ne!(first.key, second.key);
}

#[test]
fn a_run_that_goes_on_tells_what_is_left() {
    let tracker = Tracker::start();
    let case = Case::new(torrent("going on").tracked_by(&tracker.http_url()));
    case.seed();
    let there = fs::File::options().write(true).open(case.place()).unwrap();
    there.set_len(4 * PIECE as u64).unwrap();
    let peer = Peer::honest(&case.torrent.payload);
    tracker.add_peer(peer.address());
    case.complete(&[], &[]);
    let announces = tracker.announces();
    let rest = TOTAL - 4 * PIECE as u64;
    assert_eq!(events(&announces), ["started", "completed", "stopped"]);
    assert_eq!(numbers(&announces), [(0, rest), (rest, 0), (rest, 0)]);
}

#[test]
fn a_run_with_nothing_to_fetch_announces_nothing() {
    let tracker = Tracker::start();
    let torrent = torrent("nothing to fetch");
    let case = Case::new(torrent.tracked_by(&tracker.http_url()).tracked_by(&tracker.udp_url()));
    case.seed();
    case.complete(&[], &[]);
    assert_eq!((tracker.announces().len(), tracker.datagrams()), (0, 0));
}

#[test]
fn all_tiers_are_asked_at_once_and_all_hear_the_end() {
    let trackers: Vec<Tracker> = (0..4).map(|_| Tracker::start()).collect();
    let mut torrent = torrent("tiers");
    for tracker in &trackers {
        torrent = torrent.tracked_by(&tracker.http_url());
    }
    let case = Case::new(torrent);
    let peer = Peer::closed(&case.torrent.payload, Behaviour::default());
    trackers[3].add_peer(peer.address());
    let log = case.join("log");
    let run = case.start(&[], &["-v", "-l", &shown(&log)]);
    // None of them waits for peers, or for another tracker.
    for tracker in &trackers {
        assert_eq!(events(&tracker.wait_for_announces(1, LIMIT)), ["started"]);
    }
    // Whose answer was not heard when all is over is not told of the end.
    wait_for_lines(&log, " new peer", trackers.len());
    peer.open();
    case.assert_complete(&run.wait(LIMIT));
    for tracker in &trackers {
        let announces = tracker.announces();
        assert_eq!(events(&announces), ["started", "completed", "stopped"]);
        assert_eq!(announces[0].key, trackers[0].announces()[0].key);
    }
}

#[test]
fn a_run_that_gives_up_is_stopped_and_not_completed() {
    let tracker = Tracker::start();
    let case = Case::new(torrent("gives up").tracked_by(&tracker.http_url()));
    let silent = Behaviour { silent: Some(Silent::AfterBlocks(4)), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, silent);
    tracker.add_peer(peer.address());
    let outcome = case.run(&[], &["--timeout", "2"]);
    outcome.assert_status(2);
    let announces = tracker.announces();
    assert_eq!(events(&announces), ["started", "stopped"]);
    // The last block has a byte only; who knows whether it was among them.
    let length = |begin: usize| (16 << 10).min(LENGTH - begin) as u64;
    let sent = peer.record().sent;
    let downloaded = sent.iter().map(|(piece, begin)| length(piece * PIECE + begin)).sum();
    assert_eq!((announces[1].downloaded, announces[1].uploaded), (downloaded, 0));
    assert!(announces[1].left < TOTAL, "what is verified is not left");
}

#[test]
fn no_faulty_tracker_keeps_a_good_one_from_helping() {
    let body = |text: &[u8]| text.to_vec();
    let faults = [
        Fault::Status(500, body(b"oops")),
        Fault::Status(404, body(b"<html>")),
        Fault::Body(body(b"<html>")),
        Fault::Body(body(b"d5:peers5:abcdee")),
        Fault::Gzip(body(b"no bencode")),
        Fault::CutBody(body(b"d8:interval")),
        Fault::Raw(body(b"\x1b[31m\0")),
        Fault::RedirectLoop,
        Fault::EndlessBody,
        Fault::EndlessHead,
        Fault::Close,
        Fault::Failure(body(b"unregistered \x1b[31mtorrent")),
        Fault::Silent,
        Fault::Slow(Duration::from_millis(500)),
    ];
    let bad: Vec<Tracker> = faults.into_iter().map(Tracker::with_fault).collect();
    let mut torrent = torrent("faults").tracked_by(&nobody());
    for tracker in &bad {
        torrent = torrent.tracked_by(&tracker.http_url()).tracked_by(&tracker.udp_url());
    }
    let good = Tracker::start();
    let case = Case::new(torrent.tracked_by(&good.http_url()));
    let peer = Peer::honest(&case.torrent.payload);
    good.add_peer(peer.address());
    let outcome = case.complete(&[], &["-vv"]);
    assert!(!outcome.stderr.contains('\x1b'), "{outcome:#?}");
    assert!(outcome.elapsed < Duration::from_secs(20), "nor from ending: {outcome:#?}");
    assert_eq!(events(&good.announces()), ["started", "completed", "stopped"]);
}

#[test]
fn whoever_did_not_answer_is_not_told_of_the_end() {
    let refuses = Tracker::with_fault(Fault::Failure(b"not here".to_vec()));
    let case = Case::new(torrent("refused").tracked_by(&refuses.http_url()));
    let peer = Peer::closed(&case.torrent.payload, Behaviour::default());
    let run = case.start(&[&peer], &[]);
    refuses.wait_for_announces(1, LIMIT);
    peer.open();
    case.assert_complete(&run.wait(LIMIT));
    assert_eq!(events(&refuses.announces()), ["started"]);
}

#[test]
fn a_tracker_that_is_silent_at_the_end_is_not_waited_for_long() {
    let tracker = Tracker::start();
    let case = Case::new(torrent("silent end").tracked_by(&tracker.http_url()));
    let peer = Peer::closed(&case.torrent.payload, Behaviour::default());
    let run = case.start(&[&peer], &[]);
    tracker.wait_for_announces(1, LIMIT);
    tracker.set_fault(Fault::Silent);
    peer.open();
    let outcome = run.wait(LIMIT);
    case.assert_complete(&outcome);
    assert!(outcome.elapsed < Duration::from_secs(20), "{outcome:#?}");
}

#[test]
fn schemes_that_nobody_speaks_are_passed_over() {
    let tracker = Tracker::start();
    let mut torrent = torrent("schemes");
    for url in ["wss://127.0.0.1:1/announce", "ftp://127.0.0.1/announce", "dht://", "no url", ""] {
        torrent = torrent.tracked_by(url);
    }
    let case = Case::new(torrent.tracked_by(&tracker.udp_url()));
    let peer = Peer::honest(&case.torrent.payload);
    tracker.add_peer(peer.address());
    let outcome = case.complete(&[], &[]);
    assert_eq!(outcome.stderr, "");
    assert_eq!(pieces_asked(&peer.record()).len(), case.torrent.payload.pieces());
}
