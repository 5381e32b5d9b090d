//! Runs one session with one peer, from dialling to the end, on the thread that calls.
//!
//! A turn: sleep until something comes; read it into a chunk; feed the conversation; bring it and
//! the swarm together under the lock; hand the chunk to the writer; send what is to be said.
//!
//! Under a rate limit a session that has something to read first gets in line for a quantum of
//! bytes. Until its turn it leaves the socket alone, and TCP holds the rest; all else goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::debug;

use crate::engine::chunk::{Chunk, ChunkPool, ToWriter};
use crate::engine::event::{Ended, Event};
use crate::engine::greeter::{Greeter, Visit};
use crate::engine::upload::{Given, Stopped, Uploads};
use crate::limits::{CACHE_LINE_BYTES, CHUNK_LENGTH_BYTES, FULL_NAP_MS};
use crate::policy::bucket::Bucket;
use crate::policy::conversation::{Conversation, Received, SessionEnd};
use crate::policy::swarm::Swarm;
use crate::protocol::handshake::Handshake;
use crate::protocol::message::{Message, PIECE_HEADER_LENGTH};
use crate::system::link::{self, Interest, Link, Waker};
use crate::system::route::Route;
use crate::text::Foreign;
use crate::units::{Geometry, SessionId};

const FULL_NAP: Duration = Duration::from_millis(FULL_NAP_MS);

/// A message that is longer does not fit into a chunk wherever it begins.
const LONG_BYTES: usize = CHUNK_LENGTH_BYTES - CACHE_LINE_BYTES;

/// Leave to have one piece job more under way. The work queue says how much may be done at once,
/// the picker says what.
pub struct Permit;

/// What every session works with.
pub struct Shared {
    /// The one lock. Held for arithmetic only.
    swarm: Mutex<Swarm>,
    /// One for each thread of the pool.
    wakers: Vec<Waker>,
    /// The work queue. A session never waits at it: it takes what is there.
    pub work: Receiver<Permit>,
    /// Permits come back here; there is room for all there are.
    pub work_back: Sender<Permit>,
    /// Buffers. The only place where a session waits for the writer.
    pub chunks: ChunkPool,
    /// Blocks for the writer; there is room for every chunk there is.
    pub to_writer: Sender<ToWriter>,
    /// What is asked of us.
    pub uploads: Uploads,
    /// A file that can't be read ends the run.
    pub reports: Sender<Event>,
    /// How peers are met.
    greeter: Greeter,
    /// The limit for what peers send, if there is one. Its lock is never held with another.
    pub download: Option<Mutex<Bucket>>,
    /// The same for what is sent to them.
    pub upload: Option<Mutex<Bucket>>,
    /// Bytes that may gather unread in a socket.
    room_to_gather: usize,
}

impl Shared {
    /// What sessions on `wakers.len()` threads work with.
    pub fn new(
        swarm: Swarm,
        wakers: Vec<Waker>,
        (work_back, work): (Sender<Permit>, Receiver<Permit>),
        chunks: ChunkPool,
        (to_writer, reports): (Sender<ToWriter>, Sender<Event>),
        uploads: Uploads,
        greeter: Greeter,
    ) -> Self {
        Self {
            swarm: Mutex::new(swarm),
            wakers,
            work,
            work_back,
            chunks,
            to_writer,
            uploads,
            reports,
            greeter,
            download: None,
            upload: None,
            room_to_gather: link::room_to_gather(),
        }
    }

    /// The same under these limits (bytes a second).
    #[must_use]
    pub fn limit(mut self, download: Option<u64>, upload: Option<u64>, now: Instant) -> Self {
        let bucket = |limit| Bucket::new(limit, now);
        let (download, upload) = (download.map(bucket), upload.map(bucket));
        if let Some(download) = &download {
            // A peer that is not read for a while must be able to make that up in its next turn.
            self.room_to_gather = self.room_to_gather.min(download.quantum() as usize / 2);
        }
        (self.download, self.upload) = (download.map(Mutex::new), upload.map(Mutex::new));
        self
    }

    /// Looks at the swarm or changes it; then wakes the sessions that should look as well.
    pub fn with_swarm<T>(&self, change: impl FnOnce(&mut Swarm) -> T) -> T {
        let (result, rings) = {
            let mut swarm = self.lock();
            let result = change(&mut swarm);
            (result, swarm.take_rings())
        };
        for who in rings {
            // Sessions are numbered so that thread t of n has t, t + n, t + 2n and so on.
            let waker = (who.0 as usize).checked_rem(self.wakers.len());
            if let Some(waker) = waker.and_then(|thread| self.wakers.get(thread)) {
                waker.ring();
            }
        }
        result
    }

    /// By which way everything leaves.
    pub fn route(&self) -> &Arc<Route> {
        &self.greeter.route
    }

    /// The waker of a thread of the pool.
    pub fn waker(&self, thread: usize) -> Option<&Waker> {
        self.wakers.get(thread)
    }

    /// Permits that are not needed go back to the work queue.
    pub fn return_permits(&self, permits: u32) {
        for _ in 0..permits {
            let _fits = self.work_back.try_send(Permit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Swarm> {
        // Whoever panicked did so in arithmetic that leaves the tables whole or the run wrong;
        // hashes decide about that, so going on is safe.
        self.swarm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does arithmetic with a limit, whatever became of others who did.
pub(super) fn with_bucket<T>(bucket: &Mutex<Bucket>, change: impl FnOnce(&mut Bucket) -> T) -> T {
    change(&mut bucket.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Talks with a peer until there is a reason to end.
pub fn run(shared: &Shared, waker: &Waker, session: SessionId, visit: Visit) -> Ended {
    let (address, dialled) = (visit.address, visit.came.is_none());
    let mut ended =
        Ended { session, address, answered: false, brought: false, end: SessionEnd::Stopped };
    ended.end = match meet(shared, session, visit) {
        Err(end) => end,
        Ok((link, theirs)) => {
            ended.answered = true;
            let how = if link.is_encrypted() { ", encrypted" } else { "" };
            debug!("{address}: connected{how}");
            let geometry = shared.with_swarm(|swarm| swarm.geometry());
            let ours = &shared.greeter.handshake;
            let mut conversation =
                Conversation::new(session, geometry, ours, &theirs, Instant::now());
            conversation.is_at(address, dialled);
            if shared.download.is_some() {
                conversation.on_limit();
            }
            let mut talk = Session {
                shared,
                waker,
                link,
                geometry,
                conversation,
                unread: Vec::new(),
                to_skip: 0,
                arrived: Vec::new(),
                came: false,
                nap_until: None,
                full: None,
                giving: None,
                turn: None,
                brought: false,
            };
            let end = talk.talk();
            ended.brought = talk.brought;
            if let Some(client) = talk.conversation.client() {
                debug!("{address}: its client was {}", Foreign::new(client));
            }
            end
        }
    };
    debug!("{address}: {}", ended.end);
    ended
}

/// The same, unless there is a session with this peer already.
fn meet(
    shared: &Shared,
    session: SessionId,
    visit: Visit,
) -> Result<(Link, Handshake), SessionEnd> {
    let host = visit.address.ip();
    let (link, theirs) = shared.greeter.meet(visit)?;
    if !shared.with_swarm(|swarm| swarm.meet(session, theirs.peer_id, host)) {
        return Err(SessionEnd::Double);
    }
    Ok((link, theirs))
}

/// So many bytes may be read at a time.
#[derive(Clone, Copy)]
struct Turn {
    at: Instant,
    bytes: u32,
    /// More than that was there.
    more: bool,
}

/// A session under way.
struct Session<'a> {
    shared: &'a Shared,
    waker: &'a Waker,
    link: Link,
    geometry: Geometry,
    conversation: Conversation,
    /// The beginning of a message whose end has not come yet.
    unread: Vec<u8>,
    /// Bytes that are still to come of a message that is passed over.
    to_skip: usize,
    /// Blocks of the chunk at hand.
    arrived: Vec<Received>,
    /// The last read brought all there was, and that was something.
    came: bool,
    /// What comes is left in the socket until then, to gather.
    nap_until: Option<Instant>,
    /// The socket took no more: nothing is said until there is room again. Whoever only takes is not
    /// heard before that, or this moment.
    full: Option<Instant>,
    /// Under a limit: when it may give next, and how much.
    giving: Option<Turn>,
    /// Under a limit: when it may read next. It is given back what it does not use of that.
    turn: Option<Turn>,
    brought: bool,
}

impl Session<'_> {
    fn talk(&mut self) -> SessionEnd {
        self.shared.with_swarm(|swarm| self.conversation.join(swarm));
        let end = loop {
            if let Err(end) = self.turn() {
                break end;
            }
        };
        self.end_turn(0);
        self.end_giving(0);
        let mut permits = 0;
        self.shared.with_swarm(|swarm| self.conversation.leave(swarm, &mut permits));
        self.shared.return_permits(permits);
        end
    }

    fn turn(&mut self) -> Result<(), SessionEnd> {
        let to_read = self.sleep()? && self.may_read();
        let (chunk, read) = if to_read { self.read() } else { (None, Ok(())) };
        // Even a session that is over hands in what came before its end.
        let reconciled = self.reconcile();
        self.hand_over(chunk);
        read.and(reconciled)?;
        if to_read {
            let room = self.shared.room_to_gather;
            let nap = std::mem::take(&mut self.came).then(|| self.conversation.nap(room)).flatten();
            self.nap_until = nap.map(|nap| Instant::now() + nap);
        }
        self.flush()
    }

    /// Sleeps until there is a reason not to. Whether it is time to read.
    fn sleep(&mut self) -> Result<bool, SessionEnd> {
        let wait = self.giving.map(|turn| turn.at).filter(|at| *at > Instant::now());
        let serving = self.conversation.serving();
        let to_give = !serving.is_empty() && wait.is_none();
        // What is half sent comes first, even if it has to wait.
        let may_say = wait.is_none() || !serving.is_in_message();
        let to_write = to_give || may_say && !self.conversation.outbox().is_empty();
        let deadline = self.conversation.deadline();
        let deadline = wait.map_or(deadline, |wait| wait.min(deadline));
        // What else it asks for changes nothing while what it asked for can't be sent.
        let full = self.full.filter(|_| self.conversation.only_gives());
        let nap = self.nap_until.or(full);
        let interest = Interest { to_read: nap.is_none(), to_write };
        let until = nap.map_or(deadline, |nap| nap.min(deadline));
        let ready = self.link.wait(self.waker, interest, until);
        let ready = ready.map_err(|error| SessionEnd::Lost(error.kind()))?;
        let now = Instant::now();
        let rested = nap.is_some_and(|nap| nap <= now);
        // It has taken something, and is heard: it may have said more than what it wants.
        let took = ready.writable && self.full.is_some();
        if took {
            self.full = None;
        } else if rested && self.full.is_some() {
            self.full = Some(now + FULL_NAP);
        }
        Ok(ready.readable || rested || took)
    }

    /// Whether what is there may be read now. Under a limit it gets in line, and is let in later.
    fn may_read(&mut self) -> bool {
        let Some(limit) = &self.shared.download else { return true };
        let now = Instant::now();
        let turn = *self.turn.get_or_insert_with(|| {
            // No more than there is, or those behind would wait for nothing. An end is a byte.
            let there = u32::try_from(self.link.waiting().max(1)).unwrap_or(u32::MAX);
            with_bucket(limit, |bucket| {
                let bytes = there.min(bucket.quantum());
                Turn { at: bucket.reserve(bytes, now), bytes, more: bytes < there }
            })
        });
        if now < turn.at {
            self.nap_until = Some(turn.at);
            self.conversation.hold(now);
            return false;
        }
        self.conversation.release(now);
        true
    }

    /// Bytes that may be read of the `room` that there is.
    fn allowed(&self, room: usize) -> usize {
        self.turn.map_or(room, |turn| room.min(turn.bytes as usize))
    }

    /// So many bytes were read.
    fn end_turn(&mut self, read: usize) {
        if let (Some(turn), Some(limit)) = (self.turn.take(), &self.shared.download) {
            let unused = turn.bytes.saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
            with_bucket(limit, |bucket| bucket.give_back(unused));
        }
    }

    /// Reads once, and feeds every message that is whole to the conversation.
    fn read(&mut self) -> (Option<Chunk>, Result<(), SessionEnd>) {
        if Message::length(&self.unread).is_some_and(|length| length > LONG_BYTES) {
            return (None, self.read_long());
        }
        let Some(mut chunk) = self.shared.chunks.take() else {
            return (None, Err(SessionEnd::Stopped));
        };
        let read = self.read_into(&mut chunk.bytes);
        (Some(chunk), read)
    }

    fn read_into(&mut self, bytes: &mut [u8]) -> Result<(), SessionEnd> {
        // What was kept goes right before a cache line: the kernel copies to one much faster.
        let begin = self.unread.len().next_multiple_of(CACHE_LINE_BYTES);
        let Some((front, room)) = bytes.split_at_mut_checked(begin) else {
            return Err(SessionEnd::Broke("a message longer than any"));
        };
        let room_bytes = room.len();
        let more = self.turn.is_some_and(|turn| turn.more);
        let Some(count) = self.receive(room)? else { return Ok(()) };
        // What fills its room may have left more behind it: that is read at once.
        self.came = count < room_bytes && !more;
        let kept = begin - self.unread.len();
        front.get_mut(kept..).unwrap_or_default().copy_from_slice(&self.unread);
        self.unread.clear();
        let bytes = bytes.get(..begin + count).unwrap_or_default();
        let now = Instant::now();
        self.conversation.on_read(now)?;
        // What is passed over is never unread, so nothing was kept before it.
        let skipped = self.to_skip.min(count);
        self.to_skip -= skipped;
        let mut at = kept + skipped;
        while let Some(rest) = bytes.get(at..) {
            if let Some(length) = Message::passed_over(rest) {
                self.conversation.on_long_message(length, now)?;
                self.to_skip = length.saturating_sub(rest.len());
                at += length;
                continue;
            }
            let decoded = Message::decode(rest, self.geometry).map_err(SessionEnd::Garbled)?;
            let Some((message, length)) = decoded else { break };
            if let Some(block) = self.conversation.on_message(&message, now)? {
                self.arrived.push(Received { block, at: at + PIECE_HEADER_LENGTH });
            }
            at += length;
        }
        keep(&mut self.unread, bytes.get(at..).unwrap_or(&[]));
        Ok(())
    }

    /// Reads what may be read.
    fn receive(&mut self, room: &mut [u8]) -> Result<Option<usize>, SessionEnd> {
        let allowed = self.allowed(room.len());
        let read = self.link.read(room.get_mut(..allowed).unwrap_or_default());
        self.end_turn(read.as_ref().ok().copied().flatten().unwrap_or(0));
        read
    }

    /// Goes on reading a message that no chunk can hold: the bitfield of a huge torrent. Its
    /// length has been judged.
    fn read_long(&mut self) -> Result<(), SessionEnd> {
        let Some(length) = Message::length(&self.unread) else { return Ok(()) };
        let kept = self.unread.len();
        self.unread.reserve_exact(length - kept.min(length));
        self.unread.resize(length, 0);
        let mut whole = std::mem::take(&mut self.unread);
        let read = self.receive(whole.get_mut(kept..).unwrap_or_default());
        self.unread = whole;
        self.unread.truncate(kept + read.clone().ok().flatten().unwrap_or(0));
        if read?.is_some() {
            self.conversation.on_read(Instant::now())?;
        }
        if self.unread.len() < length {
            return Ok(());
        }
        let whole = std::mem::take(&mut self.unread);
        let decoded = Message::decode(&whole, self.geometry).map_err(SessionEnd::Garbled)?;
        if let Some((message, _)) = decoded {
            self.conversation.on_message(&message, Instant::now())?;
        }
        Ok(())
    }

    fn reconcile(&mut self) -> Result<(), SessionEnd> {
        let now = Instant::now();
        if let Some(limit) = &self.shared.download {
            let busy = with_bucket(limit, |bucket| bucket.is_busy(now));
            self.conversation.allow_races(!busy);
        }
        let wanted = self.conversation.permits_wanted(now);
        let taken = self.shared.work.try_iter().take(wanted as usize).count();
        let mut permits = u32::try_from(taken).unwrap_or(0);
        let (conversation, arrived) = (&mut self.conversation, &mut self.arrived);
        let reconciled = self
            .shared
            .with_swarm(|swarm| conversation.reconcile(swarm, arrived, &mut permits, now));
        self.shared.return_permits(permits);
        reconciled
    }

    /// The chunk goes to the writer, or back if nothing in it is to be written.
    fn hand_over(&mut self, chunk: Option<Chunk>) {
        let Some(mut chunk) = chunk else { return };
        if self.arrived.is_empty() {
            return self.shared.chunks.put(chunk);
        }
        self.brought = true;
        std::mem::swap(&mut chunk.blocks, &mut self.arrived);
        // It fails only when the writer is gone, and then the run is over.
        let _over = self.shared.to_writer.send(ToWriter::Chunk(chunk));
    }

    /// Bytes of what is asked for that may be sent now. Under a limit it gets in line for them.
    fn may_give(&mut self) -> usize {
        let Some(limit) = &self.shared.upload else { return usize::MAX };
        if self.conversation.serving().is_empty() {
            return 0;
        }
        let now = Instant::now();
        let turn = *self.giving.get_or_insert_with(|| {
            with_bucket(limit, |bucket| {
                let bytes = bucket.quantum();
                Turn { at: bucket.reserve(bytes, now), bytes, more: false }
            })
        });
        if now < turn.at { 0 } else { turn.bytes as usize }
    }

    /// So many bytes of what was asked for were sent.
    fn end_giving(&mut self, given: usize) {
        if let (Some(turn), Some(limit)) = (self.giving.take(), &self.shared.upload) {
            let unused = turn.bytes.saturating_sub(u32::try_from(given).unwrap_or(u32::MAX));
            with_bucket(limit, |bucket| bucket.give_back(unused));
        }
    }

    fn flush(&mut self) -> Result<(), SessionEnd> {
        if self.full.is_some() {
            return Ok(());
        }
        let room = self.may_give();
        match self.shared.uploads.flush(&mut self.link, &mut self.conversation, room) {
            Ok(Given { bytes, full }) => {
                if room > 0 {
                    self.end_giving(bytes);
                }
                self.full = full.then(|| Instant::now() + FULL_NAP);
                Ok(())
            }
            Err(Stopped::Session(end)) => Err(end),
            Err(Stopped::Run(fatal)) => {
                // It fails only when the coordinator is gone, and then nobody cares.
                let _over = self.shared.reports.send(Event::Failed(fatal));
                Err(SessionEnd::Stopped)
            }
        }
    }
}

/// Puts `bytes` into `unread`, which is empty, with no more room than they take: a `Vec` that
/// grows by itself takes up to three times as much.
fn keep(unread: &mut Vec<u8>, bytes: &[u8]) {
    if unread.capacity() < bytes.len() {
        // Gone before the new one is made.
        *unread = Vec::new();
        unread.reserve_exact(bytes.len());
    }
    unread.extend_from_slice(bytes);
}
