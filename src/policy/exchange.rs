//! Decides what peers tell each other of peers (BEP 11): to each of them, once a minute, who came
//! and who left since it was told last. What they tell is believed in small doses.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits::{
    CONTACT_CHANGES_MAX, EXCHANGE_HEAR_MS, EXCHANGE_HEARD_MAX, EXCHANGE_TELL_MS, EXCHANGE_TOLD_MAX,
};
use crate::protocol::exchange::{self, Contact};

const HEAR: Duration = Duration::from_millis(EXCHANGE_HEAR_MS as u64);
const TELL: Duration = Duration::from_millis(EXCHANGE_TELL_MS as u64);

#[derive(Clone, Copy)]
enum Change {
    Came(Contact),
    Left(SocketAddr),
}

impl Change {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Came(contact) => contact.address,
            Self::Left(address) => *address,
        }
    }
}

/// Who came and who left, the last [`CONTACT_CHANGES_MAX`] times.
#[derive(Default)]
pub struct Contacts {
    changes: VecDeque<Change>,
    /// Changes before the first of these.
    forgotten: usize,
}

impl Contacts {
    /// A peer can be reached there.
    pub fn came(&mut self, contact: Contact) {
        self.push(Change::Came(contact));
    }

    /// It is gone.
    pub fn left(&mut self, address: SocketAddr) {
        self.push(Change::Left(address));
    }

    fn push(&mut self, change: Change) {
        if self.changes.len() >= CONTACT_CHANGES_MAX {
            self.changes.pop_front();
            self.forgotten += 1;
        }
        self.changes.push_back(change);
    }

    /// What is new for who has `seen` so many changes, itself not counted. No more than a message
    /// may tell: then the rest is left for the next one.
    fn news(&self, seen: &mut usize, own: Option<SocketAddr>) -> (Vec<Contact>, Vec<SocketAddr>) {
        let (mut came, mut left): (Vec<Contact>, Vec<SocketAddr>) = Default::default();
        let skipped = seen.saturating_sub(self.forgotten);
        *seen = self.forgotten + skipped.min(self.changes.len());
        for change in self.changes.iter().skip(skipped) {
            if came.len().max(left.len()) >= EXCHANGE_TOLD_MAX {
                break;
            }
            *seen += 1;
            let address = change.address();
            // The last word about somebody counts.
            came.retain(|contact| contact.address != address);
            left.retain(|gone| *gone != address);
            match change {
                _ if own == Some(address) => {}
                Change::Came(contact) => came.push(*contact),
                Change::Left(address) => left.push(*address),
            }
        }
        (came, left)
    }
}

/// The exchange with one peer.
#[derive(Default)]
pub struct Exchange {
    seen: usize,
    told: Option<Instant>,
    heard: Option<Instant>,
    /// Addresses that it may still tell.
    used: usize,
}

impl Exchange {
    /// The peer tells of peers. Nothing is heard of one that talks too often or too much.
    pub fn on_message(&mut self, payload: &[u8], now: Instant) -> Vec<SocketAddr> {
        if self.heard.is_some_and(|heard| now < heard + HEAR) {
            return Vec::new();
        }
        self.heard = Some(now);
        let mut peers = exchange::decode(payload).unwrap_or_default();
        peers.truncate(EXCHANGE_HEARD_MAX - self.used);
        self.used += peers.len();
        peers
    }

    /// What the peer, which listens at `own`, is to be told now.
    pub fn tell(
        &mut self,
        contacts: &Contacts,
        own: Option<SocketAddr>,
        now: Instant,
    ) -> Option<Vec<u8>> {
        if self.told.is_some_and(|told| now < told + TELL) {
            return None;
        }
        let (came, left) = contacts.news(&mut self.seen, own);
        if came.is_empty() && left.is_empty() {
            return None;
        }
        self.told = Some(now);
        Some(exchange::encode(&came, &left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: usize) -> SocketAddr {
        let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
        SocketAddr::from(([192, 0, high, low], 6881))
    }

    fn contact(number: usize) -> Contact {
        Contact { address: at(number), is_seed: false, reachable: true }
    }

    fn told(payload: Option<Vec<u8>>) -> Option<Vec<SocketAddr>> {
        payload.map(|payload| exchange::decode(&payload).unwrap())
    }

    #[test]
    fn a_peer_is_told_what_is_new_once_a_minute() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (mut contacts, mut exchange) = (Contacts::default(), Exchange::default());
        assert_eq!(exchange.tell(&contacts, None, start), None, "there is nobody");
        (1..4).for_each(|number| contacts.came(contact(number)));
        contacts.left(at(2));
        assert_eq!(told(exchange.tell(&contacts, Some(at(1)), after(1))), Some(vec![at(3)]));
        contacts.came(contact(2));
        assert_eq!(exchange.tell(&contacts, Some(at(1)), after(60)), None);
        assert_eq!(told(exchange.tell(&contacts, Some(at(1)), after(61))), Some(vec![at(2)]));
        assert_eq!(exchange.tell(&contacts, Some(at(1)), after(200)), None);
        contacts.left(at(3));
        let gone = exchange.tell(&contacts, None, after(200)).unwrap();
        assert_eq!(exchange::decode(&gone), Some(vec![]));
        assert!(gone.windows(6).any(|window| window == [192, 0, 0, 3, 26, 225]));
    }

    #[test]
    fn what_a_message_may_not_tell_is_left_for_the_next() {
        let now = Instant::now();
        let (mut contacts, mut exchange) = (Contacts::default(), Exchange::default());
        (0..70).for_each(|number| contacts.came(contact(number)));
        let first: Vec<SocketAddr> = (0..EXCHANGE_TOLD_MAX).map(at).collect();
        assert_eq!(told(exchange.tell(&contacts, None, now)), Some(first));
        let rest: Vec<SocketAddr> = (EXCHANGE_TOLD_MAX..70).map(at).collect();
        assert_eq!(told(exchange.tell(&contacts, None, now + TELL)), Some(rest));
    }

    #[test]
    fn the_list_of_changes_does_not_grow() {
        let now = Instant::now();
        let (mut contacts, mut late) = (Contacts::default(), Exchange::default());
        contacts.came(contact(0));
        assert!(late.tell(&contacts, None, now).is_some());
        let last = CONTACT_CHANGES_MAX * 3;
        (1..=last).for_each(|number| contacts.came(contact(number)));
        assert_eq!(contacts.changes.len(), CONTACT_CHANGES_MAX);
        // Who was not told in time is told of the oldest that is still known.
        let first = last + 1 - CONTACT_CHANGES_MAX;
        for exchange in [&mut late, &mut Exchange::default()] {
            let told = told(exchange.tell(&contacts, None, now + TELL)).unwrap();
            assert_eq!(told[0], at(first));
        }
    }

    #[test]
    fn who_talks_too_often_or_too_much_is_not_heard() {
        let start = Instant::now();
        let many: Vec<Contact> = (0..150).map(contact).collect();
        let payload = exchange::encode(&many, &[]);
        let mut exchange = Exchange::default();
        assert_eq!(exchange.on_message(&payload, start).len(), 150);
        assert_eq!(exchange.on_message(&payload, start + HEAR / 2), []);
        let mut sum = 150;
        for number in 1..100 {
            sum += exchange.on_message(&payload, start + HEAR * number).len();
        }
        assert_eq!(sum, EXCHANGE_HEARD_MAX);
        assert_eq!(Exchange::default().on_message(b"nonsense", start), []);
    }
}
