//! A peer in the test's own process that seeds over loopback and misbehaves on request. It speaks
//! the wire by itself, without the library, so that no mistake is made on both sides alike. What
//! it sees of the program's behaviour it writes down in a [`Record`].

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::torrent::Payload;

const BLOCK_LENGTH: usize = 16 << 10;
/// No message that the program may send is longer.
const MESSAGE_LENGTH_MAX: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(20);
/// The numbers under which a peer takes messages about metadata, and of peers.
const METADATA: u8 = 3;
const EXCHANGE: u8 = 7;

// ---- what it does ------------------------------------------------------------------------------

/// How a peer behaves. The default is an honest seeder that knows BEP 6 and BEP 10.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub greeting: Greeting,
    /// Knows the fast extension (BEP 6).
    pub fast: bool,
    /// Knows the extension protocol (BEP 10) and takes this many requests at a time.
    pub reqq: Option<usize>,
    /// The pieces it has; `None`: all.
    pub has: Option<Vec<usize>>,
    pub tells: Tells,
    pub choking: Choking,
    /// Pieces that may be asked for while choked (BEP 6).
    pub allowed_fast: Vec<usize>,
    pub silent: Option<Silent>,
    /// Sends no more after so many blocks, until it is told to go on.
    pub rests_after: Option<usize>,
    /// The time that each block takes at least.
    pub block_pause: Duration,
    pub blocks: Blocks,
    pub noise: Option<Noise>,
    /// What it does when it is asked what the torrent is (BEP 9).
    pub metadata: Metadata,
    /// Peers that it tells of (BEP 11).
    pub tells_of: Vec<SocketAddr>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            greeting: Greeting::Honest,
            fast: true,
            reqq: Some(250),
            has: None,
            tells: Tells::Bitfield,
            choking: Choking::LetsIn,
            allowed_fast: Vec::new(),
            silent: None,
            rests_after: None,
            block_pause: Duration::ZERO,
            blocks: Blocks::Honest,
            noise: None,
            metadata: Metadata::Honest,
            tells_of: Vec::new(),
        }
    }
}

/// What it does with requests for the info dictionary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metadata {
    Honest,
    /// Has none.
    Unknown,
    /// Every block has a wrong byte.
    Corrupt,
    /// Says that it has so many bytes, and answers nothing.
    Claims(usize),
    Rejects,
    Silent,
}

/// The handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Greeting {
    Honest,
    WrongInfoHash,
    /// Sends the program's own peer id back.
    EchoesPeerId,
    /// Is a web server.
    Http,
    /// Closes the connection instead.
    Closes,
    /// A byte a second of an honest one.
    Trickles,
}

/// How it tells what it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tells {
    Bitfield,
    /// BEP 6; with `fast` alone.
    HaveAll,
    /// `have none` with `fast`, else nothing; then one `have` a piece.
    Haves,
    /// The same, but the `have`s come only after this pause.
    LateHaves(Duration),
    /// A bitfield behind other messages.
    LateBitfield,
    /// A bitfield with bits set behind the last piece.
    SpareBits,
    LongBitfield,
    ShortBitfield,
    Twice,
    Nothing,
}

/// When it lets us ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choking {
    /// As soon as the program is interested.
    LetsIn,
    /// Before it is asked.
    AtOnce,
    Never,
    /// Chokes after so many blocks, for this long, again and again.
    Flaps(usize, Duration),
}

/// Where it falls silent, keeping the connection open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Silent {
    AfterAccept,
    AfterHandshake,
    AfterBitfield,
    AfterBlocks(usize),
    InsideFirstBlock,
}

/// What becomes of the blocks that are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Blocks {
    Honest,
    /// Every block has a wrong byte.
    Corrupt,
    /// So many blocks in a hundred do, at random.
    CorruptShare(u8),
    /// The first block of these pieces does.
    CorruptPieces(Vec<usize>),
    /// They say that they are of another piece.
    WrongPiece,
    /// They say that they begin elsewhere.
    WrongBegin,
    /// They say that they begin so late that this and their length can't be added up.
    Overflowing,
    /// They have no bytes.
    Empty,
    /// A byte is missing at their end.
    Short,
    /// They are longer than asked.
    Long,
    /// Each comes behind one that was not asked for.
    Unrequested,
    /// Each comes twice.
    Twice,
    /// The connection is reset in the middle of the block with this number.
    ResetInside(usize),
    /// One byte a second.
    Trickle,
    /// None comes: every request is rejected (BEP 6).
    Rejected,
}

/// What it says beside that, once it has told what it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noise {
    /// A message of nearly 2 GiB is announced.
    HugeLength,
    /// A piece message that is longer than any.
    LongBlock,
    HaveOutOfRange,
    /// Message ids that nobody knows, and then it goes on.
    Unknown,
    /// Messages of a mebibyte that nobody knows, and then it goes on.
    LongUnknown,
    /// A dictionary that is none, as the extension handshake; then it goes on.
    BadHello,
    /// The same without end, as fast as it is taken, and so are those below.
    Flood(Flood),
    /// Asks for everything once; then it goes on.
    Leeches,
}

/// What a peer says again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flood {
    KeepAlives,
    /// Of one piece.
    Haves,
    Requests,
    Cancels,
    Unchokes,
    /// Lets in and chokes, in turn.
    Flaps,
    /// Is interested and is not, in turn.
    Interest,
    /// BEP 5 and 6: a DHT port, a suggestion and an allowed piece, in turn.
    Hints,
    /// Extension handshakes of 16 KiB.
    Hellos,
    /// Short messages that nobody knows.
    Unknown,
    /// Messages of a mebibyte that nobody knows.
    LongUnknown,
    /// Blocks that nobody asked for.
    Blocks,
    /// The bytes of a message that nobody knows, each in a packet of its own.
    Drips,
}

// ---- what it saw -------------------------------------------------------------------------------

/// What a peer saw of the program.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Connections that were made, and those that are open.
    pub connections: usize,
    pub open: usize,
    /// Where they came from.
    pub from: Vec<SocketAddr>,
    pub handshakes: usize,
    pub reserved: [u8; 8],
    pub peer_id: Vec<u8>,
    /// The first message that tells what the program has: its id and body.
    pub first: Option<(u8, Vec<u8>)>,
    /// The extension handshake.
    pub hello: Vec<u8>,
    /// Blocks of the info dictionary that were asked for.
    pub metadata_requests: Vec<usize>,
    /// Messages that tell of peers (BEP 11), bencoded.
    pub told_of: Vec<Vec<u8>>,
    pub interested: usize,
    pub not_interested: usize,
    pub unchokes: usize,
    pub keep_alives: usize,
    /// Requests, as piece, begin and length.
    pub requests: Vec<(usize, usize, usize)>,
    pub requests_while_choked: usize,
    /// Requests that were waiting at one time, at most.
    pub waiting_most: usize,
    pub cancels: usize,
    /// Cancels that came before the block was sent.
    pub cancels_in_time: usize,
    pub haves: Vec<usize>,
    /// Our requests that were rejected, and blocks the program sent.
    pub rejects: usize,
    pub uploads: usize,
    /// Blocks that were sent, as piece and begin.
    pub sent: Vec<(usize, usize)>,
    /// Rules that the program broke.
    pub broken: Vec<String>,
}

struct Shared {
    payload: Payload,
    behaviour: Behaviour,
    record: Mutex<Record>,
    changed: Condvar,
    over: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    /// Says nothing and ends when it is time to go on.
    rest: Receiver<()>,
}

impl Shared {
    fn note(&self) -> Note<'_> {
        Note(self.record.lock().unwrap_or_else(PoisonError::into_inner), &self.changed)
    }

    fn has(&self, piece: usize) -> bool {
        piece < self.payload.pieces()
            && self.behaviour.has.as_ref().is_none_or(|has| has.contains(&piece))
    }
}

/// A look into the record; whoever waits for it to change is woken afterwards.
struct Note<'a>(MutexGuard<'a, Record>, &'a Condvar);

impl std::ops::Deref for Note<'_> {
    type Target = Record;
    fn deref(&self) -> &Record {
        &self.0
    }
}

impl std::ops::DerefMut for Note<'_> {
    fn deref_mut(&mut self) -> &mut Record {
        &mut self.0
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.1.notify_all();
    }
}

/// A running peer. It ends when it is dropped, and panics then if the program broke a rule.
pub struct Peer {
    shared: Arc<Shared>,
    address: SocketAddr,
    opened: Sender<()>,
    resting: Mutex<Option<Sender<()>>>,
}

impl Peer {
    /// At an address in 127.0.0.0/8 that no other peer of this process has.
    pub fn start(payload: &Payload, behaviour: Behaviour) -> Self {
        let peer = Self::closed(payload, behaviour);
        peer.open();
        peer
    }

    /// The same, but whoever connects is kept waiting, and not in the record, until it opens.
    pub fn closed(payload: &Payload, behaviour: Behaviour) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let [high, low] = NEXT.fetch_add(1, SeqCst).to_be_bytes();
        Self::closed_at(Ipv4Addr::new(127, 77, high, low).into(), payload, behaviour).unwrap()
    }

    /// An honest seeder.
    pub fn honest(payload: &Payload) -> Self {
        Self::start(payload, Behaviour::default())
    }

    /// At `ip`, if the machine has that.
    pub fn start_at(ip: IpAddr, payload: &Payload, behaviour: Behaviour) -> io::Result<Self> {
        let peer = Self::closed_at(ip, payload, behaviour)?;
        peer.open();
        Ok(peer)
    }

    fn closed_at(ip: IpAddr, payload: &Payload, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        let (resting, rest) = bounded(0);
        let shared = Arc::new(Shared {
            payload: payload.clone(),
            behaviour,
            record: Mutex::default(),
            changed: Condvar::new(),
            over: AtomicBool::new(false),
            streams: Mutex::default(),
            rest,
        });
        let server = Arc::clone(&shared);
        let (opened, opens) = bounded(1);
        thread::spawn(move || opens.recv().map(|()| listen(&listener, &server)));
        Ok(Self { shared, address, opened, resting: Mutex::new(Some(resting)) })
    }

    /// Lets in whoever waits and whoever comes.
    pub fn open(&self) {
        let _open_already = self.opened.try_send(());
    }

    /// Ends the rest of a peer that rests, or will.
    pub fn go_on(&self) {
        self.resting.lock().unwrap().take();
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn record(&self) -> Record {
        self.shared.note().clone()
    }

    /// Waits until the record is as wished, and returns it.
    #[track_caller]
    pub fn wait_until(&self, wish: impl Fn(&Record) -> bool) -> Record {
        let until = Instant::now() + PATIENCE;
        let mut record = self.shared.record.lock().unwrap();
        while !wish(&record) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain: {record:?}");
            record = self.shared.changed.wait_timeout(record, left).unwrap().0;
        }
        record.clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        self.go_on();
        let _wakes_the_accept = TcpStream::connect(self.address);
        for stream in self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
        // A test that fails says so with its own words.
        if !thread::panicking() {
            let who = &self.shared.behaviour;
            assert_eq!(self.record().broken, [""; 0], "rules the program broke towards {who:?}");
        }
    }
}

// ---- connections -------------------------------------------------------------------------------

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.over.load(SeqCst) {
            return;
        }
        let mut note = shared.note();
        note.connections += 1;
        note.open += 1;
        note.from.extend(stream.peer_addr());
        drop(note);
        shared.streams.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let _over = stream.set_write_timeout(Some(PATIENCE));
            let _ended = serve(&stream, &shared);
            let _gone = stream.shutdown(Shutdown::Both);
            shared.note().open -= 1;
        });
    }
}

/// Reads and forgets everything until the program closes the connection.
fn fall_silent(mut stream: &TcpStream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink()).map(|_| ())
}

fn serve(stream: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let behaviour = &shared.behaviour;
    if behaviour.silent == Some(Silent::AfterAccept) {
        return fall_silent(stream);
    }
    if !greet(stream, shared)? {
        return Ok(());
    }
    if behaviour.silent == Some(Silent::AfterHandshake) {
        return fall_silent(stream);
    }
    let (sender, messages) = unbounded();
    let (reader, observer) = (stream.try_clone()?, Arc::clone(shared));
    thread::spawn(move || read_messages(reader, &observer, &sender));
    let connection = Connection {
        stream,
        shared,
        messages,
        choked: true,
        waiting: VecDeque::new(),
        volunteered: Vec::new(),
        sent: 0,
        next_block: Instant::now(),
        flips: None,
        rng: fastrand::Rng::with_seed(1),
        metadata_number: None,
    };
    connection.run()
}

/// Shakes hands. False if that was all that this peer wanted to do.
fn greet(mut stream: &TcpStream, shared: &Shared) -> io::Result<bool> {
    let mut theirs = [0; 68];
    stream.read_exact(&mut theirs)?;
    {
        let mut note = shared.note();
        note.handshakes += 1;
        note.reserved.copy_from_slice(&theirs[20..28]);
        note.peer_id = theirs[48..].to_vec();
        let plain = &theirs[..20] == b"\x13BitTorrent protocol";
        // Whoever got no answer may try again encrypted, which this peer does not speak.
        if !plain && note.connections > 1 {
            return Ok(false);
        }
        if !plain {
            note.broken.push("no BitTorrent handshake".to_owned());
        }
        if theirs[28..48] != shared.payload.info_hash {
            note.broken.push("the handshake has another info-hash".to_owned());
        }
    }
    let mut ours = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    ours[25] |= if shared.behaviour.reqq.is_some() { 0x10 } else { 0 };
    ours[27] |= if shared.behaviour.fast { 0x04 } else { 0 };
    ours.extend(shared.payload.info_hash);
    ours.extend(b"-TS0001-abcdefghijkl");
    match shared.behaviour.greeting {
        Greeting::Honest => {}
        Greeting::WrongInfoHash => ours[28] ^= 1,
        Greeting::EchoesPeerId => ours[48..].copy_from_slice(&theirs[48..]),
        Greeting::Http => {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
            return fall_silent(stream).map(|()| false);
        }
        Greeting::Closes => return Ok(false),
        Greeting::Trickles => {
            for byte in &ours {
                stream.write_all(&[*byte])?;
                thread::sleep(Duration::from_secs(1));
            }
            return Ok(true);
        }
    }
    stream.write_all(&ours)?;
    Ok(true)
}

/// A message as it came; a keep-alive has no id.
struct Message {
    id: Option<u8>,
    body: Vec<u8>,
}

impl Message {
    /// The number at this place of the body, where piece, begin and length stand.
    fn number(&self, place: usize) -> usize {
        let bytes = self.body.get(4 * place..4 * place + 4);
        bytes.map_or(usize::MAX, |bytes| {
            usize::try_from(u32::from_be_bytes(bytes.try_into().unwrap())).unwrap()
        })
    }
}

fn read_messages(mut stream: TcpStream, shared: &Shared, to: &Sender<Message>) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        if length > MESSAGE_LENGTH_MAX {
            return shared.note().broken.push(format!("a message of {length} bytes"));
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let id = (length > 0).then(|| body.remove(0));
        if to.send(Message { id, body }).is_err() {
            return;
        }
    }
}

/// A connection that is past the handshake.
struct Connection<'a> {
    stream: &'a TcpStream,
    shared: &'a Shared,
    messages: Receiver<Message>,
    choked: bool,
    /// Requests that wait for their block.
    waiting: VecDeque<(usize, usize, usize)>,
    /// Blocks that were sent in the place of others, as piece and begin. The program may have asked
    /// for one just then, and takes it for the answer: if it is wrong it asks again.
    volunteered: Vec<(usize, usize)>,
    /// Blocks that were sent.
    sent: usize,
    next_block: Instant,
    /// When a peer that flaps changes its mind.
    flips: Option<Instant>,
    rng: fastrand::Rng,
    /// The number under which the program takes messages about metadata.
    metadata_number: Option<usize>,
}

impl Connection<'_> {
    fn run(mut self) -> io::Result<()> {
        let behaviour = self.shared.behaviour.clone();
        self.tell(behaviour.tells)?;
        if let Some(reqq) = behaviour.reqq {
            let bytes = match behaviour.metadata {
                Metadata::Unknown => None,
                Metadata::Claims(bytes) => Some(bytes),
                _ => Some(self.shared.payload.info.len()),
            };
            let size = bytes.map(|bytes| format!("13:metadata_sizei{bytes}e")).unwrap_or_default();
            let taken = format!("11:ut_metadatai{METADATA}e6:ut_pexi{EXCHANGE}e");
            let hello = format!("\0d1:md{taken}e{size}4:reqqi{reqq}e1:v9:test peere");
            self.send(20, hello.as_bytes())?;
        }
        for piece in &behaviour.allowed_fast {
            self.send(17, &numbers(&[*piece]))?;
        }
        if behaviour.choking == Choking::AtOnce {
            self.choke(false)?;
        }
        if behaviour.silent == Some(Silent::AfterBitfield) {
            return self.fall_silent();
        }
        if let Some(noise) = behaviour.noise {
            self.make_noise(noise)?;
        }
        match behaviour.tells {
            Tells::LateBitfield => self.tell(Tells::Bitfield)?,
            Tells::LateHaves(pause) => {
                thread::sleep(pause);
                self.tell_haves()?;
            }
            _ => {}
        }
        while self.turn()? {}
        Ok(())
    }

    /// Takes a message, or sends a block if it is time to. False at the end.
    fn turn(&mut self) -> io::Result<bool> {
        let ready = self.may_send();
        let next = if ready { self.next_block } else { Instant::now() + PATIENCE };
        let next = self.flips.map_or(next, |flips| flips.min(next));
        match self.messages.recv_deadline(next) {
            Ok(message) => self.on_message(&message)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) if self.flips.is_some_and(|at| at <= Instant::now()) => {
                self.flips = None;
                self.choke(false)?;
            }
            Err(RecvTimeoutError::Timeout) if ready => return self.serve_block(),
            Err(RecvTimeoutError::Timeout) => {}
        }
        Ok(true)
    }

    fn may_send(&self) -> bool {
        let allowed = |(piece, _, _): &(usize, usize, usize)| self.is_allowed_fast(*piece);
        self.waiting.front().is_some_and(|first| !self.choked || allowed(first))
    }

    fn is_allowed_fast(&self, piece: usize) -> bool {
        self.shared.behaviour.fast && self.shared.behaviour.allowed_fast.contains(&piece)
    }

    // ---- sending -------------------------------------------------------------------------------

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(bytes)
    }

    fn send(&self, id: u8, body: &[u8]) -> io::Result<()> {
        self.write(&message(id, body))
    }

    fn fall_silent(&self) -> io::Result<()> {
        self.messages.iter().for_each(drop);
        Ok(())
    }

    fn tell(&self, tells: Tells) -> io::Result<()> {
        let pieces = self.shared.payload.pieces();
        let mut bits = vec![0_u8; pieces.div_ceil(8)];
        for piece in (0..pieces).filter(|piece| self.shared.has(*piece)) {
            bits[piece / 8] |= 0x80 >> (piece % 8);
        }
        let have_none = self.shared.behaviour.fast.then_some(15);
        match tells {
            Tells::Bitfield => self.send(5, &bits),
            Tells::HaveAll => self.send(14, &[]),
            Tells::Haves => {
                have_none.map_or(Ok(()), |id| self.send(id, &[]))?;
                self.tell_haves()
            }
            Tells::LateHaves(_) => have_none.map_or(Ok(()), |id| self.send(id, &[])),
            Tells::SpareBits => {
                bits.iter_mut().last().into_iter().for_each(|byte| *byte |= 1);
                self.send(5, &bits)
            }
            Tells::LongBitfield => self.send(5, &[&bits[..], &[0]].concat()),
            Tells::ShortBitfield => self.send(5, &bits[1..]),
            Tells::Twice => {
                self.send(5, &bits)?;
                self.send(5, &bits)
            }
            Tells::LateBitfield | Tells::Nothing => Ok(()),
        }
    }

    fn tell_haves(&self) -> io::Result<()> {
        let pieces = 0..self.shared.payload.pieces();
        pieces
            .filter(|piece| self.shared.has(*piece))
            .try_for_each(|piece| self.send(4, &numbers(&[piece])))
    }

    fn choke(&mut self, choke: bool) -> io::Result<()> {
        self.choked = choke;
        self.send(u8::from(!choke), &[])?;
        if choke {
            let waiting = std::mem::take(&mut self.waiting);
            if self.shared.behaviour.fast {
                for (piece, begin, length) in waiting {
                    self.send(16, &numbers(&[piece, begin, length]))?;
                }
            }
        }
        Ok(())
    }

    fn make_noise(&self, noise: Noise) -> io::Result<()> {
        let pieces = self.shared.payload.pieces();
        match noise {
            Noise::HugeLength => self.write(&[0x7f, 0xff, 0xff, 0xff, 7]),
            Noise::LongBlock => self.write(&[0, 1, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]),
            Noise::HaveOutOfRange => self.send(4, &numbers(&[pieces])),
            Noise::Unknown => [10, 11, 99, 255].iter().try_for_each(|id| self.send(*id, b"what?")),
            Noise::LongUnknown => {
                let long = vec![0; (1 << 20) - 1];
                [20, 99].iter().try_for_each(|id| self.send(*id, &long))
            }
            Noise::BadHello => self.send(20, b"\0li1e"),
            Noise::Flood(flood) => self.flood(flood),
            Noise::Leeches => {
                self.send(2, &[])?;
                let request = |piece| message(6, &numbers(&[piece, 0, BLOCK_LENGTH]));
                self.write(&(0..pieces).flat_map(request).collect::<Vec<_>>())
            }
        }
    }

    /// Returns when the connection ends.
    fn flood(&self, flood: Flood) -> io::Result<()> {
        let block = numbers(&[0, 0, BLOCK_LENGTH]);
        let long = vec![0; (1 << 20) - 1];
        let said = match flood {
            Flood::KeepAlives => vec![0; 4],
            Flood::Haves => message(4, &numbers(&[0])),
            Flood::Requests => message(6, &block),
            Flood::Cancels => message(8, &block),
            Flood::Unchokes => message(1, &[]),
            Flood::Flaps => [message(1, &[]), message(0, &[])].concat(),
            Flood::Interest => [message(2, &[]), message(3, &[])].concat(),
            Flood::Hints => {
                let piece = numbers(&[0]);
                [message(9, &[0x1a, 0xe1]), message(13, &piece), message(17, &piece)].concat()
            }
            Flood::Hellos => message(20, &[b"\0d1:v16000:", &[b'x'; 16_000][..], b"e"].concat()),
            Flood::Unknown => message(99, b"what?"),
            Flood::LongUnknown => message(99, &long),
            Flood::Blocks => message(7, &[&block[..8], &[0; BLOCK_LENGTH]].concat()),
            Flood::Drips => message(99, &long),
        };
        let many = said.repeat((64 << 10) / said.len() + 1);
        loop {
            match flood {
                Flood::Drips => self.drip(&said)?,
                _ => self.write(&many)?,
            }
        }
    }

    /// Writes each byte in a packet of its own.
    fn drip(&self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        bytes.iter().try_for_each(|byte| self.write(&[*byte]))
    }

    // ---- blocks --------------------------------------------------------------------------------

    fn serve_block(&mut self) -> io::Result<bool> {
        let Some(request) = self.waiting.pop_front() else { return Ok(true) };
        let (piece, begin, length) = request;
        let Some(bytes) = self.shared.payload.block(piece, begin, length) else { return Ok(true) };
        let mut bytes = bytes.to_vec();
        if self.is_corrupt(piece, begin) {
            bytes[length / 2] ^= 0x55;
        }
        self.shared.note().sent.push((piece, begin));
        self.sent += 1;
        if !self.send_block(piece, begin, bytes)? {
            return Ok(false);
        }
        if self.shared.behaviour.rests_after == Some(self.sent) {
            let _told = self.shared.rest.recv();
        }
        self.next_block = Instant::now() + self.shared.behaviour.block_pause;
        if self.shared.behaviour.silent == Some(Silent::AfterBlocks(self.sent)) {
            return self.fall_silent().map(|()| false);
        }
        if let Choking::Flaps(every, pause) = self.shared.behaviour.choking
            && self.sent.is_multiple_of(every)
        {
            self.choke(true)?;
            self.flips = Some(Instant::now() + pause);
        }
        Ok(true)
    }

    /// A block that happens to be asked for is an answer, though the bytes are wrong.
    fn answered(&mut self, piece: usize, begin: usize) {
        self.volunteered.push((piece, begin));
        self.waiting.retain(|waiting| (waiting.0, waiting.1) != (piece, begin));
    }

    fn is_corrupt(&mut self, piece: usize, begin: usize) -> bool {
        match &self.shared.behaviour.blocks {
            Blocks::Corrupt => true,
            Blocks::CorruptShare(percent) => self.rng.u8(..100) < *percent,
            Blocks::CorruptPieces(pieces) => begin == 0 && pieces.contains(&piece),
            _ => false,
        }
    }

    /// False if the connection is over.
    fn send_block(&mut self, piece: usize, begin: usize, mut bytes: Vec<u8>) -> io::Result<bool> {
        let length = bytes.len();
        let block = |piece, begin, bytes: &[u8]| {
            message(7, &[&numbers(&[piece, begin])[..], bytes].concat())
        };
        if self.shared.behaviour.silent == Some(Silent::InsideFirstBlock) {
            self.write(&block(piece, begin, &bytes)[..length / 2])?;
            return self.fall_silent().map(|()| false);
        }
        match self.shared.behaviour.blocks {
            Blocks::WrongPiece => {
                let wrong = (piece + 1) % self.shared.payload.pieces();
                self.answered(wrong, begin);
                self.write(&block(wrong, begin, &bytes))?;
            }
            Blocks::WrongBegin => self.write(&block(piece, begin + 1, &bytes))?,
            Blocks::Overflowing => {
                self.write(&block(piece, u32::MAX as usize - begin, &bytes))?;
            }
            Blocks::Empty => self.write(&block(piece, begin, &[]))?,
            Blocks::Short => self.write(&block(piece, begin, &bytes[1..]))?,
            Blocks::Long => {
                bytes.push(0);
                self.write(&block(piece, begin, &bytes))?;
            }
            Blocks::Unrequested => {
                let last = self.shared.payload.pieces() - 1;
                let other = if piece == last { 0 } else { last };
                self.answered(other, 0);
                self.write(&block(other, 0, &[0; BLOCK_LENGTH]))?;
                self.write(&block(piece, begin, &bytes))?;
            }
            Blocks::Twice => {
                self.write(&block(piece, begin, &bytes))?;
                self.write(&block(piece, begin, &bytes))?;
            }
            Blocks::ResetInside(number) if number == self.sent => {
                self.write(&block(piece, begin, &bytes)[..length / 2])?;
                let at_once = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(self.stream, at_once)?;
                return Ok(false);
            }
            Blocks::Trickle => {
                for byte in block(piece, begin, &bytes) {
                    self.write(&[byte])?;
                    thread::sleep(Duration::from_secs(1));
                }
            }
            Blocks::Rejected => self.send(16, &numbers(&[piece, begin, length]))?,
            _ => self.write(&block(piece, begin, &bytes))?,
        }
        Ok(true)
    }

    // ---- what the program says -----------------------------------------------------------------

    fn on_message(&mut self, message: &Message) -> io::Result<()> {
        let mut note = self.shared.note();
        let fast = self.shared.behaviour.fast;
        let request = (message.number(0), message.number(1), message.number(2));
        match message.id {
            None => note.keep_alives += 1,
            Some(id @ 13..=17) if !fast => note.broken.push(format!("message {id} without BEP 6")),
            Some(20) if self.shared.behaviour.reqq.is_none() => {
                note.broken.push("an extension message without BEP 10".to_owned());
            }
            Some(1) => note.unchokes += 1,
            Some(2) => {
                note.interested += 1;
                drop(note);
                let welcome =
                    matches!(self.shared.behaviour.choking, Choking::LetsIn | Choking::Flaps(..));
                if welcome && self.choked && self.flips.is_none() {
                    return self.choke(false);
                }
            }
            Some(3) => note.not_interested += 1,
            Some(4) => note.haves.push(request.0),
            Some(id @ (5 | 14 | 15)) => {
                if note.first.is_some() && note.handshakes < 2 {
                    note.broken.push(format!("message {id} twice"));
                }
                note.first.get_or_insert((id, message.body.clone()));
            }
            Some(6) => {
                drop(note);
                self.on_request(request)?;
            }
            Some(7) => note.uploads += 1,
            Some(8) => {
                note.cancels += 1;
                let before = self.waiting.len();
                self.waiting.retain(|waiting| *waiting != request);
                if self.waiting.len() < before {
                    note.cancels_in_time += 1;
                    drop(note);
                    if fast {
                        return self.send(16, &numbers(&[request.0, request.1, request.2]));
                    }
                }
            }
            Some(16) => note.rejects += 1,
            Some(20) => {
                drop(note);
                return self.on_extended(&message.body);
            }
            Some(0) => {}
            Some(id) => note.broken.push(format!("an unknown message {id}")),
        }
        Ok(())
    }

    fn on_extended(&mut self, body: &[u8]) -> io::Result<()> {
        let mut note = self.shared.note();
        let behaviour = &self.shared.behaviour;
        match body.first() {
            Some(0) => {
                note.hello = body.to_vec();
                self.metadata_number = number_behind(body, "ut_metadatai");
                let number = number_behind(body, "ut_pexi");
                drop(note);
                if let (Some(number), false) = (number, behaviour.tells_of.is_empty()) {
                    let mut exchange = vec![u8::try_from(number).unwrap()];
                    exchange.extend(format!("d5:added{}:", 6 * behaviour.tells_of.len()).bytes());
                    for peer in &behaviour.tells_of {
                        let IpAddr::V4(ip) = peer.ip() else { panic!("IPv4 only") };
                        exchange.extend(ip.octets().into_iter().chain(peer.port().to_be_bytes()));
                    }
                    exchange.push(b'e');
                    return self.send(20, &exchange);
                }
            }
            Some(&METADATA) => {
                let block = number_behind(body, "piecei").unwrap_or(usize::MAX);
                note.metadata_requests.push(block);
                drop(note);
                let (Some(number), Some(bytes)) = (
                    self.metadata_number,
                    self.shared.payload.info.chunks(BLOCK_LENGTH).nth(block),
                ) else {
                    self.shared.note().broken.push(format!("block {block} of the metadata"));
                    return Ok(());
                };
                let mut answer = vec![u8::try_from(number).unwrap()];
                let (kind, mut bytes) = match behaviour.metadata {
                    Metadata::Honest => (1, bytes.to_vec()),
                    Metadata::Corrupt => (1, bytes.to_vec()),
                    Metadata::Rejects | Metadata::Unknown => (2, Vec::new()),
                    Metadata::Silent | Metadata::Claims(_) => return Ok(()),
                };
                if behaviour.metadata == Metadata::Corrupt {
                    bytes[0] ^= 1;
                }
                answer.extend(format!("d8:msg_typei{kind}e5:piecei{block}ee").bytes());
                answer.extend(bytes);
                return self.send(20, &answer);
            }
            Some(&EXCHANGE) => note.told_of.push(body[1..].to_vec()),
            number => note.broken.push(format!("an extension message {number:?}")),
        }
        Ok(())
    }

    fn on_request(&mut self, request: (usize, usize, usize)) -> io::Result<()> {
        let (piece, begin, length) = request;
        let mut note = self.shared.note();
        note.requests.push(request);
        if length > BLOCK_LENGTH || self.shared.payload.block(piece, begin, length).is_none() {
            note.broken.push(format!("a request out of range: {request:?}"));
            return Ok(());
        }
        if !self.shared.has(piece) {
            note.broken.push(format!("a request for piece {piece}, which was never offered"));
        }
        if self.waiting.contains(&request) && !self.volunteered.contains(&(piece, begin)) {
            note.broken.push(format!("the request {request:?} twice"));
        }
        if self.choked && !self.is_allowed_fast(piece) {
            note.requests_while_choked += 1;
            drop(note);
            // BEP 6 wants an answer to every request; without it a choke says enough.
            return match self.shared.behaviour.fast {
                true => self.send(16, &numbers(&[piece, begin, length])),
                false => Ok(()),
            };
        }
        self.waiting.push_back(request);
        note.waiting_most = note.waiting_most.max(self.waiting.len());
        if self.shared.behaviour.reqq.is_some_and(|reqq| self.waiting.len() > reqq) {
            note.broken.push(format!("{} requests at once", self.waiting.len()));
        }
        Ok(())
    }
}

/// The number that stands behind `key` in a bencoded message, the `i` being part of the key.
fn number_behind(bytes: &[u8], key: &str) -> Option<usize> {
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes())?;
    let rest = &bytes[at + key.len()..];
    let end = rest.iter().position(|byte| *byte == b'e')?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

fn message(id: u8, body: &[u8]) -> Vec<u8> {
    let mut message = numbers(&[body.len() + 1]);
    message.push(id);
    message.extend(body);
    message
}

fn numbers(numbers: &[usize]) -> Vec<u8> {
    numbers.iter().flat_map(|number| u32::try_from(*number).unwrap().to_be_bytes()).collect()
}
