//! Speaks the messages in which peers tell each other of peers (BEP 11, `ut_pex`).

use std::net::SocketAddr;

use crate::limits::EXCHANGED_MAX;
use crate::protocol::bencode::{Item, Value};
use crate::protocol::tracker::{compact_peers, compact_peers_v6, usable_peers};

/// A flag of an added peer: it wants nothing.
const SEED: u8 = 0x02;
/// A flag of an added peer: we connected to it, so that others can.
const REACHABLE: u8 = 0x10;

/// A peer that is told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contact {
    /// Where it listens.
    pub address: SocketAddr,
    /// It has everything.
    pub is_seed: bool,
    /// Whoever tells of it has connected to it.
    pub reachable: bool,
}

/// The peers that a message says somebody is connected to now: the first [`EXCHANGED_MAX`], as far
/// as they can be dialled. Who is gone does not matter here. `None` if it is no dictionary.
pub fn decode(payload: &[u8]) -> Option<Vec<SocketAddr>> {
    let message = Value::parse(payload).ok()?;
    message.dict()?;
    let bytes = |key: &str| message.get(key).and_then(Value::bytes).unwrap_or_default();
    let peers = compact_peers(bytes("added")).chain(compact_peers_v6(bytes("added6")));
    Some(usable_peers(peers.take(EXCHANGED_MAX)))
}

/// A message's payload: who came and who is gone since the last one.
pub fn encode(added: &[Contact], dropped: &[SocketAddr]) -> Vec<u8> {
    let is_v4 = |address: &SocketAddr| address.is_ipv4();
    let told = |v4: bool| added.iter().filter(move |contact| is_v4(&contact.address) == v4);
    let flags = |contact: &Contact| {
        (if contact.is_seed { SEED } else { 0 }) | (if contact.reachable { REACHABLE } else { 0 })
    };
    let addresses = |v4| Item::bytes(compact(told(v4).map(|contact| contact.address)));
    let flags = |v4| Item::bytes(told(v4).map(flags).collect::<Vec<u8>>());
    let gone = |v4| {
        let gone = dropped.iter().filter(|address| is_v4(address) == v4);
        Item::bytes(compact(gone.copied()))
    };
    Item::dict([
        ("added", addresses(true)),
        ("added.f", flags(true)),
        ("added6", addresses(false)),
        ("added6.f", flags(false)),
        ("dropped", gone(true)),
        ("dropped6", gone(false)),
    ])
    .encode()
}

fn compact(addresses: impl Iterator<Item = SocketAddr>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in addresses {
        match address {
            SocketAddr::V4(v4) => bytes.extend(v4.ip().octets()),
            SocketAddr::V6(v6) => bytes.extend(v6.ip().octets()),
        }
        bytes.extend(address.port().to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_of_is_heard_of() {
        let contact = |address: &str, is_seed, reachable| Contact {
            address: address.parse().unwrap(),
            is_seed,
            reachable,
        };
        let added = [
            contact("192.0.2.1:6881", true, true),
            contact("[2001:db8::1]:1", false, true),
            contact("192.0.2.2:2", false, false),
        ];
        let dropped = ["192.0.2.3:3", "[2001:db8::3]:3"].map(|peer| peer.parse().unwrap());
        let payload = encode(&added, &dropped);
        let heard = decode(&payload).unwrap();
        assert_eq!(heard, [0, 2, 1].map(|at| added[at].address), "IPv4 comes first");
        let message = Value::parse(&payload).unwrap();
        let bytes = |key: &str| message.get(key).and_then(Value::bytes).unwrap();
        assert_eq!((bytes("added.f"), bytes("added6.f")), (&[0x12, 0][..], &[0x10][..]));
        assert_eq!(bytes("dropped"), [192, 0, 2, 3, 0, 3]);
        assert_eq!(bytes("dropped6").len(), 18);
        assert_eq!(decode(&encode(&[], &[])), Some(Vec::new()));
    }

    #[test]
    fn nonsense_names_nobody() {
        let many = [b"d5:added6000:".as_slice(), &[9; 6000], b"e"].concat();
        let cases: [(&[u8], Option<usize>); 6] = [
            (b"", None),
            (b"le", None),
            (b"de", Some(0)),
            (b"d5:addedi5e6:added6lee", Some(0)),
            (b"d5:added13:\x01\x02\x03\x04\x00\x05\x00\x00\x00\x00\x00\x01\xffe", Some(1)),
            // A thousand times the same.
            (&many, Some(1)),
        ];
        for (payload, count) in cases {
            let peers = decode(payload).map(|peers| peers.len());
            assert_eq!(peers, count, "{}", payload.escape_ascii());
        }
    }
}
