//! Torrents made for one test: a payload that follows from a seed, the torrent file that describes
//! it, and the comparison of what was downloaded with what it should be.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha1::{Digest, Sha1};

/// What a seeder needs to know.
#[derive(Clone)]
pub struct Payload {
    pub info_hash: [u8; 20],
    pub piece_length: usize,
    /// Everything that is hashed, padding included.
    pub bytes: Arc<Vec<u8>>,
    /// The info dictionary.
    pub info: Arc<Vec<u8>>,
}

impl Payload {
    pub fn pieces(&self) -> usize {
        self.bytes.len().div_ceil(self.piece_length)
    }

    /// Bytes `begin..begin + length` of a piece; `None` if they aren't all in it.
    pub fn block(&self, piece: usize, begin: usize, length: usize) -> Option<&[u8]> {
        let start = piece.checked_mul(self.piece_length)?;
        let end = self.bytes.len().min(start.checked_add(self.piece_length)?);
        self.bytes.get(start..end)?.get(begin..begin.checked_add(length)?)
    }
}

/// A file of a torrent with many, or its padding (BEP 47).
#[derive(Clone)]
pub struct Entry {
    pub path: String,
    pub length: usize,
    pub pad: bool,
}

/// A file; directories are separated by `/`.
pub fn file(path: &str, length: usize) -> Entry {
    Entry { path: path.to_owned(), length, pad: false }
}

/// Padding, as tools write it.
pub fn pad(length: usize) -> Entry {
    Entry { path: format!(".pad/{length}"), length, pad: true }
}

/// A torrent and its payload.
pub struct Torrent {
    pub name: String,
    pub payload: Payload,
    /// Empty if the torrent is one file.
    entries: Vec<Entry>,
    tiers: Vec<Vec<String>>,
    mirrors: Vec<String>,
}

impl Torrent {
    /// One file of so many bytes.
    pub fn single(name: &str, length: usize, piece_length: usize) -> Self {
        let bytes = random_bytes(name, length);
        let what = format!("6:lengthi{length}e").into_bytes();
        Self::new(name, piece_length, bytes, Vec::new(), &what)
    }

    /// One file of so many pieces of zeros, which take neither memory nor time to make.
    pub fn zeros(name: &str, pieces: usize, piece_length: usize) -> Self {
        let bytes = vec![0; pieces * piece_length];
        let hashes = Sha1::digest(vec![0; piece_length]).repeat(pieces);
        let what = format!("6:lengthi{}e", bytes.len()).into_bytes();
        Self::with_hashes(name, piece_length, bytes, Vec::new(), &what, &hashes)
    }

    /// A directory with these files, in this order.
    pub fn multi(name: &str, entries: &[Entry], piece_length: usize) -> Self {
        let mut bytes = Vec::new();
        let mut files = b"5:filesl".to_vec();
        for entry in entries {
            if entry.pad {
                bytes.resize(bytes.len() + entry.length, 0);
            } else {
                bytes.extend(random_bytes(&entry.path, entry.length));
            }
            files.extend(if entry.pad { &b"d4:attr1:p"[..] } else { b"d" });
            files.extend(format!("6:lengthi{}e4:pathl", entry.length).bytes());
            entry.path.split('/').for_each(|part| string(&mut files, part.as_bytes()));
            files.extend(b"ee");
        }
        files.push(b'e');
        Self::new(name, piece_length, bytes, entries.to_vec(), &files)
    }

    fn new(
        name: &str,
        piece_length: usize,
        bytes: Vec<u8>,
        entries: Vec<Entry>,
        what: &[u8],
    ) -> Self {
        let hashes: Vec<u8> = bytes.chunks(piece_length).flat_map(Sha1::digest).collect();
        Self::with_hashes(name, piece_length, bytes, entries, what, &hashes)
    }

    fn with_hashes(
        name: &str,
        piece_length: usize,
        bytes: Vec<u8>,
        entries: Vec<Entry>,
        what: &[u8],
        hashes: &[u8],
    ) -> Self {
        let mut info = b"d".to_vec();
        info.extend(what);
        info.extend(b"4:name");
        string(&mut info, name.as_bytes());
        info.extend(format!("12:piece lengthi{piece_length}e6:pieces").bytes());
        string(&mut info, hashes);
        info.push(b'e');
        let info_hash = Sha1::digest(&info).into();
        let info = Arc::new(info);
        let payload = Payload { info_hash, piece_length, bytes: Arc::new(bytes), info };
        let (tiers, mirrors) = Default::default();
        Self { name: name.to_owned(), payload, entries, tiers, mirrors }
    }

    /// The same, but private.
    pub fn private(mut self) -> Self {
        let mut info = self.payload.info.to_vec();
        info.pop();
        info.extend(b"7:privatei1ee");
        self.payload.info_hash = Sha1::digest(&info).into();
        self.payload.info = Arc::new(info);
        self
    }

    /// A magnet link of it, with its trackers.
    pub fn magnet(&self) -> String {
        let hash: String =
            self.payload.info_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let trackers = self.tiers.iter().flatten().map(|url| format!("&tr={url}"));
        format!("magnet:?xt=urn:btih:{hash}{}", trackers.collect::<String>())
    }

    /// The same, with one tier more that has this tracker.
    pub fn tracked_by(mut self, url: &str) -> Self {
        self.tiers.push(vec![url.to_owned()]);
        self
    }

    /// The same, with one mirror more.
    pub fn mirrored_by(mut self, url: &str) -> Self {
        self.mirrors.push(url.to_owned());
        self
    }

    /// The torrent file.
    pub fn encode(&self) -> Vec<u8> {
        let mut torrent = b"d".to_vec();
        if let Some(url) = self.tiers.first().and_then(|tier| tier.first()) {
            torrent.extend(b"8:announce");
            string(&mut torrent, url.as_bytes());
            torrent.extend(b"13:announce-listl");
            for tier in &self.tiers {
                torrent.push(b'l');
                tier.iter().for_each(|url| string(&mut torrent, url.as_bytes()));
                torrent.push(b'e');
            }
            torrent.push(b'e');
        }
        torrent.extend(b"4:info");
        torrent.extend(self.payload.info.iter());
        if !self.mirrors.is_empty() {
            torrent.extend(b"8:url-listl");
            self.mirrors.iter().for_each(|url| string(&mut torrent, url.as_bytes()));
            torrent.push(b'e');
        }
        torrent.push(b'e');
        torrent
    }

    /// Writes the torrent file to `dir`; returns where it is.
    pub fn write_to(&self, dir: &Path) -> PathBuf {
        let path = dir.join(format!("{}.torrent", self.name));
        fs::write(&path, self.encode()).unwrap();
        path
    }

    /// The files that belong on disk, below the output directory, with their bytes.
    pub fn files(&self) -> Vec<(PathBuf, &[u8])> {
        let files = self.ranges().into_iter();
        files.map(|(path, range)| (path, &self.payload.bytes[range])).collect()
    }

    /// The same, with which bytes of the payload they have.
    fn ranges(&self) -> Vec<(PathBuf, Range<usize>)> {
        if self.entries.is_empty() {
            return vec![(self.name.clone().into(), 0..self.payload.bytes.len())];
        }
        let mut at = 0;
        let mut files = Vec::new();
        for entry in &self.entries {
            let range = at..at + entry.length;
            at = range.end;
            if !entry.pad {
                files.push((Path::new(&self.name).join(&entry.path), range));
            }
        }
        files
    }

    /// Writes the payload to `dir`, as a seeder has it.
    pub fn write_payload_to(&self, dir: &Path) {
        for (path, bytes) in self.files() {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// Writes these pieces to `dir`, as an interrupted download leaves them: in a file there are
    /// holes between them, and a file with nothing of them is not there.
    pub fn write_pieces_to(&self, dir: &Path, pieces: &[usize]) {
        for (path, range) in self.ranges() {
            let path = dir.join(path);
            for piece in pieces {
                let begin = piece * self.payload.piece_length;
                let from = begin.max(range.start);
                let to = range.end.min(begin + self.payload.piece_length);
                if from < to {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    let mut options = File::options();
                    let file =
                        options.create(true).truncate(false).write(true).open(&path).unwrap();
                    file.set_len(range.len() as u64).unwrap();
                    let at = (from - range.start) as u64;
                    file.write_all_at(&self.payload.bytes[from..to], at).unwrap();
                }
            }
        }
    }

    /// Panics unless `dir` has exactly the torrent's files, byte for byte, and nothing else.
    pub fn assert_is_in(&self, dir: &Path) {
        let files = self.files();
        for (path, expected) in &files {
            let found = fs::read(dir.join(path));
            let found = found.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(found.len(), expected.len(), "the length of {}", path.display());
            let differs = found.iter().zip(*expected).position(|(found, good)| found != good);
            assert_eq!(differs, None, "the first wrong byte of {}", path.display());
        }
        let mut expected: Vec<_> = files.iter().map(|(path, _)| dir.join(path)).collect();
        expected.sort();
        assert_eq!(files_below(dir), expected, "no file but the torrent's");
    }
}

/// Every file below `dir`, in order.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The same for the same name, different for others.
fn random_bytes(name: &str, length: usize) -> Vec<u8> {
    let digest = Sha1::digest(name);
    let seed = digest.iter().fold(0_u64, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte));
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(format!("{}:", bytes.len()).bytes());
    out.extend(bytes);
}
