//! Knows where peers are: asks the trackers when they are due, and keeps the addresses that they
//! and others name. It waits for nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{debug, warn};

use crate::engine::announcer::{Announced, Announcer, Job};
use crate::engine::dht::{Entry, Nodes};
use crate::engine::event::Found;
use crate::engine::local::Local;
use crate::limits::{FAREWELL_BUDGET_MS, FOUND_WAITING_MAX, NUMWANT};
use crate::policy::origins::Origin;
use crate::policy::peer_book::PeerBook;
use crate::policy::tiers::Tiers;
use crate::protocol::tracker::{AnnounceRequest, Event};
use crate::system::route::Route;
use crate::units::Count;

const FAREWELL_BUDGET: Duration = Duration::from_millis(FAREWELL_BUDGET_MS);

/// What trackers are told of the transfer, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Not there yet.
    pub left: u64,
    /// Came from peers.
    pub downloaded: u64,
    /// Went to peers.
    pub uploaded: u64,
}

/// The sources of addresses, and the addresses.
pub struct Discovery {
    /// The trackers' threads; none if there is no tracker.
    announcer: Option<Announcer>,
    /// The trackers' schedule.
    pub tiers: Tiers,
    /// What every announce says alike; numbers and events are filled in.
    announce: AnnounceRequest,
    /// By which way everything leaves.
    route: Arc<Route>,
    /// The addresses.
    pub book: PeerBook,
    /// Nobody but trackers and the user is to name any.
    private: bool,
    /// Where others tell what they found, and where that comes out.
    finders: Sender<Found>,
    found: Receiver<Found>,
    /// The thread that looks at the local network.
    local: Option<Local>,
    /// The thread of our nodes of the DHT.
    dht: Option<Nodes>,
}

impl Discovery {
    /// Asks these trackers, on these threads. Peers are reached by `route`.
    pub fn new(
        announcer: Option<Announcer>,
        tiers: Tiers,
        announce: AnnounceRequest,
        route: &Arc<Route>,
    ) -> Self {
        // Nobody waits here: what there is no room for is lost.
        let (finders, found) = bounded(FOUND_WAITING_MAX);
        let book = PeerBook::default();
        Self {
            announcer,
            tiers,
            announce,
            route: Arc::clone(route),
            book,
            private: false,
            finders,
            found,
            local: None,
            dht: None,
        }
    }

    /// The torrent is known now. In a private one nobody else is asked.
    pub fn is_private(&mut self, private: bool) {
        self.private = private;
        if private {
            // Until now nobody knew.
            self.book.keep_vouched_for();
            (self.local, self.dht) = (None, None);
        }
    }

    /// Looks for peers on the local network, unless the torrent is private.
    pub fn look_around(&mut self) {
        if self.private {
            return;
        }
        let AnnounceRequest { info_hash, port, .. } = self.announce;
        match Local::spawn(info_hash, port, &self.route, self.finder()) {
            Ok(local) => self.local = Some(local),
            Err(error) => debug!("peers on the local network are not found: {error}"),
        }
    }

    /// Looks for peers in the DHT, unless the torrent is private; `port` is where they can come to us.
    pub fn enter_dht(&mut self, entry: &Entry, port: Option<u16>) {
        if self.private {
            return;
        }
        match Nodes::spawn(entry, self.announce.info_hash, port, &self.route, self.finder()) {
            Ok(nodes) => self.dht = Some(nodes),
            Err(error) => warn!("going on without the DHT: {error}"),
        }
    }

    /// Where our nodes of the DHT are.
    pub fn dht_port(&self) -> Option<u16> {
        self.dht.as_ref().map(Nodes::port)
    }

    /// Peers have nodes of the DHT there.
    pub fn hear_of_nodes(&self, nodes: impl IntoIterator<Item = SocketAddr>) {
        if let Some(dht) = &self.dht {
            nodes.into_iter().for_each(|node| dht.add_contact(node));
        }
    }

    /// There are too few peers: whoever may be asked again so early is asked.
    pub fn want_peers(&mut self, now: Instant) {
        self.tiers.want_peers(now);
        if let Some(dht) = &self.dht {
            dht.want_peers();
        }
    }

    /// Whether peers are looked for where nobody was named.
    pub fn looks_around(&self) -> bool {
        self.local.is_some() || self.dht.is_some()
    }

    /// Whether there is nobody to ask for peers, and nobody known; or no way to any.
    pub fn is_alone(&self) -> bool {
        let nobody = self.announcer.is_none() && self.book.known() == 0 && !self.looks_around();
        nobody || !self.route.leads_to_peers()
    }

    /// Where others than trackers tell what they find.
    pub fn finder(&self) -> Sender<Found> {
        self.finders.clone()
    }

    /// What others than trackers find, for [`Self::hear`].
    pub fn found(&self) -> Receiver<Found> {
        self.found.clone()
    }

    /// Somebody named peers. Returns how many of them are new.
    pub fn hear(&mut self, from: Origin, peers: &[SocketAddr], now: Instant) -> usize {
        let mut new = 0;
        for peer in peers {
            let is_reached = self.route.leads_to_peers() && self.route.allows(peer.ip());
            if !is_reached || !from.is_heard(self.private, self.book.known()) {
                continue;
            }
            new += usize::from(self.book.add(*peer, now));
            if from.is_trusted() {
                self.book.vouch_for(*peer);
            }
        }
        new
    }

    /// Where the answers come from, for [`Self::on_announced`].
    pub fn outcomes(&self) -> Receiver<Announced> {
        let no_trackers = crossbeam_channel::never();
        self.announcer.as_ref().map_or(no_trackers, |all| all.outcomes().clone())
    }

    /// Asks the trackers that are due.
    pub fn announce_due(&mut self, totals: impl Fn() -> Totals, now: Instant) {
        let Some(announcer) = &self.announcer else { return };
        while let Some(due) = self.tiers.take_due(now) {
            let request = self.request(due.event, due.tracker_id, totals());
            let job = Job { tracker: due.tracker, url: due.url, request };
            if announcer.submit(job).is_err() {
                // One announce a tier, and room for all of them: there is no thread left.
                warn!("trackers are not asked any more: no thread is left");
                return;
            }
        }
    }

    /// A tracker answered, or did not.
    pub fn on_announced(&mut self, announced: Announced, now: Instant) {
        let Announced { tracker, result } = announced;
        match result {
            Ok(reply) => {
                let new = self.hear(Origin::Tracker, &reply.peers, now);
                debug!("{}", Count(new, "new peer"));
                self.tiers.on_reply(tracker, &reply, now);
            }
            Err(error) => self.tiers.on_failure(tracker, error, now),
        }
    }

    /// Tells `stopped` to every tracker that knows us, after `completed` if it is owed that.
    pub fn farewell(&self, totals: Totals) {
        let Some(announcer) = &self.announcer else { return };
        let farewells: Vec<_> = self
            .tiers
            .answered()
            .map(|tracker| {
                let request = |event| self.request(Some(event), tracker.tracker_id.clone(), totals);
                let events = tracker.event.into_iter().chain([Event::Stopped]);
                (tracker.url, events.map(request).collect())
            })
            .collect();
        if !farewells.is_empty() {
            let asked = farewells.len();
            let heard = announcer.farewell(farewells, FAREWELL_BUDGET);
            debug!("{heard} of {} heard that we are gone", Count(asked, "tracker"));
        }
    }

    fn request(
        &self,
        event: Option<Event>,
        tracker_id: Option<Vec<u8>>,
        totals: Totals,
    ) -> AnnounceRequest {
        let Totals { left, downloaded, uploaded } = totals;
        let numwant = if event == Some(Event::Stopped) { 0 } else { NUMWANT };
        let same = self.announce.clone();
        AnnounceRequest { event, tracker_id, left, downloaded, uploaded, numwant, ..same }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{InfoHash, PeerId};

    #[test]
    fn a_torrent_that_turns_out_to_be_private_keeps_the_peers_that_it_may_have() {
        let announce = AnnounceRequest {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            port: 1,
            uploaded: 0,
            downloaded: 0,
            left: 0,
            event: None,
            key: 0,
            numwant: NUMWANT,
            tracker_id: None,
        };
        let now = Instant::now();
        let mut all = Discovery::new(
            None,
            Tiers::new(&[], &mut fastrand::Rng::new()),
            announce,
            &Arc::default(),
        );
        let [user, tracker, both, peer, local, dht] =
            [1, 2, 3, 4, 5, 6].map(|host| SocketAddr::from(([192, 0, 2, host], 1)));
        let heard = [
            (Origin::Peer, both),
            (Origin::User, user),
            (Origin::Tracker, tracker),
            (Origin::Tracker, both),
            (Origin::Peer, peer),
            (Origin::Local, local),
            (Origin::Dht, dht),
        ];
        let new: usize =
            heard.iter().map(|(origin, address)| all.hear(*origin, &[*address], now)).sum();
        assert_eq!((new, all.book.known()), (6, 6));
        all.is_private(true);
        let mut kept: Vec<_> = std::iter::from_fn(|| all.book.next(now)).collect();
        kept.sort_unstable();
        assert_eq!(kept, [user, tracker, both]);
        assert_eq!(all.hear(Origin::Dht, &[dht], now), 0);
        all.look_around();
        all.enter_dht(&Entry::default(), None);
        assert!(!all.looks_around(), "nobody is asked any more");
    }
}
