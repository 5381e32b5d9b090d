//! The built program gives: to peers that connect to it and to those that it connects to, while it
//! downloads and afterwards. What it must not do is believe, wait for, or keep things for, those
//! who ask too much.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use support::leech::{Leech, Manner, PATIENCE};
use support::seeder::{PIECE, Seeder, blocks, ranges, torrent};
use support::torrent::{Torrent, file};
use support::wire::{BLOCK, Range, blocks_of, dial, message, numbers, read_handshake};

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
fn who_takes_no_more_is_not_heard_out_at_once() {
    let seeder = Seeder::start(Torrent::single("takes no more", 500 * PIECE, PIECE), &[]);
    let payload = &seeder.case.torrent.payload;
    let manner = Manner { extended: false, ..Manner::default() };
    let mut stream = dial(seeder.address(), manner.from).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[manner.handshake(payload), message(2, &[])].concat()).unwrap();
    read_handshake(&mut stream).unwrap();
    while read_message(&mut stream).unwrap().0 != UNCHOKE {}
    // More than the system takes on its behalf.
    let all = &blocks(&seeder.case.torrent)[..450];
    let requests: Vec<u8> = all.iter().flat_map(|range| message(6, &numbers(*range))).collect();
    stream.write_all(&requests).unwrap();
    let messages = 400;
    let before = seeder.run.sleeps();
    for _ in 0..messages {
        stream.write_all(&message(4, &[0; 4])).unwrap();
        // So that each comes alone. What is expected does not depend on how long this takes.
        thread::sleep(Duration::from_millis(5));
    }
    let sleeps = seeder.run.sleeps() - before;
    assert!(sleeps < messages / 4, "it woke {sleeps} times for {messages} messages");
    for _ in all {
        while ![PIECE_FOLLOWS, REJECT].contains(&read_message(&mut stream).unwrap().0) {}
    }
    drop(stream);
    seeder.stop();
}

const UNCHOKE: u8 = 1;
const PIECE_FOLLOWS: u8 = 7;
const REJECT: u8 = 16;

/// The id and the body of the next message that has any.
fn read_message(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut body)?;
        if let Some((id, body)) = body.split_first() {
            return Ok((*id, body.to_vec()));
        }
    }
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
