//! A DHT on a clock of its own: hundreds of nodes of ours, hostile ones among them, and a network
//! that loses datagrams. No sockets, no threads, no sleep. `RUSTY_TORRENT_TEST_SEED` runs every scenario
//! with that seed instead of its own ones.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(clippy::print_stdout, unreachable_pub)]

#[path = "../fuzz/heap.rs"]
mod heap;
mod hostile;
mod node;
mod world;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;

use hostile::Hostile;
use rusty_torrent::protocol::node_file::NodeFile;
use rusty_torrent::units::InfoHash;
use world::{MINUTE, Nature, SECOND, Where, World};

const HASH: InfoHash = InfoHash([0x5a; 20]);
const PORT: u16 = 7_001;

/// The seeds to run a scenario with.
fn seeds() -> Vec<u64> {
    match std::env::var("RUSTY_TORRENT_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("RUSTY_TORRENT_TEST_SEED is a number")],
        Err(_) => vec![1, 2],
    }
}

/// A world of so many nodes of ours that have found each other, and so many hostile ones.
fn network(place: Where, ours: usize, loss: u32, hostile: &[Hostile], seed: u64) -> World {
    println!("RUSTY_TORRENT_TEST_SEED={seed}");
    let mut world = World::new(place, loss, seed);
    world.add_ours(None);
    let mut rest: Vec<Option<Hostile>> = hostile.iter().copied().map(Some).collect();
    rest.resize(hostile.len() + ours - 1, None);
    if !hostile.iter().any(|one| matches!(one, Hostile::Sybil { .. })) {
        world.rng.shuffle(&mut rest);
    }
    for one in rest {
        match one {
            Some(hostile) => drop(world.add(Nature::Hostile(hostile))),
            None => {
                world.add_ours(None);
                world.run(SECOND);
            }
        }
    }
    // Hostile ones ask everybody, to be known by everybody.
    for _ in 0..3 {
        world.intrude();
        world.run(MINUTE);
    }
    world
}

/// Where the peers of these nodes are.
fn peers(world: &World, nodes: &[usize]) -> BTreeSet<SocketAddr> {
    nodes.iter().map(|node| SocketAddr::new(world.nodes[*node].address.ip(), PORT)).collect()
}

/// Some of our nodes have the torrent and say so.
fn announce(world: &mut World, which: Range<usize>) -> BTreeSet<SocketAddr> {
    let nodes = world.ours()[which].to_vec();
    nodes.iter().for_each(|node| world.search(*node, HASH, Some(PORT)));
    world.run(MINUTE);
    peers(world, &nodes)
}

/// Somebody else looks for it, and finds so many of them at least within half a minute.
#[track_caller]
fn assert_found(world: &mut World, node: usize, peers: &BTreeSet<SocketAddr>, least: usize) {
    world.search(node, HASH, None);
    world.run(30 * SECOND);
    let found = world.found(node, HASH);
    let right = found.intersection(peers).count();
    assert!(right >= least, "{right} of {}: {found:?}", peers.len());
}

#[test]
fn what_some_announce_others_find() {
    for (place, loss) in [(Where::V4, 0), (Where::V4, 100), (Where::V6, 50), (Where::Loopback, 20)]
    {
        for seed in seeds() {
            let mut world = network(place, 60, loss, &[], seed);
            let peers = announce(&mut world, 10..15);
            let least = if matches!(place, Where::Loopback) { 1 } else { 4 };
            for node in [30, 40, 59] {
                assert_found(&mut world, node, &peers, least);
                let found = world.found(node, HASH);
                assert!(found.is_subset(&peers), "nobody else has it: {found:?}");
            }
        }
    }
}

#[test]
fn three_hundred_find_it_too_though_much_is_lost() {
    for seed in seeds().into_iter().take(1) {
        let mut world = network(Where::V4, 300, 200, &[], seed);
        let peers = announce(&mut world, 100..110);
        for node in [1, 150, 299] {
            assert_found(&mut world, node, &peers, 7);
        }
        let now = world.time();
        for node in world.ours() {
            let (_, good) = world.dht(node).count(now);
            assert!(good >= 12, "node {node} knows only {good}");
            let ip = world.nodes[node].address.ip();
            assert!(world.dht(node).id().fits(ip), "node {node} heard where it is");
        }
    }
}

#[test]
fn liars_of_every_kind_hide_nobody() {
    const KINDS: [Hostile; 5] =
        [Hostile::Silent, Hostile::Liar, Hostile::Inward, Hostile::Thief, Hostile::Babbler];
    for seed in seeds() {
        let hostile: Vec<Hostile> = KINDS.into_iter().cycle().take(50).collect();
        let mut world = network(Where::V4, 100, 50, &hostile, seed);
        let ours = world.ours();
        let peers = announce(&mut world, 20..30);
        for node in [ours[1], ours[60], ours[99]] {
            assert_found(&mut world, node, &peers, 7);
        }
    }
}

#[test]
fn a_third_that_play_together_hide_nobody() {
    const COUNT: usize = 50;
    for place in [Where::V4, Where::V6] {
        let sybil = Hostile::Sybil { first: 1, count: COUNT };
        let mut world = network(place, 100, 50, &[sybil; COUNT], seeds()[0]);
        let ours = world.ours();
        let peers = announce(&mut world, 20..30);
        for node in [ours[1], ours[60], ours[99]] {
            assert_found(&mut world, node, &peers, 7);
        }
    }
}

#[test]
fn who_was_there_before_needs_nobody_to_begin_with() {
    for seed in seeds() {
        let mut world = network(Where::V4, 60, 50, &[], seed);
        let peers = announce(&mut world, 10..15);
        let now = world.time();
        let file = NodeFile { v4: Some(world.dht(30).kept(now)), v6: None };
        // The one that everybody began with is gone, and half of the others.
        for node in (0..60).filter(|node| *node == 0 || node % 2 == 1 && !(10..15).contains(node)) {
            world.nodes[node].nature = Nature::Gone;
        }
        let kept = NodeFile::decode(&file.encode()).v4;
        let node = world.add_ours(kept);
        assert_found(&mut world, node, &peers, 2);
    }
}

#[test]
fn a_network_that_was_gone_for_an_hour_is_found_again() {
    for seed in seeds().into_iter().take(1) {
        let mut world = network(Where::V4, 40, 20, &[], seed);
        world.is_down = true;
        world.run(60 * MINUTE);
        world.is_down = false;
        // Whoever searched for it meanwhile searches again within minutes.
        let peers = announce(&mut world, 10..15);
        assert_found(&mut world, 30, &peers, 4);
        world.run(20 * MINUTE);
        let now = world.time();
        for node in world.ours() {
            let (_, good) = world.dht(node).count(now);
            assert!(good >= 8, "node {node} knows only {good}");
        }
    }
}

#[test]
fn a_search_that_began_without_a_network_succeeds_when_there_is_one() {
    let mut world = network(Where::V4, 40, 20, &[], seeds()[0]);
    let peers = announce(&mut world, 10..15);
    world.is_down = true;
    world.search(30, HASH, None);
    let early = world.add_ours(None);
    world.search(early, HASH, None);
    world.run(10 * MINUTE);
    assert_eq!(world.found(early, HASH).len(), 0);
    world.is_down = false;
    world.run(6 * MINUTE);
    for node in [30, early] {
        assert!(world.found(node, HASH).intersection(&peers).count() >= 4, "node {node}");
    }
}

#[test]
fn when_the_clock_jumps_nothing_bursts() {
    for (jump, seed) in [(MINUTE, 1), (20 * MINUTE, 2), (100 * 60 * MINUTE, 3)] {
        let mut world = network(Where::V4, 40, 20, &[], seed);
        let before: Vec<u64> = world.nodes.iter().map(|node| node.queries).collect();
        world.jump(jump);
        world.run(10 * SECOND);
        for (node, before) in world.nodes.iter().zip(before) {
            let queries = node.queries - before;
            assert!(queries <= 100, "{queries} queries after {jump}");
        }
        let peers = announce(&mut world, 10..15);
        assert_found(&mut world, 30, &peers, 4);
    }
}

#[test]
fn who_leaves_is_forgotten_and_who_searches_finds_again() {
    let mut world = network(Where::V4, 80, 20, &[], seeds()[0]);
    for node in 41..80 {
        world.nodes[node].nature = Nature::Gone;
    }
    world.run(60 * MINUTE);
    let gone: BTreeSet<SocketAddr> = (41..80).map(|node| world.place.address(node)).collect();
    let now = world.time();
    for node in world.ours() {
        let kept = world.dht(node).kept(now);
        let (_, good) = world.dht(node).count(now);
        // The good come first.
        let good = &kept.nodes[..good];
        assert!(good.iter().all(|contact| !gone.contains(&contact.address)), "node {node}");
        assert!(good.len() >= 8, "node {node} knows only {}", good.len());
    }
    let peers = announce(&mut world, 10..15);
    assert_found(&mut world, 30, &peers, 4);
}

#[test]
fn a_torrent_stays_announced_for_as_long_as_it_is_searched_for() {
    let mut world = network(Where::V4, 40, 20, &[], seeds()[0]);
    let peers = announce(&mut world, 10..15);
    world.run(100 * MINUTE);
    assert_found(&mut world, 30, &peers, 4);
    // Whoever stops is forgotten within half an hour.
    for node in 10..15 {
        world.dht(node).stop(HASH);
    }
    world.run(35 * MINUTE);
    world.search(35, HASH, None);
    world.run(30 * SECOND);
    assert_eq!(world.found(35, HASH).len(), 0);
}

#[test]
fn idle_nodes_do_little() {
    let mut world = network(Where::V4, 60, 50, &[], seeds()[0]);
    world.run(20 * MINUTE);
    world.nodes.iter_mut().for_each(|node| (node.queries, node.polls) = (0, 0));
    world.run(60 * MINUTE);
    for node in &world.nodes {
        assert!(node.queries <= 300, "{} queries in an hour", node.queries);
        assert!(node.polls <= 1_800, "{} turns in an hour", node.polls);
    }
}

#[test]
fn who_is_alone_waits() {
    let mut world = World::new(Where::V4, 0, 1);
    world.add_ours(None);
    world.search(0, HASH, Some(PORT));
    world.run(60 * MINUTE);
    assert_eq!(world.nodes[0].queries, 0);
    assert!(world.nodes[0].polls <= 800, "{}", world.nodes[0].polls);
    // Then there is somebody, whom a torrent or a peer names.
    let other = world.add_ours(None);
    let address = world.nodes[other].address;
    let now = world.time();
    world.dht(0).add_contact(address, now);
    world.turn(0);
    world.run(SECOND);
    let (now, kept) = (world.time(), [0, other]);
    let counts = kept.map(|node| world.dht(node).count(now));
    assert_eq!(counts, [(1, 1), (0, 0)], "the other one has it for a router");
    world.search(other, HASH, None);
    world.run(SECOND);
    assert_eq!(world.found(other, HASH), peers(&world, &[0]));
}
