//! Owns what was named: torrent files, standard input, URLs and magnet links. Files are opened before
//! the process shuts itself in, and read when it is their turn.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::ceiling::{Ceiling, too_long};
use crate::error::Fatal;
use crate::protocol::magnet::Magnet;
use crate::protocol::tracker::Scheme;
use crate::protocol::url::shown;

/// The name of standard input.
pub const STANDARD_INPUT: &str = "-";

/// A torrent, as it was named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named<'a> {
    /// A magnet link.
    Link(&'a str),
    /// Where a torrent file is to be fetched by HTTP.
    Url(&'a str),
    /// Standard input.
    Input,
    /// A torrent file.
    File(&'a Path),
}

impl<'a> Named<'a> {
    /// What is meant by what was typed.
    pub fn of(typed: &'a Path) -> Self {
        match typed.to_str() {
            _ if typed == STANDARD_INPUT => Self::Input,
            Some(link) if Magnet::is_meant(link) => Self::Link(link),
            Some(url) if Scheme::of(url) == Some(Scheme::Http) => Self::Url(url),
            _ => Self::File(typed),
        }
    }

    /// How it is called where something is said about it. No secret of a URL or a link is in it.
    pub fn called(self) -> String {
        match self {
            Self::Link(link) => match Magnet::parse(link) {
                Ok(magnet) => format!("the magnet link of {}", magnet.info_hash),
                Err(_) => "the magnet link".to_owned(),
            },
            Self::Url(url) => shown(url),
            Self::Input => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Opens what can't be opened later, and reads what can't be read later.
    ///
    /// # Errors
    /// It can't be.
    pub fn open(self, ceiling: Ceiling) -> Result<Opened, Fatal> {
        let unreadable = |error| Fatal::ReadTorrent(self.called().into(), error);
        match self {
            Self::Link(_) | Self::Url(_) => Ok(Opened::Elsewhere),
            Self::Input => read(io::stdin().lock(), None, ceiling, unreadable).map(Opened::Bytes),
            Self::File(path) => {
                let file = File::open(path).map_err(unreadable)?;
                if file.metadata().map_err(unreadable)?.is_file() {
                    return Ok(Opened::File(file));
                }
                // A pipe: whoever writes to it does not wait.
                read(file, None, ceiling, unreadable).map(Opened::Bytes)
            }
        }
    }
}

/// Whether a name is that of a torrent rather than of a directory: one that is there, for a file.
pub fn is_torrent(typed: &Path) -> bool {
    let has_extension = || {
        let name = typed.as_os_str().as_bytes();
        name.len() > 8 && name.to_ascii_lowercase().ends_with(b".torrent") && typed.is_file()
    };
    match Named::of(typed) {
        Named::File(_) => has_extension(),
        Named::Link(_) | Named::Url(_) | Named::Input => true,
    }
}

/// What was named, as far as it is here.
#[derive(Debug)]
pub enum Opened {
    /// Others have it.
    Elsewhere,
    /// A regular file.
    File(File),
    /// What was in a pipe.
    Bytes(Vec<u8>),
}

impl Opened {
    /// Bytes of memory that it takes until its turn.
    pub fn taken(&self) -> u64 {
        if let Self::Bytes(bytes) = self { bytes.len() as u64 } else { 0 }
    }

    /// The torrent file; nothing, if others have it.
    ///
    /// # Errors
    /// It can't be read, or is too long.
    pub fn read(self, named: Named<'_>, ceiling: Ceiling) -> Result<Vec<u8>, Fatal> {
        let unreadable = |error| Fatal::ReadTorrent(named.called().into(), error);
        match self {
            Self::Elsewhere => Ok(Vec::new()),
            Self::Bytes(bytes) => Ok(bytes),
            Self::File(file) => {
                let length = file.metadata().map_err(unreadable)?.len();
                read(file, Some(length), ceiling, unreadable)
            }
        }
    }
}

/// Never more than there is room for, even if it grows meanwhile.
fn read(
    from: impl Read,
    length: Option<u64>,
    ceiling: Ceiling,
    unreadable: impl Fn(io::Error) -> Fatal,
) -> Result<Vec<u8>, Fatal> {
    let limit = ceiling.room_for_torrent(length)?;
    let mut bytes = Vec::new();
    if let Some(length) = length {
        bytes.reserve_exact(usize::try_from(length + 1).unwrap_or(0));
    }
    let read = from.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match (read as u64 > limit, length) {
        (false, _) => Ok(bytes),
        (true, None) => Err(ceiling.endless()),
        (true, Some(_)) => Err(too_long(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_told_from_how_it_looks() {
        let cases = [
            ("-", Named::Input),
            ("./-", Named::File(Path::new("./-"))),
            ("magnet:?xt=x", Named::Link("magnet:?xt=x")),
            ("MAGNET:?", Named::Link("MAGNET:?")),
            ("http://a/b", Named::Url("http://a/b")),
            ("HTTPS://a", Named::Url("HTTPS://a")),
            ("http:/a/b", Named::File(Path::new("http:/a/b"))),
            ("ftp://a/b", Named::File(Path::new("ftp://a/b"))),
            ("a.torrent", Named::File(Path::new("a.torrent"))),
            ("", Named::File(Path::new(""))),
        ];
        for (typed, named) in cases {
            assert_eq!(Named::of(Path::new(typed)), named, "{typed}");
        }
    }

    #[test]
    fn secrets_are_not_called() {
        let hash = "0123456789012345678901234567890123456789";
        let link = format!("magnet:?tr=http://a/secret&xt=urn:btih:{hash}&dn=secret");
        let cases = [
            ("https://me:secret@a.example:1/secret?secret", "https://a.example:1".to_owned()),
            (&link, format!("the magnet link of {hash}")),
            ("magnet:?secret", "the magnet link".to_owned()),
        ];
        for (typed, called) in cases {
            assert_eq!(Named::of(Path::new(typed)).called(), called);
        }
    }
}
