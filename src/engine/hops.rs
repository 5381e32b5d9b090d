//! Owns where a request over HTTP may lead: which addresses its hosts have, and which of them it
//! may be redirected to.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::engine::resolve::resolve;
use crate::protocol::tracker::TrackerError;

/// How we call ourselves.
pub(super) const USER_AGENT: &str = concat!("rusty_torrent/", env!("CARGO_PKG_VERSION"));

/// The host of `uri`, an IPv6 address without its brackets.
fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether `uri` names an address in our own network: no proxy has to lead there.
pub(super) fn is_near(uri: &Uri) -> bool {
    bare_host(uri).parse().is_ok_and(is_local)
}

/// Resolves the hops of one request: the server and where it redirects to. A server out in the
/// world has no business in our own network, so it can't redirect there.
#[derive(Debug, Default)]
pub(super) struct Hops {
    began_outside: OnceLock<bool>,
}

impl Resolver for Hops {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let timeout = Duration::from_secs_f64(timeout.after.as_secs_f64());
        let found = resolve(bare_host(uri), port, timeout).map_err(|error| match error {
            TrackerError::Timeout => Error::Timeout(ureq::Timeout::Resolve),
            TrackerError::Connection(kind) => Error::Io(kind.into()),
            _ => Error::HostNotFound,
        })?;
        let mut addresses = self.empty();
        self.let_through(found).ok_or(Error::RedirectFailed)?.for_each(|a| addresses.push(a));
        Ok(addresses)
    }
}

impl Hops {
    /// Those of `found` that this hop may go to; `None` if there are none.
    fn let_through(&self, found: Vec<SocketAddr>) -> Option<impl Iterator<Item = SocketAddr>> {
        let outside = |address: &SocketAddr| !is_local(address.ip());
        let began_outside = *self.began_outside.get_or_init(|| found.iter().all(outside));
        let mut rest = found.into_iter().filter(move |a| !began_outside || outside(a)).peekable();
        rest.peek()?;
        Some(rest)
    }
}

/// Whether `ip` is this machine or its network, and not a place in the world.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let is_carriers = first == 100 && (64..128).contains(&second); // RFC 6598
            first == 0 || is_carriers || ip.is_private() || ip.is_loopback() || ip.is_link_local()
        }
        IpAddr::V6(ip) => {
            ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_server_outside_never_leads_inside() {
        let inside = [
            "127.0.0.1:80",
            "10.0.0.1:80",
            "172.16.0.1:80",
            "192.168.1.1:80",
            "169.254.169.254:80",
            "100.64.0.1:80",
            "0.0.0.0:80",
            "[::1]:80",
            "[fd00::1]:80",
            "[fe80::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::]:80",
        ];
        let outside = ["192.0.2.1:80", "100.128.0.1:80", "[2001:db8::1]:80"];
        for first in outside {
            let hops = Hops::default();
            assert!(hops.let_through(addresses(&[first])).is_some());
            for next in inside {
                assert!(hops.let_through(addresses(&[next])).is_none(), "{first} {next}");
                let both = addresses(&[next, "192.0.2.9:80"]);
                let kept: Vec<_> = hops.let_through(both).unwrap().collect();
                assert_eq!(kept, addresses(&["192.0.2.9:80"]));
            }
            assert!(hops.let_through(addresses(&outside)).is_some());
        }
        for first in inside {
            let hops = Hops::default();
            for next in [&inside[..], &outside[..]].concat() {
                assert!(hops.let_through(addresses(&[first])).is_some());
                assert!(hops.let_through(addresses(&[next])).is_some(), "{first} {next}");
            }
        }
    }
}
