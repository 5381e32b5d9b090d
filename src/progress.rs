//! Shows how far it is: on a terminal one line, rewritten; elsewhere a plain line now and again.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::coordinator::Progress;
use crate::limits::{PLAIN_LINE_MS, STATUS_WIDTH_MAX, STATUS_WIDTH_MIN};
use crate::units::{Bytes, Count};

const PLAIN_LINE: Duration = Duration::from_millis(PLAIN_LINE_MS as u64);
/// Back to the start of the line, and clear it.
const CLEAR: &str = "\r\x1b[K";

/// Standard error, shared by the status line and the log: whoever writes a line clears the status
/// first.
#[derive(Clone)]
pub struct Screen(Arc<Mutex<State>>);

struct State {
    terminal: bool,
    quiet: bool,
    /// The status line is on the screen.
    drawn: bool,
    last_plain: Instant,
    /// It was said that everything is there.
    seeding: bool,
}

impl Screen {
    /// Looks at what standard error is. Nothing but errors is shown if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let last_plain = Instant::now();
        Self(Arc::new(Mutex::new(State {
            terminal,
            quiet,
            drawn: false,
            last_plain,
            seeding: false,
        })))
    }

    /// Shows how far it is, if it is time to.
    pub fn show(&self, progress: &Progress, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.quiet {
            return;
        }
        let seeding = matches!(progress, Progress::Seeding { .. });
        let news = seeding && !std::mem::replace(&mut state.seeding, seeding);
        if state.terminal {
            state.drawn = true;
            say(&format!("{CLEAR}{}", status_line(progress, terminal_width())));
        } else if news || now >= state.last_plain + PLAIN_LINE {
            state.last_plain = now;
            say(&format!("{}\n", plain_line(progress)));
        }
    }

    /// Writes a line, in the place of the status line if there is one.
    pub fn line(&self, text: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let clear = if std::mem::take(&mut state.drawn) { CLEAR } else { "" };
        say(&format!("{clear}{text}\n"));
    }

    /// Takes the status line off the screen.
    pub fn clear(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.drawn) {
            say(CLEAR);
        }
    }
}

/// What the log writes goes to the screen.
impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.clear();
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A closed or full standard error stops nothing.
fn say(text: &str) {
    let _ignored = io::stderr().write_all(text.as_bytes());
}

fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.map_or(80, |size| usize::from(size.ws_col)).clamp(STATUS_WIDTH_MIN, STATUS_WIDTH_MAX)
}

/// At most `width - 1` characters, so that no terminal wraps it: the parts that matter most come
/// first, and those that do not fit are left out.
fn status_line(progress: &Progress, width: usize) -> String {
    let mut line = String::new();
    for part in parts(progress) {
        let gap = if line.is_empty() { 0 } else { 2 };
        if line.chars().count() + gap + part.chars().count() >= width {
            break;
        }
        line.push_str(&" ".repeat(gap));
        line.push_str(&part);
    }
    line
}

fn plain_line(progress: &Progress) -> String {
    parts(progress).join(", ")
}

fn parts(progress: &Progress) -> Vec<String> {
    match *progress {
        Progress::Asking { here, all, asked, known } => {
            let got = (all > 0).then(|| format!("{here} of {}", Count(all, "block")));
            let peers = format!("{} asked ({known} known)", Count(asked, "peer"));
            ["asking what the torrent is".to_owned()]
                .into_iter()
                .chain(got)
                .chain([peers])
                .collect()
        }
        Progress::Checking { looked, total } => vec![
            "checking".to_owned(),
            percent(looked, total),
            format!("{} of {}", Bytes(looked), Bytes(total)),
        ],
        Progress::Seeding { uploaded, per_second, peers, plan } => vec![
            format!("seeding {plan}"),
            format!("{} sent", Bytes(uploaded)),
            format!("{}/s", Bytes(per_second)),
            Count(peers, "peer").to_string(),
        ],
        Progress::Downloading { had, total, per_second, left, peers, known, mirrors } => {
            let of = match (peers, mirrors) {
                (0, 0) => format!("no peers ({known} known)"),
                (0, mirrors) => Count(mirrors, "mirror").to_string(),
                (peers, 0) => Count(peers, "peer").to_string(),
                _ => format!("{} and {}", Count(peers, "peer"), Count(mirrors, "mirror")),
            };
            let mut parts = vec![
                percent(had, total),
                format!("{} of {}", Bytes(had), Bytes(total)),
                format!("{}/s", Bytes(per_second)),
                of,
            ];
            parts.extend(left.map(|left| format!("{} left", span(left))));
            parts
        }
    }
}

/// Rounded down, so that 100 % is everything.
fn percent(part: u64, total: u64) -> String {
    let tenths = u128::from(part) * 1_000 / u128::from(total.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// A time as people read it: `45 s`, `12 min 5 s`, `3 h 20 min`, `4 days`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let mut text = String::new();
    let _fits = match seconds {
        0..60 => write!(text, "{seconds} s"),
        60..3_600 => write!(text, "{} min {} s", seconds / 60, seconds % 60),
        3_600..172_800 => write!(text, "{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => write!(text, "{} days", seconds / 86_400),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Progress = Progress::Downloading {
        had: 1 << 30,
        total: 2 << 30,
        per_second: 35 << 20,
        left: Some(Duration::from_secs(29)),
        peers: 12,
        known: 90,
        mirrors: 0,
    };

    #[test]
    fn the_status_line_fits_any_terminal() {
        assert_eq!(
            status_line(&HALF, 80),
            "50.0 %  1.0 GiB of 2.0 GiB  35.0 MiB/s  12 peers  29 s left"
        );
        assert_eq!(status_line(&HALF, 40), "50.0 %  1.0 GiB of 2.0 GiB  35.0 MiB/s");
        for width in 0..100 {
            assert!(status_line(&HALF, width).len() < width.max(1));
        }
    }

    #[test]
    fn a_plain_line_says_it_all() {
        assert_eq!(
            plain_line(&HALF),
            "50.0 %, 1.0 GiB of 2.0 GiB, 35.0 MiB/s, 12 peers, 29 s left"
        );
        let checking = Progress::Checking { looked: 999, total: 1000 };
        assert_eq!(plain_line(&checking), "checking, 99.9 %, 999 B of 1000 B");
    }

    #[test]
    fn who_brings_it_is_counted() {
        for (peers, mirrors, of) in [
            (0, 0, "no peers (3 known)"),
            (2, 0, "2 peers"),
            (0, 1, "1 mirror"),
            (1, 2, "1 peer and 2 mirrors"),
        ] {
            let (had, total, per_second) = (0, 1, 0);
            let progress = Progress::Downloading {
                had,
                total,
                per_second,
                left: None,
                peers,
                known: 3,
                mirrors,
            };
            assert_eq!(parts(&progress).last().unwrap(), of);
        }
    }

    #[test]
    fn nearly_all_is_not_all() {
        assert_eq!(percent(u64::MAX - 1, u64::MAX), "99.9 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0 %");
        assert_eq!(percent(0, 0), "0.0 %");
    }

    #[test]
    fn times_read_well() {
        let cases = [
            (0, "0 s"),
            (65, "1 min 5 s"),
            (7_260, "2 h 1 min"),
            (u64::MAX, "213503982334601 days"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
