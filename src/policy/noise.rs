//! Decides when a peer is too loud. What it says is cheap to hear, but it could say it without end
//! and faster than anything useful comes: messages, bytes, even single bytes that are read one by
//! one. So whatever brings nothing is counted, and forgotten again at a steady pace.

use std::time::{Duration, Instant};

use crate::limits::{BLOCK_LENGTH, NOISE_BURST_MAX, NOISE_BYTES, NOISE_PER_S_MAX};

const FORGOTTEN_IN: Duration = Duration::from_micros(1_000_000 / NOISE_PER_S_MAX as u64);
const BURST_IN: Duration = FORGOTTEN_IN.saturating_mul(NOISE_BURST_MAX);

/// The noise that a peer has made.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// When all of it is forgotten.
    silent_at: Instant,
}

impl Noise {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        Self { silent_at: now }
    }

    /// A read, or a message without use of so many bytes. False if that was too much.
    #[must_use]
    pub fn hear(&mut self, bytes: usize, now: Instant) -> bool {
        let more = u32::try_from(bytes).unwrap_or(u32::MAX) / NOISE_BYTES;
        let cost = FORGOTTEN_IN.saturating_mul(more.saturating_add(1));
        self.silent_at = self.silent_at.max(now) + cost;
        self.silent_at <= now + BURST_IN
    }

    /// A block came that was wanted.
    pub fn make_up_for_block(&mut self) {
        self.forget(BLOCK_LENGTH / NOISE_BYTES);
    }

    /// The peer has a piece that it had not before.
    pub fn make_up_for_news(&mut self) {
        self.forget(1);
    }

    fn forget(&mut self, count: u32) {
        let earlier = self.silent_at.checked_sub(FORGOTTEN_IN.saturating_mul(count));
        self.silent_at = earlier.unwrap_or(self.silent_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many in each second: reads and messages without use, how many bytes each of these has,
    /// blocks, and pieces that are news.
    struct Talk {
        reads: u32,
        useless: u32,
        bytes: usize,
        blocks: u32,
        news: u32,
    }

    /// The second in which such a peer became too loud, if it did within a hundred.
    fn too_loud(talk: &Talk) -> Option<u64> {
        let start = Instant::now();
        let mut noise = Noise::new(start);
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            let most = talk.reads.max(talk.useless).max(talk.blocks).max(talk.news);
            for turn in 0..u64::from(most) {
                // Each kind comes at even distances.
                let comes = |count: u32| {
                    let so_far = |turn: u64| turn * u64::from(count) / u64::from(most);
                    so_far(turn + 1) > so_far(turn)
                };
                let loud = comes(talk.reads) && !noise.hear(0, now)
                    || comes(talk.useless) && !noise.hear(talk.bytes, now);
                if loud {
                    return Some(second);
                }
                if comes(talk.blocks) {
                    noise.make_up_for_block();
                }
                if comes(talk.news) {
                    noise.make_up_for_news();
                }
            }
        }
        None
    }

    const SILENT: Talk = Talk { reads: 0, useless: 0, bytes: 0, blocks: 0, news: 0 };

    #[test]
    fn honest_peers_are_never_too_loud() {
        let cases = [
            ("a seed on a slow line with short packets", Talk { reads: 320, blocks: 10, ..SILENT }),
            ("a fast seed", Talk { reads: 70_000, blocks: 7_000, ..SILENT }),
            (
                "a leecher that gets a piece a millisecond",
                Talk { reads: 1_000, news: 1_000, ..SILENT },
            ),
            ("a choke of 500 requests every 10 s", Talk { reads: 5, useless: 51, ..SILENT }),
            (
                "peer exchange, all the time",
                Talk { reads: 10, useless: 10, bytes: 1_000, ..SILENT },
            ),
        ];
        for (who, talk) in cases {
            assert_eq!(too_loud(&talk), None, "{who}");
        }
    }

    #[test]
    fn floods_are_too_loud_soon() {
        let cases = [
            ("keep-alives", Talk { reads: 1_000, useless: 1_000_000, ..SILENT }, 0),
            ("long messages", Talk { useless: 1_000, bytes: 1 << 20, ..SILENT }, 0),
            ("long messages, slowly", Talk { useless: 1, bytes: 1 << 20, ..SILENT }, 4),
            ("single bytes", Talk { reads: 50_000, ..SILENT }, 0),
            (
                "single bytes, and a block now and then",
                Talk { reads: 5_000, blocks: 4, ..SILENT },
                4,
            ),
            ("old news among new", Talk { reads: 10, useless: 5_000, news: 100, ..SILENT }, 4),
        ];
        for (what, talk, within) in cases {
            assert!(too_loud(&talk).is_some_and(|second| second <= within), "{what}");
        }
    }

    #[test]
    fn silence_saves_nothing_up() {
        let start = Instant::now();
        let mut noise = Noise::new(start);
        let later = start + Duration::from_secs(24 * 3_600);
        (0..1_000_000).for_each(|_| noise.make_up_for_block());
        assert!((0..NOISE_BURST_MAX).all(|_| noise.hear(0, later)));
        assert!(!noise.hear(0, later));
        let moment = later + 2 * FORGOTTEN_IN;
        assert!(noise.hear(0, moment), "it is forgotten at a steady pace");
        assert!(!noise.hear(NOISE_BYTES as usize, moment));
    }
}
