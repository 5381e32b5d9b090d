//! Speaks to HTTP trackers: the URL of an announce and the bencoded answer (BEP 3, BEP 7, BEP 23).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::bencode::Value;
use super::tracker::{
    AnnounceReply, AnnounceRequest, Event, Swarm, TrackerError, compact_peers, compact_peers_v6,
    interval, min_interval, usable_peers,
};
use super::url::{escape_what_no_url_holds, has_host, percent_encode};
use crate::limits::TRACKER_ID_MAX_BYTES;
use crate::text::Foreign;
use crate::units::InfoHash;

impl Event {
    /// Its name in a query.
    fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

/// The URL that announces `request` to the tracker at `base`. What `base` has of path and query
/// stays, since a passkey may be there; a fragment goes; what a URL can't hold is escaped.
pub fn announce_url(base: &str, request: &AnnounceRequest) -> Result<String, TrackerError> {
    let (origin, path) = origin_and_path(base)?;
    let mut url = with_query(&origin, path);
    push_query(request, &mut url);
    Ok(url)
}

/// The URL at which the tracker at `base` says who has a torrent (BEP 48): `scrape` stands in it for
/// the `announce` that its last component begins with. Without that it is the server's own.
pub fn scrape_url(base: &str, info_hash: InfoHash) -> Result<String, TrackerError> {
    let (origin, path) = origin_and_path(base)?;
    let (place, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let (above, last) = place.rsplit_once('/').unwrap_or_default();
    let Some(rest) = last.strip_prefix("announce") else { return Ok(origin + "/") };
    let mut url = with_query(&origin, &format!("{above}/scrape{rest}{query}"));
    url.push_str("info_hash=");
    percent_encode(&info_hash.0, &mut url);
    Ok(url)
}

/// Scheme and host, escaped, and the rest as it is.
fn origin_and_path(base: &str) -> Result<(String, &str), TrackerError> {
    let base = base.split('#').next().unwrap_or_default();
    let (scheme, rest) = base.split_once("://").ok_or(TrackerError::BadUrl)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !has_host(base) {
        return Err(TrackerError::BadUrl);
    }
    let mut origin = format!("{scheme}://");
    escape_what_no_url_holds(authority, &mut origin);
    Ok((origin, path))
}

/// A URL that a query can be put behind.
fn with_query(origin: &str, path: &str) -> String {
    let mut url = origin.to_owned();
    if !path.starts_with('/') {
        url.push('/');
    }
    escape_what_no_url_holds(path, &mut url);
    match path.split_once('?') {
        None => url.push('?'),
        Some((_, query)) if query.is_empty() || query.ends_with('&') => {}
        Some(_) => url.push('&'),
    }
    url
}

/// What an answer says of a torrent (BEP 48), if it does.
pub fn parse_scrape(body: &[u8], info_hash: InfoHash) -> Option<Swarm> {
    let torrent = Value::parse(body).ok()?.get("files")?.get(info_hash.0)?;
    let count = |key| u32::try_from(torrent.get(key).and_then(Value::integer)?).ok();
    Some(Swarm { seeders: count("complete")?, leechers: count("incomplete")? })
}

fn push_query(request: &AnnounceRequest, url: &mut String) {
    url.push_str("info_hash=");
    percent_encode(&request.info_hash.0, url);
    url.push_str("&peer_id=");
    percent_encode(&request.peer_id.0, url);
    // Writing into a String can't fail.
    let _ = write!(
        url,
        "&port={}&uploaded={}&downloaded={}&left={}&compact=1&numwant={}&key={:08X}",
        request.port,
        request.uploaded,
        request.downloaded,
        request.left,
        request.numwant,
        request.key
    );
    if let Some(event) = request.event {
        let _ = write!(url, "&event={}", event.name());
    }
    if let Some(tracker_id) = &request.tracker_id {
        url.push_str("&trackerid=");
        percent_encode(tracker_id, url);
    }
}

/// Reads a tracker's answer. Everything in it is optional, and an entry of the wrong type counts
/// as missing; only `failure reason` and what is no dictionary are errors.
pub fn parse_reply(body: &[u8]) -> Result<AnnounceReply, TrackerError> {
    let reply = Value::parse(body).map_err(|_| TrackerError::NotBencode)?;
    if reply.dict().is_none() {
        return Err(TrackerError::NotBencode);
    }
    if let Some(reason) = text(reply, "failure reason") {
        return Err(TrackerError::Refused(reason));
    }
    let integer = |key: &str| reply.get(key).and_then(Value::integer);
    let count = |key: &str| integer(key).and_then(|count| u32::try_from(count).ok());
    Ok(AnnounceReply {
        peers: usable_peers(peers(reply.get("peers")).chain(peers_v6(reply.get("peers6")))),
        interval: interval(integer("interval")),
        min_interval: integer("min interval").and_then(min_interval),
        tracker_id: reply
            .get("tracker id")
            .and_then(Value::bytes)
            .filter(|id| id.len() <= TRACKER_ID_MAX_BYTES)
            .map(<[u8]>::to_vec),
        warning: text(reply, "warning message"),
        seeders: count("complete"),
        leechers: count("incomplete"),
    })
}

fn text(reply: Value<'_>, key: &str) -> Option<String> {
    reply.get(key)?.bytes().map(|text| Foreign::new(text).to_string())
}

/// A compact list or a list of dictionaries; some trackers mix up which of the two was asked for.
fn peers(value: Option<Value<'_>>) -> impl Iterator<Item = SocketAddr> {
    let compact = value.and_then(Value::bytes).unwrap_or_default();
    let dictionaries = value.and_then(Value::list).into_iter().flatten();
    compact_peers(compact).chain(dictionaries.filter_map(peer_of_dictionary))
}

fn peers_v6(value: Option<Value<'_>>) -> impl Iterator<Item = SocketAddr> {
    compact_peers_v6(value.and_then(Value::bytes).unwrap_or_default())
}

/// A peer given as `ip` and `port`. A name in the place of an address is passed over: looking up
/// whatever a tracker names is not our business.
fn peer_of_dictionary(peer: Value<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = peer.get("ip")?.text()?.parse().ok()?;
    let port = u16::try_from(peer.get("port")?.integer()?).ok()?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::{FOREIGN_TEXT_MAX_CHARS, PEERS_PER_REPLY_MAX};
    use crate::units::PeerId;

    #[test]
    fn a_scrape_is_asked_for_beside_the_announce() {
        let hash = InfoHash([b'a'; 20]);
        let query = format!("info_hash={}", "a".repeat(20));
        // The examples of BEP 48, and others.
        let cases = [
            ("http://a.example/announce", format!("http://a.example/scrape?{query}")),
            ("http://a.example/x/announce", format!("http://a.example/x/scrape?{query}")),
            ("http://a.example/announce.php", format!("http://a.example/scrape.php?{query}")),
            ("http://a.example/a", "http://a.example/".to_owned()),
            (
                "http://a.example/announce?x2%0644",
                format!("http://a.example/scrape?x2%0644&{query}"),
            ),
            ("http://a.example/announce?x=2/4", format!("http://a.example/scrape?x=2/4&{query}")),
            ("http://a.example/x%064announce", "http://a.example/".to_owned()),
            ("http://a.example?announce", "http://a.example/".to_owned()),
            ("http://a.example", "http://a.example/".to_owned()),
            ("https://me:x@a.example/announce#y", format!("https://me:x@a.example/scrape?{query}")),
        ];
        for (base, expected) in cases {
            assert_eq!(scrape_url(base, hash), Ok(expected), "{base}");
        }
        assert_eq!(scrape_url("http:///announce", hash), Err(TrackerError::BadUrl));
    }

    #[test]
    fn a_scrape_tells_of_its_torrent_or_nothing() {
        let hash = InfoHash([b'a'; 20]);
        let files =
            |name: &str, torrent: &str| format!("d5:filesd20:{}{torrent}ee", name.repeat(20));
        let good = "d8:completei5e10:downloadedi50e10:incompletei10ee";
        let swarm = Some(Swarm { seeders: 5, leechers: 10 });
        let cases = [
            (files("a", good), swarm),
            (files("b", good), None),
            (files("a", "d8:completei5ee"), None),
            (files("a", "d8:completei-5e10:incompletei10ee"), None),
            (files("a", "le"), None),
            ("d14:failure reason2:noe".to_owned(), None),
            ("d5:filesle".to_owned(), None),
            ("<html>".to_owned(), None),
            (String::new(), None),
        ];
        for (body, expected) in cases {
            assert_eq!(parse_scrape(body.as_bytes(), hash), expected, "{body}");
        }
    }

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash(*b"\x00\x01 /?&=%abcXYZ09-._~"),
            peer_id: PeerId(*b"-RU0100-\xff\xfe9012345678"),
            port: 6881,
            uploaded: 0,
            downloaded: u64::MAX,
            left: 6_442_450_944,
            event: Some(Event::Started),
            key: 0xbeef,
            numwant: 80,
            tracker_id: None,
        }
    }

    const QUERY: &str = "info_hash=%00%01%20%2F%3F%26%3D%25abcXYZ09-._~\
        &peer_id=-RU0100-%FF%FE9012345678&port=6881&uploaded=0&downloaded=18446744073709551615\
        &left=6442450944&compact=1&numwant=80&key=0000BEEF&event=started";

    #[test]
    fn urls_keep_what_they_had() {
        let cases = [
            ("http://a/announce", "http://a/announce?"),
            ("https://a:443/x/announce.php?passkey=1", "https://a:443/x/announce.php?passkey=1&"),
            ("http://a/announce?", "http://a/announce?"),
            ("http://a/announce?k=1&", "http://a/announce?k=1&"),
            ("http://a/announce#part?not=query", "http://a/announce?"),
            ("http://a", "http://a/?"),
            ("http://a?k=1", "http://a/?k=1&"),
            ("http://u:p@[::1]:80/a%20b", "http://u:p@[::1]:80/a%20b?"),
            ("http://a/b c\r\nX-Evil: 1", "http://a/b%20c%0D%0AX-Evil:%201?"),
            ("http://a\r\nb/", "http://a%0D%0Ab/?"),
            ("http://a/ü<\\{|", "http://a/%C3%BC%3C%5C%7B%7C?"),
        ];
        for (base, start) in cases {
            let url = announce_url(base, &request()).unwrap();
            assert_eq!(url, format!("{start}{QUERY}"), "{base}");
        }
    }

    #[test]
    fn urls_without_a_host_or_with_an_odd_port_are_refused() {
        let bases = [
            "",
            "announce",
            "http://",
            "http:///announce",
            "http://?x",
            "http://#",
            "http://:80/",
            "http://u:p@/",
            "http://a:/",
            "http://a:65536/",
            "http://a:port/",
            "http://[::1]:99999/",
        ];
        for base in bases {
            assert_eq!(announce_url(base, &request()), Err(TrackerError::BadUrl), "{base}");
        }
        for base in ["http://[::1]/", "http://[::1]:80/", "http://u:p@a/", "http://a:1/x:y@z"] {
            assert!(announce_url(base, &request()).is_ok(), "{base}");
        }
    }

    #[test]
    fn events_and_the_tracker_id_go_into_the_query() {
        for (event, end) in [
            (None, "&key=0000BEEF&trackerid=a%26b%00"),
            (Some(Event::Completed), "&event=completed&trackerid=a%26b%00"),
            (Some(Event::Stopped), "&event=stopped&trackerid=a%26b%00"),
        ] {
            let tracker_id = Some(b"a&b\0".to_vec());
            let url = announce_url("http://a", &AnnounceRequest { event, tracker_id, ..request() });
            let url = url.unwrap();
            assert!(url.ends_with(end), "{url}");
        }
    }

    fn peers_of(body: &[u8]) -> Vec<String> {
        parse_reply(body).unwrap().peers.iter().map(ToString::to_string).collect()
    }

    const FULL: &[u8] = b"d8:completei3e10:incompletei4e8:intervali900e12:min intervali60e\
        5:peers6:\xc0\0\x02\x01\x1a\xe1\
        6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50\
        10:tracker id3:a\xffb15:warning message5:slow\x1be";

    #[test]
    fn a_full_answer() {
        let reply = parse_reply(FULL);
        assert_eq!(
            reply,
            Ok(AnnounceReply {
                peers: vec!["192.0.2.1:6881".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap()],
                interval: Duration::from_secs(900),
                min_interval: Some(Duration::from_secs(60)),
                tracker_id: Some(b"a\xffb".to_vec()),
                warning: Some(r"slow\u{1b}".into()),
                seeders: Some(3),
                leechers: Some(4),
            })
        );
    }

    #[test]
    fn odd_answers_give_what_can_be_used_of_them() {
        let cases: [(&[u8], &[&str]); 13] = [
            (b"de", &[]),
            (b"d5:peers0:e", &[]),
            (b"d5:peersle8:intervali9ee", &[]),
            (b"d5:peersi5ee", &[]),
            (b"d5:peersd1:ai1eee", &[]),
            (b"d5:peers7:\xc0\0\x02\x01\0\x50!e", &["192.0.2.1:80"]),
            (b"d5:peersld2:ip9:192.0.2.14:porti80eeee", &["192.0.2.1:80"]),
            (b"d5:peersld4:porti80e2:ip11:2001:db8::1eee", &["[2001:db8::1]:80"]),
            (b"d5:peersld2:ip7:a.b.c.d4:porti80eed2:ip9:192.0.2.14:porti81eeee", &["192.0.2.1:81"]),
            (b"d5:peersld2:ip9:192.0.2.14:porti65536eed2:ip9:192.0.2.14:porti-1eeee", &[]),
            (b"d5:peersl6:\xc0\0\x02\x01\0\x50i1eled2:ipi1e4:port2:80eee", &[]),
            (b"d6:peers6ld2:ip3:::1eee", &[]),
            (b"d8:interval3:abc5:peers6:\xc0\0\x02\x01\0\x50etrailing", &["192.0.2.1:80"]),
        ];
        for (body, peers) in cases {
            assert_eq!(peers_of(body), peers, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn wrong_types_count_as_missing() {
        let reply = parse_reply(
            b"d8:intervalle12:min interval2:6010:tracker idi1e15:warning messagei1e\
              8:completei-1e10:incompletei4294967296ee",
        )
        .unwrap();
        let nothing = parse_reply(b"de").unwrap();
        assert_eq!(reply, nothing);
        assert_eq!(nothing.interval, Duration::from_secs(1800));
        let long = format!("d10:tracker id{}:{}e", 513, "x".repeat(513));
        assert_eq!(parse_reply(long.as_bytes()).unwrap().tracker_id, None);
    }

    #[test]
    fn a_refusal_is_shown_safely_and_short() {
        let refused = |body: &[u8]| match parse_reply(body) {
            Err(TrackerError::Refused(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(b"d14:failure reason20:unregistered torrente"), "unregistered torrent");
        assert_eq!(refused(b"d14:failure reason6:\x1b[2Jx\ne"), r"\u{1b}[2Jx\n");
        let long = format!("d14:failure reason800000:{}e", "x".repeat(800_000));
        assert_eq!(refused(long.as_bytes()).chars().count(), FOREIGN_TEXT_MAX_CHARS);
        let empty = parse_reply(b"d14:failure reason0:e").unwrap_err();
        assert_eq!(empty.to_string(), "refused without a reason");
    }

    #[test]
    fn what_is_no_dictionary_is_no_answer() {
        let deep = "l".repeat(20_000);
        let deep_peers = format!("d5:peers{deep}");
        let cases: [&[u8]; 10] = [
            b"",
            b"<html>",
            b"le",
            b"i5e",
            b"4:spam",
            b"d",
            b"d5:peers6:abc",
            b"d5:peers99999999999999999999:e",
            deep.as_bytes(),
            deep_peers.as_bytes(),
        ];
        for body in cases {
            let shown = body.escape_ascii().to_string();
            assert_eq!(parse_reply(body), Err(TrackerError::NotBencode), "{shown:.40}");
        }
    }

    #[test]
    fn a_million_peers_are_cut() {
        let mut body = b"d5:peers1044000:".to_vec();
        body.extend((0..174_000_u32).flat_map(|n| {
            let [_, a, b, c] = n.to_be_bytes();
            [11, a, b, c, 0x1a, 0xe1]
        }));
        body.push(b'e');
        assert_eq!(parse_reply(&body).unwrap().peers.len(), PEERS_PER_REPLY_MAX);
    }

    #[test]
    fn damaged_answers_do_no_damage() {
        let mut rng = fastrand::Rng::with_seed(20_260_101);
        let mut readable = 0;
        for _ in 0..20_000 {
            let mut body = FULL.to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..body.len());
                match rng.u8(..3) {
                    0 => body[at] = rng.u8(..),
                    1 => body.insert(at, *rng.choice(b"0123456789:ilde-").unwrap()),
                    _ => drop(body.remove(at)),
                }
            }
            if let Ok(reply) = parse_reply(&body) {
                readable += 1;
                assert!(reply.peers.iter().all(|peer| peer.port() != 0));
                assert!((30..=86_400).contains(&reply.interval.as_secs()));
            }
        }
        assert!(readable > 100, "{readable}");
    }
}
