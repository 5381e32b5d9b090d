//! Little of everything: descriptors, memory, lengths of files, somewhere to write to. The program
//! carries on with less, or says in one line why it can't.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::case::{Case, LIMIT};
use support::peer::Peer;
use support::program::{Outcome, descriptors};
use support::torrent::{Torrent, file};

const PIECE: usize = 32 << 10;

/// Files in directories, so that more than one descriptor is needed for each.
fn case(name: &str) -> Case {
    Case::new(Torrent::multi(name, &[file("a/b", 300_000), file("c", 1_000_000)], PIECE))
}

/// Everything is there, or one line says why not; which of both.
#[track_caller]
fn done_or_said(case: &Case, outcome: &Outcome) -> bool {
    if outcome.status == Some(0) {
        case.assert_complete(outcome);
        return true;
    }
    let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!((errors, outcome.timed_out), (1, false), "{outcome:#?}");
    assert!(outcome.status.is_some() && !outcome.stderr.contains("panicked"), "{outcome:#?}");
    false
}

#[test]
fn with_few_descriptors_there_are_fewer_peers() {
    for limit in [12, 13, 17, 24, 64] {
        let case = case(&format!("descriptors {limit}"));
        let peers: Vec<Peer> = (0..40).map(|_| Peer::honest(&case.torrent.payload)).collect();
        let script = descriptors(limit);
        let run = case.start_from(&script, &peers.iter().collect::<Vec<_>>(), &[]);
        let outcome = run.wait(LIMIT);
        case.assert_complete(&outcome);
        let said = outcome.stderr.matches("[WARN] no more than ").count();
        assert_eq!(said, 1, "{limit}: {outcome:#?}");
    }
}

#[test]
fn with_too_few_descriptors_it_says_so_at_once() {
    let case = case("too few descriptors");
    let peer = Peer::honest(&case.torrent.payload);
    for limit in 6..12 {
        let script = descriptors(limit);
        let outcome = case.start_from(&script, &[&peer], &[]).wait(LIMIT);
        assert!(!done_or_said(&case, &outcome), "{outcome:#?}");
        assert!(outcome.stderr.contains("descriptors") || outcome.stderr.contains("open files"));
    }
    assert_eq!(peer.record().connections, 0);
}

#[test]
fn with_little_memory_it_does_less_or_says_so() {
    let case = case("memory by ulimit");
    let peer = Peer::honest(&case.torrent.payload);
    let mut less = 0;
    for mib in 3..24 {
        let script = format!("ulimit -d {}; exec \"$@\"", mib << 10);
        let outcome = case.start_from(&script, &[&peer], &[]).wait(LIMIT);
        if done_or_said(&case, &outcome) {
            less += usize::from(outcome.stderr.contains(" peers at once"));
            std::fs::remove_dir_all(&case.out).unwrap();
        } else {
            let whose = outcome.stderr.contains("ulimit leaves ");
            assert!(whose && outcome.status == Some(1) && mib < 16, "{mib} MiB: {outcome:#?}");
        }
    }
    assert!(less > 0, "with 23 MiB there are fewer than 50 peers");
}

#[test]
fn a_file_longer_than_allowed_is_an_error() {
    let case = case("file size");
    let peer = Peer::honest(&case.torrent.payload);
    // The shell counts in 512 or in 1024 bytes.
    let outcome = case.start_from("ulimit -f 700; exec \"$@\"", &[&peer], &[]).wait(LIMIT);
    outcome.assert_status(17);
    assert!(!done_or_said(&case, &outcome));
    let named = format!("can't extend {}: ", case.place().join("c").display());
    assert!(outcome.stderr.contains(&named), "{outcome:#?}");
    // What was verified until then is kept: another run fetches the rest.
    let before = peer.record().requests.len();
    case.complete(&[&peer], &[]);
    assert!(peer.record().requests.len() > before);
}

#[test]
fn who_can_not_write_to_anybody_downloads_all_the_same() {
    let streams = [
        (">&-", "out closed"),
        ("2>&-", "err closed"),
        ("<&- >&- 2>&-", "all closed"),
        (">/dev/full", "out full"),
        ("2>/dev/full", "err full"),
        (">/dev/full 2>&1", "all full"),
    ];
    for (redirected, name) in streams {
        let case = case(name);
        let peer = Peer::honest(&case.torrent.payload);
        let script = format!("exec \"$@\" {redirected}");
        let outcome = case.start_from(&script, &[&peer], &["-vvv"]).wait(LIMIT);
        outcome.assert_status(0);
        case.torrent.assert_is_in(&case.out);
    }
    let case = case("broken pipe");
    let peer = Peer::honest(&case.torrent.payload);
    // A pipe that is open for writing and that nobody reads.
    let script = "mkfifo \"$0\"; exec 3<>\"$0\" 4>\"$0\" 3<&-; exec \"$@\" >&4 2>&4";
    let outcome = case.start_from(script, &[&peer], &["-vvv"]).wait(LIMIT);
    outcome.assert_status(0);
    case.torrent.assert_is_in(&case.out);
}

#[test]
fn no_more_is_taken_from_the_disk_than_may_be() {
    let case = case("min free");
    let peer = Peer::honest(&case.torrent.payload);
    // More than any disk has.
    let outcome = case.run(&[&peer], &["--min-free", "17179869183G"]);
    outcome.assert_status(9);
    let said = format!("error: no room for {}: 1.2 MiB needed, ", case.out.display());
    assert!(outcome.stderr.starts_with(&said), "{outcome:#?}");
    assert!(outcome.stderr.contains(" free and 16.0 EiB of that to be kept; make room"));
    assert_eq!(peer.record().connections, 0);
    case.complete(&[&peer], &["--min-free", "1"]);
    // It takes nothing now.
    case.complete(&[&peer], &["--min-free", "17179869183G"]);
}
