//! Decides whom to ask next on the way to an id (BEP 5, "Overview"): the closest that are known,
//! who name closer ones, until the eight closest have answered.
//!
//! What a node says of others is hearsay. It decides only in which order they are asked: each
//! address is asked once, by its own answer it counts, and only once for a network. So a node that
//! lies can cost as many queries as it names nodes, and no more. An id that does not fit its
//! address (BEP 42) is asked too, but it is not among the eight.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits::{
    ANNOUNCED_NODES_MAX, BUCKET_NODES_MAX, DHT_QUERY_SLOW_MS, LOOKUP_ALPHA_MAX,
    LOOKUP_CANDIDATES_MAX, LOOKUP_IN_FLIGHT_MAX, LOOKUP_QUERIES_MAX,
};
use crate::order::sort_by_key;
use crate::policy::reach::network_of;
use crate::policy::routing::fits;
use crate::protocol::krpc::Contact;
use crate::protocol::node_id::{Distance, NodeId};

const SLOW: Duration = Duration::from_millis(DHT_QUERY_SLOW_MS);

/// The way to one id.
#[derive(Debug)]
pub struct Lookup {
    target: NodeId,
    /// The closest first, each address once.
    candidates: Vec<Candidate>,
    queries: usize,
    answers: usize,
}

#[derive(Debug)]
struct Candidate {
    /// By the id that it was said to have, until it answered.
    distance: Distance,
    address: SocketAddr,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    Asked(Instant),
    Silent,
    Answered {
        /// It may be one of the eight.
        counts: bool,
        token: Option<Vec<u8>>,
    },
}

impl Lookup {
    /// Nobody is known yet on the way to `target`.
    pub fn new(target: NodeId) -> Self {
        Self { target, candidates: Vec::new(), queries: 0, answers: 0 }
    }

    /// Where it leads.
    pub fn target(&self) -> NodeId {
        self.target
    }

    /// Nodes that answered.
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Somebody says that there is this node.
    pub fn hear_of(&mut self, contact: &Contact) {
        self.consider(contact.address, contact.id.distance(self.target));
    }

    /// There is a node whose id is not known: it is asked before all others, or when nobody else is
    /// left.
    pub fn hear_of_address(&mut self, address: SocketAddr, is_first: bool) {
        self.consider(address, if is_first { Distance::ZERO } else { Distance::MAX });
    }

    fn consider(&mut self, address: SocketAddr, distance: Distance) {
        let known = self.candidates.iter().position(|candidate| candidate.address == address);
        if let Some(at) = known {
            // Of two that say otherwise one lies: to ask too early costs a query, to ask too late
            // could cost the node.
            let sooner = self.candidates.get(at).is_some_and(|candidate| {
                matches!(candidate.state, State::Waiting) && distance < candidate.distance
            });
            if !sooner {
                return;
            }
            self.candidates.remove(at);
        } else if self.candidates.len() >= LOOKUP_CANDIDATES_MAX {
            let is_waiting = |candidate: &Candidate| matches!(candidate.state, State::Waiting);
            let farthest = self.candidates.iter().rposition(is_waiting);
            let farther = farthest.filter(|at| {
                self.candidates.get(*at).is_some_and(|candidate| distance < candidate.distance)
            });
            let Some(at) = farther else { return };
            self.candidates.remove(at);
        }
        self.insert(Candidate { distance, address, state: State::Waiting });
    }

    fn insert(&mut self, candidate: Candidate) {
        let place = self.candidates.partition_point(|other| other.distance <= candidate.distance);
        self.candidates.insert(place, candidate);
    }

    /// The address to ask next, if one is to be asked now. It is under way until
    /// [`Lookup::on_answer`] or [`Lookup::on_silence`].
    pub fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        let asked = self.candidates.iter().filter_map(|candidate| match candidate.state {
            State::Asked(at) => Some(at),
            _ => None,
        });
        let (in_flight, not_slow) = asked.fold((0, 0), |(all, not_slow), at| {
            (all + 1, not_slow + usize::from(now.saturating_duration_since(at) < SLOW))
        });
        if in_flight >= LOOKUP_IN_FLIGHT_MAX || not_slow >= LOOKUP_ALPHA_MAX {
            return None;
        }
        let at = self.next_waiting()?;
        let candidate = self.candidates.get_mut(at)?;
        candidate.state = State::Asked(now);
        self.queries += 1;
        Some(candidate.address)
    }

    /// When [`Lookup::next`] may have one because an answer is slow. It may have one after any
    /// answer or silence, too.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        let slow_at = self.candidates.iter().filter_map(|candidate| match candidate.state {
            State::Asked(at) => Some(at + SLOW),
            _ => None,
        });
        slow_at.filter(|at| *at > now).min()
    }

    /// The closest that is to be asked.
    fn next_waiting(&self) -> Option<usize> {
        if self.queries >= LOOKUP_QUERIES_MAX {
            return None;
        }
        let is_next = |candidate: &Candidate| {
            matches!(candidate.state, State::Waiting) && !self.has_answer_from(candidate.address)
        };
        self.candidates.iter().take(self.horizon()).position(is_next)
    }

    /// How many candidates are close enough: up to the eighth that answered and counts.
    fn horizon(&self) -> usize {
        let counting = self.candidates.iter().enumerate().filter(|(_, candidate)| {
            matches!(candidate.state, State::Answered { counts: true, .. })
        });
        let eighth = counting.map(|(at, _)| at).nth(BUCKET_NODES_MAX - 1);
        eighth.map_or(self.candidates.len(), |at| at + 1)
    }

    /// Whether a node of the same network has answered.
    fn has_answer_from(&self, address: SocketAddr) -> bool {
        let network = network_of(address);
        self.candidates.iter().any(|candidate| {
            matches!(candidate.state, State::Answered { .. })
                && network_of(candidate.address) == network
        })
    }

    /// Who was asked has answered: by this id, with this token, and it named these nodes. False if
    /// it was not asked.
    pub fn on_answer(
        &mut self,
        contact: &Contact,
        token: Option<Vec<u8>>,
        named: impl Iterator<Item = Contact>,
    ) -> bool {
        let Some(at) = self.asked(contact.address) else { return false };
        let mut candidate = self.candidates.remove(at);
        let is_first = !self.has_answer_from(contact.address);
        candidate.state = State::Answered {
            counts: is_first && fits(contact),
            token: token.filter(|_| is_first),
        };
        candidate.distance = contact.id.distance(self.target);
        self.insert(candidate);
        self.answers += 1;
        named.for_each(|contact| self.hear_of(&contact));
        true
    }

    /// Who was asked has not answered in time, or had nothing to say.
    pub fn on_silence(&mut self, address: SocketAddr) {
        if let Some(candidate) = self.asked(address).and_then(|at| self.candidates.get_mut(at)) {
            candidate.state = State::Silent;
        }
    }

    fn asked(&self, address: SocketAddr) -> Option<usize> {
        self.candidates.iter().position(|candidate| {
            candidate.address == address && matches!(candidate.state, State::Asked(_))
        })
    }

    /// Whether it has come to its end: the closest have answered, or nobody is left to ask.
    pub fn is_done(&self) -> bool {
        let close = self.candidates.iter().take(self.horizon());
        let is_asked = |candidate: &Candidate| matches!(candidate.state, State::Asked(_));
        self.next_waiting().is_none() && !close.into_iter().any(is_asked)
    }

    /// Whom to announce to, with which token: the eight closest that count, and those that don't
    /// but are closer, as far as they gave one. Others look for peers with them.
    pub fn into_closest(self) -> Vec<(SocketAddr, Vec<u8>)> {
        let close = self.horizon();
        let close = self.candidates.into_iter().take(close);
        let tokens = close.filter_map(|candidate| match candidate.state {
            State::Answered { counts, token } => Some((counts, candidate.address, token?)),
            _ => None,
        });
        let mut closest: Vec<_> = tokens.collect();
        // Those that count come first if there are too many.
        sort_by_key(&mut closest, |(counts, ..)| !counts);
        closest.truncate(ANNOUNCED_NODES_MAX);
        closest.into_iter().map(|(_, address, token)| (address, token)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: NodeId = NodeId([0; 20]);

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// A node in a network of its own and an id that fits, so many steps away.
    fn contact(number: u16) -> Contact {
        let [high, low] = number.to_be_bytes();
        let mut id = [0; 20];
        (id[0], id[1]) = (high, low);
        Contact { id: NodeId(id), address: ([10, 0, high, low], 6881).into() }
    }

    /// A node far away, in a network of its own, whose id does not fit.
    fn misfit(number: u16) -> Contact {
        let [high, low] = number.to_be_bytes();
        let address: SocketAddr = ([20, high, low, 1], 6881).into();
        let contact = Contact { id: contact(number).id, address };
        assert!(!contact.id.fits(address.ip()));
        contact
    }

    fn token(number: u16) -> Option<Vec<u8>> {
        Some(number.to_be_bytes().to_vec())
    }

    /// Asks until nobody is to be asked any more, each answered at once by what `answer` says it is
    /// and names. Returns whom it asked.
    fn walk(
        lookup: &mut Lookup,
        answer: impl Fn(SocketAddr) -> Option<(Contact, Vec<Contact>)>,
    ) -> Vec<SocketAddr> {
        let now = Instant::now();
        let mut asked = Vec::new();
        while !lookup.is_done() {
            let address = lookup.next(now).expect("somebody to ask");
            asked.push(address);
            match answer(address) {
                Some((contact, named)) => {
                    assert!(lookup.on_answer(&contact, token(1), named.into_iter()));
                }
                None => lookup.on_silence(address),
            }
        }
        assert_eq!(lookup.next(now), None);
        asked
    }

    #[test]
    fn it_ends_when_the_eight_closest_have_answered() {
        let mut lookup = Lookup::new(TARGET);
        lookup.hear_of(&contact(5_000));
        // Each knows the next ones, with half the distance.
        let asked = walk(&mut lookup, |address| {
            let (_, number) =
                (1..=5_000).map(|n| (contact(n).address, n)).find(|(a, _)| *a == address)?;
            let named = (0..8).map(|step| contact((number / 2 + step).max(1))).collect();
            Some((contact(number), named))
        });
        assert!(asked.len() < 40, "{}", asked.len());
        let closest: Vec<_> = lookup.into_closest().into_iter().map(|(at, _)| at).collect();
        assert_eq!(closest, (1..=8).map(|n| contact(n).address).collect::<Vec<_>>());
    }

    #[test]
    fn three_are_asked_at_once_and_more_when_they_are_slow() {
        let start = Instant::now();
        let mut lookup = Lookup::new(TARGET);
        (1..=20).for_each(|number| lookup.hear_of(&contact(number)));
        let mut next = |ms| {
            let asked: Vec<_> = std::iter::from_fn(|| lookup.next(after(start, ms))).collect();
            (asked.len(), lookup.next_at(after(start, ms)))
        };
        assert_eq!(next(0), (3, Some(after(start, 1_000))));
        assert_eq!(next(999), (0, Some(after(start, 1_000))));
        assert_eq!(next(1_000), (3, Some(after(start, 2_000))));
        assert_eq!(next(2_000), (2, Some(after(start, 3_000))));
        assert_eq!(next(9_000), (0, None));
        lookup.on_silence(contact(1).address);
        assert!(lookup.on_answer(&contact(2), None, std::iter::empty()));
        assert_eq!(lookup.next(after(start, 9_000)), Some(contact(9).address));
        assert_eq!(lookup.next(after(start, 9_000)), Some(contact(10).address));
        assert_eq!(lookup.next(after(start, 9_000)), None);
    }

    #[test]
    fn who_was_not_asked_has_nothing_to_say() {
        let mut lookup = Lookup::new(TARGET);
        (1..=3).for_each(|number| lookup.hear_of(&contact(number)));
        let asked = lookup.next(Instant::now()).unwrap();
        assert_eq!(asked, contact(1).address);
        let named = || std::iter::once(contact(9));
        assert!(!lookup.on_answer(&contact(2), token(2), named()));
        assert!(!lookup.on_answer(&contact(4), token(2), named()));
        assert!(lookup.on_answer(&contact(1), token(2), named()));
        assert!(!lookup.on_answer(&contact(1), token(2), named()), "it answered already");
        lookup.on_silence(contact(1).address);
        assert_eq!((lookup.answers(), lookup.candidates.len()), (1, 4));
    }

    #[test]
    fn a_liar_costs_as_many_queries_as_it_names_nodes() {
        let liar = contact(3_000);
        let honest: Vec<_> = (100..120).map(contact).collect();
        let mut lookup = Lookup::new(TARGET);
        honest.iter().chain([&liar]).for_each(|node| lookup.hear_of(node));
        let asked = walk(&mut lookup, |address| match address {
            address if address == liar.address => {
                // It calls itself the closest, names nodes that are not there, and honest ones by
                // ids far away, or closer than they are.
                let named = (10..26).map(contact);
                let moved = [(0, 9_999), (1, 1)].map(|(of, number): (usize, u16)| Contact {
                    id: contact(number).id,
                    ..honest[of]
                });
                Some((Contact { id: contact(2).id, ..liar }, named.chain(moved).collect()))
            }
            _ => honest.iter().find(|node| node.address == address).map(|node| (*node, vec![])),
        });
        assert!(asked.len() <= 8 + 1 + 16, "{}", asked.len());
        let closest: Vec<_> = lookup.into_closest().into_iter().map(|(at, _)| at).collect();
        assert!(honest[..8].iter().all(|node| closest.contains(&node.address)), "{closest:?}");
    }

    #[test]
    fn a_chain_of_liars_ends() {
        let mut lookup = Lookup::new(TARGET);
        lookup.hear_of(&contact(60_000));
        let asked = walk(&mut lookup, |address| {
            let SocketAddr::V4(v4) = address else { return None };
            let [.., high, low] = v4.ip().octets();
            let number = u16::from_be_bytes([high, low]);
            // Each names eight that are closer, and one of them answers.
            let named = (1..=8).map(|step| contact(number - step)).collect();
            (number % 8 == 0).then(|| (contact(number), named))
        });
        assert_eq!(asked.len(), LOOKUP_QUERIES_MAX);
        assert!(lookup.candidates.len() <= LOOKUP_CANDIDATES_MAX);
    }

    #[test]
    fn one_network_counts_once_and_a_silent_one_blocks_nobody() {
        let at = |ip: [u8; 4], port| {
            let address: SocketAddr = (ip, port).into();
            let mut random = [7; 20];
            random[18] = ip[3];
            Contact { id: NodeId::for_address(address.ip(), random), address }
        };
        // Of twenty ports in the closest network the last one answers, and so would another machine.
        let mut lookup = Lookup::new(at([20, 0, 0, 1], 1).id);
        (1..=20).for_each(|port| lookup.hear_of(&at([20, 0, 0, 1], port)));
        lookup.hear_of(&at([20, 0, 0, 2], 1));
        lookup.hear_of(&at([20, 0, 1, 1], 1));
        let mut asked = walk(&mut lookup, |address| {
            let SocketAddr::V4(v4) = address else { return None };
            let ip = v4.ip().octets();
            (v4.port() == 20 || ip != [20, 0, 0, 1]).then(|| (at(ip, v4.port()), vec![]))
        });
        asked.sort();
        let expected = (1..=20).map(|port| at([20, 0, 0, 1], port)).chain([at([20, 0, 1, 1], 1)]);
        assert_eq!(asked, expected.map(|node| node.address).collect::<Vec<_>>());
        assert_eq!(lookup.into_closest().len(), 2);
    }

    #[test]
    fn ids_that_do_not_fit_are_asked_and_do_not_count() {
        let mut lookup = Lookup::new(TARGET);
        (1..=30).for_each(|number| lookup.hear_of(&misfit(number)));
        (100..120).for_each(|number| lookup.hear_of(&contact(number)));
        let asked = walk(&mut lookup, |address| {
            let all = (1..=30).map(misfit).chain((100..120).map(contact));
            all.into_iter().find(|node| node.address == address).map(|node| (node, vec![]))
        });
        assert_eq!(asked.len(), 30 + 8);
        let closest: Vec<_> = lookup.into_closest().into_iter().map(|(at, _)| at).collect();
        let expected = (100..108).map(contact).chain((1..=4).map(misfit));
        assert_eq!(closest, expected.map(|node| node.address).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_closest_stay() {
        let mut lookup = Lookup::new(TARGET);
        (1..=5_000).rev().for_each(|number| lookup.hear_of(&contact(number)));
        assert_eq!(lookup.candidates.len(), LOOKUP_CANDIDATES_MAX);
        lookup.hear_of_address(contact(6_000).address, false);
        let now = Instant::now();
        assert_eq!(lookup.next(now), Some(contact(1).address));
        for number in 1..=5_000 {
            lookup.hear_of(&Contact { id: contact(1).id, ..contact(number) });
        }
        assert_eq!(lookup.candidates.len(), LOOKUP_CANDIDATES_MAX);
    }

    #[test]
    fn nobody_known_or_nobody_there_is_an_end_too() {
        let mut lookup = Lookup::new(TARGET);
        assert!(lookup.is_done());
        lookup.hear_of_address(contact(1).address, false);
        lookup.hear_of(&contact(2));
        lookup.hear_of_address(contact(3).address, true);
        assert!(!lookup.is_done());
        let asked = walk(&mut lookup, |_| None);
        assert_eq!(asked, [3, 2, 1].map(|number| contact(number).address));
        assert_eq!((lookup.answers(), lookup.into_closest().len()), (0, 0));
    }
}
