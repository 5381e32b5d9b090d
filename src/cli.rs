//! What is done with what was typed, what is said at the end, and the exit status.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Instant;

use crossbeam_channel::Receiver;
use log::{LevelFilter, info, warn};
use rustix::fs::Mode;
use rustix::process::umask;
use simplelog::{CombinedLogger, ConfigBuilder, SharedLogger, WriteLogger};

use crate::arguments::{Arguments, Command, Making, Task, parse, wants_json};
use crate::ceiling::{Ceiling, in_units};
use crate::completions::completions;
use crate::create::create;
use crate::engine;
use crate::engine::coordinator::Watch;
use crate::engine::download::{Options, Report, download, layout};
use crate::engine::metadata::{self, Effort};
use crate::engine::outside::{Directions, Outside};
use crate::engine::retrieval;
use crate::engine::verification;
use crate::error::{Fatal, Status};
use crate::help;
use crate::hook::Hook;
use crate::json_lines::{Ending, end_record};
use crate::limits::{
    INQUIRIES_MAX, MAGNET_LENGTH_MAX_BYTES, METADATA_MAX_BYTES, METADATA_ROOM_MIN_BYTES,
    MIRRORS_MAX, NAME_LENGTH_MAX_BYTES,
};
use crate::manual::manual;
use crate::policy::memory::{Needs, Plan};
use crate::policy::selection::{Selection, Wish};
use crate::preflight::Preflight;
use crate::progress::{Screen, Style};
use crate::protocol::magnet::Magnet;
use crate::protocol::metainfo::{Measures, Metainfo};
use crate::protocol::web_seed::mirror_url;
use crate::show;
use crate::status_line::span;
use crate::system::ground::Ground;
use crate::system::sandbox::{self, Sandbox};
use crate::system::signals::{self, Caught, Heard};
use crate::text::Foreign;
use crate::torrents::{Named, Opened};
use crate::units::{Bytes, Count};
use crate::verify;
use crate::viewer::Viewer;
use crate::ways::Ways;

/// Runs the program with these arguments, its own name not among them, and these variables of the
/// environment. Everything it has to say has been said when it returns. The thread that calls is
/// shut into the output directory by then: call on one of its own where there is more to do.
pub fn run(
    arguments: Vec<OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Status {
    let variables: Vec<_> = variables.into_iter().collect();
    let (nothing_typed, json) = (arguments.is_empty(), wants_json(&arguments, &variables));
    let done = match parse(arguments, variables) {
        Ok(Command::Help) => print(&help::short()),
        Ok(Command::LongHelp) => print(&help::long()),
        Ok(Command::Manual) => print(&manual()),
        Ok(Command::Completions(shell)) => print(&completions(shell)),
        Ok(Command::Version) => print(concat!("rusty_torrent ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Download(arguments)) => return fetch(&arguments),
        Ok(Command::Create(making)) => return make(&making),
        Err(_) if nothing_typed => {
            Screen::new(Style::Auto).line(help::short().trim_end());
            return Status::BadOption;
        }
        Err(fatal) => {
            if json {
                end_early(fatal.status(), &fatal.to_string());
            }
            Err(fatal)
        }
    };
    conclude(done, &Screen::new(Style::Auto))
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
        let advice = "run the same command again, and report this line";
        let reason = format!("internal error: {reason}{place}; {advice}");
        Screen::new(Style::Auto).line(&format!("error: {reason}"));
        let arguments: Vec<_> = env::args_os().skip(1).collect();
        if wants_json(&arguments, &env::vars_os().collect::<Vec<_>>()) {
            end_early(Status::Unknown, &reason);
        }
        std::process::exit(i32::from(Status::Unknown.code()));
    });
}

/// The last record, where nothing more is known.
fn end_early(status: Status, reason: &str) {
    let ending = Ending { status, reason: Some(reason), ..Ending::default() };
    let _ignored = end_record(&ending).write_with(&mut io::stdout(), "files", [].into_iter());
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
    let screen = Screen::new(if arguments.quiet { Style::Off } else { arguments.progress });
    let wanted = (arguments.quiet, arguments.verbosity, arguments.log.as_deref());
    match start_log(wanted, &screen).and_then(|()| Run::new(arguments, &screen)) {
        Ok(run) => fetch_all(run),
        Err(fatal) => {
            Viewer::new(arguments, &screen).end(fatal.status(), Some(&fatal.to_string()));
            conclude(Err(fatal), &screen)
        }
    }
}

fn make(making: &Making) -> Status {
    let screen = Screen::new(if making.quiet { Style::Off } else { Style::Auto });
    let done = start_log((making.quiet, making.verbosity, making.log.as_deref()), &screen)
        .and_then(|()| create(making, &screen));
    screen.clear();
    conclude(done, &screen)
}

/// What all torrents of a run have in common.
struct Run<'a> {
    arguments: &'a Arguments,
    screen: &'a Screen,
    /// Who looks on at the torrent that it is at.
    viewer: Viewer,
    ceiling: Ceiling,
    /// Signals, until it hears them.
    caught: Option<Caught>,
    heard: Option<Heard>,
    ways: Option<Ways>,
}

impl<'a> Run<'a> {
    fn new(arguments: &'a Arguments, screen: &'a Screen) -> Result<Self, Fatal> {
        for variable in &arguments.strange_variables {
            warn!("the variable {variable} is ignored: there is no such option");
        }
        let caught = Some(signals::catch().map_err(deaf)?);
        let ceiling = Ceiling::new(arguments.memory_max);
        let viewer = Viewer::new(arguments, screen);
        Ok(Self { arguments, screen, viewer, ceiling, caught, heard: None, ways: None })
    }

    /// The ways to others, found once: later nothing can be opened.
    fn ways(&mut self) -> Result<Ways, Fatal> {
        let found = self.ways.take().map_or_else(|| Ways::find(self.arguments), Ok)?;
        Ok(self.ways.insert(found).clone())
    }

    /// Gets the command ready, shuts itself in, and begins to hear signals, the first time.
    fn begin(&mut self) -> Result<Receiver<()>, Fatal> {
        let command = self.arguments.on_complete.as_ref().filter(|_| self.caught.is_some());
        if let Some(command) = command.filter(|_| self.arguments.task == Task::Download) {
            self.viewer.keep(Hook::prepare(command, &self.arguments.dir)?);
        }
        if let Some(caught) = self.caught.take() {
            self.heard = Some(begin(self.arguments, caught)?);
        }
        let heard = self.heard.as_ref().map(|heard| heard.first.clone());
        heard.ok_or_else(|| deaf(io::ErrorKind::NotConnected.into()))
    }

    fn is_stopped(&self) -> bool {
        self.heard.as_ref().is_some_and(Heard::any)
    }
}

/// Downloads one after the other. One that fails does not keep the others from being tried: the
/// status is that of the first.
fn fetch_all(mut run: Run<'_>) -> Status {
    let Run { arguments, screen, ceiling, .. } = run;
    let all: Vec<Named<'_>> = arguments.torrents.iter().map(|name| Named::of(name)).collect();
    let mut waiting = 0;
    let mut open = |named: &Named<'_>| {
        let opened = named.open(ceiling.beside(waiting));
        waiting += opened.as_ref().map_or(0, Opened::taken);
        opened
    };
    let opened: Vec<Result<Opened, Fatal>> = all.iter().map(&mut open).collect();
    let mut status = Status::Done;
    for (number, (named, opened)) in all.iter().zip(opened).enumerate() {
        if run.is_stopped() {
            let left = Count(all.len() - number, "torrent");
            let reason = format!("stopped before {left}");
            screen.line(&format!("error: {reason}"));
            for _ in number..all.len() {
                Viewer::new(arguments, screen).end(Status::Unfinished, Some(&reason));
            }
            return if status == Status::Done { Status::Unfinished } else { status };
        }
        waiting -= opened.as_ref().map_or(0, Opened::taken);
        run.ceiling = ceiling.beside(waiting);
        if number > 0 {
            run.viewer = run.viewer.next(arguments, screen);
        }
        let done = opened.and_then(|opened| fetch_named(&mut run, *named, opened));
        screen.clear();
        let done = done.map_err(|fatal| of_torrent(fatal, *named));
        let reason = done.as_ref().err().map(ToString::to_string);
        let ended = match done {
            Err(fatal) if all.len() > 1 && !fatal.names_the_torrent() => {
                screen.line(&format!("error: {}: {fatal}", named.called()));
                fatal.status()
            }
            done => conclude(done, screen),
        };
        run.viewer.end(ended, reason.as_deref());
        if status == Status::Done {
            status = ended;
        }
    }
    status
}

fn fetch_named(run: &mut Run<'_>, named: Named<'_>, opened: Opened) -> Result<(), Fatal> {
    match named {
        Named::Link(link) => fetch_link(run, link),
        Named::Url(url) => fetch_url(run, url),
        Named::Input | Named::File(_) => fetch_file(run, opened.read(named, run.ceiling)?),
    }
}

/// Fetches a torrent file, and downloads what it describes.
fn fetch_url(run: &mut Run<'_>, url: &str) -> Result<(), Fatal> {
    let (route, ceiling) = (run.ways()?.route, run.ceiling);
    let signals = run.begin()?;
    let room = move |length| ceiling.room_for_torrent(length);
    let torrent = retrieval::fetch(url, &route, room, ceiling.endless(), &signals)?;
    fetch_file(run, torrent)
}

/// Downloads what a torrent file describes.
fn fetch_file(run: &mut Run<'_>, torrent: Vec<u8>) -> Result<(), Fatal> {
    let arguments = run.arguments;
    let needs = Needs {
        torrent_bytes: torrent.len() as u64,
        measures: Measures::of(&torrent).with_mirrors(&arguments.mirrors),
        ..needs(arguments)
    };
    let plan = plan(run.ceiling, &needs)?;
    let metainfo = Metainfo::parse_with_mirrors(&torrent, &arguments.mirrors)?;
    drop(torrent);
    if arguments.task != Task::Download {
        return look(run, &metainfo, &plan);
    }
    let selection = select(&arguments.wish, &metainfo)?;
    let ways = run.ways()?;
    describe(&metainfo, selection.as_ref());
    let signals = run.begin()?;
    fetch_torrent(run, (metainfo, selection), ways, plan, None, &signals)
}

/// Asks peers what a magnet link is of, and downloads that.
fn fetch_link(run: &mut Run<'_>, link: &str) -> Result<(), Fatal> {
    let (arguments, ceiling) = (run.arguments, run.ceiling);
    if link.len() > MAGNET_LENGTH_MAX_BYTES {
        return Err(Fatal::BadTorrent(format!("it has more than {MAGNET_LENGTH_MAX_BYTES} bytes")));
    }
    let magnet = Magnet::parse(link).map_err(Fatal::BadTorrent)?;
    let name = magnet.name.as_deref().unwrap_or("a link without a name");
    info!("{}: info-hash {}", Foreign::new(name.as_bytes()), magnet.info_hash);
    let mut ways = run.ways()?;
    for peer in &magnet.peers {
        if let Err(why) = ways.add_peer(peer) {
            let why = match why {
                Fatal::Usage(why) => why,
                other => other.to_string(),
            };
            warn!("a peer in the magnet link is left out: {why}");
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
    let signals = run.begin()?;
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
    let mut show = |progress: &_| run.viewer.progress(progress);
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
        Ok((torrent, plan)) if arguments.task != Task::Download => {
            outside.discovery.farewell(metadata::TOTALS);
            drop(outside);
            look(run, &torrent.0, &plan)
        }
        Ok((torrent, plan)) => {
            outside.is_private(torrent.0.private);
            fetch_torrent(run, torrent, ways, plan, Some(outside), &signals)
        }
        Err(fatal) => {
            outside.discovery.farewell(metadata::TOTALS);
            Err(fatal)
        }
    }
}

/// Looks at a torrent, and says what is seen.
fn look(run: &mut Run<'_>, metainfo: &Metainfo, plan: &Plan) -> Result<(), Fatal> {
    let Run { arguments, screen, .. } = *run;
    let Arguments { ref dir, json, quiet, .. } = *arguments;
    match arguments.task {
        Task::Verify => {
            let signals = run.begin()?;
            let mut show = |progress: &_| screen.show(progress, &[], Instant::now());
            let (selection, threads) = (select(&arguments.wish, metainfo)?, plan.checkers);
            let selection = selection.as_ref();
            let found =
                verification::verify(metainfo, selection, dir, threads, &signals, &mut show)?;
            screen.clear();
            write_out(|out| match json {
                true => verify::json(metainfo, &found, dir, out),
                false if quiet => Ok(()),
                false => verify::text(metainfo, &found, dir, out),
            });
            verify::outcome(metainfo, &found)
        }
        Task::Check => {
            let ways = run.ways()?;
            let signals = run.begin()?;
            let checked = check(arguments, metainfo, plan, &ways, &signals)?;
            screen.clear();
            let obstacle = checked.obstacle();
            write_out(|out| match json {
                true => checked.json(obstacle.as_ref(), out),
                false if quiet => Ok(()),
                false => checked.text(out),
            });
            checked.ground.and(obstacle.map_or(Ok(()), Err))
        }
        Task::Show | Task::Download => {
            screen.clear();
            write_out(|out| match json {
                true => show::json(metainfo, out),
                false => show::text(metainfo, out),
            });
            Ok(())
        }
    }
}

/// Looks whether a download could begin.
fn check<'a>(
    arguments: &'a Arguments,
    metainfo: &'a Metainfo,
    plan: &Plan,
    ways: &Ways,
    signals: &Receiver<()>,
) -> Result<Preflight<'a>, Fatal> {
    let Arguments { ref dir, min_free, local, .. } = *arguments;
    // There are no sessions yet: four of them take more memory than one who asks.
    let threads = plan.announcers + plan.farewells + plan.peers / 4;
    let (tiers, info_hash) = (&metainfo.tiers, metainfo.info_hash);
    let trackers = engine::preflight::ask(tiers, info_hash, threads, &ways.route, signals)?;
    let around = !metainfo.private && ways.route.proxy().is_none();
    Ok(Preflight {
        metainfo,
        dir,
        ground: Ground::survey(dir, &layout(metainfo)),
        min_free,
        trackers,
        dht: around && ways.dht.is_some(),
        local: around && local && !ways.route.is_one_address(),
        reaches_peers: ways.route.leads_to_peers(),
        peers: ways.peers.len(),
    })
}

/// Writes to standard output. That it is closed or full is nobody's fault here.
fn write_out(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let mut out = BufWriter::new(io::stdout().lock());
    let _ignored = write(&mut out).and_then(|()| out.flush());
}

/// Downloads a torrent, and says so.
fn fetch_torrent(
    run: &mut Run<'_>,
    (metainfo, selection): (Metainfo, Option<Selection>),
    ways: Ways,
    plan: Plan,
    outside: Option<Outside>,
    signals: &Receiver<()>,
) -> Result<(), Fatal> {
    let arguments = run.arguments;
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
    let metainfo = Arc::new(metainfo);
    run.viewer.meet(&metainfo, options.selection.as_ref());
    let report = download(&metainfo, &options, outside, signals, &mut run.viewer);
    if let Ok(report) = &report {
        let summary = summary(&place, chosen, report);
        if arguments.stdout {
            info!("{}", summary.trim_end());
        }
        let said = !arguments.quiet && !arguments.stdout;
        run.viewer.conclude(report, said.then_some(summary));
    }
    let command = run.viewer.wait(signals);
    report.and(command)
}

/// Shuts itself in, and begins to hear signals.
fn begin(arguments: &Arguments, caught: Caught) -> Result<Heard, Fatal> {
    // Before the first thread, or that one would be outside.
    if arguments.sandbox {
        match arguments.task {
            Task::Download => tell(sandbox::enter(&arguments.dir)?, &arguments.dir),
            Task::Show | Task::Verify | Task::Check => {
                match sandbox::enter_to_look(&arguments.dir) {
                    Sandbox::Whole => info!("sandbox: nothing can be written or executed"),
                    Sandbox::Partial => info!("sandbox: this kernel keeps only part of it"),
                    Sandbox::Absent => info!("no sandbox: this kernel has no Landlock"),
                }
            }
        }
    }
    caught.listen().map_err(deaf)
}

fn deaf(error: io::Error) -> Fatal {
    Fatal::System("hear signals", error)
}

fn select(wish: &Wish, metainfo: &Metainfo) -> Result<Option<Selection>, Fatal> {
    Selection::new(wish, metainfo).map_err(|why| Fatal::Selection(metainfo.name.clone(), why))
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
    let mut numbers = Vec::with_capacity(magnet.selected.len());
    for range in &magnet.selected {
        if *range.end() > last {
            warn!("the link selects files that the torrent does not have");
        }
        let there = *range.start()..=(*range.end()).min(last);
        if !there.is_empty() {
            numbers.push(there);
        }
    }
    if numbers.is_empty() && !magnet.selected.is_empty() {
        let why = "the link selects nothing that the torrent has";
        return Err(Fatal::BadTorrent(why.to_owned()));
    }
    let wish = Wish { numbers, patterns: Vec::new() };
    Selection::new(&wish, metainfo).map_err(Fatal::BadTorrent)
}

fn describe(metainfo: &Metainfo, selection: Option<&Selection>) {
    let files = metainfo.files.iter().filter(|file| file.is_data());
    let (count, bytes) =
        files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.length));
    let (name, info_hash) = (&metainfo.name, metainfo.info_hash);
    info!("{name}: {} in {}, info-hash {info_hash}", Bytes(bytes), Count(count, "file"));
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

/// What memory is needed for, as far as it was typed.
fn needs(arguments: &Arguments) -> Needs {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let dht = (arguments.dht && arguments.proxy.is_none(), false);
    let selects = !arguments.wish.is_everything();
    let delivers = arguments.stdout;
    let watched = arguments.summary || arguments.map || arguments.progress == Style::Json;
    let peers = arguments.peers_max;
    Needs { peers, cores, dht, selects, delivers, watched, ..Needs::default() }
}

/// What may be under way at once with the memory that was given.
fn plan(ceiling: Ceiling, needs: &Needs) -> Result<Plan, Fatal> {
    let plan = Plan::new(ceiling.bytes, needs);
    let plan = plan.map_err(|needed| ceiling.too_little("for this torrent", needed))?;
    if plan.peers < needs.peers {
        let (possible, wanted) = (plan.peers, needs.peers);
        match ceiling.of_the_process {
            true => {
                let left = Bytes(ceiling.bytes);
                warn!("ulimit leaves {left}, enough for only {possible} of {wanted} peers at once");
            }
            false => {
                let given = in_units(ceiling.bytes);
                warn!("--max-memory {given} allows only {possible} of {wanted} peers at once");
            }
        }
    }
    Ok(plan)
}

/// The same, with the torrent that it is about.
fn of_torrent(fatal: Fatal, named: Named<'_>) -> Fatal {
    let called = |why| format!("{}: {why}", named.called());
    match fatal {
        Fatal::NotBencode(why) => Fatal::NotBencode(called(why)),
        Fatal::BadTorrent(why) => Fatal::BadTorrent(called(why)),
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
