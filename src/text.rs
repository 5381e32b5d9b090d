//! Owns what may be shown: text from a torrent, tracker or peer, made safe for a terminal and a
//! log. Whoever wrote it could otherwise move the cursor, fake a line of ours or fill the screen.

use std::ascii;
use std::fmt::{self, Display};

use crate::limits::FOREIGN_TEXT_MAX_CHARS;

/// Somebody else's text. Shown, everything that is not plain text is escaped (`\n`, `\u{1b}`,
/// `\xff`), and after [`FOREIGN_TEXT_MAX_CHARS`] shown characters it ends in `…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Foreign<'a>(&'a [u8]);

impl<'a> Foreign<'a> {
    /// Any bytes; they need not be UTF-8.
    pub fn new(text: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self(text.as_ref())
    }
}

impl Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = FOREIGN_TEXT_MAX_CHARS;
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                if is_plain(char) {
                    room = show(f, room, 1, &char)?;
                } else {
                    let escape = char.escape_default();
                    room = show(f, room, escape.len(), &escape)?;
                }
                if room == 0 {
                    return Ok(());
                }
            }
            for byte in chunk.invalid() {
                let escape = ascii::escape_default(*byte);
                room = show(f, room, escape.len(), &escape)?;
                if room == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Writes `text` of `length` characters and returns how many more may follow; `…` in its place,
/// and 0, if there is no room for it and the `…` that may have to follow.
fn show(
    f: &mut fmt::Formatter<'_>,
    room: usize,
    length: usize,
    text: &dyn Display,
) -> Result<usize, fmt::Error> {
    if length >= room {
        f.write_str("…")?;
        return Ok(0);
    }
    write!(f, "{text}")?;
    Ok(room - length)
}

/// Whether a character shows as itself and changes nothing around it: no control character (C0,
/// DEL, C1), no line separator, none that turns the direction of writing, none without width.
pub fn is_plain(char: char) -> bool {
    let invisible = matches!(char,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
        | '\u{200b}'..='\u{200f}' // zero width, left-to-right mark, right-to-left mark
        | '\u{2028}'..='\u{202e}' // line and paragraph separator, embeddings, overrides
        | '\u{2060}'..='\u{206f}' // word joiner, invisible operators, isolates
        | '\u{fff9}'..='\u{fffb}' // interlinear annotation
        | '\u{e0000}'..='\u{e007f}' // tags
    );
    !char.is_control() && !invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_text_is_escaped() {
        let cases: [(&[u8], &str); 12] = [
            (b"", ""),
            (b"plain text.iso", "plain text.iso"),
            ("Größe 日本語 🦀".as_bytes(), "Größe 日本語 🦀"),
            (b"\x1b[2J\x1b]0;x\x07", r"\u{1b}[2J\u{1b}]0;x\u{7}"),
            (b"a\r\nb\tc\0", r"a\r\nb\tc\u{0}"),
            (b"\x7f", r"\u{7f}"),
            ("\u{9b}31m".as_bytes(), r"\u{9b}31m"),
            (b"caf\xe9", r"caf\xe9"),
            (b"\xf0\x9f", r"\xf0\x9f"),
            ("\u{202e}gpj.exe".as_bytes(), r"\u{202e}gpj.exe"),
            ("a\u{200b}b\u{feff}".as_bytes(), r"a\u{200b}b\u{feff}"),
            ("\u{2028}\u{2066}\u{e0041}".as_bytes(), r"\u{2028}\u{2066}\u{e0041}"),
        ];
        for (text, shown) in cases {
            assert_eq!(Foreign::new(text).to_string(), shown);
        }
        assert_eq!(Foreign::new("a string").to_string(), "a string");
    }

    #[test]
    fn whatever_it_is_it_shows_as_a_short_line() {
        let all: Vec<u8> = (0..=255).collect();
        let long = "x".repeat(10 << 20);
        let escapes = "\u{202e}".repeat(1000);
        for text in [all.as_slice(), long.as_bytes(), escapes.as_bytes(), &[0xff; 1000]] {
            let shown = Foreign::new(text).to_string();
            assert!(shown.chars().all(is_plain), "{shown}");
            assert!(shown.chars().count() <= FOREIGN_TEXT_MAX_CHARS);
            assert!(shown.ends_with('…'));
        }
        let fits = "x".repeat(FOREIGN_TEXT_MAX_CHARS - 1);
        assert_eq!(Foreign::new(&fits).to_string(), fits);
    }
}
