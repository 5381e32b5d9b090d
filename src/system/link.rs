//! Owns the wall to one peer: a plain blocking socket, and the one place where a session sleeps.
//!
//! Two peers that both do blocking reads and then blocking writes on one thread deadlock as soon
//! as both upload. So a session sleeps only in [`Link::wait`], on its socket and its [`Waker`];
//! reads and writes in its turn never block. Connecting and shaking hands are plain blocking calls
//! with time-outs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::policy::conversation::SessionEnd;
use crate::protocol::handshake::{HANDSHAKE_LENGTH, Handshake};

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

/// A connection to one peer.
pub struct Link(TcpStream);

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// [`SessionEnd::Unreachable`], after `timeout` at the latest.
    pub fn dial(address: SocketAddr, timeout: Duration) -> Result<Self, SessionEnd> {
        let dial = || {
            let stream = TcpStream::connect_timeout(&address, timeout)?;
            stream.set_nodelay(true)?;
            Ok(Self(stream))
        };
        dial().map_err(|error: io::Error| SessionEnd::Unreachable(error.kind()))
    }

    /// Takes over a connection that came.
    ///
    /// # Errors
    /// [`SessionEnd::Lost`]: it is gone already.
    pub fn accept(stream: TcpStream) -> Result<Self, SessionEnd> {
        stream.set_nodelay(true).map_err(|error| lost(&error))?;
        Ok(Self(stream))
    }

    /// Says `ours` and hears theirs, whole within `timeout`.
    ///
    /// # Errors
    /// The peer was silent, went away, or is no peer of this torrent.
    pub fn shake_hands(
        &mut self,
        ours: &Handshake,
        timeout: Duration,
    ) -> Result<Handshake, SessionEnd> {
        self.say(ours, timeout)?;
        self.hear(ours, timeout)
    }

    /// The same with a peer that came: it speaks first.
    ///
    /// # Errors
    /// The peer was silent, went away, or is no peer of this torrent.
    pub fn be_greeted(
        &mut self,
        ours: &Handshake,
        timeout: Duration,
    ) -> Result<Handshake, SessionEnd> {
        let theirs = self.hear(ours, timeout);
        // If it is ourselves, our other end is to see so, or it would dial again and again.
        if matches!(theirs, Ok(_) | Err(SessionEnd::Ourselves)) {
            self.say(ours, timeout)?;
        }
        theirs
    }

    fn say(&mut self, ours: &Handshake, timeout: Duration) -> Result<(), SessionEnd> {
        self.0.set_write_timeout(Some(timeout)).map_err(|error| lost(&error))?;
        self.0.write_all(&ours.encode()).map_err(|error| lost(&error))
    }

    fn hear(&mut self, ours: &Handshake, timeout: Duration) -> Result<Handshake, SessionEnd> {
        let deadline = Instant::now() + timeout;
        let mut bytes = [0; HANDSHAKE_LENGTH];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SessionEnd::Silent);
            }
            self.0.set_read_timeout(Some(left)).map_err(|error| lost(&error))?;
            match self.0.read(room) {
                Ok(0) => return Err(SessionEnd::Closed),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
            if !Handshake::may_begin_with(bytes.get(..filled).unwrap_or(&bytes)) {
                return Err(SessionEnd::Broke("no BitTorrent handshake"));
            }
        }
        let theirs = Handshake::decode(&bytes).filter(|theirs| theirs.info_hash == ours.info_hash);
        match theirs {
            None => Err(SessionEnd::Broke("a handshake for another torrent")),
            Some(theirs) if theirs.peer_id == ours.peer_id => Err(SessionEnd::Ourselves),
            Some(theirs) => Ok(theirs),
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
        let mut doors = [PollFd::new(&waker.0, PollFlags::IN), PollFd::new(&self.0, interest)];
        let watched = match &mut doors {
            [bell, _] if interest.is_empty() => std::slice::from_mut(bell),
            both => both,
        };
        let left = until.saturating_duration_since(Instant::now());
        // A duration that a timespec can't hold is as good as no time-out.
        let timeout = Timespec::try_from(left).ok();
        match poll(watched, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
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
    pub fn read(&self, room: &mut [u8]) -> Result<Option<usize>, SessionEnd> {
        match recv(&self.0, room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(SessionEnd::Closed),
            Ok((count, _)) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(SessionEnd::Lost(io::Error::from(error).kind())),
        }
    }

    /// How many bytes there are to be read.
    pub fn waiting(&self) -> u64 {
        // One that has broken says so when it is read.
        ioctl_fionread(&self.0).unwrap_or(0)
    }

    /// Writes as much of `bytes` as there is room for: how many bytes.
    ///
    /// # Errors
    /// The connection ended or broke.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, SessionEnd> {
        match send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(SessionEnd::Lost(io::Error::from(error).kind())),
        }
    }
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
    use std::net::TcpListener;

    const READ: Interest = Interest { to_read: true, to_write: false };

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link::dial(listener.local_addr().unwrap(), Duration::from_secs(5)).unwrap();
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
        std::thread::scope(|scope| {
            scope.spawn(|| waker.ring());
            assert_eq!(link.wait(&waker, READ, far).unwrap(), rung);
        });
    }

    #[test]
    fn an_end_that_nobody_waits_for_ends_no_sleep() {
        let (link, other) = pair();
        (&other).write_all(b"hello").unwrap();
        let waker = Waker::new().unwrap();
        let soon = || Instant::now() + Duration::from_millis(10);
        assert!(link.wait(&waker, READ, soon()).unwrap().readable);
        assert_eq!(link.waiting(), 5);
        // What it was sent and did not read makes it a reset: the poll would never sleep again.
        link.write(b"hello").unwrap();
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
        let (link, mut other) = pair();
        assert_eq!(link.read(&mut [0; 16]), Ok(None));
        let megabyte = vec![0; 1 << 20];
        let mut sent = 0;
        loop {
            match link.write(&megabyte).unwrap() {
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
        use crate::units::{InfoHash, PeerId};
        let ours = Handshake {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            fast: true,
            extended: true,
            dht: false,
        };
        let theirs = Handshake { peer_id: PeerId([3; 20]), fast: false, ..ours };
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
            assert_eq!(link.shake_hands(&ours, Duration::from_millis(100)), expected);
            // Who comes hears something only if it is of this torrent, be it ourselves.
            let (mut link, mut other) = pair();
            other.write_all(said).unwrap();
            assert_eq!(link.be_greeted(&ours, Duration::from_millis(100)), expected);
            drop(link);
            let mut heard = Vec::new();
            other.read_to_end(&mut heard).unwrap();
            let answers = matches!(expected, Ok(_) | Err(SessionEnd::Ourselves));
            let answer = if answers { ours.encode().to_vec() } else { Vec::new() };
            assert_eq!(heard, answer, "{expected:?}");
        }
        let (mut link, other) = pair();
        drop(other);
        assert!(link.shake_hands(&ours, Duration::from_secs(5)).is_err());
    }
}
