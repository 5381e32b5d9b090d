//! What other processes do to the files of a running download: it ends at once with an error that
//! names the file, or with the right bytes. The next run fetches what was lost.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use support::case::{Case, LIMIT, shown};
use support::peer::{Behaviour, Peer, Record};
use support::program::Outcome;
use support::torrent::{Torrent, file};

const BLOCK: usize = 16 << 10;
/// Blocks that have come when somebody interferes.
const BEFORE: usize = 6;

/// Rests when so many blocks have come, and is slow afterwards: who stops at once asks for little.
fn resting() -> Behaviour {
    Behaviour {
        rests_after: Some(BEFORE),
        reqq: Some(8),
        block_pause: Duration::from_millis(2),
        ..Behaviour::default()
    }
}

/// A torrent of one file in a directory: 14 blocks that are written, or 200 that go to windows.
fn one_file(what: &str, mapped: bool) -> Case {
    let blocks = if mapped { 200 } else { 14 };
    let how = if mapped { "mapped" } else { "written" };
    let files = [file("sub/file", blocks * BLOCK)];
    Case::new(Torrent::multi(&format!("{what} {how}"), &files, BLOCK))
}

/// Downloads to the middle, lets `interfere`, and goes on to the end.
fn interfered(case: &Case, interfere: impl FnOnce(&Case)) -> (Outcome, Record) {
    let peer = Peer::start(&case.torrent.payload, resting());
    let run = case.start(&[&peer], &[]);
    case.wait_for_pieces(BEFORE);
    interfere(case);
    peer.go_on();
    (run.wait(LIMIT), peer.record())
}

/// One line says what is wrong with which path, and little was asked for afterwards.
#[track_caller]
fn assert_ended(case: &Case, (outcome, record): (&Outcome, &Record), status: i32, at: &Path) {
    outcome.assert_status(status);
    assert_eq!(outcome.stdout, "");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
    assert!(outcome.stderr.starts_with("error: can't "), "{outcome:#?}");
    assert!(outcome.stderr.contains(&shown(at)), "{outcome:#?}");
    let blocks = case.torrent.payload.bytes.len() / BLOCK;
    let asked = record.requests.len();
    assert!(asked <= 100.min(blocks), "{asked} requests for {blocks} blocks");
}

/// The next run hashes what is there, whatever that is, and fetches the rest.
#[track_caller]
fn assert_repaired(case: &Case) {
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &[]);
}

fn set_length(path: &Path, length: impl Fn(u64) -> u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(length(file.metadata().unwrap().len())).unwrap();
}

/// Puts another file of the same length in its place.
fn replace(path: &Path) {
    let length = fs::metadata(path).unwrap().len();
    let other = path.with_extension("other");
    fs::write(&other, vec![9; usize::try_from(length).unwrap()]).unwrap();
    fs::rename(&other, path).unwrap();
}

/// In one step, as the others: the program looks when it likes.
fn replace_by_link(path: &Path, target: &Path) {
    let other = path.with_extension("other");
    symlink(target, &other).unwrap();
    fs::rename(other, path).unwrap();
}

fn the_file(case: &Case) -> PathBuf {
    case.place().join("sub/file")
}

#[test]
fn a_file_that_is_cut_is_an_error() {
    for mapped in [true, false] {
        for left in [0, 1, 2] {
            let case = one_file(&format!("cut to {left} halves"), mapped);
            let (outcome, record) = interfered(&case, |case| {
                set_length(&the_file(case), |length| (length / 2 * left).min(length - 1));
            });
            assert_ended(&case, (&outcome, &record), 17, &the_file(&case));
            assert_repaired(&case);
        }
    }
}

#[test]
fn a_file_that_is_made_longer_is_cut_in_the_end_and_that_is_said() {
    for mapped in [true, false] {
        let case = one_file("longer", mapped);
        let (outcome, _) = interfered(&case, |case| {
            set_length(&the_file(case), |length| length + 5);
        });
        case.assert_complete(&outcome);
        assert!(outcome.stderr.contains(": cut from "), "{outcome:#?}");
    }
}

#[test]
fn a_file_that_is_deleted_moved_or_replaced_is_an_error() {
    type Interfere = fn(&Path);
    let ways: [(&str, i32, Interfere); 6] = [
        ("deleted", 17, |at| fs::remove_file(at).unwrap()),
        ("moved", 17, |at| fs::rename(at, at.with_extension("kept")).unwrap()),
        ("replaced", 17, replace),
        ("a directory", 16, |at| {
            let other = at.with_extension("other");
            fs::create_dir(&other).unwrap();
            renameat_with(CWD, &other, CWD, at, RenameFlags::EXCHANGE).unwrap();
            fs::remove_file(other).unwrap();
        }),
        ("a link", 16, |at| {
            fs::hard_link(at, at.with_extension("kept")).unwrap();
            replace_by_link(at, &at.with_extension("kept"));
        }),
        ("a link elsewhere", 16, |at| replace_by_link(at, Path::new("/dev/null"))),
    ];
    for mapped in [true, false] {
        for (what, status, interfere) in ways {
            let case = one_file(what, mapped);
            let at = the_file(&case);
            let (outcome, record) = interfered(&case, |case| interfere(&the_file(case)));
            assert_ended(&case, (&outcome, &record), status, &at);
            if status == 16 {
                // Whatever stands there is left alone, by the next run too.
                let found = fs::symlink_metadata(&at).unwrap();
                assert!(!found.is_file(), "{what}");
                case.run(&[], &["--peer", "127.0.0.1:9"]).assert_status(16);
                fs::remove_dir_all(&case.out).unwrap();
            }
            let _kept = fs::remove_file(at.with_extension("kept"));
            assert_repaired(&case);
        }
    }
}

#[test]
fn a_directory_that_is_removed_moved_or_replaced_is_an_error() {
    type Interfere = fn(&Path);
    let ways: [(&str, Interfere); 3] = [
        ("removed", |at| fs::remove_dir_all(at).unwrap()),
        ("moved", |at| fs::rename(at, at.with_extension("kept")).unwrap()),
        ("replaced", |at| {
            fs::rename(at, at.with_extension("kept")).unwrap();
            fs::create_dir(at).unwrap();
        }),
    ];
    for mapped in [true, false] {
        for (what, interfere) in ways {
            for (which, below) in [("DIR", ""), ("NAME", "x"), ("sub", "x/sub")] {
                let case = one_file(&format!("{which} {what}"), mapped);
                let at = match below {
                    "" => case.out.clone(),
                    "x" => case.place(),
                    _ => case.place().join("sub"),
                };
                let (outcome, record) = interfered(&case, |_| interfere(&at));
                assert_ended(&case, (&outcome, &record), 17, &the_file(&case));
                let _kept = fs::remove_dir_all(at.with_extension("kept"));
                assert_repaired(&case);
            }
        }
    }
}

/// The record says how the files looked that the run wrote, and must not take another's for them.
#[test]
fn a_file_that_was_replaced_before_a_stop_is_hashed() {
    for mapped in [true, false] {
        let case = one_file("replaced and stopped", mapped);
        let peer = Peer::start(&case.torrent.payload, resting());
        let run = case.start(&[&peer], &[]);
        case.wait_for_pieces(BEFORE);
        replace(&the_file(&case));
        run.signal("TERM");
        run.wait(LIMIT).assert_status(7);
        assert_repaired(&case);
    }
}

/// More files than are kept open: each is looked at before it is closed.
#[test]
fn a_file_that_was_replaced_is_seen_when_it_is_closed() {
    let names: Vec<String> = (0..40).map(|number| format!("f{number:02}")).collect();
    let files: Vec<_> = names.iter().map(|name| file(name, BLOCK)).collect();
    let case = Case::new(Torrent::multi("replaced among many", &files, BLOCK));
    let (outcome, _) = interfered(&case, |case| {
        let there = case.pieces_there();
        replace(&case.place().join(&names[there[0]]));
    });
    outcome.assert_status(17);
    assert!(outcome.stderr.contains("replaced or cut"), "{outcome:#?}");
    assert_repaired(&case);
}
