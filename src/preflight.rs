//! Owns the look ahead: whether a download could begin, as far as that can be told without beginning
//! it, and how that is said.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::engine::preflight::{Answer, Asked};
use crate::error::{Fatal, Status};
use crate::json;
use crate::protocol::metainfo::Metainfo;
use crate::protocol::url::{escape_what_no_url_holds, shown};
use crate::system::ground::{Ground, Reserving};
use crate::units::{Bytes, Count};

/// What was found.
pub struct Preflight<'a> {
    /// The torrent.
    pub metainfo: &'a Metainfo,
    /// Where its files would go.
    pub dir: &'a Path,
    /// What is there, or what a download would end with at once.
    pub ground: Result<Ground, Fatal>,
    /// Bytes that are to stay free.
    pub min_free: u64,
    /// Its trackers.
    pub trackers: Vec<Asked>,
    /// Peers would be looked for in the DHT.
    pub dht: bool,
    /// And on the local network.
    pub local: bool,
    /// The way leads to peers.
    pub reaches_peers: bool,
    /// Peers that were named.
    pub peers: usize,
}

impl Preflight<'_> {
    /// What a download would end with, if that can be told and it would not begin; the ground's error
    /// apart, which is one already.
    pub fn obstacle(&self) -> Option<Fatal> {
        let Ok(Ground { needed, free, .. }) = self.ground else { return None };
        let path = self.dir.to_path_buf();
        let full = free.filter(|free| needed > 0 && *free < needed.saturating_add(self.min_free));
        let full = full.map(|free| Fatal::DiskFull { path, needed, free, kept: self.min_free });
        self.no_way().or(full)
    }

    /// The error if there is nobody to ask. Where nothing can be written, that is said instead, and
    /// where nothing is needed, nobody has to be asked.
    fn no_way(&self) -> Option<Fatal> {
        let needs_any = self.ground.as_ref().is_ok_and(|ground| ground.needed > 0);
        let answers = |tracker: &Asked| matches!(tracker.answer, Answer::There(_));
        let tracked = self.trackers.iter().any(answers);
        let peers = tracked || self.dht || self.local || self.peers > 0;
        if !needs_any || self.reaches_peers && peers || !self.metainfo.mirrors.is_empty() {
            return None;
        }
        let why = match self.trackers.len() {
            _ if !self.reaches_peers => {
                "an HTTP proxy reaches no peers; use a SOCKS5 proxy, or give a mirror with --mirror"
                    .to_owned()
            }
            0 => "the torrent names no tracker and no mirror; give a peer with --peer".to_owned(),
            count => {
                let trackers = Count(count, "tracker");
                format!(
                    "none of {trackers} answers; give a peer with --peer or a mirror with --mirror"
                )
            }
        };
        Some(Fatal::NobodyToAsk(why))
    }

    /// Bytes of the longest name, and of the longest path below the directory.
    fn longest(&self) -> (usize, usize) {
        let files = self.metainfo.files.iter().filter(|file| file.is_data());
        files.fold((0, 0), |(name, path), file| {
            let names = file.path.iter().map(|name| name.len());
            (names.max().unwrap_or(0).max(name), file.path.as_os_str().len().max(path))
        })
    }

    /// Writes what people read.
    ///
    /// # Errors
    /// It can't be written there.
    pub fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.metainfo.name)?;
        let mut row = |name: &str, text: &str| writeln!(out, "  {name:<11} {text}");
        if let Ok(ground) = &self.ground {
            let dir = self.dir.display();
            row(
                "directory",
                &match ground.exists {
                    true => format!("{dir}, which can be written"),
                    false => format!("{dir}, which can be made in {}", ground.standing.display()),
                },
            )?;
            let name = if ground.kind.name.is_empty() { "unknown" } else { ground.kind.name };
            row("file system", &format!("{name}: {}", meaning(ground.kind.reserving)))?;
            let free = ground.free.map_or("unknown".to_owned(), |free| Bytes(free).to_string());
            let kept = match self.min_free {
                0 => String::new(),
                kept => format!(", {} of that to be kept", Bytes(kept)),
            };
            row("room", &format!("{} needed, {free} free{kept}", Bytes(ground.needed)))?;
            let (name, path) = self.longest();
            let most = ground.name_max;
            row("names", &format!("{name} bytes ({most} allowed), the longest path {path}"))?;
        }
        for Asked { tier, url, answer } in &self.trackers {
            let answer = match answer {
                Answer::There(None) => "answers".to_owned(),
                Answer::There(Some(swarm)) => {
                    let (seeders, leechers) = (swarm.seeders, swarm.leechers);
                    format!("answers, {}, {}", Count(seeders, "seeder"), Count(leechers, "leecher"))
                }
                Answer::Failed(error) => format!("fails, {error}"),
                Answer::Unused(why) => format!("not used, {why}"),
            };
            row("tracker", &format!("{} (tier {tier}): {answer}", shown(url)))?;
        }
        let others = [
            self.dht.then(|| "the DHT".to_owned()),
            self.local.then(|| "the local network".to_owned()),
            (self.peers > 0).then(|| Count(self.peers, "peer").to_string()),
            Some(self.metainfo.mirrors.len())
                .filter(|count| *count > 0)
                .map(|count| Count(count, "mirror").to_string()),
        ];
        let others: Vec<String> = others.into_iter().flatten().collect();
        if !others.is_empty() {
            row("other ways", &format!("{} (not tried)", others.join(", ")))?;
        }
        if self.ground.is_ok() && self.obstacle().is_none() {
            row("result", "a download can begin")?;
        }
        Ok(())
    }

    /// Writes what programs read, and what it would end with: one object, in one line.
    ///
    /// # Errors
    /// It can't be written there.
    pub fn json(&self, obstacle: Option<&Fatal>, out: &mut dyn Write) -> io::Result<()> {
        let fatal = self.ground.as_ref().err().or(obstacle);
        let ground = self.ground.as_ref().ok();
        let (name, path) = self.longest();
        let reserves = ground.and_then(|ground| match ground.kind.reserving {
            Reserving::Yes | Reserving::Copies => Some(true),
            Reserving::No => Some(false),
            Reserving::Mostly | Reserving::Unknown => None,
        });
        let object = json!({
            "name": self.metainfo.name,
            "info_hash": self.metainfo.info_hash.to_string(),
            "ok": fatal.is_none(),
            "status": fatal.map_or(Status::Done, Fatal::status).code(),
            "error": fatal.map(ToString::to_string),
            "dir": self.dir.to_string_lossy(),
            "dir_exists": ground.map(|ground| ground.exists),
            "file_system": ground.map(|ground| ground.kind.name),
            "reserves_room": reserves,
            "needed": ground.map(|ground| ground.needed),
            "free": ground.and_then(|ground| ground.free),
            "min_free": self.min_free,
            "longest_name": name,
            "longest_path": path,
            "name_max": ground.map(|ground| ground.name_max),
            "dht": self.dht,
            "local_network": self.local,
            "peers": self.peers,
            "mirrors": self.metainfo.mirrors.len(),
        });
        json::line(out, &object, "trackers", self.trackers.iter().map(tracker))
    }
}

fn tracker(asked: &Asked) -> Value {
    let Asked { tier, url, answer } = asked;
    let mut escaped = String::new();
    escape_what_no_url_holds(url, &mut escaped);
    let swarm = if let Answer::There(swarm) = answer { *swarm } else { None };
    let error = match answer {
        Answer::There(_) => None,
        Answer::Failed(error) => Some(error.to_string()),
        Answer::Unused(why) => Some((*why).to_owned()),
    };
    json!({
        "tier": tier,
        "url": escaped,
        "answers": error.is_none(),
        "error": error,
        "seeders": swarm.map(|swarm| swarm.seeders),
        "leechers": swarm.map(|swarm| swarm.leechers),
    })
}

/// What a kind of file system means for a download.
fn meaning(reserving: Reserving) -> &'static str {
    match reserving {
        Reserving::Yes => "room is reserved before a file is begun",
        Reserving::Mostly => "room is reserved before a file is begun, but not on ext2 and ext3",
        Reserving::Copies => "room is reserved, but some more may be needed",
        Reserving::No => "room may not be reserved: it may run out in the middle",
        Reserving::Unknown => "whether room can be reserved is seen at the first file",
    }
}
