//! Decides whom to dial: the addresses that are known, what became of each, when to try again.
//! Fresh addresses come first, those that failed come back with a growing pause. How each is spoken
//! to is decided in `encryption`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::limits::{
    ADDRESSES_MAX, BANNED_MAX, REDIAL_LONELY_MAX_MS, REDIAL_MAX_MS, REDIAL_MIN_MS,
};
use crate::policy::conversation::SessionEnd;
use crate::policy::encryption::{Encryption, Experience, Manners, Wire};

const REDIAL_MIN: Duration = Duration::from_millis(REDIAL_MIN_MS as u64);
const REDIAL_MAX: Duration = Duration::from_millis(REDIAL_MAX_MS as u64);
const REDIAL_LONELY_MAX: Duration = Duration::from_millis(REDIAL_LONELY_MAX_MS as u64);

struct Entry {
    /// Order of arrival, among those that may be tried at the same time.
    number: u64,
    /// Not to be dialled before; `None` while a session has it.
    not_before: Option<Instant>,
    /// Attempts in a row that brought nothing.
    failures: u32,
    answered: bool,
    /// Somebody named it who may do so for a private torrent.
    vouched_for: bool,
    manners: Manners,
}

/// The addresses of a swarm.
#[derive(Default)]
pub struct PeerBook {
    entries: BTreeMap<SocketAddr, Entry>,
    /// The same addresses, those without a session, by when they may be tried.
    queue: BTreeSet<(Instant, u64, SocketAddr)>,
    banned: BTreeSet<IpAddr>,
    numbered: u64,
    experience: Experience,
}

impl PeerBook {
    /// An empty book, whose peers are spoken to like this.
    pub fn new(encryption: Encryption) -> Self {
        Self { experience: Experience::new(encryption), ..Self::default() }
    }

    /// Learns of an address. True if it is new and is kept.
    pub fn add(&mut self, address: SocketAddr, now: Instant) -> bool {
        if self.entries.contains_key(&address) || self.banned.contains(&address.ip()) {
            return false;
        }
        if self.entries.len() >= ADDRESSES_MAX && !self.drop_worst() {
            return false;
        }
        self.numbered += 1;
        let entry = Entry {
            number: self.numbered,
            not_before: Some(now),
            failures: 0,
            answered: false,
            vouched_for: false,
            manners: Manners::default(),
        };
        self.queue.insert((now, entry.number, address));
        self.entries.insert(address, entry);
        true
    }

    /// Somebody named this address who may do so for a private torrent as well.
    pub fn vouch_for(&mut self, address: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.vouched_for = true;
        }
    }

    /// Forgets the addresses that nobody vouched for.
    pub fn keep_vouched_for(&mut self) {
        self.entries.retain(|_, entry| entry.vouched_for);
        self.queue.retain(|(_, _, address)| self.entries.contains_key(address));
    }

    /// Makes room by forgetting the address that failed most often, if one failed at all.
    fn drop_worst(&mut self) -> bool {
        let idle = self.entries.iter().filter(|(_, entry)| entry.not_before.is_some());
        let worst = idle.max_by_key(|(_, entry)| entry.failures);
        let Some((address, entry)) = worst.filter(|(_, entry)| entry.failures > 0) else {
            return false;
        };
        let address = *address;
        if let Some(not_before) = entry.not_before {
            self.queue.remove(&(not_before, entry.number, address));
        }
        self.entries.remove(&address).is_some()
    }

    /// The next address to dial. It has a session from now on, until [`PeerBook::on_end`].
    pub fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        let (not_before, number, address) = *self.queue.first()?;
        if not_before > now {
            return None;
        }
        self.queue.remove(&(not_before, number, address));
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.not_before = None;
            entry.manners.dial(&self.experience);
        }
        Some(address)
    }

    /// How the address is spoken to that [`PeerBook::next`] named.
    pub fn wire(&self, address: SocketAddr) -> Wire {
        self.entries.get(&address).map_or(Wire::default(), |entry| entry.manners.dialled())
    }

    /// When the next address may be dialled.
    pub fn next_at(&self) -> Option<Instant> {
        self.queue.first().map(|(not_before, _, _)| *not_before)
    }

    /// The session with `address` ended. `answered`: the peer shook hands; `brought`: it sent
    /// blocks that were wanted; `lonely`: there is no other session now.
    pub fn on_end(
        &mut self,
        address: SocketAddr,
        end: &SessionEnd,
        (answered, brought): (bool, bool),
        lonely: bool,
        now: Instant,
    ) {
        let banned = self.banned.contains(&address.ip());
        let Some(entry) = self.entries.get_mut(&address) else { return };
        entry.answered |= answered;
        if entry.not_before.is_some() {
            // It came from there by itself, and has its place in the queue already.
            return;
        }
        if banned || matches!(end, SessionEnd::Ourselves | SessionEnd::Content) {
            // The entry stays, without a place in the queue: it is never dialled again.
            return;
        }
        if entry.manners.on_end(answered, end, &mut self.experience) {
            entry.not_before = Some(now);
            self.queue.insert((now, entry.number, address));
            return;
        }
        entry.failures = if brought { 0 } else { entry.failures.saturating_add(1) };
        let doubled = REDIAL_MIN * 2_u32.saturating_pow(entry.failures.saturating_sub(1).min(16));
        let pause = match end {
            SessionEnd::TooLoud => REDIAL_MAX,
            // It may be our own network that is gone: that it is back is to be found out soon.
            _ if lonely => doubled.min(REDIAL_LONELY_MAX),
            _ => doubled.min(REDIAL_MAX),
        };
        let not_before = now + pause;
        entry.not_before = Some(not_before);
        self.queue.insert((not_before, entry.number, address));
    }

    /// It was not spoken to about what it is good for: it may be dialled again at once.
    pub fn give_back(&mut self, address: SocketAddr, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&address)
            && entry.not_before.is_none()
            && !self.banned.contains(&address.ip())
        {
            entry.not_before = Some(now);
            self.queue.insert((now, entry.number, address));
        }
    }

    /// Never dials this host again. False if that was so already.
    pub fn ban(&mut self, host: IpAddr) -> bool {
        let new = !self.banned.contains(&host);
        if self.banned.len() < BANNED_MAX {
            self.banned.insert(host);
        }
        let gone: Vec<_> =
            self.queue.iter().filter(|(_, _, address)| address.ip() == host).copied().collect();
        for place in gone {
            self.queue.remove(&place);
        }
        new
    }

    /// Whether this host is banned.
    pub fn is_banned(&self, host: IpAddr) -> bool {
        self.banned.contains(&host)
    }

    /// Whether somebody could be dialled right now.
    pub fn others_wait(&self, now: Instant) -> bool {
        self.next_at().is_some_and(|at| at <= now)
    }

    /// How many addresses are known.
    pub fn known(&self) -> usize {
        self.entries.len()
    }

    /// How many of them answered at least once.
    pub fn answered(&self) -> usize {
        self.entries.values().filter(|entry| entry.answered).count()
    }

    /// How many hosts are banned.
    pub fn banned(&self) -> usize {
        self.banned.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u16) -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 6881))
    }

    const DEAD: SessionEnd = SessionEnd::Unreachable(std::io::ErrorKind::TimedOut);

    #[test]
    fn fresh_addresses_come_first_and_failed_ones_after_a_growing_pause() {
        let start = Instant::now();
        let mut book = PeerBook::default();
        assert!(book.add(address(1), start) && !book.add(address(1), start));
        let mut pauses = Vec::new();
        let mut now = start;
        for _ in 0..12 {
            assert_eq!(book.next(now), Some(address(1)));
            assert_eq!(book.next(now), None, "one session at a time");
            book.on_end(address(1), &DEAD, (false, false), false, now);
            pauses.push((book.next_at().unwrap() - now).as_secs());
            now = book.next_at().unwrap();
        }
        assert_eq!(pauses, [3, 6, 12, 24, 48, 96, 192, 384, 768, 900, 900, 900]);
        assert_eq!(book.next(now), Some(address(1)));
        book.on_end(address(1), &SessionEnd::Closed, (true, true), false, now);
        assert_eq!(book.next_at(), Some(now + REDIAL_MIN), "it brought something");
        book.add(address(2), now);
        assert_eq!(book.next(now + REDIAL_MAX), Some(address(2)), "fresh ones first");
        assert_eq!((book.known(), book.answered()), (2, 1));
    }

    #[test]
    fn when_nobody_is_left_it_tries_again_soon() {
        let mut now = Instant::now();
        let mut book = PeerBook::default();
        book.add(address(1), now);
        let mut pauses = Vec::new();
        for lonely in [false, false, false, false, true, true, true, false, true] {
            assert_eq!(book.next(now), Some(address(1)));
            book.on_end(address(1), &DEAD, (false, false), lonely, now);
            pauses.push((book.next_at().unwrap() - now).as_secs());
            now = book.next_at().unwrap();
        }
        assert_eq!(pauses, [3, 6, 12, 24, 48, 60, 60, 384, 60]);
    }

    #[test]
    fn who_was_too_loud_waits_longest_whatever_it_brought() {
        let now = Instant::now();
        let mut book = PeerBook::default();
        book.add(address(1), now);
        assert_eq!(book.next(now), Some(address(1)));
        book.on_end(address(1), &SessionEnd::TooLoud, (true, true), true, now);
        assert_eq!(book.next_at(), Some(now + REDIAL_MAX));
    }

    #[test]
    fn banned_hosts_and_ourselves_never_come_back() {
        let now = Instant::now();
        let mut book = PeerBook::default();
        for number in 1..=3 {
            book.add(address(number), now);
        }
        assert_eq!(book.next(now), Some(address(1)));
        assert!(book.ban(address(1).ip()) && book.ban(address(2).ip()));
        assert!(!book.ban(address(1).ip()));
        book.on_end(address(1), &SessionEnd::Banned, (true, true), false, now);
        assert_eq!(book.next(now), Some(address(3)));
        book.on_end(address(3), &SessionEnd::Ourselves, (true, false), false, now);
        assert_eq!(book.next_at(), None);
        assert!(!book.add(address(2), now) && !book.add(address(3), now));
    }

    #[test]
    fn who_came_by_itself_has_one_place_in_the_queue() {
        let now = Instant::now();
        let mut book = PeerBook::default();
        book.add(address(1), now);
        book.on_end(address(1), &SessionEnd::Closed, (true, true), false, now);
        assert_eq!((book.answered(), book.next_at()), (1, Some(now)));
        assert_eq!(book.next(now), Some(address(1)));
        assert_eq!(book.next_at(), None);
    }

    #[test]
    fn who_hangs_up_is_dialled_encrypted_at_once_and_fails_once_in_both_ways() {
        let now = Instant::now();
        let mut book = PeerBook::new(Encryption::Prefer);
        book.add(address(1), now);
        for (wire, answered, pause) in [
            (Wire::Plain, false, Duration::ZERO),
            (Wire::Encrypted, false, REDIAL_MIN),
            (Wire::Plain, false, Duration::ZERO),
            (Wire::Encrypted, true, 2 * REDIAL_MIN),
            (Wire::Encrypted, true, 4 * REDIAL_MIN),
        ] {
            assert_eq!(book.next(now + REDIAL_MAX), Some(address(1)));
            assert_eq!(book.wire(address(1)), wire);
            book.on_end(address(1), &SessionEnd::Closed, (answered, false), false, now);
            assert_eq!(book.next_at(), Some(now + pause));
        }
        book.add(address(2), now);
        assert_eq!(book.next(now), Some(address(2)));
        assert_eq!(book.wire(address(2)), Wire::Encrypted, "whoever answered did so encrypted");
    }

    #[test]
    fn a_full_book_forgets_the_worst_but_nobody_untried() {
        let now = Instant::now();
        let mut book = PeerBook::default();
        let max = u16::try_from(ADDRESSES_MAX).unwrap();
        assert!((0..max).all(|number| book.add(address(number), now)));
        assert!(!book.add(address(max), now));
        assert_eq!(book.next(now), Some(address(0)));
        book.on_end(address(0), &DEAD, (false, false), false, now);
        assert!(book.add(address(max), now));
        assert_eq!(book.known(), ADDRESSES_MAX);
        assert!(std::iter::from_fn(|| book.next(now)).all(|dialled| dialled != address(0)));
    }
}
