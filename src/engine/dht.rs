//! Runs our nodes of the DHT (BEP 5, BEP 32): one thread with a socket for each family of addresses.
//! What they say and when is decided in `policy/dht`.
//!
//! Who may block: the thread waits at its sockets, and one that looks up names waits for a name
//! server. What is found is told to whoever reads it; when nobody does, it is lost.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{debug, info, warn};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::engine::event::Found;
use crate::limits::{
    DHT_AGAIN_MAX_MS, DHT_AGAIN_MIN_MS, DHT_DATAGRAM_MAX_BYTES, DHT_DATAGRAMS_AT_ONCE_MAX,
    DHT_KEEP_MS, DHT_ORDERS_MAX, DHT_STACK_BYTES, NODE_FILE_MAX_BYTES, RESOLVER_STACK_BYTES,
};
use crate::policy::dht::{Datagram, Dht, Setup};
use crate::policy::origins::Origin;
use crate::protocol::krpc::Family;
use crate::protocol::node_file::{Kept, NodeFile};
use crate::system::link::{Waker, wait_for_any};
use crate::system::route::{Families, Route};
use crate::units::InfoHash;

const KEEP: Duration = Duration::from_millis(DHT_KEEP_MS);
const AGAIN_MIN: Duration = Duration::from_millis(DHT_AGAIN_MIN_MS);
const AGAIN_MAX: Duration = Duration::from_millis(DHT_AGAIN_MAX_MS);

/// Nodes that everybody knows, to begin with.
const ROUTERS: [&str; 4] = [
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
    "router.utorrent.com:6881",
];

/// Where the DHT is entered.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Nodes that the user typed: `host:port`. Those that everybody knows are not asked then.
    pub typed: Vec<String>,
    /// Nodes that the torrent names.
    pub named: Vec<String>,
    /// Nodes of an earlier run.
    pub keeper: Option<Keeper>,
}

impl Entry {
    /// Where to begin: the first time, or `again`, when that was of no use; and whether it is a node
    /// that everybody knows. Those are not troubled by who knows others.
    fn places(&self, knows_any: bool, again: bool) -> Vec<(&str, bool)> {
        let own = self.typed.iter().chain(&self.named).map(|name| (name.as_str(), false));
        let needed = again || !knows_any && self.named.is_empty();
        let routers = ROUTERS.iter().filter(|_| needed && self.typed.is_empty());
        own.chain(routers.map(|name| (*name, true))).collect()
    }
}

/// The file that the nodes are kept in between two runs. It is opened before the process shuts
/// itself in.
#[derive(Clone, Debug)]
pub struct Keeper(Arc<File>);

impl Keeper {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// It can't be opened for reading and writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(path).map(Arc::new).map(Self)
    }

    fn read(&self) -> NodeFile {
        let mut bytes = Vec::new();
        let most = NODE_FILE_MAX_BYTES as u64 + 1;
        let mut file = &*self.0;
        match file.rewind().and_then(|()| file.take(most).read_to_end(&mut bytes)) {
            Ok(_) => NodeFile::decode(&bytes),
            Err(_) => NodeFile::default(),
        }
    }

    /// A file that is cut short by a crash is passed over the next time.
    fn write(&self, nodes: &NodeFile) -> io::Result<()> {
        let mut file = &*self.0;
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&nodes.encode())
    }
}

enum Order {
    /// There should be a node.
    Contact(SocketAddr),
    /// Everybody knows this one.
    Router(SocketAddr),
    /// There are too few peers.
    WantPeers,
}

/// The thread. It ends when this is dropped, and has kept its nodes by then.
pub struct Nodes {
    bell: Arc<Bell>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
    port: u16,
    /// Nobody sends here: when it is gone, nothing is looked up any more.
    _here: Sender<Infallible>,
}

/// Wakes the thread.
struct Bell {
    waker: Waker,
    over: AtomicBool,
    /// The nodes of both families know good ones.
    rooted: AtomicBool,
}

impl Nodes {
    /// Enters the DHT. Peers of the torrent go to `found`; others are told that we have it if they can
    /// come to us at `port`, which the nodes try to have as well.
    ///
    /// # Errors
    /// There is no network, or no thread.
    pub fn spawn(
        entry: &Entry,
        info_hash: InfoHash,
        port: Option<u16>,
        route: &Route,
        found: Sender<Found>,
    ) -> io::Result<Self> {
        let kept = entry.keeper.as_ref().map(Keeper::read).unwrap_or_default();
        let knows = |kept: &Option<Kept>| kept.as_ref().is_some_and(|kept| !kept.nodes.is_empty());
        let knows_any = knows(&kept.v4) || knows(&kept.v6);
        let mut sides = Vec::new();
        for (family, kept) in [(Family::V4, kept.v4), (Family::V6, kept.v6)] {
            sides.extend(Side::open(family, kept, info_hash, port, route)?);
        }
        let own = sides.first().and_then(|side| side.socket.local_addr().ok());
        let port = own.ok_or(io::ErrorKind::AddrNotAvailable)?.port();
        // Nobody waits to give an order: what there is no room for is lost.
        let (orders, queue) = bounded(DHT_ORDERS_MAX);
        let (over, rooted) = (AtomicBool::new(false), AtomicBool::new(false));
        let bell = Arc::new(Bell { waker: Waker::new()?, over, rooted });
        let keeper = entry.keeper.clone();
        let work = Work { sides, keeper, found, queue, info_hash, bell: Arc::clone(&bell) };
        let builder = thread::Builder::new().name("dht".into()).stack_size(DHT_STACK_BYTES);
        let thread = Some(builder.spawn(move || work.run())?);
        info!("looking for peers in the DHT, at port {port}");
        let (_here, ended) = bounded(0);
        let nodes = Self { bell, orders, thread, port, _here };
        nodes.look_up(entry.clone(), knows_any, ended);
        Ok(nodes)
    }

    /// Where the nodes are.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A peer has its node there.
    pub fn add_contact(&self, address: SocketAddr) {
        order(&self.orders, &self.bell, Order::Contact(address));
    }

    /// There are too few peers.
    pub fn want_peers(&self) {
        order(&self.orders, &self.bell, Order::WantPeers);
    }

    /// Looks up where to begin, on a thread of its own, and again after a while if that was of no use:
    /// the network may have been gone.
    fn look_up(&self, entry: Entry, knows_any: bool, ended: Receiver<Infallible>) {
        let (orders, bell) = (self.orders.clone(), Arc::clone(&self.bell));
        let work = move || {
            let mut again = None;
            while !bell.rooted.load(Ordering::Relaxed) {
                for (name, is_router) in entry.places(knows_any, again.is_some()) {
                    let found = name.to_socket_addrs();
                    match &found {
                        Err(error) if again.is_none() && entry.typed.iter().any(|t| t == name) => {
                            warn!("--dht-node {name}: not found: {error}");
                        }
                        Err(error) => debug!("{name}, a node to begin at, is not found: {error}"),
                        Ok(_) => {}
                    }
                    let kind = if is_router { Order::Router } else { Order::Contact };
                    found.into_iter().flatten().for_each(|at| order(&orders, &bell, kind(at)));
                }
                let pause = again.map_or(AGAIN_MIN, |pause: Duration| (2 * pause).min(AGAIN_MAX));
                if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                again = Some(pause);
            }
        };
        let builder = thread::Builder::new().name("dht names".into());
        if let Err(error) = builder.stack_size(RESOLVER_STACK_BYTES).spawn(work) {
            debug!("nobody looks up where the DHT begins: {error}");
        }
    }
}

fn order(orders: &Sender<Order>, bell: &Bell, order: Order) {
    if orders.try_send(order).is_ok() {
        bell.waker.ring();
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.bell.over.store(true, Ordering::Relaxed);
        self.bell.waker.ring();
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

/// The node of one family, and its socket.
struct Side {
    family: Family,
    socket: UdpSocket,
    dht: Dht,
}

impl Side {
    /// `None` if the machine has no such addresses.
    fn open(
        family: Family,
        kept: Option<Kept>,
        info_hash: InfoHash,
        port: Option<u16>,
        route: &Route,
    ) -> io::Result<Option<Self>> {
        let (is_v6, same) = match family {
            Family::V4 => (false, Families::V4),
            Family::V6 => (true, Families::V6),
        };
        if !route.uses(same) {
            return Ok(None);
        }
        let socket = route.udp(is_v6, port.unwrap_or(0)).or_else(|_| route.udp(is_v6, 0));
        let Ok(socket) = socket else { return Ok(None) };
        socket.set_nonblocking(true)?;
        let mut seed = [0; 32];
        getrandom(&mut seed, GetRandomFlags::empty())?;
        let now = Instant::now();
        let mut dht = Dht::new(&Setup { family, seed, read_only: false, kept }, now);
        dht.search(info_hash, port, now);
        Ok(Some(Self { family, socket, dht }))
    }

    fn send(&self, datagrams: &[Datagram]) {
        for Datagram { to, bytes } in datagrams {
            // What is lost is asked again, or somebody else is.
            let _lost = self.socket.send_to(bytes, to);
        }
    }

    /// Hears some of what has come.
    fn hear(&mut self) {
        let mut buffer = [0; DHT_DATAGRAM_MAX_BYTES];
        for _ in 0..DHT_DATAGRAMS_AT_ONCE_MAX {
            let (length, from) = match self.socket.recv_from(&mut buffer) {
                Ok(datagram) => datagram,
                // Somebody to whom we spoke is not there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            if let Some(answer) = self.dht.on_datagram(from, bytes, Instant::now()) {
                let _lost = self.socket.send_to(&answer, from);
            }
        }
    }
}

/// What the thread has.
struct Work {
    sides: Vec<Side>,
    keeper: Option<Keeper>,
    found: Sender<Found>,
    queue: Receiver<Order>,
    info_hash: InfoHash,
    bell: Arc<Bell>,
}

impl Work {
    fn run(mut self) {
        let mut keep_at = Instant::now() + KEEP;
        while !self.bell.over.load(Ordering::Relaxed) {
            let now = Instant::now();
            self.obey(now);
            let mut next = keep_at;
            for side in &mut self.sides {
                let datagrams = side.dht.poll(now);
                side.send(&datagrams);
                let peers: Vec<SocketAddr> =
                    side.dht.take_found().into_iter().map(|(_, peer)| peer).collect();
                if !peers.is_empty() {
                    let _full = self.found.try_send(Found { origin: Origin::Dht, peers });
                }
                next = next.min(side.dht.next_deadline(now));
            }
            if now >= keep_at {
                keep_at = now + KEEP;
                self.keep();
            }
            let sockets = self.sides.iter().map(|side| &side.socket);
            if let Err(error) = wait_for_any(sockets, &self.bell.waker, next) {
                warn!("going on without the DHT: {error}");
                break;
            }
            self.sides.iter_mut().for_each(Side::hear);
            if !self.bell.rooted.load(Ordering::Relaxed) {
                let knows_good = |side: &Side| side.dht.count(now).1 > 0;
                self.bell.rooted.store(self.sides.iter().all(knows_good), Ordering::Relaxed);
            }
        }
        self.keep();
    }

    /// Does what others want.
    fn obey(&mut self, now: Instant) {
        for order in self.queue.try_iter() {
            for side in &mut self.sides {
                match order {
                    Order::Contact(address) => side.dht.add_contact(address, now),
                    Order::Router(address) => side.dht.add_router(address, now),
                    Order::WantPeers => side.dht.want_peers(self.info_hash, now),
                }
            }
        }
    }

    fn keep(&self) {
        let now = Instant::now();
        for side in &self.sides {
            let (known, good) = side.dht.count(now);
            debug!("{}: {known} nodes of the DHT are known, {good} of them good", side.family);
        }
        let kept = |family| {
            let side = self.sides.iter().find(|side| side.family == family);
            side.map(|side| side.dht.kept(now))
        };
        let nodes = NodeFile { v4: kept(Family::V4), v6: kept(Family::V6) };
        if let Some(keeper) = &self.keeper
            && let Err(error) = keeper.write(&nodes)
        {
            warn!("the nodes of the DHT can't be written to the --dht-file: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_knows_nodes_troubles_others_only_when_these_are_of_no_use() {
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let routers = |entry: &Entry, knows_any, again| {
            entry.places(knows_any, again).iter().filter(|(_, is_router)| *is_router).count()
        };
        let nothing = Entry::default();
        let torrent = Entry { named: named(&["a:1"]), ..Entry::default() };
        let typed = Entry { typed: named(&["b:2"]), ..torrent.clone() };
        let cases = [
            (&nothing, false, ROUTERS.len(), ROUTERS.len()),
            (&nothing, true, 0, ROUTERS.len()),
            (&torrent, false, 0, ROUTERS.len()),
            (&typed, false, 0, 0),
        ];
        for (entry, knows_any, first, then) in cases {
            let asked = [false, true].map(|again| routers(entry, knows_any, again));
            assert_eq!(asked, [first, then], "{entry:?} {knows_any}");
        }
        assert_eq!(typed.places(true, false), [("b:2", false), ("a:1", false)]);
    }
}
