//! A picture of the pieces: rows of cells, each of which stands for some pieces in a row.

use std::env;

use crate::bitfield::Bitfield;
use crate::limits::{LINES_A_MAP_ROW_MIN, MAP_ROWS_MAX};
use crate::units::{Geometry, PieceIndex};

/// What a cell looks like if its pieces are there, are there in part, are being fetched, or missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks([char; 4]);

/// Where nothing else can be shown.
pub const ASCII: Marks = Marks(['#', '+', '-', '.']);
/// Where everything can.
pub const BLOCKS: Marks = Marks(['█', '▒', '░', '·']);

impl Marks {
    /// Those that the locale can show.
    pub fn of_locale() -> Self {
        Self::of(["LC_ALL", "LC_CTYPE", "LANG"].map(|name| env::var(name).unwrap_or_default()))
    }

    /// The first of these that says something says it all (POSIX, "Locale").
    fn of(locale: [String; 3]) -> Self {
        let locale = locale.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let locale = locale.to_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") { BLOCKS } else { ASCII }
    }
}

/// The rows for a terminal of so many columns and lines: none of them is as long as a line, and
/// most lines stay free.
pub fn piece_map(
    geometry: Geometry,
    had: &Bitfield,
    begun: &[PieceIndex],
    (columns, lines): (usize, usize),
    Marks([full, part, fetched, missing]): Marks,
) -> Vec<String> {
    let columns = columns.saturating_sub(1).max(1);
    let rows = (lines / LINES_A_MAP_ROW_MIN).min(MAP_ROWS_MAX);
    let pieces = geometry.pieces() as usize;
    let cells = pieces.min(columns * rows);
    // Each cell's number of pieces, and how many of them are there; whether one is begun.
    let mut counts = vec![(0_usize, 0_usize, false); cells];
    let cell_of = |piece: PieceIndex| {
        let cell = piece.index() as u64 * cells as u64 / pieces.max(1) as u64;
        usize::try_from(cell).unwrap_or(usize::MAX)
    };
    for piece in geometry.all_pieces() {
        if let Some((all, there, _)) = counts.get_mut(cell_of(piece)) {
            *all += 1;
            *there += usize::from(had.has(piece));
        }
    }
    for piece in begun {
        if let Some((.., begun)) = counts.get_mut(cell_of(*piece)) {
            *begun = true;
        }
    }
    let mark = |&(all, there, begun): &(usize, usize, bool)| match there {
        there if there == all => full,
        0 if begun => fetched,
        0 => missing,
        _ => part,
    };
    counts.chunks(columns).map(|row| row.iter().map(mark).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: u32, had: &[u32], begun: &[u32], size: (usize, usize)) -> Vec<String> {
        let geometry = Geometry::new(u64::from(pieces), 1).unwrap();
        let piece = |number: &u32| geometry.piece(*number).unwrap();
        let mut found = Bitfield::none(geometry);
        had.iter().for_each(|number| assert!(found.insert(piece(number))));
        let begun: Vec<PieceIndex> = begun.iter().map(piece).collect();
        piece_map(geometry, &found, &begun, size, ASCII)
    }

    #[test]
    fn a_cell_tells_of_its_pieces() {
        assert_eq!(of(5, &[0, 1], &[3], (80, 24)), ["##.-."]);
        assert_eq!(of(8, &[0, 1, 2], &[2, 4, 7], (5, 6)), ["#+--"]);
        assert_eq!(of(4, &[0, 1, 2, 3], &[], (80, 24)), ["####"]);
        assert_eq!(of(1, &[], &[], (80, 24)), ["."]);
    }

    #[test]
    fn the_map_fits_any_terminal_and_shows_every_piece() {
        for pieces in [1, 79, 80, 1_000, 20_000] {
            for size in [(0, 6), (1, 6), (20, 7), (40, 10), (80, 24), (200, 50), (400, 400)] {
                let rows = of(pieces, &[], &[], size);
                let most = (size.1 / LINES_A_MAP_ROW_MIN).min(MAP_ROWS_MAX);
                assert!((1..=most).contains(&rows.len()), "{pieces} {size:?}");
                assert!(rows.iter().all(|row| row.chars().count() < size.0.max(2)), "{rows:?}");
                // The last piece alone changes the last cell, and no other.
                let last = of(pieces, &[pieces - 1], &[], size);
                let changed = |(one, other): (&String, &String)| {
                    one.chars().zip(other.chars()).filter(|(one, other)| one != other).count()
                };
                assert_eq!(rows.iter().zip(&last).map(changed).sum::<usize>(), 1);
                assert_ne!(rows.last(), last.last());
            }
        }
        let rows = |lines| of(20_000, &[], &[], (80, lines)).len();
        assert_eq!([5, 10, 24, 50, 400].map(rows), [0, 1, 4, 8, 12]);
    }

    #[test]
    fn the_locale_says_what_can_be_shown() {
        for (locale, expected) in [
            (["", "", ""], ASCII),
            (["", "", "C"], ASCII),
            (["", "", "de_DE.UTF-8"], BLOCKS),
            (["", "en_US.utf8", "C"], BLOCKS),
            (["C", "en_US.utf8", "en_US.utf8"], ASCII),
            (["", "de_DE.ISO-8859-1", ""], ASCII),
        ] {
            assert_eq!(Marks::of(locale.map(str::to_owned)), expected, "{locale:?}");
        }
    }
}
