//! Owns the flushing of files to the disk: a few one by one, many with all that the file system
//! holds.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;

use super::directory::Directory;
use super::layout::Layout;
use crate::error::Fatal;
use crate::limits::FLUSHED_FILES_MAX;

/// Flushes the content of these files, named by their places in the torrent. One that is missing
/// is passed over.
///
/// # Errors
/// [`Fatal::FileIo`]: what was written to a file, or to one of all, is lost.
pub fn flush(
    directory: &mut Directory,
    layout: &Layout,
    files: &BTreeSet<usize>,
) -> Result<(), Fatal> {
    if files.len() > FLUSHED_FILES_MAX {
        let failed = |error| Fatal::FileIo("flush", directory.path().into(), error);
        return flushed(directory.sync_all()).map_err(failed);
    }
    for output in files.iter().filter_map(|index| layout.file(*index)) {
        if let Some((file, _)) = directory.open_to_read(&output.path)? {
            let failed = |error| Fatal::FileIo("flush", directory.path_of(&output.path), error);
            flushed(file.sync_data()).map_err(failed)?;
        }
    }
    Ok(())
}

/// What a file system that knows no flushing answers is no error: more is not to be had there.
fn flushed(answer: io::Result<()>) -> io::Result<()> {
    let unknown = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP];
    answer.or_else(|error| match Errno::from_io_error(&error) {
        Some(errno) if unknown.contains(&errno) => Ok(()),
        _ => Err(error),
    })
}
