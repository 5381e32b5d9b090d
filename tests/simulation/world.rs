//! The world of the simulation: a clock, what is on its way, the sessions of ours and the writer.
//! It is also the judge: whatever a session says is held against what it was told before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rusty_torrent::bitfield::Bitfield;
use rusty_torrent::limits::{DIAL_TIMEOUT_MS, REQUESTS_IN_FLIGHT_MAX};
use rusty_torrent::policy::blame::Blame;
use rusty_torrent::policy::conversation::{Conversation, Received, SessionEnd};
use rusty_torrent::policy::peer_book::PeerBook;
use rusty_torrent::policy::swarm::Swarm;
use rusty_torrent::protocol::extension::{HELLO, Hello};
use rusty_torrent::protocol::handshake::Handshake;
use rusty_torrent::protocol::message::{Message, PIECE_HEADER_LENGTH};
use rusty_torrent::units::{Geometry, InfoHash, PeerId, PieceIndex, SessionId};

use crate::peer::{Habit, MS, Nature, Peer, SECOND, right_byte};

/// How the world is.
pub struct Plan {
    pub geometry: Geometry,
    pub peers: Vec<Nature>,
    /// Sessions at once.
    pub slots: usize,
    /// Permits in the work queue.
    pub permits: u32,
    /// It must be over by then (microseconds).
    pub patience: u64,
}

/// What is on its way. The second number is that of the connection it belongs to.
enum Event {
    Dialled(usize),
    Heard(usize, u32, Vec<u8>),
    HungUp(usize, u32),
    Said(usize, u32, Vec<u8>),
    Habit(usize, u32, Habit),
    Ring(usize, u32),
    Deadline(usize, u32),
    Judge(PieceIndex),
    Tick,
}

/// A session of ours, and what the judge knows of it.
struct Session {
    id: SessionId,
    conversation: Conversation,
    unread: Vec<u8>,
    wake_at: Option<u64>,
    rung: bool,
    brought: bool,
    // The judge's.
    fast: bool,
    choked: bool,
    allowed: BTreeSet<u32>,
    have: Bitfield,
    reqq: usize,
    /// Requests that were sent and that nothing has settled yet.
    out: BTreeSet<(u32, u32)>,
    /// Those of them whose block has come from somebody else meanwhile.
    lost: BTreeSet<(u32, u32)>,
    /// When something from the peer arrives at the earliest: nothing overtakes.
    arrives: u64,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub turns: u64,
    pub blocks: u64,
    pub sessions: u32,
    /// Sessions that ended while blocks were asked of them.
    pub cut_short: u32,
    pub cancels: u32,
    pub lost_races: u32,
    pub failed_pieces: u32,
    pub ended: BTreeMap<String, u32>,
}

pub struct World {
    pub now: u64,
    pub peers: Vec<Peer>,
    pub swarm: Swarm,
    pub tally: Tally,
    /// Peers that were banned.
    pub banned: BTreeSet<usize>,
    /// Peers of whom a wrong block reached the writer.
    pub liars: BTreeSet<usize>,
    /// How often each peer was left for being too loud.
    pub too_loud: BTreeMap<usize, u32>,
    /// When each piece was verified.
    pub verified_at: BTreeMap<u32, u64>,
    plan: Plan,
    rng: fastrand::Rng,
    base: Instant,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    permits: u32,
    book: PeerBook,
    sessions: Vec<Option<Session>>,
    busy: usize,
    met: BTreeMap<SessionId, usize>,
    /// For each block the sessions that it is asked of.
    asked: BTreeMap<(u32, u32), BTreeSet<usize>>,
    /// The bytes of the blocks that the writer has, piece by piece.
    written: BTreeMap<PieceIndex, BTreeMap<u32, u8>>,
    blame: Blame,
}

fn address(number: usize) -> SocketAddr {
    let [.., b, c] = number.to_be_bytes();
    SocketAddr::from(([10, 0, b, c], 6881))
}

fn number(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(v4) => v4.ip().octets()[2..].iter().fold(0, |n, b| n << 8 | *b as usize),
        SocketAddr::V6(_) => panic!("no such peer"),
    }
}

impl World {
    pub fn new(plan: Plan, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let base = Instant::now();
        let geometry = plan.geometry;
        let swarm = Swarm::new(geometry, Bitfield::none(geometry), rng.fork(), base);
        let peers: Vec<Peer> = (0..)
            .zip(&plan.peers)
            .map(|(number, nature)| Peer::new(number, nature.clone(), geometry))
            .collect();
        let mut book = PeerBook::default();
        (0..peers.len()).for_each(|number| assert!(book.add(address(number), base)));
        let mut world = Self {
            now: 0,
            sessions: peers.iter().map(|_| None).collect(),
            peers,
            swarm,
            tally: Tally::default(),
            banned: BTreeSet::new(),
            liars: BTreeSet::new(),
            too_loud: BTreeMap::new(),
            verified_at: BTreeMap::new(),
            permits: plan.permits,
            plan,
            rng,
            base,
            queue: BTreeMap::new(),
            queued: 0,
            book,
            busy: 0,
            met: BTreeMap::new(),
            asked: BTreeMap::new(),
            written: BTreeMap::new(),
            blame: Blame::default(),
        };
        world.later(0, Event::Tick);
        world
    }

    /// Runs until every piece is there and every session has ended.
    pub fn run(&mut self) {
        while !(self.swarm.stop && self.busy == 0) {
            let ((at, _), event) = self.queue.pop_first().expect("something goes on");
            self.now = at;
            self.tally.events += 1;
            // A block takes a few turns, and so does a second of any session.
            let looks = 8 * (self.now / SECOND + 1) * self.plan.slots as u64;
            let bound = 5 * self.tally.blocks + looks;
            assert!(self.tally.turns < bound, "it spins: {}", self.state());
            assert!(self.now < self.plan.patience, "it hangs: {}", self.state());
            self.on_event(event);
            self.ring();
            if self.swarm.picker.is_done() && !self.swarm.stop {
                self.swarm.stop();
                self.ring();
            }
        }
        assert_eq!(self.permits, self.plan.permits, "every permit comes back");
        assert_eq!(self.swarm.sessions(), 0);
        assert!(self.asked.values().all(BTreeSet::is_empty));
    }

    /// For a failure: where it stands.
    fn state(&self) -> String {
        format!(
            "{} s, had {} of {}, permits {}, sessions {}, {:?}",
            self.now / SECOND,
            self.swarm.picker.had().count(),
            self.plan.geometry.pieces(),
            self.permits,
            self.busy,
            self.tally
        )
    }

    fn time(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    fn later(&mut self, wait: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now + wait, self.queued), event);
    }

    /// Those whose wakers were rung take a turn.
    fn ring(&mut self) {
        for who in self.swarm.take_rings() {
            let peer = self.met[&who];
            let Some(session) = self.sessions[peer].as_mut().filter(|session| session.id == who)
            else {
                continue;
            };
            if !std::mem::replace(&mut session.rung, true) {
                let (wait, connection) = (self.rng.u64(1..MS), self.peers[peer].connection);
                self.later(wait, Event::Ring(peer, connection));
            }
        }
    }

    fn is_current(&self, peer: usize, connection: u32) -> bool {
        self.peers[peer].connection == connection && self.sessions[peer].is_some()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Tick => {
                self.dial();
                self.later(SECOND, Event::Tick);
            }
            Event::Dialled(peer) => self.on_dialled(peer),
            Event::Judge(piece) => self.judge(piece),
            Event::Heard(peer, connection, bytes) if self.is_current(peer, connection) => {
                self.turn(peer, Ok(bytes));
            }
            Event::HungUp(peer, connection) if self.is_current(peer, connection) => {
                self.turn(peer, Err(SessionEnd::Closed));
            }
            Event::Ring(peer, connection) if self.is_current(peer, connection) => {
                self.turn(peer, Ok(Vec::new()));
            }
            Event::Deadline(peer, connection) if self.is_current(peer, connection) => {
                let session = self.sessions[peer].as_mut().unwrap();
                if session.wake_at == Some(self.now) {
                    session.wake_at = None;
                    self.turn(peer, Ok(Vec::new()));
                }
            }
            Event::Said(number, connection, bytes) if self.is_current(number, connection) => {
                let peer = &mut self.peers[number];
                let mut at = 0;
                while let Some((message, length)) =
                    Message::decode(&bytes[at..], self.plan.geometry).expect("it speaks well")
                {
                    peer.on_message(&message, &mut self.rng);
                    at += length;
                }
                assert_eq!(at, bytes.len(), "a message was cut");
                self.listen(number);
            }
            Event::Habit(number, connection, habit) if self.is_current(number, connection) => {
                let hangs_up = self.peers[number].act(habit, &mut self.rng);
                self.listen(number);
                if hangs_up {
                    let arrives = self.sessions[number].as_ref().unwrap().arrives;
                    self.later(arrives - self.now, Event::HungUp(number, connection));
                }
            }
            _ => {}
        }
    }

    /// What the peer said goes on its way, in pieces that TCP might make of it; what it plans is
    /// noted.
    fn listen(&mut self, number: usize) {
        let peer = &mut self.peers[number];
        let (mut said, plans) = (std::mem::take(&mut peer.said), std::mem::take(&mut peer.plans));
        let (connection, latency) = (peer.connection, peer.nature.latency);
        for (wait, habit) in plans {
            self.later(wait, Event::Habit(number, connection, habit));
        }
        let session = self.sessions[number].as_mut().unwrap();
        session.arrives = session.arrives.max(self.now + latency);
        let wait = session.arrives - self.now;
        if said.len() > 1 && self.rng.u32(..4) == 0 {
            let rest = said.split_off(self.rng.usize(1..said.len()));
            self.later(wait, Event::Heard(number, connection, said));
            said = rest;
        }
        if !said.is_empty() {
            self.later(wait, Event::Heard(number, connection, said));
        }
    }

    // ---- the pool ------------------------------------------------------------------------------

    fn dial(&mut self) {
        let now = self.time();
        while self.busy < self.plan.slots
            && !self.swarm.stop
            && let Some(address) = self.book.next(now)
        {
            self.busy += 1;
            let peer = number(address);
            let nature = &self.peers[peer].nature;
            let wait =
                if nature.dead { u64::from(DIAL_TIMEOUT_MS) * MS } else { 4 * nature.latency };
            self.later(wait, Event::Dialled(peer));
        }
        self.swarm.others_wait = self.busy >= self.plan.slots && self.book.others_wait(now);
    }

    fn on_dialled(&mut self, number: usize) {
        if self.peers[number].nature.dead || self.swarm.stop {
            let end = SessionEnd::Unreachable(std::io::ErrorKind::TimedOut);
            return self.free_slot(number, &end, false, false);
        }
        let id = SessionId(self.tally.sessions);
        self.tally.sessions += 1;
        self.met.insert(id, number);
        self.peers[number].connect(&mut self.rng);
        let theirs = self.peers[number].handshake();
        let ours = Handshake {
            info_hash: InfoHash([7; 20]),
            peer_id: PeerId([1; 20]),
            fast: true,
            extended: true,
            dht: false,
        };
        let geometry = self.plan.geometry;
        let mut conversation = Conversation::new(id, geometry, &ours, &theirs, self.time());
        conversation.join(&mut self.swarm);
        self.sessions[number] = Some(Session {
            id,
            conversation,
            unread: Vec::new(),
            wake_at: None,
            rung: false,
            brought: false,
            fast: theirs.fast,
            choked: true,
            allowed: BTreeSet::new(),
            have: Bitfield::none(geometry),
            reqq: REQUESTS_IN_FLIGHT_MAX as usize,
            out: BTreeSet::new(),
            lost: BTreeSet::new(),
            arrives: self.now,
        });
        self.listen(number);
        self.turn(number, Ok(Vec::new()));
    }

    fn free_slot(&mut self, peer: usize, end: &SessionEnd, answered: bool, brought: bool) {
        self.busy -= 1;
        let lonely = self.swarm.sessions() == 0;
        self.book.on_end(address(peer), end, (answered, brought), lonely, self.time());
        self.dial();
    }

    // ---- a turn of a session -------------------------------------------------------------------

    /// As in the program: read, reconcile even if reading failed, hand over, flush.
    fn turn(&mut self, peer: usize, heard: Result<Vec<u8>, SessionEnd>) {
        self.tally.turns += 1;
        let now = self.time();
        let mut session = self.sessions[peer].take().unwrap();
        session.rung = false;
        let mut buffer = std::mem::take(&mut session.unread);
        let mut arrived = Vec::new();
        let read = heard.and_then(|bytes| {
            if !bytes.is_empty() {
                session.conversation.on_read(now)?;
            }
            buffer.extend_from_slice(&bytes);
            let rest = self.read(&mut session, &buffer, &mut arrived)?;
            session.unread = buffer[rest..].to_vec();
            Ok(())
        });

        let wanted = session.conversation.permits_wanted(now).min(self.permits);
        self.permits -= wanted;
        let mut permits = wanted;
        let reconciled =
            session.conversation.reconcile(&mut self.swarm, &mut arrived, &mut permits, now);
        self.permits += permits;
        session.brought |= !arrived.is_empty();
        self.write(peer, &buffer, &arrived);

        if let Err(end) = read.and(reconciled) {
            return self.end(peer, session, &end);
        }
        let outbox = std::mem::take(session.conversation.outbox());
        self.judge_outbox(peer, &mut session, &outbox);
        let (connection, latency) = (self.peers[peer].connection, self.peers[peer].nature.latency);
        if !outbox.is_empty() {
            self.later(latency, Event::Said(peer, connection, outbox));
        }
        let deadline = session.conversation.deadline();
        assert!(deadline > now, "a session that never sleeps: {}", self.state());
        let wait = u64::try_from((deadline - now).as_micros()).unwrap() + 1;
        if session.wake_at.is_none_or(|at| at != self.now + wait) {
            session.wake_at = Some(self.now + wait);
            self.later(wait, Event::Deadline(peer, connection));
        }
        self.sessions[peer] = Some(session);
    }

    /// Feeds every whole message to the conversation. Returns where the rest begins.
    fn read(
        &mut self,
        session: &mut Session,
        bytes: &[u8],
        arrived: &mut Vec<Received>,
    ) -> Result<usize, SessionEnd> {
        let mut at = 0;
        while let Some((message, length)) =
            Message::decode(&bytes[at..], self.plan.geometry).map_err(SessionEnd::Garbled)?
        {
            let taken = session.conversation.on_message(&message, self.time())?;
            if let Some(block) = taken {
                arrived.push(Received { block, at: at + PIECE_HEADER_LENGTH });
            }
            self.witness(session, &message);
            at += length;
        }
        Ok(at)
    }

    /// The judge hears what the session hears.
    fn witness(&mut self, session: &mut Session, message: &Message<'_>) {
        let geometry = self.plan.geometry;
        let peer = self.met[&session.id];
        match *message {
            Message::Choke => {
                session.choked = true;
                if !session.fast {
                    for block in std::mem::take(&mut session.out) {
                        self.settle(peer, session, block);
                    }
                }
            }
            Message::Unchoke => session.choked = false,
            Message::Bitfield(bytes) => {
                session.have = Bitfield::from_wire(bytes, geometry).unwrap();
            }
            Message::HaveAll => session.have = Bitfield::all(geometry),
            Message::Have(piece) => {
                session.have.insert(geometry.piece(piece).unwrap());
            }
            Message::AllowedFast(piece) => {
                session.allowed.insert(piece);
            }
            Message::Piece(piece, begin, _) => self.settle(peer, session, (piece, begin)),
            Message::Reject(range) => self.settle(peer, session, (range.piece, range.begin)),
            Message::Extended(HELLO, payload) => {
                let reqq = Hello::decode(payload).and_then(|hello| hello.reqq);
                session.reqq = reqq.map_or(session.reqq, |reqq| session.reqq.min(reqq as usize));
            }
            _ => {}
        }
    }

    /// A request is no longer out.
    fn settle(&mut self, peer: usize, session: &mut Session, block: (u32, u32)) {
        session.out.remove(&block);
        session.lost.remove(&block);
        if let Some(asked) = self.asked.get_mut(&block) {
            asked.remove(&peer);
        }
    }

    /// Holds what a session says against what it was told.
    fn judge_outbox(&mut self, peer: usize, session: &mut Session, outbox: &[u8]) {
        let mut at = 0;
        while let Some((message, length)) =
            Message::decode(&outbox[at..], self.plan.geometry).expect("it speaks well")
        {
            at += length;
            match message {
                Message::Request(range) => {
                    let block = (range.piece, range.begin);
                    let piece = self.plan.geometry.piece(range.piece).expect("it exists");
                    assert!(session.have.has(piece), "it has not got {piece}");
                    assert!(
                        !session.choked || session.fast && session.allowed.contains(&range.piece),
                        "{piece} was asked of a peer that chokes"
                    );
                    assert!(!self.swarm.picker.had().has(piece), "{piece} is had");
                    let number = range.begin / rusty_torrent::limits::BLOCK_LENGTH;
                    let here = self.written.get(&piece).is_some_and(|p| p.contains_key(&number));
                    assert!(!here, "{block:?} is here");
                    assert!(session.out.insert(block), "{block:?} was asked of {peer} twice");
                    assert!(session.out.len() <= session.reqq, "more than {}", session.reqq);
                    self.asked.entry(block).or_default().insert(peer);
                }
                Message::Cancel(range) => {
                    let block = (range.piece, range.begin);
                    assert!(session.out.contains(&block), "{block:?} was not asked for");
                    self.tally.cancels += 1;
                    self.settle(peer, session, block);
                }
                _ => {}
            }
        }
        assert_eq!(at, outbox.len(), "a message was cut");
        assert!(session.lost.is_empty(), "no cancel for {:?}", session.lost);
    }

    fn end(&mut self, number: usize, mut session: Session, end: &SessionEnd) {
        session.conversation.leave(&mut self.swarm, &mut self.permits);
        assert!(self.permits <= self.plan.permits, "a permit was returned twice");
        self.tally.cut_short += u32::from(!session.out.is_empty());
        for block in std::mem::take(&mut session.out) {
            self.settle(number, &mut session, block);
        }
        *self.tally.ended.entry(end.to_string()).or_default() += 1;
        if *end == SessionEnd::TooLoud {
            *self.too_loud.entry(number).or_default() += 1;
        }
        self.peers[number].disconnect();
        self.free_slot(number, end, true, session.brought);
    }

    // ---- the writer ----------------------------------------------------------------------------

    fn write(&mut self, peer: usize, buffer: &[u8], arrived: &[Received]) {
        for received in arrived {
            let block = received.block;
            self.tally.blocks += 1;
            let data = &buffer[received.at..received.at + block.length as usize];
            let byte = data[0];
            assert_eq!(&data[1..], &data[..data.len() - 1], "bytes of several blocks");
            if byte != right_byte(block) {
                self.liars.insert(peer);
            }
            let piece = self.written.entry(block.piece).or_default();
            assert_eq!(piece.insert(block.number(), byte), None, "a block was written twice");
            if piece.len() == self.plan.geometry.blocks_in(block.piece) as usize {
                let wait = self.rng.u64(MS..30 * MS);
                self.later(wait, Event::Judge(block.piece));
            }
            let key = (block.piece.get(), block.begin);
            for loser in self.asked.get(&key).into_iter().flatten() {
                if let Some(session) = &mut self.sessions[*loser] {
                    self.tally.lost_races += 1;
                    session.lost.insert(key);
                }
            }
        }
    }

    fn judge(&mut self, piece: PieceIndex) {
        let bytes = self.written.remove(&piece).unwrap();
        let geometry = self.plan.geometry;
        let right = |number: &u32| right_byte(geometry.block(piece, *number));
        let digests: Vec<[u8; 20]> = bytes.values().map(|byte| [*byte; 20]).collect();
        let guilty: Vec<SessionId> = if bytes.iter().all(|(number, byte)| right(number) == *byte) {
            self.swarm.on_verified(piece);
            let before = self.verified_at.insert(piece.get(), self.now);
            assert_eq!(before, None, "{piece} was verified twice");
            self.blame.on_verified(piece, &digests)
        } else {
            self.tally.failed_pieces += 1;
            // Its blocks are wanted again, of anybody who was asked.
            for session in self.sessions.iter_mut().flatten() {
                session.lost.retain(|(number, _)| *number != piece.get());
            }
            let brought = self.swarm.on_failed(piece);
            assert_eq!(brought.len(), bytes.len(), "every block has its sender");
            self.blame.on_failed(piece, &brought, &digests).into_iter().collect()
        };
        for who in guilty {
            let peer = self.met[&who];
            self.swarm.ban(who);
            self.book.ban(address(peer).ip());
            self.banned.insert(peer);
        }
    }
}

/// Blocks of 16 KiB, `blocks` to a piece; the last piece is shorter.
pub fn geometry(pieces: u32, blocks: u32) -> Geometry {
    let piece_length = blocks * rusty_torrent::limits::BLOCK_LENGTH;
    let total = u64::from(pieces) * u64::from(piece_length) - 1_000;
    Geometry::new(total, piece_length).unwrap()
}
