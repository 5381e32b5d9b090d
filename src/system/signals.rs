//! Hears SIGINT and SIGTERM: the first asks the run to end, the second ends the process at once.
//! Of the signals that the process sends itself, none is its death without a word.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGABRT, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::error::Status;
use crate::limits::SIGNALS_STACK_BYTES;

/// Signals are caught and kept until somebody listens.
pub struct Caught(Signals);

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
    Ok(Caught(Signals::new([SIGINT, SIGTERM])?))
}

impl Caught {
    /// Begins to listen, on a thread of its own. The first signal arrives at the receiver.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn listen(self) -> io::Result<Receiver<()>> {
        let mut signals = self.0;
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
        Ok(receiver)
    }
}
