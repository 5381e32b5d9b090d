//! The course of one torrent: it is got, whatever way it was named, and downloaded or looked at.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use log::{info, warn};

use crate::arguments::Task;
use crate::choice::{select, select_by_link, the_one};
use crate::engine::coordinator::Watch;
use crate::engine::download::{Options, Report, download};
use crate::engine::metadata::{self, Effort};
use crate::engine::outside::{Directions, Outside};
use crate::engine::retrieval;
use crate::error::Fatal;
use crate::limits::{
    INQUIRIES_MAX, MAGNET_LENGTH_MAX_BYTES, METADATA_MAX_BYTES, METADATA_ROOM_MIN_BYTES,
    MIRRORS_MAX, NAME_LENGTH_MAX_BYTES,
};
use crate::look::look;
use crate::policy::memory::{Needs, Plan};
use crate::policy::selection::Selection;
use crate::protocol::magnet::Magnet;
use crate::protocol::metainfo::{FileKind, Measures, Metainfo};
use crate::protocol::web_seed::mirror_url;
use crate::run::{Run, needs, plan};
use crate::show::of_kind;
use crate::status_line::span;
use crate::text::Foreign;
use crate::torrents::{Named, Opened};
use crate::units::{Bytes, Count};
use crate::ways::Ways;

/// Downloads a torrent, or looks at it.
///
/// # Errors
/// Whatever ended it.
pub fn fetch_named(run: &mut Run<'_>, named: Named<'_>, opened: Opened) -> Result<(), Fatal> {
    match named {
        Named::Link(link) => fetch_link(run, link),
        Named::Url(url) => fetch_url(run, url),
        Named::Input | Named::File(_) => fetch_file(run, opened.read(named, run.ceiling)?),
    }
}

/// Fetches a torrent file, and downloads what it describes.
fn fetch_url(run: &mut Run<'_>, url: &str) -> Result<(), Fatal> {
    let (route, ceiling) = (run.ways()?.route, run.ceiling);
    let signals = run.begin()?;
    let room = move |length| ceiling.room_for_torrent(length);
    let torrent = retrieval::fetch(url, &route, room, ceiling.endless(), &signals)?;
    fetch_file(run, torrent)
}

/// Downloads what a torrent file describes.
fn fetch_file(run: &mut Run<'_>, torrent: Vec<u8>) -> Result<(), Fatal> {
    let arguments = run.arguments;
    let needs = Needs {
        torrent_bytes: torrent.len() as u64,
        measures: Measures::of(&torrent).with_mirrors(&arguments.mirrors),
        ..needs(arguments)
    };
    let plan = plan(run.ceiling, &needs)?;
    let metainfo = Metainfo::parse_with_mirrors(&torrent, &arguments.mirrors)?;
    drop(torrent);
    if arguments.task != Task::Download {
        return look(run, &metainfo, &plan);
    }
    let selection = select(&arguments.wish, &metainfo)?;
    let ways = run.ways()?;
    describe(&metainfo, selection.as_ref());
    let signals = run.begin()?;
    fetch_torrent(run, (metainfo, selection), ways, plan, None, &signals)
}

/// Asks peers what a magnet link is of, and downloads that.
fn fetch_link(run: &mut Run<'_>, link: &str) -> Result<(), Fatal> {
    let (arguments, ceiling) = (run.arguments, run.ceiling);
    if link.len() > MAGNET_LENGTH_MAX_BYTES {
        return Err(Fatal::BadTorrent(format!("it has more than {MAGNET_LENGTH_MAX_BYTES} bytes")));
    }
    let magnet = Magnet::parse(link).map_err(Fatal::BadTorrent)?;
    let name = magnet.name.as_deref().unwrap_or("a link without a name");
    info!("{}: info-hash {}", Foreign::new(name.as_bytes()), magnet.info_hash);
    let mut ways = run.ways()?;
    for peer in &magnet.peers {
        if let Err(why) = ways.add_peer(peer) {
            let why = match why {
                Fatal::Usage(why) => why,
                other => other.to_string(),
            };
            warn!("a peer in the magnet link is left out: {why}");
        }
    }
    // What the torrent takes is not known yet.
    let trackers = magnet.tiers.len();
    let measures = Measures { tiers: trackers, trackers: trackers as u64, ..Measures::default() };
    let inquiries = arguments.peers_max.min(INQUIRIES_MAX);
    let needs = Needs { measures, peers: inquiries, ..needs(arguments) };
    let asking = plan(ceiling, &needs)?;
    let room = usize::try_from(ceiling.bytes - asking.bytes(&needs)).unwrap_or(usize::MAX);
    if room < METADATA_ROOM_MIN_BYTES {
        let needed = asking.bytes(&needs) + METADATA_ROOM_MIN_BYTES as u64;
        return Err(ceiling.too_little("for a magnet link", needed));
    }
    let signals = run.begin()?;
    let directions = Directions {
        info_hash: magnet.info_hash,
        tiers: &magnet.tiers,
        private: false,
        peers: &ways.peers,
        ports: Some(&ways.ports),
        port: ways.ports.first().copied().unwrap_or(0),
        local: arguments.local,
        dht: ways.dht.as_ref().filter(|_| asking.dht),
        encryption: arguments.encryption,
        route: &ways.route,
    };
    let mut outside = Outside::open(directions, &asking, &mut fastrand::Rng::new())?;
    let effort = Effort {
        peers: asking.peers,
        bytes_max: room.min(METADATA_MAX_BYTES),
        patience: arguments.metadata_patience,
    };
    let mut show = |progress: &_| run.viewer.progress(progress);
    let info = metadata::fetch(&mut outside, effort, &signals, &mut show)?;
    let named = magnet.web_seeds.iter().filter_map(|url| mirror_url(url));
    let mirrors: Vec<String> =
        arguments.mirrors.iter().cloned().chain(named).take(MIRRORS_MAX).collect();
    let known = || {
        let needs = Needs {
            torrent_bytes: info.len() as u64,
            measures: Measures::of_link(&info, &magnet.tiers).with_mirrors(&mirrors),
            announcers: asking.announcers,
            dht: (false, outside.discovery.dht_port().is_some()),
            selects: needs.selects || !magnet.selected.is_empty(),
            ..needs
        };
        let plan = plan(ceiling, &Needs { peers: arguments.peers_max, ..needs })?;
        let metainfo = Metainfo::from_info(&info, magnet.tiers.clone(), mirrors.clone())?;
        let selection = match arguments.wish.is_everything() {
            false => select(&arguments.wish, &metainfo)?,
            true => select_by_link(&magnet, &metainfo)?,
        };
        describe(&metainfo, selection.as_ref());
        if arguments.save_torrent {
            save(&metainfo, &arguments.dir)?;
        }
        Ok(((metainfo, selection), plan))
    };
    let known = known();
    drop(info);
    match known {
        Ok((torrent, plan)) if arguments.task != Task::Download => {
            outside.discovery.farewell(metadata::TOTALS);
            drop(outside);
            look(run, &torrent.0, &plan)
        }
        Ok((torrent, plan)) => {
            outside.is_private(torrent.0.private);
            fetch_torrent(run, torrent, ways, plan, Some(outside), &signals)
        }
        Err(fatal) => {
            outside.discovery.farewell(metadata::TOTALS);
            Err(fatal)
        }
    }
}

/// Downloads a torrent, and says so.
fn fetch_torrent(
    run: &mut Run<'_>,
    (metainfo, selection): (Metainfo, Option<Selection>),
    ways: Ways,
    plan: Plan,
    outside: Option<Outside>,
    signals: &Receiver<()>,
) -> Result<(), Fatal> {
    let arguments = run.arguments;
    let place = arguments.dir.join(&metainfo.name);
    let (files, _) = of_kind(&metainfo, FileKind::Data);
    let chosen = selection.as_ref().map(|selection| (selection.size(&metainfo).0, files));
    let options = Options {
        dir: arguments.dir.clone(),
        peers: ways.peers,
        mirrors_first: arguments.mirrors.len(),
        in_order: arguments.sequential || arguments.stdout,
        delivered: arguments.stdout.then(|| the_one(&metainfo, selection.as_ref())).transpose()?,
        selection,
        min_free: arguments.min_free,
        plan,
        ports: ways.ports,
        local: arguments.local,
        dht: ways.dht,
        route: ways.route,
        seeding: arguments.seeding,
        patience: arguments.patience,
        download_limit: arguments.download_limit,
        upload_limit: arguments.upload_limit,
        encryption: arguments.encryption,
    };
    let metainfo = Arc::new(metainfo);
    run.viewer.meet(&metainfo, options.selection.as_ref());
    let report = download(&metainfo, &options, outside, signals, &mut run.viewer);
    if let Ok(report) = &report {
        let summary = summary(&place, chosen, report);
        if arguments.stdout {
            info!("{}", summary.trim_end());
        }
        let said = !arguments.quiet && !arguments.stdout;
        run.viewer.conclude(report, said.then_some(summary));
    }
    let command = run.viewer.wait(signals);
    report.and(command)
}

fn describe(metainfo: &Metainfo, selection: Option<&Selection>) {
    let (count, bytes) = of_kind(metainfo, FileKind::Data);
    let (name, info_hash) = (&metainfo.name, metainfo.info_hash);
    info!("{name}: {} in {}, info-hash {info_hash}", Bytes(bytes), Count(count, "file"));
    if let Some(selection) = selection {
        let (count, bytes) = selection.size(metainfo);
        info!("{} selected, {}; no others are made", Count(count, "file"), Bytes(bytes));
    }
    for renamed in &metainfo.renamed {
        warn!("{} is written as {}", renamed.original, renamed.path.display());
    }
}

/// Writes the torrent file of a magnet link. One that is there stays.
fn save(metainfo: &Metainfo, dir: &Path) -> Result<(), Fatal> {
    let named = dir.join(format!("{}.torrent", metainfo.name));
    let hashed = dir.join(format!("{}.torrent", metainfo.info_hash));
    let fits = named.file_name().is_some_and(|name| name.len() <= NAME_LENGTH_MAX_BYTES);
    let path = if fits { named } else { hashed };
    let mut file = match File::options().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            warn!("{} is there already and stays as it is", path.display());
            return Ok(());
        }
        opened => opened.map_err(|error| Fatal::CreateFile(path.clone(), error))?,
    };
    let (begin, end) = metainfo.around_info();
    let parts = [&begin, metainfo.info(), &end];
    if let Err(error) = parts.into_iter().try_for_each(|part| file.write_all(part)) {
        let _half_of_it = std::fs::remove_file(&path);
        return Err(Fatal::FileIo("write", path, error));
    }
    info!("{} is written", path.display());
    Ok(())
}

fn summary(place: &Path, chosen: Option<(usize, usize)>, report: &Report) -> String {
    let of = |(chosen, files)| format!("{chosen} of {}, ", Count(files, "file"));
    let place = format!("{}: {}", place.display(), chosen.map_or_else(String::new, of));
    let total = Bytes(report.total);
    let sent = match report.uploaded {
        0 => String::new(),
        uploaded => format!(", {} sent", Bytes(uploaded)),
    };
    if report.downloaded == 0 {
        return format!("{place}{total}, all there already{sent}\n");
    }
    let micros = report.elapsed.as_micros().max(1);
    let per_second = u128::from(report.downloaded) * 1_000_000 / micros;
    let rate = Bytes(u64::try_from(per_second).unwrap_or(u64::MAX));
    let fetched = match report.downloaded.cmp(&report.total) {
        std::cmp::Ordering::Less => format!(", {} of it fetched", Bytes(report.downloaded)),
        _ => String::new(),
    };
    let mirrored = match report.mirrored {
        0 => String::new(),
        mirrored if mirrored >= report.downloaded => " from mirrors".to_owned(),
        mirrored => format!(", {} from mirrors", Bytes(mirrored)),
    };
    let time = match report.elapsed.as_secs() {
        0..60 => format!("{:.1} s", report.elapsed.as_secs_f64()),
        _ => span(report.elapsed),
    };
    format!("{place}{total}{fetched}{mirrored} in {time}, {rate}/s{sent}\n")
}
