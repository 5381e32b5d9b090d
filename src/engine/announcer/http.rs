//! Owns the blocking side of HTTP trackers: one GET with every wait bounded (BEP 3, BEP 7, BEP 23).

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error, Proxy};

use super::Patience;
use super::resolve::resolve;
use crate::limits::{
    TRACKER_HEAD_MAX_BYTES, TRACKER_INPUT_BYTES, TRACKER_OUTPUT_BYTES, TRACKER_REDIRECTS_MAX,
    TRACKER_REPLY_MAX_BYTES, TRACKER_REPLY_USUAL_BYTES,
};
use crate::protocol::tracker::{AnnounceReply, AnnounceRequest, TrackerError};
use crate::protocol::tracker_http::{announce_url, parse_reply};
use crate::text::Foreign;

const USER_AGENT: &str = concat!("rusty_torrent/", env!("CARGO_PKG_VERSION"));

/// Held by the one announce whose answer is longer than usual.
static LONG_REPLY: Mutex<()> = Mutex::new(());

/// Announces `request` to the tracker at `base`. An answer counts whatever its status is, if it is
/// a tracker's; a connection that breaks after a whole answer does no harm either.
pub(super) fn announce(
    base: &str,
    request: &AnnounceRequest,
    patience: &Patience,
) -> Result<AnnounceReply, TrackerError> {
    let url = announce_url(base, request)?;
    let uri = Uri::try_from(url).map_err(|_| TrackerError::BadUrl)?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(TrackerError::BadUrl);
    }
    let mut response = agent(patience, &uri).get(uri).call()?;
    let mut reader = response.body_mut().as_reader();
    // Decoded bytes are counted: a gzip bomb ends here too. Memory is taken when it is first used; a
    // list that grows would take more of it.
    let mut body = Vec::with_capacity(usize::try_from(TRACKER_REPLY_USUAL_BYTES).unwrap_or(0));
    let mut read = reader.by_ref().take(TRACKER_REPLY_USUAL_BYTES).read_to_end(&mut body);
    let is_long = body.len() as u64 == TRACKER_REPLY_USUAL_BYTES;
    // Whoever panicked with a long answer in hand holds none now.
    let _turn = is_long.then(|| LONG_REPLY.lock().unwrap_or_else(PoisonError::into_inner));
    if is_long {
        let rest = TRACKER_REPLY_MAX_BYTES + 1 - TRACKER_REPLY_USUAL_BYTES;
        body.reserve_exact(usize::try_from(rest).unwrap_or(0));
        read = reader.take(rest).read_to_end(&mut body);
    }
    if body.len() as u64 > TRACKER_REPLY_MAX_BYTES {
        return Err(TrackerError::TooLarge);
    }
    match (parse_reply(&body), read) {
        (Err(TrackerError::NotBencode), Err(error)) => Err(Error::from(error).into()),
        (Err(TrackerError::NotBencode), Ok(_)) if response.status() != 200 => {
            Err(TrackerError::HttpStatus(response.status().as_u16()))
        }
        (answer, _) => answer,
    }
}

/// An agent for one announce to `tracker`: trackers are asked too rarely for connections to be
/// kept. It sends Host, User-Agent, Accept and Accept-Encoding and nothing else, since some trackers
/// refuse what they don't expect. It goes through the proxy that the environment names, but not
/// when the tracker is an address in our own network.
fn agent(patience: &Patience, tracker: &Uri) -> Agent {
    let is_near = bare_host(tracker).parse().is_ok_and(is_local);
    let config = Config::builder()
        .proxy(if is_near { None } else { Proxy::try_from_env() })
        .user_agent(USER_AGENT)
        .http_status_as_error(false)
        .max_redirects(TRACKER_REDIRECTS_MAX)
        .max_response_header_size(TRACKER_HEAD_MAX_BYTES)
        .input_buffer_size(TRACKER_INPUT_BYTES)
        .output_buffer_size(TRACKER_OUTPUT_BYTES)
        .max_idle_connections(0)
        .timeout_global(Some(patience.total))
        .timeout_per_call(Some(patience.total))
        .timeout_per_read(Some(patience.receive))
        .timeout_per_write(Some(patience.send))
        .timeout_resolve(Some(patience.resolve))
        .timeout_connect(Some(patience.connect))
        .timeout_send_request(Some(patience.send))
        .timeout_send_body(Some(patience.send))
        .timeout_await_100(Some(patience.send))
        .timeout_recv_response(Some(patience.receive))
        .timeout_recv_body(Some(patience.receive))
        .build();
    Agent::with_parts(config, DefaultConnector::new(), Hops::default())
}

/// The host of `uri`, an IPv6 address without its brackets.
fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Resolves the hops of one announce: the tracker and where it redirects to. A tracker out in the
/// world has no business in our own network, so it can't redirect there.
#[derive(Debug, Default)]
struct Hops {
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

impl From<Error> for TrackerError {
    fn from(error: Error) -> Self {
        match error {
            Error::Timeout(_) => Self::Timeout,
            Error::HostNotFound => Self::Resolve,
            Error::Http(_) => Self::BadUrl,
            // Our own URL was checked, so it is one that we were sent to.
            Error::BadUri(_) | Error::TooManyRedirects | Error::RedirectFailed => Self::Redirect,
            Error::LargeResponseHeader(..) => Self::TooLarge,
            Error::Protocol(_) => Self::NotHttp,
            Error::Decompress(..) => Self::NotBencode,
            Error::TlsRequired => Self::NoTls,
            Error::Tls(detail) => Self::Tls(Foreign::new(detail).to_string()),
            // What goes wrong in a handshake comes out of the socket as invalid data.
            Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                Self::Tls(Foreign::new(&error.to_string()).to_string())
            }
            #[cfg(feature = "tls")]
            Error::Rustls(detail) => Self::Tls(Foreign::new(&detail.to_string()).to_string()),
            Error::Io(error) => error.into(),
            _ => Self::Connection(ErrorKind::Other),
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
    fn a_tracker_outside_never_leads_inside() {
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
