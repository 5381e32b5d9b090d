//! Owns the open output files: a few at a time, each brought to its length when it is first
//! written.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::allocate::{self, Backing};
use super::directory::Directory;
use super::layout::OutputFile;
use crate::error::Fatal;
use crate::limits::{DESCRIPTOR_PAUSE_MS, DESCRIPTOR_TRIES_MAX, OPEN_FILES_MAX};

#[derive(Debug)]
struct Open {
    index: usize,
    /// Below the output directory.
    path: PathBuf,
    /// Bytes when it is complete; it has them from the start.
    length: u64,
    file: File,
    writable: bool,
}

impl Open {
    fn new(index: usize, output: &OutputFile, file: File, writable: bool) -> Self {
        Self { index, path: output.path.clone(), length: output.length, file, writable }
    }
}

/// The output files.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) directory: Directory,
    /// The one used last, and those used before it, in order.
    last: Option<Open>,
    others: Vec<Open>,
    /// One for each file of the torrent.
    backing: Vec<Backing>,
    /// Bytes that are to stay free.
    pub(super) kept: u64,
}

impl Files {
    pub(super) fn new(directory: Directory, count: usize) -> Self {
        Self {
            directory,
            last: None,
            others: Vec::with_capacity(OPEN_FILES_MAX),
            backing: vec![Backing::Unprepared; count],
            kept: 0,
        }
    }

    fn backing(&self, index: usize) -> Backing {
        self.backing.get(index).copied().unwrap_or(Backing::Unprepared)
    }

    pub(super) fn set_backing(&mut self, index: usize, backing: Backing) {
        if let Some(known) = self.backing.get_mut(index) {
            *known = backing;
        }
    }

    /// The file, open for reading and writing and with its whole length, and how it may be written.
    pub(super) fn writable(
        &mut self,
        index: usize,
        output: &OutputFile,
    ) -> Result<(&File, Backing), Fatal> {
        let open = match self.take(index) {
            Some(open) if open.writable => open,
            _ => Open::new(index, output, self.open_to_write(index, output)?, true),
        };
        let backing = self.backing(index);
        Ok((self.keep(open)?, backing))
    }

    /// The file, open for reading; it is an error if it is not there.
    pub(super) fn readable(&mut self, index: usize, output: &OutputFile) -> Result<&File, Fatal> {
        let open = match self.take(index) {
            Some(open) => open,
            None => {
                let found = self.with_descriptors(|directory| directory.open_to_read(&output.path));
                let (file, _) = found?.ok_or_else(|| {
                    let path = self.directory.path_of(&output.path);
                    Fatal::FileIo("read", path, io::ErrorKind::NotFound.into())
                })?;
                Open::new(index, output, file, false)
            }
        };
        self.keep(open)
    }

    fn open_to_write(&mut self, index: usize, output: &OutputFile) -> Result<File, Fatal> {
        let (file, found) =
            self.with_descriptors(|directory| directory.open_to_write(&output.path))?;
        if self.backing(index) == Backing::Unprepared {
            let backing = allocate::prepare(&self.directory, output, &file, found, self.kept)?;
            self.set_backing(index, backing);
        } else if found.length < output.length {
            return Err(self.changed(output));
        }
        Ok(file)
    }

    /// Fails if the file system is to keep free what `needed` bytes for holes of the file take.
    pub(super) fn check_free(&self, output: &OutputFile, needed: usize) -> Result<(), Fatal> {
        match self.kept {
            0 => Ok(()),
            kept => allocate::check_free(&self.directory, &output.path, needed as u64, kept),
        }
    }

    /// The files that were written without their blocks being reserved, by their places in the
    /// torrent.
    pub(super) fn unreserved(&self) -> impl Iterator<Item = usize> {
        let all = self.backing.iter().enumerate();
        all.filter(|(_, backing)| **backing == Backing::Unreserved).map(|(index, _)| index)
    }

    /// Fails if a file that is open, out of those that `which` names by their places in the
    /// torrent, is not to be found by its path: what is written to it would be lost.
    pub(super) fn check_in_place(&mut self, which: impl Fn(usize) -> bool) -> Result<(), Fatal> {
        let Self { directory, last, others, .. } = self;
        let open = others.iter().chain(last.iter());
        open.filter(|open| which(open.index)).try_for_each(|open| in_place(directory, open))
    }

    /// The error for a file that is not where it was, or has not the length that we gave it.
    pub(super) fn changed(&self, output: &OutputFile) -> Fatal {
        lost(self.directory.path_of(&output.path))
    }

    fn take(&mut self, index: usize) -> Option<Open> {
        if self.last.as_ref().is_some_and(|open| open.index == index) {
            return self.last.take();
        }
        let place = self.others.iter().position(|open| open.index == index)?;
        Some(self.others.remove(place))
    }

    fn keep(&mut self, open: Open) -> Result<&File, Fatal> {
        if let Some(before) = self.last.take() {
            if self.others.len() + 1 >= OPEN_FILES_MAX {
                // The last moment to see whether what was written is where it belongs.
                in_place(&mut self.directory, &self.others.remove(0))?;
            }
            self.others.push(before);
        }
        Ok(&self.last.insert(open).file)
    }

    /// Does what opens a file; if descriptors have run out, does it again without the kept ones,
    /// and waits a little for those that others are about to give back.
    pub(super) fn with_descriptors<T>(
        &mut self,
        mut opening: impl FnMut(&mut Directory) -> Result<T, Fatal>,
    ) -> Result<T, Fatal> {
        for _ in 1..DESCRIPTOR_TRIES_MAX {
            match opening(&mut self.directory) {
                Err(error) if error.is_out_of_descriptors() => {
                    self.check_in_place(|_| true)?;
                    let kept = self.last.take().is_some() | self.directory.let_go();
                    self.others.clear();
                    if !kept {
                        thread::sleep(Duration::from_millis(DESCRIPTOR_PAUSE_MS));
                    }
                }
                opened => return opened,
            }
        }
        opening(&mut self.directory)
    }
}

/// Fails unless the file is still to be found by its path.
fn in_place(directory: &mut Directory, open: &Open) -> Result<(), Fatal> {
    if directory.has(&open.path, &open.file, open.length) {
        return Ok(());
    }
    // Something there that is no file makes an error that says more.
    directory.look(&open.path)?;
    Err(lost(directory.path_of(&open.path)))
}

/// The error for what somebody else took away.
pub(super) fn lost(path: PathBuf) -> Fatal {
    let why = "it was deleted, moved, replaced or cut while it was being downloaded";
    Fatal::FileIo("write", path, io::Error::other(why))
}
