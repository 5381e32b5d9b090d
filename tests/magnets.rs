//! The built program downloads what a magnet link names: it asks peers what the torrent is, believes
//! none of them but the hash, and tells others that ask. Peers tell each other of peers.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use support::case::{Case, LIMIT};
use support::leech::Manner;
use support::peer::{Behaviour, Choking, Greeting, Metadata, Peer, Silent};
use support::program::Outcome;
use support::seeder::{LONG, PIECE, Seeder, seed_some};
use support::torrent::{Torrent, file, files_below};
use support::tracker::Tracker;

/// So many hashes that the info dictionary has several blocks.
const PIECES: usize = 2_000;
const TINY: usize = 1 << 10;

fn torrent(name: &str) -> Torrent {
    Torrent::single(name, PIECES * TINY - 5, TINY)
}

/// The same case, but of its link.
fn by_link(torrent: Torrent) -> Case {
    let mut case = Case::new(torrent);
    case.file = case.torrent.magnet().into();
    case
}

fn with(metadata: Metadata) -> Behaviour {
    Behaviour { metadata, ..Behaviour::default() }
}

#[test]
fn a_link_is_as_good_as_the_file() {
    let tracker = Tracker::start();
    let case = by_link(torrent("a link").tracked_by(&tracker.http_url()));
    let seeder = Peer::honest(&case.torrent.payload);
    tracker.add_peer(seeder.address());
    let outcome = case.run(&[], &["--save-torrent"]);
    let saved = case.join("saved.torrent");
    fs::rename(case.out.join("a link.torrent"), &saved).unwrap();
    case.assert_complete(&outcome);
    assert_eq!(outcome.stderr, "", "{outcome:#?}");
    let record = seeder.record();
    let mut blocks = record.metadata_requests;
    blocks.sort_unstable();
    assert_eq!(blocks, [0, 1, 2], "each once");
    let events: Vec<String> =
        tracker.announces().iter().map(|announce| announce.event.clone()).collect();
    assert_eq!(events, ["started", "completed", "stopped"], "one run, for the tracker");
    assert!(tracker.announces()[0].left > 0, "it is no seed");
    // What was kept is a torrent file of the same.
    let mut again = case;
    again.file = saved;
    let outcome = again.complete(&[], &[]);
    assert!(outcome.stdout.contains("all there already"), "{outcome:#?}");
}

#[test]
fn a_link_may_name_peers_itself() {
    let mut case = Case::new(Torrent::multi("files", &[file("a", 50_000), file("b/c", 7)], PIECE));
    let seeder = Peer::honest(&case.torrent.payload);
    let link = format!(
        "{}&dn=other&x.pe=no.such.host.invalid:1&x.pe={}",
        case.torrent.magnet(),
        seeder.address()
    );
    case.file = link.into();
    let outcome = case.complete(&[], &[]);
    assert!(outcome.stderr.contains("no.such.host.invalid:1"), "{outcome:#?}");
    assert!(!case.out.join("files.torrent").exists(), "nobody asked for it");
}

#[test]
fn whoever_knows_it_is_found_among_those_who_do_not() {
    let payload_of = |case: &Case| case.torrent.payload.clone();
    let length = torrent("any").payload.info.len();
    let useless = [
        ("knows nothing", with(Metadata::Unknown)),
        ("lies", with(Metadata::Corrupt)),
        ("rejects", with(Metadata::Rejects)),
        ("is silent", with(Metadata::Silent)),
        ("claims too little", with(Metadata::Claims(100))),
        ("claims too much", with(Metadata::Claims(length + 1))),
        ("claims nonsense", with(Metadata::Claims(1 << 31))),
        ("has no extensions", Behaviour { reqq: None, ..Behaviour::default() }),
        ("is a web server", Behaviour { greeting: Greeting::Http, ..Behaviour::default() }),
        ("stops", Behaviour { silent: Some(Silent::AfterHandshake), ..Behaviour::default() }),
    ];
    for (name, behaviour) in useless.clone() {
        let case = by_link(torrent(name));
        let bad = Peer::start(&payload_of(&case), behaviour);
        let good = Peer::honest(&payload_of(&case));
        case.complete(&[&bad, &good], &[]);
    }
    // And one among all of them at once.
    let case = by_link(torrent("all at once"));
    let bad: Vec<Peer> = useless
        .into_iter()
        .map(|(_, behaviour)| Peer::start(&payload_of(&case), behaviour))
        .collect();
    let good = Peer::honest(&payload_of(&case));
    let peers: Vec<&Peer> = bad.iter().chain([&good]).collect();
    case.complete(&peers, &[]);
}

#[test]
fn a_liar_is_banned_and_said() {
    let case = by_link(torrent("a liar"));
    let liar = Peer::start(&case.torrent.payload, with(Metadata::Corrupt));
    let outcome = case.run(&[&liar], &["--metadata-timeout", "2"]);
    outcome.assert_status(2);
    assert!(outcome.stderr.contains("lied about the torrent and is banned"), "{outcome:#?}");
    assert_eq!(liar.record().connections, 1);
}

#[test]
fn nobody_who_knows_is_an_error_in_time() {
    let case = by_link(torrent("nobody"));
    let unknowing = Peer::start(&case.torrent.payload, with(Metadata::Unknown));
    let outcome = case.run(&[&unknowing], &["--metadata-timeout", "1"]);
    outcome.assert_status(2);
    let line = "error: nobody told within 1 s what the link is of: 1 peer known, none told; \
                try later, or give more --metadata-timeout\n";
    assert_eq!(outcome.stderr, line);
    assert!(!case.place().exists());
}

#[test]
fn links_that_name_nothing_are_refused() {
    let refused = [
        ("magnet:?dn=x", 26, "names no torrent"),
        ("magnet:?xt=urn:btmh:1220aa", 26, "version 2 torrent"),
        ("magnet:?xt=urn:btih:0123", 26, "neither 40 digits"),
        (
            "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567",
            6,
            "no tracker and no peer",
        ),
    ];
    for (number, (link, status, why)) in refused.into_iter().enumerate() {
        let mut case = Case::new(torrent(&format!("refused {number}")));
        case.file = link.into();
        let outcome = case.run(&[], &[]);
        outcome.assert_status(status);
        assert!(
            outcome.stderr.contains(why) && outcome.stderr.lines().count() == 1,
            "{outcome:#?}"
        );
    }
}

#[test]
fn a_stop_is_heard_before_the_torrent_is_known() {
    let tracker = Tracker::start();
    let case = by_link(torrent("stopped early").tracked_by(&tracker.http_url()));
    let unknowing = Peer::start(&case.torrent.payload, with(Metadata::Silent));
    tracker.add_peer(unknowing.address());
    let run = case.start(&[], &[]);
    unknowing.wait_until(|record| !record.metadata_requests.is_empty());
    run.signal("TERM");
    let outcome: Outcome = run.wait(LIMIT);
    outcome.assert_status(7);
    let events: Vec<String> =
        tracker.announces().iter().map(|announce| announce.event.clone()).collect();
    assert_eq!(events, ["started", "stopped"]);
}

#[test]
fn what_a_torrent_is_is_told_to_others() {
    let seeder = Seeder::start(torrent("told"), &[]);
    let mut case = Case::new(torrent("heard"));
    case.torrent = torrent("told");
    let address = format!("127.0.0.1:{}", seeder.port);
    case.file = case.torrent.magnet().into();
    case.complete(&[], &["--peer", &address]);
    // By hand: blocks that there are not are refused, and it is not told for ever.
    let leech = seeder.leech(Manner::default());
    let request = |block: usize| {
        let mut body = vec![1];
        body.extend(format!("d8:msg_typei0e5:piecei{block}ee").bytes());
        leech.say(20, &body).unwrap();
    };
    let info = &seeder.case.torrent.payload.info;
    request(9);
    (0..12).for_each(|number| request(number % 3));
    let record = leech.wait_until(|record| record.metadata.len() == 13);
    let refused = |answer: &[u8]| answer.starts_with(b"d8:msg_typei2e");
    assert!(refused(&record.metadata[0]));
    for (answer, number) in record.metadata[1..10].iter().zip((0..3).cycle()) {
        let block = info.chunks(16 << 10).nth(number).unwrap();
        assert!(answer.ends_with(block) && answer.starts_with(b"d8:msg_typei1e"), "{number}");
    }
    assert!(record.metadata[10..].iter().all(|answer| refused(answer)));
    seeder.stop();
}

// ---- peers of peers ----------------------------------------------------------------------------

#[test]
fn a_peer_that_is_told_of_is_asked() {
    for link in [false, true] {
        let case =
            if link { by_link(torrent("told of by link")) } else { Case::new(torrent("told of")) };
        let seeder = Peer::honest(&case.torrent.payload);
        let knows_it = Behaviour {
            tells_of: vec![seeder.address()],
            has: Some(Vec::new()),
            metadata: Metadata::Unknown,
            ..Behaviour::default()
        };
        let friend = Peer::start(&case.torrent.payload, knows_it);
        case.complete(&[&friend], &[]);
    }
}

#[test]
fn nobody_else_s_peers_are_asked_in_a_private_torrent() {
    let tracker = Tracker::start();
    let case = Case::new(torrent("private").private().tracked_by(&tracker.http_url()));
    let foreign = Peer::honest(&case.torrent.payload);
    let slow = Behaviour {
        tells_of: vec![foreign.address()],
        block_pause: Duration::from_millis(1),
        ..Behaviour::default()
    };
    let member = Peer::start(&case.torrent.payload, slow);
    tracker.add_peer(member.address());
    case.complete(&[], &[]);
    assert_eq!(foreign.record().connections, 0);
    assert!(
        !member.record().hello.windows(6).any(|window| window == b"ut_pex"),
        "nor are they wanted"
    );
}

#[test]
fn peers_are_told_of_each_other() {
    // The first one has nothing to give at first, so that it stays.
    let case = Case::new(torrent("each other"));
    seed_some(&case, |piece| piece > 0);
    let chokes = Behaviour { choking: Choking::Never, ..Behaviour::default() };
    let first = Peer::start(&case.torrent.payload, chokes.clone());
    let second = Peer::start(&case.torrent.payload, chokes);
    let seeder = Seeder::go_on(case, &[&first, &second], &[]);
    let is_told_of = |told: &[Vec<u8>], other: SocketAddr| {
        let port = other.port().to_be_bytes();
        told.iter().any(|message| message.windows(2).any(|window| window == port))
    };
    // One of them is told at once, the other with the next message: a minute later.
    let until = std::time::Instant::now() + LONG;
    loop {
        let told = [(&first, second.address()), (&second, first.address())]
            .map(|(peer, other)| is_told_of(&peer.record().told_of, other));
        if told != [false, false] {
            break;
        }
        assert!(std::time::Instant::now() < until, "nobody was told");
        std::thread::sleep(Duration::from_millis(10));
    }
    // A leech that says where it listens is told of them, too.
    let leech = seeder.leech(Manner::default());
    let record = leech.wait_until(|record| !record.told_of.is_empty());
    assert!(is_told_of(&record.told_of, first.address()));
    assert!(is_told_of(&record.told_of, second.address()));
    seeder.run.signal("TERM");
    seeder.run.wait(LONG).assert_status(7);
}

#[test]
fn a_link_brings_the_files_that_it_selects() {
    let files = [file("a", PIECE + 7), file("b", 2 * PIECE), file("c", 5), file("d", PIECE)];
    for (number, (so, options, made)) in [
        ("0,2-3", vec![], vec!["a", "c", "d"]),
        ("1", vec![], vec!["b"]),
        // What was typed counts more.
        ("1", vec!["--select", "c"], vec!["c"]),
        ("0,4-9", vec![], vec!["a"]),
        ("3-9", vec![], vec!["d"]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut case = by_link(Torrent::multi(&format!("selecting {number}"), &files, PIECE));
        case.file = format!("{}&so={so}", case.file.display()).into();
        let seeder = Peer::honest(&case.torrent.payload);
        let outcome = case.run(&[&seeder], &options);
        outcome.assert_status(0);
        let there: Vec<_> = files_below(&case.place()).into_iter().collect();
        let expected: Vec<_> = made.iter().map(|name| case.place().join(name)).collect();
        assert_eq!(there, expected, "{so}");
        assert_eq!(outcome.stderr.contains("does not have"), so.contains('9'), "{outcome:#?}");
    }
    let mut case = by_link(Torrent::multi("selecting nothing", &files, PIECE));
    case.file = format!("{}&so=9", case.file.display()).into();
    let seeder = Peer::honest(&case.torrent.payload);
    let outcome = case.run(&[&seeder], &[]);
    outcome.assert_status(26);
    assert!(outcome.stderr.contains("selects nothing"), "{outcome:#?}");
}
