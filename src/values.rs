//! What the values of options can be. A reader says in its error what it takes.

use std::time::Duration;

use crate::ceiling::in_units;
use crate::completions::Shell;
use crate::limits::{MEMORY_MIN_BYTES, PEERS_MAX, RATE_MIN_BYTES_PER_S, SEED_AMOUNT_MAX};
use crate::policy::encryption::Encryption;
use crate::progress::Style;
use crate::protocol::creation::check_piece_length;
use crate::protocol::url::{has_host, is_usable};
use crate::protocol::web_seed::mirror_url;

/// On or off.
///
/// # Errors
/// What it takes instead.
pub fn switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("1 or 0"),
    }
}

/// How often `-v` would be typed.
///
/// # Errors
/// What it takes instead.
pub fn times(text: &str) -> Result<usize, &'static str> {
    match text.parse::<u8>() {
        Ok(times) => Ok(times.into()),
        Err(_) => switch(text).map(usize::from).map_err(|_| "a number, 0 to 3"),
    }
}

/// Peers at once.
///
/// # Errors
/// What it takes instead.
pub fn peers_max(text: &str) -> Result<usize, String> {
    let peers = text.parse().ok().filter(|peers| (1..=PEERS_MAX).contains(peers));
    peers.ok_or_else(|| format!("1 to {PEERS_MAX}"))
}

/// A port.
///
/// # Errors
/// What it takes instead.
pub fn port(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|port| *port > 0).ok_or("1 to 65535")
}

/// Rights, in octal digits.
///
/// # Errors
/// What it takes instead.
pub fn umask(text: &str) -> Result<u32, &'static str> {
    let octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| octal && *mask <= 0o777);
    mask.ok_or("0 to 777, octal")
}

/// A time; 0 is none.
///
/// # Errors
/// What it takes instead.
pub fn seconds(text: &str) -> Result<Option<Duration>, &'static str> {
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => Err("a number of seconds"),
    }
}

/// Minutes, or times the size.
///
/// # Errors
/// What it takes instead.
pub fn amount(text: &str) -> Result<f64, String> {
    let amount = text.parse().ok().filter(|amount| (0.0..=SEED_AMOUNT_MAX).contains(amount));
    amount.ok_or_else(|| format!("a number from 0 to {SEED_AMOUNT_MAX}"))
}

/// Bytes of memory, typed like a size.
///
/// # Errors
/// What it takes instead.
pub fn memory(text: &str) -> Result<u64, String> {
    let enough = size(text).ok().filter(|bytes| *bytes >= MEMORY_MIN_BYTES);
    enough.ok_or_else(|| format!("{} or more", in_units(MEMORY_MIN_BYTES)))
}

/// Bytes, as they are typed: a number, with K, M or G behind it for powers of 1024.
///
/// # Errors
/// What it takes instead.
pub fn size(text: &str) -> Result<u64, &'static str> {
    let (digits, factor) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (text.get(..text.len() - 1), 1 << 10),
        Some(b'M') => (text.get(..text.len() - 1), 1 << 20),
        Some(b'G') => (text.get(..text.len() - 1), 1 << 30),
        _ => (Some(text), 1),
    };
    let number = digits.and_then(|digits| digits.parse::<u64>().ok());
    let bytes = number.and_then(|number| number.checked_mul(factor));
    bytes.ok_or("a whole number of bytes, or one with K, M or G behind it")
}

/// A limit in bytes a second, typed like a size; 0 is none.
///
/// # Errors
/// What it takes instead.
pub fn rate(text: &str) -> Result<Option<u64>, &'static str> {
    match size(text) {
        Ok(0) => Ok(None),
        Ok(rate) if rate >= RATE_MIN_BYTES_PER_S => Ok(Some(rate)),
        Ok(_) => Err("1K or more, or 0 for no limit"),
        Err(_) => Err("a whole number of bytes a second, or one with K, M or G behind it"),
    }
}

/// HOST:PORT, where an IPv6 address is in brackets.
///
/// # Errors
/// What it takes instead.
pub fn place(text: &str) -> Result<String, &'static str> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    let bare_v6 = host.contains(':') && !host.starts_with('[');
    match host.is_empty() || bare_v6 || self::port(port).is_err() {
        true => Err("HOST:PORT"),
        false => Ok(text.to_owned()),
    }
}

/// Bytes of a piece.
///
/// # Errors
/// What it takes instead.
pub fn piece_length(text: &str) -> Result<u32, String> {
    size(text).map_err(ToString::to_string).and_then(check_piece_length)
}

/// A tracker's URL.
///
/// # Errors
/// What it takes instead.
pub fn tracker(text: &str) -> Result<String, &'static str> {
    let url = url_of(&["http://", "https://", "udp://"], text);
    url.ok_or("a URL that begins with http://, https:// or udp:// and names a host")
}

/// The URL of a server that has the files.
///
/// # Errors
/// What it takes instead.
pub fn web_seed(text: &str) -> Result<String, &'static str> {
    let url = url_of(&["http://", "https://"], text);
    url.ok_or("a URL that begins with http:// or https:// and names a host")
}

fn url_of(schemes: &[&str], text: &str) -> Option<String> {
    let is_spoken = schemes.iter().any(|scheme| text.starts_with(scheme));
    (is_spoken && is_usable(text) && has_host(text)).then(|| text.to_owned())
}

/// A glob: any text is one.
///
/// # Errors
/// What it takes instead.
pub fn pattern(text: &str) -> Result<String, &'static str> {
    Ok(text.to_owned())
}

/// Standard output.
///
/// # Errors
/// What it takes instead.
pub fn output(text: &str) -> Result<(), &'static str> {
    if text == "-" { Ok(()) } else { Err("only - (standard output; --dir says where files go)") }
}

/// A mirror as it can be asked.
///
/// # Errors
/// What it takes instead.
pub fn mirror(text: &str) -> Result<String, &'static str> {
    let spoken = match cfg!(feature = "tls") {
        true => "a URL that begins with http:// or https:// and names a host",
        false => "a URL that begins with http:// and names a host",
    };
    mirror_url(text).ok_or(spoken)
}

/// A shell that completes what is typed.
///
/// # Errors
/// What it takes instead.
pub fn shell(text: &str) -> Result<Shell, &'static str> {
    match text {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        _ => Err("bash, zsh or fish"),
    }
}

/// Whether what passes between peers is encrypted.
///
/// # Errors
/// What it takes instead.
pub fn encryption(text: &str) -> Result<Encryption, &'static str> {
    match text {
        "prefer" => Ok(Encryption::Prefer),
        "require" => Ok(Encryption::Require),
        "off" => Ok(Encryption::Off),
        _ => Err("prefer, require or off"),
    }
}

/// How it is shown how far it is.
///
/// # Errors
/// What it takes instead.
pub fn style(text: &str) -> Result<Style, &'static str> {
    match text {
        "auto" => Ok(Style::Auto),
        "plain" => Ok(Style::Plain),
        "json" => Ok(Style::Json),
        "none" => Ok(Style::Off),
        _ => Err("auto, plain, json or none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_a_letter() {
        let cases = [
            ("0", Some(0)),
            ("9000000", Some(9_000_000)),
            ("8192K", Some(8 << 20)),
            ("8m", Some(8 << 20)),
            ("2G", Some(2 << 30)),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.5M", None),
            ("1T", None),
            ("8 M", None),
            ("18446744073709551615K", None),
            ("8\u{e9}", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
        assert_eq!(in_units((8 << 20) + 1), "9M");
    }

    #[test]
    fn rates_are_sizes_that_are_not_too_small() {
        let cases = [
            ("0", Ok(None)),
            ("0K", Ok(None)),
            ("1K", Ok(Some(1 << 10))),
            ("1023", Err("1K or more")),
            ("10g", Ok(Some(10 << 30))),
            ("fast", Err("a whole number")),
            ("1.5M", Err("a whole number")),
        ];
        for (text, expected) in cases {
            match (rate(text), expected) {
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                (found, expected) => assert_eq!(found.ok(), expected.ok(), "{text}"),
            }
        }
    }
}
