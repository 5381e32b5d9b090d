//! Decides from whom addresses of peers are taken: the one gate for private torrents (BEP 27).

use crate::limits::HEARSAY_ADDRESSES_MAX;

/// Who named an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The user.
    User,
    /// A tracker of the torrent.
    Tracker,
    /// A peer (BEP 11).
    Peer,
    /// A node of the DHT (BEP 5).
    Dht,
    /// The peer itself, on the local network (BEP 14).
    Local,
}

impl Origin {
    /// Whether it may name peers of a private torrent.
    pub fn is_trusted(self) -> bool {
        matches!(self, Self::User | Self::Tracker)
    }

    /// Whether an address from there is taken, `known` of them being known.
    pub fn is_heard(self, private: bool, known: usize) -> bool {
        match self {
            Self::User | Self::Tracker => true,
            Self::Local => !private,
            // Whoever invents addresses must not keep those of a tracker out.
            Self::Peer | Self::Dht => !private && known < HEARSAY_ADDRESSES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_torrent_has_the_peers_of_its_trackers_and_its_user() {
        let heard = |origin: Origin| [false, true].map(|private| origin.is_heard(private, 0));
        assert_eq!(heard(Origin::User), [true, true]);
        assert_eq!(heard(Origin::Tracker), [true, true]);
        assert_eq!(heard(Origin::Peer), [true, false]);
        assert_eq!(heard(Origin::Dht), [true, false]);
        assert_eq!(heard(Origin::Local), [true, false]);
    }

    #[test]
    fn hearsay_leaves_room_for_trackers() {
        assert!(!Origin::Peer.is_heard(false, HEARSAY_ADDRESSES_MAX));
        assert!(Origin::Tracker.is_heard(false, usize::MAX));
    }
}
