//! Owns how it is told what was found of a torrent's files.

use std::io::{self, Write};
use std::iter;
use std::path::Path;

use serde_json::json;

use crate::engine::verification::{Verdict, Verified};
use crate::error::Fatal;
use crate::json;
use crate::protocol::metainfo::{FileEntry, Metainfo};
use crate::show::numbered;
use crate::units::{Bytes, Count};

/// How many files were found how.
struct Counts {
    right: usize,
    missing: usize,
    damaged: usize,
    unknown: usize,
}

impl Counts {
    fn of(metainfo: &Metainfo, verified: &Verified) -> Self {
        let judged = iter::zip(&metainfo.files, &verified.files);
        let judged = judged.filter(|(file, _)| file.is_data());
        let of = |verdict| judged.clone().filter(|(_, found)| **found == verdict).count();
        Self {
            right: of(Verdict::Right),
            missing: of(Verdict::Missing),
            damaged: of(Verdict::Damaged),
            unknown: of(Verdict::Unknown),
        }
    }
}

/// The word for a verdict.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Right => "ok",
        Verdict::Missing => "missing",
        Verdict::Damaged => "damaged",
        Verdict::Unknown => "unknown",
        Verdict::Unasked => "not selected",
    }
}

/// The error, unless everything is right.
///
/// # Errors
/// [`Fatal::Checksum`], which says how many files are not right.
pub fn outcome(metainfo: &Metainfo, verified: &Verified) -> Result<(), Fatal> {
    let Counts { right, missing, damaged, unknown } = Counts::of(metainfo, verified);
    let parts = [(missing, "missing"), (damaged, "damaged"), (unknown, "unknown")];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
    match parts.is_empty() {
        true => Ok(()),
        false => {
            let all = Count(right + missing + damaged + unknown, "file");
            Err(Fatal::Checksum(format!("of {all}: {}", parts.join(", "))))
        }
    }
}

/// Writes what people read.
///
/// # Errors
/// It can't be written there.
pub fn text(
    metainfo: &Metainfo,
    verified: &Verified,
    dir: &Path,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (file, verdict) in iter::zip(&metainfo.files, &verified.files) {
        if file.is_data() && *verdict != Verdict::Unasked {
            writeln!(out, "{:<8} {}", word(*verdict), file.path.display())?;
        }
    }
    if outcome(metainfo, verified).is_ok() {
        let asked = iter::zip(&metainfo.files, &verified.files);
        let asked = asked.filter(|(file, found)| file.is_data() && **found != Verdict::Unasked);
        let total = asked.map(|(file, _)| file.length);
        let place = dir.join(&metainfo.name);
        writeln!(out, "{}: {}, all of it right", place.display(), Bytes(total.sum()))?;
    }
    Ok(())
}

/// Writes what programs read: one object, in one line.
///
/// # Errors
/// It can't be written there.
pub fn json(
    metainfo: &Metainfo,
    verified: &Verified,
    dir: &Path,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Counts { right, missing, damaged, unknown } = Counts::of(metainfo, verified);
    let object = json!({
        "name": metainfo.name,
        "info_hash": metainfo.info_hash.to_string(),
        "dir": dir.to_string_lossy(),
        "ok": missing + damaged + unknown == 0,
        "pieces": metainfo.geometry.pieces(),
        "pieces_ok": verified.pieces,
        "files_ok": right,
        "files_missing": missing,
        "files_damaged": damaged,
        "files_unknown": unknown,
    });
    let file = |(number, file): (usize, &FileEntry)| {
        let verdict = verified.files.get(number - 1).copied().unwrap_or(Verdict::Unknown);
        json!({
            "number": number,
            "path": file.path.to_string_lossy(),
            "length": file.length,
            "state": word(verdict),
        })
    };
    let verdict = |number: usize| verified.files.get(number - 1);
    let asked = numbered(metainfo);
    let asked = asked.filter(|(number, _)| verdict(*number) != Some(&Verdict::Unasked));
    json::line(out, &object, "files", asked.map(file))
}
