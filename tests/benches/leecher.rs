//! A leecher that asks for blocks as fast as they come and throws them away. It speaks the plain
//! wire, with BEP 6 where the other side has it, and goes through the torrent again and again, piece
//! after piece in an order of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::torrent::Payload;
use crate::wire::{BLOCK, Range, dial, message, numbers, read_handshake};

/// Requests that are out: 2 MiB.
const DEPTH: usize = 128;
const BUFFER_BYTES: usize = 256 << 10;
/// A slow one reads so much at a time.
const SLOW_READ_BYTES: usize = 16 << 10;
/// And makes up for what it missed of its rate in so much time.
const SLOW_LATE: Duration = Duration::from_millis(100);
const STACK_BYTES: usize = 128 << 10;
/// Of each block so many bytes are looked at: enough to know it.
const LOOKED_AT: usize = 32;
/// What no answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is seen of one while it goes on.
#[derive(Default)]
pub struct Seen {
    /// It may ask.
    pub let_in: AtomicBool,
    /// Bytes of blocks that it asked for and got.
    pub bytes: AtomicU64,
}

/// A connection and its thread.
pub struct Leecher {
    pub seen: Arc<Seen>,
    stream: TcpStream,
    thread: JoinHandle<io::Result<()>>,
}

impl Leecher {
    /// Connects to a seeder and begins.
    pub fn start(
        to: SocketAddr,
        from: Ipv4Addr,
        number: usize,
        payload: &Payload,
        rate: Option<u64>,
    ) -> io::Result<Self> {
        let (stream, fast) = greet(to, from, number, payload)?;
        let seen = Arc::new(Seen::default());
        let session = Session {
            stream: stream.try_clone()?,
            payload: payload.clone(),
            seen: Arc::clone(&seen),
            fast,
            ahead: Ahead::new(number, payload.pieces()),
            out: Vec::new(),
            rate,
        };
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(|| session.run())?;
        Ok(Self { seen, stream, thread })
    }

    /// Ends it. An error if it had ended before.
    pub fn stop(self) -> io::Result<()> {
        let ended = self.thread.is_finished();
        let _gone = self.stream.shutdown(Shutdown::Both);
        let end = self.thread.join().unwrap();
        if ended { end.and(Err(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
    }
}

/// Whether somebody is there who says that he has everything.
pub fn finds_seeder(to: SocketAddr, from: Ipv4Addr, payload: &Payload) -> bool {
    let look = || -> io::Result<bool> {
        let (mut stream, _) = greet(to, from, usize::MAX, payload)?;
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut body = vec![0; u32::from_be_bytes(length).min(1 << 20) as usize];
            stream.read_exact(&mut body)?;
            match body.first() {
                Some(14) => return Ok(true),
                Some(15) => return Ok(false),
                Some(5) => {
                    let has: u32 = body[1..].iter().map(|byte| byte.count_ones()).sum();
                    return Ok(has as usize == payload.pieces());
                }
                _ => {}
            }
        }
    };
    look().unwrap_or(false)
}

/// Connects and shakes hands. Whether both sides know BEP 6.
fn greet(
    to: SocketAddr,
    from: Ipv4Addr,
    number: usize,
    payload: &Payload,
) -> io::Result<(TcpStream, bool)> {
    let mut stream = dial(to, from)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
    hello.extend(payload.info_hash);
    hello.extend(format!("-BN0001-{:012}", number % 1_000_000).bytes());
    stream.write_all(&hello)?;
    let theirs = read_handshake(&mut stream)?;
    let fast = theirs[27] & 0x04 != 0;
    let mut first = if fast { message(15, &[]) } else { Vec::new() };
    first.extend(message(2, &[]));
    stream.write_all(&first)?;
    Ok((stream, fast))
}

/// What is to be asked for: one piece after the other, all of them, and again.
struct Ahead {
    pieces: Vec<usize>,
    at: usize,
    begin: usize,
}

impl Ahead {
    fn new(number: usize, pieces: usize) -> Self {
        let mut pieces: Vec<usize> = (0..pieces).collect();
        fastrand::Rng::with_seed(number as u64).shuffle(&mut pieces);
        Self { pieces, at: 0, begin: 0 }
    }

    fn next(&mut self, piece_length: usize) -> Range {
        let range = (self.pieces[self.at], self.begin, BLOCK);
        self.begin += BLOCK;
        if self.begin == piece_length {
            (self.at, self.begin) = ((self.at + 1) % self.pieces.len(), 0);
        }
        range
    }
}

struct Session {
    stream: TcpStream,
    payload: Payload,
    seen: Arc<Seen>,
    fast: bool,
    ahead: Ahead,
    /// Requests that are out.
    out: Vec<Range>,
    /// Bytes a second that it takes, if not all that come.
    rate: Option<u64>,
}

impl Session {
    fn run(mut self) -> io::Result<()> {
        self.stream.set_read_timeout(None)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut filled = 0;
        let mut next = Instant::now();
        loop {
            let room = match self.rate {
                None => BUFFER_BYTES,
                Some(_) => BUFFER_BYTES.min(filled + SLOW_READ_BYTES),
            };
            let read = self.stream.read(&mut buffer[filled..room])?;
            if let Some(rate) = self.rate {
                // What came late is not made up for.
                next = next.max(Instant::now() - SLOW_LATE)
                    + Duration::from_secs_f64(read as f64 / rate as f64);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            if read == 0 {
                return Ok(());
            }
            filled += read;
            let mut at = 0;
            while let Some(prefix) = buffer[at..filled].first_chunk::<4>() {
                let end = at + 4 + u32::from_be_bytes(*prefix) as usize;
                if end - at > BUFFER_BYTES {
                    return Err(io::Error::other("a message of any length"));
                }
                if end > filled {
                    break;
                }
                self.on_message(&buffer[at + 4..end])?;
                at = end;
            }
            buffer.copy_within(at..filled, 0);
            filled -= at;
            self.ask()?;
        }
    }

    fn on_message(&mut self, message: &[u8]) -> io::Result<()> {
        let number = |at: usize| {
            message.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
        };
        match message.first() {
            Some(0) => self.seen.let_in.store(false, Relaxed),
            Some(1) => {
                self.seen.let_in.store(true, Relaxed);
                // A choke was the end of all requests, without a word of each.
                if !self.fast {
                    self.out.clear();
                }
            }
            Some(7) if message.len() >= 9 => {
                let (piece, begin) = (number(1) as usize, number(5) as usize);
                let data = &message[9..];
                let right = self.payload.block(piece, begin, data.len());
                if right.is_none_or(|right| right[..LOOKED_AT] != data[..LOOKED_AT]) {
                    return Err(io::Error::other("a wrong block"));
                }
                if self.is_answered((piece, begin, data.len())) {
                    self.seen.bytes.fetch_add(data.len() as u64, Relaxed);
                }
            }
            Some(16) => {
                self.is_answered((number(1) as usize, number(5) as usize, number(9) as usize));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the request was out. It is no longer.
    fn is_answered(&mut self, range: Range) -> bool {
        let at = self.out.iter().position(|out| *out == range);
        at.map(|at| self.out.remove(at)).is_some()
    }

    fn ask(&mut self) -> io::Result<()> {
        if !self.seen.let_in.load(Relaxed) || self.out.len() == DEPTH {
            return Ok(());
        }
        let mut requests = Vec::with_capacity(DEPTH * 17);
        while self.out.len() < DEPTH {
            let range = self.ahead.next(self.payload.piece_length);
            requests.extend(message(6, &numbers(range)));
            self.out.push(range);
        }
        self.stream.write_all(&requests)
    }
}
