//! What must hold for any bytes that a file, a tracker or a peer may send: one check for each kind.
//! The fuzz targets run them without end, `tests/mutations.rs` for a while.
//!
//! A check panics if something does not hold. It returns whether the bytes were of any use, so that
//! a caller can tell that its bytes get anywhere.
#![allow(dead_code, unreachable_pub)] // each fuzz target runs one of them
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rusty_torrent::bitfield::Bitfield;
use rusty_torrent::error::{Fatal, Status};
use rusty_torrent::limits::{
    ANNOUNCE_INTERVAL_MAX_S, ANNOUNCE_INTERVAL_MIN_S, BENCODE_DEPTH_MAX, BLOCK_LENGTH,
    BUCKET_NODES_MAX, BUCKETS_MAX, DHT_DATAGRAM_MAX_BYTES, DHT_DATAGRAM_SENT_MAX_BYTES,
    DHT_NODE_BYTES, DHT_NODES_PER_REPLY_MAX, DHT_PEERS_PER_REPLY_MAX, DHT_TOKEN_MAX_BYTES,
    DHT_TRANSACTION_MAX_BYTES, EXCHANGE_HEARD_MAX, EXCHANGED_MAX, EXTENDED_LENGTH_MAX_BYTES,
    FILES_MAX, FOREIGN_TEXT_MAX_CHARS, INQUIRY_MESSAGE_MAX_BYTES, LOCAL_TORRENTS_MAX,
    MESSAGE_KEPT_MAX_BYTES, MIRRORS_MAX, NAME_LENGTH_MAX_BYTES, OUTBOX_MAX_BYTES, PATH_DEPTH_MAX,
    PATH_LENGTH_MAX_BYTES, PEERS_PER_REPLY_MAX, PIECE_LENGTH_MAX_BYTES, RENAMED_MAX,
    REQUESTS_IN_FLIGHT_MAX, SESSION_STACK_BYTES, TIERS_MAX, TOTAL_LENGTH_MAX_BYTES,
    TRACKER_ID_MAX_BYTES, TRACKERS_MAX, URL_LENGTH_MAX_BYTES,
};
use rusty_torrent::policy::conversation::{Conversation, Received};
use rusty_torrent::policy::dht::{Dht, Setup};
use rusty_torrent::policy::inquiry::Inquiry;
use rusty_torrent::policy::memory::{Needs, Plan};
use rusty_torrent::policy::metadata::Gathering;
use rusty_torrent::policy::pipeline::Pipeline;
use rusty_torrent::policy::reach::Reach;
use rusty_torrent::policy::swarm::Swarm;
use rusty_torrent::protocol::bencode::{Item, Value};
use rusty_torrent::protocol::exchange;
use rusty_torrent::protocol::extension::Hello;
use rusty_torrent::protocol::handshake::{HANDSHAKE_LENGTH, Handshake};
use rusty_torrent::protocol::krpc::{self, Body, ErrorCode, Family, Query, Undecodable};
use rusty_torrent::protocol::lsd::Announce;
use rusty_torrent::protocol::magnet::Magnet;
use rusty_torrent::protocol::message::{Garbled, Message, PIECE_HEADER_LENGTH};
use rusty_torrent::protocol::metadata;
use rusty_torrent::protocol::metainfo::{FileKind, Measures, Metainfo};
use rusty_torrent::protocol::node_file::{Kept, NodeFile};
use rusty_torrent::protocol::resume::{FileState, Record};
use rusty_torrent::protocol::tracker::{
    AnnounceReply, AnnounceRequest, Scheme, TrackerError, usable_peers,
};
use rusty_torrent::protocol::tracker_http::{announce_url, parse_reply};
use rusty_torrent::protocol::tracker_udp::{
    Target, announce_request, parse_announce, parse_connect,
};
use rusty_torrent::protocol::url::shown;
use rusty_torrent::protocol::web_seed::mirror_url;
use rusty_torrent::system::storage::layout::{Layout, OutputFile, OutputKind};
use rusty_torrent::text::is_plain;
use rusty_torrent::units::{Geometry, InfoHash, PeerId, SessionId};

use crate::heap;

/// Nothing of all that is counted by the piece.
const NOTHING: Plan = Plan {
    peers: 0,
    chunks: 0,
    begun: 0,
    announcers: 0,
    farewells: 0,
    mirrors: 0,
    dht: false,
    checkers: 0,
};
/// Bytes of the longest info dictionary that is asked for.
const INQUIRED_MAX_BYTES: usize = 64 << 10;
/// What a text for people may cost, in whatever place.
const TEXT_BYTES: usize = 16 << 10;

// ---- bencode -----------------------------------------------------------------------------------

/// Any bytes as bencode.
pub fn bencode(data: &[u8]) -> bool {
    let (parsed, most) = heap::most(|| Value::parse_prefix(data));
    assert_eq!(most, 0, "reading takes no memory");
    let (value, rest) = match parsed {
        Ok(parsed) => parsed,
        Err(malformed) => {
            assert!(malformed.at <= data.len(), "{malformed}");
            return false;
        }
    };
    assert_eq!([value.raw(), rest].concat(), data);
    assert_eq!(Value::parse(value.raw()), Ok(value), "what follows is not looked at");
    let cut = &value.raw()[..value.raw().len() - 1];
    assert!(Value::parse(cut).is_err(), "it can't do without its end");
    walk(value, 0);
    if let Some(item) = item_of(value) {
        let written = item.encode();
        assert_eq!(item_of(Value::parse(&written).unwrap()).as_ref(), Some(&item));
        assert_eq!(Value::parse(&written).unwrap().raw(), written);
    }
    true
}

/// A value is of one kind, and its parts are all of it.
fn walk(value: Value<'_>, depth: usize) {
    assert!(depth <= BENCODE_DEPTH_MAX);
    let kinds = [value.bytes().is_some(), value.list().is_some(), value.dict().is_some()];
    let is_number = value.raw()[0] == b'i';
    let kinds = kinds.iter().filter(|is| **is).count() + usize::from(is_number);
    assert_eq!(kinds, 1);
    assert!(is_number || value.integer().is_none());
    let mut parts = 0;
    for item in value.list().into_iter().flatten() {
        parts += item.raw().len();
        walk(item, depth + 1);
    }
    for (key, item) in value.dict().into_iter().flatten() {
        // The key's length and colon are what is left of it.
        parts += key.len() + item.raw().len();
        assert!(value.get(key).is_some());
        walk(item, depth + 1);
    }
    assert!(parts <= value.raw().len());
    if value.list().is_some() {
        assert_eq!(parts + 2, value.raw().len());
    }
}

/// The same to be written; `None` for a number that is too large.
fn item_of(value: Value<'_>) -> Option<Item> {
    if let Some(bytes) = value.bytes() {
        return Some(Item::bytes(bytes));
    }
    if let Some(list) = value.list() {
        return list.map(item_of).collect::<Option<_>>().map(Item::List);
    }
    if let Some(dict) = value.dict() {
        let mut items = BTreeMap::new();
        for (key, item) in dict {
            items.entry(key.to_vec()).or_insert(item_of(item)?);
        }
        return Some(Item::Dict(items));
    }
    value.integer().map(Item::Integer)
}

// ---- torrent files -----------------------------------------------------------------------------

/// Bytes of the heap for each byte of a torrent file: the shortest files, in long directories.
const METAINFO_BYTES_PER_BYTE: usize = 40;

/// Any bytes as a torrent file.
pub fn metainfo(data: &[u8]) -> bool {
    bencode(data);
    torrent(data)
}

/// The same without a look at the bencode, which takes its time with megabytes.
pub fn torrent(data: &[u8]) -> bool {
    let (measures, most) = heap::most(|| Measures::of(data));
    assert!(most <= METAINFO_BYTES_PER_BYTE * data.len() + TEXT_BYTES, "measuring takes {most}");
    let (parsed, most) = heap::most(|| Metainfo::parse(data));
    assert!(most <= METAINFO_BYTES_PER_BYTE * data.len() + TEXT_BYTES, "reading takes {most}");
    let torrent_bytes = data.len() as u64;
    let needs = Needs { torrent_bytes, measures, ..Needs::default() };
    assert!(torrent_bytes + most as u64 <= NOTHING.bytes(&needs), "{most} for {measures:?}");
    let metainfo = match parsed {
        Ok(metainfo) => metainfo,
        Err(fatal) => {
            let status = fatal.status();
            assert!(matches!(status, Status::NotBencode | Status::BadTorrent), "{fatal}");
            assert_eq!(matches!(fatal, Fatal::NotBencode(_)), Value::parse(data).is_err());
            assert_is_line(&fatal.to_string());
            return false;
        }
    };
    assert_sums(&metainfo, &measures);
    assert_paths(&metainfo);
    assert_layout(&metainfo);
    let trackers: Vec<&String> = metainfo.tiers.iter().flatten().collect();
    assert!(metainfo.tiers.len() <= TIERS_MAX && trackers.len() <= TRACKERS_MAX);
    assert!(metainfo.tiers.iter().all(|tier| !tier.is_empty()));
    assert_eq!(trackers.iter().collect::<HashSet<_>>().len(), trackers.len());
    trackers.into_iter().for_each(|url| tracker_url(url));
    assert_mirrors(&metainfo);
    let again = Metainfo::parse(data).unwrap();
    assert_eq!((&metainfo.name, &metainfo.files), (&again.name, &again.files));
    true
}

fn assert_sums(metainfo: &Metainfo, measures: &Measures) {
    let geometry = metainfo.geometry;
    assert!(geometry.piece_length() <= PIECE_LENGTH_MAX_BYTES);
    assert!(geometry.total() <= TOTAL_LENGTH_MAX_BYTES);
    assert!(metainfo.files.len() <= FILES_MAX);
    assert!(metainfo.multi_file || metainfo.files.len() == 1);
    let total: u64 = metainfo.files.iter().map(|file| file.length).sum();
    assert_eq!(total, geometry.total());
    let last = geometry.all_pieces().next_back().unwrap();
    assert_eq!(geometry.offset_of(last) + u64::from(geometry.length_of(last)), total);
    assert_eq!(measures.pieces, u64::from(geometry.pieces()));
    // One that is longer than all there is counts for no more blocks than there are.
    let all = total.next_multiple_of(u64::from(BLOCK_LENGTH));
    assert_eq!(measures.piece_length, u64::from(geometry.piece_length()).min(all));
    assert!(measures.files >= metainfo.files.len() as u64);
    assert_eq!(measures.tiers, metainfo.tiers.len());
    assert_eq!(measures.trackers, metainfo.tiers.iter().flatten().count() as u64);
    let paths = || metainfo.files.iter().map(|file| file.path.as_os_str().len() as u64);
    assert!(measures.path_bytes >= paths().sum(), "{measures:?}");
}

/// Every path stays below the output directory and is one that Linux's file systems take.
fn assert_paths(metainfo: &Metainfo) {
    let data = metainfo.files.iter().filter(|file| file.kind == FileKind::Data);
    let paths: Vec<&str> = data.map(|file| file.path.to_str().unwrap()).collect();
    let pad = metainfo.files.iter().filter(|file| file.kind == FileKind::Pad);
    assert!(pad.into_iter().all(|file| file.path == PathBuf::new()));
    assert_path(&metainfo.name);
    for path in &paths {
        assert_path(path);
        let below = path.strip_prefix(metainfo.name.as_str()).unwrap();
        assert_eq!(below.starts_with('/'), metainfo.multi_file, "{path:?}");
    }
    let all: HashSet<&str> = paths.iter().copied().collect();
    assert_eq!(all.len(), paths.len(), "two files in one place");
    for path in &paths {
        let mut above = path.match_indices('/').map(|(slash, _)| &path[..slash]);
        assert!(above.all(|directory| !all.contains(directory)), "{path:?}");
    }
    assert!(metainfo.renamed.len() <= RENAMED_MAX.min(metainfo.renamed_count));
    for renamed in &metainfo.renamed {
        assert_is_text(&renamed.original);
        assert_path(renamed.path.to_str().unwrap());
    }
}

/// Every mirror can be asked, and for every file.
fn assert_mirrors(metainfo: &Metainfo) {
    let mirrors: HashSet<&String> = metainfo.mirrors.iter().collect();
    assert!(mirrors.len() == metainfo.mirrors.len() && mirrors.len() <= MIRRORS_MAX);
    let fits = |text: &str| text.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'#');
    for mirror in mirrors {
        assert_eq!(mirror_url(mirror).as_ref(), Some(mirror));
        assert!(fits(mirror) && mirror.len() <= URL_LENGTH_MAX_BYTES);
        assert_is_text(&shown(mirror));
    }
    for (index, file) in metainfo.files.iter().enumerate() {
        let path = metainfo.mirror_path(index);
        assert!(file.is_data() || path.is_none());
        if let Some(path) = path {
            assert!(fits(&path) && !path.contains('?'), "{path}");
            let components: Vec<&str> = path.split('/').collect();
            assert!(components.iter().all(|component| !matches!(*component, "" | "." | "..")));
            assert_eq!(components.len() > 1, metainfo.multi_file, "{path}");
        }
    }
}

/// A path below the output directory.
pub fn assert_path(path: &str) {
    const DIR: &str = "/out/put";
    assert!(path.len() <= PATH_LENGTH_MAX_BYTES, "{} bytes", path.len());
    assert!(path.split('/').count() <= PATH_DEPTH_MAX);
    for name in path.split('/') {
        assert!(!["", ".", ".."].contains(&name), "{path:?}");
        assert!(name.len() <= NAME_LENGTH_MAX_BYTES, "{path:?}");
        assert!(name.chars().all(is_plain), "{path:?}");
    }
    // And as the standard library sees it.
    assert!(Path::new(path).components().all(|part| matches!(part, Component::Normal(_))));
    assert!(Path::new(DIR).join(path).starts_with(DIR), "{path:?}");
    assert_eq!(Path::new(path).components().count(), path.split('/').count());
}

/// Pieces are made of whole files, one after the other.
fn assert_layout(metainfo: &Metainfo) {
    let file = |file: &rusty_torrent::protocol::metainfo::FileEntry| OutputFile {
        path: file.path.clone(),
        length: file.length,
        kind: if file.is_data() { OutputKind::Data } else { OutputKind::Pad },
    };
    let layout = Layout::new(metainfo.files.iter().map(file).collect());
    let geometry = metainfo.geometry;
    assert_eq!(layout.total(), geometry.total());
    let first = geometry.all_pieces().take(3);
    for piece in first.chain(geometry.all_pieces().next_back()) {
        let mut length = 0;
        for segment in layout.segments_of(geometry, piece) {
            assert_eq!(segment.from as u64, length);
            assert!(segment.length > 0 && segment.end() <= segment.file.length);
            length += segment.length as u64;
        }
        assert_eq!(length, u64::from(geometry.length_of(piece)));
    }
}

// ---- trackers ----------------------------------------------------------------------------------

/// A tracker's URL as a torrent names it: what becomes of it is a URL, or nothing.
fn tracker_url(url: &str) {
    assert!(!url.is_empty() && url.len() <= URL_LENGTH_MAX_BYTES);
    assert!(!url.chars().any(char::is_control), "{url:?}");
    assert_is_text(&shown(url));
    let request = request(Some(b"\r\n\0 &#".to_vec()));
    match Scheme::of(url) {
        Some(Scheme::Http) => {
            if let Ok(url) = announce_url(url, &request) {
                assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url:?}");
                assert!(!url.contains('#') && url.contains("info_hash=%07"), "{url:?}");
            }
        }
        Some(Scheme::Udp) => {
            if let Ok(target) = Target::of(url) {
                assert!(!target.host.is_empty() && !target.host.contains('@'));
                assert!(target.url_data.len() < url.len());
                let datagram = announce_request(1, 2, &request, target.url_data);
                assert!(datagram.len() <= 98 + target.url_data.len() * 258 / 255 + 2);
            }
        }
        None => {}
    }
}

fn request(tracker_id: Option<Vec<u8>>) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([7; 20]),
        peer_id: PeerId([8; 20]),
        port: 6881,
        uploaded: 0,
        downloaded: u64::MAX,
        left: 1,
        event: None,
        key: 9,
        numwant: 80,
        tracker_id,
    }
}

/// Bytes of the heap that an answer's peers take at most: their list, and how each is found in it,
/// while both grow.
const REPLY_BYTES: usize = 2048 * (32 + 8) * 3 / 2;
/// Bytes of the heap for each byte of an answer.
const REPLY_BYTES_PER_BYTE: usize = 32;

/// Any bytes as the body of an HTTP tracker's answer.
pub fn http_answer(data: &[u8]) -> bool {
    bencode(data);
    let (answer, most) = heap::most(|| parse_reply(data));
    assert_reply_heap(most, data.len());
    assert_answer(&answer);
    let Ok(reply) = answer else { return false };
    let url = announce_url("http://a/", &request(reply.tracker_id)).unwrap();
    assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url:?}");
    true
}

/// Any bytes as a UDP tracker's datagram.
pub fn udp_answer(data: &[u8]) -> bool {
    let number = |at| data.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let ours = number(4).unwrap_or(0);
    assert_eq!(parse_connect(data, !ours), None, "it answers something else");
    assert_eq!(parse_announce(data, !ours, false), None, "it answers something else");
    let connected = parse_connect(data, ours);
    let mut useful = matches!(connected, Some(Ok(_)));
    assert!(!useful || data.len() >= 16 && number(0) == Some(0));
    for (over_ipv6, length) in [(false, 6), (true, 18)] {
        let (answer, most) = heap::most(|| parse_announce(data, ours, over_ipv6));
        assert_reply_heap(most, data.len());
        let Some(answer) = answer else { continue };
        assert_answer(&answer);
        let Ok(reply) = answer else { continue };
        assert!(20 + reply.peers.len() * length <= data.len());
        assert!(over_ipv6 || reply.peers.iter().all(SocketAddr::is_ipv4));
        assert!(connected.is_none(), "one datagram answers one request");
        useful = true;
    }
    useful
}

fn assert_reply_heap(most: usize, length: usize) {
    let allowed = REPLY_BYTES.min(REPLY_BYTES_PER_BYTE * length) + TEXT_BYTES;
    assert!(most <= allowed, "{most} bytes for {length}");
}

fn assert_answer(answer: &Result<AnnounceReply, TrackerError>) {
    let reply = match answer {
        Ok(reply) => reply,
        Err(TrackerError::Refused(reason)) => return assert_is_text(reason),
        Err(error) => return assert_eq!(*error, TrackerError::NotBencode),
    };
    assert!(reply.peers.len() <= PEERS_PER_REPLY_MAX);
    assert_eq!(reply.peers.iter().collect::<HashSet<_>>().len(), reply.peers.len());
    for peer in &reply.peers {
        let one_host = !peer.ip().is_unspecified() && !peer.ip().is_multicast();
        assert!(one_host && peer.port() != 0, "{peer}");
        assert!(matches!(peer.ip().to_canonical(), ip if ip == peer.ip()), "{peer}");
        assert!(!matches!(peer.ip(), IpAddr::V4(ip) if ip.is_broadcast()), "{peer}");
    }
    let longest = Duration::from_secs(ANNOUNCE_INTERVAL_MAX_S);
    assert!(reply.interval >= Duration::from_secs(ANNOUNCE_INTERVAL_MIN_S));
    assert!(reply.interval <= longest);
    assert!(reply.min_interval.is_none_or(|pause| !pause.is_zero() && pause <= longest));
    assert!(reply.tracker_id.as_ref().is_none_or(|id| id.len() <= TRACKER_ID_MAX_BYTES));
    reply.warning.iter().for_each(|warning| assert_is_text(warning));
}

// ---- peers -------------------------------------------------------------------------------------

/// What a message was, by its place in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Said {
    at: usize,
    length: usize,
    passed_over: bool,
}

/// Takes a stream apart as a session does, whatever parts it comes in.
#[derive(Default)]
struct Reader {
    unread: Vec<u8>,
    /// Bytes of the stream before `unread`.
    at: usize,
    to_skip: usize,
}

impl Reader {
    fn read(
        &mut self,
        part: &[u8],
        mut each: impl FnMut(Said, Option<Message<'_>>),
    ) -> Result<(), Garbled> {
        let skipped = self.to_skip.min(part.len());
        self.to_skip -= skipped;
        self.at += skipped;
        self.unread.extend_from_slice(&part[skipped..]);
        let mut taken = 0;
        let end = loop {
            let Some(rest) = self.unread.get(taken..) else { break Ok(()) };
            let at = self.at + taken;
            if let Some(length) = Message::passed_over(rest) {
                assert!(length > MESSAGE_KEPT_MAX_BYTES as usize);
                assert!(length <= 4 + EXTENDED_LENGTH_MAX_BYTES as usize);
                each(Said { at, length, passed_over: true }, None);
                self.to_skip = length.saturating_sub(rest.len());
                taken += length.min(rest.len());
                continue;
            }
            match Message::decode(rest, geometry()) {
                Ok(Some((message, length))) => {
                    each(Said { at, length, passed_over: false }, Some(message));
                    taken += length;
                }
                Ok(None) => break Ok(()),
                Err(garbled) => break Err(garbled),
            }
        };
        self.unread.drain(..taken);
        self.at += taken;
        assert!(end.is_err() || self.unread.len() <= longest_kept(), "{}", self.unread.len());
        end
    }
}

/// Bytes of a message that has not come whole.
fn longest_kept() -> usize {
    4 + (MESSAGE_KEPT_MAX_BYTES as usize).max(1 + Bitfield::wire_length(geometry()))
}

/// 100 pieces of 8 bytes, the last of 5: short enough that a fuzzer can make up what is asked for.
fn geometry() -> Geometry {
    Geometry::new(PIECES * 8 - 3, 8).unwrap()
}
const PIECES: u64 = 100;

/// Everything that is said in the stream that comes in these parts, what is wrong with it at its
/// end, and how many bytes wait for more.
fn said<'a>(
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Said>, Result<(), Garbled>, (usize, usize)) {
    let mut reader = Reader::default();
    let mut all = Vec::new();
    for part in parts {
        let read = reader.read(part, |said, _| all.push(said));
        if read.is_err() {
            // How much of the stream was there by then is another matter.
            return (all, read, (reader.at, 0));
        }
    }
    (all, Ok(()), (reader.unread.len(), reader.to_skip))
}

/// A stream cut at each of these places says what it says whole.
pub fn cut_at(data: &[u8], cuts: impl Iterator<Item = usize>) {
    let whole = said(std::iter::once(data));
    for cut in cuts {
        let (one, other) = data.split_at(cut);
        assert_eq!(said([one, other].into_iter()), whole, "cut at {cut}");
    }
}

/// Any bytes as what a peer sends: its handshake, if it is one, and messages.
pub fn messages(data: &[u8]) -> bool {
    let (theirs, stream) = handshake(data);
    let (whole, most) = heap::most(|| said(std::iter::once(stream)));
    assert!(most <= 8 * stream.len() + TEXT_BYTES, "{most} for {} bytes", stream.len());
    assert_eq!(said(stream.chunks(1)), whole, "byte by byte");
    // Places that the stream itself names: they are the same next time.
    let cuts = stream.iter().scan(0, |at, byte| Some((*at, *at += 1 + usize::from(*byte)).0));
    cut_at(stream, cuts.take_while(|cut| *cut <= stream.len()).take(16));
    let (all, _, _) = whole;
    for said in all.iter().filter(|said| !said.passed_over) {
        one_message(&stream[said.at..], said.length);
    }
    conversation(&theirs, stream);
    !all.is_empty()
}

fn ours() -> Handshake {
    let info_hash = InfoHash([7; 20]);
    Handshake { info_hash, peer_id: PeerId([8; 20]), fast: true, extended: true, dht: true }
}

/// The handshake that `data` begins with, and the rest; all is the rest if it is none.
fn handshake(data: &[u8]) -> (Handshake, &[u8]) {
    let Some((bytes, rest)) = data.split_first_chunk::<HANDSHAKE_LENGTH>() else {
        return (ours(), data);
    };
    let prefixes = (0..=bytes.len()).map(|length| &bytes[..length]);
    let begins = prefixes.map(Handshake::may_begin_with).collect::<Vec<bool>>();
    assert!(begins.is_sorted_by(|before, after| before >= after), "once wrong, always wrong");
    let decoded = Handshake::decode(bytes);
    assert_eq!(decoded.is_some(), begins[HANDSHAKE_LENGTH]);
    let Some(theirs) = decoded else { return (ours(), data) };
    let again = theirs.encode();
    assert_eq!(Handshake::decode(&again), Some(theirs));
    assert_eq!((&again[..20], &again[28..]), (&bytes[..20], &bytes[28..]));
    (theirs, rest)
}

/// A message of `length` bytes that `stream` begins with.
fn one_message(stream: &[u8], length: usize) {
    let (decoded, most) = heap::most(|| Message::decode(stream, geometry()));
    assert_eq!(most, 0, "reading takes no memory");
    let (message, taken) = decoded.unwrap().unwrap();
    assert_eq!((taken, Message::length(stream)), (length, Some(length)));
    let bytes = &stream[..length];
    assert_eq!(Message::decode(bytes, geometry()), Ok(Some((message, length))));
    for cut in [4, 5, length / 2, length - 1].into_iter().filter(|cut| *cut < length) {
        assert_eq!(Message::decode(&bytes[..cut], geometry()), Ok(None), "cut to {cut}");
    }
    match message {
        Message::Bitfield(bits) => assert_eq!(bits.len(), Bitfield::wire_length(geometry())),
        Message::Piece(.., data) => assert!(data.len() <= BLOCK_LENGTH as usize),
        Message::Extended(_, payload) => assert!(payload.len() < MESSAGE_KEPT_MAX_BYTES as usize),
        _ => {}
    }
    let mut written = Vec::new();
    message.encode(&mut written);
    assert_eq!(written, bytes);
}

/// Talks with a peer that sends this: whatever it says, we speak properly, keep our bounds, and
/// leave nothing behind.
fn conversation(theirs: &Handshake, stream: &[u8]) {
    const PERMITS: u32 = 8;
    const PEER: SessionId = SessionId(1);
    let began = Instant::now();
    let none = Bitfield::none(geometry());
    let mut swarm = Swarm::new(geometry(), none, fastrand::Rng::with_seed(7), began);
    let mut permits = PERMITS;
    let ((), most) = heap::most(|| {
        let mut talk = Conversation::new(PEER, geometry(), &ours(), theirs, began);
        talk.join(&mut swarm);
        let mut dialogue = Dialogue { talk, theirs: Reader::default(), ours: Reader::default() };
        let mut now = began;
        let mut rest = stream;
        // Each turn brings as many bytes as milliseconds went by: more and more.
        for length in (0..).map(|turn| 1_u16 << (turn / 8).min(15)) {
            now += Duration::from_millis(length.into());
            let (part, after) = rest.split_at(usize::from(length).min(rest.len()));
            let over = dialogue.turn(&mut swarm, part, &mut permits, now).is_err();
            rest = after;
            if over || rest.is_empty() {
                break;
            }
        }
        dialogue.talk.leave(&mut swarm, &mut permits);
    });
    assert_eq!((permits, swarm.sessions()), (PERMITS, 0), "every permit comes back");
    for piece in geometry().all_pieces() {
        assert_eq!(swarm.picker.availability(piece), 0);
        assert!(!swarm.picker.is_asked(PEER, geometry().block(piece, 0)), "{piece}");
    }
    let measures = Measures { pieces: PIECES, piece_length: 8, ..Measures::default() };
    let needs = Needs { measures, ..Needs::default() };
    let session = Plan { peers: 1, begun: PERMITS as usize, ..NOTHING };
    let allowed = session.bytes(&needs) - NOTHING.bytes(&needs) - SESSION_STACK_BYTES as u64;
    assert!(most as u64 <= allowed, "{most} of {allowed} bytes");
}

/// A session without a socket.
struct Dialogue {
    talk: Conversation,
    theirs: Reader,
    ours: Reader,
}

impl Dialogue {
    /// One turn of a session: what came is heard, then what is to be said is said. It is an error
    /// when the session is over, for whatever reason.
    fn turn(
        &mut self,
        swarm: &mut Swarm,
        part: &[u8],
        permits: &mut u32,
        now: Instant,
    ) -> Result<(), ()> {
        let Self { talk, theirs, ours } = self;
        let mut arrived = Vec::new();
        let mut over = talk.on_read(now).is_err();
        let read = theirs.read(part, |said, message| {
            if over {
                return;
            }
            let heard = match message {
                Some(message) => talk.on_message(&message, now),
                None => talk.on_long_message(said.length, now).map(|()| None),
            };
            over = heard.is_err();
            let block = heard.unwrap_or_default();
            arrived.extend(block.map(|block| Received { block, at: PIECE_HEADER_LENGTH }));
        });
        assert!(talk.permits_wanted(now) <= REQUESTS_IN_FLIGHT_MAX);
        let reconciled = talk.reconcile(swarm, &mut arrived, permits, now);
        for Received { block, .. } in arrived {
            assert_eq!(block, geometry().block(block.piece, 0), "a block that was asked for");
            // Every other piece is right.
            match block.piece.get() % 2 {
                0 => swarm.on_verified(block.piece),
                _ => drop(swarm.on_failed(block.piece)),
            }
        }
        assert!(talk.client().is_none_or(|name| name.len() <= FOREIGN_TEXT_MAX_CHARS));
        // A turn may add as many requests and cancels, of 17 bytes each, as may be out.
        let requests = 2 * REQUESTS_IN_FLIGHT_MAX as usize * 17;
        assert!(talk.outbox().len() <= OUTBOX_MAX_BYTES + requests);
        assert_eq!(ours.read(talk.outbox(), |_, _| {}), Ok(()), "what we say can be read");
        assert_eq!((ours.unread.len(), ours.to_skip), (0, 0), "we say whole messages");
        talk.outbox().clear();
        if read.is_err() || over || reconciled.is_err() { Err(()) } else { Ok(()) }
    }
}

/// Any bytes as a peer's extension handshake.
pub fn extension(data: &[u8]) -> bool {
    bencode(data);
    let (hello, most) = heap::most(|| Hello::decode(data));
    assert!(most <= 2 * FOREIGN_TEXT_MAX_CHARS, "{most} bytes");
    let is_dictionary = Value::parse(data).is_ok_and(|value| value.dict().is_some());
    assert_eq!(hello.is_some(), is_dictionary);
    let Some(hello) = hello else { return false };
    assert!(hello.client.as_ref().is_none_or(|name| name.len() <= FOREIGN_TEXT_MAX_CHARS));
    let mut pipeline = Pipeline::default();
    hello.reqq.into_iter().for_each(|reqq| pipeline.on_reqq(reqq));
    for _ in 0..2 * REQUESTS_IN_FLIGHT_MAX {
        pipeline.on_block(Duration::from_millis(1), REQUESTS_IN_FLIGHT_MAX);
        assert!(pipeline.depth() >= 1 && pipeline.depth() <= REQUESTS_IN_FLIGHT_MAX);
        assert!(hello.reqq.is_none_or(|reqq| pipeline.depth() <= reqq.max(1)));
    }
    true
}

/// Any bytes as what a peer says of the torrent or of peers, or as what comes from the local network.
pub fn hearsay(data: &[u8]) -> bool {
    let (told, most) = heap::most(|| exchange::decode(data));
    assert!(most <= 3 * EXCHANGED_MAX * 48, "{most} bytes");
    if let Some(peers) = &told {
        assert!(peers.len() <= EXCHANGED_MAX && usable_peers(peers.iter().copied()) == *peers);
    }
    let block = metadata::Message::decode(data);
    if let Some(message) = &block {
        let again = message.encode(7);
        assert_eq!(metadata::Message::decode(&again).as_ref(), Some(message));
    }
    let (announce, most) = heap::most(|| Announce::decode(data));
    assert!(most <= data.len() + 3 * LOCAL_TORRENTS_MAX * 20 + TEXT_BYTES, "{most} bytes");
    if let Some(announce) = &announce {
        let written = announce.encode("group");
        assert_eq!(Announce::decode(&written).map(|again| again.port), Some(announce.port));
    }
    announce.is_some() || block.is_some() || told.is_some_and(|told| !told.is_empty())
}

/// Any bytes as a magnet link.
pub fn magnet(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let (magnet, most) = heap::most(|| Magnet::parse(&text));
    assert!(most <= 16 * text.len() + TEXT_BYTES, "{most} bytes of {}", text.len());
    let Ok(magnet) = magnet else { return false };
    assert!(Magnet::is_meant(&text));
    let urls = magnet.tiers.iter().flatten().chain(&magnet.web_seeds).chain(&magnet.peers);
    for url in urls {
        assert!(!url.is_empty() && url.len() <= URL_LENGTH_MAX_BYTES);
        assert!(!url.contains(char::is_whitespace) && !url.contains(char::is_control));
    }
    true
}

/// Any bytes as what a peer says that is asked what the torrent is.
pub fn inquiry(data: &[u8]) -> bool {
    let begin = Instant::now();
    let (mut now, mut blocks) = (begin, 0);
    let ((), most) = heap::most(|| {
        let mut gathering = Gathering::new(InfoHash([1; 20]), INQUIRED_MAX_BYTES, now);
        let Ok(mut talk) = Inquiry::new(SessionId(1), &ours(), (Some(1), Some(2)), now) else {
            return;
        };
        for bytes in data.chunks(1_000) {
            now += Duration::from_millis(20);
            if talk.on_read(bytes, &mut gathering, now).is_err() {
                break;
            }
            if talk.ask(&mut gathering, now).is_err() {
                break;
            }
            assert!(talk.outbox().len() <= 2 * INQUIRY_MESSAGE_MAX_BYTES);
            talk.outbox().clear();
            blocks = blocks.max(gathering.progress().1);
            assert!(talk.take_heard().len() <= EXCHANGE_HEARD_MAX);
        }
        gathering.on_leave(SessionId(1), now);
    });
    let allowed = 2 * INQUIRED_MAX_BYTES + 8 * INQUIRY_MESSAGE_MAX_BYTES;
    assert!(most <= allowed, "{most} of {allowed} bytes");
    blocks > 0
}

// ---- the DHT -----------------------------------------------------------------------------------

/// Bytes of the heap that a message takes at most, while its lists grow.
const KRPC_BYTES: usize = 16 << 10;

/// Any bytes as a datagram of the DHT: as a message, as a question to a node of ours, and if it can
/// be one, as the answer to a question.
pub fn krpc(data: &[u8]) -> bool {
    bencode(data);
    let (decoded, most) = heap::most(|| krpc::Message::decode(data));
    assert!(most <= KRPC_BYTES, "reading takes {most}");
    assert!(decoded == Err(Undecodable::Nonsense) || data.len() <= DHT_DATAGRAM_MAX_BYTES);
    let is_question = match &decoded {
        Err(Undecodable::Nonsense) => false,
        Err(Undecodable::Query { transaction, code }) => {
            assert!(transaction.len() <= DHT_TRANSACTION_MAX_BYTES);
            assert!([ErrorCode::PROTOCOL, ErrorCode::METHOD_UNKNOWN].contains(code));
            true
        }
        Ok(message) => {
            krpc_message(message);
            matches!(message.body, Body::Query(..))
        }
    };
    let ((), most) = heap::most(|| {
        for family in [Family::V4, Family::V6] {
            dht_node(family, data, decoded.as_ref().ok(), is_question);
        }
    });
    assert!(most <= DHT_NODE_BYTES, "a node takes {most}");
    decoded.is_ok()
}

fn krpc_message(message: &krpc::Message) {
    assert!(message.transaction.len() <= DHT_TRANSACTION_MAX_BYTES);
    match &message.body {
        Body::Query(_, Query::AnnouncePeer { port, implied_port, token, .. }) => {
            assert!(token.len() <= DHT_TOKEN_MAX_BYTES && (*port > 0 || *implied_port));
        }
        Body::Response(response) => {
            for v4 in [false, true] {
                let nodes = response.nodes.iter().filter(|node| node.address.is_ipv4() == v4);
                assert!(nodes.count() <= DHT_NODES_PER_REPLY_MAX);
            }
            assert!(response.values.len() <= DHT_PEERS_PER_REPLY_MAX);
            let token = response.token.as_ref();
            assert!(token.is_none_or(|token| token.len() <= DHT_TOKEN_MAX_BYTES));
        }
        _ => {}
    }
    let written = message.encode();
    if written.len() <= DHT_DATAGRAM_MAX_BYTES {
        assert_eq!(krpc::Message::decode(&written).as_ref(), Ok(message));
    }
}

/// A node of ours is sent this.
fn dht_node(family: Family, data: &[u8], message: Option<&krpc::Message>, is_question: bool) {
    let (there, router): (SocketAddr, SocketAddr) = match family {
        Family::V4 => (([192, 0, 2, 1], 6881).into(), ([10, 0, 0, 1], 6881).into()),
        Family::V6 => (
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 6881).into(),
            ([0xfd00, 0, 0, 0, 0, 0, 0, 1], 6881).into(),
        ),
    };
    let now = Instant::now();
    let mut dht = Dht::new(&Setup { family, seed: [7; 32], read_only: false, kept: None }, now);
    dht.add_router(router, now);
    dht.search(InfoHash([7; 20]), Some(6881), now);
    if let Some(answer) = dht.on_datagram(there, data, now) {
        assert!(is_question, "only questions are answered");
        assert!(answer.len() <= DHT_DATAGRAM_SENT_MAX_BYTES, "{} bytes", answer.len());
        assert!(krpc::Message::decode(&answer).is_ok());
        assert!(dht.on_datagram(there, &answer, now).is_none());
    }
    // The same as the answer to each question of ours, as far as it is one.
    let mut later = now;
    for _ in 0..4 {
        let sent = dht.poll(later);
        assert!(dht.poll(later).is_empty());
        assert!(dht.next_deadline(later) > later, "it spins");
        for question in sent {
            let asked = krpc::Message::decode(&question.bytes).unwrap();
            let said = message
                .cloned()
                .map(|message| krpc::Message { transaction: asked.transaction, ..message });
            let bytes = said.map_or_else(|| data.to_vec(), |said| said.encode());
            drop(dht.on_datagram(question.to, &bytes, later));
        }
        later = dht.next_deadline(later).max(later + Duration::from_millis(1));
    }
    for (_, peer) in dht.take_found() {
        assert!(Family::of(peer.ip()) == family && peer.port() != 0, "{peer}");
        assert!(Reach::of(peer.ip()) >= Some(Reach::Site), "{peer}");
    }
    assert!(dht.count(later).0 <= BUCKETS_MAX * BUCKET_NODES_MAX);
}

/// Any bytes as the file that nodes are kept in.
pub fn node_file(data: &[u8]) -> bool {
    bencode(data);
    let (file, most) = heap::most(|| NodeFile::decode(data));
    assert!(most <= 4 * data.len() + TEXT_BYTES, "{most} for {} bytes", data.len());
    assert_eq!(NodeFile::decode(&file.encode()), file);
    let kept = [(Family::V4, &file.v4), (Family::V6, &file.v6)];
    for (family, kept) in kept {
        let Some(Kept { id, nodes }) = kept else { continue };
        assert!(nodes.len() <= BUCKETS_MAX * BUCKET_NODES_MAX);
        let now = Instant::now();
        let setup = Setup { family, seed: [7; 32], read_only: false, kept: kept.clone() };
        let mut dht = Dht::new(&setup, now);
        assert_eq!(dht.id(), *id);
        assert!(dht.count(now) <= (nodes.len(), 0), "none of them is good yet");
        for question in dht.poll(now) {
            let ip = question.to.ip();
            assert!(Family::of(ip) == family && Reach::of(ip).is_some() && question.to.port() != 0);
        }
    }
    file != NodeFile::default()
}

// ---- the resume record -------------------------------------------------------------------------

/// Any bytes as a resume record, of this torrent or of one that would fit it.
pub fn resume(data: &[u8]) -> bool {
    bencode(data);
    let field = |key| Value::parse(data).ok()?.get(key)?.bytes();
    let length = |key| field(key).map_or(0, <[u8]>::len);
    let (pieces, files) = (8 * length("pieces") as u64, length("files") / 16);
    let mut fitting = [0; 20];
    if let Some(hash) = field("info-hash").and_then(<[u8]>::first_chunk) {
        fitting = *hash;
    }
    let decode = |info_hash, geometry, files| {
        let (record, most) = heap::most(|| Record::decode(data, info_hash, geometry, files));
        assert!(most <= 2 * data.len() + TEXT_BYTES, "{most} for {} bytes", data.len());
        let Some(record) = record else { return false };
        assert_eq!(record.info_hash, info_hash);
        assert_eq!(record.files.len(), files + 1);
        assert!(record.aside.iter().all(|piece| geometry.piece(*piece).is_some()));
        assert_eq!(record.pieces.as_bytes().len(), Bitfield::wire_length(geometry));
        let had = geometry.all_pieces().filter(|piece| record.pieces.has(*piece)).count();
        assert_eq!(had, record.pieces.count() as usize);
        assert!(!record.knows(files + 1, FileState { length: 1, modified_ns: 1 }));
        assert!((0..files).all(|file| !record.knows(file, FileState::default())));
        let written = record.encode();
        assert!(written.len() as u64 <= Record::length_max(geometry, files));
        assert_eq!(Record::decode(&written, info_hash, geometry, files), Some(record));
        true
    };
    let fixed = decode(InfoHash([7; 20]), Geometry::new(1600, 100).unwrap(), 3);
    let fits = [pieces, pieces.saturating_sub(7)].into_iter().any(|pieces| {
        let geometry = Geometry::new(pieces, 1);
        geometry.is_some_and(|geometry| {
            let with_aside = files.saturating_sub(1);
            decode(InfoHash(fitting), geometry, files)
                | decode(InfoHash(fitting), geometry, with_aside)
        })
    });
    fixed || fits
}

// ---- text --------------------------------------------------------------------------------------

/// Foreign text as it may be shown.
fn assert_is_text(text: &str) {
    assert!(text.chars().count() <= FOREIGN_TEXT_MAX_CHARS, "{text}");
    assert!(text.chars().all(is_plain), "{text:?}");
}

/// An error as it may be shown: one line, with a foreign text or two in it.
fn assert_is_line(text: &str) {
    assert!(text.chars().count() <= 3 * FOREIGN_TEXT_MAX_CHARS, "{text}");
    assert!(text.chars().all(is_plain), "{text:?}");
}
