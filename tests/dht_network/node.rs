//! One node of ours alone with somebody who knows the protocol well: what it answers to whom, whom
//! it believes, and what it costs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rusty_torrent::limits::{
    ANSWERS_BURST_BYTES, ANSWERS_MAX_BYTES_PER_S, DHT_DATAGRAM_SENT_MAX_BYTES, DHT_NODE_BYTES,
    PEERS_FOUND_MAX, PEERS_TOLD_MAX, PEERS_TOLD_STRANGERS_MAX, PEERS_V6_TOLD_MAX, SEARCHES_MAX,
};
use rusty_torrent::policy::dht::{Datagram, Dht, Setup};
use rusty_torrent::protocol::krpc::{
    Body, Contact, ErrorCode, Family, Message, Query, Response, Want,
};
use rusty_torrent::protocol::node_id::NodeId;
use rusty_torrent::units::InfoHash;

use crate::heap;
use crate::hostile::near;

const HASH: InfoHash = InfoHash([0x5a; 20]);
const GET_PEERS: Query = Query::GetPeers { info_hash: HASH, want: Want { v4: false, v6: false } };

/// A node of ours and its time.
struct Talk {
    dht: Dht,
    now: Instant,
    rng: fastrand::Rng,
}

impl Talk {
    fn new(family: Family, read_only: bool) -> Self {
        let now = Instant::now();
        let setup = Setup { family, seed: [7; 32], read_only, kept: None };
        Self { dht: Dht::new(&setup, now), now, rng: fastrand::Rng::with_seed(1) }
    }

    fn id(&mut self) -> NodeId {
        NodeId(std::array::from_fn(|_| self.rng.u8(..)))
    }

    /// Somebody asks something, and gets an answer or none.
    fn ask(&mut self, from: SocketAddr, query: Query) -> Option<Body> {
        let body = Body::Query(self.id(), query);
        let bytes = message(b"tx", body).encode();
        let answer = self.dht.on_datagram(from, &bytes, self.now)?;
        assert!(answer.len() <= DHT_DATAGRAM_SENT_MAX_BYTES, "{} bytes", answer.len());
        let answer = Message::decode(&answer).unwrap();
        assert_eq!((answer.transaction.as_slice(), answer.asker), (b"tx".as_slice(), Some(from)));
        Some(answer.body)
    }

    fn response(&mut self, from: SocketAddr, query: Query) -> Response {
        match self.ask(from, query) {
            Some(Body::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    /// What it sends now, after so many milliseconds.
    fn sends(&mut self, after_ms: u64) -> Vec<Datagram> {
        self.now += Duration::from_millis(after_ms);
        self.dht.poll(self.now)
    }

    /// A question of ours is answered from `from`.
    fn answer(&mut self, question: &Datagram, from: SocketAddr, response: Response) {
        let transaction = Message::decode(&question.bytes).unwrap().transaction;
        let bytes = message(&transaction, Body::Response(response)).encode();
        assert_eq!(self.dht.on_datagram(from, &bytes, self.now), None);
    }

    /// The node at `address` is one that answers from now on.
    fn befriend(&mut self, address: SocketAddr) {
        self.dht.add_contact(address, self.now);
        let sent = self.sends(1_000);
        let ping = sent.iter().find(|datagram| datagram.to == address).expect("a ping");
        let response = Response::new(self.id());
        self.answer(ping, address, response);
    }

    fn announce(&mut self, from: SocketAddr, port: u16, implied_port: bool) -> Option<Body> {
        let token = self.response(from, GET_PEERS).token.unwrap();
        self.ask(from, Query::AnnouncePeer { info_hash: HASH, port, implied_port, token })
    }
}

fn message(transaction: &[u8], body: Body) -> Message {
    Message { transaction: transaction.to_vec(), body, asker: None, read_only: false }
}

fn query_of(datagram: &Datagram) -> Query {
    match Message::decode(&datagram.bytes).unwrap().body {
        Body::Query(_, query) => query,
        other => panic!("{other:?}"),
    }
}

/// Somewhere in the world, in a network of its own.
fn far(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    ([20, high, low, 7], 6881).into()
}

fn far_v6(number: u16) -> SocketAddr {
    ([0x2001, 0xdb8, number, 0, 0, 0, 0, 7], 6881).into()
}

// ---- what it answers ---------------------------------------------------------------------------

#[test]
fn a_peer_is_told_that_was_announced_with_a_token() {
    let mut talk = Talk::new(Family::V4, false);
    assert_eq!(talk.response(far(1), GET_PEERS).values, []);
    assert!(matches!(talk.announce(far(1), 7001, false), Some(Body::Response(_))));
    assert!(matches!(talk.announce(far(2), 7001, true), Some(Body::Response(_))));
    let peer = |address: SocketAddr, port| SocketAddr::new(address.ip(), port);
    let mut told = talk.response(far(3), GET_PEERS).values;
    told.sort();
    assert_eq!(told, [peer(far(1), 7001), peer(far(2), 6881)]);

    // A token is one address's, and not for ever.
    let token = talk.response(far(4), GET_PEERS).token.unwrap();
    let announce = |token: &[u8]| Query::AnnouncePeer {
        info_hash: HASH,
        port: 1,
        implied_port: false,
        token: token.to_vec(),
    };
    let refused = Some(Body::Error(ErrorCode::PROTOCOL));
    assert_eq!(talk.ask(far(5), announce(&token)), refused);
    assert_eq!(talk.ask(far(4), announce(b"aoeusnth")), refused);
    assert_eq!(talk.ask(far(4), announce(b"")), refused);
    talk.now += Duration::from_secs(601);
    assert_eq!(talk.ask(far(4), announce(&token)), refused);
    assert_eq!(talk.response(far(3), GET_PEERS).values.len(), 2);
    talk.now += Duration::from_secs(30 * 60);
    assert_eq!(talk.response(far(3), GET_PEERS).values, []);
}

#[test]
fn whoever_is_not_known_gets_little_more_than_it_sent() {
    for (family, at, most) in [
        (Family::V4, far as fn(u16) -> SocketAddr, PEERS_TOLD_MAX),
        (Family::V6, far_v6, PEERS_V6_TOLD_MAX),
    ] {
        let mut talk = Talk::new(family, false);
        for number in 0..60 {
            talk.befriend(at(number));
            talk.now += Duration::from_secs(2);
            talk.announce(at(number), 7001, false);
        }
        let wide = Query::GetPeers { info_hash: HASH, want: Want { v4: true, v6: true } };
        let known = talk.response(at(59), wide.clone());
        assert_eq!((known.values.len(), known.nodes.len()), (most, 8));
        let stranger = talk.response(at(999), wide);
        assert_eq!((stranger.values.len(), stranger.nodes.len()), (PEERS_TOLD_STRANGERS_MAX, 8));

        // The shortest question that gets the longest answer.
        let question = "d1:ad2:id20:abcdefghij01234567899:info_hash20:ZZZZZZZZZZZZZZZZZZZZe\
                        1:q9:get_peers1:t0:1:y1:qe";
        let answer = talk.dht.on_datagram(at(998), question.as_bytes(), talk.now).unwrap();
        let times = if family == Family::V4 { 5 } else { 8 };
        assert!(answer.len() <= times * question.len(), "{}", answer.len());
        // And the longest answer there is.
        let question = question.replace("t0:", &format!("t32:{}", "t".repeat(32)));
        let answer = talk.dht.on_datagram(at(59), question.as_bytes(), talk.now).unwrap();
        assert!(answer.len() <= DHT_DATAGRAM_SENT_MAX_BYTES, "{}", answer.len());

        // Nodes of the other family are not ours to name.
        let (v4, v6) = (family == Family::V6, family == Family::V4);
        let target = NodeId(HASH.0);
        let others = talk.response(at(997), Query::FindNode { target, want: Want { v4, v6 } });
        assert_eq!(others.nodes, []);
    }
}

#[test]
fn a_flood_is_answered_with_no_more_than_the_budget() {
    let mut talk = Talk::new(Family::V4, false);
    (0..20).for_each(|number| talk.befriend(far(number)));
    let [mut all, mut victim] = [0_u32; 2];
    let mut pings = [0_u32; 2];
    for ms in 0..60_000_u32 {
        talk.now += Duration::from_millis(1);
        // Each question has somebody else's address on it, every second one that of one victim.
        let from = match ms % 2 {
            0 => SocketAddr::from(([90, 1, 1, 1], u16::try_from(ms % 5_000).unwrap() + 1)),
            _ => SocketAddr::from(((91 << 24 | ms << 8 | 7).to_be_bytes(), 6881)),
        };
        let query = message(b"tx", Body::Query(talk.id(), GET_PEERS)).encode();
        if let Some(answer) = talk.dht.on_datagram(from, &query, talk.now) {
            let bytes = u32::try_from(answer.len()).unwrap();
            all += bytes;
            victim += if ms % 2 == 0 { bytes } else { 0 };
        }
        for datagram in talk.dht.poll(talk.now) {
            pings[usize::from(datagram.to.ip() == far(0).ip())] += 1;
        }
    }
    let budget = 60 * ANSWERS_MAX_BYTES_PER_S + ANSWERS_BURST_BYTES + 1_024;
    assert!(all <= budget, "{all} of {budget}");
    assert!(victim <= 300 * 400, "{victim} bytes to one network");
    assert!(pings[0] <= 60 * 6, "{pings:?}");
}

#[test]
fn what_is_no_question_is_not_answered() {
    let mut talk = Talk::new(Family::V4, false);
    let own = talk.dht.id();
    let pong = message(b"tx", Body::Response(Response::new(NodeId([1; 20])))).encode();
    let error = message(b"tx", Body::Error(ErrorCode::GENERIC)).encode();
    let ping = |id| message(b"tx", Body::Query(id, Query::Ping)).encode();
    let from_ourselves = ping(own);
    let cases: [(&str, &[u8]); 8] = [
        ("192.0.2.1:6881", &pong),
        ("192.0.2.1:6881", &error),
        ("192.0.2.1:6881", b"garbage"),
        ("192.0.2.1:6881", &from_ourselves),
        ("192.0.2.1:0", &ping(NodeId([1; 20]))),
        ("224.0.0.1:6881", &ping(NodeId([1; 20]))),
        ("0.0.0.0:6881", &ping(NodeId([1; 20]))),
        ("[2001:db8::1]:6881", &ping(NodeId([1; 20]))),
    ];
    for (from, bytes) in cases {
        assert_eq!(talk.dht.on_datagram(from.parse().unwrap(), bytes, talk.now), None, "{from}");
    }
    let unknown = "d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t1:x1:y1:qe";
    let answer = talk.dht.on_datagram(far(1), unknown.as_bytes(), talk.now).unwrap();
    let answer = Message::decode(&answer).unwrap();
    assert_eq!(answer.body, Body::Error(ErrorCode::METHOD_UNKNOWN));
}

#[test]
fn a_node_that_only_asks_says_so_and_answers_nobody() {
    let mut talk = Talk::new(Family::V4, true);
    assert_eq!(talk.ask(far(1), Query::Ping), None);
    let broken = b"d1:q4:ping1:t1:x1:y1:qe";
    assert_eq!(talk.dht.on_datagram(far(1), broken, talk.now), None);
    assert_eq!(talk.sends(1_000), []);
    talk.dht.add_contact(far(2), talk.now);
    let sent = talk.sends(1_000);
    assert!(Message::decode(&sent[0].bytes).unwrap().read_only);

    // And nobody asks one.
    let mut talk = Talk::new(Family::V4, false);
    let mut ping = message(b"tx", Body::Query(NodeId([1; 20]), Query::Ping));
    ping.read_only = true;
    assert!(talk.dht.on_datagram(far(1), &ping.encode(), talk.now).is_some());
    assert_eq!(talk.sends(1_000), []);
    ping.read_only = false;
    assert!(talk.dht.on_datagram(far(1), &ping.encode(), talk.now).is_some());
    assert_eq!(talk.sends(1_000).len(), 1);
}

// ---- whom it believes --------------------------------------------------------------------------

#[test]
fn only_who_was_asked_can_answer() {
    let mut talk = Talk::new(Family::V4, false);
    talk.dht.search(HASH, None, talk.now);
    talk.dht.add_router(far(1), talk.now);
    let sent = talk.sends(0);
    let question = sent.iter().find(|datagram| query_of(datagram) == GET_PEERS).unwrap().clone();
    assert_eq!(question.to, far(1));
    let peer: SocketAddr = "198.51.100.1:7001".parse().unwrap();
    let lie = || Response { values: vec![peer], ..Response::new(NodeId([1; 20])) };
    // From elsewhere, with the right number.
    talk.answer(&question, far(2), lie());
    talk.answer(&question, SocketAddr::new(far(1).ip(), 6882), lie());
    // From there, with a wrong one.
    let transaction = Message::decode(&question.bytes).unwrap().transaction;
    for at in 0..transaction.len() {
        let mut wrong = transaction.clone();
        wrong[at] ^= 1;
        let bytes = message(&wrong, Body::Response(lie())).encode();
        assert_eq!(talk.dht.on_datagram(far(1), &bytes, talk.now), None);
    }
    assert_eq!(talk.dht.take_found(), []);
    talk.answer(&question, far(1), lie());
    talk.answer(&question, far(1), lie());
    assert_eq!(talk.dht.take_found(), [(HASH, peer)]);

    // Too late.
    talk.sends(400_000);
    talk.dht.want_peers(HASH, talk.now);
    let sent = talk.sends(61_000);
    let question = sent.iter().find(|datagram| query_of(datagram) == GET_PEERS).unwrap().clone();
    talk.sends(5_000);
    talk.answer(&question, far(1), lie());
    assert_eq!(talk.dht.take_found(), []);
}

#[test]
fn numbers_of_questions_say_nothing_of_the_next_ones() {
    let mut talk = Talk::new(Family::V4, false);
    let mut seen = BTreeSet::new();
    for number in 1..=30 {
        talk.dht.add_contact(far(number), talk.now);
        for datagram in talk.sends(200) {
            let transaction = Message::decode(&datagram.bytes).unwrap().transaction;
            assert_eq!(transaction.len(), 4);
            assert!(seen.insert(transaction), "each is another one");
        }
    }
    let count = seen.len();
    assert!(count >= 30, "{count}");
    // About half of all bits are set, in each place.
    for bit in 0..32 {
        let set = seen.iter().filter(|id| id[bit / 8] & 1 << (bit % 8) != 0).count();
        assert!((count / 5..count * 4 / 5).contains(&set), "bit {bit}: {set} of {count}");
    }
}

#[test]
fn what_is_local_is_named_only_by_who_is_local() {
    let local = "127.0.0.1:7001";
    let private = "10.0.0.1:7001";
    let global = "198.51.100.1:7001";
    let bad = ["198.51.100.1:0", "224.0.0.1:7001", "0.0.0.0:7001", "[2001:db8::1]:7001"];
    let all = [local, private, global].into_iter().chain(bad);
    let all: Vec<SocketAddr> = all.map(|address| address.parse().unwrap()).collect();
    for (router, expected) in [
        ("127.0.0.1:6881", vec![local, private, global]),
        ("10.9.9.9:6881", vec![private, global]),
        ("192.0.2.1:6881", vec![global]),
    ] {
        let router: SocketAddr = router.parse().unwrap();
        let mut talk = Talk::new(Family::V4, false);
        talk.dht.add_router(router, talk.now);
        talk.dht.search(HASH, None, talk.now);
        for question in talk.sends(0) {
            let contact = |address: &SocketAddr| Contact { id: talk.id(), address: *address };
            let nodes = all.iter().map(contact).collect();
            let response = Response { nodes, values: all.clone(), ..Response::new(talk.id()) };
            talk.answer(&question, router, response);
        }
        let expected: Vec<SocketAddr> =
            expected.iter().map(|address| address.parse().unwrap()).collect();
        let found: Vec<_> = talk.dht.take_found().into_iter().map(|(_, peer)| peer).collect();
        assert_eq!(found, expected, "{router}");
        let mut asked: Vec<_> = talk.sends(1_000).into_iter().map(|question| question.to).collect();
        asked.sort();
        asked.dedup();
        assert!(asked.iter().all(|address| expected.contains(address)), "{router}: {asked:?}");
        assert_eq!(asked.len(), expected.len());
    }
}

#[test]
fn addresses_that_are_none_are_not_asked() {
    let mut talk = Talk::new(Family::V4, false);
    for address in ["192.0.2.1:0", "0.0.0.0:1", "224.0.0.1:1", "[2001:db8::1]:1"] {
        talk.dht.add_contact(address.parse().unwrap(), talk.now);
        talk.dht.add_router(address.parse().unwrap(), talk.now);
    }
    assert_eq!(talk.sends(10_000), []);
}

#[test]
fn our_id_follows_our_address_when_many_say_where_we_are() {
    let mut talk = Talk::new(Family::V4, false);
    let ours: SocketAddr = "192.0.2.77:6881".parse().unwrap();
    let first = talk.dht.id();
    for number in 0..20 {
        talk.dht.add_contact(far(number), talk.now);
        let sent = talk.sends(1_000);
        let ping = sent.iter().find(|datagram| datagram.to == far(number)).unwrap();
        let transaction = Message::decode(&ping.bytes).unwrap().transaction;
        // Each fourth one lies, and one repeats itself.
        let asker = if number % 4 == 0 { far(9_999) } else { ours };
        let mut pong = message(&transaction, Body::Response(Response::new(talk.id())));
        pong.asker = Some(asker);
        talk.dht.on_datagram(far(number), &pong.encode(), talk.now);
        assert!(number >= 10 || talk.dht.id() == first, "{number} were enough");
    }
    assert_ne!(talk.dht.id(), first);
    assert!(talk.dht.id().fits(ours.ip()));
    assert!(talk.dht.count(talk.now).0 >= 8, "it still knows them");
}

// ---- what it costs -----------------------------------------------------------------------------

/// The most that can be had in local addresses, which are free: each port is a network of its own.
#[test]
fn whatever_others_say_it_takes_no_more_memory_than_is_reckoned_with() {
    for family in [Family::V4, Family::V6] {
        let (held, most) = heap::most(|| {
            let mut talk = Talk::new(family, false);
            let at = |rng: &mut fastrand::Rng| match family {
                Family::V4 => SocketAddr::from(([10, rng.u8(..), rng.u8(..), 1], rng.u16(1..))),
                Family::V6 => ([0xfd00, rng.u16(..), 0, 0, 0, 0, 0, 1], rng.u16(1..)).into(),
            };
            for number in 0..2 * SEARCHES_MAX {
                let mut hash = HASH;
                hash.0[0] = u8::try_from(number).unwrap() * 16;
                talk.dht.search(hash, Some(7001), talk.now);
            }
            for _ in 0..50 {
                let (router, contact) = (at(&mut talk.rng), at(&mut talk.rng));
                talk.dht.add_router(router, talk.now);
                talk.dht.add_contact(contact, talk.now);
            }
            for turn in 0..700 {
                for question in talk.sends(200) {
                    let own = talk.dht.id();
                    let rng = &mut talk.rng;
                    let target = match query_of(&question) {
                        Query::FindNode { target, .. } => target,
                        Query::GetPeers { info_hash, .. } => info_hash.into(),
                        _ => own,
                    };
                    let random = std::array::from_fn(|_| rng.u8(..));
                    let nodes =
                        (0..16).map(|_| Contact { id: near(target, rng), address: at(rng) });
                    let nodes = nodes.collect();
                    let response = Response {
                        nodes,
                        values: (0..60).map(|_| at(rng)).collect(),
                        token: Some(vec![1; 64]),
                        id: if turn % 2 == 0 {
                            target.beside(rng.usize(..40), random)
                        } else {
                            own.beside(rng.usize(..40), random)
                        },
                    };
                    // Some are silent, so that as many as may be are waited for.
                    if rng.u8(..4) > 0 {
                        talk.answer(&question, question.to, response);
                    }
                }
                for _ in 0..3 {
                    let from = at(&mut talk.rng);
                    let hash = InfoHash(talk.id().0);
                    let query = Query::GetPeers { info_hash: hash, want: Want::default() };
                    if let Some(Body::Response(response)) = talk.ask(from, query) {
                        let token = response.token.unwrap();
                        let info_hash = InfoHash(talk.dht.id().beside(turn % 159, hash.0).0);
                        talk.ask(
                            from,
                            Query::AnnouncePeer {
                                info_hash,
                                port: 7001,
                                implied_port: false,
                                token,
                            },
                        );
                    }
                }
            }
            let found = talk.dht.take_found();
            assert_eq!(found.len(), PEERS_FOUND_MAX);
            let (nodes, _) = talk.dht.count(talk.now);
            assert!(nodes > 150, "{nodes} nodes are too few to be the worst");
            talk
        });
        println!("{family:?}: {most} bytes at most");
        assert!(most <= DHT_NODE_BYTES, "{most} bytes");
        assert!(most > DHT_NODE_BYTES / 3, "{most} bytes are too few to be the worst");
        drop(held);
    }
}
