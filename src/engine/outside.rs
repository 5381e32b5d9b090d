//! What connects a run with others: who it is, where it listens, and where peers are. It is the same
//! before and after the torrent behind an info-hash is known.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{info, warn};

use crate::engine::announcer::{Announcer, Patience};
use crate::engine::dht::Entry;
use crate::engine::discovery::Discovery;
use crate::engine::event::Event;
use crate::engine::greeter::Greeter;
use crate::engine::listener::Listener;
use crate::error::Fatal;
use crate::limits::{EVENTS_QUEUED_MAX, NUMWANT};
use crate::policy::encryption::Encryption;
use crate::policy::memory::Plan;
use crate::policy::origins::Origin;
use crate::policy::peer_book::PeerBook;
use crate::policy::tiers::Tiers;
use crate::protocol::handshake::Handshake;
use crate::protocol::tracker::{AnnounceRequest, Scheme};
use crate::protocol::url::shown;
use crate::system::route::Route;
use crate::units::{InfoHash, PeerId};

/// How the peer id begins (BEP 20): `-RU`, the version's four digits, `-`.
const PEER_ID_PREFIX: &[u8; 8] = b"-RU0100-";

/// Doors and addresses.
pub struct Outside {
    /// How peers are met.
    pub greeter: Greeter,
    /// Where peers are.
    pub discovery: Discovery,
    /// Where peers come, if they can.
    pub listener: Option<Listener>,
    /// What the threads of this run have to say: the listener's, the pool's, the writer's. Nobody
    /// waits for long here: the coordinator never stops reading.
    pub report: Sender<Event>,
    /// The other end of it.
    pub events: Receiver<Event>,
}

/// Whom to ask, and where to be found.
#[derive(Clone, Copy)]
pub struct Directions<'a> {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Its trackers.
    pub tiers: &'a [Vec<String>],
    /// Whether it is private.
    pub private: bool,
    /// Peers that the user named.
    pub peers: &'a [std::net::SocketAddr],
    /// Where peers may come, the first that is free, if they may.
    pub ports: Option<&'a [u16]>,
    /// What trackers are told if none is.
    pub port: u16,
    /// Whether peers on the local network are looked for.
    pub local: bool,
    /// Where the DHT is entered, if peers are looked for there.
    pub dht: Option<&'a Entry>,
    /// Whether what passes between peers is encrypted.
    pub encryption: Encryption,
    /// By which way everything leaves.
    pub route: &'a Arc<Route>,
}

impl Outside {
    /// Listens, and starts the threads that announce. Nobody is asked yet.
    ///
    /// # Errors
    /// There is no thread to announce with.
    pub fn open(
        directions: Directions<'_>,
        plan: &Plan,
        rng: &mut fastrand::Rng,
    ) -> Result<Self, Fatal> {
        let directions = directions.as_far_as_the_way_leads();
        let Directions { info_hash, private, peers, ports, port, encryption, route, .. } =
            directions;
        let tiers = Tiers::new(&usable(directions.tiers, route), rng);
        let announcer = match tiers.width() {
            0 => None,
            width => {
                let announcer =
                    Announcer::spawn(plan.announcers.min(width), Patience::default(), route);
                let mut announcer =
                    announcer.map_err(|error| Fatal::System("start a thread", error))?;
                announcer.limit_farewells(plan.farewells);
                Some(announcer)
            }
        };
        let (report, events) = bounded(EVENTS_QUEUED_MAX);
        let listener = ports.and_then(|ports| listen(ports, route, &report));
        let peer_id = peer_id(rng);
        let announce = AnnounceRequest {
            info_hash,
            peer_id,
            port: listener.as_ref().map_or(port, Listener::port),
            uploaded: 0,
            downloaded: 0,
            left: 0,
            event: None,
            key: rng.u32(..),
            numwant: NUMWANT,
            tracker_id: None,
        };
        let mut discovery = Discovery::new(announcer, tiers, announce, route);
        discovery.book = PeerBook::new(encryption);
        discovery.is_private(private);
        discovery.hear(Origin::User, peers, Instant::now());
        if directions.local && listener.is_some() {
            discovery.look_around();
        }
        if let Some(entry) = directions.dht {
            discovery.enter_dht(entry, listener.as_ref().map(Listener::port));
        }
        let dht = discovery.dht_port().is_some();
        let handshake = Handshake { info_hash, peer_id, fast: true, extended: true, dht };
        let greeter = Greeter { handshake, encryption, route: Arc::clone(route) };
        Ok(Self { greeter, discovery, listener, report, events })
    }

    /// The torrent is known now. In a private one nobody but its trackers and the user names peers.
    pub fn is_private(&mut self, private: bool) {
        self.discovery.is_private(private);
        self.greeter.handshake.dht = self.discovery.dht_port().is_some();
    }

    /// Nobody is there to be asked, and nobody will come.
    pub fn is_empty(&self) -> bool {
        self.discovery.is_alone()
    }

    /// Where it listens.
    pub fn port(&self) -> Option<u16> {
        self.listener.as_ref().map(Listener::port)
    }
}

impl Directions<'_> {
    /// Through a proxy nobody can come, and no datagram goes; one address alone is not enough to look
    /// around from.
    fn as_far_as_the_way_leads(self) -> Self {
        if self.route.proxy().is_some() {
            info!(
                "through a proxy: nobody can connect to us; no DHT, no peers on the local network"
            );
            return Self { ports: None, local: false, dht: None, ..self };
        }
        Self { local: self.local && !self.route.is_one_address(), ..self }
    }
}

/// The trackers that can be asked.
fn usable(tiers: &[Vec<String>], route: &Route) -> Vec<Vec<String>> {
    let is_usable = |url: &&String| {
        let asked = route.proxy().is_none() || Scheme::of(url) != Some(Scheme::Udp);
        if !asked {
            warn!("tracker {}: not asked, UDP does not go through a proxy", shown(url));
        }
        asked
    };
    let usable = |tier: &Vec<String>| tier.iter().filter(is_usable).cloned().collect();
    tiers.iter().map(usable).collect()
}

/// Lets peers come. That nobody can is no reason not to download.
fn listen(ports: &[u16], route: &Route, report: &Sender<Event>) -> Option<Listener> {
    match Listener::spawn(ports.iter().copied(), route, report.clone()) {
        Ok(listener) => {
            let port = listener.port();
            match ports.first() {
                Some(first) if *first != port => {
                    info!("listening on port {port}, {first} is taken");
                }
                _ => info!("listening on port {port}"),
            }
            Some(listener)
        }
        Err(error) => {
            warn!("nobody can connect to us: no port is free to listen on: {error}");
            None
        }
    }
}

/// Who we are for this run.
fn peer_id(rng: &mut fastrand::Rng) -> PeerId {
    let mut id = [0; 20];
    let (prefix, random) = id.split_at_mut(PEER_ID_PREFIX.len());
    prefix.copy_from_slice(PEER_ID_PREFIX);
    random.iter_mut().for_each(|byte| *byte = u8::try_from(rng.alphanumeric()).unwrap_or(b'0'));
    PeerId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_id_tells_the_version() {
        let digits: String =
            env!("CARGO_PKG_VERSION").chars().filter(char::is_ascii_digit).collect();
        let id = peer_id(&mut fastrand::Rng::with_seed(1)).0;
        assert_eq!(id[..8], *format!("-RU{digits}0-").as_bytes());
        assert!(id[8..].iter().all(u8::is_ascii_alphanumeric));
        assert_ne!(id, peer_id(&mut fastrand::Rng::with_seed(2)).0);
    }
}
