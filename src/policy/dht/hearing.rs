//! What others answer us: which of it is believed, and what follows from it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::Dht;
use super::queries::{Purpose, Sent};
use crate::limits::{NODE_ID_LIFE_S, PEERS_FOUND_MAX};
use crate::policy::reach::{Reach, may_tell};
use crate::policy::routing::Table;
use crate::protocol::krpc::{Body, Contact, Family, Message, Response};
use crate::protocol::node_id::NodeId;
use crate::units::InfoHash;

const ID_LIFE: Duration = Duration::from_secs(NODE_ID_LIFE_S);

impl Dht {
    /// An answer came, or an error.
    pub(super) fn on_answer(&mut self, from: SocketAddr, message: Message, now: Instant) {
        let Some(sent) = self.queries.take(&message.transaction, from) else { return };
        self.heard = Some(now);
        match message.body {
            Body::Response(response) if !self.ids().contains(&response.id) => {
                self.on_response(&sent, response, message.asker, now);
            }
            _ => self.on_no_answer(&sent),
        }
    }

    fn on_response(
        &mut self,
        sent: &Sent,
        response: Response,
        asker: Option<SocketAddr>,
        now: Instant,
    ) {
        let contact = Contact { id: response.id, address: sent.to };
        self.on_node(contact, now);
        let (family, ids) = (self.family, self.ids());
        let is_honest = |address| is_told(sent.to.ip(), address, family);
        let named = response.nodes.into_iter();
        let named = named.filter(|node| is_honest(node.address) && !ids.contains(&node.id));
        match sent.purpose {
            Purpose::Greeting | Purpose::Announce => {}
            Purpose::Doubt => {
                for node in named {
                    if self.table.wants(&node) {
                        self.greet(node.address);
                    }
                }
            }
            Purpose::OwnLookup => {
                if let Some(lookup) = &mut self.own_lookup {
                    lookup.on_answer(&contact, None, named);
                }
            }
            Purpose::Search(info_hash) => {
                let mut searches = self.searches.iter_mut();
                if let Some(search) = searches.find(|search| search.is_for(info_hash))
                    && search.on_answer(&contact, response.token, named)
                {
                    let peers = response.values.into_iter();
                    self.find(info_hash, peers.filter(|peer| is_honest(*peer)));
                }
            }
        }
        if let Some(asker) = asker.filter(|asker| Family::of(asker.ip()) == self.family) {
            self.on_vote(sent.to, asker.ip(), now);
        }
    }

    /// Peers were found; those that there is no room for are let go.
    pub(super) fn find(
        &mut self,
        info_hash: InfoHash,
        peers: impl IntoIterator<Item = SocketAddr>,
    ) {
        let room = PEERS_FOUND_MAX.saturating_sub(self.found.len());
        self.found.extend(peers.into_iter().take(room).map(|peer| (info_hash, peer)));
    }

    /// A node answered.
    fn on_node(&mut self, contact: Contact, now: Instant) {
        if self.routers.contains(&contact.address) {
            return;
        }
        self.wake_if_alone(now);
        self.table.on_answer(contact, now);
    }

    /// There is somebody to ask now: if there was nobody, what waits for that begins.
    pub(super) fn wake_if_alone(&mut self, now: Instant) {
        if self.table.is_empty() {
            (self.upkeep_at, self.own_lookup_at) = (now, now);
            self.searches.iter_mut().for_each(|search| search.on_somebody_there(now));
        }
    }

    /// A node did not answer, though others do, or had nothing to say.
    pub(super) fn on_no_answer(&mut self, sent: &Sent) {
        self.table.on_silence(sent.to);
        self.end_query(sent);
    }

    /// A question will not be answered any more.
    pub(super) fn end_query(&mut self, sent: &Sent) {
        match sent.purpose {
            Purpose::Greeting | Purpose::Announce | Purpose::Doubt => {}
            Purpose::OwnLookup => {
                self.own_lookup.iter_mut().for_each(|lookup| lookup.on_silence(sent.to));
            }
            Purpose::Search(info_hash) => {
                let mut searches = self.searches.iter_mut();
                if let Some(search) = searches.find(|search| search.is_for(info_hash)) {
                    search.on_silence(sent.to);
                }
            }
        }
    }

    /// Somebody says that we are at `ip`. If many do, our id must fit it (BEP 42): others would not
    /// count us.
    fn on_vote(&mut self, voter: SocketAddr, ip: IpAddr, now: Instant) {
        let agreed = self.votes.hear(voter, ip).filter(|_| Reach::of(ip) == Some(Reach::World));
        let is_rested =
            self.renamed.is_none_or(|(at, _)| now.saturating_duration_since(at) >= ID_LIFE);
        let own = self.table.own();
        if agreed.is_none_or(|ip| own.fits(ip)) || !is_rested {
            return;
        }
        let id = NodeId::for_address(ip, self.nonces.draw());
        let table = std::mem::replace(&mut self.table, Table::new(id, now));
        self.table = table.with_id(id, now);
        self.store.on_new_id(own, id);
        self.renamed = Some((now, own));
        self.own_lookup = None;
        (self.upkeep_at, self.own_lookup_at) = (now, now);
    }
}

/// Whether what `teller` names may be used.
fn is_told(teller: IpAddr, address: SocketAddr, family: Family) -> bool {
    Family::of(address.ip()) == family && may_tell(teller, address)
}
