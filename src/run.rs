//! Owns what all torrents of a run have in common: what was typed, the ways out, the signals, the
//! sandbox.

use std::io;

use crossbeam_channel::Receiver;
use log::{info, warn};

use crate::arguments::{Arguments, Task};
use crate::ceiling::{Ceiling, in_units};
use crate::error::Fatal;
use crate::hook::Hook;
use crate::policy::memory::{Needs, Plan};
use crate::progress::{Screen, Style};
use crate::system::sandbox::{self, Sandbox};
use crate::system::signals::{self, Caught, Heard};
use crate::units::Bytes;
use crate::viewer::Viewer;
use crate::ways::Ways;

/// What all torrents of a run have in common.
pub struct Run<'a> {
    /// What was typed.
    pub arguments: &'a Arguments,
    /// Where it is shown how far it is.
    pub screen: &'a Screen,
    /// Who looks on at the torrent that it is at.
    pub viewer: Viewer,
    /// The memory that it may take.
    pub ceiling: Ceiling,
    /// Signals, until it hears them.
    caught: Option<Caught>,
    heard: Option<Heard>,
    ways: Option<Ways>,
}

impl<'a> Run<'a> {
    /// Nothing is done yet, but signals are kept.
    ///
    /// # Errors
    /// They can't be.
    pub fn new(arguments: &'a Arguments, screen: &'a Screen) -> Result<Self, Fatal> {
        warn_of(&arguments.strange_variables);
        let caught = Some(signals::catch().map_err(deaf)?);
        let ceiling = Ceiling::new(arguments.memory_max);
        let viewer = Viewer::new(arguments, screen);
        Ok(Self { arguments, screen, viewer, ceiling, caught, heard: None, ways: None })
    }

    /// The ways to others, found once: later nothing can be opened.
    ///
    /// # Errors
    /// One that was given is none.
    pub fn ways(&mut self) -> Result<Ways, Fatal> {
        let found = self.ways.take().map_or_else(|| Ways::find(self.arguments), Ok)?;
        Ok(self.ways.insert(found).clone())
    }

    /// Gets the command ready, shuts itself in, and begins to hear signals, the first time.
    ///
    /// # Errors
    /// One of that can't be done.
    pub fn begin(&mut self) -> Result<Receiver<()>, Fatal> {
        let not_heard = || deaf(io::ErrorKind::NotConnected.into());
        if self.caught.is_some() {
            let command = self.arguments.on_complete.as_ref();
            if let Some(command) = command.filter(|_| self.arguments.task == Task::Download) {
                self.viewer.keep(Hook::prepare(command, &self.arguments.dir)?);
            }
            // Before the first thread, or that one would be outside.
            shut_in(self.arguments)?;
            let caught = self.caught.take().ok_or_else(not_heard)?;
            self.heard = Some(caught.listen().map_err(deaf)?);
        }
        self.heard.as_ref().map(|heard| heard.first.clone()).ok_or_else(not_heard)
    }

    /// Whether a signal came.
    pub fn is_stopped(&self) -> bool {
        self.heard.as_ref().is_some_and(Heard::any)
    }
}

/// Says which variables say nothing.
pub fn warn_of(strange_variables: &[String]) {
    for variable in strange_variables {
        warn!("the variable {variable} is ignored: there is no such option");
    }
}

/// Gives up the right to write elsewhere.
fn shut_in(arguments: &Arguments) -> Result<(), Fatal> {
    let Arguments { task, sandbox, ref dir, .. } = *arguments;
    if !sandbox {
        return Ok(());
    }
    let (found, what, but) = match task {
        Task::Download => {
            let (found, dir) = (sandbox::enter(dir)?, dir.display());
            let what = format!("nothing is written outside {dir}, nothing is executed");
            (found, what, format!(", outside {dir}"))
        }
        Task::Show | Task::Verify | Task::Check => {
            let what = "nothing can be written or executed".to_owned();
            (sandbox::enter_to_look(dir), what, String::new())
        }
    };
    match found {
        Sandbox::Whole => info!("sandbox: {what}"),
        Sandbox::Partial => info!("sandbox: this kernel keeps only part of it{but}"),
        Sandbox::Absent => info!("no sandbox: this kernel has no Landlock"),
    }
    Ok(())
}

fn deaf(error: io::Error) -> Fatal {
    Fatal::System("hear signals", error)
}

/// What memory is needed for, as far as it was typed.
pub fn needs(arguments: &Arguments) -> Needs {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let dht = (arguments.dht && arguments.proxy.is_none(), false);
    let selects = !arguments.wish.is_everything();
    let delivers = arguments.stdout;
    let watched = arguments.summary || arguments.map || arguments.progress == Style::Json;
    let peers = arguments.peers_max;
    Needs { peers, cores, dht, selects, delivers, watched, ..Needs::default() }
}

/// What may be under way at once with the memory that was given.
pub fn plan(ceiling: Ceiling, needs: &Needs) -> Result<Plan, Fatal> {
    let plan = Plan::new(ceiling.bytes, needs);
    let plan = plan.map_err(|needed| ceiling.too_little("for this torrent", needed))?;
    if plan.peers < needs.peers {
        let (possible, wanted) = (plan.peers, needs.peers);
        match ceiling.of_the_process {
            true => {
                let left = Bytes(ceiling.bytes);
                warn!("ulimit leaves {left}, enough for only {possible} of {wanted} peers at once");
            }
            false => {
                let given = in_units(ceiling.bytes);
                warn!("--max-memory {given} allows only {possible} of {wanted} peers at once");
            }
        }
    }
    Ok(plan)
}
