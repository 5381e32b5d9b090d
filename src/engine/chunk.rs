//! Owns the buffers in which bytes travel from the sockets to the files, and so the bound on how
//! many bytes can be on that way at a time.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::limits::CHUNK_LENGTH_BYTES;
use crate::policy::conversation::Received;
use crate::system::buffer::Buffer;

/// What one read brought, and which blocks are in it.
pub struct Chunk {
    /// The bytes as they came, messages and all.
    pub bytes: Buffer,
    /// The blocks among them that are to be written.
    pub blocks: Vec<Received>,
}

impl Chunk {
    /// The bytes of one of its blocks.
    pub fn data(&self, received: &Received) -> &[u8] {
        let end = received.at + received.block.length as usize;
        self.bytes.get(received.at..end).unwrap_or(&[])
    }
}

/// What the writer is asked to do.
pub enum ToWriter {
    /// Write these blocks.
    Chunk(Chunk),
    /// Nothing more will come that matters: report that all is done and end.
    Finish,
}

/// The chunks that nobody uses at the moment.
///
/// Who may block: a session that wants to read waits here until the writer, which waits for
/// nobody, puts a chunk back.
#[derive(Clone)]
pub struct ChunkPool {
    free: Receiver<Chunk>,
    back: Sender<Chunk>,
}

impl ChunkPool {
    /// All the `count` chunks there are. Their memory is touched when they are first used.
    pub fn new(count: usize) -> Self {
        let (back, free) = bounded(count);
        for _ in 0..count {
            // The bytes come zeroed from the system: no page of them is touched here.
            let bytes = Buffer::new(CHUNK_LENGTH_BYTES);
            let _fits = back.try_send(Chunk { bytes, blocks: Vec::new() });
        }
        Self { free, back }
    }

    /// Takes a chunk, when there is one. `None` never happens while the pool is in use.
    pub fn take(&self) -> Option<Chunk> {
        self.free.recv().ok()
    }

    /// Gives a chunk back.
    pub fn put(&self, mut chunk: Chunk) {
        chunk.blocks.clear();
        let _fits = self.back.try_send(chunk);
    }
}
