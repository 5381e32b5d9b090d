//! Hears SIGINT, SIGTERM and SIGHUP: the first asks the run to end, the second ends the process at
//! once. As long as nobody listens there is nothing to be saved, and the first does.
//! Of the signals that the process sends itself, none is its death without a word.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGABRT, SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::error::Status;
use crate::limits::SIGNALS_STACK_BYTES;

/// Signals are caught, and nobody listens yet.
pub struct Caught {
    signals: Signals,
    nobody_listens: Arc<AtomicBool>,
}

/// Catches signals from now on.
///
/// # Errors
/// The system has no file descriptor for it.
pub fn catch() -> io::Result<Caught> {
    // A file longer than the user allows (`ulimit -f`) is an error of the write then.
    flag::register(SIGXFSZ, Arc::default())?;
    // So Rust ends when there is no memory, once it has said so.
    let status = i32::from(Status::Unknown.code());
    flag::register_conditional_shutdown(SIGABRT, status, Arc::new(AtomicBool::new(true)))?;
    let nobody_listens = Arc::new(AtomicBool::new(true));
    let status = i32::from(Status::Unfinished.code());
    let own_status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hangup = (!ignores(&own_status, SIGHUP)).then_some(SIGHUP);
    let heard = [SIGINT, SIGTERM].into_iter().chain(hangup);
    for signal in heard.clone() {
        // The torrent may be a pipe that nobody writes to: no thread would wake from that read.
        flag::register_conditional_shutdown(signal, status, Arc::clone(&nobody_listens))?;
    }
    Ok(Caught { signals: Signals::new(heard)?, nobody_listens })
}

/// Whether whoever started the process wants it to ignore this signal, as nohup(1) does: one bit
/// for each says so (proc(5), "SigIgn").
fn ignores(own_status: &str, signal: i32) -> bool {
    let mask = own_status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let bit = u32::try_from(signal - 1).ok().and_then(|bit| 1_u64.checked_shl(bit));
    bit.is_some_and(|bit| mask & bit != 0)
}

/// Signals are heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Where the first one arrives.
    pub first: Receiver<()>,
    any: Arc<AtomicBool>,
}

impl Heard {
    /// Whether there was one, taken or not.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }
}

impl Caught {
    /// Begins to listen, on a thread of its own. The first signal arrives at the receiver, twice:
    /// the run hears of it, and so does whoever waits for something after that.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn listen(self) -> io::Result<Heard> {
        let mut signals = self.signals;
        let (sender, first) = bounded(2);
        let any = Arc::new(AtomicBool::new(false));
        let came = Arc::clone(&any);
        let wait = move || {
            for (earlier, _) in signals.forever().enumerate() {
                if earlier > 0 {
                    std::process::exit(i32::from(Status::Unfinished.code()));
                }
                came.store(true, Ordering::SeqCst);
                let _over = sender.try_send(()).and_then(|()| sender.try_send(()));
            }
        };
        let builder = thread::Builder::new().name("signals".into()).stack_size(SIGNALS_STACK_BYTES);
        builder.spawn(wait)?;
        self.nobody_listens.store(false, Ordering::SeqCst);
        Ok(Heard { first, any })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_kernels_lines() {
        let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000000001\n";
        assert!(ignores(status, SIGHUP) && !ignores(status, SIGINT));
        for nothing in ["", "SigIgn:", "SigIgn:\tmany\n"] {
            assert!(!ignores(nothing, SIGHUP), "{nothing}");
        }
        let all = "SigIgn:\tffffffffffffffff\n";
        assert!(ignores(all, 64) && !ignores(all, 65) && !ignores(all, 0));
    }
}
