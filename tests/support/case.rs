//! One torrent, and the directory that the built program downloads it to.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::peer::{Peer, Record};
use super::program::{self, Outcome, Running};
use super::scratch::Scratch;
use super::torrent::{Payload, Torrent};

/// What no run takes, however busy the machine is.
pub const LIMIT: Duration = Duration::from_secs(40);

/// Everything goes when it is dropped.
pub struct Case {
    pub torrent: Torrent,
    scratch: Scratch,
    pub file: PathBuf,
    pub out: PathBuf,
    /// Peers may be looked for in the DHT.
    pub dht: bool,
}

impl Case {
    /// No other test of the process may use the torrent's name.
    pub fn new(torrent: Torrent) -> Self {
        let scratch = Scratch::new(&torrent.name);
        let file = torrent.write_to(scratch.path());
        let out = scratch.join("out");
        Self { torrent, scratch, file, out, dht: false }
    }

    /// The same, in the DHT.
    pub fn with_dht(torrent: Torrent) -> Self {
        Self { dht: true, ..Self::new(torrent) }
    }

    /// A place beside the torrent file and the output directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Where the files lie.
    pub fn place(&self) -> PathBuf {
        self.out.join(&self.torrent.name)
    }

    /// Starts the program with these options, and a `--peer` for each peer.
    pub fn start(&self, peers: &[&Peer], options: &[&str]) -> Running {
        program::start(self.arguments(peers, options))
    }

    /// The same from a shell, whose `script` ends with `exec "$@"`. `$0` is a path that nobody
    /// else uses.
    pub fn start_from(&self, script: &str, peers: &[&Peer], options: &[&str]) -> Running {
        program::start_from(script, self.join("zero"), self.arguments(peers, options))
    }

    /// The same, started as `command` says, which is the program or another one that runs it.
    pub fn start_as(&self, command: Command, peers: &[&Peer], options: &[&str]) -> Running {
        program::start_as(command, self.arguments(peers, options))
    }

    fn arguments(&self, peers: &[&Peer], options: &[&str]) -> Vec<OsString> {
        // Tests that run at the same time must not find each other, nor anybody else.
        let mut arguments: Vec<OsString> = vec!["--no-lsd".into()];
        if !self.dht {
            arguments.push("--no-dht".into());
        }
        arguments.extend(options.iter().map(Into::into));
        for peer in peers {
            arguments.extend(["--peer".into(), peer.address().to_string().into()]);
        }
        arguments.extend([self.file.as_os_str(), self.out.as_os_str()].map(Into::into));
        arguments
    }

    /// Runs the program to its end.
    pub fn run(&self, peers: &[&Peer], options: &[&str]) -> Outcome {
        self.start(peers, options).wait(LIMIT)
    }

    /// The same, and everything must be there at the end.
    #[track_caller]
    pub fn complete(&self, peers: &[&Peer], options: &[&str]) -> Outcome {
        let outcome = self.run(peers, options);
        self.assert_complete(&outcome);
        outcome
    }

    /// The run ended well, every byte is right, and one line says so.
    #[track_caller]
    pub fn assert_complete(&self, outcome: &Outcome) {
        outcome.assert_status(0);
        self.torrent.assert_is_in(&self.out);
        assert_eq!(outcome.stdout.lines().count(), 1, "{outcome:#?}");
        assert!(outcome.stdout.starts_with(&shown(&self.place())), "{outcome:#?}");
    }

    /// The pieces that are in the files and right.
    pub fn pieces_there(&self) -> Vec<usize> {
        let mut there = Vec::new();
        for (path, bytes) in self.torrent.files() {
            let mut found = fs::read(self.out.join(path)).unwrap_or_default();
            found.resize(bytes.len(), 0);
            there.append(&mut found);
        }
        let Payload { piece_length, bytes, .. } = &self.torrent.payload;
        let pieces = there.chunks(*piece_length).zip(bytes.chunks(*piece_length)).enumerate();
        pieces.filter(|(_, (there, right))| there == right).map(|(piece, _)| piece).collect()
    }

    /// Waits until so many pieces are in the files and right.
    #[track_caller]
    pub fn wait_for_pieces(&self, count: usize) {
        let began = Instant::now();
        while self.pieces_there().len() < count {
            assert!(began.elapsed() < LIMIT, "waited in vain for {count} pieces");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Writes what a seeder has to the output directory.
    pub fn seed(&self) {
        self.torrent.write_payload_to(&self.out);
    }
}

/// A path as the program says it.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The pieces that the program asked a peer for, each once.
pub fn pieces_asked(record: &Record) -> Vec<usize> {
    let pieces: BTreeSet<usize> = record.requests.iter().map(|(piece, ..)| *piece).collect();
    pieces.into_iter().collect()
}
