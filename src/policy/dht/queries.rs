//! The questions that are out: whom they were sent to, what for, and whether an answer is one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits::{DHT_QUERIES_IN_FLIGHT_MAX, DHT_QUERY_TIMEOUT_MS};
use crate::policy::nonces::Nonces;
use crate::units::InfoHash;

const TIMEOUT: Duration = Duration::from_millis(DHT_QUERY_TIMEOUT_MS);

/// What a question is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// To see whether there is a node.
    Greeting,
    /// To see whether it is still there, and whom it knows.
    Doubt,
    /// A lookup for the table's sake.
    OwnLookup,
    /// The lookup of a torrent.
    Search(InfoHash),
    /// An announce.
    Announce,
}

/// A question that is out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sent {
    pub(super) to: SocketAddr,
    pub(super) at: Instant,
    pub(super) purpose: Purpose,
}

/// All of them, by their transaction ids.
#[derive(Default)]
pub(super) struct Queries {
    out: BTreeMap<[u8; 4], Sent>,
}

impl Queries {
    /// Whether nothing more may be asked now.
    pub(super) fn is_full(&self) -> bool {
        self.out.len() >= DHT_QUERIES_IN_FLIGHT_MAX
    }

    /// A question goes out, by the id that is returned.
    pub(super) fn add(&mut self, nonces: &mut Nonces, sent: Sent) -> [u8; 4] {
        let mut transaction = nonces.draw_four();
        while self.out.contains_key(&transaction) {
            transaction = nonces.draw_four();
        }
        self.out.insert(transaction, sent);
        transaction
    }

    /// The question that is answered by who is at `from`, if there is one. It is out no more.
    pub(super) fn take(&mut self, transaction: &[u8], from: SocketAddr) -> Option<Sent> {
        let transaction: [u8; 4] = transaction.try_into().ok()?;
        let sent = self.out.get(&transaction).filter(|sent| sent.to == from)?;
        let sent = *sent;
        self.out.remove(&transaction);
        Some(sent)
    }

    /// A question that will not be answered any more.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Sent> {
        let mut all = self.out.iter();
        let (transaction, sent) = all.find(|(_, sent)| sent.at + TIMEOUT <= now)?;
        let (transaction, sent) = (*transaction, *sent);
        self.out.remove(&transaction);
        Some(sent)
    }

    /// When the next one expires.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.out.values().map(|sent| sent.at + TIMEOUT).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_right_number_comes_from_the_right_place_and_comes_once() {
        let start = Instant::now();
        let mut nonces = Nonces::new([1; 32]);
        let mut queries = Queries::default();
        let to: SocketAddr = "192.0.2.1:6881".parse().unwrap();
        let sent = Sent { to, at: start, purpose: Purpose::Greeting };
        let transaction = queries.add(&mut nonces, sent);
        let mut other = transaction;
        other[3] ^= 1;
        for from in ["192.0.2.1:6882", "192.0.2.2:6881", "[::ffff:192.0.2.1]:6881"] {
            assert_eq!(queries.take(&transaction, from.parse().unwrap()), None, "{from}");
        }
        for wrong in [&other[..], &transaction[..3], &[], &[transaction, other].concat()] {
            assert_eq!(queries.take(wrong, to), None, "{wrong:?}");
        }
        assert_eq!(queries.take(&transaction, to), Some(sent));
        assert_eq!(queries.take(&transaction, to), None);
    }

    #[test]
    fn what_is_not_answered_ends() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut nonces = Nonces::new([1; 32]);
        let mut queries = Queries::default();
        let to: SocketAddr = "192.0.2.1:6881".parse().unwrap();
        for ms in 0..DHT_QUERIES_IN_FLIGHT_MAX as u64 {
            assert!(!queries.is_full());
            queries.add(&mut nonces, Sent { to, at: after(ms), purpose: Purpose::Doubt });
        }
        assert!(queries.is_full());
        assert_eq!(queries.next_at(), Some(after(DHT_QUERY_TIMEOUT_MS)));
        assert_eq!(queries.take_expired(after(DHT_QUERY_TIMEOUT_MS - 1)), None);
        let expired = queries.take_expired(after(DHT_QUERY_TIMEOUT_MS)).unwrap();
        assert_eq!((expired.at, queries.is_full()), (start, false));
        assert_eq!(queries.next_at(), Some(after(DHT_QUERY_TIMEOUT_MS + 1)));
        let later = after(86_400_000);
        let rest = std::iter::from_fn(|| queries.take_expired(later)).count();
        assert_eq!(rest, DHT_QUERIES_IN_FLIGHT_MAX - 1);
        assert_eq!(queries.next_at(), None);
    }
}
