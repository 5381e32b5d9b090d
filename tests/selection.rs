//! The built program fetches the files that are selected and makes no others; what a piece brings of
//! the others is kept, and of what is selected later only the difference is fetched.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use support::case::{Case, LIMIT, pieces_asked};
use support::peer::{Behaviour, Peer};
use support::program::{self, Outcome};
use support::seeder::Seeder;
use support::torrent::{Torrent, file, files_below, pad};
use support::tracker::Tracker;
use support::web::Web;

const PIECE: usize = 32 << 10;

/// Pieces: `a` 0 and half of 1; `b` the rest of 1, 2, most of 3; `c` inside of 3; `d` the rest of
/// 3 to the start of 6; `e` the rest of 6 and 7.
fn torrent(name: &str) -> Torrent {
    let (half, some) = (PIECE / 2, 100);
    let files = [
        file("a.bin", PIECE + half),
        file("none", 0),
        file("sub/b.bin", half + PIECE + PIECE - 3 * some),
        file("sub/c.txt", some),
        file("d.bin", 2 * some + 2 * PIECE + 5),
        file("e.bin", 2 * PIECE - 5 - 7),
    ];
    Torrent::multi(name, &files, PIECE)
}

/// The files below the output directory but for what is kept aside; each has the right bytes.
#[track_caller]
fn files_there(case: &Case) -> Vec<usize> {
    let files = case.torrent.files();
    let ours = |path: &PathBuf| !path.starts_with(case.out.join(&case.torrent.name));
    let there: Vec<_> = files_below(&case.out).into_iter().filter(|path| !ours(path)).collect();
    let place = |path: &PathBuf| {
        let known = files.iter().position(|(known, _)| case.out.join(known) == *path);
        let place = known.unwrap_or_else(|| panic!("{} is none of it", path.display()));
        assert!(fs::read(path).unwrap() == files[place].1, "{}", path.display());
        place + 1
    };
    let mut places: Vec<usize> = there.iter().map(place).collect();
    places.sort_unstable();
    places
}

fn aside_of(case: &Case) -> PathBuf {
    case.out.join(format!(".{}.rusty_torrent.parts", case.torrent.name))
}

fn record_of(case: &Case) -> PathBuf {
    case.out.join(format!(".{}.rusty_torrent", case.torrent.name))
}

/// A run that must end well, and the pieces that it asked for.
#[track_caller]
fn fetch(case: &Case, options: &[&str]) -> (Vec<usize>, Outcome) {
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.run(&[&peer], options);
    outcome.assert_status(0);
    (pieces_asked(&peer.record()), outcome)
}

#[test]
fn only_selected_files_are_made_and_the_others_come_later() {
    for (number, (options, files, pieces, rest)) in [
        (vec!["--select-file", "1"], vec![1], vec![0, 1], vec![2, 3, 4, 5, 6, 7]),
        (vec!["--select-file", "3,5"], vec![3, 5], vec![1, 2, 3, 4, 5, 6], vec![0, 7]),
        (vec!["--select-file=4"], vec![4], vec![3], vec![0, 1, 2, 4, 5, 6, 7]),
        (
            vec!["--select", "*.txt", "--select", "a.*"],
            vec![1, 4],
            vec![0, 1, 3],
            vec![2, 4, 5, 6, 7],
        ),
        (vec!["--select", "sub"], vec![3, 4], vec![1, 2, 3], vec![0, 4, 5, 6, 7]),
        (vec!["--select-file", "2"], vec![2], vec![], (0..8).collect()),
        (vec!["--select-file", "1,3-6"], vec![1, 3, 4, 5, 6], (0..8).collect(), vec![]),
    ]
    .into_iter()
    .enumerate()
    {
        let case = Case::new(torrent(&format!("selected {number}")));
        let (asked, outcome) = fetch(&case, &options);
        assert_eq!((files_there(&case), asked), (files.clone(), pieces), "{options:?}");
        let told = format!(": {} of 6 files, ", files.len());
        assert!(outcome.stdout.contains(&told), "{outcome:#?}");

        // Again: nothing is missing, nobody is asked, and nothing is hashed that was recorded.
        let (asked, outcome) = fetch(&case, &options);
        assert_eq!((files_there(&case), asked), (files.clone(), vec![]), "{options:?} again");
        assert!(outcome.stdout.contains("all there already"), "{outcome:#?}");

        // The rest: the difference alone, and nothing else is left.
        let (asked, _) = fetch(&case, &[]);
        assert_eq!(asked, rest, "after {options:?}");
        case.torrent.assert_is_in(&case.out);
    }
}

#[test]
fn one_selection_after_the_other_fetches_each_piece_once() {
    let case = Case::new(torrent("by and by"));
    for (options, files, pieces) in [
        ("4", vec![4], vec![3]),
        ("1", vec![1, 4], vec![0, 1]),
        ("6", vec![1, 4, 6], vec![6, 7]),
        ("3", vec![1, 3, 4, 6], vec![2]),
        ("1,6", vec![1, 3, 4, 6], vec![]),
        ("5", vec![1, 3, 4, 5, 6], vec![4, 5]),
        ("1-6", vec![1, 2, 3, 4, 5, 6], vec![]),
    ] {
        let (asked, _) = fetch(&case, &["--select-file", options]);
        assert_eq!((files_there(&case), asked), (files, pieces), "{options}");
    }
    case.torrent.assert_is_in(&case.out);
}

#[test]
fn what_is_known_is_not_hashed_and_what_was_changed_is() {
    let case = Case::new(torrent("known"));
    let options = ["-v", "--select-file", "3"];
    fetch(&case, &options);
    let (asked, outcome) = fetch(&case, &options);
    assert!(asked.is_empty());
    assert!(outcome.stderr.contains("3 pieces are known from the last run"), "{outcome:#?}");

    // Without the record what is there is hashed, with what is kept aside.
    fs::remove_file(record_of(&case)).unwrap();
    let (asked, outcome) = fetch(&case, &options);
    assert!(asked.is_empty() && !outcome.stderr.contains("are known"), "{outcome:#?}");

    // Without what was aside, the pieces on the edges come again, and no more.
    fs::remove_file(aside_of(&case)).unwrap();
    let (asked, _) = fetch(&case, &options);
    assert_eq!((asked, files_there(&case)), (vec![1, 3], vec![3]));
    fs::write(aside_of(&case), vec![7; 3 * PIECE]).unwrap();
    let (asked, _) = fetch(&case, &options);
    assert_eq!((asked, files_there(&case)), (vec![1, 3], vec![3]));
    let (asked, _) = fetch(&case, &[]);
    assert_eq!(asked, [0, 4, 5, 6, 7]);
    case.torrent.assert_is_in(&case.out);
}

#[test]
fn files_that_are_there_stay_though_they_are_not_selected() {
    let case = Case::new(torrent("stays"));
    case.torrent.write_payload_to(&case.out);
    let (asked, _) = fetch(&case, &["--select-file", "3"]);
    assert_eq!((asked, files_there(&case)), (vec![], vec![1, 2, 3, 4, 5, 6]));
    assert!(!aside_of(&case).exists());

    // One that is short, or has other bytes, is left as it is.
    let files = case.torrent.files();
    let path = |number: usize| case.out.join(&files[number - 1].0);
    fs::write(path(1), b"short").unwrap();
    fs::remove_file(path(3)).unwrap();
    let (asked, _) = fetch(&case, &["--select-file", "3"]);
    assert_eq!(asked, [1, 2, 3], "4 and 5 are known to be right where piece 3 lies");
    assert_eq!(fs::read(path(1)).unwrap(), b"short");
    assert_eq!(fs::read(path(3)).unwrap(), files[2].1);
}

#[test]
fn a_run_that_was_stopped_goes_on() {
    let files: Vec<_> = (0..8).map(|number| file(&format!("f{number}"), 3 * PIECE + 77)).collect();
    let case = Case::new(Torrent::multi("stopped selection", &files, PIECE));
    let behaviour = Behaviour { block_pause: Duration::from_millis(5), ..Behaviour::default() };
    let options = ["--select-file", "2,5-6,8"];
    for _ in 0..2 {
        let peer = Peer::start(&case.torrent.payload, behaviour.clone());
        let run = case.start(&[&peer], &options);
        peer.wait_until(|record| record.sent.len() >= 10);
        run.signal("TERM");
        run.wait(LIMIT).assert_status(7);
    }
    let (asked, _) = fetch(&case, &options);
    // Files 2, 5, 6 and 8 with what their first and last pieces bring of the others.
    let wanted: Vec<usize> = [3..=6, 12..=18, 21..=24].into_iter().flatten().collect();
    assert!(asked.len() < wanted.len() - 5, "{asked:?}");
    assert!(asked.iter().all(|piece| wanted.contains(piece)), "{asked:?}");
    assert_eq!(files_there(&case), [2, 5, 6, 8]);
    let (asked, _) = fetch(&case, &[]);
    assert!(asked.iter().all(|piece| !wanted.contains(piece)), "{asked:?}");
    case.torrent.assert_is_in(&case.out);
}

#[test]
fn a_killed_run_costs_what_was_under_way() {
    let case = Case::new(torrent("killed"));
    let options = ["--select-file", "3"];
    let behaviour = Behaviour { has: Some(vec![1, 3]), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, behaviour);
    let log = case.join("log").display().to_string();
    let run = case.start(&[&peer], &["-v", "--log", &log, options[0], options[1]]);
    let began = Instant::now();
    while !fs::read_to_string(&log).unwrap_or_default().contains("piece 1 is right") {
        assert!(began.elapsed() < LIMIT, "piece 1 does not come");
        thread::sleep(Duration::from_millis(2));
    }
    run.signal("KILL");
    run.wait(LIMIT);
    let (asked, _) = fetch(&case, &options);
    assert!(!asked.contains(&1), "{asked:?}");
    assert_eq!(files_there(&case), [3]);
}

#[test]
fn padding_is_neither_selected_nor_written() {
    let files =
        [file("a", PIECE - 10), pad(10), file("b", PIECE + 9), pad(PIECE - 9), file("c", 5)];
    let case = Case::new(Torrent::multi("padded selection", &files, PIECE));
    let (asked, outcome) = fetch(&case, &["--select-file", "3"]);
    assert_eq!((asked, files_there(&case)), (vec![1, 2], vec![2]));
    assert!(outcome.stdout.contains(": 1 of 3 files, "), "{outcome:#?}");
    assert!(!aside_of(&case).exists(), "no piece reaches into another file");
    let (asked, _) = fetch(&case, &[]);
    assert_eq!(asked, [0, 3]);
    case.torrent.assert_is_in(&case.out);
}

#[test]
fn trackers_hear_of_what_is_missing_and_not_that_it_is_complete() {
    let tracker = Tracker::start();
    let case = Case::new(torrent("told").tracked_by(&tracker.http_url()));
    let peer = Peer::honest(&case.torrent.payload);
    tracker.add_peer(peer.address());
    let total = case.torrent.payload.bytes.len() as u64;
    case.run(&[], &["--select-file", "6"]).assert_status(0);
    let told: Vec<_> =
        tracker.announces().into_iter().map(|told| (told.event, told.left)).collect();
    let six_and_seven = total - 6 * PIECE as u64;
    assert_eq!(told, [("started".into(), total), ("stopped".into(), total - six_and_seven)]);
    case.run(&[], &[]).assert_status(0);
    let told: Vec<_> = tracker.announces().into_iter().map(|told| told.event).skip(2).collect();
    assert_eq!(told, ["started", "completed", "stopped"]);
}

#[test]
fn a_mirror_brings_the_selected_files() {
    let torrent = torrent("mirrored selection");
    let web = Web::start(&torrent);
    let case = Case::new(torrent.mirrored_by(&format!("{}/", web.url())));
    case.run(&[], &["--select-file", "3"]).assert_status(0);
    assert_eq!(files_there(&case), [3]);
    case.run(&[], &[]).assert_status(0);
    case.torrent.assert_is_in(&case.out);
}

#[test]
fn what_a_run_has_of_the_torrent_it_gives() {
    let case = Case::new(torrent("part of it"));
    let other = case.join("other");
    let peer = Peer::honest(&case.torrent.payload);
    let seeder = Seeder::go_on(case, &[&peer], &["--seed", "--select-file", "3"]);
    let address = seeder.address().to_string();
    let arguments = ["--no-lsd", "--no-dht", "--select-file", "3", "--peer", &address];
    let paths = [seeder.case.file.as_os_str(), other.as_os_str()];
    let arguments = arguments.iter().map(OsStr::new).chain(paths);
    program::run(arguments, LIMIT).assert_status(0);
    let (b, bytes) = &seeder.case.torrent.files()[2];
    assert!(fs::read(other.join(b)).unwrap() == *bytes);
    assert!(!pieces_asked(&peer.record()).contains(&0));
    seeder.run.signal("TERM");
    seeder.run.wait(LIMIT).assert_status(0);
}

#[test]
fn what_the_torrent_does_not_have_is_refused_before_anything_is_done() {
    let case = Case::new(torrent("refused"));
    for (options, reason) in [
        (["--select-file", "7"], "there is no file 7, the last is 6; rusty_torrent --show"),
        (["--select", "*.iso"], "no file matches *.iso; "),
    ] {
        let outcome = case.run(&[], &options);
        outcome.assert_status(28);
        assert!(outcome.stderr.contains(reason), "{outcome:#?}");
        assert!(!case.out.exists());
    }
}

#[test]
fn what_was_selected_is_verified_with_what_is_aside() {
    let case = Case::new(torrent("verified selection"));
    let options = ["--select-file", "3-4"];
    fetch(&case, &options);
    let verify = |options: &[&str]| case.run(&[], &[&["--verify"], options].concat());
    let outcome = verify(&options);
    outcome.assert_status(0);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let name = &case.torrent.name;
    assert_eq!(
        lines[..2],
        [format!("ok       {name}/sub/b.bin"), format!("ok       {name}/sub/c.txt")]
    );
    assert_eq!(lines.len(), 3, "{outcome:#?}");
    // Of all of them, those that are there are right all the same.
    let outcome = verify(&[]);
    outcome.assert_status(32);
    assert!(outcome.stderr.contains("of 6 files: 4 missing;"), "{outcome:#?}");
    // What is aside is believed no more than what is not.
    fs::write(aside_of(&case), vec![7; 3 * PIECE]).unwrap();
    let outcome = verify(&options);
    outcome.assert_status(32);
    assert!(
        outcome.stdout.contains("unknown") || outcome.stdout.contains("damaged"),
        "{outcome:#?}"
    );
}

#[test]
fn a_selection_outlives_others_that_have_nothing_to_do_with_it() {
    let files: Vec<_> = (0..6).map(|number| file(&format!("f{number}"), 2 * PIECE + 9)).collect();
    for (number, other) in [
        vec!["--select-file", "6"],
        vec!["--select-file", "6", "--stdout"],
        vec!["--select-file", "2"],
    ]
    .into_iter()
    .enumerate()
    {
        let case = Case::new(Torrent::multi(&format!("outlives {number}"), &files, PIECE));
        let first = ["--select-file", "1,3"];
        let (before, _) = fetch(&case, &first);
        // Nobody to ask: nothing of the other comes.
        case.run(&[], &other).assert_status(6);
        let (asked, _) = fetch(&case, &first);
        assert_eq!(asked, Vec::<usize>::new(), "{other:?} in vain");
        let (theirs, _) = fetch(&case, &other);
        assert!(theirs.iter().all(|piece| !before.contains(piece)), "{other:?}: {theirs:?}");
        case.run(&[], &["--verify", first[0], first[1]]).assert_status(0);
        let (asked, _) = fetch(&case, &first);
        assert_eq!(asked, Vec::<usize>::new(), "{other:?}");
        let (asked, _) = fetch(&case, &[]);
        assert!(asked.iter().all(|piece| !before.contains(piece)), "{other:?}: {asked:?}");
        case.torrent.assert_is_in(&case.out);
    }
}

#[test]
fn many_small_files_are_recorded_and_everything_goes_when_all_is_there() {
    let files: Vec<_> = (0..60).map(|number| file(&format!("f{number:02}"), 1_000)).collect();
    let case = Case::new(Torrent::multi("many small", &files, 16 << 10));
    let options = ["-v", "--select-file", "1-40"];
    fetch(&case, &options);
    let (asked, outcome) = fetch(&case, &options);
    assert!(asked.is_empty() && outcome.stderr.contains("are known"), "{outcome:#?}");
    case.run(&[], &["--verify", "--select-file", "1-40"]).assert_status(0);
    let (asked, _) = fetch(&case, &["--select-file", "41-60"]);
    assert_eq!(asked, [3], "the others reach into the first forty");
    case.torrent.assert_is_in(&case.out);
}
