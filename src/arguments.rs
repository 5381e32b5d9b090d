//! How what was typed is read, and what the environment says where nothing was.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::completions::Shell;
use crate::engine::coordinator::Seeding;
use crate::error::Fatal;
use crate::given::{Given, Said, read};
use crate::limits::{
    DHT_ENTRIES_MAX, MEMORY_DEFAULT_BYTES, MIRRORS_MAX, PEERS_DEFAULT, SELECTIONS_MAX, TIERS_MAX,
    TORRENTS_MAX,
};
use crate::options::{GROUPS, MAKING, Row, VARIABLE_PREFIX, row};
use crate::policy::encryption::Encryption;
use crate::policy::selection::Wish;
use crate::progress::Style;
use crate::system::route::Families;
use crate::torrents::{Named, STANDARD_INPUT, is_torrent};
use crate::values;

/// The row of an option. One that is not in the table does not compile.
macro_rules! row {
    ($name:literal) => {
        const { row($name) }
    };
}

/// What was typed.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Print a short help.
    Help,
    /// Print a long one.
    LongHelp,
    /// Print the man page.
    Manual,
    /// Print completions.
    Completions(Shell),
    /// Print the version.
    Version,
    /// Download something, or look at it.
    Download(Box<Arguments>),
    /// Make a torrent.
    Create(Box<Making>),
}

/// What a torrent is to be made of.
#[derive(Debug, PartialEq, Default)]
pub struct Making {
    /// A file or a directory.
    pub path: PathBuf,
    /// The torrent file: `-` for standard output, `None` for one of the path's name, here.
    pub torrent: Option<PathBuf>,
    /// Trackers, each a tier of its own.
    pub trackers: Vec<String>,
    /// Web servers that have it.
    pub web_seeds: Vec<String>,
    /// Peers may come from the trackers alone.
    pub private: bool,
    /// Bytes of a piece.
    pub piece_length: Option<u32>,
    /// Say nothing but errors, and the info-hash.
    pub quiet: bool,
    /// How often more was wanted to be said.
    pub verbosity: usize,
    /// Where a log goes.
    pub log: Option<PathBuf>,
    /// Variables that look as if they were meant for this program, but say nothing to it.
    pub strange_variables: Vec<String>,
}

/// What is done with a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Task {
    /// It is downloaded.
    #[default]
    Download,
    /// It is described.
    Show,
    /// What is there of it is hashed.
    Verify,
    /// It is looked at whether it could be downloaded.
    Check,
}

/// What is to be downloaded, and how.
#[derive(Debug, PartialEq)]
pub struct Arguments {
    /// Torrent files, their URLs, magnet links; `-` is standard input.
    pub torrents: Vec<PathBuf>,
    /// What is done with them.
    pub task: Task,
    /// What is found is told in JSON.
    pub json: bool,
    /// Where the files go.
    pub dir: PathBuf,
    /// Say nothing but errors.
    pub quiet: bool,
    /// How often more was wanted to be said.
    pub verbosity: usize,
    /// Where a log goes.
    pub log: Option<PathBuf>,
    /// The files that are wanted.
    pub wish: Wish,
    /// Fetch in order.
    pub sequential: bool,
    /// The file goes to standard output.
    pub stdout: bool,
    /// How it is shown how far it is.
    pub progress: Style,
    /// Draw a map of the pieces.
    pub map: bool,
    /// Tell of each file when it is complete.
    pub summary: bool,
    /// What is run once everything is there.
    pub on_complete: Option<String>,
    /// Peers to try, as they were typed: `host:port`.
    pub peers: Vec<String>,
    /// Web servers that have the files, before those that the torrent names.
    pub mirrors: Vec<String>,
    /// Peers at once.
    pub peers_max: usize,
    /// Bytes of memory that may be taken.
    pub memory_max: u64,
    /// Bytes of the disk that are to stay free.
    pub min_free: u64,
    /// Bytes a second from all peers.
    pub download_limit: Option<u64>,
    /// Bytes a second to all peers.
    pub upload_limit: Option<u64>,
    /// Whether what passes between peers is encrypted.
    pub encryption: Encryption,
    /// Where to listen first.
    pub port: Option<u16>,
    /// Which addresses are used.
    pub families: Families,
    /// The interface, or its address, that everything leaves by.
    pub interface: Option<Said>,
    /// The proxy that everything goes through.
    pub proxy: Option<Said>,
    /// Look for peers on the local network.
    pub local: bool,
    /// Look for peers in the DHT.
    pub dht: bool,
    /// Where its nodes are remembered.
    pub dht_file: Option<PathBuf>,
    /// Where to begin in it, as it was typed: `host:port`.
    pub dht_nodes: Vec<String>,
    /// How long to stay once everything is there.
    pub seeding: Option<Seeding>,
    /// Give up after so long without a new piece.
    pub patience: Option<Duration>,
    /// Give up after so long without knowing what a link is of.
    pub metadata_patience: Option<Duration>,
    /// Keep what a link is of.
    pub save_torrent: bool,
    /// Rights that nothing that is made has, as Unix numbers them.
    pub umask: Option<u32>,
    /// Give up the right to write elsewhere.
    pub sandbox: bool,
    /// Variables that look as if they were meant for this program, but say nothing to it.
    pub strange_variables: Vec<String>,
}

/// Reads what was typed, the program's own name not among it, and what variables of the environment
/// say to it. What is typed wins.
///
/// # Errors
/// [`Fatal::Usage`], with a sentence that says what is wrong.
pub fn parse(
    mut arguments: Vec<OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Command, Fatal> {
    // What follows `--` is a name, whatever it looks like.
    let names = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => arguments.split_off(at).split_off(1),
        None => Vec::new(),
    };
    let mut given = Given::new(arguments, variables);
    if let Some(question) = question(&mut given)? {
        return Ok(question);
    }
    let log = given.path(row!("--log"))?;
    if let Some(path) = given.path(row!("--create"))? {
        let making = Making { path, log, ..Making::default() };
        return making.read(given, names).map(Box::new).map(Command::Create);
    }
    let dir = given.path(row!("--dir"))?;
    let options = options(&mut given, log)?;
    let mut free = given.rest();
    free.iter().find(|name| is_option(name)).map_or(Ok(()), |name| Err(unread(name)))?;
    free.extend(names);
    // What is shown has no directory.
    let dir = dir.or_else(|| (options.task == Task::Show).then(|| PathBuf::from(".")));
    let (torrents, dir) = places(free, dir)?;
    let arguments = Arguments { torrents, dir, ..options };
    if arguments.torrents.len() > 1 {
        check_several(&given, &arguments)?;
    }
    Ok(Command::Download(Box::new(arguments)))
}

/// What is asked of the program about itself.
fn question(given: &mut Given) -> Result<Option<Command>, Fatal> {
    let shell = |given: &mut Given| given.value(row!("--completions"), values::shell);
    Ok(match () {
        () if given.typed.contains("-h") => Some(Command::Help),
        () if given.typed.contains("--help") => Some(Command::LongHelp),
        () if given.is_typed(row!("--version")) => Some(Command::Version),
        () if given.is_typed(row!("--manual")) => Some(Command::Manual),
        () => shell(given)?.map(Command::Completions),
    })
}

/// All but the names.
fn options(given: &mut Given, log: Option<PathBuf>) -> Result<Arguments, Fatal> {
    let numbers = given.value(row!("--select-file"), Wish::read_numbers)?.unwrap_or_default();
    let patterns = given.values(row!("--select"), values::pattern, SELECTIONS_MAX)?;
    let output = given.value(row!("--output"), values::output)?;
    let progress = given.value(row!("--progress"), values::style)?.unwrap_or_default();
    let on_complete = given.text(row!("--on-complete"))?.map(|said| said.text);
    let peers = given.values(row!("--peer"), values::place, usize::MAX)?;
    let mirrors = given.values(row!("--mirror"), values::mirror, MIRRORS_MAX)?;
    let peers_max = given.value(row!("--max-peers"), values::peers_max)?.unwrap_or(PEERS_DEFAULT);
    let memory_max =
        given.value(row!("--max-memory"), values::memory)?.unwrap_or(MEMORY_DEFAULT_BYTES);
    let min_free = given.value(row!("--min-free"), values::size)?.unwrap_or(0);
    let download_limit = given.value(row!("--max-download-limit"), values::rate)?.flatten();
    let upload_limit = given.value(row!("--max-upload-limit"), values::rate)?.flatten();
    let encryption = given.value(row!("--encryption"), values::encryption)?.unwrap_or_default();
    let port = given.value(row!("--port"), values::port)?;
    let interface = given.text(row!("--interface"))?;
    let proxy = given.text(row!("--proxy"))?;
    let dht_file = given.path(row!("--dht-file"))?;
    let dht_nodes = given.values(row!("--dht-node"), values::place, DHT_ENTRIES_MAX)?;
    let seed_minutes = given.value(row!("--seed-time"), values::amount)?;
    if seed_minutes == Some(0.0) {
        // No time is no wish to stay.
        given.unsay(row!("--seed-time"));
    }
    let seed_ratio = given.value(row!("--seed-ratio"), values::amount)?;
    let patience = given.value(row!("--timeout"), values::seconds)?.flatten();
    let metadata_patience = given.value(row!("--metadata-timeout"), values::seconds)?.flatten();
    let umask = given.value(row!("--umask"), values::umask)?;
    // Flags come after values, or letters of a value could be taken for them.
    let (quiet, verbosity) = loudness(given)?;
    let families = families(given)?;
    let stays = given.flag(row!("--seed"))?;
    let stdout = given.flag(row!("--stdout"))? || output.is_some();
    let summary = given.flag(row!("--summary"))?;
    let seeding = seeding(stays, seed_minutes, seed_ratio);
    let (task, json) = task(given)?;
    let save_torrent = given.flag(row!("--save-torrent"))?;
    let wish = Wish { numbers, patterns };
    let (stdout, progress) = one_output(given, stdout, progress)?;
    given.check()?;
    Ok(Arguments {
        torrents: Vec::new(),
        task,
        json,
        dir: PathBuf::new(),
        quiet,
        verbosity,
        log,
        wish,
        sequential: given.flag(row!("--sequential"))?,
        stdout,
        progress,
        map: given.flag(row!("--map"))?,
        summary,
        on_complete,
        peers,
        mirrors,
        peers_max,
        memory_max,
        min_free,
        download_limit,
        upload_limit,
        encryption,
        port,
        families,
        interface,
        proxy,
        local: !given.flag(row!("--no-lsd"))?,
        dht: !given.flag(row!("--no-dht"))?,
        dht_file,
        dht_nodes,
        seeding,
        patience,
        metadata_patience,
        save_torrent,
        umask,
        sandbox: !given.flag(row!("--no-sandbox"))?,
        strange_variables: given.strange_variables(),
    })
}

/// Either the file goes to standard output or records do. Who typed one wants no variable's other.
fn one_output(given: &mut Given, stdout: bool, progress: Style) -> Result<(bool, Style), Fatal> {
    if !stdout || progress != Style::Json {
        return Ok((stdout, progress));
    }
    let file = given.by_any(&[row!("--stdout"), row!("--output")]);
    let records = given.by_any(&[row!("--progress")]);
    let is_typed = |by: &str| !by.starts_with(VARIABLE_PREFIX);
    match (is_typed(file), is_typed(records)) {
        (true, false) => Ok((true, Style::default())),
        (false, true) => {
            given.unsay(row!("--stdout"));
            given.unsay(row!("--output"));
            Ok((false, progress))
        }
        _ => Err(Fatal::Usage(format!("{file} and {records} json can't be used together"))),
    }
}

/// The error for an option that nobody has read.
fn unread(option: &OsStr) -> Fatal {
    let option = option.to_string_lossy();
    let is_it = |row: &Row| row.name == option || row.short == option;
    Fatal::Usage(match GROUPS.iter().find(|group| group.rows.iter().any(is_it)) {
        Some(group) if group.title == MAKING => format!("{option} needs --create"),
        Some(_) => format!("{option} can be given only once"),
        None => format!("unknown option {option}"),
    })
}

/// Whether these can be had of several torrents.
fn check_several(given: &Given, arguments: &Arguments) -> Result<(), Fatal> {
    let Arguments { task, stdout, seeding, .. } = *arguments;
    if task == Task::Download && seeding == Some(Seeding::default()) {
        let by = given.by_any(&[row!("--seed")]);
        let why = "stays at the first of several torrents: say --seed-time or --seed-ratio";
        return Err(Fatal::Usage(format!("{by} {why}")));
    }
    if stdout {
        let by = given.by_any(&[row!("--stdout"), row!("--output")]);
        return Err(Fatal::Usage(format!("{by} takes one torrent")));
    }
    Ok(())
}

/// What is to be done, and whether programs read what is said.
fn task(given: &mut Given) -> Result<(Task, bool), Fatal> {
    let tasks = [
        (row!("--show"), Task::Show),
        (row!("--verify"), Task::Verify),
        (row!("--check-only"), Task::Check),
    ];
    let mut task = Task::Download;
    for (row, named) in tasks {
        if given.flag(row)? {
            task = named;
        }
    }
    let json = given.flag(row!("--json"))?;
    if json && task == Task::Download && given.is_among_typed(row!("--json")) {
        return Err(Fatal::Usage("--json needs --show, --verify or --check-only".to_owned()));
    }
    Ok((task, json && task != Task::Download))
}

fn is_option(name: &OsStr) -> bool {
    name != STANDARD_INPUT && name.as_encoded_bytes().starts_with(b"-")
}

/// What is to be downloaded, and where to: the last of several names is the directory, unless one was
/// given.
fn places(names: Vec<OsString>, dir: Option<PathBuf>) -> Result<(Vec<PathBuf>, PathBuf), Fatal> {
    let mut torrents: Vec<PathBuf> = names.into_iter().map(PathBuf::from).collect();
    let last = torrents.pop_if(|_| dir.is_none());
    let (last, dir) = match last {
        Some(last) if torrents.is_empty() => (Some(last), None),
        Some(last) if is_torrent(&last) => {
            let last = Named::of(&last).called();
            let why = format!(
                "the last of several names is the directory, and {last} is a torrent; say where \
                 files go with --dir DIR"
            );
            return Err(Fatal::Usage(why));
        }
        last => (None, dir.or(last)),
    };
    torrents.extend(last);
    if torrents.is_empty() {
        return Err(Fatal::Usage("no torrent was given".to_owned()));
    }
    if torrents.len() > TORRENTS_MAX {
        let why = format!("{TORRENTS_MAX} torrents at most can be given");
        return Err(Fatal::Usage(why));
    }
    if torrents.iter().filter(|torrent| Named::of(torrent) == Named::Input).count() > 1 {
        return Err(Fatal::Usage("- (standard input) can be given only once".to_owned()));
    }
    Ok((torrents, dir.unwrap_or_else(|| PathBuf::from("."))))
}

impl Making {
    /// The same, with the rest of what was typed. Nothing about downloads goes with it.
    fn read(self, mut given: Given, names: Vec<OsString>) -> Result<Self, Fatal> {
        let trackers = given.values(row!("--tracker"), values::tracker, TIERS_MAX)?;
        let web_seeds = given.values(row!("--web-seed"), values::web_seed, MIRRORS_MAX)?;
        let piece_length = given.value(row!("--piece-length"), values::piece_length)?;
        let private = given.flag(row!("--private"))?;
        let (quiet, verbosity) = loudness(&mut given)?;
        let strange_variables = given.strange_variables();
        let mut free = given.rest();
        let by = given.by_any(&[row!("--create")]);
        if let Some(other) = free.iter().find(|name| is_option(name)) {
            let goes = given.is_read(other);
            let other = other.to_string_lossy();
            return Err(Fatal::Usage(match goes {
                true => format!("{other} can be given only once"),
                false => format!("{other} can't be used with {by}"),
            }));
        }
        free.extend(names);
        let mut free = free.into_iter();
        let torrent = free.next().map(PathBuf::from);
        if let Some(extra) = free.next() {
            let extra = extra.to_string_lossy();
            let why = format!("--create takes one PATH and one TORRENT, {extra} is too much");
            return Err(Fatal::Usage(why));
        }
        let made = Self { torrent, trackers, web_seeds, private, piece_length, ..self };
        Ok(Self { quiet, verbosity, strange_variables, ..made })
    }
}

/// Whether only errors are said, and how much more is. Who types -v wants no variable's silence.
fn loudness(given: &mut Given) -> Result<(bool, usize), Fatal> {
    let (quiet, verbose) = (row!("--quiet"), row!("--verbose"));
    let mut count = 0;
    while given.is_typed_again(verbose) {
        count += 1;
    }
    if count > 0 {
        return Ok((given.is_typed(quiet), count));
    }
    let count =
        given.variable(verbose).map(|(by, text)| read(&by, &text, values::times)).transpose()?;
    Ok((given.flag(quiet)?, count.unwrap_or(0)))
}

/// Which addresses are used.
fn families(given: &mut Given) -> Result<Families, Fatal> {
    Ok(match (given.flag(row!("--ipv4"))?, given.flag(row!("--ipv6"))?) {
        (true, _) => Families::V4,
        (_, true) => Families::V6,
        _ => Families::Both,
    })
}

/// What was said about staying. Each of time and ratio ends it, whichever is first.
fn seeding(stays: bool, minutes: Option<f64>, ratio: Option<f64>) -> Option<Seeding> {
    let time = minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let nothing = minutes.is_none_or(|minutes| minutes == 0.0) && ratio.is_none();
    match nothing {
        true => stays.then_some(Seeding::default()),
        false => Some(Seeding { time, ratio }),
    }
}

/// Whether JSON is to be written, as far as that can be told where something is wrong.
pub fn wants_json(arguments: &[OsString], variables: &[(OsString, OsString)]) -> bool {
    let mut typed = arguments.iter().take_while(|argument| *argument != "--");
    let begins = |argument: &OsString, name: &str| argument.as_bytes().starts_with(name.as_bytes());
    let row = row!("--progress");
    if typed.clone().any(|argument| begins(argument, row.name)) {
        let behind = typed.clone().skip(1);
        return typed.clone().any(|option| option == "--progress=json")
            || typed.zip(behind).any(|(option, value)| option == row.name && value == "json");
    }
    // Standard output is for something else.
    let others = ["--stdout", "--output", "-o", "--show", "--verify", "--check-only", "--create"];
    if typed.any(|argument| others.iter().any(|name| begins(argument, name))) {
        return false;
    }
    let name = row.variable().unwrap_or_default();
    variables.iter().any(|(variable, value)| *variable == *name && value == "json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Status;
    use crate::options::rows;
    use std::path::Path;

    fn typed(line: &str) -> Result<Command, Fatal> {
        with("", line)
    }

    /// The line behind variables, `NAME=value,…` without what all begin with.
    fn with(variables: &str, line: &str) -> Result<Command, Fatal> {
        parse(line.split_whitespace().map(OsString::from).collect(), of(variables))
    }

    fn of(variables: &str) -> Vec<(OsString, OsString)> {
        let variables = variables.split(',').filter_map(|variable| variable.split_once('='));
        variables
            .map(|(name, value)| (format!("RUSTY_TORRENT_{name}").into(), value.into()))
            .collect()
    }

    #[test]
    fn every_option_is_understood() {
        let line = "-q -v -v -l out.log --progress json --map --summary --peer 1.2.3.4:5 \
                    --peer [::1]:6 --max-peers 7 --port 8 \
                    --max-memory 11M --min-free 2G --timeout 9 --umask 027 --no-sandbox \
                    --metadata-timeout 7 --save-torrent --no-lsd --no-dht --dht-file n \
                    --dht-node a:1 -6 --interface=eth0 --encryption require \
                    --mirror=http://a.example?a=b --mirror=HTTP://b.example/x%20y \
                    --select-file 1-3,8 --select *.iso --select=a/b --sequential \
                    --max-download-limit 5M -u 20K --seed-time 1.5 --seed-ratio 2 x.torrent there";
        let expected = Arguments {
            torrents: vec!["x.torrent".into()],
            task: Task::Download,
            json: false,
            dir: "there".into(),
            quiet: true,
            verbosity: 2,
            log: Some("out.log".into()),
            wish: Wish {
                numbers: vec![0..=2, 7..=7],
                patterns: vec!["*.iso".to_owned(), "a/b".to_owned()],
            },
            sequential: true,
            stdout: false,
            progress: Style::Json,
            map: true,
            summary: true,
            on_complete: Some("echo $RT_NAME".into()),
            peers: vec!["1.2.3.4:5".to_owned(), "[::1]:6".to_owned()],
            mirrors: vec!["http://a.example/?a=b".to_owned(), "http://b.example/x%20y".to_owned()],
            peers_max: 7,
            memory_max: 11 << 20,
            min_free: 2 << 30,
            download_limit: Some(5 << 20),
            upload_limit: Some(20 << 10),
            encryption: Encryption::Require,
            port: Some(8),
            families: Families::V6,
            interface: Some(Said { by: "--interface".to_owned(), text: "eth0".to_owned() }),
            proxy: None,
            local: false,
            dht: false,
            dht_file: Some("n".into()),
            dht_nodes: vec!["a:1".to_owned()],
            seeding: Some(Seeding { time: Some(Duration::from_secs(90)), ratio: Some(2.0) }),
            patience: Some(Duration::from_secs(9)),
            metadata_patience: Some(Duration::from_secs(7)),
            save_torrent: true,
            umask: Some(0o27),
            sandbox: false,
            strange_variables: Vec::new(),
        };
        let mut line: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        line.insert(0, "--on-complete=echo $RT_NAME".into());
        assert_eq!(parse(line, []).unwrap(), Command::Download(Box::new(expected)));
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
        assert_eq!(arguments.umask, None);
        assert_eq!((arguments.families, arguments.interface), (Families::Both, None));
        assert_eq!(arguments.proxy, None);
        assert!(!arguments.sequential && !arguments.stdout);
        assert!(arguments.sandbox && arguments.local && arguments.dht);
        assert_eq!(arguments.encryption, Encryption::Prefer);
        assert_eq!((arguments.progress, arguments.map), (Style::Auto, false));
        assert_eq!((arguments.summary, arguments.on_complete), (false, None));
        assert_eq!((arguments.download_limit, arguments.upload_limit), (None, None));
        assert_eq!((arguments.memory_max, arguments.min_free), (MEMORY_DEFAULT_BYTES, 0));
    }

    #[test]
    fn a_torrent_can_be_made_of_what_is_named() {
        let line = "--create a -q --tracker http://t/a?b=c --tracker=udp://u:1/x --private \
                    --web-seed https://w/d/ --piece-length 1M -l out.log -v -- -";
        let expected = Making {
            path: "a".into(),
            torrent: Some("-".into()),
            trackers: vec!["http://t/a?b=c".to_owned(), "udp://u:1/x".to_owned()],
            web_seeds: vec!["https://w/d/".to_owned()],
            private: true,
            piece_length: Some(1 << 20),
            quiet: true,
            verbosity: 1,
            log: Some("out.log".into()),
            strange_variables: Vec::new(),
        };
        assert_eq!(typed(line).unwrap(), Command::Create(Box::new(expected)));
        let bare = Making { path: "a".into(), ..Making::default() };
        assert_eq!(typed("--create a").unwrap(), Command::Create(Box::new(bare)));
        let to_output = typed("--create a -").unwrap();
        assert!(matches!(to_output, Command::Create(making) if making.torrent == Some("-".into())));
    }

    #[test]
    fn wrong_lines_are_refused_with_the_reason() {
        let cases = [
            ("", "no torrent"),
            ("-q", "no torrent"),
            ("--unknown a", "--unknown"),
            ("-x a", "-x"),
            ("--port 0 a", "65535"),
            ("--port 1 --port 2 a", "--port can be given only once"),
            ("--quiet=1 a", "unknown option --quiet=1"),
            ("--peer 127.0.0.1 a", "--peer takes HOST:PORT"),
            ("--dht-node ::1:5 a", "--dht-node takes HOST:PORT"),
            ("-4 -6 a", "--ipv4 and --ipv6"),
            ("--proxy a --interface b a", "--interface and --proxy"),
            ("--seed-ratio NaN a", "--seed-ratio takes a number from 0 to 1000000"),
            ("--port 65536 a", "--port"),
            ("--port", "--port"),
            ("--max-peers 0 a", "1 to 500"),
            ("--max-peers 501 a", "1 to 500"),
            ("--max-memory 9M a", "10M or more"),
            ("--max-memory much a", "--max-memory"),
            ("--min-free much a", "--min-free"),
            ("--max-download-limit 5 a", "--max-download-limit takes 1K or more"),
            ("--max-upload-limit some a", "--max-upload-limit takes a whole number"),
            ("-u", "--max-upload-limit"),
            ("--mirror ftp://a/ a", "--mirror takes a URL"),
            ("--mirror a.example a", "http://"),
            ("--mirror", "--mirror"),
            ("--encryption on a", "prefer, require or off"),
            ("--encryption", "--encryption"),
            ("-o file a", "--output takes only -"),
            ("--stdout --seed a", "can't be used together"),
            ("--select-file 0 a", "--select-file takes numbers"),
            ("--select-file some a", "1-3,8"),
            ("--select", "--select"),
            ("--completions csh", "--completions takes bash, zsh or fish"),
            ("--completions", "--completions needs a value: SHELL"),
            ("--umask 8 a", "--umask takes 0 to 777, octal"),
            ("--umask 1000 a", "--umask takes"),
            ("--umask +22 a", "--umask takes"),
            ("--umask= a", "--umask takes"),
            ("--umask u=rwx a", "--umask takes"),
            ("--create", "--create"),
            ("--create a b c", "c is too much"),
            ("--create a --port 1", "--port can't be used with --create"),
            ("--create a -x", "-x can't be used"),
            ("--create a --create b", "--create can be given only once"),
            (
                "--create a --piece-length 1M --piece-length 1M",
                "--piece-length can be given only once",
            ),
            ("--create a --piece-length 1G", "from 16K to 64M"),
            ("--create a --piece-length 100K", "power of two"),
            ("--create a --piece-length much", "--piece-length takes"),
            ("--create a --tracker ftp://a/", "--tracker takes"),
            ("--create a --tracker http://", "--tracker takes"),
            ("--create a --web-seed udp://a:1", "--web-seed takes"),
            ("--tracker http://a/ a", "--tracker needs --create"),
            ("--private a", "--private needs --create"),
            ("--json a", "--json needs"),
            ("--show --verify a", "--show and --verify"),
            ("--verify --check-only a", "--verify and --check-only"),
            ("--show --save-torrent a", "--save-torrent"),
            ("--progress bar a", "auto, plain, json or none"),
            ("--progress", "--progress"),
            ("--on-complete", "--on-complete"),
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
    fn every_row_of_the_table_is_read() {
        for row in rows() {
            for name in [row.name, row.short].into_iter().filter(|name| !name.is_empty()) {
                // As many values as nobody takes: that is another error than not to know it.
                let line = if row.value.is_empty() { name } else { &format!("{name} \u{1}") };
                let error = typed(line).err().map(|error| error.to_string()).unwrap_or_default();
                assert!(!error.starts_with("unknown option"), "{name}: {error}");
                if let (Some(variable), false) = (row.variable(), row.value.is_empty()) {
                    let variable =
                        format!("{}=\u{1}", variable.trim_start_matches(VARIABLE_PREFIX));
                    let is_making = !typed(&format!("--create x {line}")).is_err_and(|error| {
                        let error = error.to_string();
                        error.contains("can't be used with") || error.contains("only once")
                    });
                    let call = if is_making { "--create x" } else { "x" };
                    let (of_variable, of_name) =
                        (with(&variable, call), typed(&format!("{line} {call}")));
                    assert_eq!(of_variable.is_err(), of_name.is_err(), "{variable}");
                }
            }
        }
    }

    #[test]
    fn a_value_can_be_each_of_its_words_and_no_other() {
        for row in rows().filter(|row| !row.words.is_empty()) {
            for word in row.words {
                assert!(typed(&format!("{} {word} x", row.name)).is_ok(), "{word}");
                assert!(typed(&format!("{} {word}s x", row.name)).is_err(), "{word}s");
            }
        }
    }

    #[test]
    fn a_variable_says_what_the_option_says() {
        let cases = [
            ("MAX_PEERS=7", "--max-peers 7"),
            ("MAX_UPLOAD_LIMIT=3M,TIMEOUT=9", "-u 3M --timeout 9"),
            ("PEER= a:1  b:2 ", "--peer a:1 --peer b:2"),
            ("LOG=a/b", "--log=a/b"),
            ("QUIET=1", "-q"),
            ("SEED=TRUE,NO_DHT=yes,NO_LSD=on", "--seed --no-dht --no-lsd"),
            ("SEED=0,NO_DHT=no,NO_LSD=Off,IPV4=false", ""),
            ("MAX_PEERS=,SEED=,PEER= ,PORT=", ""),
            ("VERBOSE=2", "-vv"),
            ("VERBOSE=on", "-v"),
            ("IPV6=1", "-6"),
            ("SHOW=1,JSON=1", "--show --json"),
            ("SEED_TIME=0,STDOUT=1", "--stdout"),
            ("STDOUT=yes", "--stdout"),
            ("SELECT=a* b,SELECT_FILE=1-3", "--select a* --select b --select-file 1-3"),
            (
                "CREATE=a,TRACKER=http://a/ http://b/,PRIVATE=1,PIECE_LENGTH=1M",
                "--create a --tracker http://a/ --tracker http://b/ --private --piece-length 1M",
            ),
            ("ENCRYPTION=require,SEED_RATIO=1.5", "--encryption require --seed-ratio 1.5"),
        ];
        for (variables, line) in cases {
            let expected = typed(&format!("{line} x")).unwrap();
            assert_eq!(with(variables, "x").unwrap(), expected, "{variables}");
        }
    }

    #[test]
    fn what_is_typed_wins() {
        let cases = [
            ("MAX_PEERS=7", "--max-peers 8"),
            ("MAX_PEERS=none", "--max-peers 8"),
            ("PEER=a:1 b:2", "--peer c:3"),
            ("LOG=a", "-l b"),
            ("IPV4=1", "-6"),
            ("QUIET=1", "-vv"),
            ("VERBOSE=3", "-v"),
            ("QUIET=0,SEED=0", "-q --seed"),
            ("CREATE=b", "--show"),
            ("CREATE=b", "--seed"),
            ("SEED=1,SEED_TIME=5,SEED_RATIO=1,SUMMARY=1,PROGRESS=json", "--stdout"),
            ("SEED=1,PROGRESS=json,SHOW=1", "-o -"),
            ("STDOUT=1", "--progress json"),
            ("OUTPUT=-", "--seed-time 5"),
            ("SHOW=1,STDOUT=1,SAVE_TORRENT=1", "--verify"),
            ("SELECT=a,SELECT_FILE=1,VERIFY=1", "--show"),
            ("SHOW=1", "--select b"),
            ("IPV4=1", "-q6"),
            ("IPV4=0", "-l -6"),
            ("JSON=1", "--seed"),
        ];
        for (variables, line) in cases {
            let line = format!("{line} x");
            assert_eq!(with(variables, &line).unwrap(), typed(&line).unwrap(), "{variables}");
        }
    }

    #[test]
    fn a_variable_that_is_wrong_is_named() {
        let cases = [
            ("MAX_PEERS=0", "MAX_PEERS takes 1 to 500, not `0`"),
            ("SEED=maybe", "SEED takes 1 or 0, not `maybe`"),
            ("VERBOSE=very", "VERBOSE takes a number, 0 to 3, not `very`"),
            ("DHT_NODE=a:1 b", "DHT_NODE takes HOST:PORT, not `b`"),
            ("MAX_MEMORY=a\x1b[2J\nb", "MAX_MEMORY takes 10M or more, not `a\\u{1b}[2J\\nb`"),
            ("INTERFACE=a,PROXY=b", "INTERFACE and RUSTY_TORRENT_PROXY can't be used together"),
            ("SHOW=1,CHECK_ONLY=1", "SHOW and RUSTY_TORRENT_CHECK_ONLY can't be used together"),
            (
                "STDOUT=1,PROGRESS=json",
                "STDOUT and RUSTY_TORRENT_PROGRESS json can't be used together",
            ),
            ("IPV4=1,IPV6=1", "IPV4 and RUSTY_TORRENT_IPV6 can't be used together"),
        ];
        for (variables, why) in cases {
            let fatal = with(variables, "x").unwrap_err();
            assert_eq!(fatal.status(), Status::BadOption);
            let expected = format!("RUSTY_TORRENT_{why}; see rusty_torrent --help");
            assert_eq!(fatal.to_string(), expected);
        }
        // What hides somebody never gives way unsaid.
        for (variables, line) in [("PROXY=b", "--interface a"), ("INTERFACE=b", "--proxy a")] {
            let both = with(variables, &format!("{line} x")).unwrap_err().to_string();
            assert!(both.contains("can't be used together"), "{both}");
        }
        let many = "http://a.example/ ".repeat(MIRRORS_MAX + 1);
        let many = with(&format!("MIRROR={many}"), "x").unwrap_err().to_string();
        assert!(many.starts_with("RUSTY_TORRENT_MIRROR can be given 300 times at most"), "{many}");
    }

    #[test]
    fn variables_that_say_nothing_are_told() {
        let variables = "MAX_PEER=1,PORT=1,HELP=1,VERSION=1,BIN=x,TEST_INSIDE=1,EMPTY=";
        let Command::Download(arguments) = with(variables, "x").unwrap() else {
            panic!("no download")
        };
        let strange = ["MAX_PEER", "HELP", "VERSION"].map(|name| format!("RUSTY_TORRENT_{name}"));
        assert_eq!(arguments.strange_variables, strange);
        let Command::Create(making) = with(variables, "--create x").unwrap() else {
            panic!("nothing to be made")
        };
        assert_eq!(making.strange_variables, strange);
        let others = [("PATH".into(), "x".into()), ("RUSTY_TORRENT".into(), "x".into())];
        let Command::Download(arguments) = parse(vec!["x".into()], others).unwrap() else {
            panic!("no download")
        };
        assert!(arguments.strange_variables.is_empty());
    }

    #[test]
    fn values_may_be_anything_that_a_system_calls_a_name() {
        let name = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        let read = |line: &[&[u8]]| parse(line.iter().map(|bytes| name(bytes)).collect(), []);
        for line in
            [&[&b"-l"[..], b"\xff=", b"x"][..], &[b"-l=\xff=", b"x"], &[b"--log=\xff=", b"x"]]
        {
            let Command::Download(arguments) = read(line).unwrap() else { panic!("no download") };
            assert_eq!(arguments.log, Some(name(b"\xff=").into()));
        }
        let Command::Download(arguments) = read(&[b"-l=quiet", b"-vq", b"x"]).unwrap() else {
            panic!("no download")
        };
        assert_eq!((arguments.quiet, arguments.verbosity), (true, 1));
        assert_eq!(arguments.log, Some("quiet".into()));
        let Command::Download(arguments) = with("LOG=a b", "x").unwrap() else {
            panic!("no download")
        };
        assert_eq!(arguments.log, Some("a b".into()));
        let why = read(&[b"--peer=\xff", b"x"]).unwrap_err().to_string();
        assert!(why.starts_with("--peer takes UTF-8"), "{why}");
    }

    #[test]
    fn the_last_of_several_names_is_the_directory_unless_one_is_given() {
        let hash = "0123456789012345678901234567890123456789";
        let cases: [(&str, &[&str], &str); 10] = [
            ("a", &["a"], "."),
            ("a b", &["a"], "b"),
            ("a b c", &["a", "b"], "c"),
            ("-d c a b", &["a", "b"], "c"),
            ("--dir c a", &["a"], "c"),
            ("-", &["-"], "."),
            ("- b", &["-"], "b"),
            ("-d c - http://a/b magnet:?x", &["-", "http://a/b", "magnet:?x"], "c"),
            ("--show a b", &["a", "b"], "."),
            ("a no.torrent", &["a"], "no.torrent"),
        ];
        for (line, torrents, dir) in cases {
            let Ok(Command::Download(arguments)) = typed(line) else { panic!("{line}") };
            let expected: Vec<PathBuf> = torrents.iter().map(PathBuf::from).collect();
            assert_eq!((arguments.torrents, arguments.dir), (expected, dir.into()), "{line}");
        }
        let many = "a ".repeat(TORRENTS_MAX + 2);
        let cases = [
            ("a -".to_owned(), "--dir DIR"),
            ("a http://user:secret@b/c".to_owned(), "http://b is a torrent"),
            (format!("a magnet:?xt=urn:btih:{hash}"), "--dir DIR"),
            ("-d c - -".to_owned(), "once"),
            ("-d c".to_owned(), "no torrent"),
            ("--dir".to_owned(), "--dir"),
            ("--seed a b c".to_owned(), "--seed-time"),
            (many, "at most"),
        ];
        for (line, reason) in cases {
            let fatal = typed(&line).unwrap_err();
            assert_eq!(fatal.status(), Status::BadOption);
            assert!(fatal.to_string().contains(reason), "{line}: {fatal}");
        }
        assert!(typed("--seed a c").is_ok() && typed("--seed --seed-time 1 a b c").is_ok());
    }

    #[test]
    fn that_records_are_wanted_is_known_of_lines_that_are_wrong() {
        let cases = [
            ("", "--progress json --port x", true),
            ("", "--progress=json --port x", true),
            ("", "--progress plain json", false),
            ("", "-- --progress json", false),
            ("", "--port x json", false),
            ("PROGRESS=json", "--port x", true),
            ("PROGRESS=json", "--progress plain --port x", false),
            ("PROGRESS=plain", "--port x", false),
            ("PROGRESS=json", "--stdout --port x", false),
            ("PROGRESS=json", "-o- --port x", false),
            ("PROGRESS=json", "--show --json --port x", false),
            ("PROGRESS=json", "--create=a --port x", false),
        ];
        for (variables, line, expected) in cases {
            let line: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(wants_json(&line, &of(variables)), expected, "{variables} {line:?}");
        }
    }

    #[test]
    fn after_two_dashes_everything_is_a_name() {
        let Command::Download(arguments) = typed("-q -- --help -V").unwrap() else {
            panic!("no download")
        };
        assert_eq!(arguments.torrents, [Path::new("--help")]);
        assert_eq!(arguments.dir, Path::new("-V"));
    }
}
