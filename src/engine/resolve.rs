//! Owns the look-up of trackers' and mirrors' names, in bounded time.
//!
//! The system's look-up can't be given a deadline, so it runs on a thread of its own, which is left
//! behind when the time is up. ureq does the same, but panics if there is no thread to be had.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::limits::{RESOLVER_STACK_BYTES, TRACKER_ADDRESSES_MAX};
use crate::protocol::tracker::TrackerError;

/// The addresses of `host`, at least one and at most [`TRACKER_ADDRESSES_MAX`]; an IPv6 address
/// stands without its brackets. IPv4 and IPv6 take turns, and IPv4 begins: it is where most peers
/// are, and a private tracker keeps only one address of ours.
pub(super) fn resolve(
    host: &str,
    port: u16,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, TrackerError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (done, found) = bounded(1);
    let host = host.to_owned();
    thread::Builder::new().name("resolver".into()).stack_size(RESOLVER_STACK_BYTES).spawn(
        move || {
            let _ = done.send((host, port).to_socket_addrs().map(Vec::from_iter));
        },
    )?;
    let found = found.recv_timeout(timeout).map_err(|_| TrackerError::Timeout)?;
    let addresses = take_turns(&found.map_err(|_| TrackerError::Resolve)?);
    if addresses.is_empty() { Err(TrackerError::Resolve) } else { Ok(addresses) }
}

fn take_turns(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut v4 = found.iter().filter(|address| address.is_ipv4());
    let mut v6 = found.iter().filter(|address| address.is_ipv6());
    let mut addresses = Vec::new();
    while addresses.len() < TRACKER_ADDRESSES_MAX {
        let turn = [v4.next(), v6.next()];
        if turn == [None, None] {
            break;
        }
        addresses.extend(turn.into_iter().flatten());
    }
    addresses.truncate(TRACKER_ADDRESSES_MAX);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns() {
        let cases: [(&[&str], &[&str]); 4] = [
            (&[], &[]),
            (&["[::1]:1"], &["[::1]:1"]),
            (
                &["[::1]:1", "[::2]:1", "1.0.0.1:1", "[::3]:1"],
                &["1.0.0.1:1", "[::1]:1", "[::2]:1", "[::3]:1"],
            ),
            (
                &["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1", "1.0.0.4:1", "[::1]:1"],
                &["1.0.0.1:1", "[::1]:1", "1.0.0.2:1", "1.0.0.3:1"],
            ),
        ];
        for (found, order) in cases {
            assert_eq!(take_turns(&addresses(found)), addresses(order));
        }
    }

    #[test]
    fn an_address_needs_no_look_up() {
        let found = resolve("::1", 80, Duration::ZERO);
        assert_eq!(found, Ok(addresses(&["[::1]:80"])));
        let found = resolve("192.0.2.1", 80, Duration::ZERO);
        assert_eq!(found, Ok(addresses(&["192.0.2.1:80"])));
    }

    #[test]
    fn localhost_is_found() {
        let found = resolve("localhost", 80, Duration::from_secs(10)).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
    }
}
