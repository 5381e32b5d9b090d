//! Knows where peers are: asks the trackers when they are due, and keeps the addresses that they
//! and others name. It waits for nobody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{debug, warn};

use crate::engine::announcer::{Announced, Announcer, Job};
use crate::engine::event::Found;
use crate::engine::local::Local;
use crate::limits::{FAREWELL_BUDGET_MS, FOUND_WAITING_MAX, NUMWANT};
use crate::policy::origins::Origin;
use crate::policy::peer_book::PeerBook;
use crate::policy::tiers::Tiers;
use crate::protocol::tracker::{AnnounceRequest, Event};
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
    /// The addresses.
    pub book: PeerBook,
    /// Nobody but trackers and the user is to name any.
    private: bool,
    /// Where others tell what they found, and where that comes out.
    finders: Sender<Found>,
    found: Receiver<Found>,
    /// The thread that looks at the local network.
    local: Option<Local>,
}

impl Discovery {
    /// Asks these trackers, on these threads.
    pub fn new(announcer: Option<Announcer>, tiers: Tiers, announce: AnnounceRequest) -> Self {
        // Nobody waits here: what there is no room for is lost.
        let (finders, found) = bounded(FOUND_WAITING_MAX);
        let book = PeerBook::default();
        Self { announcer, tiers, announce, book, private: false, finders, found, local: None }
    }

    /// The torrent is known now. In a private one nobody else is asked.
    pub fn is_private(&mut self, private: bool) {
        self.private = private;
        if private {
            self.local = None;
        }
    }

    /// Looks for peers on the local network, unless the torrent is private.
    pub fn look_around(&mut self) {
        if self.private {
            return;
        }
        let AnnounceRequest { info_hash, port, .. } = self.announce;
        match Local::spawn(info_hash, port, self.finder()) {
            Ok(local) => self.local = Some(local),
            Err(error) => debug!("peers on the local network are not found: {error}"),
        }
    }

    /// Whether peers are looked for where nobody was named.
    pub fn looks_around(&self) -> bool {
        self.local.is_some()
    }

    /// Whether there is nobody to ask for peers, and nobody known.
    pub fn is_alone(&self) -> bool {
        self.announcer.is_none() && self.book.known() == 0 && !self.looks_around()
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
            if from.is_heard(self.private, self.book.known()) && self.book.add(*peer, now) {
                new += 1;
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
                warn!("no thread to announce with");
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
