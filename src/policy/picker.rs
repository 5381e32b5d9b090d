//! Decides which block is asked of whom.
//!
//! The rules, in the order in which they count:
//!
//! 1. A piece is in exactly one state: *missing* (nothing asked), *open* (some of its blocks are
//!    asked for or here), *full* (every block is here, the hash is being checked) or *had*. A
//!    wrong hash makes a full piece missing again.
//! 2. A session that wants work is given a job, bound to a piece at that moment: first one that
//!    is open and that nobody works on, the nearest to done before the others; then the rarest
//!    missing piece that this peer has; then one that others work on and that has blocks left.
//! 3. Among equally rare pieces, one in the same stretch of the disk as the session's last comes
//!    first. The very first pieces are taken at random.
//! 4. A session asks for the blocks of its oldest job first, in order.
//! 5. When nothing is left to ask, a block that another peer is late with is asked for a second
//!    time, the latest first; whoever loses that race is told to cancel.
//! 6. A piece that was wrong, with blocks from several peers, is fetched again from one peer
//!    alone, so that it is plain who sent the bad block. If that peer gives up, it is open to all
//!    again: one that falls silent could keep it for ever.
//! 7. Where files are selected, only the pieces that they lie in are missing; the others are nobody's
//!    business, and when the selected ones are had it is done.
//! 8. Where the torrent's order is wished for, it counts instead of rules 2 and 3: the first piece that
//!    has blocks to ask for, open or missing.
//! 9. A mirror has every piece and answers best if it is asked for a lot in a row. Each of its
//!    connections gets a run: blocks that are free one after the other, of one piece or of many,
//!    all asked for at once. After what nobody works on (rule 2) it goes on where its last run
//!    ended; or else it begins with what no peer has, if peers have some of the rest; or else with
//!    the longest gap of missing pieces, in its middle if another one is about to go on at its
//!    start.
//!
//! Pure: times are milliseconds that the caller counts from a start of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::bitfield::Bitfield;
use crate::limits::{
    BLOCK_LENGTH, EXTENT_LENGTH_BYTES, MIRROR_WORKERS_MAX, OPEN_PIECES_MAX, RANDOM_FIRST_PIECES,
};
use crate::policy::rarity::Rarity;
use crate::units::{Block, Geometry, PieceIndex, SessionId};

/// Where one block of an open piece stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BlockState {
    /// To be asked for.
    Free,
    /// Asked of one session; it should be here at this time (ms).
    Asked(SessionId, u32),
    /// Late with the first session, so asked of the second as well.
    AskedTwice(SessionId, SessionId),
    /// Here; this session brought it.
    Arrived(SessionId),
}

/// A piece that has been begun.
struct OpenPiece {
    blocks: Vec<BlockState>,
    free: u32,
    /// No block before this one is free.
    first_free: u32,
    arrived: u32,
    /// Sessions that hold a job for it.
    workers: u32,
    /// Only one session may work on it (rule 6).
    alone: bool,
    /// Blocks asked of one session are due no earlier and no later (ms).
    earliest: u32,
    latest: u32,
}

impl OpenPiece {
    fn state(&mut self, block: Block) -> Option<&mut BlockState> {
        self.blocks.get_mut(block.number() as usize)
    }

    /// A block is due at `due_ms` from now on.
    fn widen(&mut self, due_ms: u32) {
        self.earliest = self.earliest.min(due_ms);
        self.latest = self.latest.max(due_ms);
    }

    /// No block of it is later than this.
    fn lateness_max(&self, now_ms: u32) -> u32 {
        if self.earliest < now_ms { u32::MAX - self.earliest } else { self.latest }
    }

    /// The block that a session other than `who` is latest with, if it is later than `than`: its
    /// number, who that is, how late it is. All blocks are looked at, so the times are made exact.
    fn latest(&mut self, who: SessionId, now_ms: u32, than: u32) -> Option<(u32, SessionId, u32)> {
        (self.earliest, self.latest) = (u32::MAX, 0);
        let (mut than, mut found) = (than, None);
        for (number, state) in (0_u32..).zip(&self.blocks) {
            let BlockState::Asked(by, due) = *state else { continue };
            self.earliest = self.earliest.min(due);
            self.latest = self.latest.max(due);
            let late = lateness(due, now_ms);
            if by != who && late > than {
                than = late;
                found = Some((number, by, late));
            }
        }
        found
    }
}

/// Orders blocks by how late they are: what is overdue comes before all that is not.
fn lateness(due_ms: u32, now_ms: u32) -> u32 {
    if due_ms < now_ms { u32::MAX - due_ms } else { due_ms }
}

/// What a block that came in is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It was still wanted; it is to be written. These sessions were asked for it as well and
    /// should take their requests back.
    Fresh([Option<SessionId>; 2]),
    /// It is here already, or its piece is no longer open.
    Stale,
}

/// Blocks in a row that one session is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Where it lies: bytes of the torrent.
    pub bytes: Range<u64>,
    /// The pieces that the session holds a job for.
    pub pieces: Range<u32>,
}

/// The state of every piece, and who was asked for what.
pub struct Picker {
    geometry: Geometry,
    had: Bitfield,
    /// The pieces that are to be had, if not all (rule 7).
    selected: Option<Bitfield>,
    /// Pieces that are to be had and are not yet.
    left: u32,
    /// Pieces are taken in the torrent's order (rule 8).
    in_order: bool,
    missing: Rarity,
    /// Peers that have every piece; they are counted here and not in `missing`.
    seeds: u32,
    open: BTreeMap<PieceIndex, OpenPiece>,
    /// Open pieces that have free blocks.
    unfinished: BTreeSet<PieceIndex>,
    full: BTreeMap<PieceIndex, Vec<SessionId>>,
    /// Pieces that are to be fetched from one peer alone (rule 6).
    suspect: BTreeSet<PieceIndex>,
    /// Where the last run of each of the mirrors' connections ended (rule 9).
    heads: [Option<PieceIndex>; MIRROR_WORKERS_MAX],
    verified: u32,
    /// Pieces that may be open or full at once.
    begun_max: usize,
    rng: fastrand::Rng,
}

impl Picker {
    /// The picker of a torrent of which `had` is there already.
    pub fn new(geometry: Geometry, had: Bitfield, mut rng: fastrand::Rng) -> Self {
        let missing = Rarity::new(geometry, &had, &mut rng);
        Self {
            geometry,
            left: geometry.pieces().saturating_sub(had.count()),
            had,
            selected: None,
            in_order: false,
            missing,
            seeds: 0,
            open: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            full: BTreeMap::new(),
            suspect: BTreeSet::new(),
            heads: [None; MIRROR_WORKERS_MAX],
            verified: 0,
            begun_max: OPEN_PIECES_MAX,
            rng,
        }
    }

    /// From now on pieces are taken in the torrent's order (rule 8).
    pub fn go_in_order(&mut self) {
        self.in_order = true;
    }

    /// From now on only these pieces are to be had (rule 7). To be said before the first job.
    pub fn select(&mut self, pieces: Bitfield) {
        for piece in self.geometry.all_pieces().filter(|piece| !pieces.has(*piece)) {
            self.missing.remove(piece);
        }
        self.left = u32::try_from(self.missing.len()).unwrap_or(u32::MAX);
        self.selected = Some(pieces);
    }

    /// Past `max` pieces that are open or full no more are begun: their tables take memory.
    pub fn limit_begun(&mut self, max: usize) {
        self.begun_max = max.clamp(1, OPEN_PIECES_MAX);
    }

    /// Pieces of one run. Where not all of them may be begun at once, what mirrors have begun is half
    /// of what may be.
    pub fn begun_share(&self) -> u32 {
        let pieces = self.geometry.pieces();
        let share = u32::try_from(self.begun_max / (2 * MIRROR_WORKERS_MAX)).unwrap_or(pieces);
        if self.begun_max >= pieces as usize { pieces } else { share.max(1) }
    }

    /// The pieces that are there and verified.
    pub fn had(&self) -> &Bitfield {
        &self.had
    }

    /// The pieces of which some bytes may be in the files, but that are not verified.
    pub fn begun(&self) -> impl Iterator<Item = PieceIndex> {
        self.open.keys().chain(self.full.keys()).copied()
    }

    /// Whether every piece that is to be had is there and verified.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// How many pieces are to be had and are not yet.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Whether `piece` is to be had.
    pub fn selects(&self, piece: PieceIndex) -> bool {
        self.selected.as_ref().is_none_or(|selected| selected.has(piece))
    }

    /// Whether `piece` is to be had and is not yet.
    pub fn wants(&self, piece: PieceIndex) -> bool {
        self.selects(piece) && !self.had.has(piece)
    }

    /// Bytes of the pieces that nobody has begun, the last one counted as long as the others.
    pub fn missing_bytes(&self) -> u64 {
        self.missing.len() as u64 * u64::from(self.geometry.piece_length())
    }

    // ---- what peers have -----------------------------------------------------------------------

    /// A peer came that has these pieces.
    pub fn on_join(&mut self, have: &Bitfield) {
        if have.is_full() {
            self.seeds += 1;
        } else {
            self.each(have, Rarity::more);
        }
    }

    /// A peer that had these pieces has this one too now. `have` does not contain it yet.
    pub fn on_have(&mut self, have: &Bitfield, piece: PieceIndex) {
        if have.count() + 1 == self.geometry.pieces() {
            self.each(have, Rarity::less);
            self.seeds += 1;
        } else {
            self.missing.more(piece);
        }
    }

    /// A peer that had these pieces is gone.
    pub fn on_leave(&mut self, have: &Bitfield) {
        if have.is_full() {
            self.seeds = self.seeds.saturating_sub(1);
        } else {
            self.each(have, Rarity::less);
        }
    }

    fn each(&mut self, have: &Bitfield, change: fn(&mut Rarity, PieceIndex)) {
        if have.is_empty() {
            return;
        }
        for piece in self.geometry.all_pieces().filter(|piece| have.has(*piece)) {
            change(&mut self.missing, piece);
        }
    }

    /// How many peers have `piece`.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        self.seeds + u32::from(self.missing.availability(piece))
    }

    /// How many of these pieces are to be had and are not yet.
    pub fn wanted(&self, have: &Bitfield) -> u32 {
        let bytes = have.as_bytes().iter().zip(self.had.as_bytes());
        let lacked = bytes.map(|(theirs, ours)| theirs & !ours);
        match &self.selected {
            None => lacked.map(u8::count_ones).sum(),
            Some(selected) => {
                let both = lacked.zip(selected.as_bytes());
                both.map(|(lacked, selected)| (lacked & selected).count_ones()).sum()
            }
        }
    }

    // ---- jobs and blocks -----------------------------------------------------------------------

    /// Binds a job to a piece for a session whose peer has `have` (rules 2 and 3). `last` is the
    /// piece it worked on before. The session must have nothing left to ask for in the jobs that
    /// it holds. The piece has at least one block to ask for.
    pub fn take_job(&mut self, have: &Bitfield, last: Option<PieceIndex>) -> Option<PieceIndex> {
        let piece = self
            .abandoned(have)
            .or_else(|| self.begin(have, last))
            .or_else(|| self.shared(have))?;
        self.open.get_mut(&piece)?.workers += 1;
        Some(piece)
    }

    /// An open piece nobody works on, the nearest to done.
    fn abandoned(&self, have: &Bitfield) -> Option<PieceIndex> {
        let idle = self.unfinished_of(have).filter(|(_, open)| open.workers == 0);
        self.nearest(idle)
    }

    /// An open piece that others work on, the nearest to done.
    fn shared(&self, have: &Bitfield) -> Option<PieceIndex> {
        let others = self.unfinished_of(have).filter(|(_, open)| !open.alone);
        self.nearest(others)
    }

    /// The nearest to done, or to the start.
    fn nearest<'a>(
        &self,
        mut open: impl Iterator<Item = (PieceIndex, &'a OpenPiece)>,
    ) -> Option<PieceIndex> {
        let found = match self.in_order {
            true => open.next(),
            false => open.min_by_key(|(_, open)| open.free),
        };
        found.map(|(piece, _)| piece)
    }

    fn unfinished_of(&self, have: &Bitfield) -> impl Iterator<Item = (PieceIndex, &OpenPiece)> {
        let pieces = self.unfinished.iter().filter(|piece| have.has(**piece));
        pieces.filter_map(|piece| Some((*piece, self.open.get(piece)?)))
    }

    /// Opens the best missing piece.
    fn begin(&mut self, have: &Bitfield, last: Option<PieceIndex>) -> Option<PieceIndex> {
        if !self.may_begin() {
            return None;
        }
        let piece = if self.in_order {
            self.missing.first(have)?
        } else if self.verified < RANDOM_FIRST_PIECES && last.is_none() {
            self.missing.random(have, &mut self.rng)?
        } else {
            let rarest = self.missing.rarest(have)?;
            last.and_then(|last| self.near(last, rarest, have)).unwrap_or(rarest)
        };
        self.open_piece(piece);
        Some(piece)
    }

    fn may_begin(&self) -> bool {
        self.open.len() + self.full.len() < self.begun_max && !self.missing.is_empty()
    }

    fn open_piece(&mut self, piece: PieceIndex) {
        self.missing.remove(piece);
        let blocks = self.geometry.blocks_in(piece);
        let open = OpenPiece {
            blocks: vec![BlockState::Free; blocks as usize],
            free: blocks,
            first_free: 0,
            arrived: 0,
            workers: 0,
            alone: self.suspect.contains(&piece),
            earliest: u32::MAX,
            latest: 0,
        };
        self.open.insert(piece, open);
        self.unfinished.insert(piece);
    }

    /// A missing piece as rare as `rarest` in the extent of `last` (rule 3), the next one first.
    fn near(&self, last: PieceIndex, rarest: PieceIndex, have: &Bitfield) -> Option<PieceIndex> {
        let pieces_in_extent = (EXTENT_LENGTH_BYTES / self.geometry.piece_length()).max(1);
        let first = last.get() / pieces_in_extent * pieces_in_extent;
        let rarity = self.missing.availability(rarest);
        let fits = |piece: &PieceIndex| {
            self.missing.contains(*piece)
                && have.has(*piece)
                && self.missing.availability(*piece) == rarity
        };
        let end = first.saturating_add(pieces_in_extent);
        let after = (last.get()..end).chain(first..last.get());
        after.filter_map(|number| self.geometry.piece(number)).find(fits)
    }

    /// Gives up a job: what it asked for must have been answered or given back.
    pub fn end_job(&mut self, piece: PieceIndex) {
        let Some(open) = self.open.get_mut(&piece) else { return };
        open.workers = open.workers.saturating_sub(1);
        if open.alone && open.workers == 0 {
            open.alone = false;
            self.suspect.remove(&piece);
        }
        // Nothing came and nobody is asked: it is as if it had never been begun.
        if open.workers == 0 && open.free as usize == open.blocks.len() {
            self.open.remove(&piece);
            self.unfinished.remove(&piece);
            self.missing.insert(piece);
        }
    }

    /// The next block of a job's piece, now asked of `who` and due at `due_ms` (rule 4). `None`
    /// if no block of it is left to ask for.
    pub fn ask(&mut self, who: SessionId, piece: PieceIndex, due_ms: u32) -> Option<Block> {
        let open = self.open.get_mut(&piece)?;
        let mut states = (0_u32..).zip(&mut open.blocks).skip(open.first_free as usize);
        let (number, state) = states.find(|(_, state)| **state == BlockState::Free)?;
        *state = BlockState::Asked(who, due_ms);
        open.first_free = number + 1;
        open.widen(due_ms);
        open.free -= 1;
        if open.free == 0 {
            self.unfinished.remove(&piece);
        }
        Some(self.geometry.block(piece, number))
    }

    // ---- runs ----------------------------------------------------------------------------------

    /// Binds a run for connection number `hand` of the mirror `who`, which has `have` (rule 9): of
    /// no more than so many `bytes` and `pieces`, but of one block at least. A block that ends so
    /// many bytes from the start of the run is due at `due_ms` of that.
    pub fn take_run(
        &mut self,
        (who, hand): (SessionId, usize),
        have: &Bitfield,
        (bytes, pieces): (u64, u32),
        due_ms: impl Fn(u64) -> u32,
    ) -> Option<Run> {
        let first = self
            .abandoned(have)
            .or_else(|| self.begin_run(hand, have))
            .or_else(|| self.shared(have))?;
        let mut run = self.ask_row(who, first, bytes, &due_ms)?;
        let mut last = first;
        while let Some(next) = self.next_of_run(first, last, &run, have, (bytes, pieces)) {
            self.open_piece(next);
            let length = run.end - run.start;
            let due_ms = |more| due_ms(length + more);
            let Some(row) = self.ask_row(who, next, bytes - length, due_ms) else { break };
            (run.end, last) = (row.end, next);
        }
        let pieces = first.get()..last.get() + 1;
        for piece in pieces.clone().filter_map(|number| self.geometry.piece(number)) {
            if let Some(open) = self.open.get_mut(&piece) {
                open.workers += 1;
            }
        }
        if let Some(head) = self.heads.get_mut(hand) {
            *head = self.geometry.piece(pieces.end);
        }
        Some(Run { bytes: run, pieces })
    }

    /// The missing piece that a run of pieces `first` to `last` can go on with, if it is whole.
    fn next_of_run(
        &self,
        first: PieceIndex,
        last: PieceIndex,
        run: &Range<u64>,
        have: &Bitfield,
        (bytes, pieces): (u64, u32),
    ) -> Option<PieceIndex> {
        let next = self.geometry.piece(last.get() + 1)?;
        let fits = run.end == self.geometry.offset_of(next)
            && next.get() - first.get() < pieces
            && run.end - run.start + self.length_of(next) <= bytes;
        let is_free = have.has(next) && self.missing.contains(next) && self.may_begin();
        (fits && is_free).then_some(next)
    }

    fn length_of(&self, piece: PieceIndex) -> u64 {
        u64::from(self.geometry.length_of(piece))
    }

    /// Opens the missing piece that a run is to begin with.
    fn begin_run(&mut self, hand: usize, have: &Bitfield) -> Option<PieceIndex> {
        if !self.may_begin() {
            return None;
        }
        let rarest = self.missing.rarest(have)?;
        let is_rare = self.availability(rarest) == 0 && self.missing.most_available() > 0;
        let fits = |piece: &PieceIndex| {
            self.missing.contains(*piece)
                && have.has(*piece)
                && (!is_rare || self.availability(*piece) == 0)
        };
        let head = self.heads.get(hand).copied().flatten().filter(fits);
        let piece = match head {
            _ if self.in_order => self.missing.first(have),
            None if !is_rare => self.longest_gap(hand).filter(|piece| have.has(*piece)),
            head => head,
        };
        let piece = piece.unwrap_or(rarest);
        self.open_piece(piece);
        Some(piece)
    }

    /// Where the longest gap begins, or the second half of one that is another connection's.
    fn longest_gap(&self, hand: usize) -> Option<PieceIndex> {
        let others = (0..).zip(&self.heads).filter(|(other, _)| *other != hand);
        let others: Vec<u32> = others.filter_map(|(_, head)| head.map(PieceIndex::get)).collect();
        let ours = |gap: Range<u32>| {
            let length = gap.end - gap.start;
            let left = if others.contains(&gap.start) { length / 2 } else { 0 };
            (length - left, gap.start + left)
        };
        // Of equally long ones the first.
        let longest = self.missing.gaps().map(ours).reduce(|a, b| if b.0 > a.0 { b } else { a });
        longest.and_then(|(_, begin)| self.geometry.piece(begin))
    }

    /// Asks for the first free block of an open piece and those that are free right behind it, up
    /// to so many bytes. Returns where they lie.
    fn ask_row(
        &mut self,
        who: SessionId,
        piece: PieceIndex,
        bytes: u64,
        due_ms: impl Fn(u64) -> u32,
    ) -> Option<Range<u64>> {
        let offset = self.geometry.offset_of(piece);
        let begins = |number: u32| u64::from(number) * u64::from(BLOCK_LENGTH);
        let piece_length = self.length_of(piece);
        let open = self.open.get_mut(&piece)?;
        let mut states = (0_u32..).zip(&mut open.blocks).skip(open.first_free as usize);
        let (first, state) = states.find(|(_, state)| **state == BlockState::Free)?;
        let length = |next: u32| begins(next).min(piece_length) - begins(first);
        let mut next = first + 1;
        let due = due_ms(length(next));
        *state = BlockState::Asked(who, due);
        let (mut earliest, mut latest) = (due, due);
        for (number, state) in states {
            if *state != BlockState::Free || length(number + 1) > bytes {
                break;
            }
            next = number + 1;
            let due = due_ms(length(next));
            *state = BlockState::Asked(who, due);
            (earliest, latest) = (earliest.min(due), latest.max(due));
        }
        open.widen(earliest);
        open.widen(latest);
        open.first_free = next;
        open.free -= next - first;
        if open.free == 0 {
            self.unfinished.remove(&piece);
        }
        Some(offset + begins(first)..offset + begins(first) + length(next))
    }

    /// The run in one piece that begins with the block which another session is latest with, as
    /// [`Picker::ask_late`] says. It goes on as long as the blocks are late as well.
    pub fn ask_late_run(
        &mut self,
        who: SessionId,
        have: &Bitfield,
        (now_ms, due_ms): (u32, u32),
        blocks: usize,
    ) -> Option<Run> {
        let first = self.ask_late(who, have, now_ms, due_ms)?;
        let begin = self.geometry.offset_of(first.piece) + u64::from(first.begin);
        let mut last = first;
        let open = self.open.get_mut(&first.piece)?;
        let behind = (0_u32..).zip(&mut open.blocks).skip(first.number() as usize + 1);
        for (number, state) in behind.take(blocks.saturating_sub(1)) {
            match *state {
                BlockState::Asked(by, due) if by != who && lateness(due, now_ms) > due_ms => {
                    *state = BlockState::AskedTwice(by, who);
                    last = self.geometry.block(first.piece, number);
                }
                _ => break,
            }
        }
        let end = begin + u64::from(last.begin - first.begin + last.length);
        let piece = first.piece.get();
        Some(Run { bytes: begin..end, pieces: piece..piece })
    }

    /// Whether nothing is left to ask for the first time, of anybody.
    pub fn is_end_game(&self) -> bool {
        self.missing.is_empty() && self.unfinished.is_empty()
    }

    /// The block that another session is latest with, now asked of `who` as well, who would
    /// bring it at `due_ms` (rule 5). What should have been here before `now_ms` is the latest
    /// of all.
    pub fn ask_late(
        &mut self,
        who: SessionId,
        have: &Bitfield,
        now_ms: u32,
        due_ms: u32,
    ) -> Option<Block> {
        let (mut latest, mut latest_due) = (None, due_ms);
        for (piece, open) in self.open.iter_mut().filter(|(piece, _)| have.has(**piece)) {
            // Most pieces are passed over without a look at their blocks.
            if open.alone || open.lateness_max(now_ms) <= latest_due {
                continue;
            }
            if let Some((number, by, due)) = open.latest(who, now_ms, latest_due) {
                (latest, latest_due) = (Some((*piece, number, by)), due);
            }
        }
        let (piece, number, by) = latest?;
        let block = self.geometry.block(piece, number);
        let state = self.open.get_mut(&piece)?.state(block)?;
        *state = BlockState::AskedTwice(by, who);
        Some(block)
    }

    /// `who` will not bring `block`, or only perhaps: it may be asked of others. True if it is
    /// free now.
    pub fn give_back(&mut self, who: SessionId, block: Block) -> bool {
        let Some(open) = self.open.get_mut(&block.piece) else { return false };
        let Some(state) = open.state(block) else { return false };
        match *state {
            BlockState::Asked(by, _) if by == who => *state = BlockState::Free,
            BlockState::AskedTwice(first, second) if first == who || second == who => {
                *state = BlockState::Asked(if first == who { second } else { first }, u32::MAX);
                open.widen(u32::MAX);
                return false;
            }
            _ => return false,
        }
        open.free += 1;
        open.first_free = open.first_free.min(block.number());
        self.unfinished.insert(block.piece);
        true
    }

    /// Whether `block` is still to come: a request for it that is out makes sense.
    pub fn is_awaited(&self, block: Block) -> bool {
        let open = self.open.get(&block.piece);
        let state = open.and_then(|open| open.blocks.get(block.number() as usize));
        state.is_some_and(|state| !matches!(state, BlockState::Arrived(_)))
    }

    /// Whether `block` is still to come from `who`, as far as is known here.
    pub fn is_asked(&self, who: SessionId, block: Block) -> bool {
        let open = self.open.get(&block.piece);
        let state = open.and_then(|open| open.blocks.get(block.number() as usize));
        state.is_some_and(|state| match *state {
            BlockState::Asked(by, _) => by == who,
            BlockState::AskedTwice(first, second) => first == who || second == who,
            BlockState::Free | BlockState::Arrived(_) => false,
        })
    }

    /// `who` brought `block`.
    pub fn on_block(&mut self, who: SessionId, block: Block) -> Arrival {
        let Some(open) = self.open.get_mut(&block.piece) else { return Arrival::Stale };
        let Some(state) = open.state(block) else { return Arrival::Stale };
        let before = *state;
        if matches!(before, BlockState::Arrived(_)) {
            return Arrival::Stale;
        }
        *state = BlockState::Arrived(who);
        open.arrived += 1;
        if before == BlockState::Free {
            open.free -= 1;
            if open.free == 0 {
                self.unfinished.remove(&block.piece);
            }
        }
        if open.arrived as usize == open.blocks.len() {
            self.on_full(block.piece);
        }
        let asked = match before {
            BlockState::Asked(by, _) => [Some(by), None],
            BlockState::AskedTwice(first, second) => [Some(first), Some(second)],
            BlockState::Free | BlockState::Arrived(_) => [None, None],
        };
        Arrival::Fresh(asked.map(|by| by.filter(|by| *by != who)))
    }

    /// Every block of `piece` is here; what is remembered of them is who brought which.
    fn on_full(&mut self, piece: PieceIndex) {
        let Some(open) = self.open.remove(&piece) else { return };
        let brought = open.blocks.iter().filter_map(|state| match state {
            BlockState::Arrived(by) => Some(*by),
            _ => None,
        });
        self.full.insert(piece, brought.collect());
    }

    /// The hash of `piece` is right: it is had from now on.
    pub fn on_verified(&mut self, piece: PieceIndex) {
        self.full.remove(&piece);
        self.suspect.remove(&piece);
        if self.had.insert(piece) && self.selects(piece) {
            self.left = self.left.saturating_sub(1);
        }
        self.verified += 1;
    }

    /// The hash of `piece` is wrong: it is missing again. Returns who brought which block.
    pub fn on_failed(&mut self, piece: PieceIndex) -> Vec<SessionId> {
        let brought = self.full.remove(&piece).unwrap_or_default();
        if brought.iter().any(|by| Some(by) != brought.first()) {
            self.suspect.insert(piece);
        }
        self.missing.insert(piece);
        brought
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: SessionId = SessionId(1);
    const BOB: SessionId = SessionId(2);
    const CAT: SessionId = SessionId(3);

    /// `pieces` pieces of `blocks` blocks each.
    fn picker(pieces: u32, blocks: u32) -> Picker {
        let piece_length = blocks * BLOCK_LENGTH;
        let geometry =
            Geometry::new(u64::from(pieces) * u64::from(piece_length), piece_length).unwrap();
        Picker::new(geometry, Bitfield::none(geometry), fastrand::Rng::with_seed(5))
    }

    /// The set drawn as a string: `x` for each piece it has.
    fn have(picker: &Picker, drawn: &str) -> Bitfield {
        let mut have = Bitfield::none(picker.geometry);
        for (piece, _) in picker.geometry.all_pieces().zip(drawn.chars()).filter(|(_, c)| *c == 'x')
        {
            have.insert(piece);
        }
        have
    }

    fn all(picker: &Picker) -> Bitfield {
        Bitfield::all(picker.geometry)
    }

    /// Fetches and verifies a whole piece.
    fn fetch(picker: &mut Picker, who: SessionId, piece: PieceIndex) {
        while let Some(block) = picker.ask(who, piece, 0) {
            assert_eq!(picker.on_block(who, block), Arrival::Fresh([None, None]));
        }
        picker.end_job(piece);
        picker.on_verified(piece);
    }

    #[test]
    fn the_rarest_piece_is_begun_first_and_only_what_the_peer_has() {
        let mut picker = picker(6, 2);
        picker.verified = RANDOM_FIRST_PIECES;
        for drawn in ["xxx.xx", "x.x.xx", "x...xx"] {
            let have = have(&picker, drawn);
            picker.on_join(&have);
        }
        // Availability 3 1 2 0 3 3.
        let mut order = Vec::new();
        while let Some(piece) = picker.take_job(&have(&picker, "xxx..x"), None) {
            order.push(piece.get());
            fetch(&mut picker, ANN, piece);
        }
        assert_eq!(&order[..2], [1, 2]);
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 5]);
    }

    #[test]
    fn a_peer_that_leaves_or_completes_is_counted_rightly() {
        let mut picker = picker(3, 1);
        let two = have(&picker, "xx.");
        picker.on_join(&two);
        picker.on_join(&all(&picker));
        let last = picker.geometry.piece(2).unwrap();
        assert_eq!(picker.availability(last), 1);
        picker.on_have(&two, last);
        assert_eq!(picker.availability(last), 2);
        assert_eq!(picker.seeds, 2);
        picker.on_leave(&all(&picker));
        picker.on_leave(&all(&picker));
        assert!(picker.geometry.all_pieces().all(|piece| picker.availability(piece) == 0));
    }

    #[test]
    fn equally_rare_pieces_are_taken_from_the_extent_that_is_begun() {
        let mut picker = picker(64, 64); // 1 MiB pieces: 4 to an extent
        picker.verified = RANDOM_FIRST_PIECES;
        picker.on_join(&all(&picker));
        let mut last = None;
        let mut extents = Vec::new();
        for _ in 0..64 {
            let piece = picker.take_job(&all(&picker), last).unwrap();
            fetch(&mut picker, ANN, piece);
            extents.push(piece.get() / 4);
            last = Some(piece);
        }
        extents.dedup();
        assert_eq!(extents.len(), 16, "each extent is done before the next: {extents:?}");
        assert!(picker.is_done());
    }

    #[test]
    fn a_begun_piece_is_gone_on_with_before_a_new_one() {
        let mut picker = picker(4, 4);
        let have = all(&picker);
        let piece = picker.take_job(&have, None).unwrap();
        let block = picker.ask(ANN, piece, 0).unwrap();
        let lost = picker.ask(ANN, piece, 0).unwrap();
        picker.on_block(ANN, block);
        assert!(picker.give_back(ANN, lost));
        picker.end_job(piece);
        assert_eq!(picker.take_job(&have, None), Some(piece));
        let rest: Vec<u32> =
            std::iter::from_fn(|| picker.ask(BOB, piece, 0)).map(Block::number).collect();
        assert_eq!(rest, [1, 2, 3]);
    }

    #[test]
    fn a_piece_given_back_untouched_is_missing_again() {
        let mut picker = picker(1, 2);
        let have = all(&picker);
        let piece = picker.take_job(&have, None).unwrap();
        let block = picker.ask(ANN, piece, 0).unwrap();
        assert!(!picker.missing.contains(piece));
        picker.give_back(ANN, block);
        picker.end_job(piece);
        assert!(picker.missing.contains(piece) && picker.open.is_empty());
        assert_eq!(picker.on_block(ANN, block), Arrival::Stale);
    }

    #[test]
    fn the_last_pieces_are_shared() {
        let mut picker = picker(1, 4);
        let have = all(&picker);
        let piece = picker.take_job(&have, None).unwrap();
        assert_eq!(picker.take_job(&have, None), Some(piece));
        assert_eq!(picker.ask(ANN, piece, 0).unwrap().number(), 0);
        assert_eq!(picker.ask(BOB, piece, 0).unwrap().number(), 1);
    }

    #[test]
    fn in_the_end_game_the_latest_block_is_asked_twice_and_the_loser_cancels() {
        let mut picker = picker(1, 3);
        let have = all(&picker);
        let piece = picker.take_job(&have, None).unwrap();
        let blocks: Vec<Block> =
            [500, 9_000, 4_000].iter().map(|due| picker.ask(ANN, piece, *due).unwrap()).collect();
        assert!(picker.is_end_game());
        assert_eq!(picker.ask_late(ANN, &have, 0, 100), None, "not of the same session");
        assert_eq!(picker.ask_late(BOB, &have, 0, 100), Some(blocks[1]));
        assert_eq!(picker.ask_late(CAT, &have, 0, 600), Some(blocks[2]), "nobody a third time");
        assert_eq!(picker.ask_late(CAT, &have, 0, 600), None, "the first will be here sooner");
        assert_eq!(picker.on_block(BOB, blocks[1]), Arrival::Fresh([Some(ANN), None]));
        assert_eq!(picker.on_block(ANN, blocks[1]), Arrival::Stale);
        assert!(!picker.is_awaited(blocks[1]) && picker.is_awaited(blocks[2]));
        // The one who is late gives up: the second asker is alone with it.
        assert!(!picker.give_back(ANN, blocks[2]));
        assert_eq!(picker.on_block(CAT, blocks[2]), Arrival::Fresh([None, None]));
        assert_eq!(picker.on_block(ANN, blocks[0]), Arrival::Fresh([None, None]));
        assert_eq!(picker.full.get(&piece), Some(&vec![ANN, BOB, CAT]));
    }

    #[test]
    fn in_the_end_game_what_is_overdue_comes_before_what_is_late() {
        let mut picker = picker(1, 3);
        let have = all(&picker);
        let piece = picker.take_job(&have, None).unwrap();
        for due in [8_000, 3_000, 1_000] {
            picker.ask(ANN, piece, due).unwrap();
        }
        let order: Vec<u32> =
            std::iter::from_fn(|| picker.ask_late(BOB, &have, 4_000, 5_000).map(Block::number))
                .collect();
        assert_eq!(order, [2, 1, 0]);
    }

    #[test]
    fn a_block_that_comes_after_it_was_given_back_is_still_good() {
        let mut picker = picker(1, 2);
        let have = all(&picker);
        let piece = picker.take_job(&have, None).unwrap();
        let (first, second) = (picker.ask(ANN, piece, 0).unwrap(), picker.ask(ANN, piece, 0));
        assert!(picker.give_back(ANN, first));
        assert_eq!(picker.on_block(ANN, first), Arrival::Fresh([None, None]));
        picker.give_back(ANN, second.unwrap());
        picker.take_job(&have, None).unwrap();
        assert_eq!(picker.ask(BOB, piece, 0), second);
        assert_eq!(picker.on_block(ANN, second.unwrap()), Arrival::Fresh([Some(BOB), None]));
    }

    #[test]
    fn a_block_of_which_two_are_asked_can_come_from_a_third() {
        let mut picker = picker(1, 1);
        let have = all(&picker);
        let piece = picker.take_job(&have, None).unwrap();
        let block = picker.ask(ANN, piece, 9_000).unwrap();
        assert_eq!(picker.ask_late(BOB, &have, 0, 100), Some(block));
        assert!(!picker.give_back(ANN, block));
        assert_eq!(picker.ask_late(CAT, &have, 0, 100), Some(block));
        assert_eq!(picker.on_block(ANN, block), Arrival::Fresh([Some(BOB), Some(CAT)]));
    }

    #[test]
    fn a_bad_piece_from_several_peers_is_fetched_again_from_one_alone() {
        let mut picker = picker(1, 2);
        let have = all(&picker);
        for expect_alone in [false, true] {
            let piece = picker.take_job(&have, None).unwrap();
            assert_eq!(picker.take_job(&have, None).is_none(), expect_alone);
            let first = picker.ask(ANN, piece, 9_000).unwrap();
            let other = if expect_alone { ANN } else { BOB };
            let second = picker.ask(other, piece, 9_000).unwrap();
            assert_eq!(picker.ask_late(CAT, &have, 0, 0).is_none(), expect_alone);
            picker.on_block(ANN, first);
            picker.on_block(other, second);
            assert_eq!(picker.on_failed(piece), [ANN, other]);
        }
        assert!(picker.suspect.contains(&picker.geometry.piece(0).unwrap()));
    }

    #[test]
    fn whoever_was_outrun_is_not_asked_when_another_begins_the_piece_again() {
        let mut picker = picker(1, 1);
        let have = all(&picker);
        let piece = picker.take_job(&have, None).unwrap();
        let block = picker.ask(ANN, piece, 9_000).unwrap();
        picker.ask_late(BOB, &have, 0, 100);
        assert!(picker.is_asked(ANN, block) && picker.is_asked(BOB, block));
        picker.on_block(BOB, block);
        assert!(!picker.is_asked(ANN, block) && !picker.is_asked(BOB, block));
        picker.on_failed(piece);
        picker.take_job(&have, None);
        picker.ask(CAT, piece, 9_000);
        assert!(picker.is_asked(CAT, block) && picker.is_awaited(block));
        assert!(!picker.is_asked(ANN, block));
    }

    #[test]
    fn a_bad_piece_that_a_silent_peer_got_alone_is_open_to_all_once_it_gives_up() {
        for comes in [0, 1] {
            let mut picker = picker(1, 3);
            let have = all(&picker);
            let piece = picker.take_job(&have, None).unwrap();
            for who in [ANN, BOB, BOB] {
                let block = picker.ask(who, piece, 0).unwrap();
                picker.on_block(who, block);
            }
            picker.on_failed(piece);
            assert_eq!(picker.take_job(&have, None), Some(piece));
            let blocks: Vec<Block> = std::iter::from_fn(|| picker.ask(ANN, piece, 1_000)).collect();
            for block in &blocks[..comes] {
                picker.on_block(ANN, *block);
            }
            for block in &blocks[comes..] {
                picker.give_back(ANN, *block);
            }
            picker.end_job(piece);
            // It is the first to ask again; now others may join in, and ask for what it owes.
            assert_eq!(picker.take_job(&have, None), Some(piece));
            let owed = picker.ask(ANN, piece, 1_000).unwrap();
            assert_eq!(picker.take_job(&have, None), Some(piece));
            while picker.ask(BOB, piece, 1_000).is_some() {}
            assert!(picker.is_end_game());
            assert_eq!(picker.ask_late(BOB, &have, 2_000, 3_000), Some(owed));
        }
    }

    // ---- runs ----------------------------------------------------------------------------------

    const BLOCK: u64 = BLOCK_LENGTH as u64;

    /// The next run of up to `blocks` and 100 pieces: its first block and the one behind its last.
    fn run(picker: &mut Picker, who: SessionId, hand: usize, blocks: u64) -> Option<(u64, u64)> {
        let have = all(picker);
        let run = picker.take_run((who, hand), &have, (blocks * BLOCK, 100), |bytes| {
            u32::try_from(bytes / BLOCK).unwrap()
        })?;
        Some((run.bytes.start / BLOCK, run.bytes.end.div_ceil(BLOCK)))
    }

    fn piece(picker: &Picker, number: u32) -> PieceIndex {
        picker.geometry.piece(number).unwrap()
    }

    #[test]
    fn a_run_is_as_long_as_it_may_be_and_ends_with_a_piece() {
        let cases = [
            (10, 100, (0, 8)), // two blocks more would be half a piece
            (4, 100, (0, 4)),
            (3, 100, (0, 3)), // a piece can be too long
            (0, 100, (0, 1)),
            (1_000, 100, (0, 40)),
            (1_000, 3, (0, 12)),
        ];
        for (blocks, pieces, expected) in cases {
            let mut picker = picker(10, 4);
            let have = all(&picker);
            let run = picker.take_run((ANN, 0), &have, (blocks * BLOCK, pieces), |_| 7).unwrap();
            assert_eq!((run.bytes.start, run.bytes.end), (expected.0 * BLOCK, expected.1 * BLOCK));
            assert_eq!(u64::from(run.pieces.end - run.pieces.start), expected.1.div_ceil(4));
            let open: u64 = picker.open.values().map(|open| u64::from(open.free)).sum();
            assert_eq!(open, expected.1.next_multiple_of(4) - expected.1, "{blocks} {pieces}");
            assert!(picker.open.values().all(|open| open.workers == 1));
        }
    }

    #[test]
    fn runs_keep_to_the_pieces_that_may_be_begun() {
        let mut picker = picker(10, 2);
        picker.limit_begun(3);
        assert_eq!(run(&mut picker, ANN, 0, 100), Some((0, 6)));
        assert_eq!(run(&mut picker, BOB, 1, 100), None);
    }

    #[test]
    fn the_last_piece_may_be_short() {
        let geometry = Geometry::new(5 * BLOCK + 1, 2 * BLOCK_LENGTH).unwrap();
        let had = Bitfield::none(geometry);
        let mut picker = Picker::new(geometry, had, fastrand::Rng::with_seed(5));
        let have = all(&picker);
        let run = picker.take_run((ANN, 0), &have, (5 * BLOCK + 1, 9), |_| 0).unwrap();
        assert_eq!(run, Run { bytes: 0..5 * BLOCK + 1, pieces: 0..3 });
        assert!(picker.is_end_game());
    }

    #[test]
    fn a_connection_goes_on_where_it_was_and_others_begin_in_the_middle() {
        let mut picker = picker(64, 1);
        let mut runs = Vec::new();
        for hand in [0, 1, 2, 0, 1, 3, 2] {
            runs.push(run(&mut picker, ANN, hand, 4).unwrap());
        }
        assert_eq!(runs, [(0, 4), (34, 38), (19, 23), (4, 8), (38, 42), (53, 57), (23, 27)]);
    }

    #[test]
    fn a_connection_that_meets_what_is_had_goes_to_the_longest_gap() {
        let mut picker = picker(32, 1);
        for number in [0, 1, 5, 20] {
            let piece = piece(&picker, number);
            picker.missing.remove(piece);
            picker.on_verified(piece);
        }
        // Gaps: 2 to 4, 6 to 19, 21 to 31.
        let mut runs = Vec::new();
        while let Some(run) = run(&mut picker, ANN, 0, 8) {
            runs.push(run);
        }
        assert_eq!(runs, [(6, 14), (14, 20), (21, 29), (29, 32), (2, 5)]);
    }

    #[test]
    fn what_nobody_works_on_is_gone_on_with_by_a_run_and_with_it_what_is_behind() {
        let mut picker = picker(6, 4);
        let second = piece(&picker, 1);
        picker.missing.remove(second);
        picker.open_piece(second);
        for _ in 0..2 {
            let block = picker.ask(BOB, second, 0).unwrap();
            picker.on_block(BOB, block);
        }
        assert_eq!(run(&mut picker, ANN, 0, 8), Some((6, 12)));
        assert_eq!(run(&mut picker, ANN, 0, 8), Some((12, 20)));
        assert_eq!(run(&mut picker, CAT, 1, 8), Some((0, 4)));
        assert_eq!(run(&mut picker, CAT, 1, 2), Some((20, 22)));
        assert_eq!(run(&mut picker, CAT, 1, 8), Some((22, 24)), "the rest of what is shared");
        assert_eq!(run(&mut picker, CAT, 1, 8), None);
    }

    #[test]
    fn a_run_asks_for_free_blocks_only() {
        let mut picker = picker(1, 6);
        let have = all(&picker);
        let piece = picker.take_job(&have, None).unwrap();
        let asked: Vec<Block> = (0..4).map(|_| picker.ask(BOB, piece, 0).unwrap()).collect();
        picker.give_back(BOB, asked[1]);
        assert_eq!(run(&mut picker, ANN, 0, 100), Some((1, 2)));
        assert_eq!(run(&mut picker, ANN, 0, 100), Some((4, 6)));
        assert!(picker.is_end_game());
    }

    #[test]
    fn what_no_peer_has_comes_first() {
        let mut picker = picker(8, 1);
        let some = have(&picker, "xxx..xx.");
        picker.on_join(&some);
        let begun: BTreeSet<u64> = (0..3).map(|_| run(&mut picker, ANN, 0, 1).unwrap().0).collect();
        assert_eq!(begun, BTreeSet::from([3, 4, 7]));
        let rest: BTreeSet<(u64, u64)> =
            (0..2).map(|_| run(&mut picker, ANN, 0, 9).unwrap()).collect();
        assert_eq!(rest, BTreeSet::from([(0, 3), (5, 7)]));
    }

    #[test]
    fn where_a_seed_is_nothing_is_rare() {
        let mut picker = picker(8, 1);
        let some = have(&picker, "xxx..xxx");
        picker.on_join(&some);
        picker.on_join(&all(&picker));
        assert_eq!(run(&mut picker, ANN, 0, 9), Some((0, 8)));
    }

    #[test]
    fn blocks_of_a_run_are_due_one_after_the_other_and_late_ones_are_raced_for() {
        let mut picker = picker(2, 8);
        let have = all(&picker);
        let second = |bytes: u64| u32::try_from(1_000 * bytes / BLOCK).unwrap();
        picker.take_run((ANN, 0), &have, (16 * BLOCK, 100), second).unwrap();
        assert!(picker.is_end_game());
        // The last of 16 seconds is the latest.
        let late = picker.ask_late(BOB, &have, 0, 2_000).unwrap();
        assert_eq!((late.piece.get(), late.number()), (1, 7));
        assert_eq!(picker.ask_late(BOB, &have, 0, 15_000), None, "that is as soon from the first");
        // The first ones were due 8 s ago.
        let run = picker.ask_late_run(CAT, &have, (8_500, 9_000), 3).unwrap();
        assert_eq!(run, Run { bytes: 0..3 * BLOCK, pieces: 0..0 });
        assert_eq!(picker.ask_late_run(ANN, &have, (8_500, 9_000), 3), None, "they are its own");
        let run = picker.ask_late_run(CAT, &have, (8_500, 9_000), 100).unwrap();
        assert_eq!(run.bytes, 3 * BLOCK..8 * BLOCK);
        assert_eq!(picker.on_block(CAT, picker.geometry.block(piece(&picker, 0), 3)), {
            Arrival::Fresh([Some(ANN), None])
        });
    }

    #[test]
    fn a_suspect_piece_is_fetched_by_one_connection_alone_in_a_run_too() {
        let mut picker = picker(2, 2);
        let (have, first) = (all(&picker), piece(&picker, 0));
        picker.suspect.insert(first);
        let run = picker.take_run((ANN, 0), &have, (3 * BLOCK, 9), |_| 9_000).unwrap();
        assert_eq!(run.pieces, 0..1);
        for number in 0..2 {
            let block = picker.geometry.block(first, number);
            assert_eq!(picker.ask_late(BOB, &have, 9_999, 10_000), None);
            picker.on_block(ANN, block);
        }
        assert_eq!(picker.on_failed(first), [ANN, ANN]);
    }

    #[test]
    fn what_is_wanted_of_a_peer_shrinks_with_what_is_had() {
        let mut picker = picker(10, 1);
        let have = have(&picker, "x.x.x....x");
        assert_eq!(picker.wanted(&have), 4);
        picker.on_verified(picker.geometry.piece(9).unwrap());
        picker.on_verified(picker.geometry.piece(1).unwrap());
        assert_eq!(picker.wanted(&have), 3);
    }

    #[test]
    fn only_what_is_selected_is_missing() {
        let mut picker = picker(20, 1);
        let geometry = picker.geometry;
        let piece = |number| geometry.piece(number).unwrap();
        let mut selected = Bitfield::none(geometry);
        for number in [3, 7, 8] {
            selected.insert(piece(number));
        }
        let mut had = Bitfield::none(geometry);
        for number in [1, 7] {
            had.insert(piece(number));
        }
        picker.had = had;
        picker.missing.remove(piece(7));
        picker.select(selected);
        let all = Bitfield::all(geometry);
        assert_eq!((picker.left(), picker.wanted(&all), picker.is_done()), (2, 2, false));
        assert!(picker.wants(piece(3)) && !picker.wants(piece(7)) && !picker.wants(piece(4)));
        picker.on_join(&all);
        let mut jobs: Vec<_> = (0..2).filter_map(|_| picker.take_job(&all, None)).collect();
        jobs.sort_unstable();
        assert_eq!(jobs, [piece(3), piece(8)]);
        assert_eq!(picker.take_job(&Bitfield::none(geometry), None), None);
        let mut others = Bitfield::all(geometry);
        for piece in &jobs {
            others.remove(*piece);
        }
        assert_eq!((picker.wanted(&others), picker.take_job(&others, None)), (0, None));
        picker.on_verified(piece(3));
        assert!(!picker.is_done());
        picker.on_verified(piece(8));
        assert!(picker.is_done() && picker.left() == 0);
    }

    #[test]
    fn in_order_the_first_piece_that_is_not_asked_for_comes_first() {
        let mut picker = picker(6, 2);
        let geometry = picker.geometry;
        let piece = |number| geometry.piece(number).unwrap();
        picker.go_in_order();
        let all = Bitfield::all(geometry);
        picker.on_join(&all);
        // The last ones are rarer, and a peer has them alone.
        let mut most = Bitfield::all(geometry);
        most.remove(piece(4));
        most.remove(piece(5));
        picker.on_join(&most);
        assert_eq!(picker.take_job(&all, None), Some(piece(0)));
        assert_eq!(picker.take_job(&most, Some(piece(0))), Some(piece(1)));
        assert_eq!(picker.take_job(&all, Some(piece(0))), Some(piece(2)));
        // One that was given up is open, and before those that are missing.
        picker.ask(SessionId(1), piece(1), 0);
        picker.on_block(SessionId(1), geometry.block(piece(1), 0));
        picker.end_job(piece(1));
        assert_eq!(picker.take_job(&all, Some(piece(2))), Some(piece(1)));
        let run = picker.take_run((SessionId(2), 0), &all, (u64::MAX, 2), |_| 0).unwrap();
        assert_eq!(run.pieces, 3..5);
    }
}
