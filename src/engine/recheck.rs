//! Owns the look at what is already there: hashes the output files on all cores, before anything
//! is asked of anybody. It opens files for reading, and makes nothing.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;

use log::info;
use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use sha1::{Digest, Sha1};

use crate::bitfield::Bitfield;
use crate::error::Fatal;
use crate::limits::{
    RECHECK_BUFFER_BYTES, RECHECK_EXTENT_BYTES, RECHECK_STACK_BYTES, RECHECK_THREADS_MAX,
};
use crate::protocol::resume::{FileState, Record};
use crate::system::buffer::Buffer;
use crate::system::storage::directory::Directory;
use crate::system::storage::layout::{Layout, OutputKind, Segment};
use crate::units::{Geometry, PieceIndex};

/// Where to look for what.
pub struct Search<'a> {
    /// The output directory.
    pub dir: &'a Path,
    /// The files in it.
    pub layout: &'a Layout,
    /// The torrent's measures.
    pub geometry: Geometry,
    /// The pieces that matter, if not all: nothing of the others is hashed.
    pub wanted: Option<&'a Bitfield>,
    /// What an earlier run knew: nothing is hashed where the files are as they were then.
    pub record: Option<&'a Record>,
    /// Threads that hash.
    pub threads: usize,
    /// Once it is set the search ends early, with what was found by then.
    pub stop: &'a AtomicBool,
    /// Grows by the bytes of each piece that was looked at.
    pub progress: &'a AtomicU64,
}

/// What was found.
pub struct Found {
    /// The pieces that are there, whole and right.
    pub pieces: Bitfield,
    /// How each of the torrent's files looked at the beginning.
    pub files: Vec<FileState>,
}

/// Whether this is the hash that the piece is to have.
type IsRight<'a> = dyn Fn(PieceIndex, [u8; 20]) -> bool + Sync + 'a;

/// Finds the pieces that are there already, whole and right by `hashes`.
///
/// # Errors
///
/// When a file can't be opened or read, or when something that is no regular file stands in the
/// place of one. A file that is missing or short is no error: its pieces are not there.
pub fn recheck(
    search: &Search<'_>,
    hashes: impl Fn(PieceIndex) -> [u8; 20] + Sync,
) -> Result<Found, Fatal> {
    examine(search, &|piece, hash| hash == hashes(piece))
}

/// The same, where `is_right` judges the hash of each piece that is there whole.
///
/// # Errors
///
/// The same.
pub(super) fn examine(search: &Search<'_>, is_right: &IsRight<'_>) -> Result<Found, Fatal> {
    let Search { dir, layout, geometry, .. } = *search;
    let mut pieces = Bitfield::none(geometry);
    let files = survey(dir, layout)?;
    if files.iter().all(|file| file.length == 0) && !layout.files().iter().any(|file| file.is_pad())
    {
        search.progress.fetch_add(geometry.total(), Ordering::Relaxed);
        return Ok(Found { pieces, files });
    }
    let work = Work {
        search,
        files: &files,
        is_right,
        next: AtomicU64::new(0),
        known: AtomicU32::new(0),
        failed: AtomicBool::new(false),
        zeros: OnceLock::new(),
    };
    for piece in work.spread(search.threads)? {
        pieces.insert(piece);
    }
    let known = work.known.into_inner();
    if known > 0 {
        info!("{known} pieces are known from the last run");
    }
    Ok(Found { pieces, files })
}

/// How each file looks; nothing for one that is missing, or is not on disk under its name.
pub(super) fn survey(dir: &Path, layout: &Layout) -> Result<Vec<FileState>, Fatal> {
    let mut states = vec![FileState::default(); layout.files().len()];
    let Some(mut directory) = Directory::open(dir)? else { return Ok(states) };
    for (state, file) in states.iter_mut().zip(layout.files()) {
        if matches!(file.kind, OutputKind::Data | OutputKind::Aside) {
            *state = directory.look(&file.path)?.map(FileState::from).unwrap_or_default();
        }
    }
    Ok(states)
}

/// What the threads share.
struct Work<'a> {
    search: &'a Search<'a>,
    files: &'a [FileState],
    is_right: &'a IsRight<'a>,
    /// The first piece that no thread has taken on yet. Threads take several in a row, so that a
    /// disk with a head reads long stretches.
    next: AtomicU64,
    /// Pieces that were not hashed.
    known: AtomicU32,
    failed: AtomicBool,
    /// The hash of a whole piece of zeros.
    zeros: OnceLock<[u8; 20]>,
}

impl Work<'_> {
    /// Does the work on this thread and `threads - 1` more, or as many as the machine grants.
    fn spread(&self, threads: usize) -> Result<Vec<PieceIndex>, Fatal> {
        let extents = self.search.geometry.pieces().div_ceil(self.pieces_at_a_time());
        let threads = threads.clamp(1, RECHECK_THREADS_MAX).min(extents as usize);
        thread::scope(|scope| {
            let spawn = |number| {
                thread::Builder::new()
                    .name(format!("recheck {number}"))
                    .stack_size(RECHECK_STACK_BYTES)
                    .spawn_scoped(scope, || self.run())
            };
            let others: Vec<_> = (1..threads).map_while(|number| spawn(number).ok()).collect();
            let mut found = self.run()?;
            for other in others {
                let panicked = |_| Fatal::System("hash the files", io::Error::other("a panic"));
                found.extend(other.join().map_err(panicked)??);
            }
            Ok(found)
        })
    }

    fn pieces_at_a_time(&self) -> u32 {
        (RECHECK_EXTENT_BYTES / self.search.geometry.piece_length()).max(1)
    }

    fn run(&self) -> Result<Vec<PieceIndex>, Fatal> {
        let found = self.take_extents();
        if found.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        found
    }

    fn take_extents(&self) -> Result<Vec<PieceIndex>, Fatal> {
        let mut found = Vec::new();
        let mut reader = Reader {
            directory: Directory::open(self.search.dir)?,
            file: None,
            hole: 0..0,
            data: 0..0,
            buffer: Buffer::new(RECHECK_BUFFER_BYTES),
        };
        let step = u64::from(self.pieces_at_a_time());
        loop {
            let first = self.next.fetch_add(step, Ordering::Relaxed);
            let pieces = first..(first + step).min(u64::from(self.search.geometry.pieces()));
            if pieces.is_empty() {
                return Ok(found);
            }
            let numbers = pieces.filter_map(|number| u32::try_from(number).ok());
            for piece in numbers.filter_map(|number| self.search.geometry.piece(number)) {
                if self.is_over() {
                    return Ok(found);
                }
                let right = match self.recorded(piece) {
                    Some(right) => {
                        self.known.fetch_add(u32::from(right), Ordering::Relaxed);
                        right
                    }
                    None if self.search.wanted.is_some_and(|wanted| !wanted.has(piece)) => false,
                    None => {
                        let hash = self.hash_of(piece, &mut reader)?;
                        hash.is_some_and(|hash| (self.is_right)(piece, hash))
                    }
                };
                if right {
                    found.push(piece);
                }
                let length = u64::from(self.search.geometry.length_of(piece));
                self.search.progress.fetch_add(length, Ordering::Relaxed);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.search.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// Whether an earlier run found `piece` right, if nothing has changed since: what it had not
    /// by then is not there either.
    fn recorded(&self, piece: PieceIndex) -> Option<bool> {
        let Search { layout, geometry, record, .. } = *self.search;
        let record = record?;
        let right = record.pieces.has(piece);
        let unchanged = layout.segments_of(geometry, piece).all(|segment| {
            let found = self.files.get(segment.index).copied().unwrap_or_default();
            let whole = found.length == segment.file.length;
            segment.file.is_pad() || (whole || !right) && record.knows(segment.index, found)
        });
        unchanged.then_some(right)
    }

    /// The hash of what is there of `piece`; `None` if not all of it is.
    fn hash_of(&self, piece: PieceIndex, reader: &mut Reader) -> Result<Option<[u8; 20]>, Fatal> {
        let Search { layout, geometry, .. } = *self.search;
        let length = geometry.length_of(piece) as usize;
        let segments = || layout.segments_of(geometry, piece);
        let there = |segment: &Segment<'_>| {
            segment.file.is_pad()
                || self.files.get(segment.index).is_some_and(|file| segment.end() <= file.length)
        };
        if !segments().all(|segment| there(&segment)) {
            return Ok(None);
        }
        let mut zeros = true;
        for segment in segments() {
            zeros = zeros && (segment.file.is_pad() || reader.is_hole(&segment)?);
        }
        if zeros {
            return Ok(Some(self.hash_of_zeros(length)));
        }
        let mut sha1 = Sha1::new();
        for segment in segments() {
            if !reader.read(&segment, |part| sha1.update(part), || self.is_over())? {
                return Ok(None);
            }
        }
        Ok(Some(sha1.finalize().into()))
    }

    fn hash_of_zeros(&self, length: usize) -> [u8; 20] {
        let hash = |length: usize| {
            let zeros = [0; 4096];
            let mut sha1 = Sha1::new();
            (0..length / zeros.len()).for_each(|_| sha1.update(zeros));
            sha1.update(zeros.get(..length % zeros.len()).unwrap_or_default());
            sha1.finalize().into()
        };
        if length == self.search.geometry.piece_length() as usize {
            *self.zeros.get_or_init(|| hash(length))
        } else {
            hash(length)
        }
    }
}

/// One thread's view of the files: the one it read last stays open.
struct Reader {
    /// `None` if the output directory is not there.
    directory: Option<Directory>,
    file: Option<(usize, File)>,
    /// Of the open file, where there is known to be nothing, and where something.
    hole: Range<u64>,
    data: Range<u64>,
    buffer: Buffer,
}

impl Reader {
    /// Whether nothing was ever written where the segment lies, so that it reads as zeros.
    fn is_hole(&mut self, segment: &Segment<'_>) -> Result<bool, Fatal> {
        // A small file is read faster than asked about.
        if segment.file.length <= RECHECK_BUFFER_BYTES as u64 || !self.open(segment)? {
            return Ok(false);
        }
        if !self.hole.contains(&segment.offset) && !self.data.contains(&segment.offset) {
            self.explore(segment.offset, segment.file.length);
        }
        Ok(self.hole.contains(&segment.offset) && segment.end() <= self.hole.end)
    }

    /// Finds out how far the hole or the data at `offset` of the open file reaches.
    fn explore(&mut self, offset: u64, length: u64) {
        let Some((_, file)) = &self.file else { return };
        // Past the last data there is no more: ENXIO. A file system that can't tell has data.
        let data = match seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => length,
            Err(_) => offset,
        };
        if data > offset {
            self.hole = offset..data;
        } else {
            self.data = offset..seek(file, SeekFrom::Hole(offset)).unwrap_or(length);
        }
    }

    /// Reads the segment, a buffer at a time; false if it is not all there, or the work is over.
    fn read(
        &mut self,
        segment: &Segment<'_>,
        mut each: impl FnMut(&[u8]),
        is_over: impl Fn() -> bool,
    ) -> Result<bool, Fatal> {
        if !segment.file.is_pad() && !self.open(segment)? {
            return Ok(false);
        }
        let mut offset = segment.offset;
        while offset < segment.end() {
            let left = usize::try_from(segment.end() - offset).unwrap_or(usize::MAX);
            let length = self.buffer.len().min(left);
            let Some(part) = self.buffer.get_mut(..length) else { return Ok(false) };
            let read = match &self.file {
                _ if is_over() => return Ok(false),
                _ if segment.file.is_pad() => {
                    part.fill(0);
                    Ok(())
                }
                Some((_, file)) => file.read_exact_at(part, offset),
                None => return Ok(false),
            };
            match read {
                Ok(()) => each(part),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(Fatal::FileIo("read", self.path_of(segment), error)),
            }
            offset += length as u64;
        }
        Ok(true)
    }

    /// Opens the segment's file, if it is not the one that is open; false if it is gone.
    fn open(&mut self, segment: &Segment<'_>) -> Result<bool, Fatal> {
        if self.file.as_ref().is_some_and(|(index, _)| *index == segment.index) {
            return Ok(true);
        }
        let Some(directory) = &mut self.directory else { return Ok(false) };
        let Some((file, _)) = directory.open_to_read(&segment.file.path)? else { return Ok(false) };
        if segment.file.length > RECHECK_BUFFER_BYTES as u64 {
            // Doubles what the kernel reads ahead. Advice only: nothing hangs on it.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
        }
        (self.hole, self.data) = (0..0, 0..0);
        self.file = Some((segment.index, file));
        Ok(true)
    }

    fn path_of(&self, segment: &Segment<'_>) -> std::path::PathBuf {
        let path = &segment.file.path;
        self.directory.as_ref().map_or_else(|| path.clone(), |directory| directory.path_of(path))
    }
}
