//! Owns the command that is run when everything is there.
//!
//! Once the process has shut itself in it can execute nothing. So a shell is started before that. It
//! waits to be told what the command is to know of a torrent, line by line, runs the command, says how
//! it ended, and waits for the next torrent. When the run ends, or is killed, what it reads ends
//! without the last, empty line, and it ends as well.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use crossbeam_channel::{Receiver, bounded, never, select};
use log::{debug, info, warn};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::Fatal;
use crate::limits::{HOOK_ANSWER_MAX_BYTES, HOOK_NAMES_MAX_BYTES, HOOK_STACK_BYTES};

const SHELL: &str = "/bin/sh";
/// Names may have anything in them but line ends; nothing of them is ever taken for a command. It
/// answers twice for each torrent: an empty line when a signal would reach the command, and its status.
/// A signal does not end the shell itself, so that a command may take its time to end, and what it
/// would say of that is said by us.
const WAIT: &str = r#"
export RT_INFO_HASH RT_NAME RT_DOWNLOADED RT_FILE_COUNT RT_FILES
exec 3>&2 2>/dev/null
trap : HUP INT QUIT TERM
while IFS= read -r RT_INFO_HASH && IFS= read -r RT_NAME && IFS= read -r RT_DOWNLOADED &&
    IFS= read -r RT_FILE_COUNT && IFS= read -r path
do
    RT_FILES=
    while [ -n "$path" ]; do
        RT_FILES=$RT_FILES$path'
'
        IFS= read -r path || exit 1
    done
    (echo; exec /bin/sh -c "$1" sh </dev/null >&3 2>&3 3>&-)
    echo "$?"
done
"#;

/// A command that waits for its time. It ends, unrun, when it is dropped.
pub struct Hook {
    shell: Child,
    /// What it says, as long as it can be believed.
    answers: Option<BufReader<ChildStdout>>,
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
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let mut shell = Command::new(SHELL);
        shell.args(["-c", WAIT, "sh"]).arg(command);
        shell.env("RT_DIR", dir).env("RT_STATUS", "0");
        // In a group of its own it can be ended with all that it starts.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().map_err(refused)?;
        let answers = shell.stdout.take().map(BufReader::new);
        Ok(Self { shell, answers })
    }

    /// Runs it: it is told these things, and as many of the paths, which are below the directory, as
    /// there is room for.
    pub fn run<'a>(mut self, told: &Told<'_>, paths: impl Iterator<Item = &'a Path>) -> Running {
        let lines = lines(told, paths);
        // One that has ended is found out below.
        let told = self.shell.stdin.as_mut().map(|pipe| pipe.write_all(lines.as_bytes()));
        debug!("the command is told of {} bytes: {told:?}", lines.len());
        Running(self)
    }

    /// What the shell says next, a line without its end. Nothing, if it is gone or says too much.
    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        let answers = self.answers.as_mut()?;
        answers.take(HOOK_ANSWER_MAX_BYTES).read_line(&mut line).ok()?;
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// What the shell says next. Until then a signal for us is passed on to all that it started.
    fn answer_or_signal(&mut self, mut signals: Receiver<()>) -> Option<String> {
        let group = i32::try_from(self.shell.id()).ok().and_then(Pid::from_raw);
        let answer = thread::scope(|scope| {
            let (answered, answer) = bounded(1);
            let hook = &mut *self;
            let wait = move || {
                let _heard = answered.send(hook.answer());
            };
            let waiting = thread::Builder::new().name("hook".into()).stack_size(HOOK_STACK_BYTES);
            waiting.spawn_scoped(scope, wait)?;
            loop {
                select! {
                    recv(answer) -> answer => return Ok(answer.unwrap_or_default()),
                    recv(signals) -> signal => match (signal, group) {
                        (Ok(()), Some(group)) => {
                            info!("the command of --on-complete is asked to end");
                            let _gone = kill_process_group(group, Signal::TERM);
                        }
                        _ => signals = never(),
                    }
                }
            }
        });
        answer.unwrap_or_else(|error: io::Error| {
            warn!("no signal is passed on to the command: can't start a thread: {error}");
            self.answer()
        })
    }

    /// The shell is of no use any more. Waits for its end.
    fn lost(&mut self) -> io::Error {
        self.answers = None;
        drop(self.shell.stdin.take());
        match self.shell.wait() {
            Ok(status) => io::Error::other(format!("its shell has ended, {status}")),
            Err(error) => error,
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It has nothing to do but to end.
        let _reaped = self.shell.wait();
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
    /// Waits for its end. A signal for us is passed on to it. It can be run again, for another torrent.
    ///
    /// # Errors
    /// It failed.
    pub fn wait(self, signals: &Receiver<()>) -> (Hook, Result<(), Fatal>) {
        let Self(mut hook) = self;
        // Before it has begun a signal would be lost.
        let begun = hook.answer().is_some_and(|line| line.is_empty());
        let answer = if begun { hook.answer_or_signal(signals.clone()) } else { None };
        let status = answer.and_then(|answer| answer.parse::<u8>().ok());
        let judged = match status {
            Some(0) => Ok(()),
            Some(status) => Err(said_of(status)),
            None => Err(format!("can't be waited for: {}", hook.lost())),
        };
        (hook, judged.map_err(Fatal::Hook))
    }
}

/// What a shell's `$?` is said as. More than 128 may be a signal, as far as there are any (sh(1)).
fn said_of(status: u8) -> String {
    match status {
        129..=192 => format!("failed with status {status} (signal {})", status - 128),
        _ => format!("failed with status {status}"),
    }
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
        let said = |status| Fatal::Hook(said_of(status)).to_string();
        let begin = "everything is there, but the command of --on-complete failed with status ";
        for status in [1, 126, 127, 128, 193, 255] {
            assert_eq!(said(status), format!("{begin}{status}"));
        }
        for (status, signal) in [(129, 1), (137, 9), (143, 15), (192, 64)] {
            assert_eq!(said(status), format!("{begin}{status} (signal {signal})"));
        }
    }
}
