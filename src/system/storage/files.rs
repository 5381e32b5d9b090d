//! Owns the open output files: a few at a time, each brought to its length when it is first
//! written.

use std::fs::File;
use std::io;
use std::thread;
use std::time::Duration;

use super::allocate;
use super::directory::Directory;
use super::layout::OutputFile;
use crate::error::Fatal;
use crate::limits::{DESCRIPTOR_PAUSE_MS, DESCRIPTOR_TRIES_MAX, OPEN_FILES_MAX};

/// What this run knows about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Backing {
    /// Not written yet in this run.
    Unprepared,
    /// It has its length, and every block is reserved.
    Reserved,
    /// It has its length; the disk may be full when a hole in it is filled.
    Sparse,
    /// It can't be mapped: positioned writes only.
    Positioned,
}

#[derive(Debug)]
struct Open {
    index: usize,
    file: File,
    writable: bool,
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
            _ => Open { index, file: self.open_to_write(index, output)?, writable: true },
        };
        let backing = self.backing(index);
        Ok((self.keep(open), backing))
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
                Open { index, file, writable: false }
            }
        };
        Ok(self.keep(open))
    }

    fn open_to_write(&mut self, index: usize, output: &OutputFile) -> Result<File, Fatal> {
        let (file, found) =
            self.with_descriptors(|directory| directory.open_to_write(&output.path))?;
        if self.backing(index) == Backing::Unprepared {
            let reserved = allocate::prepare(&self.directory, output, &file, found, self.kept)?;
            let backing = if reserved { Backing::Reserved } else { Backing::Sparse };
            self.set_backing(index, backing);
        } else if found.length != output.length {
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

    /// The error for a file that was deleted, or has not the length that we gave it.
    pub(super) fn changed(&self, output: &OutputFile) -> Fatal {
        let error = io::Error::other("it was deleted or cut while it was being downloaded");
        Fatal::FileIo("write", self.directory.path_of(&output.path), error)
    }

    fn take(&mut self, index: usize) -> Option<Open> {
        if self.last.as_ref().is_some_and(|open| open.index == index) {
            return self.last.take();
        }
        let place = self.others.iter().position(|open| open.index == index)?;
        Some(self.others.remove(place))
    }

    fn keep(&mut self, open: Open) -> &File {
        if let Some(before) = self.last.take() {
            if self.others.len() + 1 >= OPEN_FILES_MAX {
                self.others.remove(0);
            }
            self.others.push(before);
        }
        &self.last.insert(open).file
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
