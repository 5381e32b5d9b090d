//! The built program stays and gives, as long as was wished, and it gives while it downloads. What
//! it tells trackers and people meanwhile is right.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::case::{Case, LIMIT};
use support::leech::{Leech, Manner};
use support::peer::{Behaviour, Peer, Silent};
use support::seeder::{LONG, PIECE, Seeder, blocks, free_port, port_said, seed_some, torrent};
use support::torrent::Torrent;
use support::tracker::Tracker;
use support::wire::{BLOCK, dial};

// ---- while it downloads ------------------------------------------------------------------------
#[test]
fn what_is_there_is_given_and_what_is_not_is_refused() {
    let case = Case::new(torrent("a part"));
    seed_some(&case, |piece| piece < 8);
    // Somebody to wait for, who never gives.
    let silent = Behaviour { silent: Some(Silent::AfterBitfield), ..Behaviour::default() };
    let silent = Peer::start(&case.torrent.payload, silent);
    let seeder = Seeder::go_on(case, &[&silent], &[]);
    let leech = seeder.leech(Manner::default());
    let record = leech.wait_until(|record| record.first.is_some());
    assert_eq!(record.first, Some((5, vec![0xff, 0, 0])));
    leech.is_let_in();
    leech.request((8, 0, BLOCK)).unwrap();
    leech.wait_until(|record| record.rejects.contains(&(8, 0, BLOCK)) || record.closed.is_some());
    drop(leech);
    seeder.leech(Manner::default()).fetch(0..8, 16);
    seeder.run.signal("TERM");
    let outcome = seeder.run.wait(LONG);
    outcome.assert_status(7);
    assert_eq!(seeder.case.pieces_there(), (0..8).collect::<Vec<_>>());
}

#[test]
fn a_seed_that_connects_completes_the_download() {
    let tracker = Tracker::start();
    let case = Case::new(torrent("from outside").tracked_by(&tracker.http_url()));
    let seeder = Seeder::go_on(case, &[], &[]);
    let seed = seeder.leech(Manner { has: (0..20).collect(), gives: true, ..Manner::default() });
    let outcome = seeder.run.wait(LONG);
    seeder.case.assert_complete(&outcome);
    assert_eq!(seed.record().requests.len(), blocks(&seeder.case.torrent).len());
}

#[test]
fn two_that_connect_trade_through_it() {
    let tracker = Tracker::start();
    let case = Case::new(torrent("in between").tracked_by(&tracker.http_url()));
    let seeder = Seeder::go_on(case, &[], &["--seed"]);
    let half = |rest: usize| (0..20).filter(|piece| piece % 2 == rest).collect::<Vec<_>>();
    let manners = [0, 1].map(|rest| Manner { has: half(rest), gives: true, ..Manner::default() });
    thread::scope(|scope| {
        for (manner, rest) in manners.into_iter().zip([1, 0]) {
            let leech = seeder.leech(manner);
            scope.spawn(move || {
                let wanted = half(rest);
                leech.wait_until(|record| wanted.iter().all(|piece| record.has.contains(piece)));
                leech.fetch(wanted, 16);
            });
        }
    });
    seeder.stop();
}

#[test]
fn whom_it_connects_to_is_given_to_as_well() {
    let case = Case::new(torrent("leeches too"));
    case.seed();
    let there = TcpListener::bind((Ipv4Addr::new(127, 88, 255, 1), 0)).unwrap();
    let address = there.local_addr().unwrap().to_string();
    let seeder = Seeder::go_on(case, &[], &["--seed", "--peer", &address]);
    let leech = Leech::accept(&there, &seeder.case.torrent.payload, Manner::default()).unwrap();
    leech.fetch_all(16);
    drop(leech);
    seeder.stop();
}

#[test]
fn two_of_ours_trade_in_both_directions() {
    let traded = || Torrent::single("traded", 1_000 * PIECE + 1, PIECE);
    let [one, other] = [("the even half", 0), ("the odd half", 1)].map(|(name, rest)| {
        let mut case = Case::new(Torrent::single(name, 1, PIECE));
        case.file = traded().write_to(case.file.parent().unwrap());
        case.torrent = traded();
        seed_some(&case, |piece| piece % 2 == rest);
        case
    });
    // Each knows of the other, so they may meet twice.
    let ports = [free_port(), free_port()];
    let [to_one, to_other] = ports.map(|port| format!("127.0.0.1:{port}"));
    let one = Seeder::go_on_at(ports[0], one, &[], &["--seed", "--peer", &to_other]);
    let other = Seeder::go_on_at(ports[1], other, &[], &["--seed", "--peer", &to_one]);
    one.case.wait_for_pieces(1_001);
    other.case.wait_for_pieces(1_001);
    one.stop();
    other.stop();
}

#[test]
fn it_gives_while_it_downloads_and_leaves_when_it_is_done() {
    let case = Case::new(torrent("and leaves"));
    let source = Peer::start(
        &case.torrent.payload,
        Behaviour { rests_after: Some(20), ..Behaviour::default() },
    );
    let seeder = Seeder::go_on(case, &[&source], &[]);
    source.wait_until(|record| record.sent.len() == 20);
    let leech = seeder.leech(Manner::default());
    // What is whole of twenty blocks, in whatever order they were asked for.
    let record = leech.wait_until(|record| record.has.len() >= 5);
    leech.fetch(record.has, 8);
    source.go_on();
    let outcome = seeder.run.wait(LONG);
    seeder.case.assert_complete(&outcome);
    leech.wait_until(|record| record.closed.is_some());
}

// ---- when it ends ------------------------------------------------------------------------------

#[test]
fn it_leaves_when_it_has_given_as_much_as_was_wished() {
    let seeder = Seeder::start(torrent("ratio"), &["--seed-ratio", "1.5"]);
    seeder.still_serves();
    let leech = seeder.leech(Manner::default());
    leech.is_let_in();
    let all = blocks(&seeder.case.torrent);
    let half = all.len() / 2;
    for (number, range) in all.into_iter().enumerate() {
        let _left = leech.request(range);
        leech.wait_until(|record| record.answers() > number || record.closed.is_some());
    }
    let outcome = seeder.run.wait(LONG);
    seeder.case.assert_complete(&outcome);
    // The last one may be lost on the way.
    let record = leech.wait_until(|record| record.closed.is_some());
    assert!(record.blocks.len() + 1 >= half, "{record:?}");
}

#[test]
fn with_few_descriptors_a_seeder_gives_all_the_same() {
    for limit in [24, 64] {
        let case = Case::new(torrent(&format!("to give with {limit}")));
        case.seed();
        let log = case.join("log").display().to_string();
        let port = free_port().to_string();
        let options = ["--seed", "-v", "--log", &log, "--port", &port];
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let mut run = case.start_from(&script, &[], &options);
        let port = port_said(&log, &mut run);
        let seeder = Seeder { case, run, port };
        // More than there are descriptors for.
        let payload = &seeder.case.torrent.payload;
        let hello = Manner::default().handshake(payload);
        let useless: Vec<TcpStream> = (0..limit)
            .map(|_| {
                let mut stream = dial(seeder.address(), Manner::default().from).unwrap();
                let _left = stream.write_all(&hello);
                stream
            })
            .collect();
        drop(useless);
        seeder.serves_who_tries_again();
        seeder.stop();
    }
}

#[test]
fn it_leaves_when_it_has_stayed_as_long_as_was_wished() {
    // A second and a half, once everything is there.
    let case = Case::new(torrent("minutes"));
    let source = Peer::honest(&case.torrent.payload);
    let seeder = Seeder::go_on(case, &[&source], &["--seed-time", "0.025"]);
    seeder.case.wait_for_pieces(20);
    seeder.still_serves();
    let outcome = seeder.run.wait(LONG);
    seeder.case.assert_complete(&outcome);
    assert!(outcome.elapsed >= Duration::from_millis(1_500), "{outcome:#?}");
}

#[test]
fn trackers_hear_where_it_listens_and_what_it_gave() {
    // If somebody else has it, it is taken as well.
    let _taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 6881));
    for name in ["http", "udp"] {
        let tracker = Tracker::start();
        let url = if name == "http" { tracker.http_url() } else { tracker.udp_url() };
        let case = Case::new(torrent(&format!("{name} port taken")).tracked_by(&url));
        case.seed();
        let log = case.join("log").display().to_string();
        let mut run = case.start(&[], &["--seed", "-v", "--log", &log]);
        let port = port_said(&log, &mut run);
        assert_ne!(port, 6881);
        let seeder = Seeder { case, run, port };
        let announces = tracker.wait_for_announces(1, LIMIT);
        assert_eq!((announces[0].port, announces[0].left), (port, 0), "{announces:?}");
        seeder.still_serves();
        let length = u64::try_from(seeder.case.torrent.payload.bytes.len()).unwrap();
        seeder.stop();
        let announces = tracker.announces();
        let events: Vec<&str> = announces.iter().map(|announce| announce.event.as_str()).collect();
        assert_eq!(events, ["started", "stopped"], "nothing was completed by this run");
        let last = &announces[1];
        assert_eq!((last.port, last.uploaded, last.downloaded), (port, length, 0), "{last:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_replaced_by_the_next() {
    let tracker = Tracker::start();
    let case = Case::new(torrent("the next port").tracked_by(&tracker.http_url()));
    case.seed();
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let taken = taken.local_addr().unwrap().port();
    let seeder = Seeder::go_on_at(taken, case, &[], &["--seed"]);
    assert_ne!(seeder.port, taken);
    assert_eq!(tracker.wait_for_announces(1, LIMIT)[0].port, seeder.port);
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn one_line_says_at_once_how_long_it_stays() {
    let plans = [
        (&["--seed"][..], "until it is stopped"),
        (&["--seed-time", "90"], "for 90 min"),
        (&["--seed-ratio", "1.5"], "until it sent 1.5 times its size"),
        (
            &["--seed-time", "0.5", "--seed-ratio", "2"],
            "for 0.5 min or until it sent 2 times its size",
        ),
    ];
    for (number, (options, plan)) in plans.into_iter().enumerate() {
        let case = Case::new(torrent(&format!("plan {number}")));
        case.seed();
        let port = free_port().to_string();
        let script = format!("exec \"$@\" 2>'{}'", case.join("said").display());
        let run = case.start_from(&script, &[], &[&["--port", &port], options].concat());
        let until = Instant::now() + LIMIT;
        let said = || fs::read_to_string(case.join("said")).unwrap_or_default();
        while !said().ends_with('\n') {
            assert!(Instant::now() < until, "it says nothing");
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(said(), format!("seeding {plan}, 0 B sent, 0 B/s, 0 peers\n"));
        run.signal("TERM");
        case.assert_complete(&run.wait(LONG));
    }
}

#[test]
fn a_seeder_that_is_told_to_stop_ends_well_with_leeches_under_way() {
    let seeder = Seeder::start(Torrent::single("stopped", 500 * PIECE, PIECE), &[]);
    let leech = seeder.leech(Manner::default());
    leech.is_let_in();
    let all = blocks(&seeder.case.torrent);
    all.iter().take(200).for_each(|range| leech.request(*range).unwrap());
    leech.wait_until(|record| !record.blocks.is_empty());
    seeder.stop();
    leech.wait_until(|record| record.closed.is_some());
}
