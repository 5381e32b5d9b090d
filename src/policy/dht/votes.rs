//! What others believe our address to be (BEP 42, "Bootstrapping"). One may be wrong or lie, so
//! each network has a vote, and many must agree.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::limits::{ADDRESS_VOTES_MAX, ADDRESS_VOTES_MIN};
use crate::policy::reach::network_of;

/// The last votes.
#[derive(Default)]
pub(super) struct Votes {
    votes: VecDeque<(SocketAddr, IpAddr)>,
}

impl Votes {
    /// Who is at `voter` says that we are at `ip`; returned if enough say so.
    pub(super) fn hear(&mut self, voter: SocketAddr, ip: IpAddr) -> Option<IpAddr> {
        let network = network_of(voter);
        self.votes.retain(|(other, _)| *other != network);
        if self.votes.len() >= ADDRESS_VOTES_MAX {
            self.votes.pop_front();
        }
        self.votes.push_back((network, ip));
        let agreeing = self.votes.iter().filter(|(_, other)| *other == ip).count();
        (agreeing >= ADDRESS_VOTES_MIN).then_some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(number: usize, port: u16) -> SocketAddr {
        ([20, 0, u8::try_from(number).unwrap(), 1], port).into()
    }

    #[test]
    fn many_networks_must_agree() {
        let [ours, lie]: [IpAddr; 2] = ["192.0.2.1", "198.51.100.1"].map(|ip| ip.parse().unwrap());
        let mut votes = Votes::default();
        for number in 0..ADDRESS_VOTES_MIN - 1 {
            assert_eq!(votes.hear(voter(number, 1), ours), None);
        }
        // One that votes again, or that has many ports, is one.
        for port in 1..100 {
            assert_eq!(votes.hear(voter(0, port), ours), None);
            assert_eq!(votes.hear(voter(100, port), lie), None);
        }
        assert_eq!(votes.hear(voter(50, 1), ours), Some(ours));
        // Our address changes: what was said before is forgotten, but for what fits.
        for number in 60..60 + ADDRESS_VOTES_MIN - 2 {
            assert_eq!(votes.hear(voter(number, 1), lie), None);
        }
        assert_eq!(votes.hear(voter(200, 1), lie), Some(lie));
        assert_eq!(votes.votes.len(), ADDRESS_VOTES_MAX);
    }
}
