//! The built program finds peers in the DHT, with nobody but its like there: runs on the loopback
//! interface, each a node at a port of its own.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use support::case::{Case, LIMIT};
use support::peer::{Behaviour, Peer};
use support::seeder::{PIECE, Seeder};
use support::torrent::Torrent;

const LITTLE: usize = 4 * PIECE + 7;
/// What no datagram takes.
const PATIENCE: Duration = Duration::from_secs(45);

fn torrent(name: &str) -> Torrent {
    Torrent::single(name, LITTLE, PIECE)
}

/// A node that seeds something, and begins at this one.
fn node(name: &str, first: Option<&Seeder>) -> Seeder {
    let begin = first.map_or("127.0.0.1:9".to_owned(), |first| first.address().to_string());
    let case = Case::with_dht(torrent(name));
    case.seed();
    Seeder::go_on(case, &[], &["--seed", "--dht-node", &begin])
}

/// So many nodes, all of which began at the first.
fn nodes(name: &str, count: usize) -> Vec<Seeder> {
    let mut nodes = vec![node(&format!("{name} 0"), None)];
    for number in 1..count {
        nodes.push(node(&format!("{name} {number}"), Some(&nodes[0])));
    }
    nodes
}

/// The case of what another run seeds.
fn same(seeder: &Seeder, name: &str) -> Case {
    let mut case = Case::with_dht(torrent(name));
    case.torrent = torrent(&seeder.case.torrent.name);
    case.file = seeder.case.torrent.write_to(&case.join(""));
    case
}

#[test]
fn a_link_that_names_nobody_is_found() {
    let nodes = nodes("by link", 8);
    let mut case = same(&nodes[5], "by link alone");
    case.file = case.torrent.magnet().into();
    let begin = nodes[2].address().to_string();
    case.complete(&[], &["--dht-node", &begin]);
    nodes.into_iter().for_each(|node| drop(node.stop()));
}

#[test]
fn the_dht_of_ipv6_is_one_as_well() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return; // this machine has no IPv6
    }
    let mut nodes: Vec<Seeder> = Vec::new();
    for number in 0..4 {
        let first =
            nodes.first().map_or("[::1]:9".to_owned(), |first| format!("[::1]:{}", first.port));
        let case = Case::with_dht(torrent(&format!("over IPv6 {number}")));
        case.seed();
        nodes.push(Seeder::go_on(case, &[], &["-6", "--seed", "--dht-node", &first]));
    }
    let mut case = same(&nodes[2], "over IPv6 by link");
    case.file = case.torrent.magnet().into();
    let begin = format!("[::1]:{}", nodes[3].port);
    case.complete(&[], &["--ipv6", "--dht-node", &begin]);
    nodes.into_iter().for_each(|node| drop(node.stop()));
}

#[test]
fn nodes_of_a_torrent_lead_to_its_peers() {
    let nodes = nodes("by torrent", 3);
    let mut case = same(&nodes[2], "of a torrent");
    let [first, second] = [0, 1].map(|number| nodes[number].address());
    let mut bytes = fs::read(&case.file).unwrap();
    assert_eq!(bytes.pop(), Some(b'e'));
    let node = |port| format!("l9:127.0.0.1i{port}ee");
    bytes.extend(format!("5:nodesli5e{}{}ee", node(first.port()), node(second.port())).bytes());
    case.file = case.join("with nodes.torrent");
    fs::write(&case.file, bytes).unwrap();
    case.complete(&[], &[]);
    nodes.into_iter().for_each(|node| drop(node.stop()));
}

#[test]
fn what_was_known_is_known_again() {
    let nodes = nodes("remembered", 4);
    let begin = nodes[0].address().to_string();
    let case = same(&nodes[1], "a first run");
    let file = case.join("nodes");
    case.complete(&[], &["--dht-node", &begin, "--dht-file", &path(&file)]);
    assert!(fs::metadata(&file).unwrap().len() > 100);
    let again = same(&nodes[2], "a second run");
    again.complete(&[], &["--dht-file", &path(&file)]);
    // Whatever is in it does no harm.
    fs::write(&file, b"d4:ipv4d2:id20:").unwrap();
    let broken = same(&nodes[3], "a broken file");
    broken.complete(&[], &["--dht-node", &begin, "--dht-file", &path(&file)]);
    nodes.into_iter().for_each(|node| drop(node.stop()));
}

#[test]
fn a_file_that_cannot_be_had_is_an_error() {
    let case = Case::with_dht(torrent("no such directory"));
    let outcome = case.run(&[], &["--dht-file", "/no/such/directory/nodes"]);
    assert_ne!(outcome.status, Some(0));
    let text = "/no/such/directory/nodes";
    assert!(outcome.stderr.contains(text) && outcome.stderr.lines().count() == 1, "{outcome:#?}");
}

#[test]
fn nobody_is_asked_for_a_private_torrent_or_against_the_user_s_will() {
    let asked = UdpSocket::bind("127.0.0.1:0").unwrap();
    let begin = asked.local_addr().unwrap().to_string();
    let slow = Behaviour { block_pause: Duration::from_millis(100), ..Behaviour::default() };
    let run = |case: &Case, options: &[&str]| {
        let peer = Peer::start(&case.torrent.payload, slow.clone());
        case.complete(&[&peer], &[&["--dht-node", &begin], options].concat());
    };
    run(&Case::with_dht(torrent("private").private()), &[]);
    run(&Case::with_dht(torrent("unwanted")), &["--no-dht"]);
    asked.set_nonblocking(true).unwrap();
    let heard = asked.recv(&mut [0; 2048]).map_err(|error| error.kind());
    assert_eq!(heard, Err(io::ErrorKind::WouldBlock));
    // Otherwise it is.
    asked.set_nonblocking(false).unwrap();
    asked.set_read_timeout(Some(PATIENCE)).unwrap();
    let case = Case::with_dht(torrent("public"));
    let run = case.start(&[], &["--dht-node", &begin]);
    let mut query = [0; 2048];
    let length = asked.recv(&mut query).unwrap();
    assert!(query[..length].starts_with(b"d1:ad2:id20:"), "{:?}", &query[..length]);
    run.signal("TERM");
    run.wait(LIMIT).assert_status(7);
}

#[test]
fn a_peer_tells_where_its_node_is() {
    // It has nothing, and is found by name only; its node leads to the one that has everything.
    let nodes = nodes("told by a peer", 3);
    let begin = nodes[0].address().to_string();
    let middle = same(&nodes[1], "in the middle");
    let middle = Seeder::go_on(middle, &[], &["--dht-node", &begin, "--max-download-limit", "1K"]);
    let mut case = same(&nodes[1], "at the end");
    case.file = case.torrent.magnet().into();
    let peer = middle.address().to_string();
    let own = path(&case.join("nodes"));
    let nobody = "127.0.0.1:9";
    case.complete(&[], &["--peer", &peer, "--dht-node", nobody, "--dht-file", &own]);
    assert!(fs::metadata(&own).unwrap().len() > 100, "it knows nodes");
    drop(middle);
    nodes.into_iter().for_each(|node| drop(node.stop()));
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
