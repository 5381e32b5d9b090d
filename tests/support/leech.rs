//! A leecher in the test's own process: it connects to the program over loopback, asks for blocks
//! and compares each of them with the payload. It speaks the wire by itself, without the library,
//! so that no mistake is made on both sides alike. A test says what it does, step by step; what
//! comes it writes down in a [`Record`].

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_linger, socket_linger};

use super::torrent::Payload;
use super::wire::{BLOCK, Range, blocks_of, dial, message, numbers, read_handshake};

/// No message that the program may send is longer.
const MESSAGE_LENGTH_MAX: usize = 256 << 10;
/// What no answer takes, however busy the machine is and whoever else is let in before.
pub const PATIENCE: Duration = Duration::from_secs(45);

// ---- what it is --------------------------------------------------------------------------------

/// Who a leech is. The default knows BEP 6 and BEP 10, has nothing and is alone at its address.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Where it connects from.
    pub from: Ipv4Addr,
    pub peer_id: [u8; 20],
    /// Another torrent than the payload's.
    pub info_hash: Option<[u8; 20]>,
    /// Knows the fast extension (BEP 6).
    pub fast: bool,
    /// Knows the extension protocol (BEP 10).
    pub extended: bool,
    /// The pieces it has and says that it has.
    pub has: Vec<usize>,
    /// Lets the program in and gives what it has.
    pub gives: bool,
    /// Reads what comes. It can begin to do so later.
    pub reads: bool,
}

impl Default for Manner {
    fn default() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let number = NEXT.fetch_add(1, SeqCst);
        let [high, low] = number.to_be_bytes();
        Self {
            from: Ipv4Addr::new(127, 88, high, low),
            peer_id: format!("-TL0001-{number:012}").into_bytes().try_into().unwrap(),
            info_hash: None,
            fast: true,
            extended: true,
            has: Vec::new(),
            gives: false,
            reads: true,
        }
    }
}

impl Manner {
    /// Knows no extension.
    pub fn plain() -> Self {
        Self { fast: false, extended: false, ..Self::default() }
    }

    /// Its handshake (BEP 3).
    pub fn handshake(&self, payload: &Payload) -> Vec<u8> {
        let mut bytes = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
        bytes[25] |= if self.extended { 0x10 } else { 0 };
        bytes[27] |= if self.fast { 0x04 } else { 0 };
        bytes.extend(self.info_hash.unwrap_or(payload.info_hash));
        bytes.extend(self.peer_id);
        bytes
    }
}

// ---- what it saw -------------------------------------------------------------------------------

/// What a leech saw of the program.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub reserved: [u8; 8],
    pub peer_id: Vec<u8>,
    /// The first message that tells what the program has: its id and body.
    pub first: Option<(u8, Vec<u8>)>,
    /// The extension handshake.
    pub hello: Vec<u8>,
    /// Messages about metadata (BEP 9), and of peers (BEP 11), as they came.
    pub metadata: Vec<Vec<u8>>,
    pub told_of: Vec<Vec<u8>>,
    /// The pieces that the program has said it has.
    pub has: BTreeSet<usize>,
    pub haves: Vec<usize>,
    /// Whether the program lets the leech ask now.
    pub let_in: bool,
    pub unchokes: usize,
    pub chokes: usize,
    pub interested: usize,
    pub allowed_fast: BTreeSet<usize>,
    /// Blocks that came, and when, counted from the connection.
    pub blocks: Vec<(Range, Duration)>,
    pub rejects: Vec<Range>,
    /// What the program asked for.
    pub requests: Vec<Range>,
    /// Requests that nothing has become of yet, each with how often it was made.
    pub waiting: HashMap<Range, usize>,
    /// When the program closed the connection.
    pub closed: Option<Duration>,
    /// Rules that the program broke.
    pub broken: Vec<String>,
    /// All that was asked for at some time.
    asked: HashSet<Range>,
    /// What came, each once.
    got: HashSet<Range>,
    /// What was turned down, until it is asked for again.
    returned: Vec<Range>,
}

impl Record {
    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.values().sum()
    }

    /// Blocks and rejects that came.
    pub fn answers(&self) -> usize {
        self.blocks.len() + self.rejects.len()
    }

    /// One request less waits for its answer. False if none did.
    fn is_answered(&mut self, range: Range) -> bool {
        match self.waiting.get_mut(&range) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => drop(self.waiting.remove(&range)),
            None => return false,
        }
        true
    }
}

struct Shared {
    payload: Payload,
    manner: Manner,
    began: Instant,
    writer: Mutex<TcpStream>,
    record: Mutex<Record>,
    changed: Condvar,
}

impl Shared {
    fn note(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, id: u8, body: &[u8]) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write_all(&message(id, body))
    }
}

/// A connection to the program. It ends when it is dropped, and panics then if the program broke
/// a rule.
pub struct Leech {
    shared: Arc<Shared>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Leech {
    /// Connects and shakes hands. An error if the program doesn't.
    pub fn connect(to: SocketAddr, payload: &Payload, manner: Manner) -> io::Result<Self> {
        let mut stream = dial(to, manner.from)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&manner.handshake(payload))?;
        let theirs = read_handshake(&mut stream)?;
        Self::begin(stream, payload, manner, &theirs)
    }

    /// Waits for the program to connect, and shakes hands.
    pub fn accept(at: &TcpListener, payload: &Payload, manner: Manner) -> io::Result<Self> {
        let mut stream = at.accept()?.0;
        stream.set_read_timeout(Some(PATIENCE))?;
        let theirs = read_handshake(&mut stream)?;
        stream.write_all(&manner.handshake(payload))?;
        Self::begin(stream, payload, manner, &theirs)
    }

    fn begin(
        stream: TcpStream,
        payload: &Payload,
        manner: Manner,
        theirs: &[u8; 68],
    ) -> io::Result<Self> {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(None)?;
        let mut record = Record { peer_id: theirs[48..].to_vec(), ..Record::default() };
        record.reserved.copy_from_slice(&theirs[20..28]);
        if &theirs[..20] != b"\x13BitTorrent protocol" {
            record.broken.push("no BitTorrent handshake".to_owned());
        }
        if theirs[28..48] != payload.info_hash {
            record.broken.push("the handshake has another info-hash".to_owned());
        }
        let reads = manner.reads;
        let shared = Arc::new(Shared {
            payload: payload.clone(),
            manner,
            began: Instant::now(),
            writer: Mutex::new(stream),
            record: Mutex::new(record),
            changed: Condvar::new(),
        });
        let leech = Self { shared, reader: Mutex::default() };
        leech.tell()?;
        if reads {
            leech.read();
        }
        Ok(leech)
    }

    /// Says what it has, and greets (BEP 10).
    fn tell(&self) -> io::Result<()> {
        let Manner { fast, extended, has, .. } = &self.shared.manner;
        let mut bits = vec![0_u8; self.shared.payload.pieces().div_ceil(8)];
        has.iter().for_each(|piece| bits[piece / 8] |= 0x80 >> (piece % 8));
        if !has.is_empty() {
            self.say(5, &bits)?;
        } else if *fast {
            self.say(15, &[])?;
        }
        if *extended {
            self.say(20, b"\0d1:md11:ut_metadatai3e6:ut_pexi7ee4:reqqi250e1:v10:test leeche")?;
        }
        Ok(())
    }

    /// Begins to read.
    pub fn read(&self) {
        let shared = Arc::clone(&self.shared);
        let stream = self.shared.writer.lock().unwrap().try_clone().unwrap();
        let reader = thread::spawn(move || {
            let _ended = read_messages(stream, &shared);
            shared.note().closed = Some(shared.began.elapsed());
            shared.changed.notify_all();
        });
        *self.reader.lock().unwrap() = Some(reader);
    }

    pub fn record(&self) -> Record {
        self.shared.note().clone()
    }

    /// Waits until the record is as wished, and returns it.
    #[track_caller]
    pub fn wait_until(&self, wish: impl Fn(&Record) -> bool) -> Record {
        let until = Instant::now() + PATIENCE;
        let mut record = self.shared.note();
        while !wish(&record) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain: {record:?}");
            record = self.shared.changed.wait_timeout(record, left).unwrap().0;
        }
        record.clone()
    }

    // ---- what it says --------------------------------------------------------------------------

    /// Any message.
    pub fn say(&self, id: u8, body: &[u8]) -> io::Result<()> {
        self.shared.say(id, body)
    }

    pub fn interested(&self) {
        self.say(2, &[]).unwrap();
    }

    /// Is interested, and waits until it may ask.
    #[track_caller]
    pub fn is_let_in(&self) {
        self.interested();
        self.wait_until(|record| record.let_in || record.closed.is_some());
        assert!(self.record().let_in, "closed before it was let in: {:?}", self.record());
    }

    /// Asks, whether it may or not.
    pub fn request(&self, range: Range) -> io::Result<()> {
        let mut note = self.shared.note();
        *note.waiting.entry(range).or_default() += 1;
        note.asked.insert(range);
        drop(note);
        self.say(6, &numbers(range))
    }

    pub fn cancel(&self, range: Range) -> io::Result<()> {
        self.say(8, &numbers(range))
    }

    /// Fetches these pieces, with so many requests out at a time, and is interested no more.
    #[track_caller]
    pub fn fetch(&self, pieces: impl IntoIterator<Item = usize>, at_once: usize) {
        let pieces = pieces.into_iter();
        let wanted: Vec<Range> =
            pieces.flat_map(|piece| blocks_of(&self.shared.payload, piece)).collect();
        let mut ahead: VecDeque<Range> = wanted.iter().copied().collect();
        self.shared.note().returned.clear();
        self.interested();
        let mut until = Instant::now() + PATIENCE;
        let mut got = self.record().blocks.len();
        loop {
            let mut note = self.shared.note();
            ahead.extend(note.returned.drain(..).filter(|range| wanted.contains(range)));
            if note.blocks.len() > got {
                (got, until) = (note.blocks.len(), Instant::now() + PATIENCE);
            }
            if ahead.is_empty() && wanted.iter().all(|range| note.got.contains(range)) {
                break;
            }
            assert!(note.closed.is_none(), "closed before everything was there: {note:?}");
            let room = if note.let_in { at_once.saturating_sub(note.waiting()) } else { 0 };
            let next: Vec<Range> = ahead.drain(..room.min(ahead.len())).collect();
            if next.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "waited in vain: {note:?}");
                drop(self.shared.changed.wait_timeout(note, left).unwrap());
                continue;
            }
            drop(note);
            // An error is the end, and the reader sees that.
            next.into_iter().for_each(|range| drop(self.request(range)));
        }
        // What has all it wants may be left at once.
        let _left = self.say(3, &[]);
    }

    /// Fetches everything.
    #[track_caller]
    pub fn fetch_all(&self, at_once: usize) {
        self.fetch(0..self.shared.payload.pieces(), at_once);
    }

    /// Ends the connection without a goodbye.
    pub fn reset(self) {
        let writer = self.shared.writer.lock().unwrap();
        set_socket_linger(&*writer, Some(Duration::ZERO)).unwrap();
        let _wakes_the_reader = writer.shutdown(Shutdown::Read);
    }
}

impl Drop for Leech {
    fn drop(&mut self) {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let over = self.shared.note().closed.is_some();
        let _wakes_the_reader = self.shared.writer.lock().map(|writer| {
            let resets = socket_linger(&*writer).is_ok_and(|on| on.is_some());
            over || resets || writer.shutdown(Shutdown::Both).is_ok()
        });
        let _ended = reader.map(JoinHandle::join);
        // A test that fails says so with its own words.
        if !thread::panicking() {
            let who = &self.shared.manner;
            assert_eq!(self.record().broken, [""; 0], "rules the program broke towards {who:?}");
        }
    }
}

// ---- what the program says ---------------------------------------------------------------------

fn read_messages(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        if length > MESSAGE_LENGTH_MAX {
            shared.note().broken.push(format!("a message of {length} bytes"));
            return Ok(());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if length > 0 {
            let said = on_message(shared, body.remove(0), &body);
            shared.changed.notify_all();
            said?;
        }
    }
}

fn on_message(shared: &Shared, id: u8, body: &[u8]) -> io::Result<()> {
    let Manner { fast, extended, gives, .. } = shared.manner;
    let at = shared.began.elapsed();
    let number = |place: usize| {
        let bytes = body.get(4 * place..4 * place + 4)?;
        usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
    };
    let [piece, begin, length] = [0, 1, 2].map(|place| number(place).unwrap_or(usize::MAX));
    let range = (piece, begin, length);
    let pieces = shared.payload.pieces();
    let mut note = shared.note();
    match id {
        13..=17 if !fast => note.broken.push(format!("message {id} without BEP 6")),
        20 if !extended => note.broken.push("an extension message without BEP 10".to_owned()),
        0 => {
            note.chokes += 1;
            note.let_in = false;
            if !fast {
                let dropped: Vec<Range> = note.waiting.drain().map(|(range, _)| range).collect();
                note.returned.extend(dropped);
            }
        }
        1 => {
            note.unchokes += 1;
            note.let_in = true;
        }
        2 => {
            note.interested += 1;
            drop(note);
            return if gives { shared.say(1, &[]) } else { Ok(()) };
        }
        3 | 13 => {}
        4 => {
            note.haves.push(piece);
            note.has.insert(piece);
        }
        5 | 14 | 15 => {
            let bit =
                |piece: &usize| body.get(piece / 8).is_some_and(|b| b << (piece % 8) & 128 != 0);
            if note.first.is_some() {
                note.broken.push(format!("message {id} beside another"));
            }
            if id == 5 && body.len() != pieces.div_ceil(8) {
                note.broken.push(format!("a bitfield of {} bytes", body.len()));
            }
            note.has.extend((0..pieces).filter(|piece| id == 14 || id == 5 && bit(piece)));
            note.first = Some((id, body.to_vec()));
        }
        6 => {
            note.requests.push(range);
            drop(note);
            return give(shared, range);
        }
        7 => return on_block(shared, note, (piece, begin, body.len().saturating_sub(8)), body, at),
        8 => {}
        16 => {
            if !note.is_answered(range) {
                note.broken.push(format!("{range:?} is rejected and was not asked for"));
            }
            note.rejects.push(range);
            note.returned.push(range);
        }
        17 => drop(note.allowed_fast.insert(piece)),
        20 => match body.split_first() {
            Some((0, _)) => note.hello = body.to_vec(),
            Some((3, answer)) => note.metadata.push(answer.to_vec()),
            Some((7, told)) => note.told_of.push(told.to_vec()),
            number => note.broken.push(format!("an extension message {number:?}")),
        },
        _ => note.broken.push(format!("an unknown message {id}")),
    }
    if let Some(beyond) = note.has.last().filter(|last| **last >= pieces).copied() {
        note.broken.push(format!("it says that it has piece {beyond}"));
    }
    Ok(())
}

fn on_block(
    shared: &Shared,
    mut note: MutexGuard<'_, Record>,
    range: Range,
    body: &[u8],
    at: Duration,
) -> io::Result<()> {
    let (piece, begin, length) = range;
    // Without BEP 6 a block may have been on its way, or a request behind a choke.
    if !note.is_answered(range) && (shared.manner.fast || !note.asked.contains(&range)) {
        note.broken.push(format!("the block {range:?} was not asked for"));
    }
    if !note.let_in && !note.allowed_fast.contains(&piece) {
        note.broken.push(format!("the block {range:?} came behind a choke"));
    }
    if shared.payload.block(piece, begin, length) != body.get(8..) || length == 0 {
        note.broken.push(format!("the block {range:?} is wrong"));
    }
    note.blocks.push((range, at));
    let blocks = blocks_of(&shared.payload, piece);
    let is_last = note.got.insert(range) && blocks.contains(&range);
    let is_whole = is_last && blocks.iter().all(|range| note.got.contains(range));
    drop(note);
    match is_whole {
        true => shared.say(4, &u32::try_from(piece).unwrap().to_be_bytes()),
        false => Ok(()),
    }
}

/// Gives what it has. Nothing else may be asked for.
fn give(shared: &Shared, range: Range) -> io::Result<()> {
    let (piece, begin, length) = range;
    let offered = shared.manner.gives && shared.manner.has.contains(&piece);
    match shared.payload.block(piece, begin, length).filter(|_| offered && length <= BLOCK) {
        Some(bytes) => shared.say(7, &[&numbers(range)[..8], bytes].concat()),
        None => {
            shared.note().broken.push(format!("a request for {range:?}, which was not offered"));
            Ok(())
        }
    }
}
