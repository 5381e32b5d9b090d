//! Owns what HTTP and UDP trackers have in common: the announce, the answer, what can go wrong,
//! and what of an answer is believed (BEP 3, BEP 12).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::limits::{
    ANNOUNCE_INTERVAL_DEFAULT_S, ANNOUNCE_INTERVAL_MAX_S, ANNOUNCE_INTERVAL_MIN_S,
    PEERS_PER_REPLY_MAX,
};
use crate::units::{InfoHash, PeerId};

/// What an announce reports besides the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The first announce to this tracker.
    Started,
    /// The last piece was downloaded in this run.
    Completed,
    /// We leave.
    Stopped,
}

/// One announce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Ourselves, the same for the whole run.
    pub peer_id: PeerId,
    /// Where we say that we listen.
    pub port: u16,
    /// Bytes sent to peers in this run.
    pub uploaded: u64,
    /// Bytes received from peers in this run.
    pub downloaded: u64,
    /// Bytes that are still missing.
    pub left: u64,
    /// What happened, if it is not a regular announce.
    pub event: Option<Event>,
    /// Random and the same for the whole run: by it a tracker knows us under another address.
    pub key: u32,
    /// Peers that we would like; 0 when we leave.
    pub numwant: u32,
    /// What this tracker told us to send back. HTTP only.
    pub tracker_id: Option<Vec<u8>>,
}

/// A tracker's answer, after everything in it that can't be used was dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnnounceReply {
    /// Peers, as [`usable_peers`] leaves them.
    pub peers: Vec<SocketAddr>,
    /// Until the next regular announce, as [`interval`] bounds it.
    pub interval: Duration,
    /// The pause that the tracker demands between announces, at most a day.
    pub min_interval: Option<Duration>,
    /// To be sent back from now on.
    pub tracker_id: Option<Vec<u8>>,
    /// A message for the user, safe to show.
    pub warning: Option<String>,
    /// Peers that have everything.
    pub seeders: Option<u32>,
    /// Peers that have not.
    pub leechers: Option<u32>,
}

/// Why one announce failed. Shown, it is a short phrase and safe for a terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TrackerError {
    /// The tracker answered that it won't serve us; its words, safe to show.
    Refused(String),
    /// The answer is not bencode, or not a dictionary.
    NotBencode,
    /// The answer is an HTTP status other than 200 without a bencoded body.
    HttpStatus(u16),
    /// The answer is not HTTP, or broken HTTP.
    NotHttp,
    /// The answer is longer than we read.
    TooLarge,
    /// A redirect leads to something that is not HTTP, or there are too many of them.
    Redirect,
    /// No answer within the time allowed.
    Timeout,
    /// No encrypted connection: the certificate is wrong, for example. The detail is safe to show.
    Tls(String),
    /// The tracker wants HTTPS and this build can't.
    NoTls,
    /// Its name has no address.
    Resolve,
    /// Its URL can't be used.
    BadUrl,
    /// The connection could not be made, or broke.
    Connection(io::ErrorKind),
}

impl fmt::Display for TrackerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) if reason.is_empty() => f.write_str("refused without a reason"),
            Self::Refused(reason) => f.write_str(reason),
            Self::NotBencode => f.write_str("the answer is not a tracker's"),
            Self::HttpStatus(status) => write!(f, "HTTP status {status}"),
            Self::NotHttp => f.write_str("the answer is broken HTTP"),
            Self::TooLarge => f.write_str("the answer is too large"),
            Self::Redirect => f.write_str("bad redirect"),
            Self::Timeout => f.write_str("no answer"),
            Self::Tls(detail) if detail.is_empty() => f.write_str("TLS error"),
            Self::Tls(detail) => write!(f, "TLS error ({detail})"),
            Self::NoTls => f.write_str("this build has no HTTPS"),
            Self::Resolve => f.write_str("host name not found"),
            Self::BadUrl => f.write_str("bad URL"),
            Self::Connection(kind) => write!(f, "{kind}"),
        }
    }
}

impl std::error::Error for TrackerError {}

impl From<io::Error> for TrackerError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            kind => Self::Connection(kind),
        }
    }
}

/// How many have a torrent, as a tracker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Swarm {
    /// All of it.
    pub seeders: u32,
    /// Some of it.
    pub leechers: u32,
}

/// The kinds of tracker that we can speak to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// `http:`, and `https:` where the build has TLS.
    Http,
    /// `udp:` (BEP 15).
    Udp,
}

impl Scheme {
    /// By the start of `url`; `None` for `wss:` and whatever else we don't speak.
    pub fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if rest.is_empty() {
            return None;
        }
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Some(Self::Http),
            "udp" => Some(Self::Udp),
            _ => None,
        }
    }
}

/// The pause that a tracker asks for, bounded. `None` is a tracker that names none.
pub fn interval(seconds: Option<i64>) -> Duration {
    let seconds = seconds.map_or(ANNOUNCE_INTERVAL_DEFAULT_S, |s| u64::try_from(s).unwrap_or(0));
    Duration::from_secs(seconds.clamp(ANNOUNCE_INTERVAL_MIN_S, ANNOUNCE_INTERVAL_MAX_S))
}

/// The pause that a tracker demands, bounded from above. What is not positive says nothing.
pub fn min_interval(seconds: i64) -> Option<Duration> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.min(ANNOUNCE_INTERVAL_MAX_S)))
}

/// Those of `peers` that can be dialled, each once, in their order, and not more than
/// [`PEERS_PER_REPLY_MAX`]. IPv4 addresses written as IPv6 become IPv4. Our own address is not
/// known here: a connection to ourselves shows by its peer id.
pub fn usable_peers(peers: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut usable: Vec<SocketAddr> = Vec::new();
    // Where each of them is, by address: a set of addresses would take more than the list itself.
    let mut sorted: Vec<usize> = Vec::new();
    for peer in peers {
        if usable.len() == PEERS_PER_REPLY_MAX {
            break;
        }
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let place = sorted.binary_search_by_key(&Some(&peer), |at| usable.get(*at));
        if let Err(place) = place
            && can_be_dialled(peer)
        {
            sorted.insert(place, usable.len());
            usable.push(peer);
        }
    }
    usable
}

fn can_be_dialled(peer: SocketAddr) -> bool {
    let ip_is_one_host = match peer.ip() {
        IpAddr::V4(ip) => {
            ip.octets().first() != Some(&0) && !ip.is_multicast() && !ip.is_broadcast()
        }
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    peer.port() != 0 && ip_is_one_host
}

/// The peers of a compact list: 4 bytes of address and 2 of port each (BEP 23). An incomplete one
/// at the end is left out.
pub fn compact_peers(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    bytes.as_chunks::<6>().0.iter().map(|[a, b, c, d, high, low]| {
        SocketAddr::from(([*a, *b, *c, *d], u16::from_be_bytes([*high, *low])))
    })
}

/// The same with 16 bytes of address (BEP 7).
pub fn compact_peers_v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    bytes.as_chunks::<18>().0.iter().filter_map(|peer| {
        let (ip, port) = peer.split_first_chunk::<16>()?;
        Some(SocketAddr::from((*ip, u16::from_be_bytes(port.try_into().ok()?))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_peers_that_can_be_dialled_remain() {
        let cases = [
            ("192.0.2.1:6881", Some("192.0.2.1:6881")),
            ("127.0.0.1:1", Some("127.0.0.1:1")),
            ("192.0.2.1:0", None),
            ("0.0.0.0:6881", None),
            ("0.1.2.3:6881", None),
            ("224.0.0.1:6881", None),
            ("239.255.255.255:6881", None),
            ("255.255.255.255:6881", None),
            ("[2001:db8::1]:6881", Some("[2001:db8::1]:6881")),
            ("[::1]:6881", Some("[::1]:6881")),
            ("[::]:6881", None),
            ("[ff02::1]:6881", None),
            ("[2001:db8::1]:0", None),
            ("[::ffff:192.0.2.9]:6881", Some("192.0.2.9:6881")),
            ("[::ffff:0.0.0.0]:6881", None),
            ("[::ffff:255.255.255.255]:6881", None),
        ];
        for (peer, kept) in cases {
            let kept: Vec<SocketAddr> = kept.iter().map(|peer| peer.parse().unwrap()).collect();
            assert_eq!(usable_peers([peer.parse().unwrap()]), kept, "{peer}");
        }
    }

    #[test]
    fn each_peer_counts_once_and_a_huge_list_is_cut() {
        let twice: Vec<SocketAddr> = ["192.0.2.1:1", "[::ffff:192.0.2.1]:1", "192.0.2.1:2"]
            .map(|peer| peer.parse().unwrap())
            .into();
        let kept: [SocketAddr; 2] = ["192.0.2.1:1", "192.0.2.1:2"].map(|p| p.parse().unwrap());
        assert_eq!(usable_peers(twice), kept);

        let many =
            (0..1_000_000_u32).map(|n| SocketAddr::from(((n | 1 << 24).to_be_bytes(), 6881)));
        assert_eq!(usable_peers(many).len(), PEERS_PER_REPLY_MAX);
    }

    #[test]
    fn compact_lists_may_end_in_the_middle_of_a_peer() {
        let peers: Vec<_> = compact_peers(b"\xc0\0\x02\x01\x1a\xe1\xc0\0\x02").collect();
        assert_eq!(peers, ["192.0.2.1:6881".parse().unwrap()]);
        let mut v6 = vec![0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1a, 0xe1];
        v6.extend([0; 17]);
        let peers: Vec<_> = compact_peers_v6(&v6).collect();
        assert_eq!(peers, ["[2001:db8::1]:6881".parse().unwrap()]);
        assert_eq!(compact_peers(b"").count() + compact_peers_v6(b"").count(), 0);
    }

    #[test]
    fn intervals_are_bounded() {
        let cases = [
            (None, 1800),
            (Some(0), 30),
            (Some(-5), 30),
            (Some(i64::MIN), 30),
            (Some(29), 30),
            (Some(900), 900),
            (Some(1 << 62), 86_400),
        ];
        for (asked, seconds) in cases {
            assert_eq!(interval(asked), Duration::from_secs(seconds), "{asked:?}");
        }
        assert_eq!(min_interval(0), None);
        assert_eq!(min_interval(-1), None);
        assert_eq!(min_interval(5), Some(Duration::from_secs(5)));
        assert_eq!(min_interval(i64::MAX), Some(Duration::from_secs(86_400)));
    }

    #[test]
    fn schemes() {
        let cases = [
            ("http://a/b", Some(Scheme::Http)),
            ("HTTPS://a/b", Some(Scheme::Http)),
            ("udp://a:1", Some(Scheme::Udp)),
            ("UDP://a:1", Some(Scheme::Udp)),
            ("wss://a/b", None),
            ("file:///etc/passwd", None),
            ("http://", None),
            ("http:a", None),
            ("", None),
        ];
        for (url, scheme) in cases {
            assert_eq!(Scheme::of(url), scheme, "{url}");
        }
    }
}
