//! What is done with what was typed, what is said at the end, and the exit status.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Instant;

use crossbeam_channel::Receiver;
use log::{LevelFilter, info, warn};
use rustix::fs::Mode;
use rustix::process::umask;
use simplelog::{CombinedLogger, ConfigBuilder, SharedLogger, WriteLogger};

use crate::arguments::{Arguments, Command, Making, in_units, parse};
use crate::completions::completions;
use crate::create::create;
use crate::engine::download::{Options, Report, download};
use crate::engine::metadata::{self, Effort};
use crate::engine::outside::{Directions, Outside};
use crate::error::{Fatal, Status};
use crate::help;
use crate::limits::{
    INQUIRIES_MAX, MAGNET_LENGTH_MAX_BYTES, METADATA_MAX_BYTES, METADATA_ROOM_MIN_BYTES,
    MIRRORS_MAX, NAME_LENGTH_MAX_BYTES, PEERS_DEFAULT, TORRENT_LENGTH_MAX_BYTES,
};
use crate::manual::manual;
use crate::policy::memory::{self, Needs, Plan};
use crate::policy::selection::{Selection, Wish};
use crate::progress::{Screen, span};
use crate::protocol::magnet::Magnet;
use crate::protocol::metainfo::{Measures, Metainfo};
use crate::protocol::web_seed::mirror_url;
use crate::system::allowance;
use crate::system::sandbox::{self, Sandbox};
use crate::system::signals::{self, Caught};
use crate::text::Foreign;
use crate::units::{Bytes, Count};
use crate::ways::Ways;

/// Runs the program with these arguments, its own name not among them, and these variables of the
/// environment. Everything it has to say has been said when it returns. The thread that calls is
/// shut into the output directory by then: call on one of its own where there is more to do.
pub fn run(
    arguments: Vec<OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Status {
    let nothing_typed = arguments.is_empty();
    let done = match parse(arguments, variables) {
        Ok(Command::Help) => print(&help::short()),
        Ok(Command::LongHelp) => print(&help::long()),
        Ok(Command::Manual) => print(&manual()),
        Ok(Command::Completions(shell)) => print(&completions(shell)),
        Ok(Command::Version) => print(concat!("rusty_torrent ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Download(arguments)) => return fetch(&arguments),
        Ok(Command::Create(making)) => return make(&making),
        Err(_) if nothing_typed => {
            Screen::new(false).line(help::short().trim_end());
            return Status::BadOption;
        }
        Err(fatal) => Err(fatal),
    };
    conclude(done, &Screen::new(false))
}

/// Ends the process with a sentence instead of a backtrace and a signal: for what nobody could
/// foresee, such as a thread that finds no memory for its beginning. For a panic hook.
pub fn give_up(panic: &PanicHookInfo<'_>) {
    static GIVING_UP: Once = Once::new();
    // Others that fail meanwhile wait here for the end.
    GIVING_UP.call_once(|| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let reason = text.unwrap_or("no reason given");
        let place = panic.location().map(|place| {
            let file = Path::new(place.file()).file_name().unwrap_or_default();
            format!(" ({}:{})", file.display(), place.line())
        });
        let place = place.unwrap_or_default();
        let advice = "run the same command again to go on";
        Screen::new(false).line(&format!("error: had to give up: {reason}{place}; {advice}"));
        std::process::exit(i32::from(Status::Unknown.code()));
    });
}

fn conclude(done: Result<(), Fatal>, screen: &Screen) -> Status {
    match done {
        Ok(()) => Status::Done,
        Err(fatal) => {
            screen.line(&format!("error: {fatal}"));
            fatal.status()
        }
    }
}

/// A closed or full standard output is nobody's fault here.
#[allow(clippy::unnecessary_wraps)] // one of several ways to be done
fn print(text: &str) -> Result<(), Fatal> {
    let mut out = io::stdout();
    let _ignored = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

// ---- the run -----------------------------------------------------------------------------------

fn fetch(arguments: &Arguments) -> Status {
    if let Some(mask) = arguments.umask {
        umask(Mode::from_raw_mode(mask));
    }
    let screen = Screen::new(arguments.quiet);
    let wanted = (arguments.quiet, arguments.verbosity, arguments.log.as_deref());
    let done = start_log(wanted, &screen).and_then(|()| fetch_with(arguments, &screen));
    screen.clear();
    conclude(done, &screen)
}

fn make(making: &Making) -> Status {
    let screen = Screen::new(making.quiet);
    let done = start_log((making.quiet, making.verbosity, making.log.as_deref()), &screen)
        .and_then(|()| create(making, &screen));
    screen.clear();
    conclude(done, &screen)
}

fn fetch_with(arguments: &Arguments, screen: &Screen) -> Result<(), Fatal> {
    for variable in &arguments.strange_variables {
        warn!("{variable} says nothing to this program: there is no such option");
    }
    let caught = signals::catch().map_err(deaf)?;
    let ceiling = Ceiling::new(arguments.memory_max);
    match arguments.torrent.to_str().filter(|torrent| Magnet::is_meant(torrent)) {
        Some(link) => fetch_link(arguments, link, ceiling, caught, screen),
        None => fetch_file(arguments, ceiling, caught, screen),
    }
}

/// Downloads what a torrent file describes.
fn fetch_file(
    arguments: &Arguments,
    ceiling: Ceiling,
    caught: Caught,
    screen: &Screen,
) -> Result<(), Fatal> {
    let torrent = read_torrent(&arguments.torrent, ceiling)?;
    let needs = Needs {
        torrent_bytes: torrent.len() as u64,
        measures: Measures::of(&torrent).with_mirrors(&arguments.mirrors),
        ..needs(arguments)
    };
    let plan = plan(ceiling, &needs)?;
    let metainfo = Metainfo::parse_with_mirrors(&torrent, &arguments.mirrors);
    let metainfo = metainfo.map_err(|fatal| of_file(fatal, &arguments.torrent))?;
    drop(torrent);
    let selection = select(&arguments.wish, &metainfo)?;
    let ways = Ways::find(arguments)?;
    describe(&metainfo, selection.as_ref());
    let signals = begin(arguments, caught)?;
    fetch_torrent(arguments, (metainfo, selection), ways, plan, None, &signals, screen)
}

/// Asks peers what a magnet link is of, and downloads that.
fn fetch_link(
    arguments: &Arguments,
    link: &str,
    ceiling: Ceiling,
    caught: Caught,
    screen: &Screen,
) -> Result<(), Fatal> {
    let refused = |why| Fatal::BadTorrent(format!("the magnet link: {why}"));
    if link.len() > MAGNET_LENGTH_MAX_BYTES {
        return Err(refused(format!("it has more than {MAGNET_LENGTH_MAX_BYTES} bytes")));
    }
    let magnet = Magnet::parse(link).map_err(refused)?;
    let name = magnet.name.as_deref().unwrap_or("a link without a name");
    info!("{}: info-hash {}", Foreign::new(name.as_bytes()), magnet.info_hash);
    let mut ways = Ways::find(arguments)?;
    for peer in &magnet.peers {
        if let Err(why) = ways.add_peer(peer) {
            warn!("a peer of the link is left out: {why}");
        }
    }
    // What the torrent takes is not known yet.
    let trackers = magnet.tiers.len();
    let measures = Measures { tiers: trackers, trackers: trackers as u64, ..Measures::default() };
    let inquiries = arguments.peers_max.min(INQUIRIES_MAX);
    let needs = Needs { measures, peers: inquiries, ..needs(arguments) };
    let asking = plan(ceiling, &needs)?;
    let room = usize::try_from(ceiling.bytes - asking.bytes(&needs)).unwrap_or(usize::MAX);
    if room < METADATA_ROOM_MIN_BYTES {
        let needed = asking.bytes(&needs) + METADATA_ROOM_MIN_BYTES as u64;
        return Err(ceiling.too_little("for a magnet link", needed));
    }
    let signals = begin(arguments, caught)?;
    let directions = Directions {
        info_hash: magnet.info_hash,
        tiers: &magnet.tiers,
        private: false,
        peers: &ways.peers,
        ports: Some(&ways.ports),
        port: ways.ports.first().copied().unwrap_or(0),
        local: arguments.local,
        dht: ways.dht.as_ref().filter(|_| asking.dht),
        encryption: arguments.encryption,
        route: &ways.route,
    };
    let mut outside = Outside::open(directions, &asking, &mut fastrand::Rng::new())?;
    let effort = Effort {
        peers: asking.peers,
        bytes_max: room.min(METADATA_MAX_BYTES),
        patience: arguments.metadata_patience,
    };
    let mut show = |progress: &_| screen.show(progress, Instant::now());
    let info = metadata::fetch(&mut outside, effort, &signals, &mut show)?;
    let named = magnet.web_seeds.iter().filter_map(|url| mirror_url(url));
    let mirrors: Vec<String> =
        arguments.mirrors.iter().cloned().chain(named).take(MIRRORS_MAX).collect();
    let known = || {
        let needs = Needs {
            torrent_bytes: info.len() as u64,
            measures: Measures::of_link(&info, &magnet.tiers).with_mirrors(&mirrors),
            announcers: asking.announcers,
            dht: (false, outside.discovery.dht_port().is_some()),
            selects: needs.selects || !magnet.selected.is_empty(),
            ..needs
        };
        let plan = plan(ceiling, &Needs { peers: arguments.peers_max, ..needs })?;
        let metainfo = Metainfo::from_info(&info, magnet.tiers.clone(), mirrors.clone())?;
        let selection = match arguments.wish.is_everything() {
            false => select(&arguments.wish, &metainfo)?,
            true => select_by_link(&magnet, &metainfo)?,
        };
        describe(&metainfo, selection.as_ref());
        if arguments.save_torrent {
            save(&metainfo, &arguments.dir)?;
        }
        Ok(((metainfo, selection), plan))
    };
    let known = known();
    drop(info);
    match known {
        Ok((torrent, plan)) => {
            outside.is_private(torrent.0.private);
            fetch_torrent(arguments, torrent, ways, plan, Some(outside), &signals, screen)
        }
        Err(fatal) => {
            outside.discovery.farewell(metadata::TOTALS);
            Err(fatal)
        }
    }
}

/// Downloads a torrent, and says so.
fn fetch_torrent(
    arguments: &Arguments,
    (metainfo, selection): (Metainfo, Option<Selection>),
    ways: Ways,
    plan: Plan,
    outside: Option<Outside>,
    signals: &Receiver<()>,
    screen: &Screen,
) -> Result<(), Fatal> {
    let place = arguments.dir.join(&metainfo.name);
    let files = metainfo.files.iter().filter(|file| file.is_data()).count();
    let chosen = selection.as_ref().map(|selection| (selection.size(&metainfo).0, files));
    let options = Options {
        dir: arguments.dir.clone(),
        peers: ways.peers,
        mirrors_first: arguments.mirrors.len(),
        in_order: arguments.sequential || arguments.stdout,
        delivered: arguments.stdout.then(|| the_one(&metainfo, selection.as_ref())).transpose()?,
        selection,
        min_free: arguments.min_free,
        plan,
        ports: ways.ports,
        local: arguments.local,
        dht: ways.dht,
        route: ways.route,
        seeding: arguments.seeding,
        patience: arguments.patience,
        download_limit: arguments.download_limit,
        upload_limit: arguments.upload_limit,
        encryption: arguments.encryption,
    };
    let mut show = |progress: &_| screen.show(progress, Instant::now());
    let report = download(&Arc::new(metainfo), &options, outside, signals, &mut show)?;
    screen.clear();
    let summary = summary(&place, chosen, &report);
    if arguments.stdout {
        info!("{}", summary.trim_end());
    } else if !arguments.quiet {
        print(&summary)?;
    }
    Ok(())
}

/// Shuts itself in, and begins to hear signals.
fn begin(arguments: &Arguments, caught: Caught) -> Result<Receiver<()>, Fatal> {
    // Before the first thread, or that one would be outside.
    if arguments.sandbox {
        tell(sandbox::enter(&arguments.dir)?, &arguments.dir);
    }
    caught.listen().map_err(deaf)
}

fn deaf(error: io::Error) -> Fatal {
    Fatal::System("hear signals", error)
}

fn select(wish: &Wish, metainfo: &Metainfo) -> Result<Option<Selection>, Fatal> {
    Selection::new(wish, metainfo).map_err(|why| Fatal::Usage(format!("{}: {why}", metainfo.name)))
}

/// The one file that can go to standard output.
fn the_one(metainfo: &Metainfo, selection: Option<&Selection>) -> Result<usize, Fatal> {
    let selected = |index| selection.is_none_or(|selection| selection.has(index));
    let files = metainfo.files.iter().enumerate().filter(|(_, file)| file.is_data());
    let mut files = files.map(|(index, _)| index).filter(|index| selected(*index));
    match (files.next(), files.count()) {
        (Some(index), 0) => Ok(index),
        (_, more) => {
            let files = Count(more + 1, "file");
            let why = format!("--stdout takes one of the {files}; name it with --select-file");
            Err(Fatal::Usage(why))
        }
    }
}

/// What a link selects, as far as it is there.
fn select_by_link(magnet: &Magnet, metainfo: &Metainfo) -> Result<Option<Selection>, Fatal> {
    let last = metainfo.files.len().saturating_sub(1);
    let mut numbers = magnet.selected.clone();
    numbers.retain(|range| range.start() <= range.end() && *range.end() <= last);
    if numbers.len() < magnet.selected.len() {
        warn!("the link selects files that the torrent does not have");
    }
    select(&Wish { numbers, patterns: Vec::new() }, metainfo)
}

fn describe(metainfo: &Metainfo, selection: Option<&Selection>) {
    info!(
        "{}: {} in {}, info-hash {}",
        metainfo.name,
        Bytes(metainfo.geometry.total()),
        Count(metainfo.files.len(), "file"),
        metainfo.info_hash
    );
    if let Some(selection) = selection {
        let (count, bytes) = selection.size(metainfo);
        info!("{} selected, {}; no others are made", Count(count, "file"), Bytes(bytes));
    }
    for renamed in &metainfo.renamed {
        warn!("{} is written as {}", renamed.original, renamed.path.display());
    }
}

/// Writes the torrent file of a magnet link. One that is there stays.
fn save(metainfo: &Metainfo, dir: &Path) -> Result<(), Fatal> {
    let named = dir.join(format!("{}.torrent", metainfo.name));
    let hashed = dir.join(format!("{}.torrent", metainfo.info_hash));
    let fits = named.file_name().is_some_and(|name| name.len() <= NAME_LENGTH_MAX_BYTES);
    let path = if fits { named } else { hashed };
    let mut file = match File::options().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            warn!("{} is there already and stays as it is", path.display());
            return Ok(());
        }
        opened => opened.map_err(|error| Fatal::CreateFile(path.clone(), error))?,
    };
    let (begin, end) = metainfo.around_info();
    let parts = [&begin, metainfo.info(), &end];
    if let Err(error) = parts.into_iter().try_for_each(|part| file.write_all(part)) {
        let _half_of_it = std::fs::remove_file(&path);
        return Err(Fatal::FileIo("write", path, error));
    }
    info!("{} is written", path.display());
    Ok(())
}

fn tell(sandbox: Sandbox, dir: &Path) {
    let dir = dir.display();
    match sandbox {
        Sandbox::Whole => info!("sandbox: nothing is written outside {dir}, nothing is executed"),
        Sandbox::Partial => info!("sandbox: this kernel keeps only part of it, outside {dir}"),
        Sandbox::Absent => info!("no sandbox: this kernel has no Landlock"),
    }
}

fn summary(place: &Path, chosen: Option<(usize, usize)>, report: &Report) -> String {
    let of = |(chosen, files)| format!("{chosen} of {}, ", Count(files, "file"));
    let place = format!("{}: {}", place.display(), chosen.map_or_else(String::new, of));
    let total = Bytes(report.total);
    let sent = match report.uploaded {
        0 => String::new(),
        uploaded => format!(", {} sent", Bytes(uploaded)),
    };
    if report.downloaded == 0 {
        return format!("{place}{total}, all there already{sent}\n");
    }
    let micros = report.elapsed.as_micros().max(1);
    let per_second = u128::from(report.downloaded) * 1_000_000 / micros;
    let rate = Bytes(u64::try_from(per_second).unwrap_or(u64::MAX));
    let fetched = match report.downloaded.cmp(&report.total) {
        std::cmp::Ordering::Less => format!(", {} of it fetched", Bytes(report.downloaded)),
        _ => String::new(),
    };
    let mirrored = match report.mirrored {
        0 => String::new(),
        mirrored if mirrored >= report.downloaded => " from mirrors".to_owned(),
        mirrored => format!(", {} from mirrors", Bytes(mirrored)),
    };
    let time = match report.elapsed.as_secs() {
        0..60 => format!("{:.1} s", report.elapsed.as_secs_f64()),
        _ => span(report.elapsed),
    };
    format!("{place}{total}{fetched}{mirrored} in {time}, {rate}/s{sent}\n")
}

/// Bytes of memory that the run may take.
#[derive(Clone, Copy)]
struct Ceiling {
    bytes: u64,
    /// It was not `--max-memory` that drew the line.
    of_the_process: bool,
}

impl Ceiling {
    fn new(given: u64) -> Self {
        let left = allowance::memory_left().unwrap_or(u64::MAX);
        Self { bytes: given.min(left), of_the_process: left < given }
    }

    /// The error for a torrent that takes more.
    fn too_little(self, what_for: &str, needed: u64) -> Fatal {
        let (given, needed) = (Bytes(self.bytes), in_units(needed));
        if self.of_the_process {
            let why = format!("ulimit leaves {given}, {needed} are needed {what_for} at least");
            return Fatal::System("do with so little memory", io::Error::other(why));
        }
        let why =
            format!("{given} are too little {what_for}, it needs --max-memory {needed} at least");
        Fatal::Usage(why)
    }
}

/// What memory is needed for, as far as it was typed.
fn needs(arguments: &Arguments) -> Needs {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let dht = (arguments.dht && arguments.proxy.is_none(), false);
    let selects = !arguments.wish.is_everything();
    let delivers = arguments.stdout;
    Needs { peers: arguments.peers_max, cores, dht, selects, delivers, ..Needs::default() }
}

/// What may be under way at once with the memory that was given.
fn plan(ceiling: Ceiling, needs: &Needs) -> Result<Plan, Fatal> {
    let plan = Plan::new(ceiling.bytes, needs);
    let plan = plan.map_err(|needed| ceiling.too_little("for this torrent", needed))?;
    if plan.peers < needs.peers {
        let (peers, chunks) = (Count(plan.peers, "peer"), Count(plan.chunks, "buffer"));
        let given = match ceiling.of_the_process {
            true => format!("the {} that ulimit leaves are", Bytes(ceiling.bytes)),
            false => format!("--max-memory {} is", in_units(ceiling.bytes)),
        };
        warn!("{given} enough for {peers} and {chunks}");
    }
    Ok(plan)
}

fn read_torrent(path: &Path, ceiling: Ceiling) -> Result<Vec<u8>, Fatal> {
    let unreadable = |error| Fatal::ReadTorrent(path.to_owned(), error);
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    let (mut bytes, mut limit) = (Vec::new(), TORRENT_LENGTH_MAX_BYTES);
    let too_large = |limit| {
        let why = format!("the file is larger than {}", Bytes(limit));
        of_file(Fatal::BadTorrent(why), path)
    };
    if found.is_file() {
        let length = found.len();
        if length > limit {
            return Err(too_large(limit));
        }
        if !memory::can_be_measured(ceiling.bytes, length) {
            // What is in it is not known. Little else than hashes is in one that is so large.
            let (pieces, peers) = (length / 20, PEERS_DEFAULT);
            let info_bytes = length;
            let measures = Measures {
                info_bytes,
                pieces,
                piece_length: 1,
                files: 1,
                tiers: 1,
                ..Measures::default()
            };
            let hashes = Needs { torrent_bytes: length, measures, peers, ..Needs::default() };
            let needed = Plan::new(0, &hashes).err().unwrap_or(length);
            // What its files take comes on top, and is told when it can be seen.
            return Err(ceiling.too_little("to read this torrent", needed));
        }
        // Never more than there is room for, even if it grows meanwhile.
        limit = length;
        bytes.reserve_exact(usize::try_from(length + 1).unwrap_or(0));
    } else {
        // A pipe tells no length: what is read moves about while it grows.
        limit = limit.min(ceiling.bytes / 4);
    }
    let read = file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if read as u64 > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

/// The same, with the file that it is about.
fn of_file(fatal: Fatal, path: &Path) -> Fatal {
    let named = |why| format!("{}: {why}", path.display());
    match fatal {
        Fatal::NotBencode(why) => Fatal::NotBencode(named(why)),
        Fatal::BadTorrent(why) => Fatal::BadTorrent(named(why)),
        other => other,
    }
}

/// Says nothing but errors if quiet, more the more is wanted, and in a file as well.
fn start_log(
    (quiet, verbosity, file): (bool, usize, Option<&Path>),
    screen: &Screen,
) -> Result<(), Fatal> {
    let level = |steps: usize| match steps {
        0 => LevelFilter::Error,
        1 => LevelFilter::Warn,
        2 => LevelFilter::Info,
        3 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let config = |time: LevelFilter| {
        ConfigBuilder::new()
            .add_filter_allow_str("rusty_torrent")
            .set_time_level(time)
            .set_time_format_rfc3339()
            .set_target_level(LevelFilter::Off)
            .set_location_level(LevelFilter::Off)
            .set_thread_level(LevelFilter::Off)
            .build()
    };
    let on_screen = if quiet { 0 } else { 1 + verbosity };
    let mut loggers: Vec<Box<dyn SharedLogger>> =
        vec![WriteLogger::new(level(on_screen), config(LevelFilter::Off), screen.clone())];
    if let Some(path) = file {
        let file = File::options().append(true).create(true).open(path);
        let file = file.map_err(|error| Fatal::CreateFile(path.to_owned(), error))?;
        let level = level(2 + verbosity);
        loggers.push(WriteLogger::new(level, config(LevelFilter::Error), file));
    }
    // Whoever runs this in one process with others may have a log already.
    let _kept = CombinedLogger::init(loggers);
    Ok(())
}
