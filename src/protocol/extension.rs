//! Speaks the extension protocol's handshake (BEP 10): how many requests a peer queues, what it
//! calls itself, whether it only uploads (BEP 21).

use crate::limits::{FOREIGN_TEXT_MAX_CHARS, REQUESTS_QUEUED_MAX};
use crate::protocol::bencode::{Item, Value};
use crate::protocol::message::Message;

/// The number of the extension handshake among extension messages.
pub const HELLO: u8 = 0;
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
}

impl Hello {
    /// Reads the payload of a message [`HELLO`]. What has an odd type is passed over; `None` if
    /// it is no dictionary at all.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let hello = Value::parse(payload).ok()?;
        hello.dict()?;
        let number = |key: &str| hello.get(key).and_then(Value::integer);
        let client = hello.get("v").and_then(Value::bytes);
        Some(Self {
            reqq: number("reqq").and_then(|reqq| u32::try_from(reqq).ok()),
            client: client.map(|name| name.iter().copied().take(FOREIGN_TEXT_MAX_CHARS).collect()),
            upload_only: number("upload_only").is_some_and(|flag| flag != 0),
        })
    }
}

/// Appends our own extension handshake, as a whole message. It offers no extension message yet.
pub fn encode_hello(upload_only: bool, out: &mut Vec<u8>) {
    let hello = Item::dict([
        ("m", Item::dict::<&str>([])),
        ("reqq", Item::Integer(i64::from(REQUESTS_QUEUED_MAX))),
        ("upload_only", Item::Integer(i64::from(upload_only))),
        ("v", Item::bytes(CLIENT)),
    ]);
    Message::Extended(HELLO, &hello.encode()).encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Geometry;

    #[test]
    fn ours_can_be_read() {
        let mut bytes = Vec::new();
        encode_hello(true, &mut bytes);
        let geometry = Geometry::new(1, 1).unwrap();
        let Ok(Some((Message::Extended(HELLO, payload), _))) = Message::decode(&bytes, geometry)
        else {
            panic!("{bytes:?}");
        };
        let hello = Hello::decode(payload).unwrap();
        assert_eq!(hello.reqq, Some(REQUESTS_QUEUED_MAX));
        assert_eq!(hello.client.as_deref(), Some(CLIENT.as_bytes()));
        assert!(hello.upload_only);
    }

    #[test]
    fn odd_values_are_passed_over() {
        let cases: [(&[u8], Option<Hello>); 6] = [
            (b"", None),
            (b"le", None),
            (b"d", None),
            (b"de", Some(Hello::default())),
            (b"d4:reqqi-5e11:upload_only1:x1:vi1ee", Some(Hello::default())),
            (
                b"d4:reqqi99999999999e11:upload_onlyi1e1:v1:xetrailing",
                Some(Hello { reqq: None, client: Some(b"x".to_vec()), upload_only: true }),
            ),
        ];
        for (payload, expected) in cases {
            assert_eq!(Hello::decode(payload), expected, "{}", payload.escape_ascii());
        }
    }
}
