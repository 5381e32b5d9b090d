//! How fast the way of the bytes is, from the wire to the disk. Nothing is asserted: it prints
//! tables, medians of a few runs each.
//!
//! ```text
//! cargo bench --bench data_path                  all of them
//! cargo bench --bench data_path -- picker disk   some
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
#![allow(dead_code, unreachable_pub)] // of what tests share, a part is used

mod disk;
mod download;
mod measure;
mod messages;
mod mirror;
mod picker;
mod process;
mod seeder;
#[path = "../support/torrent.rs"]
mod torrent;

/// What can be named on the command line, in the order in which it is run.
const ALL: [(&str, fn()); 6] = [
    ("messages", messages::run),
    ("picker", picker::run),
    ("disk", disk::write),
    ("recheck", disk::recheck),
    ("download", download::run),
    ("mirror", mirror::run),
];

fn main() {
    // Cargo adds `--bench`.
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let Some(unknown) = named.iter().find(|name| ALL.iter().all(|(known, _)| known != name)) {
        let known: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        println!("no benchmark {unknown:?}; there are: {}", known.join(", "));
        std::process::exit(2);
    }
    println!("{}", measure::machine());
    for (name, run) in ALL {
        if named.is_empty() || named.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
