//! The picker among many peers: what a block costs, and how far apart on the disk its picks lie.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rusty_torrent::bitfield::Bitfield;
use rusty_torrent::limits::{BLOCK_LENGTH, EXTENT_LENGTH_BYTES, LATE_REQUESTS_MAX};
use rusty_torrent::policy::picker::{Arrival, Picker};
use rusty_torrent::units::{Block, Geometry, PieceIndex, SessionId};

use crate::measure::{Table, cpu_seconds, medians};

const PIECES: [u32; 3] = [1_000, 10_000, 100_000];
const PEERS: [u32; 2] = [50, 200];
const BLOCKS_IN_PIECE: u32 = 16;
/// One peer in so many has everything; the others have a half each, at random.
const SEED_EVERY: u32 = 10;
/// Requests that each peer has out.
const DEPTH: usize = 64;
/// Blocks that come in one turn.
const BLOCKS_IN_TURN: usize = 16;

pub fn run() {
    let title = "Picker: a whole download among peers with random halves and some seeds\n\
        (block: all calls for one block, this simulation with them; in extent: picks in an extent\n\
        of 4 MiB that is begun; run: picks of one peer in one extent in a row; open: extents that\n\
        are begun and not done, on average)";
    let columns = [
        "pieces",
        "peers",
        "block ns",
        "job ns",
        "late calls",
        "late ns",
        "in extent",
        "run",
        "open",
    ];
    let mut table = Table::new(title, &columns);
    for_each_size(|pieces, peers| {
        let [block, job, calls, late, share, run, open] = medians(|| download(pieces, peers));
        table.row([
            pieces.to_string(),
            peers.to_string(),
            format!("{block:.0}"),
            format!("{job:.0}"),
            format!("{calls:.0}"),
            format!("{late:.0}"),
            format!("{:.1} %", share * 100.0),
            format!("{run:.1}"),
            format!("{open:.0}"),
        ]);
    });
    table.print();

    let columns = ["pieces", "peers", "join us", "have ns", "poor job ns", "leave us"];
    let mut table = Table::new(
        "Picker: peers that come, get a piece more, and go (poor: the peer has one piece in 1000)",
        &columns,
    );
    for_each_size(|pieces, peers| {
        let [join, have, poor, leave] = medians(|| membership(pieces, peers));
        table.row([
            pieces.to_string(),
            peers.to_string(),
            format!("{join:.1}"),
            format!("{have:.0}"),
            format!("{poor:.0}"),
            format!("{leave:.1}"),
        ]);
    });
    table.print();
}

fn for_each_size(mut each: impl FnMut(u32, u32)) {
    PIECES.iter().for_each(|pieces| PEERS.iter().for_each(|peers| each(*pieces, *peers)));
}

fn geometry(pieces: u32) -> Geometry {
    let piece_length = BLOCKS_IN_PIECE * BLOCK_LENGTH;
    Geometry::new(u64::from(pieces) * u64::from(piece_length), piece_length).unwrap()
}

fn one_in(parts: u32, geometry: Geometry, rng: &mut fastrand::Rng) -> Bitfield {
    let mut have = Bitfield::none(geometry);
    for piece in geometry.all_pieces().filter(|_| rng.u32(..parts) == 0) {
        have.insert(piece);
    }
    have
}

fn haves(peers: u32, geometry: Geometry, rng: &mut fastrand::Rng) -> Vec<Bitfield> {
    let have = |number| {
        if number % SEED_EVERY == 0 { Bitfield::all(geometry) } else { one_in(2, geometry, rng) }
    };
    (0..peers).map(have).collect()
}

// ---- a download --------------------------------------------------------------------------------

struct Job {
    piece: PieceIndex,
    out: u32,
    asked_out: bool,
}

/// As much of a session as the picker sees.
struct Peer {
    id: SessionId,
    have: Bitfield,
    jobs: VecDeque<Job>,
    requests: VecDeque<(Block, bool)>,
    late_requests: usize,
    last: Option<PieceIndex>,
}

impl Peer {
    fn new(id: u32, have: Bitfield) -> Self {
        Self {
            id: SessionId(id),
            have,
            jobs: VecDeque::new(),
            requests: VecDeque::new(),
            late_requests: 0,
            last: None,
        }
    }

    fn close(&mut self, block: Block, late: bool) {
        if late {
            self.late_requests -= 1;
        } else if let Some(job) = self.jobs.iter_mut().find(|job| job.piece == block.piece) {
            job.out -= 1;
        }
    }

    fn end_jobs(&mut self, picker: &mut Picker) {
        self.jobs.retain(|job| {
            let done = job.asked_out && job.out == 0;
            if done {
                picker.end_job(job.piece);
            }
            !done
        });
    }

    fn next_block(&mut self, picker: &mut Picker, due: u32, seen: &mut Seen) -> Option<Block> {
        loop {
            while let Some(job) = self.jobs.iter_mut().find(|job| !job.asked_out) {
                if let Some(block) = picker.ask(self.id, job.piece, due) {
                    job.out += 1;
                    return Some(block);
                }
                job.asked_out = true;
            }
            let began = Instant::now();
            let piece = picker.take_job(&self.have, self.last);
            seen.jobs.count(began);
            let piece = piece?;
            seen.picked(self.last, piece);
            self.last = Some(piece);
            self.jobs.push_back(Job { piece, out: 0, asked_out: false });
        }
    }

    fn late_block(
        &mut self,
        picker: &mut Picker,
        now: u32,
        due: u32,
        seen: &mut Seen,
    ) -> Option<Block> {
        if !picker.is_end_game() || self.late_requests >= LATE_REQUESTS_MAX {
            return None;
        }
        let began = Instant::now();
        let block = picker.ask_late(self.id, &self.have, now, due);
        seen.late.count(began);
        self.late_requests += usize::from(block.is_some());
        block
    }
}

/// What is written down on the way.
struct Seen {
    pieces_in_extent: u32,
    picked: Vec<bool>,
    missing_in_extent: Vec<u32>,
    open: BTreeSet<u32>,
    open_sum: usize,
    picks: usize,
    in_begun: usize,
    runs: usize,
    jobs: Calls,
    late: Calls,
}

/// How long calls of one kind take.
#[derive(Default)]
struct Calls {
    count: u32,
    time: Duration,
}

impl Calls {
    /// A call that takes so long was interrupted by another program.
    const TOO_LONG: Duration = Duration::from_millis(1);

    fn count(&mut self, began: Instant) {
        let time = began.elapsed();
        if time < Self::TOO_LONG {
            self.count += 1;
            self.time += time;
        }
    }

    fn ns_each(&self) -> f64 {
        self.time.as_secs_f64() * 1e9 / f64::from(self.count.max(1))
    }
}

impl Seen {
    fn new(geometry: Geometry) -> Self {
        let pieces_in_extent = EXTENT_LENGTH_BYTES / geometry.piece_length();
        let mut missing_in_extent = vec![0; geometry.pieces().div_ceil(pieces_in_extent) as usize];
        for piece in geometry.all_pieces() {
            missing_in_extent[(piece.get() / pieces_in_extent) as usize] += 1;
        }
        Self {
            pieces_in_extent,
            picked: vec![false; geometry.pieces() as usize],
            missing_in_extent,
            open: BTreeSet::new(),
            open_sum: 0,
            picks: 0,
            in_begun: 0,
            runs: 0,
            jobs: Calls::default(),
            late: Calls::default(),
        }
    }

    fn picked(&mut self, last: Option<PieceIndex>, piece: PieceIndex) {
        if std::mem::replace(&mut self.picked[piece.index()], true) {
            return;
        }
        let extent = piece.get() / self.pieces_in_extent;
        self.picks += 1;
        self.runs +=
            usize::from(last.map(|last| last.get() / self.pieces_in_extent) != Some(extent));
        self.in_begun += usize::from(!self.open.insert(extent));
        self.open_sum += self.open.len();
    }

    fn verified(&mut self, piece: PieceIndex) {
        let extent = piece.get() / self.pieces_in_extent;
        let missing = &mut self.missing_in_extent[extent as usize];
        *missing -= 1;
        if *missing == 0 {
            self.open.remove(&extent);
        }
    }
}

/// Peers take turns at random until everything is there.
fn download(pieces: u32, peers: u32) -> [f64; 7] {
    let geometry = geometry(pieces);
    let mut rng = fastrand::Rng::with_seed(u64::from(pieces + peers));
    let mut picker = Picker::new(geometry, Bitfield::none(geometry), rng.fork());
    let haves = haves(peers, geometry, &mut rng);
    let mut all: Vec<Peer> = (0..).zip(haves).map(|(id, have)| Peer::new(id, have)).collect();
    all.iter().for_each(|peer| picker.on_join(&peer.have));

    let mut seen = Seen::new(geometry);
    let mut arrived = vec![0; pieces as usize];
    let (mut now, mut outrun) = (0, Vec::new());
    let seconds = cpu_seconds(|| {
        while !picker.is_done() {
            now += 1;
            let who = rng.usize(..all.len());
            let peer = &mut all[who];
            for _ in 0..BLOCKS_IN_TURN.min(peer.requests.len()) {
                let Some((block, late)) = peer.requests.pop_front() else { break };
                peer.close(block, late);
                let Arrival::Fresh(others) = picker.on_block(peer.id, block) else { continue };
                outrun.extend(others.into_iter().flatten().map(|other| (other, block)));
                arrived[block.piece.index()] += 1;
                if arrived[block.piece.index()] == BLOCKS_IN_PIECE {
                    picker.on_verified(block.piece);
                    seen.verified(block.piece);
                }
            }
            peer.end_jobs(&mut picker);
            // A peer's turn comes once in as many ticks as there are peers.
            let due = now + peers * (DEPTH / BLOCKS_IN_TURN) as u32;
            while peer.requests.len() < DEPTH {
                let early = peer.next_block(&mut picker, due, &mut seen);
                let block = match early {
                    Some(block) => Some(block),
                    None => peer.late_block(&mut picker, now, due, &mut seen),
                };
                let Some(block) = block else { break };
                peer.requests.push_back((block, early.is_none()));
            }
            for (other, block) in outrun.drain(..) {
                let other = &mut all[other.0 as usize];
                if let Some(at) = other.requests.iter().position(|(asked, _)| *asked == block)
                    && let Some((block, late)) = other.requests.remove(at)
                {
                    other.close(block, late);
                    other.end_jobs(&mut picker);
                }
            }
        }
    });
    [
        seconds * 1e9 / f64::from(pieces * BLOCKS_IN_PIECE),
        seen.jobs.ns_each(),
        f64::from(seen.late.count),
        seen.late.ns_each(),
        seen.in_begun as f64 / seen.picks as f64,
        seen.picks as f64 / seen.runs as f64,
        seen.open_sum as f64 / seen.picks as f64,
    ]
}

// ---- who has what ------------------------------------------------------------------------------

fn membership(pieces: u32, peers: u32) -> [f64; 4] {
    const NEWS: u32 = 100_000;
    const POOR_JOBS: u32 = 1_000;
    let geometry = geometry(pieces);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut picker = Picker::new(geometry, Bitfield::none(geometry), rng.fork());
    let mut haves = haves(peers, geometry, &mut rng);
    let join = cpu_seconds(|| haves.iter().for_each(|have| picker.on_join(have)));

    // Every peer but a seed gets pieces more, until it has nearly all.
    let news: Vec<(usize, PieceIndex)> = (0..NEWS)
        .map(|_| (rng.usize(..haves.len()), geometry.piece(rng.u32(..pieces)).unwrap()))
        .collect();
    let mut told: u32 = 0;
    let have = cpu_seconds(|| {
        for (who, piece) in &news {
            let have = &mut haves[*who];
            if !have.has(*piece) && have.count() + 1 < pieces {
                picker.on_have(have, *piece);
                have.insert(*piece);
                told += 1;
            }
        }
    });

    let mut poor = one_in(1_000, geometry, &mut rng);
    let any = geometry.piece(pieces - 1).unwrap();
    poor.insert(any);
    picker.on_join(&poor);
    let job = cpu_seconds(|| {
        for _ in 0..POOR_JOBS {
            if let Some(piece) = picker.take_job(&poor, Some(any)) {
                picker.end_job(piece);
            }
        }
    });
    picker.on_leave(&poor);
    let leave = cpu_seconds(|| haves.iter().for_each(|have| picker.on_leave(have)));
    [
        join * 1e6 / f64::from(peers),
        have * 1e9 / f64::from(told.max(1)),
        job * 1e9 / f64::from(POOR_JOBS),
        leave * 1e6 / f64::from(peers),
    ]
}
