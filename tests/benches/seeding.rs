//! What seeding costs: the program and other clients, each of which seeds the same file to one
//! leecher, and to 40 at a time. Nothing is asserted: it prints a table, medians of a few rounds, in
//! each of which every client has its turn.
//!
//! ```text
//! cargo bench --bench seeding                      all that are installed
//! cargo bench --bench seeding -- rusty_torrent rtorrent
//! ```
//!
//! It needs root, for a network of its own. `RUSTY_TORRENT_BIN` names another build of the program,
//! which is measured beside this one; `SEEDING_MIB` the size of the file (1024).
//!
//! All leechers ask all the time, and each wants the whole file again and again: clients differ in
//! how many they give to at once and for how long, so what is measured is a window of time that
//! begins when everybody is let in, or after [`SETTLE`], longer than clients' rounds are.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::panic, clippy::cast_possible_truncation, clippy::cast_precision_loss)]
#![allow(clippy::cast_sign_loss)]
#![allow(dead_code, unreachable_pub)] // of what tests share, a part is used

mod cable;
mod clients;
mod leecher;
mod measure;
#[path = "../support/network.rs"]
mod network;
mod process;
#[path = "../support/scratch.rs"]
mod scratch;
#[path = "../support/torrent.rs"]
mod torrent;
#[path = "../support/wire.rs"]
mod wire;

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use clients::{ALL, Client, Job};
use leecher::Leecher;
use measure::{Dir, GIB, MIB, RUNS, Table, machine, median};
use network::{Daemon, Place};
use process::Watch;
use torrent::{Payload, Torrent};

const PIECE_BYTES: usize = MIB;
/// Nobody is there. But rtorrent takes no torrent without a tracker.
const TRACKER: &str = "http://127.0.0.1:9/announce";
/// Who is seeded to.
#[derive(Clone, Copy)]
struct Crowd {
    leechers: usize,
    /// Bytes a second that each of them takes, if not all that come.
    rate: Option<u64>,
}

const CROWDS: [Crowd; 3] = [
    Crowd { leechers: 1, rate: None },
    Crowd { leechers: 40, rate: None },
    Crowd { leechers: 40, rate: Some(2 << 20) },
];

impl std::fmt::Display for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.leechers, self.rate) {
            (1, _) => write!(f, "one fast leecher"),
            (leechers, None) => write!(f, "{leechers} fast leechers"),
            (leechers, Some(rate)) => write!(f, "{leechers} leechers of {} MiB/s each", rate >> 20),
        }
    }
}

/// The one that looks whether the client is ready comes from another address.
const PROBE: usize = 200;
const ADDRESSES: usize = PROBE + 1;
/// Slots and peers that a client is allowed.
const SLOTS: usize = 60;
const PORT: u16 = 51_413;
/// A client that looks at its data has it found by then.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// The first leecher is let in by then.
const LET_IN_LIMIT: Duration = Duration::from_secs(60);
/// Clients let more peers in, and others, every 10 s.
const SETTLE: Duration = Duration::from_secs(22);
/// From the moment that everybody is let in: connections get going.
const BEGIN: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(50);

/// What one run with one client showed.
#[derive(Clone, Copy)]
struct Measured {
    ready: f64,
    served: f64,
    mib_per_s: f64,
    cpu_per_gib: f64,
    own_mib: f64,
    all_mib: f64,
}

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let Some(unknown) = named.iter().find(|name| ALL.iter().all(|known| known.name != **name)) {
        let known: Vec<&str> = ALL.iter().map(|client| client.name).collect();
        println!("no client {unknown:?}; there are: {}", known.join(", "));
        return ExitCode::from(2);
    }
    if let Some(code) = cable::entered_by_itself() {
        return code;
    }
    println!("{}", machine());
    let is_named = |client: &&Client| named.is_empty() || named.contains(&client.name.to_owned());
    // Without the variable there is no such build.
    let other_build = std::env::var_os("RUSTY_TORRENT_BIN").is_some();
    let is_meant = |client: &&Client| other_build || client.name != "RUSTY_TORRENT_BIN";
    let clients: Vec<(&Client, Option<String>)> = ALL
        .iter()
        .filter(is_named)
        .filter(is_meant)
        .map(|client| (client, client.version()))
        .collect();
    run(&clients);
    ExitCode::SUCCESS
}

/// A client, and its version if it is installed.
type Installed<'a> = (&'a Client, Option<String>);

fn run(clients: &[Installed<'_>]) {
    let mib = std::env::var("SEEDING_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(1024);
    let dir = Dir::new("seeding");
    let torrent = Torrent::single("file", mib * MIB, PIECE_BYTES).tracked_by(TRACKER);
    let file = torrent.write_to(dir.path());
    let payload = dir.path().join("payload");
    torrent.write_payload_to(&payload);
    let there = cable::other_side(ADDRESSES);

    let mut runs: Vec<Vec<Vec<Measured>>> = vec![vec![Vec::new(); CROWDS.len()]; clients.len()];
    for round in 0..RUNS {
        for ((client, version), runs) in clients.iter().zip(&mut runs) {
            if version.is_none() {
                println!("{} IS NOT INSTALLED", client.name);
                continue;
            }
            for (crowd, runs) in CROWDS.iter().zip(runs) {
                let home = dir.path().join("home");
                let _none = fs::remove_dir_all(&home);
                fs::create_dir(&home).unwrap();
                let (torrent_file, payload) = (file.as_path(), payload.as_path());
                let job =
                    Job { torrent: torrent_file, payload, home: &home, port: PORT, slots: SLOTS };
                match seed(&there, client, &job, &torrent.payload, *crowd) {
                    Ok(measured) => {
                        progress(round, client.name, *crowd, &measured);
                        runs.push(measured);
                    }
                    Err(why) => println!("{} TO {crowd} FAILED: {why}", client.name),
                }
            }
        }
    }
    for (at, crowd) in CROWDS.iter().enumerate() {
        let these: Vec<_> =
            clients.iter().zip(&runs).map(|(client, runs)| (client, &runs[at])).collect();
        print(mib, *crowd, &these);
    }
}

fn progress(round: usize, name: &str, crowd: Crowd, measured: &Measured) {
    println!(
        "round {} {name} to {crowd}: {:.0} MiB/s, {:.3} CPU s/GiB, load {}",
        round + 1,
        measured.mib_per_s,
        measured.cpu_per_gib,
        fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or(""),
    );
}

fn print(mib: usize, crowd: Crowd, rows: &[(&Installed<'_>, &Vec<Measured>)]) {
    let title = format!(
        "Seeding {mib} MiB to {}, {} s of it\n\
         (CPU: user and system; memory: the most of its own, and of all that is resident, mapped files \
         too; ready: seconds until it says that it has everything)",
        crowd,
        WINDOW.as_secs(),
    );
    let columns =
        ["client", "version", "MiB/s", "CPU s/GiB", "own MiB", "RSS MiB", "given to", "ready"];
    let mut table = Table::new(&title, &columns);
    for ((client, version), runs) in rows {
        let name = client.name.to_owned();
        let Some(version) = version else {
            let mut row = vec![name, "NOT INSTALLED".to_owned()];
            row.resize(columns.len(), "-".to_owned());
            table.row(row);
            continue;
        };
        if runs.is_empty() {
            let mut row = vec![name, version.clone(), "FAILED".to_owned()];
            row.resize(columns.len(), "-".to_owned());
            table.row(row);
            continue;
        }
        let of = |field: fn(&Measured) -> f64| median(runs.iter().map(field).collect());
        table.row([
            name,
            version.clone(),
            format!("{:.0}", of(|run| run.mib_per_s)),
            format!("{:.3}", of(|run| run.cpu_per_gib)),
            format!("{:.1}", of(|run| run.own_mib)),
            format!("{:.1}", of(|run| run.all_mib)),
            format!("{:.0}", of(|run| run.served)),
            format!("{:.1}", of(|run| run.ready)),
        ]);
    }
    table.print();
}

/// One client seeds to so many.
fn seed(
    there: &Place,
    client: &Client,
    job: &Job<'_>,
    payload: &Payload,
    crowd: Crowd,
) -> Result<Measured, String> {
    let began = Instant::now();
    let mut daemon = there.start(job.home, &client.line(job));
    let watch = Watch::begin(daemon.id());
    let measured = measure_seeder(&mut daemon, payload, crowd);
    let memory = watch.end();
    let (ready, window) = measured.map_err(|why| format!("{why}\n{}", daemon.said()))?;
    let (bytes, seconds, cpu) = (window.bytes as f64, window.seconds, window.cpu);
    Ok(Measured {
        ready: ready.duration_since(began).as_secs_f64(),
        served: window.served as f64,
        mib_per_s: bytes / MIB as f64 / seconds,
        cpu_per_gib: cpu / (bytes / GIB),
        own_mib: memory.own / 1024.0,
        all_mib: memory.all / 1024.0,
    })
}

/// What passed in a window of time.
struct Window {
    bytes: u64,
    seconds: f64,
    cpu: f64,
    /// Leechers that got something.
    served: usize,
}

fn measure_seeder(
    daemon: &mut Daemon,
    payload: &Payload,
    crowd: Crowd,
) -> Result<(Instant, Window), String> {
    let to = cable::at(PORT);
    let until = Instant::now() + READY_LIMIT;
    while !leecher::finds_seeder(to, cable::here(PROBE), payload) {
        if daemon.has_ended() {
            return Err("it ended".to_owned());
        }
        if Instant::now() > until {
            return Err("it never had everything".to_owned());
        }
        thread::sleep(LOOK);
    }
    let ready = Instant::now();
    let start = |number| Leecher::start(to, cable::here(number), number, payload, crowd.rate);
    let leechers: Result<Vec<Leecher>, _> = (0..crowd.leechers).map(start).collect();
    let leechers = leechers.map_err(|error| format!("it does not let a leecher in: {error}"))?;
    let window = wait_for_all(&leechers).map(|()| look_through_window(daemon, &leechers));
    for (number, leecher) in leechers.into_iter().enumerate() {
        leecher.stop().map_err(|end| format!("leecher {number} ended early: {end}"))?;
    }
    Ok((ready, window?))
}

/// Until all leechers are let in, or long enough.
fn wait_for_all(leechers: &[Leecher]) -> Result<(), String> {
    let began = Instant::now();
    let mut first = None;
    loop {
        let let_in = leechers.iter().filter(|leecher| leecher.seen.let_in.load(Relaxed)).count();
        if let_in > 0 {
            first.get_or_insert_with(Instant::now);
        }
        match first {
            None if began.elapsed() > LET_IN_LIMIT => return Err("it lets nobody ask".to_owned()),
            Some(first) if let_in == leechers.len() || first.elapsed() > SETTLE => break,
            _ => thread::sleep(LOOK),
        }
    }
    thread::sleep(BEGIN);
    Ok(())
}

fn look_through_window(daemon: &Daemon, leechers: &[Leecher]) -> Window {
    let all = || -> Vec<u64> {
        leechers.iter().map(|leecher| leecher.seen.bytes.load(Relaxed)).collect()
    };
    let (before, cpu, began) = (all(), process::cpu(daemon.id()), Instant::now());
    thread::sleep(WINDOW);
    let (after, cpu, seconds) =
        (all(), process::cpu(daemon.id()) - cpu, began.elapsed().as_secs_f64());
    let got: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
    let served = got.iter().filter(|bytes| **bytes > 0).count();
    Window { bytes: got.iter().sum(), seconds, cpu, served }
}
