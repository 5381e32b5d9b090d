//! Owns the blocking side of UDP trackers: sockets, repeats and connection ids (BEP 15).

use std::collections::HashMap;
use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Patience;
use crate::engine::resolve::resolve;
use crate::limits::{
    TRACKER_UDP_CONNECTION_LIFE_MS, TRACKER_UDP_CONNECTIONS_MAX, TRACKER_UDP_DATAGRAM_MAX_BYTES,
    TRACKER_UDP_STRAYS_MAX,
};
use crate::protocol::tracker::{AnnounceReply, AnnounceRequest, TrackerError};
use crate::protocol::tracker_udp::{
    Target, announce_request, connect_request, parse_announce, parse_connect,
};
use crate::system::route::Route;

/// The connection ids that trackers gave us, by address, and when. The lock is held for a look-up
/// only.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<HashMap<SocketAddr, (u64, Instant)>>);

impl Connections {
    /// Announces `request` to the tracker at `url`, at the first of its addresses that answers.
    pub(super) fn announce(
        &self,
        url: &str,
        request: &AnnounceRequest,
        patience: &Patience,
        route: &Route,
    ) -> Result<AnnounceReply, TrackerError> {
        let deadline = Instant::now() + patience.total;
        let target = Target::of(url)?;
        let addresses = addresses(url, patience, route)?;
        let announce = Announce { request, url_data: target.url_data };
        // An id that is known saves a round trip. The tracker may have forgotten it: then it says
        // so or says nothing, and a new one is asked for.
        if let Some((address, id)) = addresses.iter().find_map(|a| Some((*a, self.known(*a)?))) {
            let [first_wait, ..] = patience.udp_waits;
            let mut link = Link::open(route, address, deadline)?;
            match announce.send(&mut link, id, &[first_wait]) {
                Err(TrackerError::Refused(_) | TrackerError::Timeout) => self.forget(address),
                outcome => return outcome,
            }
        }
        let (mut link, id) = connect(route, &addresses, patience, deadline)?;
        self.remember(link.address, id);
        announce.send(&mut link, id, &patience.udp_waits)
    }

    fn known(&self, address: SocketAddr) -> Option<u64> {
        let connections = self.lock();
        let (id, since) = connections.get(&address)?;
        is_alive(*since).then_some(*id)
    }

    fn remember(&self, address: SocketAddr, id: u64) {
        let mut connections = self.lock();
        connections.retain(|_, (_, since)| is_alive(*since));
        if connections.len() < TRACKER_UDP_CONNECTIONS_MAX {
            connections.insert(address, (id, Instant::now()));
        }
    }

    fn forget(&self, address: SocketAddr) {
        self.lock().remove(&address);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, (u64, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_alive(since: Instant) -> bool {
    since.elapsed() < Duration::from_millis(TRACKER_UDP_CONNECTION_LIFE_MS)
}

/// Asks the tracker at `url` for a connection id, which it gives to whoever is at its address.
pub(super) fn reach(url: &str, patience: &Patience, route: &Route) -> Result<(), TrackerError> {
    let deadline = Instant::now() + patience.total;
    connect(route, &addresses(url, patience, route)?, patience, deadline).map(drop)
}

/// The addresses of a tracker that may be used.
fn addresses(
    url: &str,
    patience: &Patience,
    route: &Route,
) -> Result<Vec<SocketAddr>, TrackerError> {
    let target = Target::of(url)?;
    let mut addresses = resolve(target.host, target.port, patience.resolve)?;
    addresses.retain(|address| route.allows(address.ip()));
    if addresses.is_empty() { Err(TrackerError::Resolve) } else { Ok(addresses) }
}

/// Asks the addresses in turn for a connection id, so that one that is dead does not use up the
/// time of the others. Their sockets stay open: an answer that comes late still counts.
fn connect(
    route: &Route,
    addresses: &[SocketAddr],
    patience: &Patience,
    deadline: Instant,
) -> Result<(Link, u64), TrackerError> {
    let mut error = TrackerError::Timeout;
    let mut links = Vec::new();
    for address in addresses {
        match Link::open(route, *address, deadline) {
            Ok(link) => links.push(link),
            Err(why) => error = why,
        }
    }
    for wait in patience.udp_waits {
        let mut unanswered = Vec::new();
        let share = wait / u32::try_from(links.len()).unwrap_or(1).max(1);
        for mut link in std::mem::take(&mut links) {
            let transaction = link.transaction;
            let read = |datagram: &[u8]| parse_connect(datagram, transaction);
            match link.ask(&connect_request(transaction), share, read) {
                Ok(Some(id)) => return Ok((link, id)),
                Ok(None) => unanswered.push(link),
                Err(why) => error = why,
            }
        }
        links = unanswered;
    }
    // An error of one address is not that of the tracker while another may still answer.
    Err(if links.is_empty() { error } else { TrackerError::Timeout })
}

/// An announce on its way.
struct Announce<'a> {
    request: &'a AnnounceRequest,
    url_data: &'a str,
}

impl Announce<'_> {
    /// Sends it, again after each of `waits`, and waits for the answer.
    fn send(
        &self,
        link: &mut Link,
        id: u64,
        waits: &[Duration],
    ) -> Result<AnnounceReply, TrackerError> {
        // Not that of the connect request: an answer to that may come twice.
        link.transaction = fastrand::u32(..);
        let transaction = link.transaction;
        let over_ipv6 = link.address.is_ipv6();
        let datagram = announce_request(id, transaction, self.request, self.url_data);
        for wait in waits {
            let read = |datagram: &[u8]| parse_announce(datagram, transaction, over_ipv6);
            if let Some(reply) = link.ask(&datagram, *wait, read)? {
                return Ok(reply);
            }
        }
        Err(TrackerError::Timeout)
    }
}

/// A socket that is connected to one address of a tracker: the kernel drops what comes from
/// elsewhere, and reports that nobody listens there.
struct Link {
    socket: UdpSocket,
    address: SocketAddr,
    transaction: u32,
    deadline: Instant,
    strays: usize,
}

impl Link {
    fn open(route: &Route, address: SocketAddr, deadline: Instant) -> Result<Self, TrackerError> {
        let socket = route.udp(address.is_ipv6(), 0)?;
        socket.connect(address)?;
        Ok(Self { socket, address, transaction: fastrand::u32(..), deadline, strays: 0 })
    }

    /// Sends `datagram` and waits up to `wait` for one that `read` takes for the answer to it.
    /// `None` if there was none.
    fn ask<T>(
        &mut self,
        datagram: &[u8],
        wait: Duration,
        read: impl Fn(&[u8]) -> Option<Result<T, TrackerError>>,
    ) -> Result<Option<T>, TrackerError> {
        self.socket.send(datagram)?;
        let until = self.deadline.min(Instant::now() + wait);
        let mut buffer = [0; TRACKER_UDP_DATAGRAM_MAX_BYTES];
        while self.strays < TRACKER_UDP_STRAYS_MAX {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => {
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match read(buffer.get(..length).unwrap_or_default()) {
                Some(answer) => return answer.map(Some),
                None => self.strays += 1,
            }
        }
        Err(TrackerError::Timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn patience(first: Duration) -> Patience {
        Patience { udp_waits: [first, LONG, LONG], total: LONG, ..Patience::default() }
    }

    #[test]
    fn a_silent_address_leaves_time_for_the_others() {
        let (_silent, silent_address) = socket();
        let (tracker, address) = socket();
        thread::spawn(move || {
            let mut datagram = [0; 16];
            let (_, from) = tracker.recv_from(&mut datagram).unwrap();
            let answer = [&[0; 4], &datagram[12..], &7_u64.to_be_bytes()].concat();
            tracker.send_to(&answer, from).unwrap();
        });
        let patience = patience(Duration::from_millis(200));
        let addresses = [silent_address, address];
        let (link, id) =
            connect(&Route::default(), &addresses, &patience, Instant::now() + LONG).unwrap();
        assert_eq!((link.address, id), (address, 7));
    }

    #[test]
    fn an_answer_that_comes_late_counts() {
        let (tracker, address) = socket();
        thread::spawn(move || {
            let (mut first, mut second) = ([0; 16], [0; 16]);
            let (_, from) = tracker.recv_from(&mut first).unwrap();
            tracker.recv_from(&mut second).unwrap();
            assert_eq!(first, second);
            let answer = [&[0; 4], &first[12..], &7_u64.to_be_bytes()].concat();
            tracker.send_to(&answer, from).unwrap();
        });
        let patience = patience(Duration::from_millis(50));
        let (_, id) =
            connect(&Route::default(), &[address], &patience, Instant::now() + LONG).unwrap();
        assert_eq!(id, 7);
    }

    #[test]
    fn a_flood_ends_the_announce() {
        let (tracker, address) = socket();
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        thread::spawn(move || {
            let (_, from) = tracker.recv_from(&mut [0; 16]).unwrap();
            while !stop.load(SeqCst) {
                let _ = tracker.send_to(b"nonsense", from);
            }
        });
        let began = Instant::now();
        let outcome = connect(&Route::default(), &[address], &patience(LONG), began + LONG);
        over.store(true, SeqCst);
        assert_eq!(outcome.err(), Some(TrackerError::Timeout));
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn connection_ids_are_kept_by_address_and_not_without_bound() {
        let connections = Connections::default();
        let address = |n: usize| SocketAddr::from(([127, 0, 0, 1], u16::try_from(n).unwrap()));
        for n in 0..2 * TRACKER_UDP_CONNECTIONS_MAX {
            connections.remember(address(n), n as u64);
        }
        assert_eq!(connections.lock().len(), TRACKER_UDP_CONNECTIONS_MAX);
        assert_eq!(
            (connections.known(address(5)), connections.known(address(999))),
            (Some(5), None)
        );
        connections.forget(address(5));
        assert_eq!(connections.known(address(5)), None);

        let life = Duration::from_millis(TRACKER_UDP_CONNECTION_LIFE_MS);
        if let Some(long_ago) = Instant::now().checked_sub(life) {
            connections.lock().values_mut().for_each(|(_, since)| *since = long_ago);
            assert_eq!(connections.known(address(6)), None);
            connections.remember(address(7), 7);
            assert_eq!(connections.lock().len(), 1);
        }
    }
}
