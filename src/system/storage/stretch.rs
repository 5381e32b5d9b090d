//! Owns the shape of what is written at once: bytes that follow one another in the torrent and lie
//! in several places in memory, each block behind its message's header.

/// Bytes of the torrent in a row, in parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch<'a>(pub(super) &'a [&'a [u8]]);

impl<'a> Stretch<'a> {
    /// Bytes.
    pub(super) fn length(self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    /// The parts of the `length` bytes from byte `from` on; none of them is empty.
    pub(super) fn range(self, from: usize, length: usize) -> impl Iterator<Item = &'a [u8]> {
        let (mut skip, mut left) = (from, length);
        let parts = self.0.iter().filter_map(move |part| {
            let begin = skip.min(part.len());
            let end = begin.saturating_add(left).min(part.len());
            (skip, left) = (skip - begin, left - (end - begin));
            part.get(begin..end)
        });
        parts.filter(|part| !part.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_bytes_that_it_would_be_without_parts() {
        let whole: Vec<u8> = (0..20).collect();
        let parts: [&[u8]; 6] =
            [&whole[..0], &whole[..7], &whole[7..8], &whole[8..8], &whole[8..19], &whole[19..]];
        let stretch = Stretch(&parts);
        assert_eq!(stretch.length(), 20);
        for from in 0..=22 {
            for length in 0..=22 {
                let found: Vec<&[u8]> = stretch.range(from, length).collect();
                let expected = &whole[from.min(20)..(from + length).min(20)];
                assert_eq!(found.concat(), expected, "{length} from {from}");
                assert!(found.iter().all(|part| !part.is_empty()));
            }
        }
        assert_eq!(Stretch(&[]).range(3, usize::MAX).count(), 0);
    }
}
