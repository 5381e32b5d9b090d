//! Fetches a torrent file by HTTP: one GET with every wait bounded, on a thread of its own, so that a
//! signal ends it at once.

use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::Uri;

use crate::engine::agent;
use crate::engine::announcer::{Patience, settings};
use crate::engine::hops::Hops;
use crate::error::Fatal;
use crate::limits::{ANNOUNCER_STACK_BYTES, RETRIEVAL_TIMEOUT_MS};
use crate::protocol::tracker::TrackerError;
use crate::protocol::url::{escape_what_no_url_holds, host_and_port, shown};
use crate::system::route::Route;
use crate::text::Foreign;

/// Fetches the torrent file at `url`. `room` says how many bytes it may have, of the length that the
/// server tells; `endless` is the error if it tells none and there are more.
///
/// # Errors
/// It can't be had, `room`'s, `endless`, or [`Fatal::Stopped`] after a signal. No secret of the URL is told.
pub fn fetch(
    url: &str,
    route: &Arc<Route>,
    room: impl Fn(Option<u64>) -> Result<u64, Fatal> + Send + 'static,
    endless: Fatal,
    signals: &Receiver<()>,
) -> Result<Vec<u8>, Fatal> {
    let (done, fetched) = bounded(1);
    let (url, route) = (url.to_owned(), Arc::clone(route));
    let work = move || drop(done.send(get(&url, &route, room, endless)));
    let builder = thread::Builder::new().name("retrieval".into());
    let started = builder.stack_size(ANNOUNCER_STACK_BYTES).spawn(work);
    started.map_err(|error| Fatal::System("start a thread", error))?;
    let lost = |_| Fatal::System("fetch the torrent", io::Error::other("a thread died"));
    select! {
        recv(fetched) -> fetched => fetched.map_err(lost)?,
        recv(signals) -> _ => {
            Err(Fatal::Stopped("stopped while the torrent was being fetched".to_owned()))
        }
    }
}

fn get(
    url: &str,
    route: &Arc<Route>,
    room: impl Fn(Option<u64>) -> Result<u64, Fatal>,
    endless: Fatal,
) -> Result<Vec<u8>, Fatal> {
    let failed = |error: ureq::Error| failed(url, &error.into());
    let mut escaped = String::new();
    // What stands behind it is for browsers.
    escape_what_no_url_holds(url.split('#').next().unwrap_or_default(), &mut escaped);
    let bad = |_| self::failed(url, &TrackerError::BadUrl);
    let uri = Uri::try_from(escaped).map_err(bad)?;
    let config = config(route, &uri);
    let agent = agent::agent(config, Hops::new(route), route);
    let mut response = agent.get(uri).call().map_err(failed)?;
    if response.status() != 200 {
        let status = TrackerError::HttpStatus(response.status().as_u16());
        return Err(self::failed(url, &status));
    }
    let length = response.body().content_length();
    let limit = room(length)?;
    let mut bytes = Vec::new();
    if length.is_some() {
        bytes.reserve_exact(usize::try_from(limit + 1).unwrap_or(0));
    }
    let read = response.body_mut().as_reader().take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.into()))?;
    if bytes.len() as u64 > limit { Err(endless) } else { Ok(bytes) }
}

fn config(route: &Route, uri: &Uri) -> Config {
    let total = Duration::from_millis(RETRIEVAL_TIMEOUT_MS);
    settings(&Patience { total, ..Patience::default() }, route, uri)
        // Hashes can't be made smaller, and the length is told.
        .accept_encoding(AutoHeaderValue::None)
        .timeout_recv_body(Some(total))
        .build()
}

/// The error of a URL: its host has no address, its server can't be spoken to, or has no such file.
fn failed(url: &str, error: &TrackerError) -> Fatal {
    match error {
        TrackerError::Resolve => {
            let host = Foreign::new(host_and_port(url)).to_string();
            Fatal::NameResolution(host, io::Error::other("not found"))
        }
        TrackerError::HttpStatus(_) | TrackerError::BadUrl | TrackerError::NoTls => {
            let what = format!("{error}; is the URL right?");
            Fatal::ReadTorrent(shown(url).into(), io::Error::other(what))
        }
        _ => Fatal::FetchTorrent(shown(url), error.to_string()),
    }
}
