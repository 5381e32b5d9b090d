//! What is done so that the table stays full of nodes that are there.

use std::time::{Duration, Instant};

use super::queries::Purpose;
use super::{Datagram, Dht};
use crate::limits::{
    DHT_UPKEEP_MS, LOOKUP_PAUSE_MAX_S, LOOKUP_PAUSE_START_S, NODE_GOOD_S, STRANGER_PAUSE_MS,
};
use crate::protocol::krpc::{Query, Want};

const UPKEEP: Duration = Duration::from_millis(DHT_UPKEEP_MS);
const STRANGER_PAUSE: Duration = Duration::from_millis(STRANGER_PAUSE_MS);
const OWN_PLACE_INTERVAL: Duration = Duration::from_secs(NODE_GOOD_S);

impl Dht {
    /// Looks after the table: begins a lookup where it has too little, and asks one node that may
    /// be gone.
    pub(super) fn keep_up(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        if now < self.upkeep_at {
            return;
        }
        self.upkeep_at = now + UPKEEP;
        if self.own_lookup.is_none() && self.can_start() {
            let own = self.table.own();
            if now >= self.own_lookup_at {
                self.own_lookup = Some(self.start(own, now));
            } else if let Some(bits) = self.table.take_stale(now) {
                let target = own.beside(bits, self.nonces.draw());
                self.own_lookup = Some(self.start(target, now));
            }
        }
        if !self.queries.is_full()
            && let Some((to, bits)) = self.table.take_doubtful(now)
        {
            let target = self.table.own().beside(bits, self.nonces.draw());
            let query = Query::FindNode { target, want: Want::default() };
            out.push(self.ask(to, query, Purpose::Doubt, now));
        }
    }

    /// Goes on with the lookup for the table's sake.
    pub(super) fn look_up_own_place(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        let Some(mut lookup) = self.own_lookup.take() else { return };
        let target = lookup.target();
        while !self.queries.is_full()
            && let Some(to) = lookup.next(now)
        {
            let query = Query::FindNode { target, want: Want::default() };
            out.push(self.ask(to, query, Purpose::OwnLookup, now));
        }
        if !lookup.is_done() {
            self.own_lookup = Some(lookup);
        } else if target == self.table.own() {
            let is_rooted = self.table.is_rooted(now);
            self.own_failures = if is_rooted { 0 } else { self.own_failures.saturating_add(1) };
            self.own_lookup_at =
                now + if is_rooted { OWN_PLACE_INTERVAL } else { pause(self.own_failures) };
        }
    }

    /// Asks one of those who may be nodes.
    pub(super) fn greet_stranger(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        if now < self.stranger_at || self.strangers.is_empty() {
            return;
        }
        self.stranger_at = now + STRANGER_PAUSE;
        if !self.queries.is_full()
            && let Some(to) = self.strangers.pop_front()
        {
            out.push(self.ask(to, Query::Ping, Purpose::Greeting, now));
        }
    }
}

/// The pause after so many lookups in a row that failed, one at least.
pub(super) fn pause(failures: u32) -> Duration {
    let doubled = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(LOOKUP_PAUSE_START_S.saturating_mul(doubled).min(LOOKUP_PAUSE_MAX_S))
}
