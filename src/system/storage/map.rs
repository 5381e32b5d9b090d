//! Owns the mapped windows of the output files: 2 MiB each, a handful at a time. The only room
//! with `unsafe`.
//!
//! A store to a page that the kernel can't back (the disk is full, somebody cut the file) is
//! SIGBUS and death, so the kernel is asked for exactly the pages about to be written right before
//! each store, and says no with an error: `MADV_POPULATE_WRITE`, Linux 5.14. On an older kernel
//! only files whose blocks are reserved are mapped.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::io::Errno;

use crate::limits::{WINDOW_LENGTH_BYTES, WINDOWS_MAX};

/// Why bytes were not stored through a mapping. A positioned write can always be tried instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// The file can't be mapped, or not safely: it is no use to try again.
    Unmappable,
    /// The kernel has no page for these bytes now. The error of a positioned write says why.
    Unbacked,
}

/// A file to store in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// Its place in the torrent.
    pub(super) index: usize,
    /// Open for reading and writing.
    pub(super) file: &'a File,
    /// The file's bytes when it is complete; it has been brought to this length.
    pub(super) length: u64,
    /// Whether its blocks are reserved.
    pub(super) reserved: bool,
}

/// The windows that are mapped now, the one used last at the end.
#[derive(Debug)]
pub(super) struct Windows {
    windows: Vec<Window>,
    /// Whether the kernel knows `MADV_POPULATE_WRITE`, until it says otherwise.
    populates: bool,
    /// Bytes of a file that the kernel has just backed with pages and that are stored next.
    backed: Option<(usize, Range<u64>)>,
}

#[derive(Debug)]
struct Window {
    index: usize,
    /// Bytes from the start of the file; a multiple of the window length.
    begin: u64,
    map: MmapRaw,
    /// Bytes not stored yet, so that a window that is full goes at once.
    unwritten: usize,
}

impl Windows {
    pub(super) fn new() -> Self {
        Self { windows: Vec::with_capacity(WINDOWS_MAX), populates: true, backed: None }
    }

    /// Unmaps everything.
    pub(super) fn clear(&mut self) {
        self.backed = None;
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

    /// Stores `bytes` at `offset` in the file. After an error some of them may be stored. As many
    /// bytes as `following` says are stored right behind these and next: the kernel is asked for
    /// their pages along with those of `bytes`.
    pub(super) fn store(
        &mut self,
        target: Target<'_>,
        offset: u64,
        bytes: &[u8],
        following: usize,
    ) -> Result<(), Refused> {
        let (mut offset, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            if !self.populates && !target.reserved {
                return Err(Refused::Unmappable);
            }
            let begin = offset - offset % WINDOW_LENGTH_BYTES;
            let mut window = self.take(target, begin)?;
            let within = usize::try_from(offset - begin).map_err(|_| Refused::Unmappable)?;
            let space = window.map.len().checked_sub(within).filter(|space| *space > 0);
            let space = space.ok_or(Refused::Unmappable)?;
            let count = space.min(rest.len());
            let (now, later) = rest.split_at(count);
            if !self.is_backed(target.index, offset, count) {
                let ahead = rest.len().saturating_add(following).min(space);
                self.populate(&window, within, ahead)?;
                self.backed = Some((target.index, offset..offset + ahead as u64));
            }
            window.copy(within, now);
            self.use_up(count);
            if window.unwritten > 0 {
                self.keep(window);
            }
            (offset, rest) = (offset + count as u64, later);
        }
        Ok(())
    }

    /// Whether the kernel was asked for these bytes just before, and none has been stored since.
    fn is_backed(&self, index: usize, offset: u64, count: usize) -> bool {
        self.backed.as_ref().is_some_and(|(of, range)| {
            *of == index && range.start == offset && offset + count as u64 <= range.end
        })
    }

    /// A page that was asked for is good for one store, or somebody may have cut the file since.
    fn use_up(&mut self, count: usize) {
        if let Some((_, range)) = &mut self.backed {
            range.start += count as u64;
        }
    }

    /// The window of the file that begins at `begin`, out of the kept ones or new.
    fn take(&mut self, target: Target<'_>, begin: u64) -> Result<Window, Refused> {
        let kept = |window: &Window| window.index == target.index && window.begin == begin;
        match self.windows.iter().position(kept) {
            Some(place) => Ok(self.windows.remove(place)),
            None => Window::map(target, begin).map_err(|_| Refused::Unmappable),
        }
    }

    fn keep(&mut self, window: Window) {
        if self.windows.len() >= WINDOWS_MAX {
            self.windows.remove(0);
        }
        self.windows.push(window);
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
    fn map(target: Target<'_>, begin: u64) -> io::Result<Self> {
        let length = target.length.saturating_sub(begin).min(WINDOW_LENGTH_BYTES);
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        let map = MmapOptions::new().offset(begin).len(length).map_raw(target.file)?;
        // Makes faults few, in windows that are shorter too: the page cache takes larger folios.
        // Advice only: a kernel without huge pages refuses it, and nothing is lost.
        let _ = map.advise(Advice::HugePage);
        Ok(Self { index: target.index, begin, map, unwritten: length })
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
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.unwritten = self.unwritten.saturating_sub(bytes.len());
    }
}
