//! Speaks torrent files (BEP 3, "metainfo files"; BEP 12 tiers, 19 web seeds, 27 private, 47 pad
//! files): what is to be downloaded, where it lies, and who knows peers or has it. A hybrid torrent (BEP 52) is taken as v1.
//!
//! What a download can't do without is checked strictly; anything else may be missing or of an odd
//! type and is then passed over.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::iter;
use std::ops::Range;
use std::path::PathBuf;

use sha1::{Digest, Sha1};

use crate::error::Fatal;
use crate::limits::{
    BLOCK_LENGTH, DHT_ENTRIES_MAX, ESCAPED_PATH_MAX_BYTES, FILES_MAX, FOREIGN_TEXT_MAX_CHARS,
    HOST_LENGTH_MAX_BYTES, MIRRORS_MAX, NAME_LENGTH_MAX_BYTES, PATH_DEPTH_MAX,
    PATH_LENGTH_MAX_BYTES, PIECE_LENGTH_MAX_BYTES, RENAMED_MAX, TIERS_MAX, TOTAL_LENGTH_MAX_BYTES,
    TRACKERS_MAX,
};
use crate::protocol::bencode::{Item, Value};
use crate::protocol::names::{self, SafePath, Tag};
use crate::protocol::url::is_usable;
use crate::protocol::web_seed::{escaped_path, mirror_url};
use crate::text::Foreign;
use crate::units::{Bytes, Geometry, InfoHash, PieceIndex};

/// A torrent that can be downloaded.
#[derive(Debug)]
pub struct Metainfo {
    /// SHA-1 of the info dictionary as it stands in the file.
    pub info_hash: InfoHash,
    /// The name of the file, or of the directory that all files are in. Safe to create.
    pub name: String,
    /// Whether `name` is a directory.
    pub multi_file: bool,
    /// The files, in the order in which their bytes follow each other.
    pub files: Vec<FileEntry>,
    /// The pieces, which all files' bytes together fall into.
    pub geometry: Geometry,
    /// Trackers' URLs, in tiers that are to be tried one after the other (BEP 12). Any scheme;
    /// no control characters.
    pub tiers: Vec<Vec<String>>,
    /// Where its files are to be had by HTTP (BEP 19), as [`mirror_url`] leaves them.
    pub mirrors: Vec<String>,
    /// Nodes of the DHT, `host:port` (BEP 5, "Torrent File Extensions").
    pub nodes: Vec<String>,
    /// Whether peers may come from the trackers alone (BEP 27).
    pub private: bool,
    /// What does not have the name that the torrent gives it: `name`, then files; the first
    /// [`RENAMED_MAX`] of them.
    pub renamed: Vec<Renamed>,
    /// How many there are in all.
    pub renamed_count: usize,
    /// The info dictionary as it stands in the file: others may ask for it.
    info: Box<[u8]>,
    /// The hashes' place in it.
    hashes: Range<usize>,
    /// What does not have the torrent's name here has it on mirrors: `name` and, by their place,
    /// files below it, escaped. Nothing, if there is no mirror.
    mirrored: Mirrored,
}

/// The names that mirrors know, as far as they are not ours.
#[derive(Clone, Debug, Default)]
struct Mirrored {
    name: Option<Box<str>>,
    files: BTreeMap<usize, Box<str>>,
}

/// One file of a torrent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileEntry {
    /// Where it lies below the output directory, the torrent's directory included. Empty for
    /// padding.
    pub path: PathBuf,
    /// Bytes.
    pub length: u64,
    /// What it is.
    pub kind: FileKind,
}

impl FileEntry {
    /// Whether it is no padding.
    pub fn is_data(&self) -> bool {
        self.kind == FileKind::Data
    }
}

/// What a [`FileEntry`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A file to be downloaded.
    Data,
    /// Zeros that are hashed with the rest, but never downloaded or written (BEP 47).
    Pad,
}

/// A file or directory whose name had to be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renamed {
    /// The name that the torrent gives it, as it can be shown.
    pub original: String,
    /// Where it lies below the output directory.
    pub path: PathBuf,
}

/// What a torrent would take to be read and kept, seen without keeping anything of it. What is
/// not there or of a wrong type counts as 0: reading it will tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Measures {
    /// Bytes of the info dictionary.
    pub info_bytes: u64,
    /// Hashes of pieces.
    pub pieces: u64,
    /// Bytes of a piece, but not more blocks of it than there are.
    pub piece_length: u64,
    /// Files.
    pub files: u64,
    /// Components of all their paths.
    pub components: u64,
    /// Bytes of all their paths, with the directory that all are in, at most.
    pub path_bytes: u64,
    /// Tiers of trackers.
    pub tiers: usize,
    /// Trackers in all of them.
    pub trackers: u64,
    /// Mirrors.
    pub mirrors: u64,
    /// Bytes of their URLs.
    pub mirror_bytes: u64,
    /// Files, and the name above them, that can't have the torrent's names here.
    pub renamed: u64,
    /// Bytes of those names as mirrors know them.
    pub renamed_bytes: u64,
}

impl Measures {
    /// Measures a torrent file.
    pub fn of(torrent: &[u8]) -> Self {
        let Ok(root) = Value::parse(torrent) else { return Self::default() };
        let Some(info) = root.get("info") else { return Self::default() };
        Self::of_info(info, &read_tiers(root)).with_mirrors(&read_mirrors(root, &[]))
    }

    /// Measures an info dictionary, with the trackers of a magnet link.
    pub fn of_link(info: &[u8], tiers: &[Vec<String>]) -> Self {
        Value::parse(info).map_or_else(|_| Self::default(), |info| Self::of_info(info, tiers))
    }

    fn of_info(info: Value<'_>, tiers: &[Vec<String>]) -> Self {
        let bytes = |key| info.get(key).and_then(Value::bytes).map_or(0, <[u8]>::len);
        let name = bytes("name").max(bytes("name.utf-8")).min(NAME_LENGTH_MAX_BYTES);
        let mut total = read_length(info, "length").unwrap_or(0);
        let mut measures = Self {
            info_bytes: info.raw().len() as u64,
            pieces: bytes("pieces") as u64 / 20,
            piece_length: 0,
            files: 1,
            components: 1,
            path_bytes: name as u64,
            tiers: tiers.len(),
            trackers: tiers.iter().flatten().count() as u64,
            ..Self::default()
        };
        for key in ["name", "name.utf-8"] {
            measures.add_name(info.get(key).and_then(Value::bytes));
        }
        let files = info.get("files").and_then(Value::list);
        for file in files.into_iter().flatten().take(FILES_MAX) {
            let Some(entries) = file.dict() else { continue };
            measures.files += 1;
            total = total.saturating_add(read_length(file, "length").unwrap_or(0));
            let mut longest = 0;
            for (key, path) in entries {
                if key != b"path" && key != b"path.utf-8" {
                    continue;
                }
                let components = path.list().into_iter().flatten().filter_map(Value::bytes);
                let named = components.filter(|component| !component.is_empty());
                let mut length = Tag::LENGTH;
                measures.add_name(named.clone().take(PATH_DEPTH_MAX + 1));
                for component in named.take(PATH_DEPTH_MAX + 1) {
                    measures.components += 1;
                    length += component.len().min(NAME_LENGTH_MAX_BYTES) + 1;
                }
                longest = length.max(longest);
            }
            measures.path_bytes += (name + 1 + longest).min(PATH_LENGTH_MAX_BYTES) as u64;
        }
        // A length that is not possible is told by reading, whatever it would take.
        let length = read_piece_length(info).map_or(0, u64::from);
        let block = u64::from(BLOCK_LENGTH);
        measures.piece_length = length.min(total.div_ceil(block).saturating_mul(block));
        measures
    }

    /// The same with these mirrors as well.
    #[must_use]
    pub fn with_mirrors(mut self, mirrors: &[String]) -> Self {
        self.mirrors += mirrors.len() as u64;
        self.mirror_bytes += mirrors.iter().map(|url| url.len() as u64).sum::<u64>();
        self
    }

    /// A name that may have to be changed is known to mirrors as it was.
    fn add_name<'a>(&mut self, components: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>) {
        let components = components.into_iter();
        if !components.clone().all(names::is_safe) {
            let escaped: usize = components.map(|component| 3 * component.len() + 1).sum();
            self.renamed += 1;
            self.renamed_bytes += escaped.min(ESCAPED_PATH_MAX_BYTES) as u64;
        }
    }
}

impl Metainfo {
    /// Reads a torrent file. Bytes after its end are ignored.
    ///
    /// # Errors
    /// [`Fatal::NotBencode`] or [`Fatal::BadTorrent`], with a sentence that says what is wrong.
    pub fn parse(torrent: &[u8]) -> Result<Self, Fatal> {
        Self::parse_with_mirrors(torrent, &[])
    }

    /// The same with these mirrors before those that the torrent names.
    ///
    /// # Errors
    /// The same.
    pub fn parse_with_mirrors(torrent: &[u8], mirrors: &[String]) -> Result<Self, Fatal> {
        let root = Value::parse(torrent).map_err(|wrong| Fatal::NotBencode(wrong.to_string()))?;
        let read = || {
            if root.dict().is_none() {
                return Err("it is bencode, but no dictionary".into());
            }
            let info = root.get("info").filter(|info| info.dict().is_some());
            let info = info.ok_or("it has no `info` dictionary")?;
            let read = Self::read(info, read_tiers(root), read_mirrors(root, mirrors));
            read.map(|metainfo| Self { nodes: read_nodes(root), ..metainfo })
        };
        read().map_err(Fatal::BadTorrent)
    }

    /// Reads an info dictionary that peers brought (BEP 9), with the trackers and mirrors of a magnet
    /// link.
    ///
    /// # Errors
    /// As with a torrent file.
    pub fn from_info(
        info: &[u8],
        tiers: Vec<Vec<String>>,
        mirrors: Vec<String>,
    ) -> Result<Self, Fatal> {
        let info = Value::parse(info).map_err(|wrong| Fatal::NotBencode(wrong.to_string()))?;
        Self::read(info, tiers, mirrors).map_err(Fatal::BadTorrent)
    }

    fn read(
        info: Value<'_>,
        tiers: Vec<Vec<String>>,
        mirrors: Vec<String>,
    ) -> Result<Self, String> {
        let hashes = read_hashes(info)?;
        let piece_length = read_piece_length(info)?;
        let name = original_path(info, "name", one_string)?;
        let top = safe_path(None, &name)?;
        let mut contents = Contents { has_mirrors: !mirrors.is_empty(), ..Contents::default() };
        if top.is_changed() {
            contents.add_renamed(&name, &top);
            contents.mirrored.name = contents.escaped(&name);
        }
        let files = info.get("files");
        match (files, info.get("length")) {
            (Some(_), Some(_)) => return Err("it has both `files` and `length`".into()),
            (None, None) => return Err("it has neither `files` nor `length`".into()),
            (Some(files), None) => contents.read_files(files, &top)?,
            (None, Some(_)) => contents.read_one_file(info, &top)?,
        }
        let geometry = contents.geometry(piece_length, hashes.len())?;
        let private = info.get("private").and_then(Value::integer);
        Ok(Self {
            info_hash: InfoHash(Sha1::digest(info.raw()).into()),
            name: top.into_string(),
            multi_file: files.is_some(),
            files: contents.files,
            geometry,
            tiers,
            mirrors,
            nodes: Vec::new(),
            private: private.is_some_and(|private| private != 0),
            renamed: contents.renamed,
            renamed_count: contents.renamed_count,
            hashes: place_in(info.raw(), hashes.as_flattened()),
            info: info.raw().into(),
            mirrored: contents.mirrored,
        })
    }

    /// The info dictionary, which [`Self::info_hash`] is the hash of.
    pub fn info(&self) -> &[u8] {
        &self.info
    }

    /// Whether it says of itself that it is of version 2 (BEP 52) as well.
    pub fn is_hybrid(&self) -> bool {
        Value::parse(&self.info).is_ok_and(|info| info.get("meta version").is_some())
    }

    /// What stands before and behind [`Self::info`] in a torrent file.
    pub fn around_info(&self) -> (Vec<u8>, Vec<u8>) {
        let first = self.tiers.iter().flatten().next();
        let tiers = self.tiers.iter().map(|tier| Item::list(tier.iter().map(String::as_str)));
        let announce = first.map(|url| ("announce", Item::from(url.as_str())));
        let list = first.map(|_| ("announce-list", Item::list(tiers)));
        let mut begin = Item::dict(announce.into_iter().chain(list)).encode();
        // Its end comes behind the rest.
        begin.pop();
        begin.extend(b"4:info");
        let mut end = Vec::new();
        if !self.mirrors.is_empty() {
            let mirrors = Item::list(self.mirrors.iter().map(String::as_str));
            end.extend(b"8:url-list");
            end.extend(mirrors.encode());
        }
        end.push(b'e');
        (begin, end)
    }

    /// Where the file at this place lies on a mirror: its path as the torrent gives it, its name
    /// included, escaped. `None` for padding, which is on no mirror, and for a path that is too
    /// long to be asked for.
    pub fn mirror_path(&self, index: usize) -> Option<String> {
        let file = self.files.get(index).filter(|file| file.is_data())?;
        let mut components = file.path.iter().filter_map(OsStr::to_str).map(str::as_bytes);
        let top = components.next()?;
        let mut path = match &self.mirrored.name {
            Some(name) => name.to_string(),
            None => escaped_path([top]),
        };
        if self.multi_file {
            path.push('/');
            match self.mirrored.files.get(&index) {
                Some(below) => path.push_str(below),
                None => path.push_str(&escaped_path(components)),
            }
        }
        (!path.split('/').any(str::is_empty)).then_some(path)
    }

    /// The SHA-1 of a piece of this torrent. Zeros, which nothing hashes to, for a piece of another.
    pub fn piece_hash(&self, piece: PieceIndex) -> &[u8; 20] {
        let hashes = self.info.get(self.hashes.clone()).unwrap_or_default();
        hashes.as_chunks().0.get(piece.index()).unwrap_or(&[0; 20])
    }
}

fn read_hashes(info: Value<'_>) -> Result<&[[u8; 20]], String> {
    let Some(pieces) = info.get("pieces") else {
        if info.get("file tree").is_some() || info.get("meta version").is_some() {
            return Err("it is a version 2 torrent (BEP 52), which can't be downloaded; \
                look for a version 1 or hybrid one"
                .into());
        }
        return Err("`pieces` is missing".into());
    };
    let bytes = pieces.bytes().ok_or("`pieces` is no string")?;
    match bytes.as_chunks() {
        (hashes, []) => Ok(hashes),
        _ => Err(format!("`pieces` has {} bytes, which are not whole hashes", bytes.len())),
    }
}

/// Where `part` is in the bytes that it is a part of.
fn place_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let begin = part.as_ptr().addr() - whole.as_ptr().addr();
    begin..begin + part.len()
}

fn read_piece_length(info: Value<'_>) -> Result<u32, String> {
    let length = read_length(info, "piece length")?;
    match u32::try_from(length) {
        Ok(0) => Err("`piece length` is 0".into()),
        Ok(length) if length <= PIECE_LENGTH_MAX_BYTES => Ok(length),
        _ => Err(format!(
            "`piece length` is {length}, more than the {PIECE_LENGTH_MAX_BYTES} that are possible"
        )),
    }
}

/// A number of bytes.
fn read_length(dict: Value<'_>, key: &str) -> Result<u64, String> {
    let value = dict.get(key).ok_or_else(|| format!("`{key}` is missing"))?;
    let length = value.integer().ok_or_else(|| format!("`{key}` is not an integer of 64 bits"))?;
    u64::try_from(length).map_err(|_| format!("`{key}` is negative: {length}"))
}

/// The components of the path under `key`: those under `key.utf-8` if they can be used. If either
/// of them leads upwards, it is that one, for whoever wrote it meant no good.
fn original_path<'a>(
    dict: Value<'a>,
    key: &str,
    components: fn(Value<'a>) -> Option<Vec<&'a [u8]>>,
) -> Result<Vec<&'a [u8]>, String> {
    let utf_8 = dict.get(format!("{key}.utf-8")).and_then(components);
    let plain = dict.get(key).and_then(components);
    let leads_upwards = |path: &&Vec<&[u8]>| path.contains(&b"..".as_slice());
    if let Some(path) = [&utf_8, &plain].into_iter().flatten().find(leads_upwards) {
        return Ok(path.clone());
    }
    let usable = |path: &Vec<&[u8]>| {
        let is_text = |name: &&[u8]| std::str::from_utf8(name).is_ok();
        path.iter().all(is_text) && path.iter().any(|name| !name.is_empty())
    };
    utf_8.filter(usable).or(plain).ok_or_else(|| {
        let wrong = if dict.get(key).is_some() { "of the wrong type" } else { "missing" };
        format!("`{key}` is {wrong}")
    })
}

fn one_string(value: Value<'_>) -> Option<Vec<&[u8]>> {
    value.bytes().map(|bytes| vec![bytes])
}

/// One more than there may be says enough, and a million empty ones take no memory.
fn list_of_strings(value: Value<'_>) -> Option<Vec<&[u8]>> {
    let components = value.list()?.map(Value::bytes);
    components.filter(|component| *component != Some(b"")).take(PATH_DEPTH_MAX + 1).collect()
}

fn safe_path(top: Option<&SafePath>, original: &[&[u8]]) -> Result<SafePath, String> {
    SafePath::new(top, original.iter().copied())
        .map_err(|refused| format!("{refused}: {}", shown(original)))
}

/// A path as the torrent gives it, to be shown. A name may have megabytes: of more bytes than these
/// nothing would be seen.
fn shown(original: &[&[u8]]) -> String {
    const SEEN_BYTES: usize = 4 * FOREIGN_TEXT_MAX_CHARS;
    let components = original.iter().flat_map(|name| [b"/", *name]).skip(1);
    let seen: Vec<u8> = components.flatten().copied().take(SEEN_BYTES).collect();
    Foreign::new(&seen).to_string()
}

/// The files, while they are read.
#[derive(Default)]
struct Contents {
    files: Vec<FileEntry>,
    /// Bytes in all.
    total: u64,
    /// Bytes that are no padding.
    data: u64,
    renamed: Vec<Renamed>,
    renamed_count: usize,
    has_mirrors: bool,
    mirrored: Mirrored,
}

impl Contents {
    fn read_one_file(&mut self, info: Value<'_>, name: &SafePath) -> Result<(), String> {
        self.add_file(read_length(info, "length")?, FileKind::Data)?;
        self.set_paths(iter::once(name.clone()));
        Ok(())
    }

    /// Reads the list of files. A symbolic link (BEP 47, `l`) is passed over: it has no bytes,
    /// whatever its `length` says, which is how those read it who make such torrents.
    fn read_files(&mut self, files: Value<'_>, top: &SafePath) -> Result<(), String> {
        let mut paths = Vec::new();
        let mut originals = Vec::new();
        let files = files.list().ok_or("`files` is no list")?;
        if files.clone().count() > FILES_MAX {
            return Err(format!("it has more than {FILES_MAX} files"));
        }
        for (index, file) in files.enumerate() {
            let in_file = |why| format!("file {}: {why}", index + 1);
            let attributes = file.get("attr").and_then(Value::bytes).unwrap_or_default();
            if attributes.contains(&b'l') {
                continue;
            }
            let pad = attributes.contains(&b'p');
            let kind = if pad { FileKind::Pad } else { FileKind::Data };
            let length = read_length(file, "length").map_err(in_file)?;
            self.add_file(length, kind).map_err(in_file)?;
            if kind == FileKind::Data {
                let original = original_path(file, "path", list_of_strings).map_err(in_file)?;
                paths.push(safe_path(Some(top), &original).map_err(in_file)?);
                originals.push(file);
            }
        }
        names::settle(&mut paths).map_err(|refused| refused.to_string())?;
        let mut places = 0..self.files.len();
        for (path, file) in paths.iter().zip(originals) {
            let is_data = |place: &usize| self.files.get(*place).is_some_and(FileEntry::is_data);
            let place = places.find(is_data).unwrap_or_default();
            if path.is_changed() {
                let original = original_path(file, "path", list_of_strings)?;
                self.add_renamed(&original, path);
                let escaped = self.escaped(&original);
                self.mirrored.files.extend(escaped.map(|escaped| (place, escaped)));
            }
        }
        self.set_paths(paths.into_iter());
        Ok(())
    }

    /// How the bytes fall into pieces, of which there must be as many as hashes.
    fn geometry(&self, piece_length: u32, hashes: usize) -> Result<Geometry, String> {
        if self.data == 0 {
            return Err("it describes no bytes: there is nothing to download".into());
        }
        let total = self.total;
        let geometry = Geometry::new(total, piece_length)
            .ok_or_else(|| format!("{} in pieces of {piece_length} are too many", Bytes(total)))?;
        let needed = geometry.pieces();
        if hashes != needed as usize {
            return Err(format!(
                "`pieces` holds {hashes} hashes, \
                but {total} bytes in pieces of {piece_length} need {needed}"
            ));
        }
        Ok(geometry)
    }

    fn add_file(&mut self, length: u64, kind: FileKind) -> Result<(), String> {
        let total = self.total.checked_add(length);
        self.total = total.filter(|total| *total <= TOTAL_LENGTH_MAX_BYTES).ok_or_else(|| {
            format!("the lengths add up to more than {TOTAL_LENGTH_MAX_BYTES} bytes")
        })?;
        if kind == FileKind::Data {
            self.data += length;
        }
        self.files.push(FileEntry { path: PathBuf::new(), length, kind });
        Ok(())
    }

    /// Gives the files that are no padding these paths, in order.
    fn set_paths(&mut self, paths: impl Iterator<Item = SafePath>) {
        let files = self.files.iter_mut().filter(|file| file.kind == FileKind::Data);
        for (file, path) in files.zip(paths) {
            file.path = path.into_string().into();
        }
    }

    /// The path that mirrors know, where somebody asks for it. What is too long to be asked for has
    /// an empty one.
    fn escaped(&self, original: &[&[u8]]) -> Option<Box<str>> {
        let length: usize = original.iter().map(|component| 3 * component.len() + 1).sum();
        let escaped = || escaped_path(original.iter().copied());
        let path = if length <= ESCAPED_PATH_MAX_BYTES { escaped() } else { String::new() };
        self.has_mirrors.then(|| path.into_boxed_str())
    }

    fn add_renamed(&mut self, original: &[&[u8]], path: &SafePath) {
        self.renamed_count += 1;
        if self.renamed.len() < RENAMED_MAX {
            let original = shown(original);
            self.renamed.push(Renamed { original, path: path.as_str().into() });
        }
    }
}

/// These mirrors and those of `url-list`, each once: a list, or one URL.
fn read_mirrors(root: Value<'_>, mirrors: &[String]) -> Vec<String> {
    let listed = root.get("url-list").into_iter().flat_map(items).filter_map(Value::text);
    let mut known = HashSet::new();
    let all = mirrors.iter().cloned().chain(listed.filter_map(mirror_url));
    all.filter(|mirror| known.insert(mirror.clone())).take(MIRRORS_MAX).collect()
}

/// The nodes that can be asked.
fn read_nodes(root: Value<'_>) -> Vec<String> {
    let node = |node: Value<'_>| {
        let mut parts = node.list()?;
        let host = parts.next()?.text().filter(|host| is_host(host))?;
        let port = u16::try_from(parts.next()?.integer()?).ok().filter(|port| *port != 0)?;
        let is_v6 = host.contains(':');
        Some(if is_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    };
    let nodes = root.get("nodes").and_then(Value::list).into_iter().flatten();
    nodes.filter_map(node).take(DHT_ENTRIES_MAX).collect()
}

/// A name that can be looked up, or an address.
fn is_host(host: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || ".:-_".contains(c);
    (1..=HOST_LENGTH_MAX_BYTES).contains(&host.len()) && host.chars().all(usual)
}

/// The trackers of `announce-list`, or if there are none in it, of `announce`.
fn read_tiers(root: Value<'_>) -> Vec<Vec<String>> {
    ["announce-list", "announce"]
        .into_iter()
        .filter_map(|key| root.get(key))
        .map(tiers_in)
        .find(|tiers| !tiers.is_empty())
        .unwrap_or_default()
}

/// A list of lists of URLs as it should be, a list of URLs, or one URL. Each URL is taken once.
fn tiers_in(announce: Value<'_>) -> Vec<Vec<String>> {
    let mut tiers = Vec::new();
    let mut known = HashSet::new();
    for tier in items(announce) {
        let room = TRACKERS_MAX - known.len();
        let urls = items(tier).filter_map(read_url).filter(|url| known.insert(*url));
        let tier: Vec<String> = urls.take(room).map(str::to_owned).collect();
        if !tier.is_empty() {
            tiers.push(tier);
        }
        if tiers.len() == TIERS_MAX || known.len() == TRACKERS_MAX {
            break;
        }
    }
    tiers
}

/// The items of a list; a string alone counts as a list of it.
fn items(value: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    let alone = value.bytes().map(|_| value);
    value.list().into_iter().flatten().chain(alone)
}

fn read_url(value: Value<'_>) -> Option<&str> {
    Some(value.text()?.trim()).filter(|url| is_usable(url))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::error::Status;
    use crate::limits::URL_LENGTH_MAX_BYTES;
    use crate::protocol::bencode::Item;
    use crate::stopwatch::worked;

    type Entries = BTreeMap<Vec<u8>, Item>;

    /// A dictionary with `changes` made to it; `None` takes a key away.
    fn with(mut entries: Entries, changes: &[(&str, Option<Item>)]) -> Entries {
        for (key, item) in changes {
            match item {
                Some(item) => entries.insert(key.as_bytes().to_vec(), item.clone()),
                None => entries.remove(key.as_bytes()),
            };
        }
        entries
    }

    fn file(length: i64, path: &[&str]) -> Item {
        let path = Item::list(path.iter().copied());
        Item::dict([("length", length.into()), ("path", path)])
    }

    fn file_with(length: i64, path: &[&str], key: &str, value: &str) -> Item {
        let Item::Dict(entries) = file(length, path) else { unreachable!() };
        Item::Dict(with(entries, &[(key, Some(value.into()))]))
    }

    fn hashes(count: usize) -> Item {
        Item::Bytes((0..count * 20).map(|at| u8::try_from(at / 20 % 251).unwrap()).collect())
    }

    /// An info dictionary of one file of 100 bytes in pieces of 64.
    fn single() -> Entries {
        with(
            Entries::new(),
            &[
                ("length", Some(100.into())),
                ("name", Some("a.bin".into())),
                ("piece length", Some(64.into())),
                ("pieces", Some(hashes(2))),
            ],
        )
    }

    /// An info dictionary of these files, 100 bytes in all.
    fn multi(files: Vec<Item>) -> Entries {
        with(single(), &[("length", None), ("files", Some(Item::List(files)))])
    }

    fn torrent_with(info: Entries, root: &[(&str, Item)]) -> Vec<u8> {
        let root = root.iter().map(|(key, item)| (*key, item.clone()));
        Item::dict(root.chain([("info", Item::Dict(info))])).encode()
    }

    fn torrent(info: Entries) -> Vec<u8> {
        torrent_with(info, &[])
    }

    fn paths(metainfo: &Metainfo) -> Vec<&str> {
        metainfo.files.iter().map(|file| file.path.to_str().unwrap()).collect()
    }

    #[test]
    fn what_peers_bring_is_read_like_a_file() {
        let info = Item::Dict(single()).encode();
        let tiers = vec![vec!["http://a/".to_owned()]];
        let brought = Metainfo::from_info(&info, tiers.clone(), vec!["http://m/".into()]).unwrap();
        let read = Metainfo::parse(&torrent(single())).unwrap();
        assert_eq!((brought.info_hash, brought.info()), (read.info_hash, &info[..]));
        assert_eq!((read.info(), &brought.tiers), (&info[..], &tiers));
        let second = read.geometry.piece(1).unwrap();
        let [hashes] = [hashes(2)].map(|item| item.encode());
        assert_eq!(read.piece_hash(second)[..], hashes[hashes.len() - 20..]);
        let (mut whole, end) = brought.around_info();
        whole.extend(brought.info().iter().chain(&end));
        let again = Metainfo::parse(&whole).unwrap();
        assert_eq!((again.info_hash, &again.tiers), (brought.info_hash, &brought.tiers));
        assert_eq!(again.mirrors, ["http://m/"]);
        assert_eq!(read.around_info(), (b"d4:info".to_vec(), b"e".to_vec()));
        assert!(Metainfo::from_info(b"le", Vec::new(), Vec::new()).is_err());
        assert!(Metainfo::from_info(b"", Vec::new(), Vec::new()).is_err());
    }

    #[test]
    fn it_is_measured_before_it_is_read() {
        let one = Measures::of(&torrent_with(single(), &[("announce", "http://a/".into())]));
        let expected = Measures {
            info_bytes: Item::Dict(single()).encode().len() as u64,
            pieces: 2,
            piece_length: 64,
            files: 1,
            components: 1,
            path_bytes: 5,
            tiers: 1,
            trackers: 1,
            ..Measures::default()
        };
        assert_eq!(one, expected);
        let files = vec![file(60, &["b", "cc"]), file_with(40, &["d"], "path.utf-8", "no list")];
        let several = Measures::of(&torrent(multi(files)));
        assert_eq!((several.files, several.components), (3, 4));
        let tag = Tag::LENGTH;
        assert_eq!(several.path_bytes, (5 + (5 + 1 + tag + 5) + (5 + 1 + tag + 2)) as u64);
        let empty = vec![""; PATH_DEPTH_MAX + 1];
        let hidden =
            Measures::of(&torrent(multi(vec![file(1, &[&empty[..], &["name"]].concat())])));
        assert_eq!((hidden.components, hidden.path_bytes), (2, (5 + (5 + 1 + tag + 5)) as u64));
        for (piece_length, measured) in [
            (0, 0),
            (-1, 0),
            (16_384, 16_384),
            (1 << 30, 16_384),
            ((1 << 30) + 1, 0),
            ((1 << 32) + 16_384, 0),
        ] {
            let long = with(single(), &[("piece length", Some(piece_length.into()))]);
            assert_eq!(Measures::of(&torrent(long)).piece_length, measured, "{piece_length}");
        }
        let odd_files = multi(vec![1.into(), "file".into(), Item::list([1_i64])]);
        assert_eq!(Measures::of(&torrent(odd_files)).files, 1);
        let far = vec![file(i64::MAX, &["b"]), file(i64::MAX, &["c"]), file(i64::MAX, &["d"])];
        assert_eq!(Measures::of(&torrent(multi(far))).piece_length, 64);
        assert_eq!(Measures::of(b"d4:infod6:pieces"), Measures::default());
        assert_eq!(Measures::of(b"d4:infodee").pieces, 0);
        assert_eq!(Measures::of(b"le"), Measures::default());
    }

    #[test]
    fn one_file() {
        let bytes = torrent_with(single(), &[("announce", "http://a/announce".into())]);
        let metainfo = Metainfo::parse(&bytes).unwrap();
        assert_eq!(metainfo.name, "a.bin");
        assert!(!metainfo.multi_file && !metainfo.private);
        assert_eq!(
            metainfo.files,
            [FileEntry { path: "a.bin".into(), length: 100, kind: FileKind::Data }]
        );
        assert_eq!(Geometry::new(100, 64), Some(metainfo.geometry));
        assert_eq!(metainfo.tiers, [["http://a/announce"]]);
        assert_eq!(metainfo.piece_hash(metainfo.geometry.piece(1).unwrap()), &[1; 20]);
        let of_another = Geometry::new(3, 1).unwrap().piece(2).unwrap();
        assert_eq!(metainfo.piece_hash(of_another), &[0; 20]);
        assert_eq!((metainfo.renamed_count, metainfo.renamed), (0, vec![]));
    }

    #[test]
    fn many_files() {
        let info = multi(vec![
            file(40, &["a"]),
            file_with(24, &[".pad", "24"], "attr", "p"),
            file_with(0, &["link"], "attr", "lx"),
            file_with(5_000, &["link"], "attr", "l"),
            file(0, &["d", "empty"]),
            file_with(20, &[".pad", "24"], "attr", "xp"),
            file_with(16, &["d", "e", "f"], "attr", "x"),
        ]);
        let metainfo = Metainfo::parse(&torrent(info)).unwrap();
        assert!(metainfo.multi_file);
        assert_eq!(paths(&metainfo), ["a.bin/a", "", "a.bin/d/empty", "", "a.bin/d/e/f"]);
        let lengths: Vec<u64> = metainfo.files.iter().map(|file| file.length).collect();
        assert_eq!(lengths, [40, 24, 0, 20, 16]);
        let pads = metainfo.files.iter().map(|file| file.kind == FileKind::Pad);
        assert_eq!(pads.collect::<Vec<_>>(), [false, true, false, true, false]);
    }

    #[test]
    fn the_info_hash_is_of_the_exact_bytes() {
        let info = b"d6:pieces20:aaaaaaaaaaaaaaaaaaaa4:name1:x6:lengthi05e\
            12:piece lengthi16384e0:i1e1:zd4:infod4:name5:decoyeee";
        for (before, after) in [
            ("d", "e"),
            ("d7:comment10:d4:infodee", "e"),
            ("d1:ad4:infod4:name5:decoyee", "1:z0:e"),
            ("d", "4:infod4:name5:decoyee"),
            ("d", "e\r\n trailing bytes"),
        ] {
            let bytes = [before.as_bytes(), b"4:info", info, after.as_bytes()].concat();
            let metainfo = Metainfo::parse(&bytes).unwrap();
            assert_eq!(metainfo.info_hash, InfoHash(Sha1::digest(info).into()), "{before}");
            assert_eq!((metainfo.name.as_str(), metainfo.geometry.total()), ("x", 5));
        }
    }

    #[test]
    fn what_is_no_bencode_ends_with_25() {
        let nested = ["d4:info", &"l".repeat(10_000_000)].concat();
        let whole = torrent(single());
        let cases: [(&[u8], &str); 7] = [
            (b"", "unexpected end at byte 0"),
            (b"<html>", "unexpected byte at byte 0"),
            (&whole[..whole.len() - 1], "unexpected end"),
            (&whole[..60], "longer than what is left"),
            (nested.as_bytes(), "nested too deep"),
            (b"d4:infod6:pieces18446744073709551616:", "longer than what is left"),
            (b"di1ei2ee", "dictionary key that is no string"),
        ];
        for (bytes, why) in cases {
            let fatal = Metainfo::parse(bytes).unwrap_err();
            assert_eq!(fatal.status(), Status::NotBencode);
            assert!(fatal.to_string().contains(why), "{fatal}");
        }
    }

    fn assert_refused(bytes: &[u8], why: &str) {
        let fatal = Metainfo::parse(bytes).expect_err(why);
        assert_eq!(fatal.status(), Status::BadTorrent, "{fatal}");
        assert!(fatal.to_string().contains(why), "{why}: {fatal}");
        assert!(fatal.to_string().chars().all(crate::text::is_plain), "{fatal:?}");
    }

    #[test]
    fn what_is_no_dictionary_ends_with_26() {
        let cases = [
            ("i1e", "no dictionary"),
            ("le", "no dictionary"),
            ("4:info", "no dictionary"),
            ("de", "no `info` dictionary"),
            ("d4:infoi1ee", "no `info` dictionary"),
            ("d4:info2:dee", "no `info` dictionary"),
            ("d4:infodee", "`pieces` is missing"),
        ];
        for (bytes, why) in cases {
            assert_refused(bytes.as_bytes(), why);
        }
        let huge = single().into_iter().chain([(b"length".to_vec(), 7.into())]).collect();
        let huge = String::from_utf8(torrent(huge)).unwrap();
        let huge = huge.replace("lengthi7e", "lengthi9223372036854775808e");
        assert_refused(huge.as_bytes(), "`length` is not an integer of 64 bits");
    }

    #[test]
    fn fields_that_are_wrong_end_with_26() {
        let empty = || Item::List(vec![]);
        let cases: Vec<(&str, Option<Item>, &str)> = vec![
            ("pieces", None, "`pieces` is missing"),
            ("pieces", Some(1.into()), "`pieces` is no string"),
            ("pieces", Some(Item::bytes([0; 39])), "39 bytes, which are not whole hashes"),
            ("pieces", Some(hashes(0)), "holds 0 hashes"),
            ("pieces", Some(hashes(1)), "holds 1 hashes, but 100 bytes in pieces of 64 need 2"),
            ("pieces", Some(hashes(3)), "holds 3 hashes"),
            ("piece length", None, "`piece length` is missing"),
            ("piece length", Some("64".into()), "`piece length` is not an integer"),
            ("piece length", Some(0.into()), "`piece length` is 0"),
            ("piece length", Some((-64).into()), "`piece length` is negative: -64"),
            ("piece length", Some(((1 << 32) + 64).into()), "more than the 1073741824"),
            ("piece length", Some((1 << 50).into()), "more than the 1073741824"),
            ("name", None, "`name` is missing"),
            ("name", Some(1.into()), "`name` is of the wrong type"),
            ("name", Some(Item::list(["a", "b"])), "`name` is of the wrong type"),
            ("name", Some("..".into()), "would lead out of the output directory"),
            ("name", Some(".".into()), "the path names no file"),
            ("name", Some("".into()), "the path names no file"),
            ("name.utf-8", Some("..".into()), "would lead out of the output directory"),
            ("length", None, "neither `files` nor `length`"),
            ("length", Some("100".into()), "`length` is not an integer"),
            ("length", Some((-1).into()), "`length` is negative: -1"),
            ("length", Some(0.into()), "describes no bytes"),
            ("length", Some(i64::MAX.into()), "in pieces of 64 are too many"),
            ("length", Some((1 << 33).into()), "holds 2 hashes"),
            ("files", Some(Item::List(vec![file(100, &["a"])])), "both `files` and `length`"),
            ("files", Some(empty()), "both `files` and `length`"),
        ];
        for (key, item, why) in cases {
            assert_refused(&torrent(with(single(), &[(key, item)])), why);
        }
        let v2 = [("pieces", None), ("meta version", Some(2.into()))];
        assert_refused(&torrent(with(single(), &v2)), "version 2 torrent");
        let v2 =
            [("pieces", None), ("length", None), ("file tree", Some(Item::dict([("a", empty())])))];
        assert_refused(&torrent(with(single(), &v2)), "version 2 torrent");
        let files_of_odd_type = with(single(), &[("length", None), ("files", Some(1.into()))]);
        assert_refused(&torrent(files_of_odd_type), "`files` is no list");
    }

    #[test]
    fn files_that_are_wrong_end_with_26() {
        let far = i64::MAX;
        let deep = vec!["d"; PATH_DEPTH_MAX];
        let path = |path: Item| Item::dict([("length", 100.into()), ("path", path)]);
        let cases: Vec<(Vec<Item>, &str)> = vec![
            (vec![], "describes no bytes"),
            (vec![file(0, &["a"])], "describes no bytes"),
            (vec![file_with(100, &["a"], "attr", "p")], "describes no bytes"),
            (vec![file_with(100, &["a"], "attr", "l")], "describes no bytes"),
            (vec![1.into()], "file 1: `length` is missing"),
            (vec![file(50, &["a"]), file(-1, &["b"])], "file 2: `length` is negative: -1"),
            (vec![file(far, &["a"]), file(far, &["b"])], "file 2: the lengths add up to more"),
            (vec![file(far, &["a"]), file(1, &["b"])], "file 2: the lengths add up to more"),
            (vec![Item::dict([("length", 100.into())])], "file 1: `path` is missing"),
            (vec![path("a".into())], "file 1: `path` is of the wrong type"),
            (vec![path(Item::list([1_i64]))], "file 1: `path` is of the wrong type"),
            (vec![path(Item::list::<Item>([]))], "file 1: the path names no file"),
            (vec![file(100, &["", "."])], "file 1: the path names no file"),
            (vec![file(100, &["a", "..", "b"])], "file 1: `..` in a path would lead out"),
            (vec![file(100, &["\x1b[2J", ".."])], r"directory: \u{1b}[2J/.."),
            (vec![file(100, &deep)], "more than 100 parts"),
            (vec![file(100, &[["x"; 200].concat().as_str(); 20])], "more than 3072 bytes"),
            (vec![file(50, &["a"]), file(50, &["a"])], "two files would be a.bin/a"),
            (
                vec![file(50, &["a", "b"]), file(50, &["a"])],
                "a.bin/a would be a file and a directory",
            ),
            (vec![file(50, &["\u{202e}"]), file(50, &["_", "b"])], "a.bin/_ would be a file and"),
        ];
        for (files, why) in cases {
            assert_refused(&torrent(multi(files)), why);
        }
        for (good, bad) in [("path", "path.utf-8"), ("path.utf-8", "path")] {
            let lists = [(good, Item::list(["good"])), (bad, Item::list(["..", "bad"]))];
            let file = Item::dict(lists.into_iter().chain([("length", 100.into())]));
            assert_refused(&torrent(multi(vec![file])), "would lead out");
        }
    }

    #[test]
    fn too_many_files_are_refused() {
        let files = "d6:lengthi0e4:pathl1:aee".repeat(FILES_MAX + 1);
        let info = format!("d5:filesl{files}e4:name1:n12:piece lengthi1e6:pieces0:e");
        assert_refused(format!("d4:info{info}e").as_bytes(), "more than 1048576 files");
    }

    #[test]
    fn odd_optional_fields_are_passed_over() {
        let odd = |item: Item| {
            let keys = ["announce", "announce-list", "comment", "creation date", "url-list", ""];
            let root: Vec<(&str, Item)> = keys.iter().map(|key| (*key, item.clone())).collect();
            let keys = ["attr", "name.utf-8", "md5sum", "symlink path", "source", ""];
            let info: Vec<_> = keys.iter().map(|key| (*key, Some(item.clone()))).collect();
            torrent_with(with(single(), &info), &root)
        };
        for item in
            [5.into(), Item::list([1_i64]), Item::dict([("", 1.into())]), Item::bytes([0xff])]
        {
            let metainfo = Metainfo::parse(&odd(item)).unwrap();
            assert_eq!((metainfo.name.as_str(), metainfo.private), ("a.bin", false));
            assert!(metainfo.tiers.is_empty());
        }
    }

    #[test]
    fn mirrors_are_one_url_or_many() {
        let urls = |urls: &[&str]| Item::list(urls.iter().copied());
        let odd = Item::List(vec![1.into(), Item::bytes([0xff]), urls(&["http://x/"]), "".into()]);
        let cases: [(Item, &[&str]); 8] = [
            ("http://a/".into(), &["http://a/"]),
            ("".into(), &[]),
            ("ftp://a/".into(), &[]),
            (urls(&[]), &[]),
            (urls(&["http://a/", "ftp://b/", "", "http://c"]), &["http://a/", "http://c/"]),
            (urls(&["http://a", "HTTP://a/", " http://a/ "]), &["http://a/"]),
            (odd, &[]),
            (7.into(), &[]),
        ];
        for (list, mirrors) in cases {
            let torrent = torrent_with(single(), &[("url-list", list.clone())]);
            assert_eq!(Metainfo::parse(&torrent).unwrap().mirrors, mirrors, "{list:?}");
            let measures = Measures::of(&torrent);
            assert_eq!(measures.mirrors, mirrors.len() as u64);
            assert_eq!(measures.mirror_bytes, mirrors.concat().len() as u64);
        }
        let many: Vec<String> = (0..MIRRORS_MAX + 9).map(|n| format!("http://a/{n}/")).collect();
        let many = Item::list(many.iter().map(String::as_str));
        let torrent = torrent_with(single(), &[("url-list", many)]);
        let typed = ["http://b/".to_owned(), "http://a/3/".to_owned()];
        let mirrors = Metainfo::parse_with_mirrors(&torrent, &typed).unwrap().mirrors;
        assert_eq!(mirrors.len(), MIRRORS_MAX);
        assert_eq!(mirrors[..4], ["http://b/", "http://a/3/", "http://a/0/", "http://a/1/"]);
    }

    #[test]
    fn mirrors_know_files_by_the_names_that_the_torrent_gives_them() {
        let mirror = [("url-list", Item::from("http://a/"))];
        let paths = |info: Entries| {
            let metainfo = Metainfo::parse(&torrent_with(info, &mirror)).unwrap();
            let paths = (0..=metainfo.files.len()).map(|index| metainfo.mirror_path(index));
            paths.collect::<Vec<_>>()
        };
        let some = |path: &str| Some(path.to_owned());
        let named = |name: &str| with(single(), &[("name", Some(name.into()))]);
        assert_eq!(paths(named("a b.iso")), [some("a%20b.iso"), None]);
        assert_eq!(paths(named("a/b\u{200b}")), [some("a%2Fb%E2%80%8B"), None]);
        let latin = with(single(), &[("name", Some(Item::bytes(*b"caf\xe9")))]);
        assert_eq!(paths(latin), [some("caf%E9"), None]);

        let long = "x".repeat(NAME_LENGTH_MAX_BYTES + 1);
        let far = "y".repeat(ESCAPED_PATH_MAX_BYTES);
        let files = || {
            vec![
                file(30, &["plain", "b c"]),
                file_with(10, &["pad"], "attr", "p"),
                file_with(10, &["link"], "attr", "l"),
                file(10, &["\u{7}", &long]),
                file(20, &["a?b"]),
                file(10, &["a\u{7}"]),
                file(10, &["a\u{8}"]),
                file(10, &[&far]),
            ]
        };
        let (long, odd) = (format!("n%2F1/%07/{long}"), ["n%2F1/a%07", "n%2F1/a%08"]);
        let info = with(multi(files()), &[("name", Some("n/1".into()))]);
        let expected = [
            some("n%2F1/plain/b%20c"),
            None,
            some(&long),
            some("n%2F1/a%3Fb"),
            some(odd[0]),
            some(odd[1]),
            None,
            None,
        ];
        assert_eq!(paths(info), expected);
        let measures =
            Measures::of(&torrent(with(multi(files()), &[("name", Some("n/1".into()))])));
        assert_eq!(measures.renamed, 5, "the name and four files");
        assert!(measures.renamed_bytes > (long.len() + odd.concat().len()) as u64);
        // Without a mirror nobody asks.
        let unknown = Metainfo::parse(&torrent(named("a/b"))).unwrap();
        assert_eq!(unknown.mirror_path(0), some("a_b"));
    }

    #[test]
    fn private_is_what_says_so_with_a_number() {
        let cases = [
            (None, false),
            (Some(0.into()), false),
            (Some(1.into()), true),
            (Some(2.into()), true),
            (Some("1".into()), false),
        ];
        for (private, is) in cases {
            let info = with(single(), &[("private", private)]);
            assert_eq!(Metainfo::parse(&torrent(info)).unwrap().private, is);
        }
    }

    #[test]
    fn the_utf_8_name_is_preferred_and_changes_are_told() {
        let changes =
            [("name", Some(Item::bytes(b"caf\xe9"))), ("name.utf-8", Some("café".into()))];
        let metainfo = Metainfo::parse(&torrent(with(single(), &changes))).unwrap();
        assert_eq!((metainfo.name.as_str(), metainfo.renamed_count), ("café", 0));

        let utf_8 = |name: &[u8]| {
            Item::dict([
                ("length", 50.into()),
                ("path", Item::list(["d", "plain"])),
                ("path.utf-8", Item::List(vec!["d".into(), Item::bytes(name)])),
            ])
        };
        let info = multi(vec![utf_8("ü/ü".as_bytes()), utf_8(b"\xff")]);
        let info = with(info, &[("name", Some("top\x07".into()))]);
        let metainfo = Metainfo::parse(&torrent(info)).unwrap();
        assert_eq!(paths(&metainfo), ["top_/d/ü_ü", "top_/d/plain"]);
        let renamed =
            |original: &str, path: &str| Renamed { original: original.into(), path: path.into() };
        assert_eq!(
            metainfo.renamed,
            [renamed(r"top\u{7}", "top_"), renamed("d/ü/ü", "top_/d/ü_ü")]
        );
        let many = (0..100).map(|n| file(1, &[format!("{n}\0").as_str()])).collect();
        let metainfo = Metainfo::parse(&torrent(multi(many))).unwrap();
        assert_eq!((metainfo.renamed.len(), metainfo.renamed_count), (RENAMED_MAX, 100));
    }

    #[test]
    fn trackers_are_read_in_tiers() {
        let tiers = |list: Item| {
            let root = [("announce", "http://announce".into()), ("announce-list", list)];
            Metainfo::parse(&torrent_with(single(), &root)).unwrap().tiers
        };
        let list = |urls: &[&str]| Item::list(urls.iter().copied());
        let announce = [["http://announce"]];
        assert_eq!(tiers(Item::List(vec![])), announce);
        assert_eq!(tiers(list(&["", " "])), announce);
        assert_eq!(tiers(Item::List(vec![list(&[]), Item::list([1_i64])])), announce);
        assert_eq!(tiers(list(&["http://a", "udp://b:1"])), [["http://a"], ["udp://b:1"]]);
        assert_eq!(tiers("http://a".into()), [["http://a"]]);
        let odd = list(&["http://a\r\nX: y", "http://a b", "\u{9b}", " http://c\n", "http://c"]);
        assert_eq!(
            tiers(Item::List(vec![odd, Item::List(vec![Item::bytes([0xff])])])),
            [["http://c"]]
        );
        let long = format!("http://{}", "x".repeat(URL_LENGTH_MAX_BYTES));
        assert_eq!(tiers(list(&[&long, &long[1..], "http://d"])), [["http://d"]]);
        assert_eq!(
            tiers(Item::List(vec![
                list(&["wss://a", "http://b"]),
                list(&["http://b"]),
                list(&["http://c"])
            ])),
            [vec!["wss://a", "http://b"], vec!["http://c"]]
        );
        let many = |count: usize, in_tier: usize| {
            let urls: Vec<String> = (0..count).map(|n| format!("http://{n}")).collect();
            let tier = |urls: &[String]| Item::list(urls.iter().map(String::as_str));
            Item::List(urls.chunks(in_tier).map(tier).collect())
        };
        assert_eq!(tiers(many(1000, 1)).len(), TIERS_MAX);
        let few_tiers = tiers(many(1000, 150));
        assert_eq!(few_tiers.iter().map(Vec::len).collect::<Vec<_>>(), [150, TRACKERS_MAX - 150]);
    }

    #[test]
    fn large_torrents_are_quick() {
        let began = worked();
        let pieces = with(
            single(),
            &[("length", Some((840_000 * 64).into())), ("pieces", Some(hashes(840_000)))],
        );
        let metainfo = Metainfo::parse(&torrent(pieces)).unwrap();
        assert_eq!(metainfo.geometry.pieces(), 840_000);
        let files: String = (0..70_000)
            .map(|n| {
                let name = format!("{n:0200}");
                format!("d6:lengthi1e4:pathl2:d{}{}:{name}ee", n % 10, name.len())
            })
            .collect();
        let info = format!(
            "d5:filesl{files}e4:name1:n12:piece lengthi70000e6:pieces20:{}e",
            "h".repeat(20)
        );
        let metainfo = Metainfo::parse(format!("d4:info{info}e").as_bytes()).unwrap();
        assert_eq!((metainfo.files.len(), metainfo.geometry.total()), (70_000, 70_000));
        let worked = worked() - began;
        assert!(worked < Duration::from_secs(10), "{worked:?}");
    }

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
    }

    #[test]
    fn the_fixtures_are_read_and_describe_their_payload() {
        let cases = [
            ("one_file.torrent", "1b7065686640a3894f2c38e75b3eda47c42739f9", 1),
            ("many_files.torrent", "42baad84314c1b5ee374f7e44fde80e883d1e3f2", 6),
            ("hybrid.torrent", "25245aef5863c374914ca30638af24dd849a06bd", 6),
        ];
        for (name, info_hash, files) in cases {
            let metainfo = Metainfo::parse(&fixture(name)).unwrap();
            assert_eq!(metainfo.info_hash.to_string(), info_hash);
            assert_eq!(metainfo.files.len(), files);
            assert_eq!(metainfo.tiers, [["http://127.0.0.1:6969/announce"]]);
            let mut bytes = Vec::new();
            for file in &metainfo.files {
                let content = match file.kind {
                    FileKind::Pad => vec![0; usize::try_from(file.length).unwrap()],
                    FileKind::Data => fixture(&format!("payload/{}", file.path.display())),
                };
                assert_eq!(content.len() as u64, file.length);
                bytes.extend(content);
            }
            let pieces = bytes.chunks(metainfo.geometry.piece_length() as usize);
            for (index, piece) in metainfo.geometry.all_pieces().zip(pieces) {
                assert_eq!(*metainfo.piece_hash(index), <[u8; 20]>::from(Sha1::digest(piece)));
            }
        }
    }

    #[test]
    fn mutants_never_panic_and_what_is_accepted_holds() {
        let seeds = [
            fixture("one_file.torrent"),
            fixture("many_files.torrent"),
            torrent(multi(vec![file(60, &["a", "b"]), file_with(40, &["c"], "attr", "p")])),
        ];
        let mut rng = fastrand::Rng::with_seed(11);
        let mut accepted = 0;
        for _ in 0..30_000 {
            let mut bytes = rng.choice(&seeds).unwrap().clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                match rng.u8(..5) {
                    0 => bytes[at] = rng.u8(..),
                    1 => bytes[at] = *rng.choice(b"0123456789lide:-./\0").unwrap(),
                    2 => bytes.truncate(at.max(1)),
                    3 => bytes.insert(at, *rng.choice(b"019lide:-").unwrap()),
                    _ => bytes[at] ^= 1 << rng.u8(..8),
                }
            }
            let Ok(metainfo) = Metainfo::parse(&bytes) else { continue };
            accepted += 1;
            let total: u64 = metainfo.files.iter().map(|file| file.length).sum();
            assert_eq!(total, metainfo.geometry.total());
            assert_eq!(metainfo.hashes.len(), 20 * metainfo.geometry.pieces() as usize);
            for file in &metainfo.files {
                let path = file.path.to_str().unwrap();
                assert_eq!(path.is_empty(), file.kind == FileKind::Pad);
                if file.kind == FileKind::Data {
                    assert_eq!(path.split('/').next().unwrap(), metainfo.name);
                    assert!(path.split('/').all(|name| !["", ".", ".."].contains(&name)
                        && name.len() <= NAME_LENGTH_MAX_BYTES
                        && name.chars().all(crate::text::is_plain)));
                }
            }
        }
        assert!(accepted > 1_000, "{accepted}");
    }
}
