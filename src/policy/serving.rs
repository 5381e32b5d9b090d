//! Owns what one peer has asked of us: its requests in order, and how much of the first one is on
//! its way. No bytes are kept: what could not be sent is read again when there is room for it.

use std::collections::VecDeque;
use std::ops::Range as Span;

use crate::limits::REQUESTS_QUEUED_MAX;
use crate::protocol::message::PIECE_HEADER_LENGTH;
use crate::units::Block;

/// A stretch of one block's message, header and data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Portion {
    /// The block. It may be longer or shorter than those that we ask for.
    pub block: Block,
    /// Which bytes of the message.
    pub bytes: Span<usize>,
}

/// The requests of one peer that are to be answered.
#[derive(Debug, Default)]
pub struct Serving {
    queue: VecDeque<Block>,
    /// Bytes of the first one's message that are sent.
    sent: usize,
}

impl Serving {
    /// Whether nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a message is half sent: nothing else may be said before its end.
    pub fn is_in_message(&self) -> bool {
        self.sent > 0
    }

    /// Takes a request. False if there are too many already, or if this one waits.
    #[must_use]
    pub fn ask(&mut self, block: Block) -> bool {
        let fits = self.queue.len() < REQUESTS_QUEUED_MAX as usize && !self.queue.contains(&block);
        if fits {
            self.queue.push_back(block);
        }
        fits
    }

    /// Takes a request back. False if there is none such, or it is being answered.
    pub fn cancel(&mut self, block: Block) -> bool {
        let begun = usize::from(self.is_in_message());
        let at = self.queue.iter().skip(begun).position(|asked| *asked == block);
        at.and_then(|at| self.queue.remove(at + begun)).is_some()
    }

    /// Takes back all requests but the one that is being answered.
    pub fn cancel_all(&mut self) -> VecDeque<Block> {
        self.queue.split_off(usize::from(self.is_in_message()))
    }

    /// What is to be sent next, `room` bytes at most.
    pub fn next(&self, room: usize) -> impl Iterator<Item = Portion> {
        let (mut from, mut room) = (self.sent, room);
        self.queue.iter().map_while(move |block| {
            let length = message_length(*block);
            let begin = std::mem::take(&mut from);
            let end = length.min(begin.saturating_add(room));
            room -= end.saturating_sub(begin);
            (begin < end).then_some(Portion { block: *block, bytes: begin..end })
        })
    }

    /// So many bytes of it are sent. Returns how many messages are whole, and how many bytes of
    /// the pieces went.
    pub fn on_sent(&mut self, bytes: usize) -> (u32, u64) {
        let (mut whole, mut data) = (0, 0);
        let mut left = bytes;
        while let Some(block) = self.queue.front()
            && left > 0
        {
            let now = left.min(message_length(*block) - self.sent);
            let header = PIECE_HEADER_LENGTH.saturating_sub(self.sent).min(now);
            data += (now - header) as u64;
            left -= now;
            self.sent += now;
            if self.sent == message_length(*block) {
                self.queue.pop_front();
                self.sent = 0;
                whole += 1;
            }
        }
        (whole, data)
    }
}

fn message_length(block: Block) -> usize {
    PIECE_HEADER_LENGTH + block.length as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Geometry;

    fn block(begin: u32, length: u32) -> Block {
        Geometry::new(1 << 20, 1 << 20).unwrap().range(0, begin, length).unwrap()
    }

    #[test]
    fn requests_are_answered_in_order_whatever_room_there_is() {
        for room in [1, 13, 14, 50, 1000] {
            let mut serving = Serving::default();
            let blocks = [block(0, 20), block(100, 1), block(20, 70)];
            assert!(blocks.iter().all(|block| serving.ask(*block)));
            let (mut sent, mut done) = (Vec::new(), (0, 0));
            while !serving.is_empty() {
                let portions: Vec<Portion> = serving.next(room).collect();
                let length = portions.iter().map(|portion| portion.bytes.len()).sum::<usize>();
                assert!(length > 0 && length <= room);
                // Not all of it is always taken.
                let taken = length.div_ceil(2);
                let (whole, data) = serving.on_sent(taken);
                done = (done.0 + whole, done.1 + data);
                let bytes = portions
                    .iter()
                    .flat_map(|portion| portion.bytes.clone().map(|at| (portion.block.begin, at)));
                sent.extend(bytes.take(taken));
            }
            let expected: Vec<(u32, usize)> = blocks
                .iter()
                .flat_map(|block| (0..message_length(*block)).map(|at| (block.begin, at)))
                .collect();
            assert_eq!(sent, expected, "{room}");
            assert_eq!(done, (3, 91));
        }
    }

    #[test]
    fn what_waits_can_be_taken_back_but_not_what_is_on_its_way() {
        let mut serving = Serving::default();
        let blocks = [block(0, 20), block(20, 20), block(40, 20)];
        assert!(blocks.iter().all(|block| serving.ask(*block)));
        assert!(!serving.ask(blocks[1]), "it waits already");
        serving.on_sent(5);
        assert!(serving.is_in_message());
        assert!(!serving.cancel(blocks[0]) && serving.cancel(blocks[1]));
        assert!(!serving.cancel(blocks[1]));
        assert_eq!(serving.cancel_all(), [blocks[2]]);
        assert_eq!(serving.on_sent(1000), (1, 20));
        assert!(serving.is_empty() && !serving.is_in_message());
    }

    #[test]
    fn no_more_wait_than_we_said() {
        let mut serving = Serving::default();
        let taken = (0..2 * REQUESTS_QUEUED_MAX).filter(|begin| serving.ask(block(*begin, 1)));
        assert_eq!(taken.count(), REQUESTS_QUEUED_MAX as usize);
    }
}
