//! The clients, and how each of them is told to seed: with its defaults, but without what would look
//! for other peers, and with an upload slot for each leecher where it has an option for that.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a client is to seed, and where it may write.
pub struct Job<'a> {
    pub torrent: &'a Path,
    /// The directory that the file is in.
    pub payload: &'a Path,
    /// The client's own directory, empty.
    pub home: &'a Path,
    /// Where it is to listen.
    pub port: u16,
    /// Upload slots that it should have, and peers.
    pub slots: usize,
}

impl Job<'_> {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

/// A client.
pub struct Client {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The executable.
    program: fn() -> OsString,
    /// Arguments with which it says its version.
    version: &'static [&'static str],
    line: fn(&Job<'_>, &mut Command),
}

/// All of them, ours first.
pub const ALL: [Client; 8] = [
    Client {
        name: "rusty_torrent",
        program: || env!("CARGO_BIN_EXE_rusty_torrent").into(),
        version: &["--version"],
        line: ours,
    },
    Client {
        name: "RUSTY_TORRENT_BIN",
        program: || env::var_os("RUSTY_TORRENT_BIN").unwrap_or_default(),
        version: &["--version"],
        line: ours,
    },
    Client {
        name: "libtorrent",
        program: || "python3".into(),
        version: &["-c", "import libtorrent; print(libtorrent.__version__)"],
        line: libtorrent,
    },
    Client {
        name: "transmission",
        program: || "transmission-daemon".into(),
        version: &["--version"],
        line: transmission,
    },
    Client {
        name: "qbittorrent",
        program: || "qbittorrent-nox".into(),
        version: &["--version"],
        line: qbittorrent,
    },
    Client { name: "rtorrent", program: || "rtorrent".into(), version: &["-h"], line: rtorrent },
    Client { name: "aria2", program: || "aria2c".into(), version: &["--version"], line: aria2 },
    Client { name: "rqbit", program: || "rqbit".into(), version: &["--version"], line: rqbit },
];

impl Client {
    /// Its version; `None` if it is not installed.
    pub fn version(&self) -> Option<String> {
        let home = env::temp_dir();
        let told = Command::new((self.program)()).args(self.version).env("HOME", home).output();
        let told = told.ok().filter(|told| told.status.success())?;
        let told = [told.stdout, told.stderr].concat();
        let text = String::from_utf8_lossy(&told).into_owned();
        // The first word with a number like 1.2 in it.
        let is_version =
            |word: &&str| word.contains('.') && word.contains(|c: char| c.is_numeric());
        let mut words = text.split_whitespace().map(|word| word.trim_start_matches('v'));
        let word = words.find(is_version)?;
        Some(word.trim_end_matches(['.', ',']).to_owned())
    }

    /// The command that seeds.
    pub fn line(&self, job: &Job<'_>) -> Command {
        let mut line = Command::new((self.program)());
        (self.line)(job, &mut line);
        line
    }
}

/// It makes its slots itself, as many as `policy::choker::slots` says.
fn ours(job: &Job<'_>, line: &mut Command) {
    line.args(["--quiet", "--seed", "--port", &job.port.to_string()]);
    line.arg(job.torrent).arg(job.payload);
}

const LIBTORRENT_SCRIPT: &str = "\
import sys
import libtorrent as lt

interface, slots, payload, torrent = sys.argv[1:]
session = lt.session({'listen_interfaces': interface, 'enable_dht': False, 'enable_lsd': False,
                      'enable_upnp': False, 'enable_natpmp': False, 'alert_mask': 0,
                      'unchoke_slots_limit': int(slots)})
params = lt.load_torrent_file(torrent)
params.save_path = payload
session.add_torrent(params)
while True:
    session.wait_for_alert(60000)
    session.pop_alerts()
";

fn libtorrent(job: &Job<'_>, line: &mut Command) {
    line.arg(job.write("seed.py", LIBTORRENT_SCRIPT)).arg(format!("0.0.0.0:{}", job.port));
    line.arg(job.slots.to_string()).arg(job.payload).arg(job.torrent);
}

fn transmission(job: &Job<'_>, line: &mut Command) {
    let watched = job.home.join("watched");
    fs::create_dir(&watched).unwrap();
    fs::copy(job.torrent, watched.join("it.torrent")).unwrap();
    let settings = format!(
        "{{\"download-dir\": \"{}\", \"watch-dir\": \"{}\", \"watch-dir-enabled\": true, \
         \"peer-port\": {}, \"upload-slots-per-torrent\": {slots}, \
         \"peer-limit-per-torrent\": {slots}, \
         \"rpc-enabled\": false, \"dht-enabled\": false, \"lpd-enabled\": false, \
         \"pex-enabled\": false, \"utp-enabled\": false, \"port-forwarding-enabled\": false}}",
        job.payload.display(),
        watched.display(),
        job.port,
        slots = job.slots,
    );
    job.write("settings.json", &settings);
    line.args(["--foreground", "--config-dir"]).arg(job.home);
}

fn qbittorrent(job: &Job<'_>, line: &mut Command) {
    let settings = format!(
        "[LegalNotice]\nAccepted=true\n[BitTorrent]\nSession\\Port={}\n\
         Session\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\n\
         Session\\MaxUploads=-1\nSession\\MaxUploadsPerTorrent=-1\n\
         [Preferences]\nWebUI\\UseUPnP=false\n[Network]\nPortForwardingEnabled=false\n",
        job.port,
    );
    job.write("qBittorrent/config/qBittorrent.conf", &settings);
    line.arg(format!("--profile={}", job.home.display()))
        .arg(format!("--save-path={}", job.payload.display()))
        .arg("--add-paused=false")
        .arg(job.torrent);
}

fn rtorrent(job: &Job<'_>, line: &mut Command) {
    let session = job.home.join("session");
    fs::create_dir(&session).unwrap();
    let settings = format!(
        "system.daemon.set = true\ndirectory.default.set = \"{}\"\nsession.path.set = \"{}\"\n\
         network.port_range.set = {port}-{port}\nnetwork.port_random.set = no\n\
         dht.mode.set = disable\nprotocol.pex.set = no\n\
         throttle.max_uploads.set = {slots}\nthrottle.max_uploads.global.set = {slots}\n\
         throttle.max_peers.normal.set = {slots}\nthrottle.max_peers.seed.set = {slots}\n\
         load.start = \"{}\"\n",
        job.payload.display(),
        session.display(),
        job.torrent.display(),
        port = job.port,
        slots = job.slots,
    );
    let settings = job.write("rtorrent.rc", &settings);
    line.args(["-n", "-o"]).arg(format!("import={}", settings.display()));
}

/// It has no option for upload slots.
fn aria2(job: &Job<'_>, line: &mut Command) {
    line.args(["--no-conf", "--seed-ratio=0", "--check-integrity=true", "--enable-dht=false"])
        .args(["--enable-dht6=false", "--bt-enable-lpd=false", "--disable-ipv6=true"])
        .args(["--enable-peer-exchange=false", "--show-console-readout=false"])
        .arg(format!("--bt-max-peers={}", job.slots))
        .arg(format!("--listen-port={}", job.port))
        .arg(format!("--dir={}", job.payload.display()))
        .arg(job.torrent);
}

/// It lets everybody ask.
fn rqbit(job: &Job<'_>, line: &mut Command) {
    line.args(["-v", "error", "--disable-dht", "--disable-dht-persistence", "--disable-lsd"])
        .args(["--disable-upnp-port-forward", "--listen-ip", "0.0.0.0", "--listen-port"])
        .arg(job.port.to_string())
        .args(["download", "--disable-http-api", "--overwrite", "-o"])
        .arg(job.payload)
        .arg(job.torrent);
}
