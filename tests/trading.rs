//! A swarm in which everybody chooses as we do whom to upload to, on a clock of its own. What is on
//! its way is a fluid: an uplink is shared evenly among those that it serves, a downlink holds them
//! back. It shows what no peer alone can: whether it pays to upload, and that nobody starves.
//! `cargo test --test trading -- --nocapture` prints how long everybody took.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(clippy::cast_possible_truncation, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rusty_torrent::limits::{CHOKE_ROUND_MS, SEED_TURN_MS};
use rusty_torrent::policy::choker::{Candidate, Choker, admits, slots};
use rusty_torrent::units::SessionId;

const KIB: u64 = 1 << 10;
/// 64 MiB in all. What somebody has is a bit for each piece.
const PIECES: usize = 128;
const PIECE_LENGTH: u64 = 512 * KIB;
const ALL: u128 = u128::MAX;
const ROUND_S: u64 = CHOKE_ROUND_MS as u64 / 1_000;
/// A peer that owes blocks and sends none for so long snubs.
const SNUB_S: u64 = 60;
/// Whoever has everything stays so long, and gives.
const STAYS_S: u64 = 60;
/// One more joins this often.
const JOINS_EVERY_S: u64 = 1;
/// It must be over by then.
const PATIENCE_S: u64 = 4 * 3_600;

/// How peers of a class are: bytes per second up and down, and how many of them there are.
struct Class {
    name: &'static str,
    count: usize,
    up: u64,
    down: u64,
    /// Lets others in, though it sends them nothing.
    promises: bool,
}

const CLASSES: [Class; 5] = [
    Class { name: "fast", count: 10, up: 200 * KIB, down: 800 * KIB, promises: true },
    Class { name: "medium", count: 20, up: 50 * KIB, down: 400 * KIB, promises: true },
    Class { name: "slow", count: 15, up: 15 * KIB, down: 200 * KIB, promises: true },
    Class { name: "free rider", count: 3, up: 0, down: 400 * KIB, promises: false },
    Class { name: "liar", count: 2, up: 0, down: 400 * KIB, promises: true },
];
const SEED: Class = Class { name: "seed", count: 1, up: 1000 * KIB, down: 0, promises: true };

/// What everybody does about those that do not upload.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manners {
    /// As we do.
    Trade,
    /// Gives to all in turns, as a seed would, whatever they bring.
    GiveToAll,
}

struct Peer {
    class: &'static Class,
    joined: u64,
    have: u128,
    /// Bytes that it has of each piece.
    bytes: Vec<u64>,
    first_piece: Option<u64>,
    /// When something came last, and the longest time without.
    fed: u64,
    hungry: u64,
    complete: Option<u64>,
    choker: Choker,
    slots: usize,
    /// Bytes it sent in this round.
    sent: u64,
}

impl Peer {
    fn is_there(&self, now: u64) -> bool {
        let stays = |complete: u64| self.class.name == SEED.name || now < complete + STAYS_S;
        self.joined <= now && self.complete.is_none_or(stays)
    }
}

/// One direction between two peers: what one gives the other.
#[derive(Clone, Copy, Default)]
struct Lane {
    interested: bool,
    unchoked: bool,
    changed: u64,
    joined: u64,
    /// Bytes in this round of the one that sends them.
    sent: u64,
    /// Bytes in this round of the one that they come to.
    received: u64,
    /// Since when blocks are owed, or since the last of them came.
    owed_since: Option<u64>,
    piece: Option<usize>,
}

struct World {
    peers: Vec<Peer>,
    /// What the first gives the second.
    lanes: Vec<Vec<Lane>>,
    /// How many that are there have each piece.
    copies: Vec<u32>,
    rng: fastrand::Rng,
    epoch: Instant,
    now: u64,
    manners: Manners,
}

impl World {
    fn new(seed: u64, manners: Manners) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let each = |class: &'static Class| (0..class.count).map(move |_| class);
        let mut classes: Vec<&'static Class> = CLASSES.iter().flat_map(each).collect();
        rng.shuffle(&mut classes);
        classes.insert(0, &SEED);
        let peers: Vec<Peer> = (0..)
            .zip(classes)
            .map(|(number, class)| {
                let is_seed = class.name == SEED.name;
                Peer {
                    class,
                    joined: number * JOINS_EVERY_S,
                    have: if is_seed { ALL } else { 0 },
                    bytes: vec![0; PIECES],
                    first_piece: None,
                    fed: number * JOINS_EVERY_S,
                    hungry: 0,
                    complete: is_seed.then_some(0),
                    choker: Choker::new(rng.fork()),
                    slots: 0,
                    sent: 0,
                }
            })
            .collect();
        let lane = |one: &Peer, other: &Peer| {
            let joined = one.joined.max(other.joined);
            Lane { joined, changed: joined, ..Lane::default() }
        };
        let lanes = peers.iter().map(|one| peers.iter().map(|other| lane(one, other)).collect());
        let (lanes, copies) = (lanes.collect(), vec![1; PIECES]);
        Self { peers, lanes, copies, rng, epoch: Instant::now(), now: 0, manners }
    }

    fn at(&self, second: u64) -> Instant {
        self.epoch + Duration::from_secs(second)
    }

    /// Runs until everybody has everything.
    fn run(&mut self) {
        while self.peers.iter().any(|peer| peer.complete.is_none()) {
            assert!(self.now < PATIENCE_S, "it is not over");
            for from in 0..self.peers.len() {
                self.take_interest(from);
            }
            self.flow();
            self.now += 1;
        }
    }

    /// Looks who wants something of a peer, and lets it choose.
    fn take_interest(&mut self, from: usize) {
        let there = self.peers[from].is_there(self.now);
        let mut news = false;
        for to in 0..self.peers.len() {
            let other = &self.peers[to];
            let both = there && other.is_there(self.now) && from != to;
            let interested = both && self.peers[from].have & !other.have != 0;
            let lane = &mut self.lanes[from][to];
            news |= interested && !lane.interested && !lane.unchoked;
            lane.interested = interested;
            lane.unchoked &= both;
        }
        if !there || !self.peers[from].class.promises {
            return;
        }
        // Not everybody's rounds fall on the same second.
        if (self.now + from as u64).is_multiple_of(ROUND_S) {
            self.choose(from);
        } else if news {
            self.admit(from);
        }
    }

    fn candidates(&self, from: usize) -> Vec<Candidate> {
        let lane = |to: usize| (to, &self.lanes[from][to], &self.lanes[to][from]);
        let there = |to: &usize| *to != from && self.peers[*to].is_there(self.now);
        (0..self.peers.len())
            .filter(there)
            .map(lane)
            .map(|(to, lane, back)| Candidate {
                session: SessionId(to as u32),
                interested: lane.interested,
                unchoked: lane.unchoked,
                received_per_s: back.received / ROUND_S,
                sent_per_s: lane.sent / ROUND_S,
                changed: self.at(lane.changed),
                joined: self.at(lane.joined),
                snubs: back.owed_since.is_some_and(|since| self.now - since >= SNUB_S),
            })
            .collect()
    }

    fn choose(&mut self, from: usize) {
        let candidates = self.candidates(from);
        let now = self.at(self.now);
        let peer = &mut self.peers[from];
        peer.slots = slots(peer.sent / ROUND_S, None);
        let seeding = peer.complete.is_some() || self.manners == Manners::GiveToAll;
        let chosen: BTreeSet<SessionId> = peer.choker.round(&candidates, peer.slots, seeding, now);
        peer.sent = 0;
        for to in 0..self.peers.len() {
            self.set(from, to, chosen.contains(&SessionId(to as u32)));
            self.lanes[from][to].sent = 0;
            self.lanes[to][from].received = 0;
        }
    }

    fn admit(&mut self, from: usize) {
        let mut candidates = self.candidates(from);
        for candidate in 0..candidates.len() {
            let one = candidates[candidate];
            let wants = one.interested && !one.unchoked && !one.snubs;
            if wants && admits(&candidates, self.peers[from].slots) {
                candidates[candidate].unchoked = true;
                self.set(from, one.session.0 as usize, true);
            }
        }
    }

    fn set(&mut self, from: usize, to: usize, unchoked: bool) {
        let lane = &mut self.lanes[from][to];
        if lane.unchoked != unchoked {
            (lane.unchoked, lane.changed) = (unchoked, self.now);
        }
    }

    /// One second of everybody's lines.
    fn flow(&mut self) {
        let count = self.peers.len();
        // Bytes that would come to each, if its line took them.
        let mut offered = vec![0; count];
        let mut streams = Vec::new();
        for from in 0..count {
            let serves: Vec<usize> = (0..count).filter(|to| self.asks(from, *to)).collect();
            for to in &serves {
                let bytes = self.peers[from].class.up / serves.len() as u64;
                offered[*to] += bytes;
                streams.push((from, *to, bytes));
            }
        }
        for (from, to, bytes) in streams {
            let down = self.peers[to].class.down;
            let taken = if offered[to] > down { bytes * down / offered[to] } else { bytes };
            self.carry(from, to, taken);
        }
    }

    /// Whether a peer has a request out to another; picks a piece for it if need be.
    fn asks(&mut self, from: usize, to: usize) -> bool {
        let lane = self.lanes[from][to];
        if !(lane.unchoked && lane.interested) {
            let lane = &mut self.lanes[from][to];
            (lane.piece, lane.owed_since) = (None, None);
            return false;
        }
        let missing = |piece: usize| self.peers[to].have & (1 << piece) == 0;
        if !lane.piece.is_some_and(missing) {
            self.lanes[from][to].piece = self.pick(from, to);
        }
        let lane = &mut self.lanes[from][to];
        lane.owed_since.get_or_insert(self.now);
        true
    }

    /// The rarest piece that one has and the other wants; one that is begun, but on no lane, before
    /// all; if all are on other lanes, one of these.
    fn pick(&mut self, from: usize, to: usize) -> Option<usize> {
        let taken = self.lanes.iter().filter_map(|lanes| lanes[to].piece);
        let taken = taken.fold(0, |taken: u128, piece| taken | 1 << piece);
        let wanted = self.peers[from].have & !self.peers[to].have;
        let free = if wanted & !taken != 0 { wanted & !taken } else { wanted };
        let bytes = &self.peers[to].bytes;
        (0..PIECES)
            .filter(|piece| free & (1 << piece) != 0)
            .min_by_key(|piece| (bytes[*piece] == 0, self.copies[*piece], self.rng.u32(..)))
    }

    fn carry(&mut self, from: usize, to: usize, mut bytes: u64) {
        let sent = bytes;
        while let Some(piece) = self.lanes[from][to].piece.filter(|_| bytes > 0) {
            let peer = &mut self.peers[to];
            let part = bytes.min(PIECE_LENGTH - peer.bytes[piece]);
            peer.bytes[piece] += part;
            bytes -= part;
            if peer.bytes[piece] == PIECE_LENGTH && peer.have & (1 << piece) == 0 {
                peer.have |= 1 << piece;
                self.copies[piece] += 1;
                peer.first_piece.get_or_insert(self.now);
                if peer.have == ALL {
                    peer.complete = Some(self.now);
                }
            }
            if bytes > 0 {
                self.lanes[from][to].piece = self.pick(from, to);
            }
        }
        if sent > bytes {
            let lane = &mut self.lanes[from][to];
            lane.sent += sent - bytes;
            lane.received += sent - bytes;
            lane.owed_since = Some(self.now);
            self.peers[from].sent += sent - bytes;
            let peer = &mut self.peers[to];
            peer.hungry = peer.hungry.max(self.now - peer.fed);
            peer.fed = self.now;
        }
    }

    /// Means and extremes of a class, or of several.
    fn outcome(&self, classes: &[&str]) -> Outcome {
        let of_class = |peer: &&Peer| classes.contains(&peer.class.name);
        let peers: Vec<&Peer> = self.peers.iter().filter(of_class).collect();
        let took = |end: Option<u64>, peer: &Peer| end.unwrap() - peer.joined;
        let times: Vec<u64> = peers.iter().map(|peer| took(peer.complete, peer)).collect();
        Outcome {
            least: *times.iter().min().unwrap(),
            mean: times.iter().sum::<u64>() / times.len() as u64,
            most: *times.iter().max().unwrap(),
            first_piece: peers.iter().map(|peer| took(peer.first_piece, peer)).max().unwrap(),
            hungry: peers.iter().map(|peer| peer.hungry).max().unwrap(),
        }
    }
}

/// Seconds.
struct Outcome {
    // Until it has everything.
    least: u64,
    mean: u64,
    most: u64,
    /// Until the last of them has its first piece.
    first_piece: u64,
    /// The longest that one of them waits without anything that comes.
    hungry: u64,
}

/// Runs worlds that differ in what chance does, and prints how long everybody took.
fn worlds(manners: Manners) -> Vec<World> {
    let seeds = match std::env::var("RUSTY_TORRENT_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("RUSTY_TORRENT_TEST_SEED is a number")],
        Err(_) => vec![1, 2, 3],
    };
    let run = |seed: u64| {
        let mut world = World::new(seed, manners);
        world.run();
        let mut table = format!("RUSTY_TORRENT_TEST_SEED={seed}, {manners:?}, seconds:\n");
        table += "class       peers  KiB/s up  first done    mean    last  1st piece  hungry\n";
        for class in &CLASSES {
            let outcome = world.outcome(&[class.name]);
            table += &format!(
                "{:<11} {:>5} {:>9} {:>11} {:>7} {:>7} {:>10} {:>7}\n",
                class.name,
                class.count,
                class.up / KIB,
                outcome.least,
                outcome.mean,
                outcome.most,
                outcome.first_piece,
                outcome.hungry
            );
        }
        println!("{table}");
        world
    };
    seeds.into_iter().map(run).collect()
}

static TRADE: LazyLock<Vec<World>> = LazyLock::new(|| worlds(Manners::Trade));
const RIDERS: [&str; 2] = ["free rider", "liar"];

#[test]
fn everybody_gets_everything_and_nobody_starves() {
    const TURN_S: u64 = SEED_TURN_MS as u64 / 1_000;
    for world in &*TRADE {
        for class in &CLASSES {
            let outcome = world.outcome(&[class.name]);
            // The seed alone serves half of all in a turn.
            assert!(outcome.first_piece <= 2 * TURN_S, "{}: {}", class.name, outcome.first_piece);
            assert!(outcome.hungry <= 2 * TURN_S, "{}: {}", class.name, outcome.hungry);
        }
    }
}

#[test]
fn whoever_uploads_more_has_everything_sooner() {
    for world in &*TRADE {
        let [fast, medium, slow, riders] =
            [&["fast"][..], &["medium"], &["slow"], &RIDERS].map(|classes| world.outcome(classes));
        assert!(fast.mean * 4 / 3 < medium.mean);
        assert!(medium.mean * 5 / 4 < slow.mean);
        // Their downlink is the same.
        assert!(medium.mean * 5 / 4 < riders.mean);
        assert!(fast.most * 5 / 4 < riders.least);
    }
}

/// That it pays to upload is the choker's doing: without it, the same swarm does not reward it.
#[test]
fn it_would_not_pay_to_upload_if_all_gave_to_everybody() {
    for (trade, gift) in TRADE.iter().zip(worlds(Manners::GiveToAll)) {
        let [fast, medium, riders] =
            [&["fast"][..], &["medium"], &RIDERS].map(|classes| gift.outcome(classes));
        assert!(fast.mean * 4 / 3 > medium.mean);
        assert!(medium.mean * 5 / 4 > riders.mean);
        assert!(trade.outcome(&["fast"]).mean * 5 / 4 < fast.mean);
        assert!(trade.outcome(&RIDERS).mean > riders.mean * 5 / 4);
    }
}
