//! The recorder's thread: now and then it flushes the files of which pieces were verified, and then
//! puts the resume record in its place. What it records is on the disk; the writer does not wait.
//!
//! Who may block: nobody waits for the recorder but the coordinator at the end of the run, and
//! that for a bounded time.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{debug, warn};

use crate::bitfield::Bitfield;
use crate::engine::event::Event;
use crate::error::Fatal;
use crate::limits::{FLUSHED_FILES_MAX, RECORDER_STACK_BYTES};
use crate::protocol::resume::{FileState, Record};
use crate::system::resume::ResumeFile;
use crate::system::storage::directory::Directory;
use crate::system::storage::flush::flush;
use crate::system::storage::layout::Layout;
use crate::units::{Count, Geometry, PieceIndex};

/// What the recorder works with.
pub struct Desk {
    /// The output directory.
    pub directory: Directory,
    /// The files in it.
    pub layout: Arc<Layout>,
    /// The torrent's measures.
    pub geometry: Geometry,
    /// The pieces that were there when the run began.
    pub found: Bitfield,
    /// What is on the disk for sure; how the files looked when the run began.
    pub record: Record,
    /// Where the record is.
    pub file: ResumeFile,
    /// A flush that fails ends the run.
    pub reports: Sender<Event>,
}

/// What there is to be recorded.
pub struct Verified {
    /// The pieces that are verified and in the files.
    pub pieces: Bitfield,
    /// Those that are being written.
    pub begun: Vec<PieceIndex>,
    /// The run is about to end, and can't wait for long.
    pub hurried: bool,
}

enum Order {
    Record(Verified),
    Remove,
    Forget,
}

/// The recorder, as the coordinator sees it.
pub struct Recorder {
    orders: Sender<Order>,
    ended: Receiver<()>,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn spawn(mut desk: Desk) -> io::Result<Self> {
        // One that is waiting and the last one, so that nobody ever waits here.
        let (orders, received) = bounded(2);
        let (_alive, ended) = bounded(0);
        let work = move || {
            let _alive: Sender<()> = _alive;
            for order in received {
                match order {
                    Order::Record(verified) => desk.record(verified),
                    Order::Remove => return desk.file.remove(),
                    Order::Forget => return desk.file.forget(),
                }
            }
        };
        let thread = thread::Builder::new().name("recorder".into());
        thread.stack_size(RECORDER_STACK_BYTES).spawn(work)?;
        Ok(Self { orders, ended })
    }

    /// Whether nothing waits for it: it may be at work on what it took last.
    pub fn is_idle(&self) -> bool {
        self.orders.is_empty()
    }

    /// What is verified is to be flushed and recorded.
    pub fn record(&self, verified: Verified) {
        let _full = self.orders.try_send(Order::Record(verified));
    }

    /// The record can't be relied on: it is to go, and nothing else.
    pub fn forget(&self) {
        let _full = self.orders.try_send(Order::Forget);
    }

    /// Everything is there: the record is to go, and what is kept aside.
    pub fn remove(&self) {
        let _full = self.orders.try_send(Order::Remove);
    }

    /// Waits until it has done all it was told. False if it is not done by `deadline`.
    pub fn wait(self, deadline: Instant) -> bool {
        drop(self.orders);
        self.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Desk {
    fn record(&mut self, verified: Verified) {
        self.flush_and_save(verified);
        // Descriptors may be few, and the next time is far away.
        self.directory.let_go();
    }

    fn flush_and_save(&mut self, Verified { pieces, begun, hurried }: Verified) {
        // Files that this run did not write must look as they did when they were hashed.
        let new = |piece: &PieceIndex| pieces.has(*piece) && !self.record.pieces.has(*piece);
        let ours = self.all_pieces().filter(new).filter(|piece| !self.found.has(*piece));
        let written = self.files_of(ours.chain(begun));
        let to_flush = self.files_of(self.all_pieces().filter(new));
        if hurried && to_flush.len() > FLUSHED_FILES_MAX {
            // All that the file system holds could take minutes. The record as it was still holds.
            return;
        }
        // A file that somebody removed is the writer's to find out.
        let flushed = flush(&mut self.directory, &self.layout, &to_flush)
            .and_then(|()| Ok(self.look(written)? || pieces != self.record.pieces));
        match flushed {
            Ok(true) => self.record.pieces = pieces,
            Ok(false) => return,
            // It takes one or two descriptors. Those who download need them more.
            Err(fatal) if fatal.is_out_of_descriptors() => return debug!("not recorded: {fatal}"),
            Err(fatal) => {
                // It fails only when the coordinator is gone, and then nobody cares.
                let _over = self.reports.send(Event::Failed(fatal));
                return;
            }
        }
        match self.file.save(&self.record.encode()) {
            Ok(()) => debug!("{} recorded", Count(self.record.pieces.count(), "piece")),
            Err(error) => {
                let path = self.file.path();
                let path = path.display();
                warn!("{path} can't be saved: {error}; after a kill files would be hashed again");
            }
        }
    }

    fn all_pieces(&self) -> impl Iterator<Item = PieceIndex> + use<> {
        self.geometry.all_pieces()
    }

    fn files_of(&self, pieces: impl Iterator<Item = PieceIndex>) -> BTreeSet<usize> {
        let mut files = BTreeSet::new();
        for piece in pieces {
            let segments = self.layout.segments_of(self.geometry, piece);
            files.extend(
                segments.filter(|segment| !segment.file.is_pad()).map(|segment| segment.index),
            );
        }
        files
    }

    /// Notes how these files look, and whether one of them has changed.
    fn look(&mut self, files: BTreeSet<usize>) -> Result<bool, Fatal> {
        let mut changed = false;
        for index in files {
            let Some(output) = self.layout.file(index) else { continue };
            let found = self.directory.look(&output.path)?.map(FileState::from).unwrap_or_default();
            if let Some(state) = self.record.files.get_mut(index).filter(|state| **state != found) {
                *state = found;
                changed = true;
            }
        }
        Ok(changed)
    }
}
