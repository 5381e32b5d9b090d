//! Owns what trackers' and mirrors' URLs have in common: their parts, what must be escaped, and
//! what of them may be shown (RFC 3986).

use std::fmt::Write;

use crate::limits::URL_LENGTH_MAX_BYTES;
use crate::text::Foreign;

/// The authority of `url` without user name and password: `host:port` or `host`.
pub fn host_and_port(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// What of `url` may be shown and logged: no password, and nothing of the path or the query, which
/// may hold a passkey.
pub fn shown(url: &str) -> String {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    Foreign::new(&format!("{scheme}://{}", host_and_port(url))).to_string()
}

/// Whether `url` has a host, and what follows it as its port is one.
pub fn has_host(url: &str) -> bool {
    let host_and_port = host_and_port(url);
    let after_address = host_and_port.rsplit(']').next().unwrap_or_default();
    let port = after_address.rsplit_once(':').map_or("80", |(_, port)| port);
    !matches!(host_and_port.bytes().next(), None | Some(b':')) && port.parse::<u16>().is_ok()
}

/// Whether `url` can be one: not empty, not too long, no blanks and no control characters.
pub fn is_usable(url: &str) -> bool {
    let odd = |char: char| char.is_control() || char.is_whitespace();
    !url.is_empty() && url.len() <= URL_LENGTH_MAX_BYTES && !url.contains(odd)
}

/// Every byte that is not unreserved (RFC 3986, 2.3) as `%XX`.
pub fn percent_encode(bytes: &[u8], url: &mut String) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(*byte));
            }
            _ => push_escape(*byte, url),
        }
    }
}

/// Escapes blanks, control bytes, what is not ASCII and what RFC 3986 has no place for. What is
/// escaped already stays as it is.
pub fn escape_what_no_url_holds(text: &str, url: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => push_escape(byte, url),
            0x21..=0x7e => url.push(char::from(byte)),
            _ => push_escape(byte, url),
        }
    }
}

fn push_escape(byte: u8, url: &mut String) {
    let _ = write!(url, "%{byte:02X}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_and_no_escape_is_shown() {
        let cases = [
            ("https://user:secret@a.example:443/secret/announce?secret", "https://a.example:443"),
            ("udp://a.example:80?secret", "udp://a.example:80"),
            ("http://a.example#secret", "http://a.example"),
            ("http://us@er:secret@[::1]:80/", "http://[::1]:80"),
            ("http://a\x1b[2J/", "http://a\\u{1b}[2J"),
        ];
        for (url, text) in cases {
            assert_eq!(shown(url), text);
        }
    }
}
