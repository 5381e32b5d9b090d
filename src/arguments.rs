//! What can be typed: the options, in one table, and how they are read.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::coordinator::Seeding;
use crate::error::Fatal;
use crate::limits::{
    DHT_ENTRIES_MAX, MEMORY_DEFAULT_BYTES, MEMORY_MIN_BYTES, MIRRORS_MAX, PEERS_DEFAULT, PEERS_MAX,
    RATE_MIN_BYTES_PER_S, SEED_AMOUNT_MAX, SELECTIONS_MAX,
};
use crate::policy::encryption::Encryption;
use crate::policy::selection::Wish;
use crate::protocol::web_seed::mirror_url;
use crate::system::route::Families;

/// The options: how each is written, and what it does.
pub const OPTIONS: &[(&str, &str)] = &[
    ("-q, --quiet", "say nothing but errors"),
    ("-v, --verbose", "say more; -vv tells of every peer"),
    ("-l, --log FILE", "write a log to FILE as well, fuller with -v"),
    ("    --select-file FILES", "fetch these files alone, by number: 1-3,8"),
    ("    --select GLOB", "fetch what has this name or path; repeatable"),
    ("    --sequential", "fetch from the first piece to the last"),
    ("-o -, --stdout", "write the file to standard output, in order"),
    ("    --peer ADDR:PORT", "a peer besides the trackers'; repeatable"),
    ("    --mirror URL", "an HTTP server that has the files; repeatable"),
    ("    --max-peers N", "peers at once (50)"),
    ("    --max-memory SIZE", "memory it takes at most, 10M or more (32M)"),
    ("    --min-free SIZE", "leave at least SIZE free on the disk (0)"),
    ("    --max-download-limit RATE", "bytes a second from everybody (0: no limit)"),
    ("-u, --max-upload-limit RATE", "bytes a second to all peers (0: no limit)"),
    ("    --encryption MODE", "encrypt: prefer, require or off (prefer)"),
    ("    --port N", "where peers can come, or the next port (6881)"),
    ("-4, --ipv4", "use IPv4 alone"),
    ("-6, --ipv6", "use IPv6 alone"),
    ("    --interface NAME", "use this interface, or this address, alone"),
    ("    --proxy URL", "go through a proxy: socks5:// or http://"),
    ("    --no-dht", "do not look for peers in the DHT"),
    ("    --dht-file FILE", "remember nodes of the DHT from run to run"),
    ("    --dht-node HOST:PORT", "begin in the DHT there; repeatable"),
    ("    --no-lsd", "do not look for peers on the local network"),
    ("    --seed", "stay and give to others until it is stopped"),
    ("    --seed-time MINUTES", "stay for so long once everything is there"),
    ("    --seed-ratio X", "stay until X times the size was sent"),
    ("    --no-sandbox", "do not give up the right to write outside DIR"),
    ("    --metadata-timeout SECONDS", "give up asking what a link is of (0: never)"),
    ("    --save-torrent", "keep what a link is of as DIR/NAME.torrent"),
    ("    --timeout SECONDS", "give up after so long with no piece (0: never)"),
    ("-h, --help", "print this"),
    ("-V, --version", "print the version"),
];

/// What was typed.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Print a short help.
    Help,
    /// Print the version.
    Version,
    /// Download something.
    Download(Box<Arguments>),
}

/// What is to be downloaded, and how.
#[derive(Debug, PartialEq)]
pub struct Arguments {
    /// A torrent file, or a magnet link.
    pub torrent: PathBuf,
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
    pub interface: Option<String>,
    /// The proxy that everything goes through.
    pub proxy: Option<String>,
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
    /// Give up the right to write elsewhere.
    pub sandbox: bool,
}

/// Reads what was typed, the program's own name not among it.
///
/// # Errors
/// [`Fatal::Usage`], with a sentence that says what is wrong.
pub fn parse(mut arguments: Vec<OsString>) -> Result<Command, Fatal> {
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
    let numbers = typed.opt_value_from_fn("--select-file", Wish::read_numbers);
    let numbers = numbers.map_err(usage("--select-file"))?.unwrap_or_default();
    let patterns = typed.values_from_str("--select").map_err(usage("--select"))?;
    if patterns.len() > SELECTIONS_MAX {
        return Err(Fatal::Usage(format!("--select may be given {SELECTIONS_MAX} times")));
    }
    let sequential = typed.contains("--sequential");
    let output: Option<String> = typed.opt_value_from_str("-o").map_err(usage("-o"))?;
    if output.as_ref().is_some_and(|output| output != "-") {
        return Err(Fatal::Usage("-o takes - alone; DIR says where files go".to_owned()));
    }
    let stdout = typed.contains("--stdout") || output.is_some();
    let peers = typed.values_from_str("--peer").map_err(usage("--peer"))?;
    let mirrors = typed.values_from_fn("--mirror", mirror).map_err(usage("--mirror"))?;
    if mirrors.len() > MIRRORS_MAX {
        return Err(Fatal::Usage(format!("--mirror may be given {MIRRORS_MAX} times")));
    }
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
    let encryption = typed.opt_value_from_fn("--encryption", encryption);
    let encryption = encryption.map_err(usage("--encryption"))?.unwrap_or_default();
    let port = typed.opt_value_from_str("--port").map_err(usage("--port"))?;
    if port == Some(0) {
        return Err(Fatal::Usage("--port takes 1 to 65535".to_owned()));
    }
    let families = match (typed.contains(["-4", "--ipv4"]), typed.contains(["-6", "--ipv6"])) {
        (true, true) => return Err(Fatal::Usage("-4 and -6 leave nothing".to_owned())),
        (true, false) => Families::V4,
        (false, true) => Families::V6,
        (false, false) => Families::Both,
    };
    let interface = typed.opt_value_from_str("--interface").map_err(usage("--interface"))?;
    let proxy: Option<String> = typed.opt_value_from_str("--proxy").map_err(usage("--proxy"))?;
    if interface.is_some() && proxy.is_some() {
        let why = "--interface and --proxy can't be had together";
        return Err(Fatal::Usage(why.to_owned()));
    }
    let local = !typed.contains("--no-lsd");
    let dht = !typed.contains("--no-dht");
    let dht_file = typed.opt_value_from_os_str("--dht-file", path).map_err(usage("--dht-file"))?;
    let dht_nodes: Vec<String> =
        typed.values_from_str("--dht-node").map_err(usage("--dht-node"))?;
    if let Some(other) = dht_nodes.iter().find(|node| !is_place(node)) {
        return Err(Fatal::Usage(format!("--dht-node takes HOST:PORT, not {other}")));
    }
    if dht_nodes.len() > DHT_ENTRIES_MAX {
        return Err(Fatal::Usage(format!("--dht-node may be given {DHT_ENTRIES_MAX} times")));
    }
    let seeding = seeding(&mut typed)?;
    if stdout && seeding.is_some() {
        return Err(Fatal::Usage("--stdout and --seed can't be had together".to_owned()));
    }
    let sandbox = !typed.contains("--no-sandbox");
    let mut seconds = |option| {
        let seconds = typed.opt_value_from_str(option).map_err(usage(option))?;
        Ok(seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs))
    };
    let patience = seconds("--timeout")?;
    let metadata_patience = seconds("--metadata-timeout")?;
    let save_torrent = typed.contains("--save-torrent");

    let mut free = typed.finish();
    if let Some(unknown) = free.iter().find(|name| name.as_encoded_bytes().starts_with(b"-")) {
        return Err(Fatal::Usage(format!("unknown option {}", unknown.to_string_lossy())));
    }
    free.extend(names);
    let mut free = free.into_iter();
    let Some(torrent) = free.next().map(PathBuf::from) else {
        return Err(Fatal::Usage("no torrent was given".to_owned()));
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
        wish: Wish { numbers, patterns },
        sequential,
        stdout,
        peers,
        mirrors,
        peers_max,
        memory_max,
        min_free: min_free.unwrap_or(0),
        download_limit,
        upload_limit,
        encryption,
        port,
        families,
        interface,
        proxy,
        local,
        dht,
        dht_file,
        dht_nodes,
        seeding,
        patience,
        metadata_patience,
        save_torrent,
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

/// Whether it is HOST:PORT.
fn is_place(text: &str) -> bool {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    port.and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port > 0)
}

/// A mirror as it can be asked.
fn mirror(text: &str) -> Result<String, String> {
    let spoken = if cfg!(feature = "tls") { "http:// or https://" } else { "http://" };
    mirror_url(text).ok_or_else(|| format!("a URL begins with {spoken} and names a host"))
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

fn encryption(text: &str) -> Result<Encryption, &'static str> {
    match text {
        "prefer" => Ok(Encryption::Prefer),
        "require" => Ok(Encryption::Require),
        "off" => Ok(Encryption::Off),
        _ => Err("a MODE is prefer, require or off"),
    }
}

/// Bytes as they can be typed, rounded up.
pub fn in_units(bytes: u64) -> String {
    format!("{}M", bytes.div_ceil(1 << 20))
}

fn usage(option: &str) -> impl Fn(pico_args::Error) -> Fatal {
    move |error| Fatal::Usage(format!("{option}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Status;
    use std::path::Path;

    fn typed(line: &str) -> Result<Command, Fatal> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn every_option_is_understood() {
        let line = "-q -v -v -l out.log --peer 1.2.3.4:5 --peer [::1]:6 --max-peers 7 --port 8 \
                    --max-memory 11M --min-free 2G --timeout 9 --no-sandbox \
                    --metadata-timeout 7 --save-torrent --no-lsd --no-dht --dht-file n \
                    --dht-node a:1 -6 --interface=eth0 --encryption require \
                    --mirror=http://a.example?a=b --mirror=HTTP://b.example/x%20y \
                    --select-file 1-3,8 --select *.iso --select=a/b --sequential \
                    --max-download-limit 5M -u 20K --seed-time 1.5 --seed-ratio 2 x.torrent there";
        let expected = Arguments {
            torrent: "x.torrent".into(),
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
            interface: Some("eth0".to_owned()),
            proxy: None,
            local: false,
            dht: false,
            dht_file: Some("n".into()),
            dht_nodes: vec!["a:1".to_owned()],
            seeding: Some(Seeding { time: Some(Duration::from_secs(90)), ratio: Some(2.0) }),
            patience: Some(Duration::from_secs(9)),
            metadata_patience: Some(Duration::from_secs(7)),
            save_torrent: true,
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
        assert_eq!((arguments.families, arguments.interface), (Families::Both, None));
        assert_eq!(arguments.proxy, None);
        assert!(!arguments.sequential && !arguments.stdout);
        assert!(arguments.sandbox && arguments.local && arguments.dht);
        assert_eq!(arguments.encryption, Encryption::Prefer);
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
            ("--mirror ftp://a/ a", "--mirror: "),
            ("--mirror a.example a", "http://"),
            ("--mirror", "--mirror"),
            ("--encryption on a", "prefer, require or off"),
            ("--encryption", "--encryption"),
            ("-o file a", "-o takes - alone"),
            ("--stdout --seed a", "can't be had together"),
            ("--select-file 0 a", "--select-file: "),
            ("--select-file some a", "1-3,8"),
            ("--select", "--select"),
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
}
