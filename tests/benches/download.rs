//! The program itself, from start to end, with seeders on loopback.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Dir, GIB, MIB, Table, medians};
use crate::process::{cpu_of_one, field, has_ended};
use crate::seeder;
use crate::torrent::Torrent;

const PAYLOAD_BYTES: usize = 512 * MIB;
const PIECE_BYTES: usize = MIB;
const SEEDERS: [usize; 2] = [1, 8];
/// How often the program is looked at. What it does after the last look is not seen.
const LOOK: Duration = Duration::from_millis(5);

pub fn run() {
    let dir = Dir::new("download");
    let torrent = Torrent::single("file", PAYLOAD_BYTES, PIECE_BYTES);
    let path = torrent.write_to(dir.path());
    let title = "The program: 512 MiB over loopback, from its start to its end\n\
        (peak RSS counts the pages of mapped files; switches: voluntary context switches)";
    let columns = ["seeders", "MiB/s", "CPU s/GiB", "peak RSS MiB", "of it own", "switches"];
    let mut table = Table::new(title, &columns);
    let gib = PAYLOAD_BYTES as f64 / GIB;
    for seeders in SEEDERS {
        let peers: Vec<String> =
            (0..seeders).map(|_| seeder::start(&torrent.payload).unwrap().to_string()).collect();
        let [seconds, cpu, peak, own, switches] = medians(|| {
            let out = dir.path().join("out");
            let mut command = Command::new(program());
            command.arg("--quiet").arg(&path).arg(&out).stdout(Stdio::null());
            peers.iter().for_each(|peer| {
                command.args(["--peer", peer]);
            });
            let measured = watch(&mut command);
            let length = fs::metadata(out.join("file")).map_or(0, |file| file.len());
            assert!(length == PAYLOAD_BYTES as u64, "the download failed");
            fs::remove_dir_all(&out).unwrap();
            measured
        });
        table.row([
            seeders.to_string(),
            format!("{:.0}", PAYLOAD_BYTES as f64 / MIB as f64 / seconds),
            format!("{:.2}", cpu / gib),
            format!("{:.1}", peak / 1024.0),
            format!("{:.1}", own / 1024.0),
            format!("{switches:.0}"),
        ]);
    }
    table.print();
}

/// What cargo built, or what `RUSTY_TORRENT_BIN` names: an older one, to compare with.
pub fn program() -> PathBuf {
    let named = std::env::var_os("RUSTY_TORRENT_BIN");
    named.map_or_else(|| env!("CARGO_BIN_EXE_rusty_torrent").into(), PathBuf::from)
}

/// Runs the program: seconds, seconds of a processor, peak RSS and its own part (KiB), switches.
pub fn watch(command: &mut Command) -> [f64; 5] {
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let (mut peak, mut own) = (0.0_f64, 0.0_f64);
    let mut switches = HashMap::new();
    // One that has ended is still in /proc until it is waited for, and so are its ticks.
    while !has_ended(child.id()) {
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
        peak = peak.max(field(&status, "VmHWM:"));
        own = own.max(field(&status, "RssAnon:"));
        for task in fs::read_dir(proc.join("task")).into_iter().flatten().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let count = field(&status, "voluntary_ctxt_switches:");
            if count > 0.0 {
                switches.insert(task.file_name(), count);
            }
        }
        thread::sleep(LOOK);
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = cpu_of_one(child.id());
    child.wait().unwrap();
    [seconds, cpu, peak, own, switches.values().sum()]
}
