//! Owns the order of the pieces nobody has begun: rarest first, at random among the equally rare.
//!
//! One array holds the pieces sorted by how many peers have them. A peer's `have` moves one piece
//! across one border, by a swap; so a change costs the same however many pieces there are.

use std::ops::Range;

use crate::bitfield::Bitfield;
use crate::units::{Geometry, PieceIndex};

/// Place of a piece that is not in the order.
const NOWHERE: u32 = u32::MAX;
/// How many of the rarest pieces are looked at one by one before the peer's bitfield is searched.
const LOOK_AT_FIRST: usize = 256;

/// The pieces that are still to be begun, sorted by availability.
pub struct Rarity {
    geometry: Geometry,
    /// For each piece, how many peers have it; peers that have everything are not counted.
    availability: Vec<u16>,
    /// The pieces in order: those of class 0 (nobody has it), of class 1, and so on.
    order: Vec<PieceIndex>,
    /// For each piece its place in `order`, or `NOWHERE`.
    place: Vec<u32>,
    /// For each class, where in `order` it ends.
    ends: Vec<u32>,
    /// The same set as `order`, to search a peer's bitfield against.
    members: Bitfield,
}

impl Rarity {
    /// All pieces that `have` lacks, in random order; nobody has any of them.
    pub fn new(geometry: Geometry, have: &Bitfield, rng: &mut fastrand::Rng) -> Self {
        let mut order: Vec<PieceIndex> =
            geometry.all_pieces().filter(|piece| !have.has(*piece)).collect();
        rng.shuffle(&mut order);
        let mut place = vec![NOWHERE; geometry.pieces() as usize];
        let mut members = Bitfield::none(geometry);
        for (at, piece) in (0..).zip(&order) {
            if let Some(slot) = place.get_mut(piece.index()) {
                *slot = at;
            }
            members.insert(*piece);
        }
        let ends = vec![u32::try_from(order.len()).unwrap_or(NOWHERE)];
        let availability = vec![0; geometry.pieces() as usize];
        Self { geometry, availability, order, place, ends, members }
    }

    /// How many peers have `piece`, those that have everything not counted.
    pub fn availability(&self, piece: PieceIndex) -> u16 {
        self.availability.get(piece.index()).copied().unwrap_or(0)
    }

    /// Whether `piece` is still to be begun.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.members.has(piece)
    }

    /// How many pieces are still to be begun.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether every piece has been begun.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// One more peer has `piece`.
    pub fn more(&mut self, piece: PieceIndex) {
        let class = self.availability(piece);
        let Some(next) = class.checked_add(1) else { return };
        self.set_availability(piece, next);
        if !self.contains(piece) {
            return;
        }
        // The last place of its class becomes the first of the next one.
        self.grow_to(next);
        if let Some(end) = self.ends.get_mut(usize::from(class)) {
            *end -= 1;
            let border = *end;
            self.swap(piece, border);
        }
    }

    /// One peer less has `piece`.
    pub fn less(&mut self, piece: PieceIndex) {
        let class = self.availability(piece);
        let Some(previous) = class.checked_sub(1) else { return };
        self.set_availability(piece, previous);
        if !self.contains(piece) {
            return;
        }
        // The first place of its class becomes the last of the one before.
        if let Some(end) = self.ends.get_mut(usize::from(previous)) {
            let border = *end;
            *end += 1;
            self.swap(piece, border);
        }
    }

    /// Takes `piece` out: it has been begun.
    pub fn remove(&mut self, piece: PieceIndex) {
        if !self.members.remove(piece) {
            return;
        }
        // It sinks through the classes above its own to the end of the order.
        let class = usize::from(self.availability(piece));
        for above in class..self.ends.len() {
            if let Some(end) = self.ends.get_mut(above) {
                *end -= 1;
                let border = *end;
                self.swap(piece, border);
            }
        }
        self.order.pop();
        self.set_place(piece, NOWHERE);
    }

    /// Puts `piece` back in: its bytes were wrong, or nobody works on it any longer.
    pub fn insert(&mut self, piece: PieceIndex) {
        if !self.members.insert(piece) {
            return;
        }
        let class = self.availability(piece);
        self.grow_to(class);
        self.set_place(piece, u32::try_from(self.order.len()).unwrap_or(NOWHERE));
        self.order.push(piece);
        for above in (usize::from(class)..self.ends.len()).rev() {
            if let Some(end) = self.ends.get_mut(above) {
                let border = *end;
                *end += 1;
                self.swap(piece, border);
            }
        }
    }

    /// The rarest piece that is in `have`.
    pub fn rarest(&self, have: &Bitfield) -> Option<PieceIndex> {
        let near = self.order.iter().take(LOOK_AT_FIRST).copied().find(|piece| have.has(*piece));
        if near.is_some() || self.order.len() <= LOOK_AT_FIRST {
            return near;
        }
        // A peer with few pieces: its own bitfield is the shorter way.
        self.common(have).min_by_key(|piece| self.place.get(piece.index()).copied())
    }

    /// The first piece, in the torrent's order, that is in `have`.
    pub fn first(&self, have: &Bitfield) -> Option<PieceIndex> {
        self.common(have).next()
    }

    /// A piece that is in `have`, at random.
    pub fn random(&self, have: &Bitfield, rng: &mut fastrand::Rng) -> Option<PieceIndex> {
        let start = rng.usize(..self.order.len().max(1));
        let (before, after) = self.order.split_at_checked(start)?;
        after.iter().chain(before).copied().find(|piece| have.has(*piece))
    }

    /// The pieces still to be begun that are in `have`, in the torrent's order.
    fn common<'a>(&'a self, have: &'a Bitfield) -> impl Iterator<Item = PieceIndex> + 'a {
        let bytes = self.members.as_bytes().iter().zip(have.as_bytes());
        (0_u32..).zip(bytes).filter(|(_, (ours, theirs))| **ours & **theirs != 0).flat_map(
            move |(at, (ours, theirs))| {
                let both = ours & theirs;
                (0..8)
                    .filter(move |bit| both & (0x80 >> bit) != 0)
                    .filter_map(move |bit| self.geometry.piece(at * 8 + bit))
            },
        )
    }

    /// How many peers have the piece that most have, those that have everything not counted.
    pub fn most_available(&self) -> u16 {
        self.order.last().map_or(0, |piece| self.availability(*piece))
    }

    /// The stretches of pieces still to be begun, each as long as it can be, in the torrent's order.
    pub fn gaps(&self) -> impl Iterator<Item = Range<u32>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let begin = self.next(true, at).filter(|begin| *begin < self.geometry.pieces())?;
            at = self.next(false, begin).unwrap_or(u32::MAX).min(self.geometry.pieces());
            Some(begin..at)
        })
    }

    /// The first place from `from` on where a piece is still to be begun, or is not. Whole bytes of
    /// others are passed over.
    fn next(&self, contained: bool, from: u32) -> Option<u32> {
        let flip = if contained { 0 } else { u8::MAX };
        let bytes = self.members.as_bytes().get(from as usize / 8..)?;
        let mut mask = u8::MAX >> (from % 8);
        for (number, byte) in (from / 8..).zip(bytes) {
            let found = (byte ^ flip) & mask;
            if found != 0 {
                return Some(number * 8 + found.leading_zeros());
            }
            mask = u8::MAX;
        }
        None
    }

    fn set_availability(&mut self, piece: PieceIndex, peers: u16) {
        if let Some(slot) = self.availability.get_mut(piece.index()) {
            *slot = peers;
        }
    }

    fn set_place(&mut self, piece: PieceIndex, at: u32) {
        if let Some(slot) = self.place.get_mut(piece.index()) {
            *slot = at;
        }
    }

    /// There is an end for each class up to `class`; new classes are empty.
    fn grow_to(&mut self, class: u16) {
        let last = self.ends.last().copied().unwrap_or(0);
        if self.ends.len() <= usize::from(class) {
            self.ends.resize(usize::from(class) + 1, last);
        }
    }

    /// `piece` and whatever stands at `border` change places.
    fn swap(&mut self, piece: PieceIndex, border: u32) {
        let Some(at) = self.place.get(piece.index()).copied() else { return };
        let Some(other) = self.order.get(border as usize).copied() else { return };
        self.order.swap(at as usize, border as usize);
        self.set_place(piece, border);
        self.set_place(other, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(pieces: u32) -> Geometry {
        Geometry::new(u64::from(pieces), 1).unwrap()
    }

    /// Everything that must hold between the tables.
    fn check(rarity: &Rarity) {
        let mut sorted = rarity.order.clone();
        sorted.sort_by_key(|piece| rarity.availability(*piece));
        let classes = |pieces: &[PieceIndex]| -> Vec<u16> {
            pieces.iter().map(|piece| rarity.availability(*piece)).collect()
        };
        assert_eq!(classes(&rarity.order), classes(&sorted));
        assert_eq!(rarity.members.count() as usize, rarity.order.len());
        assert_eq!(*rarity.ends.last().unwrap() as usize, rarity.order.len());
        for (at, piece) in rarity.order.iter().enumerate() {
            assert_eq!(rarity.place[piece.index()] as usize, at);
            let class = usize::from(rarity.availability(*piece));
            assert!(at < rarity.ends[class] as usize);
            assert!(class == 0 || at >= rarity.ends[class - 1] as usize);
        }
    }

    #[test]
    fn gaps_are_as_long_as_they_can_be() {
        for (pieces, had) in [
            (1, vec![]),
            (1, vec![0]),
            (40, vec![]),
            (40, vec![0, 1, 2]),
            (40, vec![39]),
            (40, (5..31).collect()),
            (40, vec![7, 8, 15, 17, 24]),
            (64, (0..64).filter(|number| number % 3 == 0).collect()),
            (33, (0..33).collect()),
        ] {
            let geometry = Geometry::new(pieces, 1).unwrap();
            let mut have = Bitfield::none(geometry);
            let had: Vec<u32> = had;
            for number in &had {
                have.insert(geometry.piece(*number).unwrap());
            }
            let rarity = Rarity::new(geometry, &have, &mut fastrand::Rng::with_seed(1));
            let gaps: Vec<Range<u32>> = rarity.gaps().collect();
            let missing: Vec<u32> = gaps.iter().cloned().flatten().collect();
            let expected: Vec<u32> =
                (0..geometry.pieces()).filter(|number| !had.contains(number)).collect();
            assert_eq!(missing, expected, "{gaps:?}");
            assert!(gaps.windows(2).all(|pair| pair[0].end < pair[1].start), "{gaps:?}");
        }
    }

    #[test]
    fn the_order_holds_through_any_changes() {
        let geometry = geometry(50);
        let mut rng = fastrand::Rng::with_seed(2);
        let mut rarity = Rarity::new(geometry, &Bitfield::none(geometry), &mut rng);
        for _ in 0..5_000 {
            let piece = geometry.piece(rng.u32(..50)).unwrap();
            match rng.u32(..6) {
                0 | 1 => rarity.more(piece),
                2 => rarity.less(piece),
                3 => rarity.remove(piece),
                _ => rarity.insert(piece),
            }
            check(&rarity);
        }
    }

    #[test]
    fn the_rarest_is_found_for_rich_and_poor_peers() {
        let geometry = geometry(1_000);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut rarity = Rarity::new(geometry, &Bitfield::none(geometry), &mut rng);
        for piece in geometry.all_pieces() {
            (0..piece.get() % 7).for_each(|_| rarity.more(piece));
        }
        let mut poor = Bitfield::none(geometry);
        for number in [999, 993, 5] {
            poor.insert(geometry.piece(number).unwrap());
        }
        // 999 % 7 = 5, 993 % 7 = 6, 5 % 7 = 5.
        let rarest = rarity.rarest(&poor).unwrap().get();
        assert!(rarest == 999 || rarest == 5, "{rarest}");
        assert_eq!(rarity.rarest(&Bitfield::all(geometry)).unwrap().get() % 7, 0);
        assert_eq!(rarity.rarest(&Bitfield::none(geometry)), None);
        assert_eq!(rarity.random(&Bitfield::none(geometry), &mut rng), None);
        assert!(poor.has(rarity.random(&poor, &mut rng).unwrap()));
    }
}
