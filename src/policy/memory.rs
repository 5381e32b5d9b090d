//! Decides how much may be under way at once, so that the process never takes more memory than it
//! was given. Everything has a worst case, from `limits`; the plan adds these up beforehand.
//!
//! The worst cases are those of a hostile swarm: an ordinary one takes a third of it. What counts
//! is memory of the process's own. Output files that are mapped are the page cache's: the kernel
//! takes their pages back when it wants to.
//!
//! First comes the least that works; then more in an order that is always the same, until the next
//! step would be too much. So more memory never gives less of anything.

use crate::limits::{
    ADDRESSES_MAX, ANNOUNCER_BUFFERS_BYTES, ANNOUNCER_STACK_BYTES, ANNOUNCER_THREADS_MAX,
    BANNED_MAX, BLOCK_LENGTH, CHUNK_LENGTH_BYTES, CHUNKS_MAX, CHUNKS_MIN, CONTACT_CHANGES_MAX,
    DHT_NODE_BYTES, DHT_STACK_BYTES, EVENTS_QUEUED_MAX, FAREWELL_THREADS_MAX, FAREWELL_THREADS_MIN,
    FOREIGN_TEXT_MAX_CHARS, HEARD_WAITING_MAX, JOBS_MAX, LISTENER_STACK_BYTES, LOCAL_STACK_BYTES,
    MESSAGE_KEPT_MAX_BYTES, METADATA_QUEUED_MAX, MIRROR_CONNECTIONS_MAX, MIRROR_INPUT_BYTES,
    MIRROR_OTHER_BYTES, MIRROR_OUTPUT_BYTES, MIRROR_STACK_BYTES, MIRROR_WORKERS_MAX, NEW_HAVES_MAX,
    OPEN_PIECES_MAX, OUTBOX_MAX_BYTES, OUTLET_BUFFER_BYTES, OUTLET_STACK_BYTES, OVERDUE_MAX,
    PEER_OTHER_BYTES, PEERS_MIN, PEERS_PER_REPLY_MAX, PROCESS_BYTES, READ_BACK_BYTES,
    RECHECK_BUFFER_BYTES, RECHECK_STACK_BYTES, RECHECK_THREADS_MAX, RECORDER_STACK_BYTES,
    REQUESTS_IN_FLIGHT_MAX, REQUESTS_QUEUED_MAX, RESOLVER_STACK_BYTES, RUN_LENGTH_START_BYTES,
    RUN_PIECES_MAX, SESSION_STACK_BYTES, SESSIONS_REMEMBERED_MAX, SIGNALS_STACK_BYTES,
    SUSPECT_BLOCKS_MAX, THREAD_OTHER_BYTES, TRACKER_ID_MAX_BYTES, TRACKER_REPLY_MAX_BYTES,
    TRACKER_REPLY_USUAL_BYTES, TRACKERS_MAX, UPLOAD_BUFFER_BYTES, UPLOAD_BUFFERS_MAX,
    URL_LENGTH_MAX_BYTES, WRITER_STACK_BYTES,
};
use crate::policy::completion;
use crate::protocol::metainfo::Measures;

/// A table that grows by itself takes up to twice what is in it, and its old place as well while
/// it moves.
const GROWN: u64 = 3;
/// A map or set takes so many times for what is in it, half-empty nodes counted.
const TREE: u64 = 2;

// Bytes of one entry of each table; a test holds them true where it can.
const HASH_BYTES: u64 = 20;
const REQUEST_BYTES: u64 = 40;
const BLOCK_BYTES: u64 = 12;
const RECEIVED_BYTES: u64 = 24;
const EVIDENCE_BYTES: u64 = 32;
const ADDRESS_BYTES: u64 = 144;
const HOST_BYTES: u64 = 24;
const SESSION_BYTES: u64 = 48;
const EVENT_BYTES: u64 = 128;
const STATE_BYTES: u64 = 16;
/// How the trade with a peer goes, its id and its host.
const TRADE_BYTES: u64 = 192;

/// What is known of a tracker besides its URL: its id, what it answered, what it refused.
const TRACKER_BYTES: u64 = (TRACKER_ID_MAX_BYTES + 4 * FOREIGN_TEXT_MAX_CHARS + 256) as u64;

/// What is known of a mirror besides its URL: what became of it, and its place in lists.
const MIRROR_BYTES: u64 = (4 * FOREIGN_TEXT_MAX_CHARS + 256) as u64;
/// A name that only mirrors know, its bytes not counted.
const MIRRORED_NAME_BYTES: u64 = 24 * TREE;

/// For each piece while it downloads: how many have it, the order and the place in it, the list of
/// verified ones, suspects.
const TABLES_PER_PIECE_BYTES: u64 = 2 + 4 * GROWN + 4 + 4 + 4 * TREE + 1;
/// For each piece while it looks at what is there: those that were found, twice.
const FOUND_PER_PIECE_BYTES: u64 = 2 * 4 * GROWN + 1;
/// For each file, its paths not counted, as long as the program runs: its entry in the torrent and
/// in the layout, how it is backed.
const FILE_BYTES: u64 = 40 * GROWN + 40 + 16 + 1 + 64;
/// For each file while the torrent is read, or while what is there is looked at.
const FILE_READ_BYTES: u64 = 64 * GROWN + 16 * GROWN + 120;
/// For each file, whether it is selected.
const FILE_SELECTED_BYTES: u64 = 2;
/// For each piece that is kept aside in part.
const PIECE_ASIDE_BYTES: u64 = 8 + 3 * 4 * GROWN + 4;
/// For each component of a path while the torrent is read: directories are told from files.
const COMPONENT_BYTES: u64 = 17 * GROWN + 17;
/// A begun piece without its blocks: in the picker, and at the writer its hash so far.
const PIECE_BEGUN_BYTES: u64 = 512;
/// For each block of a begun piece: its state, and a bit at the writer.
const BLOCK_BEGUN_BYTES: u64 = BLOCK_BYTES + 1;
/// For each block of one piece that is found to be wrong: who brought it, and its digest.
const BLOCK_JUDGED_BYTES: u64 = (HASH_BYTES + 4 + EVIDENCE_BYTES) * GROWN;

/// The measures that memory depends on. What is not known is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Bytes of the torrent file.
    pub torrent_bytes: u64,
    /// What it describes.
    pub measures: Measures,
    /// Threads that announce already.
    pub announcers: usize,
    /// Only some of the files are wanted.
    pub selects: bool,
    /// A file goes to standard output.
    pub delivers: bool,
    /// Nodes of the DHT are wanted, and are there already.
    pub dht: (bool, bool),
    /// Peers that are wanted.
    pub peers: usize,
    /// Threads that could look at what is there.
    pub cores: usize,
    /// Somebody wants to be told of pieces and files.
    pub watched: bool,
}

/// How much may be under way at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Sessions.
    pub peers: usize,
    /// Chunks of bytes that have arrived.
    pub chunks: usize,
    /// Pieces that are begun and not verified.
    pub begun: usize,
    /// Threads that announce.
    pub announcers: usize,
    /// Threads that say goodbye, while those may still be waiting.
    pub farewells: usize,
    /// Connections to mirrors.
    pub mirrors: usize,
    /// Nodes of the DHT.
    pub dht: bool,
    /// Threads that look at what is there. They are gone before the others come.
    pub checkers: usize,
}

impl Plan {
    /// The most that `ceiling` bytes are enough for.
    ///
    /// # Errors
    /// It is not enough for anything; this many bytes are.
    pub fn new(ceiling: u64, needs: &Needs) -> Result<Self, u64> {
        let least = least(needs);
        let needed = least.bytes(needs);
        if ceiling < needed {
            return Err(needed);
        }
        let fitting = steps(least, most(needs)).take_while(|plan| plan.bytes(needs) <= ceiling);
        let mut plan = fitting.last().unwrap_or(least);
        let checkers = needs.cores.clamp(1, RECHECK_THREADS_MAX);
        let room = ceiling.saturating_sub(always(needs) + looking(needs, 0));
        plan.checkers = checkers.min(usize::try_from(room / checker()).unwrap_or(checkers)).max(1);
        Ok(plan)
    }

    /// Bytes that it takes at worst, at any time.
    pub fn bytes(&self, needs: &Needs) -> u64 {
        let reading = needs.torrent_bytes
            + needs.measures.files * FILE_READ_BYTES
            + needs.measures.components * COMPONENT_BYTES
            + 2 * needs.measures.path_bytes;
        let downloading = needs.measures.pieces * TABLES_PER_PIECE_BYTES
            + bitfield(needs)
            + book()
            + if needs.measures.tiers > 0 { TRACKER_REPLY_MAX_BYTES } else { 0 }
            + writer(needs)
            + recorder(needs)
            + uploads()
            + self.peers as u64 * peer(needs)
            + self.chunks as u64 * chunk(needs)
            + self.begun as u64 * begun(needs)
            + self.announcers as u64 * announcer()
            + self.farewells as u64 * farewell()
            + self.mirrors as u64 * mirror(needs)
            + if self.dht { dht() } else { 0 };
        let looking = looking(needs, self.checkers as u64);
        always(needs) + reading.max(looking).max(downloading)
    }
}

/// Whether a torrent file of this many bytes can be read to be measured, if nothing more.
pub fn can_be_measured(ceiling: u64, torrent_bytes: u64) -> bool {
    always(&Needs { torrent_bytes, ..Needs::default() }) + torrent_bytes <= ceiling
}

fn least(needs: &Needs) -> Plan {
    let peers = needs.peers.clamp(1, PEERS_MIN);
    let mirrors = mirror_connections(needs).min(1);
    let begun = begun_for(peers, mirrors, needs);
    let farewells = needs.measures.tiers.min(1);
    let announcers = needs.announcers.max(farewells);
    Plan {
        peers,
        chunks: CHUNKS_MIN,
        begun,
        announcers,
        farewells,
        mirrors,
        dht: needs.dht.1,
        checkers: 1,
    }
}

fn most(needs: &Needs) -> Plan {
    Plan {
        peers: needs.peers.max(1),
        chunks: CHUNKS_MAX,
        begun: OPEN_PIECES_MAX
            .min(usize::try_from(needs.measures.pieces).unwrap_or(OPEN_PIECES_MAX))
            .max(1),
        announcers: needs.measures.tiers.min(ANNOUNCER_THREADS_MAX),
        farewells: needs.measures.tiers.min(FAREWELL_THREADS_MAX),
        mirrors: mirror_connections(needs),
        dht: needs.dht.0 || needs.dht.1,
        checkers: 1,
    }
}

/// A second connection to a mirror brings something while the first one waits for an answer.
fn mirror_connections(needs: &Needs) -> usize {
    let mirrors = usize::try_from(needs.measures.mirrors).unwrap_or(MIRROR_WORKERS_MAX);
    mirrors.saturating_mul(MIRROR_CONNECTIONS_MAX).min(MIRROR_WORKERS_MAX)
}

/// Each peer works on a piece of its own, and one more is about to be verified. A connection to a
/// mirror works on many, and has its share of half of them.
fn begun_for(peers: usize, mirrors: usize, needs: &Needs) -> usize {
    let run = RUN_LENGTH_START_BYTES / needs.measures.piece_length.max(1) + 1;
    let run = usize::try_from(run).unwrap_or(usize::MAX).min(RUN_PIECES_MAX as usize);
    let runs = if mirrors > 0 { 2 * MIRROR_WORKERS_MAX * run } else { 0 };
    (2 * peers + runs)
        .min(OPEN_PIECES_MAX)
        .min(usize::try_from(needs.measures.pieces).unwrap_or(usize::MAX))
        .max(1)
}

/// From the least to the most: first peers and chunks in step, then the DHT, trackers and mirrors,
/// then pieces.
fn steps(least: Plan, most: Plan) -> impl Iterator<Item = Plan> {
    let grow = move |plan: &Plan| {
        let mut plan = *plan;
        if plan.peers < most.peers || plan.chunks < most.chunks {
            plan.peers = (plan.peers + PEERS_MIN).min(most.peers);
            plan.chunks = (plan.chunks + 1).min(most.chunks);
            plan.begun = plan.begun.max(2 * plan.peers).min(most.begun);
        } else if plan.dht != most.dht {
            plan.dht = most.dht;
        } else if plan.farewells < most.farewells.min(FAREWELL_THREADS_MIN) {
            plan.farewells += 1;
        } else if plan.mirrors < most.mirrors {
            plan.mirrors += 1;
        } else if plan.announcers < most.announcers {
            plan.announcers += 1;
        } else if plan.begun < most.begun {
            plan.begun += 1;
        } else if plan.farewells < most.farewells {
            plan.farewells += 1;
        } else {
            return None;
        }
        Some(plan)
    };
    std::iter::successors(Some(least), grow)
}

fn bitfield(needs: &Needs) -> u64 {
    needs.measures.pieces.div_ceil(8)
}

fn blocks(needs: &Needs) -> u64 {
    needs.measures.piece_length.div_ceil(u64::from(BLOCK_LENGTH))
}

/// What is there from the first line to the last.
fn always(needs: &Needs) -> u64 {
    let urls = (TRACKERS_MAX * URL_LENGTH_MAX_BYTES) as u64;
    PROCESS_BYTES as u64
        + thread(SIGNALS_STACK_BYTES)
        + 2 * urls.min(needs.torrent_bytes.saturating_sub(needs.measures.info_bytes))
        + needs.measures.trackers * TRACKER_BYTES
        + mirrors(needs)
        + needs.measures.info_bytes
        + needs.measures.files * FILE_BYTES
        + 2 * needs.measures.path_bytes
        + bitfield(needs)
        + if needs.selects || needs.delivers { selection(needs) } else { 0 }
        + if needs.watched { watched(needs) } else { 0 }
}

/// Which files, which pieces, and the places of what is kept aside: in the layout, in the record as
/// it was read and as it is now, and its bytes.
fn selection(needs: &Needs) -> u64 {
    let Measures { files, pieces, .. } = needs.measures;
    let aside = if needs.delivers { pieces } else { pieces.min(2 * files) };
    let outlet = thread(OUTLET_STACK_BYTES) + OUTLET_BUFFER_BYTES as u64;
    files * FILE_SELECTED_BYTES
        + 3 * bitfield(needs)
        + aside * PIECE_ASIDE_BYTES
        + if needs.delivers { outlet } else { 0 }
        + u64::from(BLOCK_LENGTH)
}

/// What is missing of each file; the pieces that were seen, and all at a look.
fn watched(needs: &Needs) -> u64 {
    needs.measures.files * completion::FILE_BYTES as u64
        + 2 * bitfield(needs)
        + OPEN_PIECES_MAX as u64 * 4 * GROWN
}

/// The mirrors, and the names that they have for what is named otherwise here.
fn mirrors(needs: &Needs) -> u64 {
    let Measures { mirrors, mirror_bytes, renamed, renamed_bytes, .. } = needs.measures;
    let names = renamed_bytes + renamed * MIRRORED_NAME_BYTES;
    // While they are read, there is a set of them as well.
    3 * mirror_bytes + mirrors * MIRROR_BYTES + if mirrors > 0 { names } else { 0 }
}

fn looking(needs: &Needs, checkers: u64) -> u64 {
    needs.measures.pieces * FOUND_PER_PIECE_BYTES
        + needs.measures.files * 4 * STATE_BYTES
        + 3 * bitfield(needs)
        + checkers * checker()
}

fn checker() -> u64 {
    thread(RECHECK_STACK_BYTES) + RECHECK_BUFFER_BYTES as u64
}

fn thread(stack: usize) -> u64 {
    (stack + THREAD_OTHER_BYTES) as u64
}

/// Addresses, hosts and sessions that are remembered, and the queues between the threads.
fn book() -> u64 {
    TREE * (ADDRESSES_MAX as u64 * ADDRESS_BYTES
        + BANNED_MAX as u64 * HOST_BYTES
        + SESSIONS_REMEMBERED_MAX as u64 * SESSION_BYTES)
        + JOBS_MAX as u64 * 8
        + table(HEARD_WAITING_MAX, 32)
        + TREE * CONTACT_CHANGES_MAX as u64 * 40
        + EVENTS_QUEUED_MAX as u64 * EVENT_BYTES
}

fn writer(needs: &Needs) -> u64 {
    thread(WRITER_STACK_BYTES)
        + READ_BACK_BYTES as u64
        + SUSPECT_BLOCKS_MAX as u64 * EVIDENCE_BYTES * TREE
        + blocks(needs) * BLOCK_JUDGED_BYTES
}

/// The record twice and its bytes, and which pieces and files are to be recorded.
fn recorder(needs: &Needs) -> u64 {
    thread(RECORDER_STACK_BYTES)
        + 6 * bitfield(needs)
        + OPEN_PIECES_MAX as u64 * 4 * GROWN
        + needs.measures.files * (4 * STATE_BYTES + 8 * TREE)
}

/// The buffers, who waits at the door, and who looks out of it.
fn uploads() -> u64 {
    (UPLOAD_BUFFERS_MAX * UPLOAD_BUFFER_BYTES) as u64
        + thread(LISTENER_STACK_BYTES)
        + thread(LOCAL_STACK_BYTES)
}

/// The nodes of both families, and who looks up where they begin.
fn dht() -> u64 {
    2 * DHT_NODE_BYTES as u64 + thread(DHT_STACK_BYTES) + thread(RESOLVER_STACK_BYTES)
}

fn chunk(needs: &Needs) -> u64 {
    CHUNK_LENGTH_BYTES as u64 + arrived(needs)
}

/// The list of the blocks that one read brought.
fn arrived(needs: &Needs) -> u64 {
    let asked = REQUESTS_IN_FLIGHT_MAX as usize + OVERDUE_MAX;
    // Whole blocks alone, or any number of shorter ones.
    let most = match needs.measures.piece_length % u64::from(BLOCK_LENGTH) {
        0 => CHUNK_LENGTH_BYTES / BLOCK_LENGTH as usize + 2,
        _ => asked,
    };
    table(most, RECEIVED_BYTES) * 3 / 2
}

fn begun(needs: &Needs) -> u64 {
    PIECE_BEGUN_BYTES + blocks(needs) * BLOCK_BEGUN_BYTES
}

/// A table that grows to `count` entries of `bytes` each. It doubles from a power of 2.
fn table(count: usize, bytes: u64) -> u64 {
    count.next_power_of_two() as u64 * bytes
}

fn peer(needs: &Needs) -> u64 {
    let requests = REQUESTS_IN_FLIGHT_MAX as usize;
    // Requests and cancels, 17 bytes each, that one turn adds when there is room. A block of the info
    // dictionary goes there when there is nothing else.
    let outbox = GROWN * (OUTBOX_MAX_BYTES + requests * 17) as u64 + table(METADATA_QUEUED_MAX, 4);
    // Requests that are out, those given up, jobs; and one of them while it moves.
    let tables = table(requests, REQUEST_BYTES) * 3 / 2
        + 2 * table(requests, BLOCK_BYTES)
        + table(OVERDUE_MAX, BLOCK_BYTES)
        + table(NEW_HAVES_MAX, 4)
        // What it asks for: in this turn, and what waits; and one of them while it moves.
        + table(REQUESTS_QUEUED_MAX as usize, BLOCK_BYTES) * 5 / 2
        + TREE * TRADE_BYTES;
    // What they have, what they told, twice while it changes, the message that told it, what we
    // told, what may be asked.
    let bitfields = 6 * bitfield(needs);
    thread(SESSION_STACK_BYTES)
        + PEER_OTHER_BYTES as u64
        + outbox
        + tables
        // What has no end yet, and the client's name, which is a part of one.
        + 2 * u64::from(MESSAGE_KEPT_MAX_BYTES)
        + arrived(needs)
        + bitfields
}

/// One connection to a mirror, and one that is kept: each with buffers of its own for TLS.
fn mirror(needs: &Needs) -> u64 {
    thread(MIRROR_STACK_BYTES)
        + thread(RESOLVER_STACK_BYTES)
        + 4 * (MIRROR_INPUT_BYTES + MIRROR_OUTPUT_BYTES) as u64
        + MIRROR_OTHER_BYTES as u64
        + chunk(needs)
        + bitfield(needs)
}

/// One announce under way, and the answer to the last that nobody has read yet.
fn announcer() -> u64 {
    farewell() + table(PEERS_PER_REPLY_MAX, 32)
}

/// One announce under way.
fn farewell() -> u64 {
    thread(ANNOUNCER_STACK_BYTES)
        + thread(RESOLVER_STACK_BYTES)
        + ANNOUNCER_BUFFERS_BYTES as u64
        + TRACKER_REPLY_USUAL_BYTES
        // Its peers, and where each of them is among them.
        + table(PEERS_PER_REPLY_MAX, 32 + 8) * 3 / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MEMORY_DEFAULT_BYTES, MEMORY_MIN_BYTES, PEERS_DEFAULT};
    use crate::policy::conversation::Received;
    use crate::units::{Block, SessionId};

    const MIB: u64 = 1 << 20;

    /// A torrent of one file.
    fn needs(pieces: u64, piece_length: u64, tiers: usize) -> Needs {
        Needs {
            torrent_bytes: pieces * HASH_BYTES + 1_000,
            measures: Measures {
                info_bytes: pieces * HASH_BYTES + 200,
                pieces,
                piece_length,
                files: 1,
                components: 1,
                path_bytes: 100,
                tiers,
                trackers: tiers as u64,
                ..Measures::default()
            },
            announcers: 0,
            selects: false,
            delivers: false,
            dht: (true, false),
            peers: PEERS_DEFAULT,
            cores: 4,
            watched: false,
        }
    }

    #[test]
    fn ordinary_torrents_have_everything_by_default() {
        for (pieces, piece_length) in [(1, 1 << 14), (4_000, 1 << 18), (20_000, 1 << 22)] {
            let plan = Plan::new(MEMORY_DEFAULT_BYTES, &needs(pieces, piece_length, 3)).unwrap();
            let whole = (plan.peers, plan.chunks, plan.announcers, plan.checkers);
            assert_eq!(whole, (PEERS_DEFAULT, CHUNKS_MAX, 3, 4), "{pieces} {piece_length}");
            assert!(plan.begun >= 2 * PEERS_DEFAULT || plan.begun as u64 == pieces);
        }
    }

    #[test]
    fn the_least_that_may_be_typed_is_enough_for_ordinary_torrents() {
        for (pieces, piece_length) in [(1, 1), (4_000, 1 << 20), (1_000, 1 << 24)] {
            let plan = Plan::new(MEMORY_MIN_BYTES, &needs(pieces, piece_length, 10)).unwrap();
            assert!(plan.peers >= PEERS_MIN && plan.chunks >= CHUNKS_MIN, "{plan:?}");
            assert!(plan.announcers >= 1 && plan.checkers >= 1, "{plan:?}");
        }
    }

    #[test]
    fn who_looks_on_is_planned_for() {
        let mut needs = needs(80_000, 1 << 20, 1);
        needs.measures.files = 100_000;
        let plan = Plan::new(1 << 30, &needs).unwrap();
        let watched = Needs { watched: true, ..needs };
        let more = plan.bytes(&watched) - plan.bytes(&needs);
        assert!((16 * 100_000 + 2 * 10_000..2 * MIB).contains(&more), "{more}");
    }

    #[test]
    fn what_is_too_little_is_told_exactly() {
        let mut many_files = needs(9, 1 << 20, 1);
        (many_files.measures.files, many_files.measures.path_bytes) = (100_000, 9_000_000);
        for needs in [needs(2_000_000, 1 << 14, 0), needs(9, 1 << 30, 1), many_files] {
            let needed = Plan::new(MEMORY_MIN_BYTES, &needs).unwrap_err();
            assert!(needed > MEMORY_MIN_BYTES);
            assert_eq!(Plan::new(needed - 1, &needs), Err(needed));
            let plan = Plan::new(needed, &needs).unwrap();
            assert!(plan.peers >= PEERS_MIN && plan.chunks >= CHUNKS_MIN, "{plan:?}");
        }
    }

    #[test]
    fn more_memory_never_gives_less_and_is_never_overdrawn() {
        let mut all = [needs(1, 1, 0), needs(200_000, 1 << 14, 5), needs(3_000, 1 << 24, 32)];
        (all[1].measures.mirrors, all[2].measures.mirrors) = (300, 1);
        for needs in all.into_iter().chain(all.map(|needs| Needs {
            cores: 100,
            peers: 500,
            selects: true,
            ..needs
        })) {
            let mut before = None::<Plan>;
            for ceiling in (0..500).map(|step| step * MIB) {
                let Ok(plan) = Plan::new(ceiling, &needs) else {
                    assert_eq!(before, None, "{ceiling}");
                    continue;
                };
                assert!(plan.bytes(&needs) <= ceiling, "{ceiling}: {plan:?}");
                let grows = |field: fn(&Plan) -> usize| {
                    before.is_none_or(|before| field(&before) <= field(&plan))
                };
                assert!(grows(|plan| plan.peers) && grows(|plan| plan.chunks), "{ceiling}");
                assert!(grows(|plan| plan.begun) && grows(|plan| plan.announcers), "{ceiling}");
                assert!(grows(|plan| plan.checkers) && grows(|plan| plan.farewells));
                assert!(grows(|plan| plan.mirrors), "{ceiling}");
                before = Some(plan);
            }
            assert!(before.is_some_and(|plan| plan.peers == needs.peers));
        }
    }

    #[test]
    fn mirrors_have_few_connections_and_pieces_enough_for_runs() {
        for (mirrors, most) in [(0, 0), (1, 2), (2, 4), (300, MIRROR_WORKERS_MAX)] {
            let mut needs = needs(4_000, 1 << 18, 3);
            (needs.measures.mirrors, needs.measures.mirror_bytes) = (mirrors, 100 * mirrors);
            let plan = Plan::new(MEMORY_DEFAULT_BYTES, &needs).unwrap();
            assert_eq!((plan.mirrors, plan.peers), (most, PEERS_DEFAULT), "{mirrors}");
            let least = Plan::new(MEMORY_MIN_BYTES, &needs).unwrap();
            assert_eq!(least.mirrors > 0, mirrors > 0);
            let run = least.begun / (2 * MIRROR_WORKERS_MAX);
            assert!(mirrors == 0 || run >= 4, "runs of {run} pieces of 256 KiB");
        }
    }

    #[test]
    fn names_that_only_mirrors_know_count_where_there_is_one() {
        let mut without = needs(9, 1 << 20, 1);
        (without.measures.renamed, without.measures.renamed_bytes) = (1_000, 1 << 20);
        let mut with = without;
        with.measures.mirrors = 1;
        let of_none = Plan { mirrors: 0, ..most(&without) };
        let more = of_none.bytes(&with) - of_none.bytes(&without);
        assert!((MIB..2 * MIB).contains(&more), "{more}");
    }

    #[test]
    fn fewer_peers_than_the_least_can_be_wanted() {
        let plan = Plan::new(MEMORY_MIN_BYTES, &Needs { peers: 1, ..needs(10, 1, 0) }).unwrap();
        assert_eq!((plan.peers, plan.announcers), (1, 0));
    }

    #[test]
    fn a_file_that_can_not_be_measured_could_not_be_read_either() {
        for length in (0..40).map(|length| length * MIB) {
            let needs = Needs { torrent_bytes: length, ..Needs::default() };
            if Plan::new(MEMORY_DEFAULT_BYTES, &needs).is_ok() {
                assert!(can_be_measured(MEMORY_DEFAULT_BYTES, length), "{length}");
            }
        }
        assert!(!can_be_measured(MEMORY_MIN_BYTES, MEMORY_MIN_BYTES));
    }

    #[test]
    fn entries_are_as_large_as_is_reckoned() {
        assert!(size_of::<Received>() as u64 <= RECEIVED_BYTES);
        assert!(size_of::<Block>() as u64 <= BLOCK_BYTES);
        assert!(size_of::<crate::protocol::resume::FileState>() as u64 <= STATE_BYTES);
        assert!(size_of::<(usize, SessionId, [u8; 20])>() as u64 <= EVIDENCE_BYTES);
        assert!(size_of::<std::net::SocketAddr>() <= 32);
    }
}
