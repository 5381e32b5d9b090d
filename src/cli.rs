//! What was typed, what is said at the end, and the exit status.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use log::{LevelFilter, info, warn};
use simplelog::{CombinedLogger, ConfigBuilder, SharedLogger, WriteLogger};

use crate::engine::coordinator::Seeding;
use crate::engine::download::{Options, Report, download};
use crate::error::{Fatal, Status};
use crate::limits::{
    MEMORY_DEFAULT_BYTES, MEMORY_MIN_BYTES, PEERS_DEFAULT, PEERS_MAX, PORT_TRIES_MAX,
    RATE_MIN_BYTES_PER_S, SEED_AMOUNT_MAX, TORRENT_LENGTH_MAX_BYTES,
};
use crate::policy::memory::{self, Needs, Plan};
use crate::progress::{Screen, span};
use crate::protocol::metainfo::{Measures, Metainfo};
use crate::system::allowance;
use crate::system::sandbox::{self, Sandbox};
use crate::system::signals;
use crate::units::{Bytes, Count};

const PORT_DEFAULT: u16 = 6881;

/// The options: how each is written, and what it does.
const OPTIONS: &[(&str, &str)] = &[
    ("-q, --quiet", "say nothing but errors"),
    ("-v, --verbose", "say more; -vv tells of every peer"),
    ("-l, --log FILE", "write a log to FILE as well, -v makes it fuller"),
    ("    --peer ADDR:PORT", "a peer to try besides the trackers'; repeatable"),
    ("    --max-peers N", "peers at once (50)"),
    ("    --max-memory SIZE", "memory that it takes at most, 10M or more (32M)"),
    ("    --min-free SIZE", "leave at least SIZE free on the disk (0)"),
    ("    --max-download-limit RATE", "bytes a second from all peers (0: no limit)"),
    ("-u, --max-upload-limit RATE", "bytes a second to all peers (0: no limit)"),
    ("    --port N", "where peers can come, or the next port (6881)"),
    ("    --seed", "stay and give to others until it is stopped"),
    ("    --seed-time MINUTES", "stay for so long once everything is there"),
    ("    --seed-ratio X", "stay until X times the size was sent"),
    ("    --no-sandbox", "do not give up the right to write outside DIR"),
    ("    --timeout SECONDS", "give up after so long with no piece (0: never)"),
    ("-h, --help", "print this"),
    ("-V, --version", "print the version"),
];

/// What was typed.
#[derive(Debug, PartialEq)]
enum Command {
    Help,
    Version,
    Download(Box<Arguments>),
}

#[derive(Debug, PartialEq)]
struct Arguments {
    torrent: PathBuf,
    dir: PathBuf,
    quiet: bool,
    verbosity: usize,
    log: Option<PathBuf>,
    peers: Vec<String>,
    peers_max: usize,
    memory_max: u64,
    min_free: u64,
    download_limit: Option<u64>,
    upload_limit: Option<u64>,
    port: Option<u16>,
    seeding: Option<Seeding>,
    patience: Option<Duration>,
    sandbox: bool,
}

/// Runs the program with these arguments, its own name not among them. Everything it has to say
/// has been said when it returns. The thread that calls is shut into the output directory by then:
/// call on one of its own where there is more to do.
pub fn run(arguments: Vec<OsString>) -> Status {
    let nothing_typed = arguments.is_empty();
    let done = match parse(arguments) {
        Ok(Command::Help) => print(&help()),
        Ok(Command::Version) => print(concat!("rusty_torrent ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Download(arguments)) => return fetch(&arguments),
        Err(_) if nothing_typed => {
            Screen::new(false).line(help().trim_end());
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

fn help() -> String {
    let mut text = String::from(
        "rusty_torrent: wget for torrents\n\n\
         usage: rusty_torrent [OPTIONS] TORRENT [DIR]\n\n\
         Downloads what the file TORRENT describes into DIR (.), verifies every piece\n\
         and exits. What is in DIR already is checked and kept.\n\noptions:\n",
    );
    for (option, meaning) in OPTIONS {
        text.push_str(&format!("  {option:<29}  {meaning}\n"));
    }
    text.push_str("\nexit status:\n");
    for (status, meaning) in Status::TABLE {
        text.push_str(&format!("  {:>2}  {meaning}\n", status.code()));
    }
    text
}

// ---- what was typed ----------------------------------------------------------------------------

fn parse(mut arguments: Vec<OsString>) -> Result<Command, Fatal> {
    // What follows `--` is a name, whatever it looks like.
    let names = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => arguments.split_off(at).split_off(1),
        None => Vec::new(),
    };
    let mut typed = pico_args::Arguments::from_vec(arguments);
    if typed.contains(["-h", "--help"]) {
        return Ok(Command::Help);
    }
    if typed.contains(["-V", "--version"]) {
        return Ok(Command::Version);
    }
    let path = |text: &std::ffi::OsStr| Ok::<_, &str>(PathBuf::from(text));
    let quiet = typed.contains(["-q", "--quiet"]);
    let verbosity =
        std::iter::from_fn(|| typed.contains(["-v", "--verbose"]).then_some(())).count();
    let log = typed.opt_value_from_os_str(["-l", "--log"], path).map_err(usage("--log"))?;
    let peers = typed.values_from_str("--peer").map_err(usage("--peer"))?;
    let peers_max = typed.opt_value_from_str("--max-peers").map_err(usage("--max-peers"))?;
    let peers_max = peers_max.unwrap_or(PEERS_DEFAULT);
    if !(1..=PEERS_MAX).contains(&peers_max) {
        return Err(Fatal::Usage(format!("--max-peers takes 1 to {PEERS_MAX}")));
    }
    let memory_max = typed.opt_value_from_fn("--max-memory", size);
    let memory_max = memory_max.map_err(usage("--max-memory"))?.unwrap_or(MEMORY_DEFAULT_BYTES);
    if memory_max < MEMORY_MIN_BYTES {
        let least = in_units(MEMORY_MIN_BYTES);
        return Err(Fatal::Usage(format!("--max-memory takes {least} or more")));
    }
    let min_free = typed.opt_value_from_fn("--min-free", size).map_err(usage("--min-free"))?;
    let download_limit = typed.opt_value_from_fn("--max-download-limit", rate);
    let download_limit = download_limit.map_err(usage("--max-download-limit"))?.flatten();
    let upload_limit = typed.opt_value_from_fn(["-u", "--max-upload-limit"], rate);
    let upload_limit = upload_limit.map_err(usage("--max-upload-limit"))?.flatten();
    let port = typed.opt_value_from_str("--port").map_err(usage("--port"))?;
    if port == Some(0) {
        return Err(Fatal::Usage("--port takes 1 to 65535".to_owned()));
    }
    let seeding = seeding(&mut typed)?;
    let sandbox = !typed.contains("--no-sandbox");
    let timeout_s = typed.opt_value_from_str("--timeout").map_err(usage("--timeout"))?;
    let patience = timeout_s.filter(|seconds| *seconds > 0).map(Duration::from_secs);

    let mut free = typed.finish();
    if let Some(unknown) = free.iter().find(|name| name.as_encoded_bytes().starts_with(b"-")) {
        return Err(Fatal::Usage(format!("unknown option {}", unknown.to_string_lossy())));
    }
    free.extend(names);
    let mut free = free.into_iter();
    let Some(torrent) = free.next().map(PathBuf::from) else {
        return Err(Fatal::Usage("no torrent file was given".to_owned()));
    };
    let dir = free.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    if let Some(extra) = free.next() {
        return Err(Fatal::Usage(format!("one argument too many: {}", extra.to_string_lossy())));
    }
    Ok(Command::Download(Box::new(Arguments {
        torrent,
        dir,
        quiet,
        verbosity,
        log,
        peers,
        peers_max,
        memory_max,
        min_free: min_free.unwrap_or(0),
        download_limit,
        upload_limit,
        port,
        seeding,
        patience,
        sandbox,
    })))
}

/// What was typed about staying. Each of time and ratio ends it, whichever is first.
fn seeding(typed: &mut pico_args::Arguments) -> Result<Option<Seeding>, Fatal> {
    let stays = typed.contains("--seed");
    let mut amount = |option| {
        let amount = typed.opt_value_from_str::<_, f64>(option).map_err(usage(option))?;
        match amount.filter(|amount| !(0.0..=SEED_AMOUNT_MAX).contains(amount)) {
            Some(_) => Err(Fatal::Usage(format!("{option} takes 0 to {SEED_AMOUNT_MAX}"))),
            None => Ok(amount),
        }
    };
    let minutes = amount("--seed-time")?;
    let ratio = amount("--seed-ratio")?;
    let time = minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let seeding = Seeding { time, ratio };
    let nothing = minutes.is_none_or(|minutes| minutes == 0.0) && ratio.is_none();
    Ok(match nothing {
        true => stays.then_some(Seeding::default()),
        false => Some(seeding),
    })
}

/// Bytes, as they are typed: a number, with K, M or G behind it for powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (text.get(..text.len() - 1), 1 << 10),
        Some(b'M') => (text.get(..text.len() - 1), 1 << 20),
        Some(b'G') => (text.get(..text.len() - 1), 1 << 30),
        _ => (Some(text), 1),
    };
    let number = digits.and_then(|digits| digits.parse::<u64>().ok());
    let bytes = number.and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| "a SIZE is a number with K, M or G behind it".to_owned())
}

/// A limit in bytes a second, typed like a size; 0 is none.
fn rate(text: &str) -> Result<Option<u64>, String> {
    match size(text) {
        Ok(0) => Ok(None),
        Ok(rate) if rate >= RATE_MIN_BYTES_PER_S => Ok(Some(rate)),
        Ok(_) => Err("a RATE is 1K or more, or 0 for no limit".to_owned()),
        Err(_) => Err("a RATE is a number, bytes a second, with K, M or G behind it".to_owned()),
    }
}

/// Bytes as they can be typed, rounded up.
fn in_units(bytes: u64) -> String {
    format!("{}M", bytes.div_ceil(1 << 20))
}

fn usage(option: &str) -> impl Fn(pico_args::Error) -> Fatal {
    move |error| Fatal::Usage(format!("{option}: {error}"))
}

// ---- the run -----------------------------------------------------------------------------------

fn fetch(arguments: &Arguments) -> Status {
    let screen = Screen::new(arguments.quiet);
    let done = start_log(arguments, &screen).and_then(|()| fetch_with(arguments, &screen));
    screen.clear();
    conclude(done, &screen)
}

fn fetch_with(arguments: &Arguments, screen: &Screen) -> Result<(), Fatal> {
    let deaf = |error| Fatal::System("hear signals", error);
    let caught = signals::catch().map_err(deaf)?;
    let ceiling = Ceiling::new(arguments.memory_max);
    let torrent = read_torrent(&arguments.torrent, ceiling)?;
    let plan = plan(arguments, ceiling, &torrent)?;
    let metainfo = Metainfo::parse(&torrent).map_err(|fatal| of_file(fatal, &arguments.torrent))?;
    drop(torrent);
    info!(
        "{}: {} in {}, info-hash {}",
        metainfo.name,
        Bytes(metainfo.geometry.total()),
        Count(metainfo.files.len(), "file"),
        metainfo.info_hash
    );
    for renamed in &metainfo.renamed {
        warn!("{} is written as {}", renamed.original, renamed.path.display());
    }
    let place = arguments.dir.join(&metainfo.name);
    let options = Options {
        dir: arguments.dir.clone(),
        peers: resolve(&arguments.peers)?,
        min_free: arguments.min_free,
        plan,
        ports: ports(arguments.port.unwrap_or(PORT_DEFAULT)),
        seeding: arguments.seeding,
        patience: arguments.patience,
        download_limit: arguments.download_limit,
        upload_limit: arguments.upload_limit,
    };
    // Before the first thread, or that one would be outside.
    if arguments.sandbox {
        tell(sandbox::enter(&arguments.dir)?, &arguments.dir);
    }
    let signals = caught.listen().map_err(deaf)?;
    let mut show = |progress: &_| screen.show(progress, Instant::now());
    let report = download(&Arc::new(metainfo), &options, &signals, &mut show)?;
    screen.clear();
    if !arguments.quiet {
        print(&summary(&place, &report))?;
    }
    Ok(())
}

/// This one, those after it, and any.
fn ports(first: u16) -> Vec<u16> {
    (first..=first.saturating_add(PORT_TRIES_MAX - 1)).chain([0]).collect()
}

fn tell(sandbox: Sandbox, dir: &Path) {
    let dir = dir.display();
    match sandbox {
        Sandbox::Whole => info!("sandbox: nothing is written outside {dir}, nothing is executed"),
        Sandbox::Partial => info!("sandbox: this kernel keeps only part of it, outside {dir}"),
        Sandbox::Absent => info!("no sandbox: this kernel has no Landlock"),
    }
}

fn summary(place: &Path, report: &Report) -> String {
    let (place, total) = (place.display(), Bytes(report.total));
    let sent = match report.uploaded {
        0 => String::new(),
        uploaded => format!(", {} sent", Bytes(uploaded)),
    };
    if report.downloaded == 0 {
        return format!("{place}: {total}, all there already{sent}\n");
    }
    let micros = report.elapsed.as_micros().max(1);
    let per_second = u128::from(report.downloaded) * 1_000_000 / micros;
    let rate = Bytes(u64::try_from(per_second).unwrap_or(u64::MAX));
    let fetched = match report.downloaded.cmp(&report.total) {
        std::cmp::Ordering::Less => format!(", {} of it fetched", Bytes(report.downloaded)),
        _ => String::new(),
    };
    let time = match report.elapsed.as_secs() {
        0..60 => format!("{:.1} s", report.elapsed.as_secs_f64()),
        _ => span(report.elapsed),
    };
    format!("{place}: {total}{fetched} in {time}, {rate}/s{sent}\n")
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

/// What may be under way at once with the memory that was given.
fn plan(arguments: &Arguments, ceiling: Ceiling, torrent: &[u8]) -> Result<Plan, Fatal> {
    let needs = Needs {
        torrent_bytes: torrent.len() as u64,
        measures: Measures::of(torrent),
        peers: arguments.peers_max,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let plan = Plan::new(ceiling.bytes, &needs);
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
            let hashes = Needs { torrent_bytes: length, measures, peers, cores: 0 };
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

/// The addresses of the peers that were typed.
fn resolve(peers: &[String]) -> Result<Vec<SocketAddr>, Fatal> {
    let mut addresses = Vec::new();
    for peer in peers {
        let (host, port) = peer.rsplit_once(':').unwrap_or((peer, ""));
        let bare_v6 = host.contains(':') && !host.starts_with('[');
        if host.is_empty() || bare_v6 || !port.parse().is_ok_and(|port: u16| port > 0) {
            return Err(Fatal::Usage(format!("--peer takes ADDR:PORT, not {peer}")));
        }
        let found = peer.to_socket_addrs();
        addresses.extend(found.map_err(|error| Fatal::NameResolution(peer.clone(), error))?);
    }
    Ok(addresses)
}

fn start_log(arguments: &Arguments, screen: &Screen) -> Result<(), Fatal> {
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
    let on_screen = if arguments.quiet { 0 } else { 1 + arguments.verbosity };
    let mut loggers: Vec<Box<dyn SharedLogger>> =
        vec![WriteLogger::new(level(on_screen), config(LevelFilter::Off), screen.clone())];
    if let Some(path) = &arguments.log {
        let file = File::options().append(true).create(true).open(path);
        let file = file.map_err(|error| Fatal::CreateFile(path.clone(), error))?;
        let level = level(2 + arguments.verbosity);
        loggers.push(WriteLogger::new(level, config(LevelFilter::Error), file));
    }
    // Whoever runs this in one process with others may have a log already.
    let _kept = CombinedLogger::init(loggers);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Command, Fatal> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn every_option_is_understood() {
        let line = "-q -v -v -l out.log --peer 1.2.3.4:5 --peer [::1]:6 --max-peers 7 --port 8 \
                    --max-memory 11M --min-free 2G --timeout 9 --no-sandbox \
                    --max-download-limit 5M -u 20K --seed-time 1.5 --seed-ratio 2 x.torrent there";
        let expected = Arguments {
            torrent: "x.torrent".into(),
            dir: "there".into(),
            quiet: true,
            verbosity: 2,
            log: Some("out.log".into()),
            peers: vec!["1.2.3.4:5".to_owned(), "[::1]:6".to_owned()],
            peers_max: 7,
            memory_max: 11 << 20,
            min_free: 2 << 30,
            download_limit: Some(5 << 20),
            upload_limit: Some(20 << 10),
            port: Some(8),
            seeding: Some(Seeding { time: Some(Duration::from_secs(90)), ratio: Some(2.0) }),
            patience: Some(Duration::from_secs(9)),
            sandbox: false,
        };
        assert_eq!(typed(line).unwrap(), Command::Download(Box::new(expected)));
    }

    #[test]
    fn what_is_left_out_has_a_sensible_value() {
        let Command::Download(arguments) = typed("--timeout 0 x.torrent").unwrap() else {
            panic!("no download")
        };
        assert_eq!(arguments.dir, Path::new("."));
        assert_eq!((arguments.peers_max, arguments.port), (PEERS_DEFAULT, None));
        assert_eq!(arguments.seeding, None);
        assert_eq!((arguments.patience, arguments.verbosity), (None, 0));
        assert!(arguments.sandbox);
        assert_eq!((arguments.download_limit, arguments.upload_limit), (None, None));
        assert_eq!((arguments.memory_max, arguments.min_free), (MEMORY_DEFAULT_BYTES, 0));
    }

    #[test]
    fn sizes_are_numbers_with_a_letter() {
        let cases = [
            ("0", Some(0)),
            ("9000000", Some(9_000_000)),
            ("8192K", Some(8 << 20)),
            ("8m", Some(8 << 20)),
            ("2G", Some(2 << 30)),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.5M", None),
            ("1T", None),
            ("8 M", None),
            ("18446744073709551615K", None),
            ("8\u{e9}", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
        assert_eq!(in_units((8 << 20) + 1), "9M");
    }

    #[test]
    fn rates_are_sizes_that_are_not_too_small() {
        let cases = [
            ("0", Ok(None)),
            ("0K", Ok(None)),
            ("1K", Ok(Some(1 << 10))),
            ("1023", Err("1K or more")),
            ("10g", Ok(Some(10 << 30))),
            ("fast", Err("a number")),
            ("1.5M", Err("a number")),
        ];
        for (text, expected) in cases {
            match (rate(text), expected) {
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                (found, expected) => assert_eq!(found.ok(), expected.ok(), "{text}"),
            }
        }
        let long = typed("--max-upload-limit 3M x").unwrap();
        assert_eq!(long, typed("-u 3M x").unwrap());
    }

    #[test]
    fn wrong_lines_are_refused_with_the_reason() {
        let cases = [
            ("", "no torrent"),
            ("-q", "no torrent"),
            ("a b c", "too many: c"),
            ("--unknown a", "--unknown"),
            ("-x a", "-x"),
            ("--port 0 a", "65535"),
            ("--port 65536 a", "--port"),
            ("--port", "--port"),
            ("--max-peers 0 a", "1 to 500"),
            ("--max-peers 501 a", "1 to 500"),
            ("--max-memory 9M a", "10M or more"),
            ("--max-memory much a", "--max-memory"),
            ("--min-free much a", "--min-free"),
            ("--max-download-limit 5 a", "--max-download-limit: "),
            ("--max-upload-limit some a", "--max-upload-limit: "),
            ("-u", "--max-upload-limit"),
            ("--timeout soon a", "--timeout"),
            ("--timeout -1 a", "--timeout"),
        ];
        for (line, reason) in cases {
            let fatal = typed(line).unwrap_err();
            assert_eq!(fatal.status(), Status::BadOption);
            assert!(fatal.to_string().contains(reason), "{line}: {fatal}");
        }
    }

    #[test]
    fn after_two_dashes_everything_is_a_name() {
        let Command::Download(arguments) = typed("-q -- --help -V").unwrap() else {
            panic!("no download")
        };
        assert_eq!(arguments.torrent, Path::new("--help"));
        assert_eq!(arguments.dir, Path::new("-V"));
    }

    #[test]
    fn peers_are_addresses_with_a_port() {
        assert_eq!(resolve(&["127.0.0.1:1".to_owned()]).unwrap().len(), 1);
        for peer in ["127.0.0.1", "127.0.0.1:0", ":", "", "x:y", "::1"] {
            let status = resolve(&[peer.to_owned()]).unwrap_err().status();
            assert_eq!(status, Status::BadOption, "{peer}");
        }
    }

    #[test]
    fn help_names_every_option_and_status() {
        let help = help();
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        for (option, _) in OPTIONS {
            assert!(help.contains(option));
        }
    }
}
