//! What others ask us, and what we say.

use std::net::SocketAddr;
use std::time::Instant;

use super::Dht;
use crate::limits::{
    BUCKET_NODES_MAX, PEERS_TOLD_MAX, PEERS_TOLD_STRANGERS_MAX, PEERS_V6_TOLD_MAX, STORED_PEERS_MAX,
};
use crate::protocol::krpc::{Body, Contact, ErrorCode, Family, Message, Query, Response, Want};
use crate::protocol::node_id::NodeId;
use crate::units::InfoHash;

impl Dht {
    /// The answer to a question, if there is to be one.
    pub(super) fn answer(
        &mut self,
        asker: Contact,
        transaction: Vec<u8>,
        query: &Query,
        asker_is_read_only: bool,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let is_ourselves = self.ids().contains(&asker.id);
        if self.read_only || is_ourselves || !self.answers.may_begin(asker.address, now) {
            return None;
        }
        self.table.on_query(&asker, now);
        if !asker_is_read_only && self.table.wants(&asker) {
            self.greet(asker.address);
        }
        let body = self.body(&asker, query, now);
        Some(self.reply(asker.address, transaction, body, now))
    }

    /// The answer to a question that is none.
    pub(super) fn refuse(
        &mut self,
        from: SocketAddr,
        transaction: Vec<u8>,
        code: ErrorCode,
        now: Instant,
    ) -> Option<Vec<u8>> {
        if self.read_only || !self.answers.may_begin(from, now) {
            return None;
        }
        Some(self.reply(from, transaction, Body::Error(code), now))
    }

    fn reply(&mut self, to: SocketAddr, transaction: Vec<u8>, body: Body, now: Instant) -> Vec<u8> {
        let message = Message { transaction, body, asker: Some(to), read_only: false };
        let bytes = message.encode();
        self.answers.count(bytes.len(), now);
        bytes
    }

    fn body(&mut self, asker: &Contact, query: &Query, now: Instant) -> Body {
        let from = asker.address;
        let response = Response::new(self.table.own());
        Body::Response(match query {
            Query::Ping => response,
            Query::FindNode { target, want } => {
                Response { nodes: self.nodes_for(*target, *want, now), ..response }
            }
            Query::GetPeers { info_hash, want } => Response {
                nodes: self.nodes_for((*info_hash).into(), *want, now),
                values: self.peers_for(from, *info_hash, now),
                token: Some(self.tokens.give(from.ip(), now).to_vec()),
                ..response
            },
            Query::AnnouncePeer { info_hash, port, implied_port, token } => {
                if !self.tokens.is_valid(token, from.ip(), now) {
                    return Body::Error(ErrorCode::PROTOCOL);
                }
                let port = if *implied_port { from.port() } else { *port };
                let peer = SocketAddr::new(from.ip(), port);
                self.store.announce(self.table.own(), *info_hash, peer, now);
                if self.searches.iter().any(|search| search.is_for(*info_hash)) {
                    self.find(*info_hash, [peer]);
                }
                response
            }
        })
    }

    fn nodes_for(&self, target: NodeId, want: Want, now: Instant) -> Vec<Contact> {
        let count = if want.includes(self.family, self.family) { BUCKET_NODES_MAX } else { 0 };
        self.table.closest(target, count, now)
    }

    fn peers_for(
        &mut self,
        from: SocketAddr,
        info_hash: InfoHash,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let count = match self.family {
            _ if !self.table.is_known(from) => PEERS_TOLD_STRANGERS_MAX,
            Family::V4 => PEERS_TOLD_MAX,
            Family::V6 => PEERS_V6_TOLD_MAX,
        };
        let from = self.nonces.below(STORED_PEERS_MAX);
        self.store.peers(self.table.own(), info_hash, count, from, now)
    }
}
