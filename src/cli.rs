//! What is done with what was typed, what is said at the end, and the exit status.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::Once;

use log::LevelFilter;
use rustix::fs::Mode;
use rustix::process::umask;
use simplelog::{CombinedLogger, ConfigBuilder, SharedLogger, WriteLogger};

use crate::arguments::{Arguments, Command, Making, parse, wants_json};
use crate::completions::completions;
use crate::course::fetch_named;
use crate::create::create;
use crate::error::{Fatal, Status};
use crate::help;
use crate::json_lines::{Ending, end_record};
use crate::manual::manual;
use crate::progress::{Screen, Style};
use crate::run::{Run, warn_of};
use crate::torrents::{Named, Opened};
use crate::units::Count;
use crate::viewer::Viewer;

/// Runs the program with these arguments, its own name not among them, and these variables of the
/// environment. Everything it has to say has been said when it returns. The thread that calls is
/// shut into the output directory by then: call on one of its own where there is more to do.
pub fn run(
    arguments: Vec<OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Status {
    let variables: Vec<_> = variables.into_iter().collect();
    let (nothing_typed, json) = (arguments.is_empty(), wants_json(&arguments, &variables));
    let done = match parse(arguments, variables) {
        Ok(Command::Help) => print(&help::short()),
        Ok(Command::LongHelp) => print(&help::long()),
        Ok(Command::Manual) => print(&manual()),
        Ok(Command::Completions(shell)) => print(&completions(shell)),
        Ok(Command::Version) => print(concat!("rusty_torrent ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Download(arguments)) => return fetch(&arguments),
        Ok(Command::Create(making)) => return make(&making),
        Err(_) if nothing_typed => {
            Screen::new(Style::Auto).line(help::short().trim_end());
            return Status::BadOption;
        }
        Err(fatal) => {
            if json {
                end_early(fatal.status(), &fatal.to_string());
            }
            Err(fatal)
        }
    };
    conclude(done, &Screen::new(Style::Auto))
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
        let advice = "run the same command again, and report this line";
        let reason = format!("internal error: {reason}{place}; {advice}");
        Screen::new(Style::Auto).line(&format!("error: {reason}"));
        let arguments: Vec<_> = env::args_os().skip(1).collect();
        if wants_json(&arguments, &env::vars_os().collect::<Vec<_>>()) {
            end_early(Status::Unknown, &reason);
        }
        std::process::exit(i32::from(Status::Unknown.code()));
    });
}

/// The last record, where nothing more is known.
fn end_early(status: Status, reason: &str) {
    let ending = Ending { status, reason: Some(reason), ..Ending::default() };
    let _ignored = end_record(&ending).write_with(&mut io::stdout(), "files", [].into_iter());
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

// ---- the run -----------------------------------------------------------------------------------

fn fetch(arguments: &Arguments) -> Status {
    if let Some(mask) = arguments.umask {
        umask(Mode::from_raw_mode(mask));
    }
    let screen = Screen::new(if arguments.quiet { Style::Off } else { arguments.progress });
    let wanted = (arguments.quiet, arguments.verbosity, arguments.log.as_deref());
    match start_log(wanted, &screen).and_then(|()| Run::new(arguments, &screen)) {
        Ok(run) => fetch_all(run),
        Err(fatal) => {
            Viewer::new(arguments, &screen).end(fatal.status(), Some(&fatal.to_string()));
            conclude(Err(fatal), &screen)
        }
    }
}

fn make(making: &Making) -> Status {
    let screen = Screen::new(if making.quiet { Style::Off } else { Style::Auto });
    let done = start_log((making.quiet, making.verbosity, making.log.as_deref()), &screen)
        .and_then(|()| {
            warn_of(&making.strange_variables);
            create(making, &screen)
        });
    screen.clear();
    conclude(done, &screen)
}

/// Downloads one after the other. One that fails does not keep the others from being tried: the
/// status is that of the first.
fn fetch_all(mut run: Run<'_>) -> Status {
    let Run { arguments, screen, ceiling, .. } = run;
    let all: Vec<Named<'_>> = arguments.torrents.iter().map(|name| Named::of(name)).collect();
    let mut waiting = 0;
    let mut open = |named: &Named<'_>| {
        let opened = named.open(ceiling.beside(waiting));
        waiting += opened.as_ref().map_or(0, Opened::taken);
        opened
    };
    let opened: Vec<Result<Opened, Fatal>> = all.iter().map(&mut open).collect();
    let mut status = Status::Done;
    for (number, (named, opened)) in all.iter().zip(opened).enumerate() {
        if run.is_stopped() {
            let left = Count(all.len() - number, "torrent");
            let reason = format!("stopped before {left}");
            screen.line(&format!("error: {reason}"));
            for _ in number..all.len() {
                Viewer::new(arguments, screen).end(Status::Unfinished, Some(&reason));
            }
            return if status == Status::Done { Status::Unfinished } else { status };
        }
        waiting -= opened.as_ref().map_or(0, Opened::taken);
        run.ceiling = ceiling.beside(waiting);
        if number > 0 {
            run.viewer = run.viewer.next(arguments, screen);
        }
        let done = opened.and_then(|opened| fetch_named(&mut run, *named, opened));
        screen.clear();
        let done = done.map_err(|fatal| of_torrent(fatal, *named));
        let reason = done.as_ref().err().map(ToString::to_string);
        let ended = match done {
            Err(fatal) if all.len() > 1 && !fatal.names_the_torrent() => {
                screen.line(&format!("error: {}: {fatal}", named.called()));
                fatal.status()
            }
            done => conclude(done, screen),
        };
        run.viewer.end(ended, reason.as_deref());
        if status == Status::Done {
            status = ended;
        }
    }
    status
}

/// The same, with the torrent that it is about.
fn of_torrent(fatal: Fatal, named: Named<'_>) -> Fatal {
    let called = |why| format!("{}: {why}", named.called());
    match fatal {
        Fatal::NotBencode(why) => Fatal::NotBencode(called(why)),
        Fatal::BadTorrent(why) => Fatal::BadTorrent(called(why)),
        other => other,
    }
}

/// Says nothing but errors if quiet, more the more is wanted, and in a file as well.
fn start_log(
    (quiet, verbosity, file): (bool, usize, Option<&Path>),
    screen: &Screen,
) -> Result<(), Fatal> {
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
    let on_screen = if quiet { 0 } else { 1 + verbosity };
    let mut loggers: Vec<Box<dyn SharedLogger>> =
        vec![WriteLogger::new(level(on_screen), config(LevelFilter::Off), screen.clone())];
    if let Some(path) = file {
        let file = File::options().append(true).create(true).open(path);
        let file = file.map_err(|error| Fatal::CreateFile(path.to_owned(), error))?;
        let level = level(2 + verbosity);
        loggers.push(WriteLogger::new(level, config(LevelFilter::Error), file));
    }
    // Whoever runs this in one process with others may have a log already.
    let _kept = CombinedLogger::init(loggers);
    Ok(())
}
