//! The program as it gives to others, with leeches of the test's own that connect to it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use super::case::{Case, LIMIT};
use super::leech::{Leech, Manner, PATIENCE, Record};
use super::peer::Peer;
use super::program::{Outcome, Running};
use super::torrent::Torrent;
use super::wire::{Range, blocks_of};

pub const PIECE: usize = 32 << 10;
/// What no run takes here: a leech may have to wait until others were let in.
pub const LONG: Duration = Duration::from_secs(90);

/// A run that listens.
pub struct Seeder {
    pub case: Case,
    pub run: Running,
    pub port: u16,
}

impl Seeder {
    /// Everything is there already.
    pub fn start(torrent: Torrent, options: &[&str]) -> Self {
        let case = Case::new(torrent);
        case.seed();
        Self::go_on(case, &[], &[&["--seed"], options].concat())
    }

    /// With what is there.
    pub fn go_on(case: Case, peers: &[&Peer], options: &[&str]) -> Self {
        Self::go_on_at(free_port(), case, peers, options)
    }

    /// At this port, or the next ones.
    pub fn go_on_at(port: u16, case: Case, peers: &[&Peer], options: &[&str]) -> Self {
        let log = case.join("log").display().to_string();
        let port = port.to_string();
        let own = ["-v", "--log", &log, "--port", &port];
        let mut run = case.start(peers, &[&own, options].concat());
        let port = port_said(&log, &mut run);
        Self { case, run, port }
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    #[track_caller]
    pub fn leech(&self, manner: Manner) -> Leech {
        Leech::connect(self.address(), &self.case.torrent.payload, manner).unwrap()
    }

    /// An honest one is served, whatever happened before.
    #[track_caller]
    pub fn still_serves(&self) {
        self.leech(Manner::default()).fetch_all(16);
    }

    /// The same, but there may be no room at first.
    #[track_caller]
    pub fn serves_who_tries_again(&self) {
        let until = Instant::now() + PATIENCE;
        let payload = &self.case.torrent.payload;
        while Instant::now() < until {
            if let Ok(leech) = Leech::connect(self.address(), payload, Manner::default()) {
                let _closed = leech.say(2, &[]);
                let record = leech.wait_until(|record| record.let_in || record.closed.is_some());
                if record.closed.is_none() {
                    return leech.fetch_all(16);
                }
            }
            thread::sleep(Duration::from_millis(200));
        }
        panic!("no room for a good one");
    }

    /// Ends it as a user does. Everything must be there and right.
    #[track_caller]
    pub fn stop(self) -> Outcome {
        self.run.signal("TERM");
        let outcome = self.run.wait(LONG);
        self.case.assert_complete(&outcome);
        outcome
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// The port that the program says in its log that it listens on.
#[track_caller]
pub fn port_said(log: &str, run: &mut Running) -> u16 {
    let until = Instant::now() + LIMIT;
    loop {
        let said = fs::read_to_string(log).unwrap_or_default();
        let rest = said.split_once("listening on port ").map(|(_, rest)| rest);
        let digits = rest.and_then(|rest| rest.split_once(|c: char| !c.is_ascii_digit()));
        if let Some(port) = digits.and_then(|(digits, _)| digits.parse().ok()) {
            return port;
        }
        assert!(run.is_running() && Instant::now() < until, "it does not listen: {said}");
        thread::sleep(Duration::from_millis(2));
    }
}

pub fn torrent(name: &str) -> Torrent {
    Torrent::single(name, 20 * PIECE - 5_000, PIECE)
}

/// Every block of a torrent.
pub fn blocks(torrent: &Torrent) -> Vec<Range> {
    (0..torrent.payload.pieces()).flat_map(|piece| blocks_of(&torrent.payload, piece)).collect()
}

pub fn ranges(record: &Record) -> Vec<Range> {
    record.blocks.iter().map(|(range, _)| *range).collect()
}

/// Some pieces are there.
pub fn seed_some(case: &Case, is_there: impl Fn(usize) -> bool) {
    case.seed();
    let mut bytes = case.torrent.payload.bytes.to_vec();
    for (piece, bytes) in bytes.chunks_mut(case.torrent.payload.piece_length).enumerate() {
        if !is_there(piece) {
            bytes.fill(0);
        }
    }
    fs::write(case.place(), bytes).unwrap();
}
