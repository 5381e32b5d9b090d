//! Speaks the messages between peers: BEP 3 "peer messages", the fast extension (BEP 6), `port`
//! (BEP 5) and the envelope of the extension protocol (BEP 10).
//!
//! ```text
//! | length: u32, big-endian | id: u8 | payload: length - 1 bytes |      length 0: keep-alive
//! ```

use std::fmt;

use crate::bitfield::Bitfield;
use crate::limits::{BLOCK_LENGTH, EXTENDED_LENGTH_MAX_BYTES, MESSAGE_KEPT_MAX_BYTES};
use crate::units::{Block, Geometry};

/// Bytes before the data in a `piece` message: length, id, index, begin.
pub const PIECE_HEADER_LENGTH: usize = 13;
/// What stands before the data of a block's message.
pub fn piece_header(block: Block) -> [u8; PIECE_HEADER_LENGTH] {
    let mut header = [0; PIECE_HEADER_LENGTH];
    // An id and two numbers stand before the data.
    let length = 9 + block.length;
    let (piece, begin) = (block.piece.get().to_be_bytes(), block.begin.to_be_bytes());
    let bytes = length.to_be_bytes().into_iter().chain([PIECE]).chain(piece).chain(begin);
    header.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    header
}

/// Bytes of the length prefix.
pub const PREFIX_LENGTH: usize = 4;

const CHOKE: u8 = 0;
const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const NOT_INTERESTED: u8 = 3;
const HAVE: u8 = 4;
const BITFIELD: u8 = 5;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const CANCEL: u8 = 8;
/// The id of the message that says where a node of the DHT is (BEP 5).
pub const PORT: u8 = 9;
const SUGGEST: u8 = 0x0d;
const HAVE_ALL: u8 = 0x0e;
const HAVE_NONE: u8 = 0x0f;
const REJECT: u8 = 0x10;
const ALLOWED_FAST: u8 = 0x11;
/// The id of every extension message (BEP 10).
pub const EXTENDED: u8 = 20;

/// A range of a piece as a peer names it: not yet checked against the torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The piece's number.
    pub piece: u32,
    /// Bytes from the start of the piece.
    pub begin: u32,
    /// Bytes.
    pub length: u32,
}

impl From<Block> for Range {
    fn from(block: Block) -> Self {
        Self { piece: block.piece.get(), begin: block.begin, length: block.length }
    }
}

/// One message. Numbers are as the peer sent them: unchecked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// Nothing to say, still here.
    KeepAlive,
    /// Requests will not be answered from now on.
    Choke,
    /// Requests will be answered.
    Unchoke,
    /// The sender wants pieces that the receiver has.
    Interested,
    /// It does not, or no longer.
    NotInterested,
    /// The sender has this piece now.
    Have(u32),
    /// All the pieces the sender has, in the first message only.
    Bitfield(&'a [u8]),
    /// Asks for a block.
    Request(Range),
    /// A block: its piece, the offset in it, and its bytes.
    Piece(u32, u32, &'a [u8]),
    /// Takes a request back.
    Cancel(Range),
    /// The port of the sender's DHT node (BEP 5).
    Port(u16),
    /// BEP 6: would be a good piece to ask for.
    Suggest(u32),
    /// BEP 6: instead of a bitfield with every bit set.
    HaveAll,
    /// BEP 6: instead of a bitfield with no bit set.
    HaveNone,
    /// BEP 6: this request will not be answered.
    Reject(Range),
    /// BEP 6: requests for this piece are answered even while choking.
    AllowedFast(u32),
    /// BEP 10: an extension message, by its number, with its payload.
    Extended(u8, &'a [u8]),
    /// A message of a kind that is not known here, by its id, with its payload.
    Unknown(u8, &'a [u8]),
}

/// Why a stream of messages can't be read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Garbled {
    /// The length prefix is longer than any message of this kind may be.
    TooLong {
        /// The message's id.
        id: u8,
        /// The length that was announced.
        length: u32,
    },
    /// The length does not fit the message's kind.
    WrongLength {
        /// The message's id.
        id: u8,
        /// The length that was announced.
        length: u32,
    },
}

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { id, length } => write!(f, "message {id} of {length} bytes is too long"),
            Self::WrongLength { id, length } => {
                write!(f, "message {id} can't have {length} bytes")
            }
        }
    }
}

/// Checks the length of a message, its id counted, before a byte of it is stored.
fn check_length(id: u8, length: u32, bitfield_length: usize) -> Result<(), Garbled> {
    let bitfield_max = u32::try_from(bitfield_length).unwrap_or(u32::MAX).saturating_add(1);
    let longest = match id {
        PIECE => 9 + BLOCK_LENGTH,
        BITFIELD => bitfield_max,
        // What is passed over must end some time.
        _ => EXTENDED_LENGTH_MAX_BYTES,
    };
    if length > longest {
        return Err(Garbled::TooLong { id, length });
    }
    let fits = match id {
        CHOKE | UNCHOKE | INTERESTED | NOT_INTERESTED | HAVE_ALL | HAVE_NONE => length == 1,
        HAVE | SUGGEST | ALLOWED_FAST => length == 5,
        BITFIELD => length == bitfield_max,
        REQUEST | CANCEL | REJECT => length == 13,
        PIECE => length >= 9,
        PORT => length == 3,
        EXTENDED => length >= 2,
        _ => true,
    };
    if fits { Ok(()) } else { Err(Garbled::WrongLength { id, length }) }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

impl<'a> Message<'a> {
    /// Reads the first message in `bytes`: the message and how many bytes it took. `None` if it
    /// is not there whole yet.
    ///
    /// # Errors
    /// [`Garbled`], as soon as the length and the kind are there, whatever else is missing.
    pub fn decode(bytes: &'a [u8], geometry: Geometry) -> Result<Option<(Self, usize)>, Garbled> {
        let Some(prefix) = bytes.first_chunk::<PREFIX_LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix);
        if length == 0 {
            return Ok(Some((Message::KeepAlive, PREFIX_LENGTH)));
        }
        let Some(&id) = bytes.get(PREFIX_LENGTH) else { return Ok(None) };
        check_length(id, length, Bitfield::wire_length(geometry))?;
        let end = PREFIX_LENGTH + length as usize;
        let Some(payload) = bytes.get(PREFIX_LENGTH + 1..end) else { return Ok(None) };
        Ok(Some((Self::of(id, payload), end)))
    }

    /// How many bytes the first message in `bytes` will have in all, as far as that can be told.
    pub fn length(bytes: &[u8]) -> Option<usize> {
        let prefix = bytes.first_chunk::<PREFIX_LENGTH>()?;
        Some(PREFIX_LENGTH + u32::from_be_bytes(*prefix) as usize)
    }

    /// How many bytes the first message in `bytes` has in all, if it is so long that it is to be
    /// passed over without being stored. Nothing that is of use here is.
    pub fn passed_over(bytes: &[u8]) -> Option<usize> {
        let length = u32::from_be_bytes(*bytes.first_chunk::<PREFIX_LENGTH>()?);
        let id = *bytes.get(PREFIX_LENGTH)?;
        let long = (MESSAGE_KEPT_MAX_BYTES + 1..=EXTENDED_LENGTH_MAX_BYTES).contains(&length);
        let stranger = !(CHOKE..=PORT).contains(&id) && !(SUGGEST..=ALLOWED_FAST).contains(&id);
        (long && stranger).then_some(PREFIX_LENGTH + length as usize)
    }

    /// The message of this kind, its payload's length being right.
    fn of(id: u8, payload: &'a [u8]) -> Self {
        let range = || Range {
            piece: u32_at(payload, 0),
            begin: u32_at(payload, 4),
            length: u32_at(payload, 8),
        };
        match id {
            CHOKE => Self::Choke,
            UNCHOKE => Self::Unchoke,
            INTERESTED => Self::Interested,
            NOT_INTERESTED => Self::NotInterested,
            HAVE => Self::Have(u32_at(payload, 0)),
            BITFIELD => Self::Bitfield(payload),
            REQUEST => Self::Request(range()),
            PIECE => {
                Self::Piece(u32_at(payload, 0), u32_at(payload, 4), payload.get(8..).unwrap_or(&[]))
            }
            CANCEL => Self::Cancel(range()),
            PORT => Self::Port(payload.first_chunk().map_or(0, |port| u16::from_be_bytes(*port))),
            SUGGEST => Self::Suggest(u32_at(payload, 0)),
            HAVE_ALL => Self::HaveAll,
            HAVE_NONE => Self::HaveNone,
            REJECT => Self::Reject(range()),
            ALLOWED_FAST => Self::AllowedFast(u32_at(payload, 0)),
            EXTENDED => match payload.split_first() {
                Some((&number, rest)) => Self::Extended(number, rest),
                None => Self::Unknown(id, payload),
            },
            _ => Self::Unknown(id, payload),
        }
    }

    /// Appends the message to `out` as it goes over the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::KeepAlive => out.extend_from_slice(&[0; PREFIX_LENGTH]),
            Self::Choke => frame(out, CHOKE, &[]),
            Self::Unchoke => frame(out, UNCHOKE, &[]),
            Self::Interested => frame(out, INTERESTED, &[]),
            Self::NotInterested => frame(out, NOT_INTERESTED, &[]),
            Self::Have(piece) => frame(out, HAVE, &[&piece.to_be_bytes()]),
            Self::Bitfield(bytes) => frame(out, BITFIELD, &[bytes]),
            Self::Request(range) => frame_range(out, REQUEST, range),
            Self::Piece(piece, begin, data) => {
                frame(out, PIECE, &[&piece.to_be_bytes(), &begin.to_be_bytes(), data]);
            }
            Self::Cancel(range) => frame_range(out, CANCEL, range),
            Self::Port(port) => frame(out, PORT, &[&port.to_be_bytes()]),
            Self::Suggest(piece) => frame(out, SUGGEST, &[&piece.to_be_bytes()]),
            Self::HaveAll => frame(out, HAVE_ALL, &[]),
            Self::HaveNone => frame(out, HAVE_NONE, &[]),
            Self::Reject(range) => frame_range(out, REJECT, range),
            Self::AllowedFast(piece) => frame(out, ALLOWED_FAST, &[&piece.to_be_bytes()]),
            Self::Extended(number, payload) => frame(out, EXTENDED, &[&[number], payload]),
            Self::Unknown(id, payload) => frame(out, id, &[payload]),
        }
    }
}

fn frame(out: &mut Vec<u8>, id: u8, payload: &[&[u8]]) {
    let length = 1 + payload.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(u32::try_from(length).is_ok());
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.push(id);
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

fn frame_range(out: &mut Vec<u8>, id: u8, range: Range) {
    let Range { piece, begin, length } = range;
    frame(out, id, &[&piece.to_be_bytes(), &begin.to_be_bytes(), &length.to_be_bytes()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> Geometry {
        Geometry::new(100 * 65_536, 65_536).unwrap()
    }

    fn one_of_each() -> Vec<Message<'static>> {
        let range = Range { piece: 1, begin: 2, length: 3 };
        vec![
            Message::Bitfield(&[0xa5; 13]),
            Message::KeepAlive,
            Message::Choke,
            Message::Unchoke,
            Message::Interested,
            Message::NotInterested,
            Message::Have(u32::MAX),
            Message::Request(range),
            Message::Piece(99, 16_384, &[7; 100]),
            Message::Piece(99, 16_384, &[]),
            Message::Cancel(range),
            Message::Port(6881),
            Message::Suggest(5),
            Message::HaveAll,
            Message::HaveNone,
            Message::Reject(range),
            Message::AllowedFast(6),
            Message::Extended(0, b"de"),
            Message::Unknown(99, b"what?"),
        ]
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_messages() {
        let mut stream = Vec::new();
        let sent = one_of_each();
        sent.iter().for_each(|message| message.encode(&mut stream));
        for cut in 0..=stream.len() {
            let (mut got, mut inbox, mut parts) = (0, Vec::new(), [&stream[..cut], &stream[cut..]]);
            for part in &mut parts {
                inbox.extend_from_slice(part);
                let mut at = 0;
                while let Some((message, length)) =
                    Message::decode(&inbox[at..], geometry()).unwrap()
                {
                    assert_eq!(message, sent[got], "cut at {cut}");
                    (got, at) = (got + 1, at + length);
                }
                inbox.drain(..at);
            }
            assert_eq!((got, inbox.len()), (sent.len(), 0));
        }
    }

    #[test]
    fn the_length_is_judged_before_the_payload_is_there() {
        // (length, id): the length counts the id.
        let bad = [
            (u32::MAX, PIECE),
            (16_384 + 10, PIECE),
            (8, PIECE),
            (u32::MAX, BITFIELD),
            (13, BITFIELD),
            (15, BITFIELD),
            (2, CHOKE),
            (4, HAVE),
            (6, HAVE),
            (12, REQUEST),
            (14, CANCEL),
            (2, HAVE_ALL),
            (1, EXTENDED),
            ((1 << 20) + 1, EXTENDED),
            ((1 << 20) + 1, 99),
            (2, PORT),
        ];
        for (length, id) in bad {
            let mut bytes = length.to_be_bytes().to_vec();
            assert_eq!(Message::decode(&bytes, geometry()), Ok(None), "{length} {id}");
            bytes.push(id);
            assert!(Message::decode(&bytes, geometry()).is_err(), "{length} {id}");
        }
        for (length, id) in [(16_384_u32 + 9, PIECE), (14, BITFIELD), (1 << 20, EXTENDED)] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.push(id);
            assert_eq!(Message::decode(&bytes, geometry()), Ok(None), "{length} {id}");
        }
    }

    #[test]
    fn long_messages_of_no_use_are_passed_over() {
        let cases = [
            (16_384 + 9, EXTENDED, None),
            (16_384 + 10, EXTENDED, Some(4 + 16_384 + 10)),
            (1 << 20, 99, Some(4 + (1 << 20))),
            ((1 << 20) + 1, EXTENDED, None),
            (1 << 20, BITFIELD, None),
            (16_384 + 10, PIECE, None),
            (16_384 + 10, HAVE_ALL, None),
        ];
        for (length, id, passed_over) in cases {
            let mut bytes = u32::to_be_bytes(length).to_vec();
            assert_eq!(Message::passed_over(&bytes), None);
            bytes.push(id);
            assert_eq!(Message::passed_over(&bytes), passed_over, "{length} {id}");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_but_never_read_past_their_end() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let mut bytes: Vec<u8> = (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
            bytes.iter_mut().take(3).for_each(|byte| *byte = 0);
            if let Ok(Some((_, length))) = Message::decode(&bytes, geometry()) {
                assert!(length <= bytes.len());
            }
        }
    }
}
