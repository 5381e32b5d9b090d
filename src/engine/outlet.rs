//! The outlet: hands one file to standard output while it is fetched, each piece once it is verified
//! and its turn has come. What comes earlier waits in the files, so that nothing has to be kept in
//! memory for a reader that is slow.
//!
//! Who may block: nobody waits for the outlet but the coordinator, when everything is there.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender};

use crate::engine::event::Event;
use crate::engine::session::Shared;
use crate::error::Fatal;
use crate::limits::{OUTLET_BUFFER_BYTES, OUTLET_STACK_BYTES};
use crate::protocol::metainfo::Metainfo;
use crate::system::storage::source::Source;
use crate::units::{Geometry, PieceIndex};

/// What is handed out.
pub struct Delivery {
    geometry: Geometry,
    /// Where the file lies: bytes of the torrent.
    bytes: Range<u64>,
    source: Source,
}

impl Delivery {
    /// The file at this place in the torrent, out of `source`.
    pub fn new(metainfo: &Metainfo, index: usize, source: Source) -> Self {
        let length = |file: &crate::protocol::metainfo::FileEntry| file.length;
        let begin: u64 = metainfo.files.iter().take(index).map(length).sum();
        let end = begin + metainfo.files.get(index).map_or(0, length);
        Self { geometry: metainfo.geometry, bytes: begin..end, source }
    }

    /// Writes the file to standard output. `wait_for` returns once a piece is verified; false, if
    /// it never will be.
    ///
    /// # Errors
    /// Nobody reads any more, or a file can't be read.
    pub fn deliver(&self, mut wait_for: impl FnMut(PieceIndex) -> bool) -> Result<(), Fatal> {
        let out = io::stdout().as_fd().try_clone_to_owned();
        let mut out = File::from(out.map_err(Fatal::Output)?);
        let mut buffer = vec![0; OUTLET_BUFFER_BYTES];
        let mut at = self.bytes.start;
        while at < self.bytes.end {
            let number = at / u64::from(self.geometry.piece_length()).max(1);
            let piece = u32::try_from(number).ok().and_then(|number| self.geometry.piece(number));
            let Some(piece) = piece.filter(|piece| wait_for(*piece)) else { return Ok(()) };
            let length = u64::from(self.geometry.length_of(piece));
            let end = (self.geometry.offset_of(piece) + length).min(self.bytes.end);
            while at < end {
                let left = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                let Some(part) = buffer.get_mut(..left) else { break };
                self.source.read(at, &mut [part])?;
                out.write_all(part).map_err(broken)?;
                at += left as u64;
            }
        }
        Ok(())
    }

    /// Starts the thread that hands it out. `bell` rings whenever a piece was verified, and is gone
    /// when none will be any more.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn spawn(
        self,
        shared: Arc<Shared>,
        bell: Receiver<()>,
        reports: Sender<Event>,
    ) -> io::Result<()> {
        let is_there = move |piece| {
            while !shared.with_swarm(|swarm| swarm.picker.had().has(piece)) {
                if bell.recv().is_err() {
                    return false;
                }
            }
            true
        };
        let work = move || {
            let event = match self.deliver(is_there) {
                Ok(()) => Event::Delivered,
                Err(fatal) => Event::Failed(fatal),
            };
            // It fails only when the coordinator is gone, and then nobody cares.
            let _over = reports.send(event);
        };
        let thread = thread::Builder::new().name("outlet".into());
        thread.stack_size(OUTLET_STACK_BYTES).spawn(work).map(drop)
    }
}

/// Who reads may have had enough: that ends the run as a signal does.
fn broken(error: io::Error) -> Fatal {
    match error.kind() {
        io::ErrorKind::BrokenPipe => {
            Fatal::Stopped("stopped: nobody reads standard output any more".to_owned())
        }
        _ => Fatal::Output(error),
    }
}
