//! Speaks to UDP trackers: the datagrams of BEP 15, and the rest of the URL as BEP 41 sends it.

use std::net::SocketAddr;

use super::tracker::{
    AnnounceReply, AnnounceRequest, Event, TrackerError, compact_peers, compact_peers_v6, interval,
    usable_peers,
};
use super::url::host_and_port;
use crate::text::Foreign;

/// The number that a connect request begins with.
const PROTOCOL_ID: u64 = 0x0417_2710_1980;
const ACTION_CONNECT: u32 = 0;
const ACTION_ANNOUNCE: u32 = 1;
const ACTION_ERROR: u32 = 3;
/// BEP 41, "options": what follows is a part of the URL.
const OPTION_URL_DATA: u8 = 2;

/// What a `udp:` URL names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// A name or an address, an IPv6 address without its brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// Path and query, if they say more than `/announce`.
    pub url_data: &'a str,
}

impl<'a> Target<'a> {
    /// Takes `url` apart. It must have a port: there is none by default.
    pub fn of(url: &'a str) -> Result<Self, TrackerError> {
        let (_, rest) = url.split_once("://").ok_or(TrackerError::BadUrl)?;
        let rest = rest.split('#').next().unwrap_or_default();
        let url_data = rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or_default();
        let (host, port) = host_and_port(url).rsplit_once(':').ok_or(TrackerError::BadUrl)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        Ok(Self {
            host: bare.or((!host.is_empty()).then_some(host)).ok_or(TrackerError::BadUrl)?,
            port: port.parse().map_err(|_| TrackerError::BadUrl)?,
            url_data: if matches!(url_data, "/" | "/announce") { "" } else { url_data },
        })
    }
}

/// The datagram that asks for a connection id.
pub fn connect_request(transaction: u32) -> [u8; 16] {
    let mut datagram = [0; 16];
    let (id, rest) = datagram.split_at_mut(8);
    let (action, number) = rest.split_at_mut(4);
    id.copy_from_slice(&PROTOCOL_ID.to_be_bytes());
    action.copy_from_slice(&ACTION_CONNECT.to_be_bytes());
    number.copy_from_slice(&transaction.to_be_bytes());
    datagram
}

/// The datagram that announces `request`, 98 bytes without `url_data`.
pub fn announce_request(
    connection: u64,
    transaction: u32,
    request: &AnnounceRequest,
    url_data: &str,
) -> Vec<u8> {
    let event: u32 = match request.event {
        None => 0,
        Some(Event::Completed) => 1,
        Some(Event::Started) => 2,
        Some(Event::Stopped) => 3,
    };
    let mut datagram = Vec::with_capacity(98 + url_data.len() + 2 * url_data.len().div_ceil(255));
    datagram.extend(connection.to_be_bytes());
    datagram.extend(ACTION_ANNOUNCE.to_be_bytes());
    datagram.extend(transaction.to_be_bytes());
    datagram.extend(request.info_hash.0);
    datagram.extend(request.peer_id.0);
    datagram.extend(request.downloaded.to_be_bytes());
    datagram.extend(request.left.to_be_bytes());
    datagram.extend(request.uploaded.to_be_bytes());
    datagram.extend(event.to_be_bytes());
    datagram.extend([0; 4]); // our address: the one the datagram comes from
    datagram.extend(request.key.to_be_bytes());
    datagram.extend(request.numwant.to_be_bytes());
    datagram.extend(request.port.to_be_bytes());
    for part in url_data.as_bytes().chunks(255) {
        datagram.extend([OPTION_URL_DATA, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        datagram.extend(part);
    }
    datagram
}

/// Reads the answer to a connect request. `None` for a datagram that answers something else or
/// nothing, and is to be ignored; `Some(Err)` for the tracker's own error.
pub fn parse_connect(datagram: &[u8], transaction: u32) -> Option<Result<u64, TrackerError>> {
    let body = match body_of(datagram, transaction, ACTION_CONNECT)? {
        Ok(body) => body,
        Err(error) => return Some(Err(error)),
    };
    body.first_chunk().map(|id| Ok(u64::from_be_bytes(*id)))
}

/// Reads the answer to an announce that was sent over IPv6 or IPv4: the length of the addresses in
/// it follows from that. `None` and `Some(Err)` as for [`parse_connect`].
pub fn parse_announce(
    datagram: &[u8],
    transaction: u32,
    over_ipv6: bool,
) -> Option<Result<AnnounceReply, TrackerError>> {
    let body = match body_of(datagram, transaction, ACTION_ANNOUNCE)? {
        Ok(body) => body,
        Err(error) => return Some(Err(error)),
    };
    let (seconds, rest) = split_u32(body)?;
    let (leechers, rest) = split_u32(rest)?;
    let (seeders, peers) = split_u32(rest)?;
    let peers: Vec<SocketAddr> = if over_ipv6 {
        usable_peers(compact_peers_v6(peers))
    } else {
        usable_peers(compact_peers(peers))
    };
    Some(Ok(AnnounceReply {
        peers,
        // The field is signed in BEP 15: 2^31 and above is a negative number.
        interval: interval(Some(i64::from(seconds.cast_signed()))),
        min_interval: None,
        tracker_id: None,
        warning: None,
        seeders: Some(seeders),
        leechers: Some(leechers),
    }))
}

/// What follows action and transaction id, if those are `action` and `transaction`.
fn body_of(datagram: &[u8], transaction: u32, action: u32) -> Option<Result<&[u8], TrackerError>> {
    let (found_action, rest) = split_u32(datagram)?;
    let (found_transaction, body) = split_u32(rest)?;
    if found_transaction != transaction {
        return None;
    }
    if found_action == ACTION_ERROR {
        return Some(Err(TrackerError::Refused(Foreign::new(body).to_string())));
    }
    (found_action == action).then_some(Ok(body))
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::units::{InfoHash, PeerId};

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash([0x11; 20]),
            peer_id: PeerId([0x22; 20]),
            port: 0x1ae1,
            uploaded: 3,
            downloaded: 1,
            left: 2,
            event: Some(Event::Started),
            key: 0xdead_beef,
            numwant: 80,
            tracker_id: None,
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let target = |host, port, url_data| Ok(Target { host, port, url_data });
        let cases = [
            ("udp://a.example:80", target("a.example", 80, "")),
            ("udp://a.example:80/", target("a.example", 80, "")),
            ("UDP://a.example:80/announce", target("a.example", 80, "")),
            ("udp://a.example:80/announce?k=1#x", target("a.example", 80, "/announce?k=1")),
            ("udp://a.example:80?k=1", target("a.example", 80, "?k=1")),
            ("udp://u:p@a.example:80/k/announce", target("a.example", 80, "/k/announce")),
            ("udp://[::1]:6969/announce", target("::1", 6969, "")),
            ("udp://a.example/announce", Err(TrackerError::BadUrl)),
            ("udp://a.example:port/", Err(TrackerError::BadUrl)),
            ("udp://a.example:65536/", Err(TrackerError::BadUrl)),
            ("udp://:80/", Err(TrackerError::BadUrl)),
            ("udp:a.example:80", Err(TrackerError::BadUrl)),
            ("", Err(TrackerError::BadUrl)),
        ];
        for (url, expected) in cases {
            assert_eq!(Target::of(url), expected, "{url}");
        }
    }

    #[test]
    fn a_connect_request_byte_for_byte() {
        let expected = b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\x01\x02\x03\x04";
        assert_eq!(&connect_request(0x0102_0304), expected);
    }

    #[test]
    fn an_announce_byte_for_byte() {
        let mut expected = b"\x01\x23\x45\x67\x89\xab\xcd\xef\0\0\0\x01\x01\x02\x03\x04".to_vec();
        expected.extend([0x11; 20]);
        expected.extend([0x22; 20]);
        expected.extend(b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03");
        expected.extend(b"\0\0\0\x02\0\0\0\0\xde\xad\xbe\xef\0\0\0\x50\x1a\xe1");
        assert_eq!(expected.len(), 98);
        let id = 0x0123_4567_89ab_cdef;
        assert_eq!(announce_request(id, 0x0102_0304, &request(), ""), expected);

        for (event, number) in [(None, 0), (Some(Event::Completed), 1), (Some(Event::Stopped), 3)] {
            let datagram = announce_request(id, 1, &AnnounceRequest { event, ..request() }, "");
            assert_eq!(datagram[80..84], [0, 0, 0, number]);
        }
    }

    #[test]
    fn a_long_url_is_sent_in_parts() {
        let data = format!("/{}", "x".repeat(299));
        let datagram = announce_request(1, 2, &request(), &data);
        assert_eq!(datagram.len(), 98 + 300 + 4);
        assert_eq!(datagram[98..101], [2, 255, b'/']);
        assert_eq!(datagram[98 + 257..98 + 260], [2, 45, b'x']);
    }

    #[test]
    fn answers_to_a_connect_request() {
        let id = 0x0102_0304_0506_0708;
        type Expected = Option<Result<u64, &'static str>>;
        let cases: [(&[u8], Expected); 8] = [
            (b"\0\0\0\0\0\0\0\x07\x01\x02\x03\x04\x05\x06\x07\x08", Some(Ok(id))),
            (b"\0\0\0\0\0\0\0\x07\x01\x02\x03\x04\x05\x06\x07\x08more", Some(Ok(id))),
            (b"\0\0\0\0\0\0\0\x07\x01\x02\x03\x04\x05\x06\x07", None),
            (b"\0\0\0\0\0\0\0\x08\x01\x02\x03\x04\x05\x06\x07\x08", None),
            (b"\0\0\0\x01\0\0\0\x07\x01\x02\x03\x04\x05\x06\x07\x08", None),
            (b"\0\0\0\x03\0\0\0\x07no\x1b", Some(Err(r"no\u{1b}"))),
            (b"\0\0\0\x03\0\0\0\x08no", None),
            (b"", None),
        ];
        for (datagram, expected) in cases {
            let expected = expected.map(|r| r.map_err(|why| TrackerError::Refused(why.into())));
            assert_eq!(parse_connect(datagram, 7), expected, "{}", datagram.escape_ascii());
        }
    }

    #[test]
    fn answers_to_an_announce() {
        let head = b"\0\0\0\x01\0\0\0\x07\0\0\x03\x84\0\0\0\x05\0\0\0\x06";
        let mut datagram = head.to_vec();
        datagram.extend(b"\xc0\0\x02\x01\x1a\xe1\xc0\0\x02\x02\0\0\xc0");
        let reply = parse_announce(&datagram, 7, false).unwrap().unwrap();
        assert_eq!(reply.peers, ["192.0.2.1:6881".parse().unwrap()]);
        assert_eq!(reply.interval, Duration::from_secs(900));
        assert_eq!((reply.leechers, reply.seeders), (Some(5), Some(6)));

        let mut datagram = head.to_vec();
        datagram.extend(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1");
        let reply = parse_announce(&datagram, 7, true).unwrap().unwrap();
        assert_eq!(reply.peers, ["[2001:db8::1]:6881".parse().unwrap()]);

        for length in 0..head.len() {
            assert_eq!(parse_announce(&head[..length], 7, false), None, "{length}");
        }
        assert_eq!(parse_announce(head, 8, false), None);
        assert_eq!(parse_connect(head, 7), None);

        let negative = b"\0\0\0\x01\0\0\0\x07\xff\xff\xff\xff\0\0\0\0\0\0\0\0";
        let reply = parse_announce(negative, 7, false).unwrap().unwrap();
        assert_eq!(reply.interval, Duration::from_secs(30));
    }
}
