//! Decides what is said to one peer: its protocol state, from the handshake to the end. Messages
//! go in, bytes for the wire come out of `outbox`; sockets and clocks are elsewhere.
//!
//! A turn of a session calls [`Conversation::on_message`] for every message that came, then once
//! [`Conversation::reconcile`] with the swarm in hand: what came is handed in, what others did is
//! looked at, what is to be asked is asked.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::time::{Duration, Instant};

use crate::bitfield::Bitfield;
use crate::limits::{
    ALLOWED_FAST_MAX, CHOKED_MS, HUNGRY_LOOK_MS, KEEP_ALIVE_MS, LATE_GAIN_MS, LATE_REQUESTS_MAX,
    NEW_HAVES_MAX, OUTBOX_MAX_BYTES, OVERDUE_MAX, REJECT_PAUSE_MS, REJECTS_MAX,
    REQUEST_LENGTH_MAX_BYTES, REQUESTS_QUEUED_MAX, SILENCE_ASKED_MAX_MS, SILENCE_MAX_MS, SNUB_MS,
    SNUBS_MS, UNASKED_BLOCKS_MAX, USELESS_MS,
};
use crate::policy::exchange::Exchange;
use crate::policy::metadata::Lending;
use crate::policy::noise::Noise;
use crate::policy::picker::Arrival;
use crate::policy::pipeline::Pipeline;
use crate::policy::serving::Serving;
use crate::policy::swarm::Swarm;
use crate::protocol::exchange::Contact;
use crate::protocol::extension::{self, Hello, Ours};
use crate::protocol::handshake::Handshake;
use crate::protocol::message::{Garbled, Message, Range};
use crate::protocol::metadata;
use crate::units::{Block, Geometry, PieceIndex, SessionId};

/// Bytes of what stands around the extension handshake, the bits of a bitfield not counted.
const MESSAGES_FIRST_BYTES: usize = 24;
const SNUB: Duration = Duration::from_millis(SNUB_MS as u64);
const SNUBS: Duration = Duration::from_millis(SNUBS_MS as u64);
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS as u64);
const SILENCE_ASKED_MAX: Duration = Duration::from_millis(SILENCE_ASKED_MAX_MS as u64);
const KEEP_ALIVE: Duration = Duration::from_millis(KEEP_ALIVE_MS as u64);
const CHOKED: Duration = Duration::from_millis(CHOKED_MS as u64);
const USELESS: Duration = Duration::from_millis(USELESS_MS as u64);
const REJECT_PAUSE: Duration = Duration::from_millis(REJECT_PAUSE_MS as u64);
const HUNGRY_LOOK: Duration = Duration::from_millis(HUNGRY_LOOK_MS as u64);

/// Why a session ended. It is a value, not an error of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// No connection came about.
    Unreachable(std::io::ErrorKind),
    /// The peer closed the connection.
    Closed,
    /// The connection broke.
    Lost(std::io::ErrorKind),
    /// The peer said nothing for too long.
    Silent,
    /// The peer sent what no peer may send.
    Broke(&'static str),
    /// The peer sent what can't be read.
    Garbled(Garbled),
    /// The peer said too much that brings nothing.
    TooLoud,
    /// The peer is we.
    Ourselves,
    /// The peer sent wrong data.
    Banned,
    /// The peer brings nothing while others wait for its place.
    Useless,
    /// Both sides have everything.
    Content,
    /// There is a session with this peer already.
    Double,
    /// The run is over.
    Stopped,
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(kind) => write!(f, "not reached: {kind}"),
            Self::Closed => write!(f, "closed by the peer"),
            Self::Lost(kind) => write!(f, "connection lost: {kind}"),
            Self::Silent => write!(f, "silent for too long"),
            Self::Broke(rule) => write!(f, "broke a rule: {rule}"),
            Self::Garbled(garbled) => write!(f, "broke a rule: {garbled}"),
            Self::TooLoud => write!(f, "a flood of what brings nothing"),
            Self::Ourselves => write!(f, "it is ourselves"),
            Self::Banned => write!(f, "sent wrong data"),
            Self::Useless => write!(f, "brought nothing while others wait"),
            Self::Double => write!(f, "connected already"),
            Self::Content => write!(f, "neither needs anything of the other"),
            Self::Stopped => write!(f, "the run is over"),
        }
    }
}

/// A block that came and where its bytes begin in the buffer that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which block.
    pub block: Block,
    /// Bytes from the start of the buffer.
    pub at: usize,
}

/// A request that is out.
struct Request {
    block: Block,
    sent: Instant,
    /// How many requests were out then, with this one.
    ahead: u32,
    /// It is for a block that another peer is late with.
    late: bool,
    /// It was sent before, and given up.
    again: bool,
    /// How long the peer had waited for us by then, in all.
    held_ms: u32,
}

/// A piece that blocks are asked for from.
struct Job {
    piece: PieceIndex,
    /// Requests for it that are out.
    out: u32,
    /// Nothing of it is left to ask for.
    asked_out: bool,
}

/// What is known of the other side, and what is under way with it.
pub struct Conversation {
    id: SessionId,
    geometry: Geometry,
    fast: bool,
    extended: bool,
    // Theirs.
    have: Bitfield,
    told: Option<Bitfield>,
    has_told: bool,
    /// `told` is `have` and what was told one by one.
    gathered: bool,
    new_haves: Vec<PieceIndex>,
    chokes_us: bool,
    allowed_fast: Vec<PieceIndex>,
    hello: Option<Hello>,
    /// Its host, and where others can reach it, as far as is known.
    host: Option<IpAddr>,
    contact: Option<SocketAddr>,
    dialled: bool,
    /// Others may be told of that.
    is_told_of: bool,
    exchange: Exchange,
    heard: Vec<SocketAddr>,
    /// Both sides have a node of the DHT.
    dht: bool,
    /// Where the peer's is, if it just said so.
    node: Option<SocketAddr>,
    lending: Lending,
    /// It wants what we have.
    wants: bool,
    /// What it has asked for since the last turn.
    asks: Vec<Block>,
    // Ours.
    /// It was told that we have everything.
    told_all: bool,
    chokes: bool,
    serving: Serving,
    sent_bytes: u64,
    /// When it was let in, or something was sent to it after that.
    last_sent: Instant,
    interested: bool,
    wanted: u32,
    jobs: VecDeque<Job>,
    requests: VecDeque<Request>,
    late_requests: usize,
    given_up: Vec<Block>,
    /// Requests that were given up as late. The peer has them still: they count as out, and are
    /// not sent again.
    owed: Vec<Block>,
    owed_since: Option<Instant>,
    /// Blocks that are not on their way any longer, as far as is known, but are taken if they come.
    overdue: VecDeque<Block>,
    last_piece: Option<PieceIndex>,
    pipeline: Pipeline,
    log_counted: usize,
    log_told: usize,
    outbox: Vec<u8>,
    hungry: bool,
    // Patience.
    /// Since when what the peer sent waits until a rate limit of ours lets it pass. Meanwhile the
    /// peer's time does not count.
    held_since: Option<Instant>,
    /// How long it has waited so before.
    held: Duration,
    /// A second request for a block that another peer is late with could bring it sooner.
    may_race: bool,
    began: Instant,
    last_turn: Instant,
    last_heard: Instant,
    /// When the oldest request went out of those that are not answered, given up ones among them.
    asked: Instant,
    last_said: Instant,
    last_block: Option<Instant>,
    first_unchoke: Option<Instant>,
    paused_until: Option<Instant>,
    unasked: u32,
    unasked_bytes: u64,
    rejects: u32,
    noise: Noise,
}

impl Conversation {
    /// Begins after the handshakes: `theirs` is what the peer sent, `ours` what we did.
    pub fn new(
        id: SessionId,
        geometry: Geometry,
        ours: &Handshake,
        theirs: &Handshake,
        now: Instant,
    ) -> Self {
        let mut conversation = Self {
            id,
            geometry,
            fast: ours.fast && theirs.fast,
            extended: false,
            have: Bitfield::none(geometry),
            told: None,
            has_told: false,
            gathered: false,
            new_haves: Vec::new(),
            chokes_us: true,
            allowed_fast: Vec::new(),
            hello: None,
            host: None,
            contact: None,
            dialled: false,
            is_told_of: false,
            exchange: Exchange::default(),
            heard: Vec::new(),
            dht: ours.dht && theirs.dht,
            node: None,
            lending: Lending::default(),
            wants: false,
            asks: Vec::new(),
            told_all: false,
            chokes: true,
            serving: Serving::default(),
            sent_bytes: 0,
            last_sent: now,
            interested: false,
            wanted: 0,
            jobs: VecDeque::new(),
            requests: VecDeque::new(),
            late_requests: 0,
            given_up: Vec::new(),
            owed: Vec::new(),
            owed_since: None,
            overdue: VecDeque::new(),
            last_piece: None,
            pipeline: Pipeline::default(),
            log_counted: 0,
            log_told: 0,
            outbox: Vec::new(),
            hungry: false,
            held_since: None,
            held: Duration::ZERO,
            may_race: true,
            began: now,
            last_turn: now,
            last_heard: now,
            asked: now,
            last_said: now,
            last_block: None,
            first_unchoke: None,
            paused_until: None,
            unasked: 0,
            unasked_bytes: 0,
            rejects: 0,
            noise: Noise::new(now),
        };
        conversation.extended = ours.extended && theirs.extended;
        conversation
    }

    /// Where the peer is. Others can reach it there if it was we who dialled.
    pub fn is_at(&mut self, address: SocketAddr, dialled: bool) {
        self.host = Some(address.ip());
        self.contact = dialled.then_some(address);
        self.dialled = dialled;
    }

    /// Enters the swarm and tells the peer what we have (BEP 3 "bitfield", BEP 6 "have none").
    pub fn join(&mut self, swarm: &mut Swarm) {
        swarm.join(self.id, self.began);
        self.log_counted = swarm.verified().len();
        self.log_told = self.log_counted;
        let had = swarm.picker.had();
        self.told_all = had.is_full();
        let mut hello = Vec::new();
        if self.extended {
            ours(swarm).encode(&mut hello);
        }
        // What we have must be the first message.
        self.outbox.reserve_exact(had.as_bytes().len() + MESSAGES_FIRST_BYTES + hello.len());
        match (self.fast, had.is_empty(), had.is_full()) {
            (true, true, _) => Message::HaveNone.encode(&mut self.outbox),
            (true, _, true) => Message::HaveAll.encode(&mut self.outbox),
            (false, true, _) => {}
            _ => Message::Bitfield(had.as_bytes()).encode(&mut self.outbox),
        }
        self.outbox.extend_from_slice(&hello);
        if let Some(port) = swarm.dht_port.filter(|_| self.dht) {
            Message::Port(port).encode(&mut self.outbox);
        }
    }

    /// Leaves the swarm: everything that is under way goes back, and so do the permits of the
    /// jobs, to `permits`.
    pub fn leave(&mut self, swarm: &mut Swarm, permits: &mut u32) {
        self.give_up_all();
        self.return_blocks(swarm);
        self.jobs.iter_mut().for_each(|job| job.asked_out = true);
        self.end_idle_jobs(swarm, permits);
        swarm.picker.on_leave(&self.have);
        if let Some(contact) = self.contact.filter(|_| self.is_told_of) {
            swarm.contacts.left(contact);
        }
        swarm.leave(self.id);
    }

    /// The torrent's measures.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes that wait to be sent. The session takes from the front what it could send.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// The requests that are to be answered, once the outbox is empty. Not those of a peer that is
    /// being choked.
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// So many bytes of what is [served](Self::serving) went to the peer.
    pub fn on_served(&mut self, bytes: usize, now: Instant) {
        let (whole, data) = self.serving.on_sent(bytes);
        self.sent_bytes += data;
        self.last_said = now;
        if bytes > 0 {
            self.last_sent = now;
        }
        // To ask for what is sent is no noise.
        (0..whole).for_each(|_| self.noise.make_up_for_block());
    }

    /// The client's name as the peer told it, not to be shown raw.
    pub fn client(&self) -> Option<&[u8]> {
        self.hello.as_ref().and_then(|hello| hello.client.as_deref())
    }

    /// How many permits for new jobs the next [`Conversation::reconcile`] can use at most.
    pub fn permits_wanted(&self, now: Instant) -> u32 {
        if !self.may_ask(now) {
            return 0;
        }
        let room = self.room();
        let blocks = self.geometry.piece_length().div_ceil(crate::limits::BLOCK_LENGTH);
        u32::try_from(room).unwrap_or(u32::MAX).div_ceil(blocks)
    }

    /// When the session must take a turn even if nothing comes.
    pub fn deadline(&self) -> Instant {
        let mut deadline = self.last_said + KEEP_ALIVE;
        if let Some(snub) = self.snub_at() {
            deadline = deadline.min(snub);
        }
        if let Some(until) = self.paused_until {
            deadline = deadline.min(until);
        }
        if self.hungry {
            deadline = deadline.min(self.last_turn + HUNGRY_LOOK);
        }
        if !self.lending.is_empty() && self.outbox.is_empty() {
            deadline = self.last_turn;
        }
        if self.held_since.is_some() {
            return deadline;
        }
        // Past that time, whether others wait is looked at now and again.
        let next = |at| if at > self.last_turn { at } else { self.last_turn + USELESS };
        let patience = next(self.useless_at()).min(next(self.unserved_at()));
        deadline.min(self.silent_at()).min(patience)
    }

    /// How long what the peer sends next may wait to be read, where `room_bytes` may gather; `None`
    /// if it should be read at once.
    pub fn nap(&self, room_bytes: usize) -> Option<Duration> {
        // A pipeline that could not be filled is near the end of the work, where time counts.
        if self.hungry || self.chokes_us || self.room() > 0 {
            return None;
        }
        let out = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        self.pipeline.nap(out, room_bytes)
    }

    /// Whether all that passes is what the peer asked for: it has nothing that we want.
    pub fn only_gives(&self) -> bool {
        !self.interested && self.requests.is_empty() && !self.serving.is_empty()
    }

    // ---- a rate limit of ours ------------------------------------------------------------------

    /// What is read, from all peers together, is limited.
    pub fn on_limit(&mut self) {
        self.pipeline.on_limit();
    }

    /// What the peer sent waits to be read, until [`Conversation::release`].
    pub fn hold(&mut self, now: Instant) {
        self.held_since.get_or_insert(now);
    }

    /// It is read now. All that the peer has to do in time it may do so much later.
    pub fn release(&mut self, now: Instant) {
        let Some(since) = self.held_since.take() else { return };
        let held = now.saturating_duration_since(since);
        self.held += held;
        let marks = [&mut self.began, &mut self.last_heard, &mut self.asked, &mut self.last_sent];
        let marks = marks.into_iter();
        let marks = marks.chain(&mut self.last_block).chain(&mut self.first_unchoke);
        marks.chain(&mut self.owed_since).for_each(|mark| *mark += held);
    }

    /// Whether the limit leaves room: while it is what everybody waits for, a block that is asked
    /// of two peers comes no sooner.
    pub fn allow_races(&mut self, may_race: bool) {
        self.may_race = may_race;
    }

    /// How long the peer has waited for us, in all (ms).
    fn held_ms(&self, now: Instant) -> u32 {
        let held = self.held_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        u32::try_from((self.held + held).as_millis()).unwrap_or(u32::MAX)
    }

    /// How long it has done so since a request went out.
    fn held_during(&self, request: &Request) -> Duration {
        let held = Duration::from_millis(u64::from(request.held_ms));
        self.held.saturating_sub(held)
    }

    // ---- what comes ----------------------------------------------------------------------------

    /// Takes note of a read of the peer's socket, before the messages that it brought, if only a
    /// part of one.
    ///
    /// # Errors
    /// The peer is too loud, and the session ends.
    pub fn on_read(&mut self, now: Instant) -> Result<(), SessionEnd> {
        self.last_heard = now;
        self.hear_noise(0, now)
    }

    /// Takes in one message. Returns the block that it brought, if it brought one that was asked
    /// for; its data are the message's.
    ///
    /// # Errors
    /// The peer broke a rule, and the session ends.
    pub fn on_message(
        &mut self,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<Option<Block>, SessionEnd> {
        self.last_heard = now;
        let mut length = 0;
        match *message {
            Message::Piece(piece, begin, data) => return self.on_block(piece, begin, data, now),
            Message::Choke => self.on_choke(),
            Message::Unchoke => {
                self.chokes_us = false;
                self.first_unchoke.get_or_insert(now);
            }
            Message::Have(piece) => return self.on_have(piece).map(|()| None),
            Message::Bitfield(bytes) => {
                let Some(have) = Bitfield::from_wire(bytes, self.geometry) else {
                    return Err(SessionEnd::Broke("bitfield of the wrong length"));
                };
                length = bytes.len();
                self.on_told(have);
            }
            Message::HaveAll => self.on_told(Bitfield::all(self.geometry)),
            Message::HaveNone => self.on_told(Bitfield::none(self.geometry)),
            Message::Reject(range) => return self.on_reject(range, now).map(|()| None),
            Message::AllowedFast(piece) => {
                let piece = self.geometry.piece(piece);
                let piece = piece.filter(|piece| !self.allowed_fast.contains(piece));
                if self.allowed_fast.len() < ALLOWED_FAST_MAX {
                    self.allowed_fast.extend(piece);
                }
            }
            Message::Request(range) if self.on_request(range) => return Ok(None),
            Message::Request(range) => self.refuse(range),
            Message::Cancel(range) => self.on_cancel(range),
            Message::Interested => self.wants = true,
            Message::NotInterested => self.wants = false,
            Message::Extended(extension::HELLO, payload) => {
                length = payload.len();
                if let Some(hello) = Hello::decode(payload) {
                    hello.reqq.into_iter().for_each(|reqq| self.pipeline.on_reqq(reqq));
                    if let (None, Some(host), Some(port)) = (self.contact, self.host, hello.port) {
                        self.contact = Some(SocketAddr::new(host, port.get()));
                    }
                    self.hello = Some(hello);
                }
            }
            Message::Extended(extension::METADATA, payload) => {
                length = payload.len();
                self.on_metadata(payload);
            }
            Message::Extended(extension::EXCHANGE, payload) => {
                length = payload.len();
                self.heard.append(&mut self.exchange.on_message(payload, now));
            }
            // Hints are not followed.
            Message::KeepAlive | Message::Suggest(_) => {}
            Message::Port(port) => self.node = self.host.map(|host| SocketAddr::new(host, port)),
            Message::Extended(_, payload) | Message::Unknown(_, payload) => length = payload.len(),
        }
        self.hear_noise(length, now).map(|()| None)
    }

    /// Takes note of a message of so many bytes that was too long to be of use.
    ///
    /// # Errors
    /// The peer is too loud, and the session ends.
    pub fn on_long_message(&mut self, length: usize, now: Instant) -> Result<(), SessionEnd> {
        self.last_heard = now;
        self.hear_noise(length, now)
    }

    fn hear_noise(&mut self, bytes: usize, now: Instant) -> Result<(), SessionEnd> {
        if self.noise.hear(bytes, now) { Ok(()) } else { Err(SessionEnd::TooLoud) }
    }

    fn on_block(
        &mut self,
        piece: u32,
        begin: u32,
        data: &[u8],
        now: Instant,
    ) -> Result<Option<Block>, SessionEnd> {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if let Some(block) = self.geometry.range(piece, begin, length) {
            if let Some(at) = self.requests.iter().position(|request| request.block == block) {
                self.last_block = Some(now);
                if let Some(request) = self.requests.remove(at) {
                    if request.again {
                        self.pipeline.on_late_block();
                    } else {
                        let held = self.held_during(&request);
                        self.pipeline.on_held_block(now - request.sent, held, request.ahead);
                    }
                    self.close(&request);
                }
                self.noise.make_up_for_block();
                return Ok(Some(block));
            }
            let overdue = self.overdue.iter().position(|late| *late == block);
            if self.take_owed(block) || overdue.and_then(|at| self.overdue.remove(at)).is_some() {
                self.last_block = Some(now);
                self.pipeline.on_late_block();
                self.noise.make_up_for_block();
                return Ok(Some(block));
            }
        }
        self.unasked += 1;
        self.unasked_bytes += u64::from(length);
        if self.unasked > UNASKED_BLOCKS_MAX {
            return Err(SessionEnd::Broke("blocks that nobody asked for"));
        }
        Ok(None)
    }

    fn on_choke(&mut self) {
        self.chokes_us = true;
        // With the fast extension each request is rejected by name (BEP 6); without it a choke
        // is the end of them all.
        if !self.fast {
            self.give_up_all();
            self.write_off();
        }
        // Nor is more asked of the jobs under way: what is left of them is for others.
        let allowed = &self.allowed_fast;
        let barred = |job: &&mut Job| !allowed.contains(&job.piece);
        self.jobs.iter_mut().filter(barred).for_each(|job| job.asked_out = true);
    }

    fn on_have(&mut self, piece: u32) -> Result<(), SessionEnd> {
        let Some(piece) = self.geometry.piece(piece) else {
            return Err(SessionEnd::Broke("a piece that does not exist"));
        };
        let known =
            self.told.as_ref().unwrap_or(&self.have).has(piece) || self.new_haves.contains(&piece);
        if self.told.is_none() && self.new_haves.len() >= NEW_HAVES_MAX {
            let mut told = self.have.clone();
            for piece in self.new_haves.drain(..) {
                told.insert(piece);
            }
            self.told = Some(told);
            self.gathered = true;
        }
        match &mut self.told {
            _ if known => {}
            Some(told) => {
                told.insert(piece);
            }
            None => self.new_haves.push(piece),
        }
        if known {
            return self.hear_noise(0, self.last_heard);
        }
        self.noise.make_up_for_news();
        Ok(())
    }

    /// The peer told the whole of what it has. Some do so again in place of many `have`s, as aria2
    /// does while it downloads; what was told before stays true.
    fn on_told(&mut self, have: Bitfield) {
        if !std::mem::replace(&mut self.has_told, true) {
            self.told = Some(have);
            self.gathered = false;
            return;
        }
        let mut told = self.told.take().unwrap_or_else(|| {
            self.gathered = true;
            self.have.clone()
        });
        for piece in self.geometry.all_pieces().filter(|piece| have.has(*piece)) {
            if told.insert(piece) {
                self.noise.make_up_for_news();
            }
        }
        self.told = Some(told);
    }

    fn on_reject(&mut self, range: Range, now: Instant) -> Result<(), SessionEnd> {
        self.hear_noise(0, now)?;
        let request = self.requests.iter().position(|request| Range::from(request.block) == range);
        let Some(request) = request.and_then(|at| self.requests.remove(at)) else {
            self.owed.retain(|block| Range::from(*block) != range);
            return Ok(());
        };
        self.close(&request);
        self.given_up.push(request.block);
        if self.chokes_us {
            // If this was allowed it is no longer: asked again, it would be rejected again at once.
            self.allowed_fast.retain(|piece| *piece != request.block.piece);
        } else {
            self.rejects += 1;
            // A peer that comes to itself first answers what was cancelled meanwhile.
            if !self.pipeline.is_snubbed() {
                self.pipeline.on_reject();
            }
            self.paused_until = Some(now + REJECT_PAUSE);
        }
        if self.rejects > REJECTS_MAX {
            return Err(SessionEnd::Broke("rejects what it offers"));
        }
        Ok(())
    }

    /// Whether the request can be answered, if we have the piece: that is seen in the turn.
    fn on_request(&mut self, range: Range) -> bool {
        let block = self.geometry.range(range.piece, range.begin, range.length);
        let block = block.filter(|block| block.length <= REQUEST_LENGTH_MAX_BYTES);
        let fits = !self.chokes && self.asks.len() < REQUESTS_QUEUED_MAX as usize;
        self.asks.extend(block.filter(|_| fits));
        fits && block.is_some()
    }

    /// A request will not be answered. Without the fast extension there is no word for that.
    fn refuse(&mut self, range: Range) {
        if self.fast && self.outbox.len() < OUTBOX_MAX_BYTES {
            Message::Reject(range).encode(&mut self.outbox);
        }
    }

    /// A cancelled request is answered as well: with the block, or with a reject (BEP 6).
    fn on_cancel(&mut self, range: Range) {
        let Some(block) = self.geometry.range(range.piece, range.begin, range.length) else {
            return;
        };
        let asked = self.asks.iter().position(|asked| *asked == block);
        if asked.map(|at| self.asks.remove(at)).is_some() || self.serving.cancel(block) {
            self.refuse(range);
        }
    }

    // ---- the turn ------------------------------------------------------------------------------

    /// Brings this side and the swarm together. `arrived` are the blocks that came since the last
    /// turn; those that are still wanted stay in it. `permits` is how many jobs may be begun; it
    /// is left as how many may be still, those of ended jobs added.
    ///
    /// # Errors
    /// The session is over.
    pub fn reconcile(
        &mut self,
        swarm: &mut Swarm,
        arrived: &mut Vec<Received>,
        permits: &mut u32,
        now: Instant,
    ) -> Result<(), SessionEnd> {
        self.last_turn = now;
        self.hand_in(swarm, arrived);
        if swarm.stop {
            return Err(SessionEnd::Stopped);
        }
        if swarm.is_banned(self.id) {
            return Err(SessionEnd::Banned);
        }
        self.count_verified(swarm);
        self.hear_haves(swarm);
        self.snub_if_late(now);
        self.cancel_lost_races(swarm);
        self.return_blocks(swarm);
        self.end_idle_jobs(swarm, permits);
        self.tell_haves(swarm);
        self.tell_all(swarm);
        self.say_interest();
        self.trade(swarm, now);
        self.lend(swarm);
        self.exchange(swarm, now);
        self.ask(swarm, permits, now);
        self.keep_alive(now);
        self.check_patience(swarm, now)
    }

    /// What came goes to the picker; what nobody waits for any longer is dropped.
    fn hand_in(&mut self, swarm: &mut Swarm, arrived: &mut Vec<Received>) {
        swarm.wasted += std::mem::take(&mut self.unasked_bytes);
        arrived.retain(|received| {
            let length = u64::from(received.block.length);
            match swarm.picker.on_block(self.id, received.block) {
                Arrival::Fresh(others) => {
                    swarm.on_received(self.id, length);
                    others.into_iter().flatten().for_each(|other| swarm.outrun(other));
                    true
                }
                Arrival::Stale => {
                    swarm.wasted += length;
                    false
                }
            }
        });
    }

    /// A request is no longer out, whatever became of it.
    fn close(&mut self, request: &Request) {
        if request.late {
            self.late_requests -= 1;
            return;
        }
        let piece = request.block.piece;
        if let Some(job) = self.jobs.iter_mut().find(|job| job.piece == piece && job.out > 0) {
            job.out -= 1;
        }
    }

    /// Jobs with nothing left to ask for and nothing out are done.
    fn end_idle_jobs(&mut self, swarm: &mut Swarm, permits: &mut u32) {
        self.jobs.retain(|job| {
            let done = job.out == 0 && job.asked_out;
            if done {
                swarm.picker.end_job(job.piece);
                *permits += 1;
            }
            !done
        });
    }

    /// What the peer has, as far as it told since the last turn.
    fn hear_haves(&mut self, swarm: &mut Swarm) {
        match self.told.take() {
            // Many that were told one by one: those that it had before need not be counted anew.
            Some(told) if std::mem::take(&mut self.gathered) => {
                for piece in self.geometry.all_pieces().filter(|piece| told.has(*piece)) {
                    self.hear_have(swarm, piece);
                }
            }
            Some(told) => {
                swarm.picker.on_leave(&self.have);
                self.have = told;
                swarm.picker.on_join(&self.have);
                self.wanted = swarm.picker.wanted(&self.have);
            }
            None => {}
        }
        for piece in std::mem::take(&mut self.new_haves) {
            self.hear_have(swarm, piece);
        }
    }

    fn hear_have(&mut self, swarm: &mut Swarm, piece: PieceIndex) {
        if self.have.has(piece) {
            return;
        }
        swarm.picker.on_have(&self.have, piece);
        self.have.insert(piece);
        self.wanted += u32::from(swarm.picker.wants(piece));
    }

    /// Requests that were given up go back to the picker; others can have their blocks.
    fn return_blocks(&mut self, swarm: &mut Swarm) {
        if self.given_up.is_empty() {
            return;
        }
        let mut free = false;
        for block in std::mem::take(&mut self.given_up) {
            free |= swarm.picker.give_back(self.id, block);
        }
        // A job that came to nothing ends; the next one may be for the same piece.
        self.jobs.iter_mut().filter(|job| job.out == 0).for_each(|job| job.asked_out = true);
        if free {
            swarm.feed();
        }
    }

    /// Every request that is out is given up: others can have its block. The peer owes it still.
    fn give_up_all(&mut self) {
        for request in std::mem::take(&mut self.requests) {
            self.close(&request);
            self.given_up.push(request.block);
            self.owed.push(request.block);
        }
    }

    /// The peer will not send what it owes; but if it does, that is taken.
    fn write_off(&mut self) {
        self.overdue.extend(self.owed.drain(..));
        self.overdue.drain(..self.overdue.len().saturating_sub(OVERDUE_MAX));
    }

    /// Whether the peer owes `block`; it does so no longer.
    fn take_owed(&mut self, block: Block) -> bool {
        let at = self.owed.iter().position(|owed| *owed == block);
        at.map(|at| self.owed.remove(at)).is_some()
    }

    /// Takes back requests whose block has come from somebody else.
    fn cancel_lost_races(&mut self, swarm: &mut Swarm) {
        if swarm.take_outrun(self.id) {
            // Those whose piece was wrong meanwhile and is fetched again are cancelled only if
            // nobody waits for them: the peer owes them, and is not to be asked twice.
            for _ in 0..self.requests.len() {
                let Some(request) = self.requests.pop_front() else { break };
                if swarm.picker.is_asked(self.id, request.block) {
                    self.requests.push_back(request);
                    continue;
                }
                self.close(&request);
                self.owed.push(request.block);
            }
        }
        for block in self.owed.extract_if(.., |block| !swarm.picker.is_awaited(*block)) {
            Message::Cancel(block.into()).encode(&mut self.outbox);
        }
    }

    /// Pieces that were verified since the last turn are no longer wanted of this peer.
    fn count_verified(&mut self, swarm: &Swarm) {
        for piece in swarm.verified().get(self.log_counted..).unwrap_or(&[]) {
            self.wanted -= u32::from(self.have.has(*piece));
        }
        self.log_counted = swarm.verified().len();
    }

    /// It has everything, or wants nothing more (BEP 21).
    fn takes_nothing(&self) -> bool {
        self.have.is_full() || self.hello.as_ref().is_some_and(|hello| hello.upload_only)
    }

    /// Tells the peer of pieces that were verified, unless it has them. One that wants nothing
    /// hears of them if it changes its mind.
    fn tell_haves(&mut self, swarm: &Swarm) {
        if self.takes_nothing() {
            return;
        }
        while let Some(piece) = swarm.verified().get(self.log_told)
            && self.outbox.len() < OUTBOX_MAX_BYTES
        {
            self.log_told += 1;
            if !self.have.has(*piece) {
                Message::Have(piece.get()).encode(&mut self.outbox);
            }
        }
    }

    /// Tells the peer once that we have everything (BEP 21): it did not hear of the pieces that it
    /// has itself, and if it has them all, it has no reason to stay.
    fn tell_all(&mut self, swarm: &Swarm) {
        let news = self.extended && !self.told_all && swarm.picker.is_done();
        if news && self.outbox.len() < OUTBOX_MAX_BYTES {
            self.told_all = true;
            ours(swarm).encode(&mut self.outbox);
        }
    }

    fn say_interest(&mut self) {
        let interested = self.wanted > 0;
        // A peer that does not read hears of it later.
        if interested != self.interested && self.outbox.len() < OUTBOX_MAX_BYTES {
            self.interested = interested;
            let message = if interested { Message::Interested } else { Message::NotInterested };
            message.encode(&mut self.outbox);
        }
    }

    /// The peer asks what the torrent is (BEP 9).
    fn on_metadata(&mut self, payload: &[u8]) {
        if let Some(metadata::Message::Request(number)) = metadata::Message::decode(payload)
            && !self.lending.on_request(number)
        {
            self.say(|hello| hello.metadata, &metadata::Message::Reject(number).encode(0));
        }
    }

    /// Tells the peer a part of what the torrent is, once it has read the last.
    fn lend(&mut self, swarm: &Swarm) {
        let info = swarm.metainfo.as_ref().map_or(&[][..], |metainfo| metainfo.info());
        if self.outbox.is_empty()
            && let Some(answer) = self.lending.answer(info)
            && let Some(number) = self.hello.as_ref().and_then(|hello| hello.metadata)
        {
            answer.say(number.get(), info.len(), &mut self.outbox);
        }
    }

    /// Tells the peer of others, and listens to what it tells.
    fn exchange(&mut self, swarm: &mut Swarm, now: Instant) {
        let heard = std::mem::take(&mut self.heard);
        if !swarm.is_public() {
            return;
        }
        swarm.hear_of(heard);
        if let Some(node) = self.node.take() {
            swarm.hear_of_node(node);
        }
        // It has told by then whether it is a seed.
        if let Some(address) = self.contact.filter(|_| !self.is_told_of && self.has_told) {
            let is_seed = self.takes_nothing();
            let reachable = self.dialled;
            swarm.contacts.came(Contact { address, is_seed, reachable });
            self.is_told_of = true;
        }
        let takes = self.hello.as_ref().is_some_and(|hello| hello.exchange.is_some());
        if takes
            && self.outbox.len() < OUTBOX_MAX_BYTES
            && let Some(news) = self.exchange.tell(&swarm.contacts, self.contact, now)
        {
            self.say(|hello| hello.exchange, &news);
        }
    }

    /// Says an extension message, if the peer takes such a one and reads what is said.
    fn say(&mut self, number: fn(&Hello) -> Option<NonZero<u8>>, payload: &[u8]) {
        let number = self.hello.as_ref().and_then(number);
        if let Some(number) = number.filter(|_| self.outbox.len() < OUTBOX_MAX_BYTES) {
            Message::Extended(number.get(), payload).encode(&mut self.outbox);
        }
    }

    /// What the peer wants of us, and whether it may.
    fn trade(&mut self, swarm: &mut Swarm, now: Instant) {
        if self.sent_bytes > 0 {
            swarm.on_sent(self.id, std::mem::take(&mut self.sent_bytes));
        }
        let owes_since = self.last_block.map_or(self.asked, |block| block.max(self.asked));
        let snubs = self.pipeline.is_snubbed() && self.wanted > 0 && now >= owes_since + SNUBS;
        let may_ask = swarm.on_peer(self.id, (self.wants, self.takes_nothing(), snubs), now);
        for block in std::mem::take(&mut self.asks) {
            if !swarm.picker.had().has(block.piece) || !self.serving.ask(block) {
                self.refuse(block.into());
            }
        }
        let chokes = !may_ask;
        // A peer that does not read hears of it later.
        if chokes != self.chokes && self.outbox.len() < OUTBOX_MAX_BYTES {
            self.chokes = chokes;
            self.last_sent = now;
            let message = if chokes { Message::Choke } else { Message::Unchoke };
            message.encode(&mut self.outbox);
            if chokes {
                for block in self.serving.cancel_all() {
                    self.refuse(block.into());
                }
            }
        }
    }

    fn may_ask(&self, now: Instant) -> bool {
        let paused = self.paused_until.is_some_and(|until| now < until);
        !paused && (!self.chokes_us || self.fast && !self.allowed_fast.is_empty())
    }

    /// How many requests more may be out.
    fn room(&self) -> usize {
        (self.pipeline.depth() as usize).saturating_sub(self.requests.len() + self.owed.len())
    }

    fn ask(&mut self, swarm: &mut Swarm, permits: &mut u32, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| now < *until);
        self.hungry = false;
        if self.wanted > 0 && self.may_ask(now) {
            let due_ms = swarm.ms(now + self.pipeline.expected());
            let allowed = self.chokes_us.then(|| self.allowed());
            let allowed = allowed.as_ref();
            while self.room() > 0 && self.outbox.len() < OUTBOX_MAX_BYTES {
                let early = self.next_block(swarm, allowed, permits, due_ms);
                let late = || self.late_block(swarm, allowed, now, due_ms);
                let Some(block) = early.or_else(late) else {
                    self.hungry = true;
                    break;
                };
                let again = self.take_owed(block);
                if !again {
                    Message::Request(block.into()).encode(&mut self.outbox);
                }
                let ahead = u32::try_from(self.requests.len() + 1).unwrap_or(u32::MAX);
                let late = early.is_none();
                if self.requests.is_empty() && !self.pipeline.is_snubbed() {
                    self.asked = now;
                }
                let held_ms = self.held_ms(now);
                self.requests.push_back(Request { block, sent: now, ahead, late, again, held_ms });
            }
        }
        swarm.set_hungry(self.id, self.hungry);
    }

    /// All that may be asked for while the peer chokes us (BEP 6, "allowed fast").
    fn allowed(&self) -> Bitfield {
        let mut allowed = Bitfield::none(self.geometry);
        for piece in self.allowed_fast.iter().filter(|piece| self.have.has(**piece)) {
            allowed.insert(*piece);
        }
        allowed
    }

    /// The next block of the jobs that are held, the oldest first, or of a new one. `allowed` is
    /// what may be begun, if that is not all that the peer has.
    fn next_block(
        &mut self,
        swarm: &mut Swarm,
        allowed: Option<&Bitfield>,
        permits: &mut u32,
        due_ms: u32,
    ) -> Option<Block> {
        loop {
            while let Some(job) = self.jobs.iter_mut().find(|job| !job.asked_out) {
                if let Some(block) = swarm.picker.ask(self.id, job.piece, due_ms) {
                    job.out += 1;
                    return Some(block);
                }
                job.asked_out = true;
            }
            self.end_idle_jobs(swarm, permits);
            if *permits == 0 {
                return None;
            }
            let piece = swarm.picker.take_job(allowed.unwrap_or(&self.have), self.last_piece)?;
            *permits -= 1;
            self.last_piece = Some(piece);
            self.jobs.push_back(Job { piece, out: 0, asked_out: false });
        }
    }

    /// In the end game: a block that another peer is late with. A peer that is late itself gets
    /// none: two of them could keep a block between them for ever.
    fn late_block(
        &mut self,
        swarm: &mut Swarm,
        allowed: Option<&Bitfield>,
        now: Instant,
        due_ms: u32,
    ) -> Option<Block> {
        let may_race = self.late_requests < LATE_REQUESTS_MAX && !self.pipeline.is_snubbed();
        if !may_race || !self.may_race || !swarm.picker.is_end_game() {
            return None;
        }
        let have = allowed.unwrap_or(&self.have);
        let (now_ms, due_ms) =
            (swarm.ms(now).saturating_sub(LATE_GAIN_MS), due_ms.saturating_add(LATE_GAIN_MS));
        let block = swarm.picker.ask_late(self.id, have, now_ms, due_ms)?;
        self.late_requests += 1;
        Some(block)
    }

    // ---- patience ------------------------------------------------------------------------------

    fn snub_at(&self) -> Option<Instant> {
        if self.held_since.is_some() {
            return None;
        }
        let oldest = self.requests.front();
        let oldest = oldest.map(|request| request.sent + self.held_during(request));
        let oldest = oldest.or(self.owed_since.filter(|_| !self.owed.is_empty()))?;
        Some(self.last_block.map_or(oldest, |block| block.max(oldest)) + SNUB)
    }

    fn snub_if_late(&mut self, now: Instant) {
        if self.snub_at().is_none_or(|at| now < at) {
            return;
        }
        let lost = self.pipeline.is_snubbed();
        self.pipeline.on_snub();
        self.give_up_all();
        self.owed_since = Some(now);
        if lost {
            // Nothing at all since the last time: it may not have them any longer.
            for block in &self.owed {
                Message::Cancel((*block).into()).encode(&mut self.outbox);
            }
            self.write_off();
        }
    }

    fn keep_alive(&mut self, now: Instant) {
        if !self.outbox.is_empty() {
            self.last_said = now;
        } else if now >= self.last_said + KEEP_ALIVE {
            Message::KeepAlive.encode(&mut self.outbox);
            self.last_said = now;
        }
    }

    /// When the peer must have said something.
    fn silent_at(&self) -> Instant {
        let gone = self.last_heard + SILENCE_MAX;
        if self.requests.is_empty() {
            return gone;
        }
        gone.min(self.asked.max(self.last_heard) + SILENCE_ASKED_MAX)
    }

    /// When the peer must have brought something, if others wait for its place. Only the first
    /// unchoke buys time, so flapping does not.
    fn useless_at(&self) -> Instant {
        let since = self.last_block.or(self.first_unchoke).unwrap_or(self.began);
        let choked = self.chokes_us && self.has_told;
        since + if choked { CHOKED } else { USELESS }
    }

    /// When the peer must have taken something, if we have everything and others wait for its
    /// place. One that waits for us has all the time there is.
    fn unserved_at(&self) -> Instant {
        match (self.wants, self.chokes) {
            (false, _) => self.began + USELESS,
            (true, true) => self.last_turn + USELESS,
            // It may be slow to read what it asked for, or our own limit is.
            (true, false) => {
                self.last_sent + if self.serving.is_empty() { USELESS } else { CHOKED }
            }
        }
    }

    fn check_patience(&self, swarm: &Swarm, now: Instant) -> Result<(), SessionEnd> {
        let is_over = |time: Instant| self.held_since.is_none() && now >= time;
        if is_over(self.silent_at()) {
            return Err(SessionEnd::Silent);
        }
        if swarm.picker.is_done() {
            if self.takes_nothing() {
                return Err(SessionEnd::Content);
            }
            let useless = is_over(self.unserved_at());
            return if swarm.others_wait && useless { Err(SessionEnd::Useless) } else { Ok(()) };
        }
        if swarm.others_wait && is_over(self.useless_at()) {
            return Err(SessionEnd::Useless);
        }
        Ok(())
    }
}

/// What we say about ourselves in the extension handshake, as things are.
fn ours(swarm: &Swarm) -> Ours {
    Ours {
        upload_only: swarm.picker.is_done(),
        metadata_bytes: swarm.metainfo.as_ref().map(|metainfo| metainfo.info().len()),
        exchange: swarm.is_public(),
        port: swarm.port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BLOCK_LENGTH;
    use crate::units::{InfoHash, PeerId};

    /// A swarm that lacks everything, of so many blocks, two to a piece.
    fn swarm(blocks: u32, now: Instant) -> Swarm {
        let total = u64::from(blocks) * u64::from(BLOCK_LENGTH);
        let geometry = Geometry::new(total, 2 * BLOCK_LENGTH).unwrap();
        Swarm::new(geometry, Bitfield::none(geometry), fastrand::Rng::with_seed(1), now)
    }

    /// A conversation with a peer that knows BEP 6.
    fn peer(id: u32, swarm: &mut Swarm, now: Instant) -> Conversation {
        let hand = |peer_id| Handshake {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId(peer_id),
            fast: true,
            extended: false,
            dht: true,
        };
        let (ours, theirs) = (hand([1; 20]), hand([2; 20]));
        let mut peer = Conversation::new(SessionId(id), swarm.geometry(), &ours, &theirs, now);
        peer.join(swarm);
        peer
    }

    /// The same with a seeder.
    fn seeder(id: u32, swarm: &mut Swarm, now: Instant) -> Conversation {
        let mut seeder = peer(id, swarm, now);
        seeder.on_message(&Message::HaveAll, now).unwrap();
        seeder
    }

    /// A turn in which these messages come. Returns the blocks that are asked for in it.
    fn turn(
        seeder: &mut Conversation,
        swarm: &mut Swarm,
        messages: &[Message<'_>],
        now: Instant,
    ) -> Vec<(u32, u32)> {
        let mut arrived = Vec::new();
        for message in messages {
            let block = seeder.on_message(message, now).unwrap();
            arrived.extend(block.map(|block| Received { block, at: 0 }));
        }
        seeder.reconcile(swarm, &mut arrived, &mut 100, now).unwrap();
        let outbox = std::mem::take(seeder.outbox());
        let (mut rest, mut asked) = (&outbox[..], Vec::new());
        while let Some((message, length)) = Message::decode(rest, swarm.geometry()).unwrap() {
            if let Message::Request(range) = message {
                asked.push((range.piece, range.begin));
            }
            rest = &rest[length..];
        }
        asked
    }

    const DATA: [u8; BLOCK_LENGTH as usize] = [0; BLOCK_LENGTH as usize];

    #[test]
    fn a_peer_that_chokes_is_asked_only_for_what_it_allows() {
        let start = Instant::now();
        let mut swarm = swarm(8, start);
        let mut open = seeder(1, &mut swarm, start);
        let mut choking = seeder(2, &mut swarm, start);
        // The end game: everything is asked of one peer, which is late with it.
        assert_eq!(turn(&mut open, &mut swarm, &[Message::Unchoke], start).len(), 8);
        let later = start + Duration::from_secs(3);
        let asked = turn(&mut choking, &mut swarm, &[Message::AllowedFast(2)], later);
        assert!(!asked.is_empty() && asked.iter().all(|(piece, _)| *piece == 2), "{asked:?}");
    }

    #[test]
    fn silence_is_borne_shorter_by_who_has_asked() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let ends = |seeder: &mut Conversation, swarm: &mut Swarm, now| {
            seeder.reconcile(swarm, &mut Vec::new(), &mut 100, now).err()
        };
        let mut swarm = swarm(8, start);
        let mut choking = seeder(1, &mut swarm, start);
        assert_eq!(ends(&mut choking, &mut swarm, after(179)), None);
        assert_eq!(ends(&mut choking, &mut swarm, after(180)), Some(SessionEnd::Silent));

        let mut owing = seeder(2, &mut swarm, start);
        // What came before it was asked is long ago.
        owing.on_read(after(5)).unwrap();
        owing.on_message(&Message::Unchoke, after(5)).unwrap();
        assert_eq!(ends(&mut owing, &mut swarm, after(100)), None);
        assert_eq!(ends(&mut owing, &mut swarm, after(159)), None);
        owing.on_read(after(159)).unwrap();
        // It may be slow, but it is there.
        assert_eq!(ends(&mut owing, &mut swarm, after(218)), None);
        assert!(owing.deadline() <= after(219));
        assert_eq!(ends(&mut owing, &mut swarm, after(219)), Some(SessionEnd::Silent));
    }

    #[test]
    fn what_was_allowed_and_is_rejected_is_asked_once() {
        let now = Instant::now();
        let mut swarm = swarm(8, now);
        let mut peer = seeder(1, &mut swarm, now);
        let allowed = [Message::AllowedFast(2), Message::AllowedFast(3)];
        let mut asked = turn(&mut peer, &mut swarm, &allowed, now);
        asked.sort_unstable();
        assert_eq!(asked, [(2, 0), (2, BLOCK_LENGTH), (3, 0), (3, BLOCK_LENGTH)]);
        let length = BLOCK_LENGTH;
        let reject = |(piece, begin)| Message::Reject(Range { piece, begin, length });
        assert_eq!(turn(&mut peer, &mut swarm, &[reject(asked[0])], now), []);
        let brought = [Message::Piece(3, 0, &DATA), reject(asked[1])];
        assert_eq!(turn(&mut peer, &mut swarm, &brought, now), []);
        // It keeps its word about the other one, and may give it again.
        assert_eq!(turn(&mut peer, &mut swarm, &[reject(asked[3])], now), []);
        let again = turn(&mut peer, &mut swarm, &[Message::AllowedFast(3)], now);
        assert_eq!(again, [(3, BLOCK_LENGTH)]);
    }

    #[test]
    fn the_rest_of_a_piece_is_for_others_while_its_peer_chokes() {
        let now = Instant::now();
        let mut swarm = swarm(80, now);
        let mut peer = seeder(1, &mut swarm, now);
        // Three requests at a time: the second piece is asked for by half.
        let three = Message::Extended(extension::HELLO, b"d4:reqqi3ee");
        let messages = [Message::AllowedFast(39), three, Message::Unchoke];
        let asked = turn(&mut peer, &mut swarm, &messages, now);
        assert_eq!(asked.len(), 3);
        let comes = |at: usize| Message::Piece(asked[at].0, asked[at].1, &DATA);
        let messages = [Message::Choke, comes(0)];
        assert_eq!(turn(&mut peer, &mut swarm, &messages, now), [(39, 0)]);
        turn(&mut peer, &mut swarm, &[comes(1), comes(2)], now);
        let mut other = seeder(2, &mut swarm, now);
        let begun = turn(&mut other, &mut swarm, &[Message::Unchoke], now)[0];
        assert_eq!(begun, (asked[2].0, BLOCK_LENGTH), "nobody works on it");
    }

    #[test]
    fn a_peer_that_waits_for_us_is_not_late() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut swarm = swarm(80, start);
        swarm.others_wait = true;
        let mut peer = seeder(1, &mut swarm, start);
        let asked = turn(&mut peer, &mut swarm, &[Message::Unchoke], start);
        assert_eq!(asked.len(), 16);
        // What it sends after a second waits in the socket for minutes. Other things go on.
        peer.hold(at(1));
        for seconds in [10, 80, 200, 300] {
            turn(&mut peer, &mut swarm, &[], at(seconds));
            assert!(!peer.pipeline.is_snubbed());
            assert!((at(seconds + 1)..=at(400)).contains(&peer.deadline()));
        }
        // Its time goes on where it stood: two seconds of four are left to it.
        peer.release(at(301));
        turn(&mut peer, &mut swarm, &[], at(303));
        assert!(!peer.pipeline.is_snubbed());
        assert_eq!(peer.deadline(), at(304));
        let comes = |at: usize| Message::Piece(asked[at].0, asked[at].1, &DATA);
        turn(&mut peer, &mut swarm, &[comes(0)], at(303));
        assert!(peer.pipeline.depth() < 16, "it is slow, whoever is to blame");
        peer.hold(at(304));
        peer.release(at(314));
        turn(&mut peer, &mut swarm, &[comes(1)], at(314));
        turn(&mut peer, &mut swarm, &[], at(317));
        assert!(!peer.pipeline.is_snubbed());
        turn(&mut peer, &mut swarm, &[], at(318));
        assert!(peer.pipeline.is_snubbed(), "nobody waits for us any longer");
    }

    #[test]
    fn who_is_let_in_and_takes_nothing_makes_room_for_others() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let geometry = swarm(8, start).geometry();
        let rng = fastrand::Rng::with_seed(1);
        let mut swarm = Swarm::new(geometry, Bitfield::all(geometry), rng, start);
        let mut leech = peer(1, &mut swarm, start);
        leech.on_message(&Message::Interested, start).unwrap();
        let mut look = |leech: &mut Conversation, seconds, others_wait| {
            swarm.others_wait = others_wait;
            let end = leech.reconcile(&mut swarm, &mut Vec::new(), &mut 0, at(seconds)).err();
            swarm.choke_round(at(seconds));
            assert!(leech.deadline() <= at(seconds + 10), "it looks again");
            end
        };
        assert_eq!(look(&mut leech, 0, true), None);
        assert_eq!(look(&mut leech, 9, true), None);
        assert!(!leech.chokes);
        assert_eq!(look(&mut leech, 100, false), None, "nobody waits");
        let wish = Message::Request(Range { piece: 0, begin: 0, length: BLOCK_LENGTH });
        leech.on_message(&wish, at(101)).unwrap();
        assert_eq!(look(&mut leech, 101, false), None);
        leech.on_served(1_000, at(110));
        assert_eq!(look(&mut leech, 144, true), None, "it may be slow");
        leech.on_served(BLOCK_LENGTH as usize, at(145));
        assert_eq!(look(&mut leech, 154, true), None);
        assert_eq!(look(&mut leech, 155, true), Some(SessionEnd::Useless));
    }

    #[test]
    fn what_is_asked_while_others_wait_for_us_has_all_of_its_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut swarm = swarm(80, start);
        let mut peer = seeder(1, &mut swarm, start);
        peer.hold(at(1));
        turn(&mut peer, &mut swarm, &[Message::Unchoke], at(5));
        peer.release(at(20));
        assert_eq!(peer.deadline(), at(24));
        assert!(peer.jobs.len() == 8 && !peer.pipeline.is_snubbed());
    }

    #[test]
    fn two_that_have_everything_part_even_while_one_waits_for_the_other() {
        let start = Instant::now();
        let mut swarm = swarm(2, start);
        let mut peer = seeder(1, &mut swarm, start);
        turn(&mut peer, &mut swarm, &[Message::Unchoke], start);
        peer.hold(start);
        swarm.on_verified(swarm.geometry().piece(0).unwrap());
        let end = peer.reconcile(&mut swarm, &mut Vec::new(), &mut 0, start);
        assert_eq!(end, Err(SessionEnd::Content));
    }

    #[test]
    fn nothing_is_asked_twice_while_a_limit_of_ours_is_what_is_waited_for() {
        let start = Instant::now();
        let mut swarm = swarm(2, start);
        let mut slow = seeder(1, &mut swarm, start);
        let mut quick = seeder(2, &mut swarm, start);
        assert_eq!(turn(&mut slow, &mut swarm, &[Message::Unchoke], start).len(), 2);
        let later = start + Duration::from_secs(3);
        quick.allow_races(false);
        assert_eq!(turn(&mut quick, &mut swarm, &[Message::Unchoke], later), []);
        assert!(quick.deadline() <= later + HUNGRY_LOOK, "it looks again");
        quick.allow_races(true);
        assert_eq!(turn(&mut quick, &mut swarm, &[], later).len(), 2);
    }

    #[test]
    fn two_late_peers_keep_no_block_between_them() {
        let start = Instant::now();
        let mut swarm = swarm(1, start);
        let mut peers = [1, 2].map(|id| seeder(id, &mut swarm, start));
        // Each is asked for what the other is late with, and neither sends anything.
        for seconds in [0, 3] {
            for peer in &mut peers {
                let now = start + Duration::from_secs(seconds);
                turn(peer, &mut swarm, &[Message::Unchoke], now);
            }
        }
        let (mut quick, mut asked) = (None, Vec::new());
        for seconds in 4..40 {
            let now = start + Duration::from_secs(seconds);
            for peer in &mut peers {
                turn(peer, &mut swarm, &[], now);
            }
            if seconds >= 36 {
                let quick = quick.get_or_insert_with(|| seeder(3, &mut swarm, now));
                asked.append(&mut turn(quick, &mut swarm, &[Message::Unchoke], now));
            }
        }
        assert_eq!(asked.len(), 1, "one that comes late is asked for it: {asked:?}");
    }

    #[test]
    fn pieces_told_one_by_one_count_once_however_many_come_in_a_turn() {
        let many = u32::try_from(NEW_HAVES_MAX).unwrap();
        let geometry = Geometry::new(u64::from(3 * many), 1).unwrap();
        let rng = fastrand::Rng::with_seed(7);
        let now = Instant::now();
        let mut swarm = Swarm::new(geometry, Bitfield::none(geometry), rng, now);
        let hand = Handshake {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            fast: true,
            extended: false,
            dht: true,
        };
        let mut conversation = Conversation::new(SessionId(1), geometry, &hand, &hand, now);
        conversation.join(&mut swarm);
        let pieces: Vec<u32> = (0..3 * many - 1).collect();
        conversation.on_message(&Message::HaveNone, now).unwrap();
        for (begin, end) in [(0, 10), (5, 2 * many + 10), (2 * many, 3 * many - 1)] {
            for piece in begin..end {
                conversation.on_message(&Message::Have(piece), now).unwrap();
            }
            conversation.reconcile(&mut swarm, &mut Vec::new(), &mut 0, now).unwrap();
            let known = |number: &&u32| {
                let piece = geometry.piece(**number).unwrap();
                assert_eq!(swarm.picker.availability(piece), u32::from(**number < end));
                conversation.have.has(piece)
            };
            assert_eq!(pieces.iter().filter(known).count(), end as usize);
            assert_eq!(conversation.wanted, end);
        }
        conversation.on_message(&Message::Have(3 * many - 1), now).unwrap();
        conversation.reconcile(&mut swarm, &mut Vec::new(), &mut 0, now).unwrap();
        assert!(conversation.have.is_full());
        assert_eq!(swarm.picker.availability(geometry.piece(0).unwrap()), 1);
        conversation.leave(&mut swarm, &mut 0);
        assert_eq!(swarm.picker.availability(geometry.piece(0).unwrap()), 0);
    }

    #[test]
    fn who_wants_nothing_hears_of_no_pieces_until_it_changes_its_mind() {
        let now = Instant::now();
        let mut swarm = swarm(4, now);
        let mut peer = peer(1, &mut swarm, now);
        peer.extended = true;
        peer.outbox.clear();
        let mut hears = |peer: &mut Conversation, said: &'static [u8], piece: u32| {
            peer.on_message(&Message::Extended(extension::HELLO, said), now).unwrap();
            swarm.on_verified(swarm.geometry().piece(piece).unwrap());
            peer.reconcile(&mut swarm, &mut Vec::new(), &mut 0, now).map(|()| {
                let mut rest = &std::mem::take(peer.outbox())[..];
                let mut haves = Vec::new();
                while let Some((message, length)) = Message::decode(rest, peer.geometry()).unwrap()
                {
                    haves.extend(if let Message::Have(piece) = message {
                        Some(piece)
                    } else {
                        None
                    });
                    rest = &rest[length..];
                }
                haves
            })
        };
        assert_eq!(hears(&mut peer, b"d11:upload_onlyi1ee", 0), Ok(vec![]));
        assert_eq!(hears(&mut peer, b"d11:upload_onlyi0ee", 1), Ok(vec![0, 1]));
    }

    #[test]
    fn who_did_not_hear_of_each_piece_hears_once_that_all_are_here() {
        let now = Instant::now();
        let mut swarm = swarm(4, now);
        let (mut new, mut old) = (peer(1, &mut swarm, now), peer(2, &mut swarm, now));
        new.extended = true;
        for peer in [&mut new, &mut old] {
            peer.on_message(&Message::Bitfield(&[0b1000_0000]), now).unwrap();
            peer.outbox.clear();
        }
        let told = |peer: &mut Conversation, swarm: &mut Swarm| {
            peer.reconcile(swarm, &mut Vec::new(), &mut 0, now).unwrap();
            let (outbox, mut told) = (std::mem::take(peer.outbox()), Vec::new());
            let mut rest = &outbox[..];
            while let Some((message, length)) = Message::decode(rest, peer.geometry()).unwrap() {
                told.extend(match message {
                    Message::Have(piece) => Some(format!("piece {piece}")),
                    Message::Extended(extension::HELLO, hello) => {
                        Some(format!("all: {}", Hello::decode(hello).unwrap().upload_only))
                    }
                    _ => None,
                });
                rest = &rest[length..];
            }
            told
        };
        for (piece, to_new, to_old) in
            [(1, &["piece 1"][..], &["piece 1"][..]), (0, &["all: true"], &[])]
        {
            swarm.on_verified(swarm.geometry().piece(piece).unwrap());
            assert_eq!(told(&mut new, &mut swarm), to_new);
            assert_eq!(told(&mut old, &mut swarm), to_old);
        }
        assert!(told(&mut new, &mut swarm).is_empty());
    }

    #[test]
    fn a_peer_may_tell_all_that_it_has_again() {
        let now = Instant::now();
        let mut swarm = swarm(32, now);
        let mut aria2 = peer(1, &mut swarm, now);
        let told = [
            (Message::Bitfield(&[0b1000_0000, 0]), 1),
            (Message::Have(1), 2),
            (Message::Bitfield(&[0b1111_0000, 0]), 4),
            // Nothing that it had once is gone.
            (Message::Bitfield(&[0b0000_1000, 0]), 5),
            (Message::HaveNone, 5),
            (Message::HaveAll, 16),
        ];
        for (message, count) in told {
            aria2.on_message(&message, now).unwrap();
            aria2.reconcile(&mut swarm, &mut Vec::new(), &mut 0, now).unwrap();
            assert_eq!((aria2.have.count(), aria2.wanted), (count, count), "{message:?}");
            let pieces = swarm.geometry().all_pieces();
            let there = pieces.filter(|piece| swarm.picker.availability(*piece) == 1).count();
            assert_eq!(there, count as usize, "each counts once");
        }
        // But it is no news then.
        let flood = Message::Bitfield(&[0; 2]);
        let loud = (0..100_000).find_map(|_| aria2.on_message(&flood, now).err());
        assert_eq!(loud, Some(SessionEnd::TooLoud));
    }

    #[test]
    fn what_is_out_is_not_asked_again_when_its_piece_was_wrong_and_begun_by_another() {
        let start = Instant::now();
        let mut swarm = swarm(2, start);
        let mut slow = seeder(1, &mut swarm, start);
        let mut wrong = seeder(2, &mut swarm, start);
        let mut next = seeder(3, &mut swarm, start);
        let both = [(0, 0), (0, BLOCK_LENGTH)];
        assert_eq!(turn(&mut slow, &mut swarm, &[Message::Unchoke], start), both);
        let later = start + Duration::from_secs(3);
        assert_eq!(turn(&mut wrong, &mut swarm, &[Message::Unchoke], later).len(), 2);
        let comes = [0, BLOCK_LENGTH].map(|begin| Message::Piece(0, begin, &DATA));
        turn(&mut wrong, &mut swarm, &comes, later);
        swarm.on_failed(swarm.geometry().piece(0).unwrap());
        assert_eq!(turn(&mut next, &mut swarm, &[Message::Unchoke], later), both);
        assert_eq!(turn(&mut slow, &mut swarm, &[], later), []);
        // The next one goes away in the middle, so the slow one has to bring the rest.
        turn(&mut next, &mut swarm, &comes[..1], later);
        next.leave(&mut swarm, &mut 0);
        assert_eq!(turn(&mut slow, &mut swarm, &[], later), []);
        turn(&mut slow, &mut swarm, &comes[1..], later);
        swarm.on_verified(swarm.geometry().piece(0).unwrap());
        assert!(swarm.picker.is_done());
    }
}
