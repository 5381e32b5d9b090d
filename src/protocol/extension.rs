//! Speaks the extension protocol's handshake (BEP 10): which extension messages a peer takes and
//! under which numbers, how many requests it queues, what it calls itself, whether it only uploads
//! (BEP 21).

use std::num::NonZero;

use crate::limits::{FOREIGN_TEXT_MAX_CHARS, REQUESTS_QUEUED_MAX};
use crate::protocol::bencode::{Item, Value};
use crate::protocol::message::Message;

/// The number of the extension handshake among extension messages.
pub const HELLO: u8 = 0;
/// The number under which we take messages about metadata (BEP 9).
pub const METADATA: u8 = 1;
/// The number under which we take peers' addresses (BEP 11).
pub const EXCHANGE: u8 = 2;
/// What we call ourselves.
pub const CLIENT: &str = concat!("rusty_torrent ", env!("CARGO_PKG_VERSION"));

/// A peer's extension handshake: what of it matters here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hello {
    /// How many requests it queues (`reqq`).
    pub reqq: Option<u32>,
    /// What it calls itself (`v`), cut to a bearable length; not to be shown raw.
    pub client: Option<Vec<u8>>,
    /// It wants nothing from anybody (`upload_only`).
    pub upload_only: bool,
    /// The number under which it takes messages about metadata (`ut_metadata`).
    pub metadata: Option<NonZero<u8>>,
    /// Bytes of the info dictionary, if it has that (`metadata_size`).
    pub metadata_bytes: Option<u32>,
    /// The number under which it takes peers' addresses (`ut_pex`).
    pub exchange: Option<NonZero<u8>>,
    /// The port it listens on (`p`).
    pub port: Option<NonZero<u16>>,
}

impl Hello {
    /// Reads the payload of a message [`HELLO`]. What has an odd type is passed over; `None` if
    /// it is no dictionary at all.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let hello = Value::parse(payload).ok()?;
        hello.dict()?;
        let number = |key: &str| hello.get(key).and_then(Value::integer);
        let taken = |key: &str| {
            let number = hello.get("m")?.get(key)?.integer()?;
            NonZero::new(u8::try_from(number).ok()?)
        };
        let client = hello.get("v").and_then(Value::bytes);
        Some(Self {
            reqq: number("reqq").and_then(|reqq| u32::try_from(reqq).ok()),
            client: client.map(|name| name.iter().copied().take(FOREIGN_TEXT_MAX_CHARS).collect()),
            upload_only: number("upload_only").is_some_and(|flag| flag != 0),
            metadata: taken("ut_metadata"),
            metadata_bytes: number("metadata_size").and_then(|bytes| u32::try_from(bytes).ok()),
            exchange: taken("ut_pex"),
            port: number("p").and_then(|port| NonZero::new(u16::try_from(port).ok()?)),
        })
    }
}

/// What we say about ourselves in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ours {
    /// We want nothing.
    pub upload_only: bool,
    /// Bytes of the info dictionary, if we have it.
    pub metadata_bytes: Option<usize>,
    /// We take peers' addresses.
    pub exchange: bool,
    /// Where we listen.
    pub port: Option<u16>,
}

impl Ours {
    /// Appends it as a whole message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let number = |number: u8| Item::Integer(i64::from(number));
        let metadata = ("ut_metadata", number(METADATA));
        let exchange = self.exchange.then_some(("ut_pex", number(EXCHANGE)));
        let bytes = self.metadata_bytes.and_then(|bytes| i64::try_from(bytes).ok());
        let bytes = bytes.map(|bytes| ("metadata_size", Item::Integer(bytes)));
        let port = self.port.map(|port| ("p", Item::Integer(i64::from(port))));
        let always = [
            ("m", Item::dict([metadata].into_iter().chain(exchange))),
            ("reqq", Item::Integer(i64::from(REQUESTS_QUEUED_MAX))),
            ("upload_only", Item::Integer(i64::from(self.upload_only))),
            ("v", Item::bytes(CLIENT)),
        ];
        let hello = Item::dict(always.into_iter().chain(bytes).chain(port));
        Message::Extended(HELLO, &hello.encode()).encode(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Geometry;

    #[test]
    fn ours_can_be_read() {
        let ours = Ours {
            upload_only: true,
            metadata_bytes: Some(70_000),
            exchange: true,
            port: Some(6881),
        };
        let mut bytes = Vec::new();
        ours.encode(&mut bytes);
        let geometry = Geometry::new(1, 1).unwrap();
        let Ok(Some((Message::Extended(HELLO, payload), _))) = Message::decode(&bytes, geometry)
        else {
            panic!("{bytes:?}");
        };
        let hello = Hello::decode(payload).unwrap();
        assert_eq!(hello.reqq, Some(REQUESTS_QUEUED_MAX));
        assert_eq!(hello.client.as_deref(), Some(CLIENT.as_bytes()));
        assert!(hello.upload_only);
        let number = |number: Option<NonZero<u8>>| number.map_or(0, NonZero::get);
        assert_eq!((number(hello.metadata), number(hello.exchange)), (METADATA, EXCHANGE));
        assert_eq!((hello.metadata_bytes, hello.port), (Some(70_000), NonZero::new(6881)));
        bytes.clear();
        Ours::default().encode(&mut bytes);
        assert!(!bytes.windows(6).any(|window| window == b"ut_pex"));
    }

    #[test]
    fn odd_values_are_passed_over() {
        let cases: [(&[u8], Option<Hello>); 8] = [
            (b"", None),
            (b"le", None),
            (b"d", None),
            (b"de", Some(Hello::default())),
            (b"d4:reqqi-5e11:upload_only1:x1:vi1ee", Some(Hello::default())),
            (
                b"d4:reqqi99999999999e11:upload_onlyi1e1:v1:xetrailing",
                Some(Hello { client: Some(b"x".to_vec()), upload_only: true, ..Hello::default() }),
            ),
            (b"d1:mli1ee13:metadata_sizei-1e1:pi0ee", Some(Hello::default())),
            (b"d1:md11:ut_metadatai256e6:ut_pexi0ee1:pi65536ee", Some(Hello::default())),
        ];
        for (payload, expected) in cases {
            assert_eq!(Hello::decode(payload), expected, "{}", payload.escape_ascii());
        }
    }
}
