//! The built program among peers that misbehave in every way that the tests' peer knows: it gets
//! every byte from whoever is honest, and is done with the others as it should be.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(clippy::print_stdout)] // what was measured

mod support;

use std::fs;
use std::thread;
use std::time::Duration;

use rusty_torrent::limits::{MEMORY_DEFAULT_BYTES, REDIAL_MIN_MS};

use support::case::Case;
use support::peer::{
    Behaviour, Blocks, Choking, Flood, Greeting, Noise, Peer, Record, Silent, Tells,
};
use support::torrent::{Torrent, file};

const PIECE: usize = 32 << 10;
/// The last byte of a bitfield has spare bits, the last piece is short.
const LENGTH: usize = 30 * PIECE + 1000;

/// Whether a peer has shown what it does.
type Shown = fn(&Record) -> bool;

fn odd(change: impl FnOnce(&mut Behaviour)) -> Behaviour {
    let mut behaviour = Behaviour::default();
    change(&mut behaviour);
    behaviour
}

/// Does this for each case, several at a time; the names of all that failed are told at the end.
fn for_each<T: Send>(cases: Vec<(&'static str, T)>, check: impl Fn(&str, T) + Sync) {
    let mut failed = Vec::new();
    let mut cases = cases.into_iter().peekable();
    while cases.peek().is_some() {
        thread::scope(|scope| {
            let check = &check;
            let batch = cases.by_ref().take(8);
            let runs: Vec<_> =
                batch.map(|(name, case)| (name, scope.spawn(move || check(name, case)))).collect();
            for (name, run) in runs {
                failed.extend(run.join().is_err().then_some(name));
            }
        });
    }
    assert_eq!(failed, [""; 0], "these failed, for the reasons above");
}

// ---- oddities that do no harm ------------------------------------------------------------------

#[test]
fn oddities_that_do_no_harm_do_not_end_a_session() {
    let late = Duration::from_millis(300);
    let cases = vec![
        ("have all", odd(|odd| odd.tells = Tells::HaveAll)),
        ("haves", odd(|odd| odd.tells = Tells::Haves)),
        (
            "haves, old wire",
            odd(|odd| (odd.tells, odd.fast, odd.reqq) = (Tells::Haves, false, None)),
        ),
        ("late haves", odd(|odd| odd.tells = Tells::LateHaves(late))),
        ("late haves, old", odd(|odd| (odd.tells, odd.fast) = (Tells::LateHaves(late), false))),
        ("late bitfield", odd(|odd| odd.tells = Tells::LateBitfield)),
        ("spare bits", odd(|odd| odd.tells = Tells::SpareBits)),
        ("two bitfields", odd(|odd| odd.tells = Tells::Twice)),
        ("lets in unasked", odd(|odd| odd.choking = Choking::AtOnce)),
        ("flaps", odd(|odd| odd.choking = Choking::Flaps(5, Duration::from_millis(30)))),
        (
            "flaps, old wire",
            odd(|odd| {
                odd.choking = Choking::Flaps(5, Duration::from_millis(30));
                odd.fast = false;
            }),
        ),
        ("blocks twice", odd(|odd| odd.blocks = Blocks::Twice)),
        ("unknown messages", odd(|odd| odd.noise = Some(Noise::Unknown))),
        ("no dictionary", odd(|odd| odd.noise = Some(Noise::BadHello))),
        ("asks for all", odd(|odd| odd.noise = Some(Noise::Leeches))),
    ];
    for_each(cases, |name, behaviour| {
        let case = Case::new(Torrent::single(&format!("harmless {name}"), LENGTH, PIECE));
        // Alone: there is nobody else who could have brought it.
        let peer = Peer::start(&case.torrent.payload, behaviour);
        case.complete(&[&peer], &[]);
        assert_eq!(peer.record().connections, 1, "{name}");
        assert_eq!(peer.record().uploads, 0, "{name}");
    });
}

#[test]
fn a_seed_that_tells_a_hundred_thousand_pieces_one_by_one_is_kept() {
    const PIECES: usize = 100_000;
    const SMALL: usize = 64;
    for fast in [true, false] {
        let case = Case::new(Torrent::single(&format!("haves {fast}"), PIECES * SMALL, SMALL));
        // All but a little is there: so many pieces take a debug build too long.
        case.seed();
        let mut bytes = fs::read(case.place()).unwrap();
        bytes[..100 * SMALL].fill(0);
        fs::write(case.place(), bytes).unwrap();
        let tells = odd(|odd| (odd.tells, odd.fast) = (Tells::Haves, fast));
        let peer = Peer::start(&case.torrent.payload, tells);
        case.complete(&[&peer], &[]);
        assert_eq!((peer.record().connections, peer.record().sent.len()), (1, 100));
    }
}

#[test]
fn what_is_asked_before_it_is_allowed_is_turned_down() {
    for fast in [true, false] {
        let case = Case::new(Torrent::single(&format!("leech {fast}"), LENGTH, PIECE));
        let behaviour = odd(|odd| (odd.noise, odd.fast) = (Some(Noise::Leeches), fast));
        let peer = Peer::start(&case.torrent.payload, behaviour);
        case.complete(&[&peer], &[]);
        let record = peer.record();
        // Without BEP 6 there is no way to say it but the choke that was not lifted yet.
        let rejects = if fast { case.torrent.payload.pieces() } else { 0 };
        assert_eq!((record.rejects, record.uploads), (rejects, 0));
    }
}

// ---- rules that are broken ---------------------------------------------------------------------

#[test]
fn whoever_breaks_a_rule_is_left_and_another_brings_everything() {
    let cases = vec![
        ("wrong info-hash", odd(|odd| odd.greeting = Greeting::WrongInfoHash)),
        ("own peer id", odd(|odd| odd.greeting = Greeting::EchoesPeerId)),
        ("web server", odd(|odd| odd.greeting = Greeting::Http)),
        ("long bitfield", odd(|odd| odd.tells = Tells::LongBitfield)),
        ("short bitfield", odd(|odd| odd.tells = Tells::ShortBitfield)),
        ("long blocks", odd(|odd| odd.blocks = Blocks::Long)),
        ("corrupt", odd(|odd| odd.blocks = Blocks::Corrupt)),
        ("corrupt at times", odd(|odd| odd.blocks = Blocks::CorruptShare(20))),
        ("corrupt pieces", odd(|odd| odd.blocks = Blocks::CorruptPieces(vec![3, 17]))),
        ("2 GiB message", odd(|odd| odd.noise = Some(Noise::HugeLength))),
        ("long block", odd(|odd| odd.noise = Some(Noise::LongBlock))),
        ("no such piece", odd(|odd| odd.noise = Some(Noise::HaveOutOfRange))),
        ("too many blocks", odd(|odd| odd.noise = Some(Noise::Flood(Flood::Blocks)))),
    ];
    for_each(cases, |name, behaviour| {
        // None of them ends the connection.
        let outcome =
            beside_an_honest_peer(name, behaviour, |bad| bad.connections > 0 && bad.open == 0);
        let banned = outcome.contains("sent wrong data and is banned");
        assert_eq!(banned, name.starts_with("corrupt"), "{outcome}");
    });
}

#[test]
fn whoever_floods_is_left_and_not_dialled_again() {
    let floods = |flood| odd(|odd| odd.noise = Some(Noise::Flood(flood)));
    let cases = vec![
        ("keep-alives", floods(Flood::KeepAlives)),
        ("haves", floods(Flood::Haves)),
        ("requests", floods(Flood::Requests)),
        ("requests, old", Behaviour { fast: false, ..floods(Flood::Requests) }),
        ("cancels", floods(Flood::Cancels)),
        ("unchokes", floods(Flood::Unchokes)),
        ("flaps", floods(Flood::Flaps)),
        ("flaps, old", Behaviour { fast: false, ..floods(Flood::Flaps) }),
        ("interest", floods(Flood::Interest)),
        ("hints", floods(Flood::Hints)),
        ("hellos", floods(Flood::Hellos)),
        ("unknown", floods(Flood::Unknown)),
        ("long unknown", floods(Flood::LongUnknown)),
        ("drips", floods(Flood::Drips)),
    ];
    for_each(cases, |name, behaviour| {
        let case = Case::new(Torrent::single(&format!("flood of {name}"), LENGTH, PIECE));
        let bad = Peer::start(&case.torrent.payload, behaviour);
        // Slow enough that whoever merely broke a rule would be dialled again meanwhile.
        let pause = Duration::from_millis(2 * u64::from(REDIAL_MIN_MS)) / 61;
        let slow = Behaviour { block_pause: pause, ..Behaviour::default() };
        let honest = Peer::closed(&case.torrent.payload, slow);
        let run = case.start(&[&bad, &honest], &["-vv"]);
        bad.wait_until(|bad| bad.connections > 0 && bad.open == 0);
        honest.open();
        let outcome = run.wait(support::case::LIMIT);
        case.assert_complete(&outcome);
        let said = format!("{}: a flood of what brings nothing", bad.address());
        assert!(outcome.stderr.contains(&said), "{name}: {outcome:#?}");
        assert_eq!((bad.record().connections, honest.record().connections), (1, 1), "{name}");
    });
}

#[test]
fn what_a_peer_allows_and_rejects_is_asked_for_once() {
    let case = Case::new(Torrent::single("allows and rejects", LENGTH, PIECE));
    let payload = &case.torrent.payload;
    let bad = Peer::start(
        payload,
        odd(|odd| {
            odd.choking = Choking::Never;
            odd.allowed_fast = (0..payload.pieces()).collect();
            odd.blocks = Blocks::Rejected;
        }),
    );
    let honest = Peer::closed(payload, Behaviour::default());
    let run = case.start(&[&bad, &honest], &[]);
    // All that was allowed is rejected in the end.
    bad.wait_until(|bad| bad.sent.len() > payload.pieces());
    honest.open();
    case.assert_complete(&run.wait(support::case::LIMIT));
    let blocks = 2 * payload.pieces();
    assert!(bad.record().requests.len() <= blocks, "{}", bad.record().requests.len());
}

#[test]
fn peers_that_bring_nothing_keep_nobody_from_finishing() {
    let sent = |bad: &Record| !bad.sent.is_empty();
    let told = |bad: &Record| bad.first.is_some();
    let cases: Vec<(_, (_, Shown))> = vec![
        ("closes", (odd(|odd| odd.greeting = Greeting::Closes), |bad| bad.handshakes > 0)),
        ("tells nothing", (odd(|odd| odd.tells = Tells::Nothing), told)),
        ("never lets in", (odd(|odd| odd.choking = Choking::Never), |bad| bad.interested > 0)),
        (
            "slow handshake",
            (odd(|odd| odd.greeting = Greeting::Trickles), |bad| bad.handshakes > 0),
        ),
        (
            "after accept",
            (odd(|odd| odd.silent = Some(Silent::AfterAccept)), |bad| bad.connections > 0),
        ),
        (
            "after handshake",
            (odd(|odd| odd.silent = Some(Silent::AfterHandshake)), |bad| bad.handshakes > 0),
        ),
        (
            "after bitfield",
            (odd(|odd| odd.silent = Some(Silent::AfterBitfield)), |bad| bad.handshakes > 0),
        ),
        (
            "after some blocks",
            (odd(|odd| odd.silent = Some(Silent::AfterBlocks(9))), |bad| bad.sent.len() == 9),
        ),
        ("inside a block", (odd(|odd| odd.silent = Some(Silent::InsideFirstBlock)), sent)),
        ("wrong piece", (odd(|odd| odd.blocks = Blocks::WrongPiece), sent)),
        ("wrong begin", (odd(|odd| odd.blocks = Blocks::WrongBegin), sent)),
        // One of them may be wrong data for a block that is asked for.
        ("unasked blocks", (odd(|odd| odd.blocks = Blocks::Unrequested), sent)),
        ("overflowing blocks", (odd(|odd| odd.blocks = Blocks::Overflowing), sent)),
        ("empty blocks", (odd(|odd| odd.blocks = Blocks::Empty), sent)),
        ("short blocks", (odd(|odd| odd.blocks = Blocks::Short), sent)),
        ("resets", (odd(|odd| odd.blocks = Blocks::ResetInside(9)), |bad| bad.sent.len() >= 9)),
        ("trickles", (odd(|odd| odd.blocks = Blocks::Trickle), sent)),
        ("rejects all", (odd(|odd| odd.blocks = Blocks::Rejected), sent)),
    ];
    for_each(cases, |name, (behaviour, shown)| {
        beside_an_honest_peer(name, behaviour, shown);
    });
}

/// Downloads from the bad peer until it is as bad as `shown` says, and only then from an honest
/// one as well. Returns what was said.
fn beside_an_honest_peer(
    name: &str,
    behaviour: Behaviour,
    shown: impl Fn(&Record) -> bool,
) -> String {
    let case = Case::new(Torrent::single(&format!("beside {name}"), LENGTH, PIECE));
    let bad = Peer::start(&case.torrent.payload, behaviour);
    let honest = Peer::closed(&case.torrent.payload, Behaviour::default());
    let run = case.start(&[&bad, &honest], &[]);
    bad.wait_until(shown);
    honest.open();
    let outcome = run.wait(support::case::LIMIT);
    case.assert_complete(&outcome);
    assert!(!honest.record().sent.is_empty(), "{name}");
    assert_eq!(honest.record().connections, 1, "{name}: the honest one is kept");
    outcome.stderr
}

#[test]
fn silent_peers_keep_no_block_between_them() {
    // So little that each is asked for what the other is late with.
    let case = Case::new(Torrent::single("between them", 3 << 14, PIECE));
    let payload = &case.torrent.payload;
    let silent = odd(|odd| odd.silent = Some(Silent::InsideFirstBlock));
    let silent = [(); 3].map(|()| Peer::start(payload, silent.clone()));
    let honest = Peer::closed(payload, Behaviour::default());
    let run = case.start(&[&silent[0], &silent[1], &silent[2], &honest], &[]);
    for peer in &silent {
        peer.wait_until(|peer| !peer.sent.is_empty());
    }
    honest.open();
    case.assert_complete(&run.wait(support::case::LIMIT));
}

// ---- wrong data --------------------------------------------------------------------------------

#[test]
fn whoever_sends_wrong_data_is_banned_for_the_run() {
    let case = Case::new(Torrent::single("banned", LENGTH, PIECE));
    let corrupt = Behaviour { blocks: Blocks::Corrupt, ..Behaviour::default() };
    let bad = Peer::start(&case.torrent.payload, corrupt);
    let echo = odd(|odd| odd.greeting = Greeting::EchoesPeerId);
    let ourselves = Peer::start(&case.torrent.payload, echo);
    // Slow enough that whoever merely failed would be dialled again meanwhile.
    let pause = Duration::from_millis(2 * u64::from(REDIAL_MIN_MS)) / 61;
    let slow = Behaviour { block_pause: pause, ..Behaviour::default() };
    let honest = Peer::closed(&case.torrent.payload, slow);
    let run = case.start(&[&bad, &ourselves, &honest], &[]);
    bad.wait_until(|bad| bad.connections > 0 && bad.open == 0);
    honest.open();
    let outcome = run.wait(support::case::LIMIT);
    case.assert_complete(&outcome);
    assert_eq!(bad.record().connections, 1);
    assert_eq!(ourselves.record().connections, 1, "nobody is dialled twice who is ourselves");
    let said = format!("{} sent wrong data and is banned", bad.address());
    assert_eq!(outcome.stderr.matches("banned").count(), 1, "{outcome:#?}");
    assert!(outcome.stderr.contains(&said), "{outcome:#?}");
}

#[test]
fn among_many_senders_of_a_piece_only_the_guilty_one_is_banned() {
    // Pieces of 64 blocks that all work on together.
    let case = Case::new(Torrent::single("shared guilt", 2 << 20, 1 << 20));
    let pause = Duration::from_millis(4);
    let with = |blocks| Behaviour { blocks, block_pause: pause, ..Behaviour::default() };
    let bad = Peer::start(&case.torrent.payload, with(Blocks::CorruptShare(30)));
    let honest: Vec<Peer> =
        (0..3).map(|_| Peer::closed(&case.torrent.payload, with(Blocks::Honest))).collect();
    let mut peers: Vec<&Peer> = honest.iter().collect();
    peers.push(&bad);
    let run = case.start(&peers, &[]);
    bad.wait_until(|bad| bad.sent.len() > 4);
    honest.iter().for_each(Peer::open);
    let outcome = run.wait(support::case::LIMIT);
    case.assert_complete(&outcome);
    for peer in &honest {
        assert!(!outcome.stderr.contains(&peer.address().to_string()), "{outcome:#?}");
        assert_eq!(peer.record().connections, 1);
    }
}

#[test]
fn forty_liars_are_banned_and_an_honest_peer_is_enough() {
    let case = Case::new(Torrent::single("forty liars", 4 << 20, 4 * PIECE));
    let payload = &case.torrent.payload;
    let lies = odd(|odd| odd.blocks = Blocks::Corrupt);
    let liars: Vec<Peer> = (0..40).map(|_| Peer::start(payload, lies.clone())).collect();
    let slow = Behaviour { block_pause: Duration::from_millis(10), ..Behaviour::default() };
    let honest = Peer::start(payload, slow);
    let mut peers: Vec<&Peer> = liars.iter().collect();
    peers.push(&honest);
    let outcome = case.complete(&peers, &[]);
    assert!(!outcome.stderr.contains(&honest.address().to_string()), "{outcome:#?}");
    assert_eq!(honest.record().connections, 1);
    let is_banned = |liar: &&Peer| {
        outcome.stderr.contains(&format!("{} sent wrong data and is banned", liar.address()))
    };
    let banned: Vec<&Peer> = liars.iter().filter(is_banned).collect();
    assert!(!banned.is_empty() && banned.iter().all(|liar| liar.record().connections == 1));
}

// ---- all at once -------------------------------------------------------------------------------

#[test]
fn a_crowd_of_every_kind_keeps_nobody_from_finishing() {
    let files = [file("a", 10 * PIECE + 1), file("empty", 0), file("b", 30 * PIECE)];
    let case = Case::new(Torrent::multi("crowd", &files, PIECE));
    let payload = &case.torrent.payload;
    let crowd = [
        odd(|odd| odd.blocks = Blocks::Corrupt),
        odd(|odd| odd.blocks = Blocks::CorruptShare(50)),
        odd(|odd| odd.blocks = Blocks::Unrequested),
        odd(|odd| odd.blocks = Blocks::ResetInside(5)),
        odd(|odd| odd.blocks = Blocks::Rejected),
        odd(|odd| odd.blocks = Blocks::WrongPiece),
        odd(|odd| odd.blocks = Blocks::Trickle),
        odd(|odd| odd.silent = Some(Silent::AfterBlocks(3))),
        odd(|odd| odd.silent = Some(Silent::InsideFirstBlock)),
        odd(|odd| odd.choking = Choking::Flaps(2, Duration::from_millis(50))),
        odd(|odd| odd.noise = Some(Noise::Flood(Flood::Requests))),
        odd(|odd| odd.noise = Some(Noise::Flood(Flood::KeepAlives))),
        odd(|odd| odd.has = Some(vec![1, 3])),
    ];
    let mut peers: Vec<Peer> =
        crowd.into_iter().map(|behaviour| Peer::start(payload, behaviour)).collect();
    let slow = Behaviour { block_pause: Duration::from_millis(20), ..Behaviour::default() };
    peers.push(Peer::start(payload, slow));
    case.complete(&peers.iter().collect::<Vec<_>>(), &[]);
}

/// Forty ways to be of no use, or worse. What good blocks there are come slowly.
fn forty() -> Vec<Behaviour> {
    let slow = Duration::from_millis(200);
    let noise = |noise| odd(|odd| odd.noise = Some(noise));
    let floods = |flood| noise(Noise::Flood(flood));
    let blocks = |blocks| odd(|odd| odd.blocks = blocks);
    let tells = |tells| odd(|odd| odd.tells = tells);
    let silent = |silent| odd(|odd| odd.silent = Some(silent));
    let greeting = |greeting| odd(|odd| odd.greeting = greeting);
    let forty = [
        greeting(Greeting::WrongInfoHash),
        greeting(Greeting::EchoesPeerId),
        greeting(Greeting::Http),
        greeting(Greeting::Closes),
        greeting(Greeting::Trickles),
        silent(Silent::AfterAccept),
        silent(Silent::AfterHandshake),
        silent(Silent::AfterBitfield),
        silent(Silent::AfterBlocks(3)),
        silent(Silent::InsideFirstBlock),
        tells(Tells::LongBitfield),
        tells(Tells::ShortBitfield),
        tells(Tells::LateBitfield),
        tells(Tells::Nothing),
        noise(Noise::HugeLength),
        noise(Noise::LongBlock),
        noise(Noise::HaveOutOfRange),
        floods(Flood::KeepAlives),
        floods(Flood::Haves),
        floods(Flood::Requests),
        floods(Flood::Cancels),
        floods(Flood::Flaps),
        floods(Flood::Interest),
        floods(Flood::Hints),
        floods(Flood::Hellos),
        floods(Flood::Unknown),
        floods(Flood::LongUnknown),
        floods(Flood::Blocks),
        floods(Flood::Drips),
        odd(|odd| odd.choking = Choking::Flaps(1, Duration::from_millis(5))),
        blocks(Blocks::Corrupt),
        blocks(Blocks::CorruptShare(50)),
        blocks(Blocks::WrongPiece),
        blocks(Blocks::WrongBegin),
        blocks(Blocks::Overflowing),
        blocks(Blocks::Short),
        blocks(Blocks::Unrequested),
        blocks(Blocks::ResetInside(2)),
        blocks(Blocks::Trickle),
        blocks(Blocks::Rejected),
    ];
    forty.map(|behaviour| Behaviour { block_pause: slow, ..behaviour }).into()
}

#[test]
fn one_honest_peer_among_forty_hostile_ones_is_enough() {
    const BLOCK: usize = 16 << 10;
    let case = Case::new(Torrent::single("forty", 256 * BLOCK, 4 * BLOCK));
    let payload = &case.torrent.payload;
    // Some of them are of use at times. The honest one is to be there before they have all ended,
    // and slow enough to see them come again.
    let hostile: Vec<Peer> =
        forty().into_iter().map(|behaviour| Peer::start(payload, behaviour)).collect();
    let slow = Behaviour { block_pause: Duration::from_millis(25), ..Behaviour::default() };
    let honest = Peer::start(payload, slow);
    let mut peers: Vec<&Peer> = hostile.iter().collect();
    peers.push(&honest);
    let (outcome, most) = case.start(&peers, &[]).watch(support::case::LIMIT);
    case.assert_complete(&outcome);
    println!("{:?}, {most:?}", outcome.elapsed);
    assert_eq!(hostile.len(), 40);
    assert!(hostile.iter().all(|peer| peer.record().connections > 0), "all had their turn");
    let record = honest.record();
    assert_eq!(record.connections, 1, "the honest one is kept");
    // What the others spoil is fetched again, and in the end it is asked for what they are late
    // with; that is little.
    assert!(record.sent.len() <= 256 * 5 / 4, "{} blocks", record.sent.len());
    assert!(most.anonymous > 0 && most.anonymous <= MEMORY_DEFAULT_BYTES / 2, "{most:?}");
    // In a debug build. One that could go on would take a core.
    assert!(most.worked < Duration::from_secs(2), "{most:?}");
}

#[test]
#[ignore = "measures for a minute; with --release and --nocapture"]
fn the_rate_of_an_honest_peer_beside_forty_hostile_ones() {
    const BLOCK: usize = 16 << 10;
    let run = |name: &str, length: usize, pause, hostile: Vec<Behaviour>| {
        let case = Case::new(Torrent::single(name, length, 16 * BLOCK));
        let payload = &case.torrent.payload;
        let hostile: Vec<Peer> =
            hostile.into_iter().map(|behaviour| Peer::start(payload, behaviour)).collect();
        let honest = Peer::start(payload, Behaviour { block_pause: pause, ..Behaviour::default() });
        let mut peers: Vec<&Peer> = hostile.iter().collect();
        peers.push(&honest);
        let (outcome, most) = case.start(&peers, &[]).watch(support::case::LIMIT);
        case.assert_complete(&outcome);
        let again = hostile.iter().map(|peer| peer.record().connections).sum::<usize>();
        println!(
            "{name}: {:.2} s, worked {:?}, {} KiB, the honest one sent {} of {} blocks, \
             {again} connections to {} others",
            outcome.elapsed.as_secs_f64(),
            most.worked,
            most.anonymous / 1024,
            honest.record().sent.len(),
            length.div_ceil(BLOCK),
            hostile.len(),
        );
    };
    let paces = [("as fast as it can", 512 << 20, 0), ("8 MiB a second", 64 << 20, 1950)];
    for (pace, length, pause) in paces {
        let pause = Duration::from_micros(pause);
        run(&format!("alone, {pace}"), length, pause, vec![]);
        run(&format!("beside forty, {pace}"), length, pause, forty());
    }
    let floods = [
        Flood::KeepAlives,
        Flood::Haves,
        Flood::Requests,
        Flood::Cancels,
        Flood::Unchokes,
        Flood::Flaps,
        Flood::Interest,
        Flood::Hints,
        Flood::Hellos,
        Flood::Unknown,
        Flood::LongUnknown,
        Flood::Blocks,
        Flood::Drips,
    ];
    for flood in floods {
        let flooder = odd(|odd| odd.noise = Some(Noise::Flood(flood)));
        let pause = Duration::from_micros(3_900);
        run(&format!("beside 10 of {flood:?}, 4 MiB a second"), 16 << 20, pause, vec![flooder; 10]);
    }
}

#[test]
fn useless_peers_make_room_for_a_good_one() {
    let case = Case::new(Torrent::single("useless", LENGTH, PIECE));
    let payload = &case.torrent.payload;
    let kinds = [
        // Those that choke are waited for longer, so they come first and in the first round only.
        odd(|odd| odd.choking = Choking::Never),
        odd(|odd| odd.silent = Some(Silent::AfterHandshake)),
        odd(|odd| odd.tells = Tells::Nothing),
        odd(|odd| odd.blocks = Blocks::Trickle),
        odd(|odd| odd.blocks = Blocks::Rejected),
        odd(|odd| odd.silent = Some(Silent::InsideFirstBlock)),
    ];
    let kind = |number: usize| match number {
        0..5 => &kinds[0],
        _ => &kinds[1 + number % 5],
    };
    let useless: Vec<Peer> =
        (0..40).map(|number| Peer::start(payload, kind(number).clone())).collect();
    let good = Peer::honest(payload);
    let mut peers: Vec<&Peer> = useless.iter().collect();
    peers.push(&good);
    let outcome = case.complete(&peers, &["--max-peers", "20"]);
    assert!(useless.iter().all(|peer| peer.record().connections > 0), "all had their turn");
    assert!(good.record().sent.len() >= case.torrent.payload.bytes.len() / (16 << 10));
    // Where it is no terminal, how far it is is told in whole lines.
    assert!(outcome.stderr.contains("0.0 %, 0 B of "), "{outcome:#?}");
    assert!(!outcome.stderr.contains(['\x1b', '\r']), "{outcome:#?}");
}
