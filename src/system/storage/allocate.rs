//! Decides whether there is room: looks before the start, and reserves a file's blocks before its
//! first byte is written, where the file system can.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, StatFs, fallocate, fstatfs};
use rustix::io::{Errno, retry_on_intr};

use super::directory::{Directory, Extent};
use super::layout::{Layout, OutputFile, OutputKind};
use crate::error::Fatal;

/// What this run knows about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Backing {
    /// Not written yet in this run.
    Unprepared,
    /// It has its length, and every block is reserved.
    Reserved,
    /// It has its length, but can't be mapped, or not safely: positioned writes only.
    Positioned,
    /// The same, and no room was reserved: that the disk is full may be told by a flush alone.
    Unreserved,
}

/// Fails if the file system has no room for what is still to come beside the `kept` bytes that are
/// to stay free: `missing` bytes of the torrent, less what the files already have allocated for
/// them.
pub(super) fn check_room(
    directory: &Directory,
    layout: &Layout,
    missing: u64,
    kept: u64,
) -> Result<(), Fatal> {
    // Of its own, so that no descriptor is kept.
    let mut here = directory.share();
    let mut unallocated = 0u64;
    for (_, file) in layout.on_disk() {
        let allocated = here.look(&file.path)?.map_or(0, |found| found.allocated);
        unallocated = unallocated.saturating_add(file.length.saturating_sub(allocated));
    }
    let needed = unallocated.min(missing);
    check_free(directory, Path::new(""), needed, kept)
}

/// Fails if there is no room for `needed` bytes of `file` beside the `kept` bytes that are to stay
/// free.
pub(super) fn check_free(
    directory: &Directory,
    file: &Path,
    needed: u64,
    kept: u64,
) -> Result<(), Fatal> {
    match directory.room() {
        Some(free) if needed > 0 && free < needed.saturating_add(kept) => {
            let path = directory.path().components().chain(file.components()).collect();
            Err(Fatal::DiskFull { path, needed, free, kept })
        }
        _ => Ok(()),
    }
}

/// File systems that write to a new place each time: btrfs, ZFS, bcachefs. A page that was backed a
/// moment ago may have no room when it is stored to, if it was written back in between: on a full
/// btrfs it is, though the file's room is reserved and a write finds it.
const COPY_ON_WRITE: [u64; 3] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];

/// Brings a file that was just opened to its length and reserves its blocks. Returns how it may be
/// written: where the file system can't reserve, the file is left with holes.
pub(super) fn prepare(
    directory: &Directory,
    output: &OutputFile,
    file: &File,
    found: Extent,
    kept: u64,
) -> Result<Backing, Fatal> {
    // What is aside is mostly holes, and its writes are looked at one by one.
    let aside = output.kind == OutputKind::Aside;
    if found.length > output.length && !aside {
        cut(directory, output, file, found.length)?;
    }
    let needed = output.length.saturating_sub(found.allocated);
    if kept > 0 && !aside {
        check_free(directory, &output.path, needed, kept)?;
    }
    if output.length == 0 {
        return Ok(Backing::Reserved);
    }
    let reserve = || match aside {
        true => Err(Errno::OPNOTSUPP),
        false => fallocate(file, FallocateFlags::empty(), 0, output.length),
    };
    match retry_on_intr(reserve) {
        Ok(()) if copies_on_write(file) => Ok(Backing::Positioned),
        Ok(()) => Ok(Backing::Reserved),
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
            if found.length < output.length {
                file.set_len(output.length)
                    .map_err(|error| failed(directory, output, "extend", error, output.length))?;
            }
            Ok(Backing::Unreserved)
        }
        Err(error) => {
            // Some file systems keep what they could get before they ran out of room. Giving it
            // back is a courtesy: the error to report is the first one.
            let _ = file.set_len(found.length.min(output.length));
            Err(failed(directory, output, "extend", error.into(), needed))
        }
    }
}

#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // signed or not, by the platform
fn copies_on_write(file: &File) -> bool {
    let magic = |found: StatFs| found.f_type as u64 & u64::from(u32::MAX);
    fstatfs(file).is_ok_and(|found| COPY_ON_WRITE.contains(&magic(found)))
}

/// Cuts a file that is longer than the torrent says, which never goes unsaid.
pub(super) fn cut(
    directory: &Directory,
    output: &OutputFile,
    file: &File,
    found: u64,
) -> Result<(), Fatal> {
    let path = directory.path_of(&output.path);
    let (shown, length) = (path.display(), output.length);
    log::warn!("{shown}: cut from {found} to {length} bytes, it was longer than the torrent says");
    file.set_len(output.length).map_err(|error| Fatal::CreateFile(path, error))
}

/// The error for a file that could not be written: no room, or something else.
pub(super) fn failed(
    directory: &Directory,
    output: &OutputFile,
    verb: &'static str,
    error: io::Error,
    needed: u64,
) -> Fatal {
    let path = directory.path_of(&output.path);
    match Errno::from_io_error(&error) {
        Some(Errno::NOSPC) => {
            let free = directory.room().unwrap_or(0);
            Fatal::DiskFull { path, needed, free, kept: 0 }
        }
        _ => Fatal::FileIo(verb, path, error),
    }
}
