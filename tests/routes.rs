//! The built program goes by the way that the user wants and by no other: through a proxy, from an
//! interface, with one kind of addresses.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use support::case::{Case, LIMIT};
use support::peer::{Behaviour, Peer};
use support::seeder::{PIECE, Seeder, port_said, torrent};
use support::socks::{EXIT, Socks};
use support::torrent::Torrent;
use support::tracker::Tracker;
use support::web::Web;

/// What `--interface` is given: this machine has all of 127.0.0.0/8.
const ADDRESS: &str = "127.0.0.5";

/// The directory with the files.
fn below(web: &Web) -> String {
    format!("{}/", web.url())
}

// ---- proxies -----------------------------------------------------------------------------------

#[test]
fn everything_goes_through_a_socks5_proxy() {
    let tracker = Tracker::start();
    let port = tracker.http_url().rsplit_once(':').unwrap().1.to_owned();
    // Nobody but the proxy can look up the name.
    let http = format!("http://tracker.invalid:{port}");
    let plain = Torrent::single("through a proxy", 400 * PIECE, PIECE);
    let web = Web::start(&plain);
    let torrent = plain.tracked_by(&http).tracked_by(&tracker.udp_url()).mirrored_by(&below(&web));
    let case = Case::with_dht(torrent);
    let peer = Peer::honest(&case.torrent.payload);
    tracker.add_peer(peer.address());
    let node = UdpSocket::bind("127.0.0.1:0").unwrap();
    let begin = node.local_addr().unwrap().to_string();
    for login in [None, Some(("me", "a secret"))] {
        let socks = Socks::start(login);
        let url = match login {
            None => format!("socks5://{}", socks.address()),
            Some(_) => format!("socks5://me:a%20secret@{}", socks.address()),
        };
        let _first = std::fs::remove_dir_all(&case.out);
        let outcome = case.run(&[], &["-v", "--proxy", &url, "--dht-node", &begin]);
        case.assert_complete(&outcome);
        assert!(outcome.stderr.contains("UDP does not go through a proxy"), "{outcome:#?}");
        assert!(!outcome.stderr.contains("listening on port"), "{outcome:#?}");
        let asked = socks.asked();
        assert!(asked.iter().any(|to| to.starts_with("tracker.invalid:")), "{asked:?}");
        assert!(asked.contains(&peer.address().to_string()), "{asked:?}");
    }
    let announces = tracker.announces();
    assert!(!announces.is_empty() && announces.iter().all(|announce| !announce.udp));
    assert_eq!(tracker.datagrams(), 0);
    let exit = |from: &SocketAddr| from.ip() == IpAddr::from(EXIT);
    assert!(announces.iter().filter_map(|announce| announce.from.as_ref()).all(exit));
    let record = peer.record();
    assert!(!record.from.is_empty() && record.from.iter().all(exit), "{record:?}");
    node.set_nonblocking(true).unwrap();
    assert!(node.recv(&mut [0; 2048]).is_err(), "a node of the DHT was asked");
}

#[test]
fn a_mirror_is_reached_through_the_proxy_alone() {
    let plain = torrent("mirror through a proxy");
    let web = Web::start(&plain);
    let case = Case::new(plain.mirrored_by(&below(&web)));
    let socks = Socks::start(None);
    let url = format!("socks5://{}", socks.address());
    case.complete(&[], &["--proxy", &url]);
    assert_eq!(socks.asked().len(), web.connections());
    assert!(web.root().ends_with(&socks.asked()[0]));
}

#[test]
fn where_the_proxy_is_no_help_nothing_leaves() {
    let tracker = Tracker::start();
    let plain = torrent("no help");
    let web = Web::start(&plain);
    let case = Case::new(plain.tracked_by(&tracker.http_url()).mirrored_by(&below(&web)));
    let peer = Peer::honest(&case.torrent.payload);
    tracker.add_peer(peer.address());
    let strict = Socks::start(Some(("me", "a secret")));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls = [
        (format!("socks5://{}", strict.address()), "wants a login"),
        (format!("socks5://me:wrong@{}", strict.address()), "not take the name or the password"),
        (format!("socks5://{closed}"), "not reached: Connection refused"),
        (format!("http://{closed}"), "reaches trackers and mirrors only"),
    ];
    for (url, why) in urls {
        let outcome = case.run(&[&peer], &["--proxy", &url, "--timeout", "1"]);
        outcome.assert_status(2);
        assert!(outcome.stderr.contains("no new piece for 1 s"), "{url}: {outcome:#?}");
        assert!(outcome.stderr.contains(why), "{url}: {outcome:#?}");
    }
    // Where there is no mirror, or only a tracker that can't be asked, there is nothing to wait for.
    let udp = Case::new(torrent("udp alone").tracked_by(&tracker.udp_url()));
    let link = udp.torrent.magnet();
    let mut by_link = Case::new(torrent("udp alone by link"));
    by_link.file = link.into();
    for (proxy, case, peers) in [
        (format!("socks5://{}", strict.address()), &udp, &[][..]),
        (format!("http://{closed}"), &udp, &[&peer][..]),
        (format!("http://{closed}"), &by_link, &[&peer][..]),
    ] {
        case.run(peers, &["--proxy", &proxy]).assert_status(6);
    }
    assert_eq!((peer.record().connections, web.connections()), (0, 0));
    assert!(tracker.announces().is_empty() && strict.asked().is_empty());
}

#[test]
fn a_way_that_there_is_not_is_an_error() {
    let refused: [&[&str]; 11] = [
        &["--proxy", "socks4://127.0.0.1:1"],
        &["--proxy", "nonsense"],
        &["--proxy", "socks5://127.0.0.1:1", "--interface", "lo"],
        &["--proxy", "socks5://127.0.0.1:1", "--peer", "localhost:1"],
        &["--proxy", "socks5://127.0.0.1"],
        &["-6", "--proxy", "socks5://127.0.0.1:1"],
        &["--interface", "nosuch"],
        &["--interface", ""],
        &["--interface", "lo0123456789abcdef"],
        &["--interface", "192.0.2.77"],
        &["-6", "--interface", ADDRESS],
    ];
    let case = Case::new(torrent("no such way"));
    for options in refused {
        let outcome = case.run(&[], options);
        outcome.assert_status(28);
        assert_eq!(outcome.stderr.lines().count(), 1, "{options:?}: {outcome:#?}");
        assert!(!case.out.exists());
    }
}

// ---- interfaces and addresses ------------------------------------------------------------------

#[test]
fn everything_begins_at_the_address_of_the_user() {
    let tracker = Tracker::start();
    let plain = Torrent::single("from an address", 400 * PIECE, PIECE);
    let web = Web::start(&plain);
    let torrent = plain.tracked_by(&tracker.http_url()).tracked_by(&tracker.udp_url());
    let case = Case::new(torrent.mirrored_by(&below(&web)));
    let peer = Peer::honest(&case.torrent.payload);
    tracker.add_peer(peer.address());
    case.complete(&[], &["--interface", ADDRESS]);
    let ours = |from: &SocketAddr| from.ip().to_string() == ADDRESS;
    let announces = tracker.announces();
    assert!([false, true].iter().all(|udp| announces.iter().any(|one| one.udp == *udp)));
    assert!(announces.iter().filter_map(|one| one.from.as_ref()).all(ours), "{announces:?}");
    let record = peer.record();
    assert!(!record.from.is_empty() && record.from.iter().all(ours), "{record:?}");
    assert!(web.connections() > 0);
}

#[test]
fn a_mirror_alone_is_reached_from_an_interface() {
    for interface in [ADDRESS, "lo"] {
        let plain = torrent(&format!("mirror from {interface}"));
        let web = Web::start(&plain);
        let case = Case::new(plain.mirrored_by(&below(&web)));
        case.complete(&[], &["--interface", interface]);
        assert!(web.connections() > 0);
    }
}

#[test]
fn peers_come_to_that_address_alone() {
    let case = Case::new(torrent("at an address"));
    case.seed();
    let seeder = Seeder::go_on(case, &[], &["--seed", "--interface", ADDRESS]);
    assert!(TcpStream::connect((ADDRESS, seeder.port)).is_ok());
    assert!(TcpStream::connect(("127.0.0.1", seeder.port)).is_err());
    seeder.stop();
}

#[test]
fn an_interface_is_known_by_its_name() {
    let case = Case::new(torrent("by name"));
    let peer = Peer::honest(&case.torrent.payload);
    case.complete(&[&peer], &["--interface", "lo"]);
}

#[test]
fn one_kind_of_addresses_is_used() {
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    let both = Case::new(torrent("one kind"));
    let payload = &both.torrent.payload;
    let Ok(at_v6) = Peer::start_at(v6, payload, Behaviour::default()) else {
        return; // this machine has no IPv6
    };
    let at_v4 = Peer::honest(payload);
    let tracker = Tracker::start();
    let case = Case::new(torrent("one kind of addresses").tracked_by(&tracker.http_url()));
    let _of_another_name = (&both, &case);
    for (option, used, other) in [("-4", &at_v4, &at_v6), ("--ipv6", &at_v6, &at_v4)] {
        let before = other.record().connections;
        let _first = std::fs::remove_dir_all(&both.out);
        both.complete(&[used, other], &[option]);
        assert!(used.record().connections > 0);
        assert_eq!(other.record().connections, before, "{option}");
    }
    // A tracker at an address of the other kind is not asked.
    let peer = Peer::honest(&case.torrent.payload);
    let outcome = case.run(&[&peer], &["-6", "--timeout", "1"]);
    outcome.assert_status(2);
    assert!(tracker.announces().is_empty());
    // Nor can peers come by it.
    let log = both.join("log").display().to_string();
    let mut run = both.start(&[], &["-6", "--seed", "--log", &log, "-v"]);
    let port = port_said(&log, &mut run);
    assert!(TcpStream::connect((v6, port)).is_ok());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    run.signal("TERM");
    run.wait(LIMIT).assert_status(0);
}
