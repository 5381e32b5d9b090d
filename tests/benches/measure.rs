//! Clocks, medians and tables.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

pub const MIB: usize = 1 << 20;
pub const GIB: f64 = (1u64 << 30) as f64;
/// How often each thing is measured.
pub const RUNS: usize = 3;

/// What it runs on.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |rest| rest.trim_start_matches(['\t', ':', ' ']));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores, Linux {}, load {load}", kernel.trim())
}

/// The one in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// For each of its columns the median of what `run` measures.
pub fn medians<const N: usize>(mut run: impl FnMut() -> [f64; N]) -> [f64; N] {
    let runs: Vec<[f64; N]> = (0..RUNS).map(|_| run()).collect();
    std::array::from_fn(|column| median(runs.iter().map(|run| run[column]).collect()))
}

/// Seconds that `work` takes.
pub fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let began = Instant::now();
    black_box(work());
    began.elapsed().as_secs_f64()
}

/// Seconds that `work` takes, and those of a processor that this thread spends on it.
pub fn seconds_and_cpu<T>(work: impl FnOnce() -> T) -> (f64, f64) {
    let before = thread_cpu();
    let seconds = seconds(work);
    (seconds, thread_cpu() - before)
}

/// Seconds of a processor that this thread spends on `work`: what else runs changes them little.
pub fn cpu_seconds<T>(work: impl FnOnce() -> T) -> f64 {
    seconds_and_cpu(work).1
}

/// Seconds of a processor that this thread has had.
fn thread_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A table with aligned columns.
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn new(title: &str, columns: &[&str]) -> Self {
        println!("\n{title}\n");
        Self(vec![columns.iter().map(|column| (*column).to_owned()).collect()])
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }

    pub fn print(&self) {
        let width = |column: usize| self.0.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.0[0].len()).map(width).collect();
        for row in &self.0 {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            println!("  {}", cells.collect::<Vec<_>>().join("  "));
        }
    }
}

/// A directory in cargo's target directory that goes with its benchmark.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{name}"));
        let _none = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
