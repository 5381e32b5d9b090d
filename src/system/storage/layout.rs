//! Owns where the torrent's bytes lie: from an offset in the torrent to files and offsets in them.

use std::path::PathBuf;

use crate::order::sort_by_key;
use crate::units::{Geometry, PieceIndex};

/// One file of the torrent, in the torrent's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputFile {
    /// Where it lies below the output directory; only plain components.
    pub path: PathBuf,
    /// Bytes.
    pub length: u64,
    /// How it is kept.
    pub kind: OutputKind,
}

impl OutputFile {
    /// Whether it is padding.
    pub fn is_pad(&self) -> bool {
        self.kind == OutputKind::Pad
    }
}

/// How a file is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutputKind {
    /// On disk, under its name.
    Data,
    /// Not at all: it is padding, zeros (BEP 47).
    Pad,
    /// Not under its name: it was not selected. What pieces that reach into it bring of it is kept
    /// aside.
    Skipped,
    /// On disk: the file that this is kept in. It is none of the torrent's.
    Aside,
}

/// A stretch of the torrent that lies in one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// The file's place in the torrent.
    pub index: usize,
    /// The file.
    pub file: &'a OutputFile,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes from the start of the range that was asked about.
    pub from: usize,
    /// Bytes; at least 1.
    pub length: usize,
}

impl Segment<'_> {
    /// Where it ends: bytes from the start of the file.
    pub fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// Where what is kept aside lies: pieces one after the other, each with its whole length, in which
/// there is nothing but its part of skipped files.
#[derive(Clone, Debug, Default)]
struct Aside {
    piece_length: u64,
    /// Pieces and their places, sorted.
    places: Vec<(u32, u32)>,
}

/// Where a file that is not empty ends in the torrent.
#[derive(Clone, Copy, Debug)]
struct Span {
    end: u64,
    index: usize,
}

/// The torrent's files one after the other.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The last one may be that of what is kept aside.
    files: Vec<OutputFile>,
    aside: Aside,
    /// Only files that are not empty, so that a search never meets an empty one.
    spans: Vec<Span>,
}

impl Layout {
    /// The files in the torrent's order. Their lengths add up to no more than `u64` holds: the
    /// torrent file's reader has seen to it.
    pub fn new(files: Vec<OutputFile>) -> Self {
        let mut end = 0u64;
        let mut spans = Vec::with_capacity(files.len());
        for (index, file) in files.iter().enumerate().filter(|(_, file)| file.length > 0) {
            end = end.saturating_add(file.length);
            spans.push(Span { end, index });
        }
        Self { files, aside: Aside::default(), spans }
    }

    /// The same, with a file at `path` for what pieces bring of skipped files: each of `pieces` has
    /// its place in it, in this order.
    pub fn with_aside(mut self, path: PathBuf, geometry: Geometry, pieces: &[u32]) -> Self {
        let piece_length = u64::from(geometry.piece_length());
        let length = piece_length.saturating_mul(pieces.len() as u64);
        self.files.push(OutputFile { path, length, kind: OutputKind::Aside });
        let mut places: Vec<(u32, u32)> = pieces.iter().copied().zip(0..).collect();
        sort_by_key(&mut places, |place| *place);
        self.aside = Aside { piece_length, places };
        self
    }

    /// The pieces of which a part lies in skipped files.
    pub fn reach_into_skipped(&self, geometry: Geometry) -> impl Iterator<Item = PieceIndex> {
        geometry.all_pieces().filter(move |piece| {
            let mut segments = self.segments_of(geometry, *piece);
            segments.any(|segment| segment.file.kind == OutputKind::Skipped)
        })
    }

    /// Every file, in the torrent's order; then the one for what is kept aside, if there is one.
    pub fn files(&self) -> &[OutputFile] {
        &self.files
    }

    /// The file at this place in the torrent.
    pub fn file(&self, index: usize) -> Option<&OutputFile> {
        self.files.get(index)
    }

    /// Every file that is on disk, with its place in the torrent.
    pub fn on_disk(&self) -> impl Iterator<Item = (usize, &OutputFile)> {
        let kept = |file: &OutputFile| matches!(file.kind, OutputKind::Data | OutputKind::Aside);
        self.files.iter().enumerate().filter(move |(_, file)| kept(file))
    }

    /// Bytes of the torrent, padding included.
    pub fn total(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.end)
    }

    /// What `length` bytes from byte `offset` of the torrent on consist of, in order, each where it
    /// is kept. What lies past the torrent's end is left out.
    pub fn segments(&self, offset: u64, length: usize) -> impl Iterator<Item = Segment<'_>> {
        self.files_at(offset, length).flat_map(move |segment| self.kept_at(segment, offset))
    }

    /// Where a segment is kept, which was found from byte `start` of the torrent on: where it is,
    /// unless it lies in a skipped file.
    fn kept_at<'a>(
        &'a self,
        segment: Segment<'a>,
        start: u64,
    ) -> impl Iterator<Item = Segment<'a>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let left = segment.length.checked_sub(from).filter(|left| *left > 0)?;
            let mut part = Segment {
                offset: segment.offset + from as u64,
                from: segment.from + from,
                length: left,
                ..segment
            };
            if part.file.kind == OutputKind::Skipped {
                let at = start + part.from as u64;
                self.set_aside(&mut part, at);
            }
            from += part.length;
            Some(part)
        })
    }

    /// Finds the place of what lies in a skipped file at byte `at` of the torrent, as far as its
    /// piece reaches.
    fn set_aside<'a>(&'a self, part: &mut Segment<'a>, at: u64) {
        let Aside { piece_length, places } = &self.aside;
        let Some(piece) = at.checked_div(*piece_length) else { return };
        let within = at % piece_length;
        let left = usize::try_from(piece_length - within).unwrap_or(usize::MAX);
        part.length = part.length.min(left);
        let known = places.binary_search_by_key(&piece, |(piece, _)| u64::from(*piece)).ok();
        if let Some((_, place)) = known.and_then(|at| places.get(at))
            && let Some(file) = self.files.last()
        {
            part.index = self.files.len() - 1;
            part.file = file;
            part.offset = u64::from(*place) * piece_length + within;
        }
    }

    /// The same by the torrent's files alone, wherever their bytes are kept.
    pub fn files_at(&self, offset: u64, length: usize) -> impl Iterator<Item = Segment<'_>> {
        let first = self.spans.partition_point(|span| span.end <= offset);
        let mut from = 0;
        self.spans.get(first..).unwrap_or_default().iter().map_while(move |span| {
            let file = self.files.get(span.index).filter(|_| from < length)?;
            let at = offset + from as u64;
            let rest = usize::try_from(span.end - at).unwrap_or(usize::MAX);
            let segment = Segment {
                index: span.index,
                file,
                offset: at - (span.end - file.length),
                from,
                length: rest.min(length - from),
            };
            from += segment.length;
            Some(segment)
        })
    }

    /// What a piece consists of, in order.
    pub fn segments_of(
        &self,
        geometry: Geometry,
        piece: PieceIndex,
    ) -> impl Iterator<Item = Segment<'_>> {
        self.segments(geometry.offset_of(piece), geometry.length_of(piece) as usize)
    }

    /// Whether these bytes of the torrent are all padding: nobody has to be asked for them.
    pub fn is_padding(&self, offset: u64, length: usize) -> bool {
        let mut segments = self.segments(offset, length).peekable();
        segments.peek().is_some() && segments.all(|segment| segment.file.is_pad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Index, offset, from, length.
    type Found = (usize, u64, usize, usize);

    /// Files named by their place; a negative length is padding.
    fn layout(lengths: &[i64]) -> Layout {
        let file = |(index, length): (usize, &i64)| OutputFile {
            path: PathBuf::from(index.to_string()),
            length: length.unsigned_abs(),
            kind: if *length < 0 { OutputKind::Pad } else { OutputKind::Data },
        };
        Layout::new(lengths.iter().enumerate().map(file).collect())
    }

    fn found(layout: &Layout, offset: u64, length: usize) -> Vec<Found> {
        layout.segments(offset, length).map(|s| (s.index, s.offset, s.from, s.length)).collect()
    }

    #[test]
    fn a_range_falls_into_files() {
        let lengths = [0, 10, 0, 0, 5, -3, 1, 0];
        let cases: [(u64, usize, &[Found]); 10] = [
            (0, 0, &[]),
            (0, 1, &[(1, 0, 0, 1)]),
            (9, 1, &[(1, 9, 0, 1)]),
            (9, 2, &[(1, 9, 0, 1), (4, 0, 1, 1)]),
            (10, 5, &[(4, 0, 0, 5)]),
            (12, 100, &[(4, 2, 0, 3), (5, 0, 3, 3), (6, 0, 6, 1)]),
            (0, 19, &[(1, 0, 0, 10), (4, 0, 10, 5), (5, 0, 15, 3), (6, 0, 18, 1)]),
            (18, 1, &[(6, 0, 0, 1)]),
            (19, 1, &[]),
            (u64::MAX, usize::MAX, &[]),
        ];
        let layout = layout(&lengths);
        assert_eq!(layout.total(), 19);
        for (offset, length, expected) in cases {
            assert_eq!(found(&layout, offset, length), expected, "{offset} {length}");
        }
    }

    #[test]
    fn offsets_past_four_gib_are_exact() {
        let layout = layout(&[5 << 30, 7, 6 << 30]);
        assert_eq!(found(&layout, (5 << 30) - 1, 2), [(0, (5 << 30) - 1, 0, 1), (1, 0, 1, 1)]);
        assert_eq!(found(&layout, (10 << 30) + 7, 1), [(2, 5 << 30, 0, 1)]);
    }

    #[test]
    fn no_file_and_only_empty_files_have_no_bytes() {
        for lengths in [&[][..], &[0, 0]] {
            let layout = layout(lengths);
            assert_eq!((layout.total(), layout.segments(0, 9).count()), (0, 0));
            assert!(!layout.is_padding(0, 9));
        }
    }

    #[test]
    fn padding_is_told_from_data() {
        let layout = layout(&[4, -4, -2, 0, 2]);
        let cases = [
            (0, 4, false),
            (3, 2, false),
            (4, 1, true),
            (4, 6, true),
            (9, 2, false),
            (4, 0, false),
        ];
        for (offset, length, padding) in cases {
            assert_eq!(layout.is_padding(offset, length), padding, "{offset} {length}");
        }
        assert_eq!(layout.on_disk().map(|(index, _)| index).collect::<Vec<_>>(), [0, 3, 4]);
    }

    #[test]
    fn what_lies_in_skipped_files_has_its_place_aside() {
        let geometry = Geometry::new(50, 10).unwrap();
        let file = |(index, (length, kind)): (usize, (u64, OutputKind))| OutputFile {
            path: PathBuf::from(index.to_string()),
            length,
            kind,
        };
        let (data, skipped) = (OutputKind::Data, OutputKind::Skipped);
        let files = [(5, data), (23, skipped), (4, data), (1, skipped), (17, skipped)];
        let plain = Layout::new(files.into_iter().enumerate().map(file).collect());
        let reach: Vec<_> = plain.reach_into_skipped(geometry).map(PieceIndex::get).collect();
        assert_eq!(reach, [0, 1, 2, 3, 4]);
        let wanted = |piece: &u32| [0, 2, 3].contains(piece);
        let reach: Vec<_> = reach.into_iter().filter(wanted).collect();
        assert_eq!(reach, [0, 2, 3]);
        // As two runs left it, the first of which wanted something else: piece 3 has the first place.
        let layout = plain.clone().with_aside("aside".into(), geometry, &[3, 0, 2]);
        let cases: [(u64, usize, &[Found]); 7] = [
            (0, 10, &[(0, 0, 0, 5), (5, 15, 5, 5)]),
            (7, 2, &[(5, 17, 0, 2)]),
            (20, 10, &[(5, 20, 0, 8), (2, 0, 8, 2)]),
            (30, 10, &[(2, 2, 0, 2), (5, 2, 2, 1), (5, 3, 3, 7)]),
            // Piece 1 has none, and nobody asks for it.
            (8, 14, &[(5, 18, 0, 2), (1, 5, 2, 10), (5, 20, 12, 2)]),
            (39, 3, &[(5, 9, 0, 1), (4, 7, 1, 2)]),
            (49, 9, &[(4, 16, 0, 1)]),
        ];
        for (offset, length, expected) in cases {
            assert_eq!(found(&layout, offset, length), expected, "{offset} {length}");
        }
        let by_file: Vec<_> = layout.files_at(8, 14).map(|segment| segment.index).collect();
        assert_eq!(by_file, [1]);
        let on_disk: Vec<_> = layout.on_disk().map(|(index, file)| (index, file.length)).collect();
        assert_eq!(on_disk, [(0, 5), (2, 4), (5, 30)]);
        assert_eq!((layout.total(), plain.total()), (50, 50));
    }
}
