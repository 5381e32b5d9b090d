//! Owns the output directory: opens what lies below it, and follows no symbolic link there. The
//! user named the directory itself, so that one may be a link; what stands in it may have been
//! planted by somebody else.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, open, openat, renameat, statat, syncfs,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::Fatal;
use crate::protocol::resume::FileState;

/// What a regular file has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Bytes from its start to its end.
    pub length: u64,
    /// Bytes that have a place on the disk.
    pub allocated: u64,
    /// When its content was last changed: nanoseconds since 1970.
    pub modified_ns: i64,
}

impl From<Extent> for FileState {
    fn from(found: Extent) -> Self {
        Self { length: found.length, modified_ns: found.modified_ns }
    }
}

/// What `st_blocks` counts in, whatever the file system.
const STAT_BLOCK_BYTES: u64 = 512;

/// A path only leads somewhere: no right to list the directory is needed.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A FIFO is opened without waiting for its other end, and is then refused.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The output directory, open.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    root: Arc<OwnedFd>,
    /// Where the last file was: files of one directory mostly come together.
    last: Option<(PathBuf, OwnedFd)>,
}

impl Directory {
    /// Opens the directory; makes it, and those above it, if it is not there.
    pub fn create(path: &Path) -> Result<Self, Fatal> {
        let failed = |error| Fatal::MakeDirectory(path.to_path_buf(), error);
        fs::create_dir_all(path).map_err(failed)?;
        Self::open(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// Opens the directory; `None` if there is nothing of that name.
    pub fn open(path: &Path) -> Result<Option<Self>, Fatal> {
        match open(path, DIRECTORY, Mode::empty()) {
            Ok(root) => {
                Ok(Some(Self { path: path.to_path_buf(), root: Arc::new(root), last: None }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Fatal::MakeDirectory(path.to_path_buf(), error.into())),
        }
    }

    /// The same directory for another thread. It takes no descriptor more.
    pub fn share(&self) -> Self {
        Self { path: self.path.clone(), root: Arc::clone(&self.root), last: None }
    }

    /// Closes what is open of it but the directory itself; whether there was anything.
    pub fn let_go(&mut self) -> bool {
        self.last.take().is_some()
    }

    /// Its path, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole path of `file`, for people.
    pub fn path_of(&self, file: &Path) -> PathBuf {
        self.path.join(file)
    }

    /// Opens `file` for reading and writing, and makes it and the directories above it if need be.
    pub fn open_to_write(&mut self, file: &Path) -> Result<(File, Extent), Fatal> {
        self.open_file(file, OFlags::RDWR | OFlags::CREATE | FILE, true)?
            .ok_or_else(|| Fatal::CreateFile(self.path_of(file), io::ErrorKind::NotFound.into()))
    }

    /// Opens `file` for reading; makes nothing, and finds `None` if it is not there.
    pub fn open_to_read(&mut self, file: &Path) -> Result<Option<(File, Extent)>, Fatal> {
        self.open_file(file, OFlags::RDONLY | FILE, false)
    }

    /// Looks at `file` without opening it; `None` if it is not there.
    pub fn look(&mut self, file: &Path) -> Result<Option<Extent>, Fatal> {
        let whole = self.path_of(file);
        let failed = |error| Fatal::CreateFile(whole, error);
        let Some(name) = file.file_name() else { return Err(failed(unsafe_path())) };
        let Some(parent) = self.enter(parent_of(file), false)? else { return Ok(None) };
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed(error.into())),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(Some(Extent {
                    length: u64::try_from(stat.st_size).unwrap_or(0),
                    allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * STAT_BLOCK_BYTES,
                    modified_ns: nanoseconds(
                        stat.st_mtime,
                        i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
                    ),
                })),
                other => Err(failed(in_the_way(other))),
            },
        }
    }

    /// Whether the whole path of `file`, walked anew, still leads to `ours`, which was opened there,
    /// and that has `length` bytes at least. Where it can't be known it counts as so.
    pub fn has(&self, file: &Path, ours: &File, length: u64) -> bool {
        let place = |found: &fs::Metadata| (found.dev(), found.ino());
        match (fs::symlink_metadata(self.path_of(file)), ours.metadata()) {
            (Ok(named), Ok(ours)) => place(&named) == place(&ours) && named.len() >= length,
            (Err(error), _) => !is_gone(&error),
            _ => true,
        }
    }

    /// Whether the directory's own path still leads to it.
    pub fn is_in_place(&self) -> bool {
        match (statat(CWD, &self.path, AtFlags::empty()), fstat(&*self.root)) {
            (Ok(named), Ok(ours)) => (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino),
            (Err(error), _) => !is_gone(&error.into()),
            _ => true,
        }
    }

    /// Flushes all that the file system of the directory holds.
    pub fn sync_all(&self) -> io::Result<()> {
        // A path only leads somewhere: what is to be flushed must be open for reading.
        let root = openat(&*self.root, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(syncfs(root)?)
    }

    /// Gives a file right below the directory another name there, in the place of whatever has it.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat(&*self.root, from, &*self.root, to)?)
    }

    /// Removes a file right below the directory, if it is there.
    pub fn remove(&self, file: &Path) {
        let _gone = unlinkat(&*self.root, file, AtFlags::empty());
    }

    /// Whether `file` is the one that has this name right below the directory.
    pub fn is_named(&self, file: &File, name: &Path) -> io::Result<bool> {
        let own = fstat(file)?;
        match statat(&*self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Bytes that this user can still write in the file system; `None` if it does not say.
    pub fn room(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&*self.root).ok()?;
        // Some network file systems answer with zeros throughout.
        (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn open_file(
        &mut self,
        file: &Path,
        flags: OFlags,
        make: bool,
    ) -> Result<Option<(File, Extent)>, Fatal> {
        let whole = self.path_of(file);
        let failed = |error| Fatal::CreateFile(whole, error);
        let Some(name) = file.file_name() else { return Err(failed(unsafe_path())) };
        let Some(parent) = self.enter(parent_of(file), make)? else { return Ok(None) };
        // The umask takes from these modes what the user does not want.
        let opened = match openat(parent, name, flags, Mode::from_raw_mode(0o666)) {
            Ok(opened) => File::from(opened),
            Err(Errno::NOENT) if !make => return Ok(None),
            Err(error) => return Err(failed(obstacle(parent, name, FileType::RegularFile, error))),
        };
        match opened.metadata() {
            Ok(found) if found.is_file() => {
                let allocated = found.blocks() * STAT_BLOCK_BYTES;
                let modified_ns = nanoseconds(found.mtime(), found.mtime_nsec());
                Ok(Some((opened, Extent { length: found.len(), allocated, modified_ns })))
            }
            Ok(found) => Err(failed(in_the_way(FileType::from_raw_mode(found.mode())))),
            Err(error) => Err(failed(error)),
        }
    }

    /// The directory at `path` below the root; `None` if it is not there and is not to be made.
    fn enter(&mut self, path: &Path, make: bool) -> Result<Option<BorrowedFd<'_>>, Fatal> {
        if path.as_os_str().is_empty() {
            return Ok(Some(self.root.as_fd()));
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let Some(opened) = self.walk(path, make)? else { return Ok(None) };
            self.last = Some((path.to_path_buf(), opened));
        }
        Ok(self.last.as_ref().map(|(_, opened)| opened.as_fd()))
    }

    /// Goes down one component at a time, since only the last one of a path is kept from being
    /// followed.
    fn walk(&self, path: &Path, make: bool) -> Result<Option<OwnedFd>, Fatal> {
        let mut here = None;
        let mut walked = self.path.clone();
        for component in path.components() {
            walked.push(component);
            let Component::Normal(name) = component else {
                return Err(Fatal::MakeDirectory(walked, unsafe_path()));
            };
            let parent = here.as_ref().unwrap_or(&*self.root).as_fd();
            match step(parent, name, make) {
                Ok(next) => here = Some(next),
                Err(Errno::NOENT) if !make => return Ok(None),
                Err(error) => {
                    let error = obstacle(parent, name, FileType::Directory, error);
                    return Err(Fatal::MakeDirectory(walked, error));
                }
            }
        }
        Ok(here)
    }
}

fn step(parent: BorrowedFd<'_>, name: &OsStr, make: bool) -> Result<OwnedFd, Errno> {
    let enter = || openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
    match enter() {
        Err(Errno::NOENT) if make => {
            match mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            enter()
        }
        entered => entered,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

fn parent_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

/// Why `name` could not be opened: what stands in its place, if it is nothing that was wanted.
fn obstacle(parent: BorrowedFd<'_>, name: &OsStr, wanted: FileType, error: Errno) -> io::Error {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != wanted => {
            in_the_way(FileType::from_raw_mode(stat.st_mode))
        }
        _ => error.into(),
    }
}

fn in_the_way(found: FileType) -> io::Error {
    let what = match found {
        FileType::RegularFile => "a file is in the way",
        FileType::Directory => "a directory is in the way",
        FileType::Symlink => "a symbolic link is in the way",
        FileType::Fifo => "a FIFO is in the way",
        FileType::Socket => "a socket is in the way",
        FileType::CharacterDevice | FileType::BlockDevice => "a device is in the way",
        FileType::Unknown => "something that is no file is in the way",
    };
    io::Error::new(io::ErrorKind::AlreadyExists, what)
}

fn unsafe_path() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of the output directory")
}
