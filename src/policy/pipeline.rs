//! Decides how many requests are out to one peer: enough that it never waits for us, few enough
//! that a block is not parked with a slow peer for long.
//!
//! A block that came `latency` after it was asked for, with `ahead` requests out at that time,
//! tells the peer's rate: ahead / latency (Little's law). The depth that is wanted is that rate
//! times the shortest latency ever seen (the round trip) plus `QUEUE_TARGET_MS`, which keeps the
//! peer busy. The depth moves towards it by one a block: it doubles every round trip at most.

use std::cmp::Ordering;
use std::time::Duration;

use crate::limits::{
    BLOCK_LENGTH, NAP_BYTES, NAP_MAX_MS, NAP_MIN_MS, QUEUE_TARGET_MS, REQUESTS_IN_FLIGHT_MAX,
    REQUESTS_IN_FLIGHT_MIN, REQUESTS_IN_FLIGHT_START, REQUESTS_WHILE_SNUBBED,
};

const QUEUE_TARGET: Duration = Duration::from_millis(QUEUE_TARGET_MS as u64);
const NAP_MIN: Duration = Duration::from_millis(NAP_MIN_MS as u64);
const NAP_MAX: Duration = Duration::from_millis(NAP_MAX_MS as u64);
/// What is assumed of a peer that has sent nothing yet.
const LATENCY_START: Duration = Duration::from_secs(1);

/// The depth of one peer's request pipeline.
pub struct Pipeline {
    depth: u32,
    cap: u32,
    shortest: Option<Duration>,
    smoothed: Duration,
    snubbed: bool,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            depth: REQUESTS_IN_FLIGHT_START,
            cap: REQUESTS_IN_FLIGHT_MAX,
            shortest: None,
            smoothed: LATENCY_START,
            snubbed: false,
        }
    }
}

impl Pipeline {
    /// How many requests may be out.
    pub fn depth(&self) -> u32 {
        if self.snubbed { REQUESTS_WHILE_SNUBBED } else { self.depth }
    }

    /// How long a request that is sent now will take, as far as is known.
    pub fn expected(&self) -> Duration {
        self.smoothed
    }

    /// How long to leave what comes in the socket, with `out` requests out and no room for more:
    /// until a good read's worth has gathered, but not so long that the peer could run dry.
    /// `room_bytes` may gather there. `None` if that is not worth a sleep of its own.
    pub fn nap(&self, out: u32, room_bytes: usize) -> Option<Duration> {
        let shortest = self.shortest?;
        // All that is out takes the smoothed latency to come (Little's law again).
        let room = u32::try_from(room_bytes).unwrap_or(u32::MAX);
        let gathered = self.smoothed * (room.min(NAP_BYTES) / BLOCK_LENGTH) / out.max(1);
        let spare = self.smoothed.saturating_sub(shortest) / 2;
        let nap = gathered.min(spare).min(NAP_MAX);
        (nap >= NAP_MIN).then_some(nap)
    }

    /// A rate limit of ours holds for all peers together: what they all are asked for at first can be
    /// far more than it lets pass, so it begins with little.
    pub fn on_limit(&mut self) {
        self.depth = REQUESTS_IN_FLIGHT_MIN.min(self.cap);
    }

    /// A block came, `latency` after it was asked for as the last of `ahead` requests.
    pub fn on_block(&mut self, latency: Duration, ahead: u32) {
        self.on_held_block(latency, Duration::ZERO, ahead);
    }

    /// The same, but `held` of that time the peer waited for us to read. That is no part of the
    /// round trip, but of the rate: a deeper pipeline would bring nothing sooner.
    pub fn on_held_block(&mut self, latency: Duration, held: Duration, ahead: u32) {
        self.snubbed = false;
        let unhurried = latency.saturating_sub(held);
        let shortest = self.shortest.map_or(unhurried, |shortest| shortest.min(unhurried));
        self.smoothed = match self.shortest {
            Some(_) => (self.smoothed * 7 + latency) / 8,
            None => latency,
        };
        self.shortest = Some(shortest);
        let wanted =
            u128::from(ahead) * (shortest + QUEUE_TARGET).as_micros() / latency.as_micros().max(1);
        match wanted.cmp(&u128::from(self.depth)) {
            Ordering::Greater => self.depth = (self.depth + 1).min(self.cap),
            Ordering::Less => {
                self.depth = (self.depth - 1).max(REQUESTS_IN_FLIGHT_MIN.min(self.cap));
            }
            Ordering::Equal => {}
        }
    }

    /// A block came that was given up before: the peer is back, but how fast it is can't be told.
    pub fn on_late_block(&mut self) {
        self.snubbed = false;
    }

    /// The peer told how many requests it queues (BEP 10, `reqq`).
    pub fn on_reqq(&mut self, reqq: u32) {
        self.cap = reqq.clamp(1, REQUESTS_IN_FLIGHT_MAX);
        self.depth = self.depth.min(self.cap);
    }

    /// The peer turned a request down: it will hold fewer.
    pub fn on_reject(&mut self) {
        self.depth = (self.depth / 2).max(1);
        self.cap = self.cap.min(self.depth.max(REQUESTS_IN_FLIGHT_MIN));
    }

    /// The peer owes blocks and has sent nothing for too long.
    pub fn on_snub(&mut self) {
        self.snubbed = true;
        self.depth = (self.depth / 2).max(REQUESTS_IN_FLIGHT_MIN);
    }

    /// Whether the peer was given up on, and has not sent since.
    pub fn is_snubbed(&self) -> bool {
        self.snubbed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that answers `blocks_per_s`, after `delay_ms`: depth and rate after `seconds`.
    fn settle(blocks_per_s: u64, delay_ms: u64, seconds: u64) -> (u32, u64) {
        let mut pipeline = Pipeline::default();
        let (interval, delay) =
            (Duration::from_micros(1_000_000 / blocks_per_s), Duration::from_millis(delay_ms));
        let mut out = std::collections::VecDeque::new();
        let (mut now, mut link_free, mut count) = (Duration::ZERO, Duration::ZERO, 0);
        while now < Duration::from_secs(seconds) {
            while out.len() < pipeline.depth() as usize {
                out.push_back((now, u32::try_from(out.len()).unwrap() + 1));
            }
            let (sent, ahead) = out.pop_front().unwrap();
            link_free = link_free.max(sent + delay) + interval;
            now = link_free;
            pipeline.on_block(now - sent, ahead);
            count += 1;
        }
        (pipeline.depth(), count / seconds)
    }

    #[test]
    fn it_fills_any_link_and_parks_little_with_a_slow_peer() {
        // (blocks/s, delay ms) -> depth within, share of the rate at least in percent.
        let cases = [
            ((100_000, 0), 500..=500, 95),
            ((5_000, 80), 500..=500, 90),
            ((256, 1), 60..=140, 95),
            ((256, 200), 110..=200, 90),
            ((4, 20), 2..=4, 95),
        ];
        for ((rate, delay), depths, percent) in cases {
            let (depth, reached) = settle(rate, delay, 20);
            assert!(depths.contains(&depth), "{rate}/s {delay} ms: depth {depth}");
            assert!(reached * 100 >= rate * percent, "{rate}/s {delay} ms: {reached}/s");
        }
    }

    #[test]
    fn it_naps_while_a_busy_peer_has_enough_to_send() {
        // (block latency ms, requests out, shortest latency ms) -> nap in ms.
        let cases = [
            // 4 MiB/s: 192 KiB take 48 ms.
            ((250, 64, 1), Some(46)),
            // A slow peer is looked at after the longest nap all the same.
            ((400, 4, 20), Some(60)),
            // A fast one fills a read at once.
            ((250, 2_500, 1), None),
            // The pipeline is hardly longer than the round trip: a nap would drain it.
            ((82, 16, 80), None),
            ((100, 16, 80), Some(9)),
        ];
        for ((latency, out, shortest), nap) in cases {
            let mut pipeline = Pipeline::default();
            assert_eq!(pipeline.nap(out, usize::MAX), None);
            pipeline.on_block(Duration::from_millis(shortest), 1);
            (0..200).for_each(|_| pipeline.on_block(Duration::from_millis(latency), out));
            let found = pipeline.nap(out, usize::MAX).map(|nap| nap.as_millis());
            assert_eq!(found, nap, "{latency} ms, {out} out, {shortest} ms");
        }
    }

    #[test]
    fn a_nap_is_shorter_where_little_can_gather() {
        let mut pipeline = Pipeline::default();
        pipeline.on_block(Duration::from_millis(1), 1);
        (0..200).for_each(|_| pipeline.on_block(Duration::from_millis(250), 64));
        let naps = [usize::MAX, 1 << 20, 96 << 10, 16 << 10, 8 << 10, 0]
            .map(|room| pipeline.nap(64, room).map(|nap| nap.as_millis()));
        assert_eq!(naps, [Some(46), Some(46), Some(23), Some(3), None, None]);
    }

    /// A window that has not grown yet holds 64 KiB, and then the nap is what the peer waits for.
    #[test]
    fn a_nap_that_slows_a_peer_down_gets_shorter_where_half_its_window_is_room() {
        let (out, window) = (120, 4);
        for (room, stays) in [(32 << 10, false), (24 << 10, false), (1 << 20, true)] {
            let mut pipeline = Pipeline::default();
            pipeline.on_block(Duration::from_millis(1), 1);
            let mut nap = Some(NAP_MAX);
            for _ in 0..10 {
                let Some(slept) = nap else { break };
                // A window's worth of blocks comes in each nap.
                (0..200).for_each(|_| pipeline.on_block(slept * out / window, out));
                nap = pipeline.nap(out, room);
            }
            assert_eq!(nap.is_some(), stays, "{room}: {nap:?}");
        }
    }

    #[test]
    fn a_peers_own_limit_is_kept() {
        let mut pipeline = Pipeline::default();
        pipeline.on_reqq(10);
        (0..100).for_each(|_| pipeline.on_block(Duration::from_millis(1), 10));
        assert_eq!(pipeline.depth(), 10);
        pipeline.on_reqq(0);
        assert_eq!(pipeline.depth(), 1);
        pipeline.on_reqq(u32::MAX);
        (0..1000).for_each(|_| pipeline.on_block(Duration::from_millis(1), 10));
        assert_eq!(pipeline.depth(), REQUESTS_IN_FLIGHT_MAX);
    }

    #[test]
    fn under_a_limit_of_ours_little_is_parked_with_a_fast_peer() {
        // (bytes/s in all, peers) -> depth of each.
        let cases = [
            ((20 << 10, 50), 2..=2),
            ((100 << 10, 1), 2..=3),
            ((1 << 20, 1), 15..=17),
            ((1 << 20, 40), 2..=2),
            ((100 << 20, 1), 500..=500),
        ];
        for ((rate, peers), settled) in cases {
            let mut pipeline = Pipeline::default();
            pipeline.on_limit();
            assert_eq!(pipeline.depth(), REQUESTS_IN_FLIGHT_MIN);
            let block = Duration::from_secs(peers) * BLOCK_LENGTH / u32::try_from(rate).unwrap();
            for _ in 0..1_000 {
                let depth = pipeline.depth();
                // All that is out waits for us, but for a millisecond.
                let latency = block * depth + Duration::from_millis(1);
                pipeline.on_held_block(latency, block * depth, depth);
            }
            assert!(settled.contains(&pipeline.depth()), "{rate} B/s: {}", pipeline.depth());
        }
    }

    #[test]
    fn a_snubbed_peer_is_asked_for_one_block_until_it_sends() {
        let mut pipeline = Pipeline::default();
        pipeline.on_snub();
        assert_eq!(pipeline.depth(), REQUESTS_WHILE_SNUBBED);
        pipeline.on_block(Duration::from_secs(9), 1);
        assert!(pipeline.depth() >= REQUESTS_IN_FLIGHT_MIN && !pipeline.is_snubbed());
    }
}
