//! Meets peers: connects to them or lets them in, and shakes hands.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{DIAL_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS};
use crate::policy::conversation::SessionEnd;
use crate::policy::encryption::{Encryption, Wire};
use crate::protocol::handshake::Handshake;
use crate::system::link::Link;
use crate::system::route::Route;

const DIAL_TIMEOUT: Duration = Duration::from_millis(DIAL_TIMEOUT_MS as u64);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(HANDSHAKE_TIMEOUT_MS as u64);

/// Whom a session is with.
pub struct Visit {
    /// Where the peer is.
    pub address: SocketAddr,
    /// The connection, if it was the peer who came.
    pub came: Option<TcpStream>,
    /// How it is dialled otherwise.
    pub wire: Wire,
}

/// How peers are met.
#[derive(Clone)]
pub struct Greeter {
    /// What we say first.
    pub handshake: Handshake,
    /// Which peers that come are let in.
    pub encryption: Encryption,
    /// By which way those are reached who are dialled.
    pub route: Arc<Route>,
}

impl Greeter {
    /// Connects, if it was not the peer who did, and shakes hands.
    ///
    /// # Errors
    /// There is nobody, or nobody for this torrent.
    pub fn meet(&self, visit: Visit) -> Result<(Link, Handshake), SessionEnd> {
        match visit.came {
            None => {
                let mut link = Link::dial(&self.route, visit.address, DIAL_TIMEOUT)?;
                let theirs = link.shake_hands(&self.handshake, visit.wire, HANDSHAKE_TIMEOUT)?;
                Ok((link, theirs))
            }
            Some(stream) => {
                let mut link = Link::accept(stream)?;
                let theirs =
                    link.be_greeted(&self.handshake, self.encryption, HANDSHAKE_TIMEOUT)?;
                Ok((link, theirs))
            }
        }
    }
}
