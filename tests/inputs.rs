//! What TORRENT may be: a file, standard input, a URL, and several of them, with the built program.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use support::case::{LIMIT, shown};
use support::peer::{Behaviour, Peer, Silent};
use support::program::{self, Outcome};
use support::scratch::Scratch;
use support::torrent::Torrent;
use support::tracker::{self, Tracker};
use support::web::{Fault, Web};

const PIECE: usize = 32 << 10;
/// What a user who pressed Ctrl-C will bear.
const SOON: Duration = Duration::from_secs(5);

fn torrent(name: &str) -> Torrent {
    Torrent::single(name, 3 * PIECE + 1, PIECE)
}

/// Runs it without anybody but those who are named.
fn run(arguments: &[&str]) -> Outcome {
    program::run([&["--no-lsd", "--no-dht"], arguments].concat(), LIMIT)
}

#[track_caller]
fn assert_one_line(outcome: &Outcome, status: i32, parts: &[&str]) {
    outcome.assert_status(status);
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
    for part in parts {
        assert!(outcome.stderr.contains(part), "{part}: {outcome:#?}");
    }
}

// ---- one ---------------------------------------------------------------------------------------

#[test]
fn standard_input_is_as_good_as_a_file() {
    let scratch = Scratch::new("standard input");
    let torrent = torrent("standard input");
    let peer = Peer::honest(&torrent.payload);
    let (file, out) = (torrent.write_to(scratch.path()), scratch.join("out"));
    let address = peer.address().to_string();
    for script in ["exec \"$@\" <\"$0\"", "cat \"$0\" | \"$@\""] {
        let arguments = ["--no-lsd", "--no-dht", "--peer", &address, "-", &shown(&out)];
        let outcome = program::start_from(script, &file, arguments).wait(LIMIT);
        outcome.assert_status(0);
        torrent.assert_is_in(&out);
        fs::remove_dir_all(&out).unwrap();
    }
    // There is nothing in it.
    assert_one_line(&run(&["-", &shown(&out)]), 25, &["standard input"]);
    assert!(!out.exists());
}

#[test]
fn a_url_is_as_good_as_a_file() {
    let scratch = Scratch::new("a url");
    let torrent = torrent("a url");
    let peer = Peer::honest(&torrent.payload);
    let address = peer.address().to_string();
    let faults = [(None, 1), (Some(Fault::WholeWithoutLength), 1), (Some(Fault::Redirects(3)), 4)];
    for (fault, requests) in faults {
        let web = Web::empty();
        web.add("some where.torrent", &torrent.encode());
        web.set_fault(fault.clone());
        let url = format!("{}/some where.torrent#there", web.root());
        let out = scratch.join("out");
        let outcome = run(&["--peer", &address, &url, &shown(&out)]);
        outcome.assert_status(0);
        assert_eq!(outcome.stderr, "", "{fault:?}");
        torrent.assert_is_in(&out);
        assert_eq!(web.requests().len(), requests, "{fault:?}");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn a_url_may_have_a_name_and_a_password() {
    let scratch = Scratch::new("a password");
    let web = Web::empty();
    web.add("x?secret", b"le");
    let url = web.root().replace("http://", "http://me:secret@") + "/x?secret";
    let outcome = run(&[&url, &shown(&scratch.join("out"))]);
    assert_one_line(&outcome, 26, &[&web.root()]);
    assert!(!outcome.stderr.contains("secret"), "{outcome:#?}");
    let headers = &web.requests()[0].headers;
    // "me:secret" in base 64.
    let login = headers.iter().find(|(name, _)| name == "authorization").unwrap();
    assert_eq!(login.1, "Basic bWU6c2VjcmV0");
}

#[test]
fn a_url_that_is_of_no_use_has_a_status_and_a_line() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let raw = |head: &str| Fault::Raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").into_bytes());
    let faults = [
        (Fault::Status(404, String::new()), 1, "HTTP status 404"),
        (Fault::Status(503, String::new()), 1, "HTTP status 503"),
        (Fault::Close, 6, "can't fetch the torrent from http://127.0.0.1:"),
        (Fault::Raw(b"SSH-2.0-x\r\n".to_vec()), 6, "broken HTTP"),
        (Fault::RedirectTo("ftp://127.0.0.1/".to_owned()), 6, "bad redirect"),
        (Fault::Redirects(6), 6, "bad redirect"),
        (raw("Content-Length: 99999999999"), 26, "larger than 64.0 MiB"),
        (raw("Content-Length: 40000000"), 28, "--max-memory"),
        (Fault::Endless, 26, "its length was not told"),
        (Fault::Cut(100), 6, "can't fetch"),
        (Fault::WrongBytes, 25, "not a torrent file: http://127.0.0.1:"),
    ];
    let scratch = Scratch::new("bad urls");
    let out = shown(&scratch.join("out"));
    for (fault, status, reason) in faults {
        let web = Web::empty();
        web.add("secret", &torrent("bad url").encode());
        web.set_fault(fault.clone());
        let outcome = run(&[&format!("{}/secret", web.root()), &out]);
        assert_one_line(&outcome, status, &[reason]);
        assert!(!outcome.stderr.contains("secret"), "{fault:?}: {outcome:#?}");
    }
    let refused = run(&[&format!("http://{closed}/secret"), &out]);
    assert_one_line(&refused, 6, &["refused", &closed.to_string()]);
    let unknown = run(&["http://no.such.host.invalid/secret", &out]);
    assert_one_line(&unknown, 19, &["no.such.host.invalid"]);
    assert_one_line(&run(&["http:///secret", &out]), 1, &["bad URL"]);
}

#[test]
fn a_stop_while_a_server_is_silent_is_quick() {
    let scratch = Scratch::new("a silent server");
    let web = Web::empty();
    web.set_fault(Fault::Silent);
    let running = program::start([&web.root(), &shown(&scratch.join("out"))]);
    web.wait_for(1, 0);
    let asked = Instant::now();
    running.signal("TERM");
    assert_one_line(&running.wait(LIMIT), 7, &["stopped"]);
    assert!(asked.elapsed() < SOON);
}

// ---- several -----------------------------------------------------------------------------------

#[test]
fn several_are_downloaded_one_after_the_other() {
    let scratch = Scratch::new("several");
    let trackers = [(); 4].map(|()| Tracker::start());
    let names = ["first", "second", "third", "fourth"];
    let torrents: Vec<Torrent> = names
        .iter()
        .zip(&trackers)
        .map(|(name, tracker)| torrent(name).tracked_by(&tracker.http_url()))
        .collect();
    let peers: Vec<Peer> = torrents.iter().map(|torrent| Peer::honest(&torrent.payload)).collect();
    trackers.iter().zip(&peers).for_each(|(tracker, peer)| tracker.add_peer(peer.address()));
    let web = Web::empty();
    web.add("third.torrent", &torrents[2].encode());
    let first = shown(&torrents[0].write_to(scratch.path()));
    let second = torrents[1].write_to(scratch.path());
    let names = [&first, "-", &format!("{}/third.torrent", web.root()), &torrents[3].magnet()];
    for by_option in [false, true] {
        let out = scratch.join(if by_option { "by option" } else { "last" });
        let mut arguments = vec!["--no-lsd", "--no-dht"];
        let dir = shown(&out);
        match by_option {
            false => arguments.extend([&names[..], &[&dir]].concat()),
            true => arguments.extend([&["--dir", &dir], &names[..]].concat()),
        }
        let outcome = program::start_from("exec \"$@\" <\"$0\"", &second, &arguments).wait(LIMIT);
        outcome.assert_status(0);
        assert_eq!(outcome.stderr, "");
        let said: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(said.len(), 4, "{outcome:#?}");
        for (torrent, line) in torrents.iter().zip(said) {
            assert!(line.starts_with(&shown(&out.join(&torrent.name))), "{outcome:#?}");
            let there = fs::read(out.join(&torrent.name)).unwrap();
            assert!(there == *torrent.payload.bytes, "{}", torrent.name);
        }
    }
}

#[test]
fn one_that_fails_does_not_keep_the_others_from_being_tried() {
    let scratch = Scratch::new("some fail");
    let good = torrent("good");
    let peer = Peer::honest(&good.payload);
    let address = peer.address().to_string();
    let good_file = shown(&good.write_to(scratch.path()));
    let write = |name: &str, bytes: &[u8]| {
        fs::write(scratch.join(name), bytes).unwrap();
        shown(&scratch.join(name))
    };
    let (bad, worse) = (write("bad", b"<html>"), write("worse", b"le"));
    let missing = shown(&scratch.join("missing"));
    // A directory is where the file should be.
    let blocked = torrent("blocked");
    let blocked_file = shown(&blocked.write_to(scratch.path()));
    let cases: [(&[&str], i32, &[&str]); 4] = [
        (&[&bad, &good_file], 25, &[&bad]),
        (&[&good_file, &worse, &bad], 26, &[&worse, &bad]),
        (&[&missing, &worse, &good_file], 1, &[&missing, &worse]),
        (&[&blocked_file, &bad, &good_file], 16, &[&blocked_file, &bad]),
    ];
    for (names, status, failed) in cases {
        let out = scratch.join("out");
        fs::create_dir_all(out.join("blocked")).unwrap();
        let dir = shown(&out);
        let outcome = run(&[&["--peer", &address, "-d", &dir], names].concat());
        outcome.assert_status(status);
        let errors: Vec<&str> = outcome.stderr.lines().collect();
        assert_eq!(errors.len(), failed.len(), "{outcome:#?}");
        for (error, name) in errors.iter().zip(failed) {
            assert!(error.starts_with("error: ") && error.contains(name), "{outcome:#?}");
        }
        assert!(fs::read(out.join("good")).unwrap() == *good.payload.bytes);
        fs::remove_dir_all(&out).unwrap();
    }
    // Nothing is made for those that are none.
    let out = scratch.join("never");
    run(&["-d", &shown(&out), &bad, &missing]).assert_status(25);
    assert!(!out.exists());
    // Each says what is wrong with the directory.
    let below_a_file = Path::new(&bad).join("out");
    let outcome = run(&["-d", &shown(&below_a_file), &good_file, &blocked_file]);
    outcome.assert_status(18);
    let said = outcome.stderr.matches("can't open or make the directory").count();
    assert_eq!(said, 2, "{outcome:#?}");
}

#[test]
fn a_signal_ends_all_of_them() {
    let scratch = Scratch::new("all stopped");
    let (first, second) = (torrent("the first"), torrent("the second"));
    let silent = Behaviour { silent: Some(Silent::AfterAccept), ..Behaviour::default() };
    let peer = Peer::start(&first.payload, silent);
    let files = [&first, &second].map(|torrent| shown(&torrent.write_to(scratch.path())));
    let out = scratch.join("out");
    let (address, dir) = (peer.address().to_string(), shown(&out));
    let options = ["--no-lsd", "--no-dht", "--peer", &address];
    let running = program::start([&options[..], &[&files[0], &files[1], &dir]].concat());
    peer.wait_until(|record| record.connections > 0);
    running.signal("INT");
    let outcome = running.wait(LIMIT);
    outcome.assert_status(7);
    let errors: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(errors.len(), 2, "{outcome:#?}");
    assert!(errors[0].starts_with(&format!("error: {}: stopped", files[0])), "{outcome:#?}");
    assert_eq!(errors[1], "error: stopped before 1 torrent");
    assert!(!out.join("the second").exists());
}

#[test]
fn what_one_leaves_behind_fits_beside_the_next() {
    let scratch = Scratch::new("left behind");
    let silent = [(); 8].map(|()| Tracker::with_fault(tracker::Fault::Silent));
    let torrents: Vec<Torrent> = (0..12)
        .map(|number| {
            let torrent = torrent(&format!("left behind {number}"));
            silent.iter().fold(torrent, |torrent, tracker| torrent.tracked_by(&tracker.http_url()))
        })
        .collect();
    let peers: Vec<Peer> = torrents.iter().map(|torrent| Peer::honest(&torrent.payload)).collect();
    // Each has a peer of its own, which its link names.
    let links: Vec<String> = torrents
        .iter()
        .zip(&peers)
        .map(|(torrent, peer)| format!("{}&x.pe={}", torrent.magnet(), peer.address()))
        .collect();
    let dir = shown(&scratch.join("out"));
    let options = ["--no-lsd", "--no-dht", "--max-memory", "10M", "--dir", &dir];
    let links: Vec<&str> = links.iter().map(String::as_str).collect();
    let (outcome, most) = program::start([&options[..], &links].concat()).watch(LIMIT);
    outcome.assert_status(0);
    assert_eq!(outcome.stdout.lines().count(), torrents.len(), "{outcome:#?}");
    assert!(most.anonymous > 0 && most.anonymous <= 10 << 20, "{most:?}");
}

#[test]
fn what_is_not_meant_is_not_done() {
    let scratch = Scratch::new("not meant");
    let file = torrent("not meant").write_to(scratch.path());
    let (file, out) = (shown(&file), shown(&scratch.join("out")));
    let cases: [(&[&str], &str); 3] = [
        (&[&file, &file], "--dir"),
        (&["--seed", &file, &file, &out], "--seed-time"),
        (&["-d", &out, "-", "-"], "once"),
    ];
    for (arguments, reason) in cases {
        assert_one_line(&run(arguments), 28, &[reason]);
    }
    assert!(!Path::new(&out).exists());
}
