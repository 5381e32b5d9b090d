//! Owns the blocking side of HTTP trackers: one GET with every wait bounded (BEP 3, BEP 7, BEP 23).

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::config::{Config, ConfigBuilder};
use ureq::http::Uri;
use ureq::typestate::AgentScope;
use ureq::{Agent, Error};

use super::Patience;
use crate::engine::agent;
use crate::engine::hops::{Hops, USER_AGENT, is_near};
use crate::limits::{
    TRACKER_HEAD_MAX_BYTES, TRACKER_INPUT_BYTES, TRACKER_OUTPUT_BYTES, TRACKER_REDIRECTS_MAX,
    TRACKER_REPLY_MAX_BYTES, TRACKER_REPLY_USUAL_BYTES,
};
use crate::protocol::tracker::{AnnounceReply, AnnounceRequest, Swarm, TrackerError};
use crate::protocol::tracker_http::{announce_url, parse_reply, parse_scrape, scrape_url};
use crate::system::route::Route;
use crate::text::Foreign;
use crate::units::InfoHash;

/// Held by the one announce whose answer is longer than usual.
static LONG_REPLY: Mutex<()> = Mutex::new(());

/// Announces `request` to the tracker at `base`. An answer counts whatever its status is, if it is
/// a tracker's; a connection that breaks after a whole answer does no harm either.
pub(super) fn announce(
    base: &str,
    request: &AnnounceRequest,
    patience: &Patience,
    route: &Arc<Route>,
) -> Result<AnnounceReply, TrackerError> {
    let url = announce_url(base, request)?;
    let uri = Uri::try_from(url).map_err(|_| TrackerError::BadUrl)?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(TrackerError::BadUrl);
    }
    let mut response = agent(patience, route, &uri).get(uri).call()?;
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

/// Asks the tracker at `base` who has a torrent (BEP 48), or if it has no such place, whether it is
/// there at all. It need not know; what answers with an error of the server's own is not there.
pub(super) fn scrape(
    base: &str,
    info_hash: InfoHash,
    patience: &Patience,
    route: &Arc<Route>,
) -> Result<Option<Swarm>, TrackerError> {
    let uri = Uri::try_from(scrape_url(base, info_hash)?).map_err(|_| TrackerError::BadUrl)?;
    let mut response = agent(patience, route, &uri).get(uri).call()?;
    let status = response.status();
    let mut body = Vec::new();
    let reader = response.body_mut().as_reader();
    // What breaks off says nothing, but there is somebody.
    let _read = reader.take(TRACKER_REPLY_USUAL_BYTES).read_to_end(&mut body);
    match parse_scrape(&body, info_hash) {
        None if status.is_server_error() => Err(TrackerError::HttpStatus(status.as_u16())),
        told => Ok(told),
    }
}

/// An agent for one announce to `tracker`.
fn agent(patience: &Patience, route: &Arc<Route>, tracker: &Uri) -> Agent {
    agent::agent(settings(patience, route, tracker).build(), Hops::new(route), route)
}

/// How `uri` is asked for something small, once: trackers are asked too rarely for connections to be
/// kept. It sends Host, User-Agent, Accept and Accept-Encoding and nothing else, since some trackers
/// refuse what they don't expect.
pub(in crate::engine) fn settings(
    patience: &Patience,
    route: &Route,
    uri: &Uri,
) -> ConfigBuilder<AgentScope> {
    Config::builder()
        .proxy(agent::proxy(route, is_near(uri)))
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
