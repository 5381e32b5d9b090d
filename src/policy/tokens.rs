//! Decides who may announce: who shows that our answers reach it, by a token from one of them
//! (BEP 5, "Overview"). Nothing is kept for it: a token is the hash of a secret that changes, and of
//! the address it was given to.

use std::net::IpAddr;
use std::time::Instant;

use sha1::{Digest, Sha1};

use crate::limits::TOKEN_SECRET_LIFE_S;

/// Bytes of a token.
pub const TOKEN_LENGTH: usize = 8;

/// Gives out tokens, and knows them again for 5 to 10 minutes.
pub struct Tokens {
    secret: [u8; 20],
    began: Instant,
}

impl Tokens {
    /// The secret is used for nothing else.
    pub fn new(secret: [u8; 20], now: Instant) -> Self {
        Self { secret, began: now }
    }

    /// The token for who is at `ip`.
    pub fn give(&self, ip: IpAddr, now: Instant) -> [u8; TOKEN_LENGTH] {
        self.token(ip, self.period(now))
    }

    /// Whether `token` was given to who is at `ip`, and not too long ago.
    pub fn is_valid(&self, token: &[u8], ip: IpAddr, now: Instant) -> bool {
        let period = self.period(now);
        let before = period.checked_sub(1);
        let mut periods = std::iter::once(period).chain(before);
        periods.any(|period| self.token(ip, period) == token)
    }

    /// Which secret it is the time of.
    fn period(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / TOKEN_SECRET_LIFE_S
    }

    fn token(&self, ip: IpAddr, period: u64) -> [u8; TOKEN_LENGTH] {
        let sha = Sha1::new().chain_update(self.secret).chain_update(period.to_be_bytes());
        let sha = match ip {
            IpAddr::V4(ip) => sha.chain_update(ip.octets()),
            IpAddr::V6(ip) => sha.chain_update(ip.octets()),
        };
        let hash: [u8; 20] = sha.finalize().into();
        let [token @ .., _, _, _, _, _, _, _, _, _, _, _, _] = hash;
        token
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_counts_for_five_to_ten_minutes_and_for_one_address() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let tokens = Tokens::new([7; 20], start);
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        for (given, until) in [(0, 600), (1, 600), (299, 600), (300, 900), (86_399, 86_700)] {
            let token = tokens.give(ip, after(given));
            for (at, valid) in [
                (given, true),
                (given + 300, true),
                (until - 1, true),
                (until, false),
                (until + 86_400, false),
            ] {
                assert_eq!(tokens.is_valid(&token, ip, after(at)), valid, "{given} {at}");
            }
            for other in ["192.0.2.2", "::c000:201", "::ffff:192.0.2.1"] {
                assert!(!tokens.is_valid(&token, other.parse().unwrap(), after(given)), "{other}");
            }
            for wrong in [&token[..7], &[], &[0; 8], &[token, token].concat()] {
                assert!(!tokens.is_valid(wrong, ip, after(given)));
            }
            let other = Tokens::new([8; 20], start);
            assert!(!other.is_valid(&token, ip, after(given)));
        }
    }

    #[test]
    fn the_clock_may_jump() {
        let start = Instant::now() + Duration::from_secs(1_000);
        let tokens = Tokens::new([7; 20], start);
        let ip: IpAddr = "2001:db8::1".parse().unwrap();
        let before = start - Duration::from_secs(500);
        assert!(tokens.is_valid(&tokens.give(ip, before), ip, start));
        assert!(tokens.is_valid(&tokens.give(ip, start), ip, before));
    }
}
