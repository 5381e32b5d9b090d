//! The ceiling of `--max-memory`: what is too little is said before anything is done, what is said
//! to be needed is enough, and the process stays below it.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(clippy::print_stdout)] // what was measured

mod support;

use std::fs;
use std::time::Duration;

use support::case::{Case, LIMIT, shown};
use support::peer::{Behaviour, Noise, Peer, Tells};
use support::program::{Outcome, Running};
use support::torrent::Torrent;
use support::tracker::{Fault, Tracker};

const MIB: u64 = 1 << 20;

/// Runs it to its end. Returns the most memory that was its own.
fn watch(running: Running) -> (Outcome, u64) {
    let (outcome, most) = running.watch(LIMIT);
    (outcome, most.anonymous)
}

/// Runs it for so long with fifty peers, or to its end. Returns the most memory it took.
fn watch_for(case: &Case, behaviour: &Behaviour, options: &[&str], length: Duration) -> u64 {
    let peers: Vec<Peer> =
        (0..50).map(|_| Peer::start(&case.torrent.payload, behaviour.clone())).collect();
    let running = case.start(&peers.iter().collect::<Vec<_>>(), options);
    let (most, status) = std::thread::scope(|scope| {
        let id = running.id();
        scope.spawn(move || {
            std::thread::sleep(length);
            let _gone = std::process::Command::new("kill").arg(id.to_string()).status();
        });
        let (outcome, most) = watch(running);
        (most, outcome)
    });
    assert!(matches!(status.status, Some(0 | 7)), "{status:#?}");
    let connected = peers.iter().filter(|peer| peer.record().handshakes > 0).count();
    println!("{}: {} KiB, {connected} peers: {}", case.torrent.name, most / 1024, status.stderr);
    most
}

/// The SIZE that an error names as needed.
fn needed(outcome: &Outcome) -> &str {
    let (_, behind) = outcome.stderr.split_once("needs --max-memory ").expect("it says how much");
    behind.split([';', ' ']).next().unwrap()
}

fn mib(size: &str) -> u64 {
    size.strip_suffix('M').expect("it is in MiB").parse::<u64>().unwrap() * MIB
}

#[test]
fn too_little_is_refused_with_what_is_needed_and_that_is_enough() {
    let tracker = Tracker::start();
    // Many pieces need large tables.
    let torrent = Torrent::single("too little", 300_000 * 64, 64).tracked_by(&tracker.http_url());
    let case = Case::new(torrent);
    let peer = Peer::honest(&case.torrent.payload);
    let refused = case.run(&[&peer], &["--max-memory", "10M"]);
    refused.assert_status(28);
    assert_eq!(refused.stdout, "");
    assert!(!case.out.exists());
    assert_eq!((tracker.announces().len(), peer.record().connections), (0, 0));
    let size = needed(&refused);
    assert!(mib(size) > 8 * MIB, "{size}");

    // All but a little is there: 300 000 pieces take a debug build too long.
    case.seed();
    let file = case.place();
    let mut bytes = fs::read(&file).unwrap();
    bytes[..64_000].fill(0);
    fs::write(&file, bytes).unwrap();
    let (outcome, most) = watch(case.start(&[&peer], &["--max-memory", size]));
    case.assert_complete(&outcome);
    assert!(most > 0 && most <= mib(size), "{most} of {size}");
}

#[test]
fn a_torrent_file_that_is_larger_than_the_memory_is_not_even_read() {
    let case = Case::new(Torrent::single("no torrent", 100, 64));
    fs::write(&case.file, vec![b'l'; 11 << 20]).unwrap();
    let outcome = case.run(&[], &["--max-memory", "10M"]);
    outcome.assert_status(28);
    assert!(mib(needed(&outcome)) > 9 * MIB, "{outcome:#?}");
    assert!(outcome.stderr.contains(" at least"), "{outcome:#?}");
    case.run(&[], &[]).assert_status(25);
}

#[test]
fn a_torrent_file_that_is_larger_than_any_is_not_even_read() {
    let case = Case::new(Torrent::single("larger than any", 100, 64));
    // It has no blocks on the disk.
    fs::File::create(&case.file).unwrap().set_len(1 << 40).unwrap();
    let (outcome, most) = watch(case.start(&[], &[]));
    outcome.assert_status(26);
    assert!(outcome.stderr.contains("larger than 64.0 MiB"), "{outcome:#?}");
    assert!(most <= 4 * MIB, "{most}");
}

#[test]
fn with_little_memory_there_are_fewer_peers_and_it_is_said() {
    let case = Case::new(Torrent::single("little memory", 3 << 20, 64 << 10));
    let behaviour = Behaviour { block_pause: Duration::from_millis(2), ..Behaviour::default() };
    let peers: Vec<Peer> =
        (0..40).map(|_| Peer::start(&case.torrent.payload, behaviour.clone())).collect();
    let running = case.start(&peers.iter().collect::<Vec<_>>(), &["--max-memory", "10M"]);
    let (outcome, most) = watch(running);
    case.assert_complete(&outcome);
    assert!(outcome.stderr.contains("--max-memory 10M allows only "), "{outcome:#?}");
    let connected = peers.iter().filter(|peer| peer.record().connections > 0).count();
    assert!((4..40).contains(&connected), "{connected}");
    assert!(most <= 8 * MIB, "{most}");
    let roomy = Case::new(Torrent::single("enough memory", 1 << 20, 64 << 10));
    let peer = Peer::honest(&roomy.torrent.payload);
    let outcome = roomy.complete(&[&peer], &[]);
    assert!(!outcome.stderr.contains("--max-memory"), "{outcome:#?}");
}

#[test]
fn peers_that_send_what_is_long_do_not_take_memory() {
    let case = Case::new(Torrent::single("long messages", 2 << 20, 64 << 10));
    let tells = |tells, noise| Behaviour { tells, noise, ..Behaviour::default() };
    let talkers: Vec<Peer> = (0..15)
        .map(|_| tells(Tells::Bitfield, Some(Noise::LongUnknown)))
        .chain((0..5).map(|_| tells(Tells::Haves, None)))
        .map(|behaviour| Peer::start(&case.torrent.payload, behaviour))
        .collect();
    let running = case.start(&talkers.iter().collect::<Vec<_>>(), &[]);
    let (outcome, most) = watch(running);
    case.assert_complete(&outcome);
    // A megabyte of each that was stored would show.
    assert!(most <= 12 * MIB, "{most}: {}", shown(&case.out));
}

#[test]
fn trackers_that_send_what_is_long_do_not_take_memory() {
    let peers = |count: u32| {
        let list = (0..count).flat_map(|n| {
            let [_, a, b, c] = n.to_be_bytes();
            [11, a, b, c, 26, 225]
        });
        let list: Vec<u8> = list.collect();
        [format!("d5:peers{}:", list.len()).as_bytes(), &list, b"e"].concat()
    };
    let faults = [
        Fault::EndlessBody,
        Fault::EndlessHead,
        Fault::EndlessHeaders,
        Fault::Gzip(vec![b'x'; 64 << 20]),
        Fault::Body(peers(1_000_000)),
        // As long as an answer may be.
        Fault::Body(peers(174_000)),
        Fault::Failure(vec![b'x'; 800_000]),
    ];
    let trackers: Vec<Tracker> =
        faults.iter().chain(&faults).cloned().map(Tracker::with_fault).collect();
    let mut torrent = Torrent::single("long answers", 4 << 20, 64 << 10);
    for tracker in &trackers {
        torrent = torrent.tracked_by(&tracker.http_url());
    }
    let case = Case::new(torrent);
    let peer = Peer::closed(&case.torrent.payload, Behaviour::default());
    let running = case.start(&[&peer], &["--max-memory", "16M"]);
    let (outcome, most) = std::thread::scope(|scope| {
        let watched = scope.spawn(|| watch(running));
        for tracker in &trackers {
            assert!(!tracker.wait_for_announces(1, LIMIT).is_empty());
        }
        peer.open();
        watched.join().unwrap()
    });
    case.assert_complete(&outcome);
    assert!(most <= 16 * MIB, "{most}");
}

#[test]
#[ignore = "takes a while; RUSTY_TORRENT_BIN names the executable to be measured"]
fn long_pieces_and_many_pieces_stay_below_the_ceiling() {
    let length = Duration::from_secs(12);
    let slow = Behaviour { block_pause: Duration::from_millis(20), ..Behaviour::default() };
    let haves = Behaviour { tells: Tells::Haves, ..Behaviour::default() };
    for (size, mebibytes) in [("32M", 32), ("10M", 10)] {
        let name = |what: &str| format!("{what} {size}");
        let long = Case::new(Torrent::zeros(&name("long"), 64, 16 << 20));
        let most = watch_for(&long, &Behaviour::default(), &["--max-memory", size], length);
        assert!(most <= mebibytes * MIB, "{most}");
        let slowly = Case::new(Torrent::zeros(&name("slowly"), 64, 16 << 20));
        let most = watch_for(&slowly, &slow, &["--max-memory", size], length);
        assert!(most <= mebibytes * MIB, "{most}");
    }
    for (size, mebibytes) in [("32M", 32), ("24M", 24)] {
        let name = |what: &str| format!("{what} {size}");
        let many = Case::new(Torrent::zeros(&name("many"), 200_000, 16 << 10));
        let most = watch_for(&many, &Behaviour::default(), &["--max-memory", size], length);
        assert!(most <= mebibytes * MIB, "{most}");
        let told = Case::new(Torrent::zeros(&name("told"), 200_000, 16 << 10));
        let most = watch_for(&told, &haves, &["--max-memory", size], length);
        assert!(most <= mebibytes * MIB, "{most}");
    }
}
