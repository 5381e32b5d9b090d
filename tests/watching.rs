//! What the built program shows while it runs and when it ends, to people and to programs, and what
//! it runs when everything is there.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::case::{Case, LIMIT, shown};
use support::peer::{Behaviour, Peer};
use support::program::{self, Outcome};
use support::scratch::Scratch;
use support::torrent::{Torrent, file};

const PIECE: usize = 32 << 10;

fn slow() -> Behaviour {
    Behaviour { block_pause: Duration::from_millis(20), ..Behaviour::default() }
}

fn three_files(name: &str) -> Case {
    let files = [file("a", PIECE + 5), file("deep/b c", 3 * PIECE), file("empty", 0), file("d", 7)];
    Case::new(Torrent::multi(name, &files, PIECE))
}

/// The records, each of which is a line.
fn records(outcome: &Outcome) -> Vec<Value> {
    let lines = outcome.stdout.lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// The last record, which is the only one of its kind.
#[track_caller]
fn end(outcome: &Outcome) -> Value {
    let mut records = records(outcome);
    let end = records.pop().expect("a record");
    assert_eq!(end["event"], "end", "{outcome:#?}");
    assert_eq!(end["status"], json!(outcome.status), "{outcome:#?}");
    assert!(records.iter().all(|record| record["event"] != "end"), "{outcome:#?}");
    end
}

// ---- files -------------------------------------------------------------------------------------

#[test]
fn each_file_is_listed_once_when_it_is_complete() {
    let case = three_files("listed");
    let peer = Peer::honest(&case.torrent.payload);
    let first = case.run(&[&peer], &["--summary"]);
    first.assert_status(0);
    let place = shown(&case.place());
    let mut lines: Vec<&str> = first.stdout.lines().collect();
    let result = lines.pop().unwrap();
    assert!(result.starts_with(&format!("{place}: 128.0 KiB in ")), "{first:#?}");
    lines.sort_unstable();
    let expected = [
        format!("{place}/a: 32.0 KiB"),
        format!("{place}/d: 7 B"),
        format!("{place}/deep/b c: 96.0 KiB"),
        format!("{place}/empty: 0 B"),
    ];
    assert_eq!(lines, expected, "{first:#?}");

    // What is wrong is in two files.
    let mut bytes = fs::read(case.place().join("a")).unwrap();
    bytes[PIECE + 1] ^= 1;
    fs::write(case.place().join("a"), bytes).unwrap();
    let second = case.run(&[&peer], &["--summary", "-q"]);
    second.assert_status(0);
    let mut lines: Vec<&str> = second.stdout.lines().collect();
    let already = [format!("{place}/empty: 0 B"), format!("{place}/d: 7 B, there already")];
    let mut fetched = lines.split_off(2);
    fetched.sort_unstable();
    assert_eq!(lines, already, "{second:#?}");
    assert_eq!(fetched, [&expected[0], &expected[2]], "{second:#?}");
}

// ---- records -----------------------------------------------------------------------------------

#[test]
fn records_tell_a_program_of_everything() {
    let case = three_files("records");
    let peer = Peer::start(&case.torrent.payload, slow());
    let outcome = case.run(&[&peer], &["--progress", "json", "--summary"]);
    outcome.assert_status(0);
    let total = case.torrent.payload.bytes.len();
    let all = records(&outcome);
    let torrent = &all[0];
    assert_eq!(torrent["event"], "torrent");
    assert_eq!((&torrent["total"], &torrent["files"]), (&json!(total), &json!(4)));
    let of = |event: &str| all.iter().filter(|record| record["event"] == event).collect::<Vec<_>>();
    let downloading =
        of("progress").into_iter().find(|record| record["phase"] == "downloading").unwrap();
    assert_eq!(downloading["total"], json!(total));
    for number in ["had", "downloaded", "uploaded", "download_rate", "peers", "known", "mirrors"] {
        assert!(downloading[number].is_u64(), "{number}: {downloading}");
    }
    assert_eq!(of("file").len(), 4);
    let end = end(&outcome);
    let path = |path: &str| shown(&case.place().join(path));
    assert_eq!(end["files"], json!(["a", "deep/b c", "empty", "d"].map(path)));
    assert_eq!(end["reason"], Value::Null);
    assert_eq!(end["name"], json!(case.torrent.name));
    assert_eq!(end["info_hash"].as_str().unwrap().len(), 40);
    assert_eq!(end["dir"], json!(shown(&case.out)));
    assert_eq!((&end["total"], &end["downloaded"]), (&json!(total), &json!(total)));
    assert_eq!(outcome.stderr, "", "{outcome:#?}");

    let again = case.run(&[], &["--progress=json"]);
    assert_eq!(self::end(&again)["downloaded"], json!(0));
    assert_eq!(self::end(&again)["files"], end["files"]);
}

#[test]
fn a_run_that_fails_has_a_last_record_as_well() {
    let case = Case::new(Torrent::single("fails", 40 * PIECE, PIECE));
    // Nobody to ask.
    let outcome = case.run(&[], &["--progress", "json"]);
    outcome.assert_status(6);
    assert_eq!(end(&outcome)["name"], json!(case.torrent.name));
    assert!(end(&outcome)["reason"].as_str().unwrap().starts_with("nobody to ask"));
    assert_eq!(end(&outcome)["files"], json!([]));

    // Stopped on the way.
    let peer = Peer::start(&case.torrent.payload, slow());
    let run = case.start(&[&peer], &["--progress", "json"]);
    peer.wait_until(|record| record.sent.len() >= 20);
    run.signal("TERM");
    let outcome = run.wait(LIMIT);
    outcome.assert_status(7);
    let end_of_it = end(&outcome);
    let last = records(&outcome).into_iter().rfind(|record| record["event"] == "progress");
    let downloaded = &last.expect("a record")["downloaded"];
    assert_eq!(&end_of_it["downloaded"], downloaded, "not as it was at the end");
    assert!(downloaded.as_u64().unwrap() > 0, "{end_of_it}");
    assert!(end_of_it["reason"].as_str().unwrap().contains("run the same command again"));

    // No torrent, no such option, and a name that looks like one.
    let none = shown(&case.join("none.torrent"));
    for (line, status) in [
        (vec!["--progress", "json", &none], 1),
        (vec!["--progress=json", "--no-such-option", &none], 28),
        (vec!["--port", "--progress", "json", &none], 28),
    ] {
        let outcome = program::run(&line, LIMIT);
        outcome.assert_status(status);
        let end = end(&outcome);
        assert_eq!((&end["name"], &end["total"]), (&Value::Null, &Value::Null));
        assert!(!end["reason"].as_str().unwrap().is_empty());
        assert_eq!(records(&outcome).len(), 1);
    }
    let outcome = program::run(["--no-such-option", "--", "--progress=json"], LIMIT);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(28), ""));
}

#[test]
fn a_style_is_kept_to() {
    let case = Case::new(Torrent::single("styles", 8 * PIECE, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    // Where there is no terminal, nothing is rewritten, whatever is wanted.
    let outcome = case.complete(&[&peer], &["--map", "--progress", "auto"]);
    assert_eq!(outcome.stderr, "");
    for style in ["plain", "none"] {
        let outcome = case.complete(&[], &["--map", "--progress", style]);
        assert_eq!(outcome.stderr, "", "{style}");
    }
    case.run(&[], &["--progress", "bar"]).assert_status(28);
}

// ---- the command -------------------------------------------------------------------------------

/// What a file has in it, once somebody has written it.
fn wait_for(path: &Path) -> String {
    let began = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ if began.elapsed() > LIMIT => panic!("waited in vain for {}", path.display()),
            _ => thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[test]
fn the_command_is_told_what_is_there_and_may_write_anywhere() {
    let case = three_files("command 'told' $(x)");
    let peer = Peer::honest(&case.torrent.payload);
    let told = case.join("told");
    let command = format!(
        "echo on stdout; printf '%s|' \"$RT_DIR\" \"$RT_NAME\" \"$RT_INFO_HASH\" \"$RT_STATUS\" \
         \"$RT_DOWNLOADED\" \"$RT_FILE_COUNT\" \"$RT_FILES\" > '{0}' && cat \"$RT_DIR/$RT_NAME/d\" \
         >> '{0}'",
        told.display().to_string().replace('\'', "'\\''")
    );
    let outcome = case.complete(&[&peer], &["--on-complete", &command]);
    assert!(outcome.stderr.contains("on stdout"), "{outcome:#?}");
    let name = &case.torrent.name;
    let bytes = fs::read(&told).unwrap();
    let begin = format!("{}|{name}|", shown(&case.out));
    assert!(bytes.starts_with(begin.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
    let total = case.torrent.payload.bytes.len();
    let files = format!("|0|{total}|4|{name}/a\n{name}/deep/b c\n{name}/empty\n{name}/d\n|");
    let last = fs::read(case.place().join("d")).unwrap();
    let behind = [files.as_bytes(), &last].concat();
    assert_eq!(bytes[begin.len() + 40..], behind, "{}", String::from_utf8_lossy(&bytes));

    // There already: it is run again, and can tell.
    let command = "exit $((3 + RT_DOWNLOADED))";
    let outcome = case.run(&[], &["--on-complete", command, "--progress", "json"]);
    outcome.assert_status(33);
    assert!(outcome.stderr.contains("failed with status 3"), "{outcome:#?}");
    assert!(end(&outcome)["reason"].as_str().unwrap().contains("failed with status 3"));
}

#[test]
fn the_command_is_run_while_others_are_given_to() {
    let case = Case::new(Torrent::single("command seeds", 4 * PIECE, PIECE));
    let peer = Peer::honest(&case.torrent.payload);
    let told = case.join("told");
    let command = format!("echo $RT_DOWNLOADED > '{}'; exec sleep 1000", told.display());
    let mut run = case.start(&[&peer], &["--seed", "--on-complete", &command]);
    assert_eq!(wait_for(&told).trim(), (4 * PIECE).to_string());
    assert!(run.is_running());
    // The signal is for both.
    run.signal("TERM");
    let outcome = run.wait(LIMIT);
    outcome.assert_status(33);
    // And nobody else says so, as shells do.
    assert!(outcome.stderr.ends_with("failed with status 143 (signal 15)\n"), "{outcome:#?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
    assert_eq!(outcome.stdout.lines().count(), 1);
}

#[test]
fn a_signal_ends_a_command_that_runs() {
    let case = Case::new(Torrent::single("command signal", 4 * PIECE, PIECE));
    case.seed();
    let told = case.join("told");
    // Not the shell alone: what it started as well.
    let command = format!("sleep 1000 & echo $! > '{}'; wait", told.display());
    let run = case.start(&[], &["--on-complete", &command]);
    let sleeper = wait_for(&told);
    run.signal("INT");
    run.wait(LIMIT).assert_status(33);
    let began = Instant::now();
    while is_alive(sleeper.trim()) {
        assert!(began.elapsed() < LIMIT, "it sleeps on");
        thread::sleep(Duration::from_millis(2));
    }
}

fn is_alive(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.starts_with(" Z"))
}

/// The shell that waits for its time.
fn child_of(process: u32) -> Option<String> {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().next().map(str::to_owned)
}

#[test]
fn a_run_that_does_not_end_well_runs_no_command_and_leaves_no_shell() {
    for signal in ["TERM", "KILL"] {
        let case = Case::new(Torrent::single(&format!("no command {signal}"), 40 * PIECE, PIECE));
        let peer = Peer::start(&case.torrent.payload, slow());
        let told = case.join("told");
        let command = format!("echo run > '{}'", told.display());
        let run = case.start(&[&peer], &["--on-complete", &command]);
        peer.wait_until(|record| record.sent.len() >= 5);
        let shell = child_of(run.id()).expect("a shell waits");
        run.signal(signal);
        let outcome = run.wait(LIMIT);
        assert_ne!(outcome.status, Some(0));
        let began = Instant::now();
        while is_alive(&shell) {
            assert!(began.elapsed() < LIMIT, "the shell is left behind");
            thread::sleep(Duration::from_millis(2));
        }
        assert!(!told.exists());
    }
}

// ---- the command, for several ------------------------------------------------------------------

/// What every run of several gets.
fn options<'a>(dir: &'a str, command: &'a str) -> [&'a str; 6] {
    ["--no-lsd", "--no-dht", "--dir", dir, "--on-complete", command]
}

/// A path that a command has between single quotes.
fn quoted(path: &Path) -> String {
    shown(path).replace('\'', "'\\''")
}

#[test]
fn the_command_is_run_for_each_torrent_that_completes() {
    let scratch = Scratch::new("each");
    let out = scratch.join("out");
    let write = |torrent: &Torrent| shown(&torrent.write_to(scratch.path()));
    let name = r#"$(exit 1) `id` 'it"; exit 1 #\"#;
    let fetched = Torrent::multi(name, &[file(" a ", 5), file("b/$0 *", PIECE)], PIECE);
    let peer = Peer::honest(&fetched.payload);
    let link = format!("{}&x.pe={}", fetched.magnet(), peer.address());
    let [nobody, fails, last] =
        ["nobody", "fails", "last"].map(|name| Torrent::single(name, PIECE, PIECE));
    fails.write_payload_to(&out);
    last.write_payload_to(&out);
    let bad = shown(&scratch.join("bad.torrent"));
    fs::write(&bad, "<html>").unwrap();
    let names = [&link, &write(&nobody), &bad, &write(&fails), &write(&last)];

    // It can neither eat what the next is told, nor leave anything to it, nor speak for the shell.
    let told = scratch.join("told");
    let command = format!(
        "cat; echo 0; RT_LEFT=$RT_LEFT.; printf '%s|' \"$RT_DIR\" \"$RT_NAME\" \"$RT_STATUS\" \
         \"$RT_DOWNLOADED\" \"$RT_FILE_COUNT\" \"$RT_FILES\" \"$RT_LEFT\" >> '{}'
         RT_FILES=left; export RT_FILES; test \"$RT_NAME\" != fails || exit 9",
        quoted(&told)
    );
    let dir = shown(&out);
    let run = |names: &[&String]| {
        let mut arguments = options(&dir, &command).to_vec();
        arguments.extend(names.iter().map(|name| name.as_str()));
        program::run(arguments, LIMIT)
    };
    let outcome = run(&names.each_ref().map(|name| *name));
    outcome.assert_status(6);
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| *line != "0").collect();
    let reasons = ["nobody to ask", "not a torrent file", "failed with status 9"];
    assert_eq!(errors.len(), reasons.len(), "{outcome:#?}");
    for ((error, name), reason) in errors.iter().zip(&names[1..]).zip(reasons) {
        assert!(error.contains(name.as_str()) && error.contains(reason), "{outcome:#?}");
    }
    assert_eq!(outcome.stdout.lines().count(), 3, "{outcome:#?}");
    let name = &fetched.name;
    let first = format!("{name}|0|{}|2|{name}/ a \n{name}/b/$0 *\n|.|", 5 + PIECE);
    let all = [first, "fails|0|0|1|fails\n|.|".to_owned(), "last|0|0|1|last\n|.|".to_owned()];
    let expected = all.map(|one| format!("{dir}|{one}")).concat();
    assert_eq!(fs::read_to_string(&told).unwrap(), expected);

    // The first that fails has the say.
    let outcome = run(&[names[4], names[3], names[1]]);
    outcome.assert_status(33);
    assert!(outcome.stderr.contains("failed with status 9"), "{outcome:#?}");
}

#[test]
fn a_signal_is_for_the_command_that_runs_and_it_has_time_to_end() {
    let scratch = Scratch::new("time to end");
    let (out, told) = (scratch.join("out"), scratch.join("told"));
    let names = ["ends", "never"].map(|name| {
        let torrent = Torrent::single(name, PIECE, PIECE);
        torrent.write_payload_to(&out);
        shown(&torrent.write_to(scratch.path()))
    });
    let command = format!(
        "trap 'exit 4' TERM; sleep 1000 & echo \"$RT_NAME\" >> '{}'; wait; exit 5",
        quoted(&told)
    );
    let dir = shown(&out);
    let run =
        program::start(options(&dir, &command).into_iter().chain(names.iter().map(String::as_str)));
    assert_eq!(wait_for(&told), "ends\n");
    run.signal("TERM");
    let outcome = run.wait(LIMIT);
    outcome.assert_status(33);
    let errors: Vec<&str> = outcome.stderr.lines().collect();
    assert!(errors[0].contains(&names[0]) && errors[0].contains("failed with status 4"));
    assert_eq!(errors[1..], ["error: stopped before 1 torrent"], "{outcome:#?}");
    assert_eq!(fs::read_to_string(&told).unwrap(), "ends\n");
}

#[test]
fn without_its_shell_no_command_counts_as_done() {
    let scratch = Scratch::new("no shell");
    let out = scratch.join("out");
    let slowly = Torrent::single("slowly", 10 * PIECE, PIECE);
    let there = Torrent::single("there", PIECE, PIECE);
    there.write_payload_to(&out);
    let peer = Peer::start(&slowly.payload, slow());
    let address = peer.address().to_string();
    let [slow_file, there_file] =
        [&slowly, &there].map(|torrent| shown(&torrent.write_to(scratch.path())));
    let dir = shown(&out);
    let assert_lost = |outcome: &Outcome| {
        outcome.assert_status(33);
        let why =
            "the command of --on-complete can't be waited for: its shell has ended, signal: 9";
        assert_eq!(outcome.stderr.matches(why).count(), 2, "{outcome:#?}");
        assert_eq!(outcome.stdout.lines().count(), 2, "{outcome:#?}");
    };

    // While it waits.
    let mut arguments = options(&dir, "true").to_vec();
    arguments.extend(["--peer", &address, &slow_file, &there_file]);
    let run = program::start(arguments);
    peer.wait_until(|record| record.sent.len() >= 5);
    let shell = child_of(run.id()).expect("a shell waits");
    let killed = std::process::Command::new("kill").args(["-KILL", &shell]).status().unwrap();
    assert!(killed.success());
    assert_lost(&run.wait(LIMIT));

    // While the command runs.
    let mut arguments = options(&dir, "kill -KILL $PPID; exit 0").to_vec();
    arguments.extend([slow_file.as_str(), &there_file]);
    assert_lost(&program::run(arguments, LIMIT));
}
