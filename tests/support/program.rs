//! The built program, run as a user runs it, with a time limit that no test can pass.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The executable: the one cargo built, or what `RUSTY_TORRENT_BIN` names.
pub fn path() -> PathBuf {
    env::var_os("RUSTY_TORRENT_BIN")
        .or_else(|| option_env!("CARGO_BIN_EXE_rusty_torrent").map(Into::into))
        .map(PathBuf::from)
        .expect("only an integration test has the program")
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// `None` if a signal ended it, the time limit's among them.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
    pub timed_out: bool,
}

impl Outcome {
    /// Panics, with everything that was said, unless it ended with this status.
    #[track_caller]
    pub fn assert_status(&self, status: i32) {
        assert!(self.status == Some(status), "not status {status}: {self:#?}");
    }
}

/// What a process has taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Used {
    /// Bytes of memory that no file is behind.
    pub anonymous: u64,
    /// Processor time, the kernel's on its behalf included.
    pub worked: Duration,
}

impl Used {
    /// By a process that runs. One that has ended has nothing.
    fn by(process: u32) -> Self {
        // Linux tells times to everybody in hundredths of a second.
        const TICK: Duration = Duration::from_millis(10);
        let about =
            |what: &str| fs::read_to_string(format!("/proc/{process}/{what}")).unwrap_or_default();
        let status = about("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        // Behind the name, which is in brackets, the 12th and 13th are user and system time.
        let stat = about("stat");
        let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = times.skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
        Self { anonymous: kib.unwrap_or(0) * 1024, worked: TICK.saturating_mul(ticks) }
    }

    /// The most of both.
    fn most(self, other: Self) -> Self {
        Self {
            anonymous: self.anonymous.max(other.anonymous),
            worked: self.worked.max(other.worked),
        }
    }
}

/// A run under way. It is killed when it is dropped.
pub struct Running {
    child: Child,
    began: Instant,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

/// Starts the program with these arguments.
pub fn start(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Running {
    start_as(Command::new(path()), arguments)
}

/// Starts it from a shell, whose `script` ends with `exec "$@"`. `$0` is `zero`.
pub fn start_from(
    script: &str,
    zero: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(zero).arg(path());
    start_as(command, arguments)
}

/// A script that lets the program have so many descriptors, and those that the test's own parents left open.
pub fn descriptors(limit: usize) -> String {
    // Those below 20, less the three streams and the one with which `ls` looks.
    let others = "$(ls /proc/self/fd | grep -cE '^1?[0-9]$') - 4";
    format!("ulimit -n $(({limit} + {others})); exec \"$@\"")
}

/// Starts what `command` says, the program or another one that runs it, with these arguments behind
/// its own.
pub fn start_as(
    mut command: Command,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Running {
    command.args(arguments).stdin(Stdio::null());
    // A proxy of the machine's would come between the program and the test's tracker.
    for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(variable).env_remove(variable.to_lowercase());
    }
    // Nor does it know what whoever runs the tests likes, but what the test itself says.
    for (variable, _) in env::vars_os() {
        let ours = variable.as_encoded_bytes().starts_with(b"RUSTY_TORRENT_");
        if ours && command.get_envs().all(|(said, _)| said != variable) {
            command.env_remove(variable);
        }
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    Running {
        child,
        began: Instant::now(),
        stdout: Some(read_all(stdout)),
        stderr: Some(read_all(stderr)),
    }
}

/// Runs the program to its end.
pub fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, limit: Duration) -> Outcome {
    start(arguments).wait(limit)
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _cut = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Running {
    /// Sends `TERM` or `INT`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success(), "{kill}: {status}");
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// How often its threads have gone to sleep until now, those that have ended aside.
    pub fn sleeps(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap().flatten();
        let of = |thread: fs::DirEntry| {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        threads.map(of).sum()
    }

    /// What it has taken so far.
    pub fn used(&self) -> Used {
        Used::by(self.id())
    }

    /// Waits for the end, as below, looking all the time at what it takes. Returns the most.
    pub fn watch(mut self, limit: Duration) -> (Outcome, Used) {
        let mut most = Used::default();
        while self.is_running() && self.began.elapsed() <= limit {
            most = most.most(self.used());
            thread::sleep(Duration::from_millis(2));
        }
        (self.wait(limit), most)
    }

    /// Waits for the end; past the limit, which counts from the start, it is killed.
    pub fn wait(mut self, limit: Duration) -> Outcome {
        let mut timed_out = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.began.elapsed() > limit && !timed_out {
                timed_out = true;
                let _gone = self.child.kill();
            }
            thread::sleep(Duration::from_millis(2));
        };
        let elapsed = self.began.elapsed();
        let text = |reader: &mut Option<JoinHandle<String>>| reader.take().unwrap().join().unwrap();
        let (stdout, stderr) = (text(&mut self.stdout), text(&mut self.stderr));
        Outcome { status: status.code(), stdout, stderr, elapsed, timed_out }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
