//! Owns the numbers that nobody may foresee: transaction ids, secrets, places to look at. Who has
//! seen any of them knows nothing of the others, as it would be with a fast generator.

use sha1::{Digest, Sha1};

/// A source of such numbers: SHA-1 of a seed and of how many there were.
#[derive(Clone)]
pub struct Nonces {
    seed: [u8; 32],
    drawn: u64,
}

impl Nonces {
    /// Whoever makes it takes the seed from the system's random numbers, and uses it for nothing
    /// else.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// 20 bytes.
    pub fn draw(&mut self) -> [u8; 20] {
        self.drawn += 1;
        let sha = Sha1::new().chain_update(self.seed).chain_update(self.drawn.to_be_bytes());
        sha.finalize().into()
    }

    /// 4 bytes.
    pub fn draw_four(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.draw();
        [a, b, c, d]
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let number = u32::from_be_bytes(self.draw_four()) as usize;
        number.checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_is_another_one_and_follows_from_the_seed() {
        let draw = |seed| {
            let mut nonces = Nonces::new([seed; 32]);
            (0..1_000).map(|_| nonces.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        let all: HashSet<_> = draw(1).into_iter().chain(draw(2)).collect();
        assert_eq!(all.len(), 2_000);
    }

    #[test]
    fn numbers_are_below_their_bound_and_reach_all_of_it() {
        let mut nonces = Nonces::new([3; 32]);
        for bound in [1, 2, 7] {
            let drawn: HashSet<_> = (0..200).map(|_| nonces.below(bound)).collect();
            assert_eq!(drawn, (0..bound).collect());
        }
        assert_eq!(nonces.below(0), 0);
    }
}
