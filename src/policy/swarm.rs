//! Owns what all sessions share: the picker, the log of verified pieces, who is banned, whether it
//! is over. It lives under the one lock; whoever holds that does arithmetic only.
//!
//! Nobody is told, everybody looks: a change is made here, the sessions it concerns are named in
//! `rings`, and each of them looks for itself on its next turn.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bitfield::Bitfield;
use crate::limits::{HEARD_WAITING_MAX, NODES_WAITING_MAX};
use crate::policy::choker::{self, Candidate, Choker};
use crate::policy::exchange::Contacts;
use crate::policy::mirrors::Mirrors;
use crate::policy::picker::Picker;
use crate::protocol::metainfo::Metainfo;
use crate::units::{Geometry, PeerId, PieceIndex, SessionId};

/// The state that all sessions look at.
pub struct Swarm {
    /// Which block is asked of whom.
    pub picker: Picker,
    /// The run is over: every session ends.
    pub stop: bool,
    /// Addresses wait for a free place in the pool: who brings nothing should go.
    pub others_wait: bool,
    /// The mirrors, and what became of each.
    pub mirrors: Mirrors,
    /// Bytes of blocks that were wanted.
    pub downloaded: u64,
    /// Bytes of them that mirrors brought.
    pub mirrored: u64,
    /// Bytes of blocks that came twice, or whose piece was wrong.
    pub wasted: u64,
    /// Bytes of blocks that were sent to others.
    pub uploaded: u64,
    /// Bytes a second that may be sent, if that is limited.
    pub upload_limit_per_s: Option<u64>,
    /// The torrent, for peers who ask what it is; and whether they may tell each other of peers.
    pub metainfo: Option<Arc<Metainfo>>,
    /// Where we listen, if we do.
    pub port: Option<u16>,
    /// Where our node of the DHT is, if we have one.
    pub dht_port: Option<u16>,
    /// Peers that come and go, to be told of.
    pub contacts: Contacts,
    heard: Vec<SocketAddr>,
    nodes: Vec<SocketAddr>,
    had_bytes: u64,
    /// Bytes of the pieces that are to be had, and of those of them that are not yet.
    selected_bytes: u64,
    left_bytes: u64,
    geometry: Geometry,
    epoch: Instant,
    verified: Vec<PieceIndex>,
    trades: BTreeMap<SessionId, Trade>,
    met: BTreeMap<SessionId, (PeerId, IpAddr)>,
    choker: Choker,
    last_round: Instant,
    slots: usize,
    /// Verified pieces that everybody was rung for.
    rung_for: usize,
    banned: BTreeSet<SessionId>,
    hungry: BTreeSet<SessionId>,
    outrun: BTreeSet<SessionId>,
    rings: Vec<SessionId>,
}

/// How the trade with one peer goes.
struct Trade {
    joined: Instant,
    /// It has everything.
    is_seed: bool,
    /// It wants what we have.
    interested: bool,
    /// We want it to ask.
    unchoked: bool,
    /// When that was changed last.
    changed: Instant,
    /// It does not bring what we asked for.
    snubs: bool,
    /// Bytes since the last round.
    received: u64,
    sent: u64,
}

impl Trade {
    fn set_unchoked(&mut self, unchoked: bool, now: Instant) {
        if self.unchoked != unchoked {
            (self.unchoked, self.changed) = (unchoked, now);
        }
    }
}

impl Swarm {
    /// The swarm of a torrent of which `had` is there already, with times counted from `epoch`.
    pub fn new(geometry: Geometry, had: Bitfield, rng: fastrand::Rng, epoch: Instant) -> Self {
        let had_bytes = bytes_of(geometry, |piece| had.has(piece));
        // All that this list will ever take: one that grows takes up to three times as much.
        let missing = geometry.pieces().saturating_sub(had.count()) as usize;
        Self {
            had_bytes,
            selected_bytes: geometry.total(),
            left_bytes: geometry.total() - had_bytes,
            picker: Picker::new(geometry, had, rng.clone()),
            choker: Choker::new(rng),
            stop: false,
            others_wait: false,
            downloaded: 0,
            mirrors: Mirrors::default(),
            mirrored: 0,
            wasted: 0,
            uploaded: 0,
            upload_limit_per_s: None,
            metainfo: None,
            port: None,
            dht_port: None,
            contacts: Contacts::default(),
            heard: Vec::new(),
            nodes: Vec::new(),
            geometry,
            epoch,
            verified: Vec::with_capacity(missing),
            trades: BTreeMap::new(),
            met: BTreeMap::new(),
            last_round: epoch,
            slots: choker::slots(0, None),
            rung_for: 0,
            banned: BTreeSet::new(),
            hungry: BTreeSet::new(),
            outrun: BTreeSet::new(),
            rings: Vec::new(),
        }
    }

    /// From now on only these pieces are to be had. To be said before the first session.
    pub fn select(&mut self, pieces: Bitfield) {
        self.selected_bytes = bytes_of(self.geometry, |piece| pieces.has(piece));
        self.picker.select(pieces);
        self.left_bytes = bytes_of(self.geometry, |piece| self.picker.wants(piece));
    }

    /// The torrent's measures.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes of the pieces that are there and verified.
    pub fn had_bytes(&self) -> u64 {
        self.had_bytes
    }

    /// Bytes of the pieces that are to be had.
    pub fn selected_bytes(&self) -> u64 {
        self.selected_bytes
    }

    /// Bytes of the pieces that are to be had and are not yet.
    pub fn left_bytes(&self) -> u64 {
        self.left_bytes
    }

    /// Milliseconds from the start to `time`.
    pub fn ms(&self, time: Instant) -> u32 {
        let ms = time.saturating_duration_since(self.epoch).as_millis();
        u32::try_from(ms).unwrap_or(u32::MAX / 2)
    }

    /// The pieces that were verified since the start, in that order.
    pub fn verified(&self) -> &[PieceIndex] {
        &self.verified
    }

    // ---- sessions ------------------------------------------------------------------------------

    /// A peer has shaken hands. False if there is a session with it already. Many may live at one
    /// address, and some call themselves alike: only both together tell.
    pub fn meet(&mut self, who: SessionId, peer: PeerId, host: IpAddr) -> bool {
        let new = self.met.values().all(|met| *met != (peer, host));
        if new {
            self.met.insert(who, (peer, host));
        }
        new
    }

    /// A session began.
    pub fn join(&mut self, who: SessionId, now: Instant) {
        let trade = Trade {
            joined: now,
            is_seed: false,
            interested: false,
            unchoked: false,
            changed: now,
            snubs: false,
            received: 0,
            sent: 0,
        };
        self.trades.insert(who, trade);
    }

    /// A session ended.
    pub fn leave(&mut self, who: SessionId) {
        self.trades.remove(&who);
        self.met.remove(&who);
        self.banned.remove(&who);
        self.hungry.remove(&who);
        self.outrun.remove(&who);
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.trades.len()
    }

    /// This session's peer, or this mirror, sent wrong data: the session ends on its next turn.
    pub fn ban(&mut self, who: SessionId) {
        if let Some(place) = who.mirror() {
            self.mirrors.ban(place);
        } else if self.trades.contains_key(&who) {
            self.banned.insert(who);
            self.rings.push(who);
        }
    }

    /// Whether this session's peer is banned.
    pub fn is_banned(&self, who: SessionId) -> bool {
        self.banned.contains(&who)
    }

    /// The run is over.
    pub fn stop(&mut self) {
        self.stop = true;
        self.ring_all();
    }

    /// Everybody is to look.
    pub fn ring_all(&mut self) {
        self.rings.extend(self.trades.keys());
    }

    /// Says whether this session could do more work than it found.
    pub fn set_hungry(&mut self, who: SessionId, hungry: bool) {
        if hungry {
            self.hungry.insert(who);
        } else {
            self.hungry.remove(&who);
        }
    }

    /// There is new work: those that are hungry should look.
    pub fn feed(&mut self) {
        self.rings.append(&mut self.hungry.iter().copied().collect());
        self.hungry.clear();
    }

    /// Somebody else brought a block that this session asked for: it should take its request back.
    pub fn outrun(&mut self, who: SessionId) {
        if self.trades.contains_key(&who) {
            self.outrun.insert(who);
            self.rings.push(who);
        }
    }

    /// Whether this session was outrun since it last asked.
    pub fn take_outrun(&mut self, who: SessionId) -> bool {
        self.outrun.remove(&who)
    }

    /// Whether peers may tell each other of peers: not in private (BEP 27).
    pub fn is_public(&self) -> bool {
        self.metainfo.as_ref().is_some_and(|metainfo| !metainfo.private)
    }

    /// A peer told of these. What nobody looks at in time is lost.
    pub fn hear_of(&mut self, peers: Vec<SocketAddr>) {
        let room = HEARD_WAITING_MAX - self.heard.len().min(HEARD_WAITING_MAX);
        self.heard.extend(peers.into_iter().take(room));
    }

    /// A peer has its node of the DHT there (BEP 5, "port").
    pub fn hear_of_node(&mut self, node: SocketAddr) {
        if self.nodes.len() < NODES_WAITING_MAX {
            self.nodes.push(node);
        }
    }

    /// Takes where peers have their nodes.
    pub fn take_nodes(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.nodes)
    }

    /// Takes what peers told of peers.
    pub fn take_heard(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.heard)
    }

    /// Takes the list of those whose wakers are to be rung, once the lock is released.
    pub fn take_rings(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.rings)
    }

    // ---- trade ---------------------------------------------------------------------------------

    /// How it stands with the peer: whether it wants what we have, is a seed, keeps us waiting.
    /// Who begins to want something is let in at once if there is a place. Whether the peer may ask.
    pub fn on_peer(
        &mut self,
        who: SessionId,
        (interested, is_seed, snubs): (bool, bool, bool),
        now: Instant,
    ) -> bool {
        let Some(trade) = self.trades.get_mut(&who) else { return false };
        let begins = interested && !trade.interested && !snubs;
        (trade.interested, trade.is_seed, trade.snubs) = (interested, is_seed, snubs);
        if !begins {
            return trade.unchoked;
        }
        let admitted = choker::admits(&self.candidates(Duration::MAX), self.slots);
        let Some(trade) = self.trades.get_mut(&who) else { return false };
        trade.set_unchoked(trade.unchoked || admitted, now);
        trade.unchoked
    }

    /// The peer or the mirror brought so many bytes that were wanted.
    pub fn on_received(&mut self, who: SessionId, bytes: u64) {
        self.downloaded += bytes;
        self.mirrored += if who.mirror().is_some() { bytes } else { 0 };
        if let Some(trade) = self.trades.get_mut(&who) {
            trade.received += bytes;
        }
    }

    /// So many bytes of blocks were sent to the peer.
    pub fn on_sent(&mut self, who: SessionId, bytes: u64) {
        self.uploaded += bytes;
        if let Some(trade) = self.trades.get_mut(&who) {
            trade.sent += bytes;
        }
    }

    /// Decides anew who may ask.
    pub fn choke_round(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.last_round);
        self.last_round = now;
        let candidates = self.candidates(elapsed);
        let sent_per_s = candidates.iter().map(|candidate| candidate.sent_per_s).sum();
        self.slots = choker::slots(sent_per_s, self.upload_limit_per_s);
        let seeding = self.picker.is_done();
        let chosen = self.choker.round(&candidates, self.slots, seeding, now);
        for (who, trade) in &mut self.trades {
            let unchoked = chosen.contains(who);
            if trade.unchoked != unchoked {
                self.rings.push(*who);
            }
            trade.set_unchoked(unchoked, now);
            (trade.received, trade.sent) = (0, 0);
        }
    }

    /// All peers, with the rates of the time since the last round.
    fn candidates(&self, elapsed: Duration) -> Vec<Candidate> {
        let per_s = |bytes: u64| {
            let per_s = u128::from(bytes) * 1_000 / elapsed.as_millis().max(1);
            u64::try_from(per_s).unwrap_or(u64::MAX)
        };
        let candidate = |(who, trade): (&SessionId, &Trade)| Candidate {
            session: *who,
            interested: trade.interested,
            unchoked: trade.unchoked,
            received_per_s: per_s(trade.received),
            sent_per_s: per_s(trade.sent),
            changed: trade.changed,
            joined: trade.joined,
            snubs: trade.snubs,
        };
        self.trades.iter().map(candidate).collect()
    }

    /// Those who lack something are rung for the pieces that were verified since the last time, so
    /// that they hear of them.
    pub fn ring_for_haves(&mut self) {
        if std::mem::replace(&mut self.rung_for, self.verified.len()) != self.verified.len() {
            let leeches = self.trades.iter().filter(|(_, trade)| !trade.is_seed);
            self.rings.extend(leeches.map(|(who, _)| *who));
        }
    }

    // ---- pieces --------------------------------------------------------------------------------

    /// The hash of `piece` is right and its bytes are in the files.
    pub fn on_verified(&mut self, piece: PieceIndex) {
        let length = u64::from(self.geometry.length_of(piece));
        if self.picker.wants(piece) {
            self.left_bytes -= length.min(self.left_bytes);
        }
        self.picker.on_verified(piece);
        self.had_bytes += length;
        self.verified.push(piece);
    }

    /// The hash of `piece` is wrong. Returns who brought which block.
    pub fn on_failed(&mut self, piece: PieceIndex) -> Vec<SessionId> {
        self.wasted += u64::from(self.geometry.length_of(piece));
        let brought = self.picker.on_failed(piece);
        self.feed();
        brought
    }
}

fn bytes_of(geometry: Geometry, which: impl Fn(PieceIndex) -> bool) -> u64 {
    let pieces = geometry.all_pieces().filter(|piece| which(*piece));
    pieces.map(|piece| u64::from(geometry.length_of(piece))).sum()
}
