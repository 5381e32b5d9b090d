//! The built program gives: to peers that connect to it and to those that it connects to, while it
//! downloads and afterwards. What it must not do is believe, wait for, or keep things for, those
//! who ask too much.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::case::{Case, LIMIT};
use support::leech::{Leech, Manner, PATIENCE, Record};
use support::peer::{Behaviour, Peer, Silent};
use support::program::{Outcome, Running};
use support::torrent::{Torrent, file};
use support::tracker::Tracker;
use support::wire::{BLOCK, Range, blocks_of, dial};

const PIECE: usize = 32 << 10;
/// What no run takes here: a leech may have to wait until others were let in.
const LONG: Duration = Duration::from_secs(90);

// ---- the program -------------------------------------------------------------------------------

/// A run that listens.
struct Seeder {
    case: Case,
    run: Running,
    port: u16,
}

impl Seeder {
    /// Everything is there already.
    fn start(torrent: Torrent, options: &[&str]) -> Self {
        let case = Case::new(torrent);
        case.seed();
        Self::go_on(case, &[], &[&["--seed"], options].concat())
    }

    /// With what is there.
    fn go_on(case: Case, peers: &[&Peer], options: &[&str]) -> Self {
        Self::go_on_at(free_port(), case, peers, options)
    }

    /// At this port, or the next ones.
    fn go_on_at(port: u16, case: Case, peers: &[&Peer], options: &[&str]) -> Self {
        let log = case.join("log").display().to_string();
        let port = port.to_string();
        let own = ["-v", "--log", &log, "--port", &port];
        let mut run = case.start(peers, &[&own, options].concat());
        let port = port_said(&log, &mut run);
        Self { case, run, port }
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    #[track_caller]
    fn leech(&self, manner: Manner) -> Leech {
        Leech::connect(self.address(), &self.case.torrent.payload, manner).unwrap()
    }

    /// An honest one is served, whatever happened before.
    #[track_caller]
    fn still_serves(&self) {
        self.leech(Manner::default()).fetch_all(16);
    }

    /// The same, but there may be no room at first.
    #[track_caller]
    fn serves_who_tries_again(&self) {
        let until = Instant::now() + PATIENCE;
        let payload = &self.case.torrent.payload;
        while Instant::now() < until {
            if let Ok(leech) = Leech::connect(self.address(), payload, Manner::default()) {
                let _closed = leech.say(2, &[]);
                let record = leech.wait_until(|record| record.let_in || record.closed.is_some());
                if record.closed.is_none() {
                    return leech.fetch_all(16);
                }
            }
            thread::sleep(Duration::from_millis(200));
        }
        panic!("no room for a good one");
    }

    /// Ends it as a user does. Everything must be there and right.
    #[track_caller]
    fn stop(self) -> Outcome {
        self.run.signal("TERM");
        let outcome = self.run.wait(LONG);
        self.case.assert_complete(&outcome);
        outcome
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// The port that the program says in its log that it listens on.
#[track_caller]
fn port_said(log: &str, run: &mut Running) -> u16 {
    let until = Instant::now() + LIMIT;
    loop {
        let said = fs::read_to_string(log).unwrap_or_default();
        let rest = said.split_once("listening on port ").map(|(_, rest)| rest);
        let digits = rest.and_then(|rest| rest.split_once(|c: char| !c.is_ascii_digit()));
        if let Some(port) = digits.and_then(|(digits, _)| digits.parse().ok()) {
            return port;
        }
        assert!(run.is_running() && Instant::now() < until, "it does not listen: {said}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn torrent(name: &str) -> Torrent {
    Torrent::single(name, 20 * PIECE - 5_000, PIECE)
}

/// Every block of a torrent.
fn blocks(torrent: &Torrent) -> Vec<Range> {
    (0..torrent.payload.pieces()).flat_map(|piece| blocks_of(&torrent.payload, piece)).collect()
}

fn ranges(record: &Record) -> Vec<Range> {
    record.blocks.iter().map(|(range, _)| *range).collect()
}

// ---- those who ask properly --------------------------------------------------------------------

#[test]
fn a_leech_gets_everything_once_and_right() {
    let entries = [file("a", 3 * PIECE + 11), file("empty", 0), file("b/c", 9 * PIECE)];
    let seeder = Seeder::start(Torrent::multi("to a leech", &entries, PIECE), &[]);
    for (manner, at_once) in [(Manner::default(), 1), (Manner::default(), 64), (Manner::plain(), 8)]
    {
        let leech = seeder.leech(manner);
        leech.fetch_all(at_once);
        let mut got = ranges(&leech.record());
        got.sort_unstable();
        assert_eq!(got, blocks(&seeder.case.torrent), "each block once");
    }
    let outcome = seeder.stop();
    assert!(outcome.stderr.contains("listening on port"), "{outcome:#?}");
}

#[test]
fn a_seeder_says_that_it_has_everything_and_wants_nothing() {
    let seeder = Seeder::start(torrent("says at first"), &[]);
    let leech = seeder.leech(Manner { has: vec![3], ..Manner::default() });
    let record = leech.wait_until(|record| record.first.is_some() && !record.hello.is_empty());
    assert_eq!(record.reserved, [0, 0, 0, 0, 0, 0x10, 0, 0x04]);
    assert!(record.peer_id.starts_with(b"-RU0100-"), "{record:?}");
    assert_eq!(record.has, (0..20).collect());
    assert!(record.hello.starts_with(b"\0d"), "{record:?}");
    leech.fetch_all(16);
    assert_eq!(leech.record().interested, 0);
    // Who knows no extension hears a bitfield, with no bit set behind the last piece.
    let plain = seeder.leech(Manner::plain());
    let record = plain.wait_until(|record| record.first.is_some());
    assert_eq!(record.first, Some((5, vec![0xff, 0xff, 0xf0])));
    drop((leech, plain));
    seeder.stop();
}

#[test]
fn a_leech_by_ipv6_is_as_good() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return; // this machine has no IPv6
    }
    let seeder = Seeder::start(torrent("to v6"), &[]);
    let address = (Ipv6Addr::LOCALHOST, seeder.port).into();
    let payload = &seeder.case.torrent.payload;
    Leech::connect(address, payload, Manner::default()).unwrap().fetch_all(16);
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn six_leeches_at_once_get_everything() {
    let seeder = Seeder::start(Torrent::single("to six", 100 * PIECE + 1, PIECE), &[]);
    thread::scope(|scope| {
        for number in 0..6 {
            let leech = seeder.leech(Manner { fast: number % 2 == 0, ..Manner::default() });
            scope.spawn(move || leech.fetch_all(5 * (number + 1)));
        }
    });
    seeder.stop();
}

#[test]
fn leeches_at_one_address_get_everything() {
    let seeder = Seeder::start(torrent("to one address"), &[]);
    let from = Manner::default().from;
    thread::scope(|scope| {
        for _ in 0..3 {
            let leech = seeder.leech(Manner { from, ..Manner::default() });
            scope.spawn(move || leech.fetch_all(16));
        }
    });
    seeder.stop();
}

#[test]
fn small_ranges_and_long_ones_are_answered() {
    const LARGE: usize = 256 << 10;
    let seeder = Seeder::start(Torrent::single("ranges", 3 * LARGE + 77, LARGE), &[]);
    let small: [Range; 7] = [
        (0, 100, 5_000),
        (0, 0, 1),
        (1, LARGE - 1, 1),
        (2, BLOCK - 1, 2),
        (1, 100, BLOCK),
        (3, 0, 77),
        (3, 76, 1),
    ];
    let long: [Range; 3] = [(0, 0, 2 * BLOCK), (1, 3, 4 * BLOCK), (2, LARGE / 2, LARGE / 2)];
    let leech = seeder.leech(Manner::default());
    leech.is_let_in();
    small.iter().chain(&long).for_each(|range| leech.request(*range).unwrap());
    // Each is answered exactly once, that the leech sees to.
    let record = leech.wait_until(|record| record.waiting() == 0 || record.closed.is_some());
    assert_eq!(record.closed, None, "{record:?}");
    let got = ranges(&record);
    assert!(small.iter().all(|range| got.contains(range)), "{record:?}");
    assert!(record.rejects.iter().all(|range| long.contains(range)), "{record:?}");
    drop(leech);
    seeder.stop();
}

#[test]
fn a_leech_that_wants_nothing_for_a_while_may_come_back() {
    let seeder = Seeder::start(torrent("comes back"), &[]);
    let leech = seeder.leech(Manner::default());
    leech.fetch(0..5, 4);
    leech.fetch(5..20, 4);
    assert_eq!(leech.record().blocks.len(), blocks(&seeder.case.torrent).len());
    drop(leech);
    seeder.stop();
}

/// As aria2 does, where many `have`s would be longer.
#[test]
fn a_leech_that_tells_again_what_it_has_is_served_on() {
    let seeder = Seeder::start(torrent("tells again"), &[]);
    let leech = seeder.leech(Manner::default());
    for (pieces, bits) in [(0..7, [0xfe, 0, 0]), (7..16, [0xff, 0xff, 0]), (16..19, [0; 3])] {
        leech.fetch(pieces, 8);
        leech.say(5, &bits).unwrap();
    }
    leech.fetch([19], 8);
    drop(leech);
    seeder.stop();
}

#[test]
fn every_request_that_is_cancelled_is_answered_once() {
    let seeder = Seeder::start(Torrent::single("cancels", 64 * PIECE, PIECE), &[]);
    let leech = seeder.leech(Manner::default());
    leech.is_let_in();
    let all = blocks(&seeder.case.torrent);
    // Cancelled at once, later, twice, and before it was asked for.
    leech.cancel(all[127]).unwrap();
    for pair in all.chunks(2) {
        leech.request(pair[0]).unwrap();
        leech.cancel(pair[0]).unwrap();
        leech.request(pair[1]).unwrap();
        leech.cancel(pair[0]).unwrap();
    }
    all.iter().for_each(|range| leech.cancel(*range).unwrap());
    let record = leech.wait_until(|record| record.waiting() == 0 || record.closed.is_some());
    assert_eq!((record.closed, record.answers()), (None, all.len()), "{record:?}");
    // Nothing comes behind that.
    leech.fetch([0], 1);
    assert_eq!(leech.record().answers(), all.len() + 2);
    drop(leech);
    seeder.stop();
}

#[test]
fn without_bep_6_nothing_is_rejected_and_cancels_are_heard() {
    let seeder = Seeder::start(torrent("plain cancels"), &[]);
    let leech = seeder.leech(Manner::plain());
    leech.is_let_in();
    let all = blocks(&seeder.case.torrent);
    for range in &all {
        leech.request(*range).unwrap();
        leech.cancel(*range).unwrap();
    }
    leech.request((0, 0, 3)).unwrap();
    let record = leech.wait_until(|record| ranges(record).contains(&(0, 0, 3)));
    assert!(record.answers() <= all.len() + 1, "{record:?}");
    drop(leech);
    seeder.still_serves();
    seeder.stop();
}

// ---- those who don't ---------------------------------------------------------------------------

#[test]
fn nothing_is_given_to_a_leech_that_is_choked() {
    let seeder = Seeder::start(torrent("while choked"), &[]);
    let leech = seeder.leech(Manner::default());
    let asked = blocks_of(&seeder.case.torrent.payload, 7);
    asked.iter().for_each(|range| leech.request(*range).unwrap());
    // A piece that may be had while choked is allowed by name (BEP 6), and the leech knows.
    let record = leech.wait_until(|record| record.waiting() == 0);
    assert_eq!((record.unchokes, record.answers()), (0, asked.len()), "{record:?}");
    leech.fetch_all(16);
    // Without BEP 6 nobody says no. Whatever comes behind, what was asked too early does not.
    let plain = seeder.leech(Manner::plain());
    asked.iter().for_each(|range| plain.request(*range).unwrap());
    plain.fetch((0..20).filter(|piece| *piece != 7), 16);
    assert!(ranges(&plain.record()).iter().all(|(piece, ..)| *piece != 7), "{:?}", plain.record());
    drop((leech, plain));
    seeder.stop();
}

#[test]
fn what_there_is_not_is_not_given() {
    let seeder = Seeder::start(torrent("not there"), &[]);
    let payload = &seeder.case.torrent.payload;
    let last = blocks_of(payload, 19).last().copied().unwrap();
    let most = u32::MAX as usize;
    let wrong: [Range; 13] = [
        (20, 0, BLOCK),
        (most, 0, BLOCK),
        (0, PIECE, BLOCK),
        (0, PIECE - BLOCK + 1, BLOCK),
        (0, most, BLOCK),
        (0, most - BLOCK + 1, BLOCK),
        (0, 0, 0),
        (0, 0, (128 << 10) + 1),
        (0, 0, most),
        (0, PIECE, 0),
        (19, last.1, last.2 + 1),
        (19, last.1 + last.2, 1),
        (most, most, most),
    ];
    for range in wrong {
        for manner in [Manner::default(), Manner::plain()] {
            let fast = manner.fast;
            let leech = seeder.leech(manner);
            leech.is_let_in();
            leech.request(range).unwrap();
            // It may close the connection, or say no, or nothing if that is all that can be said.
            let _closed = leech.request((1, 0, BLOCK));
            let record =
                leech.wait_until(|r| ranges(r).contains(&(1, 0, BLOCK)) || r.closed.is_some());
            assert!(!ranges(&record).contains(&range), "{range:?}: {record:?}");
            let rejected = record.rejects.contains(&range);
            assert!(rejected == fast || record.closed.is_some(), "{range:?}: {record:?}");
        }
    }
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn requests_of_a_wrong_length_end_the_connection_and_nothing_else() {
    let seeder = Seeder::start(torrent("wrong length"), &[]);
    for body in [&[][..], &[0; 11], &[0; 13]] {
        let leech = seeder.leech(Manner::default());
        leech.is_let_in();
        leech.say(6, body).unwrap();
        let record = leech.wait_until(|record| record.closed.is_some());
        assert_eq!(record.blocks.len(), 0, "{record:?}");
    }
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn the_same_block_a_hundred_times_is_no_more_than_that() {
    let seeder = Seeder::start(torrent("hundred times"), &[]);
    let leech = seeder.leech(Manner::default());
    leech.is_let_in();
    for _ in 0..100 {
        leech.request((2, BLOCK, BLOCK)).unwrap();
    }
    let record = leech.wait_until(|record| record.waiting() == 0 || record.closed.is_some());
    assert!(!record.blocks.is_empty(), "{record:?}");
    drop(leech);
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn ten_thousand_requests_at_once_take_no_memory() {
    let seeder = Seeder::start(torrent("flood of requests"), &[]);
    let before = seeder.run.used().anonymous;
    let leech = seeder.leech(Manner { reads: false, ..Manner::default() });
    leech.interested();
    let all = blocks(&seeder.case.torrent);
    // It may be too much for the program, which closes then.
    let made = (0..10_000).take_while(|n| leech.request(all[n % all.len()]).is_ok()).count();
    seeder.still_serves();
    let after = seeder.run.used().anonymous;
    assert!(after < before + (2 << 20), "{before} bytes became {after}");
    leech.read();
    let record = leech.wait_until(|record| record.waiting() == 0 || record.closed.is_some());
    // Some were made before it was let in.
    assert!(record.answers() <= made, "{record:?}");
    drop(leech);
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn who_does_not_read_keeps_nobody_waiting() {
    let seeder = Seeder::start(Torrent::single("never reads", 256 * PIECE, PIECE), &[]);
    let slow: Vec<Leech> = (0..2)
        .map(|_| {
            let leech = seeder.leech(Manner { reads: false, ..Manner::default() });
            leech.interested();
            leech
        })
        .collect();
    // Asks for more than the system takes on its behalf.
    for leech in &slow {
        let _taken =
            blocks(&seeder.case.torrent).iter().try_for_each(|range| leech.request(*range));
    }
    thread::scope(|scope| {
        for _ in 0..2 {
            let leech = seeder.leech(Manner::default());
            scope.spawn(move || leech.fetch_all(32));
        }
    });
    drop(slow);
    seeder.stop();
}

#[test]
fn who_is_gone_in_the_middle_is_nobody_s_trouble() {
    let seeder = Seeder::start(torrent("resets"), &[]);
    for after in [0, 1, 7] {
        let leech = seeder.leech(Manner::default());
        leech.is_let_in();
        let all = blocks(&seeder.case.torrent);
        all.iter().for_each(|range| drop(leech.request(*range)));
        leech.wait_until(|record| record.blocks.len() >= after);
        leech.reset();
    }
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn a_seed_that_connects_is_asked_for_nothing() {
    let seeder = Seeder::start(torrent("to a seed"), &[]);
    let seed = seeder.leech(Manner { has: (0..20).collect(), gives: true, ..Manner::default() });
    seeder.still_serves();
    let record = seed.record();
    assert_eq!((record.interested, record.requests.len()), (0, 0), "{record:?}");
    drop(seed);
    seeder.stop();
}

#[test]
fn two_with_one_peer_id_do_not_starve_each_other() {
    let seeder = Seeder::start(torrent("peer id twice"), &[]);
    let peer_id = *b"-TL0001-twiceTWICE!!";
    let payload = &seeder.case.torrent.payload;
    let pair = [0, 1].map(|_| {
        Leech::connect(seeder.address(), payload, Manner { peer_id, ..Manner::default() })
    });
    // One of them may be left, but not both.
    let served = pair.iter().flatten().filter(|leech| {
        let _left = leech.say(2, &[]);
        let record = leech.wait_until(|record| record.let_in || record.closed.is_some());
        if record.closed.is_none() {
            leech.fetch_all(16);
        }
        record.closed.is_none()
    });
    assert!(served.count() > 0);
    drop(pair);
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn an_echo_of_itself_is_left() {
    let seeder = Seeder::start(torrent("echo"), &[]);
    let own = seeder.leech(Manner::default()).record().peer_id;
    let echo = Manner { peer_id: own.try_into().unwrap(), ..Manner::default() };
    let payload = &seeder.case.torrent.payload;
    if let Ok(echo) = Leech::connect(seeder.address(), payload, echo) {
        echo.wait_until(|record| record.closed.is_some());
    }
    seeder.still_serves();
    seeder.stop();
}

#[test]
fn who_asks_for_another_torrent_hears_nothing() {
    let seeder = Seeder::start(torrent("another hash"), &[]);
    let payload = &seeder.case.torrent.payload;
    let mut info_hash = payload.info_hash;
    info_hash[19] ^= 1;
    let handshake = Manner { info_hash: Some(info_hash), ..Manner::default() }.handshake(payload);
    let odd: [&[u8]; 4] = [
        &handshake,
        b"GET /announce HTTP/1.1\r\nHost: localhost\r\nAccept: everything there is to have\r\n\r\n",
        b"\x13BitTorrent protocoL\0\0\0\0\0\0\0\0-----------------------------------------",
        &[0; 200],
    ];
    for bytes in odd {
        let mut stream = dial(seeder.address(), Manner::default().from).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        assert_eq!(what_comes(&mut stream), b"", "{bytes:?}");
    }
    seeder.still_serves();
    seeder.stop();
}

/// Everything until the program closes the connection.
#[track_caller]
fn what_comes(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // With bytes unread it ends so.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        result => drop(result.unwrap()),
    }
    bytes
}

#[test]
fn who_says_nothing_is_left() {
    let seeder = Seeder::start(torrent("says nothing"), &[]);
    let payload = &seeder.case.torrent.payload;
    let handshake = Manner::default().handshake(payload);
    let streams: Vec<TcpStream> = [0, 1, 47]
        .iter()
        .map(|length| {
            let mut stream = dial(seeder.address(), Manner::default().from).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&handshake[..*length]).unwrap();
            stream
        })
        .collect();
    seeder.still_serves();
    for mut stream in streams {
        assert_eq!(what_comes(&mut stream), b"");
    }
    seeder.stop();
}

#[test]
fn a_full_pool_has_room_for_a_good_peer_after_useless_ones() {
    let seeder = Seeder::start(torrent("full pool"), &["--max-peers", "3"]);
    // They want something and never ask.
    let useless: Vec<_> = (0..3)
        .map(|_| {
            let payload = &seeder.case.torrent.payload;
            let leech = Leech::connect(seeder.address(), payload, Manner::default());
            let _closed = leech.as_ref().map(|leech| leech.say(2, &[]));
            leech
        })
        .collect();
    seeder.serves_who_tries_again();
    drop(useless);
    seeder.stop();
}

// ---- while it downloads ------------------------------------------------------------------------

/// Some pieces are there.
fn seed_some(case: &Case, is_there: impl Fn(usize) -> bool) {
    case.seed();
    let mut bytes = case.torrent.payload.bytes.to_vec();
    for (piece, bytes) in bytes.chunks_mut(case.torrent.payload.piece_length).enumerate() {
        if !is_there(piece) {
            bytes.fill(0);
        }
    }
    fs::write(case.place(), bytes).unwrap();
}

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
