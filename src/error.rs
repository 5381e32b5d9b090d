//! Owns what ends a run: the exit statuses, all in one table, and [`Fatal`], the errors that lead
//! to them. A peer's mistake is never one of them: a session's end and a tracker's failure are
//! types of their own and do not convert into `Fatal`.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::units::Bytes;

/// Exit statuses: aria2's numbers wherever the meaning is shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Status {
    /// Every byte is in place and was verified.
    #[default]
    Done = 0,
    /// Something else went wrong: the torrent file can't be read, a thread can't be started.
    Unknown = 1,
    /// No piece was verified for as long as `--timeout` allows.
    Timeout = 2,
    /// There is nobody to ask: no tracker that can be spoken to, no mirror and no `--peer`; or the
    /// server that has the torrent file does not answer.
    Network = 6,
    /// Stopped by SIGINT, SIGTERM or SIGHUP before the end.
    Unfinished = 7,
    /// The file system is full.
    DiskFull = 9,
    /// Another run is downloading the same torrent into the same directory.
    Busy = 11,
    /// A file can't be created, opened or cut to its length.
    CreateFile = 16,
    /// Reading or writing a file failed.
    FileIo = 17,
    /// A directory can't be opened or made.
    MakeDirectory = 18,
    /// The name of a host given with `--peer` or `--proxy`, or in a URL, has no address.
    NameResolution = 19,
    /// The torrent file is not bencode.
    NotBencode = 25,
    /// The torrent file is bencode, but no torrent that can be downloaded.
    BadTorrent = 26,
    /// The command line is wrong.
    BadOption = 28,
    /// Read-only verification found files that are missing or damaged.
    Checksum = 32,
    /// Everything is there, but the command of `--on-complete` failed.
    Hook = 33,
}

impl Status {
    /// Every status with what it means, in order: what `--help` prints and README repeats.
    pub const TABLE: &[(Self, &str)] = &[
        (Self::Done, "everything is there and verified"),
        (Self::Unknown, "another error, e.g. the torrent file can't be read"),
        (Self::Timeout, "nothing new for --timeout or --metadata-timeout seconds"),
        (Self::Network, "nobody to ask: no usable tracker, mirror or peer, no server"),
        (Self::Unfinished, "stopped by SIGINT, SIGTERM or SIGHUP"),
        (Self::DiskFull, "not enough room on the disk"),
        (Self::Busy, "another run is downloading the same to the same place"),
        (Self::CreateFile, "a file can't be created, opened or shortened"),
        (Self::FileIo, "reading or writing a file failed"),
        (Self::MakeDirectory, "a directory can't be opened or made"),
        (Self::NameResolution, "a host in --peer, --proxy or a URL has no address"),
        (Self::NotBencode, "the torrent file is none, e.g. a web page"),
        (Self::BadTorrent, "the torrent is damaged, unsafe or of an unknown kind"),
        (Self::BadOption, "wrong options or arguments"),
        (Self::Checksum, "--verify found files that are missing or damaged"),
        (Self::Hook, "everything is there, but the command of --on-complete failed"),
    ];

    /// The number the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// An error that ends the run. Its text says what failed, on what, and where it helps what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fatal {
    /// The command line can't be understood.
    Usage(String),
    /// The torrent file can't be opened or read.
    ReadTorrent(PathBuf, io::Error),
    /// The torrent file can't be fetched from this URL, of which no secret is told; why.
    FetchTorrent(String, String),
    /// The torrent file is not bencode.
    NotBencode(String),
    /// There can't be a torrent of this: the path, and why.
    NoTorrentOf(String),
    /// A torrent, of which something was selected that it does not have; why.
    Selection(String, String),
    /// The torrent file is bencode, but it describes nothing that can be downloaded safely.
    BadTorrent(String),
    /// A directory of the output can't be made, or something else stands in its place.
    MakeDirectory(PathBuf, io::Error),
    /// A file can't be created, opened or brought to its length.
    CreateFile(PathBuf, io::Error),
    /// A file can't be read or written. The verb says which.
    FileIo(&'static str, PathBuf, io::Error),
    /// Standard output can't be written.
    Output(io::Error),
    /// The file system has no room for the rest.
    DiskFull {
        /// The file that was being written, or the output directory.
        path: PathBuf,
        /// Bytes that were still needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes of them that are to stay free.
        kept: u64,
    },
    /// Another run holds the lock on this resume record.
    Busy(PathBuf),
    /// There is no tracker that can be spoken to, no mirror of use, and no peer was given.
    NobodyToAsk(String),
    /// The host of a `--peer` has no address.
    NameResolution(String, io::Error),
    /// No new piece was verified within the time allowed; the text names what stands in the way.
    Stalled(String),
    /// A signal asked for the end; the text says how far it got.
    Stopped(String),
    /// Files are not as they should be; how many of them.
    Checksum(String),
    /// Everything is there, but the command that was to be run then failed.
    Hook(String),
    /// The machine refused something that the run can't do without, such as a thread.
    System(&'static str, io::Error),
}

impl Fatal {
    /// Whether a file is not as it should be: somebody else changed it, or the disk fails.
    pub fn blames_a_file(&self) -> bool {
        match self {
            Self::CreateFile(_, error) | Self::MakeDirectory(_, error) => !is_full(error),
            // A disk that is full when it is to flush has lost what was written.
            Self::FileIo(..) => true,
            _ => false,
        }
    }

    /// Whether its text says which torrent it is about.
    pub fn names_the_torrent(&self) -> bool {
        matches!(
            self,
            Self::ReadTorrent(..)
                | Self::FetchTorrent(..)
                | Self::NotBencode(_)
                | Self::BadTorrent(_)
        )
    }

    /// The exit status that belongs to it.
    pub fn status(&self) -> Status {
        match self {
            Self::Usage(_) | Self::Selection(..) => Status::BadOption,
            Self::ReadTorrent(..) | Self::System(..) => Status::Unknown,
            Self::NotBencode(_) => Status::NotBencode,
            Self::BadTorrent(_) | Self::NoTorrentOf(_) => Status::BadTorrent,
            Self::MakeDirectory(_, error)
            | Self::CreateFile(_, error)
            | Self::FileIo(.., error)
            | Self::Output(error)
                if is_full(error) =>
            {
                Status::DiskFull
            }
            Self::MakeDirectory(..) => Status::MakeDirectory,
            Self::CreateFile(..) => Status::CreateFile,
            Self::FileIo(..) | Self::Output(_) => Status::FileIo,
            Self::DiskFull { .. } => Status::DiskFull,
            Self::Busy(_) => Status::Busy,
            Self::NobodyToAsk(_) | Self::FetchTorrent(..) => Status::Network,
            Self::NameResolution(..) => Status::NameResolution,
            Self::Stalled(_) => Status::Timeout,
            Self::Stopped(_) => Status::Unfinished,
            Self::Checksum(_) => Status::Checksum,
            Self::Hook(_) => Status::Hook,
        }
    }

    /// Whether a file or a directory could not be opened because the process, or the system, has
    /// as many open as it may.
    pub fn is_out_of_descriptors(&self) -> bool {
        match self {
            Self::CreateFile(_, error)
            | Self::MakeDirectory(_, error)
            | Self::FileIo(.., error) => {
                matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) => write!(f, "{why}; see rusty_torrent --help"),
            Self::ReadTorrent(path, error) => {
                write!(f, "can't read {}: {}", path.display(), Plain(error))
            }
            Self::FetchTorrent(url, why) => write!(f, "can't fetch the torrent from {url}: {why}"),
            Self::NotBencode(why) => {
                write!(f, "not a torrent file: {why}; is it a web page, or cut short?")
            }
            Self::NoTorrentOf(why) => write!(f, "can't make a torrent of {why}"),
            Self::Selection(name, why) => {
                write!(f, "{name}: {why}; rusty_torrent --show lists its files")
            }
            Self::BadTorrent(why) => write!(f, "torrent refused: {why}"),
            Self::MakeDirectory(path, error) => {
                write!(f, "can't open or make the directory {}: {}", path.display(), Hinted(error))
            }
            Self::CreateFile(path, error) => {
                write!(f, "can't open {}: {}", path.display(), Hinted(error))
            }
            Self::FileIo(verb, path, error) => {
                write!(f, "can't {verb} {}: {}", path.display(), Hinted(error))
            }
            Self::Output(error) => write!(f, "can't write to standard output: {}", Hinted(error)),
            Self::DiskFull { path, needed, free, kept } => {
                let (path, needed, free) = (path.display(), Bytes(*needed), Bytes(*free));
                write!(f, "no room for {path}: {needed} needed, {free} free")?;
                if *kept > 0 {
                    write!(f, " and {} of that to be kept", Bytes(*kept))?;
                }
                f.write_str(HINT_ROOM)
            }
            Self::Busy(record) => write!(
                f,
                "another run is downloading this: it holds {}; wait for it or stop it",
                record.display()
            ),
            Self::NobodyToAsk(why) => write!(f, "nobody to ask: {why}"),
            Self::NameResolution(host, error) => {
                write!(f, "no address for {host}: {}", Plain(error))
            }
            Self::Checksum(how_many) => {
                write!(f, "{how_many}; the same command without --verify fetches what is not right")
            }
            Self::Stalled(why) | Self::Stopped(why) => write!(f, "{why}"),
            Self::Hook(why) => {
                write!(f, "everything is there, but the command of --on-complete {why}")
            }
            Self::System(what, error) => {
                let again = Errno::from_io_error(error) == Some(Errno::AGAIN);
                let hint = if again { HINT_THREADS } else { "" };
                write!(f, "can't {what}: {}{hint}", Plain(error))
            }
        }
    }
}

impl std::error::Error for Fatal {}

const HINT_ROOM: &str = "; make room and run the same command again";

const HINT_LENGTH: &str =
    "; the file system (FAT takes 4 GiB), or ulimit -f, allows no file of this length";
const HINT_THREADS: &str = "; ulimit -u, ulimit -v or the container may allow no more";

/// A system's error in its own words, without the number that the library puts behind them.
struct Plain<'a>(&'a io::Error);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let number = self.0.raw_os_error().map(|number| format!(" (os error {number})"));
        f.write_str(number.and_then(|number| text.strip_suffix(&number)).unwrap_or(&text))
    }
}

/// The same, and what is to be done about it where that is known. Not every call lets a file system
/// that is full say how much room would be needed.
struct Hinted<'a>(&'a io::Error);

impl fmt::Display for Hinted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match Errno::from_io_error(self.0) {
            _ if is_full(self.0) => HINT_ROOM,
            Some(Errno::FBIG) => HINT_LENGTH,
            _ => "",
        };
        write!(f, "{}{hint}", Plain(self.0))
    }
}

/// Whether there is no room, or none that the user's quota allows.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_has_its_own_status_and_hint_whatever_failed() {
        let make = |errno: Errno| Fatal::MakeDirectory("f".into(), errno.into());
        let create = |errno: Errno| Fatal::CreateFile("f".into(), errno.into());
        let flush = |errno: Errno| Fatal::FileIo("flush", "f".into(), errno.into());
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            for fatal in [make(errno), create(errno), flush(errno)] {
                assert_eq!(fatal.status(), Status::DiskFull);
                assert!(fatal.to_string().ends_with(HINT_ROOM), "{fatal}");
            }
        }
        assert_eq!(make(Errno::IO).status(), Status::MakeDirectory);
        assert_eq!(create(Errno::IO).status(), Status::CreateFile);
        assert_eq!(flush(Errno::IO).status(), Status::FileIo);
        assert_eq!(flush(Errno::IO).to_string(), "can't flush f: Input/output error");
    }

    #[test]
    fn the_table_is_in_order_and_names_each_status_once() {
        let codes: Vec<u8> = Status::TABLE.iter().map(|(status, _)| status.code()).collect();
        assert_eq!(codes, [0, 1, 2, 6, 7, 9, 11, 16, 17, 18, 19, 25, 26, 28, 32, 33]);
    }
}
