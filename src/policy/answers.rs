//! Decides whom to answer: everybody, but not without end. Whoever floods us, or has us flood
//! somebody else by writing that one's address on its questions, gets little for it.
//!
//! Each network has a counter, and so have all of them together. The counters of networks are few
//! and of a fixed number: networks share them by a hash that nobody outside can foresee, so that
//! none can be made to push out another's.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits::{
    ANSWER_COUNTERS_MAX, ANSWERS_BURST_BYTES, ANSWERS_MAX_BYTES_PER_S,
    ANSWERS_PER_NETWORK_BURST_MAX, ANSWERS_PER_NETWORK_PER_S_MAX,
};
use crate::policy::reach::network_of;

const BYTE: Duration = Duration::from_nanos(1_000_000_000 / ANSWERS_MAX_BYTES_PER_S as u64);
const BYTES_BURST: Duration = BYTE.saturating_mul(ANSWERS_BURST_BYTES);
const ANSWER: Duration = Duration::from_millis(1_000 / ANSWERS_PER_NETWORK_PER_S_MAX as u64);
const ANSWER_BURST: Duration = ANSWER.saturating_mul(ANSWERS_PER_NETWORK_BURST_MAX);

/// What was answered lately.
pub struct Answers {
    secret: [u8; 20],
    /// When all is forgotten that was sent to anybody.
    all: Instant,
    /// And to some of them.
    counters: Vec<Instant>,
}

impl Answers {
    /// None yet. The secret is used for nothing else.
    pub fn new(secret: [u8; 20], now: Instant) -> Self {
        Self { secret, all: now, counters: vec![now; ANSWER_COUNTERS_MAX] }
    }

    /// Whether a question from `from` is to be answered; it counts as answered then.
    pub fn may_begin(&mut self, from: SocketAddr, now: Instant) -> bool {
        if self.all > now + BYTES_BURST {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        (self.secret, network_of(from)).hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % ANSWER_COUNTERS_MAX as u64).unwrap_or(0);
        let Some(counter) = self.counters.get_mut(index) else { return false };
        let after = (*counter).max(now) + ANSWER;
        let may = after <= now + ANSWER_BURST;
        if may {
            *counter = after;
        }
        may
    }

    /// An answer of so many bytes goes out.
    pub fn count(&mut self, bytes: usize, now: Instant) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.all = self.all.max(now) + BYTE.saturating_mul(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u32) -> SocketAddr {
        SocketAddr::from(((1 << 24 | number << 8 | 1).to_be_bytes(), 6881))
    }

    /// Bytes of answers and answers in each of these seconds, when `who` asks that often in each of
    /// them.
    fn flood(answers: &mut Answers, start: Instant, seconds: u32, questions: u32) -> [u32; 2] {
        let (mut bytes, mut count) = (0, 0);
        for second in 0..seconds {
            for question in 0..questions {
                let ms = second * 1_000 + question * 1_000 / questions;
                let now = start + Duration::from_millis(ms.into());
                if answers.may_begin(network(second * questions + question), now) {
                    answers.count(300, now);
                    bytes += 300;
                    count += 1;
                }
            }
        }
        [bytes, count]
    }

    #[test]
    fn all_together_get_no_more_than_the_budget() {
        let start = Instant::now();
        let mut answers = Answers::new([1; 20], start);
        let [bytes, _] = flood(&mut answers, start, 60, 2_000);
        let most = 60 * ANSWERS_MAX_BYTES_PER_S + ANSWERS_BURST_BYTES + 300;
        assert!(bytes <= most && bytes > most * 95 / 100, "{bytes} of {most}");
        // Half of it is always answered.
        let mut answers = Answers::new([1; 20], start);
        let [_, count] = flood(&mut answers, start, 60, 25);
        assert_eq!(count, 60 * 25);
    }

    #[test]
    fn one_network_gets_its_share_and_the_others_theirs() {
        let start = Instant::now();
        let mut answers = Answers::new([2; 20], start);
        let mut heard = 0_u32;
        let mut turned_away = 0;
        for ms in 0..60_000 {
            let now = start + Duration::from_millis(ms);
            let port = 1_000 + u16::try_from(ms % 1_000).unwrap();
            let mut flooder = network(7);
            flooder.set_port(port);
            heard += u32::from(answers.may_begin(flooder, now));
            if ms % 100 == 0 {
                let other = network(1_000 + u32::try_from(ms / 100).unwrap());
                turned_away += u32::from(!answers.may_begin(other, now));
            }
        }
        let most = 60 * ANSWERS_PER_NETWORK_PER_S_MAX + ANSWERS_PER_NETWORK_BURST_MAX;
        assert!((most - 2..=most).contains(&heard), "{heard} of {most}");
        // Who shares the flooder's counter is one of a thousand.
        assert!(turned_away <= 5, "{turned_away}");
    }

    #[test]
    fn a_jump_of_the_clock_saves_nothing_up() {
        let start = Instant::now() + Duration::from_secs(10_000);
        let mut answers = Answers::new([3; 20], start);
        for jump in [0, 5_000, 86_400] {
            let now = start + Duration::from_secs(jump);
            let count = (0..1_000).filter(|_| answers.may_begin(network(1), now)).count();
            assert_eq!(u32::try_from(count), Ok(ANSWERS_PER_NETWORK_BURST_MAX));
        }
        assert!(!answers.may_begin(network(1), start - Duration::from_secs(9_000)));
    }
}
