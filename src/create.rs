//! Makes a torrent file: hashes what it is of, writes it, and says by which hash and link others can
//! ask for it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use log::{info, warn};
use rustix::fs::{Access, CWD, RenameFlags, access, renameat_with};
use rustix::io::Errno;

use crate::arguments::Making;
use crate::engine::create::Payload;
use crate::error::Fatal;
use crate::limits::{RECHECK_THREADS_MAX, RENAMED_MAX, TORRENT_LENGTH_MAX_BYTES};
use crate::progress::Screen;
use crate::protocol::creation::{Content, Creation, default_piece_length};
use crate::protocol::magnet::Magnet;
use crate::system::signals;
use crate::text::Foreign;
use crate::units::{Bytes, Count, Geometry};

/// Makes the torrent that was asked for. Its info-hash and its magnet link go to standard output,
/// each on a line; where the torrent itself goes there, to standard error.
///
/// # Errors
/// What can't be read or written, and what no torrent can be made of. Nothing is written then.
pub fn create(making: &Making, screen: &Screen) -> Result<(), Fatal> {
    let deaf = |error| Fatal::System("hear signals", error);
    let caught = signals::catch().map_err(deaf)?;
    let payload = Payload::find(&making.path)?;
    let to = match &making.torrent {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.clone()),
        None => Some(PathBuf::from(format!("{}.torrent", payload.name))),
    };
    // Hashing may take hours: what can be known to fail fails before.
    to.as_deref().map_or(Ok(()), can_be_made)?;
    let geometry = geometry(&payload, making.piece_length)?;
    doubt(&payload);
    info!(
        "{}: {} in {}, {} of {}",
        Foreign::new(&payload.name),
        Bytes(geometry.total()),
        Count(payload.layout.files().len(), "file"),
        Count(geometry.pieces() as usize, "piece"),
        Bytes(u64::from(geometry.piece_length()))
    );
    let signals = caught.listen().map_err(deaf)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut show = |progress: &_| screen.show(progress, &[], Instant::now());
    let hashes =
        payload.hash(geometry, threads.min(RECHECK_THREADS_MAX), &signals.first, &mut show)?;
    screen.clear();
    let files = payload.files();
    let creation = Creation {
        name: &payload.name,
        content: match payload.is_directory {
            true => Content::Directory(&files),
            false => Content::File(geometry.total()),
        },
        piece_length: geometry.piece_length(),
        hashes: &hashes,
        trackers: &making.trackers,
        web_seeds: &making.web_seeds,
        private: making.private,
    };
    let (info_hash, torrent) = creation.encode();
    if torrent.len() as u64 > TORRENT_LENGTH_MAX_BYTES {
        let (length, most) = (Bytes(torrent.len() as u64), Bytes(TORRENT_LENGTH_MAX_BYTES));
        warn!("the torrent has {length}: this program itself reads {most} at most");
    }
    let mut said = vec![info_hash.to_string()];
    if !making.quiet {
        said.push(Magnet::link(info_hash, &payload.name, &making.trackers, &making.web_seeds));
    }
    match to {
        Some(to) => {
            write(&to, &torrent)?;
            info!("{} is written", to.display());
            // A closed or full standard output is nobody's fault here.
            let _ignored = io::stdout().write_all(format!("{}\n", said.join("\n")).as_bytes());
        }
        None => {
            let mut out = io::stdout().lock();
            let written = out.write_all(&torrent).and_then(|()| out.flush());
            written.map_err(|error| Fatal::FileIo("write", "standard output".into(), error))?;
            if !making.quiet {
                said.iter().for_each(|line| screen.line(line));
            }
        }
    }
    Ok(())
}

fn geometry(payload: &Payload, piece_length: Option<u32>) -> Result<Geometry, Fatal> {
    let total = payload.layout.total();
    let piece_length = piece_length.unwrap_or_else(|| default_piece_length(total));
    let geometry = Geometry::new(total, piece_length);
    let fits = |geometry: &Geometry| u64::from(geometry.pieces()) * 20 < TORRENT_LENGTH_MAX_BYTES;
    geometry.filter(fits).ok_or_else(|| {
        let (total, length) = (Bytes(total), Bytes(u64::from(piece_length)));
        Fatal::Usage(format!(
            "{total} in pieces of {length}: too many pieces, choose a larger --piece-length"
        ))
    })
}

/// Says what is left out, and which names others may not take.
fn doubt(payload: &Payload) {
    let odd = payload.odd_names().into_iter();
    let odd = odd.map(|(path, why)| format!("{}: {why}", Foreign::new(path)));
    let others =
        payload.others.iter().map(|path| Foreign::new(path.as_os_str().as_encoded_bytes()));
    let others = others.map(|path| format!("{path} is left out: it is no regular file"));
    let mut doubts = odd.chain(others);
    doubts.by_ref().take(RENAMED_MAX).for_each(|doubt| warn!("{doubt}"));
    let more = doubts.count();
    if more > 0 {
        warn!("and {more} more like these");
    }
}

/// Whether there is no such file yet, and a directory for it.
fn can_be_made(path: &Path) -> Result<(), Fatal> {
    let failed = |error| Fatal::CreateFile(path.to_owned(), error);
    if fs::symlink_metadata(path).is_ok() {
        return Err(failed(taken()));
    }
    access(directory_of(path), Access::WRITE_OK).map_err(|error| failed(error.into()))
}

fn taken() -> io::Error {
    let why = "it is there already; remove it, or name another file behind PATH";
    io::Error::new(io::ErrorKind::AlreadyExists, why)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file that was not there: under another name at first, so that nobody sees a half of it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Fatal> {
    let half = directory_of(path).join(format!(".rusty_torrent.{}", std::process::id()));
    let failed = |error| Fatal::CreateFile(path.to_owned(), error);
    let mut file = File::options().write(true).create_new(true).open(&half).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let written = written.map_err(|error| Fatal::FileIo("write", path.to_owned(), error));
    let named = written.and_then(|()| {
        match renameat_with(CWD, &half, CWD, path, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Err(failed(taken())),
            // Not every file system can do it at once.
            Err(Errno::INVAL | Errno::NOSYS) => {
                can_be_made(path).and_then(|()| fs::rename(&half, path).map_err(failed))
            }
            renamed => renamed.map_err(|error| failed(error.into())),
        }
    });
    if named.is_err() {
        let _half_of_it = fs::remove_file(&half);
    }
    named
}
