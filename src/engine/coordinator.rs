//! The coordinator: whom to dial, when to announce, when it is over. It runs on the thread that
//! calls, hears of everything, and never waits for anyone but in its one `select!`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use log::{debug, info, warn};

use crate::bitfield::Bitfield;
use crate::engine::chunk::ToWriter;
use crate::engine::discovery::{Discovery, Totals};
use crate::engine::event::{Ended, Event, Found};
use crate::engine::greeter::Visit;
use crate::engine::listener::Listener;
use crate::engine::recorder::{Recorder, Verified};
use crate::engine::session::Shared;
use crate::engine::webseed::WebSeeds;
use crate::error::Fatal;
use crate::limits::{
    CHOKE_ROUND_MS, COMPLAINT_MS, FINISH_TIMEOUT_MS, GUEST_WAIT_MAX_MS, GUESTS_WAITING_MAX,
    RECORD_KEPT_TIMEOUT_MS, RECORD_MS, RECORD_TIMEOUT_MS, SESSIONS_REMEMBERED_MAX,
    THREADS_FOR_ONE_GUEST_MAX, TICK_MS,
};
use crate::policy::encryption::Wire;
use crate::policy::origins::Origin;
use crate::policy::rate::Rate;
use crate::policy::swarm::Swarm;
use crate::units::{Bytes, Count, PieceIndex, SessionId};

/// What helps after most ends.
const GO_ON: &str = "run the same command again to go on";
const TICK: Duration = Duration::from_millis(TICK_MS as u64);
const COMPLAINT: Duration = Duration::from_millis(COMPLAINT_MS as u64);
const FINISH_TIMEOUT: Duration = Duration::from_millis(FINISH_TIMEOUT_MS as u64);
const CHOKE_ROUND: Duration = Duration::from_millis(CHOKE_ROUND_MS as u64);
const GUEST_WAIT: Duration = Duration::from_millis(GUEST_WAIT_MAX_MS as u64);
const RECORD: Duration = Duration::from_millis(RECORD_MS as u64);
const RECORD_KEPT_TIMEOUT: Duration = Duration::from_millis(RECORD_KEPT_TIMEOUT_MS as u64);
const RECORD_TIMEOUT: Duration = Duration::from_millis(RECORD_TIMEOUT_MS as u64);

/// How far it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Progress {
    /// Peers are asked what the torrent is.
    Asking {
        /// Blocks of the info dictionary that are there.
        here: usize,
        /// Blocks that it has, as far as is known.
        all: usize,
        /// Peers that are being asked.
        asked: usize,
        /// Addresses that are known.
        known: usize,
    },
    /// Data that is there already is being hashed.
    Checking {
        /// Bytes that were looked at.
        looked: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Everything is there, and others are given of it.
    Seeding {
        /// Bytes in all.
        total: u64,
        /// Bytes that came in this run.
        downloaded: u64,
        /// Bytes that were sent.
        uploaded: u64,
        /// Bytes a second that go out.
        sent_per_second: u64,
        /// Peers that are connected.
        peers: usize,
        /// How long it stays.
        plan: Seeding,
    },
    /// What is missing is being fetched.
    Downloading {
        /// Bytes that are verified.
        had: u64,
        /// Bytes in all.
        total: u64,
        /// Bytes that came in this run.
        downloaded: u64,
        /// Bytes that were sent.
        uploaded: u64,
        /// Bytes a second that come in.
        per_second: u64,
        /// Bytes a second that go out.
        sent_per_second: u64,
        /// How long it will take at this rate.
        left: Option<Duration>,
        /// Peers that are connected.
        peers: usize,
        /// Addresses that are known.
        known: usize,
        /// Mirrors that are fetched from.
        mirrors: usize,
    },
}

/// Who looks on while it runs. Nobody waits for what is done here: it has to be short.
pub trait Watch {
    /// How far it is; at least once a second.
    fn progress(&mut self, progress: &Progress);

    /// Whether it wants to be told of pieces.
    fn wants_pieces(&self) -> bool {
        false
    }

    /// The pieces that are verified, and those that are begun: first what was there already, then
    /// once a second, and when the last one has come.
    fn pieces(&mut self, _had: &Bitfield, _begun: &[PieceIndex]) {}

    /// Everything is there, so many bytes of it from this run, and it stays for others.
    fn complete(&mut self, _downloaded: u64) {}
}

/// What the coordinator hears and steers with.
pub struct Coordinator<'a> {
    /// What the sessions share.
    pub shared: Arc<Shared>,
    /// Visits for the pool; there is room for one a thread.
    pub visits: Sender<Visit>,
    /// Where peers come, if they can.
    pub listener: Option<Listener>,
    /// Peers that came and wait for a free thread, and since when.
    pub guests: VecDeque<(Visit, Instant)>,
    /// What is done once everything is there.
    pub seeding: Option<Seeding>,
    /// What the pool and the writer have to say.
    pub events: Receiver<Event>,
    /// Where peers are.
    pub discovery: Discovery,
    /// The connections to mirrors; none if there is no mirror, or everything is there.
    pub web_seeds: Option<WebSeeds>,
    /// Who sees to it that what was verified outlives this run.
    pub recorder: Recorder,
    /// Threads in the pool.
    pub threads: usize,
    /// The run ends when no piece was verified for this long.
    pub patience: Option<Duration>,
    /// A signal that asks for the end.
    pub signals: &'a Receiver<()>,
    /// Who looks on.
    pub watch: &'a mut dyn Watch,
    /// Bytes of the pieces that are to be had.
    pub total: u64,
    /// The record is of use when everything is there: there is more to be had another time.
    pub kept: bool,
    /// It is over when everything was handed to standard output.
    pub delivers: bool,
    /// Pool threads that have an address.
    pub busy: usize,
    /// The address of each session that may still be found guilty.
    pub met: BTreeMap<SessionId, SocketAddr>,
    /// The rate of what comes.
    pub rate: Rate,
    /// The rate of what goes.
    pub sent: Rate,
}

/// How long to stay for others once everything is there: until it is stopped, or one of these.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Seeding {
    /// For so long.
    pub time: Option<Duration>,
    /// Until so many times the torrent's bytes were sent.
    pub ratio: Option<f64>,
}

impl Seeding {
    fn is_over(&self, since: Instant, uploaded: u64, total: u64, now: Instant) -> bool {
        #[allow(clippy::cast_precision_loss)] // of a size, in comparison
        let enough = |ratio: f64| uploaded as f64 >= ratio * total as f64;
        self.time.is_some_and(|time| now >= since + time) || self.ratio.is_some_and(enough)
    }
}

/// When it ends, in a few words.
impl fmt::Display for Seeding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.time.map(|time| time.as_secs_f64() / 60.0);
        match (minutes, self.ratio) {
            (None, None) => f.write_str("until it is stopped"),
            (Some(minutes), None) => write!(f, "for {minutes} min"),
            (None, Some(ratio)) => write!(f, "until it sent {ratio} times its size"),
            (Some(minutes), Some(ratio)) => {
                write!(f, "for {minutes} min or until it sent {ratio} times its size")
            }
        }
    }
}

/// What a look at the swarm tells.
struct Look {
    /// Bytes of what is to be had.
    had: u64,
    /// Bytes that are missing of the whole torrent.
    left: u64,
    downloaded: u64,
    mirrored: u64,
    uploaded: u64,
    wasted: u64,
    sessions: usize,
    mirrors: usize,
}

/// What passed in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    /// Bytes that came.
    pub downloaded: u64,
    /// Bytes of them that came from mirrors.
    pub mirrored: u64,
    /// Bytes that were sent.
    pub uploaded: u64,
    /// When everything was there.
    pub complete: Instant,
}

impl Look {
    fn at(shared: &Shared) -> Self {
        shared.with_swarm(|swarm| Self {
            had: swarm.selected_bytes() - swarm.left_bytes(),
            left: swarm.geometry().total() - swarm.had_bytes(),
            downloaded: swarm.downloaded,
            mirrored: swarm.mirrored,
            uploaded: swarm.uploaded,
            wasted: swarm.wasted,
            sessions: swarm.sessions(),
            mirrors: swarm.mirrors.at_work(),
        })
    }

    /// The same for trackers.
    fn totals(&self) -> Totals {
        let Self { left, downloaded, uploaded, .. } = *self;
        Totals { left, downloaded, uploaded }
    }
}

impl Coordinator<'_> {
    /// Runs until everything is there and was given, or until there is a reason to give up.
    ///
    /// # Errors
    /// Whatever ended the run.
    pub fn run(mut self) -> Result<Passed, Fatal> {
        let outcome = self.work();
        self.listener = None;
        let look = self.look();
        if outcome.is_err() {
            self.show(&look);
        }
        self.shared.with_swarm(|swarm| swarm.stop());
        match self.web_seeds.take() {
            // What has come of a run that is broken off is to be found by the next one.
            Some(web_seeds) if outcome.is_err() => web_seeds.finish(),
            ended => drop(ended),
        }
        let patience = if outcome.is_ok() { RECORD_KEPT_TIMEOUT } else { RECORD_TIMEOUT };
        // A record made now would take for ours what somebody else put there, or a failed disk has.
        let doubtful = match &outcome {
            Ok(_) => false,
            Err(fatal) => self.wait_for_writer().is_err() || fatal.blames_a_file(),
        };
        let (all, nothing) =
            self.shared.with_swarm(|swarm| (swarm.picker.had().is_full(), swarm.had_bytes() == 0));
        if outcome.is_ok() && (all || !self.kept) || nothing {
            self.recorder.remove();
        } else if doubtful {
            self.recorder.forget();
        } else {
            self.record(outcome.is_err());
        }
        if outcome.is_ok() && look.left == 0 && look.downloaded > 0 && self.seeding.is_none() {
            self.discovery.tiers.on_completed(Instant::now());
        }
        self.discovery.farewell(self.look().totals());
        if !self.recorder.wait(Instant::now() + patience) {
            info!("what was verified last is not flushed yet; the next run will hash it");
        }
        debug!("{} received twice or wrong", Bytes(look.wasted));
        let Look { downloaded, mirrored, uploaded, .. } = look;
        outcome.map(|complete| Passed { downloaded, mirrored, uploaded, complete })
    }

    fn work(&mut self) -> Result<Instant, Fatal> {
        let events = self.events.clone();
        let (outcomes, found) = (self.discovery.outcomes(), self.discovery.found());
        let signals = self.signals.clone();
        let mut next_tick = Instant::now();
        let mut last_verified = (Instant::now(), self.look().had);
        let mut next_complaint = Instant::now() + COMPLAINT;
        let mut next_record = Instant::now() + RECORD;
        let mut next_round = Instant::now() + CHOKE_ROUND;
        let (mut written, mut delivered) = (false, false);
        let mut complete_since = (self.look().had == self.total).then(Instant::now);
        if complete_since.is_some() {
            self.watch.complete(0);
        }
        loop {
            let now = Instant::now();
            let totals = || Look::at(&self.shared).totals();
            self.discovery.announce_due(totals, now);
            self.dial(now);
            if now >= next_tick {
                next_tick = now + TICK;
                if let Some(since) = complete_since {
                    if self.seed(since, now) {
                        return Ok(since);
                    }
                } else {
                    self.tick(now, &mut last_verified)?;
                }
            }
            if now >= next_round {
                next_round = now + CHOKE_ROUND;
                self.shared.with_swarm(|swarm| swarm.choke_round(now));
            }
            if now >= next_complaint && complete_since.is_none() {
                next_complaint = now + COMPLAINT;
                self.complain();
            }
            if now >= next_record && complete_since.is_none() {
                next_record = now + RECORD;
                if self.recorder.is_idle() {
                    self.record(false);
                }
            }
            let wake = self.next_wake(now, next_tick);
            select! {
                recv(events) -> event => match event {
                    Ok(Event::Complete) if self.delivers => {
                        self.web_seeds = None;
                        self.show_pieces();
                        written = true;
                        if delivered {
                            return Ok(Instant::now());
                        }
                    }
                    Ok(Event::Complete) if self.seeding.is_none() => {
                        let complete = Instant::now();
                        self.show_pieces();
                        return Ok(complete);
                    }
                    Ok(Event::Delivered) if written => return Ok(Instant::now()),
                    Ok(Event::Delivered) => delivered = true,
                    Ok(Event::Complete) => complete_since = Some(self.begin_seeding()),
                    Ok(Event::Failed(fatal)) => return Err(fatal),
                    Ok(event) => self.on_event(event),
                    Err(_) => return Err(Fatal::System("go on", io::Error::other("no threads"))),
                },
                recv(found) -> found => {
                    if let Ok(Found { origin, peers }) = found {
                        self.discovery.hear(origin, &peers, Instant::now());
                    }
                }
                recv(outcomes) -> announced => {
                    if let Ok(announced) = announced {
                        self.discovery.on_announced(announced, Instant::now());
                    }
                }
                recv(signals) -> _ => {
                    return complete_since.ok_or_else(|| Fatal::Stopped(self.stopped()));
                }
                default(wake) => {}
            }
        }
    }

    fn next_wake(&self, now: Instant, next_tick: Instant) -> Duration {
        let mut wake = next_tick;
        if self.busy < self.dialling_threads()
            && let Some(at) = self.discovery.book.next_at()
        {
            wake = wake.min(at);
        }
        if let Some(at) = self.discovery.tiers.next_due(now) {
            wake = wake.min(at);
        }
        wake.saturating_duration_since(now)
    }

    // ---- what happened -------------------------------------------------------------------------

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Began(session, address) => {
                if self.met.len() >= SESSIONS_REMEMBERED_MAX {
                    self.met.pop_first();
                }
                self.met.insert(session, address);
            }
            Event::Ended(ended) => self.on_ended(&ended),
            Event::Came(stream, address) => self.on_guest(stream, address),
            Event::Guilty(session) => {
                // A peer is found guilty once for each wrong piece; it is news the first time.
                if let (Some(mirror), Some(web_seeds)) = (session.mirror(), &mut self.web_seeds) {
                    web_seeds.on_guilty(mirror);
                } else if let Some(address) = self.met.get(&session)
                    && self.discovery.book.ban(address.ip())
                {
                    warn!("the peer {address} sent wrong data and is banned");
                }
            }
            Event::Complete | Event::Delivered | Event::Finished | Event::Failed(_) => {}
        }
    }

    fn on_ended(&mut self, ended: &Ended) {
        self.busy = self.busy.saturating_sub(1);
        if !ended.brought {
            self.met.remove(&ended.session);
        }
        let Ended { address, answered, brought, ref end, .. } = *ended;
        let lonely = self.look().sessions == 0;
        self.discovery.book.on_end(address, end, (answered, brought), lonely, Instant::now());
    }

    /// Somebody came. Where there is no room it waits a little for some: whoever brings nothing
    /// leaves then.
    fn on_guest(&mut self, stream: TcpStream, address: SocketAddr) {
        if self.discovery.book.is_banned(address.ip()) || self.guests.len() >= GUESTS_WAITING_MAX {
            debug!("{address}: came, and was not let in");
            return;
        }
        let visit = Visit { address, came: Some(stream), wire: Wire::default() };
        self.guests.push_back((visit, Instant::now()));
    }

    // ---- what to do ----------------------------------------------------------------------------

    /// Threads that dial. Where peers can come, some are kept for them.
    fn dialling_threads(&self) -> usize {
        let kept =
            if self.listener.is_some() { self.threads / THREADS_FOR_ONE_GUEST_MAX } else { 0 };
        self.threads - kept
    }

    fn dial(&mut self, now: Instant) {
        self.guests.retain(|(_, since)| now < *since + GUEST_WAIT);
        while self.busy < self.threads
            && let Some((guest, _)) = self.guests.pop_front()
        {
            if self.visits.try_send(guest).is_err() {
                return;
            }
            self.busy += 1;
        }
        while self.busy < self.dialling_threads()
            && let Some(address) = self.discovery.book.next(now)
        {
            let wire = self.discovery.book.wire(address);
            if self.visits.try_send(Visit { address, came: None, wire }).is_err() {
                return;
            }
            self.busy += 1;
        }
        let full = self.busy >= self.dialling_threads();
        let others_wait = full && self.discovery.book.others_wait(now) || !self.guests.is_empty();
        self.shared.with_swarm(|swarm| swarm.others_wait = others_wait);
    }

    fn tick(&mut self, now: Instant, verified: &mut (Instant, u64)) -> Result<(), Fatal> {
        let look = self.look();
        if look.had > verified.1 {
            *verified = (now, look.had);
        }
        self.rate.look(look.downloaded, now);
        self.sent.look(look.uploaded, now);
        let (heard, nodes) =
            self.shared.with_swarm(|swarm| (swarm.take_heard(), swarm.take_nodes()));
        self.discovery.hear_of_nodes(nodes);
        let new = self.discovery.hear(Origin::Peer, &heard, now);
        if new > 0 {
            debug!("{} by word of mouth", Count(new, "new peer"));
        }
        self.shared.with_swarm(|swarm| swarm.ring_for_haves());
        self.show_pieces();
        self.show(&look);
        if look.had == self.total {
            // Whoever reads is slower.
            return Ok(());
        }
        self.check_mirrors(&look)?;
        if look.sessions < self.dialling_threads() && !self.discovery.book.others_wait(now) {
            self.discovery.want_peers(now);
        }
        match self.patience {
            Some(patience) if now >= verified.0 + patience => {
                let seconds = patience.as_secs();
                Err(Fatal::Stalled(format!(
                    "no new piece for {seconds} s: {}; {GO_ON}",
                    self.blocker()
                )))
            }
            _ => Ok(()),
        }
    }

    fn show(&mut self, look: &Look) {
        self.watch.progress(&Progress::Downloading {
            had: look.had,
            total: self.total,
            downloaded: look.downloaded,
            uploaded: look.uploaded,
            per_second: self.rate.per_second(),
            sent_per_second: self.sent.per_second(),
            left: self.rate.time_for(self.total - look.had),
            peers: look.sessions,
            known: self.discovery.book.known(),
            mirrors: look.mirrors,
        });
    }

    fn show_pieces(&mut self) {
        if self.watch.wants_pieces() {
            let (had, begun) = self.shared.with_swarm(|swarm| {
                let picker = &swarm.picker;
                (picker.had().clone(), picker.begun().collect::<Vec<_>>())
            });
            self.watch.pieces(&had, &begun);
        }
    }

    /// Without trackers and peers mirrors are the only hope.
    fn check_mirrors(&self, look: &Look) -> Result<(), Fatal> {
        let nobody_else = look.sessions == 0
            && self.busy == 0
            && self.discovery.is_alone()
            && self.seeding.is_none();
        // What was asked for before may be on its way to the files still.
        let is_over = |swarm: &mut Swarm| {
            swarm.mirrors.are_gone() && !swarm.picker.is_end_game() && !swarm.picker.is_done()
        };
        if self.web_seeds.is_some() && nobody_else && self.shared.with_swarm(is_over) {
            return Err(Fatal::NobodyToAsk(self.blocker()));
        }
        Ok(())
    }

    /// Everything is there. The others who have everything need not stay.
    fn begin_seeding(&mut self) -> Instant {
        let now = Instant::now();
        info!("everything is there");
        self.web_seeds = None;
        let all = self.look().left == 0;
        if all {
            self.recorder.remove();
            self.discovery.tiers.on_completed(now);
        } else {
            self.record(false);
        }
        self.show_pieces();
        self.watch.complete(self.look().downloaded);
        self.shared.with_swarm(|swarm| {
            swarm.choke_round(now);
            swarm.ring_all();
        });
        now
    }

    /// A second of giving. Whether it was enough.
    fn seed(&mut self, since: Instant, now: Instant) -> bool {
        let look = self.look();
        self.sent.look(look.uploaded, now);
        let plan = self.seeding.unwrap_or_default();
        self.watch.progress(&Progress::Seeding {
            total: self.total,
            downloaded: look.downloaded,
            uploaded: look.uploaded,
            sent_per_second: self.sent.per_second(),
            peers: look.sessions,
            plan,
        });
        plan.is_over(since, look.uploaded, self.total, now)
    }

    /// Without peers it goes on trying, but it says so, unless a mirror is asked.
    fn complain(&self) {
        let look = self.look();
        if look.sessions + look.mirrors == 0 {
            warn!("no peers yet, still trying: {}", self.blocker());
        }
    }

    fn look(&self) -> Look {
        Look::at(&self.shared)
    }

    // ---- the end -------------------------------------------------------------------------------

    /// What stands in the way, in a few words.
    fn blocker(&self) -> String {
        let sessions = self.look().sessions;
        let (known, answered, banned) = (
            self.discovery.book.known(),
            self.discovery.book.answered(),
            self.discovery.book.banned(),
        );
        let mut parts = Vec::new();
        let trackers = self.discovery.tiers.summary();
        if !trackers.is_empty() {
            parts.push(trackers);
        }
        parts.extend(self.shared.with_swarm(|swarm| swarm.mirrors.summary()));
        parts.push(match (known, answered, sessions) {
            (0, ..) => "no peers known".to_owned(),
            (known, 0, 0) => format!("0 of {} answered", Count(known, "peer")),
            (known, answered, 0) => {
                let known = Count(known, "known peer");
                format!("none of {known} is connected, {answered} were before")
            }
            (_, _, sessions) => {
                format!("{} connected, none sends what is missing", Count(sessions, "peer"))
            }
        });
        if banned > 0 {
            parts.push(format!("{banned} banned for wrong data"));
        }
        parts.join("; ")
    }

    fn stopped(&self) -> String {
        let had = self.look().had;
        let (had, total) = (Bytes(had), Bytes(self.total));
        format!("stopped with {had} of {total} verified; {GO_ON}")
    }

    fn record(&self, hurried: bool) {
        self.recorder.record(self.shared.with_swarm(|swarm| {
            let picker = &swarm.picker;
            Verified { pieces: picker.had().clone(), begun: picker.begun().collect(), hurried }
        }));
    }

    /// What has arrived is verified and written, so that the next run finds it. Fails if a file is
    /// not where it was.
    fn wait_for_writer(&self) -> Result<(), Fatal> {
        let deadline = Instant::now() + FINISH_TIMEOUT;
        if self.shared.to_writer.try_send(ToWriter::Finish).is_err() {
            return Ok(());
        }
        while let Ok(event) = self.events.recv_deadline(deadline) {
            match event {
                Event::Finished => return Ok(()),
                Event::Failed(fatal) if fatal.blames_a_file() => return Err(fatal),
                _ => {}
            }
        }
        info!("the writer did not finish in time");
        Ok(())
    }
}
