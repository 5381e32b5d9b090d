//! Looks at a torrent without downloading it, and says what is seen.

use std::io::{self, BufWriter, Write};
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::arguments::{Arguments, Task};
use crate::choice::select;
use crate::engine;
use crate::engine::download::layout;
use crate::engine::verification;
use crate::error::Fatal;
use crate::policy::memory::Plan;
use crate::preflight::Preflight;
use crate::protocol::metainfo::Metainfo;
use crate::run::Run;
use crate::show;
use crate::system::ground::Ground;
use crate::verify;
use crate::ways::Ways;

/// Looks at a torrent, and says what is seen.
///
/// # Errors
/// What a download would end with, or what is not right.
pub fn look(run: &mut Run<'_>, metainfo: &Metainfo, plan: &Plan) -> Result<(), Fatal> {
    let Run { arguments, screen, .. } = *run;
    let Arguments { ref dir, json, quiet, .. } = *arguments;
    match arguments.task {
        Task::Verify => {
            let signals = run.begin()?;
            let mut show = |progress: &_| screen.show(progress, &[], Instant::now());
            let (selection, threads) = (select(&arguments.wish, metainfo)?, plan.checkers);
            let selection = selection.as_ref();
            let found =
                verification::verify(metainfo, selection, dir, threads, &signals, &mut show)?;
            screen.clear();
            write_out(|out| match json {
                true => verify::json(metainfo, &found, dir, out),
                false if quiet => Ok(()),
                false => verify::text(metainfo, &found, dir, out),
            });
            verify::outcome(metainfo, &found)
        }
        Task::Check => {
            let ways = run.ways()?;
            let signals = run.begin()?;
            let checked = check(arguments, metainfo, plan, &ways, &signals)?;
            screen.clear();
            let obstacle = checked.obstacle();
            write_out(|out| match json {
                true => checked.json(obstacle.as_ref(), out),
                false if quiet => Ok(()),
                false => checked.text(out),
            });
            checked.ground.and(obstacle.map_or(Ok(()), Err))
        }
        Task::Show | Task::Download => {
            screen.clear();
            write_out(|out| match json {
                true => show::json(metainfo, out),
                false => show::text(metainfo, out),
            });
            Ok(())
        }
    }
}

/// Looks whether a download could begin.
fn check<'a>(
    arguments: &'a Arguments,
    metainfo: &'a Metainfo,
    plan: &Plan,
    ways: &Ways,
    signals: &Receiver<()>,
) -> Result<Preflight<'a>, Fatal> {
    let Arguments { ref dir, min_free, local, .. } = *arguments;
    // There are no sessions yet: four of them take more memory than one who asks.
    let threads = plan.announcers + plan.farewells + plan.peers / 4;
    let (tiers, info_hash) = (&metainfo.tiers, metainfo.info_hash);
    let trackers = engine::preflight::ask(tiers, info_hash, threads, &ways.route, signals)?;
    let around = !metainfo.private && ways.route.proxy().is_none();
    Ok(Preflight {
        metainfo,
        dir,
        ground: Ground::survey(dir, &layout(metainfo)),
        min_free,
        trackers,
        dht: around && ways.dht.is_some(),
        local: around && local && !ways.route.is_one_address(),
        reaches_peers: ways.route.leads_to_peers(),
        peers: ways.peers.len(),
    })
}

/// Writes to standard output. That it is closed or full is nobody's fault here.
fn write_out(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let mut out = BufWriter::new(io::stdout().lock());
    let _ignored = write(&mut out).and_then(|()| out.flush());
}
