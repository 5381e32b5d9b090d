//! The world of the simulation: a clock, datagrams on their way, nodes of ours and hostile ones. It
//! is also the judge: whatever a node of ours sends is looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rusty_torrent::limits::{
    DHT_DATAGRAM_SENT_MAX_BYTES, DHT_QUERIES_IN_FLIGHT_MAX, DHT_QUERY_TIMEOUT_MS,
};
use rusty_torrent::policy::dht::{Dht, Setup};
use rusty_torrent::policy::reach::Reach;
use rusty_torrent::protocol::krpc::{Body, Family, Message};
use rusty_torrent::protocol::node_file::Kept;
use rusty_torrent::units::InfoHash;

use crate::hostile::Hostile;

/// A second, in the unit of the world's clock.
pub const SECOND: u64 = 1_000;
pub const MINUTE: u64 = 60 * SECOND;

/// Where a node is.
#[derive(Clone, Copy)]
pub enum Where {
    /// Each in a network of its own.
    V4,
    V6,
    /// All on one machine.
    Loopback,
}

impl Where {
    pub fn address(self, number: usize) -> SocketAddr {
        let number = u16::try_from(number).unwrap();
        let [high, low] = number.to_be_bytes();
        match self {
            Self::V4 => ([20, high, low, 7], 6881).into(),
            Self::V6 => ([0x2001, 0xdb8, number, 0, 0, 0, 0, 7], 6881).into(),
            Self::Loopback => ([127, 0, 0, 1], 10_000 + number).into(),
        }
    }
}

pub enum Nature {
    Ours(Box<Dht>),
    Hostile(Hostile),
    /// Nobody is there any more.
    Gone,
}

pub struct Node {
    pub address: SocketAddr,
    pub nature: Nature,
    /// Peers that it found.
    pub found: HashMap<InfoHash, BTreeSet<SocketAddr>>,
    pub queries: u64,
    pub polls: u64,
    wakes_at: Option<u64>,
    /// When it sent its last questions.
    asked_at: Vec<u64>,
}

enum Event {
    Arrives { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Wakes(usize),
}

pub struct World {
    pub now: u64,
    pub nodes: Vec<Node>,
    pub place: Where,
    /// Of a thousand datagrams so many are lost.
    pub loss: u32,
    /// Nothing arrives anywhere.
    pub is_down: bool,
    pub rng: fastrand::Rng,
    base: Instant,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    by_address: HashMap<SocketAddr, usize>,
}

impl World {
    pub fn new(place: Where, loss: u32, seed: u64) -> Self {
        Self {
            now: 0,
            nodes: Vec::new(),
            place,
            loss,
            is_down: false,
            rng: fastrand::Rng::with_seed(seed),
            base: Instant::now(),
            queue: BTreeMap::new(),
            queued: 0,
            by_address: HashMap::new(),
        }
    }

    pub fn time(&self) -> Instant {
        self.base + Duration::from_millis(self.now)
    }

    /// A node of ours that knows the first one, or what was kept.
    pub fn add_ours(&mut self, kept: Option<Kept>) -> usize {
        let first = self.nodes.first().map(|node| node.address);
        let is_new = kept.is_none();
        let setup = Setup {
            family: match self.place {
                Where::V6 => Family::V6,
                Where::V4 | Where::Loopback => Family::V4,
            },
            seed: std::array::from_fn(|_| self.rng.u8(..)),
            read_only: false,
            kept,
        };
        let mut dht = Dht::new(&setup, self.time());
        if let Some(first) = first.filter(|_| is_new) {
            dht.add_router(first, self.time());
        }
        let index = self.add(Nature::Ours(Box::new(dht)));
        self.turn(index);
        index
    }

    pub fn add(&mut self, nature: Nature) -> usize {
        let index = self.nodes.len();
        let address = self.place.address(index);
        self.by_address.insert(address, index);
        self.nodes.push(Node {
            address,
            nature,
            found: HashMap::new(),
            queries: 0,
            polls: 0,
            wakes_at: None,
            asked_at: Vec::new(),
        });
        index
    }

    pub fn dht(&mut self, index: usize) -> &mut Dht {
        match &mut self.nodes[index].nature {
            Nature::Ours(dht) => dht,
            _ => panic!("{index} is not ours"),
        }
    }

    pub fn ours(&self) -> Vec<usize> {
        let ours = self.nodes.iter().enumerate();
        ours.filter(|(_, node)| matches!(node.nature, Nature::Ours(_))).map(|(at, _)| at).collect()
    }

    pub fn search(&mut self, index: usize, info_hash: InfoHash, port: Option<u16>) {
        let now = self.time();
        self.dht(index).search(info_hash, port, now);
        self.turn(index);
    }

    pub fn found(&self, index: usize, info_hash: InfoHash) -> BTreeSet<SocketAddr> {
        self.nodes[index].found.get(&info_hash).cloned().unwrap_or_default()
    }

    /// Lets so much time go by.
    pub fn run(&mut self, length: u64) {
        let until = self.now + length;
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            match event {
                Event::Arrives { from, to, bytes } => self.arrive(from, to, &bytes),
                Event::Wakes(index) if self.nodes[index].wakes_at == Some(at) => {
                    self.nodes[index].wakes_at = None;
                    self.turn(index);
                }
                Event::Wakes(_) => {}
            }
        }
        self.now = until;
    }

    /// Each hostile node asks each of ours.
    pub fn intrude(&mut self) {
        let ours = self.ours();
        for hostile in 0..self.nodes.len() {
            if let Nature::Hostile(_) = self.nodes[hostile].nature {
                let from = self.nodes[hostile].address;
                for ours in &ours {
                    let bytes = crate::hostile::greeting(&mut self.rng);
                    self.send(from, self.nodes[*ours].address, bytes);
                }
            }
        }
    }

    /// The clock jumps: all that was to happen meanwhile happens at once.
    pub fn jump(&mut self, length: u64) {
        self.now += length;
    }

    fn later(&mut self, at: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.rng.u32(..1_000) >= self.loss && !self.is_down {
            let at = self.now + self.rng.u64(5..150);
            self.later(at, Event::Arrives { from, to, bytes });
        }
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(index) = self.by_address.get(&to).copied() else { return };
        let now = self.time();
        match &mut self.nodes[index].nature {
            Nature::Ours(dht) => {
                if let Some(answer) = dht.on_datagram(from, bytes, now) {
                    assert!(is_query(bytes), "only questions are answered");
                    self.judge(index, &answer);
                    self.send(to, from, answer);
                }
                self.turn(index);
            }
            Nature::Hostile(hostile) => {
                for answer in hostile.answer(from, bytes, &mut self.rng) {
                    self.send(to, from, answer);
                }
            }
            Nature::Gone => {}
        }
    }

    /// A node of ours sends what it has to send, and says when it will have more.
    pub fn turn(&mut self, index: usize) {
        let now = self.time();
        let Nature::Ours(dht) = &mut self.nodes[index].nature else { return };
        let datagrams = dht.poll(now);
        assert_eq!(dht.poll(now), [], "it said that this was all");
        let deadline = dht.next_deadline(now);
        assert!(deadline > now, "it spins");
        let found = dht.take_found();
        let from = self.nodes[index].address;
        for datagram in datagrams {
            self.judge(index, &datagram.bytes);
            self.judge_query(index, datagram.to);
            self.send(from, datagram.to, datagram.bytes);
        }
        for (info_hash, peer) in found {
            assert!(peer.port() != 0 && Reach::of(peer.ip()) >= Reach::of(from.ip()), "{peer}");
            self.nodes[index].found.entry(info_hash).or_default().insert(peer);
        }
        // Whoever sleeps wakes up after its time, not before.
        let deadline = (deadline - self.base).as_micros().div_ceil(1_000);
        let deadline = u64::try_from(deadline).unwrap();
        let node = &mut self.nodes[index];
        node.polls += 1;
        if node.wakes_at.is_none_or(|at| at > deadline) {
            node.wakes_at = Some(deadline);
            self.later(deadline, Event::Wakes(index));
        }
    }

    fn judge(&self, index: usize, bytes: &[u8]) {
        assert!(bytes.len() <= DHT_DATAGRAM_SENT_MAX_BYTES, "{} bytes", bytes.len());
        let message = Message::decode(bytes).expect("what we say can be read");
        assert!(message.transaction.len() <= 32);
        if let Body::Response(response) = message.body {
            assert!(response.nodes.len() <= 8);
            let us = self.nodes[index].address.ip();
            for node in response.nodes {
                assert_real(us, node.address.ip());
            }
        }
    }

    fn judge_query(&mut self, index: usize, to: SocketAddr) {
        let now = self.now;
        let node = &mut self.nodes[index];
        assert_ne!(to, node.address, "it talks to itself");
        assert_real(node.address.ip(), to.ip());
        node.queries += 1;
        node.asked_at.retain(|at| at + DHT_QUERY_TIMEOUT_MS > now);
        node.asked_at.push(now);
        // Of those sent in this time some were answered.
        assert!(node.asked_at.len() <= 4 * DHT_QUERIES_IN_FLIGHT_MAX, "{} at {now}", index);
    }
}

/// A node of ours far away has nothing to do with what is local.
fn assert_real(us: IpAddr, ip: IpAddr) {
    assert!(Reach::of(ip) >= Reach::of(us) && Reach::of(ip).is_some(), "{us} to {ip}");
}

fn is_query(bytes: &[u8]) -> bool {
    matches!(
        Message::decode(bytes),
        Ok(Message { body: Body::Query(..), .. })
            | Err(rusty_torrent::protocol::krpc::Undecodable::Query { .. })
    )
}
