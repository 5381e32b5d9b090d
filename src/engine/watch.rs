//! Owns the wait for files that are hashed: shows how far it is, and hears signals.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use crate::engine::coordinator::Progress;
use crate::engine::recheck::Found;
use crate::error::Fatal;
use crate::limits::{RECHECK_STACK_BYTES, TICK_MS};

/// Does `work` on a thread of its own, and shows how much of `total` bytes it has got to. The work
/// ends early once its first argument says so, and counts bytes in its second.
///
/// # Errors
/// Those of the work, and [`Fatal::Stopped`], with `stopped` as its text, after a signal.
pub(super) fn watch(
    total: u64,
    stopped: &str,
    signals: &Receiver<()>,
    show: &mut dyn FnMut(&Progress),
    work: &(dyn Fn(&AtomicBool, &AtomicU64) -> Result<Found, Fatal> + Sync),
) -> Result<Found, Fatal> {
    let (stop, looked) = (AtomicBool::new(false), AtomicU64::new(0));
    let (done, finished) = bounded(1);
    let found = thread::scope(|scope| {
        let worker = thread::Builder::new().name("check".into()).stack_size(RECHECK_STACK_BYTES);
        let worker = worker.spawn_scoped(scope, || {
            let _room = done.send(work(&stop, &looked));
        });
        worker.map_err(|error| Fatal::System("start a thread", error))?;
        loop {
            select! {
                recv(finished) -> found => {
                    let lost = || Fatal::System("check", std::io::Error::other("a thread died"));
                    return found.map_err(|_| lost())?;
                }
                recv(signals) -> _ => stop.store(true, Ordering::Relaxed),
                default(Duration::from_millis(u64::from(TICK_MS))) => {
                    show(&Progress::Checking { looked: looked.load(Ordering::Relaxed), total });
                }
            }
        }
    })?;
    if stop.load(Ordering::Relaxed) {
        return Err(Fatal::Stopped(stopped.to_owned()));
    }
    Ok(found)
}
