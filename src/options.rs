//! The options, in one table. What can be typed, what variables of the environment can say instead,
//! both helps, the man page, the completions and README follow from it.

/// An option. To add one: a row in [`GROUPS`], a line in `arguments.rs` that reads it, a row in
/// README. Tests tell what is missing.
#[derive(Debug)]
pub struct Row {
    /// How it is typed in short, `-q`; empty if it has no letter.
    pub short: &'static str,
    /// How it is typed, `--quiet`.
    pub name: &'static str,
    /// What follows it, `FILE`; empty if nothing does. `FILE` and `DIR` are completed as such.
    pub value: &'static str,
    /// What the value can be, if that is one of a few words.
    pub words: &'static [&'static str],
    /// It can be given more than once.
    pub repeatable: bool,
    /// Options that it can't be had together with. Typed, it keeps their variables from mattering,
    /// and the other way round.
    pub not_with: &'static [&'static str],
    /// But not its own: who set it relies on it, and the error says that both can't be.
    pub is_firm: bool,
    /// A variable of the environment can say it: it does more than to print something.
    pub has_variable: bool,
    /// What it does, in the rest of one line of `-h`.
    pub meaning: &'static str,
    /// The same in a sentence or two: what `--help`, the man page and README say.
    pub text: &'static str,
}

/// What a row has that does not say otherwise.
const OPTION: Row = Row {
    short: "",
    name: "",
    value: "",
    words: &[],
    repeatable: false,
    not_with: &[],
    is_firm: false,
    has_variable: true,
    meaning: "",
    text: "",
};

/// The file leaves no room there for anything else, and is not kept for others.
const NOT_WITH_STDOUT: &[&str] = &["--summary", "--seed", "--seed-time", "--seed-ratio"];

/// Options that belong together.
#[derive(Debug)]
pub struct Group {
    /// Its heading.
    pub title: &'static str,
    /// In the order in which they are shown.
    pub rows: &'static [Row],
}

/// What a variable's name begins with.
pub const VARIABLE_PREFIX: &str = "RUSTY_TORRENT_";

/// The heading of options that go with `--create` alone.
pub const MAKING: &str = "making a torrent";

/// Every option.
pub const GROUPS: &[Group] = &[
    Group {
        title: "what and where",
        rows: &[
            Row {
                short: "-d",
                name: "--dir",
                value: "DIR",
                meaning: "where files go; all names are torrents then",
                text: "Where the files go; all other arguments are torrents then.",
                ..OPTION
            },
            Row {
                name: "--select-file",
                value: "FILES",
                meaning: "fetch only these files, by number: 1-3,8",
                text: "Fetch only these files, by their numbers in the torrent: 1-3,8. --show tells \
                       them.",
                ..OPTION
            },
            Row {
                name: "--select",
                value: "GLOB",
                repeatable: true,
                meaning: "fetch only files of this name; repeatable",
                text: "Fetch only files with this name or path. May be repeated.",
                ..OPTION
            },
            Row {
                name: "--sequential",
                meaning: "fetch from the first piece to the last",
                text: "Fetch from the first piece to the last, as far as peers have them.",
                ..OPTION
            },
            Row {
                name: "--stdout",
                not_with: NOT_WITH_STDOUT,
                meaning: "write the file to standard output, in order",
                text: "Write the file to standard output, verified and in order, and leave nothing \
                       in DIR.",
                ..OPTION
            },
            Row {
                short: "-o",
                name: "--output",
                not_with: NOT_WITH_STDOUT,
                value: "-",
                words: &["-"],
                meaning: "the same",
                text: "The same as --stdout: it takes - alone, since DIR says where files go.",
                ..OPTION
            },
            Row {
                name: "--mirror",
                value: "URL",
                repeatable: true,
                meaning: "an HTTP server that has the files; repeatable",
                text: "An HTTP server that has the files (BEP 19), besides those that the torrent \
                       names. May be repeated.",
                ..OPTION
            },
            Row {
                name: "--save-torrent",
                meaning: "save what a link is of as DIR/NAME.torrent",
                text: "Save what a magnet link is of as DIR/NAME.torrent.",
                ..OPTION
            },
            Row {
                name: "--umask",
                value: "MODE",
                meaning: "make files without these rights, e.g. 027",
                text: "Make files and directories without the rights of this octal MODE, as umask \
                       does in a shell: with 027 others can't read them (as it was started).",
                ..OPTION
            },
            Row {
                name: "--no-sandbox",
                meaning: "do not give up the right to write outside DIR",
                text: "Do not give up the right to write outside DIR.",
                ..OPTION
            },
        ],
    },
    Group {
        title: "how much and how long",
        rows: &[
            Row {
                name: "--max-peers",
                value: "N",
                meaning: "peers at once (50)",
                text: "Peers at once, 1 to 500 (50).",
                ..OPTION
            },
            Row {
                name: "--max-memory",
                value: "SIZE",
                meaning: "memory it takes at most, 10M or more (32M)",
                text: "Memory that it takes at most, 10M or more (32M).",
                ..OPTION
            },
            Row {
                name: "--min-free",
                value: "SIZE",
                meaning: "leave at least SIZE free on the disk (0)",
                text: "Leave at least SIZE free on the disk: stop rather than take more (0).",
                ..OPTION
            },
            Row {
                name: "--max-download-limit",
                value: "RATE",
                meaning: "bytes a second from everybody (0: no limit)",
                text: "Bytes a second that are taken from all peers and mirrors together \
                       (0: no limit).",
                ..OPTION
            },
            Row {
                short: "-u",
                name: "--max-upload-limit",
                value: "RATE",
                meaning: "bytes a second to all peers (0: no limit)",
                text: "Bytes a second that are sent to all peers together (0: no limit).",
                ..OPTION
            },
            Row {
                name: "--timeout",
                value: "SECONDS",
                meaning: "give up after so long with no piece (0: never)",
                text: "Give up after so many seconds without a new verified piece (0: never).",
                ..OPTION
            },
            Row {
                name: "--metadata-timeout",
                value: "SECONDS",
                meaning: "give up if a link stays unknown (0: never)",
                text: "Give up on a magnet link when no peer has told within so many seconds what \
                       it is of (0: never).",
                ..OPTION
            },
        ],
    },
    Group {
        title: "peers and ways to them",
        rows: &[
            Row {
                name: "--peer",
                value: "ADDR:PORT",
                repeatable: true,
                meaning: "a peer besides the trackers'; repeatable",
                text: "A peer to try besides those that trackers name. May be repeated.",
                ..OPTION
            },
            Row {
                name: "--port",
                value: "N",
                meaning: "where peers can come, or the next port (6881)",
                text: "The port that peers can come to, or the next free one; trackers are told \
                       which (6881).",
                ..OPTION
            },
            Row {
                name: "--encryption",
                value: "MODE",
                words: &["prefer", "require", "off"],
                meaning: "encrypt: prefer, require or off (prefer)",
                text: "prefer: encrypted or not, as each peer takes it; require: encrypted only; \
                       off: never (prefer).",
                ..OPTION
            },
            Row {
                short: "-4",
                name: "--ipv4",
                not_with: &["--ipv6"],
                meaning: "use IPv4 only",
                text: "Use IPv4 only.",
                ..OPTION
            },
            Row {
                short: "-6",
                name: "--ipv6",
                meaning: "use IPv6 only",
                text: "Use IPv6 only.",
                ..OPTION
            },
            Row {
                name: "--interface",
                not_with: &["--proxy"],
                is_firm: true,
                value: "NAME",
                meaning: "use only this interface, or this address",
                text: "Use only this interface, or this address of the machine: everything leaves \
                       by it, and peers come only there.",
                ..OPTION
            },
            Row {
                name: "--proxy",
                is_firm: true,
                value: "URL",
                meaning: "go through a proxy: socks5:// or http://",
                text: "Everything goes through a proxy: socks5://[NAME:PASSWORD@]HOST:PORT, or \
                       http://HOST:PORT without peers.",
                ..OPTION
            },
            Row {
                name: "--no-dht",
                meaning: "do not look for peers in the DHT",
                text: "Do not look for peers in the DHT.",
                ..OPTION
            },
            Row {
                name: "--dht-file",
                value: "FILE",
                meaning: "remember nodes of the DHT from run to run",
                text: "Remember nodes of the DHT in FILE, from run to run.",
                ..OPTION
            },
            Row {
                name: "--dht-node",
                value: "HOST:PORT",
                repeatable: true,
                meaning: "enter the DHT there; repeatable",
                text: "A node at which to enter the DHT, instead of the well-known ones. May be \
                       repeated.",
                ..OPTION
            },
            Row {
                name: "--no-lsd",
                meaning: "do not look for peers on the local network",
                text: "Do not look for peers on the local network.",
                ..OPTION
            },
        ],
    },
    Group {
        title: "seeding",
        rows: &[
            Row {
                name: "--seed",
                meaning: "keep running and upload until stopped",
                text: "Keep running and upload to others until stopped.",
                ..OPTION
            },
            Row {
                name: "--seed-time",
                value: "MINUTES",
                meaning: "upload for so long after the download",
                text: "Once everything is there, upload to others for so many minutes.",
                ..OPTION
            },
            Row {
                name: "--seed-ratio",
                value: "X",
                meaning: "upload until X times the size was sent",
                text: "Once everything is there, upload until X times the torrent's size was sent.",
                ..OPTION
            },
        ],
    },
    Group {
        title: "looking without downloading",
        rows: &[
            Row {
                name: "--show",
                not_with: &[
                    "--verify",
                    "--check-only",
                    "--stdout",
                    "--output",
                    "--save-torrent",
                    "--select-file",
                    "--select",
                ],
                meaning: "show what is in TORRENT, and download nothing",
                text: "Show what is in TORRENT, and download nothing.",
                ..OPTION
            },
            Row {
                name: "--verify",
                not_with: &["--check-only", "--stdout", "--output", "--save-torrent"],
                meaning: "hash what is in DIR, and change nothing",
                text: "Hash what is in DIR, tell of each file whether it is right, and change \
                       nothing.",
                ..OPTION
            },
            Row {
                name: "--check-only",
                not_with: &["--stdout", "--output", "--save-torrent", "--select-file", "--select"],
                meaning: "look whether a download could begin",
                text: "Look whether a download could begin: room, rights, trackers.",
                ..OPTION
            },
            Row {
                name: "--json",
                meaning: "print JSON, with one of these three",
                text: "Print one JSON object for each torrent, with one of these three.",
                ..OPTION
            },
        ],
    },
    Group {
        title: MAKING,
        rows: &[
            Row {
                name: "--create",
                not_with: &[
                    "--show",
                    "--verify",
                    "--check-only",
                    "--stdout",
                    "--output",
                    "--select-file",
                    "--select",
                    "--save-torrent",
                    "--seed",
                    "--seed-time",
                    "--seed-ratio",
                ],
                value: "PATH",
                meaning: "make a torrent of PATH, and write TORRENT",
                text: "Make a torrent of the file or directory PATH, and write it to TORRENT (its \
                       name and .torrent).",
                ..OPTION
            },
            Row {
                name: "--tracker",
                value: "URL",
                repeatable: true,
                meaning: "add this tracker; repeatable",
                text: "Add this tracker. May be repeated, and clients try them in this order.",
                ..OPTION
            },
            Row {
                name: "--web-seed",
                value: "URL",
                repeatable: true,
                meaning: "add this mirror (web seed); repeatable",
                text: "Add this mirror, a web server that has the files (BEP 19). May be repeated.",
                ..OPTION
            },
            Row {
                name: "--private",
                meaning: "peers come only from its trackers",
                text: "Peers come only from its trackers (BEP 27).",
                ..OPTION
            },
            Row {
                name: "--piece-length",
                value: "SIZE",
                meaning: "bytes of a piece, 16K to 64M (by its size)",
                text: "Bytes of a piece, a power of two from 16K to 64M (so that there are 1,000 to \
                       2,000 pieces of 16K to 16M).",
                ..OPTION
            },
        ],
    },
    Group {
        title: "what is said",
        rows: &[
            Row {
                short: "-q",
                name: "--quiet",
                meaning: "say nothing but errors",
                text: "Say nothing but errors.",
                ..OPTION
            },
            Row {
                short: "-v",
                name: "--verbose",
                repeatable: true,
                meaning: "say more; -vv tells of every peer",
                text: "Say more; -vv tells of every peer, -vvv of every piece.",
                ..OPTION
            },
            Row {
                short: "-l",
                name: "--log",
                value: "FILE",
                meaning: "write a log to FILE as well, fuller with -v",
                text: "Append a log to FILE as well; -v makes it fuller.",
                ..OPTION
            },
            Row {
                name: "--progress",
                value: "STYLE",
                words: &["auto", "plain", "json", "none"],
                meaning: "how progress is shown (auto)",
                text: "How progress is shown: auto, plain lines, json, or none (auto).",
                ..OPTION
            },
            Row {
                name: "--map",
                meaning: "draw a map of the pieces on a terminal",
                text: "Draw a map of the pieces above the status line of a terminal.",
                ..OPTION
            },
            Row {
                name: "--summary",
                meaning: "list files as they are complete",
                text: "List each file on standard output when it is complete, also with -q.",
                ..OPTION
            },
            Row {
                name: "--on-complete",
                value: "COMMAND",
                meaning: "run this once everything is there",
                text: "Run COMMAND with /bin/sh -c once everything is there.",
                ..OPTION
            },
        ],
    },
    Group {
        title: "about itself",
        rows: &[
            Row {
                short: "-h",
                name: "--help",
                has_variable: false,
                meaning: "print this; --help prints more",
                text: "-h prints a short help, --help a long one.",
                ..OPTION
            },
            Row {
                name: "--manual",
                has_variable: false,
                meaning: "print a page for man",
                text: "Print a page for man, in roff.",
                ..OPTION
            },
            Row {
                name: "--completions",
                value: "SHELL",
                words: &["bash", "zsh", "fish"],
                has_variable: false,
                meaning: "print what lets bash, zsh or fish complete",
                text: "Print a script that lets a shell complete options and files: bash, zsh or \
                       fish.",
                ..OPTION
            },
            Row {
                short: "-V",
                name: "--version",
                has_variable: false,
                meaning: "print the version",
                text: "Print the version.",
                ..OPTION
            },
        ],
    },
];

/// Every option, without the headings.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    GROUPS.iter().flat_map(|group| group.rows)
}

/// The row of an option, found when the program is built: one that is not there does not compile.
pub const fn row(name: &str) -> &'static Row {
    let mut groups = GROUPS;
    while let [group, others @ ..] = groups {
        let mut rows = group.rows;
        while let [row, others @ ..] = rows {
            if is_same(row.name.as_bytes(), name.as_bytes()) {
                return row;
            }
            rows = others;
        }
        groups = others;
    }
    unreachable!()
}

const fn is_same(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([first, rest @ ..], [second, others @ ..]) = (one, other) {
        if *first != *second {
            return false;
        }
        (one, other) = (rest, others);
    }
    one.is_empty() && other.is_empty()
}

impl Row {
    /// How it is typed, with its value: `-l, --log FILE`.
    pub fn usage(&self) -> String {
        let comma = if self.short.is_empty() { "" } else { ", " };
        let space = if self.value.is_empty() { "" } else { " " };
        [self.short, comma, self.name, space, self.value].concat()
    }

    /// Whether both can be had together.
    pub fn goes_with(&self, other: &Self) -> bool {
        !self.not_with.contains(&other.name) && !other.not_with.contains(&self.name)
    }

    /// The variable that can say it, if one can: `RUSTY_TORRENT_MAX_PEERS`.
    pub fn variable(&self) -> Option<String> {
        let name = self.name.trim_start_matches('-');
        let name = || VARIABLE_PREFIX.to_owned() + &name.to_ascii_uppercase().replace('-', "_");
        self.has_variable.then(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_of_the_right_kind_and_each_is_there_once() {
        let mut seen = HashSet::new();
        for row in rows() {
            let name = row.name.strip_prefix("--").unwrap();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(seen.insert(row.name), "{} is there twice", row.name);
            if !row.short.is_empty() {
                assert!(row.short.len() == 2 && row.short.starts_with('-'), "{}", row.short);
                assert!(seen.insert(row.short), "{} is there twice", row.short);
            }
            assert!(row.words.is_empty() || !row.value.is_empty(), "{}", row.name);
            for other in row.not_with {
                assert!(rows().any(|row| row.name == *other) && *other != row.name, "{other}");
            }
            assert_eq!(self::row(row.name).name, row.name);
        }
    }

    #[test]
    fn every_option_says_what_it_does() {
        for row in rows() {
            assert!(row.usage().len() <= 30, "{} takes too much of a line", row.usage());
            assert!((1..=46).contains(&row.meaning.len()), "{}: {}", row.name, row.meaning);
            assert!(!row.meaning.ends_with('.'), "{}: {}", row.name, row.meaning);
            assert!(row.text.ends_with('.') && row.text.is_ascii(), "{}: {}", row.name, row.text);
        }
    }

    #[test]
    fn a_row_is_shown_as_it_is_typed_and_has_its_variable() {
        let cases = [
            ("--log", "-l, --log FILE", Some("RUSTY_TORRENT_LOG")),
            ("--max-peers", "--max-peers N", Some("RUSTY_TORRENT_MAX_PEERS")),
            ("--quiet", "-q, --quiet", Some("RUSTY_TORRENT_QUIET")),
            ("--version", "-V, --version", None),
        ];
        for (name, usage, variable) in cases {
            assert_eq!(row(name).usage(), usage);
            assert_eq!(row(name).variable().as_deref(), variable);
        }
    }
}
