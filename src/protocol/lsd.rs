//! Speaks local service discovery (BEP 14): a datagram to a multicast group that says who is there
//! for which torrent.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::limits::LOCAL_TORRENTS_MAX;
use crate::units::InfoHash;

/// The group for IPv4.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
/// The group for IPv6, of the site.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);
/// The port of both.
pub const PORT: u16 = 6771;

/// Somebody is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announce {
    /// Where it listens.
    pub port: u16,
    /// For these torrents.
    pub info_hashes: Vec<InfoHash>,
    /// By which whoever said it knows it again.
    pub cookie: Option<String>,
}

impl Announce {
    /// Reads a datagram. `None` if it is no announce, or names no port.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(datagram).ok()?;
        let mut lines = text.split("\r\n");
        if lines.next()? != "BT-SEARCH * HTTP/1.1" {
            return None;
        }
        let mut announce = Self { port: 0, info_hashes: Vec::new(), cookie: None };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "port" => announce.port = value.parse().ok()?,
                "cookie" => announce.cookie = Some(value.to_owned()),
                "infohash" if announce.info_hashes.len() < LOCAL_TORRENTS_MAX => {
                    announce.info_hashes.extend(InfoHash::from_hex(value));
                }
                _ => {}
            }
        }
        (announce.port != 0).then_some(announce)
    }

    /// The datagram, for the group at `host`, as it stands in a URL.
    pub fn encode(&self, host: &str) -> Vec<u8> {
        let hashes: String =
            self.info_hashes.iter().map(|hash| format!("Infohash: {hash}\r\n")).collect();
        let cookie = self.cookie.as_deref().map(|cookie| format!("cookie: {cookie}\r\n"));
        let (port, cookie) = (self.port, cookie.unwrap_or_default());
        format!("BT-SEARCH * HTTP/1.1\r\nHost: {host}:{PORT}\r\nPort: {port}\r\n{hashes}{cookie}\r\n\r\n")
            .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let announce = Announce {
            port: 6881,
            info_hashes: vec![InfoHash([0xab; 20]), InfoHash([1; 20])],
            cookie: Some("x1".to_owned()),
        };
        let bytes = announce.encode(&GROUP_V4.to_string());
        assert_eq!(Announce::decode(&bytes), Some(announce));
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn others_write_it_otherwise() {
        let hash = "ABABABABABABABABABABABABABABABABABABABAB";
        let of =
            |rest: &str| Announce::decode(format!("BT-SEARCH * HTTP/1.1\r\n{rest}").as_bytes());
        let found = of(&format!("PORT:1\r\ninfohash:{hash}\r\nX: y\r\nInfohash: 12\r\n")).unwrap();
        assert_eq!((found.port, found.info_hashes), (1, vec![InfoHash([0xab; 20])]));
        assert_eq!(of("Port: 1").unwrap().info_hashes, []);
        for nonsense in ["", "Port: 0", "Port: 65536", "Port: x\r\nPort: 1", "\r\n\r\n"] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
        assert_eq!(Announce::decode(b"M-SEARCH * HTTP/1.1\r\nPort: 1\r\n"), None);
        assert_eq!(Announce::decode(b"\xff\xfe"), None);
        let many = format!("Port: 1\r\n{}", format!("Infohash: {hash}\r\n").repeat(1_000));
        assert_eq!(of(&many).unwrap().info_hashes.len(), LOCAL_TORRENTS_MAX);
    }
}
