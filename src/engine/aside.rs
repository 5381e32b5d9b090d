//! Arranges where bytes are kept when only some files are fetched. A piece that reaches from a
//! selected file into others is fetched whole; what it brings of the others is kept aside, in a file
//! beside the record, where it is found when they are selected later.

use std::os::unix::fs::FileExt as _;

use log::{debug, info};

use crate::bitfield::Bitfield;
use crate::error::Fatal;
use crate::limits::BLOCK_LENGTH;
use crate::policy::selection::Selection;
use crate::protocol::metainfo::Metainfo;
use crate::protocol::resume::{FileState, Record};
use crate::system::resume::ResumeFile;
use crate::system::storage::Storage;
use crate::system::storage::directory::Directory;
use crate::system::storage::layout::{Layout, OutputFile, OutputKind};
use crate::units::{Count, Geometry, PieceIndex};

/// Where everything is kept.
pub struct Arrangement {
    /// The files.
    pub layout: Layout,
    /// The pieces that are to be had, if not all.
    pub wanted: Option<Bitfield>,
    /// The pieces that have a place aside, in the order of these places.
    pub aside: Vec<u32>,
}

/// Decides where the torrent's bytes are kept below `directory`. A file that was not selected but is
/// there, with its whole length, stays the place of its bytes. So it is with the one that is
/// `delivered`: nobody asked for a file. What `record` knows to be aside keeps its place.
///
/// # Errors
/// The directory can't be looked at.
pub fn arrange(
    metainfo: &Metainfo,
    (selection, delivered): (Option<&Selection>, Option<usize>),
    mut directory: Directory,
    file: &ResumeFile,
    record: Option<&Record>,
) -> Result<Arrangement, Fatal> {
    let mut files = Vec::with_capacity(metainfo.files.len() + 1);
    for (index, entry) in metainfo.files.iter().enumerate() {
        let skipped =
            delivered == Some(index) || selection.is_some_and(|selection| !selection.has(index));
        let kind = match (entry.is_data(), skipped) {
            (false, _) => OutputKind::Pad,
            (true, false) => OutputKind::Data,
            (true, true) => {
                let found = directory.look(&entry.path)?;
                let is_there = found.is_some_and(|found| found.length == entry.length);
                if is_there { OutputKind::Data } else { OutputKind::Skipped }
            }
        };
        files.push(OutputFile { path: entry.path.clone(), length: entry.length, kind });
    }
    let layout = Layout::new(files);
    let wanted = selection.map(|selection| selection.pieces(metainfo));
    let is_wanted = |piece| wanted.as_ref().is_none_or(|wanted| wanted.has(piece));
    let aside = places(&layout, metainfo.geometry, is_wanted, record);
    let layout = match aside.is_empty() {
        true => layout,
        false => layout.with_aside(file.aside().to_path_buf(), metainfo.geometry, &aside),
    };
    Ok(Arrangement { layout, wanted, aside })
}

/// The pieces that reach into skipped files, whether they are wanted now or were before: first all
/// that have their places already, then the others. None, if none does.
fn places(
    layout: &Layout,
    geometry: Geometry,
    wanted: impl Fn(PieceIndex) -> bool,
    record: Option<&Record>,
) -> Vec<u32> {
    let mut places = record.map(|record| record.aside.clone()).unwrap_or_default();
    let mut known = Bitfield::none(geometry);
    for piece in places.iter().filter_map(|piece| geometry.piece(*piece)) {
        known.insert(piece);
    }
    let mut any = false;
    for piece in layout.reach_into_skipped(geometry) {
        let is_new = wanted(piece) && known.insert(piece);
        any = any || known.has(piece);
        if is_new {
            places.push(piece.get());
        }
    }
    if any { places } else { Vec::new() }
}

/// Brings what was kept aside to the files that it belongs to, as far as they were skipped when the
/// record was made and are not now. Nothing of it is believed: it is hashed afterwards.
///
/// # Errors
/// A file can't be made or written.
pub fn bring_back(
    storage: &mut Storage,
    geometry: Geometry,
    file: &ResumeFile,
    record: &Record,
) -> Result<(), Fatal> {
    if record.aside.is_empty() {
        return Ok(());
    }
    let mut directory = storage.directory();
    let Some((aside, _)) = directory.open_to_read(file.aside())? else { return Ok(()) };
    let layout = std::sync::Arc::clone(storage.layout());
    let was_skipped = |index| record.files.get(index) == Some(&FileState::default());
    let mut buffer = vec![0; BLOCK_LENGTH as usize];
    let mut pieces = 0_usize;
    for (place, piece) in (0_u64..).zip(&record.aside) {
        let Some(piece) = geometry.piece(*piece).filter(|piece| record.pieces.has(*piece)) else {
            continue;
        };
        let start = geometry.offset_of(piece);
        let kept = place * u64::from(geometry.piece_length());
        let segments = layout.files_at(start, geometry.length_of(piece) as usize);
        let wanted = segments
            .filter(|segment| segment.file.kind == OutputKind::Data && was_skipped(segment.index));
        let mut any = false;
        for segment in wanted {
            any = true;
            let mut done = 0;
            while done < segment.length {
                let length = (segment.length - done).min(buffer.len());
                let Some(part) = buffer.get_mut(..length) else { break };
                let within = (segment.from + done) as u64;
                if let Err(error) = aside.read_exact_at(part, kept + within) {
                    debug!("{}: {error}", directory.path_of(file.aside()).display());
                    return Ok(());
                }
                storage.write(start + within, part)?;
                done += length;
            }
        }
        pieces += usize::from(any);
    }
    if pieces > 0 {
        info!("{} brought to their files that were kept aside", Count(pieces, "piece"));
    }
    Ok(())
}
