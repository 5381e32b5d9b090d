//! Owns the command that is run when everything is there.
//!
//! Once the process has shut itself in it can execute nothing. So a shell is started before that. It
//! waits to be told what the command is to know, line by line, and becomes the command then. When
//! the run ends otherwise, or is killed, what it reads ends without the last, empty line, and it ends
//! as well.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use crossbeam_channel::{Receiver, bounded, never, select};
use log::{debug, info};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::Fatal;
use crate::limits::{HOOK_NAMES_MAX_BYTES, HOOK_STACK_BYTES};

const SHELL: &str = "/bin/sh";
/// Names may have anything in them but line ends; nothing of them is ever taken for a command.
const WAIT: &str = r#"
IFS= read -r RT_INFO_HASH && IFS= read -r RT_NAME && IFS= read -r RT_DOWNLOADED &&
IFS= read -r RT_FILE_COUNT || exit 1
RT_FILES=
while IFS= read -r path; do
    if [ -n "$path" ]; then
        RT_FILES=$RT_FILES$path'
'
    else
        export RT_INFO_HASH RT_NAME RT_DOWNLOADED RT_FILE_COUNT RT_FILES
        exec /bin/sh -c "$1" sh </dev/null
    fi
done
exit 1
"#;

/// A command that waits for its time. It ends, unrun, when it is dropped.
pub struct Hook {
    child: Child,
}

/// What the command is told besides the directory.
pub struct Told<'a> {
    /// As hexadecimal digits.
    pub info_hash: String,
    /// Of the torrent.
    pub name: &'a str,
    /// Bytes that came in this run.
    pub downloaded: u64,
    /// How many files there are.
    pub count: usize,
}

impl Hook {
    /// Gets it ready: `command`, as a shell has it, and the directory that the files are in.
    ///
    /// # Errors
    /// There is no shell, or it can't be started.
    pub fn prepare(command: &str, dir: &Path) -> Result<Self, Fatal> {
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                Fatal::Usage(format!("--on-complete needs {SHELL}: {error}"))
            }
            _ => Fatal::System("start the shell of --on-complete", error),
        };
        // Standard output has results in it, and nothing else.
        let out = io::stderr().as_fd().try_clone_to_owned().map_err(refused)?;
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let mut shell = Command::new(SHELL);
        shell.args(["-c", WAIT, "sh"]).arg(command);
        shell.env("RT_DIR", dir).env("RT_STATUS", "0");
        // In a group of its own it can be ended with all that it starts.
        shell.process_group(0).stdin(Stdio::piped()).stdout(out);
        Ok(Self { child: shell.spawn().map_err(refused)? })
    }

    /// Runs it: it is told these things, and as many of the paths, which are below the directory, as
    /// there is room for.
    pub fn run<'a>(mut self, told: &Told<'_>, paths: impl Iterator<Item = &'a Path>) -> Running {
        let lines = lines(told, paths);
        // One that has ended is found out below.
        let told = self.child.stdin.take().map(|mut pipe| pipe.write_all(lines.as_bytes()));
        debug!("the command is told of {} bytes: {told:?}", lines.len());
        Running(self)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It has nothing to do but to end.
        let _reaped = self.child.wait();
    }
}

/// What is told, a line each. Paths have no line ends: names from strangers are made safe.
fn lines<'a>(told: &Told<'_>, paths: impl Iterator<Item = &'a Path>) -> String {
    let Told { info_hash, name, downloaded, count } = told;
    let mut lines = format!("{info_hash}\n{name}\n{downloaded}\n{count}\n");
    let begin = lines.len();
    for path in paths {
        let path = path.to_string_lossy();
        if lines.len() - begin + path.len() + 1 > HOOK_NAMES_MAX_BYTES {
            break;
        }
        lines.push_str(&path);
        lines.push('\n');
    }
    lines.push('\n');
    lines
}

/// The command is running.
pub struct Running(Hook);

impl Running {
    /// Waits for its end. A signal for us is passed on to it.
    ///
    /// # Errors
    /// It failed.
    pub fn wait(self, signals: &Receiver<()>) -> Result<(), Fatal> {
        let Self(mut hook) = self;
        let mut signals = signals.clone();
        let group = i32::try_from(hook.child.id()).ok().and_then(Pid::from_raw);
        let (ended, end) = bounded(1);
        let wait = move || {
            let _heard = ended.send(hook.child.wait());
        };
        let waiting = thread::Builder::new().name("hook".into()).stack_size(HOOK_STACK_BYTES);
        waiting.spawn(wait).map_err(|error| Fatal::System("start a thread", error))?;
        loop {
            select! {
                recv(end) -> end => {
                    let end = end.unwrap_or_else(|_| Err(io::Error::other("a thread died")));
                    return judge(end);
                }
                recv(signals) -> signal => match (signal, group) {
                    (Ok(()), Some(group)) => {
                        info!("the command of --on-complete is asked to end");
                        let _gone = kill_process_group(group, Signal::TERM);
                    }
                    _ => signals = never(),
                }
            }
        }
    }
}

fn judge(end: io::Result<ExitStatus>) -> Result<(), Fatal> {
    let why = match end {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("failed with status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "failed".to_owned(),
        },
        Err(error) => format!("can't be waited for: {error}"),
    };
    Err(Fatal::Hook(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_do_not_fit_are_left_out_whole() {
        let told = Told { info_hash: "ab".to_owned(), name: "n", downloaded: 5, count: 2 };
        let few = ["n/a b", "n/c"].map(Path::new);
        assert_eq!(lines(&told, few.into_iter()), "ab\nn\n5\n2\nn/a b\nn/c\n\n");
        assert_eq!(lines(&told, [].into_iter()), "ab\nn\n5\n2\n\n");
        let long = "x".repeat(99);
        let many = lines(&told, (0..10_000).map(|_| Path::new(&long)));
        assert!(many.len() <= HOOK_NAMES_MAX_BYTES + 20);
        assert!(many.ends_with(&format!("\n{long}\n\n")));
    }

    #[test]
    fn how_it_ended_is_said() {
        let end = |raw| judge(Ok(ExitStatus::from_raw(raw)));
        assert!(end(0).is_ok());
        let said = |raw| end(raw).unwrap_err().to_string();
        assert_eq!(
            said(3 << 8),
            "everything is there, but the command of --on-complete failed with status 3"
        );
        assert_eq!(
            said(15),
            "everything is there, but the command of --on-complete was ended by signal 15"
        );
    }
}
