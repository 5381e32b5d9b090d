//! Decides which addresses can be believed: from how far each can be reached, and which of them one
//! owner is likely to have.
//!
//! A stranger may name any address to make us send to it. One that is far away can't know what is
//! in our own network, and has no business there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// From how far an address can be reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reach {
    /// From this machine only.
    Host,
    /// From a private network only.
    Site,
    /// From everywhere.
    World,
}

impl Reach {
    /// `None` for what is no address of one machine, or can't be reached without knowing by which
    /// network.
    pub fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Option<Self> {
        let [first, second, ..] = ip.octets();
        match (first, second) {
            (0 | 224.., _) => None,
            (127, _) => Some(Self::Host),
            // Shared by providers and their customers, RFC 6598.
            (100, 64..=127) => Some(Self::Site),
            _ if ip.is_private() || ip.is_link_local() => Some(Self::Site),
            _ => Some(Self::World),
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Option<Self> {
        let embeds_v4 = ip.to_ipv4_mapped().is_some();
        if ip.is_loopback() {
            Some(Self::Host)
        } else if ip.is_unique_local() {
            Some(Self::Site)
        } else if ip.segments().first() == Some(&0)
            || embeds_v4
            || ip.is_unicast_link_local()
            || ip.is_multicast()
        {
            None
        } else {
            Some(Self::World)
        }
    }
}

/// Whether it is in our own network or machine, as far as one can tell.
pub fn is_local(ip: IpAddr) -> bool {
    matches!(Reach::of(ip), Some(Reach::Host | Reach::Site))
}

/// Whether who is at `teller` may send us to `told`: a port of a machine that can be reached from
/// as far.
pub fn may_tell(teller: IpAddr, told: SocketAddr) -> bool {
    let reach = Reach::of(told.ip());
    told.port() != 0 && reach.is_some() && reach >= Reach::of(teller)
}

/// What one owner is likely to have all of, as the address and port it begins with: a /24, or a /48
/// of IPv6. In our own network each address and port stands for itself.
pub fn network_of(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if is_local(ip) => address,
        IpAddr::V4(ip) => SocketAddr::from((Ipv4Addr::from_bits(ip.to_bits() & !0xff), 0)),
        IpAddr::V6(ip) => SocketAddr::from((Ipv6Addr::from_bits(ip.to_bits() >> 80 << 80), 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_they_do() {
        let cases = [
            ("0.0.0.0", None),
            ("0.1.2.3", None),
            ("127.0.0.1", Some(Reach::Host)),
            ("127.9.9.9", Some(Reach::Host)),
            ("10.0.0.1", Some(Reach::Site)),
            ("172.16.0.1", Some(Reach::Site)),
            ("172.32.0.1", Some(Reach::World)),
            ("192.168.1.1", Some(Reach::Site)),
            ("169.254.169.254", Some(Reach::Site)),
            ("100.64.0.1", Some(Reach::Site)),
            ("100.63.0.1", Some(Reach::World)),
            ("100.128.0.1", Some(Reach::World)),
            ("192.0.2.1", Some(Reach::World)),
            ("223.255.255.255", Some(Reach::World)),
            ("224.0.0.1", None),
            ("240.0.0.1", None),
            ("255.255.255.255", None),
            ("::", None),
            ("::1", Some(Reach::Host)),
            ("::2", None),
            ("::ffff:192.0.2.1", None),
            ("fe80::1", None),
            ("febf::1", None),
            ("ff02::1", None),
            ("fc00::1", Some(Reach::Site)),
            ("fdff::1", Some(Reach::Site)),
            ("2001:db8::1", Some(Reach::World)),
        ];
        for (ip, reach) in cases {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(Reach::of(ip), reach, "{ip}");
            assert_eq!(is_local(ip), reach.is_some_and(|reach| reach < Reach::World), "{ip}");
        }
    }

    #[test]
    fn only_who_is_near_may_send_us_to_what_is_near() {
        let tellers = ["127.0.0.1", "192.168.1.1", "192.0.2.1"];
        let cases = [
            ("127.0.0.1:22", [true, false, false]),
            ("192.168.1.9:80", [true, true, false]),
            ("[fd00::1]:80", [true, true, false]),
            ("[::1]:80", [true, false, false]),
            ("198.51.100.1:80", [true, true, true]),
            ("[2001:db8::1]:80", [true, true, true]),
            ("198.51.100.1:0", [false, false, false]),
            ("224.0.0.1:80", [false, false, false]),
            ("[::ffff:127.0.0.1]:80", [false, false, false]),
        ];
        for (told, expected) in cases {
            let told = told.parse().unwrap();
            let believed = tellers.map(|teller| may_tell(teller.parse().unwrap(), told));
            assert_eq!(believed, expected, "{told}");
        }
    }

    #[test]
    fn a_network_is_what_one_owner_has() {
        let cases = [
            ("192.0.2.1:1", "192.0.2.255:2", true),
            ("192.0.2.1:1", "192.0.3.1:1", false),
            ("192.0.2.1:1", "192.0.2.1:1", true),
            ("10.0.0.1:1", "10.0.0.2:1", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("[2001:db8:0:1::]:1", "[2001:db8:0:2::]:1", true),
            ("[2001:db8:1::]:1", "[2001:db8:2::]:1", false),
            ("[fd00::1]:1", "[fd00::2]:1", false),
        ];
        for (one, two, same) in cases {
            let networks = [one, two].map(|address| network_of(address.parse().unwrap()));
            assert_eq!(networks[0] == networks[1], same, "{one} {two}");
        }
    }
}
