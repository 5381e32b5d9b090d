//! One system call at a time fails, whichever it is: the download succeeds all the same, or one
//! line says why not, and another run without the fault completes what it left.
//!
//! `cargo test --test faults -- --ignored --skip fifty` tries a few calls of each kind, and
//! `--ignored fifty` the first fifty. `RUSTY_TORRENT_BIN` must name a static executable: a fault
//! that kills the loader of another says nothing. strace counts in each thread for itself, so
//! "the 3rd" is the 3rd of every thread.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]
#![allow(clippy::print_stdout)] // what was tried and what came of it is the point

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::case::Case;
use support::peer::{Behaviour, Peer};
use support::program::{self, Outcome};
use support::torrent::{Torrent, file};

const PIECE: usize = 64 << 10;
/// With strace at every step, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// More than the pause before a peer is dialled again.
const PATIENCE_S: &str = "5";

const FEW: [usize; 6] = [1, 2, 3, 5, 12, 30];
/// What can only be waited for takes longer.
const FEWER: [usize; 2] = [1, 4];
/// The first system call that is the program's own. What fails before it kills the C library, or
/// Rust's, which can't be helped.
const FIRST: &str = "socketpair";

/// System calls, and the errors that they answer with.
type Faults = &'static [(&'static str, &'static str)];

const FILES: Faults = &[
    ("pwritev", "ENOSPC EIO EDQUOT"),
    ("pread64", "EIO"),
    ("fallocate", "ENOSPC EIO EOPNOTSUPP EINTR"),
    ("ftruncate", "EIO ENOSPC"),
    ("openat", "EMFILE ENFILE ENOMEM EACCES EIO ENOSPC"),
    ("statx,fstat,newfstatat", "EIO ENOMEM"),
    ("mkdirat,mkdir", "EROFS ENOSPC"),
    ("fstatfs", "EIO"),
    ("flock", "ENOLCK EAGAIN"),
    ("unlinkat", "EIO"),
    ("write", "EIO EPIPE ENOSPC"),
    ("read", "EIO EINTR"),
];
const MEMORY: Faults = &[
    ("mmap", "ENOMEM"),
    ("munmap", "ENOMEM"),
    ("madvise", "ENOMEM EINVAL EFAULT EIO"),
    ("msync", "EIO"),
    ("mprotect", "ENOMEM"),
    ("brk", "ENOMEM"),
];
const NETWORK: Faults = &[
    ("socket", "EMFILE ENOBUFS"),
    ("connect", "ECONNREFUSED ENETUNREACH EADDRNOTAVAIL"),
    ("recvfrom", "ENOMEM ECONNRESET EINTR"),
    ("sendto", "ENOBUFS ECONNRESET EPIPE"),
    ("poll,ppoll", "ENOMEM EINTR"),
    ("setsockopt,getsockopt", "ENOPROTOOPT"),
];
const THREADS: Faults = &[
    ("clone,clone3", "EAGAIN ENOMEM"),
    ("eventfd2", "EMFILE ENOMEM"),
    ("socketpair", "EMFILE"),
    ("rt_sigaction", "EINVAL"),
    ("sigaltstack", "ENOMEM"),
    ("prlimit64", "EPERM"),
    ("landlock_create_ruleset", "ENOSYS EOPNOTSUPP"),
    ("landlock_add_rule", "EINVAL"),
    ("landlock_restrict_self", "EPERM E2BIG"),
    ("sched_getaffinity", "EPERM"),
    ("getrandom", "ENOSYS"),
];
/// If these fail the record's file can't be found or removed.
const LEAVES_THE_RECORD: [&str; 2] = ["unlinkat", "statx,fstat,newfstatat"];
/// What happens when a run ends early only.
const RECORD: Faults = &[
    ("fdatasync", "EIO ENOSPC EINVAL"),
    ("syncfs", "EIO"),
    ("rename,renameat,renameat2", "EIO ENOSPC"),
    ("write", "EIO ENOSPC"),
    ("openat", "EMFILE ENOSPC EIO"),
    ("flock", "ENOLCK"),
    ("unlinkat", "EIO"),
];

/// Runs the program with each fault at each of these calls; what came of it, in numbers.
fn try_all(name: &str, faults: Faults, calls: &[usize], whole: bool) {
    let files = [file("large", 3 << 20), file("d/small", 100_000), file("empty", 0)];
    let case = Case::new(Torrent::multi(name, &files, PIECE));
    let payload = &case.torrent.payload;
    let half = Behaviour { has: Some((0..payload.pieces() / 2).collect()), ..Behaviour::default() };
    let seeder = Peer::honest(payload);
    let other = if whole { Peer::honest(payload) } else { Peer::start(payload, half) };
    let patience = if whole { PATIENCE_S } else { "1" };
    for (call, errors) in faults {
        for error in errors.split(' ') {
            let (mut ends, mut said) = (BTreeMap::<i32, u32>::new(), BTreeSet::new());
            for number in calls {
                let what = format!("{call}: {error} at call {number}");
                let (outcome, came, began) = fail(&case, &other, patience, call, error, *number);
                if !began {
                    let _never_made = fs::remove_dir_all(&case.out);
                    continue;
                }
                check(&case, &outcome, call, &what);
                if !came {
                    let usual = if whole { 0 } else { 2 };
                    assert_eq!(outcome.status, Some(usual), "{what} never came: {outcome:#?}");
                    fs::remove_dir_all(&case.out).unwrap();
                    break;
                }
                *ends.entry(outcome.status.unwrap()).or_default() += 1;
                let lines = outcome.stderr.lines().filter(|line| line.starts_with("error: "));
                said.extend(lines.map(|line| line.replace(&*case.out.to_string_lossy(), "DIR")));
                // Nothing is in the way of another run, and nothing wrong is taken for right.
                case.complete(&[&seeder], &[]);
                fs::remove_dir_all(&case.out).unwrap();
            }
            println!("{call} {error}: {ends:?} {said:?}");
        }
    }
}

/// Runs it with that fault. Whether there was one, and whether it came to the program's own calls.
fn fail(
    case: &Case,
    peer: &Peer,
    patience: &str,
    call: &str,
    error: &str,
    number: usize,
) -> (Outcome, bool, bool) {
    let trace = case.join("trace");
    let inject = format!("inject={call}:error={error}:when={number}");
    let (trace_calls, peer) = (format!("trace={call},{FIRST}"), peer.address().to_string());
    let program = program::path();
    let mut arguments: Vec<&Path> = Vec::new();
    let strace = ["-f", "--seccomp-bpf", "-qq", "-e", &trace_calls, "-e", &inject, "-o"];
    arguments.extend(strace.map(Path::new));
    arguments.extend([&*trace, &*program]);
    // One thread for the peer, so that what fails for it does so once; or some that can't start.
    let peers = if THREADS.iter().any(|(one, _)| *one == call) { "8" } else { "1" };
    let options = ["--max-peers", peers, "--timeout", patience, "--peer", &peer];
    arguments.extend(options.map(Path::new));
    arguments.extend([&*case.file, &*case.out]);
    let outcome = program::start_as(Command::new("strace"), arguments).wait(LIMIT);
    let traced = fs::read_to_string(trace).expect("strace is needed");
    (outcome, traced.contains("(INJECTED)"), traced.contains(FIRST))
}

fn check(case: &Case, outcome: &Outcome, call: &str, what: &str) {
    let Some(status) = outcome.status else { panic!("{what}: {outcome:#?}") };
    let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    // So Rust says that there is no memory.
    let memory = outcome.stderr.lines().filter(|line| line.starts_with("memory allocation of "));
    match status {
        // What failed may have been the line itself.
        _ if call == "write" && errors == 0 && status != 0 => {}
        0 => {
            assert_eq!(errors, 0, "{what}: {outcome:#?}");
            if LEAVES_THE_RECORD.contains(&call) {
                let record = case.out.join(format!(".{}.rusty_torrent", case.torrent.name));
                let _gone = fs::remove_file(record);
            }
            case.torrent.assert_is_in(&case.out);
        }
        1 if memory.count() == 1 => assert_eq!(errors, 0, "{what}: {outcome:#?}"),
        1 | 2 | 7 | 9 | 11 | 16 | 17 | 18 => assert_eq!(errors, 1, "{what}: {outcome:#?}"),
        _ => panic!("{what}: {outcome:#?}"),
    }
    assert!(!outcome.stderr.contains("panicked"), "{what}: {outcome:#?}");
}

#[test]
#[ignore = "needs strace"]
fn a_call_for_files_fails() {
    try_all("faults of files", FILES, &FEW, true);
}

#[test]
#[ignore = "needs strace"]
fn a_call_for_memory_fails() {
    try_all("faults of memory", MEMORY, &FEW, true);
}

#[test]
#[ignore = "needs strace"]
fn a_call_for_the_network_fails() {
    try_all("faults of the network", NETWORK, &FEWER, true);
}

#[test]
#[ignore = "needs strace"]
fn a_call_for_threads_fails() {
    try_all("faults of threads", THREADS, &FEW, true);
}

#[test]
#[ignore = "needs strace"]
fn a_call_for_the_record_fails() {
    try_all("faults of the record", RECORD, &FEW, false);
}

#[test]
#[ignore = "needs strace and half an hour"]
fn the_first_fifty_calls_fail() {
    let fifty: Vec<usize> = (1..=50).collect();
    for (name, faults) in
        [("files", FILES), ("memory", MEMORY), ("network", NETWORK), ("threads", THREADS)]
    {
        try_all(&format!("fifty {name}"), faults, &fifty, true);
    }
    try_all("fifty record", RECORD, &fifty, false);
}
