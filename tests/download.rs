//! The built program against peers and trackers of the test's own, on loopback.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::peer::Peer;
use support::program;
use support::scratch::Scratch;
use support::torrent::Torrent;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_single_file_arrives() {
    let torrent = Torrent::single("single.bin", 3_000_001, 1 << 18);
    let scratch = Scratch::new("single");
    let peer = Peer::honest(&torrent.payload);
    let file = torrent.write_to(scratch.path());
    let out = scratch.join("out");
    let outcome = program::run(
        [file.as_os_str(), out.as_os_str(), "--peer".as_ref(), peer.address().to_string().as_ref()],
        LIMIT,
    );
    outcome.assert_status(0);
    torrent.assert_is_in(&out);
    let record = peer.record();
    assert_eq!(record.broken, [""; 0]);
    assert_eq!(record.connections, 1);
}
