//! Owns the way by which everything leaves this machine and comes to it: which addresses are used,
//! from which interface, through which proxy. Sockets that lead to others are made here.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Once;
use std::time::{Duration, Instant};

use log::warn;
use socket2::{Domain, SockRef, Socket, Type};

use crate::limits::{DEVICE_NAME_MAX_BYTES, LISTEN_QUEUE_MAX, PROXY_TIMEOUT_MS};
use crate::protocol::socks::{self, CHOICE_LENGTH, Choice, REPLY_LENGTH};

const PROXY_TIMEOUT: Duration = Duration::from_millis(PROXY_TIMEOUT_MS);

/// Which addresses are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Families {
    /// All that the machine has.
    #[default]
    Both,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// Where sockets begin.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Origin {
    /// At this address.
    Address(IpAddr),
    /// At the interface of this name.
    Device(String),
}

/// A proxy for everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proxy {
    /// As it was typed, for who speaks HTTP.
    pub url: String,
    /// How peers are reached; not at all by one for HTTP.
    pub socks: Option<Socks>,
}

/// A SOCKS5 server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Socks {
    /// Its addresses.
    pub servers: Vec<SocketAddr>,
    /// The name and the password that it may want.
    pub login: Option<(String, String)>,
}

/// The way. The default is any.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Route {
    families: Families,
    origin: Option<Origin>,
    proxy: Option<Proxy>,
}

impl Route {
    /// Uses these addresses.
    #[must_use]
    pub fn over(self, families: Families) -> Self {
        Self { families, ..self }
    }

    /// Begins at an interface: one of this name, or one of this address.
    ///
    /// # Errors
    /// There is none such, or none with addresses that are used.
    pub fn from_interface(mut self, interface: &str) -> io::Result<Self> {
        let origin = match interface.parse::<IpAddr>() {
            Ok(ip) if self.allows(ip) => Origin::Address(ip),
            Ok(_) => return Err(io::ErrorKind::AddrNotAvailable.into()),
            Err(_) if is_device_name(interface) => Origin::Device(interface.to_owned()),
            Err(_) => return Err(io::ErrorKind::NotFound.into()),
        };
        if let Origin::Address(ip) = origin {
            self.families = if ip.is_ipv4() { Families::V4 } else { Families::V6 };
        }
        self.origin = Some(origin);
        // Found out now, not at the first peer.
        let v4 = if self.uses(Families::V4) { self.udp(false, 0).map(drop) } else { Ok(()) };
        let v6 = if self.uses(Families::V6) { self.udp(true, 0).map(drop) } else { Ok(()) };
        match self.families {
            Families::Both => v4.or(v6)?,
            Families::V4 => v4?,
            Families::V6 => v6?,
        }
        Ok(self)
    }

    /// Leads through this proxy.
    #[must_use]
    pub fn through(self, proxy: Proxy) -> Self {
        Self { proxy: Some(proxy), ..self }
    }

    /// The proxy.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Whether sockets have to begin at a place of the user's.
    pub fn is_bound(&self) -> bool {
        self.origin.is_some()
    }

    /// Whether an address may be used.
    pub fn allows(&self, ip: IpAddr) -> bool {
        match self.families {
            Families::Both => true,
            Families::V4 => ip.to_canonical().is_ipv4(),
            Families::V6 => ip.to_canonical().is_ipv6(),
        }
    }

    /// Whether addresses of a kind are used.
    pub fn uses(&self, family: Families) -> bool {
        self.families == Families::Both || self.families == family
    }

    /// Whether it begins at an address, and not at all that an interface has.
    pub fn is_one_address(&self) -> bool {
        matches!(self.origin, Some(Origin::Address(_)))
    }

    /// Whether peers can be reached.
    pub fn leads_to_peers(&self) -> bool {
        self.proxy.as_ref().is_none_or(|proxy| proxy.socks.is_some())
    }

    /// Connects to a peer, through the proxy if there is one.
    ///
    /// # Errors
    /// It can't be reached in time.
    pub fn dial_peer(&self, to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        match &self.proxy {
            None => self.dial(to, timeout),
            Some(Proxy { socks: Some(socks), .. }) => self.dial_through(socks, to),
            Some(Proxy { socks: None, .. }) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Connects, with no regard to a proxy.
    ///
    /// # Errors
    /// It can't be reached in time.
    pub fn dial(&self, to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if self.origin.is_none() {
            return TcpStream::connect_timeout(&to, timeout);
        }
        let socket = self.socket(to.is_ipv6(), Type::STREAM)?;
        if let Some(Origin::Address(ip)) = self.origin {
            socket.bind(&SocketAddr::new(ip, 0).into())?;
        }
        socket.connect_timeout(&to.into(), timeout)?;
        Ok(socket.into())
    }

    fn dial_through(&self, socks: &Socks, to: SocketAddr) -> io::Result<TcpStream> {
        let deadline = Instant::now() + PROXY_TIMEOUT;
        let mut stream = Err(io::ErrorKind::AddrNotAvailable.into());
        for (server, rest) in socks.servers.iter().zip((1..=socks.servers.len()).rev()) {
            let share = left(deadline)? / u32::try_from(rest).unwrap_or(1);
            stream = self.dial(*server, share);
            if stream.is_ok() {
                break;
            }
        }
        let stream =
            stream.inspect_err(|error| complain(&format!("it is not reached: {error}")))?;
        let mut talk = Talk { stream, deadline };
        talk.say(&socks::greeting(socks.login.is_some()))?;
        let refused = |why| {
            complain(why);
            io::Error::new(io::ErrorKind::PermissionDenied, why)
        };
        let choice = socks::choice(talk.hear::<CHOICE_LENGTH>()?).map_err(refused)?;
        if let (Choice::Login, Some((name, password))) = (choice, &socks.login) {
            talk.say(&socks::login(name, password))?;
            socks::is_let_in(talk.hear::<CHOICE_LENGTH>()?).map_err(refused)?;
        }
        talk.say(&socks::connect(to))?;
        let rest = socks::reply(talk.hear::<REPLY_LENGTH>()?);
        let rest = rest.map_err(|why| io::Error::new(io::ErrorKind::ConnectionRefused, why))?;
        for _ in 0..rest {
            talk.hear::<1>()?;
        }
        let stream = talk.stream;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        Ok(stream)
    }

    /// A socket for datagrams, at `port` or at any that is free if that is 0.
    ///
    /// # Errors
    /// The port is taken, or there are no such addresses.
    pub fn udp(&self, v6: bool, port: u16) -> io::Result<UdpSocket> {
        let socket = self.socket(v6, Type::DGRAM)?;
        if v6 {
            socket.set_only_v6(true)?;
        }
        socket.bind(&SocketAddr::new(self.any(v6), port).into())?;
        Ok(socket.into())
    }

    /// A socket that listens at `port`, for IPv6 and IPv4 where both are there and used.
    ///
    /// # Errors
    /// The port is taken.
    pub fn listen(&self, port: u16) -> io::Result<TcpListener> {
        let v6 = || self.listen_at(true, port);
        match self.families {
            Families::V4 => self.listen_at(false, port),
            Families::V6 => v6(),
            Families::Both => v6().or_else(|error| match error.kind() {
                io::ErrorKind::AddrInUse => Err(error),
                _ => self.listen_at(false, port),
            }),
        }
    }

    fn listen_at(&self, v6: bool, port: u16) -> io::Result<TcpListener> {
        let socket = self.socket(v6, Type::STREAM)?;
        if v6 {
            socket.set_only_v6(self.families == Families::V6)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(self.any(v6), port).into())?;
        socket.listen(LISTEN_QUEUE_MAX)?;
        Ok(socket.into())
    }

    /// The number of the interface that everything has to leave by, if it has a name.
    ///
    /// # Errors
    /// It is gone.
    pub fn device_number(&self) -> io::Result<Option<u32>> {
        match &self.origin {
            Some(Origin::Device(name)) => {
                let any = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
                Ok(Some(rustix::net::netdevice::name_to_index(&any, name)?))
            }
            _ => Ok(None),
        }
    }

    /// Makes a socket keep to the interface.
    ///
    /// # Errors
    /// It is gone.
    pub fn keep(&self, socket: &UdpSocket) -> io::Result<()> {
        self.bind_device(&SockRef::from(socket))
    }

    fn socket(&self, v6: bool, kind: Type) -> io::Result<Socket> {
        let socket = Socket::new(if v6 { Domain::IPV6 } else { Domain::IPV4 }, kind, None)?;
        self.bind_device(&socket)?;
        Ok(socket)
    }

    fn bind_device(&self, socket: &Socket) -> io::Result<()> {
        match &self.origin {
            Some(Origin::Device(name)) => socket.bind_device(Some(name.as_bytes())),
            _ => Ok(()),
        }
    }

    fn any(&self, v6: bool) -> IpAddr {
        match self.origin {
            Some(Origin::Address(ip)) if ip.is_ipv6() == v6 => ip,
            _ if v6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

/// Whether an interface can have that name. The kernel takes none at all for none in particular, and
/// a part of one that is longer.
fn is_device_name(name: &str) -> bool {
    (1..=DEVICE_NAME_MAX_BYTES).contains(&name.len()) && !name.contains(['/', '\0'])
}

/// Says what is wrong with the proxy, once: it is wrong for every peer.
fn complain(why: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| warn!("peers are not reached through the proxy: {why}"));
}

/// With a proxy, until a deadline.
struct Talk {
    stream: TcpStream,
    deadline: Instant,
}

impl Talk {
    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write_all(bytes)
    }

    fn hear<const LENGTH: usize>(&mut self) -> io::Result<[u8; LENGTH]> {
        let mut bytes = [0; LENGTH];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            // Byte by byte it could go on for ever.
            self.stream.set_read_timeout(Some(left(self.deadline)?))?;
            match self.stream.read(room)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(bytes)
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
