//! Speaks to web seeds (BEP 19): what can be the URL of a mirror, where on it a file lies, and what
//! the head of an answer to a request for a part of it says (RFC 9110, "range requests").

use std::fmt;
use std::time::Duration;

use super::url::{escape_what_no_url_holds, has_host, percent_encode};
use crate::limits::{RETRY_AFTER_MAX_S, URL_LENGTH_MAX_BYTES};

/// The URL of a mirror as it can be asked, or `None` for what is none: of another scheme, without a
/// host, too long, with control characters; `https:` where the build has no TLS. Blanks at its ends
/// go, what a URL can't hold is escaped, `#` among it: nothing but a name can be meant by it.
pub fn mirror_url(text: &str) -> Option<String> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let is_spoken = scheme == "http" || scheme == "https" && cfg!(feature = "tls");
    if !is_spoken || text.len() > URL_LENGTH_MAX_BYTES || text.chars().any(char::is_control) {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let mut url = format!("{scheme}://");
    escape_what_no_url_holds(authority, &mut url);
    if !path.starts_with('/') {
        url.push('/');
    }
    escape_what_no_url_holds(&path.replace('#', "%23"), &mut url);
    (has_host(&url) && url.len() <= URL_LENGTH_MAX_BYTES).then_some(url)
}

/// The components of a path as the torrent gives them, each escaped, with `/` between them. Empty
/// ones and `.` lead nowhere and are left out.
pub fn escaped_path<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut path = String::new();
    for component in components {
        if matches!(component, b"" | b".") {
            continue;
        }
        if !path.is_empty() {
            path.push('/');
        }
        percent_encode(component, &mut path);
    }
    path
}

/// Where a file lies on a mirror. `path` is its [`escaped_path`], from the torrent's name on. The
/// URL of a mirror of one file is the file's own, unless it ends with `/`.
pub fn file_url(mirror: &str, many_files: bool, path: &str) -> String {
    match (mirror.ends_with('/'), many_files) {
        (true, _) => format!("{mirror}{path}"),
        (false, true) => format!("{mirror}/{path}"),
        (false, false) => mirror.to_owned(),
    }
}

/// A part of a file that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Bytes of the file before it.
    pub begin: u64,
    /// Bytes, at least 1.
    pub length: u64,
    /// Bytes of the whole file.
    pub whole: u64,
}

impl Part {
    /// The value of the `Range` header that asks for it.
    pub fn header(self) -> String {
        format!("bytes={}-{}", self.begin, self.last())
    }

    fn last(self) -> u64 {
        self.begin + self.length.saturating_sub(1)
    }
}

/// What matters of an answer's head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'a> {
    /// The status.
    pub status: u16,
    /// `Content-Range`.
    pub content_range: Option<&'a str>,
    /// `Content-Length`: bytes.
    pub content_length: Option<u64>,
    /// `Retry-After`.
    pub retry_after: Option<&'a str>,
}

impl Head<'_> {
    /// Whether the answer's body begins with the part that was asked for.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn promises(&self, part: Part) -> Result<(), MirrorError> {
        match self.status {
            206 => {
                let range = self.content_range.and_then(parse_content_range);
                let (begin, last, whole) = range.ok_or(MirrorError::OtherPart)?;
                if let Some(found) = whole.filter(|whole| *whole != part.whole) {
                    return Err(MirrorError::OtherFile { found, expected: part.whole });
                }
                let right = (begin, last) == (part.begin, part.last());
                let length_fits = self.content_length.is_none_or(|length| length == part.length);
                if right && length_fits { Ok(()) } else { Err(MirrorError::OtherPart) }
            }
            200 => match self.content_length {
                Some(found) if found != part.whole => {
                    Err(MirrorError::OtherFile { found, expected: part.whole })
                }
                // The whole file: good for whoever wants its beginning.
                _ if part.begin == 0 => Ok(()),
                _ => Err(MirrorError::NoParts),
            },
            429 | 503 => Err(MirrorError::Busy(self.retry_after.and_then(parse_retry_after))),
            408 | 425 | 500.. => Err(MirrorError::Failed(format!("HTTP status {}", self.status))),
            status => Err(MirrorError::Status(status)),
        }
    }
}

/// First and last byte, and how many the file has if the server says so.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (unit, range) = value.trim().split_once(' ')?;
    let (range, whole) = range.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let whole = if whole == "*" { None } else { Some(number(whole)?) };
    unit.eq_ignore_ascii_case("bytes").then_some((number(first)?, number(last)?, whole))
}

/// Seconds, not too many. A date says nothing to who does not trust clocks.
fn parse_retry_after(value: &str) -> Option<Duration> {
    number(value.trim()).map(|seconds| Duration::from_secs(seconds.min(RETRY_AFTER_MAX_S)))
}

/// Digits and nothing else; one that is too large for 64 bits is as good as the largest.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Why a mirror brought less than it was asked for. Shown, it is a short phrase and safe for a
/// terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MirrorError {
    /// An HTTP status that says no.
    Status(u16),
    /// It sends whole files only.
    NoParts,
    /// Its answer is of other bytes than it was asked for.
    OtherPart,
    /// Its file has another length: it is another one.
    OtherFile {
        /// Bytes that the mirror's file has.
        found: u64,
        /// Bytes that the torrent's file has.
        expected: u64,
    },
    /// It can't be asked: what its URL, or a redirect, names is of no use. Safe to show.
    Unusable(String),
    /// It has too much to do, and may have said for how long.
    Busy(Option<Duration>),
    /// It was not reached, said nothing or broke off. Safe to show.
    Failed(String),
    /// Its answer ended too early.
    Short,
    /// It brings so little that another one is tried.
    Slow,
}

impl MirrorError {
    /// Whether it will be no better another time.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Status(_)
            | Self::NoParts
            | Self::OtherPart
            | Self::OtherFile { .. }
            | Self::Unusable(_) => true,
            Self::Busy(_) | Self::Failed(_) | Self::Short | Self::Slow => false,
        }
    }
}

impl fmt::Display for MirrorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::NoParts => f.write_str("it sends whole files only"),
            Self::OtherPart => f.write_str("it sends other bytes than it is asked for"),
            Self::OtherFile { found, expected } => {
                write!(f, "its file has {found} bytes, and not {expected}")
            }
            Self::Unusable(reason) | Self::Failed(reason) => f.write_str(reason),
            Self::Busy(None) => f.write_str("too busy"),
            Self::Busy(Some(pause)) => write!(f, "too busy for {} s", pause.as_secs()),
            Self::Short => f.write_str("the answer ended too early"),
            Self::Slow => f.write_str("slow"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_a_mirror() {
        let long = format!("http://a/{}", "x".repeat(URL_LENGTH_MAX_BYTES));
        let grows = format!("http://a/{}", " ".repeat(URL_LENGTH_MAX_BYTES / 3)) + "/";
        let tls = |url| cfg!(feature = "tls").then_some(url);
        let cases = [
            ("http://a.example/dir/", Some("http://a.example/dir/")),
            (" HTTP://a.example/x.iso\n", Some("http://a.example/x.iso")),
            ("https://a.example", tls("https://a.example/")),
            ("http://a.example:8080?f=", Some("http://a.example:8080/?f=")),
            ("http://u:p@[::1]:80/a", Some("http://u:p@[::1]:80/a")),
            ("http://a/My Item/100%25/", Some("http://a/My%20Item/100%25/")),
            ("http://a/Gr\u{f6}\u{df}e \"1\"/", Some("http://a/Gr%C3%B6%C3%9Fe%20%221%22/")),
            ("http://a/no#1/x", Some("http://a/no%231/x")),
            ("http://a#b", Some("http://a/%23b")),
            ("ftp://a.example/", None),
            ("http:/a.example/", None),
            ("http://", None),
            ("http:///x", None),
            ("http://:80/x", None),
            ("http://a:b/x", None),
            ("http://a:99999/x", None),
            ("http://a/x\0y", None),
            ("http://a/x\r\nHost: b", None),
            ("", None),
            ("a.example/x", None),
            (&long, None),
            (&grows, None),
        ];
        for (text, url) in cases {
            assert_eq!(mirror_url(text).as_deref(), url, "{text}");
        }
    }

    #[test]
    fn a_path_is_escaped_component_by_component() {
        let cases: [(&[&[u8]], &str); 8] = [
            (&[b"a.iso"], "a.iso"),
            (&[b"My Item", b"b c.txt"], "My%20Item/b%20c.txt"),
            (&[b"100%", b"what?", b"#1"], "100%25/what%3F/%231"),
            (&["Gr\u{f6}\u{df}e".as_bytes(), "\u{65e5}".as_bytes()], "Gr%C3%B6%C3%9Fe/%E6%97%A5"),
            (&[b"a/b", b"c\\d"], "a%2Fb/c%5Cd"),
            (&[b"\xff\x00"], "%FF%00"),
            (&[b"", b"x", b".", b"..."], "x/..."),
            (&[b"-._~", b"+&=;@:!$'()*,"], "-._~/%2B%26%3D%3B%40%3A%21%24%27%28%29%2A%2C"),
        ];
        for (components, path) in cases {
            assert_eq!(escaped_path(components.iter().copied()), path);
        }
    }

    #[test]
    fn a_file_lies_where_the_mirror_and_its_path_say() {
        let cases = [
            ("http://a/x.iso", false, "n", "http://a/x.iso"),
            ("http://a/dir/", false, "n", "http://a/dir/n"),
            ("http://a/dir/", true, "n/p/q", "http://a/dir/n/p/q"),
            ("http://a/dir", true, "n/p", "http://a/dir/n/p"),
        ];
        for (mirror, many_files, path, url) in cases {
            assert_eq!(file_url(mirror, many_files, path), url);
        }
    }

    #[test]
    fn a_part_is_asked_for_with_its_last_byte() {
        assert_eq!(Part { begin: 0, length: 1, whole: 9 }.header(), "bytes=0-0");
        assert_eq!(Part { begin: 100, length: 50, whole: 900 }.header(), "bytes=100-149");
    }

    const PART: Part = Part { begin: 100, length: 50, whole: 1000 };

    fn partial(content_range: &str) -> Head<'_> {
        Head { status: 206, content_range: Some(content_range), ..Head::default() }
    }

    #[test]
    fn only_the_part_that_was_asked_for_will_do() {
        let good = ["bytes 100-149/1000", "Bytes 100-149/*", " bytes  100-149/1000 "];
        for range in good {
            assert_eq!(partial(range).promises(PART), Ok(()), "{range}");
            let head = Head { content_length: Some(50), ..partial(range) };
            assert_eq!(head.promises(PART), Ok(()), "{range}");
            let head = Head { content_length: Some(49), ..partial(range) };
            assert_eq!(head.promises(PART), Err(MirrorError::OtherPart), "{range}");
        }
        let bad = [
            "bytes 100-148/1000",
            "bytes 99-149/1000",
            "bytes 0-999/1000",
            "bytes 149-100/1000",
            "bytes */1000",
            "bytes 100-149",
            "bytes 100-149/x",
            "bytes 100-/1000",
            "bytes -149/1000",
            "bytes 100-+149/1000",
            "blocks 100-149/1000",
            "100-149/1000",
            "",
        ];
        for range in bad {
            assert_eq!(partial(range).promises(PART), Err(MirrorError::OtherPart), "{range}");
        }
        let none = Head { status: 206, ..Head::default() };
        assert_eq!(none.promises(PART), Err(MirrorError::OtherPart));
        for (whole, found) in [("999", 999), ("99999999999999999999999", u64::MAX)] {
            let wrong = Err(MirrorError::OtherFile { found, expected: 1000 });
            assert_eq!(partial(&format!("bytes 100-149/{whole}")).promises(PART), wrong);
        }
    }

    #[test]
    fn a_whole_file_is_good_for_its_beginning() {
        let first = Part { begin: 0, ..PART };
        for (content_length, part, expected) in [
            (Some(1000), first, Ok(())),
            (None, first, Ok(())),
            (Some(1000), PART, Err(MirrorError::NoParts)),
            (None, PART, Err(MirrorError::NoParts)),
            (Some(50), first, Err(MirrorError::OtherFile { found: 50, expected: 1000 })),
            (Some(999), PART, Err(MirrorError::OtherFile { found: 999, expected: 1000 })),
        ] {
            let head = Head { status: 200, content_length, ..Head::default() };
            assert_eq!(head.promises(part), expected, "{content_length:?} {part:?}");
        }
    }

    #[test]
    fn statuses_say_whether_to_come_back() {
        let fails = |status, retry_after| {
            let head = Head { status, retry_after, ..Head::default() };
            head.promises(PART).unwrap_err()
        };
        for status in [201, 204, 301, 304, 400, 401, 403, 404, 410, 416, 451] {
            assert!(fails(status, Some("3")).is_lasting(), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599, 999] {
            assert!(!fails(status, None).is_lasting(), "{status}");
        }
        let cases = [
            (Some("7"), Some(7)),
            (Some(" 0 "), Some(0)),
            (Some("99999999999999999999"), Some(RETRY_AFTER_MAX_S)),
            (Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
            (Some("-1"), None),
            (Some("1.5"), None),
            (Some(""), None),
            (None, None),
        ];
        for (value, seconds) in cases {
            let pause = seconds.map(Duration::from_secs);
            assert_eq!(fails(503, value), MirrorError::Busy(pause), "{value:?}");
            assert_eq!(fails(429, value), MirrorError::Busy(pause), "{value:?}");
        }
    }
}
