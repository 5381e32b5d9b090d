//! What a process and its children take, as `/proc` tells it.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Jiffies to a second, as `/proc` has them on every Linux.
const TICKS_PER_S: f64 = 100.0;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The process, its children, theirs and so on.
fn tree(root: u32) -> Vec<u32> {
    let mut parents = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = stat(process).get(1).and_then(|parent| parent.parse::<u32>().ok()) {
            parents.insert(process, parent);
        }
    }
    let belongs = |process: &u32| {
        let up = std::iter::successors(Some(*process), |process| parents.get(process).copied());
        up.take(parents.len() + 1).any(|process| process == root)
    };
    parents.keys().copied().filter(belongs).collect()
}

/// What stands in `/proc/PID/stat` behind the name.
fn stat(process: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ').map(str::to_owned).collect()
}

/// Seconds of a processor that all threads of a process have had, user and system.
pub fn cpu_of_one(process: u32) -> f64 {
    let stat = stat(process);
    let ticks = stat.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_S
}

/// The same with all its children.
pub fn cpu(root: u32) -> f64 {
    tree(root).into_iter().map(cpu_of_one).sum()
}

/// Whether a process has ended. It is still in `/proc` until it is waited for.
pub fn has_ended(process: u32) -> bool {
    stat(process).first().is_some_and(|state| state == "Z")
}

/// The most memory that all of them have had at a time (KiB).
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Of their own: no file is behind it.
    pub own: f64,
    /// All that is resident, mapped files too.
    pub all: f64,
}

/// Looks at the memory of a process, all the time.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Memory>,
}

impl Watch {
    pub fn begin(root: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most = Memory::default();
            while !stopped.load(Relaxed) {
                let mut now = Memory::default();
                for process in tree(root) {
                    let status = fs::read_to_string(format!("/proc/{process}/status"));
                    let status = status.unwrap_or_default();
                    now.own += field(&status, "RssAnon:") + field(&status, "RssShmem:");
                    // What it had between two looks counts as well.
                    now.all += field(&status, "VmHWM:");
                }
                most.own = most.own.max(now.own);
                most.all = most.all.max(now.all);
                thread::sleep(LOOK);
            }
            most
        });
        Self { stop, thread }
    }

    pub fn end(self) -> Memory {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

/// The number of a line of `/proc/PID/status`.
pub fn field(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}
