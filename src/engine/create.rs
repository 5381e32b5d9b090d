//! Owns what a torrent is made of: finds the files, and hashes them on all cores. A file that
//! changes meanwhile would make a torrent that nobody can complete, so that it is an error.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::Receiver;

use crate::engine::coordinator::Progress;
use crate::engine::recheck::{Search, examine, survey};
use crate::engine::watch::watch;
use crate::error::Fatal;
use crate::protocol::names::{Refused, SafePath};
use crate::protocol::resume::FileState;
use crate::system::storage::layout::{Layout, OutputFile, OutputKind};
use crate::system::tree::Tree;
use crate::text::Foreign;
use crate::units::{Geometry, PieceIndex};

/// What a torrent is made of.
#[derive(Debug)]
pub struct Payload {
    /// The name that the torrent gives it.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The files.
    pub layout: Layout,
    /// What lies in the directory and is no regular file.
    pub others: Vec<PathBuf>,
    /// The directory that the files are below.
    dir: PathBuf,
    /// How the files looked when they were found.
    states: Vec<FileState>,
}

impl Payload {
    /// Finds the files of what is at `path`.
    ///
    /// # Errors
    /// It can't be read, it has no bytes, or a name is not UTF-8.
    pub fn find(path: &Path) -> Result<Self, Fatal> {
        let failed = |error| Fatal::FileIo("read", path.to_owned(), error);
        let found = fs::metadata(path).map_err(failed)?;
        let real = path.canonicalize().map_err(failed)?;
        // `.` and `..` are no names; a link's own name is.
        let name = path.file_name().or_else(|| real.file_name());
        let name = name.ok_or_else(|| refused(path, "it has no name"))?;
        let name = text(Path::new(name))?.to_owned();
        let (dir, tree) = if found.is_dir() {
            (path.to_owned(), Tree::below(path)?)
        } else if found.is_file() {
            let file = real.file_name().map(PathBuf::from).unwrap_or_default();
            let dir = real.parent().map(Path::to_path_buf).unwrap_or_default();
            (dir, Tree { files: vec![(file, found.len())], others: Vec::new() })
        } else {
            return Err(refused(path, "it is neither a file nor a directory"));
        };
        let mut files = Vec::with_capacity(tree.files.len());
        for (path, length) in tree.files {
            if found.is_dir() {
                text(&path)?;
            }
            files.push(OutputFile { path, length, kind: OutputKind::Data });
        }
        let (layout, others) = (Layout::new(files), tree.others);
        if layout.total() == 0 {
            return Err(refused(path, "there are no bytes in it"));
        }
        let states = survey(&dir, &layout)?;
        Ok(Self { name, is_directory: found.is_dir(), layout, others, dir, states })
    }

    /// The files' paths as the torrent gives them, and their bytes.
    pub fn files(&self) -> Vec<(&str, u64)> {
        let files = self.layout.files().iter();
        files.map(|file| (file.path.to_str().unwrap_or_default(), file.length)).collect()
    }

    /// Names that this program itself would not take as they are, each with what becomes of it.
    pub fn odd_names(&self) -> Vec<(&str, String)> {
        let reason = |safe: &Result<SafePath, Refused>| match safe {
            Ok(safe) => safe.is_changed().then(|| format!("would be written as {}", safe.as_str())),
            Err(refused) => Some(format!("would be refused: {refused}")),
        };
        let top = SafePath::new(None, [self.name.as_bytes()]);
        let mut odd: Vec<_> =
            reason(&top).map(|why| (self.name.as_str(), why)).into_iter().collect();
        if let Some(top) = top.ok().filter(|_| self.is_directory) {
            for (path, _) in self.files() {
                let safe = SafePath::new(Some(&top), path.split('/').map(str::as_bytes));
                odd.extend(reason(&safe).map(|why| (path, why)));
            }
        }
        odd
    }

    /// The hashes of the pieces, by so many threads.
    ///
    /// # Errors
    /// A file can't be read, it changed since it was found, or a signal came.
    pub fn hash(
        &self,
        geometry: Geometry,
        threads: usize,
        signals: &Receiver<()>,
        show: &mut dyn FnMut(&Progress),
    ) -> Result<Vec<[u8; 20]>, Fatal> {
        let hashes = Mutex::new(vec![[0; 20]; geometry.pieces() as usize]);
        let keep = |piece: PieceIndex, hash| {
            let mut hashes = hashes.lock().unwrap_or_else(PoisonError::into_inner);
            hashes.get_mut(piece.index()).map(|place| *place = hash).is_some()
        };
        let stopped = "stopped before everything was hashed";
        let found = watch(geometry.total(), stopped, signals, show, &|stop, progress| {
            let (dir, layout) = (&self.dir, &self.layout);
            let search = Search {
                dir,
                layout,
                geometry,
                wanted: None,
                record: None,
                threads,
                stop,
                progress,
            };
            examine(&search, &keep)
        })?;
        let states = self.states.iter().zip(survey(&self.dir, &self.layout)?);
        for (file, (before, after)) in self.layout.files().iter().zip(states) {
            if *before != after || after.length != file.length {
                return Err(changed(self.dir.join(&file.path)));
            }
        }
        if !found.pieces.is_full() {
            return Err(changed(self.dir.clone()));
        }
        Ok(hashes.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

fn changed(path: PathBuf) -> Fatal {
    Fatal::FileIo("hash", path, io::Error::other("it changed meanwhile"))
}

fn refused(path: &Path, why: &str) -> Fatal {
    Fatal::NoTorrentOf(format!("{}: {why}", path.display()))
}

/// The path as text, which names in a torrent are.
fn text(path: &Path) -> Result<&str, Fatal> {
    path.to_str().ok_or_else(|| {
        let shown = Foreign::new(path.as_os_str().as_encoded_bytes());
        Fatal::NoTorrentOf(format!("{shown}: the name is not UTF-8; rename it"))
    })
}
