//! Owns the listening socket and the thread that waits at it. Whoever comes is passed on to the
//! coordinator, who knows whether there is room.
//!
//! Who may block: the thread waits for the coordinator, which never stops reading.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use log::debug;
use rustix::net::{Shutdown, shutdown};

use crate::engine::event::Event;
use crate::limits::{ACCEPT_PAUSE_MS, LISTENER_STACK_BYTES};
use crate::system::route::Route;

/// A socket that listens, and its thread.
pub struct Listener {
    socket: Arc<TcpListener>,
    port: u16,
}

impl Listener {
    /// Listens at the first of `ports` that is free, where `route` begins.
    ///
    /// # Errors
    /// None of them is free, or there is no thread.
    pub fn spawn(
        ports: impl IntoIterator<Item = u16>,
        route: &Route,
        events: Sender<Event>,
    ) -> io::Result<Self> {
        let mut bound = Err(io::ErrorKind::AddrNotAvailable.into());
        for port in ports {
            bound = route.listen(port);
            if bound.is_ok() {
                break;
            }
        }
        let socket = Arc::new(bound?);
        let port = socket.local_addr()?.port();
        let work = {
            let socket = Arc::clone(&socket);
            move || accept(&socket, &events)
        };
        let builder = thread::Builder::new().name("listener".into());
        builder.stack_size(LISTENER_STACK_BYTES).spawn(work)?;
        Ok(Self { socket, port })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Ends the thread's wait.
        let _closed = shutdown(&*self.socket, Shutdown::Both);
    }
}

fn accept(socket: &TcpListener, events: &Sender<Event>) {
    loop {
        match socket.accept() {
            Ok((stream, from)) => {
                // An IPv4 peer at an IPv6 socket.
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                if events.send(Event::Came(stream, from)).is_err() {
                    return;
                }
            }
            // The socket was shut down.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                debug!("nobody can be let in: {error}");
                thread::sleep(Duration::from_millis(ACCEPT_PAUSE_MS));
            }
        }
    }
}
