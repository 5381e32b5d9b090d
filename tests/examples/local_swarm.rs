//! The main job on one machine, without the internet: a tracker and a seeder of its own on loopback,
//! the real downloader with its progress line, and a look at the bytes.
//!
//! ```text
//! cargo run --release --example local_swarm
//! ```
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rusty_torrent::cli;
use rusty_torrent::error::Status;
use rusty_torrent::protocol::bencode::{Item, Value};
use rusty_torrent::protocol::metainfo::{FileKind, Metainfo};

#[path = "../support/mod.rs"]
mod support;

use support::peer::{Behaviour, Peer};
use support::torrent::Payload;
use support::tracker::Tracker;

/// Slow enough that the progress line can be read.
const BLOCK_PAUSE: Duration = Duration::from_millis(250);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let original = fs::read(fixtures.join("many_files.torrent"))?;
    let metainfo = Metainfo::parse(&original)?;

    let tracker = Tracker::start();
    let payload = payload(&fixtures, &metainfo)?;
    let behaviour = Behaviour { block_pause: BLOCK_PAUSE, ..Behaviour::default() };
    let seeder = Peer::start(&payload, behaviour);
    tracker.add_peer(seeder.address());
    println!("tracker {}, seeder {}", tracker.http_url(), seeder.address());

    let work = std::env::temp_dir().join("rusty_torrent_local_swarm");
    let _none = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let (torrent, out) = (work.join("many_files.torrent"), work.join("out"));
    fs::write(&torrent, announced_by(&tracker.http_url(), &original)?)?;
    println!("$ rusty_torrent {} {}", torrent.display(), out.display());
    let arguments = vec![torrent.into(), out.clone().into()];
    // On a thread of its own: it gives up the right to read what is compared below.
    let status = thread::spawn(|| cli::run(arguments, [])).join().map_err(|_| "it panicked")?;
    if status != Status::Done {
        return Ok(ExitCode::from(status.code()));
    }
    for file in metainfo.files.iter().filter(|file| file.kind == FileKind::Data) {
        if fs::read(out.join(&file.path))? != fs::read(fixtures.join("payload").join(&file.path))? {
            return Err(format!("{} is not what was seeded", file.path.display()).into());
        }
        println!("same bytes: {}", out.join(&file.path).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The torrent's bytes in a row, as pieces are cut from them.
fn payload(fixtures: &Path, metainfo: &Metainfo) -> Result<Payload, Box<dyn Error>> {
    let mut bytes = Vec::new();
    for file in &metainfo.files {
        match file.kind {
            FileKind::Data => bytes.extend(fs::read(fixtures.join("payload").join(&file.path))?),
            FileKind::Pad => bytes.resize(bytes.len() + usize::try_from(file.length)?, 0),
        }
    }
    Ok(Payload {
        info_hash: metainfo.info_hash.0,
        piece_length: usize::try_from(metainfo.geometry.piece_length())?,
        bytes: Arc::new(bytes),
        info: Arc::new(metainfo.info().to_vec()),
    })
}

/// The same torrent, with this tracker.
fn announced_by(url: &str, torrent: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let info = Value::parse(torrent)?.get("info").ok_or("no info dictionary")?;
    let mut bytes = b"d8:announce".to_vec();
    bytes.extend(Item::bytes(url).encode());
    bytes.extend(b"4:info");
    bytes.extend(info.raw());
    bytes.push(b'e');
    Ok(bytes)
}
