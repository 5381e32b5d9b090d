//! Owns the file of the resume record, `.NAME.rusty_torrent` in the output directory, and the lock
//! on it that keeps a second run off the same data.
//!
//! The record is replaced whole, by a rename, so it is never half written. It is there to save
//! time: where it can't be made, read or locked, the download goes on without it. Only a lock that
//! another run holds is an error.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use log::debug;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::Fatal;
use crate::limits::{NAME_LENGTH_MAX_BYTES, RECORD_LOCK_TRIES_MAX};
use crate::system::storage::directory::Directory;

const SUFFIX: &str = ".rusty_torrent";
const TEMPORARY_SUFFIX: &str = ".tmp";
const ASIDE_SUFFIX: &str = ".parts";

/// The record's file, and the lock on it.
#[derive(Debug)]
pub struct ResumeFile {
    directory: Directory,
    name: PathBuf,
    temporary: PathBuf,
    aside: PathBuf,
    /// The record's file as it is now, locked.
    held: Option<File>,
}

impl ResumeFile {
    /// Looks for the record of the torrent called `name` in `directory` and locks it. Returns its
    /// bytes as well, up to `length_max`; none if there is no record, or no more than that can be
    /// said.
    ///
    /// # Errors
    /// [`Fatal::Busy`] if another run holds it.
    pub fn find(
        directory: Directory,
        name: &str,
        length_max: u64,
    ) -> Result<(Self, Vec<u8>), Fatal> {
        let [name, temporary, aside] = names_beside(name).map(PathBuf::from);
        let mut file = Self { directory, name, temporary, aside, held: None };
        let bytes = match file.lock(false)? {
            Some(held) => {
                let mut bytes = Vec::new();
                let read = (&held).take(length_max).read_to_end(&mut bytes);
                file.held = Some(held);
                read.map(|_| bytes).unwrap_or_default()
            }
            None => Vec::new(),
        };
        Ok((file, bytes))
    }

    /// The bytes of the record of the torrent called `name`, if there is one, up to `length_max`, and
    /// where what is kept aside would lie. It is not locked, and nothing is made.
    pub fn peek(directory: &mut Directory, name: &str, length_max: u64) -> (Vec<u8>, PathBuf) {
        let [name, _, aside] = names_beside(name).map(PathBuf::from);
        let mut bytes = Vec::new();
        if let Ok(Some((file, _))) = directory.open_to_read(&name)
            && file.take(length_max).read_to_end(&mut bytes).is_err()
        {
            bytes.clear();
        }
        (bytes, aside)
    }

    /// Makes the record's file, if there is none yet, and locks it.
    ///
    /// # Errors
    /// [`Fatal::Busy`] if another run was quicker.
    pub fn hold(&mut self) -> Result<(), Fatal> {
        if self.held.is_none() {
            self.held = self.lock(true)?;
        }
        Ok(())
    }

    /// Opens and locks the file that has the record's name.
    fn lock(&mut self, make: bool) -> Result<Option<File>, Fatal> {
        for _ in 0..RECORD_LOCK_TRIES_MAX {
            let opened = if make {
                self.directory.open_to_write(&self.name).map(Some)
            } else {
                self.directory.open_to_read(&self.name)
            };
            let file = match opened {
                Ok(Some((file, _))) => file,
                Ok(None) => return Ok(None),
                Err(error) => {
                    debug!("no resume record: {error}");
                    return Ok(None);
                }
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(self.busy()),
                Err(error) => debug!("no lock on the resume record: {error}"),
            }
            // The other run may have replaced or removed it between the two steps.
            match self.directory.is_named(&file, &self.name) {
                Ok(true) => return Ok(Some(file)),
                Ok(false) => {}
                Err(error) => {
                    debug!("no resume record: {error}");
                    return Ok(None);
                }
            }
        }
        Err(self.busy())
    }

    fn busy(&self) -> Fatal {
        Fatal::Busy(self.directory.path_of(&self.name))
    }

    /// Puts `bytes` in the place of the record.
    ///
    /// # Errors
    /// The file system refuses; the old record stays.
    pub fn save(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.write(bytes);
        if written.is_err() {
            self.directory.remove(&self.temporary);
        }
        written
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let refused = |fatal: Fatal| io::Error::other(fatal.to_string());
        let (mut file, _) = self.directory.open_to_write(&self.temporary).map_err(refused)?;
        // Locked before it has the name, so that there is no moment without a lock.
        let _lockless = flock(&file, FlockOperation::NonBlockingLockExclusive);
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        self.directory.rename(&self.temporary, &self.name)?;
        self.held = Some(file);
        Ok(())
    }

    /// Removes the record, what a run that was killed left of its next one, and what was kept aside:
    /// nobody needs it any more.
    pub fn remove(self) {
        self.directory.remove(&self.aside);
        self.forget();
    }

    /// Removes the record, and what a run that was killed left of its next one.
    pub fn forget(self) {
        self.directory.remove(&self.temporary);
        if self.held.is_some() {
            self.directory.remove(&self.name);
        }
    }

    /// Where what is kept aside lies below the output directory.
    pub fn aside(&self) -> &Path {
        &self.aside
    }

    /// Its path, for people.
    pub fn path(&self) -> PathBuf {
        self.directory.path_of(&self.name)
    }
}

/// What the record of the torrent called `name` is called, until it is whole, and what is kept aside.
/// None is `name` itself: 235 dots and the suffix, say, are no longer than a name may be.
fn names_beside(name: &str) -> [String; 3] {
    let mut kept = NAME_LENGTH_MAX_BYTES - 1 - SUFFIX.len() - ASIDE_SUFFIX.len();
    loop {
        let start = (0..=kept).rev().find_map(|end| name.get(..end)).unwrap_or_default();
        let record = format!(".{start}{SUFFIX}");
        let (temporary, aside) =
            (format!("{record}{TEMPORARY_SUFFIX}"), format!("{record}{ASIDE_SUFFIX}"));
        if kept == 0 || ![record.as_str(), &temporary, &aside].contains(&name) {
            return [record, temporary, aside];
        }
        kept -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_torrent_has_the_name_of_its_own_record() {
        let dots = ".".repeat(235);
        let cases = [
            ("a.iso".to_owned(), ".a.iso.rusty_torrent"),
            ("ü".repeat(127), "ü.rusty_torrent"),
            ("x".repeat(255), "x.rusty_torrent"),
            (format!("{dots}{SUFFIX}"), "..rusty_torrent"),
            (format!("{dots}{SUFFIX}{TEMPORARY_SUFFIX}"), "..rusty_torrent"),
            (format!("{dots}{SUFFIX}{ASIDE_SUFFIX}"), "..rusty_torrent"),
        ];
        for (name, end) in cases {
            let [record, temporary, aside] = names_beside(&name);
            assert!(record.starts_with('.') && record.ends_with(end), "{record}");
            assert!(aside.len() <= NAME_LENGTH_MAX_BYTES && temporary.len() < aside.len());
            assert!(![record, temporary, aside].contains(&name), "{name}");
        }
    }
}
