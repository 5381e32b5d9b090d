//! Owns the threads that talk to trackers: a small pool that announces, and the farewell at the end.
//!
//! Nobody ever waits for a tracker. A job goes into a channel and its outcome comes out of another;
//! both have room for all announces that can be under way, one a tier, so the coordinator can
//! always send and a thread of the pool can always report. A thread is given up to one tracker for
//! [`Patience::total`] at most.

mod http;
mod udp;

pub(super) use http::settings;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{debug, info, warn};

use crate::limits::{
    ANNOUNCE_TIMEOUT_MS, ANNOUNCER_STACK_BYTES, ANNOUNCER_THREADS_MAX, ANNOUNCES_QUEUED_MAX,
    FAREWELL_THREADS_MAX, TRACKER_CONNECT_TIMEOUT_MS, TRACKER_RECEIVE_TIMEOUT_MS,
    TRACKER_RESOLVE_TIMEOUT_MS, TRACKER_SEND_TIMEOUT_MS, TRACKER_UDP_WAITS_MS,
};
use crate::policy::tiers::TrackerIndex;
use crate::protocol::tracker::{AnnounceReply, AnnounceRequest, Scheme, Swarm, TrackerError};
use crate::protocol::url::shown;
use crate::system::route::Route;
use crate::units::{Count, InfoHash};

/// How long to wait for what; the default is that of `limits`.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Looking up the tracker's name.
    pub resolve: Duration,
    /// Connecting over HTTP: all addresses and the TLS handshake.
    pub connect: Duration,
    /// Sending an HTTP request.
    pub send: Duration,
    /// The head of an HTTP answer, and again its body.
    pub receive: Duration,
    /// The answer to a UDP datagram, before it is sent again; after the last one it is over.
    pub udp_waits: [Duration; TRACKER_UDP_WAITS_MS.len()],
    /// One announce in all.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            resolve: Duration::from_millis(TRACKER_RESOLVE_TIMEOUT_MS),
            connect: Duration::from_millis(TRACKER_CONNECT_TIMEOUT_MS),
            send: Duration::from_millis(TRACKER_SEND_TIMEOUT_MS),
            receive: Duration::from_millis(TRACKER_RECEIVE_TIMEOUT_MS),
            udp_waits: TRACKER_UDP_WAITS_MS.map(Duration::from_millis),
            total: Duration::from_millis(ANNOUNCE_TIMEOUT_MS),
        }
    }
}

impl Patience {
    /// The same, but everything within `left`, and soon enough for a lost datagram to be sent
    /// again in that time.
    pub(super) fn within(self, left: Duration) -> Self {
        Self {
            resolve: self.resolve.min(left),
            connect: self.connect.min(left),
            send: self.send.min(left),
            receive: self.receive.min(left),
            udp_waits: self.udp_waits.map(|wait| wait.min(left / 4)),
            total: self.total.min(left),
        }
    }
}

/// One announce to make.
#[derive(Debug)]
pub struct Job {
    /// Comes back with the outcome.
    pub tracker: TrackerIndex,
    /// The tracker.
    pub url: String,
    /// What to tell it.
    pub request: AnnounceRequest,
}

/// What became of a [`Job`].
#[derive(Debug)]
pub struct Announced {
    /// From the job.
    pub tracker: TrackerIndex,
    /// The answer.
    pub result: Result<AnnounceReply, TrackerError>,
}

/// The pool. Its threads end when it is dropped and what they have under way is over.
#[derive(Debug)]
pub struct Announcer {
    jobs: Sender<Job>,
    outcomes: Receiver<Announced>,
    voice: Arc<Voice>,
    farewell_threads: usize,
}

impl Announcer {
    /// Starts a thread for each of `width` tiers, up to [`ANNOUNCER_THREADS_MAX`], that leaves by `route`. Fewer threads
    /// than wanted are good enough; the error is that of having none at all.
    pub fn spawn(width: usize, patience: Patience, route: &Arc<Route>) -> io::Result<Self> {
        let threads = width.clamp(1, ANNOUNCER_THREADS_MAX);
        // The coordinator sends jobs and never blocks; a thread of the pool sends outcomes and
        // waits only while nobody reads those before. An answer each is all that waits.
        let (jobs, queue) = bounded::<Job>(ANNOUNCES_QUEUED_MAX);
        let (report, outcomes) = bounded::<Announced>(threads);
        let voice = Arc::new(Voice {
            udp: udp::Connections::default(),
            patience,
            route: Arc::clone(route),
        });
        for number in 0..threads {
            let (queue, report, voice) = (queue.clone(), report.clone(), Arc::clone(&voice));
            let started = start_thread(format!("announcer {number}"), move || {
                for Job { tracker, url, request } in queue {
                    let result = voice.announce(&url, &request, voice.patience);
                    if report.send(Announced { tracker, result }).is_err() {
                        break;
                    }
                }
            });
            match started {
                Err(error) if number == 0 => return Err(error),
                Err(error) => {
                    debug!("only {number} threads announce: {error}");
                    break;
                }
                Ok(()) => {}
            }
        }
        Ok(Self { jobs, outcomes, voice, farewell_threads: FAREWELL_THREADS_MAX })
    }

    /// Says goodbye on so many threads at most.
    pub fn limit_farewells(&mut self, threads: usize) {
        self.farewell_threads = threads.clamp(1, FAREWELL_THREADS_MAX);
    }

    /// Hands over an announce, without waiting for anything. The error is for a job that was not
    /// taken and has no outcome: there are [`ANNOUNCES_QUEUED_MAX`] already, or no thread.
    pub fn submit(&self, job: Job) -> Result<(), TrackerIndex> {
        self.jobs.try_send(job).map_err(|refused| refused.into_inner().tracker)
    }

    /// Where outcomes come out, in the order in which they were known.
    pub fn outcomes(&self) -> &Receiver<Announced> {
        &self.outcomes
    }

    /// Tells each tracker its requests, one after the other: `stopped`, or `completed` and then
    /// `stopped`. All trackers at the same time, and within `budget` in all: who has not answered
    /// by then is left alone. Returns how many trackers answered their last request.
    pub fn farewell(
        &self,
        farewells: Vec<(String, Vec<AnnounceRequest>)>,
        budget: Duration,
    ) -> usize {
        let deadline = Instant::now() + budget;
        let count = farewells.len();
        let (queue_end, queue) = bounded(count);
        let (done, answers) = bounded(count);
        farewells.into_iter().for_each(|farewell| drop(queue_end.try_send(farewell)));
        drop(queue_end);
        for number in 0..count.min(self.farewell_threads) {
            let (queue, done, voice) = (queue.clone(), done.clone(), Arc::clone(&self.voice));
            let started = start_thread(format!("farewell {number}"), move || {
                for (url, requests) in queue {
                    let _ = done.send(voice.say_goodbye(&url, &requests, deadline));
                }
            });
            if let Err(error) = started {
                debug!("only {number} threads say goodbye: {error}");
                break;
            }
        }
        drop((queue, done));
        let answers = std::iter::from_fn(|| answers.recv_deadline(deadline).ok());
        answers.filter(|answered| *answered).count()
    }
}

/// Asks a tracker whether it is there, and who has the torrent, if it tells: it hears nothing of us.
pub(super) fn inquire(
    url: &str,
    info_hash: InfoHash,
    patience: &Patience,
    route: &Arc<Route>,
) -> Result<Option<Swarm>, TrackerError> {
    match Scheme::of(url) {
        Some(Scheme::Http) => http::scrape(url, info_hash, patience, route),
        Some(Scheme::Udp) => udp::reach(url, patience, route).map(|()| None),
        None => Err(TrackerError::BadUrl),
    }
}

fn start_thread(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name).stack_size(ANNOUNCER_STACK_BYTES).spawn(work).map(drop)
}

/// Speaks to trackers of both kinds, from any thread.
#[derive(Debug)]
struct Voice {
    udp: udp::Connections,
    patience: Patience,
    route: Arc<Route>,
}

impl Voice {
    /// Makes one announce and logs what became of it, without what could be a secret.
    fn announce(
        &self,
        url: &str,
        request: &AnnounceRequest,
        patience: Patience,
    ) -> Result<AnnounceReply, TrackerError> {
        debug!("{}: announcing", shown(url));
        let result = match Scheme::of(url) {
            Some(Scheme::Http) => http::announce(url, request, &patience, &self.route),
            Some(Scheme::Udp) => self.udp.announce(url, request, &patience, &self.route),
            None => Err(TrackerError::BadUrl),
        };
        match &result {
            Ok(reply) => {
                info!(
                    "tracker {}: {}, next announce in {} s",
                    shown(url),
                    Count(reply.peers.len(), "peer"),
                    reply.interval.as_secs()
                );
                if let Some(warning) = &reply.warning {
                    warn!("tracker {} says: {warning}", shown(url));
                }
            }
            Err(error) => info!("tracker {}: {error}", shown(url)),
        }
        result
    }

    /// Makes the announces one after the other until `deadline`. Whether the last was answered.
    fn say_goodbye(&self, url: &str, requests: &[AnnounceRequest], deadline: Instant) -> bool {
        let mut answered = false;
        for request in requests {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            answered = self.announce(url, request, self.patience.within(left)).is_ok();
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_time_makes_every_wait_short() {
        let left = Duration::from_secs(2);
        let patience = Patience::default().within(left);
        for wait in [patience.resolve, patience.connect, patience.send, patience.receive] {
            assert_eq!(wait, left);
        }
        assert_eq!(patience.total, left);
        assert!(patience.udp_waits.iter().sum::<Duration>() < left);
        let long = Patience::default().within(Duration::from_secs(3600));
        assert_eq!(long.total, Duration::from_millis(ANNOUNCE_TIMEOUT_MS));
        assert_eq!(long.udp_waits, TRACKER_UDP_WAITS_MS.map(Duration::from_millis));
    }
}
