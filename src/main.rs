//! The program. The library's documentation shows the house it lives in.

use std::process::ExitCode;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(rusty_torrent::cli::give_up));
    let arguments = std::env::args_os().skip(1).collect();
    ExitCode::from(rusty_torrent::cli::run(arguments, std::env::vars_os()).code())
}
