//! Owns the wall to one peer: a plain blocking socket, and the one place where a session sleeps.
//!
//! Two peers that both do blocking reads and then blocking writes on one thread deadlock as soon
//! as both upload. So a session sleeps only in [`Link::wait`], on its socket and its [`Waker`];
//! reads and writes in its turn never block. Connecting and shaking hands are plain blocking calls
//! with time-outs.
//!
//! Where it is agreed on, what passes is encrypted here and nowhere else, in place: whoever reads
//! and writes sees plain text.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::limits::{ENCRYPTED_AT_ONCE_BYTES, ENCRYPTION_PAD_MAX_BYTES};
use crate::policy::conversation::SessionEnd;
use crate::policy::encryption::{Encryption, Wire};
use crate::protocol::handshake::{HANDSHAKE_LENGTH, Handshake, PROTOCOL_LENGTH};
use crate::protocol::mse::dh::{PRIVATE_LENGTH, PrivateKey};
use crate::protocol::mse::{Broken, Ciphers, Exchange};
use crate::system::route::Route;

/// Ends a session's sleep from another thread. Rings before a sleep end it at once; any number of
/// rings count as one.
pub struct Waker(OwnedFd);

impl Waker {
    /// A waker that nobody has rung yet.
    ///
    /// # Errors
    /// The process or the system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes the session. Never blocks: a counter that is full has been rung already.
    pub fn ring(&self) {
        let _full = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn hush(&self) {
        let _empty = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// Sleeps until one of `sockets` has something to read, or `waker` rings, or it is `until`.
///
/// # Errors
/// The system refuses to wait, e.g. for want of memory.
pub fn wait_for_any<'a>(
    sockets: impl IntoIterator<Item = &'a UdpSocket>,
    waker: &Waker,
    until: Instant,
) -> io::Result<()> {
    let bell = PollFd::new(&waker.0, PollFlags::IN);
    let sockets = sockets.into_iter().map(|socket| PollFd::new(socket, PollFlags::IN));
    let mut doors: Vec<PollFd<'_>> = std::iter::once(bell).chain(sockets).collect();
    sleep(&mut doors, until)?;
    if doors.first().is_some_and(|bell| bell.revents().contains(PollFlags::IN)) {
        waker.hush();
    }
    Ok(())
}

/// Sleeps until there is a reason at one of the doors, or it is `until`. A signal ends it as well, with
/// no reason at any.
fn sleep(doors: &mut [PollFd<'_>], until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    // A duration that a timespec can't hold is as good as no time-out.
    let timeout = Timespec::try_from(left).ok();
    match poll(doors, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What a sleep is to end for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    /// Something to read.
    pub to_read: bool,
    /// Room to write.
    pub to_write: bool,
}

/// What ended a sleep. All false: the time was up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ready {
    /// There is something to read, or the connection has ended.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The waker was rung.
    pub rung: bool,
}

/// Bytes that may gather unread in a socket without the peer having to wait for that. The kernel
/// makes a busy socket's buffer larger, up to a limit that is low where there is little memory;
/// about half of the buffer is the window that the peer sees.
pub fn room_to_gather() -> usize {
    let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").unwrap_or_default();
    largest_buffer(&limits).map_or(usize::MAX, |bytes| bytes / 4)
}

/// The last of the three numbers: the least, the usual and the most.
fn largest_buffer(limits: &str) -> Option<usize> {
    limits.split_ascii_whitespace().nth(2)?.parse().ok()
}

const NO_HANDSHAKE: &str = "no BitTorrent handshake";

/// A connection to one peer.
pub struct Link {
    stream: TcpStream,
    ciphers: Option<Ciphers>,
}

impl Link {
    /// Connects by this way.
    ///
    /// # Errors
    /// [`SessionEnd::Unreachable`], after `timeout` at the latest.
    pub fn dial(route: &Route, address: SocketAddr, timeout: Duration) -> Result<Self, SessionEnd> {
        let dial = || {
            let stream = route.dial_peer(address, timeout)?;
            stream.set_nodelay(true)?;
            Ok(Self { stream, ciphers: None })
        };
        dial().map_err(|error: io::Error| SessionEnd::Unreachable(error.kind()))
    }

    /// Takes over a connection that came.
    ///
    /// # Errors
    /// [`SessionEnd::Lost`]: it is gone already.
    pub fn accept(stream: TcpStream) -> Result<Self, SessionEnd> {
        stream.set_nodelay(true).map_err(|error| lost(&error))?;
        Ok(Self { stream, ciphers: None })
    }

    /// Says `ours` and hears theirs, whole within `timeout`.
    ///
    /// # Errors
    /// The peer was silent, went away, or is no peer of this torrent.
    pub fn shake_hands(
        &mut self,
        ours: &Handshake,
        wire: Wire,
        timeout: Duration,
    ) -> Result<Handshake, SessionEnd> {
        let deadline = Instant::now() + timeout;
        match wire {
            Wire::Plain => self.say(&mut ours.encode(), deadline)?,
            Wire::Encrypted => {
                let (key, rng) = random()?;
                let exchange = Exchange::initiate(ours.info_hash, &ours.encode(), key, rng);
                self.agree(exchange, &[], deadline)?;
            }
        }
        self.hear(ours, &[], deadline)
    }

    /// The same with a peer that came: it speaks first, in plain text or not.
    ///
    /// # Errors
    /// The peer was silent, went away, is no peer of this torrent, or spoke in a way that is not
    /// allowed.
    pub fn be_greeted(
        &mut self,
        ours: &Handshake,
        encryption: Encryption,
        timeout: Duration,
    ) -> Result<Handshake, SessionEnd> {
        let deadline = Instant::now() + timeout;
        let mut bytes = [0; PROTOCOL_LENGTH];
        let mut came: &[u8] = &[];
        while came.len() < PROTOCOL_LENGTH && Handshake::may_begin_with(came) {
            let filled = came.len();
            let count = self.read_until(deadline, bytes.get_mut(filled..).unwrap_or_default())?;
            came = bytes.get(..filled + count).unwrap_or_default();
        }
        let wire = if Handshake::may_begin_with(came) { Wire::Plain } else { Wire::Encrypted };
        if !encryption.allows(wire) {
            return Err(SessionEnd::Broke(match wire {
                Wire::Plain => "not encrypted",
                Wire::Encrypted => NO_HANDSHAKE,
            }));
        }
        let theirs = match wire {
            Wire::Plain => self.hear(ours, came, deadline),
            Wire::Encrypted => {
                let takes_plain = encryption.allows(Wire::Plain);
                let (key, rng) = random()?;
                let exchange = Exchange::respond(ours.info_hash, takes_plain, key, rng);
                self.agree(exchange, came, deadline)?;
                self.hear(ours, &[], deadline)
            }
        };
        // If it is ourselves, our other end is to see so, or it would dial again and again.
        if matches!(theirs, Ok(_) | Err(SessionEnd::Ourselves)) {
            self.say(&mut ours.encode(), deadline)?;
        }
        theirs
    }

    /// Whether what is sent is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.ciphers.as_ref().is_some_and(Ciphers::encrypt)
    }

    /// Agrees with the peer, of which `came` is there already, on how the rest is encrypted.
    fn agree(
        &mut self,
        mut exchange: Exchange,
        came: &[u8],
        deadline: Instant,
    ) -> Result<(), SessionEnd> {
        let broke = |Broken(rule)| SessionEnd::Broke(rule);
        exchange.take(came).map_err(broke)?;
        let mut room = [0; 2 * ENCRYPTION_PAD_MAX_BYTES];
        loop {
            let mut outbox = exchange.take_outbox();
            if !outbox.is_empty() {
                self.say(&mut outbox, deadline)?;
            }
            let wanted = exchange.wanted();
            if wanted == 0 {
                self.ciphers = exchange.into_ciphers();
                return Ok(());
            }
            let room = room.get_mut(..wanted).unwrap_or_default();
            let count = self.read_until(deadline, room)?;
            exchange.take(room.get(..count).unwrap_or_default()).map_err(broke)?;
        }
    }

    fn say(&mut self, bytes: &mut [u8], deadline: Instant) -> Result<(), SessionEnd> {
        if let Some(cipher) = self.ciphers.as_mut().and_then(Ciphers::outgoing) {
            cipher.apply(bytes);
        }
        self.stream.set_write_timeout(Some(left(deadline)?)).map_err(|error| lost(&error))?;
        self.stream.write_all(bytes).map_err(|error| lost(&error))
    }

    /// Hears the handshake that begins with `came`.
    fn hear(
        &mut self,
        ours: &Handshake,
        came: &[u8],
        deadline: Instant,
    ) -> Result<Handshake, SessionEnd> {
        let mut bytes = [0; HANDSHAKE_LENGTH];
        let mut filled = came.len();
        bytes.get_mut(..filled).unwrap_or_default().copy_from_slice(came);
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            filled += self.read_until(deadline, room)?;
            if !Handshake::may_begin_with(bytes.get(..filled).unwrap_or(&bytes)) {
                return Err(SessionEnd::Broke(NO_HANDSHAKE));
            }
        }
        let theirs = Handshake::decode(&bytes).filter(|theirs| theirs.info_hash == ours.info_hash);
        match theirs {
            None => Err(SessionEnd::Broke("a handshake for another torrent")),
            Some(theirs) if theirs.peer_id == ours.peer_id => Err(SessionEnd::Ourselves),
            Some(theirs) => Ok(theirs),
        }
    }

    /// Waits for something to read into `room`: how many bytes.
    fn read_until(&mut self, deadline: Instant, room: &mut [u8]) -> Result<usize, SessionEnd> {
        loop {
            self.stream.set_read_timeout(Some(left(deadline)?)).map_err(|error| lost(&error))?;
            match self.stream.read(room) {
                Ok(0) => return Err(SessionEnd::Closed),
                Ok(count) => {
                    self.decrypt(room.get_mut(..count).unwrap_or_default());
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    fn decrypt(&mut self, bytes: &mut [u8]) {
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.decrypt(bytes);
        }
    }

    /// Sleeps until there is something to read if `interest` says so, or to write, or the
    /// connection breaks, or `waker` rings, or it is `until`. Without any interest not even the end
    /// of the connection is a reason: it would be one again and again.
    ///
    /// # Errors
    /// The system refuses to wait, e.g. for want of memory.
    pub fn wait(&self, waker: &Waker, interest: Interest, until: Instant) -> io::Result<Ready> {
        let flag = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let interest =
            flag(interest.to_read, PollFlags::IN) | flag(interest.to_write, PollFlags::OUT);
        let mut doors = [PollFd::new(&waker.0, PollFlags::IN), PollFd::new(&self.stream, interest)];
        let watched = match &mut doors {
            [bell, _] if interest.is_empty() => std::slice::from_mut(bell),
            both => both,
        };
        sleep(watched, until)?;
        let [bell, socket] = doors.map(|door| door.revents());
        let ended = PollFlags::HUP | PollFlags::ERR;
        let ready = Ready {
            readable: socket.intersects(PollFlags::IN | ended),
            writable: socket.contains(PollFlags::OUT),
            rung: bell.contains(PollFlags::IN),
        };
        if ready.rung {
            waker.hush();
        }
        Ok(ready)
    }

    /// Reads what is there into `room`: how many bytes, or `None` if nothing is there.
    ///
    /// # Errors
    /// The connection ended or broke.
    pub fn read(&mut self, room: &mut [u8]) -> Result<Option<usize>, SessionEnd> {
        match recv(&self.stream, &mut *room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(SessionEnd::Closed),
            Ok((count, _)) => {
                self.decrypt(room.get_mut(..count).unwrap_or_default());
                Ok(Some(count))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(SessionEnd::Lost(io::Error::from(error).kind())),
        }
    }

    /// How many bytes there are to be read.
    pub fn waiting(&self) -> u64 {
        // One that has broken says so when it is read.
        ioctl_fionread(&self.stream).unwrap_or(0)
    }

    /// Writes as much of `bytes` as there is room for: how many bytes. The others are afterwards
    /// what they were.
    ///
    /// # Errors
    /// The connection ended or broke.
    pub fn write(&mut self, bytes: &mut [u8]) -> Result<usize, SessionEnd> {
        let Some(cipher) = self.ciphers.as_mut().and_then(Ciphers::outgoing) else {
            return send_now(&self.stream, bytes);
        };
        let mut written = 0;
        // In parts, so that little is encrypted for nothing where there is little room.
        for part in bytes.chunks_mut(ENCRYPTED_AT_ONCE_BYTES) {
            cipher.apply(part);
            let sent = send_now(&self.stream, part)?;
            written += sent;
            if sent < part.len() {
                cipher.undo(part.get_mut(sent..).unwrap_or_default());
                break;
            }
        }
        Ok(written)
    }
}

fn send_now(stream: &TcpStream, bytes: &[u8]) -> Result<usize, SessionEnd> {
    match send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(count) => Ok(count),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(SessionEnd::Lost(io::Error::from(error).kind())),
    }
}

/// A private key, and what pads are made of: that the one tells nothing of the other, both come
/// from the system.
fn random() -> Result<(PrivateKey, fastrand::Rng), SessionEnd> {
    let (mut key, mut seed) = ([0; PRIVATE_LENGTH], [0; 8]);
    for bytes in [&mut key[..], &mut seed] {
        let filled = getrandom(bytes, GetRandomFlags::empty());
        filled.map_err(|error| SessionEnd::Lost(io::Error::from(error).kind()))?;
    }
    Ok((PrivateKey(key), fastrand::Rng::with_seed(u64::from_ne_bytes(seed))))
}

fn left(deadline: Instant) -> Result<Duration, SessionEnd> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(SessionEnd::Silent) } else { Ok(left) }
}

fn lost(error: &io::Error) -> SessionEnd {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => SessionEnd::Silent,
        kind => SessionEnd::Lost(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{InfoHash, PeerId};
    use std::net::TcpListener;
    use std::thread;

    const READ: Interest = Interest { to_read: true, to_write: false };

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let link = Link::dial(&Route::default(), address, Duration::from_secs(5)).unwrap();
        (link, listener.accept().unwrap().0)
    }

    #[test]
    fn the_largest_buffer_is_the_third_number() {
        assert_eq!(largest_buffer("4096\t131072\t6291456\n"), Some(6_291_456));
        for nonsense in ["", "4096 131072", "1 2 three", "1 2 -3"] {
            assert_eq!(largest_buffer(nonsense), None);
        }
        assert!(room_to_gather() > 0);
    }

    #[test]
    fn a_ring_before_or_during_the_sleep_ends_it_once() {
        let (link, _other) = pair();
        let waker = Waker::new().unwrap();
        waker.ring();
        waker.ring();
        let far = Instant::now() + Duration::from_secs(60);
        let rung = Ready { rung: true, ..Ready::default() };
        assert_eq!(link.wait(&waker, READ, far).unwrap(), rung);
        assert_eq!(link.wait(&waker, READ, Instant::now()).unwrap(), Ready::default());
        thread::scope(|scope| {
            scope.spawn(|| waker.ring());
            assert_eq!(link.wait(&waker, READ, far).unwrap(), rung);
        });
    }

    #[test]
    fn an_end_that_nobody_waits_for_ends_no_sleep() {
        let (mut link, other) = pair();
        (&other).write_all(b"hello").unwrap();
        let waker = Waker::new().unwrap();
        let soon = || Instant::now() + Duration::from_millis(10);
        assert!(link.wait(&waker, READ, soon()).unwrap().readable);
        assert_eq!(link.waiting(), 5);
        // What it was sent and did not read makes it a reset: the poll would never sleep again.
        link.write(&mut b"hello".to_vec()).unwrap();
        assert!(waits_for(&other));
        drop(other);
        assert!(link.wait(&waker, READ, soon()).unwrap().readable);
        let none = Interest { to_read: false, to_write: false };
        assert_eq!(link.wait(&waker, none, soon()).unwrap(), Ready::default());
        waker.ring();
        let rung = Ready { rung: true, ..Ready::default() };
        let far = Instant::now() + Duration::from_secs(60);
        assert_eq!(link.wait(&waker, none, far).unwrap(), rung);
    }

    /// Whether something has come, before long.
    fn waits_for(other: &TcpStream) -> bool {
        other.peek(&mut [0]).unwrap() > 0
    }

    #[test]
    fn reading_and_writing_never_block() {
        let (mut link, mut other) = pair();
        assert_eq!(link.read(&mut [0; 16]), Ok(None));
        let mut megabyte = vec![0; 1 << 20];
        let mut sent = 0;
        loop {
            match link.write(&mut megabyte).unwrap() {
                0 => break,
                count => sent += count,
            }
        }
        assert!(sent > 0);
        other.write_all(b"hello").unwrap();
        let waker = Waker::new().unwrap();
        let far = Instant::now() + Duration::from_secs(60);
        assert!(link.wait(&waker, READ, far).unwrap().readable);
        assert_eq!(link.read(&mut [0; 16]), Ok(Some(5)));
        drop(other);
        assert!(link.wait(&waker, READ, far).unwrap().readable);
        assert!(link.read(&mut [0; 16]).is_err());
    }

    #[test]
    fn a_handshake_is_for_this_torrent_from_somebody_else_and_in_time() {
        let [ours, theirs] = handshakes();
        let other_torrent = Handshake { info_hash: InfoHash([9; 20]), ..theirs };
        let cases: [(&[u8], Result<Handshake, SessionEnd>); 6] = [
            (&theirs.encode(), Ok(theirs)),
            (&ours.encode(), Err(SessionEnd::Ourselves)),
            (&other_torrent.encode(), Err(SessionEnd::Broke("a handshake for another torrent"))),
            (b"HTTP/1.1 400 Bad Request", Err(SessionEnd::Broke("no BitTorrent handshake"))),
            (&theirs.encode()[..67], Err(SessionEnd::Silent)),
            (b"", Err(SessionEnd::Silent)),
        ];
        for (said, expected) in cases {
            let (mut link, mut other) = pair();
            other.write_all(said).unwrap();
            let heard = link.shake_hands(&ours, Wire::Plain, Duration::from_millis(100));
            assert_eq!(heard, expected);
            // Who comes hears something only if it is of this torrent, be it ourselves.
            let (mut link, mut other) = pair();
            other.write_all(said).unwrap();
            let heard = link.be_greeted(&ours, Encryption::Off, Duration::from_millis(100));
            assert_eq!(heard, expected);
            drop(link);
            let mut heard = Vec::new();
            // Something that it did not read makes the end a reset.
            let _end = other.read_to_end(&mut heard);
            let answers = matches!(expected, Ok(_) | Err(SessionEnd::Ourselves));
            let answer = if answers { ours.encode().to_vec() } else { Vec::new() };
            assert_eq!(heard, answer, "{expected:?}");
        }
        let (mut link, other) = pair();
        drop(other);
        assert!(link.shake_hands(&ours, Wire::Plain, Duration::from_secs(5)).is_err());
    }

    fn handshakes() -> [Handshake; 2] {
        let info_hash = InfoHash([1; 20]);
        let ours = Handshake {
            info_hash,
            peer_id: PeerId([2; 20]),
            fast: true,
            extended: true,
            dht: false,
        };
        [ours, Handshake { peer_id: PeerId([3; 20]), fast: false, ..ours }]
    }

    fn pair_of_links() -> [Link; 2] {
        let (link, other) = pair();
        [link, Link::accept(other).unwrap()]
    }

    const SOON: Duration = Duration::from_secs(20);

    /// Two links that have agreed to encrypt.
    fn encrypted() -> [Link; 2] {
        let [ours, theirs] = handshakes();
        let [mut dialled, mut came] = pair_of_links();
        let heard = thread::scope(|scope| {
            let other = scope.spawn(|| came.be_greeted(&theirs, Encryption::Prefer, SOON));
            (dialled.shake_hands(&ours, Wire::Encrypted, SOON), other.join().unwrap())
        });
        assert_eq!(heard, (Ok(theirs), Ok(ours)));
        assert!(dialled.is_encrypted() && came.is_encrypted());
        [dialled, came]
    }

    #[test]
    fn two_links_agree_if_both_are_allowed_to() {
        let [ours, theirs] = handshakes();
        let other_torrent = Handshake { info_hash: InfoHash([9; 20]), ..ours };
        let broke = |rule| Err(SessionEnd::Broke(rule));
        let cases = [
            (ours, Wire::Encrypted, Encryption::Require, Ok(ours)),
            (ours, Wire::Plain, Encryption::Prefer, Ok(ours)),
            (ours, Wire::Plain, Encryption::Require, broke("not encrypted")),
            (ours, Wire::Encrypted, Encryption::Off, broke("no BitTorrent handshake")),
            (theirs, Wire::Encrypted, Encryption::Prefer, Err(SessionEnd::Ourselves)),
            (
                other_torrent,
                Wire::Encrypted,
                Encryption::Prefer,
                broke("encryption: for another torrent"),
            ),
        ];
        for (ours, wire, encryption, expected) in cases {
            let [mut dialled, mut came] = pair_of_links();
            let (heard, other_heard) = thread::scope(|scope| {
                let other = scope.spawn(move || came.be_greeted(&theirs, encryption, SOON));
                (dialled.shake_hands(&ours, wire, SOON), other.join().unwrap())
            });
            assert_eq!(other_heard, expected, "{wire:?} {encryption:?}");
            match expected {
                Ok(_) => assert_eq!(heard, Ok(theirs)),
                Err(SessionEnd::Ourselves) => assert_eq!(heard, Err(SessionEnd::Ourselves)),
                // It hung up.
                Err(_) => {
                    let hung_up = matches!(heard, Err(SessionEnd::Closed | SessionEnd::Lost(_)));
                    assert!(hung_up, "{heard:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_that_passes_is_plain_text() {
        let [mut dialled, mut came] = encrypted();
        let mut said = *b"nobody else is to read this";
        dialled.write(&mut said).unwrap();
        came.stream.set_read_timeout(Some(SOON)).unwrap();
        let mut seen = [0; 27];
        while came.stream.peek(&mut seen).unwrap() < seen.len() {}
        assert!(
            seen.iter().zip(b"nobody else is to read this").filter(|(a, b)| a == b).count() < 9
        );
        let mut heard = [0; 27];
        let mut filled = 0;
        while filled < heard.len() {
            filled += came.read(&mut heard[filled..]).unwrap().unwrap_or(0);
        }
        assert_eq!(&heard, b"nobody else is to read this");
    }

    /// What there was no room for comes again, and in between comes something else: the other side
    /// hears what was sent, in its order, whatever was tried.
    #[test]
    fn what_is_not_sent_is_as_if_it_had_never_been_encrypted() {
        let [mut dialled, mut came] = encrypted();
        let mut rng = fastrand::Rng::with_seed(1);
        let text: Vec<u8> = (0..1 << 20).map(|_| rng.u8(..)).collect();
        let mut room = vec![0; 100_000];
        let (mut sent, mut heard) = (Vec::<u8>::new(), Vec::<u8>::new());
        let mut cut = 0;
        while sent.len() < 16 << 20 || heard.len() < sent.len() {
            let most = if sent.len() < 16 << 20 { 200_000 } else { 0 };
            let begin = rng.usize(..text.len() - most);
            let bytes = &text[begin..begin + rng.usize(..=most)];
            let mut tried = bytes.to_vec();
            let count = dialled.write(&mut tried).unwrap();
            sent.extend(&bytes[..count]);
            assert!(tried[count..] == bytes[count..], "what is left is plain text");
            if count == bytes.len() && most > 0 {
                continue;
            }
            cut += 1;
            while let Some(count) = came.read(&mut room).unwrap() {
                heard.extend(&room[..count]);
                if rng.u8(..) < 50 {
                    break;
                }
            }
        }
        assert!(heard == sent);
        assert!(cut > 10, "{cut} times there was no room");
    }
}
