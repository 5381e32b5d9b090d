//! Owns where a request over HTTP may lead: which addresses its hosts have, and which of them it
//! may be redirected to.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::engine::resolve::resolve;
use crate::limits::{HOST_LIFE_MS, HOSTS_KEPT_MAX};
use crate::policy::reach::Reach;
use crate::protocol::tracker::TrackerError;
use crate::system::route::Route;

const HOST_LIFE: Duration = Duration::from_millis(HOST_LIFE_MS as u64);
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

/// Resolves the hops of a request: the server and where it redirects to. A server out in the world
/// has no business in our own network, so it can't redirect there. Whoever makes many requests, one
/// at a time, begins each of them here; hosts are not looked up anew for a while.
#[derive(Clone, Debug, Default)]
pub(super) struct Hops {
    route: Arc<Route>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the request under way began out in the world; it has not begun if that is not known.
    began_outside: Option<bool>,
    /// The hosts that were looked up last, and when.
    found: VecDeque<(Host, Vec<SocketAddr>, Instant)>,
}

/// Name and port.
type Host = (String, u16);

impl Resolver for Hops {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let default_port = match uri.scheme_str() {
            Some("https") => 443,
            Some(scheme) if scheme.starts_with("socks") => 1080,
            _ => 80,
        };
        let host = (bare_host(uri).to_owned(), uri.port_u16().unwrap_or(default_port));
        let known = self.state().known(&host, Instant::now());
        let timeout = Duration::from_secs_f64(timeout.after.as_secs_f64());
        // The state is not kept from anybody while somebody looks up a name.
        let found = known.map_or_else(|| resolve(&host.0, host.1, timeout), Ok);
        let found = found.map(|mut found| {
            found.retain(|address| self.route.allows(address.ip()));
            found
        });
        let found = found.map_err(|error| match error {
            TrackerError::Timeout => Error::Timeout(ureq::Timeout::Resolve),
            TrackerError::Connection(kind) => Error::Io(kind.into()),
            _ => Error::HostNotFound,
        })?;
        if found.is_empty() {
            return Err(Error::HostNotFound);
        }
        let mut addresses = self.empty();
        let mut state = self.state();
        state.keep(host, &found, Instant::now());
        state.let_through(found).ok_or(Error::RedirectFailed)?.for_each(|a| addresses.push(a));
        Ok(addresses)
    }
}

impl Hops {
    /// Hops that leave by this way.
    pub(super) fn new(route: &Arc<Route>) -> Self {
        Self { route: Arc::clone(route), state: Arc::default() }
    }

    /// Another request begins.
    pub(super) fn begin(&self) {
        self.state().began_outside = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in there can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn known(&self, host: &Host, now: Instant) -> Option<Vec<SocketAddr>> {
        let is_it = |found: &&(Host, _, Instant)| found.0 == *host && now < found.2 + HOST_LIFE;
        self.found.iter().find(is_it).map(|(_, addresses, _)| addresses.clone())
    }

    fn keep(&mut self, host: Host, addresses: &[SocketAddr], now: Instant) {
        if self.known(&host, now).is_none() {
            self.found.retain(|found| found.0 != host);
            self.found.truncate(HOSTS_KEPT_MAX - 1);
            self.found.push_front((host, addresses.to_vec(), now));
        }
    }

    /// Those of `found` that this hop may go to; `None` if there are none.
    fn let_through(
        &mut self,
        found: Vec<SocketAddr>,
    ) -> Option<impl Iterator<Item = SocketAddr> + use<>> {
        let outside = |address: &SocketAddr| !is_local(address.ip());
        let began_outside = *self.began_outside.get_or_insert_with(|| found.iter().all(outside));
        let mut rest = found.into_iter().filter(move |a| !began_outside || outside(a)).peekable();
        rest.peek()?;
        Some(rest)
    }
}

/// Whether `ip` is this machine or its network, and not a place in the world.
fn is_local(ip: IpAddr) -> bool {
    Reach::of(ip.to_canonical()) != Some(Reach::World)
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
            let mut hops = State::default();
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
            let mut hops = State::default();
            for next in [&inside[..], &outside[..]].concat() {
                assert!(hops.let_through(addresses(&[first])).is_some());
                assert!(hops.let_through(addresses(&[next])).is_some(), "{first} {next}");
            }
        }
    }

    #[test]
    fn the_next_request_may_begin_inside() {
        let (inside, outside) = (addresses(&["10.0.0.1:80"]), addresses(&["192.0.2.1:80"]));
        let hops = Hops::default();
        assert!(hops.state().let_through(outside.clone()).is_some());
        assert!(hops.state().let_through(inside.clone()).is_none());
        hops.begin();
        assert!(hops.state().let_through(inside).is_some());
        assert!(hops.state().let_through(outside).is_some());
    }

    #[test]
    fn a_host_is_known_for_a_while() {
        let now = Instant::now();
        let host = |number: usize| (format!("host{number}"), 80);
        let found = addresses(&["192.0.2.1:80"]);
        let mut state = State::default();
        for number in 0..=HOSTS_KEPT_MAX {
            state.keep(host(number), &found, now);
        }
        assert_eq!(state.known(&host(0), now), None, "there is no room for so many");
        assert_eq!(state.known(&host(1), now), Some(found.clone()));
        assert_eq!(state.known(&("host1".to_owned(), 443), now), None);
        let later = now + HOST_LIFE;
        assert_eq!(state.known(&host(1), later), None);
        let other = addresses(&["192.0.2.2:80"]);
        state.keep(host(1), &other, later);
        assert_eq!(state.known(&host(1), later), Some(other));
        assert_eq!(state.found.len(), HOSTS_KEPT_MAX);
    }
}
