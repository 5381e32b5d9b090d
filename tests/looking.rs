//! Looking without doing, with the built program: what is said of a torrent to people and to programs.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::iter;
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use rusty_torrent::limits::PREFLIGHT_TIMEOUT_MS;
use rusty_torrent::protocol::magnet::Magnet;
use rusty_torrent::text::is_plain;

use support::case::{Case, LIMIT, shown};
use support::mount::mounted;
use support::peer::Peer;
use support::program::{self, Outcome};
use support::scratch::Scratch;
use support::torrent::{Torrent, file, files_below, pad};
use support::tracker::{Fault, Tracker};
use support::web::Web;

const PIECE: usize = 16 << 10;

/// Runs it without anybody but those who are named.
fn run(arguments: &[impl AsRef<OsStr>]) -> Outcome {
    let alone = ["--no-lsd", "--no-dht"].map(OsStr::new);
    let arguments = arguments.iter().map(AsRef::as_ref);
    program::run(alone.into_iter().chain(arguments), LIMIT)
}

/// The objects that were said, one a line.
#[track_caller]
fn objects(outcome: &Outcome) -> Vec<Value> {
    let lines = outcome.stdout.lines();
    lines.map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
}

fn hash_of(torrent: &Torrent) -> String {
    torrent.payload.info_hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing that moves a cursor or can't be seen, whoever wrote it.
#[track_caller]
fn assert_plain(outcome: &Outcome) {
    for said in [&outcome.stdout, &outcome.stderr] {
        let odd = said.chars().find(|char| !is_plain(*char) && *char != '\n');
        assert_eq!(odd, None, "{outcome:#?}");
    }
}

// ---- --show ------------------------------------------------------------------------------------

/// With everything that there is to be shown.
fn full(name: &str) -> Torrent {
    let entries = [file("a", 10), pad(PIECE - 10), file("b/c", PIECE + 1), file("empty", 0)];
    Torrent::multi(name, &entries, PIECE)
        .private()
        .tracked_by("http://a.example/announce?key=1&x=2")
        .tracked_by("udp://b.example:1")
        .tracked_by("wss://c.example")
        .mirrored_by("http://d.example/x y/")
}

#[test]
fn a_torrent_is_shown_and_nothing_is_done() {
    let scratch = Scratch::new("shown");
    let torrent = full("shown");
    let path = torrent.write_to(scratch.path());
    let outcome = run(&["--show".as_ref(), path.as_os_str()]);
    outcome.assert_status(0);
    assert_eq!(outcome.stderr, "");
    let expected = format!(
        "shown
  info-hash  {hash}
  size       16.0 KiB (16395 bytes) in 3 files
  pieces     3 pieces of 16.0 KiB
  private    peers come from its trackers and --peer alone
  padding    1 file with 16.0 KiB, left out
  magnet     magnet:?xt=urn:btih:{hash}&dn=shown\
&tr=http%3A%2F%2Fa.example%2Fannounce%3Fkey%3D1%26x%3D2&tr=udp%3A%2F%2Fb.example%3A1\
&tr=wss%3A%2F%2Fc.example&ws=http%3A%2F%2Fd.example%2Fx%2520y%2F
  tracker    1: http://a.example/announce?key=1&x=2
  tracker    2: udp://b.example:1
  tracker    3: wss://c.example
  mirror     http://d.example/x%20y/
     1       10 B shown/a
     3   16.0 KiB shown/b/c
     4        0 B shown/empty
",
        hash = hash_of(&torrent)
    );
    assert_eq!(outcome.stdout, expected);
    assert_eq!(files_below(scratch.path()), [path]);
}

#[test]
fn programs_are_told_the_same() {
    let scratch = Scratch::new("shown to programs");
    let torrent = full("shown");
    let path = torrent.write_to(scratch.path());
    let outcome = run(&["--json".as_ref(), "--show".as_ref(), path.as_os_str()]);
    outcome.assert_status(0);
    let [object] = &objects(&outcome)[..] else { panic!("{outcome:#?}") };
    let magnet = Magnet::parse(object["magnet"].as_str().unwrap()).unwrap();
    assert_eq!(magnet.info_hash.0, torrent.payload.info_hash);
    let expected = json!({
        "name": "shown",
        "info_hash": hash_of(&torrent),
        "multi_file": true,
        "size": PIECE + 11,
        "pieces": 3,
        "piece_length": PIECE,
        "private": true,
        "hybrid": false,
        "padding_files": 1,
        "padding_size": PIECE - 10,
        "magnet": object["magnet"],
        "trackers": [
            ["http://a.example/announce?key=1&x=2"],
            ["udp://b.example:1"],
            ["wss://c.example"],
        ],
        "mirrors": ["http://d.example/x%20y/"],
        "nodes": [],
        "renamed": [],
        "renamed_count": 0,
        "files": [
            { "number": 1, "path": "shown/a", "length": 10 },
            { "number": 3, "path": "shown/b/c", "length": PIECE + 1 },
            { "number": 4, "path": "shown/empty", "length": 0 },
        ],
    });
    assert_eq!(*object, expected);
}

#[test]
fn what_strangers_wrote_is_shown_in_plain_letters() {
    let scratch = Scratch::new("shown strangers");
    let mut entries: Vec<_> = (0..30).map(|number| file(&format!("{number}\x1b"), 10)).collect();
    entries.push(file("two\nlines\u{202e}/\u{9b}31m\"\\", 10));
    let torrent = Torrent::multi("e\x1b[2Jvil\u{200b}", &entries, PIECE)
        .tracked_by("http://a/\u{202e}31m")
        .mirrored_by("http://b/\u{202e}");
    let path = scratch.join("x.torrent");
    fs::write(&path, torrent.encode()).unwrap();
    let text = run(&["--show".as_ref(), path.as_os_str()]);
    text.assert_status(0);
    assert_plain(&text);
    for part in ["\\u{1b}[2J", "12 more", "http://a/%E2%80%AE31m", "two_lines_/_31m\"\\"] {
        assert!(text.stdout.contains(part), "{part}: {text:#?}");
    }
    let json = run(&["--show".as_ref(), "--json".as_ref(), path.as_os_str()]);
    json.assert_status(0);
    assert_plain(&json);
    let object = &objects(&json)[0];
    assert_eq!(object["name"], "e_[2Jvil_");
    assert_eq!(
        (object["renamed"].as_array().unwrap().len(), &object["renamed_count"]),
        (20, &json!(32))
    );
    assert_eq!(object["renamed"][0]["path"], "e_[2Jvil_");
    assert_eq!(object["files"][30]["path"], "e_[2Jvil_/two_lines_/_31m\"\\");
}

#[test]
fn a_hybrid_is_told_apart() {
    let scratch = Scratch::new("shown hybrid");
    let torrent = Torrent::single("hybrid", 10, PIECE).encode();
    let at = torrent.windows(6).position(|part| part == b"4:name").unwrap();
    let hybrid = [&torrent[..at], b"12:meta versioni2e", &torrent[at..]].concat();
    let path = scratch.join("x.torrent");
    fs::write(&path, hybrid).unwrap();
    let outcome = run(&["--show".as_ref(), "--json".as_ref(), path.as_os_str()]);
    assert_eq!(objects(&outcome)[0]["hybrid"], true);
    let outcome = run(&["--show".as_ref(), path.as_os_str()]);
    assert!(outcome.stdout.contains("  hybrid "), "{outcome:#?}");
}

#[test]
fn what_is_elsewhere_is_fetched_to_be_shown() {
    let scratch = Scratch::new("shown from elsewhere");
    let tracker = Tracker::start();
    let torrent = Torrent::single("elsewhere", 3 * PIECE, PIECE).tracked_by(&tracker.http_url());
    let peer = Peer::honest(&torrent.payload);
    tracker.add_peer(peer.address());
    let web = Web::empty();
    web.add("x", &torrent.encode());
    let url = format!("{}/x", web.root());
    let path = torrent.write_to(scratch.path());
    let magnet = torrent.magnet();
    let names = [path.as_os_str(), url.as_ref(), magnet.as_ref(), "no such file".as_ref()];
    let outcome = run(&[&["--show".as_ref(), "--json".as_ref()], &names[..]].concat());
    outcome.assert_status(1);
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
    let objects = objects(&outcome);
    assert_eq!(objects.len(), 3, "{outcome:#?}");
    assert!(objects.iter().all(|object| *object == objects[0]), "{objects:#?}");
    assert_eq!(peer.record().sent.len(), 0, "nothing of it is downloaded");
    assert!(!Path::new("elsewhere").exists());
    // The tracker knows that we have left.
    let announces = tracker.announces();
    let events: Vec<&str> = announces.iter().map(|announce| announce.event.as_str()).collect();
    assert_eq!(events, ["started", "stopped"]);
}

#[test]
fn nobody_is_spoken_to_of_a_file_that_is_shown() {
    let scratch = Scratch::new("shown alone");
    let tracker = Tracker::start();
    let torrent = Torrent::single("alone", 10, PIECE).tracked_by(&tracker.http_url());
    let path = torrent.write_to(scratch.path());
    // A name of a peer would be looked up, and a directory be made.
    let out = shown(&scratch.join("out"));
    let options = ["--show", "--peer", "no.such.host.invalid:1", "-d", &out];
    let outcome = program::run([&options[..], &[&shown(&path)]].concat(), LIMIT);
    outcome.assert_status(0);
    assert_eq!(tracker.announces().len(), 0);
    assert_eq!(files_below(scratch.path()), [path]);
    assert!(!scratch.join("out").exists());
}

// ---- --verify ----------------------------------------------------------------------------------

/// Files that share pieces, some with themselves alone.
fn album(name: &str) -> Torrent {
    let entries = [
        file("1", 2 * PIECE + 5),
        file("2", 10),
        file("3", 3 * PIECE),
        file("empty", 0),
        pad(PIECE - 15),
        file("4", PIECE),
    ];
    Torrent::multi(name, &entries, PIECE)
}

/// How everything below looks: what would change if anything was written.
fn looks(dir: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let mut all = vec![dir.to_owned()];
    let mut seen = 0;
    while let Some(path) = all.get(seen).cloned() {
        seen += 1;
        if path.is_dir() {
            all.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all.sort();
    let look = |path: PathBuf| {
        let found = fs::metadata(&path).unwrap();
        (path, found.len(), found.modified().unwrap())
    };
    all.into_iter().map(look).collect()
}

fn damage(path: &Path, at: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(b"wrong", at).unwrap();
}

#[test]
fn each_file_is_judged_and_nothing_is_changed() {
    let case = Case::new(album("judged"));
    let place = case.place();
    let names = ["1", "2", "3", "empty", "4"];
    type Change = fn(&Path);
    let changes: [(&str, Change, [&str; 5], u32, &str); 10] = [
        ("nothing", |_| {}, ["ok"; 5], 7, ""),
        (
            "a byte of the last",
            |place| damage(&place.join("4"), 100),
            ["ok", "ok", "ok", "ok", "damaged"],
            6,
            "of 5 files: 1 damaged;",
        ),
        (
            "the first is gone",
            |place| fs::remove_file(place.join("1")).unwrap(),
            ["missing", "unknown", "unknown", "ok", "ok"],
            4,
            "of 5 files: 1 missing, 2 unknown;",
        ),
        (
            "a byte of what three share",
            |place| damage(&place.join("2"), 0),
            ["damaged", "damaged", "damaged", "ok", "ok"],
            6,
            "of 5 files: 3 damaged;",
        ),
        (
            "too short",
            |place| {
                File::options().write(true).open(place.join("1")).unwrap().set_len(5).unwrap();
            },
            ["damaged", "unknown", "unknown", "ok", "ok"],
            4,
            "of 5 files: 1 damaged, 2 unknown;",
        ),
        (
            "too long",
            |place| {
                let file = File::options().write(true).open(place.join("4")).unwrap();
                file.set_len(PIECE as u64 + 1).unwrap();
            },
            ["ok", "ok", "ok", "ok", "damaged"],
            7,
            "of 5 files: 1 damaged;",
        ),
        (
            "empty",
            |place| drop(File::create(place.join("2")).unwrap()),
            ["unknown", "damaged", "unknown", "ok", "ok"],
            6,
            "of 5 files: 1 damaged, 2 unknown;",
        ),
        (
            "the empty one is gone",
            |place| fs::remove_file(place.join("empty")).unwrap(),
            ["ok", "ok", "ok", "missing", "ok"],
            7,
            "of 5 files: 1 missing;",
        ),
        (
            "the empty one is none",
            |place| fs::write(place.join("empty"), b"x").unwrap(),
            ["ok", "ok", "ok", "damaged", "ok"],
            7,
            "of 5 files: 1 damaged;",
        ),
        (
            "everything is gone",
            |place| fs::remove_dir_all(place.parent().unwrap()).unwrap(),
            ["missing"; 5],
            0,
            "of 5 files: 5 missing;",
        ),
    ];
    for (name, change, states, pieces, error) in changes {
        case.seed();
        change(&place);
        let before = looks(case.file.parent().unwrap());
        let text = case.run(&[], &["--verify"]);
        let json = case.run(&[], &["--verify", "--json", "--quiet"]);
        let quiet = case.run(&[], &["--verify", "-q"]);
        assert_eq!(looks(case.file.parent().unwrap()), before, "{name}");
        let status = if error.is_empty() { 0 } else { 32 };
        for outcome in [&text, &json, &quiet] {
            assert_eq!(outcome.status, Some(status), "{name}: {outcome:#?}");
            assert_eq!(outcome.stderr.lines().count(), usize::from(status > 0), "{outcome:#?}");
            assert!(outcome.stderr.contains(error), "{name}: {outcome:#?}");
        }
        let mut expected: Vec<String> = iter::zip(states, names)
            .map(|(state, name)| format!("{state:<8} judged/{name}"))
            .collect();
        if error.is_empty() {
            expected.push(format!("{}: 96.0 KiB, all of it right", shown(&place)));
        }
        assert_eq!(text.stdout.lines().collect::<Vec<_>>(), expected, "{name}");
        assert_eq!(quiet.stdout, "", "{name}");
        let object = &objects(&json)[0];
        let files = object["files"].as_array().unwrap();
        let found: Vec<&str> = files.iter().map(|file| file["state"].as_str().unwrap()).collect();
        assert_eq!(found, states, "{name}");
        assert_eq!(object["ok"], status == 0);
        let count = |state| states.iter().filter(|found| **found == state).count();
        for state in ["ok", "missing", "damaged", "unknown"] {
            assert_eq!(object[format!("files_{state}")], count(state), "{name}");
        }
        assert_eq!(object["pieces"], 7);
        assert_eq!(object["pieces_ok"], pieces, "{name}");
        assert_eq!(files[4]["number"], 6, "padding is counted");
    }
}

#[test]
fn what_an_earlier_run_knew_is_hashed_all_the_same() {
    let case = Case::new(Torrent::single("believed", 4 * PIECE, PIECE));
    // A run that seeds keeps a record, which is believed where the time of a file did not change.
    case.seed();
    let running = case.start(&[], &["--seed"]);
    let until = Instant::now() + LIMIT;
    while files_below(&case.out).len() < 2 {
        assert!(Instant::now() < until, "no record is made");
        thread::sleep(Duration::from_millis(2));
    }
    let time = fs::metadata(case.place()).unwrap().modified().unwrap();
    damage(&case.place(), 100);
    File::options().write(true).open(case.place()).unwrap().set_modified(time).unwrap();
    // And a run beside it is no obstacle.
    case.run(&[], &["--verify"]).assert_status(32);
    drop(running);
}

#[test]
fn what_can_not_be_verified_has_a_status() {
    let case = Case::new(album("not verified"));
    case.seed();
    let three = case.place().join("3");
    fs::remove_file(&three).unwrap();
    fs::create_dir(&three).unwrap();
    let outcome = case.run(&[], &["--verify"]);
    outcome.assert_status(16);
    assert!(outcome.stderr.contains(&shown(&three)), "{outcome:#?}");
    assert_eq!(outcome.stderr.lines().count(), 1);
    // A link is none of it, wherever it leads to.
    fs::remove_dir(&three).unwrap();
    symlink(case.place().join("1"), &three).unwrap();
    case.run(&[], &["--verify"]).assert_status(16);
}

#[test]
fn several_are_verified_and_what_a_link_is_of() {
    let scratch = Scratch::new("several verified");
    let tracker = Tracker::start();
    let good = Torrent::single("good", 3 * PIECE, PIECE).tracked_by(&tracker.http_url());
    let bad = Torrent::single("bad", 3 * PIECE, PIECE);
    let peer = Peer::honest(&good.payload);
    tracker.add_peer(peer.address());
    let out = scratch.join("out");
    good.write_payload_to(&out);
    let bad_file = shown(&bad.write_to(scratch.path()));
    let names = [bad_file.as_str(), &good.magnet(), &shown(&out)];
    let outcome = run(&[&["--verify"], &names[..]].concat());
    outcome.assert_status(32);
    assert!(outcome.stderr.starts_with(&format!("error: {bad_file}: of 1 file: 1 missing")));
    assert!(outcome.stdout.starts_with("missing  bad\nok       good\n"), "{outcome:#?}");
    assert_eq!(peer.record().sent.len(), 0);
}

#[test]
fn a_stop_while_it_hashes_is_quick() {
    let case = Case::new(Torrent::zeros("hashed for long", 1 << 14, PIECE));
    case.seed();
    // It is as large as it has to be: on a machine that hashes so fast it is done again.
    for _ in 0..20 {
        let running = case.start(&[], &["--verify"]);
        let open = format!("/proc/{}/fd", running.id());
        let is_open = || {
            let links = fs::read_dir(&open).into_iter().flatten().flatten();
            links.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|to| to == case.place())
        };
        let until = Instant::now() + LIMIT;
        while !is_open() && Instant::now() < until && Path::new(&open).exists() {
            thread::sleep(Duration::from_millis(1));
        }
        running.signal("TERM");
        let asked = Instant::now();
        let outcome = running.wait(LIMIT);
        if outcome.status == Some(0) {
            continue;
        }
        outcome.assert_status(7);
        assert!(asked.elapsed() < Duration::from_secs(5), "{outcome:#?}");
        assert_eq!(outcome.stdout, "");
        return;
    }
    panic!("it was never caught at it");
}

/// What was opened or changed, and how, as strace tells it.
#[test]
#[ignore = "needs strace"]
fn nothing_is_opened_to_be_written() {
    let case = Case::new(album("traced").tracked_by("http://127.0.0.1:1/announce"));
    case.seed();
    let log = case.join("log");
    for options in [&["--verify"][..], &["--verify", "--no-sandbox"], &["--show"]] {
        let mut command = Command::new("strace");
        let calls = "trace=%file,%desc,socket,connect,bind,sendto";
        command.args(["-f", "-qq", "-e", calls, "-o"]).arg(&log).arg(program::path());
        let mut arguments: Vec<OsString> = options.iter().map(Into::into).collect();
        arguments.push(case.file.clone().into());
        if options[0] == "--verify" {
            arguments.push(case.out.clone().into());
        }
        program::start_as(command, arguments).wait(LIMIT).assert_status(0);
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("traced.torrent"), "{log}");
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"];
        let calls = [
            "mkdir",
            "unlink",
            "rename",
            "truncate",
            "fallocate",
            "pwrite",
            "link",
            "socket(",
            "connect(",
            "bind(",
            "sendto(",
        ];
        for line in log.lines().filter(|line| !line.contains("SIG")) {
            let call = line.split_once(' ').unwrap().1.trim_start();
            assert!(!writes.iter().any(|flag| call.contains(flag)), "{options:?}: {line}");
            assert!(!calls.iter().any(|name| call.starts_with(name)), "{options:?}: {line}");
        }
    }
}

// ---- --check-only ------------------------------------------------------------------------------

/// Both ways to look ahead; nothing may be changed.
#[track_caller]
fn check(case: &Case, dir: &Path, options: &[&str]) -> (Outcome, Value) {
    let before = looks(case.file.parent().unwrap());
    let file = shown(&case.file);
    let dir = shown(dir);
    let arguments = [options, &["--check-only", &file, &dir]].concat();
    let text = run(&arguments);
    let json = run(&[&["--json"], &arguments[..]].concat());
    assert_eq!(looks(case.file.parent().unwrap()), before);
    let object = objects(&json)[0].clone();
    assert_eq!(object["status"], text.status.unwrap(), "{text:#?} {json:#?}");
    // How much is free changes from one run to the next.
    let said = |outcome: &Outcome| outcome.stderr.split(" needed, ").next().map(str::to_owned);
    assert_eq!((json.status, said(&json)), (text.status, said(&text)));
    assert_eq!(object["ok"], text.status == Some(0));
    assert_eq!(object["error"].is_null(), text.status == Some(0));
    (text, object)
}

#[test]
fn trackers_are_asked_and_hear_nothing_of_us() {
    let (http, udp) = (Tracker::start(), Tracker::start());
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let torrent = Torrent::single("looked ahead", 3 * PIECE, PIECE)
        .tracked_by(&http.http_url())
        .tracked_by(&udp.udp_url())
        .tracked_by(&format!("http://{dead}/announce?secret"))
        .tracked_by("wss://127.0.0.1:1");
    let case = Case::new(torrent);
    let hash = case.torrent.payload.info_hash;
    let scrape = [b"d5:filesd20:", &hash[..], b"d8:completei7e10:incompletei1eeee"].concat();
    http.set_fault(Fault::Body(scrape));
    let (text, object) = check(&case, &case.out, &[]);
    text.assert_status(0);
    assert_eq!(text.stderr, "");
    let trackers: Vec<(Option<bool>, &Value)> = object["trackers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tracker| (tracker["answers"].as_bool(), &tracker["seeders"]))
        .collect();
    let none = Value::Null;
    let expected =
        [(Some(true), &json!(7)), (Some(true), &none), (Some(false), &none), (Some(false), &none)];
    assert_eq!(trackers, expected);
    for part in [
        "http://127.0.0.1:",
        "(tier 1): answers, 7 seeders, 1 leecher\n",
        "udp://127.0.0.1:",
        "wss://127.0.0.1:1 (tier 4): not used",
        "48.0 KiB needed",
    ] {
        assert!(text.stdout.contains(part), "{part}: {text:#?}");
    }
    assert!(!text.stdout.contains("secret"), "{text:#?}");
    for told in http.announces() {
        assert!(told.target.starts_with("/scrape?info_hash="), "{told:?}");
        assert!(told.peer_id.is_empty() && told.port == 0, "{told:?}");
    }
    assert_eq!((udp.announces().len(), udp.connects()), (0, 2));
    assert_eq!((&object["dir_exists"], &object["needed"]), (&json!(false), &json!(3 * PIECE)));
}

#[test]
fn it_ends_as_a_download_would() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let web = Web::empty();
    let lonely = || Torrent::single("as it would", 3 * PIECE, PIECE);
    type Prepare = fn(&Case);
    let nothing: Prepare = |_| {};
    let a_file: Prepare = |case| fs::write(case.join("file"), b"").unwrap();
    let blocked: Prepare = |case| fs::create_dir_all(case.place()).unwrap();
    let there: Prepare = |case| case.seed();
    type Row<'a> = (&'a str, Torrent, &'a str, Prepare, &'a [&'a str], i32);
    let cases: [Row<'_>; 8] = [
        ("nobody", lonely(), "out", nothing, &[], 6),
        ("no kind", lonely().tracked_by("wss://a"), "out", nothing, &[], 6),
        (
            "no room",
            lonely(),
            "out",
            nothing,
            &["--peer", "127.0.0.1:1", "--min-free", "99999999G"],
            9,
        ),
        ("below a file", lonely(), "file/out", a_file, &["--peer", "127.0.0.1:1"], 18),
        ("a file", lonely(), "file", a_file, &["--peer", "127.0.0.1:1"], 18),
        ("in the way", lonely(), "out", blocked, &["--peer", "127.0.0.1:1"], 16),
        ("all there", lonely(), "out", there, &[], 0),
        ("all there and no room", lonely(), "out", there, &["--min-free", "99999999G"], 0),
    ];
    for (name, torrent, dir, prepare, options, status) in cases {
        let case = Case::new(torrent);
        prepare(&case);
        let dir = case.file.parent().unwrap().join(dir);
        let (text, _) = check(&case, &dir, options);
        assert_eq!(text.status, Some(status), "{name}: {text:#?}");
        let same = run(&[options, &[&shown(&case.file), &shown(&dir)]].concat());
        assert_eq!(same.status, Some(status), "{name}: {same:#?}");
    }
    // What a download would only find out after a while.
    let dead = format!("http://{dead}/announce");
    let broken = Tracker::with_fault(Fault::Status(502, b"no".to_vec()));
    let case = Case::new(lonely().tracked_by(&dead).tracked_by(&broken.http_url()));
    let (text, object) = check(&case, &case.out, &[]);
    text.assert_status(6);
    assert_eq!(
        text.stderr,
        "error: nobody to ask: none of 2 trackers answers; give a peer with --peer or a mirror with --mirror\n"
    );
    assert_eq!(object["trackers"][1]["error"], "HTTP status 502");
    for others in [&["--peer", "127.0.0.1:1"][..], &["--mirror", &web.url()]] {
        check(&case, &case.out, others).0.assert_status(0);
    }
    let options = ["--check-only", "--no-lsd", &shown(&case.file), &shown(&case.out)];
    let outcome = program::run(options, LIMIT);
    outcome.assert_status(0);
    assert!(
        outcome.stdout.contains("the DHT (not tried)\n  result      a download can begin\n"),
        "{outcome:#?}"
    );
}

#[test]
fn trackers_that_are_silent_take_little_time() {
    let silent = Tracker::with_fault(Fault::Silent);
    let torrent = Torrent::single("silence ahead", PIECE, PIECE);
    let case = Case::new(torrent.tracked_by(&silent.http_url()).tracked_by(&silent.udp_url()));
    let began = Instant::now();
    let outcome = case.run(&[], &["--check-only"]);
    outcome.assert_status(6);
    assert!(began.elapsed() < Duration::from_millis(2 * PREFLIGHT_TIMEOUT_MS), "{outcome:#?}");
    // And can be stopped.
    let asked = silent.announces().len();
    let running = case.start(&[], &["--check-only"]);
    silent.wait_for_announces(asked + 1, LIMIT);
    let asked = Instant::now();
    running.signal("TERM");
    running.wait(LIMIT).assert_status(7);
    assert!(asked.elapsed() < Duration::from_secs(3));
}

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn what_can_not_be_written_is_seen_ahead() {
    let name = "what_can_not_be_written_is_seen_ahead";
    let prepare = "mount -t tmpfs none \"$dir\"; mkdir \"$dir/out\"; mount -o remount,ro \"$dir\"";
    mounted(name, 0, prepare, |dir| {
        let peer = ["--peer", "127.0.0.1:1"];
        for (below, status) in [("out", 16), ("new", 18), ("out/new", 18)] {
            let case = Case::new(Torrent::single("read only", PIECE, PIECE));
            let dir = dir.join(below);
            let (text, _) = check(&case, &dir, &peer);
            assert_eq!(text.status, Some(status), "{below}: {text:#?}");
            assert!(text.stderr.contains("Read-only file system"), "{text:#?}");
        }
    });
}
