//! The built program under a rate limit.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::case::Case;
use support::peer::{Behaviour, Choking, Peer};
use support::program::Outcome;
use support::torrent::Torrent;

const KIB: usize = 1 << 10;
const BLOCK_LENGTH: usize = 16 * KIB;

/// A run that took less was faster than its limit. A tenth of a second may be made up for.
#[track_caller]
fn assert_kept(limit: usize, bytes: usize, outcome: &Outcome) {
    let least = Duration::from_secs_f64(bytes as f64 / limit as f64 - 0.1);
    assert!(outcome.elapsed >= least, "{least:?} is the least: {outcome:#?}");
}

/// Hardly any block was sent twice, by whomever. Where the machine is so busy that nothing is read
/// for a while, the limit is not what is waited for, and some may be. Returns how many each sent.
#[track_caller]
fn assert_sent_once(peers: &[Peer], bytes: usize) -> Vec<usize> {
    let sent: Vec<_> = peers.iter().map(|peer| peer.record().sent).collect();
    let different: BTreeSet<_> = sent.iter().flatten().collect();
    assert_eq!(different.len(), bytes.div_ceil(BLOCK_LENGTH));
    let count: usize = sent.iter().map(Vec::len).sum();
    assert!(count <= different.len() * 5 / 4, "{count} were sent for {}", different.len());
    sent.iter().map(Vec::len).collect()
}

#[test]
fn a_limit_is_kept_with_one_fast_peer() {
    let (limit, bytes) = (1 << 20, 3 << 20);
    let case = Case::new(Torrent::single("limit-one", bytes, 64 * KIB));
    let peers = [Peer::honest(&case.torrent.payload)];
    let outcome = case.complete(&[&peers[0]], &["--max-download-limit", "1M"]);
    assert_kept(limit, bytes, &outcome);
    let record = peers[0].record();
    assert_eq!((record.connections, record.cancels), (1, 0));
    assert_eq!(record.sent.len(), bytes / BLOCK_LENGTH);
}

#[test]
fn a_limit_is_kept_with_twenty_peers_that_share_it() {
    let (limit, bytes) = (1 << 20, 6 << 20);
    let case = Case::new(Torrent::single("limit-twenty", bytes, 64 * KIB));
    // So few requests are out to each that there is work for the last one that is reached.
    let few = Behaviour { reqq: Some(2), ..Behaviour::default() };
    let peers: Vec<Peer> =
        (0..20).map(|_| Peer::start(&case.torrent.payload, few.clone())).collect();
    let all: Vec<&Peer> = peers.iter().collect();
    let outcome = case.complete(&all, &["--max-download-limit", "1M"]);
    assert_kept(limit, bytes, &outcome);
    let sent = assert_sent_once(&peers, bytes);
    assert!(sent.iter().all(|count| *count > 0), "{sent:?}");
}

/// A block takes longer than is borne of a peer that is late: nobody is given up on.
#[test]
fn at_a_very_low_limit_nobody_is_taken_to_be_late() {
    let (limit, bytes) = (40 * KIB, 480 * KIB);
    let case = Case::new(Torrent::single("limit-low", bytes, 32 * KIB));
    let slow = Behaviour { fast: false, ..Behaviour::default() };
    let peers: Vec<Peer> =
        (0..15).map(|_| Peer::start(&case.torrent.payload, slow.clone())).collect();
    let all: Vec<&Peer> = peers.iter().collect();
    let outcome = case.complete(&all, &["--max-download-limit", "40K"]);
    assert_kept(limit, bytes, &outcome);
    assert_sent_once(&peers, bytes);
    for peer in &peers {
        assert_eq!(peer.record().connections, 1);
    }
}

#[test]
fn what_is_no_limit_limits_nothing() {
    let case = Case::new(Torrent::single("limit-none", 8 << 20, 64 * KIB));
    let peer = Peer::honest(&case.torrent.payload);
    let options = ["--max-download-limit", "0", "-u", "0"];
    case.complete(&[&peer], &options);
    assert_eq!(peer.record().sent.len(), 512);
}

/// The end of a connection waits for its turn like anything else, and what came before it counts.
#[test]
fn peers_that_come_and_go_do_not_stop_a_limited_run() {
    let bytes = 2 << 20;
    let case = Case::new(Torrent::single("limit-flaps", bytes, 64 * KIB));
    let resets = |number| Behaviour {
        blocks: support::peer::Blocks::ResetInside(number),
        ..Behaviour::default()
    };
    let flaps =
        Behaviour { choking: Choking::Flaps(4, Duration::from_millis(50)), ..Behaviour::default() };
    let behaviours = [resets(1), resets(5), flaps, Behaviour::default()];
    let peers = behaviours.map(|behaviour| Peer::start(&case.torrent.payload, behaviour));
    let all: Vec<&Peer> = peers.iter().collect();
    let outcome = case.complete(&all, &["--max-download-limit", "500K"]);
    assert_kept(500 * KIB, bytes, &outcome);
}
