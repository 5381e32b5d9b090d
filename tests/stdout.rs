//! The built program hands one file to standard output while it fetches it, verified and in order.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::case::{Case, pieces_asked};
use support::peer::{Behaviour, Blocks, Peer};
use support::program;
use support::torrent::{Torrent, file, files_below};
use support::web::Web;

const PIECE: usize = 32 << 10;

fn start(case: &Case, peers: &[&Peer], options: &[&str]) -> Child {
    let mut command = Command::new(program::path());
    command.args(["--no-lsd", "--no-dht"]).args(options);
    for peer in peers {
        command.args(["--peer", &peer.address().to_string()]);
    }
    command.arg(&case.file).arg(&case.out).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The status, what came through the pipe, and what was said.
fn run(case: &Case, peers: &[&Peer], options: &[&str]) -> (i32, Vec<u8>, String) {
    let output = start(case, peers, options).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output.stdout, said)
}

#[track_caller]
fn assert_delivered((status, bytes, said): &(i32, Vec<u8>, String), expected: &[u8]) {
    assert_eq!((*status, bytes.len()), (0, expected.len()), "{said}");
    assert!(bytes == expected, "every byte, in order");
}

#[test]
fn the_file_comes_in_order_and_nothing_is_left() {
    for (number, options) in [&["--stdout"][..], &["-o", "-"], &["-o=-"]].into_iter().enumerate() {
        let name = format!("delivered {number}");
        let case = Case::new(Torrent::single(&name, 40 * PIECE + 5, PIECE));
        let peers = [0, 1, 2].map(|_| Peer::honest(&case.torrent.payload));
        let outcome = run(&case, &[&peers[0], &peers[1], &peers[2]], options);
        assert_delivered(&outcome, &case.torrent.payload.bytes);
        assert_eq!(files_below(&case.out), Vec::<std::path::PathBuf>::new(), "{options:?}");
    }
}

#[test]
fn one_of_many_files_is_delivered() {
    let files = [file("a", PIECE / 2), file("b", 3 * PIECE), file("c", 10), file("empty", 0)];
    let case = Case::new(Torrent::multi("one of many", &files, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = run(&case, &[&peer], &["--stdout", "--select-file", "2"]);
    assert_delivered(&outcome, case.torrent.files()[1].1);
    assert!(files_below(&case.out).is_empty());
    let outcome = run(&case, &[&peer], &["--stdout", "--select", "empty"]);
    assert_delivered(&outcome, &[]);

    for options in [&["--stdout"][..], &["--stdout", "--select-file", "1-2"]] {
        let (status, bytes, said) = run(&case, &[&peer], options);
        assert_eq!((status, bytes.len()), (28, 0), "{said}");
        assert!(said.contains("name it with --select-file"), "{said}");
    }
}

#[test]
fn wrong_bytes_never_get_out() {
    let case = Case::new(Torrent::single("wrong first", 12 * PIECE, PIECE));
    let wrong = Behaviour { blocks: Blocks::Corrupt, ..Behaviour::default() };
    let liar = Peer::start(&case.torrent.payload, wrong);
    let slow = Behaviour { block_pause: Duration::from_millis(2), ..Behaviour::default() };
    let honest = Peer::start(&case.torrent.payload, slow);
    let outcome = run(&case, &[&liar, &honest], &["--stdout"]);
    assert_delivered(&outcome, &case.torrent.payload.bytes);
}

#[test]
fn what_is_there_is_delivered_without_anybody() {
    let case = Case::new(Torrent::single("there already", 5 * PIECE, PIECE));
    case.torrent.write_payload_to(&case.out);
    assert_delivered(&run(&case, &[], &["--stdout"]), &case.torrent.payload.bytes);
    case.torrent.assert_is_in(&case.out);
}

#[test]
fn a_mirror_is_read_from_the_start() {
    let torrent = Torrent::single("streamed", 60 * PIECE, PIECE);
    let web = Web::start(&torrent);
    let case = Case::new(torrent.mirrored_by(&format!("{}/", web.url())));
    assert_delivered(&run(&case, &[], &["--stdout"]), &case.torrent.payload.bytes);
}

#[test]
fn who_reads_slowly_gets_it_all_and_who_goes_away_ends_it() {
    let case = Case::new(Torrent::single("read slowly", 64 * PIECE, PIECE));
    let payload = &case.torrent.payload;
    let peer = Peer::honest(payload);
    let mut child = start(&case, &[&peer], &["--stdout"]);
    let mut out = child.stdout.take().unwrap();
    let mut first = vec![0; PIECE];
    out.read_exact(&mut first).unwrap();
    // Everything arrives while nobody reads.
    peer.wait_until(|record| record.sent.len() == 2 * 64);
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    assert!([first, rest].concat() == *payload.bytes);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(files_below(&case.out).is_empty());

    let slow = Behaviour { block_pause: Duration::from_millis(5), ..Behaviour::default() };
    let peer = Peer::start(payload, slow);
    let mut child = start(&case, &[&peer], &["--stdout"]);
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 10]).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("nobody reads standard output any more"), "{said}");

    // The next run goes on with what was verified, whether it delivers or not.
    let peer = Peer::honest(payload);
    let outcome = run(&case, &[&peer], &["--stdout"]);
    assert_delivered(&outcome, &payload.bytes);
    assert!(!pieces_asked(&peer.record()).contains(&0), "{:?}", pieces_asked(&peer.record()));
    assert!(files_below(&case.out).is_empty());
}

#[test]
fn what_a_stopped_delivery_had_becomes_a_file() {
    let case = Case::new(Torrent::single("then a file", 20 * PIECE, PIECE));
    let half = Behaviour { has: Some((0..10).collect()), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, half);
    let mut child = start(&case, &[&peer], &["--stdout"]);
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut vec![0; 10 * PIECE]).unwrap();
    let stopped = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(stopped.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(7));
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
    assert_eq!(pieces_asked(&peer.record()), (10..20).collect::<Vec<_>>());
}

#[test]
fn in_order_means_that_the_first_missing_piece_comes_first() {
    let case = Case::new(Torrent::single("sequential", 50 * PIECE, PIECE));
    let pause = Behaviour { block_pause: Duration::from_millis(1), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, Behaviour { reqq: Some(2), ..pause });
    case.complete(&[&peer], &["--sequential"]);
    let asked: Vec<usize> = peer.record().requests.iter().map(|(piece, ..)| *piece).collect();
    assert!(asked.is_sorted(), "{asked:?}");
}
