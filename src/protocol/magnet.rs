//! Speaks magnet links (BEP 9, "magnet URI format"; BEP 53 "so"): which torrent it is, and who may
//! know of it. What can't be used is passed over; only the info-hash must be there.

use std::ops::RangeInclusive;

use crate::limits::{MAGNET_PEERS_MAX, MAGNET_WEB_SEEDS_MAX, SELECTIONS_MAX, TRACKERS_MAX};
use crate::protocol::url::{is_usable, percent_encode};
use crate::units::InfoHash;

const SCHEME: &str = "magnet:?";
const V1: &str = "urn:btih:";
const V2: &str = "urn:btmh:";

/// What a magnet link says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Magnet {
    /// The torrent (`xt`).
    pub info_hash: InfoHash,
    /// What it may be called (`dn`), to be shown until it is known. Not safe to be shown raw.
    pub name: Option<String>,
    /// Trackers (`tr`), each a tier of its own.
    pub tiers: Vec<Vec<String>>,
    /// Peers (`x.pe`): `host:port`.
    pub peers: Vec<String>,
    /// Web seeds (`ws`).
    pub web_seeds: Vec<String>,
    /// Files that are wanted (`so`), counted from 0. Empty: all of them.
    pub selected: Vec<RangeInclusive<usize>>,
}

impl Magnet {
    /// Whether this is meant to be a magnet link, rather than a file's name.
    pub fn is_meant(text: &str) -> bool {
        text.get(..SCHEME.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(SCHEME))
    }

    /// Reads a link.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(link: &str) -> Result<Self, String> {
        let query = link.get(SCHEME.len()..).filter(|_| Self::is_meant(link));
        let query = query.ok_or("it does not begin with magnet:?")?;
        // Links are copied from the source of web pages.
        let fields = query.split('&').map(|field| field.strip_prefix("amp;").unwrap_or(field));
        let mut hash = None;
        let mut is_v2 = false;
        let mut magnet = Self {
            info_hash: InfoHash([0; 20]),
            name: None,
            tiers: Vec::new(),
            peers: Vec::new(),
            web_seeds: Vec::new(),
            selected: Vec::new(),
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            // Several of a kind may be numbered: `tr.1`, `tr.2`.
            let numbered = key.rsplit_once('.').filter(|(_, number)| is_number(number));
            let key = numbered.map_or(key, |(key, _)| key).to_ascii_lowercase();
            match key.as_str() {
                "xt" => match read_topic(&decode(value, false)) {
                    Topic::V1(found) => hash = hash.or(Some(found?)),
                    Topic::V2 => is_v2 = true,
                    Topic::Other => {}
                },
                "dn" => magnet.name = magnet.name.or(Some(decode(value, true))),
                "tr" => {
                    let url = usable_url(value);
                    let known = |url: &String| magnet.tiers.iter().flatten().any(|old| old == url);
                    let new = url.filter(|url| magnet.tiers.len() < TRACKERS_MAX && !known(url));
                    magnet.tiers.extend(new.map(|url| vec![url]));
                }
                "ws" if magnet.web_seeds.len() < MAGNET_WEB_SEEDS_MAX => {
                    magnet.web_seeds.extend(usable_url(value));
                }
                "x.pe" if magnet.peers.len() < MAGNET_PEERS_MAX => {
                    magnet.peers.extend(usable_url(value));
                }
                "so" => magnet.selected = read_selection(&decode(value, false)),
                _ => {}
            }
        }
        magnet.info_hash = match (hash, is_v2) {
            (Some(hash), _) => hash,
            (None, true) => {
                return Err("it names a version 2 torrent (urn:btmh, BEP 52), which can't be \
                    downloaded; look for a version 1 or hybrid one"
                    .into());
            }
            (None, false) => {
                return Err("it names no torrent: xt=urn:btih:… is missing; \
                    put the whole link in quotes"
                    .into());
            }
        };
        Ok(magnet)
    }

    /// The link of a torrent, as everybody reads it.
    pub fn link(
        info_hash: InfoHash,
        name: &str,
        trackers: &[String],
        web_seeds: &[String],
    ) -> String {
        let mut link = format!("{SCHEME}xt={V1}{info_hash}");
        let names = [("dn", name)];
        let trackers = trackers.iter().map(|url| ("tr", url.as_str()));
        let web_seeds = web_seeds.iter().map(|url| ("ws", url.as_str()));
        for (key, value) in names.into_iter().chain(trackers).chain(web_seeds) {
            link.push_str(&format!("&{key}="));
            percent_encode(value.as_bytes(), &mut link);
        }
        link
    }
}

enum Topic {
    V1(Result<InfoHash, String>),
    V2,
    Other,
}

fn read_topic(topic: &str) -> Topic {
    let begins = |with: &str| {
        topic.get(..with.len()).filter(|begin| begin.eq_ignore_ascii_case(with))?;
        topic.get(with.len()..)
    };
    if begins(V2).is_some() {
        return Topic::V2;
    }
    let Some(digits) = begins(V1) else { return Topic::Other };
    let hash = match digits.len() {
        32 => from_base_32(digits),
        _ => InfoHash::from_hex(digits),
    };
    let wrong = || "its info-hash is neither 40 digits of base 16 nor 32 of base 32".to_owned();
    Topic::V1(hash.ok_or_else(wrong))
}

/// 160 bits in 32 digits of base 32 (RFC 4648).
fn from_base_32(digits: &str) -> Option<InfoHash> {
    let mut bytes = Vec::with_capacity(20);
    let (mut gathered, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => letter - b'a',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        gathered = gathered << 5 | u32::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(gathered >> count & 0xff).ok()?);
        }
    }
    bytes.try_into().ok().map(InfoHash)
}

/// Files by number and range: `0,2,4-8`.
fn read_selection(text: &str) -> Vec<RangeInclusive<usize>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).take(SELECTIONS_MAX).collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn usable_url(value: &str) -> Option<String> {
    Some(decode(value, false)).filter(|url| is_usable(url))
}

/// Undoes the escapes of a URL. In a name, `+` is a space.
fn decode(text: &str, is_name: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind.first_chunk::<2>().filter(|_| *first == b'%');
        let digits = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match byte {
            Some(_) => behind.get(2..).unwrap_or_default(),
            None => behind,
        };
        bytes.push(match byte {
            None if is_name && *first == b'+' => b' ',
            byte => byte.unwrap_or(*first),
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::URL_LENGTH_MAX_BYTES;

    const HEX: &str = "0123456789abcdef0123456789ABCDEF01234567";
    const HASH: InfoHash = InfoHash([
        0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd,
        0xef, 0x01, 0x23, 0x45, 0x67,
    ]);

    fn of(fields: &str) -> Magnet {
        Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}{fields}")).unwrap()
    }

    #[test]
    fn the_torrent_is_named_in_either_base() {
        for link in [
            format!("magnet:?xt=urn:btih:{HEX}"),
            format!("MAGNET:?xt=urn:BTIH:{}", HEX.to_uppercase()),
            "magnet:?xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH".to_owned(),
            "magnet:?xt=urn:btih:aerukz4jvpg66ajdivtytk6n54asgrlh".to_owned(),
            format!("magnet:?dn=x&amp;xt=urn:btih:{HEX}&amp;tr=http://a/"),
            format!("magnet:?xt.1=urn:sha1:AAAA&xt.2=urn%3Abtih%3A{HEX}"),
            format!("magnet:?xt=urn:btmh:1220{}&xt=urn:btih:{HEX}", "00".repeat(32)),
        ] {
            assert!(Magnet::is_meant(&link));
            assert_eq!(Magnet::parse(&link).unwrap().info_hash, HASH, "{link}");
        }
    }

    #[test]
    fn links_without_a_torrent_are_refused() {
        for (link, why) in [
            ("magnet:?", "names no torrent"),
            ("magnet:?dn=a&&=&=b&xt", "names no torrent"),
            ("magnet:?xt=urn:sha1:AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH", "names no torrent"),
            ("magnet:?xt=urn:btih:", "neither 40"),
            ("magnet:?xt=urn:btih:0123456789abcdef0123456789ABCDEF0123456", "neither 40"),
            ("magnet:?xt=urn:btih:0123456789abcdef0123456789ABCDEF0123456g", "neither 40"),
            ("magnet:?xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRL1", "neither 40"),
            ("magnet:?xt=urn:btih:ééééééééééééééééé", "neither 40"),
            ("magnet:?xt=urn:btmh:1220abcd", "version 2 torrent"),
            ("magnet:xt=urn:btih:0123456789abcdef0123456789ABCDEF01234567", "begin with magnet:?"),
            ("http://magnet:?", "begin with magnet:?"),
            ("é", "begin with magnet:?"),
        ] {
            let wrong = Magnet::parse(link).unwrap_err();
            assert!(wrong.contains(why), "{link}: {wrong}");
        }
        assert!(!Magnet::is_meant("magnet.torrent") && !Magnet::is_meant("magnetö?"));
    }

    #[test]
    fn everything_else_in_it_is_told() {
        let magnet = of("&dn=a+b%20%C3%BC&dn=other&tr=http%3A%2F%2Fa%2Fx%3Fy%3D1&tr.1=udp://b:1\
            &tr=udp://b:1&tr=&tr=a%0Ab&ws=http://c/d+e&x.pe=1.2.3.4:5&x.pe=%5B::1%5D:6\
            &so=0,2,4-8,x,9-&x.y=z");
        assert_eq!(magnet.name.as_deref(), Some("a b ü"));
        let tiers = ["http://a/x?y=1", "udp://b:1"].map(|url| vec![url.to_owned()]);
        assert_eq!(magnet.tiers, tiers);
        assert_eq!(magnet.web_seeds, ["http://c/d+e"]);
        assert_eq!(magnet.peers, ["1.2.3.4:5", "[::1]:6"]);
        assert_eq!(magnet.selected, [0..=0, 2..=2, 4..=8]);
        let bare = of("");
        assert!(bare.name.is_none() && bare.tiers.is_empty() && bare.selected.is_empty());
    }

    #[test]
    fn a_link_that_is_made_says_what_it_was_made_of() {
        let trackers = ["http://a/x?y=1&z=%20+", "udp://b:1"].map(str::to_owned);
        let web_seeds = ["http://c/d e/\u{fc}".replace(' ', "%20")];
        let link = Magnet::link(HASH, "a+b &\u{fc}%=", &trackers, &web_seeds);
        assert!(link.starts_with("magnet:?xt=urn:btih:0123456789abcdef"), "{link}");
        assert!(link.bytes().all(|byte| byte.is_ascii_graphic()), "{link}");
        let magnet = Magnet::parse(&link).unwrap();
        assert_eq!((magnet.info_hash, magnet.name.as_deref()), (HASH, Some("a+b &\u{fc}%=")));
        assert_eq!(magnet.tiers, trackers.map(|url| vec![url]));
        assert_eq!(magnet.web_seeds, web_seeds);
        let bare = Magnet::link(HASH, "x", &[], &[]);
        assert_eq!(bare, format!("magnet:?xt=urn:btih:{}&dn=x", HEX.to_lowercase()));
    }

    #[test]
    fn odd_escapes_stand_as_they_are() {
        for (text, decoded) in [
            ("%", "%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("%+1", "%+1"),
            ("a%41", "aA"),
            ("%é1", "%é1"),
        ] {
            assert_eq!(decode(text, false), decoded);
        }
        assert_eq!(decode("%ff+", true), "\u{fffd} ");
    }

    #[test]
    fn there_is_no_end_of_peers_and_trackers_but_here() {
        let many: String =
            (0..1000).map(|i| format!("&tr=http://{i}/&x.pe=a:{i}&ws=http://{i}/")).collect();
        let magnet = of(&many);
        let counts = (magnet.tiers.len(), magnet.peers.len(), magnet.web_seeds.len());
        assert_eq!(counts, (TRACKERS_MAX, MAGNET_PEERS_MAX, MAGNET_WEB_SEEDS_MAX));
        assert!(of(&format!("&tr=http://{}", "a".repeat(URL_LENGTH_MAX_BYTES))).tiers.is_empty());
        let ranges: String = (0..100_000).map(|i| format!("{i},")).collect();
        assert_eq!(of(&format!("&so={ranges}")).selected.len(), SELECTIONS_MAX);
    }
}
