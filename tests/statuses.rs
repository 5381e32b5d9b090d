//! Every exit status, provoked in the built program: a case each, and none without a case.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;

use rusty_torrent::error::Status;

use support::case::{Case, LIMIT};
use support::peer::{Behaviour, Peer, Silent};
use support::program::Outcome;
use support::torrent::Torrent;

const PIECE: usize = 32 << 10;

/// Something to fetch from a peer that is honest, for as long as it speaks.
fn case_with(status: Status, silent: Option<Silent>) -> (Case, Peer) {
    let case = Case::new(Torrent::single(&format!("status {}", status.code()), 3 * PIECE, PIECE));
    let peer = Peer::start(&case.torrent.payload, Behaviour { silent, ..Behaviour::default() });
    (case, peer)
}

/// A run that should end in this way.
fn provoke(status: Status) -> Outcome {
    let honest = || case_with(status, None);
    let silent = || case_with(status, Some(Silent::AfterBlocks(1)));
    /// Runs it with these options and a peer.
    fn run((case, peer): (Case, Peer), options: &[&str]) -> Outcome {
        case.run(&[&peer], &[options, &["--quiet"]].concat())
    }
    /// The same with this in the place of the torrent file.
    fn run_on((case, peer): (Case, Peer), torrent: &[u8]) -> Outcome {
        fs::write(&case.file, torrent).unwrap();
        run((case, peer), &[])
    }
    match status {
        Status::Done => run(honest(), &[]),
        Status::Unknown => {
            let (case, peer) = honest();
            fs::remove_file(&case.file).unwrap();
            run((case, peer), &[])
        }
        Status::Timeout => run(silent(), &["--timeout", "1"]),
        Status::Network => honest().0.run(&[], &["--quiet"]),
        Status::Unfinished => {
            let (case, peer) = silent();
            let running = case.start(&[&peer], &["--quiet"]);
            peer.wait_until(|record| !record.sent.is_empty());
            running.signal("TERM");
            running.wait(LIMIT)
        }
        // Nobody's disk has so much.
        Status::DiskFull => run(honest(), &["--min-free", "17179869183G"]),
        Status::Busy => {
            let (case, peer) = silent();
            let _first = case.start(&[&peer], &["--quiet"]);
            peer.wait_until(|record| !record.sent.is_empty());
            case.run(&[&peer], &["--quiet"])
        }
        Status::CreateFile => {
            let (case, peer) = honest();
            fs::create_dir_all(case.place()).unwrap();
            run((case, peer), &[])
        }
        Status::FileIo => {
            let (case, peer) = honest();
            // 512 or 1024 bytes, as the shell counts.
            let script = "ulimit -f 1; exec \"$@\"";
            case.start_from(script, &[&peer], &["--quiet"]).wait(LIMIT)
        }
        Status::MakeDirectory => {
            let (case, peer) = honest();
            fs::write(&case.out, "a file").unwrap();
            run((case, peer), &[])
        }
        Status::NameResolution => {
            // No server is asked for a name that is longer than any can be.
            let name = format!("{}.invalid:6881", "x".repeat(64));
            run(honest(), &["--peer", &name])
        }
        Status::NotBencode => run_on(honest(), b"<html>"),
        Status::BadTorrent => run_on(honest(), b"d4:infodee"),
        Status::BadOption => run(honest(), &["--frobnicate"]),
        Status::Checksum => run(honest(), &["--verify"]),
        Status::Hook => run(honest(), &["--on-complete", "exit 3"]),
    }
}

#[test]
fn each_is_what_it_is_said_to_be_and_has_one_line() {
    let statuses = Status::TABLE.iter().map(|(status, _)| *status);
    for status in statuses {
        let outcome = provoke(status);
        assert_eq!(outcome.status, Some(status.code().into()), "{status:?}: {outcome:#?}");
        assert_eq!(outcome.stdout, "", "{status:?}");
        if status == Status::Done {
            assert_eq!(outcome.stderr, "", "{status:?}");
            continue;
        }
        let line = outcome.stderr.strip_suffix('\n').unwrap_or_default();
        let said = line.strip_prefix("error: ").unwrap_or_default();
        assert!(!said.is_empty() && !said.contains('\n'), "{status:?}: {outcome:#?}");
    }
}
