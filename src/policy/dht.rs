//! Decides what our node of the DHT says and when (BEP 5), one node for each family of addresses
//! (BEP 32). It finds peers for our torrents, tells others that we have them, and answers the
//! questions of others as they answer ours.
//!
//! Whoever drives it has a socket: each datagram that comes goes into [`Dht::on_datagram`], whose
//! answer goes back. After that, and when [`Dht::next_deadline`] has come, what [`Dht::poll`] gives
//! is sent, and what [`Dht::take_found`] gives is for the peers' book.
//!
//! An answer counts only from the address that was asked and with the number that was drawn for the
//! question. What it says of others is hearsay, see `lookup`; the table has nobody who did not
//! answer us, see `routing`. An address somebody else named is asked once and slowly, whoever it
//! belongs to. Everything that is kept has its bound in `limits`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use crate::limits::{
    CONTACTS_MAX, DHT_NODES_PER_REPLY_MAX, ROUTERS_MAX, SEARCHES_MAX, STRANGERS_MAX,
};
use crate::policy::answers::Answers;
use crate::policy::lookup::Lookup;
use crate::policy::nonces::Nonces;
use crate::policy::peer_store::PeerStore;
use crate::policy::reach::Reach;
use crate::policy::routing::Table;
use crate::policy::tokens::Tokens;
use crate::protocol::krpc::{Body, Contact, Family, Message, Query, Undecodable};
use crate::protocol::node_file::Kept;
use crate::protocol::node_id::NodeId;
use crate::units::InfoHash;

mod answering;
mod hearing;
mod queries;
mod searches;
mod upkeep;
mod votes;

use queries::{Purpose, Queries, Sent};
use searches::Search;
use votes::Votes;

/// What a node begins with.
pub struct Setup {
    /// The kind of addresses that its socket has.
    pub family: Family,
    /// Random, from the system: nobody else may know it.
    pub seed: [u8; 32],
    /// It answers nobody: others can't reach it (BEP 43).
    pub read_only: bool,
    /// What was kept of the last run.
    pub kept: Option<Kept>,
}

/// A datagram to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Where to.
    pub to: SocketAddr,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// Our node of one family.
pub struct Dht {
    family: Family,
    read_only: bool,
    nonces: Nonces,
    table: Table,
    tokens: Tokens,
    answers: Answers,
    store: PeerStore,
    queries: Queries,
    votes: Votes,
    /// When our id was last changed to one that fits our address, and what it was before: others
    /// still tell us of that one.
    renamed: Option<(Instant, NodeId)>,
    /// When somebody last answered: while nobody does, it is not the nodes' fault.
    heard: Option<Instant>,
    /// Nodes to begin with. They are not in the table, so that we don't send everybody to them.
    routers: Vec<SocketAddr>,
    /// Addresses where there should be a node, the last ones that we were given: to begin with, too.
    contacts: VecDeque<SocketAddr>,
    /// Addresses where there may be one.
    strangers: VecDeque<SocketAddr>,
    stranger_at: Instant,
    upkeep_at: Instant,
    /// The lookup of our own place, or of one where the table has too little.
    own_lookup: Option<Lookup>,
    own_lookup_at: Instant,
    own_failures: u32,
    searches: Vec<Search>,
    found: Vec<(InfoHash, SocketAddr)>,
}

impl Dht {
    /// A node that knows nobody yet, except from its last run.
    pub fn new(setup: &Setup, now: Instant) -> Self {
        let mut nonces = Nonces::new(setup.seed);
        let own = setup.kept.as_ref().map_or_else(|| NodeId(nonces.draw()), |kept| kept.id);
        let mut table = Table::new(own, now);
        for contact in setup.kept.iter().flat_map(|kept| &kept.nodes) {
            if is_usable(contact.address, setup.family) {
                table.on_hearsay(*contact, now);
            }
        }
        Self {
            family: setup.family,
            read_only: setup.read_only,
            table,
            tokens: Tokens::new(nonces.draw(), now),
            answers: Answers::new(nonces.draw(), now),
            nonces,
            store: PeerStore::default(),
            queries: Queries::default(),
            votes: Votes::default(),
            renamed: None,
            heard: None,
            routers: Vec::new(),
            contacts: VecDeque::new(),
            strangers: VecDeque::new(),
            stranger_at: now,
            upkeep_at: now,
            own_lookup: None,
            own_lookup_at: now,
            own_failures: 0,
            searches: Vec::new(),
            found: Vec::new(),
        }
    }

    /// The address of a node that everybody knows, to begin with.
    pub fn add_router(&mut self, address: SocketAddr, now: Instant) {
        let is_new = !self.routers.contains(&address);
        if is_new && self.routers.len() < ROUTERS_MAX && is_usable(address, self.family) {
            self.wake_if_alone(now);
            self.routers.push(address);
        }
    }

    /// An address where there should be a node: a torrent names it, or a peer has its node there.
    pub fn add_contact(&mut self, address: SocketAddr, now: Instant) {
        if !is_usable(address, self.family) {
            return;
        }
        if !self.contacts.contains(&address) {
            self.wake_if_alone(now);
            if self.contacts.len() >= CONTACTS_MAX {
                self.contacts.pop_front();
            }
            self.contacts.push_back(address);
        }
        self.greet(address);
    }

    /// There may be a node at this address: it will be asked.
    fn greet(&mut self, address: SocketAddr) {
        let is_new = !self.strangers.contains(&address) && !self.table.is_known(address);
        if is_new && self.strangers.len() < STRANGERS_MAX {
            self.strangers.push_back(address);
        }
    }

    /// Looks for peers of a torrent from now on, until [`Dht::stop`], and tells others that we have
    /// it if peers can come to us at `port`.
    pub fn search(&mut self, info_hash: InfoHash, port: Option<u16>, now: Instant) {
        let port = port.filter(|port| *port != 0);
        if let Some(search) = self.searches.iter_mut().find(|search| search.is_for(info_hash)) {
            search.port = port;
        } else if self.searches.len() < SEARCHES_MAX {
            self.searches.push(Search::new(info_hash, port, now));
        }
    }

    /// We are short of peers: the torrent is searched for again as early as it may be.
    pub fn want_peers(&mut self, info_hash: InfoHash, now: Instant) {
        let mut searches = self.searches.iter_mut();
        if let Some(search) = searches.find(|search| search.is_for(info_hash)) {
            search.hurry(now);
        }
    }

    /// Looks no more for peers of a torrent.
    pub fn stop(&mut self, info_hash: InfoHash) {
        self.searches.retain(|search| !search.is_for(info_hash));
    }

    /// Peers that were found since the last time, and the torrents they have. They are as others
    /// name them, some of them more than once.
    pub fn take_found(&mut self) -> Vec<(InfoHash, SocketAddr)> {
        std::mem::take(&mut self.found)
    }

    /// Nodes in the table, and those of them that are good.
    pub fn count(&self, now: Instant) -> (usize, usize) {
        self.table.count(now)
    }

    /// What we call ourselves.
    pub fn id(&self) -> NodeId {
        self.table.own()
    }

    /// What others may know us by.
    fn ids(&self) -> [NodeId; 2] {
        let own = self.table.own();
        [own, self.renamed.map_or(own, |(_, before)| before)]
    }

    /// What is to be kept for another run.
    pub fn kept(&self, now: Instant) -> Kept {
        Kept { id: self.table.own(), nodes: self.table.best(now) }
    }

    // ---- what comes --------------------------------------------------------------------------

    /// A datagram came. What is returned is the answer to it.
    pub fn on_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        // Without what an IPv6 socket adds to an address.
        let from = SocketAddr::new(from.ip(), from.port());
        if !is_usable(from, self.family) {
            return None;
        }
        match Message::decode(bytes) {
            Ok(Message { transaction, body: Body::Query(id, query), read_only, .. }) => {
                let contact = Contact { id, address: from };
                self.answer(contact, transaction, &query, read_only, now)
            }
            Ok(message) => {
                self.on_answer(from, message, now);
                None
            }
            Err(Undecodable::Query { transaction, code }) => {
                self.refuse(from, transaction, code, now)
            }
            Err(Undecodable::Nonsense) => None,
        }
    }

    // ---- what is sent ------------------------------------------------------------------------

    /// What is to be sent now. Afterwards there is nothing more to be sent until a datagram comes
    /// or [`Dht::next_deadline`] has come.
    pub fn poll(&mut self, now: Instant) -> Vec<Datagram> {
        let mut out = Vec::new();
        while let Some(sent) = self.queries.take_expired(now) {
            // While nobody answers at all, it may be our own line that is dead.
            match self.heard.is_some_and(|heard| heard >= sent.at) {
                true => self.on_no_answer(&sent),
                false => self.end_query(&sent),
            }
        }
        self.keep_up(now, &mut out);
        self.look_up_own_place(now, &mut out);
        let mut searches = std::mem::take(&mut self.searches);
        searches.iter_mut().for_each(|search| self.drive(search, now, &mut out));
        self.searches = searches;
        self.greet_stranger(now, &mut out);
        out
    }

    /// When [`Dht::poll`] is to be called again, if no datagram comes before.
    pub fn next_deadline(&self, now: Instant) -> Instant {
        let can_start = self.can_start();
        let lookups = self.own_lookup.iter().filter_map(|lookup| lookup.next_at(now));
        let searches = self.searches.iter().filter_map(|search| search.next_at(can_start, now));
        let stranger = (!self.strangers.is_empty()).then_some(self.stranger_at);
        let all = lookups.chain(searches).chain(stranger).chain(self.queries.next_at());
        all.fold(self.upkeep_at, Instant::min)
    }

    /// Whether there is anybody to ask.
    fn can_start(&self) -> bool {
        !(self.table.is_empty() && self.routers.is_empty() && self.contacts.is_empty())
    }

    /// The beginning of the way to `target`: the closest we know, and if these are too few those that
    /// we were given; they come first if it did not help to ask them last.
    fn start(&self, target: NodeId, now: Instant) -> Lookup {
        let mut lookup = Lookup::new(target);
        for contact in self.table.starts(target, DHT_NODES_PER_REPLY_MAX) {
            lookup.hear_of(&contact);
        }
        if !self.table.is_rooted(now) {
            let is_first = self.own_failures > 0;
            let given = self.contacts.iter().chain(&self.routers);
            given.for_each(|address| lookup.hear_of_address(*address, is_first));
        }
        lookup
    }

    fn ask(&mut self, to: SocketAddr, query: Query, purpose: Purpose, now: Instant) -> Datagram {
        let transaction = self.queries.add(&mut self.nonces, Sent { to, at: now, purpose });
        let message = Message {
            transaction: transaction.to_vec(),
            body: Body::Query(self.table.own(), query),
            asker: None,
            read_only: self.read_only,
        };
        Datagram { to, bytes: message.encode() }
    }
}

/// Whether a node of ours can talk to who is there.
fn is_usable(address: SocketAddr, family: Family) -> bool {
    let ip = address.ip();
    Family::of(ip) == family && Reach::of(ip).is_some() && address.port() != 0
}
