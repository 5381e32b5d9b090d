//! Owns what can be known of the place that files are to go to, without making anything there: which
//! directory stands, whether it can be written, and what its file system is and does.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs, statvfs};
use rustix::io::Errno;

use super::storage::directory::Directory;
use super::storage::layout::Layout;
use crate::error::Fatal;

/// Whether a file system keeps the room of a file that is begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserving {
    /// It reserves it.
    Yes,
    /// It reserves it, but older ones that have the same number can't.
    Mostly,
    /// It reserves it, but writes to a new place each time: some more may be needed.
    Copies,
    /// It can't, or not everywhere: a disk that gets full is an error in the middle.
    No,
    /// It is not known.
    Unknown,
}

/// A kind of file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// Its name; empty if it is not known.
    pub name: &'static str,
    /// Whether it reserves room.
    pub reserving: Reserving,
    /// Bytes of its longest file, where that is less than torrents have.
    pub file_max: Option<u64>,
}

/// By the number that statfs(2) tells.
const KINDS: [(u64, &str, Reserving); 16] = [
    (0xef53, "ext2, ext3 or ext4", Reserving::Mostly),
    (0x5846_5342, "xfs", Reserving::Yes),
    (0xf2f5_2010, "f2fs", Reserving::Yes),
    (0x0102_1994, "tmpfs", Reserving::Yes),
    (0x794c_7630, "overlayfs", Reserving::Yes),
    (0x9123_683e, "btrfs", Reserving::Copies),
    (0x2fc1_2fc1, "zfs", Reserving::Copies),
    (0xca45_1a4e, "bcachefs", Reserving::Copies),
    (VFAT, "vfat", Reserving::Yes),
    (0x2011_bab0, "exfat", Reserving::No),
    (0x7366_746e, "ntfs3", Reserving::Yes),
    (0x6573_5546, "FUSE", Reserving::No),
    (0x6969, "NFS", Reserving::No),
    (0xff53_4d42, "CIFS", Reserving::No),
    (0xfe53_4d42, "SMB2", Reserving::No),
    (0x0102_1997, "9p", Reserving::No),
];
const VFAT: u64 = 0x4d44;

impl Kind {
    fn of(number: u64) -> Self {
        let known = KINDS.iter().find(|(known, ..)| *known == number);
        let (name, reserving) =
            known.map_or(("", Reserving::Unknown), |(_, name, reserving)| (name, *reserving));
        Self { name, reserving, file_max: (number == VFAT).then_some(u64::from(u32::MAX)) }
    }
}

/// The place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ground {
    /// The directory itself, or the nearest one above it that is there.
    pub standing: PathBuf,
    /// Whether it is the directory itself.
    pub exists: bool,
    /// Its file system.
    pub kind: Kind,
    /// Bytes that this user can write there; `None` if it does not say.
    pub free: Option<u64>,
    /// Bytes of its longest name.
    pub name_max: u64,
    /// Bytes that the files still need: less what they have allocated.
    pub needed: u64,
}

impl Ground {
    /// Looks at `dir`, for these files.
    ///
    /// # Errors
    /// What a download would end with: the directory can't be made or written, something else is in
    /// a file's place, or the file can't be there.
    pub fn survey(dir: &Path, layout: &Layout) -> Result<Self, Fatal> {
        let not_made = |error| Fatal::MakeDirectory(dir.to_path_buf(), error);
        let standing = standing(dir).map_err(not_made)?;
        let exists = standing == dir;
        match (can_be_written(&standing), exists) {
            (Ok(()), _) => {}
            (Err(error), true) => return Err(Fatal::CreateFile(dir.to_path_buf(), error)),
            (Err(error), false) => return Err(not_made(error)),
        }
        let found = statvfs(&standing).map_err(|error| not_made(error.into()))?;
        let mut ground = Self {
            kind: Kind::of(statfs(&standing).map_or(0, |found| number(&found))),
            // Some network file systems answer with zeros throughout.
            free: (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize)),
            name_max: found.f_namemax,
            needed: 0,
            standing,
            exists,
        };
        ground.needed = ground.look_at_files(dir, layout)?;
        Ok(ground)
    }

    /// Bytes that the files need. Fails at the first that can't be there.
    fn look_at_files(&self, dir: &Path, layout: &Layout) -> Result<u64, Fatal> {
        let mut directory = if self.exists { Directory::open(dir)? } else { None };
        let mut needed = 0_u64;
        let mut looked_at = None;
        for (_, file) in layout.on_disk() {
            let path = dir.join(&file.path);
            self.check_names(dir, &file.path)?;
            if self.kind.file_max.is_some_and(|most| file.length > most) {
                return Err(Fatal::FileIo("extend", path, Errno::FBIG.into()));
            }
            let found = match &mut directory {
                Some(directory) => directory.look(&file.path)?,
                None => None,
            };
            if found.is_some() {
                let opened = access(&path, Access::READ_OK | Access::WRITE_OK);
                opened.map_err(|error| Fatal::CreateFile(path, error.into()))?;
            } else if directory.is_some() && looked_at != file.path.parent() {
                looked_at = file.path.parent();
                let parent = path.parent().unwrap_or(dir);
                let failed = |error| Fatal::MakeDirectory(parent.to_path_buf(), error);
                standing(parent).and_then(|found| can_be_written(&found)).map_err(failed)?;
            }
            let allocated = found.map_or(0, |found| found.allocated);
            needed = needed.saturating_add(file.length.saturating_sub(allocated));
        }
        Ok(needed)
    }

    fn check_names(&self, dir: &Path, file: &Path) -> Result<(), Fatal> {
        let is_long = |name: &std::ffi::OsStr| name.as_bytes().len() as u64 > self.name_max;
        let Some(long) = file.iter().find(|name| self.name_max > 0 && is_long(name)) else {
            return Ok(());
        };
        let (path, error) = (dir.join(file), Errno::NAMETOOLONG.into());
        Err(match file.file_name() == Some(long) {
            true => Fatal::CreateFile(path, error),
            false => Fatal::MakeDirectory(path, error),
        })
    }
}

#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // signed or not, by the platform
fn number(found: &rustix::fs::StatFs) -> u64 {
    found.f_type as u64 & u64::from(u32::MAX)
}

/// The nearest directory that is there.
fn standing(dir: &Path) -> io::Result<PathBuf> {
    for path in dir.ancestors() {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Ok(path.to_path_buf()),
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn can_be_written(directory: &Path) -> io::Result<()> {
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_numbers() {
        assert_eq!(Kind::of(0xef53).reserving, Reserving::Mostly);
        assert_eq!(Kind::of(0x9123_683e).reserving, Reserving::Copies);
        assert_eq!(Kind::of(VFAT).file_max, Some(u64::from(u32::MAX)));
        let unknown = Kind { name: "", reserving: Reserving::Unknown, file_max: None };
        assert_eq!(Kind::of(0), unknown);
        let mut numbers = KINDS.map(|(number, ..)| number).to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), KINDS.len());
    }

    #[test]
    fn what_stands_is_found_above_what_does_not() {
        let here = std::env::temp_dir();
        assert_eq!(standing(&here.join("no/such/directory")).unwrap(), here);
        assert_eq!(standing(Path::new("no/such/directory")).unwrap(), Path::new("."));
        assert_eq!(standing(Path::new("/")).unwrap(), Path::new("/"));
        let file = std::env::current_exe().unwrap();
        assert!(standing(&file).is_err() && standing(&file.join("below")).is_err());
    }
}
