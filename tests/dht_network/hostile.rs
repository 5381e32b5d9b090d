//! Nodes that do harm as well as they can.

use std::net::{IpAddr, SocketAddr};

use rusty_torrent::protocol::krpc::{
    Body, Contact, ErrorCode, Family, Message, Query, Response, Want,
};
use rusty_torrent::protocol::node_id::NodeId;
use rusty_torrent::units::InfoHash;

/// What a hostile node does with a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hostile {
    /// Nothing.
    Silent,
    /// It is always the closest, and names nodes and peers that are not there.
    Liar,
    /// It is always the closest, and knows only others of its kind, which are closer still: those
    /// with these numbers.
    Sybil { first: usize, count: usize },
    /// It sends honest nodes to what is in their own network, and to what is no address.
    Inward,
    /// It calls itself as who asks it does.
    Thief,
    /// It says what is no answer.
    Babbler,
}

/// An address where nobody is.
fn nowhere(over: Family, rng: &mut fastrand::Rng) -> SocketAddr {
    match over {
        Family::V4 => SocketAddr::from(([90, rng.u8(..), rng.u8(..), rng.u8(..)], rng.u16(1..))),
        Family::V6 => SocketAddr::from(([0x2001, 0xdead, rng.u16(..), 0, 0, 0, 0, 1], 1)),
    }
}

fn inward(rng: &mut fastrand::Rng) -> SocketAddr {
    let ips = [
        "10.0.0.1",
        "127.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fd00::1",
        "fe80::1",
        "::",
        "ff02::1",
        "::ffff:127.0.0.1",
    ];
    let ip: IpAddr = rng.choice(ips).unwrap().parse().unwrap();
    SocketAddr::new(ip, *rng.choice(&[0, 22, 80, 6881]).unwrap())
}

/// An id as near to `target` as one likes.
pub fn near(target: NodeId, rng: &mut fastrand::Rng) -> NodeId {
    target.beside(rng.usize(100..159), std::array::from_fn(|_| rng.u8(..)))
}

/// A question that makes its sender known.
pub fn greeting(rng: &mut fastrand::Rng) -> Vec<u8> {
    let id = NodeId(std::array::from_fn(|_| rng.u8(..)));
    reply(vec![1, 2], Body::Query(id, Query::Ping), None)
}

impl Hostile {
    /// What it sends to who asked it.
    pub fn answer(self, from: SocketAddr, bytes: &[u8], rng: &mut fastrand::Rng) -> Vec<Vec<u8>> {
        let Ok(Message { transaction, body: Body::Query(asker, query), .. }) =
            Message::decode(bytes)
        else {
            return Vec::new();
        };
        let target = match query {
            Query::FindNode { target, .. } => target,
            Query::GetPeers { info_hash, .. } | Query::AnnouncePeer { info_hash, .. } => {
                info_hash.into()
            }
            Query::Ping => asker,
        };
        let over = Family::of(from.ip());
        let mut response = Response::new(near(target, rng));
        response.token = Some(vec![7; 8]);
        match self {
            Self::Silent => return Vec::new(),
            Self::Liar => {
                let contact = |rng: &mut fastrand::Rng| Contact {
                    id: near(target, rng),
                    address: nowhere(over, rng),
                };
                response.nodes = (0..16).map(|_| contact(rng)).collect();
                response.values = (0..50).map(|_| nowhere(over, rng)).collect();
            }
            Self::Sybil { first, count } => {
                let place = match over {
                    Family::V4 => crate::world::Where::V4,
                    Family::V6 => crate::world::Where::V6,
                };
                let contact = |rng: &mut fastrand::Rng| Contact {
                    id: near(target, rng),
                    address: place.address(first + rng.usize(..count)),
                };
                response.nodes = (0..16).map(|_| contact(rng)).collect();
            }
            Self::Inward => {
                let contact = |rng: &mut fastrand::Rng| Contact {
                    id: near(target, rng),
                    address: inward(rng),
                };
                response.nodes = (0..16).map(|_| contact(rng)).collect();
                response.values = (0..50).map(|_| inward(rng)).collect();
                // And it would have us believe that we are elsewhere.
                let asker = Some(nowhere(over, rng));
                return vec![reply(transaction, Body::Response(response), asker)];
            }
            Self::Thief => response.id = asker,
            Self::Babbler => return babble(transaction, asker, bytes, rng),
        }
        vec![reply(transaction, Body::Response(response), Some(from))]
    }
}

fn reply(transaction: Vec<u8>, body: Body, asker: Option<SocketAddr>) -> Vec<u8> {
    Message { transaction, body, asker, read_only: false }.encode()
}

fn babble(
    transaction: Vec<u8>,
    asker: NodeId,
    bytes: &[u8],
    rng: &mut fastrand::Rng,
) -> Vec<Vec<u8>> {
    let mut wrong = transaction.clone();
    wrong[0] ^= 1;
    let mut longer = Response::new(NodeId([9; 20]));
    longer.token = Some(vec![1; 200]);
    let all = [
        bytes.to_vec(),
        vec![b'l'; 1_400],
        vec![0; 60_000],
        (0..rng.usize(..100)).map(|_| rng.u8(..)).collect(),
        reply(wrong, Body::Response(Response::new(asker)), None),
        reply(transaction.clone(), Body::Error(ErrorCode(-1)), None),
        reply(transaction.clone(), Body::Response(longer), None),
        // A question with the number of an answer.
        reply(
            transaction,
            Body::Query(
                asker,
                Query::GetPeers { info_hash: InfoHash([0; 20]), want: Want::default() },
            ),
            None,
        ),
    ];
    let count = rng.usize(1..=3);
    (0..count).map(|_| rng.choice(&all).unwrap().clone()).collect()
}
