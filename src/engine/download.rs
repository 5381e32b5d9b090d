//! The front door: everything from a torrent to its verified files. First what is there is hashed,
//! then, if something is missing, the threads are started and the coordinator takes over.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select};
use log::{debug, info, warn};

use crate::bitfield::Bitfield;
use crate::engine::aside::{Arrangement, arrange, bring_back};
use crate::engine::chunk::ChunkPool;
use crate::engine::coordinator::{Coordinator, Passed, Progress, Seeding, Watch};
use crate::engine::dht::Entry;
use crate::engine::discovery::Totals;
use crate::engine::outlet::Delivery;
use crate::engine::outside::{Directions, Outside};
use crate::engine::recheck::{Found, Search, recheck};
use crate::engine::recorder::{Desk, Recorder};
use crate::engine::session::{Permit, Shared};
use crate::engine::upload::Uploads;
use crate::engine::watch::watch;
use crate::engine::webseed::{Site, WebSeeds};
use crate::engine::{pool, writer};
use crate::error::Fatal;
use crate::limits::{
    DESCRIPTORS_DHT_MAX, DESCRIPTORS_SPARE_MAX, DESCRIPTORS_SPARE_MIN, JOBS_MAX,
    MIRROR_WORKERS_MAX, OUTLET_STACK_BYTES,
};
use crate::policy::encryption::Encryption;
use crate::policy::memory::Plan;
use crate::policy::mirrors::Mirrors;
use crate::policy::rate::Rate;
use crate::policy::selection::Selection;
use crate::policy::swarm::Swarm;
use crate::policy::tiers::Tiers;
use crate::protocol::metainfo::{FileEntry, Metainfo};
use crate::protocol::resume::{FileState, Record};
use crate::system::link::Waker;
use crate::system::resume::ResumeFile;
use crate::system::route::Route;
use crate::system::storage::directory::Directory;
use crate::system::storage::layout::{Layout, OutputFile, OutputKind};
use crate::system::storage::source::Source;
use crate::system::storage::{Storage, catch_failed_stores};
use crate::units::{Count, PieceIndex};

/// What the user may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the files go.
    pub dir: PathBuf,
    /// Peers to try besides those that trackers name.
    pub peers: Vec<SocketAddr>,
    /// The first so many of the torrent's mirrors are tried before the others, which are tried in
    /// any order.
    pub mirrors_first: usize,
    /// The files that are fetched, if not all.
    pub selection: Option<Selection>,
    /// Pieces are taken in the torrent's order.
    pub in_order: bool,
    /// The file, by its place in the torrent, that goes to standard output instead of the disk.
    pub delivered: Option<usize>,
    /// Bytes that are to stay free on the disk.
    pub min_free: u64,
    /// How much may be under way at once.
    pub plan: Plan,
    /// Where peers may come, the first that is free; and what trackers are told if none can be had.
    pub ports: Vec<u16>,
    /// Whether peers on the local network are looked for.
    pub local: bool,
    /// Where the DHT is entered, if peers are looked for there.
    pub dht: Option<Entry>,
    /// Whether to stay once everything is there.
    pub seeding: Option<Seeding>,
    /// The run ends when no piece was verified for this long.
    pub patience: Option<Duration>,
    /// Bytes that peers together may send in a second; the rest waits where it comes from.
    pub download_limit: Option<u64>,
    /// Whether peers are spoken to encrypted.
    pub encryption: Encryption,
    /// Bytes that may be sent to peers in a second.
    pub upload_limit: Option<u64>,
    /// By which way everything leaves.
    pub route: Arc<Route>,
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// Bytes of the files that were selected, all of them verified.
    pub total: u64,
    /// Bytes that came from peers and mirrors.
    pub downloaded: u64,
    /// Bytes of them that came from mirrors.
    pub mirrored: u64,
    /// Bytes that went to peers.
    pub uploaded: u64,
    /// How long that took, the look at what was there not counted.
    pub elapsed: Duration,
}

/// Downloads what is missing of the torrent. `outside` is what its metadata came through, if it was
/// not in a file. `signals` asks for the end; `watch` is told of it all.
///
/// # Errors
/// Whatever kept it from finishing; everything that was verified until then is in the files.
pub fn download(
    metainfo: &Arc<Metainfo>,
    options: &Options,
    mut outside: Option<Outside>,
    signals: &Receiver<()>,
    watch: &mut dyn Watch,
) -> Result<Report, Fatal> {
    let outcome = download_through(metainfo, options, &mut outside, signals, watch);
    // It ended before peers were needed.
    if let Some(outside) = outside {
        let all = outcome.is_ok() && options.selection.is_none();
        let left = if all { 0 } else { metainfo.geometry.total() };
        outside.discovery.farewell(Totals { left, downloaded: 0, uploaded: 0 });
    }
    outcome
}

fn download_through(
    metainfo: &Arc<Metainfo>,
    options: &Options,
    outside: &mut Option<Outside>,
    signals: &Receiver<()>,
    watch: &mut dyn Watch,
) -> Result<Report, Fatal> {
    let selection = options.selection.as_ref();
    let selected = |index| selection.is_none_or(|selection| selection.has(index));
    let data = metainfo.files.iter().enumerate();
    let data = data.filter(|(index, file)| file.is_data() && selected(*index));
    let total = data.map(|(_, file)| file.length).sum();
    let directory = Directory::create(&options.dir)?;
    let (geometry, files) = (metainfo.geometry, metainfo.files.len());
    let length_max = Record::length_max(geometry, files);
    let (file, bytes) = ResumeFile::find(directory.share(), &metainfo.name, length_max)?;
    let record = Record::decode(&bytes, metainfo.info_hash, geometry, files);
    drop(bytes);
    let Arrangement { layout, wanted, aside } = arrange(
        metainfo,
        (selection, options.delivered),
        directory.share(),
        &file,
        record.as_ref(),
    )?;
    let delivery = options.delivered.and_then(|index| layout.file(index));
    let aside_alone = delivery.is_some_and(|file| file.kind == OutputKind::Skipped);
    let mut storage = Storage::new(directory, layout);
    storage.keep_free(options.min_free);
    if let Some(record) = &record {
        bring_back(&mut storage, geometry, &file, record)?;
    }
    let wants = |piece| wanted.as_ref().is_none_or(|wanted| wanted.has(piece));
    // What was only handed on leaves nothing, unless an earlier run has something there.
    let others = |record: &Record| {
        geometry.all_pieces().any(|piece| record.pieces.has(piece) && !wants(piece))
    };
    let kept = match aside_alone {
        true => record.as_ref().is_some_and(others),
        false => selection.is_some(),
    };
    // What is aside is nowhere else, and may be wanted another time.
    let hashed = wanted.clone().map(|mut hashed| {
        for piece in aside.iter().filter_map(|piece| geometry.piece(*piece)) {
            hashed.insert(piece);
        }
        hashed
    });
    let search = (storage.layout().as_ref(), hashed.as_ref(), record.as_ref());
    let mut show = |progress: &_| watch.progress(progress);
    let mut found = check(metainfo, search, options, signals, &mut show)?;
    found.files.resize(files + 1, FileState::default());
    drop(record);
    let missing = |piece: &PieceIndex| wants(*piece) && !found.pieces.has(*piece);
    refuse_bad_padding(metainfo, storage.layout(), missing)?;
    if watch.wants_pieces() {
        watch.pieces(&found.pieces, &[]);
    }
    if !geometry.all_pieces().any(|piece| missing(&piece)) {
        storage.finish()?;
        if let Some(index) = options.delivered {
            let source = Source::new(storage.directory(), Arc::clone(storage.layout()));
            deliver(Delivery::new(metainfo, index, source), signals)?;
        }
        if options.seeding.is_none() {
            if found.pieces.is_full() || !kept {
                file.remove();
            }
            let (downloaded, mirrored, uploaded) = (0, 0, 0);
            return Ok(Report { total, downloaded, mirrored, uploaded, elapsed: Duration::ZERO });
        }
    }
    let began = Instant::now();
    let prepared = Prepared { storage, found, wanted, aside, kept, file };
    let coordinator = start(metainfo, prepared, options, outside, signals, watch)?;
    let Passed { downloaded, mirrored, uploaded, complete } = coordinator.run()?;
    let elapsed = complete.saturating_duration_since(began);
    Ok(Report { total, downloaded, mirrored, uploaded, elapsed })
}

/// Hands out what is there already. Whoever reads may be slow: a signal ends it.
fn deliver(delivery: Delivery, signals: &Receiver<()>) -> Result<(), Fatal> {
    let (done, ended) = bounded(1);
    let thread = thread::Builder::new().name("outlet".into()).stack_size(OUTLET_STACK_BYTES);
    let spawned = thread.spawn(move || drop(done.send(delivery.deliver(|_| true))));
    spawned.map_err(|error| Fatal::System("start a thread", error))?;
    select! {
        recv(ended) -> outcome => {
            let lost = || Fatal::System("deliver", std::io::Error::other("a thread died"));
            outcome.map_err(|_| lost())?
        }
        recv(signals) -> _ => Err(Fatal::Stopped("stopped while it was handed out".to_owned())),
    }
}

/// Where the torrent's bytes lie when every file is kept under its name.
pub fn layout(metainfo: &Metainfo) -> Layout {
    let file = |file: &FileEntry| OutputFile {
        path: file.path.clone(),
        length: file.length,
        kind: if file.is_data() { OutputKind::Data } else { OutputKind::Pad },
    };
    Layout::new(metainfo.files.iter().map(file).collect())
}

/// What is known of the files before anybody is asked.
struct Prepared {
    storage: Storage,
    found: Found,
    /// The pieces that are to be had, if not all.
    wanted: Option<Bitfield>,
    /// The pieces that have a place aside.
    aside: Vec<u32>,
    /// The record is of use when the run is over.
    kept: bool,
    file: ResumeFile,
}

/// Hashes what is there, on all cores, showing how far it is.
fn check(
    metainfo: &Metainfo,
    (layout, wanted, record): (&Layout, Option<&Bitfield>, Option<&Record>),
    options: &Options,
    signals: &Receiver<()>,
    show: &mut dyn FnMut(&Progress),
) -> Result<Found, Fatal> {
    let (dir, geometry, threads) = (&options.dir, metainfo.geometry, options.plan.checkers);
    let stopped = "stopped while checking what is there";
    watch(geometry.total(), stopped, signals, show, &|stop, progress| {
        let search = Search { dir, layout, geometry, wanted, record, threads, stop, progress };
        recheck(&search, |piece| *metainfo.piece_hash(piece))
    })
}

/// A piece that is all padding is zeros, and was found so; one whose hash says otherwise can't be
/// had from anybody.
pub(super) fn refuse_bad_padding(
    metainfo: &Metainfo,
    layout: &Layout,
    missing: impl Fn(&PieceIndex) -> bool,
) -> Result<(), Fatal> {
    let geometry = metainfo.geometry;
    if metainfo.files.iter().all(FileEntry::is_data) {
        return Ok(());
    }
    let padding =
        |piece| layout.is_padding(geometry.offset_of(piece), geometry.length_of(piece) as usize);
    match geometry.all_pieces().find(|piece| missing(piece) && padding(*piece)) {
        None => Ok(()),
        Some(piece) => {
            let why = format!("piece {piece} is padding, but its hash is not that of zeros");
            Err(Fatal::BadTorrent(why))
        }
    }
}

/// Starts every thread that a download needs.
fn start<'a>(
    metainfo: &Arc<Metainfo>,
    Prepared { storage, found, wanted, aside, kept, mut file }: Prepared,
    options: &Options,
    outside: &mut Option<Outside>,
    signals: &'a Receiver<()>,
    watch: &'a mut dyn Watch,
) -> Result<Coordinator<'a>, Fatal> {
    let plan = options.plan;
    let mut rng = fastrand::Rng::new();
    let named = Tiers::are_any(&metainfo.tiers)
        || !options.peers.is_empty()
        || !metainfo.mirrors.is_empty();
    let looks_around = (options.local || options.dht.is_some()) && !metainfo.private;
    if !named && !looks_around && outside.is_none() && options.seeding.is_none() {
        let why = "the torrent names no HTTP or UDP tracker and no mirror; give a peer with \
            --peer or a mirror with --mirror";
        return Err(Fatal::NobodyToAsk(why.to_owned()));
    }
    let started = |what| move |error| Fatal::System(what, error);
    let geometry = metainfo.geometry;
    let mut swarm = Swarm::new(geometry, found.pieces.clone(), rng.fork(), Instant::now());
    if let Some(wanted) = wanted {
        swarm.select(wanted);
    }
    if options.in_order {
        swarm.picker.go_in_order();
    }
    swarm.picker.limit_begun(plan.begun);
    swarm.upload_limit_per_s = options.upload_limit;
    let urls = in_order(&metainfo.mirrors, options.mirrors_first, &mut rng);
    swarm.mirrors = Mirrors::new(urls.len());
    storage.check_room(swarm.left_bytes())?;
    file.hold()?;
    if let Err(error) = catch_failed_stores() {
        debug!("the signal of a failed store can't be caught: {error}");
    }
    let (missing_pieces, total) = (swarm.picker.left(), swarm.selected_bytes());
    let then = options.seeding.map_or("exits".to_owned(), |plan| format!("seeds {plan}"));
    info!("{} to fetch; then it {then}", Count(missing_pieces, "piece"));

    let mirrors = if missing_pieces > 0 { plan.mirrors.min(MIRROR_WORKERS_MAX) } else { 0 };
    let dht = if plan.dht && !metainfo.private { DESCRIPTORS_DHT_MAX } else { 0 };
    let wakers = wakers(plan.peers, DESCRIPTORS_SPARE_MAX + mirrors + dht)?;
    let threads_max = wakers.len();
    let (work_back, work) = bounded(JOBS_MAX);
    (0..JOBS_MAX).for_each(|_| drop(work_back.try_send(Permit)));
    // Room for every chunk there is and for the order to finish: nobody waits for the writer here.
    let (to_writer, orders) = bounded(plan.chunks + 1);
    let outside = match outside.take() {
        Some(mut outside) => {
            outside.is_private(metainfo.private);
            outside
        }
        None => {
            // Where descriptors are scarce, those who are dialled need them, unless nobody needs
            // to be.
            let listens = threads_max == plan.peers || missing_pieces == 0;
            if !listens {
                info!("nobody can connect to us: there are too few descriptors");
            }
            let mut dht = options.dht.clone().filter(|_| listens && plan.dht);
            if let Some(entry) = &mut dht {
                entry.named.clone_from(&metainfo.nodes);
            }
            let directions = Directions {
                info_hash: metainfo.info_hash,
                tiers: &metainfo.tiers,
                private: metainfo.private,
                peers: &options.peers,
                ports: listens.then_some(&options.ports),
                port: options.ports.first().copied().unwrap_or(0),
                local: options.local,
                dht: dht.as_ref(),
                encryption: options.encryption,
                route: &options.route,
            };
            Outside::open(directions, &plan, &mut rng)?
        }
    };
    let alone = outside.discovery.is_alone() && metainfo.mirrors.is_empty();
    if alone && options.seeding.is_none() {
        let why = match options.route.leads_to_peers() {
            true => "no tracker of the torrent can be asked; give a peer with --peer",
            false => {
                "an HTTP proxy reaches no peers; use a SOCKS5 proxy, or give a mirror with --mirror"
            }
        };
        return Err(Fatal::NobodyToAsk(why.to_owned()));
    }
    (swarm.port, swarm.dht_port) = (outside.port(), outside.discovery.dht_port());
    swarm.metainfo = Some(Arc::clone(metainfo));
    let Outside { greeter, discovery, listener, report, events } = outside;
    let chunks = ChunkPool::new(plan.chunks);
    let layout = Arc::clone(storage.layout());
    let directory = storage.directory();
    let uploads = Uploads::new(Source::new(storage.directory(), Arc::clone(&layout)));
    let (on_mirrors, files) = (Arc::clone(metainfo), Arc::clone(&layout));
    let site = Site { urls: urls.into(), metainfo: on_mirrors, layout: files };
    let reporting = (to_writer, report.clone());
    let shared = Shared::new(swarm, wakers, (work_back, work), chunks, reporting, uploads, greeter);
    let shared = shared.limit(options.download_limit, options.upload_limit, Instant::now());
    let shared = Arc::new(shared);
    // What was found may never have been flushed, so nothing of it is recorded yet.
    let (info_hash, pieces) = (metainfo.info_hash, Bitfield::none(geometry));
    let record = Record { info_hash, pieces, files: found.files, aside };
    let (found, reports) = (found.pieces, report.clone());
    let desk = Desk { directory, layout, geometry, found, record, file, reports };
    let recorder = Recorder::spawn(desk).map_err(started("start a thread"))?;
    let bell = match options.delivered {
        Some(index) => {
            let (ring, bell) = bounded(1);
            let source = Source::new(storage.directory(), Arc::clone(storage.layout()));
            let delivery = Delivery::new(metainfo, index, source);
            let spawned = delivery.spawn(Arc::clone(&shared), bell, report.clone());
            spawned.map_err(started("start a thread"))?;
            Some(ring)
        }
        None => None,
    };
    let (torrent, sessions) = (Arc::clone(metainfo), Arc::clone(&shared));
    let writing = writer::spawn(storage, torrent, sessions, orders, (report.clone(), bell));
    writing.map_err(started("start a thread"))?;
    let web_seeds = match mirrors {
        0 => None,
        threads => Some(WebSeeds::spawn(threads, &shared, &site)),
    };
    let web_seeds = web_seeds.transpose().map_err(started("start a thread"))?;
    let (visits, visitors) = bounded(threads_max);
    let threads =
        pool::spawn(threads_max, &shared, &visitors, &report).map_err(started("start a thread"))?;

    Ok(Coordinator {
        shared,
        visits,
        guests: VecDeque::new(),
        seeding: options.seeding,
        events,
        discovery,
        web_seeds,
        recorder,
        listener,
        threads,
        patience: options.patience,
        signals,
        watch,
        total,
        kept,
        delivers: options.delivered.is_some(),
        busy: 0,
        met: BTreeMap::new(),
        rate: Rate::default(),
        sent: Rate::default(),
    })
}

/// The mirrors in the order in which they are tried: the first so many as they are, the others at
/// random, so that not everybody begins with the same one.
fn in_order(mirrors: &[String], first: usize, rng: &mut fastrand::Rng) -> Vec<String> {
    let mut urls = mirrors.to_vec();
    rng.shuffle(urls.get_mut(first..).unwrap_or_default());
    urls
}

/// A waker for each session. Where descriptors are scarce there are fewer, so that each session
/// has one left for its socket, and `spare` for the files, the trackers and the mirrors.
fn wakers(wanted: usize, spare: usize) -> Result<Vec<Waker>, Fatal> {
    let mut wakers = Vec::new();
    while wakers.len() < 2 * wanted + spare {
        match Waker::new() {
            Ok(waker) => wakers.push(waker),
            Err(error) if wakers.len() < 2 + DESCRIPTORS_SPARE_MIN => {
                return Err(Fatal::System("open enough files and sockets (ulimit -n)", error));
            }
            Err(error) => {
                let peers = (wakers.len().saturating_sub(spare) / 2).max(1);
                if peers < wanted {
                    warn!(
                        "no more than {} at a time, see ulimit -n: {error}",
                        Count(peers, "peer")
                    );
                }
                wakers.truncate(peers);
                break;
            }
        }
    }
    wakers.truncate(wanted);
    Ok(wakers)
}
