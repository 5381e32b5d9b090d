//! What the coordinator is told. One queue for the pool and the writer, so that it hears things in
//! the order in which they happened.

use std::net::{SocketAddr, TcpStream};

use crate::error::Fatal;
use crate::policy::conversation::SessionEnd;
use crate::policy::origins::Origin;
use crate::units::SessionId;

/// Something happened.
pub enum Event {
    /// A thread of the pool begins a session with this address.
    Began(SessionId, SocketAddr),
    /// A session ended.
    Ended(Ended),
    /// Somebody has connected to us.
    Came(TcpStream, SocketAddr),
    /// This session's peer sent wrong data.
    Guilty(SessionId),
    /// Every piece is verified and every file is as it should be.
    Complete,
    /// Everything was handed to standard output.
    Delivered,
    /// The writer has done all it was given.
    Finished,
    /// A file can't be written: the run is over.
    Failed(Fatal),
}

/// How a session went.
pub struct Ended {
    /// Which session.
    pub session: SessionId,
    /// Whom it was with.
    pub address: SocketAddr,
    /// The peer shook hands.
    pub answered: bool,
    /// The peer sent blocks that were wanted.
    pub brought: bool,
    /// Why it ended.
    pub end: SessionEnd,
}

/// Peers that somebody other than a tracker knows of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Who.
    pub origin: Origin,
    /// Where they are.
    pub peers: Vec<SocketAddr>,
}
