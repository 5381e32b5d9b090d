//! The sandbox, from inside: what tries to leave it can't.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;

use rusty_torrent::system::sandbox::{self, Sandbox};

use support::case::Case;
use support::peer::Peer;
use support::scratch::Scratch;
use support::torrent::Torrent;

/// Everything that somebody who took the process over would try.
fn try_to_leave(outside: &Path, inside: &Path) -> Vec<(&'static str, io::Result<()>)> {
    let secret = outside.join("secret");
    vec![
        ("create", File::create(outside.join("new")).map(drop)),
        ("append", File::options().append(true).open(&secret).map(drop)),
        ("read", fs::read(&secret).map(drop)),
        ("list", fs::read_dir(outside).map(drop)),
        ("truncate", File::options().write(true).truncate(true).open(&secret).map(drop)),
        ("make a directory", fs::create_dir(outside.join("directory"))),
        ("remove", fs::remove_file(&secret)),
        ("rename out", fs::rename(inside.join("file"), outside.join("file"))),
        ("rename in", fs::rename(&secret, inside.join("secret"))),
        ("link", fs::hard_link(&secret, inside.join("hard"))),
        ("through a link", fs::write(inside.join("link"), b"x")),
        ("execute", Command::new("/bin/true").status().map(drop)),
    ]
}

#[test]
fn who_is_inside_can_not_leave() {
    let scratch = Scratch::new("sandbox");
    let (outside, inside) = (scratch.join("outside"), scratch.join("inside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    // The sandbox is its thread's and of those that it starts; the test itself stays free.
    let prisoner = {
        let (outside, inside) = (outside.clone(), inside);
        thread::spawn(move || {
            let sandbox = sandbox::enter(&inside).unwrap();
            fs::write(inside.join("file"), b"right").unwrap();
            symlink(outside.join("secret"), inside.join("link")).unwrap();
            fs::create_dir(inside.join("directory")).unwrap();
            fs::rename(inside.join("file"), inside.join("directory/file")).unwrap();
            fs::rename(inside.join("directory/file"), inside.join("file")).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let attempts = thread::spawn(move || try_to_leave(&outside, &inside)).join().unwrap();
            (sandbox, attempts)
        })
    };
    let (sandbox, attempts) = prisoner.join().unwrap();
    println!("{sandbox:?}");
    for (what, outcome) in attempts {
        let kept = outcome.as_ref().is_err_and(|error| {
            // A link or a rename across the border may also be "another device".
            matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::CrossesDevices)
        });
        match sandbox {
            Sandbox::Whole => assert!(kept, "{what}: {outcome:?}"),
            Sandbox::Partial => println!("{what}: {outcome:?}"),
            Sandbox::Absent => {}
        }
    }
    if sandbox == Sandbox::Whole {
        assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}

#[test]
fn the_program_says_what_is_in_force_and_can_be_told_not_to() {
    let case = Case::new(Torrent::single("in a box", 100_000, 32 << 10));
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.complete(&[&peer], &["-v"]);
    assert!(outcome.stderr.contains("sandbox"), "{outcome:#?}");
    fs::remove_dir_all(&case.out).unwrap();
    let outcome = case.complete(&[&peer], &["-v", "--no-sandbox"]);
    assert!(!outcome.stderr.contains("sandbox"), "{outcome:#?}");
}
