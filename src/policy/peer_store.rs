//! Decides which peers are kept that others announce to us, and for how long (BEP 5,
//! "announce_peer").
//!
//! The store is small and anybody may write to it. When it is full, the torrent farthest from our
//! id makes room for one that is nearer: that one has better keepers than us.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits::{
    STORED_PEER_LIFE_S, STORED_PEERS_MAX, STORED_PEERS_PER_NETWORK_MAX,
    STORED_PEERS_PER_TORRENT_MAX, STORED_TORRENTS_MAX,
};
use crate::policy::reach::network_of;
use crate::protocol::node_id::{Distance, NodeId};
use crate::units::InfoHash;

const LIFE: Duration = Duration::from_secs(STORED_PEER_LIFE_S);

/// Peers by torrent.
#[derive(Default)]
pub struct PeerStore {
    /// By their distance from our id: the last one is the farthest.
    torrents: BTreeMap<Distance, Vec<Stored>>,
}

#[derive(Clone, Copy)]
struct Stored {
    peer: SocketAddr,
    announced: Instant,
}

impl Stored {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.announced) < LIFE
    }
}

impl PeerStore {
    /// Keeps a peer of a torrent, or keeps it for longer, if there is room for it. `own` is our id.
    pub fn announce(&mut self, own: NodeId, info_hash: InfoHash, peer: SocketAddr, now: Instant) {
        let distance = own.distance(info_hash.into());
        let stored = Stored { peer, announced: now };
        if let Some(again) = self.find(distance, peer) {
            *again = stored;
            return;
        }
        self.expire(now);
        let network = network_of(peer);
        let of_network = self.all().filter(|stored| network_of(stored.peer) == network).count();
        if of_network >= STORED_PEERS_PER_NETWORK_MAX || !self.make_room(distance) {
            return;
        }
        let peers = self.torrents.entry(distance).or_default();
        if peers.len() >= STORED_PEERS_PER_TORRENT_MAX {
            peers.remove(0);
        }
        peers.push(stored);
    }

    fn find(&mut self, distance: Distance, peer: SocketAddr) -> Option<&mut Stored> {
        self.torrents.get_mut(&distance)?.iter_mut().find(|stored| stored.peer == peer)
    }

    fn all(&self) -> impl Iterator<Item = &Stored> {
        self.torrents.values().flatten()
    }

    /// Peers of all torrents.
    pub fn len(&self) -> usize {
        self.torrents.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.torrents.is_empty()
    }

    fn expire(&mut self, now: Instant) {
        self.torrents.retain(|_, peers| {
            peers.retain(|stored| stored.is_alive(now));
            !peers.is_empty()
        });
    }

    /// Whether there is room for one more peer of the torrent at `distance` now.
    fn make_room(&mut self, distance: Distance) -> bool {
        let is_new = !self.torrents.contains_key(&distance);
        while self.len() >= STORED_PEERS_MAX || is_new && self.torrents.len() >= STORED_TORRENTS_MAX
        {
            match self.torrents.last_entry() {
                Some(farthest) if *farthest.key() > distance => drop(farthest.remove()),
                _ => return false,
            }
        }
        true
    }

    /// Up to `count` peers of a torrent, those from number `from` on first, if there are as many.
    pub fn peers(
        &self,
        own: NodeId,
        info_hash: InfoHash,
        count: usize,
        from: usize,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let peers =
            self.torrents.get(&own.distance(info_hash.into())).map_or(&[][..], Vec::as_slice);
        let (before, after) = peers.split_at(from.checked_rem(peers.len()).unwrap_or(0));
        let alive = after.iter().chain(before).filter(|stored| stored.is_alive(now));
        alive.take(count).map(|stored| stored.peer).collect()
    }

    /// Our id is another one from now on.
    pub fn on_new_id(&mut self, before: NodeId, after: NodeId) {
        let shift = before.distance(after);
        let torrents = std::mem::take(&mut self.torrents);
        let moved = torrents.into_iter().map(|(distance, peers)| (distance.moved_by(shift), peers));
        self.torrents.extend(moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId([0; 20]);

    fn hash(number: u32) -> InfoHash {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        InfoHash(hash)
    }

    /// Each in a network of its own.
    fn peer(number: u32) -> SocketAddr {
        SocketAddr::from(((1 << 24 | number << 8 | 1).to_be_bytes(), 6881))
    }

    #[test]
    fn a_peer_is_kept_for_half_an_hour_after_it_was_last_announced() {
        let start = Instant::now();
        let after = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut store = PeerStore::default();
        store.announce(OWN, hash(1), peer(1), start);
        store.announce(OWN, hash(1), peer(2), start);
        store.announce(OWN, hash(2), peer(3), start);
        store.announce(OWN, hash(1), peer(1), after(20));
        let peers = |store: &PeerStore, minutes| store.peers(OWN, hash(1), 9, 0, after(minutes));
        assert_eq!(peers(&store, 29), [peer(1), peer(2)]);
        assert_eq!(peers(&store, 30), [peer(1)]);
        assert_eq!(peers(&store, 49), [peer(1)]);
        assert_eq!(peers(&store, 50), []);
        assert_eq!(store.len(), 3);
        store.announce(OWN, hash(3), peer(4), after(60));
        assert_eq!(store.len(), 1, "what is gone is not kept");
    }

    #[test]
    fn who_asks_gets_some_of_them_from_any_place_on() {
        let now = Instant::now();
        let mut store = PeerStore::default();
        (0..5).for_each(|number| store.announce(OWN, hash(1), peer(number), now));
        for (count, from, expected) in [
            (2, 0, vec![0, 1]),
            (2, 4, vec![4, 0]),
            (3, 7, vec![2, 3, 4]),
            (9, 3, vec![3, 4, 0, 1, 2]),
            (0, 3, vec![]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(peer).collect();
            assert_eq!(store.peers(OWN, hash(1), count, from, now), expected);
        }
        assert_eq!(store.peers(OWN, hash(2), 9, 3, now), []);
    }

    #[test]
    fn one_network_can_not_fill_it() {
        let now = Instant::now();
        let mut store = PeerStore::default();
        for number in 0..2_000 {
            let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
            store.announce(OWN, hash(number), ([192, 0, 2, low], 1 + u16::from(high)).into(), now);
        }
        assert_eq!(store.len(), STORED_PEERS_PER_NETWORK_MAX);
        store.announce(OWN, hash(1), peer(1), now);
        assert_eq!(store.peers(OWN, hash(1), 9, 0, now).last(), Some(&peer(1)));
    }

    #[test]
    fn it_is_bounded_in_every_way() {
        let now = Instant::now();
        let mut store = PeerStore::default();
        (0..1_000).for_each(|number| store.announce(OWN, hash(1), peer(number), now));
        let kept = store.peers(OWN, hash(1), 1_000, 0, now);
        assert_eq!(kept.len(), STORED_PEERS_PER_TORRENT_MAX);
        assert_eq!(kept.last(), Some(&peer(999)), "the newest are kept");

        let mut store = PeerStore::default();
        (0..6_000).for_each(|number| store.announce(OWN, hash(number % 60), peer(number), now));
        assert!(store.len() <= STORED_PEERS_MAX, "{}", store.len());
        assert!(store.len() > STORED_PEERS_MAX * 9 / 10, "{}", store.len());
    }

    #[test]
    fn the_farthest_makes_room() {
        let now = Instant::now();
        let mut store = PeerStore::default();
        let many = u32::try_from(STORED_TORRENTS_MAX).unwrap();
        (0..2 * many).rev().for_each(|number| store.announce(OWN, hash(number), peer(number), now));
        let kept = |number| !store.peers(OWN, hash(number), 1, 0, now).is_empty();
        assert!((0..many).all(kept) && !(many..2 * many).any(kept));

        // Under another id, others are the farthest.
        let other = NodeId([0xff; 20]);
        store.on_new_id(OWN, other);
        let kept = |number| !store.peers(other, hash(number), 1, 0, now).is_empty();
        assert!((0..many).all(kept));
        store.announce(other, hash(u32::MAX), peer(1), now);
        let kept = |number| !store.peers(other, hash(number), 1, 0, now).is_empty();
        assert!(!kept(0) && (1..many).all(kept) && kept(u32::MAX));
    }
}
