//! What is typed, what the built program says where, and its exit statuses.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::case::{Case, LIMIT, shown};
use support::peer::{Behaviour, Blocks, Choking, Peer, Silent};
use support::program::{self, Outcome};
use support::scratch::Scratch;
use support::torrent::{Torrent, file};
use support::tracker::{Fault, Tracker};

const PIECE: usize = 32 << 10;

fn run(arguments: &[&str]) -> Outcome {
    program::run(arguments, LIMIT)
}

fn small(name: &str) -> Torrent {
    Torrent::single(name, 3 * PIECE + 1, PIECE)
}

// ---- without a download ------------------------------------------------------------------------

#[test]
fn without_arguments_the_usage_is_told_as_an_error() {
    let outcome = run(&[]);
    outcome.assert_status(28);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains("usage: rusty_torrent"), "{outcome:#?}");
}

#[test]
fn help_and_version_are_answers_and_go_to_standard_output() {
    for option in ["-h", "--help"] {
        let outcome = run(&["-q", option, "no such file"]);
        outcome.assert_status(0);
        assert_eq!(outcome.stderr, "");
        for part in ["usage: rusty_torrent", "--max-peers", "exit status", "28  "] {
            assert!(outcome.stdout.contains(part), "{part}: {outcome:#?}");
        }
        let is_long = outcome.stdout.contains("RUSTY_TORRENT_MAX_PEERS");
        assert_eq!(is_long, option == "--help");
    }
    for option in ["-V", "--version"] {
        let outcome = run(&[option]);
        outcome.assert_status(0);
        let expected = concat!("rusty_torrent ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (expected, ""));
    }
}

#[test]
fn what_can_not_be_understood_is_named_and_nothing_is_done() {
    let case = Case::new(small("bad options"));
    let (file, out) = (shown(&case.file), shown(&case.out));
    let lines: [&[&str]; 9] = [
        &["--frobnicate"],
        &["-x"],
        &["--max-peers", "0"],
        &["--max-peers", "501"],
        &["--port", "65536"],
        &["--timeout", "soon"],
        &["--umask", "888"],
        &["--peer", "127.0.0.1"],
        &["--peer", "127.0.0.1:0"],
    ];
    for options in lines {
        let outcome = run(&[options, &[&file, &out]].concat());
        outcome.assert_status(28);
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.starts_with("error: "), "{outcome:#?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
        assert!(!case.out.exists(), "{options:?}");
    }
}

/// Starts the program with these variables of the environment.
fn run_with(variables: &[(&str, &str)], case: &Case, peers: &[&Peer]) -> Outcome {
    let mut command = Command::new(program::path());
    command.envs(variables.iter().copied());
    case.start_as(command, peers, &[]).wait(LIMIT)
}

#[test]
fn the_environment_can_say_what_an_option_says() {
    let case = Case::new(small("environment"));
    let wrong = run_with(&[("RUSTY_TORRENT_MAX_PEERS", "0")], &case, &[]);
    wrong.assert_status(28);
    let expected = "error: RUSTY_TORRENT_MAX_PEERS takes 1 to 500, not `0`; see";
    assert!(wrong.stderr.starts_with(expected), "{wrong:#?}");
    let peer = Peer::honest(&case.torrent.payload);
    let log = shown(&case.join("log"));
    let variables = [("RUSTY_TORRENT_LOG", &*log), ("RUSTY_TORRENT_MAX_PEER", "1")];
    let outcome = run_with(&variables, &case, &[&peer]);
    case.assert_complete(&outcome);
    assert!(outcome.stderr.contains("RUSTY_TORRENT_MAX_PEER is ignored"), "{outcome:#?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
    assert!(fs::read_to_string(log).unwrap().contains("environment"));
}

#[test]
fn files_that_are_no_torrents_have_their_statuses() {
    let scratch = Scratch::new("no torrents");
    let out = shown(&scratch.join("out"));
    let good = small("no torrents").encode();
    let changed = |from: &str, to: &str| {
        let text: String = good.iter().map(|byte| char::from(*byte)).collect();
        assert!(text.contains(from));
        text.replace(from, to).chars().map(|char| u8::try_from(char).unwrap()).collect()
    };
    let files: [(&str, Vec<u8>, i32); 9] = [
        ("empty", Vec::new(), 25),
        ("a web page", b"<html>".to_vec(), 25),
        ("cut", good[..good.len() / 2].to_vec(), 25),
        ("no dictionary", b"le".to_vec(), 26),
        ("no info", b"d8:announce3:xyze".to_vec(), 26),
        ("no name and no length", b"d4:infodee".to_vec(), 26),
        ("negative", changed("6:lengthi98305e", "6:lengthi-1e"), 26),
        ("too few pieces", changed("6:lengthi98305e", "6:lengthi999999e"), 26),
        ("no piece length", changed("12:piece lengthi32768e", "12:piece lengthi0e"), 26),
    ];
    for (name, bytes, status) in files {
        let path = scratch.join(name);
        fs::write(&path, bytes).unwrap();
        let outcome = run(&["--peer", "127.0.0.1:1", &shown(&path), &out]);
        assert_eq!(outcome.status, Some(status), "{name}: {outcome:#?}");
        assert!(outcome.stderr.starts_with("error: "), "{name}: {outcome:#?}");
    }
    for missing in [scratch.join("missing"), scratch.path().to_owned()] {
        let outcome = run(&[&shown(&missing), &out]);
        outcome.assert_status(1);
        assert!(outcome.stderr.contains(&shown(&missing)), "{outcome:#?}");
    }
    assert!(!scratch.join("out").exists());
}

#[test]
fn a_path_that_leads_out_is_refused_before_anything_is_done() {
    let tracker = Tracker::start();
    let torrents = [
        Torrent::multi("leads out", &[file("good", 10), file("../bad", 10)], PIECE),
        Torrent::multi("leads out below", &[file("a/../../bad", 10)], PIECE),
        Torrent::single("..", 10, PIECE),
    ];
    for torrent in torrents {
        let scratch = Scratch::new("leads out");
        let path = scratch.join("x.torrent");
        let torrent = torrent.tracked_by(&tracker.http_url()).tracked_by(&tracker.udp_url());
        fs::write(&path, torrent.encode()).unwrap();
        let outcome = run(&[&shown(&path), &shown(&scratch.join("out"))]);
        outcome.assert_status(26);
        assert!(outcome.stderr.contains("`..`"), "{outcome:#?}");
        assert!(!scratch.join("out").exists() && !scratch.join("bad").exists());
    }
    assert_eq!((tracker.announces().len(), tracker.datagrams()), (0, 0));
}

#[test]
fn with_nobody_to_ask_it_ends_at_once() {
    for (name, url) in [("nobody", None), ("wss alone", Some("wss://127.0.0.1:1/announce"))] {
        let mut torrent = small(name);
        if let Some(url) = url {
            torrent = torrent.tracked_by(url);
        }
        let outcome = Case::new(torrent).run(&[], &[]);
        outcome.assert_status(6);
        assert!(outcome.stderr.contains("--peer"), "{outcome:#?}");
    }
}

#[test]
fn a_peer_without_an_address_is_named() {
    let case = Case::new(small("no address"));
    // No server is asked for a name that is longer than any can be.
    let name = format!("{}.invalid:6881", "x".repeat(64));
    let outcome = case.run(&[], &["--peer", &name]);
    outcome.assert_status(19);
    assert!(outcome.stderr.contains(&name), "{outcome:#?}");
    assert!(!case.out.exists());
}

#[test]
fn a_log_that_can_not_be_written_ends_it_before_it_begins() {
    let case = Case::new(small("no log"));
    let log = shown(&case.join("no such directory/log"));
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.run(&[&peer], &["-l", &log]);
    outcome.assert_status(16);
    assert!(outcome.stderr.contains(&log), "{outcome:#?}");
    assert_eq!(peer.record().connections, 0);
}

#[test]
fn what_is_made_has_the_rights_that_were_asked_for() {
    for (mask, file_mode, directory_mode) in
        [("022", 0o644, 0o755), ("2", 0o664, 0o775), ("0077", 0o600, 0o700), ("0", 0o666, 0o777)]
    {
        let files = [file("a", 40_000), file("b/c", 40_000)];
        let case = Case::new(Torrent::multi(&format!("mask {mask}"), &files, PIECE));
        let peer = Peer::honest(&case.torrent.payload);
        let log = case.join("log");
        case.complete(&[&peer], &["--umask", mask, "--log", &shown(&log)]);
        let place = case.place();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for file in [&log, &place.join("a"), &place.join("b/c")] {
            assert_eq!(mode(file), file_mode, "{}, {mask}", file.display());
        }
        for directory in [&case.out, &place, &place.join("b")] {
            assert_eq!(mode(directory), directory_mode, "{}, {mask}", directory.display());
        }
    }
}

// ---- giving up ---------------------------------------------------------------------------------

struct GivesUp<'a> {
    name: &'a str,
    tracker: Option<&'a Tracker>,
    peer: Option<Behaviour>,
    /// What is in the reason that is told.
    says: &'a [&'a str],
}

impl GivesUp<'_> {
    fn check(&self) {
        let mut torrent = small(&format!("gives up, {}", self.name));
        if let Some(tracker) = self.tracker {
            torrent = torrent.tracked_by(&tracker.http_url());
        }
        let case = Case::new(torrent);
        let peer = self.peer.clone();
        let peer = peer.map(|behaviour| Peer::start(&case.torrent.payload, behaviour));
        let outcome = case.run(&peer.iter().collect::<Vec<_>>(), &["--timeout", "3"]);
        outcome.assert_status(2);
        assert_eq!(outcome.stdout, "");
        let last = outcome.stderr.lines().last().unwrap_or_default();
        for part in ["error: no new piece for 3 s: "].iter().chain(self.says) {
            assert!(last.contains(part), "{part}: {outcome:#?}");
        }
    }
}

#[test]
fn when_its_patience_ends_it_names_what_stands_in_the_way() {
    let refuses = Tracker::with_fault(Fault::Failure(b"unregistered torrent".to_vec()));
    let knows_nobody = Tracker::start();
    let by_tracker = |name, tracker, says| GivesUp { name, tracker, peer: None, says };
    let by_peer = |name, peer, says| GivesUp { name, tracker: None, peer: Some(peer), says };
    let silent = |silent| Behaviour { silent: Some(silent), ..Behaviour::default() };
    let choking = Behaviour { choking: Choking::Never, ..Behaviour::default() };
    let corrupt = Behaviour { blocks: Blocks::Corrupt, ..Behaviour::default() };
    let refused = &["1 tracker", "unregistered torrent", "no peers known"];
    let cases = [
        by_tracker("refused", Some(&refuses), refused),
        by_tracker("lonely", Some(&knows_nobody), &["no peers known"]),
        by_peer("dead peer", silent(Silent::AfterAccept), &["0 of 1 peer answered"]),
        by_peer("silent peer", silent(Silent::AfterBlocks(1)), &["1 peer connected, none sends"]),
        by_peer("choked", choking, &["1 peer connected, none sends"]),
        by_peer("corrupt", corrupt, &["1 banned for wrong data"]),
    ];
    std::thread::scope(|scope| {
        let runs = cases.each_ref().map(|case| scope.spawn(|| case.check()));
        runs.into_iter().for_each(|run| run.join().unwrap());
    });
}

#[test]
fn patience_begins_anew_with_each_piece() {
    let case = Case::new(Torrent::single("slow but steady", 6 * (16 << 10), 16 << 10));
    let slow = Behaviour { block_pause: Duration::from_secs(1), ..Behaviour::default() };
    let peer = Peer::start(&case.torrent.payload, slow);
    // The first block comes at once, the other five take longer than its patience in all.
    case.complete(&[&peer], &["--timeout", "3"]);
}

// ---- what is said where ------------------------------------------------------------------------

#[test]
fn quiet_means_silent_unless_something_is_wrong() {
    let case = Case::new(small("quiet"));
    let peer = Peer::honest(&case.torrent.payload);
    for _ in 0..2 {
        let outcome = case.run(&[&peer], &["--quiet"]);
        outcome.assert_status(0);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    }
    case.torrent.assert_is_in(&case.out);
    let outcome = Case::new(small("quiet failure")).run(&[], &["-q"]);
    outcome.assert_status(6);
    assert!(outcome.stderr.starts_with("error: nobody to ask"), "{outcome:#?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
}

#[test]
fn the_log_is_appended_to_and_fuller_than_the_screen() {
    let case = Case::new(small("logged"));
    let peer = Peer::honest(&case.torrent.payload);
    let log = case.join("log");
    fs::write(&log, "before\n").unwrap();
    for options in [&["-l", &shown(&log)][..], &["-v", "--quiet", "--log", &shown(&log)]] {
        let outcome = case.run(&[&peer], options);
        outcome.assert_status(0);
        assert_eq!(outcome.stderr, "");
    }
    let log = fs::read_to_string(log).unwrap();
    assert!(log.starts_with("before\n"), "{log}");
    let info_hash: String =
        case.torrent.payload.info_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(log.matches(&info_hash).count(), 2, "both runs: {log}");
}

#[test]
fn verbose_tells_of_peers_and_pieces() {
    let case = Case::new(small("verbose"));
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.complete(&[&peer], &["-vvv"]);
    for part in [&peer.address().to_string()[..], "connected", "piece 3 is right"] {
        assert!(outcome.stderr.contains(part), "{part}: {outcome:#?}");
    }
    assert!(!outcome.stderr.contains(['\x1b', '\r']), "{outcome:#?}");
}

#[test]
fn strangers_can_not_write_to_the_terminal() {
    let evil = "evil\x1b[2J\u{202e}name";
    let reason = b"see \x1b]0;title\x07 there\r\nfake line";
    let tracker = Tracker::with_fault(Fault::Failure(reason.to_vec()));
    let files = [file("a\x1b[31mb", 10), file("two\nlines", 10), file("c\x07/d\u{9b}e", 10)];
    let torrent = Torrent::multi(evil, &files, PIECE).tracked_by(&tracker.http_url());
    let scratch = Scratch::new("strangers");
    let (path, log) = (scratch.join("x.torrent"), scratch.join("log"));
    fs::write(&path, torrent.encode()).unwrap();
    let out = scratch.join("out");
    let peer = Peer::closed(&torrent.payload, Behaviour::default());
    let address = peer.address().to_string();
    let arguments = ["-vvv", "-l", &shown(&log), "--peer", &address, &shown(&path), &shown(&out)];
    let running = program::start(arguments);
    tracker.wait_for_announces(1, LIMIT);
    peer.open();
    let outcome = running.wait(LIMIT);
    outcome.assert_status(0);
    let log = fs::read_to_string(log).unwrap();
    assert!(outcome.stderr.contains("two\\nlines"), "it says what was changed: {outcome:#?}");
    for said in [&outcome.stdout, &outcome.stderr, &log] {
        let control = said.chars().find(|char| char.is_control() && *char != '\n');
        assert_eq!(control, None, "{said}");
        assert!(!said.contains('\u{202e}'), "{said}");
        assert!(said.lines().all(|line| !line.starts_with("fake line")), "{said}");
    }
    let names: Vec<String> = support::torrent::files_below(&out)
        .iter()
        .map(|path| shown(path.strip_prefix(&out).unwrap()))
        .collect();
    assert_eq!(names, ["evil_[2J_name/a_[31mb", "evil_[2J_name/c_/d_e", "evil_[2J_name/two_lines"]);
}
