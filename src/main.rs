//! The program. The library's documentation shows the house it lives in.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(rusty_torrent::cli::run(std::env::args_os().skip(1).collect()).code())
}
