//! Messages read out of a buffer, as a session does it.

use std::hint::black_box;

use rusty_torrent::protocol::message::Message;
use rusty_torrent::units::Geometry;

use crate::measure::{MIB, Table, cpu_seconds, medians};

/// Each stream is read so often.
const ROUNDS: usize = 2_000;
/// What a session reads at once.
const STREAM_BYTES: usize = 256 << 10;

pub fn run() {
    let geometry = Geometry::new(1 << 34, 1 << 20).unwrap();
    let data = vec![7; 16 << 10];
    let kinds = [("piece", Message::Piece(3, 16_384, &data)), ("have", Message::Have(5))];
    // The bytes of a block are passed on by reference, so they cost nothing here: of pieces the
    // time for one is what counts.
    let mut table = Table::new("Decoding messages", &["message", "bytes", "ns each", "MiB/s"]);
    for (name, message) in kinds {
        let mut stream = Vec::new();
        let mut count = 0;
        while stream.len() < STREAM_BYTES {
            message.encode(&mut stream);
            count += 1;
        }
        let [seconds] = medians(|| {
            [cpu_seconds(|| {
                for _ in 0..ROUNDS {
                    let mut rest = stream.as_slice();
                    while let Ok(Some((message, length))) = Message::decode(rest, geometry) {
                        black_box(message);
                        rest = &rest[length..];
                    }
                }
            })]
        });
        table.row([
            name.to_owned(),
            (stream.len() / count).to_string(),
            format!("{:.1}", seconds * 1e9 / (ROUNDS * count) as f64),
            format!("{:.0}", (ROUNDS * stream.len()) as f64 / MIB as f64 / seconds),
        ]);
    }
    table.print();
}
