//! Owns standard error: messages, and below them on a terminal a few lines that are rewritten in
//! place, elsewhere a plain line now and again.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::coordinator::Progress;
use crate::limits::{
    PLAIN_LINE_MS, SCREEN_COLUMNS_DEFAULT, SCREEN_COLUMNS_MAX, SCREEN_LINES_DEFAULT,
};
use crate::status_line::{plain_line, status_line};

const PLAIN_LINE: Duration = Duration::from_millis(PLAIN_LINE_MS as u64);
/// Clears from here to the end of the line, or of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_SCREEN: &str = "\x1b[J";

/// How it is shown how far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Style {
    /// On a terminal a line that is rewritten, elsewhere plain lines.
    #[default]
    Auto,
    /// Plain lines.
    Plain,
    /// JSON on standard output.
    Json,
    /// Not at all.
    Off,
}

/// Standard error, shared by the status line and the log: whoever writes a line clears the status
/// first.
#[derive(Clone)]
pub struct Screen(Arc<Mutex<State>>);

struct State {
    way: Way,
    /// What is on the screen, if there is anything.
    drawn: Option<Frame>,
    last_plain: Instant,
    /// It was said that everything is there.
    seeding: bool,
}

/// How it is shown here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Rewritten,
    Plain,
    Silent,
}

impl Way {
    /// The one for this style. `can_rewrite` says that there is a terminal that can move its cursor.
    fn new(style: Style, can_rewrite: bool) -> Self {
        match style {
            Style::Auto if can_rewrite => Self::Rewritten,
            Style::Auto | Style::Plain => Self::Plain,
            Style::Json | Style::Off => Self::Silent,
        }
    }
}

/// Rows of text that are on the screen, the cursor behind the last.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Frame {
    rows: Vec<String>,
    columns: usize,
}

impl Screen {
    /// Looks at what standard error is.
    pub fn new(style: Style) -> Self {
        // Where TERM says nothing, nobody knows what would move the cursor.
        let dumb = env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
        Self(Arc::new(Mutex::new(State {
            way: Way::new(style, io::stderr().is_terminal() && !dumb),
            drawn: None,
            last_plain: Instant::now(),
            seeding: false,
        })))
    }

    /// The columns and lines of the terminal on which something is rewritten, if one is.
    pub fn size(&self) -> Option<(usize, usize)> {
        (self.state().way == Way::Rewritten).then(terminal_size)
    }

    /// Shows how far it is, if it is time to, and above it these rows, if there is a place.
    pub fn show(&self, progress: &Progress, above: &[String], now: Instant) {
        let mut state = self.state();
        match state.way {
            Way::Rewritten => {
                let (columns, _) = terminal_size();
                let mut rows = above.to_vec();
                rows.push(status_line(progress, columns));
                let frame = Frame { rows, columns };
                if state.drawn.as_ref() != Some(&frame) {
                    say(&redraw(state.drawn.as_ref(), &frame));
                    state.drawn = Some(frame);
                }
            }
            Way::Plain => {
                let seeding = matches!(progress, Progress::Seeding { .. });
                let news = seeding && !std::mem::replace(&mut state.seeding, seeding);
                if news || now >= state.last_plain + PLAIN_LINE {
                    state.last_plain = now;
                    say(&format!("{}\n", plain_line(progress)));
                }
            }
            Way::Silent => {}
        }
    }

    /// Writes a line, in the place of the status line if there is one.
    pub fn line(&self, text: &str) {
        let mut state = self.state();
        say(&format!("{}{text}\n", state.take_off()));
    }

    /// Writes lines to standard output. A closed or full one is nobody's fault here.
    pub fn result(&self, lines: &str) {
        let mut state = self.state();
        let off = state.take_off();
        if !off.is_empty() {
            say(&off);
        }
        let mut out = io::stdout();
        let _ignored = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
    }

    /// Takes the status line off the screen.
    pub fn clear(&self) {
        let off = self.state().take_off();
        if !off.is_empty() {
            say(&off);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What takes off the screen what is on it.
    fn take_off(&mut self) -> String {
        self.drawn.take().map_or_else(String::new, |frame| {
            format!("{}{CLEAR_SCREEN}", to_start(&frame, terminal_size().0))
        })
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

/// Moves the cursor to where the frame begins. A terminal that was made narrower since has broken
/// rows that were longer than it is now.
fn to_start(frame: &Frame, columns: usize) -> String {
    let lines = |row: &String| row.chars().count().div_ceil(columns.max(1)).max(1);
    match frame.rows.iter().map(lines).sum::<usize>() {
        0 | 1 => "\r".to_owned(),
        lines => format!("\r\x1b[{}A", lines - 1),
    }
}

/// Writes over what is there and clears what is left of it, never the other way round: nobody sees
/// an empty line.
fn redraw(before: Option<&Frame>, frame: &Frame) -> String {
    let mut text = before.map_or_else(String::new, |before| to_start(before, frame.columns));
    for (number, row) in frame.rows.iter().enumerate() {
        if number > 0 {
            text.push_str("\r\n");
        }
        text.push_str(row);
        text.push_str(CLEAR_LINE);
    }
    let is_shorter = before.is_some_and(|before| {
        before.rows.len() > frame.rows.len() || before.columns != frame.columns
    });
    if is_shorter {
        text.push_str(CLEAR_SCREEN);
    }
    text
}

/// A closed or full standard error stops nothing.
fn say(text: &str) {
    let _ignored = io::stderr().write_all(text.as_bytes());
}

/// Columns and lines.
fn terminal_size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let (columns, lines) =
        size.map_or((0, 0), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    let known = |found, default| if found > 0 { found } else { default };
    let columns = known(columns, SCREEN_COLUMNS_DEFAULT).min(SCREEN_COLUMNS_MAX);
    (columns, known(lines, SCREEN_LINES_DEFAULT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(rows: &[&str], columns: usize) -> Frame {
        Frame { rows: rows.iter().map(|row| (*row).to_owned()).collect(), columns }
    }

    #[test]
    fn a_frame_is_written_over_the_one_before() {
        let cases = [
            (None, frame(&["a"], 80), "a\x1b[K"),
            (Some(frame(&["a"], 80)), frame(&["b"], 80), "\rb\x1b[K"),
            (Some(frame(&["m", "a"], 80)), frame(&["n", "b"], 80), "\r\x1b[1An\x1b[K\r\nb\x1b[K"),
            (Some(frame(&["m", "a"], 80)), frame(&["b"], 80), "\r\x1b[1Ab\x1b[K\x1b[J"),
            (Some(frame(&["a"], 80)), frame(&["m", "b"], 80), "\rm\x1b[K\r\nb\x1b[K"),
            // Its four columns are two lines by now.
            (Some(frame(&["abcd"], 5)), frame(&["b"], 3), "\r\x1b[1Ab\x1b[K\x1b[J"),
            (Some(frame(&["", "a"], 5)), frame(&["b"], 9), "\r\x1b[1Ab\x1b[K\x1b[J"),
        ];
        for (before, after, expected) in cases {
            assert_eq!(redraw(before.as_ref(), &after), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn only_a_terminal_that_can_is_written_over() {
        let cases = [
            (Style::Auto, true, Way::Rewritten),
            (Style::Auto, false, Way::Plain),
            (Style::Plain, true, Way::Plain),
            (Style::Json, true, Way::Silent),
            (Style::Off, true, Way::Silent),
        ];
        for (style, can_rewrite, way) in cases {
            assert_eq!(Way::new(style, can_rewrite), way, "{style:?}");
        }
    }
}
