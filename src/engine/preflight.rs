//! Asks trackers whether they are there, without telling them of us: nobody is announced who is not
//! there.

use std::io;
use std::iter;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select};

use crate::engine::announcer::{Patience, inquire};
use crate::error::Fatal;
use crate::limits::{
    ANNOUNCER_STACK_BYTES, ANNOUNCER_THREADS_MAX, PREFLIGHT_TIMEOUT_MS, TRACKERS_MAX,
};
use crate::protocol::tracker::{Scheme, Swarm, TrackerError};
use crate::system::route::Route;
use crate::units::InfoHash;

/// What all of them may take, and one of them.
const TIMEOUT: Duration = Duration::from_millis(PREFLIGHT_TIMEOUT_MS);
const TURN: Duration = Duration::from_millis(PREFLIGHT_TIMEOUT_MS / 2);

/// What became of a tracker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is there, and may have said who has the torrent.
    There(Option<Swarm>),
    /// It is not, or not in time.
    Failed(TrackerError),
    /// It would not be asked by a download either; why.
    Unused(&'static str),
}

/// A tracker that was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The number of its tier, from 1 on.
    pub tier: usize,
    /// Its URL.
    pub url: String,
    /// What it said.
    pub answer: Answer,
}

/// Asks all trackers, as many at a time as there may be threads, for a few seconds in all.
///
/// # Errors
/// [`Fatal::Stopped`] after a signal; or there is no thread.
pub fn ask(
    tiers: &[Vec<String>],
    info_hash: InfoHash,
    threads: usize,
    route: &Arc<Route>,
    signals: &Receiver<()>,
) -> Result<Vec<Asked>, Fatal> {
    let deadline = Instant::now() + TIMEOUT;
    let tiers = iter::zip(1.., tiers);
    let mut all: Vec<Asked> = tiers
        .flat_map(|(tier, urls)| urls.iter().map(move |url| (tier, url)))
        .take(TRACKERS_MAX)
        .map(|(tier, url)| Asked { tier, url: url.clone(), answer: first_answer(url, route) })
        .collect();
    let (queue_end, queue) = bounded(all.len());
    let (done, answers) = bounded(all.len());
    let mut asked = 0;
    for (number, tracker) in all.iter().enumerate() {
        if matches!(tracker.answer, Answer::Failed(_)) {
            asked += 1;
            drop(queue_end.try_send((number, tracker.url.clone())));
        }
    }
    drop(queue_end);
    for number in 0..asked.min(threads.clamp(1, ANNOUNCER_THREADS_MAX)) {
        let (queue, done, route) = (queue.clone(), done.clone(), Arc::clone(route));
        let work = move || {
            for (number, url) in queue {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                // Those behind a few that are dead have their turn, too.
                let patience = Patience::default().within(left.min(TURN));
                let found = inquire(&url, info_hash, &patience, &route);
                drop(done.send((number, found)));
            }
        };
        let builder = thread::Builder::new().name(format!("preflight {number}"));
        match builder.stack_size(ANNOUNCER_STACK_BYTES).spawn(work) {
            Err(error) if number == 0 => return Err(Fatal::System("start a thread", error)),
            Err(_) => break,
            Ok(_) => {}
        }
    }
    drop((queue, done));
    while asked > 0 {
        select! {
            recv(answers) -> answered => {
                let Ok((number, found)) = answered else { break };
                asked -= 1;
                if let Some(tracker) = all.get_mut(number) {
                    tracker.answer = found.map_or_else(Answer::Failed, Answer::There);
                }
            }
            recv(signals) -> _ => {
                return Err(Fatal::Stopped("stopped while trackers were being asked".to_owned()));
            }
            default(deadline.saturating_duration_since(Instant::now())) => break,
        }
    }
    Ok(all)
}

/// What is known before it is asked: that it is of no use, or has not answered.
fn first_answer(url: &str, route: &Route) -> Answer {
    match Scheme::of(url.trim()) {
        None => Answer::Unused("of a kind that is not spoken"),
        Some(Scheme::Udp) if route.proxy().is_some() => {
            Answer::Unused("UDP does not go through a proxy")
        }
        Some(_) => Answer::Failed(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}
