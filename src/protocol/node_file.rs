//! Owns the file that a DHT node is kept in between two runs: its id, and the nodes that it knew.
//!
//! The file only saves the time to find the network again. What is wrong in it is passed over, and
//! whatever it says is held to be no more than hearsay.

use super::bencode::{Item, Value};
use super::krpc::{Contact, Family, read_contacts, write_contacts};
use super::node_id::NodeId;
use crate::limits::{BUCKET_NODES_MAX, BUCKETS_MAX, NODE_FILE_MAX_BYTES};

/// The form that is written, and the only one that is read.
const VERSION: i64 = 1;

/// What is kept of the node of one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// What it called itself.
    pub id: NodeId,
    /// Nodes of its family that it knew, the best first.
    pub nodes: Vec<Contact>,
}

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeFile {
    /// The node over IPv4.
    pub v4: Option<Kept>,
    /// The node over IPv6.
    pub v6: Option<Kept>,
}

impl NodeFile {
    /// The bytes that [`NodeFile::decode`] understands, not more than [`NODE_FILE_MAX_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        let entry = |key: &'static str, kept: &Option<Kept>, family| {
            let kept = kept.as_ref()?;
            let nodes = kept.nodes.get(..NODES_MAX).unwrap_or(&kept.nodes);
            let nodes = Item::Bytes(write_contacts(nodes, family));
            Some((key, Item::dict([("id", Item::bytes(kept.id.0)), ("nodes", nodes)])))
        };
        let entries = [entry("ipv4", &self.v4, Family::V4), entry("ipv6", &self.v6, Family::V6)];
        let version = ("version", Item::Integer(VERSION));
        Item::dict(entries.into_iter().flatten().chain([version])).encode()
    }

    /// Reads such a file. What can't be read of it is not there.
    pub fn decode(bytes: &[u8]) -> Self {
        let file = (bytes.len() <= NODE_FILE_MAX_BYTES).then(|| Value::parse(bytes).ok()).flatten();
        let Some(file) = file else { return Self::default() };
        if file.get("version").and_then(Value::integer) != Some(VERSION) {
            return Self::default();
        }
        let entry = |key: &str, family| {
            let kept = file.get(key)?;
            let id = kept.get("id")?.bytes()?.try_into().ok().map(NodeId)?;
            let nodes = kept.get("nodes").and_then(Value::bytes).unwrap_or_default();
            Some(Kept { id, nodes: read_contacts(nodes, family).take(NODES_MAX).collect() })
        };
        Self { v4: entry("ipv4", Family::V4), v6: entry("ipv6", Family::V6) }
    }
}

/// Nodes of one family: as many as a table holds.
const NODES_MAX: usize = BUCKETS_MAX * BUCKET_NODES_MAX;
const _: () = assert!(NODES_MAX * (26 + 38) + 256 <= NODE_FILE_MAX_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(number: u16, v6: bool) -> Contact {
        let [high, low] = number.to_be_bytes();
        let mut id = [7; 20];
        (id[0], id[1]) = (high, low);
        let address = match v6 {
            false => ([192, 0, high, low], 6881).into(),
            true => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, number], 6881).into(),
        };
        Contact { id: NodeId(id), address }
    }

    fn file(count: u16) -> NodeFile {
        let kept = |id, v6| {
            let nodes = (0..count).map(|number| contact(number, v6)).collect();
            Some(Kept { id: NodeId([id; 20]), nodes })
        };
        NodeFile { v4: kept(1, false), v6: kept(2, true) }
    }

    #[test]
    fn what_is_written_is_read() {
        for count in [0, 1, 17, 256] {
            let bytes = file(count).encode();
            assert_eq!(NodeFile::decode(&bytes), file(count));
            assert!(bytes.len() <= NODE_FILE_MAX_BYTES);
        }
        let bytes = file(10_000).encode();
        assert!(bytes.len() <= NODE_FILE_MAX_BYTES);
        assert_eq!(NodeFile::decode(&bytes), file(256));
        for (v4, v6) in [(None, None), (file(3).v4, None), (None, file(3).v6)] {
            let file = NodeFile { v4, v6 };
            assert_eq!(NodeFile::decode(&file.encode()), file);
        }
    }

    #[test]
    fn what_is_wrong_is_not_there() {
        let cases = [
            ("", false, false),
            ("garbage", false, false),
            ("d7:versioni2ee", false, false),
            ("d4:ipv4d2:id20:abcdefghij01234567895:nodes0:ee", false, false),
            ("d4:ipv4d2:id20:abcdefghij01234567895:nodes0:e7:versioni2ee", false, false),
            ("d4:ipv4d2:id20:abcdefghij01234567895:nodes0:e7:versioni1ee", true, false),
            ("d4:ipv4d2:id20:abcdefghij0123456789e7:versioni1ee", true, false),
            ("d4:ipv4d2:id19:abcdefghij012345678e7:versioni1ee", false, false),
            ("d4:ipv4le4:ipv6d2:id20:abcdefghij01234567895:nodesi3ee7:versioni1ee", false, true),
        ];
        for (bytes, v4, v6) in cases {
            let file = NodeFile::decode(bytes.as_bytes());
            assert_eq!((file.v4.is_some(), file.v6.is_some()), (v4, v6), "{bytes}");
        }
        let bytes = file(20).encode();
        for length in 0..bytes.len() {
            assert_eq!(NodeFile::decode(&bytes[..length]), NodeFile::default(), "cut to {length}");
        }
        assert_eq!(NodeFile::decode(&vec![b'l'; 1 << 20]), NodeFile::default());
    }
}
