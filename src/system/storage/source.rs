//! Owns the reading of what is uploaded: by any thread, in any order, out of a few open files.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::preadv;

use super::directory::Directory;
use super::layout::{Layout, OutputFile};
use crate::error::Fatal;
use crate::limits::OPEN_FILES_MAX;

/// The torrent's files, to be read.
#[derive(Debug)]
pub struct Source {
    layout: Arc<Layout>,
    shelf: Mutex<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    directory: Directory,
    /// The files that were read last, the latest one at the end.
    open: Vec<(usize, Arc<File>)>,
}

impl Source {
    /// The files of `layout` in `directory`.
    pub fn new(directory: Directory, layout: Arc<Layout>) -> Self {
        let shelf = Shelf { directory, open: Vec::with_capacity(OPEN_FILES_MAX) };
        Self { layout, shelf: Mutex::new(shelf) }
    }

    /// Reads from byte `offset` of the torrent on into `parts`, one right behind the other.
    /// Padding is zeros. One system call, if all lies in one file.
    ///
    /// # Errors
    /// A file is missing, short, or can't be read.
    pub fn read(&self, offset: u64, parts: &mut [&mut [u8]]) -> Result<(), Fatal> {
        let length = parts.iter().map(|part| part.len()).sum();
        if let Some(segment) = self.layout.segments(offset, length).next()
            && segment.length == length
            && !segment.file.is_pad()
        {
            let file = self.file(segment.index, segment.file)?;
            let mut slices: Vec<IoSliceMut<'_>> =
                parts.iter_mut().map(|part| IoSliceMut::new(part)).collect();
            // What is short or interrupted is read again, and says why.
            if preadv(&*file, &mut slices, segment.offset).is_ok_and(|read| read == length) {
                return Ok(());
            }
        }
        let mut at = offset;
        for part in parts {
            self.read_part(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn read_part(&self, offset: u64, part: &mut [u8]) -> Result<(), Fatal> {
        for segment in self.layout.segments(offset, part.len()) {
            let to = segment.from..segment.from + segment.length;
            let Some(part) = part.get_mut(to) else { continue };
            if segment.file.is_pad() {
                part.fill(0);
                continue;
            }
            let file = self.file(segment.index, segment.file)?;
            let failed = |error| self.failed(segment.file, error);
            file.read_exact_at(part, segment.offset).map_err(failed)?;
        }
        Ok(())
    }

    fn file(&self, index: usize, output: &OutputFile) -> Result<Arc<File>, Fatal> {
        // Nothing in there can be left half done.
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = shelf.open.iter().position(|(open, _)| *open == index) {
            let found = shelf.open.remove(at);
            let file = Arc::clone(&found.1);
            shelf.open.push(found);
            return Ok(file);
        }
        let opened = match shelf.directory.open_to_read(&output.path) {
            Err(error) if error.is_out_of_descriptors() && !shelf.open.is_empty() => {
                shelf.open.clear();
                shelf.directory.let_go();
                shelf.directory.open_to_read(&output.path)?
            }
            opened => opened?,
        };
        let Some((file, _)) = opened else {
            let path = shelf.directory.path_of(&output.path);
            return Err(Fatal::FileIo("read", path, io::ErrorKind::NotFound.into()));
        };
        if shelf.open.len() >= OPEN_FILES_MAX {
            shelf.open.remove(0);
        }
        let file = Arc::new(file);
        shelf.open.push((index, Arc::clone(&file)));
        Ok(file)
    }

    fn failed(&self, output: &OutputFile, error: io::Error) -> Fatal {
        let error = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::other("it was cut; run the same command again to repair it")
            }
            _ => error,
        };
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        Fatal::FileIo("read", shelf.directory.path_of(&output.path), error)
    }
}
