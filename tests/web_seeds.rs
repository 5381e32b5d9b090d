//! The built program fetches from web servers (BEP 19), from good ones and bad ones, alone and beside
//! peers.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net;

use support::case::{Case, LIMIT};
use support::peer::{Behaviour, Blocks, Peer};
use support::program::{self, Outcome};
use support::torrent::{Torrent, file, pad};
use support::tracker::Tracker;
use support::web::{Fault, Web};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const PIECE: usize = 32 * KIB;
const BLOCK: u64 = 16 << 10;

/// A torrent of one file that `web` has.
fn single(name: &str, length: usize, piece: usize) -> (Torrent, Web) {
    let torrent = Torrent::single(name, length, piece);
    let web = Web::start(&torrent);
    (torrent, web)
}

/// Ends each URL of a mirror of one file, or of a directory.
fn below(web: &Web) -> String {
    format!("{}/", web.url())
}

/// Panics unless the ranges are all of `0..length`, each byte once.
#[track_caller]
fn assert_each_byte_once(ranges: &[Range<u64>], length: usize) {
    let mut end = 0;
    for range in ranges {
        assert_eq!(range.start, end, "{ranges:?}");
        end = range.end;
    }
    assert_eq!(end, length as u64, "{ranges:?}");
}

fn says(outcome: &Outcome, text: &str) -> bool {
    outcome.stderr.contains(text)
}

// ---- where files lie ---------------------------------------------------------------------------

#[test]
fn a_single_file_comes_from_its_own_url_each_byte_once() {
    let length = 7 * MIB + 123;
    let (torrent, web) = single("single mirror.bin", length, 256 * KIB);
    let url = format!("{}/single%20mirror.bin", web.url());
    let case = Case::new(torrent.mirrored_by(&url));
    let outcome = case.complete(&[], &[]);
    assert_eq!(outcome.stderr, "");
    assert!(outcome.stdout.contains(" from mirrors in "), "{outcome:#?}");
    let ranges = web.ranges("/files/single%20mirror.bin");
    assert_eq!(ranges.len(), web.requests().len());
    assert_each_byte_once(&ranges, length);
    assert!(ranges.len() < 20, "long ranges are asked for: {ranges:?}");
    assert!(web.connections() <= 2, "connections are kept");
    let request = &web.requests()[0];
    let has = |name: &str, value: &str| {
        let header = request.headers.iter().find(|header| header.0 == name);
        header.is_some_and(|header| header.1.starts_with(value))
    };
    assert!(has("user-agent", "rusty_torrent/") && has("accept-encoding", "identity"));
}

#[test]
fn the_name_is_put_behind_a_slash_and_mirrors_can_be_typed() {
    let (torrent, web) = single("typed.bin", 3 * PIECE, PIECE);
    let case = Case::new(torrent);
    case.complete(&[], &["--mirror", &below(&web)]);
    assert_each_byte_once(&web.ranges("/files/typed.bin"), 3 * PIECE);

    let outcome = case.run(&[], &["--mirror", "ftp://a.example/"]);
    outcome.assert_status(28);
    assert!(says(&outcome, "--mirror"), "{outcome:#?}");
}

#[test]
fn strange_names_are_escaped() {
    let names = [
        "a b",
        "100%",
        "%41",
        "c#1",
        "d?e=f&g",
        "h+i",
        "Gr\u{fc}\u{df}e",
        "\u{65e5}\u{672c}/\u{1f600}.txt",
        "...",
        "~-._",
        "\"<>\\^`{|}",
        "j;k=l:m@n!$'()*,[]",
    ];
    let files: Vec<_> = names.iter().map(|name| file(name, PIECE / 2 + 1)).collect();
    let torrent = Torrent::multi("M\u{fc}ll & co", &files, PIECE);
    let web = Web::start(&torrent);
    // The slash at the end may be missing.
    let case = Case::new(torrent.mirrored_by(&web.url()));
    case.complete(&[], &[]);
    let targets = [
        "a%20b",
        "100%25",
        "%2541",
        "c%231",
        "d%3Fe%3Df%26g",
        "h%2Bi",
        "Gr%C3%BC%C3%9Fe",
        "%E6%97%A5%E6%9C%AC/%F0%9F%98%80.txt",
        "...",
        "~-._",
        "%22%3C%3E%5C%5E%60%7B%7C%7D",
        "j%3Bk%3Dl%3Am%40n%21%24%27%28%29%2A%2C%5B%5D",
    ];
    for target in targets {
        let ranges = web.ranges(&format!("/files/M%C3%BCll%20%26%20co/{target}"));
        assert_each_byte_once(&ranges, PIECE / 2 + 1);
    }
}

#[test]
fn a_name_that_can_not_be_written_is_asked_for_as_it_is() {
    let torrent = Torrent::single("in\u{200b}visible\u{7}.bin", 2 * PIECE, PIECE);
    let web = Web::start(&torrent);
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    let outcome = case.run(&[], &[]);
    outcome.assert_status(0);
    let written = fs::read(case.out.join("in_visible_.bin")).unwrap();
    assert!(written == *case.torrent.payload.bytes);
    assert_each_byte_once(&web.ranges("/files/in%E2%80%8Bvisible%07.bin"), 2 * PIECE);
}

#[test]
fn padding_and_empty_files_are_never_asked_for() {
    let files = [
        file("empty", 0),
        file("a", 10_000),
        pad(PIECE - 10_000),
        pad(2 * PIECE),
        file("b", PIECE + 20_000),
        pad(PIECE - 20_000),
        file("deep/er/c", 3 * PIECE + 1),
        pad(PIECE - 1),
        file("d", 5),
    ];
    let torrent = Torrent::multi("padded mirror", &files, PIECE);
    let web = Web::start(&torrent);
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    case.complete(&[], &[]);
    let mut asked = 0;
    for (name, length) in
        [("a", 10_000), ("b", PIECE + 20_000), ("deep/er/c", 3 * PIECE + 1), ("d", 5)]
    {
        let ranges = web.ranges(&format!("/files/padded%20mirror/{name}"));
        assert_each_byte_once(&ranges, length);
        asked += ranges.len();
    }
    assert_eq!(asked, web.requests().len(), "{:#?}", web.requests());
}

#[test]
fn a_piece_of_many_files_takes_many_requests() {
    let files: Vec<_> = (0..300).map(|number| file(&format!("{number}"), 1_000 + number)).collect();
    let torrent = Torrent::multi("many small", &files, 256 * KIB);
    let web = Web::start(&torrent);
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    case.complete(&[], &[]);
    assert!(web.requests().len() >= 300 && web.connections() <= 2);
}

// ---- mirrors that are of no use ----------------------------------------------------------------

/// A port where nobody listens, and which nobody else gets for as long as it lives.
struct Dead(OwnedFd);

impl Dead {
    fn new() -> Self {
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
        net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self(socket)
    }

    fn url(&self) -> String {
        let address = SocketAddr::try_from(net::getsockname(&self.0).unwrap()).unwrap();
        format!("http://{address}/")
    }
}

#[test]
fn one_good_mirror_among_many_dead_ones_is_enough() {
    let (mut torrent, web) = single("few alive", 2 * MIB, PIECE);
    let empty = Web::empty();
    let dead: Vec<Dead> = (0..150).map(|_| Dead::new()).collect();
    for (number, dead) in dead.iter().enumerate() {
        torrent =
            torrent.mirrored_by(&dead.url()).mirrored_by(&format!("{}/{number}/", empty.root()));
        if number == 70 {
            torrent = torrent.mirrored_by(&below(&web)).mirrored_by("ftp://a.example/");
        }
    }
    let case = Case::new(torrent);
    let outcome = case.complete(&[], &[]);
    assert_eq!(outcome.stderr, "", "nobody has to hear of each");
    let mut asked = BTreeMap::new();
    for request in empty.requests() {
        *asked.entry(request.target).or_insert(0) += 1;
    }
    // By two connections at once, when nobody else is left to be tried.
    assert!(asked.values().all(|times| *times <= 2), "who has not got the file is left: {asked:?}");
}

#[test]
fn a_mirror_that_answers_wrongly_gives_way_and_its_bytes_are_not_taken() {
    let faults = [
        ("404", Fault::Status(404, String::new())),
        ("410", Fault::Status(410, String::new())),
        ("416", Fault::Status(416, String::new())),
        ("403", Fault::Status(403, String::new())),
        ("shifted", Fault::Shifted(1)),
        ("no range", Fault::NoContentRange),
        ("other file", Fault::OtherFile),
        ("too long", Fault::Length(1)),
        ("too short", Fault::Length(-1)),
        ("not http", Fault::Raw(b"220 smtp ready\r\n".to_vec())),
        ("loop", Fault::Redirects(1_000)),
        ("to nowhere", Fault::RedirectTo("ftp://a.example".to_owned())),
    ];
    for (name, fault) in faults {
        let (torrent, good) = single(&format!("wrong {name}"), 4 * MIB, PIECE);
        let bad = Web::with_fault(&torrent, fault);
        let case = Case::new(torrent.mirrored_by(&below(&good)));
        let options = ["-v", "--mirror", &below(&bad)];
        let outcome = case.complete(&[], &options);
        let lines = outcome.stderr.lines().filter(|line| line.contains(&bad.root()));
        assert!((1..=2).contains(&lines.count()), "{name}: {outcome:#?}");
        let answers = bad.requests().len();
        assert!(answers <= 12, "{name}: it was asked {answers} times");
        assert!(good.sent() >= case.torrent.payload.bytes.len() as u64, "{name}");
    }
}

#[test]
fn what_breaks_off_is_gone_on_with_by_others() {
    let faults = [
        ("cut", Fault::Cut(40_000)),
        ("close", Fault::Close),
        ("500", Fault::Status(500, String::new())),
        ("endless head", Fault::Raw(b"HTTP/1.1 206 OK\r\nX: y".repeat(3_000))),
        ("garbage", Fault::Raw(vec![0xff; 100_000])),
    ];
    for (name, fault) in faults {
        let (torrent, good) = single(&format!("breaks off {name}"), 4 * MIB, PIECE);
        let bad = Web::with_fault(&torrent, fault);
        let case = Case::new(torrent.mirrored_by(&below(&good)));
        case.complete(&[], &["--mirror", &below(&bad)]);
        assert!(!bad.requests().is_empty(), "{name}");
        // Whole blocks that came before it broke off are kept.
        let all = case.torrent.payload.bytes.len() as u64;
        assert!(good.sent() <= all && (name != "cut" || good.sent() < all), "{name}");
    }
}

#[test]
fn an_answer_without_end_is_left_when_all_that_was_asked_for_is_there() {
    let (torrent, web) = single("endless", 3 * MIB, PIECE);
    web.set_fault(Fault::Endless);
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    case.complete(&[], &[]);
    assert_each_byte_once(&web.ranges("/files/endless"), 3 * MIB);
}

#[test]
fn a_mirror_that_says_nothing_does_not_keep_the_others_from_the_end() {
    for (name, fault) in [
        ("at all", Fault::Silent),
        ("any more", Fault::Stops(70_000)),
        ("but little", Fault::Trickle(Duration::from_millis(200))),
    ] {
        let (torrent, good) = single(&format!("says nothing {name}"), 3 * MIB, PIECE);
        let bad = Web::with_fault(&torrent, fault);
        let case = Case::new(torrent.mirrored_by(&below(&good)));
        let outcome = case.complete(&[], &["--mirror", &below(&bad)]);
        assert!(outcome.elapsed < Duration::from_secs(15), "{name}: {outcome:#?}");
        assert!(!bad.requests().is_empty(), "{name}");
    }
}

#[test]
fn a_server_of_whole_files_is_good_for_what_it_begins_with() {
    // Small files, each of which is asked for from its start.
    let files: Vec<_> = (0..8).map(|number| file(&format!("{number}"), PIECE)).collect();
    for (number, fault) in [Fault::Whole, Fault::WholeWithoutLength].into_iter().enumerate() {
        let torrent = Torrent::multi(&format!("whole files {number}"), &files, PIECE);
        let web = Web::with_fault(&torrent, fault.clone());
        let case = Case::new(torrent.mirrored_by(&below(&web)));
        case.complete(&[], &[]);
        // What lies further on takes somebody who sends parts.
        let (torrent, good) = single(&format!("whole file {number}"), 4 * MIB, PIECE);
        let whole = Web::with_fault(&torrent, fault);
        let case = Case::new(torrent.mirrored_by(&below(&good)));
        let outcome = case.complete(&[], &["-v", "--mirror", &below(&whole)]);
        let told = format!("{}: it sends whole files only; it is not asked any more", whole.root());
        assert_eq!(outcome.stderr.matches(&told).count(), 1, "{outcome:#?}");
        assert!(whole.requests().len() <= 4 && good.sent() >= 2 << 20);
    }
}

#[test]
fn redirects_are_followed_with_the_range() {
    let (torrent, web) = single("redirected", 3 * MIB, PIECE);
    let first = Web::empty();
    first.set_fault(Fault::RedirectTo(web.root()));
    let case = Case::new(torrent.mirrored_by(&format!("{}/files/", first.root())));
    case.complete(&[], &[]);
    assert_each_byte_once(&web.ranges("/files/redirected"), 3 * MIB);
    let asked: Vec<_> = first.ranges("/files/redirected");
    assert_each_byte_once(&asked, 3 * MIB);

    // Five in a row, and by a relative URL.
    let (torrent, web) = single("redirected often", PIECE, PIECE);
    web.set_fault(Fault::Redirects(5));
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    case.complete(&[], &[]);
    assert_eq!(web.requests().len(), 6);
}

#[test]
fn a_busy_mirror_is_asked_again_when_it_said_so_and_not_before() {
    for status in [503, 429] {
        let (torrent, web) = single(&format!("busy {status}"), PIECE, PIECE);
        web.set_fault_for(Fault::Status(status, "Retry-After: 2\r\n".to_owned()), 1);
        let case = Case::new(torrent.mirrored_by(&below(&web)));
        let outcome = case.complete(&[], &["-v"]);
        assert!(says(&outcome, "too busy for 2 s"), "{outcome:#?}");
        let requests = web.requests();
        assert_eq!(requests.len(), 2);
        assert!(requests[1].at >= requests[0].at + Duration::from_millis(1_900), "{requests:#?}");
    }
}

#[test]
fn when_no_mirror_is_of_use_and_there_is_nobody_else_it_ends() {
    let (torrent, web) = single("nobody left", MIB, PIECE);
    let (gone, empty) = (Web::with_fault(&torrent, Fault::WrongBytes), Web::empty());
    web.set_fault(Fault::Shifted(5));
    let case = Case::new(torrent.mirrored_by(&below(&web)).mirrored_by(&below(&empty)));
    let outcome = case.run(&[], &["--mirror", &below(&gone)]);
    outcome.assert_status(6);
    assert!(says(&outcome, "nobody to ask: 3 mirrors, none of use"), "{outcome:#?}");

    let case = Case::new(Torrent::single("nobody typed", MIB, PIECE));
    let outcome = case.run(&[], &[]);
    outcome.assert_status(6);
    assert!(says(&outcome, "--mirror"), "{outcome:#?}");
}

#[test]
fn with_a_silent_mirror_alone_the_timeout_counts() {
    let (torrent, web) = single("silent alone", MIB, PIECE);
    web.set_fault(Fault::Silent);
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    let outcome = case.run(&[], &["--timeout", "2"]);
    outcome.assert_status(2);
    assert!(says(&outcome, "no new piece for 2 s: 1 mirror"), "{outcome:#?}");
}

// ---- wrong bytes -------------------------------------------------------------------------------

#[test]
fn a_mirror_that_sends_wrong_bytes_is_banned_and_another_one_completes() {
    let (torrent, good) = single("wrong bytes", 6 * MIB, PIECE);
    let bad = Web::with_fault(&torrent, Fault::WrongBytes);
    let case = Case::new(torrent.mirrored_by(&below(&good)));
    let outcome = case.complete(&[], &["--mirror", &below(&bad)]);
    let told = format!("mirror {} sent wrong data and is banned", bad.root());
    assert_eq!(outcome.stderr.matches(&told).count(), 1, "{outcome:#?}");
    assert_eq!(outcome.stderr.matches("banned").count(), 1, "{outcome:#?}");
}

#[test]
fn a_peer_completes_what_a_banned_mirror_spoiled() {
    let (torrent, bad) = single("spoiled", 2 * MIB, PIECE);
    bad.set_fault(Fault::WrongBytes);
    let case = Case::new(torrent.mirrored_by(&below(&bad)));
    let slow = Behaviour { block_pause: Duration::from_millis(5), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, slow);
    let outcome = case.complete(&[&peer], &[]);
    assert!(says(&outcome, "sent wrong data and is banned"), "{outcome:#?}");
    assert!(!says(&outcome, &peer.address().to_string()), "{outcome:#?}");
}

#[test]
fn a_mirror_is_not_blamed_for_what_a_peer_spoiled() {
    let (torrent, web) = single("spoiled by a peer", 3 * MIB, PIECE);
    let web_slow = Web::slow(&torrent, Duration::from_millis(5));
    drop(web);
    let case = Case::new(torrent.mirrored_by(&below(&web_slow)));
    let lies = Behaviour { blocks: Blocks::Corrupt, ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, lies);
    let outcome = case.complete(&[&peer], &[]);
    assert!(!says(&outcome, "mirror"), "{outcome:#?}");
}

// ---- beside peers ------------------------------------------------------------------------------

#[test]
fn mirrors_and_peers_bring_it_together() {
    let length = 6 * MIB;
    let torrent = Torrent::single("together", length, PIECE);
    let web = Web::slow(&torrent, Duration::from_millis(4));
    let tracker = Tracker::start();
    let case = Case::new(torrent.tracked_by(&tracker.http_url()).mirrored_by(&below(&web)));
    let slow = Behaviour { block_pause: Duration::from_millis(4), ..Behaviour::default() };
    let peers = [0, 1].map(|_| Peer::start(&case.torrent.payload, slow.clone()));
    peers.iter().for_each(|peer| tracker.add_peer(peer.address()));
    let outcome = case.complete(&[], &["-v"]);
    let from_peers: usize = peers.iter().map(|peer| peer.record().sent.len() * 16 * KIB).sum();
    assert!(from_peers > MIB, "{from_peers} bytes came from peers");
    assert!(web.sent() > MIB as u64, "{} bytes came from the mirror", web.sent());
    let sent = from_peers + usize::try_from(web.sent()).unwrap();
    assert!(sent < length * 5 / 4, "{sent} bytes were sent for {length}");
    assert!(outcome.stdout.contains(" from mirrors in "), "{outcome:#?}");
    assert_eq!(tracker.announces().last().unwrap().left, 0);
}

#[test]
fn what_only_a_mirror_has_comes_from_it_while_peers_bring_the_rest() {
    let torrent = Torrent::single("only the mirror", 64 * PIECE, PIECE);
    let web = Web::slow(&torrent, Duration::from_millis(2));
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    let some = Behaviour {
        has: Some((0..64).filter(|piece| piece % 8 != 3).collect()),
        block_pause: Duration::from_millis(2),
        ..Behaviour::default()
    };
    let peer = Peer::start(&case.torrent.payload, some);
    case.complete(&[&peer], &[]);
    assert!(!peer.record().sent.is_empty());
}

#[test]
fn a_mirror_takes_over_what_a_peer_falls_silent_with() {
    let (torrent, web) = single("peer is silent", 2 * MIB, PIECE);
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    let rests = Behaviour { rests_after: Some(3), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, rests);
    case.complete(&[&peer], &[]);
    assert!(web.sent() >= 2 * MIB as u64 - 4 * BLOCK);
}

#[test]
fn a_peer_takes_over_what_a_mirror_falls_silent_with() {
    let (torrent, web) = single("mirror is silent", 2 * MIB, PIECE);
    web.set_fault(Fault::Stops(100_000));
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    let slow = Behaviour { block_pause: Duration::from_millis(5), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, slow);
    let outcome = case.complete(&[&peer], &[]);
    assert!(outcome.elapsed < Duration::from_secs(14), "{outcome:#?}");
    assert!(web.sent() >= 100_000);
}

// ---- limits, signals, going on -----------------------------------------------------------------

#[test]
fn a_rate_limit_holds_for_mirrors() {
    let (limit, bytes) = (MIB, 3 * MIB);
    let (torrent, web) = single("limited mirror", bytes, 64 * KIB);
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    let outcome = case.complete(&[], &["--max-download-limit", "1M"]);
    let least = Duration::from_secs_f64(bytes as f64 / limit as f64 - 0.1);
    assert!(outcome.elapsed >= least, "{least:?} is the least: {outcome:#?}");
    assert_each_byte_once(&web.ranges("/files/limited%20mirror"), bytes);
}

#[test]
fn a_rate_limit_holds_for_mirrors_and_peers_together() {
    let (limit, bytes) = (MIB, 3 * MIB);
    let (torrent, web) = single("limited both", bytes, 64 * KIB);
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.complete(&[&peer], &["--max-download-limit", "1M"]);
    let least = Duration::from_secs_f64(bytes as f64 / limit as f64 - 0.1);
    assert!(outcome.elapsed >= least, "{least:?} is the least: {outcome:#?}");
    assert!(web.sent() > 0 && !peer.record().sent.is_empty());
}

#[test]
fn a_stop_during_a_request_is_quick_and_the_next_run_asks_for_the_rest_only() {
    let stops = 9 * PIECE + 999;
    for (name, fault) in [("before", Fault::Silent), ("inside", Fault::Stops(stops))] {
        let length = 60 * PIECE;
        let (torrent, web) = single(&format!("stopped {name}"), length, PIECE);
        web.set_fault(fault);
        let case = Case::new(torrent.mirrored_by(&below(&web)));
        let run = case.start(&[], &[]);
        // Two connections wait for what does not come.
        let is_inside = name == "inside";
        web.wait_for(2, if is_inside { 2 * stops as u64 } else { 0 });
        case.wait_for_pieces(usize::from(is_inside));
        let asked = Instant::now();
        run.signal("TERM");
        let outcome = run.wait(LIMIT);
        outcome.assert_status(7);
        assert!(asked.elapsed() < Duration::from_secs(5), "{outcome:#?}");
        let there = case.pieces_there();
        assert!(there.len() <= if is_inside { 18 } else { 0 }, "{there:?}");

        let again = Web::start(&case.torrent);
        drop(web);
        case.complete(&[], &["--mirror", &below(&again)]);
        let ranges = again.ranges(&format!("/files/stopped%20{name}"));
        let asked = ranges.iter().flat_map(|range| range.clone().step_by(PIECE));
        let mut all: Vec<usize> = asked.map(|at| usize::try_from(at).unwrap() / PIECE).collect();
        all.extend(there);
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<_>>(), "each piece once: {ranges:?}");
    }
}

#[test]
fn what_is_there_is_not_asked_for() {
    let (torrent, web) = single("there already", 40 * PIECE, PIECE);
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    case.seed();
    case.complete(&[], &[]);
    assert_eq!(web.connections(), 0);
    let place = fs::File::options().write(true).open(case.place()).unwrap();
    for piece in [3, 4, 5, 20] {
        place.write_all_at(b"damage", (piece * PIECE) as u64).unwrap();
    }
    drop(place);
    case.complete(&[], &[]);
    let bytes = |pieces: Range<usize>| (pieces.start * PIECE) as u64..(pieces.end * PIECE) as u64;
    assert_eq!(web.ranges("/files/there%20already"), [bytes(3..6), bytes(20..21)]);
}

#[test]
fn a_mirror_is_asked_through_the_proxy_that_the_environment_names() {
    // The name has no address: only the proxy can be meant to know it.
    let torrent = Torrent::single("by proxy", PIECE, PIECE);
    let proxy = Web::empty();
    proxy.set_fault(Fault::Status(502, String::new()));
    let case = Case::new(torrent.mirrored_by("http://mirror.invalid/"));
    let mut command = Command::new("env");
    command.arg(format!("all_proxy={}", proxy.root())).arg(program::path());
    let run = case.start_as(command, &[], &["--timeout", "2"]);
    proxy.wait_for(1, 0);
    let outcome = run.wait(LIMIT);
    outcome.assert_status(2);
    assert!(proxy.requests()[0].target.contains("mirror.invalid"), "{:#?}", proxy.requests());
}

#[test]
fn with_little_memory_and_few_descriptors_it_completes() {
    let (torrent, web) = single("little of all", 5 * MIB, PIECE);
    let other = Web::start(&torrent);
    let case = Case::new(torrent.mirrored_by(&below(&web)).mirrored_by(&below(&other)));
    let script = program::descriptors(14);
    let run = case.start_from(&script, &[], &["--max-memory", "10M"]);
    case.assert_complete(&run.wait(LIMIT));
    fs::remove_dir_all(&case.out).unwrap();
    let (outcome, most) = case.start(&[], &["--max-memory", "10M"]).watch(LIMIT);
    case.assert_complete(&outcome);
    assert!(most.anonymous <= 10 << 20, "{most:?}");
}
