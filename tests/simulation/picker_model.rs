//! The picker against a simple model of itself, with sessions that do whatever sessions may do, in
//! any order: a piece is in exactly one state, and no block is ever lost or given to too many.

use std::collections::BTreeSet;

use rusty_torrent::bitfield::Bitfield;
use rusty_torrent::limits::{BLOCK_LENGTH, MIRROR_WORKERS_MAX};
use rusty_torrent::policy::picker::{Arrival, Picker, Run};
use rusty_torrent::units::{Block, Geometry, PieceIndex, SessionId};

use crate::peer::some_pieces;
use crate::seeds;
use crate::world::geometry;

const SESSIONS: usize = 6;

#[derive(Clone, PartialEq, Debug)]
enum BlockIs {
    Free,
    Asked(Vec<SessionId>),
    Arrived(SessionId),
}

#[derive(Clone, PartialEq, Debug)]
enum PieceIs {
    Missing,
    Open { blocks: Vec<BlockIs>, workers: u32, alone: bool },
    Full(Vec<SessionId>),
    Had,
}

#[derive(Clone)]
struct Worker {
    who: SessionId,
    have: Bitfield,
    jobs: Vec<PieceIndex>,
    out: Vec<Block>,
    /// Blocks that were given back and may come all the same.
    overdue: Vec<Block>,
}

struct Model {
    geometry: Geometry,
    picker: Picker,
    pieces: Vec<PieceIs>,
    suspect: BTreeSet<PieceIndex>,
    workers: Vec<Worker>,
    rng: fastrand::Rng,
    now_ms: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let geometry = geometry(rng.u32(1..30), rng.u32(1..5));
        let mut picker = Picker::new(geometry, Bitfield::none(geometry), rng.fork());
        let worker = |number: usize| {
            let mut have = some_pieces(geometry, 600, &mut rng);
            if number == 0 {
                have = Bitfield::all(geometry);
            }
            picker.on_join(&have);
            let who = SessionId(number as u32);
            Worker { who, have, jobs: Vec::new(), out: Vec::new(), overdue: Vec::new() }
        };
        let workers = (0..SESSIONS).map(worker).collect();
        let pieces = vec![PieceIs::Missing; geometry.pieces() as usize];
        Self { geometry, picker, pieces, suspect: BTreeSet::new(), workers, rng, now_ms: 0 }
    }

    fn block(&mut self, block: Block) -> Option<&mut BlockIs> {
        match &mut self.pieces[block.piece.index()] {
            PieceIs::Open { blocks, .. } => Some(&mut blocks[block.number() as usize]),
            _ => None,
        }
    }

    fn has_free(&self, piece: PieceIndex) -> bool {
        let PieceIs::Open { blocks, .. } = &self.pieces[piece.index()] else { return false };
        blocks.contains(&BlockIs::Free)
    }

    /// Everything that the picker says of itself is what the model says.
    fn check(&self) {
        let mut end_game = true;
        for piece in self.geometry.all_pieces() {
            let is = &self.pieces[piece.index()];
            end_game &= *is != PieceIs::Missing && !self.has_free(piece);
            assert_eq!(self.picker.had().has(piece), *is == PieceIs::Had);
            for number in 0..self.geometry.blocks_in(piece) {
                let awaited = match is {
                    PieceIs::Open { blocks, .. } => {
                        !matches!(blocks[number as usize], BlockIs::Arrived(_))
                    }
                    _ => false,
                };
                let block = self.geometry.block(piece, number);
                assert_eq!(self.picker.is_awaited(block), awaited);
                for worker in &self.workers {
                    let asked = match is {
                        PieceIs::Open { blocks, .. } => match &blocks[number as usize] {
                            BlockIs::Asked(asked) => asked.contains(&worker.who),
                            _ => false,
                        },
                        _ => false,
                    };
                    assert_eq!(self.picker.is_asked(worker.who, block), asked);
                }
            }
            let have = self.workers.iter().filter(|worker| worker.have.has(piece)).count();
            assert_eq!(self.picker.availability(piece), have as u32);
        }
        assert_eq!(self.picker.is_end_game(), end_game);
    }

    fn take_job(&mut self, number: usize) {
        let worker = &self.workers[number];
        // Only whoever has nothing left to ask for may take another job.
        if worker.jobs.iter().any(|piece| self.has_free(*piece)) {
            return;
        }
        let taken = self.picker.take_job(&worker.have, worker.jobs.last().copied());
        let Some(piece) = taken else {
            for piece in self.geometry.all_pieces().filter(|piece| worker.have.has(*piece)) {
                match &self.pieces[piece.index()] {
                    PieceIs::Missing => panic!("{piece} is missing"),
                    PieceIs::Open { workers, alone, .. } if self.has_free(piece) => {
                        assert!(*alone && *workers > 0, "{piece} is to be gone on with");
                    }
                    _ => {}
                }
            }
            return;
        };
        assert!(worker.have.has(piece));
        self.open(piece);
        assert!(self.has_free(piece), "{piece} has nothing to ask for");
        self.add_job(number, piece);
    }

    fn open(&mut self, piece: PieceIndex) {
        if self.pieces[piece.index()] == PieceIs::Missing {
            self.pieces[piece.index()] = PieceIs::Open {
                blocks: vec![BlockIs::Free; self.geometry.blocks_in(piece) as usize],
                workers: 0,
                alone: self.suspect.contains(&piece),
            };
        }
    }

    fn add_job(&mut self, number: usize, piece: PieceIndex) {
        let PieceIs::Open { workers, alone, .. } = &mut self.pieces[piece.index()] else {
            panic!("{piece} is not open");
        };
        assert!(!*alone || *workers == 0, "{piece} is for one alone");
        *workers += 1;
        self.workers[number].jobs.push(piece);
    }

    fn take_run(&mut self, number: usize) {
        let worker = &self.workers[number];
        if worker.jobs.iter().any(|piece| self.has_free(*piece)) {
            return;
        }
        let (bytes, pieces) = (self.rng.u64(..200_000), self.rng.u32(1..8));
        let (hand, due) = (number % MIRROR_WORKERS_MAX, self.now_ms);
        let due_ms = |bytes: u64| due + (bytes / 100) as u32;
        let (who, have) = (worker.who, worker.have.clone());
        let Some(run) = self.picker.take_run((who, hand), &have, (bytes, pieces), due_ms) else {
            return self.take_job(number);
        };
        assert!(!run.pieces.is_empty() && run.pieces.len() <= pieces as usize);
        let least = u64::from(BLOCK_LENGTH);
        assert!(!run.bytes.is_empty() && run.bytes.end - run.bytes.start <= bytes.max(least));
        for piece in run.pieces.clone() {
            let piece = self.geometry.piece(piece).unwrap();
            assert!(have.has(piece));
            self.open(piece);
            self.add_job(number, piece);
        }
        assert_eq!(self.ask_run(number, &run), run.pieces.len(), "every piece has a part in it");
    }

    /// The blocks of a run are asked of one more. Returns in how many pieces they are.
    fn ask_run(&mut self, number: usize, run: &Run) -> usize {
        let late = run.pieces.is_empty();
        let who = self.workers[number].who;
        let (mut at, mut pieces) = (run.bytes.start, BTreeSet::new());
        while at < run.bytes.end {
            let length = u64::from(self.geometry.piece_length());
            let piece = self.geometry.piece((at / length) as u32).unwrap();
            let begin = (at - self.geometry.offset_of(piece)) as u32;
            let block = self.geometry.block(piece, begin / BLOCK_LENGTH);
            assert_eq!(block.begin, begin);
            match self.block(block).unwrap() {
                BlockIs::Asked(asked) if late && asked.len() == 1 && asked[0] != who => {
                    asked.push(who);
                }
                state @ BlockIs::Free if !late => *state = BlockIs::Asked(vec![who]),
                other => panic!("{block:?} is {other:?}"),
            }
            self.workers[number].out.push(block);
            pieces.insert(piece);
            at += u64::from(block.length);
        }
        assert_eq!(at, run.bytes.end);
        pieces.len()
    }

    fn ask_late_run(&mut self, number: usize) {
        let worker = &self.workers[number];
        let (who, have) = (worker.who, worker.have.clone());
        let due = self.now_ms + self.rng.u32(..5_000);
        let blocks = self.rng.usize(1..9);
        if self.picker.is_end_game()
            && let Some(run) = self.picker.ask_late_run(who, &have, (self.now_ms, due), blocks)
        {
            assert_eq!(self.ask_run(number, &run), 1);
            assert!(run.bytes.end - run.bytes.start <= blocks as u64 * u64::from(BLOCK_LENGTH));
        }
    }

    fn ask(&mut self, number: usize) {
        let worker = &self.workers[number];
        let (who, have) = (worker.who, worker.have.clone());
        let due = self.now_ms + self.rng.u32(..5_000);
        if let Some(piece) = self.rng.choice(&worker.jobs).copied()
            && self.has_free(piece)
        {
            let block = self.picker.ask(who, piece, due).expect("the piece has a free block");
            let state = self.block(block).unwrap();
            assert_eq!(*state, BlockIs::Free, "{block:?}");
            *state = BlockIs::Asked(vec![who]);
            self.workers[number].out.push(block);
        } else if self.picker.is_end_game()
            && let Some(block) = self.picker.ask_late(who, &have, self.now_ms, due)
        {
            assert!(have.has(block.piece));
            let Some(BlockIs::Asked(asked)) = self.block(block) else {
                panic!("{block:?} is not out");
            };
            assert!(asked.len() == 1 && asked[0] != who, "{block:?} is asked of {asked:?}");
            asked.push(who);
            self.workers[number].out.push(block);
        }
    }

    fn give_back(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        if worker.out.is_empty() {
            return;
        }
        let block = worker.out.swap_remove(self.rng.usize(..worker.out.len()));
        worker.overdue.push(block);
        let who = worker.who;
        let free = match self.block(block) {
            Some(state @ BlockIs::Asked(_)) => {
                let BlockIs::Asked(asked) = state else { unreachable!() };
                let before = asked.len();
                asked.retain(|by| *by != who);
                let last = asked.is_empty() && before > 0;
                if last {
                    *state = BlockIs::Free;
                }
                last
            }
            _ => false,
        };
        assert_eq!(self.picker.give_back(who, block), free, "{block:?}");
    }

    fn bring(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        let late = worker.out.is_empty() || self.rng.u32(..5) == 0;
        let from = if late { &mut worker.overdue } else { &mut worker.out };
        if from.is_empty() {
            return;
        }
        let block = from.swap_remove(self.rng.usize(..from.len()));
        let who = worker.who;
        worker.out.retain(|out| *out != block);
        let arrival = self.picker.on_block(who, block);
        let losers = match self.block(block) {
            None | Some(BlockIs::Arrived(_)) => {
                assert_eq!(arrival, Arrival::Stale, "{block:?}");
                return;
            }
            Some(state) => match std::mem::replace(state, BlockIs::Arrived(who)) {
                BlockIs::Asked(asked) => asked.into_iter().filter(|by| *by != who).collect(),
                _ => BTreeSet::new(),
            },
        };
        let Arrival::Fresh(others) = arrival else { panic!("{block:?} was awaited") };
        assert_eq!(others.into_iter().flatten().collect::<BTreeSet<_>>(), losers);
        for loser in losers {
            self.workers[loser.0 as usize].out.retain(|out| *out != block);
        }
        let PieceIs::Open { blocks, .. } = &self.pieces[block.piece.index()] else { return };
        let brought = blocks.iter().map(|state| match state {
            BlockIs::Arrived(by) => Some(*by),
            _ => None,
        });
        if let Some(brought) = brought.collect() {
            self.pieces[block.piece.index()] = PieceIs::Full(brought);
        }
    }

    fn end_job(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        let idle = |piece: &PieceIndex| worker.out.iter().all(|block| block.piece != *piece);
        let Some(at) = worker.jobs.iter().position(idle) else { return };
        let piece = worker.jobs.remove(at);
        self.picker.end_job(piece);
        let is = &mut self.pieces[piece.index()];
        if let PieceIs::Open { blocks, workers, alone } = is {
            *workers = workers.saturating_sub(1);
            // Whoever had it alone gave it up: it is everybody's now.
            if *alone && *workers == 0 {
                *alone = false;
                self.suspect.remove(&piece);
            }
            if *workers == 0 && blocks.iter().all(|state| *state == BlockIs::Free) {
                *is = PieceIs::Missing;
            }
        }
    }

    /// The writer looks at a piece whose blocks are all here.
    fn judge(&mut self, wrong: bool) {
        let full = |piece: &PieceIndex| matches!(self.pieces[piece.index()], PieceIs::Full(_));
        let Some(piece) = self.geometry.all_pieces().find(full) else { return };
        let PieceIs::Full(brought) = self.pieces[piece.index()].clone() else { return };
        if wrong {
            assert_eq!(self.picker.on_failed(piece), brought);
            if brought.iter().any(|by| *by != brought[0]) {
                self.suspect.insert(piece);
            }
            self.pieces[piece.index()] = PieceIs::Missing;
        } else {
            self.picker.on_verified(piece);
            self.suspect.remove(&piece);
            self.pieces[piece.index()] = PieceIs::Had;
        }
    }

    /// A peer gets a piece, or another peer comes in its place.
    fn change_peer(&mut self, number: usize) {
        let piece = self.geometry.piece(self.rng.u32(..self.geometry.pieces())).unwrap();
        let worker = &mut self.workers[number];
        if !worker.have.has(piece) {
            self.picker.on_have(&worker.have, piece);
            worker.have.insert(piece);
        } else if number > 0 && worker.jobs.is_empty() && worker.out.is_empty() {
            self.picker.on_leave(&worker.have);
            worker.have = some_pieces(self.geometry, 300, &mut self.rng);
            self.picker.on_join(&worker.have);
        }
    }
}

#[test]
fn the_picker_agrees_with_a_model_whatever_sessions_do() {
    for seed in seeds().into_iter().flat_map(|seed| (0..10).map(move |more| seed * 1_000 + more)) {
        println!("picker {seed}");
        let mut model = Model::new(seed);
        for _ in 0..1_000 {
            model.now_ms += model.rng.u32(..50);
            let number = model.rng.usize(..SESSIONS);
            match model.rng.u32(..20) {
                0..4 => model.take_job(number),
                4 => model.take_run(number),
                5..10 => model.ask(number),
                10 => model.ask_late_run(number),
                11..15 => model.bring(number),
                15 => model.give_back(number),
                16 | 17 => model.end_job(number),
                18 => model.change_peer(number),
                _ => {
                    let wrong = model.rng.u32(..3) == 0;
                    model.judge(wrong);
                }
            }
            model.check();
        }
        // Whatever it came to: from now on everybody does what is right, and it is done soon.
        let mut rounds = 0;
        while !model.picker.is_done() {
            rounds += 1;
            assert!(rounds < 10_000, "something is lost: {:?}", model.pieces);
            for number in 0..SESSIONS {
                model.bring(number);
                model.end_job(number);
                model.take_job(number);
                model.ask(number);
                model.judge(false);
            }
        }
        model.check();
        assert!(model.pieces.iter().all(|is| *is == PieceIs::Had));
    }
}
