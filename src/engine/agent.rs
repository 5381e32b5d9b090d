//! Makes the agents that speak HTTP for us, so that they leave by the user's way: through a proxy, or
//! from an interface.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ureq::config::Config;
#[cfg(feature = "tls")]
use ureq::unversioned::transport::RustlsConnector;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, LazyBuffers, NextTimeout,
    ShutdownHandle, Transport,
};
use ureq::{Agent, Error, Proxy, Timeout};

use crate::engine::hops::Hops;
use crate::system::route::Route;

/// The proxy on the way. The one that the user typed leads everywhere; those of the environment not to
/// what is `near`, in our own network.
pub(super) fn proxy(route: &Route, near: bool) -> Option<Proxy> {
    match route.proxy() {
        // It was typed in this form, and understood.
        Some(proxy) => Proxy::new(&proxy.url).ok(),
        None if route.is_bound() || near => None,
        None => Proxy::try_from_env(),
    }
}

/// An agent that takes this way.
pub(super) fn agent(config: Config, hops: Hops, route: &Arc<Route>) -> Agent {
    if !route.is_bound() {
        return Agent::with_parts(config, DefaultConnector::new(), hops);
    }
    let connector = ().chain(Outlet(Arc::clone(route)));
    #[cfg(feature = "tls")]
    let connector = connector.chain(RustlsConnector::default());
    Agent::with_parts(config, connector, hops)
}

/// Connects from where the user wants it.
#[derive(Debug)]
struct Outlet(Arc<Route>);

impl Connector<()> for Outlet {
    type Out = Pipe;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Pipe>, Error> {
        let config = details.config;
        let mut last = Error::HostNotFound;
        let count = u32::try_from(details.addrs.len()).unwrap_or(1).max(1);
        for address in &details.addrs {
            let timeout = limit(details.timeout).unwrap_or(UNLIMITED) / count;
            match self.0.dial(*address, timeout) {
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    last = Error::Timeout(details.timeout.reason);
                }
                Err(error) => last = Error::Io(error),
                Ok(stream) => {
                    stream.set_nodelay(config.no_delay())?;
                    let stream = Arc::new(Socket(stream));
                    let handle = Arc::downgrade(&stream);
                    (details.register_shutdown)(handle)?;
                    let buffers =
                        LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
                    return Ok(Some(Pipe { stream, buffers }));
                }
            }
        }
        Err(last)
    }
}

const UNLIMITED: Duration = Duration::from_secs(60);

/// What is left of a time-out; `None` if there is none.
fn limit(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|left| *left)
}

struct Socket(TcpStream);

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        let _closed = self.0.shutdown(Shutdown::Both);
    }
}

/// A connection.
struct Pipe {
    stream: Arc<Socket>,
    buffers: LazyBuffers,
}

impl Transport for Pipe {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let mut stream = &self.stream.0;
        stream.set_write_timeout(limit(timeout))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        stream.write_all(output).map_err(|error| late(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let mut stream = &self.stream.0;
        stream.set_read_timeout(limit(timeout))?;
        let read = loop {
            match stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let count = read.map_err(|error| late(error, timeout.reason))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    /// Nothing is to be read of one that is open, not even its end.
    fn is_open(&mut self) -> bool {
        let stream = &self.stream.0;
        let nothing = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
        stream.set_nonblocking(true).is_ok()
            && stream.peek(&mut [0]).is_err_and(nothing)
            && stream.set_nonblocking(false).is_ok()
    }
}

fn late(error: std::io::Error, reason: Timeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(reason),
        _ => Error::Io(error),
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}
