//! What trading costs: two runs of the program that have a half of a file each and want the other
//! one, beside one that has such a half and gives it to another that has nothing. Nothing is asserted:
//! it prints a table, medians of a few rounds.
//!
//! ```text
//! cargo bench --bench trade
//! ```
//!
//! It needs root, for a network of its own. `TRADE_MIB` is the size of a half (512).
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::panic, clippy::cast_possible_truncation, clippy::cast_precision_loss)]
#![allow(clippy::cast_sign_loss)]
#![allow(dead_code, unreachable_pub)] // of what tests share, a part is used

mod cable;
mod measure;
#[path = "../support/network.rs"]
mod network;
mod process;
#[path = "../support/scratch.rs"]
mod scratch;
#[path = "../support/torrent.rs"]
mod torrent;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use measure::{Dir, GIB, MIB, RUNS, Table, machine, median};
use network::Place;
use torrent::Torrent;

const PORT: u16 = 7_001;
const LOOK: Duration = Duration::from_millis(2);
/// What no step takes.
const LIMIT: Duration = Duration::from_secs(120);
/// What the other rounds go over: as much of it both ways at a time.
const LINK: &str = "rate 1gbit burst 256kb latency 20ms";

fn main() -> ExitCode {
    if let Some(code) = cable::entered_by_itself() {
        return code;
    }
    println!("{}", machine());
    let mib = std::env::var("TRADE_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(512);
    let dir = Dir::new("trade");
    let there = cable::other_side(1);
    measure(mib, dir.path(), &there, "a virtual cable");
    shape(Command::new("tc"), "cable");
    shape(there.inside("tc"), "here");
    measure(mib, dir.path(), &there, "a link of 1 Gbit/s");
    ExitCode::SUCCESS
}

/// Makes an end of the cable as slow as a link.
fn shape(mut tc: Command, device: &str) {
    let line = format!("qdisc add dev {device} root tbf {LINK}");
    assert!(tc.args(line.split(' ')).status().is_ok_and(|status| status.success()), "no tc");
}

/// What one round showed.
struct Trade {
    seconds: f64,
    cpu: f64,
}

fn measure(mib: usize, dir: &Path, there: &Place, over: &str) {
    let half = Torrent::single("half", mib * MIB, MIB);
    let whole = Torrent::single("whole", 2 * mib * MIB, MIB);
    let [all, even, odd]: [Vec<usize>; 3] =
        [(0..mib).collect(), (0..2 * mib).step_by(2).collect(), (1..2 * mib).step_by(2).collect()];
    let (mut one, mut both) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        one.push(trade(dir, there, &half, [&all, &[]]));
        both.push(trade(dir, there, &whole, [&even, &odd]));
    }
    let title = format!("{mib} MiB each way over {over}");
    let mut table = Table::new(&title, &["", "seconds", "MiB/s each way", "CPU s/GiB"]);
    let bytes = (mib * MIB) as f64;
    for (name, runs, ways) in [("one way", &one, 1.0), ("both ways", &both, 2.0)] {
        let seconds = median(runs.iter().map(|run| run.seconds).collect());
        let cpu = median(runs.iter().map(|run| run.cpu).collect());
        table.row([
            name.to_owned(),
            format!("{seconds:.2}"),
            format!("{:.0}", bytes / MIB as f64 / seconds),
            format!("{:.2}", cpu / (ways * bytes / GIB)),
        ]);
    }
    table.print();
}

/// One over there and one here, which begin with these pieces, until both have everything.
fn trade(dir: &Path, there: &Place, torrent: &Torrent, begin: [&[usize]; 2]) -> Trade {
    let outs = ["there", "here"].map(|name| dir.join(name));
    for (out, pieces) in outs.iter().zip(begin) {
        let _none = fs::remove_dir_all(out);
        fs::create_dir(out).unwrap();
        torrent.write_pieces_to(out, pieces);
    }
    let file = torrent.write_to(dir);
    let program = env!("CARGO_BIN_EXE_rusty_torrent");
    let first = Run::start(there.inside(program), &file, &outs[0], &[]);
    first.wait_for("listening on port");
    let peer = cable::at(PORT).to_string();
    let second = Run::start(Command::new(program), &file, &outs[1], &["--peer", &peer]);
    second.wait_for("listening on port");
    let (began, cpu) = (Instant::now(), first.cpu() + second.cpu());
    first.wait_for("everything is there");
    second.wait_for("everything is there");
    let seconds = began.elapsed().as_secs_f64();
    Trade { seconds, cpu: first.cpu() + second.cpu() - cpu }
}

/// A run of the program, which stays when it has everything. It is killed when it is dropped.
struct Run {
    child: Child,
    log: PathBuf,
}

impl Run {
    fn start(mut command: Command, file: &Path, out: &Path, options: &[&str]) -> Self {
        let log = out.with_extension("log");
        let _none = fs::remove_file(&log);
        command.args(["-q", "-v", "--seed", "--no-dht", "--no-lsd", "--port", &PORT.to_string()]);
        command.arg("--log").arg(&log).args(options).arg(file).arg(out);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().expect("the program"), log }
    }

    fn cpu(&self) -> f64 {
        process::cpu(self.child.id())
    }

    /// Waits until it says this; who begins with everything does not say that it has it.
    fn wait_for(&self, text: &str) {
        let until = Instant::now() + LIMIT;
        loop {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            if said.contains(text)
                || said.contains(" 0 pieces to fetch") && text.contains("is there")
            {
                return;
            }
            assert!(Instant::now() < until, "it never said {text:?}:\n{said}");
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
