//! How far it is, in a line of text.

use std::fmt::Write as _;
use std::time::Duration;

use crate::engine::coordinator::Progress;
use crate::limits::{BAR_WIDTH_MAX, BAR_WIDTH_MIN, BAR_WIDTH_STEP_CHARS};
use crate::units::{Bytes, Count};

/// Between two parts of the line of a terminal.
const GAP: &str = "  ";

/// What counts less than this has a place only beside a bar.
const BAR_RANK: u8 = 5;

/// A part of the line. The parts come in the order in which they are shown.
struct Part {
    text: String,
    /// The parts with the smallest number have a place first.
    rank: u8,
}

/// The line for a terminal of so many columns: one less at most, so that none wraps it. The parts
/// that matter most have a place first; what is left is the bar's, in steps, so that it stands still
/// while the numbers beside it get longer and shorter.
pub fn status_line(progress: &Progress, columns: usize) -> String {
    let parts = parts(progress);
    let room = columns.saturating_sub(1);
    let mut ranks: Vec<u8> = parts.iter().map(|part| part.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let mut shown = 0;
    let mut taken = 0;
    for rank in ranks {
        let widths = parts.iter().filter(|part| part.rank == rank).map(|part| width(&part.text));
        let more: usize = widths.map(|width| width + GAP.len()).sum();
        // What follows the last part takes no place.
        let end = match rank > BAR_RANK {
            true => room.saturating_sub(BAR_WIDTH_MIN),
            false => room + GAP.len(),
        };
        if taken + more > end {
            break;
        }
        (taken, shown) = (taken + more, rank);
    }
    if shown == 0 {
        // Not even that fits.
        let first = parts.into_iter().min_by_key(|part| part.rank).map(|part| part.text);
        return first.unwrap_or_default().chars().take(room).collect();
    }
    let left = room.saturating_sub(taken).min(BAR_WIDTH_MAX);
    let columns = left - left % BAR_WIDTH_STEP_CHARS;
    let part_of = part_of(progress).filter(|_| columns >= BAR_WIDTH_MIN);
    let bar = part_of.map(|part_of| bar(part_of, columns));
    let texts = parts.into_iter().filter(|part| part.rank <= shown).map(|part| part.text);
    bar.into_iter().chain(texts).collect::<Vec<_>>().join(GAP)
}

/// The line for everything else: all parts.
pub fn plain_line(progress: &Progress) -> String {
    parts(progress).into_iter().map(|part| part.text).collect::<Vec<_>>().join(", ")
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// How much of how much is there.
fn part_of(progress: &Progress) -> Option<(u64, u64)> {
    match *progress {
        Progress::Checking { looked, total } => Some((looked, total)),
        Progress::Downloading { had, total, .. } => Some((had, total)),
        Progress::Asking { .. } | Progress::Seeding { .. } => None,
    }
}

/// A bar of so many columns, its ends included. It is full when everything is there.
fn bar((part, total): (u64, u64), columns: usize) -> String {
    let inside = columns.saturating_sub(2);
    let full = u128::from(part.min(total)) * inside as u128 / u128::from(total.max(1));
    let full = usize::try_from(full).unwrap_or(inside);
    format!("[{}{}]", "#".repeat(full), ".".repeat(inside - full))
}

fn parts(progress: &Progress) -> Vec<Part> {
    let part = |rank, text| Part { text, rank };
    match *progress {
        Progress::Asking { here, all, asked, known } => {
            let got = (all > 0).then(|| part(3, format!("{here} of {}", Count(all, "block"))));
            let peers = part(2, format!("{} asked ({known} known)", Count(asked, "peer")));
            [part(1, "asking what the torrent is".to_owned())]
                .into_iter()
                .chain(got)
                .chain([peers])
                .collect()
        }
        Progress::Checking { looked, total } => vec![
            part(1, "checking".to_owned()),
            part(1, percent(looked, total)),
            part(2, format!("{} of {}", Bytes(looked), Bytes(total))),
        ],
        Progress::Seeding { uploaded, sent_per_second, peers, plan, .. } => vec![
            part(4, format!("seeding {plan}")),
            part(1, format!("{} sent", Bytes(uploaded))),
            part(2, format!("{}/s", Bytes(sent_per_second))),
            part(3, Count(peers, "peer").to_string()),
        ],
        Progress::Downloading {
            had,
            total,
            per_second,
            sent_per_second,
            left,
            peers,
            known,
            mirrors,
            ..
        } => {
            let of = match (peers, mirrors) {
                (0, 0) => format!("no peers ({known} known)"),
                (0, mirrors) => Count(mirrors, "mirror").to_string(),
                (peers, 0) => Count(peers, "peer").to_string(),
                _ => format!("{} and {}", Count(peers, "peer"), Count(mirrors, "mirror")),
            };
            let mut parts = vec![
                part(1, percent(had, total)),
                part(4, format!("{} of {}", Bytes(had), Bytes(total))),
                part(2, format!("{}/s", Bytes(per_second))),
            ];
            let sent = Some(sent_per_second).filter(|sent| *sent > 0);
            parts.extend(sent.map(|sent| part(6, format!("{}/s sent", Bytes(sent)))));
            parts.push(part(5, of));
            parts.extend(left.map(|left| part(3, format!("{} left", span(left)))));
            parts
        }
    }
}

/// Rounded down, so that 100 % is everything.
fn percent(part: u64, total: u64) -> String {
    let tenths = u128::from(part) * 1_000 / u128::from(total.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// A time as people read it: `45 s`, `12 min 5 s`, `3 h 20 min`, `4 days`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let mut text = String::new();
    let _fits = match seconds {
        0..60 => write!(text, "{seconds} s"),
        60..3_600 => write!(text, "{} min {} s", seconds / 60, seconds % 60),
        3_600..172_800 => write!(text, "{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => write!(text, "{} days", seconds / 86_400),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::coordinator::Seeding;

    const HALF: Progress = Progress::Downloading {
        had: 1 << 30,
        total: 2 << 30,
        downloaded: 1 << 30,
        uploaded: 0,
        per_second: 35 << 20,
        sent_per_second: 0,
        left: Some(Duration::from_secs(29)),
        peers: 12,
        known: 90,
        mirrors: 0,
    };
    const GIVING: Progress = Progress::Downloading {
        had: 1 << 30,
        total: 2 << 30,
        downloaded: 1 << 30,
        uploaded: 1 << 20,
        per_second: 5 << 20,
        sent_per_second: 2 << 20,
        left: Some(Duration::from_secs(29)),
        peers: 12,
        known: 90,
        mirrors: 0,
    };
    /// The longest numbers there are.
    const LONG: Progress = Progress::Downloading {
        had: u64::MAX / 2,
        total: u64::MAX,
        downloaded: 0,
        uploaded: u64::MAX,
        per_second: (1 << 20) - 60_000,
        sent_per_second: (1 << 20) - 60_000,
        left: Some(Duration::from_secs(u64::MAX)),
        peers: 500,
        known: 4_000,
        mirrors: 300,
    };
    const CHECKING: Progress = Progress::Checking { looked: 999, total: 1000 };
    const ASKING: Progress = Progress::Asking { here: 1, all: 3, asked: 50, known: 1_200 };
    const SEEDING: Progress = Progress::Seeding {
        total: 5,
        downloaded: 5,
        uploaded: 1 << 30,
        sent_per_second: 5 << 20,
        peers: 3,
        plan: Seeding { time: None, ratio: Some(1.5) },
    };

    #[test]
    fn what_matters_most_is_shown_where_there_is_little_room() {
        let cases = [
            (20, &HALF, "50.0 %  35.0 MiB/s"),
            (30, &HALF, "50.0 %  35.0 MiB/s  29 s left"),
            (40, &HALF, "50.0 %  35.0 MiB/s  29 s left"),
            (50, &HALF, "50.0 %  1.0 GiB of 2.0 GiB  35.0 MiB/s  29 s left"),
            (60, &HALF, "50.0 %  1.0 GiB of 2.0 GiB  35.0 MiB/s  12 peers  29 s left"),
            (
                80,
                &HALF,
                "[######.......]  50.0 %  1.0 GiB of 2.0 GiB  35.0 MiB/s  12 peers  29 s left",
            ),
            (
                80,
                &GIVING,
                "[######.......]  50.0 %  1.0 GiB of 2.0 GiB  5.0 MiB/s  12 peers  29 s left",
            ),
            (
                100,
                &GIVING,
                "[#########.........]  50.0 %  1.0 GiB of 2.0 GiB  5.0 MiB/s  2.0 MiB/s sent  12 peers  29 s left",
            ),
            (20, &SEEDING, "1.0 GiB sent"),
            (40, &SEEDING, "1.0 GiB sent  5.0 MiB/s  3 peers"),
            (
                80,
                &SEEDING,
                "seeding until it sent 1.5 times its size  1.0 GiB sent  5.0 MiB/s  3 peers",
            ),
            (10, &CHECKING, "checking"),
            (20, &CHECKING, "checking  99.9 %"),
            (40, &CHECKING, "checking  99.9 %  999 B of 1000 B"),
            (20, &ASKING, "asking what the tor"),
            (40, &ASKING, "asking what the torrent is"),
            (80, &ASKING, "asking what the torrent is  1 of 3 blocks  50 peers asked (1200 known)"),
        ];
        for (columns, progress, expected) in cases {
            assert_eq!(status_line(progress, columns), expected, "{columns}");
        }
    }

    #[test]
    fn the_status_line_fits_any_terminal() {
        for progress in [HALF, LONG, CHECKING, ASKING, SEEDING] {
            let mut before = 0;
            for columns in 0..=400 {
                let line = status_line(&progress, columns);
                assert!(width(&line) < columns.max(1), "{columns}: {line}");
                assert_eq!(line.is_empty(), columns < 2, "{columns}");
                let parts = line.split(GAP).filter(|part| !part.starts_with('[')).count();
                assert!(parts >= before, "{columns}: {line}");
                before = parts;
            }
        }
    }

    #[test]
    fn the_bar_stands_still_while_numbers_grow() {
        let Progress::Downloading {
            total, downloaded, uploaded, sent_per_second, left, known, ..
        } = HALF
        else {
            unreachable!()
        };
        let with = |per_second, peers| Progress::Downloading {
            had: 1 << 30,
            total,
            downloaded,
            uploaded,
            per_second,
            sent_per_second,
            left,
            peers,
            known,
            mirrors: 0,
        };
        let bar_of = |line: &str| line.find(']').unwrap();
        let few = status_line(&with(1 << 20, 100), 100);
        let many = status_line(&with(100 << 20, 100), 100);
        assert_eq!(bar_of(&few), bar_of(&many), "{few}\n{many}");
    }

    #[test]
    fn a_full_bar_is_everything() {
        let cases = [
            ((0, 10), "[....]"),
            ((5, 10), "[##..]"),
            ((9, 10), "[###.]"),
            ((u64::MAX - 1, u64::MAX), "[###.]"),
            ((10, 10), "[####]"),
            ((20, 10), "[####]"),
            ((0, 0), "[....]"),
        ];
        for (part, expected) in cases {
            assert_eq!(bar(part, 6), expected, "{part:?}");
        }
        assert_eq!(bar((1, 2), 0), "[]");
    }

    #[test]
    fn a_plain_line_says_it_all() {
        assert_eq!(
            plain_line(&HALF),
            "50.0 %, 1.0 GiB of 2.0 GiB, 35.0 MiB/s, 12 peers, 29 s left"
        );
        assert_eq!(plain_line(&CHECKING), "checking, 99.9 %, 999 B of 1000 B");
    }

    #[test]
    fn who_brings_it_is_counted() {
        for (peers, mirrors, of) in [
            (0, 0, "no peers (3 known)"),
            (2, 0, "2 peers"),
            (0, 1, "1 mirror"),
            (1, 2, "1 peer and 2 mirrors"),
        ] {
            let progress = Progress::Downloading {
                had: 0,
                total: 1,
                downloaded: 0,
                uploaded: 0,
                per_second: 0,
                sent_per_second: 0,
                left: None,
                peers,
                known: 3,
                mirrors,
            };
            assert_eq!(parts(&progress).last().unwrap().text, of);
        }
    }

    #[test]
    fn nearly_all_is_not_all() {
        assert_eq!(percent(u64::MAX - 1, u64::MAX), "99.9 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0 %");
        assert_eq!(percent(0, 0), "0.0 %");
    }

    #[test]
    fn times_read_well() {
        let cases = [
            (0, "0 s"),
            (65, "1 min 5 s"),
            (7_260, "2 h 1 min"),
            (u64::MAX, "213503982334601 days"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
