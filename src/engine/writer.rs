//! The writer's thread: owns every output file, copies blocks into them, verifies pieces.
//!
//! A piece is hashed in order while its blocks are hot; what came out of order is read back once
//! its turn has come. Bytes of a piece reach the files before its hash is known: the piece counts
//! as had only after it.
//!
//! Who may block: nobody waits for the writer but sessions that want a chunk, and the writer waits
//! for nobody but its own queue. The coordinator, to whom it reports, never stops reading.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use log::{debug, info};
use sha1::{Digest as _, Sha1};

use crate::engine::chunk::{Chunk, ChunkPool, ToWriter};
use crate::engine::event::Event;
use crate::engine::session::Shared;
use crate::error::{Fatal, Status};
use crate::limits::{READ_BACK_BYTES, STRETCH_PARTS_MAX, WRITER_STACK_BYTES};
use crate::policy::blame::{Blame, Digest};
use crate::policy::conversation::Received;
use crate::protocol::metainfo::Metainfo;
use crate::system::storage::Storage;
use crate::units::{Block, Geometry, PieceIndex, SessionId};

/// Starts the writer's thread.
///
/// # Errors
/// The system has no thread to give.
pub fn spawn(
    storage: Storage,
    metainfo: Arc<Metainfo>,
    shared: Arc<Shared>,
    orders: Receiver<ToWriter>,
    (reports, verified): (Sender<Event>, Option<Sender<()>>),
) -> io::Result<thread::JoinHandle<()>> {
    let geometry = metainfo.geometry;
    let chunks = shared.chunks.clone();
    let mut writer = Writer {
        storage,
        metainfo,
        shared,
        reports,
        verified,
        pieces: BTreeMap::new(),
        blame: Blame::default(),
        buffer: vec![0; READ_BACK_BYTES],
        geometry,
    };
    let work = move || writer.run(&orders, &chunks);
    thread::Builder::new().name("writer".into()).stack_size(WRITER_STACK_BYTES).spawn(work)
}

/// How far a piece is hashed.
struct Hashing {
    sha: Sha1,
    /// Bytes from the start that are hashed.
    hashed: u32,
    /// Bytes that are in the file.
    written: u32,
    /// The blocks that are in the file but not hashed, one bit each.
    waiting: Vec<u64>,
}

impl Hashing {
    fn new(blocks: u32) -> Self {
        let words = blocks.div_ceil(64) as usize;
        Self { sha: Sha1::new(), hashed: 0, written: 0, waiting: vec![0; words] }
    }

    fn word(&mut self, number: u32) -> (Option<&mut u64>, u64) {
        (self.waiting.get_mut(number as usize / 64), 1 << (number % 64))
    }

    /// Notes that a block waits in the file for its turn.
    fn wait(&mut self, number: u32) {
        if let (Some(word), bit) = self.word(number) {
            *word |= bit;
        }
    }

    /// Whether a block waits; it does so no longer.
    fn take(&mut self, number: u32) -> bool {
        let (word, bit) = self.word(number);
        word.is_some_and(|word| {
            let waits = *word & bit != 0;
            *word &= !bit;
            waits
        })
    }
}

struct Writer {
    storage: Storage,
    metainfo: Arc<Metainfo>,
    shared: Arc<Shared>,
    reports: Sender<Event>,
    /// Rings when a piece is verified, if somebody waits for that.
    verified: Option<Sender<()>>,
    /// The pieces of which blocks have come.
    pieces: BTreeMap<PieceIndex, Hashing>,
    blame: Blame,
    buffer: Vec<u8>,
    geometry: Geometry,
}

impl Writer {
    fn run(&mut self, orders: &Receiver<ToWriter>, chunks: &ChunkPool) {
        let mut failed = false;
        for order in orders {
            let done = match order {
                ToWriter::Chunk(chunk) => {
                    // After a failure chunks still go round, so that no session hangs.
                    let done = if failed { Ok(()) } else { self.write(&chunk) };
                    chunks.put(chunk);
                    done
                }
                ToWriter::Finish => {
                    if let Err(fatal) = self.storage.check_all_in_place() {
                        self.report(Event::Failed(fatal));
                    }
                    return self.report(Event::Finished);
                }
            };
            if let Err(fatal) = done {
                failed = true;
                self.report(Event::Failed(fatal));
            }
        }
    }

    fn report(&self, report: Event) {
        // It fails only when the coordinator is gone, and then nobody cares.
        let _over = self.reports.send(report);
    }

    fn write(&mut self, chunk: &Chunk) -> Result<(), Fatal> {
        let mut rest = chunk.blocks.as_slice();
        while let Some(first) = rest.first() {
            let offset = self.offset_of(first.block);
            let mut end = offset;
            let mut parts: [&[u8]; STRETCH_PARTS_MAX] = [&[]; STRETCH_PARTS_MAX];
            let mut count = 0;
            for (part, received) in parts.iter_mut().zip(rest) {
                if self.offset_of(received.block) != end {
                    break;
                }
                *part = chunk.data(received);
                end += part.len() as u64;
                count += 1;
            }
            let (stretch, behind) = rest.split_at(count);
            match self.storage.write_parts(offset, parts.get(..count).unwrap_or_default()) {
                Ok(()) => {
                    for received in stretch {
                        self.hash(received.block, chunk.data(received))?;
                    }
                }
                Err(fatal) if fatal.status() == Status::DiskFull => {
                    self.write_what_fits(chunk, stretch).map_err(|_| fatal)?;
                }
                Err(fatal) => return Err(fatal),
            }
            rest = behind;
        }
        Ok(())
    }

    /// Writes these blocks one by one. Those that fit may be the last that their pieces lacked.
    fn write_what_fits(&mut self, chunk: &Chunk, stretch: &[Received]) -> Result<(), Fatal> {
        for received in stretch {
            let (block, data) = (received.block, chunk.data(received));
            self.storage.write(self.offset_of(block), data)?;
            self.hash(block, data)?;
        }
        Ok(())
    }

    fn offset_of(&self, block: Block) -> u64 {
        self.geometry.offset_of(block.piece) + u64::from(block.begin)
    }

    fn hash(&mut self, block: Block, data: &[u8]) -> Result<(), Fatal> {
        let blocks = self.geometry.blocks_in(block.piece);
        let piece = self.pieces.entry(block.piece).or_insert_with(|| Hashing::new(blocks));
        piece.written += block.length;
        let whole = piece.written == self.geometry.length_of(block.piece);
        if block.begin == piece.hashed {
            piece.sha.update(data);
            piece.hashed += block.length;
        } else {
            piece.wait(block.number());
        }
        self.catch_up(block.piece)?;
        if whole { self.judge(block.piece) } else { Ok(()) }
    }

    /// Hashes the blocks whose turn has come, out of the files.
    fn catch_up(&mut self, index: PieceIndex) -> Result<(), Fatal> {
        let Some(piece) = self.pieces.get_mut(&index) else { return Ok(()) };
        let start = self.geometry.offset_of(index);
        while piece.hashed < self.geometry.length_of(index) {
            let mut run = 0;
            while piece.hashed + run < self.geometry.length_of(index)
                && (run as usize) < self.buffer.len()
            {
                let number = (piece.hashed + run) / crate::limits::BLOCK_LENGTH;
                if !piece.take(number) {
                    break;
                }
                run += self.geometry.block(index, number).length;
            }
            let Some(buffer) = self.buffer.get_mut(..run as usize).filter(|run| !run.is_empty())
            else {
                break;
            };
            self.storage.read(start + u64::from(piece.hashed), buffer)?;
            piece.sha.update(buffer);
            piece.hashed += run;
        }
        Ok(())
    }

    /// Every block of a piece is in the files: is it right?
    fn judge(&mut self, index: PieceIndex) -> Result<(), Fatal> {
        let Some(piece) = self.pieces.remove(&index) else { return Ok(()) };
        let digest: Digest = piece.sha.finalize().into();
        if *self.metainfo.piece_hash(index) != digest {
            return self.on_failed(index);
        }
        if self.blame.is_suspect(index) {
            let digests = self.block_digests(index)?;
            for guilty in self.blame.on_verified(index, &digests) {
                self.accuse(guilty);
            }
        }
        let length = self.geometry.length_of(index) as usize;
        self.storage.check_in_place(self.geometry.offset_of(index), length)?;
        let done = self.shared.with_swarm(|swarm| {
            swarm.on_verified(index);
            swarm.picker.is_done()
        });
        if let Some(bell) = &self.verified {
            let _rings_already = bell.try_send(());
        }
        debug!("piece {index} is right");
        if done {
            self.storage.finish()?;
            self.report(Event::Complete);
        }
        Ok(())
    }

    fn on_failed(&mut self, index: PieceIndex) -> Result<(), Fatal> {
        info!("piece {index} is wrong, it is fetched again");
        let digests = self.block_digests(index)?;
        let brought = self.shared.with_swarm(|swarm| swarm.on_failed(index));
        if let Some(guilty) = self.blame.on_failed(index, &brought, &digests) {
            self.accuse(guilty);
        }
        Ok(())
    }

    fn accuse(&self, guilty: SessionId) {
        self.shared.with_swarm(|swarm| swarm.ban(guilty));
        self.report(Event::Guilty(guilty));
    }

    fn block_digests(&mut self, index: PieceIndex) -> Result<Vec<Digest>, Fatal> {
        let start = self.geometry.offset_of(index);
        let mut digests = Vec::new();
        for number in 0..self.geometry.blocks_in(index) {
            let block = self.geometry.block(index, number);
            let Some(buffer) = self.buffer.get_mut(..block.length as usize) else { break };
            self.storage.read(start + u64::from(block.begin), buffer)?;
            digests.push(Sha1::digest(buffer).into());
        }
        Ok(digests)
    }
}
