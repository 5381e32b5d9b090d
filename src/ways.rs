//! What was typed about the ways to others, looked up and opened: peers, the DHT, ports, interfaces
//! and proxies.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use log::warn;
use ureq::ProxyProtocol;

use crate::arguments::{Arguments, Task};
use crate::engine::dht::{Entry, Keeper};
use crate::error::Fatal;
use crate::given::Said;
use crate::limits::PORT_TRIES_MAX;
use crate::protocol::socks::LOGIN_PART_MAX_BYTES;
use crate::system::route::{Proxy, Route, Socks};
use crate::values::place;

const PORT_DEFAULT: u16 = 6881;

/// Ways to others, as they were typed. They are looked up and opened before the process shuts itself
/// in.
#[derive(Clone)]
pub struct Ways {
    /// Where peers are.
    pub peers: Vec<SocketAddr>,
    /// Where the DHT is entered, if it is.
    pub dht: Option<Entry>,
    /// Where peers may come, the first that is free.
    pub ports: Vec<u16>,
    /// By which way everything leaves.
    pub route: Arc<Route>,
}

impl Ways {
    /// Looks up what was typed.
    ///
    /// # Errors
    /// It can't be used, or is not found.
    pub fn find(arguments: &Arguments) -> Result<Self, Fatal> {
        let route = Arc::new(route(arguments)?);
        let dht = arguments.dht.then(|| entry(arguments)).transpose()?;
        let mut ways = Self { peers: Vec::new(), dht, ports: ports(arguments), route };
        arguments.peers.iter().try_for_each(|peer| ways.add_peer(peer))?;
        Ok(ways)
    }

    /// A peer more: `host:port`.
    ///
    /// # Errors
    /// It is no such thing, or not found.
    pub fn add_peer(&mut self, peer: &str) -> Result<(), Fatal> {
        if place(peer).is_err() {
            return Err(Fatal::Usage(format!("{peer} is not HOST:PORT")));
        }
        match peer.parse() {
            Ok(address) => {
                let address: SocketAddr = address;
                if !self.route.allows(address.ip()) {
                    warn!(
                        "the peer {peer} is not tried: -4, -6 or --interface excludes its address"
                    );
                }
                self.peers.push(address);
            }
            // Whom we want to talk to is not to be asked of anybody but the proxy.
            Err(_) if self.route.proxy().is_some() => {
                let why = format!("through a proxy a peer needs an address, not a name: {peer}");
                return Err(Fatal::Usage(why));
            }
            Err(_) => {
                let found = peer.to_socket_addrs();
                let found = found.map_err(|error| Fatal::NameResolution(peer.to_owned(), error));
                self.peers.extend(found?);
            }
        }
        Ok(())
    }
}

fn entry(arguments: &Arguments) -> Result<Entry, Fatal> {
    let open = |path: &std::path::PathBuf| {
        Keeper::open(path).map_err(|error| Fatal::FileIo("open", path.clone(), error))
    };
    // Where it is only looked, nothing is made.
    let file = arguments.dht_file.as_ref().filter(|_| arguments.task == Task::Download);
    let keeper = file.map(open).transpose()?;
    let typed = arguments.dht_nodes.clone();
    Ok(Entry { typed, named: Vec::new(), keeper })
}

/// The way that everything takes.
fn route(arguments: &Arguments) -> Result<Route, Fatal> {
    let mut route = Route::default().over(arguments.families);
    if let Some(interface) = &arguments.interface {
        let Said { by, text } = interface;
        let refused = |error| Fatal::Usage(format!("{by} {text} can't be used: {error}"));
        route = route.from_interface(text).map_err(refused)?;
    }
    match &arguments.proxy {
        Some(said) => proxy(said, &route).map(|proxy| route.through(proxy)),
        None => Ok(route),
    }
}

/// A proxy, as it was typed. Its name is looked up here; whatever it leads to, by the proxy.
fn proxy(said: &Said, route: &Route) -> Result<Proxy, Fatal> {
    let refused = || {
        let why = "takes socks5://[NAME:PASSWORD@]HOST:PORT or http://HOST:PORT";
        Fatal::Usage(format!("{} {why}", said.by))
    };
    let url = &said.text;
    // A SOCKS5 proxy can be told names: nobody else is to hear them.
    let url = match url.strip_prefix("socks5://") {
        Some(rest) => format!("socks5h://{rest}"),
        None => url.clone(),
    };
    // Without a scheme it would be taken for one of HTTP.
    let url = Some(url).filter(|url| url.contains("://")).ok_or_else(refused)?;
    let parsed = ureq::Proxy::new(&url).map_err(|_| refused())?;
    parsed.uri().port_u16().ok_or_else(refused)?;
    let socks = match parsed.protocol() {
        ProxyProtocol::Socks5h => {
            let place = format!("{}:{}", parsed.host(), parsed.port());
            let found = place.to_socket_addrs();
            let servers = found.map_err(|error| Fatal::NameResolution(place.clone(), error))?;
            let password = parsed.password().unwrap_or_default().to_owned();
            let login = parsed.username().map(|name| (name.to_owned(), password));
            let is_long = |part: &String| part.len() > LOGIN_PART_MAX_BYTES;
            if login.iter().any(|(name, password)| is_long(name) || is_long(password)) {
                return Err(refused());
            }
            let servers: Vec<_> = servers.filter(|server| route.allows(server.ip())).collect();
            if servers.is_empty() {
                let why =
                    format!("the proxy {place} has no address that -4, -6 or --interface allows");
                return Err(Fatal::Usage(why));
            }
            Some(Socks { servers, login })
        }
        ProxyProtocol::Http | ProxyProtocol::Https => {
            warn!("an HTTP proxy reaches trackers and mirrors only; peers need a SOCKS5 proxy");
            None
        }
        _ => return Err(refused()),
    };
    Ok(Proxy { url, socks })
}

/// The one that was typed, those after it, and any.
fn ports(arguments: &Arguments) -> Vec<u16> {
    let first = arguments.port.unwrap_or(PORT_DEFAULT);
    (first..=first.saturating_add(PORT_TRIES_MAX - 1)).chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Status;

    fn ways() -> Ways {
        Ways { peers: Vec::new(), dht: None, ports: Vec::new(), route: Arc::default() }
    }

    #[test]
    fn peers_are_addresses_with_a_port() {
        let mut ways = ways();
        ways.add_peer("127.0.0.1:1").unwrap();
        ways.add_peer("[::1]:2").unwrap();
        let expected = ["127.0.0.1:1", "[::1]:2"].map(|peer| peer.parse().unwrap());
        assert_eq!(ways.peers, expected);
        for peer in ["127.0.0.1", "127.0.0.1:0", ":", "", "x:y", "::1"] {
            let status = ways.add_peer(peer).unwrap_err().status();
            assert_eq!(status, Status::BadOption, "{peer}");
        }
    }

    fn proxy(url: &str, route: &Route) -> Result<Proxy, Fatal> {
        super::proxy(&Said { by: "--proxy".to_owned(), text: url.to_owned() }, route)
    }

    #[test]
    fn proxies_are_told_apart() {
        let any = Route::default();
        let socks = proxy("socks5://me:secret@127.0.0.1:9050", &any).unwrap();
        assert_eq!(socks.url, "socks5h://me:secret@127.0.0.1:9050", "names are looked up there");
        let expected = Socks {
            servers: vec![([127, 0, 0, 1], 9050).into()],
            login: Some(("me".to_owned(), "secret".to_owned())),
        };
        assert_eq!(socks.socks, Some(expected));
        assert_eq!(proxy("http://127.0.0.1:3128", &any).unwrap().socks, None);
        for url in [
            "socks4://127.0.0.1:1",
            "ftp://127.0.0.1:1",
            "socks5://",
            "127.0.0.1:1",
            "socks5://127.0.0.1",
            "",
        ] {
            assert_eq!(proxy(url, &any).unwrap_err().status(), Status::BadOption, "{url}");
        }
    }

    #[test]
    fn names_are_not_looked_up_beside_a_proxy() {
        let mut ways = ways();
        let route =
            Route::default().through(proxy("socks5://127.0.0.1:9", &Route::default()).unwrap());
        ways.route = Arc::new(route);
        assert_eq!(ways.add_peer("localhost:1").unwrap_err().status(), Status::BadOption);
        ways.add_peer("192.0.2.1:1").unwrap();
    }
}
