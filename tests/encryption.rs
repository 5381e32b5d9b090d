//! The built program speaks encrypted (MSE) to peers that want it, in whatever way `--encryption`
//! allows, and not otherwise.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use support::case::{Case, LIMIT};
use support::leech::{Leech, Manner};
use support::peer::{Behaviour, Peer};
use support::program::Running;
use support::seeder::{PIECE, Seeder, blocks, ranges, torrent};
use support::torrent::Torrent;
use support::veil::{PLAIN, RC4, Veil};

/// Bytes of a handshake.
const ALL: usize = 68;

fn start(case: &Case, peers: &[&Veil], options: &[&str]) -> Running {
    let peers: Vec<String> = peers.iter().map(|peer| peer.address().to_string()).collect();
    let peers: Vec<&str> = peers.iter().flat_map(|peer| ["--peer", peer]).collect();
    case.start(&[], &[&["-vv"], &peers[..], options].concat())
}

// ---- it dials ----------------------------------------------------------------------------------

#[test]
fn a_peer_that_hangs_up_on_plain_text_is_dialled_encrypted() {
    let case = Case::new(Torrent::single("encrypted only", 100 * PIECE + 1, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    let veil = Veil::before(peer.address(), &case.torrent.payload);
    let outcome = start(&case, &[&veil], &[]).wait(LIMIT);
    case.assert_complete(&outcome);
    let record = veil.record();
    assert_eq!((record.began_plain, record.ways), (vec![true, false], vec![RC4]));
    assert_eq!(record.failed, [""; 0]);
    assert!(outcome.stderr.contains("connected, encrypted"), "{outcome:#?}");
}

#[test]
fn what_is_remembered_of_an_address_is_how_it_answers() {
    let case = Case::new(Torrent::single("comes back", 10 * PIECE, PIECE));
    let behaviour = Behaviour { rests_after: Some(8), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, behaviour);
    let veil = Veil::before(peer.address(), &case.torrent.payload);
    let run = start(&case, &[&veil], &[]);
    peer.wait_until(|record| record.sent.len() == 8);
    drop(peer);
    // It is gone, and the program finds out: the address is dialled again, encrypted first.
    veil.wait_until(|record| record.began_plain.len() == 3);
    run.signal("TERM");
    run.wait(LIMIT).assert_status(7);
    assert_eq!(veil.record().began_plain[..3], [true, false, false]);
}

#[test]
fn when_encryption_is_required_nobody_is_spoken_to_in_plain_text() {
    let case = Case::new(Torrent::single("requires it", 10 * PIECE, PIECE));
    let peer = Peer::closed(&case.torrent.payload, Behaviour::default());
    let veil = Veil::before(peer.address(), &case.torrent.payload);
    // Somebody who hangs up on everybody, and writes down how they began.
    let deaf = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = deaf.local_addr().unwrap().to_string();
    let heard = thread::spawn(move || {
        let mut first = [0; 20];
        deaf.accept().unwrap().0.read_exact(&mut first).unwrap();
        first
    });
    let run = start(&case, &[&veil], &["--encryption", "require", "--peer", &address]);
    assert_ne!(&heard.join().unwrap(), b"\x13BitTorrent protocol");
    peer.open();
    case.assert_complete(&run.wait(LIMIT));
    assert_eq!((veil.record().began_plain, veil.record().ways), (vec![false], vec![RC4]));
}

#[test]
fn without_encryption_nobody_is_spoken_to_encrypted() {
    let case = Case::new(Torrent::single("without it", 10 * PIECE, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    let veil = Veil::before(peer.address(), &case.torrent.payload);
    let outcome = start(&case, &[&veil], &["--encryption", "off", "--timeout", "2"]).wait(LIMIT);
    outcome.assert_status(2);
    let began_plain = veil.record().began_plain;
    assert!(!began_plain.is_empty() && began_plain.iter().all(|plain| *plain), "{began_plain:?}");
}

// ---- it is dialled -----------------------------------------------------------------------------

/// Fetches everything through a veil. What was selected.
fn fetch(seeder: &Seeder, ways: u32, early: usize) -> u32 {
    let payload = &seeder.case.torrent.payload;
    let veil = Veil::towards(seeder.address(), payload, ways, early);
    let leech = Leech::connect(veil.address(), payload, Manner::default()).unwrap();
    leech.fetch_all(64);
    let mut got = ranges(&leech.record());
    got.sort_unstable();
    assert_eq!(got, blocks(&seeder.case.torrent), "each block once");
    let record = veil.record();
    assert_eq!(record.failed, [""; 0]);
    record.ways[0]
}

#[test]
fn whoever_comes_is_served_as_it_likes_and_in_plain_text_if_both_will_do() {
    let seeder = Seeder::start(Torrent::single("as you like it", 40 * PIECE + 1, PIECE), &[]);
    for (ways, early, selected) in [
        (RC4, ALL, RC4),
        (RC4, 0, RC4),
        (RC4 | PLAIN, ALL, PLAIN),
        (RC4 | PLAIN, 30, PLAIN),
        (RC4 | 4, 1, RC4),
        (PLAIN, 0, PLAIN),
    ] {
        assert_eq!(fetch(&seeder, ways, early), selected, "{ways} {early}");
    }
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn when_encryption_is_required_only_those_are_let_in_who_encrypt() {
    let seeder = Seeder::start(torrent("lets few in"), &["--encryption", "require"]);
    let payload = &seeder.case.torrent.payload;
    assert_eq!(fetch(&seeder, RC4 | PLAIN, ALL), RC4);
    assert!(Leech::connect(seeder.address(), payload, Manner::default()).is_err());
    let veil = Veil::towards(seeder.address(), payload, PLAIN, ALL);
    assert!(Leech::connect(veil.address(), payload, Manner::default()).is_err());
    assert_eq!(fetch(&seeder, RC4, 0), RC4);
    seeder.stop();
}

#[test]
fn without_encryption_only_plain_text_is_let_in() {
    let seeder = Seeder::start(torrent("lets others in"), &["--encryption", "off"]);
    let payload = &seeder.case.torrent.payload;
    let veil = Veil::towards(seeder.address(), payload, RC4 | PLAIN, ALL);
    assert!(Leech::connect(veil.address(), payload, Manner::default()).is_err());
    assert_eq!(veil.record().ways, [0; 0]);
    seeder.still_serves();
    seeder.stop();
}
