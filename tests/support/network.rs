//! A network of a program's own, with a process tree of its own, and places with an address each: in
//! a test around a bridge. It needs root and iproute2.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::scratch::Scratch;

/// Set for the second run of a test, inside the network.
const INSIDE: &str = "RUSTY_TORRENT_TEST_NETWORK";
const CARRIER_LIMIT: Duration = Duration::from_secs(10);

/// Where this process is: at the bridge.
pub struct Network(());

impl Network {
    /// The test `name` has one in which it is at `address`, or is run again with one and is over
    /// then.
    pub fn join_for(name: &str, address: &str) -> Option<Self> {
        if let Some(command) = again() {
            run_inside(command, name);
            return None;
        }
        for line in [
            "link set lo up",
            "link add bridge0 type bridge",
            &format!("addr add {address}/24 dev bridge0"),
            "link set bridge0 up",
        ] {
            ip(Command::new("ip"), line);
        }
        Some(Self(()))
    }

    /// Adds a place.
    pub fn place(&self, address: &str) -> Place {
        let mut place = Place::new();
        address.clone_into(&mut place.address);
        let cable = format!("to{}", place.holder.id());
        place.plug_in(&cable, &format!("{address}/24"));
        ip(Command::new("ip"), &format!("link set {cable} master bridge0 up"));
        place.wait_for_carrier();
        place
    }
}

/// Runs this program again with a network and processes of its own, of which nothing is left
/// behind; `None` if this is that run.
pub fn again() -> Option<Command> {
    if env::var_os(INSIDE).is_some() {
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(env::current_exe().unwrap()).env(INSIDE, "1");
    Some(command)
}

/// Runs a test so.
fn run_inside(mut command: Command, name: &str) {
    // Process numbers begin anew there, and what is left behind goes with this.
    let scratch = Scratch::new(name);
    let status = command
        .args(["--ignored", "--exact", name, "--nocapture"])
        .env("TMPDIR", scratch.path())
        .status()
        .expect("unshare is missing: apt-get install util-linux");
    // 101 is a failed test's; what else there is comes from unshare.
    assert!(status.code() != Some(101), "{name} failed, see above");
    assert!(status.success(), "{name}: {status}; root is needed, for a network of its own");
}

/// Runs `ip`, here or at a place, with these arguments.
pub fn ip(mut command: Command, line: &str) {
    let status = command.args(line.split(' ')).status();
    let done = status.as_ref().is_ok_and(|status| status.success());
    assert!(done, "{command:?}: {status:?}; iproute2 and root are needed");
}

/// A network namespace.
pub struct Place {
    address: String,
    holder: Child,
}

impl Place {
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A place without a cable.
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo; exec cat"]);
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut byte = [0];
        holder.stdout.as_mut().unwrap().read_exact(&mut byte).expect("root is needed");
        Self { address: String::new(), holder }
    }

    /// Lays a cable whose other end, out here, is called `cable`; `network` is the address at this
    /// end and the length of its prefix.
    pub fn plug_in(&self, cable: &str, network: &str) {
        let holder = self.holder.id();
        let pair = format!("link add {cable} type veth peer name here netns {holder}");
        ip(Command::new("ip"), &pair);
        let address = format!("addr add {network} dev here");
        for line in ["link set lo up", &address, "link set here up"] {
            ip(self.inside("ip"), line);
        }
    }

    /// The kernel takes a moment to say that a cable is plugged in at both ends, and qBittorrent
    /// never listens on an interface that it found without.
    pub fn wait_for_carrier(&self) {
        let until = Instant::now() + CARRIER_LIMIT;
        loop {
            let mut look = self.inside("ip");
            let seen = look.args(["-o", "link", "show", "here"]).output().expect("iproute2");
            if String::from_utf8_lossy(&seen.stdout).contains("state UP") {
                return;
            }
            assert!(Instant::now() < until, "no carrier: {seen:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A command that runs a program here, with the arguments that are added.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net"]).arg(program);
        command
    }

    /// Starts a program here, at home in `home`.
    pub fn start(&self, home: &Path, line: &Command) -> Daemon {
        let mut command = self.inside(line.get_program());
        command.args(line.get_args()).current_dir(line.get_current_dir().unwrap_or(home));
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
            command.env(variable, home);
        }
        let log = home.join("log");
        let output = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        Daemon { child: command.spawn().expect("nsenter"), log }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _reaped = self.holder.wait();
    }
}

/// A program at some place. It ends when it is dropped, or with the test's processes.
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
        // qBittorrent keeps its log to itself.
        let own = self.log.with_file_name("qBittorrent").join("data/logs/qbittorrent.log");
        let mut said = fs::read(&self.log).unwrap_or_default();
        said.extend(fs::read(own).unwrap_or_default());
        String::from_utf8_lossy(&said[said.len().saturating_sub(8_000)..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
