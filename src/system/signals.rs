//! Hears SIGINT and SIGTERM: the first asks the run to end, the second ends the process at once.
//! As long as nobody listens there is nothing to be saved, and the first does.
//! Of the signals that the process sends itself, none is its death without a word.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGABRT, SIGINT, SIGTERM, SIGXFSZ};
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
    for signal in [SIGINT, SIGTERM] {
        // The torrent may be a pipe that nobody writes to: no thread would wake from that read.
        flag::register_conditional_shutdown(signal, status, Arc::clone(&nobody_listens))?;
    }
    Ok(Caught { signals: Signals::new([SIGINT, SIGTERM])?, nobody_listens })
}

impl Caught {
    /// Begins to listen, on a thread of its own. The first signal arrives at the receiver.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn listen(self) -> io::Result<Receiver<()>> {
        let mut signals = self.signals;
        let (sender, receiver) = bounded(1);
        let wait = move || {
            for (earlier, _) in signals.forever().enumerate() {
                if earlier > 0 {
                    std::process::exit(i32::from(Status::Unfinished.code()));
                }
                let _over = sender.try_send(());
            }
        };
        let builder = thread::Builder::new().name("signals".into()).stack_size(SIGNALS_STACK_BYTES);
        builder.spawn(wait)?;
        self.nobody_listens.store(false, Ordering::SeqCst);
        Ok(receiver)
    }
}
