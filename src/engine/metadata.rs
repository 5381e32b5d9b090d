//! Asks peers what the torrent is, when nothing but its info-hash is known (BEP 9): a few threads,
//! each with one peer at a time. It ends when one of them has brought the last block of the info
//! dictionary and its hash is right.
//!
//! Who may block: the threads wait in [`Link::wait`] and for the loop here, which never stops
//! reading; the loop waits for nobody but in its one `select!`.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use log::{debug, info, warn};

use crate::engine::coordinator::Progress;
use crate::engine::discovery::Totals;
use crate::engine::event::{Ended, Event, Found};
use crate::engine::greeter::{Greeter, Visit};
use crate::engine::outside::Outside;
use crate::error::Fatal;
use crate::limits::{
    BLOCK_LENGTH, COMPLAINT_MS, GUESTS_WAITING_MAX, HUNGRY_LOOK_MS, INQUIRIES_END_MS,
    SESSION_STACK_BYTES, TICK_MS,
};
use crate::policy::conversation::SessionEnd;
use crate::policy::encryption::Wire;
use crate::policy::inquiry::Inquiry;
use crate::policy::metadata::{Gathering, Outcome};
use crate::policy::origins::Origin;
use crate::system::link::{Interest, Link, Waker};
use crate::units::{Count, SessionId};

const TICK: Duration = Duration::from_millis(TICK_MS as u64);
const COMPLAINT: Duration = Duration::from_millis(COMPLAINT_MS as u64);
const INQUIRIES_END: Duration = Duration::from_millis(INQUIRIES_END_MS as u64);
/// A thread with nothing to do looks again after this long.
const LOOK: Duration = Duration::from_millis(HUNGRY_LOOK_MS as u64);
/// Bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;
/// Trackers are told that something is missing; nobody knows how much.
pub const TOTALS: Totals = Totals { left: BLOCK_LENGTH as u64, downloaded: 0, uploaded: 0 };

/// How much may be done for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effort {
    /// Peers at once.
    pub peers: usize,
    /// Bytes of the longest info dictionary that is taken.
    pub bytes_max: usize,
    /// It ends when nothing is known after so long.
    pub patience: Option<Duration>,
}

/// What the threads work with.
struct Shared {
    gathering: Mutex<Gathering>,
    wakers: Vec<Waker>,
    over: AtomicBool,
    greeter: Greeter,
    port: Option<u16>,
    dht_port: Option<u16>,
    /// What they have to say.
    told: Sender<Told>,
    /// Where peers go that peers tell of.
    finder: Sender<Found>,
}

enum Told {
    Ended(Ended),
    /// A peer has its node of the DHT there.
    Node(SocketAddr),
    Whole(Vec<u8>),
}

impl Shared {
    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Fetches the info dictionary of the torrent that `outside` is for. `signals` asks for the end;
/// `show` is called once a second.
///
/// # Errors
/// It was stopped, or nobody brought it in time.
pub fn fetch(
    outside: &mut Outside,
    effort: Effort,
    signals: &Receiver<()>,
    show: &mut dyn FnMut(&Progress),
) -> Result<Vec<u8>, Fatal> {
    if outside.is_empty() {
        let why = match outside.greeter.route.leads_to_peers() {
            true => {
                "the link names no tracker and no peer; put all of it in quotes, leave out --no-dht, \
                 or give a peer with --peer"
            }
            false => {
                "a magnet link needs peers, which an HTTP proxy can't reach; use a SOCKS5 proxy, or \
                 the .torrent file"
            }
        };
        return Err(Fatal::NobodyToAsk(why.to_owned()));
    }
    let began = Instant::now();
    let system = |error| Fatal::System("ask peers", error);
    let wakers = (0..effort.peers).map(|_| Waker::new()).collect::<io::Result<Vec<_>>>();
    let (told, hears) = bounded(effort.peers);
    let shared = Arc::new(Shared {
        gathering: Mutex::new(Gathering::new(
            outside.greeter.handshake.info_hash,
            effort.bytes_max,
            began,
        )),
        wakers: wakers.map_err(system)?,
        over: AtomicBool::new(false),
        greeter: outside.greeter.clone(),
        port: outside.port(),
        dht_port: outside.discovery.dht_port(),
        told,
        finder: outside.discovery.finder(),
    });
    let (visits, visitors) = bounded(effort.peers);
    let threads = spawn(&shared, &visitors).map_err(system)?;
    let mut inquiries = Inquiries {
        shared,
        threads,
        visits,
        hears,
        out: BTreeSet::new(),
        guests: VecDeque::new(),
        effort,
        began,
    };
    let outcome = inquiries.run(outside, signals, show);
    inquiries.end(outside);
    if outcome.is_err() {
        outside.discovery.farewell(TOTALS);
    }
    outcome
}

fn spawn(shared: &Arc<Shared>, visits: &Receiver<Visit>) -> io::Result<usize> {
    let all = shared.wakers.len();
    for thread in 0..all {
        let (shared, visits) = (Arc::clone(shared), visits.clone());
        let work = move || work(thread, &shared, &visits);
        let builder = thread::Builder::new().name(format!("inquiry {thread}"));
        match builder.stack_size(SESSION_STACK_BYTES).spawn(work) {
            Ok(_) => {}
            Err(error) if thread == 0 => return Err(error),
            Err(_) => return Ok(thread),
        }
    }
    Ok(all)
}

// ---- the loop ----------------------------------------------------------------------------------

struct Inquiries {
    shared: Arc<Shared>,
    threads: usize,
    visits: Sender<Visit>,
    hears: Receiver<Told>,
    /// Who is being asked.
    out: BTreeSet<SocketAddr>,
    guests: VecDeque<Visit>,
    effort: Effort,
    began: Instant,
}

impl Inquiries {
    fn run(
        &mut self,
        outside: &mut Outside,
        signals: &Receiver<()>,
        show: &mut dyn FnMut(&Progress),
    ) -> Result<Vec<u8>, Fatal> {
        info!("asking peers what the torrent is");
        let (outcomes, events) = (outside.discovery.outcomes(), outside.events.clone());
        let found = outside.discovery.found();
        let hears = self.hears.clone();
        let mut next_tick = self.began;
        let mut next_complaint = self.began + COMPLAINT;
        loop {
            let now = Instant::now();
            outside.discovery.announce_due(|| TOTALS, now);
            self.dial(outside, now);
            if now >= next_tick {
                next_tick = now + TICK;
                self.tick(outside, show, now)?;
            }
            if now >= next_complaint {
                next_complaint = now + COMPLAINT;
                warn!(
                    "nobody has told yet what the link is of, still trying: {}",
                    blocker(outside)
                );
            }
            let wake = next_tick.saturating_duration_since(now);
            select! {
                recv(hears) -> told => match told {
                    Ok(Told::Whole(info)) => return Ok(info),
                    Ok(Told::Ended(ended)) => self.on_ended(outside, &ended),
                    Ok(Told::Node(node)) => outside.discovery.hear_of_nodes([node]),
                    Err(_) => return Err(Fatal::System("go on", io::Error::other("no threads"))),
                },
                recv(events) -> event => {
                    if let Ok(Event::Came(stream, address)) = event
                        && self.guests.len() < GUESTS_WAITING_MAX
                    {
                        self.guests.push_back(Visit {
                            address,
                            came: Some(stream),
                            wire: Wire::default(),
                        });
                    }
                }
                recv(found) -> found => {
                    if let Ok(Found { origin, peers }) = found {
                        outside.discovery.hear(origin, &peers, Instant::now());
                    }
                }
                recv(outcomes) -> announced => {
                    if let Ok(announced) = announced {
                        outside.discovery.on_announced(announced, Instant::now());
                    }
                }
                recv(signals) -> _ => {
                    let why = "stopped before the torrent was known; run the same command again";
                    return Err(Fatal::Stopped(why.to_owned()));
                }
                default(wake) => {}
            }
        }
    }

    fn dial(&mut self, outside: &mut Outside, now: Instant) {
        while self.out.len() < self.threads {
            let next = || {
                let address = outside.discovery.book.next(now)?;
                let wire = outside.discovery.book.wire(address);
                Some(Visit { address, came: None, wire })
            };
            let Some(visit) = self.guests.pop_front().or_else(next) else { return };
            self.out.insert(visit.address);
            if self.visits.try_send(visit).is_err() {
                return;
            }
        }
    }

    fn tick(
        &self,
        outside: &mut Outside,
        show: &mut dyn FnMut(&Progress),
        now: Instant,
    ) -> Result<(), Fatal> {
        let (here, all) = self.shared.gathering().progress();
        let book = &outside.discovery.book;
        let (asked, known) = (self.out.len(), book.known());
        show(&Progress::Asking { here, all, asked, known });
        if asked < self.threads && !book.others_wait(now) {
            outside.discovery.want_peers(now);
        }
        match self.effort.patience {
            Some(patience) if now >= self.began + patience => Err(Fatal::Stalled(format!(
                "nobody told within {} s what the link is of: {}; try later, or give more \
                 --metadata-timeout",
                patience.as_secs(),
                blocker(outside)
            ))),
            _ => Ok(()),
        }
    }

    fn on_ended(&mut self, outside: &mut Outside, ended: &Ended) {
        let Ended { address, answered, brought, ref end, .. } = *ended;
        self.out.remove(&address);
        let book = &mut outside.discovery.book;
        if *end == SessionEnd::Banned && book.ban(address.ip()) {
            warn!("the peer {address} lied about the torrent and is banned");
        }
        book.on_end(address, end, (answered, brought), self.out.is_empty(), Instant::now());
    }

    /// Those who were asked can be dialled again for the torrent itself.
    fn end(mut self, outside: &mut Outside) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.wakers.iter().for_each(Waker::ring);
        let deadline = Instant::now() + INQUIRIES_END;
        while !self.out.is_empty()
            && let Ok(told) = self.hears.recv_deadline(deadline)
        {
            if let Told::Ended(ended) = told {
                self.out.remove(&ended.address);
                outside.discovery.book.give_back(ended.address, Instant::now());
            }
        }
        // Who does not answer at all will not do so any sooner.
        let now = Instant::now();
        self.out.iter().for_each(|address| outside.discovery.book.give_back(*address, now));
    }
}

/// What stands in the way, in a few words.
fn blocker(outside: &Outside) -> String {
    let book = &outside.discovery.book;
    let trackers = outside.discovery.tiers.summary();
    let peers = match book.known() {
        0 => "no peers known".to_owned(),
        known => format!("{} known, none told", Count(known, "peer")),
    };
    if trackers.is_empty() { peers } else { format!("{trackers}; {peers}") }
}

// ---- a thread ----------------------------------------------------------------------------------

fn work(thread: usize, shared: &Shared, visits: &Receiver<Visit>) {
    let Some(waker) = shared.wakers.get(thread) else { return };
    let numbers = (thread..).step_by(shared.wakers.len().max(1));
    for (visit, number) in visits.iter().zip(numbers) {
        let session = SessionId(u32::try_from(number).unwrap_or(u32::MAX));
        let address = visit.address;
        let mut ended =
            Ended { session, address, answered: false, brought: false, end: SessionEnd::Stopped };
        let Err(end) = ask(shared, waker, visit, &mut ended);
        shared.gathering().on_leave(session, Instant::now());
        debug!("{address}: {end}");
        ended.end = end;
        if shared.told.send(Told::Ended(ended)).is_err() {
            return;
        }
    }
}

/// Asks one peer until there is a reason to end.
fn ask(
    shared: &Shared,
    waker: &Waker,
    visit: Visit,
    ended: &mut Ended,
) -> Result<std::convert::Infallible, SessionEnd> {
    let (mut link, theirs) = shared.greeter.meet(visit)?;
    ended.answered = true;
    debug!("{}: connected, asking it what the torrent is", ended.address);
    let mut inquiry =
        Inquiry::new(ended.session, &theirs, (shared.port, shared.dht_port), Instant::now())?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if shared.is_over() {
            return Err(SessionEnd::Stopped);
        }
        let now = Instant::now();
        inquiry.ask(&mut shared.gathering(), now)?;
        write(&mut link, inquiry.outbox())?;
        let to_write = !inquiry.outbox().is_empty();
        let interest = Interest { to_read: true, to_write };
        let ready = link.wait(waker, interest, now + LOOK);
        let ready = ready.map_err(|error| SessionEnd::Lost(error.kind()))?;
        let count = if ready.readable { link.read(&mut buffer)? } else { None };
        let Some(count) = count else { continue };
        let bytes = buffer.get(..count).unwrap_or_default();
        let outcome = inquiry.on_read(bytes, &mut shared.gathering(), Instant::now());
        let heard = inquiry.take_heard();
        if let Some(port) = inquiry.take_node_port() {
            let _over = shared.told.send(Told::Node(SocketAddr::new(ended.address.ip(), port)));
        }
        if !heard.is_empty() {
            let _full = shared.finder.try_send(Found { origin: Origin::Peer, peers: heard });
        }
        match outcome? {
            Outcome::Whole(info) => {
                ended.brought = true;
                let _over = shared.told.send(Told::Whole(info));
            }
            Outcome::More | Outcome::Liar(_) => {}
        }
    }
}

fn write(link: &mut Link, outbox: &mut Vec<u8>) -> Result<(), SessionEnd> {
    if !outbox.is_empty() {
        let sent = link.write(outbox)?;
        outbox.drain(..sent.min(outbox.len()));
    }
    Ok(())
}
