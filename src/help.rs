//! What `-h` and `--help` print.

use crate::error::Status;
use crate::options::GROUPS;

/// Characters of a line at most.
const WIDTH: usize = 79;

/// What the program is.
pub const TITLE: &str = "wget for torrents";

/// What is typed.
pub const USAGE: &str = "\
usage: rusty_torrent [OPTIONS] TORRENT... [DIR]
       rusty_torrent [OPTIONS] --create PATH [TORRENT]
";

/// What it does.
pub const ABOUT: &str = "Downloads what TORRENT describes into DIR (the current directory), verifies \
    every piece and exits. TORRENT is a .torrent file, its URL, a magnet link in quotes, or - for \
    standard input. What is in DIR already is checked and kept.";

/// What the words mean that everybody uses who uses torrents.
pub const WORDS: &str = "A torrent describes files, cut into pieces, with the hash of each piece. A \
    peer is another computer that has pieces or wants them; to seed is to upload to peers once \
    everything is there. A tracker is a server that knows peers; the DHT is a network of peers that \
    does without one. A mirror, or web seed, is a web server that has the files.";

/// How values are typed.
pub const VALUES: &str = "What an option is without being given is in parentheses. A value follows \
    its option, or an =. SIZE and RATE are numbers, with K, \
    M or G behind them for powers of 1024. What follows -- is a name, whatever it looks like.";

/// What the environment can say, a paragraph each.
pub const ENVIRONMENT: &[&str] = &[
    "Each option but those about the program itself can be set by a variable: \
     RUSTY_TORRENT_MAX_PEERS=20 is --max-peers 20. What is typed wins, also over a variable that can't \
     be used together with it. An option without a value \
     is set by 1, true, yes or on, and not by 0, false, no or off; RUSTY_TORRENT_VERBOSE=2 is \
     -vv. What can be repeated has white space in between. An empty variable is none.",
    "http_proxy, https_proxy and all_proxy are honoured for trackers and mirrors.",
];

/// What lies beside the files, meanwhile.
pub const FILES: &str = "While it downloads, DIR/.NAME.rusty_torrent tells another run what was \
    verified. It only saves time, and goes when everything is there. Where files are selected, or go \
    to standard output, DIR/.NAME.rusty_torrent.parts has what lies in no file.";

/// What can be typed, and what it does.
pub const EXAMPLES: &[(&str, &str)] = &[
    (
        "rusty_torrent debian.iso.torrent /srv/images",
        "Download to /srv/images/debian.iso, and exit.",
    ),
    ("rusty_torrent x.torrent --stdout | tar x", "Unpack it while it comes, and keep no archive."),
    ("rusty_torrent --verify x.torrent DIR", "Tell of each file whether it is right."),
    ("rusty_torrent --create PATH --tracker URL", "Make a torrent."),
    ("rusty_torrent --timeout 600 'magnet:?xt=...'", "Give up after ten minutes without a piece."),
    ("rusty_torrent -u 1M --seed-ratio 2 x.torrent", "Then upload until twice the size was sent."),
];

/// What `-h` prints: an option a line.
pub fn short() -> String {
    let mut help = Help::begin();
    for group in GROUPS {
        help.heading(group.title);
        for row in group.rows {
            let usage = if row.short.is_empty() { 6 } else { 2 };
            help.row(usage, &row.usage(), 34, row.meaning);
        }
    }
    help.end()
}

/// What `--help` prints: what options mean in full, and what else there is to say.
pub fn long() -> String {
    let mut help = Help::begin();
    for group in GROUPS {
        help.heading(group.title);
        for row in group.rows {
            help.text.push_str("  ");
            help.text.push_str(&row.usage());
            help.text.push('\n');
            help.paragraph(6, row.text);
        }
    }
    help.heading("words");
    help.paragraph(2, WORDS);
    help.heading("values");
    help.paragraph(2, VALUES);
    help.heading("environment");
    for paragraph in ENVIRONMENT {
        help.paragraph(2, paragraph);
    }
    help.heading("files");
    help.paragraph(2, FILES);
    help.heading("examples");
    for (command, meaning) in EXAMPLES {
        help.row(2, command, 0, "");
        help.paragraph(6, meaning);
    }
    help.end()
}

/// A help that is being written.
struct Help {
    text: String,
}

impl Help {
    fn begin() -> Self {
        let text = ["rusty_torrent: ", TITLE, "\n\n", USAGE, "\n"].concat();
        let mut help = Self { text };
        help.paragraph(0, ABOUT);
        help
    }

    fn heading(&mut self, title: &str) {
        self.text.push('\n');
        self.text.push_str(title);
        self.text.push_str(":\n");
    }

    /// A line of two columns: where each begins, and what stands there.
    fn row(&mut self, first: usize, left: &str, second: usize, right: &str) {
        let spaces = |text: &mut String, count| (0..count).for_each(|_| text.push(' '));
        spaces(&mut self.text, first);
        self.text.push_str(left);
        spaces(&mut self.text, second.saturating_sub(first + left.len()));
        self.text.push_str(right);
        self.text.push('\n');
    }

    /// Some sentences, in lines that fit, so many columns from the left.
    fn paragraph(&mut self, indent: usize, sentences: &str) {
        let (mut line, mut width) = (String::new(), indent);
        for word in sentences.split(' ') {
            let length = word.chars().count();
            if !line.is_empty() && width + 1 + length > WIDTH {
                self.row(indent, &line, 0, "");
                line.clear();
                width = indent;
            }
            if !line.is_empty() {
                line.push(' ');
                width += 1;
            }
            line.push_str(word);
            width += length;
        }
        self.row(indent, &line, 0, "");
    }

    fn end(mut self) -> String {
        self.heading("exit status");
        for (status, meaning) in Status::TABLE {
            let code = status.code().to_string();
            self.row(4 - code.len(), &code, 6, meaning);
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::rows;

    #[test]
    fn both_name_every_option_and_status_in_lines_that_fit() {
        for help in [short(), long()] {
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
            assert!(help.lines().all(|line| line.trim_end() == line), "{help}");
            for row in rows() {
                assert!(help.contains(&row.usage()), "{}", row.name);
            }
            for (status, meaning) in Status::TABLE {
                assert!(help.contains(&format!("{:>4}  {meaning}\n", status.code())), "{help}");
            }
        }
        assert!(short().lines().count() + 10 < long().lines().count());
    }

    #[test]
    fn a_paragraph_is_cut_between_words() {
        let mut help = Help { text: String::new() };
        let (word, sentence) = ("x".repeat(24), "a bb ccc ".repeat(20));
        help.paragraph(6, &[&word, sentence.trim_end(), &word.repeat(9), "end"].join(" "));
        let lines: Vec<&str> = help.text.lines().collect();
        let spoken: Vec<&str> =
            lines.iter().map(|line| line.strip_prefix("      ").unwrap()).collect();
        assert_eq!(spoken.join(" ").split(' ').count(), 1 + 60 + 1 + 1);
        assert!(spoken.iter().all(|line| line.trim() == *line));
        let next = |at: usize| spoken[at + 1].split(' ').next().unwrap().len();
        for (at, line) in spoken.iter().enumerate().take(3) {
            assert!(line.len() + 6 <= WIDTH, "{line}");
            assert!(line.len() + 6 + 1 + next(at) > WIDTH, "{line} has room");
        }
    }
}
