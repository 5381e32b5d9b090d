//! A cable between two network namespaces: this process's, where the leechers are, each at an address
//! of its own, and one for the client. Many clients let in one peer an address, and some none from
//! 127.0.0.0/8.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitCode};

use crate::network::{Place, again, ip};

/// Where the client is.
const THERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Where leecher number `number` comes from.
pub fn here(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, number as u8)
}

/// Where a client on the other side listens.
pub fn at(port: u16) -> SocketAddr {
    (THERE, port).into()
}

/// Runs this program again, with a network and processes of its own; `None` if this is that run.
pub fn entered_by_itself() -> Option<ExitCode> {
    let mut command = again()?;
    let status = command.args(env::args_os().skip(1)).status();
    let status = status.expect("unshare is missing: apt-get install util-linux");
    if !status.success() {
        println!("{status}; root is needed, for a network of its own");
    }
    Some(ExitCode::from(u8::from(!status.success())))
}

/// The other side, where leechers 0 to `leechers - 1` can come from here.
pub fn other_side(leechers: usize) -> Place {
    let here_ip = |line: &str| ip(Command::new("ip"), line);
    let there = Place::new();
    here_ip("link set lo up");
    there.plug_in("cable", &format!("{THERE}/16"));
    (0..leechers).for_each(|number| here_ip(&format!("addr add {}/16 dev cable", here(number))));
    here_ip("link set cable up");
    // One that paces itself, as BBR does, is noisy on a link as fast as this.
    let reno = "echo reno >/proc/sys/net/ipv4/tcp_congestion_control";
    let set = there.inside("sh").args(["-c", reno]).status();
    assert!(set.is_ok_and(|status| status.success()), "no reno");
    there.wait_for_carrier();
    there
}
