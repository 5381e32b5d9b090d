//! Owns the mapped windows of the output files: 2 MiB each, a handful at a time. The only room
//! with `unsafe`.
//!
//! A store to a page that the kernel can't back (the disk is full, somebody cut the file) is
//! SIGBUS and death, so the kernel is asked for exactly the pages about to be written right before
//! each store, and says no with an error: `MADV_POPULATE_WRITE`, Linux 5.14. Only files whose blocks
//! are reserved are mapped: elsewhere, through FUSE or a network, a disk may be found to be full
//! only when the kernel writes a page back, and then nobody is told.
//!
//! A window stays mapped until it is full, or nothing has come for it for long: to map it anew for
//! each visit costs up to ten times what the copy does, in page tables and dirty marks. So does a
//! window of a small file.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::io::Errno;
use signal_hook::consts::SIGBUS;
use signal_hook::low_level;

use super::layout::Segment;
use super::stretch::Stretch;
use crate::error::Status;
use crate::limits::{
    LAST_WORDS_MAX_BYTES, WINDOW_LENGTH_BYTES, WINDOW_LENGTH_MIN_BYTES, WINDOW_STALE_BYTES,
    WINDOWS_MAX,
};

/// Why bytes were not stored through a mapping. A positioned write can always be tried instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// The file can't be mapped, or not safely: it is no use to try again.
    Unmappable,
    /// The kernel has no page for these bytes now. The error of a positioned write says why.
    Unbacked,
    /// A mapping would cost more than it saves.
    Costly,
}

/// A file to store in, whose blocks are reserved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// Its place in the torrent.
    pub(super) index: usize,
    /// Open for reading and writing.
    pub(super) file: &'a File,
    /// Its path below the output directory.
    pub(super) name: &'a Path,
    /// The file's bytes when it is complete; it has been brought to this length.
    pub(super) length: u64,
}

/// The windows that are mapped now, the one used last at the end.
#[derive(Debug)]
pub(super) struct Windows {
    /// The output directory.
    dir: PathBuf,
    windows: Vec<Window>,
    /// Whether the kernel knows `MADV_POPULATE_WRITE`, until it says otherwise.
    populates: bool,
    /// Bytes that were to be stored so far: the clock by which a window grows stale.
    passed: u64,
}

#[derive(Debug)]
struct Window {
    index: usize,
    /// Bytes from the start of the file; a multiple of the window length.
    begin: u64,
    map: MmapRaw,
    /// Bytes not stored yet, so that a window that is full goes at once.
    unwritten: usize,
    /// What had passed when it was used last.
    used: u64,
    /// What is said if a store in it fails.
    last_words: Box<[u8]>,
}

/// What is said if the store that is under way fails, and how many bytes of it there are.
static LAST_WORDS: [AtomicU8; LAST_WORDS_MAX_BYTES] =
    [const { AtomicU8::new(0) }; LAST_WORDS_MAX_BYTES];
static LAST_WORDS_LENGTH: AtomicUsize = AtomicUsize::new(0);

/// The last net: a store that fails although the kernel was asked, because the file was cut in
/// that very moment or the disk died, ends the process with a sentence and the status of a failed
/// write, and not without a word.
///
/// # Errors
/// The system does not let the signal be caught.
pub fn catch_failed_stores() -> io::Result<()> {
    let act = || {
        let mut words = [0; LAST_WORDS_MAX_BYTES];
        for (word, known) in words.iter_mut().zip(&LAST_WORDS) {
            *word = known.load(Ordering::Relaxed);
        }
        let length = LAST_WORDS_LENGTH.load(Ordering::Relaxed);
        let words = words.get(..length).unwrap_or_default();
        let _closed = rustix::io::write(rustix::stdio::stderr(), words);
        low_level::exit(i32::from(Status::FileIo.code()));
    };
    // SAFETY: the action may run at any moment on any thread. It loads atomics, writes to a
    // descriptor and ends the process; it takes no lock and no memory.
    unsafe { low_level::register(SIGBUS, act) }.map(drop)
}

fn prepare_last_words(words: &[u8]) {
    for (known, word) in LAST_WORDS.iter().zip(words) {
        known.store(*word, Ordering::Relaxed);
    }
    LAST_WORDS_LENGTH.store(words.len().min(LAST_WORDS_MAX_BYTES), Ordering::Relaxed);
}

impl Windows {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            windows: Vec::with_capacity(WINDOWS_MAX),
            populates: true,
            passed: 0,
        }
    }

    /// Unmaps everything.
    pub(super) fn clear(&mut self) {
        self.windows.clear();
    }

    /// Behaves as on a kernel before 5.14.
    #[cfg(test)]
    pub(super) fn forget_populating(&mut self) {
        self.populates = false;
    }

    /// How many windows are mapped.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.windows.len()
    }

    /// Which windows of their files are mapped.
    #[cfg(test)]
    pub(super) fn places(&self) -> Vec<u64> {
        self.windows.iter().map(|window| window.begin / WINDOW_LENGTH_BYTES).collect()
    }

    /// Stores the bytes of `stretch` that `segment` says. After an error some of them may be
    /// stored.
    pub(super) fn store(
        &mut self,
        target: Target<'_>,
        segment: &Segment<'_>,
        stretch: Stretch<'_>,
    ) -> Result<(), Refused> {
        self.passed += segment.length as u64;
        let mut done = 0;
        while done < segment.length {
            let offset = segment.offset + done as u64;
            let begin = offset - offset % WINDOW_LENGTH_BYTES;
            let mut window = self.take(target, begin)?;
            let within = usize::try_from(offset - begin).map_err(|_| Refused::Unmappable)?;
            let space = window.map.len().checked_sub(within).filter(|space| *space > 0);
            let count = space.ok_or(Refused::Unmappable)?.min(segment.length - done);
            self.populate(&window, within, count)?;
            prepare_last_words(&window.last_words);
            let mut at = within;
            for part in stretch.range(segment.from + done, count) {
                window.copy(at, part);
                at += part.len();
            }
            if window.unwritten > 0 {
                window.used = self.passed;
                self.windows.push(window);
            }
            done += count;
        }
        Ok(())
    }

    /// The window of the file that begins at `begin`, out of the kept ones or new.
    fn take(&mut self, target: Target<'_>, begin: u64) -> Result<Window, Refused> {
        let kept = |window: &Window| window.index == target.index && window.begin == begin;
        if let Some(place) = self.windows.iter().position(kept) {
            return Ok(self.windows.remove(place));
        }
        if target.length.saturating_sub(begin) < WINDOW_LENGTH_MIN_BYTES {
            return Err(Refused::Costly);
        }
        if self.windows.len() >= WINDOWS_MAX {
            let stale = |window: &&Window| self.passed - window.used > WINDOW_STALE_BYTES;
            self.windows.first().filter(stale).ok_or(Refused::Costly)?;
            self.windows.remove(0);
        }
        Window::map(target, &self.dir.join(target.name), begin).map_err(|_| Refused::Unmappable)
    }

    /// Makes the kernel back these bytes of the window with pages, or say that it can't.
    fn populate(&mut self, window: &Window, within: usize, count: usize) -> Result<(), Refused> {
        if !self.populates {
            return Ok(());
        }
        match window.map.advise_range(Advice::PopulateWrite, within, count) {
            Ok(()) => Ok(()),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                self.populates = false;
                Err(Refused::Unbacked)
            }
            Err(_) => Err(Refused::Unbacked),
        }
    }
}

impl Window {
    fn map(target: Target<'_>, path: &Path, begin: u64) -> io::Result<Self> {
        let length = target.length.saturating_sub(begin).min(WINDOW_LENGTH_BYTES);
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        let map = MmapOptions::new().offset(begin).len(length).map_raw(target.file)?;
        // Makes faults few, in windows that are shorter too: the page cache takes larger folios.
        // Advice only: a kernel without huge pages refuses it, and nothing is lost.
        let _ = map.advise(Advice::HugePage);
        let path = path.display();
        let last_words = format!(
            "error: can't write {path}: it was cut, or the disk failed (SIGBUS); run the same command again\n"
        );
        let last_words = last_words.into_bytes().into_boxed_slice();
        Ok(Self { index: target.index, begin, map, unwritten: length, used: 0, last_words })
    }

    /// Copies `bytes` to byte `within` of the window. The kernel has been asked for the pages.
    fn copy(&mut self, within: usize, bytes: &[u8]) {
        let fits = within.checked_add(bytes.len()).is_some_and(|end| end <= self.map.len());
        assert!(fits, "a store past the end of a window");
        // SAFETY: `within + bytes.len() <= map.len()` was checked just above, so source and
        // target are both valid for `bytes.len()` bytes, and u8 has no alignment. They can't
        // overlap: no reference into the mapping is ever made, here or elsewhere, so `bytes` is
        // memory of another kind. That others change the file at the same time is no data race
        // of ours: the mapping is only ever written, through this raw pointer, never read.
        unsafe {
            let to = self.map.as_mut_ptr().add(within);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.unwritten = self.unwritten.saturating_sub(bytes.len());
    }
}
