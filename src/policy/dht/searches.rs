//! The search for peers of one torrent: a lookup now and then, and an announce to those that it led
//! to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::queries::Purpose;
use super::upkeep::pause;
use super::{Datagram, Dht};
use crate::limits::{
    BUCKET_NODES_MAX, SEARCH_INTERVAL_MIN_S, SEARCH_INTERVAL_S, STORED_PEERS_PER_TORRENT_MAX,
};
use crate::policy::lookup::Lookup;
use crate::protocol::krpc::{Contact, Query, Want};
use crate::units::InfoHash;

const INTERVAL: Duration = Duration::from_secs(SEARCH_INTERVAL_S);
const INTERVAL_MIN: Duration = Duration::from_secs(SEARCH_INTERVAL_MIN_S);

/// What is searched for, and how far it is.
pub(super) struct Search {
    info_hash: InfoHash,
    /// Where peers can come to us.
    pub(super) port: Option<u16>,
    lookup: Option<Lookup>,
    /// Whom the torrent is to be announced to, with their tokens.
    announces: Vec<(SocketAddr, Vec<u8>)>,
    /// When the next lookup begins.
    due: Instant,
    began: Option<Instant>,
    /// Lookups in a row that led to too few nodes, while we know too few.
    failures: u32,
}

impl Search {
    pub(super) fn new(info_hash: InfoHash, port: Option<u16>, now: Instant) -> Self {
        let (lookup, announces) = (None, Vec::new());
        Self { info_hash, port, lookup, announces, due: now, began: None, failures: 0 }
    }

    pub(super) fn is_for(&self, info_hash: InfoHash) -> bool {
        self.info_hash == info_hash
    }

    /// The next lookup begins as early as it may.
    pub(super) fn hurry(&mut self, now: Instant) {
        let earliest = self.began.map_or(now, |began| began + INTERVAL_MIN).max(now);
        if self.failures == 0 {
            self.due = self.due.min(earliest);
        }
    }

    /// There is somebody to ask where there was nobody.
    pub(super) fn on_somebody_there(&mut self, now: Instant) {
        if self.failures > 0 {
            self.due = self.due.min(now);
        }
    }

    /// As [`Lookup::on_answer`].
    pub(super) fn on_answer(
        &mut self,
        contact: &Contact,
        token: Option<Vec<u8>>,
        named: impl Iterator<Item = Contact>,
    ) -> bool {
        self.lookup.as_mut().is_some_and(|lookup| lookup.on_answer(contact, token, named))
    }

    pub(super) fn on_silence(&mut self, address: SocketAddr) {
        self.lookup.iter_mut().for_each(|lookup| lookup.on_silence(address));
    }

    /// When it may have something to ask, if no answer comes before.
    pub(super) fn next_at(&self, can_start: bool, now: Instant) -> Option<Instant> {
        match &self.lookup {
            Some(lookup) => lookup.next_at(now),
            None => (can_start && self.announces.is_empty()).then_some(self.due),
        }
    }

    /// The lookup has come to its end. `is_rooted`: the table has enough.
    fn finish(&mut self, lookup: Lookup, is_rooted: bool, now: Instant) {
        let failed = lookup.answers() < BUCKET_NODES_MAX && !is_rooted;
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        self.due = now + if failed { pause(self.failures) } else { INTERVAL };
        if self.port.is_some() {
            self.announces = lookup.into_closest();
        }
    }
}

impl Dht {
    /// Asks what is to be asked for a search now.
    pub(super) fn drive(&mut self, search: &mut Search, now: Instant, out: &mut Vec<Datagram>) {
        let info_hash = search.info_hash;
        let is_idle = search.lookup.is_none() && search.announces.is_empty();
        if is_idle && search.due <= now && self.can_start() {
            search.lookup = Some(self.start(info_hash.into(), now));
            search.began = Some(now);
            // We may be one of the closest ourselves.
            let own = self.table.own();
            let kept = self.store.peers(own, info_hash, STORED_PEERS_PER_TORRENT_MAX, 0, now);
            self.find(info_hash, kept);
        }
        if let Some(mut lookup) = search.lookup.take() {
            while !self.queries.is_full()
                && let Some(to) = lookup.next(now)
            {
                let query = Query::GetPeers { info_hash, want: Want::default() };
                out.push(self.ask(to, query, Purpose::Search(info_hash), now));
            }
            match lookup.is_done() {
                true => search.finish(lookup, self.table.is_rooted(now), now),
                false => search.lookup = Some(lookup),
            }
        }
        while !self.queries.is_full()
            && let Some(port) = search.port
            && let Some((to, token)) = search.announces.pop()
        {
            let query = Query::AnnouncePeer { info_hash, port, implied_port: false, token };
            out.push(self.ask(to, query, Purpose::Announce, now));
        }
    }
}
