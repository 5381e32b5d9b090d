//! Decides which of a torrent's files are fetched, and which pieces that takes.

use std::ops::RangeInclusive;
use std::path::Path;

use fast_glob::glob_match;

use crate::bitfield::Bitfield;
use crate::limits::SELECTIONS_MAX;
use crate::protocol::metainfo::Metainfo;

/// What is wanted, before it is known what there is. Nothing means everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    /// Files by their place in the torrent, padding counted, from 0.
    pub numbers: Vec<RangeInclusive<usize>>,
    /// Patterns, one of which a file's path below the torrent's directory fits: that of a directory
    /// it is in is enough, and without a `/` any part of it.
    pub patterns: Vec<String>,
}

impl Wish {
    /// Whether it is everything.
    pub fn is_everything(&self) -> bool {
        self.numbers.is_empty() && self.patterns.is_empty()
    }

    /// Reads places as they are typed, `1-3,8`, counted from 1.
    ///
    /// # Errors
    /// What can be typed.
    pub fn read_numbers(text: &str) -> Result<Vec<RangeInclusive<usize>>, String> {
        let number = |text: &str| text.parse::<usize>().ok()?.checked_sub(1);
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = number(first)?..=number(last)?;
            (!range.is_empty()).then_some(range)
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            if ranges.len() >= SELECTIONS_MAX {
                return Err(format!("no more than {SELECTIONS_MAX} numbers and ranges"));
            }
            let read = range(part.trim());
            ranges.push(read.ok_or("numbers from 1 on, and ranges of them: 1-3,8")?);
        }
        Ok(ranges)
    }
}

/// The files that are fetched: one flag for each file of the torrent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    files: Vec<bool>,
}

impl Selection {
    /// What of a torrent is wished for; `None` if it is all of it.
    ///
    /// # Errors
    /// A sentence that says what the torrent does not have.
    pub fn new(wish: &Wish, metainfo: &Metainfo) -> Result<Option<Self>, String> {
        if wish.is_everything() {
            return Ok(None);
        }
        let count = metainfo.files.len();
        let mut files = vec![false; count];
        for range in &wish.numbers {
            let chosen = files.get_mut(range.clone());
            let Some(chosen) = chosen else {
                let last = range.end().saturating_add(1);
                return Err(format!("there is no file {last}, the last is {count}"));
            };
            chosen.fill(true);
        }
        for pattern in &wish.patterns {
            let mut fits = false;
            for (chosen, file) in files.iter_mut().zip(&metainfo.files) {
                if file.is_data() && is_named(pattern, below_name(metainfo, &file.path)) {
                    (*chosen, fits) = (true, true);
                }
            }
            if !fits {
                return Err(format!("no file matches {pattern}"));
            }
        }
        let mut data = files.iter().zip(&metainfo.files).filter(|(_, file)| file.is_data());
        if data.clone().all(|(chosen, _)| !chosen) {
            return Err("only padding was selected, there is nothing to fetch".to_owned());
        }
        Ok(data.any(|(chosen, _)| !chosen).then_some(Self { files }))
    }

    /// Whether the file at this place is fetched.
    pub fn has(&self, index: usize) -> bool {
        self.files.get(index).copied().unwrap_or(false)
    }

    /// How many files are fetched, and bytes of them.
    pub fn size(&self, metainfo: &Metainfo) -> (usize, u64) {
        let files = self.files.iter().zip(&metainfo.files);
        let chosen = files.filter(|(chosen, file)| **chosen && file.is_data());
        chosen.fold((0, 0), |(count, bytes), (_, file)| (count + 1, bytes + file.length))
    }

    /// The pieces that a byte of a selected file lies in.
    pub fn pieces(&self, metainfo: &Metainfo) -> Bitfield {
        let geometry = metainfo.geometry;
        let piece_length = u64::from(geometry.piece_length()).max(1);
        let mut pieces = Bitfield::none(geometry);
        let mut begin = 0u64;
        for (chosen, file) in self.files.iter().zip(&metainfo.files) {
            let end = begin.saturating_add(file.length);
            if *chosen && file.is_data() && file.length > 0 {
                for number in begin / piece_length..=(end - 1) / piece_length {
                    let piece =
                        u32::try_from(number).ok().and_then(|number| geometry.piece(number));
                    piece.map(|piece| pieces.insert(piece));
                }
            }
            begin = end;
        }
        pieces
    }
}

/// The part of a path that patterns are about: without the directory that all files are in.
fn below_name<'a>(metainfo: &Metainfo, path: &'a Path) -> &'a Path {
    match metainfo.multi_file {
        true => path.strip_prefix(&metainfo.name).unwrap_or(path),
        false => path,
    }
}

fn is_named(pattern: &str, path: &Path) -> bool {
    if pattern.contains('/') {
        let pattern = pattern.trim_matches('/');
        let mut paths = path.ancestors().filter_map(Path::to_str).filter(|path| !path.is_empty());
        return paths.any(|path| glob_match(pattern, path));
    }
    let mut names = path.iter().filter_map(|name| name.to_str());
    names.any(|name| glob_match(pattern, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::bencode::Item;

    /// Pieces of 100 bytes.
    fn torrent(files: &[(&str, i64)]) -> Metainfo {
        let total: i64 = files.iter().map(|(_, length)| length.abs()).sum();
        let file = |(path, length): &(&str, i64)| {
            let path = Item::list(path.split('/').map(Item::bytes));
            let bytes = Item::from(length.abs());
            match length < &0 {
                false => Item::dict([("length", bytes), ("path", path)]),
                true => Item::dict([("attr", Item::bytes("p")), ("length", bytes), ("path", path)]),
            }
        };
        let hashes = vec![7; 20 * usize::try_from(total).unwrap().div_ceil(100)];
        let info = Item::dict([
            ("files", Item::list(files.iter().map(file))),
            ("name", Item::bytes("t")),
            ("piece length", Item::from(100)),
            ("pieces", Item::bytes(hashes)),
        ]);
        Metainfo::parse(&Item::dict([("info", info)]).encode()).unwrap()
    }

    fn by_number(text: &str) -> Wish {
        Wish { numbers: Wish::read_numbers(text).unwrap(), patterns: Vec::new() }
    }

    fn by_pattern(patterns: &[&str]) -> Wish {
        let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Wish { numbers: Vec::new(), patterns }
    }

    fn chosen(wish: &Wish, metainfo: &Metainfo) -> Result<Option<Vec<usize>>, String> {
        let files = |selection: Selection| {
            (0..metainfo.files.len()).filter(|index| selection.has(*index)).collect()
        };
        Ok(Selection::new(wish, metainfo)?.map(files))
    }

    #[test]
    fn numbers_are_read_as_aria2_has_them() {
        for (text, expected) in [
            ("1", Some(vec![0..=0])),
            ("1-3,8", Some(vec![0..=2, 7..=7])),
            (" 2 , 4-4", Some(vec![1..=1, 3..=3])),
            ("", None),
            ("0", None),
            ("3-1", None),
            ("1-", None),
            ("-1", None),
            ("1,,2", None),
            ("one", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Wish::read_numbers(text).ok(), expected, "{text}");
        }
        let many = vec!["1"; SELECTIONS_MAX + 1].join(",");
        assert!(Wish::read_numbers(&many).unwrap_err().contains("ranges"));
    }

    #[test]
    fn files_are_chosen_by_number_and_by_pattern() {
        let files = [("a.iso", 10), ("s 1/b.mkv", 10), ("s 1/b.srt", 10), ("s 2/x/c.mkv", 10)];
        let metainfo = torrent(&files);
        let cases = [
            (by_number("2"), vec![1]),
            (by_number("1-2,4"), vec![0, 1, 3]),
            (by_pattern(&["*.mkv"]), vec![1, 3]),
            (by_pattern(&["*.srt", "a.*"]), vec![0, 2]),
            (by_pattern(&["s 1"]), vec![1, 2]),
            (by_pattern(&["s ?/"]), vec![1, 2, 3]),
            (by_pattern(&["s 1/*.mkv"]), vec![1]),
            (by_pattern(&["*/c.mkv", "**/c.mkv"]), vec![3]),
            (by_pattern(&["**/b.{mkv,srt}"]), vec![1, 2]),
            (by_pattern(&["/s 2/x"]), vec![3]),
        ];
        for (wish, expected) in cases {
            let found = chosen(&wish, &metainfo);
            // A pattern that nothing fits is a mistake, whatever the others fit.
            match wish.patterns.first().is_some_and(|first| first == "*/c.mkv") {
                true => assert!(found.unwrap_err().contains("*/c.mkv")),
                false => assert_eq!(found, Ok(Some(expected)), "{wish:?}"),
            }
        }
        for all in [Wish::default(), by_number("1-4"), by_pattern(&["*"]), by_pattern(&["**"])] {
            assert_eq!(chosen(&all, &metainfo), Ok(None), "{all:?}");
        }
        for (wish, reason) in [
            (by_number("5"), "there is no file 5, the last is 4"),
            (by_number("4-6"), "there is no file 6"),
            (by_pattern(&["t"]), "matches t"),
            (by_pattern(&["s 1/b"]), "matches s 1/b"),
        ] {
            assert!(chosen(&wish, &metainfo).unwrap_err().contains(reason), "{wish:?}");
        }
    }

    #[test]
    fn padding_is_counted_and_never_chosen() {
        let metainfo = torrent(&[("a", 60), ("pad", -40), ("b", 100)]);
        assert_eq!(chosen(&by_number("3"), &metainfo), Ok(Some(vec![2])));
        assert!(chosen(&by_number("2"), &metainfo).unwrap_err().contains("padding"));
        assert_eq!(chosen(&by_number("1,3"), &metainfo), Ok(None));
    }

    #[test]
    fn pieces_are_those_that_selected_bytes_lie_in() {
        let files = [("a", 150), ("empty", 0), ("b", 50), ("c", 1), ("d", 299)];
        let metainfo = torrent(&files);
        let pieces = |text: &str| {
            let selection = Selection::new(&by_number(text), &metainfo).unwrap().unwrap();
            let pieces = selection.pieces(&metainfo);
            let all = metainfo.geometry.all_pieces();
            all.filter(|piece| pieces.has(*piece)).map(|piece| piece.get()).collect::<Vec<_>>()
        };
        for (text, expected) in [
            ("1", vec![0, 1]),
            ("2", vec![]),
            ("3", vec![1]),
            ("4", vec![2]),
            ("3-4", vec![1, 2]),
            ("5", vec![2, 3, 4]),
            ("1,5", vec![0, 1, 2, 3, 4]),
        ] {
            assert_eq!(pieces(text), expected, "{text}");
        }
    }
}
