//! The connections to mirrors: a few threads that fetch runs of blocks over HTTP (BEP 19).
//!
//! A thread reads into a buffer of its own for as long as that takes, and trades it for a chunk when
//! whole blocks are in it: nobody has to wait for a chunk that a slow mirror fills. Who may block: a
//! thread waits for its mirror, for a limit of ours, and for the writer to give a chunk back; each
//! of that ends when [`WebSeeds`] is dropped.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{debug, info, warn};
use ureq::config::Config;
use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body, Error};

use crate::engine::agent;
use crate::engine::chunk::ToWriter;
use crate::engine::hops::{Hops, USER_AGENT, is_near};
use crate::engine::session::{Shared, with_bucket};
use crate::limits::{
    CHUNK_LENGTH_BYTES, MIRROR_BODY_TIMEOUT_MS, MIRROR_CONNECT_TIMEOUT_MS,
    MIRROR_FINISH_TIMEOUT_MS, MIRROR_HEAD_MAX_BYTES, MIRROR_HEAD_TIMEOUT_MS, MIRROR_INPUT_BYTES,
    MIRROR_INPUT_LIMITED_BYTES, MIRROR_OUTPUT_BYTES, MIRROR_READ_TIMEOUT_MS, MIRROR_REDIRECTS_MAX,
    MIRROR_RESOLVE_TIMEOUT_MS, MIRROR_SEND_TIMEOUT_MS, MIRROR_STACK_BYTES, MIRROR_TURN_MS,
    RUN_LENGTH_MAX_BYTES, RUN_PIECES_MAX,
};
use crate::policy::conversation::Received;
use crate::policy::fetch::{Broken, Fetch, Hand, Task};
use crate::protocol::metainfo::Metainfo;
use crate::protocol::tracker::TrackerError;
use crate::protocol::url::shown;
use crate::protocol::web_seed::{Head, MirrorError, Part, file_url};
use crate::system::buffer::Buffer;
use crate::system::route::Route;
use crate::system::storage::layout::{Layout, Segment};
use crate::units::Bytes;

const FINISH_TIMEOUT: Duration = Duration::from_millis(MIRROR_FINISH_TIMEOUT_MS as u64);
const TURN: Duration = Duration::from_millis(MIRROR_TURN_MS as u64);

/// What is on the mirrors, and where they are.
#[derive(Clone)]
pub struct Site {
    /// The mirrors' URLs, by their numbers.
    pub urls: Arc<[String]>,
    /// The torrent.
    pub metainfo: Arc<Metainfo>,
    /// Its files.
    pub layout: Arc<Layout>,
}

/// The threads. They end when it is dropped, whatever they wait for but the look-up of a name or
/// a connection that is being made.
pub struct WebSeeds {
    urls: Arc<[String]>,
    agents: Vec<Agent>,
    /// Mirrors of which it was told that they are banned.
    told: BTreeSet<usize>,
    /// Nothing ever comes out of it but the end, once no thread is left.
    ended: Receiver<Infallible>,
    /// The threads see when this is gone.
    over: Option<Sender<Infallible>>,
}

impl WebSeeds {
    /// Starts up to `threads` threads. Fewer than wanted are good enough.
    ///
    /// # Errors
    /// Not even one thread can be had.
    pub fn spawn(threads: usize, shared: &Arc<Shared>, site: &Site) -> io::Result<Self> {
        let (over, is_over) = bounded(0);
        let (here, ended) = bounded(0);
        let mut agents = Vec::new();
        for number in 0..threads {
            let worker = Worker::new(number, shared, site, (is_over.clone(), here.clone()));
            let both = [worker.near.clone(), worker.far.clone()];
            let name = format!("mirror {number}");
            let thread = thread::Builder::new().name(name).stack_size(MIRROR_STACK_BYTES);
            match thread.spawn(move || worker.run()) {
                Ok(_) => agents.extend(both),
                Err(error) if number == 0 => return Err(error),
                Err(error) => {
                    debug!("only {number} threads fetch from mirrors: {error}");
                    break;
                }
            }
        }
        let (urls, told, over) = (Arc::clone(&site.urls), BTreeSet::new(), Some(over));
        Ok(Self { urls, agents, told, ended, over })
    }

    /// Ends the threads and waits until they have handed over what came, but not for long.
    pub fn finish(mut self) {
        self.stop();
        let _late = self.ended.recv_timeout(FINISH_TIMEOUT);
    }

    fn stop(&mut self) {
        self.over = None;
        self.agents.drain(..).for_each(Agent::shutdown);
    }

    /// The mirror with this number sent wrong data. It is found guilty once for each wrong piece;
    /// it is news the first time.
    pub fn on_guilty(&mut self, mirror: usize) {
        if let Some(url) = self.urls.get(mirror)
            && self.told.insert(mirror)
        {
            warn!("mirror {} sent wrong data and is banned", shown(url));
        }
    }
}

impl Drop for WebSeeds {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One connection.
struct Worker {
    shared: Arc<Shared>,
    site: Site,
    /// Asks mirrors in our own network, to which no proxy leads, and others.
    near: Agent,
    far: Agent,
    hops: Hops,
    is_over: Receiver<Infallible>,
    _here: Sender<Infallible>,
    hand: Hand,
    /// What has come, from the first byte on that was not handed in.
    bytes: Buffer,
    filled: usize,
    /// Blocks among it that are to be written.
    arrived: Vec<Received>,
    last_turn: Instant,
}

impl Worker {
    fn new(
        number: usize,
        shared: &Arc<Shared>,
        site: &Site,
        (is_over, _here): (Receiver<Infallible>, Sender<Infallible>),
    ) -> Self {
        let route = shared.route();
        let hops = Hops::new(route);
        let is_limited = shared.download.is_some();
        Self {
            shared: Arc::clone(shared),
            near: agent(&hops, is_limited, route, true),
            far: agent(&hops, is_limited, route, false),
            hops,
            is_over,
            _here,
            hand: Hand::new(number, site.metainfo.geometry),
            site: site.clone(),
            bytes: Buffer::new(CHUNK_LENGTH_BYTES),
            filled: 0,
            arrived: Vec::new(),
            last_turn: Instant::now(),
        }
    }

    fn run(mut self) {
        loop {
            match self.next() {
                Task::Over => return,
                Task::Wait(until) if self.rest(until) => {}
                Task::Wait(_) => return,
                Task::Fetch(fetch) => self.fetch(fetch),
            }
        }
    }

    fn next(&mut self) -> Task {
        let now = Instant::now();
        let limit = self.shared.download.as_ref();
        let may_race = !limit.is_some_and(|limit| with_bucket(limit, |limit| limit.is_busy(now)));
        // No more than a run can use: others look for permits as well.
        let piece_length = u64::from(self.site.metainfo.geometry.piece_length());
        let most = (RUN_LENGTH_MAX_BYTES / piece_length + 1).min(u64::from(RUN_PIECES_MAX));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut permits =
            u32::try_from(self.shared.work.try_iter().take(most).count()).unwrap_or(0);
        let hand = &mut self.hand;
        let next = |swarm: &mut _| hand.next(swarm, &mut permits, may_race, now);
        let task = self.shared.with_swarm(next);
        self.shared.return_permits(permits);
        task
    }

    /// Rests until then. False if the run is over.
    fn rest(&self, until: Instant) -> bool {
        self.is_over.recv_deadline(until) == Err(RecvTimeoutError::Timeout)
    }

    fn fetch(&mut self, mut fetch: Fetch) {
        let mirror = fetch.mirror();
        let url = self.site.urls.get(mirror).cloned().unwrap_or_default();
        let run = fetch.left();
        debug!("mirror {}: {} from byte {} on", shown(&url), Bytes(run.end - run.start), run.start);
        (self.filled, self.last_turn) = (0, Instant::now());
        let brought = self.bring(&mut fetch, &url);
        // What came before it broke off is good.
        let broken = self.turn(&mut fetch).err().or(brought.err());
        let (mut permits, now) = (0, Instant::now());
        let told = self.shared.with_swarm(|swarm| fetch.end(swarm, broken, &mut permits, now));
        self.shared.return_permits(permits);
        match told {
            Some(error) if error.is_lasting() => {
                info!("mirror {}: {error}; it is not asked any more", shown(&url));
            }
            Some(error) => info!("mirror {}: {error}", shown(&url)),
            None => {}
        }
    }

    fn bring(&mut self, fetch: &mut Fetch, url: &str) -> Result<(), Broken> {
        let layout = Arc::clone(&self.site.layout);
        let run = fetch.left();
        let length = usize::try_from(run.end - run.start).unwrap_or(usize::MAX);
        for segment in layout.files_at(run.start, length) {
            if segment.file.is_pad() {
                self.pad(fetch, segment.length)?;
            } else {
                self.get(fetch, url, &segment)?;
            }
        }
        Ok(())
    }

    /// Padding is on no mirror.
    fn pad(&mut self, fetch: &mut Fetch, mut left: usize) -> Result<(), Broken> {
        while left > 0 {
            let room = self.bytes.get_mut(self.filled..).unwrap_or_default();
            let length = room.len().min(left);
            room.get_mut(..length).unwrap_or_default().fill(0);
            (self.filled, left) = (self.filled + length, left - length);
            self.turn_if_due(fetch)?;
        }
        Ok(())
    }

    /// Fetches a part of a file.
    fn get(&mut self, fetch: &mut Fetch, url: &str, segment: &Segment<'_>) -> Result<(), Broken> {
        let part = Part {
            begin: segment.offset,
            length: segment.length as u64,
            whole: segment.file.length,
        };
        let mut answer = self.ask(url, segment.index, part)?;
        promises(&answer, part)?;
        let is_all = answer.body().content_length() == Some(part.length);
        let mut body = answer.body_mut().as_reader();
        let mut left = segment.length;
        while left > 0 {
            let room = self.bytes.len().saturating_sub(self.filled).min(left);
            let allowed = self.allowed(fetch, room)?;
            let room = self.bytes.get_mut(self.filled..self.filled + allowed).unwrap_or_default();
            let read = body.read(room);
            let count = read.as_ref().copied().unwrap_or(0).min(allowed);
            self.give_back(allowed - count);
            (self.filled, left) = (self.filled + count, left - count);
            match read {
                Ok(0) => return Err(MirrorError::Short.into()),
                Ok(_) => fetch.on_read(count, Instant::now()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error.into()).into()),
            }
            self.turn_if_due(fetch)?;
        }
        // Only a body that was read to its end leaves the connection to the next request.
        if is_all {
            let _end = body.read(&mut [0]);
        }
        Ok(())
    }

    fn ask(&self, url: &str, file: usize, part: Part) -> Result<Response<Body>, MirrorError> {
        let metainfo = &self.site.metainfo;
        let too_long = || MirrorError::Unusable("the path of a file is too long".to_owned());
        let path = metainfo.mirror_path(file).ok_or_else(too_long)?;
        let uri = Uri::try_from(file_url(url, metainfo.multi_file, &path));
        let uri = uri.map_err(|error| failed(Error::Http(error.into())))?;
        self.hops.begin();
        let agent = if is_near(&uri) { &self.near } else { &self.far };
        agent.get(uri).header(header::RANGE, part.header()).call().map_err(failed)
    }

    // ---- a rate limit of ours ------------------------------------------------------------------

    /// Gets in line for up to `wish` bytes and waits until they may be read. Returns how many.
    fn allowed(&mut self, fetch: &mut Fetch, wish: usize) -> Result<usize, Broken> {
        let shared = Arc::clone(&self.shared);
        let Some(limit) = &shared.download else { return Ok(wish) };
        let began = Instant::now();
        let (at, bytes) = with_bucket(limit, |bucket| {
            let bytes = bucket.quantum().min(u32::try_from(wish).unwrap_or(u32::MAX));
            (bucket.reserve(bytes, began), bytes as usize)
        });
        while Instant::now() < at {
            let turn = self.turn_if_due(fetch);
            let is_over = !self.rest(at.min(Instant::now() + TURN));
            if is_over || turn.is_err() {
                self.give_back(bytes);
                return turn.and(Err(Broken::Needless));
            }
        }
        fetch.on_held(began.elapsed());
        Ok(bytes)
    }

    /// So many bytes that were allowed were not there.
    fn give_back(&self, bytes: usize) {
        if let Some(limit) = &self.shared.download {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            with_bucket(limit, |limit| limit.give_back(bytes));
        }
    }

    // ---- the turn ------------------------------------------------------------------------------

    fn turn_if_due(&mut self, fetch: &mut Fetch) -> Result<(), Broken> {
        let is_full = self.filled == self.bytes.len();
        if is_full || Instant::now() >= self.last_turn + TURN { self.turn(fetch) } else { Ok(()) }
    }

    /// Hands in the blocks that are whole.
    fn turn(&mut self, fetch: &mut Fetch) -> Result<(), Broken> {
        let now = Instant::now();
        self.last_turn = now;
        let (arrived, filled, mut permits) = (&mut self.arrived, self.filled, 0);
        let begin = fetch.left().start;
        let turn = |swarm: &mut _| fetch.hand_in(swarm, filled, arrived, &mut permits, now);
        let handed_in = self.shared.with_swarm(turn);
        self.shared.return_permits(permits);
        self.hand_over(usize::try_from(fetch.left().start - begin).unwrap_or(self.filled));
        handed_in
    }

    /// The first `count` bytes go to the writer, if blocks are in them that are to be written.
    fn hand_over(&mut self, count: usize) {
        let rest = count..self.filled;
        self.filled = rest.len();
        if self.arrived.is_empty() {
            if count > 0 {
                self.bytes.copy_within(rest, 0);
            }
            return;
        }
        let Some(mut chunk) = self.shared.chunks.take() else { return };
        std::mem::swap(&mut chunk.bytes, &mut self.bytes);
        std::mem::swap(&mut chunk.blocks, &mut self.arrived);
        let rest = chunk.bytes.get(rest).unwrap_or_default();
        self.bytes.get_mut(..rest.len()).unwrap_or_default().copy_from_slice(rest);
        // It fails only when the writer is gone, and then the run is over.
        let _over = self.shared.to_writer.send(ToWriter::Chunk(chunk));
    }
}

/// An agent for one request at a time. Its connections are kept for the next one.
fn agent(hops: &Hops, is_limited: bool, route: &Arc<Route>, near: bool) -> Agent {
    let ms = |ms: u32| Some(Duration::from_millis(u64::from(ms)));
    // What is read ahead under a limit was not allowed.
    let input = if is_limited { MIRROR_INPUT_LIMITED_BYTES } else { MIRROR_INPUT_BYTES };
    let config = Config::builder()
        .proxy(agent::proxy(route, near))
        .user_agent(USER_AGENT)
        .accept_encoding("identity")
        .http_status_as_error(false)
        .max_redirects(MIRROR_REDIRECTS_MAX)
        .max_response_header_size(MIRROR_HEAD_MAX_BYTES)
        .input_buffer_size(input)
        .output_buffer_size(MIRROR_OUTPUT_BYTES)
        .max_idle_connections(1)
        .timeout_resolve(ms(MIRROR_RESOLVE_TIMEOUT_MS))
        .timeout_connect(ms(MIRROR_CONNECT_TIMEOUT_MS))
        .timeout_send_request(ms(MIRROR_SEND_TIMEOUT_MS))
        .timeout_recv_response(ms(MIRROR_HEAD_TIMEOUT_MS))
        .timeout_recv_body(ms(MIRROR_BODY_TIMEOUT_MS))
        .timeout_per_read(ms(MIRROR_READ_TIMEOUT_MS))
        .timeout_per_write(ms(MIRROR_SEND_TIMEOUT_MS))
        .build();
    agent::agent(config, hops.clone(), route)
}

/// Whether the answer's body begins with that part.
fn promises(answer: &Response<Body>, part: Part) -> Result<(), MirrorError> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let head = Head {
        status: answer.status().as_u16(),
        content_range: header(header::CONTENT_RANGE),
        content_length: answer.body().content_length(),
        retry_after: header(header::RETRY_AFTER),
    };
    head.promises(part)
}

/// What an error of HTTP says of the mirror.
fn failed(error: Error) -> MirrorError {
    use Error::{BadUri, Http, Io, RedirectFailed, TlsRequired, TooManyRedirects};
    let is_lasting =
        matches!(error, BadUri(_) | Http(_) | RedirectFailed | TlsRequired | TooManyRedirects);
    if matches!(&error, Io(error) if error.kind() == ErrorKind::UnexpectedEof) {
        return MirrorError::Short;
    }
    let text = TrackerError::from(error).to_string();
    if is_lasting { MirrorError::Unusable(text) } else { MirrorError::Failed(text) }
}
