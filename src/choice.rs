//! Decides which files of a torrent are fetched, of what was typed or what a link says.

use log::warn;

use crate::error::Fatal;
use crate::policy::selection::{Selection, Wish};
use crate::protocol::magnet::Magnet;
use crate::protocol::metainfo::Metainfo;
use crate::units::Count;

/// What was typed, as far as the torrent has it; `None` is everything.
///
/// # Errors
/// It has no such files.
pub fn select(wish: &Wish, metainfo: &Metainfo) -> Result<Option<Selection>, Fatal> {
    Selection::new(wish, metainfo).map_err(|why| Fatal::Selection(metainfo.name.clone(), why))
}

/// What a link selects, as far as it is there.
///
/// # Errors
/// Nothing of it is.
pub fn select_by_link(magnet: &Magnet, metainfo: &Metainfo) -> Result<Option<Selection>, Fatal> {
    let last = metainfo.files.len().saturating_sub(1);
    let mut numbers = Vec::with_capacity(magnet.selected.len());
    for range in &magnet.selected {
        if *range.end() > last {
            warn!("the link selects files that the torrent does not have");
        }
        let there = *range.start()..=(*range.end()).min(last);
        if !there.is_empty() {
            numbers.push(there);
        }
    }
    if numbers.is_empty() && !magnet.selected.is_empty() {
        let why = "the link selects nothing that the torrent has";
        return Err(Fatal::BadTorrent(why.to_owned()));
    }
    let wish = Wish { numbers, patterns: Vec::new() };
    Selection::new(&wish, metainfo).map_err(Fatal::BadTorrent)
}

/// The one file that can go to standard output.
///
/// # Errors
/// There is more than one, or none.
pub fn the_one(metainfo: &Metainfo, selection: Option<&Selection>) -> Result<usize, Fatal> {
    let selected = |index| selection.is_none_or(|selection| selection.has(index));
    let files = metainfo.files.iter().enumerate().filter(|(_, file)| file.is_data());
    let mut files = files.map(|(index, _)| index).filter(|index| selected(*index));
    match (files.next(), files.count()) {
        (Some(index), 0) => Ok(index),
        (_, more) => {
            let files = Count(more + 1, "file");
            let why = format!("--stdout takes one of the {files}; name it with --select-file");
            Err(Fatal::Usage(why))
        }
    }
}
