//! The pool: a fixed number of threads, each with one session at a time.

use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender};

use crate::engine::event::Event;
use crate::engine::greeter::Visit;
use crate::engine::session::{self, Shared};
use crate::limits::SESSION_STACK_BYTES;
use crate::units::{Count, SessionId};

/// Starts up to `threads` threads, one for each waker of `shared`. Each takes visits from
/// `visits` and tells `events` when a session begins and ends. Returns how many there are: when the
/// system gives no more, fewer do.
///
/// # Errors
/// Not even one thread can be had.
pub fn spawn(
    threads: usize,
    shared: &Arc<Shared>,
    visits: &Receiver<Visit>,
    events: &Sender<Event>,
) -> io::Result<usize> {
    for thread in 0..threads {
        let (shared, visits, events) = (Arc::clone(shared), visits.clone(), events.clone());
        let work = move || work(thread, threads, &shared, &visits, &events);
        let name = format!("peer {thread}");
        let spawned = thread::Builder::new().name(name).stack_size(SESSION_STACK_BYTES).spawn(work);
        match spawned {
            Ok(_) => {}
            Err(error) if thread == 0 => return Err(error),
            Err(error) => {
                let peers = Count(thread, "peer");
                log::warn!(
                    "no more than {peers} at a time, there are no more threads (ulimit -u, ulimit -v): {error}"
                );
                return Ok(thread);
            }
        }
    }
    Ok(threads)
}

fn work(
    thread: usize,
    threads: usize,
    shared: &Shared,
    visits: &Receiver<Visit>,
    events: &Sender<Event>,
) {
    let Some(waker) = shared.waker(thread) else { return };
    // Numbers are dealt like cards, so that a session's number tells its thread.
    for (visit, number) in visits.iter().zip((thread..).step_by(threads)) {
        let session = SessionId(u32::try_from(number).unwrap_or(u32::MAX));
        let _over = events.send(Event::Began(session, visit.address));
        let ended = session::run(shared, waker, session, visit);
        if events.send(Event::Ended(ended)).is_err() {
            return;
        }
    }
}
