//! Decides which nodes are remembered (BEP 5, "Routing Table"): many near our own id, few far from
//! it, and those for long that answer for long.
//!
//! Only who answered us gets in, whatever others say of it; a file of ours is believed as far as
//! that it is asked. Each id and each network has one place: whoever wants many must have many
//! networks. In a full bucket an id that fits its address (BEP 42) is worth more than one that does
//! not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits::{
    BUCKET_NODES_MAX, BUCKET_SPARES_MAX, BUCKETS_MAX, NODE_FAILURES_MAX, NODE_GOOD_S,
    NODE_PAUSE_MAX_S, NODE_PAUSE_MIN_S,
};
use crate::order::sort_by_key;
use crate::policy::reach::{is_local, network_of};
use crate::protocol::krpc::Contact;
use crate::protocol::node_id::NodeId;

const GOOD: Duration = Duration::from_secs(NODE_GOOD_S);
const PAUSE_MIN: Duration = Duration::from_secs(NODE_PAUSE_MIN_S);
const PAUSE_MAX: Duration = Duration::from_secs(NODE_PAUSE_MAX_S);

/// What can be expected of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// It answers.
    Good,
    /// It may be gone.
    Questionable,
    /// It does not answer.
    Bad,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    contact: Contact,
    /// Its id fits its address, or need not.
    fits: bool,
    /// When it answered last.
    answered: Option<Instant>,
    /// When it asked something last.
    asked: Option<Instant>,
    /// When it was last asked for the table's sake.
    tried: Option<Instant>,
    /// Queries in a row that it left unanswered.
    failures: u8,
}

/// The nodes whose ids have a certain number of bits in common with ours.
#[derive(Debug)]
struct Bucket {
    nodes: Vec<Node>,
    /// The last one is the one that answered last.
    spares: Vec<Node>,
    changed: Instant,
}

/// The nodes that are known.
#[derive(Debug)]
pub struct Table {
    own: NodeId,
    /// In the bucket at place n are nodes with n bits in common with us; in the last one, those with
    /// more as well.
    buckets: Vec<Bucket>,
}

/// Whether an id counts as one that fits its address.
pub fn fits(contact: &Contact) -> bool {
    let ip = contact.address.ip();
    is_local(ip) || contact.id.fits(ip)
}

impl Table {
    /// An empty table around our own id.
    pub fn new(own: NodeId, now: Instant) -> Self {
        Self { own, buckets: vec![Bucket::new(now)] }
    }

    /// Our own id.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// The same nodes around another id of ours.
    pub fn with_id(self, own: NodeId, now: Instant) -> Self {
        let mut table = Self::new(own, now);
        let (nodes, spares): (Vec<_>, Vec<_>) =
            self.buckets.into_iter().map(|bucket| (bucket.nodes, bucket.spares)).unzip();
        for node in nodes.into_iter().chain(spares).flatten() {
            table.insert(node, now);
        }
        table
    }

    /// A node answered us.
    pub fn on_answer(&mut self, contact: Contact, now: Instant) {
        for bucket in &mut self.buckets {
            if let Some(node) = bucket.find(contact.address)
                && node.contact == contact
            {
                (node.answered, node.failures) = (Some(now), 0);
                bucket.changed = now;
                return;
            }
            // Who calls itself otherwise than before is a new node.
            bucket.remove(|node| node.contact.address == contact.address);
        }
        self.insert(Node { answered: Some(now), ..Node::new(contact) }, now);
    }

    /// A node from the last run, of which nothing is known today.
    pub fn on_hearsay(&mut self, contact: Contact, now: Instant) {
        if self.find(contact.address).is_none() {
            self.insert(Node::new(contact), now);
        }
    }

    /// A node that may be in the table asked us something.
    pub fn on_query(&mut self, contact: &Contact, now: Instant) {
        let known = self.buckets.iter_mut().find_map(|bucket| bucket.find(contact.address));
        if let Some(node) = known.filter(|node| node.contact.id == contact.id) {
            node.asked = Some(now);
        }
    }

    /// A node that may be in the table did not answer, though others do.
    pub fn on_silence(&mut self, address: SocketAddr) {
        for bucket in &mut self.buckets {
            bucket.spares.retain(|spare| spare.contact.address != address);
            let Some(node) = bucket.find(address) else { continue };
            node.failures = node.failures.saturating_add(1);
            if node.failures >= NODE_FAILURES_MAX && !bucket.spares.is_empty() {
                bucket.remove(|node| node.contact.address == address);
            }
        }
    }

    /// Whether the node would get a place, not only a spare one, if it answered us.
    pub fn wants(&self, contact: &Contact) -> bool {
        let index = self.index_of(contact.id);
        let Some(bucket) = self.buckets.get(index) else { return false };
        let goes_on = |id: NodeId| id.distance(self.own).shared_bits() > index;
        let some_go_on =
            || goes_on(contact.id) || bucket.nodes.iter().any(|node| goes_on(node.contact.id));
        let has_place = bucket.place().is_some()
            || self.can_split(index) && some_go_on()
            || bucket.place_of_misfit(fits(contact)).is_some();
        let is_taken = |node: &Node| {
            node.contact.address == contact.address || node.is_known() && node.clashes_with(contact)
        };
        has_place && contact.id != self.own && !self.all().any(is_taken)
    }

    fn insert(&mut self, node: Node, now: Instant) {
        if node.contact.id == self.own {
            return;
        }
        for bucket in &mut self.buckets {
            bucket.remove(|other| !other.is_known() && other.clashes_with(&node.contact));
        }
        if self.all().any(|other| other.clashes_with(&node.contact)) {
            return;
        }
        loop {
            let index = self.index_of(node.contact.id);
            let can_split = self.can_split(index);
            let Some(bucket) = self.buckets.get_mut(index) else { return };
            let misfit = || bucket.place_of_misfit(node.fits).filter(|_| !can_split);
            if let Some(place) = bucket.place().or_else(misfit) {
                match bucket.nodes.get_mut(place) {
                    Some(old) => *old = node,
                    None => bucket.nodes.push(node),
                }
                bucket.changed = now;
                return;
            }
            if !can_split {
                bucket.keep_spare(node);
                return;
            }
            self.split();
        }
    }

    fn can_split(&self, index: usize) -> bool {
        index + 1 == self.buckets.len() && self.buckets.len() < BUCKETS_MAX
    }

    /// Divides the last bucket, the one that our own id would be in.
    fn split(&mut self) {
        let index = self.buckets.len().saturating_sub(1);
        let own = self.own;
        let Some(far) = self.buckets.last_mut() else { return };
        let is_far = |node: &Node| node.contact.id.distance(own).shared_bits() <= index;
        let mut near = Bucket::new(far.changed);
        (far.nodes, near.nodes) = far.nodes.iter().partition(|node| is_far(node));
        (far.spares, near.spares) = far.spares.iter().partition(|node| is_far(node));
        far.fill();
        near.fill();
        self.buckets.push(near);
    }

    fn index_of(&self, id: NodeId) -> usize {
        let shared = id.distance(self.own).shared_bits();
        shared.min(self.buckets.len().saturating_sub(1))
    }

    fn all(&self) -> impl Iterator<Item = &Node> {
        self.buckets.iter().flat_map(|bucket| bucket.nodes.iter().chain(&bucket.spares))
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.buckets.iter().flat_map(|bucket| &bucket.nodes)
    }

    fn find(&self, address: SocketAddr) -> Option<&Node> {
        self.all().find(|node| node.contact.address == address)
    }

    /// Whether who is at `address` has answered us from there.
    pub fn is_known(&self, address: SocketAddr) -> bool {
        self.find(address).is_some_and(|node| node.answered.is_some())
    }

    /// The good nodes that are closest to `target`, the closest first: what others are told. Those
    /// whose id does not fit their address are no more than half of them, if there are others: an id
    /// that is close to whatever one likes is had for nothing.
    pub fn closest(&self, target: NodeId, count: usize, now: Instant) -> Vec<Contact> {
        let good = || self.nodes().filter(|node| node.standing(now) == Standing::Good);
        let distance = |node: &Node| node.contact.id.distance(target);
        let mut closest = sorted(good(), count, distance);
        let misfits = closest.iter().filter(|contact| !fits(contact)).count();
        if misfits > count / 2 {
            let mut fitting = sorted(good().filter(|node| node.fits), count.div_ceil(2), distance);
            let room = count - fitting.len();
            let misfits = closest.into_iter().filter(|contact| !fits(contact));
            fitting.extend(misfits.take(room));
            sort_by_key(&mut fitting, |contact| contact.id.distance(target));
            closest = fitting;
        }
        closest
    }

    /// The nodes to ask when the way to `target` is looked for: the closest, bad ones only for want
    /// of others.
    pub fn starts(&self, target: NodeId, count: usize) -> Vec<Contact> {
        let is_bad = |node: &Node| node.failures >= NODE_FAILURES_MAX;
        sorted(self.nodes(), count, |node| (is_bad(node), node.contact.id.distance(target)))
    }

    /// All nodes, the best first: what is kept for another run.
    pub fn best(&self, now: Instant) -> Vec<Contact> {
        let all = BUCKETS_MAX * BUCKET_NODES_MAX;
        sorted(self.nodes(), all, |node| (node.standing(now), node.contact.id.distance(self.own)))
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.nodes().next().is_none()
    }

    /// Nodes that are there, and those of them that are good.
    pub fn count(&self, now: Instant) -> (usize, usize) {
        let good = self.nodes().filter(|node| node.standing(now) == Standing::Good);
        (self.nodes().count(), good.count())
    }

    /// Whether enough is known to do without help: a bucket's worth of good nodes whose ids fit, so
    /// that not all of them are one attacker's.
    pub fn is_rooted(&self, now: Instant) -> bool {
        let is_sound = |node: &&Node| node.fits && node.standing(now) == Standing::Good;
        self.nodes().filter(is_sound).count() >= BUCKET_NODES_MAX
    }

    /// The node to be asked whether it is still there, if there is one, and how many bits it has in
    /// common with us: the one not asked for the longest.
    pub fn take_doubtful(&mut self, now: Instant) -> Option<(SocketAddr, usize)> {
        let own = self.own;
        let nodes = self.buckets.iter_mut().flat_map(|bucket| &mut bucket.nodes);
        let doubtful = nodes.filter(|node| node.is_due(now));
        let node = doubtful.min_by_key(|node| node.tried.or(node.answered))?;
        node.tried = Some(now);
        Some((node.contact.address, node.contact.id.distance(own).shared_bits()))
    }

    /// The bucket that has not changed for too long, by the bits that it has in common with us. It
    /// counts as changed now.
    pub fn take_stale(&mut self, now: Instant) -> Option<usize> {
        let is_stale = |bucket: &Bucket| now.saturating_duration_since(bucket.changed) >= GOOD;
        let (index, bucket) =
            self.buckets.iter_mut().enumerate().find(|(_, bucket)| is_stale(bucket))?;
        bucket.changed = now;
        Some(index)
    }
}

/// The contacts of the `count` nodes that come first by `key`, in order.
fn sorted<'a, K: Ord>(
    nodes: impl Iterator<Item = &'a Node>,
    count: usize,
    key: impl Fn(&Node) -> K,
) -> Vec<Contact> {
    let mut nodes: Vec<&Node> = nodes.collect();
    sort_by_key(&mut nodes, |node| key(node));
    nodes.iter().take(count).map(|node| node.contact).collect()
}

impl Node {
    fn new(contact: Contact) -> Self {
        let fits = fits(&contact);
        Self { contact, fits, answered: None, asked: None, tried: None, failures: 0 }
    }

    /// BEP 5: good is who answered within 15 min, or has ever answered and asked within 15 min.
    fn standing(&self, now: Instant) -> Standing {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < GOOD;
        let heard = self.answered.is_some_and(is_recent)
            || self.answered.is_some() && self.asked.is_some_and(is_recent);
        match heard {
            _ if self.failures >= NODE_FAILURES_MAX => Standing::Bad,
            true => Standing::Good,
            false => Standing::Questionable,
        }
    }

    /// Whether it is to be kept when somebody else claims its place.
    fn is_known(&self) -> bool {
        self.answered.is_some() && self.failures < NODE_FAILURES_MAX
    }

    fn clashes_with(&self, other: &Contact) -> bool {
        self.contact.id == other.id || network_of(self.contact.address) == network_of(other.address)
    }

    fn is_due(&self, now: Instant) -> bool {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        let is_rested = |at: Instant| now.saturating_duration_since(at) >= pause;
        self.standing(now) != Standing::Good && self.tried.is_none_or(is_rested)
    }
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { nodes: Vec::new(), spares: Vec::new(), changed: now }
    }

    fn find(&mut self, address: SocketAddr) -> Option<&mut Node> {
        let mut all = self.nodes.iter_mut().chain(&mut self.spares);
        all.find(|node| node.contact.address == address)
    }

    /// Where a new node goes: behind the others, or where a bad one is.
    fn place(&self) -> Option<usize> {
        if self.nodes.len() < BUCKET_NODES_MAX {
            return Some(self.nodes.len());
        }
        self.nodes.iter().position(|node| node.failures >= NODE_FAILURES_MAX)
    }

    /// Where one is whose id does not fit its address, if that of the new one does.
    fn place_of_misfit(&self, fits: bool) -> Option<usize> {
        self.nodes.iter().position(|node| fits && !node.fits)
    }

    fn keep_spare(&mut self, node: Node) {
        if self.spares.len() >= BUCKET_SPARES_MAX {
            self.spares.remove(0);
        }
        self.spares.push(node);
    }

    fn remove(&mut self, is_gone: impl Fn(&Node) -> bool) {
        self.nodes.retain(|node| !is_gone(node));
        self.spares.retain(|node| !is_gone(node));
        self.fill();
    }

    fn fill(&mut self) {
        while self.nodes.len() < BUCKET_NODES_MAX
            && let Some(spare) = self.spares.pop()
        {
            self.nodes.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId([0; 20]);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// A node in a network of its own, with no bit of its id in common with ours. The id fits its
    /// address, or does not.
    fn contact(number: u32, fits: bool) -> Contact {
        let mut rng = fastrand::Rng::with_seed(number.into());
        loop {
            let ip = (rng.u32(1..100) << 24 | number << 8 | 1).to_be_bytes();
            let address = SocketAddr::from((ip, 6881));
            let mut random = std::array::from_fn(|_| rng.u8(..));
            random[0] |= 0x80;
            let id = if fits { NodeId::for_address(ip.into(), random) } else { NodeId(random) };
            if id.distance(OWN).shared_bits() == 0 && id.fits(address.ip()) == fits {
                return Contact { id, address };
            }
        }
    }

    /// A node in our own network, whose id may be any.
    fn local(number: u16, bits: usize) -> Contact {
        let [high, low] = number.to_be_bytes();
        let mut random = [0x55; 20];
        (random[18], random[19]) = (high, low);
        Contact { id: OWN.beside(bits, random), address: ([10, 0, high, low], 6881).into() }
    }

    fn addresses(contacts: &[Contact]) -> Vec<SocketAddr> {
        contacts.iter().map(|contact| contact.address).collect()
    }

    #[test]
    fn a_bucket_is_split_only_where_we_are() {
        let now = Instant::now();
        let mut table = Table::new(OWN, now);
        for number in 0..100 {
            table.on_answer(local(number, 0), now);
        }
        assert_eq!(table.count(now), (8, 8), "there is nobody near us yet");
        for number in 100..200 {
            table.on_answer(local(number, usize::from(number - 100)), now);
        }
        let (nodes, _) = table.count(now);
        assert_eq!(table.buckets.len(), BUCKETS_MAX);
        assert_eq!(nodes, 8 + 30 + 8, "one for each number of bits, and the nearest");
        for number in 0..10_000 {
            table.on_answer(local(number, usize::from(number % 40)), now);
        }
        let (nodes, _) = table.count(now);
        assert_eq!(nodes, BUCKETS_MAX * BUCKET_NODES_MAX);
        assert!(table.buckets.iter().all(|bucket| bucket.nodes.len() <= BUCKET_NODES_MAX));
        let held = table.all().count();
        assert!(held <= BUCKETS_MAX * (BUCKET_NODES_MAX + BUCKET_SPARES_MAX), "{held}");
    }

    #[test]
    fn who_answers_for_long_keeps_its_place_until_it_is_bad() {
        let now = Instant::now();
        let mut table = Table::new(OWN, now);
        let nodes: Vec<_> = (0..10).map(|number| local(number, 0)).collect();
        nodes.iter().for_each(|node| table.on_answer(*node, now));
        let own: Vec<_> = addresses(&table.best(now));
        assert!(nodes[..8].iter().all(|node| own.contains(&node.address)));
        assert!(!table.wants(&local(50, 0)));
        table.on_silence(nodes[3].address);
        assert!(table.best(now).contains(&nodes[3]), "one query may get lost");
        table.on_answer(nodes[3], now);
        table.on_silence(nodes[3].address);
        assert!(table.best(now).contains(&nodes[3]));
        table.on_silence(nodes[3].address);
        assert!(!table.best(now).contains(&nodes[3]));
        assert!(table.best(now).contains(&nodes[9]), "who answered last is first in line");
        for node in [nodes[0], nodes[1]] {
            table.on_silence(node.address);
            table.on_silence(node.address);
        }
        // There was one more in line; then a bad node stays until there is a better one.
        assert!(table.best(now).contains(&nodes[8]) && table.best(now).contains(&nodes[1]));
        assert_eq!(table.best(now).last(), Some(&nodes[1]));
        assert!(table.wants(&local(50, 0)));
        table.on_answer(local(50, 0), now);
        assert!(!table.best(now).contains(&nodes[1]));
    }

    #[test]
    fn good_is_who_was_heard_within_a_quarter_of_an_hour() {
        let start = Instant::now();
        let node = local(1, 0);
        let is_good = |table: &Table, at| table.closest(OWN, 8, after(start, at)).len() == 1;
        let mut table = Table::new(OWN, start);
        table.on_hearsay(node, start);
        table.on_query(&node, start);
        assert!(!is_good(&table, 0), "it never answered");
        assert_eq!(addresses(&table.starts(OWN, 8)), [node.address]);
        table.on_answer(node, after(start, 10));
        assert!(is_good(&table, 909) && !is_good(&table, 910));
        table.on_query(&node, after(start, 5_000));
        assert!(is_good(&table, 5_899) && !is_good(&table, 5_900));
        table.on_query(&Contact { id: NodeId([9; 20]), ..node }, after(start, 6_000));
        assert!(!is_good(&table, 6_000), "somebody else's question");
        table.on_query(&node, after(start, 7_000));
        table.on_silence(node.address);
        table.on_silence(node.address);
        assert!(!is_good(&table, 7_000), "it does not answer");
        assert_eq!(addresses(&table.starts(OWN, 8)), [node.address], "there is nobody else");
    }

    #[test]
    fn each_id_address_and_network_has_one_place() {
        let now = Instant::now();
        let node = contact(1, true);
        let table_with = |others: &[Contact]| {
            let mut table = Table::new(OWN, now);
            table.on_answer(node, now);
            others.iter().for_each(|other| table.on_answer(*other, now));
            addresses(&table.best(now))
        };
        let std::net::IpAddr::V4(ip) = node.address.ip() else { panic!("{node:?}") };
        let neighbour = SocketAddr::new(std::net::Ipv4Addr::from_bits(ip.to_bits() + 7).into(), 1);
        let elsewhere = contact(2, true);
        let thief = Contact { id: node.id, ..elsewhere };
        assert_eq!(table_with(&[Contact { address: neighbour, ..elsewhere }]), [node.address]);
        assert_eq!(table_with(&[thief]), [node.address]);
        assert_eq!(table_with(&[elsewhere]).len(), 2);
        assert_eq!(table_with(&[Contact { id: OWN, ..elsewhere }]), [node.address]);
        // Another id at its own address takes its place.
        let renamed = Contact { id: contact(3, true).id, ..node };
        let mut table = Table::new(OWN, now);
        table.on_answer(node, now);
        table.on_answer(renamed, now);
        assert_eq!(table.best(now), [renamed]);
        // Who is known only from hearsay, or is bad, gives way.
        let mut table = Table::new(OWN, now);
        table.on_hearsay(thief, now);
        assert!(table.wants(&node));
        table.on_answer(node, now);
        assert_eq!(table.best(now), [node]);
        table.on_silence(node.address);
        table.on_silence(node.address);
        assert!(table.wants(&thief));
        table.on_answer(thief, now);
        assert_eq!(table.best(now), [thief]);
        // In our own network each port is a node.
        let mut table = Table::new(OWN, now);
        for port in 1..=5 {
            let address = ([127, 0, 0, 1], port).into();
            table.on_answer(Contact { id: local(port, 3).id, address }, now);
        }
        assert_eq!(table.count(now), (5, 5));
    }

    #[test]
    fn an_id_that_fits_its_address_is_worth_more() {
        let now = Instant::now();
        let mut table = Table::new(OWN, now);
        (0..8).for_each(|number| table.on_answer(contact(number, false), now));
        assert!(!table.wants(&contact(8, false)));
        let fitting: Vec<_> = (10..20).map(|number| contact(number, true)).collect();
        for (count, node) in fitting.iter().enumerate() {
            assert_eq!(table.wants(node), count < 8);
            table.on_answer(*node, now);
        }
        let nodes = table.best(now);
        assert_eq!(nodes.len(), 8);
        assert!(nodes.iter().all(|node| fitting[..8].contains(node)));
    }

    #[test]
    fn the_closest_are_the_closest() {
        let now = Instant::now();
        let mut table = Table::new(OWN, now);
        (0..200).for_each(|number| table.on_answer(local(number, usize::from(number % 7)), now));
        let mut rng = fastrand::Rng::with_seed(3);
        for count in [0, 1, 8, 1_000] {
            let target = NodeId(std::array::from_fn(|_| rng.u8(..)));
            let mut all = table.best(now);
            all.sort_by_key(|node| node.id.distance(target));
            all.truncate(count);
            assert_eq!(table.closest(target, count, now), all);
            assert_eq!(table.starts(target, count), all);
        }
    }

    #[test]
    fn others_are_told_of_no_more_than_half_whose_ids_do_not_fit() {
        let now = Instant::now();
        for (misfits, fitting, expected) in [(0, 8, 0), (3, 8, 3), (8, 8, 4), (8, 2, 6), (8, 0, 8)]
        {
            let mut table = Table::new(OWN, now);
            // Nearer to us than those that fit, and in other buckets.
            for number in 0..misfits {
                let node = contact(1_000 + number, false);
                let id = OWN.beside(100 + number as usize, [0; 20]);
                table.on_answer(Contact { id, ..node }, now);
            }
            (0..fitting).for_each(|number| table.on_answer(contact(number, true), now));
            let told = table.closest(OWN, 8, now);
            let count = told.iter().filter(|node| !fits(node)).count();
            assert_eq!((told.len(), count), (8.min(misfits + fitting) as usize, expected));
            assert!(told.is_sorted_by_key(|node| node.id.distance(OWN)));
        }
    }

    #[test]
    fn doubtful_nodes_are_asked_in_turn_and_ever_less_often() {
        let start = Instant::now();
        let mut table = Table::new(OWN, start);
        (0..3).for_each(|number| table.on_answer(local(number, usize::from(number)), start));
        assert_eq!(table.take_doubtful(after(start, 899)), None);
        for second in 900..903 {
            assert!(table.take_doubtful(after(start, second)).is_some());
        }
        assert_eq!(table.take_doubtful(after(start, 929)), None);
        let silent = local(2, 2);
        table.on_answer(local(0, 0), after(start, 929));
        table.on_answer(local(1, 1), after(start, 929));
        let mut asked = Vec::new();
        for second in 929..5_000 {
            if let Some((address, bits)) = table.take_doubtful(after(start, second))
                && address == silent.address
            {
                assert_eq!(bits, 2);
                asked.push(second);
                table.on_silence(address);
            }
        }
        let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 900, 900, 900], "{asked:?}");
    }

    #[test]
    fn a_bucket_in_which_nothing_happens_is_stale() {
        let start = Instant::now();
        let mut table = Table::new(OWN, start);
        (0..20).for_each(|number| table.on_answer(local(number, usize::from(number / 10)), start));
        assert_eq!(table.buckets.len(), 3);
        assert_eq!(table.take_stale(after(start, 899)), None);
        table.on_answer(local(0, 0), after(start, 899));
        assert_eq!(table.take_stale(after(start, 900)), Some(1));
        assert_eq!(table.take_stale(after(start, 900)), Some(2));
        assert_eq!(table.take_stale(after(start, 900)), None);
        assert_eq!(table.take_stale(after(start, 1_799)), Some(0));
        assert_eq!(table.take_stale(after(start, 1_800)), Some(1));
    }

    #[test]
    fn under_another_id_the_nodes_stay() {
        let now = Instant::now();
        let mut table = Table::new(OWN, now);
        (0..8).for_each(|number| table.on_answer(local(number, usize::from(number % 4)), now));
        let mut before = addresses(&table.best(now));
        let table = table.with_id(NodeId([0xff; 20]), now);
        let mut after = addresses(&table.best(now));
        before.sort();
        after.sort();
        assert_eq!(before, after);
        assert_eq!(table.own(), NodeId([0xff; 20]));
    }
}
