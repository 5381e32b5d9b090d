//! Finds peers of the same torrent on the local network (BEP 14), and lets them find us: a thread
//! that says now and then that we are there, and listens to others who do.
//!
//! Who may block: the thread waits at its sockets. What it finds it tries to tell; when nobody reads
//! that, it is lost.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::debug;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use crate::engine::event::Found;
use crate::limits::{
    LOCAL_ANNOUNCE_MS, LOCAL_DATAGRAM_MAX_BYTES, LOCAL_INTERFACE_NUMBERS_MAX, LOCAL_INTERFACES_MAX,
    LOCAL_LOOK_MS, LOCAL_PEERS_MAX, LOCAL_STACK_BYTES,
};
use crate::policy::origins::Origin;
use crate::protocol::lsd::{Announce, GROUP_V4, GROUP_V6, PORT};
use crate::system::route::{Families, Route};
use crate::units::InfoHash;

const ANNOUNCE: Duration = Duration::from_millis(LOCAL_ANNOUNCE_MS as u64);
const LOOK: Duration = Duration::from_millis(LOCAL_LOOK_MS as u64);
/// The first of the interfaces, which leads nowhere.
const LOOPBACK: u32 = 1;

/// The thread. It ends when this is dropped.
pub struct Local {
    over: Arc<AtomicBool>,
}

impl Local {
    /// Starts it, for a torrent that peers can have from us at `port`.
    ///
    /// # Errors
    /// There is no network where it could be done, or no thread.
    pub fn spawn(
        info_hash: InfoHash,
        port: u16,
        route: &Route,
        found: Sender<Found>,
    ) -> io::Result<Self> {
        let cookie = Some(format!("{:08x}", fastrand::u32(..)));
        let only = route.device_number()?;
        let v4 = route.uses(Families::V4).then(|| Group::join_v4(route, only)).flatten();
        let v6 = route.uses(Families::V6).then(|| Group::join_v6(route, only)).flatten();
        let groups: Vec<Group> = [v4, v6].into_iter().flatten().collect();
        if groups.is_empty() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let over = Arc::new(AtomicBool::new(false));
        let ours = Announce { port, info_hashes: vec![info_hash], cookie };
        let work = {
            let over = Arc::clone(&over);
            move || work(&groups, &ours, &found, &over)
        };
        thread::Builder::new().name("local".into()).stack_size(LOCAL_STACK_BYTES).spawn(work)?;
        Ok(Self { over })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A socket in a multicast group, on these interfaces.
struct Group {
    socket: UdpSocket,
    address: SocketAddr,
    interfaces: Vec<u32>,
}

impl Group {
    fn join_v4(route: &Route, only: Option<u32>) -> Option<Self> {
        let socket = socket(AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into(), route).ok()?;
        let join = |number| {
            let any = Ipv4Addr::UNSPECIFIED;
            sockopt::set_ip_add_membership_with_ifindex(&socket, &GROUP_V4, &any, number)
        };
        let interfaces = interfaces(join, only);
        (!interfaces.is_empty()).then(|| Self {
            socket,
            address: (GROUP_V4, PORT).into(),
            interfaces,
        })
    }

    fn join_v6(route: &Route, only: Option<u32>) -> Option<Self> {
        let socket = socket(AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into(), route).ok()?;
        let join = |number| sockopt::set_ipv6_add_membership(&socket, &GROUP_V6, number);
        let interfaces = interfaces(join, only);
        (!interfaces.is_empty()).then(|| Self {
            socket,
            address: (GROUP_V6, PORT).into(),
            interfaces,
        })
    }

    /// Says it on every interface. Where that fails nobody hears it.
    fn say(&self, announce: &Announce) {
        let host = match self.address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let datagram = announce.encode(&host);
        for number in &self.interfaces {
            let chosen = match self.address {
                SocketAddr::V4(_) => {
                    let any = Ipv4Addr::UNSPECIFIED;
                    sockopt::set_ip_multicast_if_with_ifindex(
                        &self.socket,
                        &GROUP_V4,
                        &any,
                        *number,
                    )
                }
                SocketAddr::V6(_) => sockopt::set_ipv6_multicast_if(&self.socket, *number),
            };
            if chosen.is_ok() {
                let _unheard = self.socket.send_to(&datagram, self.address);
            }
        }
    }
}

/// A socket that others on this machine may have as well.
fn socket(family: AddressFamily, any: IpAddr, route: &Route) -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    let socket = UdpSocket::from(socket);
    route.keep(&socket)?;
    bind(&socket, &SocketAddr::new(any, PORT))?;
    Ok(socket)
}

/// The interfaces on which `join` succeeds, of all or of the only one that may be used; the loopback if
/// there is no other.
fn interfaces(join: impl Fn(u32) -> rustix::io::Result<()>, only: Option<u32>) -> Vec<u32> {
    if let Some(only) = only {
        return if join(only).is_ok() { vec![only] } else { Vec::new() };
    }
    let numbers = LOOPBACK + 1..=LOCAL_INTERFACE_NUMBERS_MAX;
    let mut joined: Vec<u32> =
        numbers.filter(|number| join(*number).is_ok()).take(LOCAL_INTERFACES_MAX).collect();
    if joined.is_empty() && join(LOOPBACK).is_ok() {
        joined.push(LOOPBACK);
    }
    joined
}

fn work(groups: &[Group], ours: &Announce, found: &Sender<Found>, over: &AtomicBool) {
    let mut next_announce = Instant::now();
    let mut heard = 0;
    while !over.load(Ordering::Relaxed) {
        if Instant::now() >= next_announce {
            next_announce = Instant::now() + ANNOUNCE;
            heard = 0;
            groups.iter().for_each(|group| group.say(ours));
        }
        let mut doors: Vec<PollFd<'_>> =
            groups.iter().map(|group| PollFd::new(&group.socket, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(LOOK).ok();
        if poll(&mut doors, timeout.as_ref()).is_err() {
            thread::sleep(LOOK);
        }
        for group in groups {
            let mut datagram = [0; LOCAL_DATAGRAM_MAX_BYTES];
            // No more than one of each at a time, so that the end is heard of.
            let Ok((length, from)) = group.socket.recv_from(&mut datagram) else { continue };
            let announce = datagram.get(..length).and_then(Announce::decode);
            let Some(announce) = announce.filter(|announce| announce.cookie != ours.cookie) else {
                continue;
            };
            let same = announce.info_hashes.iter().any(|hash| ours.info_hashes.contains(hash));
            if same && heard < LOCAL_PEERS_MAX {
                heard += 1;
                let peer = SocketAddr::new(from.ip(), announce.port);
                debug!("{peer} is on the local network");
                let _full = found.try_send(Found { origin: Origin::Local, peers: vec![peer] });
            }
        }
    }
}
