//! A peer of the simulation: what it is like, and what it does with the messages that it gets.

use std::collections::{BTreeSet, VecDeque};

use rusty_torrent::bitfield::Bitfield;
use rusty_torrent::protocol::extension::HELLO;
use rusty_torrent::protocol::handshake::Handshake;
use rusty_torrent::protocol::message::{Message, Range};
use rusty_torrent::units::{Block, Geometry, InfoHash, PeerId};

pub const MS: u64 = 1_000;
pub const SECOND: u64 = 1_000 * MS;

/// What a peer is like. Times are microseconds, rates bytes a second.
#[derive(Clone, Debug)]
pub struct Nature {
    pub have: Bitfield,
    pub rate: u64,
    /// One way.
    pub latency: u64,
    pub fast: bool,
    pub reqq: Option<u32>,
    /// It gets one piece more this often.
    pub gains_every: Option<u64>,
    /// It lets us in for so long, then chokes us for so long, and so on.
    pub flaps: Option<(u64, u64)>,
    /// It sends for so long, then nothing for so long, and so on, without a word.
    pub sleeps: Option<(u64, u64)>,
    /// It leaves so long after it was connected, in the middle of what it sends.
    pub leaves_after: Option<u64>,
    /// And can be reached again after that.
    pub returns: bool,
    /// Of a thousand blocks so many are wrong.
    pub wrong_per_mille: u32,
    /// Of a thousand requests so many are rejected.
    pub rejects_per_mille: u32,
    /// It sends so many blocks, then none.
    pub stalls_after: Option<u32>,
    /// It says nothing at all.
    pub silent: bool,
    pub never_unchokes: bool,
    /// It says what is of no use this often, a hundred times.
    pub babbles_every: Option<u64>,
    /// Pieces that it allows while it chokes.
    pub allowed_fast: u32,
    /// Nobody answers there.
    pub dead: bool,
}

impl Nature {
    /// A seed on a good line, without any vice.
    pub fn seed(geometry: Geometry) -> Self {
        Self {
            have: Bitfield::all(geometry),
            rate: 1 << 20,
            latency: 20 * MS,
            fast: true,
            reqq: Some(250),
            gains_every: None,
            flaps: None,
            sleeps: None,
            leaves_after: None,
            returns: true,
            wrong_per_mille: 0,
            rejects_per_mille: 0,
            stalls_after: None,
            silent: false,
            never_unchokes: false,
            babbles_every: None,
            allowed_fast: 0,
            dead: false,
        }
    }

    /// Some honest peer on some line.
    pub fn honest(geometry: Geometry, rng: &mut fastrand::Rng) -> Self {
        let mut nature = Self::seed(geometry);
        nature.rate = 1 << rng.u32(14..22);
        nature.latency = rng.u64(MS..150 * MS);
        nature.fast = rng.bool();
        nature.reqq = *rng.choice(&[None, Some(8), Some(64), Some(250), Some(2_000)]).unwrap();
        if rng.u32(..3) > 0 {
            nature.have = some_pieces(geometry, rng.u32(..1000), rng);
            nature.gains_every = rng.bool().then(|| rng.u64(200 * MS..2 * SECOND));
        }
        if rng.u32(..4) == 0 {
            nature.flaps = Some((rng.u64(SECOND..10 * SECOND), rng.u64(SECOND..10 * SECOND)));
        }
        if rng.u32(..4) == 0 {
            nature.allowed_fast = rng.u32(1..10);
        }
        nature
    }

    /// Some peer with one vice.
    pub fn vicious(geometry: Geometry, rng: &mut fastrand::Rng) -> Self {
        let mut nature = Self::honest(geometry, rng);
        match rng.u32(..8) {
            0 => nature.wrong_per_mille = rng.u32(20..1_000),
            1 => (nature.rejects_per_mille, nature.fast) = (rng.u32(100..=1_000), true),
            2 => nature.stalls_after = Some(rng.u32(..40)),
            3 => nature.silent = true,
            4 => nature.never_unchokes = true,
            5 => nature.dead = true,
            _ => {
                nature.leaves_after = Some(rng.u64(SECOND..20 * SECOND));
                nature.returns = rng.bool();
            }
        }
        nature
    }
}

/// So many of a thousand pieces, at random.
pub fn some_pieces(geometry: Geometry, per_mille: u32, rng: &mut fastrand::Rng) -> Bitfield {
    let mut have = Bitfield::none(geometry);
    for piece in geometry.all_pieces().filter(|_| rng.u32(..1_000) < per_mille) {
        have.insert(piece);
    }
    have
}

/// What all bytes of a right block are.
pub fn right_byte(block: Block) -> u8 {
    let mixed = (block.piece.get() * 977 + block.number()).wrapping_mul(0x9e37_79b1);
    (mixed >> 24) as u8
}

/// What the peer wants to happen later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Habit {
    Unchoke,
    Choke,
    Sleep,
    Wake,
    Gain,
    Babble,
    Leave,
    /// The block that is on the line has left.
    Sent,
}

pub struct Peer {
    pub nature: Nature,
    pub number: u32,
    pub geometry: Geometry,
    /// Counts connections: what belongs to an earlier one is void.
    pub connection: u32,
    pub connected: bool,
    /// Bytes for the other side.
    pub said: Vec<u8>,
    /// What is to happen, and how long from now.
    pub plans: Vec<(u64, Habit)>,
    pub sent_wrong: bool,
    pub cancels: u32,
    choking: bool,
    interested: bool,
    allowed: BTreeSet<u32>,
    queue: VecDeque<Range>,
    on_the_line: Option<Range>,
    blocks_sent: u32,
    asleep: bool,
}

impl Peer {
    pub fn new(number: u32, nature: Nature, geometry: Geometry) -> Self {
        Self {
            nature,
            number,
            geometry,
            connection: 0,
            connected: false,
            said: Vec::new(),
            plans: Vec::new(),
            sent_wrong: false,
            cancels: 0,
            choking: true,
            interested: false,
            allowed: BTreeSet::new(),
            queue: VecDeque::new(),
            on_the_line: None,
            blocks_sent: 0,
            asleep: false,
        }
    }

    pub fn handshake(&self) -> Handshake {
        Handshake {
            info_hash: InfoHash([7; 20]),
            peer_id: PeerId(*b"-SIM000-abcdefghijkl"),
            fast: self.nature.fast,
            extended: self.nature.reqq.is_some(),
            dht: false,
        }
    }

    /// A connection begins.
    pub fn connect(&mut self, rng: &mut fastrand::Rng) {
        self.connection += 1;
        self.connected = true;
        self.choking = true;
        self.interested = false;
        self.queue.clear();
        self.on_the_line = None;
        self.asleep = false;
        self.said.clear();
        self.allowed.clear();
        if let Some((awake, _)) = self.nature.sleeps {
            self.plans.push((awake, Habit::Sleep));
        }
        if let Some(after) = self.nature.leaves_after {
            self.plans.push((after, Habit::Leave));
        }
        if self.nature.silent {
            return;
        }
        let have = self.nature.have.clone();
        match (self.nature.fast, have.is_empty(), have.is_full()) {
            (true, true, _) => self.say(Message::HaveNone),
            (true, _, true) => self.say(Message::HaveAll),
            (false, true, _) => {}
            _ => self.say(Message::Bitfield(have.as_bytes())),
        }
        if let Some(reqq) = self.nature.reqq {
            self.say(Message::Extended(HELLO, format!("d4:reqqi{reqq}ee").as_bytes()));
        }
        if self.nature.fast {
            for _ in 0..self.nature.allowed_fast {
                let piece = rng.u32(..self.geometry.pieces());
                self.allowed.insert(piece);
                self.say(Message::AllowedFast(piece));
            }
        }
        if let Some(every) = self.nature.gains_every {
            self.plans.push((every, Habit::Gain));
        }
        self.plans.extend(self.nature.babbles_every.map(|every| (every, Habit::Babble)));
    }

    /// The connection is over.
    pub fn disconnect(&mut self) {
        self.connection += 1;
        self.connected = false;
        self.plans.clear();
        self.said.clear();
    }

    fn say(&mut self, message: Message<'_>) {
        message.encode(&mut self.said);
    }

    pub fn on_message(&mut self, message: &Message<'_>, rng: &mut fastrand::Rng) {
        match *message {
            _ if self.nature.silent => {}
            Message::Interested if !self.interested && !self.nature.never_unchokes => {
                self.interested = true;
                self.plans.push((rng.u64(10 * MS..2 * SECOND), Habit::Unchoke));
            }
            Message::Request(range) => self.on_request(range, rng),
            Message::Cancel(range) => {
                self.cancels += 1;
                if let Some(at) = self.queue.iter().position(|queued| *queued == range) {
                    self.queue.remove(at);
                    // BEP 6: each request is answered, a cancelled one too.
                    if self.nature.fast {
                        self.say(Message::Reject(range));
                    }
                }
            }
            _ => {}
        }
    }

    fn on_request(&mut self, range: Range, rng: &mut fastrand::Rng) {
        let piece = self.geometry.piece(range.piece).expect("a piece that exists");
        assert!(self.nature.have.has(piece), "peer {} lacks {piece}", self.number);
        let choked = self.choking && !self.allowed.contains(&range.piece);
        if choked || rng.u32(..1_000) < self.nature.rejects_per_mille {
            if self.nature.fast {
                self.say(Message::Reject(range));
            }
            return;
        }
        self.queue.push_back(range);
        self.send();
    }

    /// Puts the next block on the line, if that is free.
    fn send(&mut self) {
        let stalled = self.nature.stalls_after.is_some_and(|after| self.blocks_sent >= after);
        if self.on_the_line.is_some() || stalled || self.asleep {
            return;
        }
        self.on_the_line = self.queue.pop_front();
        if let Some(range) = self.on_the_line {
            let time = u64::from(range.length) * SECOND / self.nature.rate;
            self.plans.push((time, Habit::Sent));
        }
    }

    /// The time for a habit has come. True if the peer hangs up.
    pub fn act(&mut self, habit: Habit, rng: &mut fastrand::Rng) -> bool {
        match habit {
            Habit::Unchoke => {
                self.choking = false;
                self.say(Message::Unchoke);
                if let Some((open, _)) = self.nature.flaps {
                    self.plans.push((open, Habit::Choke));
                }
            }
            Habit::Choke => {
                self.choking = true;
                self.say(Message::Choke);
                let queue = std::mem::take(&mut self.queue);
                for range in queue {
                    if self.allowed.contains(&range.piece) {
                        self.queue.push_back(range);
                    } else if self.nature.fast {
                        self.say(Message::Reject(range));
                    }
                }
                if let Some((_, closed)) = self.nature.flaps {
                    self.plans.push((closed, Habit::Unchoke));
                }
            }
            Habit::Sleep => {
                self.asleep = true;
                self.plans.extend(self.nature.sleeps.map(|(_, asleep)| (asleep, Habit::Wake)));
            }
            Habit::Wake => {
                self.asleep = false;
                self.plans.extend(self.nature.sleeps.map(|(awake, _)| (awake, Habit::Sleep)));
                self.send();
            }
            Habit::Gain => self.gain(rng),
            Habit::Babble => {
                for _ in 0..50 {
                    self.say(Message::KeepAlive);
                    self.say(Message::NotInterested);
                }
                self.plans.extend(self.nature.babbles_every.map(|every| (every, Habit::Babble)));
            }
            Habit::Sent => {
                if let Some(range) = self.on_the_line.take() {
                    self.blocks_sent += 1;
                    let block = self.block(range, rng);
                    self.said.extend_from_slice(&block);
                }
                self.send();
            }
            Habit::Leave => {
                if let Some(range) = self.on_the_line.take() {
                    let block = self.block(range, rng);
                    self.said.extend_from_slice(&block[..rng.usize(..block.len())]);
                }
                self.nature.dead = !self.nature.returns;
                return true;
            }
        }
        false
    }

    fn gain(&mut self, rng: &mut fastrand::Rng) {
        let have = &self.nature.have;
        let lacks: Vec<_> = self.geometry.all_pieces().filter(|piece| !have.has(*piece)).collect();
        let Some(piece) = rng.choice(&lacks).copied() else { return };
        self.nature.have.insert(piece);
        self.say(Message::Have(piece.get()));
        if let Some(every) = self.nature.gains_every {
            self.plans.push((every, Habit::Gain));
        }
    }

    fn block(&mut self, range: Range, rng: &mut fastrand::Rng) -> Vec<u8> {
        let Range { piece, begin, length } = range;
        let block = self.geometry.range(piece, begin, length).expect("a block that exists");
        let mut byte = right_byte(block);
        if rng.u32(..1_000) < self.nature.wrong_per_mille {
            self.sent_wrong = true;
            byte ^= 1 + (self.number % 255) as u8;
        }
        let mut bytes = Vec::new();
        Message::Piece(piece, begin, &vec![byte; length as usize]).encode(&mut bytes);
        bytes
    }
}
