//! Owns the node id of the DHT (BEP 5, "Overview"): how far two are apart, and which ids an address
//! may have (BEP 42).

use std::fmt;
use std::net::IpAddr;

use crate::units::InfoHash;

/// The 160 bits by which a node calls itself. An info-hash is a place among them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

/// How far two ids are apart: their XOR, taken as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Distance([u8; 20]);

impl Distance {
    /// Not apart at all.
    pub const ZERO: Self = Self([0; 20]);

    /// As far apart as can be.
    pub const MAX: Self = Self([0xff; 20]);

    /// What it becomes when one of the two ids gives way to one that is `shift` apart from it.
    pub fn moved_by(self, shift: Self) -> Self {
        Self(xor(self.0, shift.0))
    }

    /// Bits at the start that both ids have in common, up to 160.
    pub fn shared_bits(self) -> usize {
        let zeros = self.0.iter().take_while(|byte| **byte == 0).count();
        let rest = self.0.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
        8 * zeros + rest
    }
}

impl NodeId {
    /// The distance to `other`.
    pub fn distance(self, other: Self) -> Distance {
        Distance(xor(self.0, other.0))
    }

    /// An id that a node at `ip` may have, made of 20 random bytes (BEP 42, "Node ID restriction").
    pub fn for_address(ip: IpAddr, random: [u8; 20]) -> Self {
        let mut id = random;
        let [first, second, third, .., last] = &mut id;
        let [a, b, c, _] = prefix(ip, *last);
        (*first, *second, *third) = (a, b, c & 0xf8 | *third & 0x07);
        Self(id)
    }

    /// Whether a node at `ip` may have this id. Nodes in a local network may have any; that is not
    /// looked at here.
    pub fn fits(self, ip: IpAddr) -> bool {
        self == Self::for_address(ip, self.0)
    }

    /// An id that has exactly `bits` bits, less than 160, at its start in common with this one, and
    /// is random for the rest.
    pub fn beside(self, bits: usize, random: [u8; 20]) -> Self {
        let mut id = random;
        for (at, (byte, ours)) in id.iter_mut().zip(self.0).enumerate() {
            // Bits of this byte that are the same, and the one after them that is not.
            let same = bits.saturating_sub(8 * at).min(8);
            let mask = 0xff_u8.checked_shr(u32::try_from(same).unwrap_or(8)).unwrap_or(0);
            *byte = ours & !mask | *byte & mask;
            if bits / 8 == at {
                let bit = 0x80 >> (bits % 8);
                *byte = *byte & !bit | !ours & bit;
            }
        }
        Self(id)
    }
}

impl From<InfoHash> for NodeId {
    fn from(info_hash: InfoHash) -> Self {
        Self(info_hash.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn xor(mut one: [u8; 20], other: [u8; 20]) -> [u8; 20] {
    one.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
    one
}

/// The hash whose first 21 bits a node at `ip` has its id begin with, for the id's last byte.
fn prefix(ip: IpAddr, last: u8) -> [u8; 4] {
    let r = last & 0x07;
    let crc = match ip {
        IpAddr::V4(ip) => {
            let masked = ip.to_bits() & 0x030f_3fff | u32::from(r) << 29;
            crc32c(&masked.to_be_bytes())
        }
        IpAddr::V6(ip) => {
            let [high @ .., _, _, _, _, _, _, _, _] = ip.octets();
            let masked = u64::from_be_bytes(high) & 0x0103_070f_1f3f_7fff | u64::from(r) << 61;
            crc32c(&masked.to_be_bytes())
        }
    };
    crc.to_be_bytes()
}

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4). Eight bytes at most come here: no table.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ 0x82f6_3b78 & (crc & 1).wrapping_neg();
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(hex: &str) -> NodeId {
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        NodeId(std::array::from_fn(byte))
    }

    #[test]
    fn ids_and_addresses_of_bep_42_fit() {
        let cases = [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ];
        for (ip, hex) in cases {
            let id = id(hex);
            let ip: IpAddr = ip.parse().unwrap();
            assert!(id.fits(ip), "{ip}");
            // What is not fixed may be anything, what is fixed may not.
            for (bit, free) in [(0, false), (20, false), (21, true), (23, true), (152, true)] {
                let mut other = id;
                other.0[bit / 8] ^= 0x80 >> (bit % 8);
                assert_eq!(other.fits(ip), free, "{ip}, bit {bit}");
            }
            for bit in [157, 158, 159] {
                let mut other = id;
                other.0[bit / 8] ^= 0x80 >> (bit % 8);
                assert!(!other.fits(ip), "{ip}, bit {bit}");
            }
            for (other, _) in cases {
                let other: IpAddr = other.parse().unwrap();
                assert_eq!(id.fits(other), other == ip);
            }
        }
    }

    #[test]
    fn an_id_made_for_an_address_fits_it_and_its_network_only() {
        let cases = [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "128.0.2.1", true), // bits that are not looked at
            ("2001:db8::1", "2001:db8::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ];
        let mut rng = fastrand::Rng::with_seed(1);
        for (ip, other, fits) in cases {
            let (ip, other): (IpAddr, IpAddr) = (ip.parse().unwrap(), other.parse().unwrap());
            for _ in 0..100 {
                let id = NodeId::for_address(ip, std::array::from_fn(|_| rng.u8(..)));
                assert!(id.fits(ip), "{ip}");
                assert_eq!(id.fits(other), fits, "{other}");
            }
        }
    }

    #[test]
    fn a_crc_as_rfc_3720_has_it() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn distances_are_numbers() {
        let zero = NodeId([0; 20]);
        let mut one = zero;
        one.0[19] = 1;
        assert_eq!(zero.distance(zero).shared_bits(), 160);
        assert_eq!(zero.distance(one).shared_bits(), 159);
        assert_eq!(zero.distance(NodeId([0xff; 20])), Distance::MAX);
        assert_eq!(Distance::MAX.shared_bits(), 0);
        let near = id("0000000000000000000000000000000000000100").distance(zero);
        assert!(one.distance(zero) < near && near < Distance::MAX);
        assert_eq!(near.shared_bits(), 151);
    }

    #[test]
    fn an_id_beside_ours_has_so_many_bits_in_common() {
        let mut rng = fastrand::Rng::with_seed(2);
        for bits in 0..160 {
            let ours = NodeId(std::array::from_fn(|_| rng.u8(..)));
            for random in [[0; 20], [0xff; 20], std::array::from_fn(|_| rng.u8(..))] {
                let beside = ours.beside(bits, random);
                assert_eq!(beside.distance(ours).shared_bits(), bits);
            }
        }
    }
}
