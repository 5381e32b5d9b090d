//! Tests with real clients: each of them seeds one file and a directory of files to the built
//! program, and fetches them from it; and all of them and the program complete each other.
//! opentracker brings them together, over HTTP for the one and UDP for the other.
//!
//! `cargo test --release --test real_clients -- --ignored --test-threads=1` runs them. They need
//! root, for a network of their own, and every client: a missing one is a failure.
#![allow(clippy::print_stdout)] // what was run and what came of it is the point
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rusty_torrent::protocol::metainfo::Metainfo;

use support::network::{Daemon, Network, Place};
use support::program::{self, Outcome, Running};
use support::scratch::Scratch;
use support::torrent::{Torrent, file};

/// Where the tracker and the client are. Some clients refuse peers at 127.0.0.0/8.
const THERE: &str = "10.77.0.1";
/// Where the program is.
const HERE: &str = "10.77.0.2";
const TRACKER_PORT: u16 = 6969;
/// The first of the ports that clients listen on.
const CLIENT_PORT: u16 = 51_413;
/// The same for the program.
const PROGRAM_PORT: u16 = 6_881;
/// Until the client has checked its data and told the tracker so.
const SEEDING_LIMIT: Duration = Duration::from_secs(90);
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(60);
/// For clients that fetch what only the program has.
const UPLOAD_LIMIT: Duration = Duration::from_secs(60);
/// For a swarm in which nobody has everything.
const SWARM_LIMIT: Duration = Duration::from_secs(120);
/// Runs of the program in such a swarm.
const PROGRAMS: usize = 3;

// ---- the clients -------------------------------------------------------------------------------

/// A client, and the command that it takes to do its job.
type Client = (&'static str, fn(&Job<'_>) -> Command);

const ARIA2: Client = ("aria2", aria2_line);
const TRANSMISSION: Client = ("transmission", transmission_line);
const QBITTORRENT: Client = ("qbittorrent", qbittorrent_line);
const RTORRENT: Client = ("rtorrent", rtorrent_line);
const LIBTORRENT: Client = ("libtorrent", libtorrent_line);
const RQBIT: Client = ("rqbit", rqbit_line);

const PACKAGED: [Client; 5] = [ARIA2, TRANSMISSION, QBITTORRENT, RTORRENT, LIBTORRENT];
const ALL: [Client; 6] = [ARIA2, TRANSMISSION, QBITTORRENT, RTORRENT, LIBTORRENT, RQBIT];

/// What a client is to seed or to fetch, and where it may write.
struct Job<'a> {
    torrents: &'a [PathBuf],
    /// Where the files are, or are to be.
    payload: &'a Path,
    /// The client's own directory.
    home: &'a Path,
    /// Where it is.
    address: &'a str,
    /// Where it listens.
    port: u16,
}

impl Job<'_> {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

fn aria2_line(job: &Job<'_>) -> Command {
    let mut line = client("aria2c", "apt-get install aria2");
    // Without its DHT it knows no UDP trackers.
    line.args(["--no-conf", "--seed-ratio=0", "--check-integrity=true", "--enable-dht=true"])
        .args(["--enable-dht6=false", "--bt-enable-lpd=false", "--disable-ipv6=true"])
        .args(["--enable-peer-exchange=false", "--show-console-readout=false"])
        .arg(format!("--listen-port={}", job.port))
        .arg(format!("--dht-listen-port={}", job.port))
        .arg(format!("--dht-file-path={}", job.home.join("dht").display()))
        .arg(format!("--dir={}", job.payload.display()))
        .args(job.torrents);
    line
}

fn transmission_line(job: &Job<'_>) -> Command {
    let watched = job.home.join("watched");
    fs::create_dir(&watched).unwrap();
    for torrent in job.torrents {
        fs::copy(torrent, watched.join(torrent.file_name().unwrap())).unwrap();
    }
    let settings = format!(
        "{{\"download-dir\": \"{}\", \"watch-dir\": \"{}\", \"watch-dir-enabled\": true, \
         \"bind-address-ipv4\": \"{}\", \"peer-port\": {}, \
         \"rpc-enabled\": false, \"dht-enabled\": false, \"lpd-enabled\": false, \
         \"pex-enabled\": false, \"utp-enabled\": false, \"port-forwarding-enabled\": false}}",
        job.payload.display(),
        watched.display(),
        job.address,
        job.port,
    );
    job.write("settings.json", &settings);
    let mut line = client("transmission-daemon", "apt-get install transmission-daemon");
    line.args(["--foreground", "--log-debug", "--config-dir"]).arg(job.home);
    line
}

fn qbittorrent_line(job: &Job<'_>) -> Command {
    let settings = format!(
        "[LegalNotice]\nAccepted=true\n[BitTorrent]\nSession\\Port={}\n\
         Session\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\n\
         [Preferences]\nWebUI\\UseUPnP=false\n[Network]\nPortForwardingEnabled=false\n",
        job.port,
    );
    job.write("qBittorrent/config/qBittorrent.conf", &settings);
    let mut line = client("qbittorrent-nox", "apt-get install qbittorrent-nox");
    line.arg(format!("--profile={}", job.home.display()))
        .arg(format!("--save-path={}", job.payload.display()))
        .arg("--add-paused=false")
        .args(job.torrents);
    line
}

fn rtorrent_line(job: &Job<'_>) -> Command {
    let session = job.home.join("session");
    fs::create_dir(&session).unwrap();
    let load = |torrent: &PathBuf| format!("load.start = \"{}\"\n", torrent.display());
    let loads: String = job.torrents.iter().map(load).collect();
    let settings = format!(
        "system.daemon.set = true\ndirectory.default.set = \"{}\"\nsession.path.set = \"{}\"\n\
         network.port_range.set = {port}-{port}\ndht.mode.set = disable\n\
         protocol.pex.set = no\ntrackers.use_udp.set = yes\n{loads}",
        job.payload.display(),
        session.display(),
        port = job.port,
    );
    let settings = job.write("rtorrent.rc", &settings);
    let mut line = client("rtorrent", "apt-get install rtorrent");
    line.args(["-n", "-o"]).arg(format!("import={}", settings.display()));
    line
}

const LIBTORRENT_SCRIPT: &str = "\
import sys, time
import libtorrent as lt

interface, payload, *torrents = sys.argv[1:]
session = lt.session({'listen_interfaces': interface, 'enable_dht': False, 'enable_lsd': False,
                      'enable_upnp': False, 'enable_natpmp': False, 'alert_mask': -1})
for torrent in torrents:
    is_link = torrent.startswith('magnet:')
    params = lt.parse_magnet_uri(torrent) if is_link else lt.load_torrent_file(torrent)
    params.save_path = payload
    session.add_torrent(params)
while True:
    session.wait_for_alert(1000)
    for alert in session.pop_alerts():
        print(alert, flush=True)
";

fn libtorrent_line(job: &Job<'_>) -> Command {
    let script = job.write("job.py", LIBTORRENT_SCRIPT);
    let mut line = client("python3", "apt-get install python3");
    let found = Command::new("python3").args(["-c", "import libtorrent"]).status();
    let found = found.is_ok_and(|status| status.success());
    assert!(found, "libtorrent for Python is missing: pip install libtorrent");
    line.arg(script).arg(format!("{}:{}", job.address, job.port)).arg(job.payload);
    line.args(job.torrents);
    line
}

fn rqbit_line(job: &Job<'_>) -> Command {
    let install = "cargo install rqbit --locked --no-default-features --features rust-tls";
    let mut line = client("rqbit", install);
    line.args(["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--ipv4-only"])
        .args(["--listen-ip=0.0.0.0", &format!("--listen-port={}", job.port)])
        .args(["download", "--disable-http-api", "--overwrite", "--output-folder"])
        .arg(job.payload)
        .args(job.torrents);
    line
}

/// The client's command, if it is installed.
fn client(name: &str, install: &str) -> Command {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| dir.join(name).is_file());
    assert!(found, "{name} is missing: {install}");
    Command::new(name)
}

// ---- one client at a time ----------------------------------------------------------------------

#[test]
#[ignore = "needs real clients: aria2"]
fn aria2() {
    seeds_to_us("aria2", ARIA2);
}

#[test]
#[ignore = "needs real clients: aria2"]
fn aria2_fetches() {
    fetch_from_us("aria2_fetches", &[ARIA2]);
}

#[test]
#[ignore = "needs real clients: Transmission"]
fn transmission() {
    seeds_to_us("transmission", TRANSMISSION);
}

#[test]
#[ignore = "needs real clients: Transmission"]
fn transmission_fetches() {
    fetch_from_us("transmission_fetches", &[TRANSMISSION]);
}

#[test]
#[ignore = "needs real clients: qBittorrent"]
fn qbittorrent() {
    seeds_to_us("qbittorrent", QBITTORRENT);
}

#[test]
#[ignore = "needs real clients: qBittorrent"]
fn qbittorrent_fetches() {
    fetch_from_us("qbittorrent_fetches", &[QBITTORRENT]);
}

#[test]
#[ignore = "needs real clients: rtorrent"]
fn rtorrent() {
    seeds_to_us("rtorrent", RTORRENT);
}

#[test]
#[ignore = "needs real clients: rtorrent"]
fn rtorrent_fetches() {
    fetch_from_us("rtorrent_fetches", &[RTORRENT]);
}

#[test]
#[ignore = "needs real clients: libtorrent for Python"]
fn libtorrent() {
    seeds_to_us("libtorrent", LIBTORRENT);
}

#[test]
#[ignore = "needs real clients: libtorrent for Python"]
fn libtorrent_fetches() {
    fetch_from_us("libtorrent_fetches", &[LIBTORRENT]);
}

#[test]
#[ignore = "needs real clients: rqbit"]
fn rqbit() {
    seeds_to_us("rqbit", RQBIT);
}

#[test]
#[ignore = "needs real clients: rqbit"]
fn rqbit_fetches() {
    fetch_from_us("rqbit_fetches", &[RQBIT]);
}

#[test]
#[ignore = "needs real clients: all of them but rqbit"]
fn all_of_them_fetch() {
    fetch_from_us("all_of_them_fetch", &PACKAGED);
}

#[test]
#[ignore = "needs real clients: all of them and rqbit"]
fn all_of_them_and_rqbit_fetch() {
    fetch_from_us("all_of_them_and_rqbit_fetch", &ALL);
}

#[test]
#[ignore = "needs real clients: aria2, qBittorrent and libtorrent for Python"]
fn three_fetch_by_link() {
    fetch_by_link_from_us("three_fetch_by_link", &[ARIA2, QBITTORRENT, LIBTORRENT]);
}

#[test]
#[ignore = "needs real clients: all of them but rqbit"]
fn a_mixed_swarm() {
    mix("a_mixed_swarm", &PACKAGED);
}

#[test]
#[ignore = "needs real clients: all of them and rqbit"]
fn a_mixed_swarm_with_rqbit() {
    mix("a_mixed_swarm_with_rqbit", &ALL);
}

// ---- the tests ---------------------------------------------------------------------------------

/// Downloads one file and then a directory from a client, this by and by as well.
fn seeds_to_us(name: &str, (_, line): Client) {
    let Some(network) = Network::join_for(name, HERE) else { return };
    let there = network.place(THERE);
    let scratch = Scratch::new(name);
    let torrents = torrents();
    let files = torrents.each_ref().map(|torrent| torrent.write_to(scratch.path()));
    let [payload, home] = ["payload", "home"].map(|dir| directory(scratch.join(dir)));
    torrents.iter().for_each(|torrent| torrent.write_payload_to(&payload));
    let job =
        Job { torrents: &files, payload: &payload, home: &home, address: THERE, port: CLIENT_PORT };
    let tracker = track(&there, &scratch, &torrents);
    let client = there.start(&home, &line(&job));
    for (torrent, file) in torrents.iter().zip(&files) {
        wait_for_seeder(torrent, &[&tracker, &client]);
        download(torrent, file, &scratch.join("out"), &client);
    }
    let [one, many] = &torrents;
    download_by_and_by(many, &files[1], &scratch.join("by and by"), &client);
    download(one, Path::new(&one.magnet()), &scratch.join("by link"), &client);
}

/// Seeds one file and a directory to these clients, which begin at the same time.
fn fetch_from_us(name: &str, clients: &[Client]) {
    fetch_what_we_seed(name, clients, false);
}

/// The same to clients that know no more than links of them.
fn fetch_by_link_from_us(name: &str, clients: &[Client]) {
    fetch_what_we_seed(name, clients, true);
}

fn fetch_what_we_seed(name: &str, clients: &[Client], by_link: bool) {
    let Some(network) = Network::join_for(name, HERE) else { return };
    let there = network.place(THERE);
    let scratch = Scratch::new(name);
    let torrents = torrents();
    let files = torrents.each_ref().map(|torrent| torrent.write_to(scratch.path()));
    let tracker = track(&there, &scratch, &torrents);
    let out = scratch.join("out");
    torrents.iter().for_each(|torrent| torrent.write_payload_to(&out));
    let ours: Vec<Running> = files
        .iter()
        .zip(PROGRAM_PORT..)
        .map(|(file, port)| program::start(seeding(file, &out, port)))
        .collect();
    torrents.iter().for_each(|torrent| wait_for_seeder(torrent, &[&tracker]));
    let links = torrents.each_ref().map(|torrent| torrent.magnet().into());
    let known = if by_link { &links } else { &files };

    let mut members = Vec::new();
    for ((name, line), port) in clients.iter().zip(CLIENT_PORT..) {
        let [payload, home] =
            ["payload", "home"].map(|dir| directory(scratch.join(&format!("{name}_{dir}"))));
        let job = Job { torrents: known, payload: &payload, home: &home, address: THERE, port };
        let daemon = Some(there.start(&home, &line(&job)));
        members.push(Member { name: (*name).to_owned(), payload, daemon });
    }
    wait_for_all(&members, &torrents, UPLOAD_LIMIT, Some(&tracker), ours);
}

/// These clients and some runs of the program begin at the same time with a few pieces of one file
/// and of a directory each, and have to get the rest from each other.
fn mix(name: &str, clients: &[Client]) {
    let Some(network) = Network::join_for(name, HERE) else { return };
    let there = network.place(THERE);
    let scratch = Scratch::new(name);
    let torrents = torrents();
    let files = torrents.each_ref().map(|torrent| torrent.write_to(scratch.path()));
    let tracker = track(&there, &scratch, &torrents);
    wait_for_tracker(&torrents[0], &tracker);

    let ours = (1..=PROGRAMS).map(|number| format!("rusty_torrent_{number}"));
    let names = clients.iter().map(|(name, _)| (*name).to_owned()).chain(ours);
    let mut members: Vec<Member> = names
        .map(|name| Member { payload: directory(scratch.join(&name)), name, daemon: None })
        .collect();
    for (torrent, seed) in torrents.iter().zip(1..) {
        let shares = shares(torrent.payload.pieces(), members.len(), seed);
        for (member, pieces) in members.iter().zip(&shares) {
            torrent.write_pieces_to(&member.payload, pieces);
        }
    }
    // Some clients want no two peers with the same address.
    let addresses = (10..).map(|number| format!("10.77.0.{number}"));
    let places: Vec<Place> =
        members.iter().zip(addresses).map(|(_, address)| network.place(&address)).collect();

    let mut ours = Vec::new();
    for (number, (member, place)) in members.iter_mut().zip(&places).enumerate() {
        let Member { name, payload, daemon } = member;
        if let Some((_, line)) = clients.get(number) {
            let home = directory(scratch.join(&format!("{name}_home")));
            let address = place.address();
            let job = Job { torrents: &files, payload, home: &home, address, port: CLIENT_PORT };
            *daemon = Some(place.start(&home, &line(&job)));
            continue;
        }
        for (file, port) in files.iter().zip(PROGRAM_PORT..) {
            let line = place.inside(program::path());
            ours.push(program::start_as(line, seeding(file, payload, port)));
        }
    }
    wait_for_all(&members, &torrents, SWARM_LIMIT, Some(&tracker), ours);
}

/// Which pieces each of so many members of a swarm begins with. Each piece has one or two of them,
/// and there is no member without a piece that it alone has.
fn shares(pieces: usize, members: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut shares = vec![Vec::new(); members];
    let mut needed = vec![false; members];
    let mut order: Vec<usize> = (0..pieces).collect();
    rng.shuffle(&mut order);
    for (piece, first) in order.into_iter().zip((0..members).cycle()) {
        shares[first].push(piece);
        if rng.bool() {
            shares[(first + rng.usize(1..members)) % members].push(piece);
        } else {
            needed[first] = true;
        }
    }
    assert!(needed.iter().all(|needed| *needed), "another seed: {needed:?}");
    shares
}

/// Who is to get everything.
struct Member {
    name: String,
    /// Where its files are.
    payload: PathBuf,
    /// A client; the program otherwise.
    daemon: Option<Daemon>,
}

/// Waits until all of them have every byte of the torrents, and ends the runs of the program.
fn wait_for_all(
    members: &[Member],
    torrents: &[Torrent],
    limit: Duration,
    tracker: Option<&Daemon>,
    ours: Vec<Running>,
) {
    let began = Instant::now();
    let both =
        members.iter().flat_map(|member| torrents.iter().map(move |torrent| (member, torrent)));
    let mut fetching: Vec<_> = both
        .map(|(member, torrent)| (member, torrent, Missing::new(torrent, &member.payload)))
        .collect();
    loop {
        fetching.retain_mut(|(member, torrent, missing)| {
            let complete = missing.is_nothing();
            if complete {
                println!("{} has {} after {:?}", member.name, torrent.name, began.elapsed());
            }
            !complete
        });
        if fetching.is_empty() || began.elapsed() > limit {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    for (member, torrent, missing) in &fetching {
        println!("{} has not all of {}: {missing}", member.name, torrent.name);
    }
    let outcomes = ours.into_iter().map(stop);
    if !fetching.is_empty() {
        outcomes.for_each(|outcome| println!("{outcome:#?}"));
        let said = |member: &Member| Some((member.name.clone(), member.daemon.as_ref()?.said()));
        for (name, said) in members.iter().filter_map(said) {
            println!("---- {name}\n{said}");
        }
        let said = tracker.map(Daemon::said);
        panic!("not everybody has everything; the tracker said:\n{}", said.unwrap_or_default());
    }
    for outcome in outcomes {
        print!("{}", without_pieces(&outcome.stderr));
        outcome.assert_status(0);
    }
    for member in members {
        assert!(torrents.iter().all(|torrent| is_in(torrent, &member.payload)), "{}", member.name);
    }
}

/// What is not right yet of a torrent's files. Nothing is read twice, as long as it gets more.
struct Missing<'a> {
    files: VecDeque<(PathBuf, &'a [u8])>,
    /// Bytes of the first of them that are right.
    right: usize,
}

impl<'a> Missing<'a> {
    fn new(torrent: &'a Torrent, dir: &Path) -> Self {
        let files = torrent.files().into_iter();
        Self { files: files.map(|(path, bytes)| (dir.join(path), bytes)).collect(), right: 0 }
    }

    /// Looks again.
    fn is_nothing(&mut self) -> bool {
        let mut buffer = vec![0; 256 << 10];
        while let Some((path, bytes)) = self.files.front() {
            while self.right < bytes.len() {
                let rest = &bytes[self.right..];
                let file = File::open(path);
                let read = file.and_then(|file| file.read_at(&mut buffer, self.right as u64));
                let found = &buffer[..read.unwrap_or(0)];
                let right =
                    found.iter().zip(rest).take_while(|(found, good)| found == good).count();
                if right == 0 {
                    return false;
                }
                self.right += right;
            }
            self.files.pop_front();
            self.right = 0;
        }
        true
    }
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, _) = &self.files[0];
        write!(f, "{} is right up to byte {}", path.display(), self.right)
    }
}

/// What the program is started with to stay when everything is there, and to know nobody but those
/// that the tracker names.
fn seeding(file: &Path, out: &Path, port: u16) -> [OsString; 8] {
    let [v, no_lsd, no_dht, seed] = ["-vv", "--no-lsd", "--no-dht", "--seed"].map(OsString::from);
    [v, no_lsd, no_dht, seed, "--port".into(), port.to_string().into(), file.into(), out.into()]
}

fn stop(run: Running) -> Outcome {
    run.signal("TERM");
    run.wait(SEEDING_LIMIT + SWARM_LIMIT)
}

/// Every byte of the torrent is there; something else may be, too. Transmission makes no file for
/// nothing.
fn is_in(torrent: &Torrent, dir: &Path) -> bool {
    let there = |path: &PathBuf| fs::read(dir.join(path)).unwrap_or_default();
    torrent.files().iter().all(|(path, bytes)| there(path) == *bytes)
}

fn directory(path: PathBuf) -> PathBuf {
    fs::create_dir(&path).unwrap();
    path
}

fn torrents() -> [Torrent; 2] {
    let one = Torrent::single("one_file.bin", (24 << 20) + 12_345, 256 << 10);
    let mut entries =
        vec![file("first.bin", 5_000_001), file("empty", 0), file("deep/deeper/Grüße.bin", 70_000)];
    entries.extend((0..20).map(|number| file(&format!("small/{number}.bin"), 1_000 * number)));
    entries.push(file("last.bin", 9_000_000));
    let many = Torrent::multi("many_files", &entries, 64 << 10);
    [
        one.tracked_by(&format!("http://{THERE}:{TRACKER_PORT}/announce")),
        many.tracked_by(&format!("udp://{THERE}:{TRACKER_PORT}/announce")),
    ]
}

fn download(torrent: &Torrent, file: &Path, out: &Path, client: &Daemon) {
    let out = out.join(&torrent.name).with_extension("d");
    println!("{} {} {}", program::path().display(), file.display(), out.display());
    let outcome = program::run([Path::new("-vv"), file, &out], DOWNLOAD_LIMIT);
    print!("{}{}", without_pieces(&outcome.stderr), outcome.stdout);
    println!("exit status {:?} after {:?}", outcome.status, outcome.elapsed);
    assert!(outcome.status == Some(0), "{outcome:#?}\nthe client said:\n{}", client.said());
    torrent.assert_is_in(&out);
}

/// One directory alone, then one file to standard output, then the rest.
fn download_by_and_by(torrent: &Torrent, file: &Path, out: &Path, client: &Daemon) {
    let run = |options: &[&str]| {
        let mut command = Command::new(program::path());
        let output = command.args(options).arg(file).arg(out).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "{options:?}: {said}\nthe client said:\n{}",
            client.said()
        );
        output.stdout
    };
    let files = torrent.files();
    run(&["--select", "small"]);
    let selected = files.iter().filter(|(path, _)| path.parent().unwrap().ends_with("small"));
    for (path, bytes) in selected {
        assert!(fs::read(out.join(path)).unwrap() == *bytes, "{}", path.display());
    }
    let there = fs::read_dir(out.join(&torrent.name)).unwrap().count();
    assert_eq!(there, 1, "no other file or directory was made");
    let (_, last) = files.last().unwrap();
    assert!(run(&["--select", "last.bin", "--stdout"]) == *last);
    run(&[]);
    torrent.assert_is_in(out);
}

/// What the program said, but not of each piece.
fn without_pieces(said: &str) -> String {
    said.split_inclusive('\n').filter(|line| !line.ends_with("is right\n")).collect()
}

/// Starts a tracker for these torrents.
fn track(there: &Place, scratch: &Scratch, torrents: &[Torrent]) -> Daemon {
    let home = directory(scratch.join("tracker"));
    there.start(&home, &opentracker(&home, torrents))
}

/// Debian's opentracker serves only the torrents that it was told of, and goes to live in `dir`,
/// as nobody.
fn opentracker(dir: &Path, torrents: &[Torrent]) -> Command {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let hash = |torrent: &Torrent| hex(&torrent.payload.info_hash) + "\n";
    fs::write(dir.join("whitelist"), torrents.iter().map(hash).collect::<String>()).unwrap();
    let mut line = client("opentracker", "apt-get install opentracker");
    let port = TRACKER_PORT.to_string();
    line.args(["-i", THERE, "-p", &port, "-P", &port, "-w", "whitelist", "-d"]).arg(dir);
    line.current_dir(dir);
    line
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until the tracker answers.
fn wait_for_tracker(torrent: &Torrent, tracker: &Daemon) {
    let until = Instant::now() + SEEDING_LIMIT;
    while scrape(torrent).is_err() {
        assert!(Instant::now() < until, "no tracker: {}", tracker.said());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the tracker knows somebody who has all of the torrent.
fn wait_for_seeder(torrent: &Torrent, daemons: &[&Daemon]) {
    let until = Instant::now() + SEEDING_LIMIT;
    loop {
        let answer = scrape(torrent).unwrap_or_default();
        if answer.windows(10).any(|window| window == b"8:complete")
            && !answer.windows(13).any(|window| window == b"8:completei0e")
        {
            return;
        }
        if Instant::now() > until {
            let said: Vec<_> = daemons.iter().map(|daemon| daemon.said()).collect();
            let answer = String::from_utf8_lossy(&answer);
            panic!("{} is not seeded: {answer}\n{}", torrent.name, said.join("\n----\n"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn scrape(torrent: &Torrent) -> io::Result<Vec<u8>> {
    let escape = |byte: &u8| format!("%{byte:02x}");
    let hash: String = torrent.payload.info_hash.iter().map(escape).collect();
    let mut stream = TcpStream::connect((THERE, TRACKER_PORT))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /scrape?info_hash={hash} HTTP/1.0\r\nHost: {THERE}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

// ---- clients that speak encrypted only ---------------------------------------------------------

fn aria2_encrypts(job: &Job<'_>) -> Command {
    let mut line = aria2_line(job);
    line.arg("--bt-force-encryption=true");
    line
}

fn transmission_encrypts(job: &Job<'_>) -> Command {
    let line = transmission_line(job);
    job.amend("settings.json", "{", "{\"encryption\": 2, ");
    line
}

fn qbittorrent_encrypts(job: &Job<'_>) -> Command {
    let line = qbittorrent_line(job);
    let section = "[BitTorrent]\n";
    let required = format!("{section}Session\\Encryption=1\n");
    job.amend("qBittorrent/config/qBittorrent.conf", section, &required);
    line
}

fn rtorrent_encrypts(job: &Job<'_>) -> Command {
    let line = rtorrent_line(job);
    let first = "system.daemon.set = true\n";
    let rule = "protocol.encryption.set = require,require_RC4,allow_incoming,try_outgoing\n";
    job.amend("rtorrent.rc", first, &format!("{first}{rule}"));
    line
}

fn libtorrent_encrypts(job: &Job<'_>) -> Command {
    let line = libtorrent_line(job);
    // Forced, forced, RC4.
    let rules = "session.apply_settings({'out_enc_policy': 0, 'in_enc_policy': 0, \
                 'allowed_enc_level': 2})\n";
    job.amend("job.py", "for torrent in", &format!("{rules}for torrent in"));
    line
}

impl Job<'_> {
    /// Changes a file that the client is configured by.
    fn amend(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.home.join(name)).unwrap();
        assert!(text.contains(from), "{name}: {text}");
        self.write(name, &text.replacen(from, to, 1));
    }
}

#[test]
#[ignore = "needs real clients: aria2"]
fn aria2_encrypted() {
    trades_encrypted("aria2_encrypted", aria2_encrypts);
}

#[test]
#[ignore = "needs real clients: Transmission"]
fn transmission_encrypted() {
    trades_encrypted("transmission_encrypted", transmission_encrypts);
}

#[test]
#[ignore = "needs real clients: qBittorrent"]
fn qbittorrent_encrypted() {
    trades_encrypted("qbittorrent_encrypted", qbittorrent_encrypts);
}

#[test]
#[ignore = "needs real clients: rtorrent"]
fn rtorrent_encrypted() {
    trades_encrypted("rtorrent_encrypted", rtorrent_encrypts);
}

#[test]
#[ignore = "needs real clients: libtorrent for Python"]
fn libtorrent_encrypted() {
    trades_encrypted("libtorrent_encrypted", libtorrent_encrypts);
}

/// Downloads a file from a client, and seeds it to that: with encryption as by default, and where
/// we insist on it as well.
fn trades_encrypted(name: &str, line: fn(&Job<'_>) -> Command) {
    let Some(network) = Network::join_for(name, HERE) else { return };
    let there = network.place(THERE);
    let scratch = Scratch::new(name);
    let [torrent, _] = torrents();
    let files = [torrent.write_to(scratch.path())];
    let [file] = &files;
    let tracker = track(&there, &scratch, std::slice::from_ref(&torrent));
    let start = |payload: &Path, home: &Path, port| {
        let job = Job { torrents: &files, payload, home, address: THERE, port };
        there.start(home, &line(&job))
    };
    let modes = ["prefer", "require"];
    let encryption = |mode: &str| ["--encryption", mode].map(OsString::from);

    let [payload, home] = ["payload", "home"].map(|dir| directory(scratch.join(dir)));
    torrent.write_payload_to(&payload);
    let client = start(&payload, &home, CLIENT_PORT);
    wait_for_seeder(&torrent, &[&tracker, &client]);
    for mode in modes {
        let out = scratch.join(&format!("from_it_{mode}"));
        let line = ["-vv".into(), file.into(), out.clone().into()];
        let outcome = program::run(encryption(mode).into_iter().chain(line), DOWNLOAD_LIMIT);
        println!("{mode}: exit status {:?} after {:?}", outcome.status, outcome.elapsed);
        assert!(outcome.status == Some(0), "{outcome:#?}\nthe client said:\n{}", client.said());
        torrent.assert_is_in(&out);
        assert_encrypted(&outcome);
    }
    drop(client);

    for (mode, port) in modes.into_iter().zip(CLIENT_PORT + 1..) {
        let line = seeding(file, &payload, PROGRAM_PORT);
        let ours = program::start(encryption(mode).into_iter().chain(line));
        wait_for_seeder(&torrent, &[&tracker]);
        let [out, home] =
            ["to_it", "home"].map(|dir| directory(scratch.join(&format!("{dir}_{mode}"))));
        let (client, began) = (start(&out, &home, port), Instant::now());
        while !is_in(&torrent, &out) {
            if began.elapsed() > UPLOAD_LIMIT {
                panic!("not everything came\n{}\n{:#?}", client.said(), stop(ours));
            }
            thread::sleep(Duration::from_millis(100));
        }
        println!("{mode}: it has everything after {:?}", began.elapsed());
        let outcome = stop(ours);
        outcome.assert_status(0);
        assert_encrypted(&outcome);
    }
}

/// Somebody was connected, and nobody in plain text.
fn assert_encrypted(outcome: &Outcome) {
    let lines = || outcome.stderr.lines();
    assert!(lines().any(|line| line.ends_with(": connected, encrypted")), "{outcome:#?}");
    assert!(!lines().any(|line| line.ends_with(": connected")), "{outcome:#?}");
}

// ---- the local network -------------------------------------------------------------------------

/// A client that finds peers on the local network seeds something, and fetches something that the
/// program seeds; nobody else tells them of each other.
#[test]
#[ignore = "needs real clients: libtorrent for Python"]
fn the_local_network() {
    let name = "the_local_network";
    let Some(network) = Network::join_for(name, HERE) else { return };
    let there = network.place(THERE);
    let scratch = Scratch::new(name);
    let [theirs, ours] = ["theirs", "ours"].map(|name| Torrent::single(name, 5 << 20, 64 << 10));
    let [payload, home, out] = ["payload", "home", "out"].map(|dir| directory(scratch.join(dir)));
    let files = [&theirs, &ours].map(|torrent| torrent.write_to(scratch.path()));
    theirs.write_payload_to(&payload);
    ours.write_payload_to(&out);
    let options = ["-v", "--no-dht", "--seed"].map(OsStr::new);
    let seeder = program::start(options.into_iter().chain([files[1].as_os_str(), out.as_os_str()]));
    let job =
        Job { torrents: &files, payload: &payload, home: &home, address: THERE, port: CLIENT_PORT };
    let line = libtorrent_line(&job);
    job.amend("job.py", "'enable_lsd': False", "'enable_lsd': True");
    let client = there.start(&home, &line);

    let dir = scratch.join("fetched");
    let options = ["-v", "--no-dht"].map(OsStr::new);
    let link = OsString::from(theirs.magnet());
    let line = options.into_iter().chain([link.as_os_str(), dir.as_os_str()]);
    let outcome = program::run(line, SWARM_LIMIT);
    println!("fetched after {:?}", outcome.elapsed);
    assert!(outcome.status == Some(0), "{outcome:#?}\nthe client said:\n{}", client.said());
    theirs.assert_is_in(&dir);
    let members = [Member { name: "libtorrent".to_owned(), payload, daemon: Some(client) }];
    wait_for_all(&members, &[ours], SWARM_LIMIT, None, vec![seeder]);
}

// ---- the DHT -----------------------------------------------------------------------------------

/// Runs of the program that are nodes of it.
const NODES: u16 = 50;
const NODE_PORT: u16 = 7_000;

/// A network of the program's nodes in which each of two clients seeds something, and fetches by
/// link what one of the nodes has; and the program fetches by link what they seed.
#[test]
#[ignore = "needs real clients: aria2 and libtorrent for Python"]
fn the_dht() {
    let name = "the_dht";
    let Some(network) = Network::join_for(name, HERE) else { return };
    let scratch = Scratch::new(name);
    let out = directory(scratch.join("ours"));
    let first = format!("{HERE}:{NODE_PORT}");
    let mut torrents: Vec<Torrent> = Vec::new();
    let nodes: Vec<Running> = (NODE_PORT..NODE_PORT + NODES)
        .map(|port| {
            let torrent = Torrent::single(&format!("of node {port}"), 500_000, 64 << 10);
            let file = torrent.write_to(&out);
            torrent.write_payload_to(&out);
            torrents.push(torrent);
            let port = port.to_string();
            let options = ["--no-lsd", "--seed", "--max-peers", "8", "--port", &port];
            let begin = ["--dht-node", &first];
            let names = [file.as_os_str(), out.as_os_str()];
            program::start(options.iter().chain(&begin).map(OsStr::new).chain(names))
        })
        .collect();
    // Fifty that begin at once keep the machine busy, and know each other only by and by.
    (NODE_PORT..NODE_PORT + NODES).for_each(wait_for_node);

    let clients: [Client; 2] = [("aria2", aria2_in_dht), ("libtorrent", libtorrent_in_dht)];
    let mut daemons = Vec::new();
    for ((client, line), wanted) in clients.iter().zip([10, 40]) {
        let place = network.place(&format!("10.77.0.{}", 10 + daemons.len()));
        let [payload, home] =
            ["payload", "home"].map(|dir| directory(scratch.join(&format!("{client}_{dir}"))));
        let own = Torrent::single(&format!("of {client}"), 500_000, 64 << 10);
        let file = own.write_to(&home);
        own.write_payload_to(&payload);
        let job = Job {
            torrents: &[file, torrents[wanted].magnet().into()],
            payload: &payload,
            home: &home,
            address: place.address(),
            port: CLIENT_PORT,
        };
        let daemon = place.start(&home, &line(&job));
        daemons.push((client, wanted, payload, daemon, place, own));
    }
    let began = Instant::now();
    for (client, wanted, payload, daemon, _, own) in &daemons {
        let dir = scratch.join(&format!("from {client}"));
        let link = own.magnet();
        let options =
            ["-vv", "--no-lsd", "--dht-node", &format!("{HERE}:{}", NODE_PORT + 25), &link];
        let fetched = options.iter().map(OsStr::new).chain([dir.as_os_str()]);
        let outcome = program::run(fetched, SWARM_LIMIT);
        println!("we have what {client} seeds after {:?}", began.elapsed());
        assert!(outcome.status == Some(0), "{outcome:#?}\n{client} said:\n{}", daemon.said());
        own.assert_is_in(&dir);
        let mut missing = Missing::new(&torrents[*wanted], payload);
        while !missing.is_nothing() {
            let late = began.elapsed() > 2 * SWARM_LIMIT;
            assert!(!late, "{client}: {missing}, it said:\n{}", daemon.said());
            thread::sleep(Duration::from_millis(100));
        }
        println!("{client} has what one of us seeds after {:?}", began.elapsed());
    }
    nodes.into_iter().map(stop).for_each(|outcome| outcome.assert_status(0));
}

/// Returns once the node at this port knows a bucket of others.
fn wait_for_node(port: u16) {
    let socket = UdpSocket::bind((HERE, 0)).unwrap();
    socket.connect((HERE, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    let began = Instant::now();
    let id = "20:abcdefghij0123456789";
    let query = format!("d1:ad2:id{id}6:target{id}e1:q9:find_node1:t2:aa1:y1:qe");
    let knows_eight = || -> io::Result<bool> {
        let mut answer = [0; 1500];
        socket.send(query.as_bytes())?;
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).contains("5:nodes208:"))
    };
    while !knows_eight().unwrap_or(false) {
        assert!(began.elapsed() < SWARM_LIMIT, "the node at port {port} knows too few");
        thread::sleep(Duration::from_millis(250));
    }
}

fn aria2_in_dht(job: &Job<'_>) -> Command {
    let mut line = aria2_line(job);
    line.arg(format!("--dht-entry-point={HERE}:{NODE_PORT}"));
    line
}

fn libtorrent_in_dht(job: &Job<'_>) -> Command {
    let line = libtorrent_line(job);
    // It hears nothing more from an address of which much has come, and all our nodes have one.
    let entry = format!(
        "'enable_dht': True, 'dht_bootstrap_nodes': '{HERE}:{NODE_PORT}', \
         'dht_announce_interval': 10, 'dht_restrict_routing_ips': False, \
         'dht_restrict_search_ips': False, 'dht_block_ratelimit': 10000"
    );
    job.amend("job.py", "'enable_dht': False", &entry);
    line
}

// ---- torrents of ours --------------------------------------------------------------------------

/// Makes a torrent of the files below `top` that it is given, and prints its info-hash.
const LIBTORRENT_CREATE: &str = "\
import sys, os
import libtorrent as lt

top, piece_length, *files = sys.argv[1:]
entries = [lt.create_file_entry(file, os.path.getsize(os.path.join(top, file))) for file in files]
torrent = lt.create_torrent(entries, int(piece_length), lt.create_torrent.v1_only)
lt.set_piece_hashes(torrent, top)
print(lt.torrent_info(torrent.generate()).info_hashes().v1)
";

#[test]
#[ignore = "needs real clients: aria2, Transmission and libtorrent for Python"]
fn what_we_make_is_what_they_make() {
    let scratch = Scratch::new("made");
    for torrent in torrents() {
        let length = torrent.payload.piece_length.to_string();
        torrent.write_payload_to(scratch.path());
        let (path, made) = (scratch.join(&torrent.name), scratch.join("made.torrent"));
        let own = |options: &[&str]| {
            let _another = fs::remove_file(&made);
            let arguments = ["-q", "--piece-length", &length, "--create"].map(OsString::from);
            let places = [path.clone().into(), made.clone().into()];
            let options = options.iter().map(OsString::from);
            let arguments = arguments.into_iter().chain(places).chain(options);
            let outcome = program::run(arguments, DOWNLOAD_LIMIT);
            outcome.assert_status(0);
            outcome.stdout.trim().to_owned()
        };
        let hash = own(&["--tracker", "http://a.example/x", "--tracker", "udp://b.example:1"]);
        let said =
            output(client("transmission-show", "apt-get install transmission-cli").arg(&made));
        for part in [&format!("Hash: {hash}"), "Tier #2", "udp://b.example:1"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = output(client("aria2c", "apt-get install aria2").arg("-S").arg(&made));
        for part in [&format!("Info Hash: {hash}"), "http://a.example/x", &torrent.name] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let script = scratch.join("create.py");
        fs::write(&script, LIBTORRENT_CREATE).unwrap();
        let metainfo = Metainfo::parse(&fs::read(&made).unwrap()).unwrap();
        let files = metainfo.files.iter().map(|file| file.path.as_os_str());
        let mut libtorrent = client("python3", "apt-get install python3");
        libtorrent.arg(script).arg(scratch.path()).arg(&length).args(files);
        assert_eq!(output(&mut libtorrent).trim(), hash);
        // Transmission leaves out empty files, and says of every torrent whether it is private.
        let _none_of_it = fs::remove_file(path.join("empty"));
        let _none_of_it = fs::remove_file(path.join("small/0.bin"));
        let hash = own(&["--private"]);
        let (theirs, kib) = (scratch.join("theirs.torrent"), torrent.payload.piece_length >> 10);
        let mut create = client("transmission-create", "apt-get install transmission-cli");
        create.args(["-p", "-s", &kib.to_string(), "-t", "http://a.example/x", "-o"]);
        output(create.arg(&theirs).arg(&path));
        let theirs = Metainfo::parse(&fs::read(&theirs).unwrap()).unwrap();
        assert_eq!(theirs.info_hash.to_string(), hash);
    }
}

/// What a command says that ends well.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
