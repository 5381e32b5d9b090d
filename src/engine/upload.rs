//! Answers what a peer asks for: reads blocks out of the files, many at a time, and sends them.
//!
//! Nothing is kept between two turns but how far the first block is sent. The buffer is borrowed
//! for one read and one send, neither of which waits for the peer.

use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::Fatal;
use crate::limits::{UPLOAD_BUFFER_BYTES, UPLOAD_BUFFERS_MAX};
use crate::policy::conversation::{Conversation, SessionEnd};
use crate::policy::serving::Portion;
use crate::protocol::message::{PIECE_HEADER_LENGTH, piece_header};
use crate::system::buffer::Buffer;
use crate::system::link::Link;
use crate::system::storage::source::Source;
use crate::units::Geometry;

/// What every session uploads with.
pub struct Uploads {
    source: Source,
    free: Receiver<Buffer>,
    back: Sender<Buffer>,
}

/// What was sent of what is asked for.
pub struct Given {
    /// How much.
    pub bytes: usize,
    /// The socket takes no more.
    pub full: bool,
}

/// Why nothing more is sent.
pub enum Stopped {
    /// The session is over.
    Session(SessionEnd),
    /// The files can't be read: the run is over.
    Run(Fatal),
}

impl From<SessionEnd> for Stopped {
    fn from(end: SessionEnd) -> Self {
        Self::Session(end)
    }
}

impl Uploads {
    /// Uploads from `source`. No page of the buffers is touched before it is needed.
    pub fn new(source: Source) -> Self {
        let (back, free) = bounded(UPLOAD_BUFFERS_MAX);
        for _ in 0..UPLOAD_BUFFERS_MAX {
            let _fits = back.try_send(Buffer::new(UPLOAD_BUFFER_BYTES));
        }
        Self { source, free, back }
    }

    /// Sends what waits to be said, and then what is asked for, `room` bytes of that at most, until
    /// the socket takes no more.
    ///
    /// # Errors
    /// The session or the run is over.
    pub fn flush(
        &self,
        link: &mut Link,
        talk: &mut Conversation,
        room: usize,
    ) -> Result<Given, Stopped> {
        let mut given = Given { bytes: 0, full: false };
        loop {
            if !talk.serving().is_in_message() && !talk.outbox().is_empty() {
                let outbox = talk.outbox();
                let sent = link.write(outbox)?;
                outbox.drain(..sent);
                if !outbox.is_empty() {
                    return Ok(Given { full: true, ..given });
                }
            }
            if talk.serving().is_empty() || given.bytes >= room {
                return Ok(given);
            }
            // Whoever has one waits for nobody.
            let Ok(mut buffer) = self.free.recv() else { return Ok(given) };
            let length = buffer.len().min(room - given.bytes);
            let sent = self.send(buffer.get_mut(..length).unwrap_or_default(), link, talk);
            let _fits = self.back.try_send(buffer);
            let (sent, all) = sent?;
            given.bytes += sent;
            if !all {
                return Ok(Given { full: true, ..given });
            }
        }
    }

    /// Reads and sends a buffer full. How many bytes were taken, and whether that was all.
    fn send(
        &self,
        buffer: &mut [u8],
        link: &mut Link,
        talk: &mut Conversation,
    ) -> Result<(usize, bool), Stopped> {
        // What is half sent is finished before anything else is said.
        let only_first = talk.serving().is_in_message() && !talk.outbox().is_empty();
        let portions =
            talk.serving().next(buffer.len()).take(if only_first { 1 } else { usize::MAX });
        let portions: Vec<Portion> = portions.collect();
        let length = self.fill(buffer, &portions, talk.geometry()).map_err(|fatal| match fatal
            .is_out_of_descriptors()
        {
            true => Stopped::Session(SessionEnd::Lost(std::io::ErrorKind::Other)),
            false => Stopped::Run(fatal),
        })?;
        let sent = link.write(buffer.get_mut(..length).unwrap_or_default())?;
        talk.on_served(sent, Instant::now());
        Ok((sent, sent == length))
    }

    /// Puts these portions one behind the other. Returns their length.
    fn fill(
        &self,
        buffer: &mut [u8],
        portions: &[Portion],
        geometry: Geometry,
    ) -> Result<usize, Fatal> {
        let mut rest = buffer;
        let mut length = 0;
        // Data that follow one another in the torrent are read at once.
        let mut run: Vec<&mut [u8]> = Vec::new();
        let (mut run_begin, mut run_end) = (0, 0);
        for Portion { block, bytes } in portions {
            let header = piece_header(*block);
            let header = header.get(bytes.clone().start.min(header.len())..).unwrap_or_default();
            let header = header.get(..bytes.len().min(header.len())).unwrap_or_default();
            let Some((front, behind)) = rest.split_at_mut_checked(header.len()) else { break };
            front.copy_from_slice(header);
            let data = bytes.len() - header.len();
            let Some((data, behind)) = behind.split_at_mut_checked(data) else { break };
            rest = behind;
            length += bytes.len();
            if data.is_empty() {
                continue;
            }
            let skipped = bytes.start.saturating_sub(PIECE_HEADER_LENGTH) as u64;
            let begin = geometry.offset_of(block.piece) + u64::from(block.begin) + skipped;
            if begin != run_end && !run.is_empty() {
                self.source.read(run_begin, &mut run)?;
                run.clear();
            }
            if run.is_empty() {
                run_begin = begin;
            }
            run_end = begin + data.len() as u64;
            run.push(data);
        }
        self.source.read(run_begin, &mut run)?;
        Ok(length)
    }
}
