//! Owns how a torrent is described: what is in it, who is asked for it, and what of it is done in
//! another way than it says. Nothing that a stranger wrote is shown as it is: names are those that the
//! files get, URLs are escaped.

use std::io::{self, Write};
use std::iter;

use serde_json::{Value, json};

use crate::json;
use crate::protocol::magnet::Magnet;
use crate::protocol::metainfo::{FileEntry, FileKind, Metainfo};
use crate::protocol::url::escape_what_no_url_holds;
use crate::units::{Bytes, Count};

/// Writes what people read.
///
/// # Errors
/// It can't be written there.
pub fn text(metainfo: &Metainfo, out: &mut dyn Write) -> io::Result<()> {
    let geometry = metainfo.geometry;
    let (files, size) = of_kind(metainfo, FileKind::Data);
    let (pads, padding) = of_kind(metainfo, FileKind::Pad);
    writeln!(out, "{}", metainfo.name)?;
    let mut row = |name: &str, text: &str| writeln!(out, "  {name:<10} {text}");
    row("info-hash", &metainfo.info_hash.to_string())?;
    row("size", &format!("{} ({size} bytes) in {}", Bytes(size), Count(files, "file")))?;
    let pieces = Count(geometry.pieces(), "piece");
    row("pieces", &format!("{pieces} of {}", Bytes(u64::from(geometry.piece_length()))))?;
    if metainfo.private {
        row("private", "peers come from its trackers and --peer alone")?;
    }
    if metainfo.is_hybrid() {
        row("hybrid", "of version 1 and 2, and taken as version 1")?;
    }
    if pads > 0 {
        row("padding", &format!("{} with {}, left out", Count(pads, "file"), Bytes(padding)))?;
    }
    row("magnet", &magnet(metainfo))?;
    for (tier, urls) in iter::zip(1.., &metainfo.tiers) {
        for url in urls {
            row("tracker", &format!("{tier}: {}", escaped(url)))?;
        }
    }
    for url in &metainfo.mirrors {
        row("mirror", &escaped(url))?;
    }
    for node in &metainfo.nodes {
        row("DHT node", node)?;
    }
    for renamed in &metainfo.renamed {
        row("renamed", &format!("{} is written as {}", renamed.original, renamed.path.display()))?;
    }
    let more = metainfo.renamed_count.saturating_sub(metainfo.renamed.len());
    if more > 0 {
        row("renamed", &format!("{more} more"))?;
    }
    for (number, file) in numbered(metainfo) {
        writeln!(
            out,
            "{number:>6} {:>10} {}",
            Bytes(file.length).to_string(),
            file.path.display()
        )?;
    }
    Ok(())
}

/// Writes what programs read: one object, in one line.
///
/// # Errors
/// It can't be written there.
pub fn json(metainfo: &Metainfo, out: &mut dyn Write) -> io::Result<()> {
    let (_, size) = of_kind(metainfo, FileKind::Data);
    let (pads, padding) = of_kind(metainfo, FileKind::Pad);
    let urls = |urls: &[String]| urls.iter().map(|url| escaped(url)).collect::<Vec<_>>();
    let renamed = metainfo.renamed.iter().map(
        |renamed| json!({ "original": renamed.original, "path": renamed.path.to_string_lossy() }),
    );
    let object = json!({
        "name": metainfo.name,
        "info_hash": metainfo.info_hash.to_string(),
        "multi_file": metainfo.multi_file,
        "size": size,
        "pieces": metainfo.geometry.pieces(),
        "piece_length": metainfo.geometry.piece_length(),
        "private": metainfo.private,
        "hybrid": metainfo.is_hybrid(),
        "padding_files": pads,
        "padding_size": padding,
        "magnet": magnet(metainfo),
        "trackers": metainfo.tiers.iter().map(|tier| urls(tier)).collect::<Vec<_>>(),
        "mirrors": urls(&metainfo.mirrors),
        "nodes": metainfo.nodes,
        "renamed": renamed.collect::<Value>(),
        "renamed_count": metainfo.renamed_count,
    });
    let file = |(number, file): (usize, &FileEntry)| json!({ "number": number, "path": file.path.to_string_lossy(), "length": file.length });
    json::line(out, &object, "files", numbered(metainfo).map(file))
}

/// The files that are written, with their places among all that the torrent lists, from 1 on:
/// padding has numbers, too, as other clients count it.
pub fn numbered(metainfo: &Metainfo) -> impl Iterator<Item = (usize, &FileEntry)> {
    iter::zip(1.., &metainfo.files).filter(|(_, file)| file.is_data())
}

/// How many files of a kind there are, and their bytes.
pub fn of_kind(metainfo: &Metainfo, kind: FileKind) -> (usize, u64) {
    let files = metainfo.files.iter().filter(|file| file.kind == kind);
    files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.length))
}

fn magnet(metainfo: &Metainfo) -> String {
    let trackers: Vec<String> = metainfo.tiers.iter().flatten().cloned().collect();
    Magnet::link(metainfo.info_hash, &metainfo.name, &trackers, &metainfo.mirrors)
}

/// A URL in plain letters, which is the same URL.
fn escaped(url: &str) -> String {
    let mut escaped = String::new();
    escape_what_no_url_holds(url, &mut escaped);
    escaped
}
