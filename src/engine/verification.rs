//! Owns the verdict on what is there: every piece is hashed, whatever an earlier run knew, and each
//! file judged by those that it has a part in. Files are opened for reading, and nothing is made.

use std::iter;
use std::path::Path;

use crossbeam_channel::Receiver;

use crate::engine::coordinator::Progress;
use crate::engine::download::{layout, refuse_bad_padding};
use crate::engine::recheck::{Search, recheck};
use crate::engine::watch::watch;
use crate::error::Fatal;
use crate::policy::selection::Selection;
use crate::protocol::metainfo::Metainfo;
use crate::protocol::resume::Record;
use crate::system::resume::ResumeFile;
use crate::system::storage::directory::Directory;
use crate::system::storage::layout::{Layout, OutputKind};
use crate::units::{Geometry, PieceIndex};

/// How a file was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has its length, and every piece that it has a part in is right.
    Right,
    /// It is not there.
    Missing,
    /// It is shorter or longer than it should be, or a piece is wrong of which no other file can be
    /// blamed rather.
    Damaged,
    /// It has its length, and what is wrong is shared with a file that is missing or damaged for sure.
    Unknown,
    /// It was not selected.
    Unasked,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// One for each of the torrent's files, padding included, which is right if it was asked about.
    pub files: Vec<Verdict>,
    /// Pieces that are right.
    pub pieces: u32,
}

/// Verifies the torrent's files in `dir`, or those that are selected, on so many threads. What an
/// earlier run kept aside of files that are not there counts, so that those beside them can be right.
/// `signals` asks for the end; `show` is called once a second.
///
/// # Errors
/// A file can't be read, something that is no file is in its place, or [`Fatal::Stopped`].
pub fn verify(
    metainfo: &Metainfo,
    selection: Option<&Selection>,
    dir: &Path,
    threads: usize,
    signals: &Receiver<()>,
    show: &mut dyn FnMut(&Progress),
) -> Result<Verified, Fatal> {
    let (layout, geometry) = (kept(metainfo, dir)?, metainfo.geometry);
    let wanted = selection.map(|selection| selection.pieces(metainfo));
    let wants = |piece| wanted.as_ref().is_none_or(|wanted| wanted.has(piece));
    let stopped = "stopped while verifying what is there";
    let found = watch(geometry.total(), stopped, signals, show, &|stop, progress| {
        let layout = &layout;
        let (wanted, record) = (wanted.as_ref(), None);
        let search = Search { dir, layout, geometry, wanted, record, threads, stop, progress };
        recheck(&search, |piece| *metainfo.piece_hash(piece))
    })?;
    let wrong = |piece: &PieceIndex| wants(*piece) && !found.pieces.has(*piece);
    refuse_bad_padding(metainfo, &layout, wrong)?;
    let mut directory = Directory::open(dir)?;
    let mut files = Vec::with_capacity(layout.files().len());
    let all = iter::zip(layout.files(), &found.files).take(metainfo.files.len());
    for (file, found) in all {
        files.push(if file.is_pad() || found.length == file.length && file.length > 0 {
            Verdict::Right
        } else if found.length > 0 {
            Verdict::Damaged
        } else {
            // Whether it is there and empty.
            let there = directory.as_mut().map(|directory| directory.look(&file.path));
            match there.transpose()?.flatten() {
                None => Verdict::Missing,
                Some(found) if found.length == file.length => Verdict::Right,
                Some(_) => Verdict::Damaged,
            }
        });
    }
    judge(&layout, geometry, wrong, &mut files);
    if let Some(selection) = selection {
        let unasked = files.iter_mut().enumerate().filter(|(at, _)| !selection.has(*at));
        unasked.for_each(|(_, verdict)| *verdict = Verdict::Unasked);
    }
    Ok(Verified { files, pieces: found.pieces.count() })
}

/// Where the torrent's bytes are: what the record says to be aside is there, if its file is not.
fn kept(metainfo: &Metainfo, dir: &Path) -> Result<Layout, Fatal> {
    let (all, geometry) = (layout(metainfo), metainfo.geometry);
    let Some(mut directory) = Directory::open(dir)? else { return Ok(all) };
    let count = metainfo.files.len();
    let length_max = Record::length_max(geometry, count);
    let (bytes, path) = ResumeFile::peek(&mut directory, &metainfo.name, length_max);
    let record = Record::decode(&bytes, metainfo.info_hash, geometry, count);
    let Some(record) = record.filter(|record| !record.aside.is_empty()) else { return Ok(all) };
    let mut files = all.files().to_vec();
    for file in files.iter_mut().filter(|file| file.kind == OutputKind::Data) {
        let found = directory.look(&file.path)?;
        if found.is_none_or(|found| found.length != file.length) {
            file.kind = OutputKind::Skipped;
        }
    }
    Ok(Layout::new(files).with_aside(path, geometry, &record.aside))
}

/// Blames files for the pieces that are wrong. `files` are the verdicts by their lengths alone.
fn judge(
    layout: &Layout,
    geometry: Geometry,
    is_wrong: impl Fn(&PieceIndex) -> bool,
    files: &mut [Verdict],
) {
    let wrong = || geometry.all_pieces().filter(&is_wrong);
    let of = |piece: PieceIndex| {
        let segments =
            layout.files_at(geometry.offset_of(piece), geometry.length_of(piece) as usize);
        segments.filter(|segment| !segment.file.is_pad()).map(|segment| segment.index)
    };
    // First those that have a wrong piece for themselves.
    for piece in wrong() {
        let mut touched = of(piece);
        if let (Some(only), None) = (touched.next(), touched.next()) {
            blame(files, only, Verdict::Damaged);
        }
    }
    let surely = |verdict: &Verdict| matches!(verdict, Verdict::Missing | Verdict::Damaged);
    let sure: Vec<bool> = files.iter().map(surely).collect();
    // Then those that share one, with one that is blamed already or with others like them.
    for piece in wrong() {
        let is_explained = of(piece).any(|index| sure.get(index) == Some(&true));
        let verdict = if is_explained { Verdict::Unknown } else { Verdict::Damaged };
        of(piece).for_each(|index| blame(files, index, verdict));
    }
}

fn blame(files: &mut [Verdict], index: usize, verdict: Verdict) {
    if let Some(file) = files.get_mut(index)
        && (*file == Verdict::Right || *file == Verdict::Unknown)
    {
        *file = verdict;
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Damaged, Missing, Right, Unknown};
    use super::*;
    use crate::bitfield::Bitfield;
    use crate::system::storage::layout::OutputFile;

    #[test]
    fn who_is_to_blame_is_told_as_far_as_it_can_be() {
        // Pieces of 10: a has 0 and a part of 1, b is in 1, c in 1 and 2, padding ends 2, d has 3.
        let file = |(name, length): (&str, u64)| OutputFile {
            path: name.into(),
            length,
            kind: if name == "pad" { OutputKind::Pad } else { OutputKind::Data },
        };
        let files = [("a", 15), ("b", 2), ("c", 10), ("pad", 3), ("d", 10)];
        let layout = Layout::new(files.into_iter().map(file).collect());
        let geometry = Geometry::new(40, 10).unwrap();
        let good = [Right; 5];
        let cases: [([Verdict; 5], &[u32], [Verdict; 5]); 9] = [
            (good, &[], good),
            (good, &[3], [Right, Right, Right, Right, Damaged]),
            (good, &[0], [Damaged, Right, Right, Right, Right]),
            (good, &[1], [Damaged, Damaged, Damaged, Right, Right]),
            (good, &[0, 1], [Damaged, Unknown, Unknown, Right, Right]),
            (good, &[2], [Right, Right, Damaged, Right, Right]),
            (
                [Right, Missing, Right, Right, Right],
                &[1],
                [Unknown, Missing, Unknown, Right, Right],
            ),
            (
                [Right, Missing, Right, Right, Right],
                &[1, 2],
                [Unknown, Missing, Damaged, Right, Right],
            ),
            ([Damaged, Right, Right, Right, Right], &[], [Damaged, Right, Right, Right, Right]),
        ];
        for (mut files, wrong, expected) in cases {
            let mut right = Bitfield::all(geometry);
            for piece in wrong {
                right.remove(geometry.piece(*piece).unwrap());
            }
            let before = files;
            judge(&layout, geometry, |piece| !right.has(*piece), &mut files);
            assert_eq!(files, expected, "{before:?} {wrong:?}");
        }
    }
}
