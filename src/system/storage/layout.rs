//! Owns where the torrent's bytes lie: from an offset in the torrent to files and offsets in them.

use std::path::PathBuf;

use crate::units::{Geometry, PieceIndex};

/// One file of the torrent, in the torrent's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputFile {
    /// Where it lies below the output directory; only plain components.
    pub path: PathBuf,
    /// Bytes.
    pub length: u64,
    /// Whether it is padding (BEP 47): zeros that are never on disk.
    pub pad: bool,
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

/// Where a file that is not empty ends in the torrent.
#[derive(Clone, Copy, Debug)]
struct Span {
    end: u64,
    index: usize,
}

/// The torrent's files one after the other.
#[derive(Clone, Debug)]
pub struct Layout {
    files: Vec<OutputFile>,
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
        Self { files, spans }
    }

    /// Every file, in the torrent's order.
    pub fn files(&self) -> &[OutputFile] {
        &self.files
    }

    /// The file at this place in the torrent.
    pub fn file(&self, index: usize) -> Option<&OutputFile> {
        self.files.get(index)
    }

    /// Every file that is on disk, with its place in the torrent.
    pub fn on_disk(&self) -> impl Iterator<Item = (usize, &OutputFile)> {
        self.files.iter().enumerate().filter(|(_, file)| !file.pad)
    }

    /// Bytes of the torrent, padding included.
    pub fn total(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.end)
    }

    /// What `length` bytes from byte `offset` of the torrent on consist of, in order. What lies
    /// past the torrent's end is left out.
    pub fn segments(&self, offset: u64, length: usize) -> impl Iterator<Item = Segment<'_>> {
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
        segments.peek().is_some() && segments.all(|segment| segment.file.pad)
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
            pad: *length < 0,
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
}
