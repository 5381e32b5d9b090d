//! Speaks the first 68 bytes of a conversation (BEP 3, "peer protocol"): which torrent, who, and by
//! the reserved bits which extensions.

use crate::units::{InfoHash, PeerId};

/// Bytes of a handshake.
pub const HANDSHAKE_LENGTH: usize = 68;

/// Bytes of it by which it is told from other protocols.
pub const PROTOCOL_LENGTH: usize = 20;

const PROTOCOL: &[u8; PROTOCOL_LENGTH] = b"\x13BitTorrent protocol";
/// Reserved byte 5, BEP 10: the extension protocol.
const EXTENDED_BIT: u8 = 0x10;
/// Reserved byte 7, BEP 6: the fast extension.
const FAST_BIT: u8 = 0x04;
/// Reserved byte 7, BEP 5: the DHT.
const DHT_BIT: u8 = 0x01;

/// What one side says first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// The torrent that it wants to talk about.
    pub info_hash: InfoHash,
    /// Who it says it is.
    pub peer_id: PeerId,
    /// It speaks the fast extension (BEP 6).
    pub fast: bool,
    /// It speaks the extension protocol (BEP 10).
    pub extended: bool,
    /// It has a node of the DHT (BEP 5).
    pub dht: bool,
}

impl Handshake {
    /// The bytes for the wire.
    pub fn encode(&self) -> [u8; HANDSHAKE_LENGTH] {
        let mut bytes = [0; HANDSHAKE_LENGTH];
        let (protocol, rest) = bytes.split_at_mut(20);
        let (reserved, rest) = rest.split_at_mut(8);
        let (info_hash, peer_id) = rest.split_at_mut(20);
        protocol.copy_from_slice(PROTOCOL);
        let extended = if self.extended { EXTENDED_BIT } else { 0 };
        let fast = if self.fast { FAST_BIT } else { 0 };
        let dht = if self.dht { DHT_BIT } else { 0 };
        reserved.copy_from_slice(&[0, 0, 0, 0, 0, extended, 0, fast | dht]);
        info_hash.copy_from_slice(&self.info_hash.0);
        peer_id.copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Reads what the other side sent. `None` if it does not speak this protocol at all.
    pub fn decode(bytes: &[u8; HANDSHAKE_LENGTH]) -> Option<Self> {
        let (protocol, rest) = bytes.split_first_chunk::<20>()?;
        let (reserved, rest) = rest.split_first_chunk::<8>()?;
        let (info_hash, rest) = rest.split_first_chunk::<20>()?;
        let (peer_id, _) = rest.split_first_chunk::<20>()?;
        (protocol == PROTOCOL).then_some(Self {
            info_hash: InfoHash(*info_hash),
            peer_id: PeerId(*peer_id),
            fast: reserved[7] & FAST_BIT != 0,
            extended: reserved[5] & EXTENDED_BIT != 0,
            dht: reserved[7] & DHT_BIT != 0,
        })
    }

    /// Whether `bytes`, the first that came, can still become a handshake: a server of another
    /// kind is found out by its first byte.
    pub fn may_begin_with(bytes: &[u8]) -> bool {
        bytes.iter().zip(PROTOCOL).all(|(got, expected)| got == expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_agree_and_bits_are_where_the_specifications_put_them() {
        for bits in 0..8 {
            let [fast, extended, dht] = [1, 2, 4].map(|bit| bits & bit != 0);
            let said = Handshake {
                info_hash: InfoHash([7; 20]),
                peer_id: PeerId(*b"-RU0100-abcdefghijkl"),
                fast,
                extended,
                dht,
            };
            let bytes = said.encode();
            assert_eq!(&bytes[..20], b"\x13BitTorrent protocol");
            assert_eq!(bytes[25], if extended { 0x10 } else { 0 });
            assert_eq!(bytes[27], if fast { 0x04 } else { 0 } | if dht { 0x01 } else { 0 });
            assert_eq!(Handshake::decode(&bytes), Some(said));
        }
    }

    #[test]
    fn other_reserved_bits_are_nobodys_business() {
        let mut bytes = [0xff; HANDSHAKE_LENGTH];
        bytes[..20].copy_from_slice(PROTOCOL);
        let read = Handshake::decode(&bytes).unwrap();
        assert!(read.fast && read.extended && read.dht);
    }

    #[test]
    fn other_protocols_are_found_out_early() {
        assert!(Handshake::may_begin_with(b""));
        assert!(Handshake::may_begin_with(b"\x13Bit"));
        assert!(!Handshake::may_begin_with(b"HTTP/1.1 400"));
        assert!(!Handshake::may_begin_with(b"\x13Bitcoin"));
        assert_eq!(Handshake::decode(&[b'H'; HANDSHAKE_LENGTH]), None);
    }
}
