//! Speaks KRPC, the messages of the DHT (BEP 5): one query in a datagram, one answer to it, or an
//! error. With IPv6 by BEP 32, our own address as others see it by BEP 42, and nodes that only ask
//! by BEP 43.
//!
//! Reading is lenient, as bencode is: fields that are odd are passed over where one can do without
//! them. What is written is as the papers have it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::node_id::NodeId;
use crate::units::InfoHash;

mod decode;
mod encode;

pub use decode::read_contacts;
pub use encode::write_contacts;

/// One of the two DHTs: they have the protocol in common, and no data (BEP 32, "Operation").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Over IPv4.
    V4,
    /// Over IPv6.
    V6,
}

impl Family {
    /// The one that an address belongs to.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A node as others are told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contact {
    /// What it calls itself.
    pub id: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
}

/// One datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Chosen by who asks, and repeated in the answer (`t`).
    pub transaction: Vec<u8>,
    /// What it says.
    pub body: Body,
    /// In an answer: who asked, as the other side sees it (`ip`, BEP 42).
    pub asker: Option<SocketAddr>,
    /// In a query: the sender answers nobody (`ro`, BEP 43).
    pub read_only: bool,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A question, by the node of that id.
    Query(NodeId, Query),
    /// The answer to one.
    Response(Response),
    /// Why there is no answer.
    Error(ErrorCode),
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// Are you there?
    Ping,
    /// Which nodes are closest to this id?
    FindNode {
        /// The id.
        target: NodeId,
        /// The nodes that are wanted.
        want: Want,
    },
    /// Who has this torrent, and which nodes are closest to it?
    GetPeers {
        /// The torrent.
        info_hash: InfoHash,
        /// The nodes that are wanted.
        want: Want,
    },
    /// I have this torrent.
    AnnouncePeer {
        /// The torrent.
        info_hash: InfoHash,
        /// Where peers can come to; 0 only with `implied_port`.
        port: u16,
        /// It is the port that the datagram comes from, whatever `port` says.
        implied_port: bool,
        /// From the answer to an earlier [`Query::GetPeers`].
        token: Vec<u8>,
    },
}

/// The kinds of nodes that an answer is to have (`want`, BEP 32). Neither is the usual: those of the
/// family that the question came by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Want {
    /// Nodes of the DHT over IPv4.
    pub v4: bool,
    /// Nodes of the DHT over IPv6.
    pub v6: bool,
}

impl Want {
    /// Whether nodes of `family` are wanted in an answer that goes by `way`.
    pub fn includes(self, family: Family, way: Family) -> bool {
        match (self, family) {
            (Self { v4: false, v6: false }, family) => family == way,
            (Self { v4, .. }, Family::V4) => v4,
            (Self { v6, .. }, Family::V6) => v6,
        }
    }
}

/// The answer to a query. Which fields it has, only the query tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// Who answers.
    pub id: NodeId,
    /// Nodes that are close to what was asked for (`nodes`, then `nodes6`).
    pub nodes: Vec<Contact>,
    /// Peers that have the torrent.
    pub values: Vec<SocketAddr>,
    /// What an announce to this node must have.
    pub token: Option<Vec<u8>>,
}

impl Response {
    /// An answer that says nothing more than who gives it.
    pub fn new(id: NodeId) -> Self {
        Self { id, nodes: Vec::new(), values: Vec::new(), token: None }
    }
}

/// The number of an error (BEP 5, "Errors").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorCode(pub i64);

impl ErrorCode {
    /// Something went wrong.
    pub const GENERIC: Self = Self(201);
    /// It is the fault of who was asked.
    pub const SERVER: Self = Self(202);
    /// A message that breaks the rules, or a wrong token.
    pub const PROTOCOL: Self = Self(203);
    /// A query that nobody here has heard of.
    pub const METHOD_UNKNOWN: Self = Self(204);

    fn text(self) -> &'static str {
        match self {
            Self::SERVER => "Server Error",
            Self::PROTOCOL => "Protocol Error",
            Self::METHOD_UNKNOWN => "Method Unknown",
            _ => "Generic Error",
        }
    }
}

/// Why bytes are no message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Undecodable {
    /// They are nothing that could be answered.
    Nonsense,
    /// They are a query, but a broken or an unknown one: this is the answer.
    Query {
        /// To be repeated.
        transaction: Vec<u8>,
        /// What is wrong with it.
        code: ErrorCode,
    },
}
