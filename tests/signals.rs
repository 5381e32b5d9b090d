//! The built program is asked to end: it says goodbye, keeps what it has, and goes on next time.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rusty_torrent::limits::FAREWELL_BUDGET_MS;

use support::case::{Case, LIMIT, pieces_asked};
use support::peer::{Behaviour, Peer, Silent};
use support::program;
use support::scratch::Scratch;
use support::torrent::Torrent;
use support::tracker::{Fault, Tracker};

const PIECE: usize = 32 << 10;
const PIECES: usize = 40;

/// What a user who pressed Ctrl-C will bear.
const SOON: Duration = Duration::from_secs(5);

fn slow() -> Behaviour {
    Behaviour { block_pause: Duration::from_millis(20), ..Behaviour::default() }
}

#[test]
fn a_run_that_is_stopped_says_goodbye_and_the_next_goes_on_from_there() {
    for signal in ["TERM", "INT", "HUP"] {
        let tracker = Tracker::start();
        let torrent = Torrent::single(&format!("stopped by {signal}"), PIECES * PIECE, PIECE);
        let case = Case::new(torrent.tracked_by(&tracker.http_url()));
        let payload = &case.torrent.payload;
        let peer = Peer::start(payload, slow());
        tracker.add_peer(peer.address());
        let run = case.start(&[], &[]);
        peer.wait_until(|record| record.sent.len() >= 20);
        let asked = Instant::now();
        run.signal(signal);
        let outcome = run.wait(LIMIT);
        outcome.assert_status(7);
        assert!(asked.elapsed() < SOON, "{outcome:#?}");
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains("run the same command again"), "{outcome:#?}");
        let announces = tracker.announces();
        let events: Vec<&str> = announces.iter().map(|said| said.event.as_str()).collect();
        assert_eq!(events, ["started", "stopped"]);

        // What the next run lacks is what is not on the disk, and that is not everything.
        let there = fs::read(case.place()).unwrap();
        let wrong = |piece: &usize| {
            let bytes = piece * PIECE..(piece + 1) * PIECE;
            there.get(bytes.clone()) != payload.bytes.get(bytes)
        };
        let missing: Vec<usize> = (0..PIECES).filter(wrong).collect();
        assert!(!missing.is_empty() && missing.len() <= PIECES - 5, "{missing:?}");
        assert_eq!(announces[1].left, (missing.len() * PIECE) as u64);
        let before = peer.record().requests.len();
        let again = Peer::honest(payload);
        case.complete(&[&again], &[]);
        // The tracker names the first peer still.
        let mut asked = pieces_asked(&again.record());
        asked.extend(peer.record().requests[before..].iter().map(|(piece, ..)| *piece));
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked, missing);
    }
}

#[test]
fn a_signal_that_is_to_be_ignored_stops_nothing() {
    let case = Case::new(Torrent::single("ignoring", PIECES * PIECE, PIECE));
    let peer = Peer::start(&case.torrent.payload, slow());
    let run = case.start_from("trap '' HUP; exec \"$@\"", &[&peer], &[]);
    peer.wait_until(|record| record.sent.len() >= 20);
    run.signal("HUP");
    case.assert_complete(&run.wait(LIMIT));
}

#[test]
fn a_stop_without_any_peer_or_answer_is_as_quick() {
    let tracker = Tracker::with_fault(Fault::Silent);
    let torrent = Torrent::single("stopped waiting", PIECE, PIECE);
    let case = Case::new(torrent.tracked_by(&tracker.http_url()));
    let silent = Behaviour { silent: Some(Silent::AfterAccept), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, silent);
    let run = case.start(&[&peer], &[]);
    peer.wait_until(|record| record.connections > 0);
    tracker.wait_for_announces(1, LIMIT);
    let asked = Instant::now();
    run.signal("TERM");
    let outcome = run.wait(LIMIT);
    outcome.assert_status(7);
    assert!(asked.elapsed() < SOON, "{outcome:#?}");
}

#[test]
fn a_stop_while_the_torrent_comes_out_of_a_pipe_is_as_quick() {
    let scratch = Scratch::new("stopped reading");
    let pipe = scratch.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for signal in ["TERM", "INT"] {
        for is_open in [false, true] {
            let run = program::start([&pipe, &scratch.join("out")]);
            // It has been opened, and nothing comes.
            let _writer = is_open.then(|| File::options().write(true).open(&pipe).unwrap());
            wait_until_caught(run.id());
            run.signal(signal);
            let outcome = run.wait(SOON);
            outcome.assert_status(7);
            assert!(!scratch.join("out").exists());
        }
    }
}

/// Waits until the process catches SIGINT and SIGTERM.
fn wait_until_caught(process: u32) {
    let both = 1 << (2 - 1) | 1 << (15 - 1);
    let until = Instant::now() + LIMIT;
    loop {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & both == both {
            return;
        }
        assert!(Instant::now() < until, "it never catches them");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_second_signal_does_not_wait_for_the_goodbye() {
    let tracker = Tracker::start();
    let torrent = Torrent::single("stopped twice", PIECES * PIECE, PIECE);
    let case = Case::new(torrent.tracked_by(&tracker.http_url()));
    let peer = Peer::start(&case.torrent.payload, slow());
    tracker.add_peer(peer.address());
    let run = case.start(&[], &[]);
    peer.wait_until(|record| record.sent.len() >= 4);
    tracker.set_fault(Fault::Silent);
    let asked = Instant::now();
    run.signal("TERM");
    assert_eq!(tracker.wait_for_announces(2, LIMIT)[1].event, "stopped");
    run.signal("INT");
    let outcome = run.wait(LIMIT);
    outcome.assert_status(7);
    assert!(asked.elapsed() < Duration::from_millis(FAREWELL_BUDGET_MS), "{outcome:#?}");
}
