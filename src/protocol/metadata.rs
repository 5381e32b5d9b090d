//! Speaks the messages in which peers send each other the info dictionary (BEP 9), the metadata of
//! a torrent: in blocks of 16 KiB, the last of which is shorter.
//!
//! ```text
//! | a dictionary: msg_type, piece, total_size |      msg_type 1: | a block's bytes |
//! ```

use crate::limits::METADATA_BLOCK_BYTES;
use crate::protocol::bencode::{Item, Value};
use crate::protocol::message;

/// One message, as the payload of an extension message. Numbers are as the peer sent them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// Asks for a block by its number.
    Request(u32),
    /// A block: its number, and its bytes.
    Data(u32, &'a [u8]),
    /// This block is not to be had.
    Reject(u32),
}

impl<'a> Message<'a> {
    /// Reads a payload. `None` if it is no such message, or of a kind that is not known here.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (dict, bytes) = Value::parse_prefix(payload).ok()?;
        let number = |key: &str| dict.get(key).and_then(Value::integer);
        let block = u32::try_from(number("piece")?).ok()?;
        match number("msg_type")? {
            0 => Some(Self::Request(block)),
            1 => Some(Self::Data(block, bytes)),
            2 => Some(Self::Reject(block)),
            _ => None,
        }
    }

    /// The payload. `total` is how many bytes the whole dictionary has, which goes with a block.
    pub fn encode(&self, total: usize) -> Vec<u8> {
        let (kind, block, bytes) = match *self {
            Self::Request(block) => (0, block, &[][..]),
            Self::Data(block, bytes) => (1, block, bytes),
            Self::Reject(block) => (2, block, &[][..]),
        };
        let total = i64::try_from(total).ok().filter(|_| kind == 1);
        let total = total.map(|total| ("total_size", Item::Integer(total)));
        let always = [("msg_type", Item::Integer(kind)), ("piece", Item::Integer(block.into()))];
        let mut payload = Item::dict(always.into_iter().chain(total)).encode();
        payload.extend_from_slice(bytes);
        payload
    }

    /// Appends it as a whole message to a peer that takes it under `number`; a block goes there
    /// directly, so that its bytes are not in memory twice.
    pub fn say(&self, number: u8, total: usize, out: &mut Vec<u8>) {
        let (head, bytes) = match *self {
            Self::Data(block, bytes) => (Self::Data(block, &[]).encode(total), bytes),
            _ => (self.encode(total), &[][..]),
        };
        let length = u32::try_from(2 + head.len() + bytes.len()).unwrap_or(u32::MAX);
        out.reserve_exact(message::PREFIX_LENGTH + length as usize);
        out.extend(length.to_be_bytes());
        out.extend([message::EXTENDED, number]);
        out.extend_from_slice(&head);
        out.extend_from_slice(bytes);
    }
}

/// A block of the dictionary `info`. `None`: it has none of this number.
pub fn block(info: &[u8], number: u32) -> Option<&[u8]> {
    info.chunks(METADATA_BLOCK_BYTES).nth(usize::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for message in [Message::Request(3), Message::Data(70_000, b"d3:abc"), Message::Reject(0)] {
            assert_eq!(Message::decode(&message.encode(1 << 20)), Some(message));
        }
        let data = Message::Data(1, b"xyz").encode(34_256);
        assert_eq!(data, b"d8:msg_typei1e5:piecei1e10:total_sizei34256eexyz");
        assert_eq!(Message::Request(0).encode(5), b"d8:msg_typei0e5:piecei0ee");
        for said in [Message::Data(2, b"xyz"), Message::Reject(2)] {
            let (mut directly, mut around) = (Vec::new(), Vec::new());
            said.say(9, 100, &mut directly);
            message::Message::Extended(9, &said.encode(100)).encode(&mut around);
            assert_eq!(directly, around);
        }
    }

    #[test]
    fn nonsense_is_no_message() {
        for payload in [
            &b""[..],
            b"d",
            b"i1e",
            b"de",
            b"d8:msg_typei0ee",
            b"d5:piecei0ee",
            b"d8:msg_typei3e5:piecei0ee",
            b"d8:msg_typei0e5:piecei-1ee",
            b"d8:msg_typei0e5:piecei4294967296ee",
            b"d8:msg_type1:05:piecei0ee",
        ] {
            assert_eq!(Message::decode(payload), None, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn the_last_block_is_shorter() {
        let info = vec![7; METADATA_BLOCK_BYTES + 1];
        let length = |number| block(&info, number).map(<[u8]>::len);
        assert_eq!(
            [0, 1, 2, u32::MAX].map(length),
            [Some(METADATA_BLOCK_BYTES), Some(1), None, None]
        );
        assert_eq!(block(&[], 0), None);
    }
}
