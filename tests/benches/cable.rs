//! Two network namespaces and a cable between them: this process's, where the leechers are, each at
//! an address of its own, and one for the client. Many clients let in one peer an address, and some
//! none from 127.0.0.0/8.

use std::env;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Set for the second run, inside the network.
const INSIDE: &str = "RUSTY_TORRENT_BENCH_NETWORK";
/// Where the client is.
pub const THERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const CARRIER_LIMIT: Duration = Duration::from_secs(10);

/// Where leecher number `number` comes from.
pub fn here(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, number as u8)
}

/// Runs this program again, with a network and processes of its own, of which nothing is left
/// behind; `None` if this is that run.
pub fn entered_by_itself() -> Option<ExitCode> {
    if env::var_os(INSIDE).is_some() {
        return None;
    }
    let status = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(env::current_exe().unwrap())
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .expect("unshare is missing: apt-get install util-linux");
    if !status.success() {
        println!("{status}; root is needed, for a network of its own");
    }
    Some(ExitCode::from(u8::from(!status.success())))
}

/// The other namespace lives as long as this.
pub struct Network {
    holder: Child,
}

impl Network {
    /// Leechers 0 to `leechers - 1` can come.
    pub fn new(leechers: usize) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo; exec cat"]);
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut byte = [0];
        holder.stdout.as_mut().unwrap().read_exact(&mut byte).expect("root is needed");
        let network = Self { holder };
        let holder = network.holder.id();
        let ip = |line: &str| {
            let mut command = Command::new("ip");
            run(command.args(line.split(' ')));
        };
        let ip_there = |line: &str| run(network.inside("ip").args(line.split(' ')));
        ip("link set lo up");
        ip(&format!("link add here type veth peer name there netns {holder}"));
        (0..leechers).for_each(|number| ip(&format!("addr add {}/16 dev here", here(number))));
        ip("link set here up");
        ip_there("link set lo up");
        ip_there(&format!("addr add {THERE}/16 dev there"));
        ip_there("link set there up");
        // One that paces itself, as BBR does, is noisy on a link as fast as this.
        let reno = "echo reno >/proc/sys/net/ipv4/tcp_congestion_control";
        run(network.inside("sh").args(["-c", reno]));
        network.wait_for_carrier();
        network
    }

    /// The kernel takes a moment to say that a cable is plugged in at both ends, and qBittorrent
    /// never listens on an interface that it found without.
    fn wait_for_carrier(&self) {
        let until = Instant::now() + CARRIER_LIMIT;
        loop {
            let mut look = self.inside("ip");
            let seen = look.args(["-o", "link", "show", "there"]).output().expect("iproute2");
            if String::from_utf8_lossy(&seen.stdout).contains("state UP") {
                return;
            }
            assert!(Instant::now() < until, "no carrier: {seen:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", program]);
        command
    }

    /// Starts a program on the other side, at home in `home`.
    pub fn start(&self, home: &Path, line: &Command) -> Daemon {
        let mut command = self.inside(line.get_program().to_str().unwrap());
        command.args(line.get_args()).current_dir(home);
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
            command.env(variable, home);
        }
        let log = home.join("log");
        let output = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        Daemon { child: command.spawn().expect("nsenter"), log }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _reaped = self.holder.wait();
    }
}

fn run(command: &mut Command) {
    let status = command.status();
    let done = status.as_ref().is_ok_and(|status| status.success());
    assert!(done, "{command:?}: {status:?}; iproute2 and root are needed");
}

/// A program on the other side. It ends when it is dropped, or with the namespace.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The end of what it said.
    pub fn said(&self) -> String {
        let said = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&said[said.len().saturating_sub(2_000)..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Where a client on the other side listens.
pub fn at(port: u16) -> SocketAddr {
    (THERE, port).into()
}
