//! What the writer does with a block, and what a second start does with the files.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64};

use rusty_torrent::engine::recheck;
use rusty_torrent::limits::{BLOCK_LENGTH, CHUNK_LENGTH_BYTES};
use rusty_torrent::system::storage::Storage;
use rusty_torrent::system::storage::layout::{Layout, OutputFile, OutputKind};
use rusty_torrent::units::{Geometry, PieceIndex};
use sha1::{Digest, Sha1};

use crate::measure::{Dir, GIB, MIB, Table, medians, seconds, seconds_and_cpu};

const FILE_BYTES: usize = 256 * MIB;
const PIECE_BYTES: [usize; 3] = [256 << 10, MIB, 16 * MIB];

fn layout() -> Layout {
    let file =
        OutputFile { path: "file".into(), length: FILE_BYTES as u64, kind: OutputKind::Data };
    Layout::new(vec![file])
}

fn size(bytes: usize) -> String {
    if bytes < MIB { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes / MIB) }
}

/// Hashes and stores a chunk at a time, each block by itself, as the writer does; a file made
/// anew each time.
pub fn write() {
    let title = "Writer: a new file of 256 MiB, hashed and copied into mapped windows";
    let columns = ["pieces of", "order", "what", "GiB/s", "CPU s/GiB"];
    let mut table = Table::new(title, &columns);
    let mut row = |pieces: usize, order: &str, what: &str, hash: bool, store: bool| {
        let [seconds, cpu] = medians(|| write_once(pieces, order == "random", hash, store));
        let gib = FILE_BYTES as f64 / GIB;
        table.row([
            size(pieces),
            order.to_owned(),
            what.to_owned(),
            format!("{:.2}", gib / seconds),
            format!("{:.2}", cpu / gib),
        ]);
    };
    row(MIB, "in sequence", "hash", true, false);
    row(MIB, "in sequence", "store", false, true);
    for pieces in PIECE_BYTES {
        for order in ["in sequence", "random"] {
            row(pieces, order, "hash, store", true, true);
        }
    }
    table.print();
}

fn write_once(piece_bytes: usize, random: bool, hash: bool, store: bool) -> [f64; 2] {
    let dir = Dir::new("disk");
    let mut storage = Storage::create(dir.path(), layout()).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut chunk = vec![0; CHUNK_LENGTH_BYTES];
    rng.fill(&mut chunk);
    let mut pieces: Vec<usize> = (0..FILE_BYTES / piece_bytes).collect();
    if random {
        rng.shuffle(&mut pieces);
    }
    let (seconds, cpu) = seconds_and_cpu(|| {
        for piece in pieces {
            let mut sha1 = Sha1::new();
            for begin in (0..piece_bytes).step_by(chunk.len()) {
                let blocks: Vec<&[u8]> = chunk.chunks(BLOCK_LENGTH as usize).collect();
                if store {
                    storage.write_parts((piece * piece_bytes + begin) as u64, &blocks).unwrap();
                }
                if hash {
                    blocks.iter().for_each(|block| sha1.update(block));
                }
            }
            std::hint::black_box(sha1.finalize());
        }
        if store {
            storage.finish().unwrap();
        }
    });
    [seconds, cpu]
}

/// Verifies a file that is in the kernel's cache.
pub fn recheck() {
    let dir = Dir::new("recheck");
    let mut bytes = vec![0; FILE_BYTES];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    fs::write(dir.path().join("file"), &bytes).unwrap();
    let title = "Verification of a file of 256 MiB in the cache";
    let mut table = Table::new(title, &["pieces of", "threads", "GiB/s"]);
    for piece_bytes in PIECE_BYTES {
        let geometry = Geometry::new(FILE_BYTES as u64, piece_bytes as u32).unwrap();
        let hashes: Vec<[u8; 20]> =
            bytes.chunks(piece_bytes).map(|piece| Sha1::digest(piece).into()).collect();
        for threads in [1, 2] {
            let [seconds] = medians(|| {
                let (stop, progress) = (AtomicBool::new(false), AtomicU64::new(0));
                let hash = |piece: PieceIndex| hashes[piece.index()];
                [seconds(|| {
                    let search = recheck::Search {
                        dir: dir.path(),
                        layout: &layout(),
                        geometry,
                        wanted: None,
                        record: None,
                        threads,
                        stop: &stop,
                        progress: &progress,
                    };
                    let found = recheck::recheck(&search, hash);
                    assert!(found.unwrap().pieces.is_full(), "not what was written");
                })]
            });
            table.row([
                size(piece_bytes),
                threads.to_string(),
                format!("{:.2}", FILE_BYTES as f64 / GIB / seconds),
            ]);
        }
    }
    table.print();
}
