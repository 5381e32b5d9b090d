//! The network goes and comes back: the download waits for it, says so, and goes on where it was.
//! The test runs itself again in a network of its own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod support;

use std::env;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::case::{Case, LIMIT};
use support::peer::{Behaviour, Peer};
use support::torrent::Torrent;

/// Set for the second run, inside the network.
const INSIDE: &str = "RUSTY_TORRENT_TEST_NETWORK";
const PIECE: usize = 64 << 10;
/// No session outlives such a silence, and it has been said by then that there is nobody.
const OUTAGE: Duration = Duration::from_secs(4 * 60);

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("ip is missing: apt-get install iproute2").success(), "ip {arguments}");
}

#[test]
#[ignore = "needs root, iproute2 and five minutes"]
fn the_network_goes_and_comes_back() {
    if env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare")
            .args(["--net", "--"])
            .arg(env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "the_network_goes_and_comes_back"])
            .env(INSIDE, "1")
            .status();
        let status = status.expect("unshare is missing: apt-get install util-linux");
        assert!(status.success(), "{status}; root is needed, for a network of its own");
        return;
    }
    ip("link set lo up");
    let case = Case::new(Torrent::single("outage", 64 * PIECE, PIECE));
    let resting = Behaviour { rests_after: Some(70), ..Behaviour::default() };
    let peers = [(); 3].map(|()| Peer::start(&case.torrent.payload, resting.clone()));
    let run = case.start(&peers.iter().collect::<Vec<_>>(), &[]);
    case.wait_for_pieces(8);
    let before = case.pieces_there().len();
    ip("link set lo down");
    peers.iter().for_each(Peer::go_on);
    thread::sleep(OUTAGE);
    let came_back = Instant::now();
    ip("link set lo up");
    let outcome = run.wait(OUTAGE + LIMIT + LIMIT);
    case.assert_complete(&outcome);
    println!("went on and ended {:?} after the network was back", came_back.elapsed());
    assert!(outcome.stderr.contains("no peers yet, still trying: "), "{outcome:#?}");
    // Nothing that was there came twice, but what was on its way.
    let sent: usize = peers.iter().map(|peer| peer.record().sent.len()).sum();
    println!("{before} pieces were there, {sent} blocks were sent of 256");
    assert!(sent <= 256 + 150, "{sent}");
}
